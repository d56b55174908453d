//! Owns the state hash: a chain over every outcome since genesis. Does not store outcomes. Invariant: its input is frozen;
//! replicas of different versions that apply the same log have the same hash.

use proto::command::{Event, EventBody, Mail, Party};
use proto::ids::{AgentId, SessionId, ShardId};
use xxhash_rust::xxh3::xxh3_64;

/// What a note is about. Numbers are never reused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Note {
    Event = 1,
    Mail = 2,
    Cursor = 3,
    Refused = 4,
    Token = 5,
    Presence = 6,
    Open = 7,
    Login = 8,
    Queue = 9,
    Duplicate = 10,
    Acked = 11,
    Inbox = 12,
    Roster = 13,
    Version = 14,
    Rules = 15,
    Due = 16,
    Lane = 17,
    About = 18,
    Mention = 19,
    Hours = 20,
    Webhook = 21,
    Shelf = 22,
    Block = 23,
    Erase = 24,
    Proof = 25,
    Audit = 29,
    Attachment = 31,
    Merge = 40,
    Archive = 34,
    Email = 145,
    #[cfg(feature = "next")]
    Tally = 240,
}

/// The chain, and the notes of the command that is being applied.
pub(crate) struct Journal {
    pub hash: u64,
    bytes: Vec<u8>,
}

impl Journal {
    pub(crate) fn new(hash: u64) -> Journal {
        Journal { hash, bytes: Vec::with_capacity(1024) }
    }

    pub(crate) fn begin(&mut self, clock_ms: u64) {
        self.bytes.clear();
        self.number(self.hash);
        self.number(clock_ms);
    }

    pub(crate) fn end(&mut self) {
        self.hash = xxh3_64(&self.bytes);
    }

    /// Notes numbers.
    pub(crate) fn note(&mut self, note: Note, numbers: &[u64]) {
        self.bytes.push(note as u8);
        numbers.iter().for_each(|number| self.number(*number));
    }

    /// Notes something about a session.
    pub(crate) fn note_session(&mut self, note: Note, session: SessionId, numbers: &[u64]) {
        self.bytes.push(note as u8);
        self.session(session);
        numbers.iter().for_each(|number| self.number(*number));
    }

    pub(crate) fn note_bytes(&mut self, note: Note, id: u64, bytes: &[u8]) {
        self.bytes.push(note as u8);
        self.number(id);
        self.text(bytes);
    }

    pub(crate) fn note_cursor(&mut self, session: SessionId, party: Party, received: u64, read: u64) {
        self.note_session(Note::Cursor, session, &[received, read]);
        self.party(party);
    }

    pub(crate) fn note_event(&mut self, session: SessionId, event: &Event) {
        self.note_session(Note::Event, session, &[event.seq, event.ts_ms]);
        match &event.body {
            EventBody::Message { from, device, n, cid, text, reply_to, attachments } => {
                self.bytes.push(0);
                self.party(*from);
                self.number(*n);
                self.text(device.as_bytes());
                self.text(cid.as_bytes());
                self.text(text.as_bytes());
                self.number(reply_to.unwrap_or(0));
                if !attachments.is_empty() {
                    self.text(&proto::codec::encode_bare(attachments));
                }
            }
            EventBody::Assigned { agent, conversation } => {
                self.bytes.push(1);
                self.number(agent.0);
                self.number(*conversation);
            }
            EventBody::Closed { by, conversation, reason } => {
                self.bytes.push(2);
                self.party(*by);
                self.number(*conversation);
                self.text(reason.as_bytes());
            }
            EventBody::Queued { by, conversation } => {
                self.bytes.push(3);
                self.party(*by);
                self.number(*conversation);
            }
            EventBody::Act { from, device, n, cid, act } => {
                self.bytes.push(4);
                self.party(*from);
                self.number(*n);
                self.text(device.as_bytes());
                self.text(cid.as_bytes());
                self.text(&proto::codec::encode_bare(act));
            }
            EventBody::Gone => self.bytes.push(5),
            EventBody::Erased { upto } => {
                self.bytes.push(6);
                self.number(*upto);
            }
        }
    }

