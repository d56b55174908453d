//! Owns what happens to a conversation at its desk: wanted, given, queued, done. Does not choose. Invariant: when a command ends
//! and no wake-up is under way, nothing waits in a lane that a seat with room could serve.

use super::lane::{Queue, Waiting};
use super::places::Spread;
use super::{Desk, Lane, Part, Seat};
use crate::apply::{Shard, Work};
use crate::cache::{Hold, Table, Weight};
use crate::due::{Due, Dues};
use crate::journal::Note;
use crate::keys;
use crate::limits::LANES_PER_SITE_MAX;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rollup::{Scope, Tally};
use crate::rows::{self, NeedRow, PlaceRow, QueuedRow, Rows, WantRow, corrupt};
use proto::command::Mail;
use proto::desk::{Ask, SeatState};
use proto::ids::{AgentId, SessionId, SiteId};
use std::cmp::Reverse;

pub(crate) type Wants = Table<(SiteId, SessionId), Option<WantRow>>;

impl WantRow {
    /// Not placed yet.
    fn new(conversation: u64, part: u64, need: NeedRow, ticket: u64) -> WantRow {
        WantRow { conversation, need, ticket, since_ms: 0, part, place: PlaceRow::Queued { lane: 0 } }
    }
}

impl Weight for WantRow {
    fn bytes(&self) -> usize {
        size_of::<WantRow>() + self.need.skills.len() * 32
    }
}

/// A desk in use, with all that it changes.
pub(super) struct At<'a> {
    pub site: SiteId,
    pub desk: Hold<'a, SiteId, Desk>,
    pub queue: &'a mut Queue,
    pub wants: &'a mut Wants,
    pub dues: &'a mut Dues,
    pub work: &'a mut Work,
    pub rows: &'a dyn Rows,
}

impl Shard {
    pub(super) fn at_desk<'a>(&'a mut self, rows: &'a dyn Rows, site: SiteId) -> Result<At<'a>, ApplyError> {
        let desk = self.desks.hold(site, self.work.tick, || Desk::load(rows, site).map(Some))?;
        let desk = desk.expect("a desk without a row is an empty desk");
        let Shard { queue, wants, dues, work, .. } = self;
        Ok(At { site, desk, queue, wants, dues, work, rows })
    }

    /// Whether a desk command reads no row beside the want of its session.
    pub(crate) fn is_desk_warm(&self, site: SiteId) -> bool {
        self.desks.peek(&site).is_some_and(|desk| desk.lanes.values().all(|lane| lane.waiting.gap.is_closed()))
    }

    /// Whether nothing is offered to the agent, so that no want of another session is looked at when they go.
    pub(crate) fn offers_nothing(&self, site: SiteId, agent: AgentId) -> bool {
        let desk = self.desks.peek(&site);
        desk.is_some_and(|desk| desk.seats.get(&agent).is_none_or(|seat| seat.offers.is_empty()))
    }

    /// A conversation needs an agent.
    pub(crate) fn desk_want(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        conversation: u64,
        ask: &Ask,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let before = at.find(session)?;
        match &before {
            Some(want) if want.conversation >= conversation => return Ok(()),
            Some(want) => at.forget(session, want)?,
            None => {}
        }
        let ticket = at.desk.change().draw_ticket();
        let need = at.desk.need(ask, session);
        at.work.tally(Scope::of_team(site, need.team), Tally::Opened);
        at.begin(session, WantRow::new(conversation, 0, need, ticket), ask);
        before.map_or(Ok(()), |want| at.serve_freed(&want))
    }

    /// A conversation needs an agent again. It keeps its age.
    pub(crate) fn desk_requeued(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        (conversation, part): (u64, u64),
        ask: &Ask,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let before = at.find(session)?;
        let asked = at.desk.need(ask, session);
        let (ticket, need) = match &before {
            Some(want) if want.conversation > conversation => return Ok(()),
            Some(want) => {
                at.forget(session, want)?;
                // For another team only when one was named.
                let is_named = ask.team.is_some_and(|team| at.desk.teams.contains_key(&team));
                (want.ticket, if is_named { asked } else { want.need.clone() })
            }
            None => (at.desk.change().draw_ticket(), asked),
        };
        at.begin(session, WantRow::new(conversation, part, need, ticket), ask);
        before.map_or(Ok(()), |want| at.serve_freed(&want))
    }

