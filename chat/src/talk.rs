//! Owns counting what becomes of a conversation: how long it waits, is unanswered, and takes. Does not change it. Invariant: each figure is
//! counted when it is known, in the hour of that moment, for the team and the agent who have the conversation then.

use crate::apply::Work;
use crate::cache::Mark;
use crate::desk::EVERYBODY;
use crate::keys;
use crate::outcome::ApplyError;
use crate::rollup::{Scope, Tally};
use crate::rows::{self, Changes, OpenRow, RatedRow, Rows, SomeRow, TalkRow};
use crate::session::Session;
use proto::command::Party;
use proto::ids::{AgentId, SessionId, TeamId};

/// What is still to be counted of the last conversation; it has a row of its own.
#[derive(Default)]
pub(crate) struct Talk {
    row: TalkRow,
    mark: Mark,
}

impl Talk {
    pub(crate) fn load(rows: &dyn Rows, session: SessionId) -> Result<Talk, ApplyError> {
        let row: TalkRow = rows::read(rows, "talk", &keys::talk(session))?.unwrap_or_default();
        let TalkRow { waits, responses, from_visitors, from_agents, .. } = row;
        let some = [waits.count, waits.sum_ms, waits.max_ms, responses.count, responses.sum_ms, responses.max_ms];
        rows::counted("talk", &some)?;
        rows::counted("talk", &[from_visitors, from_agents])?;
        Ok(Talk { row, mark: Mark::Clean })
    }

    pub(crate) fn save(&mut self, session: SessionId, out: &mut Changes) {
        if self.mark.begin() {
            rows::save(out, keys::talk(session), &self.row);
        }
    }

    pub(crate) fn saved(&mut self, written: bool) {
        self.mark.end(written);
    }

    fn change(&mut self) -> &mut TalkRow {
        self.mark.touch();
        &mut self.row
    }

    /// Of whom a rating is now.
    pub(crate) fn rating_of(&self) -> (Option<TeamId>, Option<AgentId>) {
        let TalkRow { team, agent, rated, .. } = self.row;
        rated.map_or((agent.and(team), agent), |rated| (rated.team, rated.agent))
    }
}

impl SomeRow {
    fn add(&mut self, ms: u64) {
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(ms);
        self.max_ms = self.max_ms.max(ms);
    }
}

impl Session {
    /// Of the team and the agent who have the conversation; `None`: nobody has it.
    pub(crate) fn scope(&self, agent: Option<AgentId>) -> Scope {
        Scope::of(self.site, agent.and(self.talk.row.team), agent)
    }

    pub(crate) fn holder(&self) -> Option<AgentId> {
        self.open.and_then(|open| open.agent)
    }

    /// For whom the conversation waited, as far as the session knows.
    pub(crate) fn team_for(&self, open: &OpenRow) -> TeamId {
        self.team_of(Some(open)).unwrap_or(EVERYBODY)
    }

    /// The team of the open conversation, or of the last one.
    pub(crate) fn team(&self) -> Option<TeamId> {
        self.team_of(self.open.as_ref())
    }

    fn team_of(&self, open: Option<&OpenRow>) -> Option<TeamId> {
        self.talk.row.team.or(open.and_then(|open| open.team)).or(self.about.team)
    }

    pub(crate) fn count_begun(&mut self, work: &mut Work) {
        let now_ms = work.clock_ms;
        let (opened_ms, first_ms, waits_ms) = (now_ms, now_ms, now_ms);
        *self.talk.change() = TalkRow { opened_ms, first_ms, waits_ms, ..TalkRow::default() };
        work.tally(Scope::of(self.site, None, None), Tally::Opened);
    }

    /// A message was added. What it opened is counted before it.
    pub(crate) fn count_message(&mut self, work: &mut Work, from: Party) {
        let now_ms = work.clock_ms;
        let holder = self.holder();
        match from {
            Party::System => work.tally(self.scope(None), Tally::FromSystem),
            Party::Visitor => {
                let talk = self.talk.change();
                talk.from_visitors += 1;
                if talk.asked_ms == 0 {
                    talk.asked_ms = now_ms;
                }
                work.tally(self.scope(holder), Tally::FromVisitors(1));
            }
            Party::Agent(agent) => {
                let scope = self.scope(Some(agent));
                let talk = self.talk.change();
                talk.from_agents += 1;
                work.tally(scope, Tally::FromAgents(1));
                let (first_ms, asked_ms) = (std::mem::take(&mut talk.first_ms), std::mem::take(&mut talk.asked_ms));
                if first_ms > 0 {
                    talk.first_response_ms = Some(now_ms - first_ms);
                    work.tally(scope, Tally::FirstResponse(now_ms - first_ms));
                }
                if asked_ms > 0 {
                    talk.responses.add(now_ms - asked_ms);
                    work.tally(scope, Tally::Response(now_ms - asked_ms));
                }
            }
        }
    }

