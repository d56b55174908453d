//! Owns what people did beside writing, as they asked for it and as it was told: "an acknowledged act stands once, at its place, as it
//! was done", "what was answered before another began comes before it", and "what is between agents reaches no visitor". Does not look
//! for texts that should be gone (`taken_back`). Invariant: pure; reads the lines as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::checkers::findings::Findings;
use crate::checkers::index::{Index, Line};
use crate::checkers::payload::describe;
use crate::checkers::plain::events;
use crate::history::{
    Act, Body, ClientId, Event, EventKind, OpId, Party, Record, Reply, Seq, SessionId, Socket, What, Who,
};

/// All that was asked and told, by session.
#[derive(Default)]
pub(super) struct Story<'a> {
    pub sessions: BTreeMap<&'a SessionId, Tale<'a>>,
}

#[derive(Default)]
pub(super) struct Tale<'a> {
    pub deeds: Vec<Deed<'a>>,
    pub sights: Vec<Sight<'a>>,
}

/// Something that a client asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed<'a> {
    pub by: &'a Who,
    pub what: &'a What,
    pub invoked: Line,
    /// Seq and time of what was acknowledged; an erasure has neither.
    pub acked: Option<(Line, Option<(Seq, u64)>)>,
    pub is_refused: bool,
}

/// An event that somebody was shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    pub line: Line,
    /// What happened before this line was known to whoever showed it.
    pub since: Line,
    pub event: &'a Event,
    /// `None`: in the end, as visitors see it.
    pub by: Option<&'a Who>,
    /// It came without being asked for, or was made from an ack.
    pub is_told: bool,
}

