//! Owns the meta group's rules: pure and deterministic. Does not do I/O. Invariant: a refused command changes nothing.

use super::plan::{GroupPlan, REPLICATION};
use super::rows::{
    AgentRow, ApiKeyRow, ApiTokenRow, AuthorityRow, ClusterRow, IdentityKeysRow, LineageRow, NodeRow, OnceRow,
    ReplicaRow, SettingRow, SiteConfigRow, SiteEmailRow, SiteRow, TokenRow, TrustRow, WebhookRow, WebhookSecretRow,
};
use super::stored::{agent_key, node_key, replica_key, site_key, token_key};
use crate::config::SHARDS_MAX;
use proto::command::{MetaCommand, NodeAddress, NodeState, TokenHash};
use proto::ids::{AgentId, META_SHARD, NodeId, ReplicaId, ShardId, SiteId, WebhookId};
use proto::peer::MetaReply;
use proto::version::Versions;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes of one cluster.
const NODES_MAX: usize = 64;
/// Unspent and spent join tokens that are remembered.
const TOKENS_MAX: usize = 1_000;
/// Sites of one cluster.
const SITES_MAX: usize = 10_000;
/// Agents of one cluster.
const AGENTS_MAX: usize = 100_000;
/// Longest name of a site or agent, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The site of a fresh cluster.
const FIRST_SITE: &str = "demo";

/// Kinds of rows, the first byte of their keys, that hold secrets in plain form. No backup has them: a cluster that is restored
/// makes its own, and the copy of a cluster does not speak in its name.
pub const SECRET_KINDS: &[u8] = b"KXI";

/// The whole state; small enough to stay in memory.
#[derive(Debug, Default, Clone)]
pub struct MetaState {
    pub cluster: Option<ClusterRow>,
    pub nodes: BTreeMap<NodeId, NodeRow>,
    pub replicas: BTreeMap<ReplicaId, ReplicaRow>,
    pub tokens: BTreeMap<TokenHash, TokenRow>,
    pub sites: BTreeMap<SiteId, SiteRow>,
    /// Of sites that changed something.
    pub site_configs: BTreeMap<SiteId, SiteConfigRow>,
    pub identity_keys: BTreeMap<SiteId, IdentityKeysRow>,
    pub site_emails: BTreeMap<SiteId, SiteEmailRow>,
    pub agents: BTreeMap<AgentId, AgentRow>,
    pub api_tokens: BTreeMap<TokenHash, ApiTokenRow>,
    pub api_keys: BTreeMap<TokenHash, ApiKeyRow>,
    pub settings: BTreeMap<String, SettingRow>,
    pub webhooks: BTreeMap<WebhookId, WebhookRow>,
    /// A webhook without one delivers nothing.
    pub webhook_secrets: BTreeMap<WebhookId, WebhookSecretRow>,
    pub(super) once: BTreeMap<TokenHash, OnceRow>,
    pub lineage: Option<LineageRow>,
    /// By number, which is never used again: the last is the newest.
    pub authorities: BTreeMap<u32, AuthorityRow>,
    pub trust: BTreeMap<NodeId, TrustRow>,
    pub versions: BTreeMap<NodeId, Versions>,
    pub(super) dirty: BTreeSet<Vec<u8>>,
}

pub(super) fn refused(reason: &str) -> MetaReply {
    MetaReply::Refused { reason: reason.to_string() }
}

/// Letters, digits and what harms nowhere. Not dots alone: in a path they are a step up, and clients leave them out.
pub(super) fn good_name(name: &str) -> bool {
    !name.chars().all(|c| c == '.')
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@'))
}

