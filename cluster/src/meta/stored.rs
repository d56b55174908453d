//! Owns how meta's state becomes rows, and rows the state. Does not change what they say. Invariant: a row that this version does not
//! know stops the replica.

use super::rows::{ClusterRow, NUMBER_MAX, NodeRowV1, ReplicaRowV1, VersionsRow};
use super::state::MetaState;
use crate::raft::Halt;
use crate::raft::machine::RowChanges;
use proto::codec::{self, Frozen};
use proto::command::TokenHash;
use proto::ids::{AgentId, NodeId, ReplicaId, SiteId, WebhookId};

impl MetaState {
    /// Rows changed since the last call.
    pub fn take_changes(&mut self) -> RowChanges {
        let keys = std::mem::take(&mut self.dirty);
        keys.into_iter().map(|key| (self.row(&key), key)).map(|(row, key)| (key, row)).collect()
    }

    pub(super) fn changed(&mut self, kind: u8, id: &[u8]) {
        self.dirty.insert(key(kind, id));
    }

    pub fn mark_dirty(&mut self, keys: impl Iterator<Item = Vec<u8>>) {
        self.dirty.extend(keys);
    }

    pub fn dirty_bytes(&self) -> usize {
        self.dirty.len() * 128
    }

    fn row(&self, key: &[u8]) -> Option<Vec<u8>> {
        fn put<T: Frozen>(row: Option<&T>) -> Option<Vec<u8>> {
            row.map(codec::encode)
        }
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).ok();
        let (kind, id) = key.split_first()?;
        match kind {
            b'C' => put(self.cluster.as_ref()),
            b'N' => put(self.nodes.get(&NodeId(number(id)?))),
            b'R' => put(self.replicas.get(&ReplicaId(number(id)?))),
            b'T' => put(self.tokens.get::<TokenHash>(id.try_into().ok()?)),
            b'S' => put(self.sites.get(&SiteId(number(id)?))),
            b'A' => put(self.agents.get(&AgentId(u64::from_be_bytes(id.try_into().ok()?)))),
            b'K' => put(self.authorities.get(&number(id)?)),
            b'H' => put(self.trust.get(&NodeId(number(id)?))),
            b'V' => put(self
                .versions
                .get(&NodeId(number(id)?))
                .map(|versions| VersionsRow { versions: *versions })
                .as_ref()),
            b'L' => put(self.lineage.as_ref()),
            b'P' => put(self.api_tokens.get::<TokenHash>(id.try_into().ok()?)),
            b'G' => put(self.settings.get(std::str::from_utf8(id).ok()?)),
            b'O' => put(self.once.get::<TokenHash>(id.try_into().ok()?)),
            b'F' => put(self.site_configs.get(&SiteId(number(id)?))),
            b'I' => put(self.identity_keys.get(&SiteId(number(id)?))),
            b'm' => put(self.site_emails.get(&SiteId(number(id)?))),
            b'Y' => put(self.api_keys.get::<TokenHash>(id.try_into().ok()?)),
            b'W' => put(self.webhooks.get(&WebhookId(u64::from_be_bytes(id.try_into().ok()?)))),
            b'X' => put(self.webhook_secrets.get(&WebhookId(u64::from_be_bytes(id.try_into().ok()?)))),
            _ => None,
        }
    }

    /// The whole state as rows.
    pub fn rows(&self) -> RowChanges {
        let one = [vec![b'C'], vec![b'L']].into_iter();
        let nodes = self.nodes.keys().copied().map(node_key);
        let replicas = self.replicas.keys().copied().map(replica_key);
        let accounts = self.sites.keys().copied().map(site_key).chain(self.agents.keys().copied().map(agent_key));
        let of_nodes = |kind, id: &NodeId| key(kind, &id.0.to_be_bytes());
        let trust = self.trust.keys().map(|id| of_nodes(b'H', id));
        let versions = self.versions.keys().map(|id| of_nodes(b'V', id));
        let authorities = self.authorities.keys().map(|number| key(b'K', &number.to_be_bytes()));
        let tokens = self.api_tokens.keys().map(|hash| key(b'P', hash));
        let settings = self.settings.keys().map(|name| key(b'G', name.as_bytes()));
        let once = self.once.keys().map(|hash| key(b'O', hash));
        let webhooks = self.webhooks.keys().map(|id| key(b'W', &id.0.to_be_bytes()));
        let secrets = self.webhook_secrets.keys().map(|id| key(b'X', &id.0.to_be_bytes()));
        let api_keys = self.api_keys.keys().map(|hash| key(b'Y', hash));
        let of_site = |kind, id: &SiteId| key(kind, &id.0.to_be_bytes());
        let configs = self.site_configs.keys().map(|id| of_site(b'F', id));
        let identity = self.identity_keys.keys().map(|id| of_site(b'I', id));
        let emails = self.site_emails.keys().map(|id| of_site(b'm', id));
        let tokens = tokens.chain(api_keys).chain(configs).chain(identity).chain(emails);
        let of_admin = tokens.chain(settings).chain(once).chain(webhooks).chain(secrets);
        let accounts = accounts.chain(trust).chain(versions).chain(authorities).chain(of_admin);
        let keys = one.chain(nodes).chain(replicas).chain(self.tokens.keys().map(token_key)).chain(accounts);
        keys.filter_map(|key| Some((self.row(&key)?, key))).map(|(row, key)| (key, Some(row))).collect()
    }

    /// Takes one stored row.
    /// # Errors
    /// `Halt` for a key or row that this version does not know.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), Halt> {
        fn get<T: Frozen>(value: &[u8]) -> Result<T, Halt> {
            codec::decode(value).map_err(|error| Halt(error.to_string()))
        }
        /// A row as it is stored now, or as version 1 did.
        fn get_either<V1: Frozen + Into<T>, T: Frozen>(value: &[u8]) -> Result<T, Halt> {
            if value.first() == Some(&V1::TAG) { get::<V1>(value).map(Into::into) } else { get(value) }
        }
        let unknown = || Halt(format!("unknown meta row {key:?}"));
        let is_counted = |number: &u32| *number <= NUMBER_MAX;
        let number = |id: &[u8]| id.try_into().map(u32::from_be_bytes).ok().filter(is_counted).ok_or_else(unknown);
        let (kind, id) = key.split_first().ok_or_else(unknown)?;
        match kind {
            b'C' => self.cluster = Some(get::<ClusterRow>(value)?.checked()?),
            b'N' => drop(self.nodes.insert(NodeId(number(id)?), get_either::<NodeRowV1, _>(value)?)),
            b'R' => drop(self.replicas.insert(ReplicaId(number(id)?), get_either::<ReplicaRowV1, _>(value)?)),
            b'T' => drop(self.tokens.insert(id.try_into().map_err(|_| unknown())?, get(value)?)),
            b'K' => drop(self.authorities.insert(number(id)?, get(value)?)),
            b'V' => drop(self.versions.insert(NodeId(number(id)?), get::<VersionsRow>(value)?.versions)),
            b'H' => drop(self.trust.insert(NodeId(number(id)?), get(value)?)),
            b'S' => drop(self.sites.insert(SiteId(number(id)?), get(value)?)),
            b'A' => {
                let id = u64::from_be_bytes(id.try_into().map_err(|_| unknown())?);
                self.agents.insert(AgentId(id), get(value)?);
            }
            b'L' => self.lineage = Some(get(value)?),
            b'P' => drop(self.api_tokens.insert(id.try_into().map_err(|_| unknown())?, get(value)?)),
            b'G' => {
                let name = std::str::from_utf8(id).map_err(|_| unknown())?;
                self.settings.insert(name.to_owned(), get(value)?);
            }
            b'O' => drop(self.once.insert(id.try_into().map_err(|_| unknown())?, get(value)?)),
            b'F' => drop(self.site_configs.insert(SiteId(number(id)?), get(value)?)),
            b'I' => drop(self.identity_keys.insert(SiteId(number(id)?), get(value)?)),
            b'm' => drop(self.site_emails.insert(SiteId(number(id)?), get(value)?)),
            b'Y' => drop(self.api_keys.insert(id.try_into().map_err(|_| unknown())?, get(value)?)),
            b'W' | b'X' => {
                let id = WebhookId(u64::from_be_bytes(id.try_into().map_err(|_| unknown())?));
                match kind {
                    b'W' => drop(self.webhooks.insert(id, get(value)?)),
                    _ => drop(self.webhook_secrets.insert(id, get(value)?)),
                }
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

fn key(kind: u8, id: &[u8]) -> Vec<u8> {
    [&[kind], id].concat()
}
pub(super) fn node_key(id: NodeId) -> Vec<u8> {
    key(b'N', &id.0.to_be_bytes())
}
pub(super) fn replica_key(id: ReplicaId) -> Vec<u8> {
    key(b'R', &id.0.to_be_bytes())
}
pub(super) fn token_key(hash: &TokenHash) -> Vec<u8> {
    key(b'T', hash)
}
pub(super) fn site_key(id: SiteId) -> Vec<u8> {
    key(b'S', &id.0.to_be_bytes())
}
pub(super) fn agent_key(id: AgentId) -> Vec<u8> {
    key(b'A', &id.0.to_be_bytes())
}