    /// The agent who has a conversation gives it to another.
    pub(crate) fn desk_hand(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        from: AgentId,
        session: SessionId,
        (conversation, part): (u64, u64),
        to: AgentId,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let want = at.find(session)?.filter(|want| want.conversation == conversation);
        let Some(want) = want else { return Ok(Reply::Rejected(Refusal::OfferGone)) };
        match want.place {
            PlaceRow::Assigned { agent, .. } if agent == to && (from == to || want.part == part + 1) => {
                return Ok(Reply::Done);
            }
            PlaceRow::Assigned { agent, .. } if agent == from && want.part == part => {}
            _ => return Ok(Reply::Rejected(Refusal::OfferGone)),
        }
        if let Some(refusal) = at.desk.no_place(to, want.need.channel) {
            return Ok(Reply::Rejected(refusal));
        }
        at.leave(session, &want, false)?;
        let (turn, part) = (at.desk.turn + 1, part + 1);
        at.seat(session, WantRow { part, place: PlaceRow::Assigned { agent: to, offer: 0, turn }, ..want }, to);
        at.work.mail(Mail::Handed { session, conversation, part, from, agent: to, turn });
        at.serve(from)?;
        Ok(Reply::Done)
    }

    /// What the desk gave in that turn came too late.
    pub(crate) fn desk_returned(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        returned: u64,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let is_it = |want: &WantRow| matches!(want.place, PlaceRow::Assigned { turn, .. } if turn == returned);
        let Some(want) = at.find(session)?.filter(is_it) else { return Ok(()) };
        at.forget(session, &want)?;
        at.serve_freed(&want)
    }

    /// A conversation ended, and whoever had it has room.
    pub(crate) fn desk_done(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        conversation: u64,
        was_with: Option<AgentId>,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let Some(want) = at.find(session)?.filter(|want| want.conversation == conversation) else { return Ok(()) };
        if was_with.is_none() && want.part == 0 {
            let (scope, waited_ms) =
                (Scope::of_team(site, want.need.team), at.work.clock_ms.saturating_sub(want.since_ms));
            at.work.tally(scope, Tally::Closed);
            at.work.tally(scope, Tally::Abandoned(waited_ms));
        }
        // Whatever is under way to the session comes back, to nothing.
        at.forget(session, &want)?;
        at.serve_freed(&want)
    }

    /// An operator gave a conversation to `agent`: the seat counts there now, and the queue holds it no longer.
    pub(crate) fn desk_reassigned(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        (conversation, part): (u64, u64),
        agent: AgentId,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        let Some(want) = at.find(session)?.filter(|want| want.conversation == conversation) else { return Ok(()) };
        at.forget(session, &want)?;
        at.seat(
            session,
            WantRow { part, place: PlaceRow::Assigned { agent, offer: 0, turn: 0 }, ..want.clone() },
            agent,
        );
        at.missed_if_gone(agent);
        at.serve_freed(&want)
    }

    /// An agent came, went, or takes a break. Conversations stay with an agent who went; what was only offered does not.
    pub(crate) fn desk_agent_state(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        agent: AgentId,
        state: SeatState,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        if !at.desk.seats.contains_key(&agent) && !at.desk.change().make_room() {
            return Ok(());
        }
        let now_ms = at.work.clock_ms;
        let was_gone = at.desk.change().change_seat(agent, |seat| {
            let was_gone = seat.gone_ms;
            seat.state = state;
            seat.gone_ms = match state {
                SeatState::Offline if was_gone > 0 => was_gone,
                SeatState::Offline => now_ms,
                _ => 0,
            };
            was_gone
        });
        at.work.journal.note(Note::Roster, &[u64::from(site.0), agent.0, state as u64]);
        if state == SeatState::Offline && was_gone == 0 {
            at.watch_absence(agent);
        }
        if state == SeatState::Online { at.serve(agent) } else { at.withdraw_all(agent) }
    }

    /// The desk goes on behind a lane, where a command had to stop.
    pub(crate) fn desk_onward(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        urgency: u8,
        lane: u32,
    ) -> Result<(), ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        at.desk.change().nudged = false;
        at.serve_from((Reverse(urgency), lane))?;
        at.once_more();
        Ok(())
    }
}

