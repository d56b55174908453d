//! Owns a site's assignment: the roster, who is idlest, who waits. Does not know whether a conversation is still open:
//! its session does, and says so by mail. Invariant: a seat's count is the number of conversations assigned to it.

use crate::apply::{Shard, Work};
use crate::cache::{Hold, Table, Weight};
use crate::journal::Note;
use crate::keys;
use crate::limits::{AGENTS_PER_SITE_MAX, ASSIGN_PER_COMMAND_MAX, OPEN_MAX_PER_AGENT};
use crate::outcome::ApplyError;
use crate::queue::{Gap, Waiting};
use crate::rows::{self, Changes, DeskRow, PlaceRow, QueuedRow, Rows, SeatRow, WantRow};
use proto::command::Mail;
use proto::ids::{AgentId, SessionId, SiteId};
use std::collections::{BTreeMap, BTreeSet};

/// A site's desk in memory. Assignments and the queue have rows of their own.
pub(crate) struct Desk {
    pub seats: BTreeMap<AgentId, Seat>,
    /// Online seats below their limit: fewest open, longest without a new one, lowest id first.
    idle: BTreeSet<(u32, u64, AgentId)>,
    turn: u64,
    pub waiting: Waiting,
    /// A wake-up mail to itself is under way.
    nudged: bool,
}

/// An agent on the roster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    pub online: bool,
    pub open: u32,
    /// The turn that last gave this agent a conversation; 0: never.
    last_turn: u64,
}

impl Weight for Desk {
    fn bytes(&self) -> usize {
        size_of::<Desk>() + self.seats.len() * 64 + self.idle.len() * 32
    }
}

impl Weight for WantRow {
    fn bytes(&self) -> usize {
        size_of::<WantRow>()
    }
}

type DeskHold<'a> = Hold<'a, SiteId, Desk>;

impl Desk {
    pub(crate) fn load(rows: &dyn Rows, site: SiteId) -> Result<Desk, ApplyError> {
        let row = rows.get(&keys::desk(site))?.map_or(Ok(Desk::empty_row()), |bytes| Desk::row(&bytes))?;
        let mut desk = Desk {
            seats: BTreeMap::new(),
            idle: BTreeSet::new(),
            turn: row.turn,
            waiting: Waiting {
                next_ticket: row.next_ticket,
                front: row.front,
                queued: row.queued,
                gap: Gap { from: row.front, to: row.next_ticket },
            },
            nudged: row.nudged,
        };
        for SeatRow { agent, online, open, last_turn } in row.seats {
            desk.change_seat(agent, |seat| *seat = Seat { online, open, last_turn });
        }
        Ok(desk)
    }

    /// What a desk's row says.
    pub(crate) fn row(bytes: &[u8]) -> Result<DeskRow, ApplyError> {
        let row: DeskRow = rows::decode("desk", bytes)?;
        rows::counted("desk", &[row.turn, row.next_ticket, row.front, row.queued])?;
        Ok(row)
    }

    /// The desk of a site that nobody has asked anything of.
    pub(crate) fn empty_row() -> DeskRow {
        DeskRow { seats: Vec::new(), turn: 0, next_ticket: 1, front: 1, queued: 0, nudged: false }
    }

    pub(crate) fn save(&self, site: SiteId, out: &mut Changes) {
        let seat = |(agent, seat): (&AgentId, &Seat)| SeatRow {
            agent: *agent,
            online: seat.online,
            open: seat.open,
            last_turn: seat.last_turn,
        };
        let row = DeskRow {
            seats: self.seats.iter().map(seat).collect(),
            turn: self.turn,
            next_ticket: self.waiting.next_ticket,
            front: self.waiting.front,
            queued: self.waiting.queued,
            nudged: self.nudged,
        };
        rows::save(out, keys::desk(site), &row);
    }

    fn idlest(&self) -> Option<AgentId> {
        self.idle.first().map(|(_, _, agent)| *agent)
    }

