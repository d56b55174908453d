//! Owns the proof that checkpoints, evictions, failed writes and restarts leave no trace in any outcome: a shard that never
//! writes is the model. Does not look into rows.

use super::attachments;
use super::reports;
use super::world::*;
use crate::desk::SEAT_DEFAULT;
use crate::limits::ATTACHMENT_UNSENT_MS;
use crate::{Changes, HistoryRange, Outcome, Shard};
use proptest::prelude::*;
use proto::act::{Act, Again, Prompt, Whose};
use proto::attachment::Variant;
use proto::command::{Command, Mail, Party};
use proto::desk::{SeatRules, SeatState, TeamRules};
use proto::ids::{AgentId, AttachmentId, SessionId, ShardId, TeamId, VisitorId};
use proto::report::ReportKind;

const SESSIONS: u128 = 4;
const AGENTS: u64 = 3;

/// What happens next. Numbers are chosen when it happens: the model knows which are due.
#[derive(Debug, Clone)]
enum Step {
    Open(u128, u8),
    Send {
        session: u128,
        party: u8,
        device: u8,
        back: u64,
        text: usize,
    },
    SendCid {
        session: u128,
        party: u8,
        device: u8,
        cid: u8,
    },
    Burst {
        session: u128,
        count: u64,
    },
    Cursor(u128, u8, u64, u64),
    Close(u128, u8),
    Login(u64, u8),
    Presence(u64, bool),
    Foreign(u128, u64),
    /// Something beside writing, under a cid of its own or an earlier one.
    Act(u128, u8, u64, Act),
    /// A command to the desk, or an agent's about its seat.
    Desk(Command),
    Wait(u64),
    Deliver,
    Settle,
    Begin,
    End(bool),
    Evict(usize),
    EvictUnused(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = || 0..SESSIONS;
    let send = (session(), 0..4_u8, 0..3_u8, prop_oneof![4 => Just(0_u64), 1 => 1..80_u64], 0..3_000_usize);
    let step = prop_oneof![
        2 => (session(), 0..20_u8).prop_map(|(s, t)| Step::Open(s, t)),
        10 => send.prop_map(|(session, party, device, back, text)| Step::Send { session, party, device, back, text }),
        6 => (session(), 0..4_u8, 0..2_u8, 0..40_u8)
            .prop_map(|(session, party, device, cid)| Step::SendCid { session, party, device, cid }),
        2 => (session(), 1..150_u64).prop_map(|(session, count)| Step::Burst { session, count }),
        3 => (session(), 0..4_u8, 0..90_u64, 0..90_u64).prop_map(|(s, p, a, b)| Step::Cursor(s, p, a, b)),
        2 => (session(), 0..4_u8).prop_map(|(s, p)| Step::Close(s, p)),
        2 => (0..AGENTS, 0..20_u8).prop_map(|(a, t)| Step::Login(a, t)),
        3 => (0..AGENTS, any::<bool>()).prop_map(|(a, on)| Step::Presence(a, on)),
        2 => (0..9_u128, 0..4_u64).prop_map(|(s, c)| Step::Foreign(s, c)),
        8 => (session(), 0..4_u8, 0..40_u64, act()).prop_map(|(s, p, cid, act)| Step::Act(s, p, cid, act)),
        6 => desk_command().prop_map(Step::Desk),
        3 => ending().prop_map(Step::Desk),
        6 => attachment_command().prop_map(Step::Desk),
        2 => prop_oneof![Just(5), Just(900), Just(21_000), Just(ATTACHMENT_UNSENT_MS)].prop_map(Step::Wait),
        6 => Just(Step::Deliver),
        1 => Just(Step::Settle),
        6 => Just(Step::Begin),
        6 => prop::bool::weighted(0.7).prop_map(Step::End),
        4 => prop_oneof![Just(0), 1..40_000_usize].prop_map(Step::Evict),
        2 => (0..20_u64).prop_map(Step::EvictUnused),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

/// What goes from a session for good, and who is not heard.
fn ending() -> impl Strategy<Value = Command> {
    let session = || (0..SESSIONS).prop_map(SessionId);
    prop_oneof![
        2 => (session(), 0..90_u64, any::<bool>())
            .prop_map(|(session, upto, forget)| Command::Erase { session, upto, forget }),
        2 => (session(), 0..6_u8, 0..9_u8, 0..40_000_u64).prop_map(|(session, token, proof, until_ms)| {
            let visitor = VisitorId(session.0);
            Command::Identify { session, site: SITE, visitor, token: [token; 32], proof: [proof; 32], until_ms }
        }),
        1 => (session(), 0..6_u8).prop_map(|(session, token)| Command::Logout { session, token: [token; 32] }),
        2 => (session(), 0..6_u8, session())
            .prop_map(|(session, token, into)| Command::Merge { session, token: [token; 32], into }),
        1 => (session(), prop::option::of(1_000..40_000_u64))
            .prop_map(|(session, until_ms)| Command::Block { session, until_ms }),
        2 => (session(), 0..3_u8, 0..4_u64).prop_map(|(session, trigger, visit)| {
            let (trigger, text, again) = (format!("t{trigger}"), "hello".into(), Again::NextVisit);
            let prompt = Box::new(Prompt { trigger, name: None, text, again, visit, team: None });
            Command::Prompt { session, site: SITE, prompt }
        }),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let seq = || 1..60_u64;
    prop_oneof![
        1 => (0..AGENTS).prop_map(|agent| Act::Note { text: "note".into(), mentions: vec![AgentId(agent)] }),
        1 => (seq(), 0..3_000_usize).prop_map(|(seq, len)| Act::Edit { seq, text: "e".repeat(len) }),
        4 => seq().prop_map(|seq| Act::Recall { seq }),
        1 => seq().prop_map(|seq| Act::React { seq, emoji: "👍".into(), on: true }),
        1 => (0..3_u8, any::<bool>()).prop_map(|(label, on)| Act::Label { label: format!("l{label}"), on }),
        1 => (1..4_u64, 0..30_000_u64).prop_map(|(conversation, ms)| Act::Snooze { conversation, until_ms: 1_000 + ms }),
        1 => (1..4_u64).prop_map(|conversation| Act::Reopen { conversation }),
        1 => (1..4_u64, 0..7_u8).prop_map(|(conversation, score)| Act::Rate { conversation, score, comment: "c".into() }),
        1 => (0..30_000_u64).prop_map(|ms| Act::Invite { text: "hello".into(), until_ms: 1_000 + ms }),
        1 => seq().prop_map(|seq| Act::Decline { seq }),
        1 => (any::<bool>(), 0..40_u8, prop::option::of("[a-z]{0,9}")).prop_map(|(visitor, name, value)| {
            let whose = if visitor { Whose::Visitor } else { Whose::Conversation };
            Act::Attribute { whose, name: format!("n{name}"), value }
        }),
    ]
}

fn desk_command() -> impl Strategy<Value = Command> {
    let site = SITE;
    let teams = prop_oneof![Just(vec![]), Just(vec![TeamId(1)])];
    let team = (any::<bool>(), prop_oneof![Just(0_u32), Just(20_000)], any::<bool>(), any::<bool>());
    let team = team.prop_map(|(is_there, accept_ms, helps, hashed)| {
        is_there.then(|| TeamRules { name: "team".into(), accept_ms, helps, hashed })
    });
    let answer = (0..3_u8, 0..AGENTS, 0..SESSIONS, 1..9_u64).prop_map(move |(how, agent, session, conversation)| {
        let (agent, session) = (AgentId(agent), SessionId(session));
        match how {
            0 => Command::Accept { site, agent, session, offer: conversation },
            1 => Command::Decline { site, agent, session, offer: conversation },
            _ => Command::Take { site, agent, session, conversation },
        }
    });
    let states = prop_oneof![2 => Just(SeatState::Online), 1 => Just(SeatState::Busy)];
    prop_oneof![
        team.prop_map(move |rules| Command::PutTeam { site, team: TeamId(1), rules }),
        (0..AGENTS, 0..4_u32, teams).prop_map(move |(agent, capacity, teams)| {
            let rules = SeatRules { capacity, teams, ..SEAT_DEFAULT };
            Command::PutSeat { site, agent: AgentId(agent), rules }
        }),
        answer,
        (0..AGENTS, states).prop_map(|(agent, state)| Command::AgentState { agent: AgentId(agent), state }),
    ]
}

fn attachment_command() -> impl Strategy<Value = Command> {
    let file = (0..SESSIONS, 0..4_u128, 0..2_u8, 1..3_000_usize);
    (file, 0..4_u8, 0..40_u8).prop_map(|((of, id, by, len), how, cid)| {
        let (id, by) = (of * 10 + id, party(by));
        // One piece has the length that its end says, the other has not.
        match how {
            0 => attachments::chunk(of, id, by, 0, vec![7; 900]),
            1 => attachments::chunk(of, id, by, cid.into(), vec![cid; len]),
            2 => attachments::done(of, id, by, 900),
            _ => attachments::send(of, by, &format!("cid {cid}"), "", &[id]),
        }
    })
}

fn party(number: u8) -> Party {
    match number {
        0 => Party::Visitor,
        1 => Party::System,
        n => Party::Agent(AgentId(u64::from(n) - 2)),
    }
}

/// The shard under test beside the model, and what a restart has to repeat.
struct Pair {
    model: World,
    real: World,
    /// The changes of the checkpoint under way, and how many commands they contain.
    under_way: Option<(Changes, usize)>,
    /// Every command with its time.
    log: Vec<(u64, Command)>,
    written: usize,
}

impl Pair {
    fn new() -> Pair {
        Pair { model: World::alone(), real: World::alone(), under_way: None, log: Vec::new(), written: 0 }
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let outcome = self.model.apply(command.clone());
        let warm = self.real.shard.is_warm(&command);
        let reads = self.real.rows.reads.get();
        assert_eq!(self.real.apply(command.clone()), outcome, "{command:?}");
        assert!(!warm || self.real.rows.reads.get() == reads, "warm, but it read: {command:?}");
        assert_eq!(self.model.shard.state_hash(), self.real.shard.state_hash());
        self.log.push((self.model.now_ms, command));
        outcome
    }

    fn deliver(&mut self) -> bool {
        let after = self.model.shard.inbox_seen(ONE);
        let mail = |world: &World| world.shard.outbox(&world.rows, ONE, after, 1).unwrap().pop();
        let next = mail(&self.model);
        assert_eq!(mail(&self.real), next);
        let Some((seq, message)) = next else { return false };
        self.apply(Command::Inbox { from: ONE, seq, message });
        if seq % 3 == 0 {
            self.apply(Command::OutboxAcked { to: ONE, upto: seq });
        }
        true
    }

    /// The device's own next number, as the model knows it.
    fn next_n(&self, session: u128, party: Party, device: &str) -> u64 {
        let sent = |n| self.model.shard.find_sent(&self.model.rows, SessionId(session), party, device, n, "").unwrap();
        (1..).find(|n| sent(*n).is_none()).unwrap()
    }

    fn end(&mut self, written: bool) {
        let Some((changes, count)) = self.under_way.take() else { return };
        if written {
            self.real.rows.write(changes);
            self.written = count;
        }
        self.real.shard.end_checkpoint(written);
    }

    /// The process dies: what was not written is applied again out of the log.
    fn restart(&mut self) {
        self.under_way = None;
        self.real.shard = Shard::open(ONE, 1, &self.real.rows).unwrap();
        for (now_ms, command) in &self.log[self.written..] {
            self.real.shard.apply(&self.real.rows, *now_ms, command.clone()).unwrap();
        }
        assert_eq!(self.model.shard.state_hash(), self.real.shard.state_hash());
    }

    /// A mail of an actor elsewhere.
    fn foreign(&mut self, id: u128, conversation: u64) {
        let message = match id % 3 {
            0 => {
                let (session, conversation) = (SessionId(100 + id), conversation + 1);
                Mail::Want { site: SITE, session, conversation, ask: Box::default() }
            }
            1 => Mail::Done { site: SITE, session: SessionId(99 + id), conversation, agent: None },
            _ => {
                let (session, agent) = (SessionId(id % SESSIONS), AgentId(conversation));
                Mail::Assign { session, conversation, part: 0, agent, turn: 1, team: TeamId(1) }
            }
        };
        let seq = self.model.shard.inbox_seen(ShardId(9)) + 1;
        self.apply(Command::Inbox { from: ShardId(9), seq, message });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(id, token) => {
                let (session, visitor) = (SessionId(id), VisitorId(id));
                self.apply(Command::OpenSession { session, site: SITE, visitor, token: [token; 32] });
            }
            Step::Send { session, party: from, device, back, text } => {
                let (from, device) = (party(from), format!("d{device}"));
                let next = self.next_n(session, from, &device);
                let n = if back == 79 { next + 1 } else { next.saturating_sub(back).max(1) };
                let (session, cid, text) = (SessionId(session), format!("n{n}"), "x".repeat(text));
                let (reply_to, attachments) = (None, Vec::new());
                self.apply(Command::Send { session, from, device, n, cid, text, reply_to, attachments });
            }
            Step::SendCid { session, party: from, device, cid } => {
                let (device, cid) = (format!("d{device}"), format!("cid {cid}"));
                let (session, from, n, text) = (SessionId(session), party(from), 0, "y".into());
                let (reply_to, attachments) = (None, Vec::new());
                self.apply(Command::Send { session, from, device, n, cid, text, reply_to, attachments });
            }
            Step::Burst { session, count } => {
                let next = self.next_n(session, Party::Visitor, "d");
                for n in next..next + count {
                    self.apply(say(session, Party::Visitor, n, "burst"));
                }
            }
            Step::Cursor(id, who, received, read) => {
                self.apply(Command::Cursor { session: SessionId(id), party: party(who), received, read });
            }
            Step::Close(id, who) => drop(self.apply(close(id, party(who)))),
            Step::Login(id, token) => {
                let (agent, name) = (AgentId(id), format!("agent {token}"));
                self.apply(Command::AgentLogin { agent, site: SITE, name, token: [token; 32] });
            }
            Step::Presence(id, online) => drop(self.apply(presence(id, online))),
            Step::Foreign(id, conversation) => self.foreign(id, conversation),
            Step::Act(session, who, cid, act) => {
                let (session, from, device) = (SessionId(session), party(who), "d0".to_owned());
                let site = matches!(from, Party::Agent(_)).then_some(SITE);
                self.apply(Command::Act { session, site, from, device, n: 0, cid: format!("act {cid}"), act });
            }
            Step::Desk(command) => drop(self.apply(command)),
            Step::Wait(ms) => {
                self.model.now_ms += ms;
                self.real.now_ms += ms;
                self.apply(Command::Tick);
            }
            Step::Deliver => drop(self.deliver()),
            Step::Settle => while self.deliver() {},
            Step::Begin if self.under_way.is_none() => {
                self.under_way = Some((self.real.shard.begin_checkpoint(), self.log.len()));
            }
            Step::Begin => {}
            Step::End(written) => self.end(written),
            Step::Evict(bytes) => self.real.shard.evict(bytes),
            Step::EvictUnused(ticks) => {
                let shard = &mut self.real.shard;
                shard.evict_unused(shard.tick().saturating_sub(ticks));
            }
            Step::Restart => self.restart(),
        }
    }

    /// Everything that can be read is the same.
    fn compare(&self) {
        let (model, real) = (&self.model, &self.real);
        for id in (0..SESSIONS).map(SessionId) {
            let view = model.shard.session(&model.rows, id).unwrap();
            assert_eq!(real.shard.session(&real.rows, id).unwrap(), view);
            let head = view.map_or(0, |view| view.head);
            for file in (0..4).map(|file| AttachmentId(id.0 * 10 + file)) {
                let find = |world: &World| world.shard.attachment(&world.rows, id, file).unwrap();
                assert_eq!(find(real), find(model));
                let piece = |world: &World, number| {
                    world.shard.attachment_piece(&world.rows, id, file, Variant::Whole, number).unwrap()
                };
                (0..40).for_each(|number| assert_eq!(piece(real, number), piece(model, number)));
            }
            let ranges = [HistoryRange::After(0), HistoryRange::After(head / 2), HistoryRange::Latest];
            for range in ranges.into_iter().chain([HistoryRange::Before(head / 2), HistoryRange::Before(head + 1)]) {
                for (limit, bytes) in [(usize::MAX, usize::MAX), (50, 9_000)] {
                    let page = model.shard.history(&model.rows, id, range, limit, bytes).unwrap();
                    assert_eq!(real.shard.history(&real.rows, id, range, limit, bytes).unwrap(), page);
                }
            }
            for (who, n) in (0..4).flat_map(|who| (0..90).map(move |n| (party(who), n))) {
                let find = |world: &World, device: &str, n, cid: &str| {
                    world.shard.find_sent(&world.rows, id, who, device, n, cid).unwrap()
                };
                for device in ["d0", "d"] {
                    assert_eq!(find(real, device, n + 1, ""), find(model, device, n + 1, ""));
                    let cid = format!("cid {n}");
                    assert_eq!(find(real, device, 0, &cid), find(model, device, 0, &cid));
                }
            }
        }
        for id in (0..AGENTS).map(AgentId) {
            assert_eq!(real.shard.agent(&real.rows, id).unwrap(), model.shard.agent(&model.rows, id).unwrap());
        }
        assert_eq!(real.shard.desk(&real.rows, SITE).unwrap(), model.shard.desk(&model.rows, SITE).unwrap());
        for kind in [ReportKind::Site, ReportKind::Team, ReportKind::Agent, ReportKind::Label] {
            let report = |world: &World| reports::of_hours(world, kind);
            assert_eq!(report(real), report(model));
        }
        let feed = |world: &World, after| world.shard.feed(&world.rows, SITE, after, 300, 90_000).unwrap();
        for after in [0, 100, 256, model.shard.feed_head()] {
            assert_eq!(feed(real, after), feed(model, after));
        }
        assert_eq!(waiting_mails(real, ONE), waiting_mails(model, ONE));
        assert_eq!(real.shard.outbox_targets(), model.shard.outbox_targets());
        assert_eq!(real.shard.clock_ms(), model.shard.clock_ms());
        assert_eq!(real.shard.recount_bytes(), real.shard.cached_bytes());
        assert_eq!(model.shard.recount_bytes(), model.shard.cached_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_outcome_depends_on_checkpoints_evictions_or_restarts(steps in steps()) {
        let mut pair = Pair::new();
        for id in 0..SESSIONS {
            pair.step(Step::Open(id, 0));
        }
        for step in steps {
            pair.step(step);
        }
        pair.compare();
        pair.end(true);
        pair.real.chill();
        assert_eq!(pair.real.shard.dirty_bytes(), 0);
        pair.compare();
        pair.written = pair.log.len();
        pair.restart();
        pair.compare();
    }
}
