//! Owns slow links: packets that come late, and links of little bandwidth. Does not drop on purpose; see `cuts`.
//! Invariant: without the delayer packets pass as if there were none, so its death heals.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use nfq::{Message, Queue, Verdict};

use super::corrupt::Dice;
use super::net::{End, Network};
use super::shapes::Pair;
use super::tool;

/// Packets that wait at most; those above are dropped, as a router's queue would.
const WAITING_MAX: usize = 20_000;
/// How often the delayer looks for packets: the crate has no way to wait for one and for a time at once.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Enough of a packet to read the addresses of its header.
const COPIED_BYTES: u16 = 60;

/// How late packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    pub fixed: Duration,
    /// Up to so much more, evenly spread.
    pub jitter: Duration,
    /// A packet with less jitter overtakes; else the order of each pair stays.
    pub reorder: bool,
}

impl Delay {
    pub fn fixed(fixed: Duration) -> Delay {
        Delay { fixed, jitter: Duration::ZERO, reorder: false }
    }
}

impl Network {
    /// Whether packets can be delayed here.
    /// # Errors
    /// What is missing, and how to get it.
    pub fn can_delay() -> Result<(), String> {
        Network::available()?;
        tool::require(&[("iptables-restore", "iptables")])?;
        delayer().map(drop).map_err(|error| format!("{error:#}"))
    }

    /// Delays these pairs until the answer is dropped. A pair in two delays has the first.
    /// # Errors
    /// `can_delay` says why, or the kernel has no queues for packets.
    pub fn delay(&self, pairs: &[Pair], delay: Delay) -> anyhow::Result<Delaying> {
        let queue = self.queues.fetch_add(1, Ordering::Relaxed);
        let prefix = self.exec_in_bridge();
        let mut child = start_delayer(&prefix, queue, delay)?;
        let mut line = String::new();
        let out = child.stdout.take().context("the delayer's output was piped")?;
        let heard = BufReader::new(out).read_line(&mut line);
        let mut delaying = Delaying { child, prefix, rules: Vec::new() };
        heard?;
        anyhow::ensure!(line.trim() == "ready", "the delayer did not start; it says why above");
        let rule = |&(from, to): &Pair| {
            let ends = format!("-s {} -d {}", self.address(from), self.address(to));
            format!("FORWARD {ends} -j NFQUEUE --queue-num {queue} --queue-bypass")
        };
        let rules: Vec<String> = pairs.iter().map(rule).collect();
        delaying.change("-A", &rules)?;
        delaying.rules = rules;
        Ok(delaying)
    }

    /// Limits what a node sends and receives to so many kbit/s each, until the answer is dropped.
    /// # Errors
    /// No `tc`, or the kernel lacks its `tbf`.
    pub fn limit(&self, node: u64, kbit_s: u32) -> anyhow::Result<Limited> {
        let rate = format!("{kbit_s}kbit");
        let sides =
            [(self.exec_in_bridge(), self.port(End::Node(node))), (self.exec_in(End::Node(node)), "eth0".to_owned())];
        let mut limited = Limited { sides: Vec::new() };
        for (prefix, device) in sides {
            let args =
                ["qdisc", "add", "dev", &device, "root", "tbf", "rate", &rate, "burst", "16kb", "latency", "400ms"];
            run_in(&prefix, "tc", &args, "").context("limit the bandwidth; `tc` is in the package iproute2")?;
            limited.sides.push((prefix, device));
        }
        Ok(limited)
    }
}

/// Links that are slow while this lives.
pub struct Delaying {
    child: Child,
    prefix: Vec<String>,
    rules: Vec<String>,
}

impl Delaying {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn change(&self, how: &str, rules: &[String]) -> anyhow::Result<()> {
        let lines: String = rules.iter().map(|rule| format!("{how} {rule}\n")).collect();
        let text = format!("*mangle\n{lines}COMMIT\n");
        run_in(&self.prefix, "iptables-restore", &["--noflush", "--wait"], &text).context("send packets to the delayer")
    }
}

impl Drop for Delaying {
    fn drop(&mut self) {
        // The rules first: then nothing new comes, and the delayer lets go what it holds when its input ends.
        if let Err(error) = self.change("-D", &self.rules) {
            eprintln!("packets stay redirected: {error:#}");
        }
        drop(self.child.stdin.take());
        if self.child.wait().is_err() {
            let _ = self.child.kill();
        }
    }
}

/// A node of little bandwidth while this lives.
pub struct Limited {
    sides: Vec<(Vec<String>, String)>,
}

impl Drop for Limited {
    fn drop(&mut self) {
        for (prefix, device) in &self.sides {
            // An error means that the network went first.
            let _ = run_in(prefix, "tc", &["qdisc", "delete", "dev", device, "root"], "");
        }
    }
}

fn run_in(prefix: &[String], program: &str, args: &[&str], input: &str) -> anyhow::Result<()> {
    let program = tool::find(program).with_context(|| format!("`{program}` is missing"))?.display().to_string();
    let (first, rest) = prefix.split_first().context("no prefix")?;
    let all: Vec<&str> =
        rest.iter().map(String::as_str).chain([program.as_str()]).chain(args.iter().copied()).collect();
    tool::run_with(first, &all, input).map(drop)
}

