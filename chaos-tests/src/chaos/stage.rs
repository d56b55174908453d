//! Owns the cluster and the lab around it: machines, network, supervisor, sight. Does not choose faults.
//! Invariant: dropping it ends all processes first, then what they stood on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::acts::Lasting;
use super::admin::Admin;
use super::eyes::{Eyes, is_ready};
use super::machine::{Machine, Parts};
use super::stop::Stop;
use super::supervisor::Supervisor;
use super::ways::{Address, Ids};
use super::{Abilities, Settings};
use crate::cluster::{binary, directory};
use crate::history::{Body, FaultId, NodeId, Recorder};
use crate::lab::net::Network;
use crate::lab::owner;
use crate::talk::Dice;

/// Good at every node, so that no machine is needed for it.
const ADMIN_TOKEN: &str = "everdesk-chaos-admin-token-00112233445566778899";
const LOOK_EVERY: Duration = Duration::from_millis(20);
const FOUNDED_WITHIN: Duration = Duration::from_secs(60);
/// A join token is asked for and used again after this, should a node not have come in.
const JOINS_WITHIN: Duration = Duration::from_secs(20);
/// The whole cluster is back from anything within this.
pub const WHOLE_WITHIN: Duration = Duration::from_secs(120);

/// A leader that does not know yet that a replica has lost its log still counts it as a voter: what is whole stays so for this.
const STEADY_FOR: Duration = Duration::from_millis(1_500);
/// After its fault was healed, a process may end for so long because of it.
const GRACE: Duration = Duration::from_secs(5);

/// A time in which a node may end with an error.
struct Excuse {
    machine: u64,
    from: Instant,
    /// `None`: from then on.
    to: Option<Instant>,
}

/// All that a run happens on.
pub struct Stage {
    // Ends the processes: goes first.
    pub supervisor: Supervisor,
    // Some hold on to the network: they go before it.
    pub lasting: Vec<Lasting>,
    pub machines: Vec<Machine>,
    pub network: Option<Arc<Network>>,
    pub eyes: Eyes,
    pub admin: Admin,
    pub book: Recorder,
    pub stop: Stop,
    pub dice: Dice,
    pub abilities: Abilities,
    pub settings: Settings,
    /// What is worth telling beside the verdict, in order.
    pub remarks: Vec<String>,
    /// Broken promises that no history shows.
    pub broken: Vec<String>,
    /// Faults that were begun and did nothing.
    pub duds: Vec<(FaultId, String)>,
    pub runtime: Handle,
    pub began: Instant,
    excuses: Vec<Excuse>,
    faults: u64,
    _dir: tempfile::TempDir,
}

impl Stage {
    /// Sets machines up, one more than asked for as a spare, and starts nothing.
    /// # Errors
    /// Something of the lab cannot be made.
    pub fn new(
        settings: Settings,
        runtime: Handle,
        book: Recorder,
        stop: Stop,
        began: Instant,
    ) -> anyhow::Result<Stage> {
        let abilities = Abilities::look();
        let network = match &abilities.network {
            Ok(()) => Some(Arc::new(Network::new(settings.nodes + 1)?)),
            Err(_) => None,
        };
        // Under the lab's name, so that a later run sweeps what a killed one left.
        let dir = owner::directory().or_else(|_| directory())?;
        let token_file = dir.path().join("admin-token");
        std::fs::write(&token_file, ADMIN_TOKEN)?;
        let logs = settings.out.join("logs");
        std::fs::create_dir_all(&logs)?;
        // A node that is away for long counts as dead in half of the runs, and its replicas go elsewhere.
        let dead_after_s = if settings.seed.is_multiple_of(2) { "10" } else { "300" };
        let args = ["--admin-token-file", &token_file.display().to_string(), "--dead-after-s", dead_after_s]
            .map(str::to_owned);
        let binary = binary()?;
        let parts = Parts {
            network: network.as_deref(),
            has_power: abilities.power.is_ok(),
            has_disk_faults: abilities.disk.is_ok(),
            has_clock: abilities.clock.is_ok(),
            binary: &binary,
            args: &args,
            dir: dir.path(),
            logs: &logs,
        };
        let machines =
            (1..=settings.nodes + 1).map(|number| Machine::new(number, &parts)).collect::<anyhow::Result<_>>()?;
        let admin = Admin::new(ADMIN_TOKEN.to_owned());
        let eyes = Eyes::new(Ids::default());
        let dice = Dice::new(settings.seed, 7);
        let supervisor = Supervisor::start()?;
        Ok(Stage {
            supervisor,
            lasting: Vec::new(),
            machines,
            network,
            eyes,
            admin,
            book,
            stop,
            dice,
            abilities,
            settings,
            remarks: Vec::new(),
            broken: Vec::new(),
            duds: Vec::new(),
            runtime,
            began,
            excuses: Vec::new(),
            faults: 0,
            _dir: dir,
        })
    }

