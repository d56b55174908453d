//! Owns the rules that are set from outside: what is refused, and what follows for those who wait. Does not keep their history.
//! Invariant: what was set is served by the next command.

use super::work::At;
use super::{EVERYBODY, Part};
use crate::apply::Shard;
use crate::journal::Note;
use crate::limits::{
    ACCEPT_MS_MAX, CHANNEL_MAX, DATE_MAX, DAY_MINUTES, FACTS_MAX, HOURS_MAX, NAME_BYTES_MAX, OPEN_MAX_PER_AGENT,
    ROUTES_PER_SITE_MAX, SKILLS_MAX, TEAMS_PER_SEAT_MAX, TEAMS_PER_SITE_MAX,
};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::Rows;
use proto::desk::{Day, Hours, SeatRules, SiteRules, Stretch, TeamRules, Test};
use proto::ids::{AgentId, SiteId, TeamId};

/// The rules of a seat for which none were set.
pub(crate) const SEAT_DEFAULT: SeatRules =
    SeatRules { capacity: OPEN_MAX_PER_AGENT, channels: Vec::new(), teams: Vec::new(), skills: Vec::new() };

impl Shard {
    pub(crate) fn desk_put_team(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        team: TeamId,
        rules: Option<TeamRules>,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        if let Some(what) = fault_of_team(team, rules.as_ref()) {
            return Ok(Reply::Rejected(Refusal::RulesInvalid(what)));
        }
        if rules.is_some() && !at.desk.teams.contains_key(&team) && at.desk.teams.len() >= TEAMS_PER_SITE_MAX {
            return Ok(Reply::Rejected(Refusal::LimitReached("TEAMS_PER_SITE_MAX")));
        }
        at.note_rules(&(0_u8, team, &rules));
        let desk = at.desk.change();
        match rules {
            Some(rules) => desk.teams.insert(team, rules),
            None => {
                desk.paces.remove(&team);
                desk.teams.remove(&team)
            }
        };
        desk.touch(Part::Team(team));
        desk.list_all();
        at.serve_all()?;
        Ok(Reply::Done)
    }

    pub(crate) fn desk_put_seat(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        agent: AgentId,
        rules: SeatRules,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        if let Some(what) = fault_of_seat(&rules) {
            return Ok(Reply::Rejected(Refusal::RulesInvalid(what)));
        }
        if !at.desk.seats.contains_key(&agent) && !at.desk.change().make_room() {
            return Ok(Reply::Rejected(Refusal::LimitReached("AGENTS_PER_SITE_MAX")));
        }
        at.note_rules(&(1_u8, agent, &rules));
        at.desk.change().change_seat(agent, |seat| seat.rules = rules);
        at.serve(agent)?;
        Ok(Reply::Done)
    }

    pub(crate) fn desk_put_site(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        rules: SiteRules,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        if let Some(what) = fault_of_site(&rules) {
            return Ok(Reply::Rejected(Refusal::RulesInvalid(what)));
        }
        at.note_rules(&(2_u8, &rules));
        let has_hours = rules.hours.is_some();
        at.desk.change().rules = rules;
        let gone: Vec<AgentId> = at
            .desk
            .seats
            .iter()
            .filter(|(_, seat)| seat.gone_ms > 0 && seat.open > 0)
            .map(|(agent, _)| *agent)
            .collect();
        gone.into_iter().for_each(|agent| at.watch_absence(agent));
        // Hours that were set are looked at by the leader in a moment.
        if has_hours { Ok(Reply::Done) } else { at.open_or_close(None) }
    }

    /// The leader's calendar says so.
    pub(crate) fn desk_hours(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        closed: Option<u64>,
    ) -> Result<Reply, ApplyError> {
        let mut at = self.at_desk(rows, site)?;
        // It may have looked at hours that are in force no longer.
        let closed = closed.filter(|_| at.desk.rules.hours.is_some());
        at.open_or_close(closed)
    }
}

impl At<'_> {
    fn open_or_close(&mut self, closed: Option<u64>) -> Result<Reply, ApplyError> {
        if self.desk.closed != closed {
            let until_ms = closed.unwrap_or(u64::MAX);
            self.work.journal.note(Note::Hours, &[u64::from(self.site.0), until_ms]);
            self.desk.change().closed = closed;
            self.serve_all()?;
        }
        Ok(Reply::Done)
    }

    fn note_rules(&mut self, rules: &impl bincode::Encode) {
        self.work.journal.note_bytes(Note::Rules, u64::from(self.site.0), &proto::codec::encode_bare(rules));
    }
}

