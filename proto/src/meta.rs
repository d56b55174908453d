//! Owns what the meta group logs: who is in the cluster, its tenants, people, keys and settings. Does not know how it is applied.
//! Invariant: enums grow only at their end, structs never change.

use crate::command::{SecretBytes, TokenHash};
use crate::email::EmailRules;
use crate::ids::{AgentId, NodeId, ReplicaId, ShardId, SiteId, WebhookId};
use crate::version::Versions;
use crate::webhook::WebhookRules;
use bincode::{Decode, Encode};

/// One raft entry of the meta group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MetaBatch {
    /// The leader's clock when it proposed, milliseconds since 1970.
    pub now_ms: u64,
    pub commands: Vec<MetaCommand>,
}

/// How to reach a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeAddress {
    /// `host:port` of the peer link.
    pub peer: String,
    /// `host:port` that clients use.
    pub client: String,
    /// `host:port` of the admin API.
    pub admin: String,
}

/// What the operator wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum NodeState {
    Active,
    /// Serves no clients and leads nothing, but keeps its replicas.
    Draining,
    /// Drained, and its replicas move elsewhere; then it is removed.
    Leaving,
    /// Never comes back under this id.
    Removed,
}

/// What the meta group's replicas apply.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MetaCommand {
    /// The first entry of a cluster.
    Bootstrap { cluster: u128, shards: u32, address: NodeAddress, admin_token: TokenHash, admin_password: String },
    /// Stores the hash of a single-use join token.
    CreateJoinToken { token: TokenHash, expires_ms: u64 },
    /// Spends the token and allots a node id. `request` makes a retry get the same id.
    Join { token: TokenHash, request: u128, address: NodeAddress },
    /// A node came back with other addresses.
    MoveNode { node: NodeId, address: NodeAddress },
    /// Allots a replica id of `shard` on `node`; refused while the node holds a live one of that shard.
    AddReplica { shard: ShardId, node: NodeId },
    /// The replica takes part in the shard's quorum.
    SetVoter { replica: ReplicaId },
    /// The replica lost its log or left: it never votes again under this id.
    RetireReplica { replica: ReplicaId },
    /// A tenant. Idempotent by name.
    AddSite { name: String },
    /// A human seat; `password` is an argon2id hash in PHC form. The same name again sets the password.
    AddAgent { site: String, name: String, password: String },
    /// What the operator wants of a node. Refused where replicas would have nowhere to go.
    SetNodeState { node: NodeId, state: NodeState },
    /// The meta leader has not reached the node for long, or reaches it again.
    SetNodeDead { node: NodeId, dead: bool },
    /// Where a node stands: replicas of a group are spread over zones.
    SetNodeZone { node: NodeId, zone: String },
    /// Retires a replica that good ones have replaced; refused while the group's plan still needs it.
    RetireExcess { replica: ReplicaId },
    /// A new replica on `to` shall take the place of this one.
    MoveReplica { replica: ReplicaId, to: NodeId },
    /// A certificate authority of the cluster (X.509 and PKCS#8, DER): the newest signs, all are trusted. Refused while one
    /// takes another's place.
    AddAuthority { certificate: Vec<u8>, key: SecretBytes },
    /// Ends the trust in all but the newest authority; refused while a member has a certificate of another.
    DropAuthorities,
    /// The newest authority that a node trusts, and the one that signed its certificate.
    SetNodeTrust { node: NodeId, trusts: u32, certified: u32 },
    /// Which versions the build speaks that runs on a node.
    SetNodeVersions { node: NodeId, versions: Versions },
    /// Puts a version in force, for ever; refused while a member does not speak it.
    Finalize { version: u16 },
    /// Stores the hash of a token for the admin API. Refused while another token has the name.
    CreateApiToken { token: TokenHash, name: String, role: Role, expires_ms: Option<u64> },
    /// The token of that name is good no longer. Idempotent.
    RevokeApiToken { name: String },
    /// Sets a setting of the cluster; without a value it is as if it had never been set.
    SetSetting { name: String, value: Option<String> },
    /// Before a write that a client may repeat under the same key. `holder` is drawn once per try.
    BeginOnce { key: TokenHash, request: TokenHash, holder: u128 },
    /// What that write was answered; without an answer the key is free again.
    EndOnce { key: TokenHash, holder: u128, answer: Option<OnceAnswer> },
    /// Sets what an agent may do beside their own conversations. Idempotent.
    SetAgentRole { agent: AgentId, role: AgentRole },
    /// Makes a webhook of the site, or changes the one of that name. `secret`: of a new one.
    PutWebhook { site: SiteId, name: String, rules: WebhookRules, secret: SecretBytes },
    /// Another secret signs what is delivered; the one before does so, too, until then in milliseconds since 1970.
    SetWebhookSecret { webhook: WebhookId, secret: SecretBytes, before_until_ms: u64 },
    /// Idempotent.
    RemoveWebhook { webhook: WebhookId },
    /// Stores the hash of a key for a site's API. Refused while another key of the site has the name.
    CreateApiKey { key: TokenHash, site: SiteId, name: String, scopes: Vec<String>, expires_ms: Option<u64> },
    /// The key of that name is good no longer. Idempotent.
    RevokeApiKey { site: SiteId, name: String },
    /// Changes what holds for a whole site.
    ConfigureSite { site: SiteId, change: SiteChange },
}

/// What changes at a site.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SiteChange {
    /// What happened in closed conversations is erased after so many days; 0: never.
    Retention { days: u32 },
    /// How visitors say who they are.
    Identity { mode: IdentityMode },
    /// A key with which the site signs who its visitors are; without a secret it is good no longer. There are two at most.
    IdentityKey { name: String, secret: Option<SecretBytes> },
    /// What happened in closed conversations goes to the archive after so many days; 0: never.
    Archive { days: u32 },
    /// Whether and how the site writes e-mails.
    Email { rules: EmailRules },
    /// Files go to the archive so many hours after a message has named them; `None`: never.
    ArchiveFiles { hours: Option<u32> },
}

/// How visitors say who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub enum IdentityMode {
    /// They do not, or prove it.
    #[default]
    Optional,
    /// Nothing is taken from those who do not prove it.
    Required,
}

/// What an agent of a site may do; each may do what the ones before may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum AgentRole {
    /// Reads the site's conversations, and has none.
    Viewer,
    /// Has conversations.
    #[default]
    Agent,
    /// Follows and takes over the conversations of others.
    Supervisor,
    /// Sets the rules of the site.
    Admin,
    /// Says who is admin.
    Owner,
}

/// What the bearer of a token may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Runs the cluster and its conversations.
    Operator,
    /// Everything, tokens included.
    Admin,
}

/// The answer that a repeated write gets. Without a body it held a secret, which is told once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct OnceAnswer {
    pub status: u16,
    pub body: Option<String>,
}

/// What is known of a key when a write begins.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum OnceState {
    /// Nobody has it: go on.
    Go,
    /// A request with it is under way.
    Held,
    /// It was used for another request.
    Other,
    Answered(OnceAnswer),
}

crate::frozen!(MetaBatch = 3,);
