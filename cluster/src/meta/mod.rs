//! Owns the meta group: nodes, replicas, tokens, sites, accounts, settings. Does not hold anything per session.
//! Invariant: a replica id, once allotted, never names another replica.

mod access;
mod api_keys;
mod machine;
mod plan;
mod rows;
mod site_config;
mod start_over;
mod state;
mod stored;
mod trust;
mod versions;
mod webhooks;

pub use access::ONCE_BODY_BYTES_MAX;
pub use machine::MetaMachine;
pub use plan::{GroupPlan, missing_replicas, next_move, preferred_leaders, replicas_on};
pub use rows::{
    AgentRow, ApiKeyRow, ApiTokenRow, AuthorityRow, ClusterRow, IdentityKeysRow, LineageRow, NodeRow, NodeRowV1,
    OnceRow, ReplicaRow, ReplicaRowV1, SettingRow, SiteConfigRow, SiteEmailRow, SiteRow, TokenRow, TrustRow,
    VersionsRow, WebhookRow, WebhookSecretRow,
};
pub use start_over::Fresh;
pub use state::{MetaState, SECRET_KINDS};
