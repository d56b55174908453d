//! Owns what the next release stands for in tests of upgrades: a command and a row field more. Not part of a shipped build.
//! Invariant: nothing of it is written before version 2 is in force.

use crate::apply::Shard;
use crate::journal::Note;
use crate::outcome::{ApplyError, Reply};
use crate::rows::{Rows, SessionRow};
use crate::session::Session;
use bincode::{Decode, Encode};
use proto::ids::SessionId;
use proto::version::Versions;

/// From here on, sessions are counted.
const VERSION: u16 = 2;

/// A session's row with one field more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct TalliedRow {
    pub session: SessionRow,
    pub tally: u64,
}

proto::frozen!(TalliedRow = 240);

impl Shard {
    /// Sessions in memory, at most `max`, once they may be counted.
    pub fn to_tally(&self, max: usize) -> Vec<SessionId> {
        if self.work.version < VERSION {
            return Vec::new();
        }
        self.sessions.range(SessionId(0)).map(|(id, _)| *id).take(max).collect()
    }

    pub(crate) fn tally(&mut self, rows: &dyn Rows, id: SessionId) -> Result<Reply, ApplyError> {
        if self.work.version < VERSION {
            return Err(ApplyError::Version {
                version: self.work.version,
                speaks: Versions { min: VERSION, max: VERSION },
            });
        }
        let tick = self.work.tick;
        let Some(mut session) = self.sessions.hold(id, tick, || Session::load(rows, id))? else {
            return Ok(Reply::Done);
        };
        let session = session.change();
        session.tally += 1;
        let tally = session.tally;
        self.work.journal.note_session(Note::Tally, id, &[tally]);
        Ok(Reply::Done)
    }
}
