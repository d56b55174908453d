//! Owns the requests other than sends that are not answered yet. Does not know sockets.
//! Invariant: each is answered once; a broken socket or a temporary refusal makes it leave again, except typing, which is dropped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::client::{ClientFrame, CursorState, ErrorInfo, Event, HistoryPage, Queue, Reply, Verb};
use tokio::sync::oneshot;

use super::handle::ClientError;

const PAUSE: Duration = Duration::from_millis(50);

pub(super) enum Answer {
    Ok,
    Cursor(CursorState),
    History(HistoryPage<'static>),
    Queue(Queue),
}

pub(super) type AskReply = oneshot::Sender<Result<Answer, ClientError>>;

#[derive(Default)]
pub(super) struct Asks {
    waiting: BTreeMap<u64, Ask>,
}

struct Ask {
    verb: Verb<'static>,
    reply: AskReply,
    /// When to write it; none while it is under way.
    due: Option<Instant>,
}

impl Asks {
    pub fn push(&mut self, id: u64, verb: Verb<'static>, reply: AskReply, now: Instant) {
        self.waiting.insert(id, Ask { verb, reply, due: Some(now) });
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn awaits_answers(&self) -> bool {
        self.waiting.values().any(|ask| ask.due.is_none())
    }

    pub fn send_ready(&mut self, now: Instant, mut write: impl FnMut(&ClientFrame<'_>)) {
        for (&id, ask) in &mut self.waiting {
            if ask.due.is_some_and(|due| due <= now) {
                ask.due = None;
                write(&ClientFrame { id, verb: ask.verb.clone() });
            }
        }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|ask| ask.due).min()
    }

    /// Hands an answer to its caller. Anything but a cursor or a page is a plain "done".
    pub fn on_reply(&mut self, id: u64, reply: Reply<'_>) {
        let Some(ask) = self.waiting.remove(&id) else { return };
        let answer = match reply {
            Reply::Cursor(state) => Answer::Cursor(state),
            Reply::History(page) => Answer::History(HistoryPage {
                session: page.session,
                events: page.events.into_iter().map(Event::into_owned).collect(),
                head: page.head,
            }),
            Reply::Queue(queue) => Answer::Queue(queue),
            _ => Answer::Ok,
        };
        // The caller may have given up waiting; then nobody misses the answer.
        let _ = ask.reply.send(Ok(answer));
    }

    pub fn on_refusal(&mut self, id: u64, error: ErrorInfo<'static>, now: Instant) {
        let Some(mut ask) = self.waiting.remove(&id) else { return };
        if error.code.retryable() {
            ask.due = Some(now + error.retry_after_ms.map_or(PAUSE, super::asked_wait));
            self.waiting.insert(id, ask);
            return;
        }
        let _ = ask.reply.send(Err(ClientError::Refused(error)));
    }

    pub fn on_disconnect(&mut self, now: Instant) {
        let dropped = self.waiting.extract_if(.., |_, ask| matches!(ask.verb, Verb::Typing(_)));
        dropped.for_each(|(_, ask)| drop(ask.reply.send(Ok(Answer::Ok))));
        self.waiting.values_mut().for_each(|ask| ask.due = Some(now));
    }
}
