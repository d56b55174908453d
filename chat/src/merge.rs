//! Owns what becomes of a visitor's session when they say who they are: it is merged into the one that they have under their name. Does not
//! know how they prove it. Invariant: both sessions keep every event in its place; they name each other, and what was open goes on in the
//! one that the visitor has now.

use crate::apply::{Shard, Work};
use crate::journal::Note;
use crate::limits::{ATTRIBUTES_MAX, MERGED_MAX};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{AttributeRow, EmailStandRow, Rows};
use crate::session::{self, Session};
use proto::act::{Act, Whose};
use proto::command::{Carried, EventBody, Mail, Party, TokenHash};
use proto::desk::About;
use proto::ids::{SessionId, SiteId};

/// Under which acts of merging stand in a session.
const DEVICE: &str = "merge";
/// Why the conversation ended.
const REASON: &str = "merged";

impl Shard {
    /// The visitor with this token has `into` now. Their open conversation ends here and begins there, by mail. Idempotent.
    pub(crate) fn merge(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        token: TokenHash,
        into: SessionId,
    ) -> Result<Reply, ApplyError> {
        let judge = |session: &Session| match session.merged_into {
            _ if !session.tokens.contains(&token) => Err(Refusal::NotYours),
            // Said again, in case that the word was lost with a cluster.
            Some(known) if known == into => Ok((None, session.log.head())),
            // Who has a name is not merged into another one.
            _ if id == into || !session.proofs.is_empty() => Err(Refusal::NotYours),
            Some(_) => Err(Refusal::Changed),
            None => Ok((session.open, session.log.head())),
        };
        let open = match self.with_session(rows, id, judge)? {
            None => return Ok(Reply::Rejected(Refusal::UnknownSession)),
            Some(Err(refusal)) => return Ok(Reply::Rejected(refusal)),
            Some(Ok((_, 0))) => return Ok(Reply::Done),
            Some(Ok((open, _))) => open,
        };
        if open.is_some() {
            self.close(rows, id, Party::System, REASON.to_owned())?;
        }
        let unsubscribed = self.emails.stand(rows, id)?.unsubscribed;
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        let session = session.change();
        session.merged_into = Some(into);
        work.journal.note_session(Note::Merge, id, &[]);
        work.journal.note_session(Note::Merge, into, &[]);
        let own = session.attributes.iter().filter(|row| row.whose == Whose::Visitor);
        let carried = Carried {
            attributes: own.map(|row| (row.name.clone(), row.value.clone())).collect(),
            about: session.about.clone(),
            agent: session.last_agent,
            is_open: open.is_some(),
            blocked_ms: session.blocked_ms,
            unsubscribed,
        };
        let (site, upto) = (session.site, session.log.head());
        work.mail(Mail::Merged { session: into, from: id, site, upto, carried: Box::new(carried) });
        Ok(Reply::Done)
    }

    /// The visitor of this session was the one of `from` before.
    pub(crate) fn merged(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        (from, site, upto): (SessionId, SiteId, u64),
        carried: Carried,
    ) -> Result<(), ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else { return Ok(()) };
        if session.site != site || session.merged.contains(&from) {
            return Ok(());
        }
        let (unsubscribed, is_open) = (carried.unsubscribed, carried.is_open);
        session.change().take_over(id, work, (from, upto), carried);
        if is_open {
            // What was laid aside here comes back: what was open there goes on in it.
            session.change().wake(id, work, &mut self.dues);
        }
        drop(session);
        let stand = self.emails.stand(rows, id)?;
        if unsubscribed && !stand.unsubscribed {
            self.put_stand(id, EmailStandRow { unsubscribed, ..stand });
        }
        Ok(())
    }
}

impl Session {
    fn take_over(&mut self, id: SessionId, work: &mut Work, (from, upto): (SessionId, u64), carried: Carried) {
        if self.merged.len() >= MERGED_MAX {
            self.merged.remove(0);
        }
        self.merged.push(from);
        for (name, value) in carried.attributes {
            let known = |row: &AttributeRow| (row.whose, row.name.as_str()).cmp(&(Whose::Visitor, name.as_str()));
            // What is known of who they are goes before what was said of somebody unknown.
            if let Err(at) = self.attributes.binary_search_by(known)
                && self.attributes.iter().filter(|row| row.whose == Whose::Visitor).count() < ATTRIBUTES_MAX
            {
                self.attributes.insert(at, AttributeRow { whose: Whose::Visitor, name, value });
            }
        }
        if self.about == About::default() {
            self.about = carried.about;
        }
        let act = Act::Merge { session: from, upto };
        let (device, cid) = (DEVICE.to_owned(), String::new());
        let event = self.log.append(work.clock_ms, EventBody::Act { from: Party::System, device, n: 0, cid, act });
        let seq = event.seq;
        work.event(self.site, id, event);
        self.blocked_ms = self.blocked_ms.max(carried.blocked_ms);
        let is_heard = self.check_visitor(Party::Visitor, work.clock_ms).is_none();
        if carried.is_open && self.open.is_none() && is_heard {
            if carried.agent.is_some() {
                // Who had it comes first, as after any other conversation.
                (self.last_agent, self.closed_ms) = (carried.agent, work.clock_ms);
            }
            self.begin(id, work, seq);
        }
    }
}
