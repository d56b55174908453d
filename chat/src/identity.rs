//! Owns the proofs by which a visitor's session is opened. Does not verify them: nodes do, who know the site's keys. Invariant: a proof
//! opens a session once, however many nodes are shown it; only the lost answer of that is made good.

use crate::apply::Shard;
use crate::journal::Note;
use crate::limits::{PROOF_AGAIN_MS, PROOFS_MAX};
use crate::outcome::{ApplyError, Effect, Refusal, Reply};
use crate::rows::{ProofRow, Rows};
use crate::session;
use proto::command::TokenHash;
use proto::ids::{SessionId, SiteId, VisitorId};

impl Shard {
    /// Opens the session of a visitor who proved who they are.
    pub(crate) fn identify(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        (site, visitor, token): (SiteId, VisitorId, TokenHash),
        proof: TokenHash,
        until_ms: u64,
    ) -> Result<Reply, ApplyError> {
        let now_ms = self.work.clock_ms;
        let is_spent = |session: &session::Session| {
            let used = session.proofs.iter().find(|row| row.proof == proof);
            used.is_some_and(|row| now_ms > row.used_ms + PROOF_AGAIN_MS && !session.tokens.contains(&token))
        };
        if self.with_session(rows, id, is_spent)? == Some(true) {
            return Ok(Reply::Rejected(Refusal::ProofUsed));
        }
        let reply = self.open_session(rows, id, site, visitor, token)?;
        let work = &mut self.work;
        if let (Reply::Opened { .. } | Reply::Done, Some(mut session)) =
            (&reply, session::hold(&mut self.sessions, rows, id, work.tick)?)
            && !session.proofs.iter().any(|row| row.proof == proof)
        {
            let proofs = &mut session.change().proofs;
            // Those that are over open nothing any more.
            proofs.retain(|row| row.until_ms >= now_ms);
            if proofs.len() >= PROOFS_MAX {
                proofs.remove(0);
            }
            proofs.push(ProofRow { proof, used_ms: now_ms, until_ms });
            work.journal.note_session(Note::Proof, id, &[until_ms]);
        }
        Ok(reply)
    }

    /// The token is good no longer.
    pub(crate) fn logout(&mut self, rows: &dyn Rows, id: SessionId, token: TokenHash) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        if let Some(at) = session.tokens.iter().position(|known| *known == token) {
            let gone = vec![session.change().tokens.remove(at)];
            work.journal.note_session(Note::Token, id, &[0]);
            work.effect(Effect::LoggedOut { session: id, gone });
        }
        Ok(Reply::Done)
    }
}
