//! Owns the history without what people do beside writing: each act is one event of no further meaning, whoever sees it, and what
//! was taken back has its text again, if somebody asked for that. So every other property reads messages as they were sent. Does not
//! judge. Invariant: a text that nobody took back stays lost.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::history::{Act, Body, Event, EventKind, OpId, Record, Reply, Seq, SessionId, What};

/// The same lines in the same places.
pub fn of(records: &[Record]) -> Cow<'_, [Record]> {
    if !records.iter().any(has_acts) {
        return Cow::Borrowed(records);
    }
    let texts = Texts::of(records);
    let plain = |record: &Record| {
        let mut record = record.clone();
        events_of(&mut record.body).iter_mut().for_each(|event| texts.make_plain(event));
        record
    };
    Cow::Owned(records.iter().map(plain).collect())
}

fn has_acts(record: &Record) -> bool {
    matches!(&record.body, Body::Invoke { what: What::Act { .. }, .. })
        || events(&record.body).iter().any(|event| matches!(event.kind, EventKind::Act { .. } | EventKind::Hidden))
}

/// The events that a line shows.
pub(super) fn events(body: &Body) -> &[Event] {
    match body {
        Body::Event { event, .. } => std::slice::from_ref(event),
        Body::Final { events, .. } | Body::Ok { result: Some(Reply::History { events, .. }), .. } => events,
        _ => &[],
    }
}

pub fn events_of(body: &mut Body) -> &mut [Event] {
    match body {
        Body::Event { event, .. } => std::slice::from_mut(event),
        Body::Final { events, .. } | Body::Ok { result: Some(Reply::History { events, .. }), .. } => events,
        _ => &mut [],
    }
}

/// The texts of messages that somebody wanted to take back.
struct Texts<'a>(HashMap<(&'a SessionId, Seq), &'a Arc<str>>);

impl<'a> Texts<'a> {
    fn of(records: &'a [Record]) -> Texts<'a> {
        let mut asked = HashMap::<OpId, &What>::new();
        let mut refused = HashSet::<OpId>::new();
        for record in records {
            match &record.body {
                Body::Invoke { op, what, .. } => drop(asked.insert(*op, what)),
                Body::Fail { op, .. } => drop(refused.insert(*op)),
                _ => {}
            }
        }
        let recalled: HashSet<(&SessionId, Seq)> = asked
            .iter()
            .filter(|(op, _)| !refused.contains(op))
            .filter_map(|(_, what)| match what {
                What::Act { session, act: Act::Recall { of }, .. } => Some((session, *of)),
                _ => None,
            })
            .collect();
        let mut texts = HashMap::new();
        for record in records {
            if let Body::Ok { op, result: Some(Reply::Sent { seq, .. }) } = &record.body
                && let Some(What::Send { session, text, .. }) = asked.get(op)
                && recalled.contains(&(session, *seq))
            {
                texts.insert((session, *seq), text);
            }
        }
        // Those without an ack are known by what somebody was told.
        for event in records.iter().flat_map(|record| events(&record.body)) {
            if let EventKind::Message { text, .. } = &event.kind
                && !text.is_empty()
                && recalled.contains(&(&event.session, event.seq))
            {
                texts.entry((&event.session, event.seq)).or_insert(text);
            }
        }
        Texts(texts)
    }

    fn make_plain(&self, event: &mut Event) {
        match &mut event.kind {
            EventKind::Message { text, .. } if text.is_empty() => {
                if let Some(known) = self.0.get(&(&event.session, event.seq)) {
                    *text = Arc::clone(known);
                }
            }
            EventKind::Act { .. } | EventKind::Hidden => event.kind = EventKind::Other,
            _ => {}
        }
    }
}
