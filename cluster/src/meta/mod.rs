//! Owns the meta group: nodes, replicas, join tokens, sites, accounts. Does not hold anything per session.
//! Invariant: a replica id, once allotted, never names another replica.

mod machine;
mod plan;
mod rows;
mod start_over;
mod state;
mod trust;
mod versions;

pub use machine::MetaMachine;
pub use plan::{GroupPlan, missing_replicas, next_move, preferred_leaders, replicas_on};
pub use rows::{
    AgentRow, AuthorityRow, ClusterRow, LineageRow, NodeRow, NodeRowV1, ReplicaRow, ReplicaRowV1, SiteRow, TokenRow,
    TrustRow, VersionsRow,
};
pub use start_over::Fresh;
pub use state::{MetaState, SECRET_KINDS};