impl At<'_> {
    pub(super) fn find(&mut self, session: SessionId) -> Result<Option<WantRow>, ApplyError> {
        let (site, rows) = (self.site, self.rows);
        let load = || rows::read(rows, "want", &keys::want(site, session)).map(Some);
        let want = self.wants.hold((site, session), self.work.tick, load)?.and_then(|want| want.clone());
        want.iter().try_for_each(|want| rows::counted("want", &[want.ticket, want.conversation]))?;
        Ok(want)
    }

    /// Takes a conversation off the desk: out of the queue, or out of its agent's count.
    pub(super) fn forget(&mut self, session: SessionId, want: &WantRow) -> Result<(), ApplyError> {
        self.wants.put((self.site, session), self.work.tick, None);
        self.leave(session, want, false)?;
        self.note(session, 0, want.ticket);
        Ok(())
    }

    /// Takes a conversation from where the desk has put it; what it becomes is the caller's.
    pub(super) fn leave(&mut self, session: SessionId, want: &WantRow, missed: bool) -> Result<(), ApplyError> {
        let (site, tick) = (self.site, self.work.tick);
        let desk = self.desk.change();
        match want.place {
            PlaceRow::Queued { lane } => {
                desk.take_from(lane, want.ticket)?;
                self.queue.put((site, lane, want.ticket), tick, None);
            }
            PlaceRow::Aside { until_ms } => {
                desk.aside = desk.aside.saturating_sub(1);
                self.dues.remove(Due { due_ms: until_ms, site, session }, tick);
            }
            PlaceRow::Offered { agent, offer, until_ms } => {
                desk.change_seat(agent, |seat| {
                    seat.count(want.need.channel, -1);
                    seat.offers.remove(&session);
                });
                self.dues.remove(Due { due_ms: until_ms, site, session }, tick);
                self.work.mail(Mail::Withdrawn { agent, session, offer, missed });
            }
            PlaceRow::Assigned { agent, .. } => desk.change_seat(agent, |seat| seat.count(want.need.channel, -1)),
        }
        Ok(())
    }

    /// Puts a conversation into the lane of its kind, at its ticket.
    pub(super) fn enqueue(&mut self, session: SessionId, want: WantRow) {
        let desk = self.desk.change();
        desk.queue_begins(want.need.team, self.work.clock_ms);
        let (lane, need) = desk.put_into_lane(want.need, want.ticket);
        let queued = QueuedRow { session, conversation: want.conversation, since_ms: want.since_ms, part: want.part };
        self.queue.put((self.site, lane, want.ticket), self.work.tick, Some(queued));
        self.note(session, want.conversation, want.ticket);
        self.work.journal.note_bytes(Note::Lane, u64::from(lane), &proto::codec::encode_bare(&need));
        let want = WantRow { need, place: PlaceRow::Queued { lane }, ..want };
        self.wants.put((self.site, session), self.work.tick, Some(want));
    }

    /// Gives a conversation to the agent: asks first where the team's rules say so.
    pub(super) fn give(&mut self, session: SessionId, want: WantRow, agent: AgentId) {
        match self.desk.accept_ms(&want.need) {
            0 => self.assign(session, want, agent, 0),
            accept_ms => self.offer(session, want, agent, accept_ms),
        }
    }

    /// Assigns a conversation, and tells its session. `offer`: the one that was accepted, or 0.
    pub(super) fn assign(&mut self, session: SessionId, want: WantRow, agent: AgentId, offer: u64) {
        let (conversation, part, team) = (want.conversation, want.part, want.need.team);
        let turn = self.desk.turn + 1;
        self.seat(session, WantRow { place: PlaceRow::Assigned { agent, offer, turn }, ..want }, agent);
        self.work.mail(Mail::Assign { session, conversation, part, agent, turn, team });
    }

    /// A conversation that nobody has is given to whom the desk chooses, or waits.
    fn begin(&mut self, session: SessionId, want: WantRow, ask: &Ask) {
        let want = WantRow { since_ms: self.work.clock_ms, ..want };
        let sticky = self.desk.sticky(ask, self.work.clock_ms);
        // While the desk serves those who wait, whoever comes waits behind them.
        if self.desk.nudged {
            self.desk.change().again = true;
            return self.enqueue(session, want);
        }
        match self.desk.choose(&want.need, sticky, ask.but) {
            Some(agent) => self.give(session, want, agent),
            None if ask.but.is_some() => self.enqueue_or_aside(session, want),
            None => self.enqueue(session, want),
        }
    }

    /// Counts a conversation as the agent's.
    pub(super) fn seat(&mut self, session: SessionId, want: WantRow, agent: AgentId) {
        let desk = self.desk.change();
        desk.turn += 1;
        let turn = desk.turn;
        desk.change_seat(agent, |seat| {
            seat.count(want.need.channel, 1);
            seat.last_turn = turn;
        });
        self.note(session, want.conversation, agent.0);
        self.wants.put((self.site, session), self.work.tick, Some(want));
    }

    pub(super) fn note(&mut self, session: SessionId, conversation: u64, place: u64) {
        self.work.journal.note_session(Note::Queue, session, &[u64::from(self.site.0), conversation, place]);
    }
}

