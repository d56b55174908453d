//! Owns knowing what a command would count, before it is applied. Does not count. Invariant: when it says that all of that is in memory, counting
//! reads no row.

use crate::apply::Shard;
use crate::rollup::Scope;
use crate::session::Session;
use proto::act::Act;
use proto::command::{Command, Mail, Party};
use proto::ids::{AgentId, SessionId, TeamId};

impl Shard {
    /// Whether the roll-ups that the command changes are in memory.
    pub(crate) fn is_count_warm(&self, command: &Command) -> bool {
        match command {
            Command::Send { session, from, .. } => self.of_session(session, |known| self.is_message_warm(known, *from)),
            Command::Act { session, from, act, .. } => {
                self.of_session(session, |known| self.is_act_warm(known, *from, act))
            }
            Command::Close { session, .. } | Command::CloseSeen { session, .. } => {
                self.of_session(session, |known| self.is_close_warm(known))
            }
            Command::Reassign { session, agent } | Command::ReassignSeen { session, agent, .. } => {
                self.of_session(session, |known| self.is_given_warm(known, *agent, None))
            }
            Command::Release { session, .. } => {
                self.of_session(session, |known| self.is_rollup_warm(known.scope(known.holder()), []))
            }
            Command::AgentPresence { agent, .. } | Command::AgentState { agent, .. } => self.is_stint_warm(*agent),
            Command::Inbox { message, .. } => self.is_mail_warm(message),
            _ => true,
        }
    }

    fn of_session(&self, session: &SessionId, is_warm: impl FnOnce(&Session) -> bool) -> bool {
        self.sessions.peek(session).is_some_and(is_warm)
    }

    fn is_message_warm(&self, known: &Session, from: Party) -> bool {
        match from {
            Party::Visitor => self.is_rollup_warm(known.scope(known.holder()), []),
            // Who does not have the conversation is refused.
            Party::Agent(agent) => known.holder() != Some(agent) || self.is_rollup_warm(known.scope(Some(agent)), []),
            Party::System => self.is_rollup_warm(known.scope(None), []),
        }
    }

    fn is_act_warm(&self, known: &Session, from: Party, act: &Act) -> bool {
        match (act, from) {
            (Act::Label { label, .. }, _) => self.is_rollup_warm(known.scope(None), [label]),
            (Act::Rate { .. }, _) => {
                let (team, agent) = known.talk.rating_of();
                self.is_rollup_warm(Scope::of(known.site, team, agent), &known.labels)
            }
            (Act::Reopen { .. }, Party::Agent(agent)) => self.is_rollup_warm(known.scope(Some(agent)), []),
            _ => true,
        }
    }

    fn is_close_warm(&self, known: &Session) -> bool {
        known.open.is_none_or(|open| self.is_rollup_warm(known.scope(open.had_by()), &known.labels))
    }

    fn is_given_warm(&self, known: &Session, agent: AgentId, team: Option<TeamId>) -> bool {
        let Some(open) = known.open else { return true };
        let team = team.unwrap_or_else(|| known.team_for(&open));
        self.is_rollup_warm(Scope::of(known.site, Some(team), Some(agent)), [])
            && self.is_rollup_warm(known.scope(open.agent), [])
    }

    fn is_mail_warm(&self, mail: &Mail) -> bool {
        match mail {
            Mail::Assign { session, agent, team, .. } => {
                self.of_session(session, |known| self.is_given_warm(known, *agent, Some(*team)))
            }
            Mail::Handed { session, agent, .. } => {
                self.of_session(session, |known| self.is_given_warm(known, *agent, None))
            }
            Mail::Release { session, .. } => {
                self.of_session(session, |known| self.is_rollup_warm(known.scope(known.holder()), []))
            }
            Mail::Want { site, session, ask, .. } => self
                .desks
                .peek(site)
                .is_some_and(|desk| self.is_rollup_warm(Scope::of_team(*site, desk.need(ask, *session).team), [])),
            Mail::Done { site, session, .. } => match self.wants.peek(&(*site, *session)) {
                Some(Some(want)) => self.is_rollup_warm(Scope::of_team(*site, want.need.team), []),
                Some(None) => true,
                None => false,
            },
            Mail::Assigned { agent, .. } | Mail::Unassigned { agent, .. } | Mail::Withdrawn { agent, .. } => {
                self.is_stint_warm(*agent)
            }
            _ => true,
        }
    }
}