    /// The desk says for which team the conversation waited.
    pub(crate) fn note_team(&mut self, team: TeamId) {
        if self.talk.row.team != Some(team) {
            self.talk.change().team = Some(team);
        }
    }

    /// The open conversation goes to an agent.
    pub(crate) fn count_given(&mut self, work: &mut Work, open: &OpenRow, agent: AgentId) {
        let team = self.team_for(open);
        if let Some(before) = open.agent {
            work.tally(self.scope(Some(before)), Tally::Transferred);
        }
        let talk = self.talk.change();
        talk.team = Some(team);
        talk.agent = Some(agent);
        let waits_ms = std::mem::take(&mut talk.waits_ms);
        let waited = (waits_ms > 0).then(|| work.clock_ms - waits_ms);
        if let Some(ms) = waited {
            talk.waits.add(ms);
        }
        let scope = self.scope(Some(agent));
        work.tally(scope, Tally::Assigned);
        if let Some(ms) = waited {
            work.tally(scope, Tally::Wait(ms));
        }
    }

    /// An agent gave the conversation back, or it was taken from them.
    pub(crate) fn count_requeued(&mut self, work: &mut Work, before: AgentId) {
        work.tally(self.scope(Some(before)), Tally::Requeued);
        self.count_waits(work);
    }

    /// The conversation waits from now on.
    pub(crate) fn count_waits(&mut self, work: &Work) {
        self.talk.change().waits_ms = work.clock_ms;
    }

    pub(crate) fn count_reopened(&mut self, work: &mut Work, agent: AgentId) {
        let now_ms = work.clock_ms;
        let talk = self.talk.change();
        (talk.opened_ms, talk.waits_ms, talk.asked_ms) = (now_ms, now_ms, 0);
        work.tally(self.scope(Some(agent)), Tally::Reopened);
    }

    /// The open conversation was closed, which `had_it` had.
    pub(crate) fn count_closed(&mut self, work: &mut Work, open: &OpenRow, had_it: Option<AgentId>) {
        let row = self.talk.row;
        let lasted_ms = work.clock_ms.saturating_sub(row.opened_ms);
        let is_abandoned = had_it.is_none() && open.part == 0;
        let end = if is_abandoned { Tally::Abandoned(lasted_ms) } else { Tally::Resolution(lasted_ms) };
        let is_unanswered = !is_abandoned && row.first_ms > 0;
        let scope = self.scope(had_it);
        let label_scopes: Vec<Scope> = self.labels.iter().map(|label| work.label_scope(self.site, label)).collect();
        for scope in std::iter::once(scope).chain(label_scopes.iter().copied()) {
            work.tally(scope, Tally::Closed);
            if row.opened_ms > 0 {
                work.tally(scope, end);
            }
            if is_unanswered {
                work.tally(scope, Tally::Unanswered);
            }
        }
        for scope in label_scopes {
            work.tally(scope, Tally::FromVisitors(row.from_visitors));
            work.tally(scope, Tally::FromAgents(row.from_agents));
            work.tally(scope, Tally::Waits(row.waits));
            work.tally(scope, Tally::Responses(row.responses));
            if let Some(ms) = row.first_response_ms {
                work.tally(scope, Tally::FirstResponse(ms));
            }
        }
        let TalkRow { team, agent, rated, .. } = row;
        let first_ms = if is_unanswered { 0 } else { row.first_ms };
        *self.talk.change() = TalkRow { team, agent, rated, first_ms, ..TalkRow::default() };
    }

    pub(crate) fn count_labelled(&self, work: &mut Work, label: &str) {
        let scope = work.label_scope(self.site, label);
        work.tally(scope, Tally::Labelled);
        work.tally(Scope::of(self.site, None, None), Tally::Labelled);
    }

    /// The visitor rated the last conversation, perhaps once more: the last word counts.
    pub(crate) fn count_rated(&mut self, work: &mut Work, score: u8) {
        let rated = self.talk.row.rated;
        let (team, agent) = self.talk.rating_of();
        let rating = RatedRow { score, team, agent };
        let mut scopes = vec![Scope::of(self.site, rating.team, rating.agent)];
        scopes.extend(self.labels.iter().map(|label| work.label_scope(self.site, label)));
        for scope in scopes {
            if let Some(before) = rated {
                work.tally(scope, Tally::Score(before.score, -1));
            }
            work.tally(scope, Tally::Score(score, 1));
        }
        self.talk.change().rated = Some(rating);
    }
}
