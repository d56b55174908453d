//! Owns how a machine becomes a node of an existing cluster: both its asking and the answer.
//! Invariant: the token is shown only to a cluster with the pinned key, and the certificate names only the node that meta allotted.

use super::start::{Join, StartError};
use super::{ClusterNode, Identity};
use crate::tls::{Credentials, Pin, check_request, new_key, node_name, request};
use crate::transport::{HandshakeError, dial_join};
use proto::command::{MetaCommand, NodeAddress};
use proto::failpoints::FailPoint;
use proto::ids::NodeId;
use proto::peer::{Hello, HelloReply, MetaReply};
use proto::version::{VERSION_MAX, VERSION_MIN, Versions, version_text};
use sha2::Digest;
use std::path::Path;
use std::time::Duration;

/// Attempts to reach a node that can let this one join, half a second apart.
const TRIES: u32 = 60;
/// Longest wait for the meta group on behalf of a machine that joins.
const ADMIT_WITHIN: Duration = Duration::from_secs(8);
const NO_AUTHORITY: &str = "this node does not know the cluster's authority yet, try again";

/// Joins through any node of the cluster.
/// # Errors
/// `JoinRefused`, with the cluster's reason.
pub(super) async fn join_cluster(
    join: &Join,
    address: &NodeAddress,
    data_dir: &Path,
) -> Result<(Identity, Credentials, u16), StartError> {
    let refused = |reason: &str| Err(StartError::JoinRefused(reason.to_owned()));
    let Some(pins) = pins(&join.token) else {
        return refused("this is no join token: `everdesk token create` prints one, which is copied whole");
    };
    let key = key_to_join(data_dir)?;
    let hello = Hello::Enroll {
        token: join.token.clone(),
        request: request_number(&key),
        address: address.clone(),
        certificate_request: request(&key)?,
        protocol_min: VERSION_MIN,
        protocol_max: VERSION_MAX,
    };
    let mut target = join.address.clone();
    let mut last = String::from("no answer");
    for _ in 0..TRIES {
        match dial_join(&target, &pins, &hello).await {
            Ok(HelloReply::Enrolled { cluster, node, shards, nodes, certificate, issuer, trusted, version }) => {
                let peers = nodes.into_iter().filter(|(id, _)| *id != node).collect();
                let (meta_replica, founder, incarnation) = (None, false, 1);
                let identity = Identity { cluster, node, shards, meta_replica, founder, incarnation, peers };
                return Ok((identity, Credentials { key, certificate, issuer, trusted, authority: None }, version));
            }
            Ok(HelloReply::Refused { reason }) => return Err(StartError::JoinRefused(reason)),
            Ok(HelloReply::WrongVersion { version }) => return Err(StartError::JoinRefused(version_text(version))),
            Ok(HelloReply::Elsewhere { peer }) => target = peer,
            Ok(HelloReply::Linked { .. } | HelloReply::Joined { .. }) => return refused("unexpected answer"),
            Err(HandshakeError::Tls(rustls::Error::InvalidCertificate(error))) => {
                let told = "the token says that another cluster listens there, and was not shown";
                return refused(&format!("{told} ({target}: {error})"));
            }
            Err(error) => {
                last = error.to_string();
                target = join.address.clone();
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(StartError::JoinRefused(format!("{} does not answer: {last}", join.address)))
}

/// The key that this machine asks with, on the disk once this returns: after a crash it is the same.
fn key_to_join(data_dir: &Path) -> Result<Vec<u8>, StartError> {
    if let Some(known) = Credentials::load(data_dir)? {
        return Ok(known.key);
    }
    let (certificate, issuer, trusted) = (Vec::new(), Vec::new(), Vec::new());
    let asking = Credentials { key: new_key()?, certificate, issuer, trusted, authority: None };
    asking.save(data_dir)?;
    Ok(asking.key)
}

/// Follows from the key: whoever crashed after it was let in asks again under the same number, and is the same node.
fn request_number(key: &[u8]) -> u128 {
    let digest = sha2::Sha256::new_with_prefix(b"everdesk join").chain_update(key).finalize();
    u128::from_le_bytes(*digest.first_chunk().expect("SHA-256 has 32 bytes"))
}

/// The pins in a token: `join.SECRET.PIN[.PIN]`.
pub(crate) fn pins(token: &str) -> Option<Vec<Pin>> {
    let mut parts = token.split('.');
    let pins: Option<Vec<Pin>> = (parts.next() == Some("join") && parts.next().is_some())
        .then(|| parts.map(|pin| pin.parse().ok()).collect())?;
    pins.filter(|pins| !pins.is_empty())
}

impl ClusterNode {
    /// What a join token says besides its secret: by which keys the joining machine knows this cluster.
    pub fn join_pins(&self) -> String {
        let pin = |certificate: &Vec<u8>| Pin::of(certificate).to_string();
        self.credentials.lock().trusted.iter().map(pin).collect::<Vec<_>>().join(".")
    }

    pub(super) async fn let_join(&self, hello: Hello) -> HelloReply {
        let refused = |reason: String| HelloReply::Refused { reason };
        let Hello::Enroll { token, request, address, certificate_request, protocol_min, protocol_max } = hello else {
            return refused("not a join request".into());
        };
        let version = self.version();
        if !(Versions { min: protocol_min, max: protocol_max }).speaks(version) {
            return HelloReply::WrongVersion { version };
        }
        // Before the token is spent.
        if let Err(error) = check_request(&certificate_request) {
            return refused(format!("the certificate request is of no use: {error}"));
        }
        if self.with_meta(|state| state.signing_authority()).flatten().is_none() {
            return refused(NO_AUTHORITY.into());
        }
        let token = sha2::Sha256::digest(token.as_bytes()).into();
        match self.meta_propose(MetaCommand::Join { token, request, address }, ADMIT_WITHIN).await {
            MetaReply::Node { node, shards } => {
                FailPoint::BeforeCertified.pass();
                self.certify(node, shards, &certificate_request)
            }
            MetaReply::Refused { reason } => refused(reason),
            _ => refused("the cluster has no leader now, try again".into()),
        }
    }

    fn certify(&self, node: NodeId, shards: u32, certificate_request: &[u8]) -> HelloReply {
        let refused = |reason: &str| HelloReply::Refused { reason: reason.to_owned() };
        let known = self.with_meta(|state| {
            let nodes = state.members().map(|(id, row)| (id, row.address.clone())).collect::<Vec<_>>();
            (nodes, state.signing_authority(), state.trusted())
        });
        let Some((nodes, Some(authority), trusted)) = known else {
            return refused(NO_AUTHORITY);
        };
        match authority.sign(certificate_request, &node_name(self.cluster, node)) {
            Ok(certificate) => {
                let (cluster, issuer) = (self.cluster.0, authority.certificate);
                let version = self.version();
                HelloReply::Enrolled { cluster, node, shards, nodes, certificate, issuer, trusted, version }
            }
            Err(error) => refused(&format!("no certificate: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_crashed_while_it_joined_asks_again_under_the_same_number() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = key_to_join(dir.path()).unwrap();
        assert_eq!(key_to_join(dir.path()).unwrap(), key);
        assert!(check_request(&request(&key).unwrap()).is_ok());
        assert_ne!(request_number(&key_to_join(other.path()).unwrap()), request_number(&key));
    }

    #[test]
    fn a_join_token_carries_one_or_two_pins() {
        let pin = "A".repeat(43);
        assert_eq!(pins(&format!("join.secret.{pin}")).map(|pins| pins.len()), Some(1));
        assert_eq!(pins(&format!("join.secret.{pin}.{pin}")).map(|pins| pins.len()), Some(2));
        for bad in ["", "join.secret", "join.secret.", "admin.secret.AAAA", "join.secret.AAAA"] {
            assert_eq!(pins(bad), None, "{bad}");
        }
    }
}
