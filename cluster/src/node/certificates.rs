//! Owns this node's part in renewing certificates: trust the newest authority, then be certified by it, then end the old.
//! Does not decide who is a member. Invariant: a certificate is shown only once every member trusts its authority.

use super::{ClusterNode, StartError, on_disk};
use crate::meta::{AuthorityRow, MetaState};
use crate::tls::{Authority, Credentials, Pin};
use proto::command::{MetaCommand, SecretBytes};
use proto::ids::NodeId;
use proto::peer::MetaReply;
use std::time::Duration;

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
        if let Err(error) = self.follow_authorities().await {
            tracing::error!(%error, "this node's certificate could not be renewed");
            return;
        }
        self.report_trust().await;
        let may_drop = |state: &MetaState| {
            state.authorities.len() > 1
                && state.newest_authority().is_some_and(|(newest, _)| state.is_shown_by_all(newest))
        };
        if leads_meta && self.with_meta(may_drop) == Some(true) {
            self.tell_meta(MetaCommand::DropAuthorities).await;
        }
    }

    /// Tells meta what this node trusts and shows. Only what is on its disk counts: meta may have a newer authority already.
    async fn report_trust(&self) {
        let node = self.me;
        let news = self.with_meta(|state| {
            state.newest_authority()?;
            let number = |certificate: &Vec<u8>| {
                let same = state.authorities.iter().find(|(_, row)| row.certificate == *certificate);
                same.map_or(0, |(number, _)| *number)
            };
            let credentials = self.credentials.lock();
            let trusts = credentials.trusted.iter().map(number).max().unwrap_or(0);
            let certified = number(&credentials.issuer);
            let told = state.trust.get(&node).map(|row| (row.trusts, row.certified));
            (told != Some((trusts, certified))).then_some(MetaCommand::SetNodeTrust { node, trusts, certified })
        });
        if let Some(command) = news.flatten() {
            self.tell_meta(command).await;
        }
    }

    /// Gives the founder's authority to the meta group, which keeps it from then on.
    async fn hand_in_authority(&self) {
        let Some(authority) = self.credentials.lock().authority.clone() else { return };
        let known = self
            .with_meta(|state| {
                let same = |row: &AuthorityRow| row.certificate == authority.certificate;
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

    /// Trusts the authorities that meta has, and is certified by the newest once every member trusts it.
    async fn follow_authorities(&self) -> Result<(), StartError> {
        let known = self.credentials.lock().clone();
        let due = self.with_meta(|state| {
            let (newest, row) = state.newest_authority()?;
            let is_due = row.certificate != known.issuer && state.is_trusted_by_all(newest);
            Some((state.trusted(), is_due.then(|| row.authority())))
        });
        let Some((trusted, signing)) = due.flatten() else { return Ok(()) };
        let fresh = match signing {
            Some(signing) => {
                tracing::info!(authority = ?signing, "this node gets a new certificate");
                let authority = known.authority.clone();
                Credentials { authority, ..Credentials::issue(&signing, trusted, self.cluster, self.me)? }
            }
            None => Credentials { trusted, ..known.clone() },
        };
        if fresh == known {
            return Ok(());
        }
        self.keep_credentials(fresh).await
    }

    /// First on the disk, then in use.
    async fn keep_credentials(&self, fresh: Credentials) -> Result<(), StartError> {
        let (dir, saved) = (self.data_dir.clone(), fresh.clone());
        on_disk(move || saved.save(&dir)).await?;
        self.tls.replace(&fresh)?;
        *self.credentials.lock() = fresh;
        Ok(())
    }
}