/// For desks whose cut is older or newer than that of their sessions.
impl Desk {
    /// Nobody is here, has anything, or waits.
    pub(crate) fn clear(&mut self) {
        for agent in self.seats.keys().copied().collect::<Vec<_>>() {
            self.change_seat(agent, Seat::clear);
        }
        for lane in std::mem::take(&mut self.lanes).into_keys() {
            self.touch(Part::Lane(lane));
        }
        self.lane_of.clear();
        (self.queued, self.aside, self.nudged) = (0, 0, false);
    }

    /// An agent has a conversation, room or not.
    pub(crate) fn seat_again(&mut self, agent: AgentId, need: &NeedRow) {
        self.change_seat(agent, |seat| seat.count(need.channel, 1));
    }

    pub(crate) fn draw_ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// The next waits: its lane, what it needs by that, and its ticket.
    pub(crate) fn line_up(&mut self, need: NeedRow) -> (u32, NeedRow, u64) {
        let ticket = self.draw_ticket();
        let (lane, need) = self.put_into_lane(need, ticket);
        (lane, need, ticket)
    }
}

impl Desk {
    /// Counts a ticket into the lane of its need, made when there is none. On a desk full of lanes the need loses what refines it:
    /// somebody of the team serves it then who need not have all that was asked for, which is better than nobody.
    fn put_into_lane(&mut self, need: NeedRow, ticket: u64) -> (u32, NeedRow) {
        let is_full = self.lanes.len() >= LANES_PER_SITE_MAX && !self.lane_of.contains_key(&need);
        let need = match is_full {
            true => NeedRow { priority: 0, skills: Vec::new(), ..need },
            false => need,
        };
        let lane = self.lane_of.get(&need).copied().unwrap_or_else(|| {
            let free = (1..).zip(self.lanes.keys()).find(|(number, lane)| number != *lane).map(|(number, _)| number);
            let number = free.unwrap_or(self.lanes.len() as u32 + 1);
            self.lane_of.insert(need.clone(), number);
            let (waiting, spread) = (Waiting::new(ticket), Spread::default());
            self.lanes.insert(number, Lane { need: need.clone(), waiting, spread });
            number
        });
        let known = self.lanes.get_mut(&lane).expect("found or made above");
        known.waiting.push(ticket);
        known.spread.add(ticket);
        self.queued += 1;
        self.touch(Part::Lane(lane));
        (lane, need)
    }

    /// Counts one out of a lane; an empty lane goes.
    fn take_from(&mut self, number: u32, ticket: u64) -> Result<(), ApplyError> {
        let Some(lane) = self.lanes.get_mut(&number).filter(|lane| lane.waiting.queued > 0) else {
            return Err(corrupt("want", "it waits in a lane in which nobody waits"));
        };
        lane.waiting.queued -= 1;
        lane.spread.remove(ticket);
        self.queued = self.queued.saturating_sub(1);
        self.touch(Part::Lane(number));
        if self.lanes[&number].waiting.queued == 0
            && let Some(lane) = self.lanes.remove(&number)
        {
            self.lane_of.remove(&lane.need);
        }
        Ok(())
    }
}
