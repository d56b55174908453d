//! Owns a desk's rows: one for the desk, one for each seat, team and lane. Does not hold conversations. Invariant: what was changed
//! since the last checkpoint is written by the next, and nothing else.

use super::lane::{Gap, Waiting};
use super::places::{Pace, Spread};
use super::{Desk, EVERYBODY, HELPERS, Lane, Part, Seat};
use crate::keys;
use crate::limits::{LANES_PER_SITE_MAX, REQUEUE_MS, TEAMS_PER_SITE_MAX};
use crate::outcome::ApplyError;
use crate::rows::{self, Changes, DeskRow, LaneRow, Rows, SeatRow, TeamRow, corrupt};
use proto::desk::SiteRules;
use proto::ids::{AgentId, SiteId, TeamId};
use std::collections::BTreeMap;

impl Desk {
    pub(crate) fn load(rows: &dyn Rows, site: SiteId) -> Result<Desk, ApplyError> {
        let row = rows.get(&keys::desk(site))?.map_or(Ok(Desk::empty_row()), |bytes| Desk::row(&bytes))?;
        let mut desk = Desk {
            seats: BTreeMap::new(),
            teams: BTreeMap::new(),
            rules: row.rules,
            lanes: BTreeMap::new(),
            lane_of: BTreeMap::new(),
            idle: BTreeMap::new(),
            queued: 0,
            aside: row.aside,
            turn: row.turn,
            next_ticket: row.next_ticket,
            nudged: row.nudged,
            again: row.again,
            closed: row.closed,
            paces: row.paces.into_iter().map(|pace| (pace.team, Pace::of_row(pace))).collect(),
            changed: BTreeMap::new(),
        };
        rows::each(rows, "team", &keys::teams(site), TEAMS_PER_SITE_MAX, |key, row: TeamRow| {
            let team = TeamId(keys::last_small(key).unwrap_or(0));
            if team == EVERYBODY || team == HELPERS {
                return Err(corrupt("team", "no team has this number"));
            }
            desk.teams.insert(team, row.rules);
            Ok(())
        })?;
        // An operator may give a conversation to an agent for whom there was no place on the roster.
        rows::each(rows, "seat", &keys::seats(site), usize::MAX, |key, row: SeatRow| {
            rows::counted("seat", &[row.last_turn])?;
            desk.seats.insert(AgentId(keys::last_number(key).unwrap_or(0)), Seat::of_row(row));
            Ok(())
        })?;
        // Refined lanes, and a plain one of each team and channel.
        let lanes_max = LANES_PER_SITE_MAX + (TEAMS_PER_SITE_MAX + 1) * 256;
        rows::each(rows, "lane", &keys::lanes(site), lanes_max, |key, row: LaneRow| {
            rows::counted("lane", &[row.front, row.queued])?;
            let number = keys::last_small(key).unwrap_or(0);
            let waiting =
                Waiting { front: row.front, queued: row.queued, gap: Gap { from: row.front, to: desk.next_ticket } };
            desk.queued = desk.queued.saturating_add(row.queued);
            let is_new = desk.lane_of.insert(row.need.clone(), number).is_none();
            let spread = Spread::of_row(row.spread);
            let is_whole = spread.total() == row.queued;
            desk.lanes.insert(number, Lane { need: row.need, waiting, spread });
            if is_new && row.queued > 0 && is_whole {
                Ok(())
            } else {
                Err(corrupt("lane", "there is another for the same, nobody waits, or its counts differ"))
            }
        })?;
        desk.list_all();
        Ok(desk)
    }

    /// What a desk's row says.
    pub(crate) fn row(bytes: &[u8]) -> Result<DeskRow, ApplyError> {
        let row: DeskRow = rows::decode("desk", bytes)?;
        rows::counted("desk", &[row.turn, row.next_ticket, row.aside])?;
        Ok(row)
    }

    /// The desk of a site that nobody has asked anything of.
    pub(crate) fn empty_row() -> DeskRow {
        let rules = SiteRules { requeue_ms: REQUEUE_MS, ..SiteRules::default() };
        DeskRow {
            rules,
            aside: 0,
            turn: 0,
            next_ticket: 1,
            nudged: false,
            again: false,
            paces: Vec::new(),
            closed: None,
        }
    }

    pub(crate) fn save(&mut self, site: SiteId, out: &mut Changes) {
        let row = DeskRow {
            rules: self.rules.clone(),
            aside: self.aside,
            turn: self.turn,
            next_ticket: self.next_ticket,
            nudged: self.nudged,
            again: self.again,
            closed: self.closed,
            paces: self.paces.iter().map(|(team, pace)| pace.row(*team)).collect(),
        };
        rows::save(out, keys::desk(site), &row);
        for (part, mark) in &mut self.changed {
            if !mark.begin() {
                continue;
            }
            out.push(match part {
                Part::Seat(agent) => {
                    (keys::seat(site, *agent), self.seats.get(agent).map(|seat| proto::codec::encode(&seat.row())))
                }
                Part::Team(team) => {
                    let row = self.teams.get(team).map(|rules| TeamRow { rules: rules.clone() });
                    (keys::team(site, *team), row.as_ref().map(proto::codec::encode))
                }
                Part::Lane(lane) => {
                    let row = self.lanes.get(lane).map(|lane| LaneRow {
                        need: lane.need.clone(),
                        front: lane.waiting.front,
                        queued: lane.waiting.queued,
                        spread: lane.spread.row(),
                    });
                    (keys::lane_facts(site, *lane), row.as_ref().map(proto::codec::encode))
                }
            });
        }
    }

    /// The checkpoint ended.
    pub(crate) fn saved(&mut self, written: bool) {
        self.changed.retain(|_, mark| {
            mark.end(written);
            !mark.is_clean()
        });
    }
}

impl Seat {
    fn of_row(row: SeatRow) -> Seat {
        let SeatRow { state, open, channels, last_turn, rules, offers, gone_ms } = row;
        let (channels, offers) = (channels.into_iter().collect(), offers.into_iter().collect());
        Seat { state, open, channels, last_turn, rules, offers, gone_ms }
    }

    fn row(&self) -> SeatRow {
        SeatRow {
            state: self.state,
            open: self.open,
            channels: self.channels.iter().map(|(channel, open)| (*channel, *open)).collect(),
            last_turn: self.last_turn,
            rules: self.rules.clone(),
            offers: self.offers.iter().copied().collect(),
            gone_ms: self.gone_ms,
        }
    }
}