/// The program `everdesk-delayer`: `$EVERDESK_DELAYER_BIN`, or beside or above this executable.
fn delayer() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("EVERDESK_DELAYER_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let near = own.ancestors().skip(1).take(2).map(|dir| dir.join("everdesk-delayer")).find(|path| path.is_file());
    near.with_context(|| {
        format!("no `everdesk-delayer` beside {}: build it, or set EVERDESK_DELAYER_BIN", own.display())
    })
}

fn start_delayer(prefix: &[String], queue: u16, delay: Delay) -> anyhow::Result<Child> {
    let (first, rest) = prefix.split_first().context("no prefix")?;
    let micros = |time: Duration| time.as_micros().to_string();
    let order = if delay.reorder { "reorder" } else { "keep" };
    let mut command = Command::new(first);
    command.args(rest).arg(delayer()?);
    command.args([queue.to_string(), micros(delay.fixed), micros(delay.jitter), order.to_owned()]);
    // Its input is how it learns that we are gone: a kill of this process closes it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().context("start the delayer")
}

/// The body of the program `everdesk-delayer QUEUE FIXED_US JITTER_US keep|reorder`: delays what comes to a queue of the
/// kernel until its standard input ends.
/// # Errors
/// Wrong arguments, or the kernel gives no queue.
pub fn run_delayer(args: &[String]) -> anyhow::Result<()> {
    let [queue, fixed, jitter, order] = args else {
        anyhow::bail!("usage: everdesk-delayer QUEUE FIXED_US JITTER_US keep|reorder");
    };
    let micros = |text: &str| text.parse().map(Duration::from_micros).with_context(|| format!("{text} is no time"));
    let delay = Delay { fixed: micros(fixed)?, jitter: micros(jitter)?, reorder: order == "reorder" };
    let number: u16 = queue.parse()?;
    let mut queue = Queue::open().context("open a queue of the kernel")?;
    queue.bind(number).context("bind a queue of the kernel")?;
    queue.set_copy_range(number, COPIED_BYTES)?;
    queue.set_queue_max_len(number, WAITING_MAX as u32)?;
    // Large packets stay whole, as they are on the wire between namespaces.
    queue.set_recv_gso(number, true)?;
    queue.set_nonblocking(true);
    let ended = watch_input()?;
    println!("ready");
    std::io::stdout().flush()?;
    let mut waiting = Waiting::new(delay);
    while !ended.load(Ordering::Relaxed) {
        waiting.take_from(&mut queue)?;
        waiting.release(&mut queue, Instant::now())?;
        std::thread::park_timeout(LOOK_EVERY);
    }
    waiting.take_from(&mut queue)?;
    waiting.release_all(&mut queue)?;
    queue.unbind(number)?;
    Ok(())
}

/// Says when standard input has ended.
fn watch_input() -> anyhow::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    let (told, main) = (ended.clone(), std::thread::current());
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        // Nobody writes; an error is an end as well.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
        main.unpark();
    })?;
    Ok(ended)
}

/// Packets on their way.
struct Waiting {
    delay: Delay,
    dice: Dice,
    /// By due time, then by arrival.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    held: BTreeMap<u64, Message>,
    /// When the last packet of a pair goes, by its two addresses.
    last: BTreeMap<[u8; 8], Instant>,
    taken: u64,
}

impl Waiting {
    fn new(delay: Delay) -> Waiting {
        Waiting {
            delay,
            dice: Dice::new(u64::from(std::process::id())),
            due: BinaryHeap::new(),
            held: BTreeMap::new(),
            last: BTreeMap::new(),
            taken: 0,
        }
    }

    fn take_from(&mut self, queue: &mut Queue) -> anyhow::Result<()> {
        loop {
            match queue.recv() {
                Ok(message) => self.take(queue, message)?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("take a packet"),
            }
        }
    }

    fn take(&mut self, queue: &mut Queue, mut message: Message) -> anyhow::Result<()> {
        if self.held.len() >= WAITING_MAX {
            message.set_verdict(Verdict::Drop);
            return Ok(queue.verdict(message)?);
        }
        let jitter_us = u64::try_from(self.delay.jitter.as_micros()).unwrap_or(u64::MAX);
        let more = Duration::from_micros(self.dice.below(jitter_us.saturating_add(1)));
        let mut due = Instant::now() + self.delay.fixed + more;
        if !self.delay.reorder {
            let last = self.last.entry(addresses(message.get_payload())).or_insert(due);
            due = due.max(*last);
            *last = due;
        }
        self.due.push(Reverse((due, self.taken)));
        self.held.insert(self.taken, message);
        self.taken += 1;
        Ok(())
    }

    fn release(&mut self, queue: &mut Queue, now: Instant) -> anyhow::Result<()> {
        while let Some(&Reverse((due, number))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            self.let_go(queue, number)?;
        }
        Ok(())
    }

    fn release_all(&mut self, queue: &mut Queue) -> anyhow::Result<()> {
        while let Some(Reverse((_, number))) = self.due.pop() {
            self.let_go(queue, number)?;
        }
        Ok(())
    }

    fn let_go(&mut self, queue: &mut Queue, number: u64) -> anyhow::Result<()> {
        if let Some(mut message) = self.held.remove(&number) {
            message.set_verdict(Verdict::Accept);
            queue.verdict(message).context("let a packet go")?;
        }
        Ok(())
    }
}

/// Source and destination of an IPv4 packet.
fn addresses(packet: &[u8]) -> [u8; 8] {
    packet.get(12..20).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}
