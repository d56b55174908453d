//! Owns the stored form of the meta group's state. Does not change it. Invariant: layouts are frozen under their tags.

use crate::config::SHARDS_MAX;
use crate::raft::Halt;
use crate::tls::Authority;
use bincode::{Decode, Encode};
use proto::command::{AgentRole, IdentityMode, NodeAddress, NodeState, OnceAnswer, Role, SecretBytes, TokenHash};
use proto::email::EmailRules;
use proto::ids::{NodeId, ShardId, SiteId};
use proto::version::Versions;
use proto::webhook::WebhookRules;

/// What there is one of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ClusterRow {
    pub cluster: u128,
    pub shards: u32,
    pub admin_token: TokenHash,
    /// argon2id, PHC form.
    pub admin_password: String,
    pub next_node: u32,
    pub next_replica: u32,
    pub next_site: u32,
    pub next_agent: u64,
    pub next_webhook: u64,
    /// Version of commands and rows in force.
    pub version: u16,
}

impl ClusterRow {
    /// Refuses numbers that nobody counted: whoever goes on from them would overflow, or never end.
    pub(super) fn checked(self) -> Result<ClusterRow, Halt> {
        let numbers = [self.next_node, self.next_replica, self.next_site];
        let is_counted =
            numbers.into_iter().all(|next| next <= NUMBER_MAX) && self.next_agent.max(self.next_webhook) <= AGENT_MAX;
        match is_counted && self.shards <= SHARDS_MAX && self.version < u16::MAX {
            true => Ok(self),
            false => Err(Halt("the row of the cluster holds numbers that no cluster gets to".into())),
        }
    }
}

/// No number of a node, replica or site ever gets here: a machine that joined every second would need 68 years.
pub(super) const NUMBER_MAX: u32 = 1 << 31;
/// No number of an agent or webhook ever gets here.
pub(super) const AGENT_MAX: u64 = 1 << 62;

/// How version 1 stored a node: active, alive, in no zone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeRowV1 {
    pub address: NodeAddress,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeRow {
    pub address: NodeAddress,
    pub state: NodeState,
    /// The meta leader has not reached it for long.
    pub dead: bool,
    /// Empty: not said.
    pub zone: String,
}

impl From<NodeRowV1> for NodeRow {
    fn from(row: NodeRowV1) -> Self {
        NodeRow::new(row.address)
    }
}

impl NodeRow {
    pub fn new(address: NodeAddress) -> Self {
        NodeRow { address, state: NodeState::Active, dead: false, zone: String::new() }
    }

    /// New replicas may be put here, and it may lead.
    pub fn is_placeable(&self) -> bool {
        self.state == NodeState::Active && !self.dead
    }

    /// A replica here need not be replaced.
    pub fn is_good(&self) -> bool {
        matches!(self.state, NodeState::Active | NodeState::Draining) && !self.dead
    }
}

/// How version 1 stored a replica: it stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaRowV1 {
    pub shard: ShardId,
    pub node: NodeId,
    pub founder: bool,
    pub retired: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaRow {
    pub shard: ShardId,
    pub node: NodeId,
    /// The first of its group: initialises it.
    pub founder: bool,
    /// Lost its log or left: never votes again.
    pub retired: bool,
    /// Another one shall take its place.
    pub leaving: bool,
}

impl From<ReplicaRowV1> for ReplicaRow {
    fn from(row: ReplicaRowV1) -> Self {
        let ReplicaRowV1 { shard, node, founder, retired } = row;
        ReplicaRow { shard, node, founder, retired, leaving: false }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TokenRow {
    pub expires_ms: u64,
    /// The request that spent it, and the node it got.
    pub spent: Option<(u128, NodeId)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SiteRow {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AgentRow {
    pub site: SiteId,
    pub name: String,
    /// argon2id, PHC form.
    pub password: String,
    pub role: AgentRole,
}

/// See [`crate::tls::Authority`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AuthorityRow {
    pub certificate: Vec<u8>,
    pub key: SecretBytes,
}

impl AuthorityRow {
    pub fn authority(&self) -> Authority {
        Authority { certificate: self.certificate.clone(), key: self.key.0.clone() }
    }
}

/// Numbers of authorities: the newest that a node trusts, and the one that signed its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct TrustRow {
    pub trusts: u32,
    pub certified: u32,
}

/// Which versions the build of a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct VersionsRow {
    pub versions: Versions,
}

/// What a cluster was before it was recovered or restored; a cluster that was founded has no such row.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LineageRow {
    /// The id of the cluster that was founded: what operators call it, whatever became of it.
    pub name: u128,
    /// The ids that it had, oldest first.
    pub before: Vec<u128>,
    /// When it was started over, milliseconds since 1970.
    pub at_ms: u64,
    /// Out of a backup; else out of what its nodes had left.
    pub restored: bool,
}

/// A token for the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ApiTokenRow {
    pub name: String,
    pub role: Role,
    pub created_ms: u64,
    /// `None`: until it is revoked.
    pub expires_ms: Option<u64>,
}

/// A setting that somebody set.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SettingRow {
    pub value: String,
}

/// A key with which another system uses a site's API.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ApiKeyRow {
    pub site: SiteId,
    pub name: String,
    pub scopes: Vec<String>,
    pub created_ms: u64,
    /// `None`: until it is revoked.
    pub expires_ms: Option<u64>,
}

/// What holds for a whole site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct SiteConfigRow {
    /// What happened in closed conversations is erased after so many days; 0: never.
    pub retention_days: u32,
    pub identity: IdentityMode,
    /// What happened in closed conversations goes to the archive after so many days; 0: never.
    pub archive_days: u32,
    /// Files go to the archive so many hours after a message has named them; `None`: never.
    pub archive_files_hours: Option<u32>,
}

/// Whether and how a site writes e-mails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SiteEmailRow {
    pub rules: EmailRules,
}

/// The keys with which a site signs who its visitors are, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct IdentityKeysRow {
    pub keys: Vec<(String, SecretBytes)>,
}

/// Where events of a site go.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WebhookRow {
    pub site: SiteId,
    pub name: String,
    pub rules: WebhookRules,
}

/// What signs the deliveries of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct WebhookSecretRow {
    pub secret: SecretBytes,
    /// The one before, which signs too until then, milliseconds since 1970.
    pub before: Option<(SecretBytes, u64)>,
}

/// A write that may be repeated under one key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OnceRow {
    /// Hash over method, path and body.
    pub request: TokenHash,
    pub holder: u128,
    pub at_ms: u64,
    /// `None`: under way.
    pub answer: Option<OnceAnswer>,
}

proto::frozen!(
    ClusterRow = 60,
    NodeRowV1 = 61,
    ReplicaRowV1 = 62,
    TokenRow = 63,
    SiteRow = 64,
    AgentRow = 65,
    NodeRow = 66,
    ReplicaRow = 67,
    AuthorityRow = 68,
    TrustRow = 69,
    VersionsRow = 72,
    LineageRow = 90,
    ApiTokenRow = 100,
    SettingRow = 101,
    OnceRow = 102,
    WebhookRow = 104,
    WebhookSecretRow = 105,
    ApiKeyRow = 106,
    SiteConfigRow = 128,
    IdentityKeysRow = 129,
    SiteEmailRow = 148
);