impl<'a> Story<'a> {
    pub fn of(records: &'a [Record]) -> Story<'a> {
        let mut story = Story::default();
        let mut clients = HashMap::<ClientId, &Who>::new();
        let mut asked = HashMap::<OpId, (&SessionId, usize)>::new();
        let mut sockets = HashMap::<(ClientId, Socket), Line>::new();
        // When each client had no socket last: the next one was opened after that, and what was read for it was read later.
        let mut gone = HashMap::<ClientId, Line>::new();
        for (record, line) in records.iter().zip((1..).map(Line)) {
            let (mut by, mut since) = (None, line);
            let is_told = matches!(record.body, Body::Event { .. });
            match &record.body {
                Body::Client { client, who } => {
                    clients.insert(*client, who);
                    gone.insert(*client, line);
                }
                Body::Disconnected { client, .. } => drop(gone.insert(*client, line)),
                Body::Connected { client, socket, .. } => {
                    sockets.extend(gone.get(client).map(|gone| ((*client, *socket), *gone)));
                }
                Body::Invoke { op, client, what } => {
                    let Some(by) = clients.get(client).copied() else { continue };
                    let deeds = &mut story.sessions.entry(what.session()).or_default().deeds;
                    asked.insert(*op, (what.session(), deeds.len()));
                    deeds.push(Deed { by, what, invoked: line, acked: None, is_refused: false });
                }
                Body::Ok { op, result } => {
                    let Some(deed) = story.deed(&asked, *op) else { continue };
                    (by, since) = (Some(deed.by), deed.invoked);
                    let place = if let Some(Reply::Sent { seq, ts, .. }) = result { Some((*seq, *ts)) } else { None };
                    deed.acked = Some((line, place));
                }
                Body::Fail { op, .. } => {
                    if let Some(deed) = story.deed(&asked, *op) {
                        deed.is_refused = true;
                    }
                }
                Body::Event { client, socket, .. } => {
                    by = clients.get(client).copied();
                    since = sockets.get(&(*client, *socket)).copied().unwrap_or(Line::BEFORE_ALL);
                }
                _ => {}
            }
            for event in events(&record.body) {
                let sight = Sight { line, since, event, by, is_told };
                story.sessions.entry(&event.session).or_default().sights.push(sight);
            }
        }
        story
    }

    fn deed(&mut self, asked: &HashMap<OpId, (&'a SessionId, usize)>, op: OpId) -> Option<&mut Deed<'a>> {
        let (session, at) = asked.get(&op)?;
        self.sessions.get_mut(session)?.deeds.get_mut(*at)
    }

    /// Sessions that somebody wanted to erase.
    pub fn erased(&self) -> impl Iterator<Item = &'a SessionId> + '_ {
        let is_erased = |tale: &Tale<'_>| tale.deeds.iter().any(|deed| matches!(deed.what, What::Erase { .. }));
        self.sessions.iter().filter(move |(_, tale)| is_erased(tale)).map(|(session, _)| *session)
    }
}

impl<'a> Deed<'a> {
    pub fn act(&self) -> Option<&'a Act> {
        if let What::Act { act, .. } = self.what { Some(act) } else { None }
    }
}

impl Tale<'_> {
    /// Whether somebody wanted to take the message back and was not refused.
    pub fn may_be_recalled(&self, seq: Seq) -> bool {
        let is_such = |deed: &&Deed<'_>| matches!(deed.act(), Some(Act::Recall { of }) if *of == seq);
        self.deeds.iter().filter(is_such).any(|deed| !deed.is_refused)
    }
}

/// What tells one act from every other; labels come again and again.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Mark<'a>(&'a Party, &'static str, Seq, &'a str);

fn mark<'a>(from: &'a Party, act: &'a Act) -> Option<Mark<'a>> {
    match act {
        // Emptied edits of one message are all alike.
        Act::Edit { text, .. } if text.is_empty() => None,
        Act::Edit { of, text } => Some(Mark(from, "edit", *of, text)),
        Act::Recall { of } => Some(Mark(from, "recall", *of, "")),
        Act::React { of, emoji } => Some(Mark(from, "react", *of, emoji)),
        Act::Note { text } => Some(Mark(from, "note", Seq(0), text)),
        Act::Label { .. } => None,
    }
}

fn is_like(done: &Act, shown: &Act) -> bool {
    match (done, shown) {
        (Act::Edit { of, .. }, Act::Edit { of: shown, text }) if text.is_empty() => of == shown,
        _ => done == shown,
    }
}

pub fn check(index: &Index<'_>) -> Findings {
    let mut found = Findings::of("acts-once");
    for (session, tale) in judged(index) {
        let mut by_seq = HashMap::<Seq, Vec<&Sight<'_>>>::new();
        for sight in &tale.sights {
            by_seq.entry(sight.event.seq).or_default().push(sight);
        }
        let has_final = tale.sights.iter().any(|sight| sight.by.is_none());
        for deed in &tale.deeds {
            let (Some(act), Some((acked, Some((seq, ts))))) = (deed.act(), deed.acked) else { continue };
            found.count();
            let sights = by_seq.get(&seq).map_or(&[] as &[_], Vec::as_slice);
            if has_final && !sights.iter().any(|sight| sight.by.is_none()) {
                found.breach_of_run(format!("{session}: {act:?}, acked at {seq}, is lost"), &[deed.invoked, acked]);
            }
            for sight in sights {
                if let Err(text) = check_sight(tale, deed, act, ts, sight) {
                    found.breach_of_run(format!("{session}: {text}"), &[deed.invoked, acked, sight.line]);
                }
            }
        }
        check_sights(session, tale, &mut found);
    }
    found
}

/// The sessions that are judged by more than what should be gone from them.
fn judged<'s, 'a>(index: &'s Index<'a>) -> impl Iterator<Item = (&'a SessionId, &'s Tale<'a>)> {
    let sessions = index.story.sessions.iter().filter(|(session, _)| !index.erased.contains(*session));
    sessions.map(|(session, tale)| (*session, tale))
}

/// That the place of an acknowledged act shows it.
fn check_sight(tale: &Tale<'_>, deed: &Deed<'_>, act: &Act, ts: u64, sight: &Sight<'_>) -> Result<(), String> {
    let event = sight.event;
    let party = deed.by.party();
    let is_right = match &event.kind {
        EventKind::Hidden => act.is_internal(),
        EventKind::Act { from, act: Act::Edit { of, text } } if text.is_empty() => {
            *from == party && matches!(act, Act::Edit { of: own, .. } if own == of) && tale.may_be_recalled(*of)
        }
        EventKind::Act { from, act: shown } => *from == party && act == shown,
        _ => false,
    };
    let seq = event.seq;
    match () {
        () if !is_right => Err(format!("seq {seq} was acked as {act:?} of {party} and is {}", describe(event))),
        () if event.ts != ts => Err(format!("seq {seq} was acked with ts {ts} and has {}", event.ts)),
        () => Ok(()),
    }
}

/// That every act that is shown was done by the one whose name it bears, and stands once.
fn check_sights(session: &SessionId, tale: &Tale<'_>, found: &mut Findings) {
    let mut done = HashMap::<Party, Vec<&Act>>::new();
    for deed in tale.deeds.iter().filter(|deed| !deed.is_refused) {
        done.entry(deed.by.party()).or_default().extend(deed.act());
    }
    let exact: HashSet<Mark<'_>> =
        done.iter().flat_map(|(from, acts)| acts.iter().filter_map(move |act| mark(from, act))).collect();
    let mut places = HashMap::<Mark<'_>, (Seq, Line)>::new();
    for sight in &tale.sights {
        let EventKind::Act { from, act } = &sight.event.kind else { continue };
        found.count();
        let (seq, mark) = (sight.event.seq, mark(from, act));
        let was_done = match &mark {
            Some(mark) => exact.contains(mark),
            // Labels are few, and emptied edits are told by what they were of.
            None => done.get(from).is_some_and(|acts| acts.iter().any(|done| is_like(done, act))),
        };
        if !was_done {
            found.breach_of_run(format!("{session}: nobody did {}, seq {seq}", describe(sight.event)), &[sight.line]);
        }
        let Some(mark) = mark else { continue };
        let (first, line) = *places.entry(mark).or_insert((seq, sight.line));
        if first != seq {
            let text = format!("{session}: {} stands at {first} and at {seq}", describe(sight.event));
            found.breach_of_run(text, &[line, sight.line]);
        }
    }
}

/// What was acknowledged before an act began comes before it, and the other way around.
pub fn check_order(index: &Index<'_>) -> Findings {
    let mut found = Findings::of("acts-order");
    for (session, tale) in judged(index) {
        let acked = |deed: &Deed<'_>| {
            let (line, place) = deed.acked?;
            Some((deed.invoked, line, place?.0, deed.act().is_some()))
        };
        let mut begun: Vec<_> = tale.deeds.iter().filter_map(acked).collect();
        if !begun.iter().any(|(.., is_act)| *is_act) {
            continue;
        }
        let mut ended = begun.clone();
        begun.sort_unstable_by_key(|(invoked, ..)| *invoked);
        ended.sort_unstable_by_key(|(_, line, ..)| *line);
        let mut ended = ended.into_iter().peekable();
        let mut highest: Option<(Seq, Line, bool)> = None;
        for (invoked, line, seq, is_act) in begun {
            while let Some((_, before, of, was_act)) = ended.next_if(|(_, before, ..)| *before < invoked) {
                highest = highest.max(Some((of, before, was_act)));
            }
            found.checked += u64::from(is_act);
            // A repeated send gets the seq that it had.
            if let Some((above, before, was_act)) = highest.filter(|(above, ..)| *above >= seq && is_act) {
                let what = if was_act { "act" } else { "send" };
                let text = format!("{session}: an act that began after the {what} at {above} was acked has seq {seq}");
                found.breach_of_run(text, &[before, invoked, line]);
            }
        }
    }
    found
}

/// Notes and labels reach no visitor.
pub fn check_between_agents(index: &Index<'_>) -> Findings {
    let mut found = Findings::of("between-agents");
    for (session, tale) in &index.story.sessions {
        let internal: BTreeSet<Seq> = tale
            .deeds
            .iter()
            .filter_map(|deed| {
                let (_, place) = deed.acked?;
                deed.act().filter(|act| act.is_internal()).and(place).map(|(seq, _)| seq)
            })
            .collect();
        for sight in tale.sights.iter().filter(|sight| matches!(sight.by, Some(Who::Visitor(_)))) {
            found.checked += u64::from(internal.contains(&sight.event.seq));
            if let EventKind::Act { act, .. } = &sight.event.kind
                && act.is_internal()
            {
                let text = format!("{session}: a visitor was told {}, seq {}", describe(sight.event), sight.event.seq);
                found.breach_of_run(text, &[sight.line]);
            }
        }
    }
    found
}
