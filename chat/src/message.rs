//! Owns a message's way into a session: repeated, refused, or appended. Does not know transport or rate limits.
//! Invariant: one (session, party, device, n or cid) has one answer, a seq or a refusal, for ever, whatever the repetition says.

use crate::act::Doer;
use crate::apply::{Shard, Work};
use crate::attachment::Attachments;
use crate::device::Devices;
use crate::journal::Note;
use crate::limits::{CID_BYTES_MAX, DEVICE_BYTES_MAX, DEVICES_PER_SESSION_MAX, TEXT_BYTES_MAX};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{OpenRow, Rows, SentRow, corrupt};
use crate::session::{self, Session};
use proto::act::{Act, Whose};
use proto::attachment::Attachment;
use proto::command::{EventBody, Mail, Party};
use proto::ids::{AttachmentId, SessionId, SiteId};
use proto::mutants::Mutant;

/// In place of a seq: the send was refused. Seqs begin at 1.
pub(crate) const REFUSED_SEQ: u64 = 0;

/// Who sends, and under which name.
pub(crate) struct Sender {
    pub from: Party,
    /// An agent's own; only needed for an act.
    pub site: Option<SiteId>,
    pub device: String,
    pub n: u64,
    pub cid: String,
}

/// What is sent.
pub(crate) enum Said {
    Message {
        text: String,
        reply_to: Option<u64>,
        attachments: Vec<AttachmentId>,
    },
    Act(Act),
    /// It was not let through.
    Barred,
}

impl Shard {
    pub(crate) fn send(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        sender: Sender,
        said: Said,
    ) -> Result<Reply, ApplyError> {
        let Sender { from, site, device, n, cid } = sender;
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        if let Some(refusal) = check_names(&device, &cid) {
            return Ok(Reply::Rejected(refusal));
        }
        let place = session.fill().devices.load(rows, id, from, &device)?;
        // A repetition is answered before anything else is judged: what was allowed once stays acknowledged.
        match repeated(&session.devices, place, rows, id, n, &cid)? {
            Repeat::Sent(SentRow { seq, ts_ms }) => {
                work.journal.note_session(Note::Duplicate, id, &[seq]);
                return Ok(Reply::Sent { seq, ts_ms, dup: true });
            }
            Repeat::Refused(refusal) => return Ok(Reply::Rejected(refusal)),
            Repeat::Gap { expected } => return Ok(Reply::Rejected(Refusal::CidGap { expected })),
            Repeat::New => {}
        }
        let doer = Doer { party: from, site, now_ms: work.clock_ms };
        let (refusal, attachments) = match judge(&session, &self.attachments, rows, id, doer, &said)? {
            Ok(attachments) => (None, attachments),
            Err(refusal) => (Some(refusal), Vec::new()),
        };
        // Devices that were only ever refused must not take the room of those that may speak.
        let devices_max = if refusal.is_some() { DEVICES_PER_SESSION_MAX / 2 } else { DEVICES_PER_SESSION_MAX };
        if place.is_err() && session.devices.total >= devices_max {
            return Ok(Reply::Rejected(Refusal::LimitReached("devices per session")));
        }
        let session = session.change();
        let at = place.unwrap_or_else(|at| {
            session.devices.add(at, from, &device);
            at
        });
        if refusal.is_none() && from == Party::Visitor && matches!(said, Said::Message { .. }) {
            session.wake(id, work, &mut self.dues);
        }
        let sent = answer_to(refusal.as_ref(), session.log.head(), work.clock_ms);
        session.devices.record(at, work.tick, (n, &cid), sent);
        if let Some(refusal) = refusal {
            return Ok(Reply::Rejected(refusal));
        }
        let dues = &mut self.dues;
        self.attachments.sent(rows, work, dues, (id, sent.seq), &attachments)?;
        let (body, act) = match said {
            Said::Message { text, reply_to, .. } => {
                (EventBody::Message { from, device, n, cid, text, reply_to, attachments }, None)
            }
            Said::Act(act) => (EventBody::Act { from, device, n, cid, act: act.clone() }, Some(act)),
            Said::Barred => return Ok(Reply::Rejected(Refusal::Blocked)),
        };
        let event = session.log.append(sent.ts_ms, body);
        assert_eq!(event.seq, sent.seq, "the answer is the event's place");
        work.event(session.site, id, event);
        match act {
            Some(act) => {
                for gone in session.do_act(rows, id, work, dues, (from, sent.seq), act)? {
                    self.attachments.remove(rows, work, dues, &mut self.objects, (id, gone))?;
                }
            }
            None => session.said(id, work, from, sent.seq),
        }
        Ok(Reply::Sent { seq: sent.seq, ts_ms: sent.ts_ms, dup: false })
    }
}

impl Session {
    /// A message has its place: a visitor's may open a conversation.
    fn said(&mut self, id: SessionId, work: &mut Work, from: Party, seq: u64) {
        if from == Party::Visitor && self.open.is_none() {
            self.begin(id, work, seq);
        }
        self.count_message(work, from);
    }

