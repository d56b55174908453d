//! Owns who may do what at a site. Does not find out who asks: the guard does. Invariant: what is not allowed by name is denied.

use crate::audit::Actor;
use proto::command::{AgentRole, Party, TokenHash};
use proto::ids::{AgentId, SiteId};

/// What a key may be good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    ReadConversations,
    WriteConversations,
    ReadDesk,
    WriteDesk,
    ReadEvents,
    ReadPeople,
    WritePeople,
    ReadWebhooks,
    WriteWebhooks,
    /// Erases what is known of visitors.
    ErasePeople,
    ReadAudit,
    ReadReports,
    /// No key has it.
    Nothing,
}

/// Every scope that a key may have, by its name.
pub const SCOPES: [(Scope, &str); 12] = [
    (Scope::ReadConversations, "conversations:read"),
    (Scope::WriteConversations, "conversations:write"),
    (Scope::ReadDesk, "desk:read"),
    (Scope::WriteDesk, "desk:write"),
    (Scope::ReadEvents, "events:read"),
    (Scope::ReadPeople, "people:read"),
    (Scope::WritePeople, "people:write"),
    (Scope::ReadWebhooks, "webhooks:read"),
    (Scope::WriteWebhooks, "webhooks:write"),
    (Scope::ErasePeople, "visitors:erase"),
    (Scope::ReadAudit, "audit:read"),
    (Scope::ReadReports, "reports:read"),
];

impl Scope {
    /// `None`: no key has it.
    pub fn name(self) -> Option<&'static str> {
        SCOPES.iter().find(|(scope, _)| *scope == self).map(|(_, name)| *name)
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The least role of an agent; `None`: for keys only.
    pub role: Option<AgentRole>,
    /// Of a key.
    pub scope: Scope,
    /// Not of the role agent, though more than the least.
    pub but_agents: bool,
}

impl Access {
    pub fn new(role: AgentRole, scope: Scope) -> Access {
        Access { role: Some(role), scope, but_agents: false }
    }

    /// For whoever has conversations it is not, unless they also follow those of others.
    pub fn but_agents(self) -> Access {
        Access { but_agents: true, ..self }
    }

    /// The least role, for people.
    pub fn role_text(self) -> String {
        let but = if self.but_agents { ", not agent" } else { "" };
        self.role.map_or("-".to_owned(), |role| format!("{}{but}", role_name(role)))
    }

    pub fn allows(self, who: &Who) -> bool {
        match who {
            Who::Agent { role, .. } => {
                let is_out = self.but_agents && *role == AgentRole::Agent;
                self.role.is_some_and(|least| *role >= least && !is_out)
            }
            Who::Key { scopes, .. } => self.scope.name().is_some_and(|name| scopes.iter().any(|scope| scope == name)),
        }
    }

    /// For people.
    pub fn sentence(self) -> String {
        let but = if self.but_agents { ", but not agent" } else { "" };
        let least = |role| format!("an agent who is at least {}{but}", role_name(role));
        let role = self.role.map_or("no agent".to_owned(), least);
        let key = self.scope.name().map_or("no key".to_owned(), |name| format!("a key with {name}"));
        format!("For {role}, and for {key}.")
    }
}

/// As it stands in documents and bodies.
pub fn role_name(role: AgentRole) -> &'static str {
    match role {
        AgentRole::Viewer => "viewer",
        AgentRole::Agent => "agent",
        AgentRole::Supervisor => "supervisor",
        AgentRole::Admin => "admin",
        AgentRole::Owner => "owner",
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Agent { agent: AgentId, role: AgentRole },
    Key { name: String, scopes: Vec<String> },
}

/// Who asks, and whose desk it is about.
#[derive(Debug, Clone)]
pub struct Caller {
    pub site: SiteId,
    pub who: Who,
    /// Tells one credential from another.
    pub hash: TokenHash,
}

impl Caller {
    /// In whose name something is done in a session.
    pub fn party(&self) -> Party {
        match self.who {
            Who::Agent { agent, .. } => Party::Agent(agent),
            Who::Key { .. } => Party::System,
        }
    }

    /// As the audit log says it.
    pub fn actor(&self) -> Actor {
        let (who, role) = match &self.who {
            Who::Agent { agent, role } => (format!("agent:{agent}"), role_name(*role)),
            Who::Key { name, .. } => (format!("key:{name}"), "key"),
        };
        Actor { chain: self.site, who, role }
    }

    /// An agent's role; a key has that of a supervisor where its scopes let it in at all.
    pub fn role(&self) -> AgentRole {
        match self.who {
            Who::Agent { role, .. } => role,
            Who::Key { .. } => AgentRole::Supervisor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_those_below_and_a_key_only_what_it_names() {
        let access = Access::new(AgentRole::Supervisor, Scope::ReadEvents);
        let agent = |role| Who::Agent { agent: AgentId(1), role };
        let key = |scopes: &[&str]| Who::Key {
            name: "k".into(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        };
        assert!(!access.allows(&agent(AgentRole::Agent)) && access.allows(&agent(AgentRole::Owner)));
        assert!(access.allows(&key(&["desk:read", "events:read"])));
        for scopes in [&[][..], &["events"], &["events:write"], &["*"], &["events:read "], &["EVENTS:READ"]] {
            assert!(!access.allows(&key(scopes)), "{scopes:?}");
        }
        let people = Access::new(AgentRole::Owner, Scope::Nothing);
        let all: Vec<&str> = SCOPES.iter().map(|(_, name)| *name).collect();
        assert!(!people.allows(&key(&all)) && people.allows(&agent(AgentRole::Owner)));
        assert!(!Access { role: None, scope: Scope::ReadDesk, but_agents: false }.allows(&agent(AgentRole::Owner)));
    }
}
