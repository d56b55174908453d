//! Owns this node's part in renewing certificates: trust the newest authority, then be certified by it, then end the old.
//! Does not decide who is a member. Invariant: a certificate is shown only once every member trusts its authority.

use super::{ClusterNode, StartError};
use crate::meta::MetaState;
use crate::tls::{Authority, Credentials, Pin};
use proto::command::{MetaCommand, SecretBytes};
use proto::ids::NodeId;
use proto::peer::MetaReply;
use std::time::Duration;

/// What meta knows about certificates, as far as it matters to this node.
struct Known {
    newest: u32,
    /// Number of the authority that signed this node's certificate; 0: of none that meta knows.
    certified: u32,
    trusted: Vec<Vec<u8>>,
    told: Option<(u32, u32)>,
    may_show: bool,
    may_drop: bool,
    signing: Authority,
}

impl ClusterNode {
    /// Draws a new authority. Every node then gets a new certificate, by itself, and the old authority ends.
    pub async fn renew_certificates(&self, within: Duration) -> MetaReply {
        match Authority::mint(self.cluster) {
            Ok(Authority { certificate, key }) => {
                let key = SecretBytes(key);
                self.meta_propose(MetaCommand::AddAuthority { certificate, key }, within).await
            }
            Err(error) => MetaReply::Refused { reason: error.to_string() },
        }
    }

    /// The authorities by number, each with the pin of its key.
    pub fn authorities(&self) -> Vec<(u32, Pin)> {
        let pins = |state: &MetaState| {
            state.authorities.iter().map(|(number, row)| (*number, Pin::of(&row.certificate))).collect::<Vec<_>>()
        };
        self.with_meta(pins).unwrap_or_default()
    }

    /// The number of the authority that signed each node's certificate; `None`: the node has not said yet.
    pub fn certificates(&self) -> Vec<(NodeId, Option<u32>)> {
        let shown = |state: &MetaState| {
            let shown = |node| state.trust.get(&node).map(|row| row.certified);
            state.members().map(|(node, _)| (node, shown(node))).collect::<Vec<_>>()
        };
        self.with_meta(shown).unwrap_or_default()
    }

    /// One round: the next step that is due.
    pub(super) async fn tend_certificates(&self, leads_meta: bool) {
        self.hand_in_authority().await;
        let Some(known) = self.known_certificates() else { return };
        if let Err(error) = self.follow_authorities(&known).await {
            tracing::error!(%error, "this node's certificate could not be renewed");
            return;
        }
        // What this node trusts and shows is on its disk: only now the others may count on it.
        let Some(known) = self.known_certificates() else { return };
        let (node, trusts, certified) = (self.me, known.newest, known.certified);
        if known.told != Some((trusts, certified)) {
            self.tell_meta(MetaCommand::SetNodeTrust { node, trusts, certified }).await;
        }
        if leads_meta && known.may_drop {
            self.tell_meta(MetaCommand::DropAuthorities).await;
        }
    }

    /// Gives the founder's authority to the meta group, which keeps it from then on.
    async fn hand_in_authority(&self) {
        let Some(authority) = self.credentials.lock().authority.clone() else { return };
        let known = self
            .with_meta(|state| {
                let same = |row: &crate::meta::AuthorityRow| row.certificate == authority.certificate;
                state.cluster.is_some().then(|| state.authorities.values().any(same))
            })
            .flatten();
        match known {
            None => {}
            Some(false) => {
                let (certificate, key) = (authority.certificate, SecretBytes(authority.key));
                self.tell_meta(MetaCommand::AddAuthority { certificate, key }).await;
            }
            Some(true) => {
                let kept = Credentials { authority: None, ..self.credentials.lock().clone() };
                if let Err(error) = self.keep_credentials(kept).await {
                    tracing::error!(%error, "certificate not saved");
                }
            }
        }
    }

    fn known_certificates(&self) -> Option<Known> {
        let issuer = self.credentials.lock().issuer.clone();
        self.with_meta(|state| {
            let (newest, _) = state.newest_authority()?;
            let certified = state.authorities.iter().find(|(_, row)| row.certificate == issuer);
            Some(Known {
                newest,
                certified: certified.map_or(0, |(number, _)| *number),
                trusted: state.trusted(),
                told: state.trust.get(&self.me).map(|row| (row.trusts, row.certified)),
                may_show: state.is_trusted_by_all(newest),
                may_drop: state.authorities.len() > 1 && state.is_shown_by_all(newest),
                signing: state.signing_authority()?,
            })
        })
        .flatten()
    }

    async fn follow_authorities(&self, known: &Known) -> Result<(), StartError> {
        let mut fresh = self.credentials.lock().clone();
        fresh.trusted.clone_from(&known.trusted);
        if known.certified != known.newest && known.may_show {
            tracing::info!(authority = known.newest, "this node gets a new certificate");
            let authority = fresh.authority.take();
            fresh = Credentials::issue(&known.signing, known.trusted.clone(), self.cluster, self.me)?;
            fresh.authority = authority;
        }
        if fresh == *self.credentials.lock() {
            return Ok(());
        }
        self.keep_credentials(fresh).await
    }

    /// First on the disk, then in use.
    async fn keep_credentials(&self, fresh: Credentials) -> Result<(), StartError> {
        let (dir, saved) = (self.data_dir.clone(), fresh.clone());
        let saving = tokio::task::spawn_blocking(move || saved.save(&dir)).await;
        saving.map_err(|error| StartError::Invalid(error.to_string()))??;
        self.tls.replace(&fresh)?;
        *self.credentials.lock() = fresh;
        Ok(())
    }
}