    /// The event at `first_seq`, the visitor's message as a rule, opens a conversation.
    pub(crate) fn begin(&mut self, id: SessionId, work: &mut Work, first_seq: u64) {
        self.conversations += 1;
        self.labels.clear();
        self.attributes.retain(|row| row.whose == Whose::Visitor);
        let conversation = self.conversations;
        let last = self.last_agent.map(|agent| (agent, self.closed_ms));
        let mut ask = Box::new(self.ask(last));
        let open = OpenRow {
            number: conversation,
            // Whoever gets it sees what is answered.
            first_seq: self.answers(work, &mut ask).unwrap_or(first_seq),
            agent: None,
            waits_again: false,
            part: 0,
            snoozed: None,
            team: None,
        };
        self.open = Some(open);
        self.count_begun(work);
        work.mail(Mail::Want { site: self.site, session: id, conversation, ask });
    }

    /// Visitors and the system may always speak; an agent only in the open conversation that is theirs.
    pub(crate) fn check_speaks(&self, from: Party) -> Option<Refusal> {
        let Party::Agent(agent) = from else { return None };
        match self.open {
            None => Some(Refusal::ConversationClosed),
            Some(open) if open.agent != Some(agent) && !Mutant::NoHolderCheck.is_on() => Some(Refusal::NotYours),
            Some(_) => None,
        }
    }
}

/// Whether it may be said; the attachments that it names.
fn judge(
    session: &Session,
    attachments: &Attachments,
    rows: &dyn Rows,
    id: SessionId,
    doer: Doer,
    said: &Said,
) -> Result<Result<Vec<Attachment>, Refusal>, ApplyError> {
    let (text, reply_to, ids) = match said {
        Said::Barred => return Ok(Err(Refusal::Blocked)),
        Said::Act(act) => return Ok(session.check_act(rows, id, doer, act)?.map_or(Ok(Vec::new()), Err)),
        Said::Message { text, reply_to, attachments } => (text, *reply_to, attachments),
    };
    // A file may speak for itself.
    let of_text = if text.is_empty() && !ids.is_empty() { None } else { check_text(text) };
    let refusal = match of_text.or_else(|| session.check_says(doer)) {
        None => session.check_reply_to(rows, id, reply_to)?,
        refusal => refusal,
    };
    if let Some(refusal) = refusal {
        return Ok(Err(refusal));
    }
    Ok(attachments.named(rows, id, doer.party, ids)?.ok_or(Refusal::AttachmentInvalid))
}

/// What every repetition of a send is answered. A refusal is remembered too: a copy of the send that comes later, when it would be allowed,
/// must not be a message, and the next message must not pass for this one.
fn answer_to(refusal: Option<&Refusal>, head: u64, now_ms: u64) -> SentRow {
    match refusal {
        Some(refusal) => SentRow { seq: REFUSED_SEQ, ts_ms: u64::from(refusal.code().0) },
        None => SentRow { seq: head + 1, ts_ms: now_ms },
    }
}

enum Repeat {
    Sent(SentRow),
    Refused(Refusal),
    New,
    Gap { expected: u64 },
}

/// Whether this send was answered before.
fn repeated(
    devices: &Devices,
    place: Result<usize, usize>,
    rows: &dyn Rows,
    id: SessionId,
    n: u64,
    cid: &str,
) -> Result<Repeat, ApplyError> {
    let (last_n, sent) = match place {
        Ok(at) => (devices.get(at).last_n, devices.get(at).sent(rows, id, n, cid)?),
        Err(_) => (0, None),
    };
    Ok(match sent {
        Some(_) if n > 0 && Mutant::DedupeSkipped.is_on() => Repeat::New,
        Some(SentRow { seq: REFUSED_SEQ, ts_ms: code }) => Repeat::Refused(refusal_of(code)?),
        Some(sent) => Repeat::Sent(sent),
        None if n > last_n + 1 => Repeat::Gap { expected: last_n + 1 },
        None => Repeat::New,
    })
}

/// The refusal that was remembered under this code.
fn refusal_of(code: u64) -> Result<Refusal, ApplyError> {
    let known = [
        Refusal::NotYours,
        Refusal::ConversationClosed,
        Refusal::TextTooLarge,
        Refusal::TextEmpty,
        Refusal::Changed,
        Refusal::TargetInvalid,
        Refusal::TooLate,
        Refusal::ActInvalid,
        Refusal::Blocked,
        Refusal::AttachmentInvalid,
        Refusal::Talking,
        Refusal::Invited,
        Refusal::TooOften,
    ];
    let found = known.into_iter().find(|refusal| u64::from(refusal.code().0) == code);
    found.ok_or_else(|| corrupt("device", "an unknown refusal is remembered"))
}

fn is_name(name: &str, bytes_max: usize) -> bool {
    !name.is_empty() && name.len() <= bytes_max && !name.bytes().any(|byte| byte.is_ascii_control())
}

fn check_names(device: &str, cid: &str) -> Option<Refusal> {
    match () {
        () if !is_name(device, DEVICE_BYTES_MAX) => Some(Refusal::DeviceInvalid),
        () if !is_name(cid, CID_BYTES_MAX) => Some(Refusal::CidInvalid),
        () => None,
    }
}

pub(crate) fn check_text(text: &str) -> Option<Refusal> {
    match text.len() {
        0 => Some(Refusal::TextEmpty),
        len if len > TEXT_BYTES_MAX => Some(Refusal::TextTooLarge),
        _ => None,
    }
}