    pub(crate) fn note_mail(&mut self, to: ShardId, seq: u64, mail: &Mail) {
        self.note(Note::Mail, &[u64::from(to.0), seq]);
        match mail {
            Mail::Want { site, session, conversation, ask } => {
                self.bytes.push(0);
                self.session(*session);
                self.number(u64::from(site.0));
                self.number(*conversation);
                self.text(&proto::codec::encode_bare(ask.as_ref()));
            }
            Mail::Done { site, session, conversation, agent } => {
                self.bytes.push(1);
                self.session(*session);
                self.number(u64::from(site.0));
                self.number(*conversation);
                self.bytes.push(u8::from(agent.is_some()));
                self.number(agent.unwrap_or(AgentId(0)).0);
            }
            Mail::AgentState { site, agent, state } => {
                self.bytes.push(2);
                self.number(u64::from(site.0));
                self.number(agent.0);
                self.bytes.push(*state as u8);
            }
            Mail::Assign { session, conversation, part, agent, turn, team } => {
                self.about_agent(3, *session, *conversation, *agent);
                self.number(*part);
                self.number(*turn);
                if team.0 > 0 {
                    self.number(u64::from(team.0));
                }
            }
            Mail::Assigned { agent, session, conversation } => self.about_agent(4, *session, *conversation, *agent),
            Mail::Unassigned { agent, session, conversation } => self.about_agent(5, *session, *conversation, *agent),
            Mail::Reassigned { site, session, conversation, part, agent } => {
                self.about_agent(6, *session, *conversation, *agent);
                self.number(*part);
                self.number(u64::from(site.0));
            }
            Mail::Offered { agent, session, offer, until_ms } => {
                self.about_agent(7, *session, *offer, *agent);
                self.number(*until_ms);
            }
            Mail::Withdrawn { agent, session, offer, missed } => {
                self.about_agent(8, *session, *offer, *agent);
                self.bytes.push(u8::from(*missed));
            }
            Mail::Onward { site, urgency, lane } => {
                self.bytes.push(9);
                self.number(u64::from(site.0));
                self.bytes.push(*urgency);
                self.number(u64::from(*lane));
            }
            Mail::Release { session, conversation, agent } => self.about_agent(14, *session, *conversation, *agent),
            Mail::Mentioned { agent, site, session, seq } => {
                self.about_agent(15, *session, *seq, *agent);
                self.number(u64::from(site.0));
            }
            Mail::Merged { .. } | Mail::Prompted { .. } => self.mail_of_visitors(mail),
            Mail::Returned { .. } | Mail::Requeued { .. } | Mail::Handed { .. } | Mail::Absent { .. } => {
                self.mail_of_parts(mail);
            }
        }
    }

    /// Mails about who a visitor is, and what the visitor was told first.
    fn mail_of_visitors(&mut self, mail: &Mail) {
        match mail {
            Mail::Merged { session, from, site, upto, carried } => {
                self.bytes.push(16);
                self.session(*session);
                self.session(*from);
                self.number(u64::from(site.0));
                self.number(*upto);
                self.text(&proto::codec::encode_bare(carried.as_ref()));
            }
            Mail::Prompted { site, trigger, answered } => {
                self.bytes.push(17);
                self.number(u64::from(site.0));
                self.text(trigger.as_bytes());
                self.bytes.push(u8::from(*answered));
            }
            // The others are noted by the caller.
            _ => {}
        }
    }

    /// Mails about a conversation that leaves an agent before it ends.
    fn mail_of_parts(&mut self, mail: &Mail) {
        match mail {
            Mail::Returned { site, session, turn } => {
                self.bytes.push(10);
                self.session(*session);
                self.number(u64::from(site.0));
                self.number(*turn);
            }
            Mail::Requeued { site, session, conversation, part, ask } => {
                self.bytes.push(11);
                self.number(*part);
                self.session(*session);
                self.number(u64::from(site.0));
                self.number(*conversation);
                self.text(&proto::codec::encode_bare(ask.as_ref()));
            }
            Mail::Handed { session, conversation, part, from, agent, turn } => {
                self.about_agent(12, *session, *conversation, *agent);
                self.number(*part);
                self.number(from.0);
                self.number(*turn);
            }
            Mail::Absent { agent } => {
                self.bytes.push(13);
                self.number(agent.0);
            }
            // The others are noted by the caller.
            _ => {}
        }
    }

    fn about_agent(&mut self, kind: u8, session: SessionId, conversation: u64, agent: AgentId) {
        self.bytes.push(kind);
        self.session(session);
        self.number(conversation);
        self.number(agent.0);
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn session(&mut self, session: SessionId) {
        self.bytes.extend_from_slice(&session.0.to_le_bytes());
    }

    fn party(&mut self, party: Party) {
        let (kind, id) = match party {
            Party::Visitor => (0, 0),
            Party::Agent(agent) => (1, agent.0),
            Party::System => (2, 0),
        };
        self.bytes.push(kind);
        self.number(id);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}