impl MetaState {
    pub fn apply(&mut self, now_ms: u64, command: MetaCommand) -> MetaReply {
        match command {
            MetaCommand::Bootstrap { shards, .. } if shards > SHARDS_MAX => refused("a cluster has at most 64 shards"),
            MetaCommand::Bootstrap { cluster, shards, address, admin_token, admin_password } => {
                self.bootstrap(cluster, shards, address, admin_token, admin_password)
            }
            MetaCommand::CreateJoinToken { token, expires_ms } => self.create_token(now_ms, token, expires_ms),
            MetaCommand::Join { token, request, address } => self.join(now_ms, token, request, address),
            MetaCommand::MoveNode { node, address } => self.change_node(node, |row| row.address = address),
            MetaCommand::AddReplica { shard, node } => self.add_replica(shard, node),
            MetaCommand::SetVoter { .. } => refused("voters follow from the replicas"),
            MetaCommand::RetireReplica { replica } => self.retire(replica),
            MetaCommand::AddSite { name } => self.add_site(&name),
            MetaCommand::AddAgent { site, name, password } => self.add_agent(&site, name, password),
            MetaCommand::SetNodeState { node, state } => self.set_node_state(node, state),
            MetaCommand::SetNodeDead { node, dead } => self.change_node(node, |row| row.dead = dead),
            MetaCommand::SetNodeZone { node, zone } if zone.len() <= NAME_BYTES_MAX => {
                self.change_node(node, |row| row.zone = zone)
            }
            MetaCommand::SetNodeZone { .. } => refused("a zone's name has at most 64 bytes"),
            MetaCommand::RetireExcess { replica } => self.retire_excess(replica),
            MetaCommand::MoveReplica { replica, to } => self.move_replica(replica, to),
            MetaCommand::AddAuthority { certificate, key } => self.add_authority(certificate, key),
            MetaCommand::DropAuthorities => self.drop_authorities(),
            MetaCommand::SetNodeVersions { node, versions } => self.set_versions(node, versions),
            MetaCommand::Finalize { version } => self.finalize(version),
            MetaCommand::SetNodeTrust { node, trusts, certified } => self.set_trust(node, trusts, certified),
            MetaCommand::CreateApiToken { token, name, role, expires_ms } => {
                self.create_api_token(token, ApiTokenRow { name, role, created_ms: now_ms, expires_ms })
            }
            MetaCommand::RevokeApiToken { name } => self.revoke_api_token(&name),
            MetaCommand::SetSetting { name, value } => self.set_setting(name, value),
            MetaCommand::BeginOnce { key, request, holder } => self.begin_once(now_ms, key, request, holder),
            MetaCommand::EndOnce { key, holder, answer } => self.end_once(key, holder, answer),
            MetaCommand::SetAgentRole { agent, role } => self.set_agent_role(agent, role),
            MetaCommand::PutWebhook { site, name, rules, secret } => self.put_webhook(site, name, rules, secret),
            MetaCommand::SetWebhookSecret { webhook, secret, before_until_ms } => {
                self.set_webhook_secret(webhook, secret, before_until_ms)
            }
            MetaCommand::RemoveWebhook { webhook } => self.remove_webhook(webhook),
            MetaCommand::CreateApiKey { key, site, name, scopes, expires_ms } => {
                self.create_api_key(key, ApiKeyRow { site, name, scopes, created_ms: now_ms, expires_ms })
            }
            MetaCommand::RevokeApiKey { site, name } => self.revoke_api_key(site, &name),
            MetaCommand::ConfigureSite { site, change } => self.configure_site(site, change),
        }
    }

    fn bootstrap(
        &mut self,
        cluster: u128,
        shards: u32,
        address: NodeAddress,
        admin_token: TokenHash,
        admin_password: String,
    ) -> MetaReply {
        if let Some(row) = &self.cluster {
            return if row.cluster == cluster { MetaReply::Done } else { refused("the cluster exists already") };
        }
        let node = NodeId(1);
        self.cluster = Some(ClusterRow {
            cluster,
            shards,
            admin_token,
            admin_password,
            next_node: 2,
            next_replica: 1,
            next_site: 1,
            next_agent: 1,
            next_webhook: 1,
            version: 1,
        });
        self.put_node(node, address);
        for shard in 0..=shards {
            self.new_replica(ShardId(shard), node, true);
        }
        self.add_site(FIRST_SITE);
        MetaReply::Done
    }

    fn create_token(&mut self, now_ms: u64, token: TokenHash, expires_ms: u64) -> MetaReply {
        let gone: Vec<TokenHash> = self
            .tokens
            .iter()
            .filter(|(_, row)| row.spent.is_none() && row.expires_ms <= now_ms)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in gone {
            self.tokens.remove(&hash);
            self.dirty.insert(token_key(&hash));
        }
        if self.tokens.len() >= TOKENS_MAX {
            return refused("too many join tokens are open");
        }
        self.tokens.insert(token, TokenRow { expires_ms, spent: None });
        self.dirty.insert(token_key(&token));
        MetaReply::Done
    }

