//! Owns the rules for the cluster's certificate authorities: at most two at a time, and the older one goes once nobody needs it.
//! Does not sign. Invariant: a member is never left with a certificate that the others do not trust.

use super::rows::{AuthorityRow, TrustRow};
use super::state::{MetaState, refused};
use crate::tls::Authority;
use proto::command::SecretBytes;
use proto::ids::NodeId;
use proto::peer::MetaReply;

/// Longest certificate or key, in bytes.
const DER_BYTES_MAX: usize = 4 << 10;

impl MetaState {
    /// The authority that signs, and its number.
    pub fn newest_authority(&self) -> Option<(u32, &AuthorityRow)> {
        self.authorities.last_key_value().map(|(number, row)| (*number, row))
    }

    /// The newest authority, to sign with.
    pub fn signing_authority(&self) -> Option<Authority> {
        let (newest, row) = self.newest_authority()?;
        // Not before everyone trusts it: a machine that joins must be known at once.
        let row = if self.is_trusted_by_all(newest) { row } else { self.authorities.values().next()? };
        Some(row.authority())
    }

    /// Certificates of the authorities, the newest last.
    pub fn trusted(&self) -> Vec<Vec<u8>> {
        self.authorities.values().map(|row| row.certificate.clone()).collect()
    }

    /// Every member trusts the newest authority: certificates of it are taken everywhere.
    pub fn is_trusted_by_all(&self, authority: u32) -> bool {
        self.members().all(|(node, _)| self.trust.get(&node).is_some_and(|row| row.trusts >= authority))
    }

    /// No member shows a certificate of an older authority any more.
    pub fn is_shown_by_all(&self, authority: u32) -> bool {
        self.members().all(|(node, _)| self.trust.get(&node).is_some_and(|row| row.certified >= authority))
    }

    pub(super) fn add_authority(&mut self, certificate: Vec<u8>, secret: SecretBytes) -> MetaReply {
        if self.authorities.values().any(|row| row.certificate == certificate) {
            return MetaReply::Done;
        }
        if self.authorities.len() > 1 {
            return refused("the certificates are being renewed already");
        }
        if certificate.len() > DER_BYTES_MAX || secret.0.len() > DER_BYTES_MAX {
            return refused("a certificate or key has at most 4096 bytes");
        }
        let number = self.newest_authority().map_or(1, |(newest, _)| newest + 1);
        self.authorities.insert(number, AuthorityRow { certificate, key: secret });
        self.changed(b'K', &number.to_be_bytes());
        MetaReply::Done
    }

    pub(super) fn drop_authorities(&mut self) -> MetaReply {
        let Some((newest, _)) = self.newest_authority() else { return MetaReply::Done };
        if !self.is_shown_by_all(newest) {
            return refused("a node still has a certificate of the authority before");
        }
        let older: Vec<u32> = self.authorities.range(..newest).map(|(number, _)| *number).collect();
        for number in older {
            self.authorities.remove(&number);
            self.changed(b'K', &number.to_be_bytes());
        }
        MetaReply::Done
    }

    pub(super) fn set_trust(&mut self, node: NodeId, trusts: u32, certified: u32) -> MetaReply {
        if !self.is_member(node) {
            return refused("no such node");
        }
        self.trust.insert(node, TrustRow { trusts, certified });
        self.changed(b'H', &node.0.to_be_bytes());
        MetaReply::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{address, cluster};
    use super::*;
    use proto::command::MetaCommand;

    fn add(state: &mut MetaState, certificate: u8) -> MetaReply {
        state.add_authority(vec![certificate], SecretBytes(vec![certificate]))
    }

    #[test]
    fn an_authority_goes_once_every_member_shows_a_certificate_of_the_newest() {
        let mut state = cluster();
        state.apply(1, MetaCommand::CreateJoinToken { token: [7; 32], expires_ms: 100 });
        state.apply(2, MetaCommand::Join { token: [7; 32], request: 1, address: address() });
        assert_eq!(add(&mut state, 7), MetaReply::Done);
        assert_eq!(add(&mut state, 8), MetaReply::Done);
        assert_eq!(add(&mut state, 8), MetaReply::Done, "a repeat");
        assert!(matches!(add(&mut state, 9), MetaReply::Refused { .. }));
        state.set_trust(NodeId(1), 2, 2);
        assert!(!state.is_trusted_by_all(2));
        assert!(matches!(state.drop_authorities(), MetaReply::Refused { .. }));
        state.set_trust(NodeId(2), 2, 1);
        assert!(state.is_trusted_by_all(2));
        assert!(matches!(state.drop_authorities(), MetaReply::Refused { .. }));
        state.set_trust(NodeId(2), 2, 2);
        assert_eq!(state.drop_authorities(), MetaReply::Done);
        assert_eq!(state.authorities.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(add(&mut state, 7), MetaReply::Done);
        assert_eq!(state.newest_authority().map(|(number, _)| number), Some(3), "a number is never used again");
    }
}