/// What is wrong with the rules of a team; `None`: nothing.
pub fn fault_of_team(team: TeamId, rules: Option<&TeamRules>) -> Option<&'static str> {
    if !(EVERYBODY.0 + 1..u32::MAX).contains(&team.0) {
        return Some("a team's number");
    }
    let rules = rules?;
    if !is_name(&rules.name) {
        return Some("a team's name");
    }
    (rules.accept_ms > ACCEPT_MS_MAX).then_some("a team's time to accept")
}

/// What is wrong with the rules of a seat; `None`: nothing.
pub fn fault_of_seat(rules: &SeatRules) -> Option<&'static str> {
    if rules.capacity > OPEN_MAX_PER_AGENT {
        return Some("a seat's capacity");
    }
    if !ascends(&rules.channels, |(channel, _)| *channel) || rules.channels.iter().any(|(of, _)| of.0 > CHANNEL_MAX) {
        return Some("a seat's channels");
    }
    let is_team = |team: &TeamId| (EVERYBODY.0 + 1..u32::MAX).contains(&team.0);
    if !ascends(&rules.teams, |team| *team)
        || rules.teams.len() > TEAMS_PER_SEAT_MAX
        || !rules.teams.iter().all(is_team)
    {
        return Some("a seat's teams");
    }
    (!are_skills(&rules.skills)).then_some("a seat's skills")
}

/// What is wrong with the rules of a site; `None`: nothing.
pub fn fault_of_site(rules: &SiteRules) -> Option<&'static str> {
    if rules.routes.len() > ROUTES_PER_SITE_MAX {
        return Some("routes: there are too many");
    }
    for when in rules.routes.iter().flat_map(|route| &route.when) {
        let good = match &when.test {
            Test::Is(any) => {
                ascends(any, String::as_str) && any.len() <= FACTS_MAX && any.iter().all(|value| is_name(value))
            }
            Test::StartsWith(part) | Test::Contains(part) => is_name(part),
        };
        if !good || !is_name(&when.fact) {
            return Some("a route's condition");
        }
    }
    if let Some(fault) = rules.hours.as_ref().and_then(fault_of_hours) {
        return Some(fault);
    }
    if rules.routes.iter().any(|route| route.when.len() > FACTS_MAX) {
        return Some("a route has too many conditions");
    }
    rules.routes.iter().any(|route| !are_skills(&route.skills)).then_some("a route's skills")
}

/// What is wrong with the hours of a site, but for the name of its zone; `None`: nothing.
fn fault_of_hours(hours: &Hours) -> Option<&'static str> {
    let follow = |stretches: &[Stretch]| {
        stretches.iter().all(|one| one.from < one.to && one.to <= DAY_MINUTES)
            && stretches.windows(2).all(|pair| pair[0].to < pair[1].from)
    };
    let of_day = |day: u8| -> Vec<Stretch> {
        hours.week.iter().filter(|(of, _)| of.0 == day).map(|(_, stretch)| *stretch).collect()
    };
    let is_date = |date: u32| (1..=12).contains(&(date / 100 % 100)) && (1..=31).contains(&(date % 100));
    match () {
        () if !is_name(&hours.zone) => Some("the hours' zone"),
        () if hours.week.len() + hours.days.iter().map(|day| 1 + day.open.len()).sum::<usize>() > HOURS_MAX => {
            Some("the hours: there are too many")
        }
        () if !ascends(&hours.week, |entry| *entry) || hours.week.iter().any(|(day, _)| day.0 > 6) => {
            Some("the hours' week")
        }
        () if !(0..7).all(|day| follow(&of_day(day))) => Some("the hours' week"),
        () if !ascends(&hours.days, |day| day.date) => Some("the hours' days"),
        () => {
            let good = |day: &Day| is_date(day.date) && day.date <= DATE_MAX && follow(&day.open);
            (!hours.days.iter().all(good)).then_some("the hours' days")
        }
    }
}

fn are_skills(skills: &[String]) -> bool {
    ascends(skills, String::as_str) && skills.len() <= SKILLS_MAX && skills.iter().all(|skill| is_name(skill))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

/// Whether a list ascends without doubles.
fn ascends<'a, T, K: Ord + 'a>(list: &'a [T], key: impl Fn(&'a T) -> K) -> bool {
    list.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]))
}
