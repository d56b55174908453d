//! Owns offers: one agent is asked, and accepts, declines, or lets it pass. Does not tell the agent's sockets: the agent's actor
//! does, by mail. Invariant: a conversation is offered to one agent at a time, and the desk's log says who was first.

use super::work::At;
use super::{Desk, Seat};
use crate::apply::Shard;
use crate::due::Due;
use crate::limits::ASIDE_MS_MAX;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{DueRow, PlaceRow, Rows, WantRow};
use proto::command::Mail;
use proto::desk::SeatState;
use proto::ids::{AgentId, SessionId, SiteId};

impl Shard {
    pub(crate) fn desk_accept(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        agent: AgentId,
        session: SessionId,
        offer: u64,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        match at.find(session)? {
            Some(want) if want.is_accepted_by(agent, offer) => Ok(Reply::Done),
            Some(want) if want.is_offered_to(agent, offer) => {
                at.leave(session, &want, false)?;
                at.assign(session, want, agent, offer);
                // There is room for one more offer.
                at.serve(agent)?;
                Ok(Reply::Done)
            }
            _ => Ok(Reply::Rejected(Refusal::OfferGone)),
        }
    }

    pub(crate) fn desk_decline(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        agent: AgentId,
        session: SessionId,
        offer: u64,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let want = at.find(session)?.filter(|want| want.is_offered_to(agent, offer));
        if let Some(want) = want {
            at.pass_on(session, want, agent, false)?;
            at.serve(agent)?;
        }
        Ok(Reply::Done)
    }

    pub(crate) fn desk_take(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        agent: AgentId,
        session: SessionId,
        conversation: u64,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let want = at.find(session)?.filter(|want| want.conversation == conversation);
        let Some(want) = want else { return Ok(Reply::Rejected(Refusal::OfferGone)) };
        let offer = match want.place {
            PlaceRow::Assigned { agent: holder, .. } if holder == agent => return Ok(Reply::Done),
            PlaceRow::Offered { agent: asked, offer, .. } if asked == agent => offer,
            PlaceRow::Assigned { .. } | PlaceRow::Offered { .. } => return Ok(Reply::Rejected(Refusal::OfferGone)),
            PlaceRow::Queued { .. } | PlaceRow::Aside { .. } => match at.desk.no_place(agent, want.need.channel) {
                Some(refusal) => return Ok(Reply::Rejected(refusal)),
                None => 0,
            },
        };
        at.leave(session, &want, false)?;
        at.assign(session, want, agent, offer);
        at.serve(agent)?;
        Ok(Reply::Done)
    }

