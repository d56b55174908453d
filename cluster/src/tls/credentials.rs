//! Owns this node's key and certificate, and the authorities it trusts, in one file readable by its owner only.
//! Invariant: the file is replaced in one step; a half-written one never counts.

use super::authority::{Authority, TlsError, new_key, request};
use super::session::node_name;
use crate::checked_file::{self, FileError};
use bincode::{Decode, Encode};
use proto::ids::{ClusterId, NodeId};
use std::path::Path;

const FILE: &str = "tls";

/// What the file holds. DER throughout.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Credentials {
    /// PKCS#8.
    pub key: Vec<u8>,
    /// This node's certificate; empty while it asks for one.
    pub certificate: Vec<u8>,
    /// Certificate of the authority that signed it.
    pub issuer: Vec<u8>,
    /// Certificates of the authorities whose nodes are let in; the newest last.
    pub trusted: Vec<Vec<u8>>,
    /// Until the meta group has it: the founder's authority.
    pub authority: Option<Authority>,
}

proto::frozen!(Credentials = 71);

/// Why the file cannot be read or written.
pub type CredentialsError = FileError;

impl Credentials {
    /// `None`: there is no such file.
    /// # Errors
    /// The file cannot be read, or is not what was written.
    pub fn load(data_dir: &Path) -> Result<Option<Credentials>, CredentialsError> {
        checked_file::load(data_dir, FILE)
    }

    /// On the disk once this returns.
    /// # Errors
    /// The directory cannot be written.
    pub fn save(&self, data_dir: &Path) -> Result<(), CredentialsError> {
        checked_file::save(data_dir, FILE, self)
    }

    /// Of a node that founds its cluster.
    /// # Errors
    /// No randomness.
    pub fn found(cluster: ClusterId, node: NodeId) -> Result<Credentials, TlsError> {
        let authority = Authority::mint(cluster)?;
        let trusted = vec![authority.certificate.clone()];
        Ok(Credentials { authority: Some(authority.clone()), ..Self::issue(&authority, trusted, cluster, node)? })
    }

    /// A new key, certified by an authority whose key this node has.
    /// # Errors
    /// No randomness, or the authority's bytes are none.
    pub fn issue(
        authority: &Authority,
        trusted: Vec<Vec<u8>>,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Credentials, TlsError> {
        let key = new_key()?;
        let certificate = authority.sign(&request(&key)?, &node_name(cluster, node))?;
        Ok(Credentials { key, certificate, issuer: authority.certificate.clone(), trusted, authority: None })
    }
}
