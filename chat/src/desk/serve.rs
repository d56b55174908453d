//! Owns giving those who wait to those who have room. Does not choose among seats. Invariant: no command gives more than its
//! budget; what is left goes on by a mail of the desk to itself.

use super::Seat;
use super::choose::Rank;
use super::work::At;
use crate::limits::ASSIGN_PER_COMMAND_MAX;
use crate::outcome::ApplyError;
use crate::rows::{PlaceRow, QueuedRow, WantRow};
use proto::command::Mail;
use proto::ids::AgentId;
use std::cmp::Reverse;
use std::collections::BTreeSet;

impl At<'_> {
    /// A seat may have room again: whoever had this.
    pub(super) fn serve_freed(&mut self, want: &WantRow) -> Result<(), ApplyError> {
        match want.place {
            PlaceRow::Offered { agent, .. } | PlaceRow::Assigned { agent, .. } => self.serve(agent),
            PlaceRow::Queued { .. } | PlaceRow::Aside { .. } => Ok(()),
        }
    }

    /// Gives a seat what waits for it, as long as it has room. What is too much for one command waits for a mail to itself,
    /// so that no command takes long and other commands come in between.
    pub(super) fn serve(&mut self, agent: AgentId) -> Result<(), ApplyError> {
        let mut heads = Heads::new();
        for given in 0.. {
            let Some(next) = self.next_for(agent, &mut heads)? else { return Ok(()) };
            if given == ASSIGN_PER_COMMAND_MAX {
                self.nudge((Reverse(u8::MAX), 0));
                return Ok(());
            }
            self.give_queued(next, agent)?;
        }
        Ok(())
    }

    /// Gives whatever waits in any lane to whom the desk chooses: the urgent lanes first.
    pub(super) fn serve_all(&mut self) -> Result<(), ApplyError> {
        self.serve_from((Reverse(u8::MAX), 0))
    }

    /// As `serve_all`, from that lane on.
    pub(super) fn serve_from(&mut self, from: (Reverse<u8>, u32)) -> Result<(), ApplyError> {
        let mut lanes: Vec<(Reverse<u8>, u32)> =
            self.desk.lanes.iter().map(|(number, lane)| (Reverse(lane.need.priority), *number)).collect();
        lanes.retain(|lane| *lane >= from);
        lanes.sort_unstable();
        let mut budget = ASSIGN_PER_COMMAND_MAX;
        for place in lanes {
            // A look at a lane that nobody can serve costs as much as one that gives: it looks at all who are idle.
            while let Some(lane) = self.desk.lanes.get(&place.1) {
                if budget == 0 {
                    self.nudge(place);
                    return Ok(());
                }
                budget -= 1;
                let Some(agent) = self.desk.choose(&lane.need, None, None) else { break };
                let (ticket, queued) = self.head(place.1)?;
                self.give_queued((place.1, ticket, queued), agent)?;
            }
        }
        Ok(())
    }

    fn give_queued(&mut self, next: (u32, u64, QueuedRow), agent: AgentId) -> Result<(), ApplyError> {
        let (lane, ticket, QueuedRow { session, conversation, since_ms, part }) = next;
        // Its own row says the same, and may be cold.
        let need = self.desk.lanes[&lane].need.clone();
        let want = WantRow { conversation, need, ticket, since_ms, part, place: PlaceRow::Queued { lane } };
        self.leave(session, &want, false)?;
        self.desk.change().served(want.need.team, self.work.clock_ms);
        self.give(session, want, agent);
        Ok(())
    }

    /// Goes through the lanes once more, from the beginning.
    pub(super) fn once_more(&mut self) {
        if !self.desk.nudged && self.desk.again {
            self.desk.change().again = false;
            self.nudge((Reverse(u8::MAX), 0));
        }
    }

    fn nudge(&mut self, (Reverse(urgency), lane): (Reverse<u8>, u32)) {
        if self.desk.nudged {
            self.desk.change().again = true;
        } else if self.desk.queued > 0 {
            self.desk.change().nudged = true;
            self.work.mail(Mail::Onward { site: self.site, urgency, lane });
        }
    }

    /// The first of a lane.
    fn head(&mut self, lane: u32) -> Result<(u64, QueuedRow), ApplyError> {
        let known = self.desk.change().lanes.get_mut(&lane).expect("a lane that was just listed");
        known.waiting.first(self.queue, self.rows, (self.site, lane), self.work.tick)
    }

    /// What the seat would take next: the best of the heads of its lanes. `heads`: what an earlier look of this command found.
    fn next_for(&mut self, agent: AgentId, heads: &mut Heads) -> Result<Option<(u32, u64, QueuedRow)>, ApplyError> {
        let takes = |seat: &&Seat| seat.takes() && self.desk.closed.is_none();
        let Some(seat) = self.desk.seats.get(&agent).filter(takes) else { return Ok(None) };
        if heads.is_unread {
            heads.is_unread = false;
            let ranks = self.desk.lanes.iter().filter_map(|(lane, of)| Some((self.desk.rank(seat, of)?, *lane)));
            heads.unseen = ranks.collect();
        }
        loop {
            // Only lanes of the best rank are looked into.
            while let Some((rank, lane)) = heads.unseen.first().copied() {
                if heads.seen.first().is_some_and(|(best, ..)| *best < rank) {
                    break;
                }
                heads.unseen.pop_first();
                heads.seen.insert((rank, self.head(lane)?.0, lane));
            }
            let Some((rank, ticket, lane)) = heads.seen.pop_first() else { return Ok(None) };
            // What it was given meanwhile may have filled a channel.
            let Some(seat) = self.desk.seats.get(&agent) else { return Ok(None) };
            let Some(of) = self.desk.lanes.get(&lane).filter(|of| self.desk.rank(seat, of).is_some()) else { continue };
            let more = of.waiting.queued > 1;
            let (_, queued) = self.head(lane)?;
            if more {
                heads.unseen.insert((rank, lane));
            }
            return Ok(Some((lane, ticket, queued)));
        }
    }
}

/// Lanes that a seat may take from, looked at as far as was needed.
struct Heads {
    is_unread: bool,
    unseen: BTreeSet<(Rank, u32)>,
    /// With the first ticket of each.
    seen: BTreeSet<(Rank, u64, u32)>,
}

impl Heads {
    fn new() -> Heads {
        Heads { is_unread: true, unseen: BTreeSet::new(), seen: BTreeSet::new() }
    }
}