    /// Changes a seat, new or known, and keeps `idle` in step.
    fn change_seat(&mut self, agent: AgentId, change: impl FnOnce(&mut Seat)) {
        let seat = self.seats.entry(agent).or_insert(Seat { online: false, open: 0, last_turn: 0 });
        self.idle.remove(&(seat.open, seat.last_turn, agent));
        change(seat);
        if seat.online && seat.open < OPEN_MAX_PER_AGENT {
            self.idle.insert((seat.open, seat.last_turn, agent));
        }
    }

    /// Makes room on a full roster: of those who are offline with nothing open, the one idle for longest goes.
    fn make_room(&mut self) -> bool {
        if self.seats.len() < AGENTS_PER_SITE_MAX {
            return true;
        }
        let free = self.seats.iter().filter(|(_, seat)| !seat.online && seat.open == 0);
        let Some((agent, _)) = free.min_by_key(|(agent, seat)| (seat.last_turn, **agent)) else { return false };
        let agent = *agent;
        self.seats.remove(&agent);
        true
    }
}

fn hold<'a>(
    desks: &'a mut Table<SiteId, Desk>,
    rows: &dyn Rows,
    site: SiteId,
    tick: u64,
) -> Result<DeskHold<'a>, ApplyError> {
    let desk = desks.hold(site, tick, || Desk::load(rows, site).map(Some))?;
    Ok(desk.expect("a desk without a row is an empty desk"))
}

/// Gives a conversation to the agent, and tells its session.
fn give(
    desk: &mut Desk,
    wants: &mut Table<(SiteId, SessionId), Option<WantRow>>,
    work: &mut Work,
    site: SiteId,
    queued: QueuedRow,
    agent: AgentId,
) {
    seat(desk, wants, work, site, queued, agent);
    let QueuedRow { session, conversation } = queued;
    work.mail(Mail::Assign { session, conversation, agent });
}

/// Counts a conversation as the agent's.
fn seat(
    desk: &mut Desk,
    wants: &mut Table<(SiteId, SessionId), Option<WantRow>>,
    work: &mut Work,
    site: SiteId,
    queued: QueuedRow,
    agent: AgentId,
) {
    let QueuedRow { session, conversation } = queued;
    desk.turn += 1;
    let turn = desk.turn;
    desk.change_seat(agent, |seat| {
        seat.open += 1;
        seat.last_turn = turn;
    });
    wants.put((site, session), work.tick, Some(WantRow { conversation, place: PlaceRow::Assigned { agent } }));
}

impl Shard {
    /// Whether a desk command reads no row beside the want of its session.
    pub(crate) fn is_desk_warm(&self, site: SiteId) -> bool {
        self.desks.peek(&site).is_some_and(|desk| desk.waiting.queued == 0 || desk.waiting.gap.is_closed())
    }

    fn find_want(&mut self, rows: &dyn Rows, site: SiteId, session: SessionId) -> Result<Option<WantRow>, ApplyError> {
        let load = || rows::read(rows, "want", &keys::want(site, session)).map(Some);
        Ok(self.wants.hold((site, session), self.work.tick, load)?.and_then(|want| *want))
    }

    /// A conversation needs an agent.
    pub(crate) fn desk_want(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        conversation: u64,
    ) -> Result<(), ApplyError> {
        match self.find_want(rows, site, session)? {
            Some(want) if want.conversation >= conversation => return self.drain(rows, site),
            Some(want) => self.forget(rows, site, session, want)?,
            None => {}
        }
        let tick = self.work.tick;
        let mut desk = hold(&mut self.desks, rows, site, tick)?;
        let queued = QueuedRow { session, conversation };
        if desk.waiting.queued == 0
            && let Some(agent) = desk.idlest()
        {
            give(desk.change(), &mut self.wants, &mut self.work, site, queued, agent);
            return Ok(());
        }
        let ticket = desk.change().waiting.push();
        self.queue.put((site, ticket), tick, Some(queued));
        self.wants.put((site, session), tick, Some(WantRow { conversation, place: PlaceRow::Queued { ticket } }));
        self.work.journal.note_session(Note::Queue, session, &[u64::from(site.0), conversation, ticket]);
        drop(desk);
        self.drain(rows, site)
    }