    fn join(&mut self, now_ms: u64, token: TokenHash, request: u128, address: NodeAddress) -> MetaReply {
        let members = self.members().count();
        let Some(cluster) = &mut self.cluster else { return refused("the cluster is not set up yet") };
        let shards = cluster.shards;
        let Some(row) = self.tokens.get_mut(&token) else { return refused("unknown join token") };
        match row.spent {
            Some((spender, node)) if spender == request => return MetaReply::Node { node, shards },
            Some(_) => return refused("this join token was used already"),
            None if row.expires_ms <= now_ms => return refused("this join token has expired"),
            None => {}
        }
        if members >= NODES_MAX {
            return refused("the cluster has as many nodes as it can have");
        }
        let node = NodeId(cluster.next_node);
        cluster.next_node += 1;
        row.spent = Some((request, node));
        self.dirty.insert(token_key(&token));
        self.dirty.insert(vec![b'C']);
        self.put_node(node, address);
        MetaReply::Node { node, shards }
    }

    fn put_node(&mut self, node: NodeId, address: NodeAddress) {
        self.nodes.insert(node, NodeRow::new(address));
        self.dirty.insert(node_key(node));
    }

    /// Changes a node that was not removed.
    fn change_node(&mut self, node: NodeId, change: impl FnOnce(&mut NodeRow)) -> MetaReply {
        match self.nodes.get_mut(&node) {
            None => refused("no such node"),
            Some(row) if row.state == NodeState::Removed => refused("this node was removed from the cluster"),
            Some(row) => {
                change(row);
                self.dirty.insert(node_key(node));
                MetaReply::Done
            }
        }
    }

    fn set_node_state(&mut self, node: NodeId, state: NodeState) -> MetaReply {
        let before = self.nodes.get(&node).map(|row| row.state);
        if before == Some(state) {
            return MetaReply::Done;
        }
        let others = self.nodes.iter().filter(|(id, row)| **id != node && row.is_placeable()).count();
        match state {
            NodeState::Draining if before == Some(NodeState::Leaving) => {
                return refused("this node is leaving: call that off first");
            }
            NodeState::Draining if others == 0 => return refused("no other node could serve the clients"),
            NodeState::Leaving if others < REPLICATION => {
                return refused("fewer than three active nodes would be left: its replicas would have nowhere to go");
            }
            NodeState::Removed if before != Some(NodeState::Leaving) => return refused("a node must leave first"),
            NodeState::Removed if self.holds_data(node) => return refused("its replicas have not moved yet"),
            _ => {}
        }
        let reply = self.change_node(node, |row| row.state = state);
        if state == NodeState::Removed
            && let Some(replica) = self.meta_replica(node)
        {
            self.retire(replica);
        }
        reply
    }

    /// Whether a node holds a live replica of a data shard.
    pub fn holds_data(&self, node: NodeId) -> bool {
        self.replicas.values().any(|row| row.node == node && !row.retired && row.shard != META_SHARD)
    }