    /// The machines of the cluster, without the spare.
    pub fn numbers(&self) -> Vec<u64> {
        (1..=self.settings.nodes).collect()
    }

    pub fn spare(&self) -> u64 {
        self.settings.nodes + 1
    }

    pub fn machine(&mut self, number: u64) -> &mut Machine {
        &mut self.machines[number as usize - 1]
    }

    /// Where the nodes listen, the spare included.
    pub fn addresses(&self) -> Vec<Address> {
        let address = |machine: &Machine| Address {
            machine: machine.number,
            client: machine.client.clone(),
            admin: machine.admin.clone(),
        };
        self.machines.iter().map(address).collect()
    }

    /// The seed's next order of the machines.
    pub fn shuffled(&mut self) -> Vec<u64> {
        let mut numbers = self.numbers();
        for at in (1..numbers.len()).rev() {
            numbers.swap(at, self.dice.below(at + 1));
        }
        numbers
    }

    /// One of the machines, by the seed.
    pub fn any(&mut self) -> u64 {
        self.shuffled()[0]
    }

    /// The machine that leads most; any while none does.
    pub fn leader(&mut self) -> u64 {
        let numbers = self.numbers();
        let any = self.any();
        self.eyes.busiest().filter(|machine| numbers.contains(machine)).unwrap_or(any)
    }

    /// Tells a person what happens.
    pub fn say(&self, text: &str) {
        eprintln!("{:7.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Notes a fault that begins now.
    pub fn begins(&mut self, kind: &str, machines: &[u64], note: String) -> FaultId {
        self.faults += 1;
        let fault = FaultId(self.faults);
        self.say(&format!("#{} {kind} {machines:?} {note}", self.faults));
        let nodes = machines.iter().copied().map(NodeId).collect();
        self.book.record(Body::Fault { fault, kind: kind.to_owned(), nodes, note });
        fault
    }

    /// Notes that it ends now.
    pub fn ends(&mut self, fault: FaultId) {
        self.book.record(Body::Healed { fault });
    }

    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// From now on a machine's node may end with an error.
    pub fn excuse(&mut self, machine: u64) {
        self.excuses.push(Excuse { machine, from: Instant::now(), to: None });
    }

    /// From now on it may not any more.
    pub fn accuse(&mut self, machine: u64) {
        if self.machine(machine).is_damaged {
            return;
        }
        let to = Some(Instant::now() + GRACE);
        self.excuses.iter_mut().filter(|one| one.machine == machine && one.to.is_none()).for_each(|one| one.to = to);
    }

    /// Processes that ended with an error that nothing explains.
    pub fn unexplained(&self) -> Vec<String> {
        let is_excused = |machine: u64, at: Instant| {
            self.excuses.iter().any(|one| one.machine == machine && one.from <= at && one.to.is_none_or(|to| at <= to))
        };
        let ends = self.supervisor.ends().into_iter();
        let ends = ends.filter(|end| !end.status.success() && !is_excused(end.machine, end.at));
        let text = |end: super::supervisor::End| {
            let at_s = end.at.duration_since(self.began).as_secs_f64();
            format!("machine {} ended with {} at {at_s:.1} s, and nothing was wrong with it", end.machine, end.status)
        };
        ends.map(text).collect()
    }

    /// Notes something worth telling.
    pub fn remark(&mut self, text: String) {
        self.say(&text);
        self.remarks.push(text);
    }

    /// Notes a broken promise.
    pub fn breach(&mut self, text: String) {
        self.say(&format!("BROKEN: {text}"));
        self.broken.push(text);
    }

    /// Looks until `look` gives something.
    /// # Errors
    /// Nothing within `within`, or the run is interrupted.
    pub fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&mut Stage) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + within;
        loop {
            self.stop.check()?;
            self.tend()?;
            if let Some(found) = look(self) {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Lets time pass as a part of a fault.
    /// # Errors
    /// The run is interrupted.
    pub fn pause(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.stop.check()?;
            self.tend()?;
            std::thread::park_timeout(left.min(LOOK_EVERY));
        }
        Ok(())
    }

    /// Lets the faults under way do what they do in time, and ends those whose time is over.
    /// # Errors
    /// The lab failed.
    pub fn tend(&mut self) -> anyhow::Result<()> {
        let mut at = 0;
        while at < self.lasting.len() {
            // Out of the list: its end may wait for something, and others are tended meanwhile.
            let mut one = self.lasting.remove(at);
            one.tick(self)?;
            if Instant::now() >= one.until {
                one.end(self)?;
            } else {
                self.lasting.insert(at.min(self.lasting.len()), one);
                at += 1;
            }
        }
        Ok(())
    }

    /// Ends all faults under way.
    /// # Errors
    /// The lab failed.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        while let Some(one) = self.lasting.pop() {
            one.end(self)?;
        }
        Ok(())
    }