    /// What a desk was to do about a session by now. Whatever has become of it since makes this nothing.
    pub(crate) fn desk_due(
        &mut self,
        rows: &dyn Rows,
        Due { due_ms, site, session }: Due,
        what: DueRow,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        if let DueRow::Absent { since_ms } = what {
            at.absent(AgentId(session.0 as u64), since_ms);
            return Ok(());
        }
        let Some(want) = at.find(session)? else { return Ok(()) };
        match (what, want.place) {
            (DueRow::Missed { offer: missed }, PlaceRow::Offered { agent, offer, .. }) if missed == offer => {
                // Away before it is passed on: who let this pass would let others pass.
                at.desk.change().change_seat(agent, |seat| seat.state = SeatState::Away);
                at.pass_on(session, want, agent, true)?;
                at.withdraw_all(agent)
            }
            (DueRow::Again, PlaceRow::Aside { until_ms }) if until_ms == due_ms => {
                at.leave(session, &want, false)?;
                match at.desk.choose(&want.need, None, None) {
                    Some(agent) => at.give(session, want, agent),
                    None => at.enqueue(session, want),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Desk {
    /// Everybody with something open has gone just now. Returns when to look again, after whom, and at what.
    pub(crate) fn nobody_is_here(&mut self, now_ms: u64) -> Vec<(u64, AgentId, DueRow)> {
        let busy: Vec<AgentId> = self.seats.iter().filter(|(_, seat)| seat.open > 0).map(|(agent, _)| *agent).collect();
        let since_ms = now_ms.max(1);
        for agent in &busy {
            self.change_seat(*agent, |seat| seat.gone_ms = since_ms);
        }
        let requeue_ms = self.rules.requeue_ms;
        let due = |agent| (since_ms.saturating_add(requeue_ms), agent, DueRow::Absent { since_ms });
        busy.into_iter().filter(|_| requeue_ms > 0).map(due).collect()
    }
}

impl WantRow {
    fn is_accepted_by(&self, agent: AgentId, offer: u64) -> bool {
        offer > 0 && matches!(self.place, PlaceRow::Assigned { agent: by, offer: of, .. } if (by, of) == (agent, offer))
    }

    fn is_offered_to(&self, agent: AgentId, offer: u64) -> bool {
        matches!(self.place, PlaceRow::Offered { agent: asked, offer: of, .. } if (asked, of) == (agent, offer))
    }
}

impl At<'_> {
    /// Asks the agent, for so long.
    pub(super) fn offer(&mut self, session: SessionId, want: WantRow, agent: AgentId, accept_ms: u64) {
        let (offer, until_ms) = (self.desk.turn + 1, self.work.clock_ms.saturating_add(accept_ms));
        self.seat(session, WantRow { place: PlaceRow::Offered { agent, offer, until_ms }, ..want }, agent);
        self.desk.change().change_seat(agent, |seat| seat.offers.insert(session));
        self.dues.put(Due { due_ms: until_ms, site: self.site, session }, self.work.tick, DueRow::Missed { offer });
        self.work.mail(Mail::Offered { agent, session, offer, until_ms });
    }

    /// Offers a conversation to somebody else; when there is nobody else with room, it is set aside for a while, so that those
    /// behind it are served. Who cannot serve it anyway does not make it wait.
    fn pass_on(&mut self, session: SessionId, want: WantRow, by: AgentId, missed: bool) -> Result<(), ApplyError> {
        self.leave(session, &want, missed)?;
        if let Some(agent) = self.desk.choose(&want.need, None, Some(by)) {
            self.give(session, want, agent);
            return Ok(());
        }
        self.enqueue_or_aside(session, want);
        Ok(())
    }

    /// Nobody else has room for it: it waits, or is set aside when there is one who could serve it but has just said no.
    pub(super) fn enqueue_or_aside(&mut self, session: SessionId, want: WantRow) {
        if self.desk.choose(&want.need, None, None).is_none() {
            return self.enqueue(session, want);
        }
        let aside_ms = match self.desk.accept_ms(&want.need) {
            0 => ASIDE_MS_MAX,
            accept_ms => accept_ms.min(ASIDE_MS_MAX),
        };
        let until_ms = self.work.clock_ms.saturating_add(aside_ms);
        self.desk.change().aside += 1;
        self.dues.put(Due { due_ms: until_ms, site: self.site, session }, self.work.tick, DueRow::Again);
        self.note(session, want.conversation, until_ms);
        let want = WantRow { place: PlaceRow::Aside { until_ms }, ..want };
        self.wants.put((self.site, session), self.work.tick, Some(want));
    }

    /// Looks again when an agent who has gone has been away for as long as the site's rules allow, and again after each such time.
    pub(super) fn watch_absence(&mut self, agent: AgentId) {
        let (requeue_ms, now_ms) = (self.desk.rules.requeue_ms, self.work.clock_ms);
        let Some(since_ms) = self.desk.seats.get(&agent).map(|seat| seat.gone_ms).filter(|_| requeue_ms > 0) else {
            return;
        };
        // All looks fall on the same times, whenever they were asked for: there is one of each.
        let times = now_ms.saturating_sub(since_ms) / requeue_ms + 1;
        let due_ms = since_ms.saturating_add(requeue_ms.saturating_mul(times));
        let session = SessionId(agent.0.into());
        self.dues.put(Due { due_ms, site: self.site, session }, self.work.tick, DueRow::Absent { since_ms });
    }

    /// Somebody was given a conversation, there or not: who is not, and does not come, loses it as any other.
    pub(super) fn missed_if_gone(&mut self, agent: AgentId) {
        let is_gone = self.desk.seats.get(&agent).is_some_and(|seat| seat.state == SeatState::Offline);
        if is_gone {
            let now_ms = self.work.clock_ms;
            self.desk.change().change_seat(agent, |seat| {
                if seat.gone_ms == 0 {
                    seat.gone_ms = now_ms;
                }
            });
            self.watch_absence(agent);
        }
    }

    /// An agent who has been away all that time loses what is open. Asked again as long as the seat counts anything: what was under
    /// way to the agent comes later.
    fn absent(&mut self, agent: AgentId, since_ms: u64) {
        let requeue_ms = self.desk.rules.requeue_ms;
        let is_away = |seat: &Seat| seat.state == SeatState::Offline && seat.gone_ms == since_ms && seat.open > 0;
        if requeue_ms == 0 || !self.desk.seats.get(&agent).is_some_and(is_away) {
            return;
        }
        // The rules may have changed since.
        if self.work.clock_ms.saturating_sub(since_ms) >= requeue_ms {
            self.work.mail(Mail::Absent { agent });
        }
        self.watch_absence(agent);
    }

    /// Passes on whatever is offered to the agent, who takes nothing now.
    pub(super) fn withdraw_all(&mut self, agent: AgentId) -> Result<(), ApplyError> {
        let offers = self.desk.seats.get(&agent).map(|seat| seat.offers.clone()).unwrap_or_default();
        for session in offers {
            let want = self.find(session)?;
            if let Some(want) =
                want.filter(|want| matches!(want.place, PlaceRow::Offered { agent: asked, .. } if asked == agent))
            {
                self.pass_on(session, want, agent, false)?;
            }
        }
        Ok(())
    }
}