    /// A conversation ended, or its session sent `agent` back. Conversation 0 is nobody's: the desk's own wake-up.
    pub(crate) fn desk_done(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        conversation: u64,
        agent: Option<AgentId>,
    ) -> Result<(), ApplyError> {
        if conversation == 0 {
            hold(&mut self.desks, rows, site, self.work.tick)?.change().nudged = false;
            return self.drain(rows, site);
        }
        let want = self.find_want(rows, site, session)?.filter(|want| want.conversation == conversation);
        if let Some(want) = want {
            let matches = match (want.place, agent) {
                (_, None) => true,
                (PlaceRow::Assigned { agent: given }, Some(agent)) => given == agent,
                (PlaceRow::Queued { .. }, Some(_)) => false,
            };
            if matches {
                self.forget(rows, site, session, want)?;
            }
        }
        self.drain(rows, site)
    }

    /// An operator gave a conversation to `agent`: the seat counts there now, and the queue holds it no longer.
    pub(crate) fn desk_reassigned(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        session: SessionId,
        conversation: u64,
        agent: AgentId,
    ) -> Result<(), ApplyError> {
        let want = self.find_want(rows, site, session)?.filter(|want| want.conversation == conversation);
        if let Some(want) = want {
            self.forget(rows, site, session, want)?;
            let mut desk = hold(&mut self.desks, rows, site, self.work.tick)?;
            let queued = QueuedRow { session, conversation };
            seat(desk.change(), &mut self.wants, &mut self.work, site, queued, agent);
            self.work.journal.note_session(Note::Queue, session, &[u64::from(site.0), conversation, agent.0]);
        }
        self.drain(rows, site)
    }

    /// Takes a conversation off the desk: out of the queue, or out of its agent's count.
    fn forget(&mut self, rows: &dyn Rows, site: SiteId, session: SessionId, want: WantRow) -> Result<(), ApplyError> {
        let tick = self.work.tick;
        self.wants.put((site, session), tick, None);
        let mut desk = hold(&mut self.desks, rows, site, tick)?;
        match want.place {
            PlaceRow::Queued { ticket } => {
                desk.change().waiting.queued -= 1;
                self.queue.put((site, ticket), tick, None);
            }
            PlaceRow::Assigned { agent } => desk.change().change_seat(agent, |seat| seat.open -= 1),
        }
        let place = match want.place {
            PlaceRow::Queued { ticket } => ticket,
            PlaceRow::Assigned { agent } => agent.0,
        };
        self.work.journal.note_session(Note::Queue, session, &[u64::from(site.0), 0, place]);
        Ok(())
    }

    /// An agent came or went. Conversations stay with an agent who went.
    pub(crate) fn desk_agent_state(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        agent: AgentId,
        online: bool,
    ) -> Result<(), ApplyError> {
        let mut desk = hold(&mut self.desks, rows, site, self.work.tick)?;
        if desk.seats.contains_key(&agent) || desk.change().make_room() {
            desk.change().change_seat(agent, |seat| seat.online = online);
            self.work.journal.note(Note::Roster, &[u64::from(site.0), agent.0, u64::from(online)]);
        }
        drop(desk);
        self.drain(rows, site)
    }

    /// Gives waiting conversations to the idlest, one at a time. What is too much for one command waits for a mail to
    /// itself, so that no command takes long and other commands come in between.
    fn drain(&mut self, rows: &dyn Rows, site: SiteId) -> Result<(), ApplyError> {
        let work = &mut self.work;
        let mut desk = hold(&mut self.desks, rows, site, work.tick)?;
        for _ in 0..ASSIGN_PER_COMMAND_MAX {
            if desk.waiting.queued == 0 {
                return Ok(());
            }
            let Some(agent) = desk.idlest() else { return Ok(()) };
            let desk = desk.change();
            let queued = desk.waiting.pop(&mut self.queue, rows, site, work.tick)?;
            give(desk, &mut self.wants, work, site, queued, agent);
        }
        if desk.waiting.queued > 0 && desk.idlest().is_some() && !desk.nudged {
            desk.change().nudged = true;
            work.mail(Mail::Done { site, session: SessionId(0), conversation: 0, agent: None });
        }
        Ok(())
    }
}
