//! Owns the proof that roll-ups have what happened: random days, counted again by hand out of the events and of what agents could be seen
//! doing after every command. Does not know how roll-ups are kept.

use super::reports::{act, agent, label, of_hours};
use super::world::*;
use crate::HistoryRange;
use proptest::prelude::*;
use proto::act::Act;
use proto::command::{Command, Event, EventBody, Party};
use proto::desk::SeatState;
use proto::ids::{AgentId, SessionId};
use proto::report::{Figures, HOUR_MS, ReportKind, hour_of};
use std::collections::{BTreeMap, BTreeSet};

const SESSIONS: u128 = 3;
const AGENTS: u64 = 3;

#[derive(Debug, Clone)]
enum Step {
    Say(u128, Party),
    Close(u128, Party),
    Reassign(u128, u64),
    Release(u128, Party),
    Act(u128, Party, Act),
    Presence(u64, bool),
    State(u64, SeatState),
    Wait(u64),
    Deliver,
    Settle,
    Tick,
    Chill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = || 0..SESSIONS;
    let who = || prop_oneof![Just(Party::Visitor), Just(Party::System), (0..AGENTS).prop_map(agent)];
    let states = prop_oneof![Just(SeatState::Online), Just(SeatState::Busy), Just(SeatState::Away)];
    let acts = prop_oneof![
        2 => (0..3_u8, any::<bool>()).prop_map(|(name, on)| label(&format!("l{name}"), on)),
        1 => (1..4_u64, 1..9_u64).prop_map(|(conversation, hours)| Act::Snooze { conversation, until_ms: hours * HOUR_MS }),
        2 => (1..4_u64).prop_map(|conversation| Act::Reopen { conversation }),
        2 => (1..4_u64, 1..6_u8).prop_map(|(conversation, score)| Act::Rate { conversation, score, comment: String::new() }),
    ];
    let step = prop_oneof![
        10 => (session(), who()).prop_map(|(session, from)| Step::Say(session, from)),
        3 => (session(), who()).prop_map(|(session, by)| Step::Close(session, by)),
        2 => (session(), 0..AGENTS).prop_map(|(session, to)| Step::Reassign(session, to)),
        2 => (session(), who()).prop_map(|(session, by)| Step::Release(session, by)),
        6 => (session(), who(), acts).prop_map(|(session, from, act)| Step::Act(session, from, act)),
        4 => (0..AGENTS, any::<bool>()).prop_map(|(agent, on)| Step::Presence(agent, on)),
        2 => (0..AGENTS, states).prop_map(|(agent, state)| Step::State(agent, state)),
        5 => prop_oneof![Just(1), 1..900_000_u64, Just(HOUR_MS), Just(3 * HOUR_MS + 1)].prop_map(Step::Wait),
        5 => Just(Step::Deliver),
        5 => Just(Step::Settle),
        2 => Just(Step::Tick),
        3 => Just(Step::Chill),
    ];
    prop::collection::vec(step, 1..90)
}

/// What somebody with a pencil has: by kind, hour and number or label.
type Sheet = BTreeMap<(ReportKind, u32, String), Figures>;

#[derive(Default)]
struct ByHand {
    sheet: Sheet,
    /// What each agent has been seen doing, and since when.
    seen: BTreeMap<AgentId, (u64, SeatState, u64)>,
}

impl ByHand {
    fn figures(&mut self, kind: ReportKind, ms: u64, of: String) -> &mut Figures {
        self.sheet.entry((kind, hour_of(ms), of)).or_default()
    }

    /// Adds something at the site, to an agent.
    fn add(&mut self, ms: u64, agent: Option<AgentId>, add: impl Fn(&mut Figures)) {
        add(self.figures(ReportKind::Site, ms, String::new()));
        if let Some(agent) = agent {
            add(self.figures(ReportKind::Agent, ms, agent.to_string()));
        }
    }

    fn under(&mut self, ms: u64, labels: &BTreeSet<String>, add: impl Fn(&mut Figures)) {
        labels.iter().for_each(|label| add(self.figures(ReportKind::Label, ms, label.clone())));
    }

    /// Minute by minute is too slow: from border to border.
    fn look(&mut self, world: &World, id: AgentId) {
        let now_ms = world.now_ms;
        let Some(view) = world.shard.agent(&world.rows, id).unwrap() else { return };
        let state = if view.online { view.state } else { SeatState::Offline };
        let next = (now_ms, state, view.open.len() as u64);
        let Some((mut from, state, held)) = self.seen.insert(id, next) else { return };
        while from < now_ms {
            let to = now_ms.min((from / HOUR_MS + 1) * HOUR_MS);
            for kind in [ReportKind::Agent, ReportKind::Site] {
                let of = if kind == ReportKind::Agent { id.to_string() } else { String::new() };
                let figures = self.figures(kind, from, of);
                match state {
                    SeatState::Online => figures.online_ms += to - from,
                    SeatState::Busy => figures.busy_ms += to - from,
                    SeatState::Away => figures.away_ms += to - from,
                    SeatState::Offline => {}
                }
                figures.held_ms += held * (to - from);
                if kind == ReportKind::Agent {
                    figures.held_max = figures.held_max.max(held);
                }
            }
            from = to;
        }
    }
}