    /// The shards of the cluster.
    pub fn data_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..=self.cluster.as_ref().map_or(0, |row| row.shards)).map(ShardId)
    }

    /// Nodes of the cluster.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &NodeRow)> {
        self.nodes.iter().filter(|(_, row)| row.state != NodeState::Removed).map(|(id, row)| (*id, row))
    }

    /// Whether a node belongs to the cluster.
    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|row| row.state != NodeState::Removed)
    }

    fn add_replica(&mut self, shard: ShardId, node: NodeId) -> MetaReply {
        match self.nodes.get(&node).map(|row| row.state) {
            None => return refused("no such node"),
            Some(NodeState::Leaving | NodeState::Removed) => return refused("that node does not take replicas now"),
            Some(_) => {}
        }
        let live = self.live(shard).find(|(_, row)| row.node == node).map(|(id, _)| id);
        if let Some(replica) = live {
            // One that was to move away is needed after all.
            if let Some(row) = self.replicas.get_mut(&replica).filter(|row| row.leaving) {
                row.leaving = false;
                self.dirty.insert(replica_key(replica));
            }
            return MetaReply::Replica { replica };
        }
        if self.cluster.as_ref().is_none_or(|row| shard.0 > row.shards) {
            return refused("no such shard");
        }
        MetaReply::Replica { replica: self.new_replica(shard, node, false) }
    }

    fn new_replica(&mut self, shard: ShardId, node: NodeId, founder: bool) -> ReplicaId {
        let cluster = self.cluster.as_mut().expect("callers checked that the cluster exists");
        let replica = ReplicaId(cluster.next_replica);
        cluster.next_replica += 1;
        self.dirty.insert(vec![b'C']);
        self.replicas.insert(replica, ReplicaRow { shard, node, founder, retired: false, leaving: false });
        self.dirty.insert(replica_key(replica));
        replica
    }

    fn retire(&mut self, replica: ReplicaId) -> MetaReply {
        let Some(row) = self.replicas.get_mut(&replica) else { return refused("no such replica") };
        row.retired = true;
        self.dirty.insert(replica_key(replica));
        MetaReply::Done
    }

    fn retire_excess(&mut self, replica: ReplicaId) -> MetaReply {
        let Some(row) = self.replicas.get(&replica) else { return refused("no such replica") };
        if !row.retired && !GroupPlan::of(self, row.shard).excess.contains(&replica) {
            return refused("its group still needs it");
        }
        self.retire(replica)
    }

    fn move_replica(&mut self, replica: ReplicaId, to: NodeId) -> MetaReply {
        let Some(row) = self.replicas.get(&replica).filter(|row| !row.retired) else {
            return refused("no such replica");
        };
        let (shard, leaving) = (row.shard, row.leaving);
        if self.cluster.is_none() {
            return refused("the cluster is not set up yet");
        }
        if shard == META_SHARD {
            return refused("every node has a replica of the meta group: they do not move");
        }
        match self.live(shard).find(|(_, row)| row.node == to).map(|(id, _)| id) {
            Some(there) if leaving => return MetaReply::Replica { replica: there },
            Some(_) => return refused("that node has a replica of this shard"),
            None if leaving => return refused("this replica is moving already"),
            None => {}
        }
        if !self.nodes.get(&to).is_some_and(NodeRow::is_placeable) {
            return refused("that node does not take replicas now");
        }
        if let Some(row) = self.replicas.get_mut(&replica) {
            row.leaving = true;
            self.dirty.insert(replica_key(replica));
        }
        MetaReply::Replica { replica: self.new_replica(shard, to, false) }
    }

    fn add_site(&mut self, name: &str) -> MetaReply {
        if let Some((site, _)) = self.site_by_name(name) {
            return MetaReply::Site { site };
        }
        if !good_name(name) || self.sites.len() >= SITES_MAX {
            return refused("a site's name has 1 to 64 letters, digits or -_.@");
        }
        let Some(cluster) = &mut self.cluster else { return refused("the cluster is not set up yet") };
        let site = SiteId(cluster.next_site);
        cluster.next_site += 1;
        self.sites.insert(site, SiteRow { name: name.to_string() });
        self.dirty.insert(vec![b'C']);
        self.dirty.insert(site_key(site));
        MetaReply::Site { site }
    }

    fn add_agent(&mut self, site: &str, name: String, password: String) -> MetaReply {
        let Some((site, _)) = self.site_by_name(site) else { return refused("no such site") };
        let known = self.agents.iter().find(|(_, row)| row.site == site && row.name == name).map(|(id, _)| *id);
        if known.is_none() && (!good_name(&name) || self.agents.len() >= AGENTS_MAX) {
            return refused("an agent's name has 1 to 64 letters, digits or -_.@");
        }
        let Some(cluster) = &mut self.cluster else { return refused("the cluster is not set up yet") };
        let agent = known.unwrap_or_else(|| {
            let id = AgentId(cluster.next_agent);
            cluster.next_agent += 1;
            id
        });
        let role = self.agents.get(&agent).map(|row| row.role).unwrap_or_default();
        self.agents.insert(agent, AgentRow { site, name, password, role });
        self.dirty.insert(vec![b'C']);
        self.dirty.insert(agent_key(agent));
        MetaReply::Agent { agent }
    }

    /// The site of that name.
    pub fn site_by_name(&self, name: &str) -> Option<(SiteId, &SiteRow)> {
        self.sites.iter().find(|(_, row)| row.name == name).map(|(id, row)| (*id, row))
    }

    /// The agent of that name at that site.
    pub fn agent_by_name(&self, site: SiteId, name: &str) -> Option<(AgentId, &AgentRow)> {
        self.agents.iter().find(|(_, row)| row.site == site && row.name == name).map(|(id, row)| (*id, row))
    }

    /// Replicas of a group that are not retired.
    pub fn live(&self, shard: ShardId) -> impl Iterator<Item = (ReplicaId, &ReplicaRow)> {
        self.replicas.iter().filter(move |(_, row)| row.shard == shard && !row.retired).map(|(id, row)| (*id, row))
    }

    /// The live replica of the meta group on a node.
    pub fn meta_replica(&self, node: NodeId) -> Option<ReplicaId> {
        self.live(META_SHARD).find(|(_, row)| row.node == node).map(|(id, _)| id)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
