//! Owns what a person could do beside writing: which messages there are to edit, take back or react to. Does not do it.
//! Invariant: a person takes a message back and reacts to it once at most, whatever comes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::client::{Event, EventKind, Party};
use proto::ids::SessionId;

use super::Dice;
use super::client::Deed;

/// Messages of a session that are remembered.
const KNOWN_MAX: usize = 8;
/// There are few, so that they are taken away as often as they are put.
const LABELS: usize = 4;

/// The newest messages of each session, and what was done to them.
#[derive(Default)]
pub(super) struct Deeds {
    /// With whether they are the person's own.
    known: BTreeMap<SessionId, VecDeque<(u64, bool)>>,
    recalled: BTreeSet<(SessionId, u64)>,
    reacted: BTreeSet<(SessionId, u64)>,
}

impl Deeds {
    /// The person was told this.
    pub fn saw(&mut self, event: &Event<'_>, me: Party) {
        let EventKind::Message { from, .. } = &event.kind else { return };
        let known = self.known.entry(event.session).or_default();
        // Another device of the person is told it again.
        if known.iter().any(|(seq, _)| *seq == event.seq) {
            return;
        }
        known.push_back((event.seq, *from == me));
        if known.len() > KNOWN_MAX {
            known.pop_front();
        }
    }

    /// Something to do to one of the messages.
    pub fn choose(&mut self, session: SessionId, dice: &mut Dice) -> Option<Deed> {
        let known = self.known.get(&session)?;
        let (seq, is_own) = *known.get(dice.below(known.len()))?;
        if is_own && dice.once_in(2) {
            let is_taken_back = self.recalled.contains(&(session, seq));
            if dice.once_in(3) && !is_taken_back {
                self.recalled.insert((session, seq));
                return Some(Deed::Recall(seq));
            }
            // One that was taken back, too: it has no text to give another.
            return Some(Deed::Edit(seq));
        }
        self.reacted.insert((session, seq)).then_some(Deed::React(seq))
    }

    /// What agents do for each other.
    pub fn among_agents(dice: &mut Dice) -> Deed {
        if dice.once_in(3) { Deed::Label(dice.below(LABELS), dice.once_in(2)) } else { Deed::Note }
    }
}
