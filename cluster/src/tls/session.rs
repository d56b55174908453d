//! Owns the TLS settings of both ends of a link, and whose certificate the other end showed. Does not read or write.
//! Invariant: TLS 1.3 only; a node is dialled by its own name, so that no other node can stand in for it.

use super::authority::{Pin, TlsError};
use super::credentials::Credentials;
use parking_lot::RwLock;
use proto::ids::{ClusterId, NodeId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in a node's certificate.
pub fn node_name(cluster: ClusterId, node: NodeId) -> String {
    format!("{node}.{cluster}.everdesk.internal")
}

fn server_name(cluster: ClusterId, node: NodeId) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(node_name(cluster, node)).map_err(|error| TlsError::Foreign(error.to_string()))
}

/// What this node shows its peers, and by what it knows them. Replaced at run time when authorities change.
pub struct Identities {
    cluster: ClusterId,
    current: RwLock<Configs>,
}

#[derive(Clone)]
struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identities {
    /// # Errors
    /// Credentials that do not belong together.
    pub fn new(cluster: ClusterId, credentials: &Credentials) -> Result<Identities, TlsError> {
        Ok(Identities { cluster, current: RwLock::new(configs(credentials)?) })
    }

    /// From the next handshake on.
    /// # Errors
    /// As `new`; the old ones stay then.
    pub fn replace(&self, credentials: &Credentials) -> Result<(), TlsError> {
        let fresh = configs(credentials)?;
        *self.current.write() = fresh;
        Ok(())
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().server.clone().into()
    }

    /// What it takes to dial one node.
    /// # Errors
    /// None, for ids that this cluster allots.
    pub fn connector(&self, to: NodeId) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
        Ok((self.current.read().client.clone().into(), server_name(self.cluster, to)?))
    }

    /// Whether the other end's certificate, which TLS has checked, is that of this node.
    pub fn is_of(&self, shown: Option<&[CertificateDer<'_>]>, node: NodeId) -> bool {
        let Some(certificate) = shown.and_then(<[_]>::first) else { return false };
        let Ok(name) = server_name(self.cluster, node) else { return false };
        webpki::EndEntityCert::try_from(certificate)
            .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

fn configs(credentials: &Credentials) -> Result<Configs, TlsError> {
    let mut roots = RootCertStore::empty();
    for trusted in &credentials.trusted {
        roots.add(CertificateDer::from(trusted.clone()))?;
    }
    let roots = Arc::new(roots);
    let chain = || vec![credentials.certificate.clone().into(), credentials.issuer.clone().into()];
    let key = || PrivatePkcs8KeyDer::from(credentials.key.clone()).into();
    // A machine that asks to join has no certificate yet; a link needs one, see `Identities::is_of`.
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Foreign(error.to_string()))?;
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain(), key())?;
    // A resumed session would show who the peer was, not who it is.
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(), key())?;
    client.resumption = rustls::client::Resumption::disabled();
    Ok(Configs { server: Arc::new(server), client: Arc::new(client) })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// For a machine that asks to join: it knows the cluster by the pins in its token, and has no certificate.
/// # Errors
/// None with the algorithms of this build.
pub fn joiner_config(pins: Vec<Pin>) -> Result<TlsConnector, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pins, algorithms }))
        .with_no_client_auth();
    config.enable_sni = false;
    Ok(Arc::new(config).into())
}

/// Takes a server whose chain leads to an authority with one of these pins, whatever node it is.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let root = chain.iter().find(|shown| self.pins.contains(&Pin::of(shown))).ok_or_else(unknown)?;
        let anchor = webpki::anchor_from_trusted_cert(root).map_err(|_| unknown())?;
        let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| unknown())?;
        let usage = webpki::KeyUsage::server_auth();
        parsed
            .verify_for_usage(self.algorithms.all, &[anchor], &[], now, usage, None, None)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadSignature))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