/// A conversation as its events tell of it.
#[derive(Default)]
struct Told {
    is_open: bool,
    opened_ms: u64,
    /// No agent has written yet.
    first_ms: Option<u64>,
    asked_ms: Option<u64>,
    waits_ms: Option<u64>,
    holder: Option<AgentId>,
    snoozed: Option<AgentId>,
    /// Somebody had it, or it was opened again.
    is_served: bool,
    last: Option<AgentId>,
    rated: Option<(u8, Option<AgentId>)>,
    labels: BTreeSet<String>,
    /// Since it was opened, for its labels.
    for_labels: Figures,
}

impl Told {
    fn hear(&mut self, hand: &mut ByHand, event: &Event) {
        let now = event.ts_ms;
        match &event.body {
            EventBody::Message { from, .. } => self.message(hand, now, *from),
            EventBody::Assigned { agent, .. } => {
                if let Some(before) = self.holder {
                    hand.add(now, Some(before), |figures| figures.transferred += 1);
                }
                let waited = self.waits_ms.take().map(|since| now - since);
                (self.holder, self.last, self.is_served, self.snoozed) = (Some(*agent), Some(*agent), true, None);
                hand.add(now, Some(*agent), |figures| {
                    figures.assigned += 1;
                    waited.into_iter().for_each(|ms| figures.wait.add(ms));
                });
                waited.into_iter().for_each(|ms| self.for_labels.wait.add_sum(1, ms, ms));
            }
            EventBody::Queued { .. } => {
                if let Some(before) = self.holder.take() {
                    hand.add(now, Some(before), |figures| figures.requeued += 1);
                }
                (self.snoozed, self.waits_ms) = (None, Some(now));
            }
            EventBody::Closed { .. } => self.closed(hand, now),
            EventBody::Act { from, act, .. } => self.act(hand, now, *from, act),
            EventBody::Gone | EventBody::Erased { .. } => {}
        }
    }

    fn message(&mut self, hand: &mut ByHand, now: u64, from: Party) {
        match from {
            Party::System => hand.add(now, None, |figures| figures.from_system += 1),
            Party::Visitor => {
                if !self.is_open {
                    let (first_ms, waits_ms) = (Some(now), Some(now));
                    *self = Told { is_open: true, opened_ms: now, first_ms, waits_ms, ..Told::default() };
                    hand.add(now, None, |figures| figures.opened += 1);
                }
                hand.add(now, self.holder, |figures| figures.from_visitors += 1);
                self.for_labels.from_visitors += 1;
                self.asked_ms.get_or_insert(now);
            }
            Party::Agent(_) => {
                let (first, asked) = (self.first_ms.take(), self.asked_ms.take());
                let (first, asked) = (first.map(|since| now - since), asked.map(|since| now - since));
                hand.add(now, self.holder, |figures| {
                    figures.from_agents += 1;
                    first.into_iter().for_each(|ms| figures.first_response.add(ms));
                    asked.into_iter().for_each(|ms| figures.response.add(ms));
                });
                self.for_labels.from_agents += 1;
                first.into_iter().for_each(|ms| self.for_labels.first_response.add(ms));
                asked.into_iter().for_each(|ms| self.for_labels.response.add_sum(1, ms, ms));
            }
        }
    }

    fn closed(&mut self, hand: &mut ByHand, now: u64) {
        let had = self.holder.take().or(self.snoozed.take());
        let (lasted, is_abandoned) = (now - self.opened_ms, !self.is_served);
        let is_unanswered = !is_abandoned && self.first_ms.is_some();
        let add = |figures: &mut Figures| {
            figures.closed += 1;
            figures.unanswered += u64::from(is_unanswered);
            if is_abandoned {
                figures.abandoned += 1;
                figures.abandonment.add(lasted);
            } else {
                figures.resolution.add(lasted);
            }
        };
        hand.add(now, had, add);
        hand.under(now, &self.labels, |figures| {
            add(figures);
            figures.merge(&self.for_labels);
        });
        self.for_labels = Figures::default();
        (self.is_open, self.waits_ms, self.asked_ms) = (false, None, None);
        if is_unanswered {
            self.first_ms = None;
        }
    }