    /// Starts all machines but the spare and waits until they are one whole cluster.
    /// # Errors
    /// They are not in time.
    pub fn found(&mut self) -> anyhow::Result<()> {
        for number in self.numbers() {
            if number > 1 {
                self.invite(number)?;
            }
            let line = self.machine(number).line();
            self.supervisor.run(number, line);
            self.until(&format!("machine {number} is ready"), FOUNDED_WITHIN, |stage| {
                stage.is_ready(number).then_some(())
            })
            .with_context(|| self.machines[number as usize - 1].last_words())?;
        }
        self.wait_whole(&self.numbers(), WHOLE_WITHIN)
    }

    pub fn is_ready(&self, number: u64) -> bool {
        let client = &self.machines[number as usize - 1].client;
        self.runtime.block_on(is_ready(client))
    }

    /// Gives a machine an address and a token with which to join.
    fn invite(&mut self, number: u64) -> anyhow::Result<()> {
        let others: Vec<u64> = (1..=self.spare()).filter(|other| *other != number).collect();
        let give = |admin: Admin, addr: String| async move { admin.join_token(&addr).await };
        let (by, token) = self.ask_in_turn("a node gives a join token", &others, FOUNDED_WITHIN, give)?;
        let at = self.machine(by).peer.clone();
        self.machine(number).joins = Some((at, token));
        Ok(())
    }

    /// Starts a machine without data and waits until it has joined under a new id. Returns that id.
    /// # Errors
    /// It does not come in.
    pub fn join(&mut self, number: u64) -> anyhow::Result<u64> {
        let before = self.eyes.id(number);
        self.excuse(number);
        for _ in 0..4 {
            self.invite(number)?;
            self.supervisor.kill(&[number]);
            self.machine(number).wipe()?;
            let line = self.machine(number).line();
            self.supervisor.run(number, line);
            let come = self.until("it has joined", JOINS_WITHIN, |stage| {
                let id = stage.eyes.id(number).filter(|id| Some(*id) != before)?;
                stage.is_ready(number).then_some(id)
            });
            match come {
                Ok(id) => {
                    self.accuse(number);
                    return Ok(id);
                }
                Err(_) => self.stop.check()?,
            }
            let words = self.machine(number).last_words();
            self.remark(format!(
                "machine {number} did not join in {JOINS_WITHIN:?}, and is given a new token: {words}"
            ));
        }
        bail!("machine {number} cannot join: {}", self.machine(number).last_words())
    }

    /// Waits until the machines are a whole cluster.
    /// # Errors
    /// They are not in time; the text says what is missing.
    pub fn wait_whole(&mut self, machines: &[u64], within: Duration) -> anyhow::Result<()> {
        self.eyes.blink();
        let (mut lacks, mut since) = (String::new(), Instant::now());
        let whole = self.until("the cluster is whole", within, |stage| {
            if let Some(why) = stage.eyes.lacks(machines) {
                (lacks, since) = (why, Instant::now());
            }
            (since.elapsed() >= STEADY_FOR).then_some(())
        });
        whole.context(lacks)
    }

    /// Tells the machines one by one what is wanted of `n{id}`, until one has done it.
    /// # Errors
    /// None did within `within`; with what was said last.
    pub fn want(&mut self, id: u64, state: &'static str, within: Duration) -> anyhow::Result<()> {
        let tell = move |admin: Admin, addr: String| async move { admin.set_state(&addr, id, state).await };
        self.ask_in_turn(&format!("n{id} is {state}"), &self.numbers(), within, tell).map(drop)
    }

    /// Asks those of the machines that run, one by one, until one gives an answer. Returns which it was, and the answer.
    fn ask_in_turn<T: Send + 'static, A>(
        &mut self,
        what: &str,
        machines: &[u64],
        within: Duration,
        ask: impl Fn(Admin, String) -> A,
    ) -> anyhow::Result<(u64, T)>
    where
        A: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let deadline = Instant::now() + within;
        let mut last = String::new();
        loop {
            for &number in machines {
                if !self.supervisor.is_running(number) {
                    continue;
                }
                let asked = ask(self.admin.clone(), self.machine(number).admin.clone());
                match self.attend(asked)? {
                    Ok(answer) => return Ok((number, answer)),
                    Err(error) => last = format!("{error:#}"),
                }
            }
            ensure!(Instant::now() < deadline, "not within {within:?}: {what}; {last}");
            self.pause(LOOK_EVERY)?;
        }
    }

    /// Waits for an answer, and tends the faults meanwhile: one that waits for a cluster in trouble must not prolong the trouble.
    /// # Errors
    /// The run is interrupted, or the lab failed.
    pub fn attend<T: Send + 'static>(&mut self, answer: impl Future<Output = T> + Send + 'static) -> anyhow::Result<T> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(answer, &self.runtime);
        loop {
            if let Some(answered) = tasks.try_join_next() {
                return Ok(answered?);
            }
            self.stop.check()?;
            self.tend()?;
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Where the history is written.
    pub fn history(&self) -> PathBuf {
        self.settings.out.join("history.jsonl")
    }
}
