//! Owns the cluster's certificate authority: its key, what it signs, and the pin by which a joining machine knows it.
//! Does not decide who gets a certificate. Invariant: nothing that a request says about itself gets into a certificate.

use base64ct::{Base64UrlUnpadded, Encoding};
use bincode::{Decode, Encode};
use proto::ids::ClusterId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Why a certificate or request is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("not a certificate of this cluster: {0}")]
    Foreign(String),
}

/// A certificate authority of the cluster. The meta group keeps it, so that any node can let another one in.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Authority {
    /// X.509, DER.
    pub certificate: Vec<u8>,
    /// PKCS#8, DER.
    pub key: Vec<u8>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({:?})", Pin::of(&self.certificate))
    }
}

impl Authority {
    /// Draws a new authority: ECDSA over P-256.
    /// # Errors
    /// No randomness.
    pub fn mint(cluster: ClusterId) -> Result<Authority, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("everdesk cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        unlimited(&mut params);
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok(Authority { certificate, key: key.serialize_der() })
    }

    /// Signs a request: whatever it asks for, it gets a certificate with `name` for both ends of a link.
    /// # Errors
    /// The request is not a PKCS#10 request signed by its own key.
    pub fn sign(&self, request: &[u8], name: &str) -> Result<Vec<u8>, TlsError> {
        let request = CertificateSigningRequestParams::from_der(&request.to_vec().into())?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        unlimited(&mut params);
        let key = KeyPair::try_from(self.key.as_slice())?;
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(self.certificate.as_slice()), key)?;
        Ok(params.signed_by(&request.public_key, &issuer)?.der().to_vec())
    }

    pub fn pin(&self) -> Pin {
        Pin::of(&self.certificate)
    }
}

/// From 1970 on, for ever (RFC 5280, 4.1.2.5): a cluster must not go down because of a date or a wrong clock. Whoever may
/// link is decided at each handshake by the list of members.
fn unlimited(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
}

/// A new key: PKCS#8, DER.
/// # Errors
/// No randomness.
pub fn new_key() -> Result<Vec<u8>, TlsError> {
    Ok(KeyPair::generate()?.serialize_der())
}

/// The request to certify a key: PKCS#10, DER.
/// # Errors
/// The key's bytes are none.
pub fn request(key: &[u8]) -> Result<Vec<u8>, TlsError> {
    let request = CertificateParams::default().serialize_request(&KeyPair::try_from(key)?)?;
    Ok(request.der().to_vec())
}

/// Whether bytes are a request signed by its own key.
/// # Errors
/// They are not.
pub fn check_request(request: &[u8]) -> Result<(), TlsError> {
    CertificateSigningRequestParams::from_der(&request.to_vec().into())?;
    Ok(())
}

/// SHA-256 of an authority's public key (SubjectPublicKeyInfo, DER). Text form: base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate's key; of bytes that are no certificate, one that fits nothing.
    pub fn of(certificate: &[u8]) -> Pin {
        let certificate = CertificateDer::from(certificate);
        let key = webpki::EndEntityCert::try_from(&certificate).map(|parsed| parsed.subject_public_key_info().to_vec());
        Pin(key.map_or([0; 32], |key| Sha256::digest(key).into()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64UrlUnpadded::encode_string(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        match Base64UrlUnpadded::decode(text, &mut bytes) {
            Ok(read) if read.len() == 32 => Ok(Pin(bytes)),
            _ => Err("not the pin of a key: 43 characters of base64url"),
        }
    }
}