    fn act(&mut self, hand: &mut ByHand, now: u64, from: Party, act: &Act) {
        match act {
            Act::Label { label, on: true } if self.labels.insert(label.clone()) => {
                hand.add(now, None, |figures| figures.labelled += 1);
                hand.under(now, &BTreeSet::from([label.clone()]), |figures| figures.labelled += 1);
            }
            Act::Label { label, on: false } => drop(self.labels.remove(label)),
            Act::Snooze { .. } => self.snoozed = self.holder.take(),
            Act::Reopen { .. } => {
                let Party::Agent(agent) = from else { return };
                (self.is_open, self.opened_ms, self.waits_ms, self.is_served) = (true, now, Some(now), true);
                hand.add(now, Some(agent), |figures| figures.reopened += 1);
            }
            Act::Rate { score, .. } => {
                let before = self.rated;
                let whose = before.map_or(self.last, |(_, whose)| whose);
                let add = |figures: &mut Figures| {
                    before.into_iter().for_each(|(score, _)| figures.scores[usize::from(score) - 1] -= 1);
                    figures.scores[usize::from(*score) - 1] += 1;
                };
                hand.add(now, whose, add);
                hand.under(now, &self.labels, add);
                self.rated = Some((*score, whose));
            }
            _ => {}
        }
    }
}

struct Day {
    world: World,
    hand: ByHand,
    count: u64,
}

impl Day {
    fn apply(&mut self, command: Command) {
        self.world.apply(command);
        (0..AGENTS).for_each(|id| self.hand.look(&self.world, AgentId(id)));
    }

    fn deliver(&mut self) -> bool {
        let me = self.world.shard.me;
        let after = self.world.shard.inbox_seen(me);
        let Some((seq, message)) = self.world.shard.outbox(&self.world.rows, me, after, 1).unwrap().pop() else {
            return false;
        };
        self.apply(Command::Inbox { from: me, seq, message });
        self.apply(Command::OutboxAcked { to: me, upto: seq });
        true
    }

    fn step(&mut self, step: Step) {
        self.count += 1;
        let cid = self.count.to_string();
        match step {
            Step::Say(of, from) => self.apply(say_cid(of, from, &cid, "text")),
            Step::Close(of, by) => self.apply(close(of, by)),
            Step::Reassign(of, to) => self.apply(Command::Reassign { session: session(of), agent: AgentId(to) }),
            Step::Release(of, by) => {
                self.apply(Command::Release { session: session(of), by, seen: u64::MAX / 4, team: None });
            }
            Step::Act(of, from, mut what) => {
                if let Act::Snooze { until_ms, .. } = &mut what {
                    *until_ms += self.world.now_ms;
                }
                self.apply(act(of, from, &cid, what));
            }
            Step::Presence(id, on) => self.apply(presence(id, on)),
            Step::State(id, state) => self.apply(Command::AgentState { agent: AgentId(id), state }),
            Step::Wait(ms) => self.world.now_ms += ms,
            Step::Deliver => drop(self.deliver()),
            Step::Settle => while self.deliver() {},
            Step::Tick => self.apply(Command::Tick),
            Step::Chill => self.world.chill(),
        }
    }

    /// What the roll-ups have.
    fn kept(&self) -> Sheet {
        let mut sheet = Sheet::new();
        for kind in [ReportKind::Site, ReportKind::Agent, ReportKind::Label] {
            for sum in of_hours(&self.world, kind) {
                let of = match kind {
                    ReportKind::Agent => AgentId(sum.id as u64).to_string(),
                    _ => sum.label,
                };
                sheet.insert((kind, sum.stretch, of), sum.figures);
            }
        }
        sheet.retain(|_, figures| *figures != Figures::default());
        sheet
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn roll_ups_have_what_anybody_would_count_out_of_the_events(steps in steps()) {
        let mut day = Day { world: World::alone(), hand: ByHand::default(), count: 0 };
        (0..SESSIONS).for_each(|id| day.apply(open(id)));
        (0..AGENTS).for_each(|id| day.apply(login(id)));
        for step in steps {
            day.step(step);
        }
        (0..AGENTS).for_each(|id| day.hand.look(&day.world, AgentId(id)));
        for id in (0..SESSIONS).map(SessionId) {
            let page = day.world.shard.history(&day.world.rows, id, HistoryRange::After(0), usize::MAX, usize::MAX);
            let mut told = Told::default();
            page.unwrap().unwrap().events.iter().for_each(|event| told.hear(&mut day.hand, event));
        }
        let mut sheet = std::mem::take(&mut day.hand.sheet);
        sheet.retain(|_, figures| *figures != Figures::default());
        let kept = day.kept();
        for (place, figures) in &sheet {
            prop_assert_eq!(kept.get(place), Some(figures), "{:?}", place);
        }
        prop_assert_eq!(kept.len(), sheet.len());
        day.world.chill();
        prop_assert_eq!(day.kept(), kept);
    }
}
