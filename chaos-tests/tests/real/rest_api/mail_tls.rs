//! Owns the tests of e-mails to servers with TLS: which of them are trusted, and that nothing goes to the others.

use super::*;
use base64ct::{Base64, Encoding};
use chaos_tests::smtp::{SmtpServer, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use std::sync::Arc;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const HOST: &str = "127.0.0.1";
const SECRET: &str = "a word of the mail server";

/// Signs the certificates of mail servers.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// X.509, DER.
    certificate: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> anyhow::Result<Authority> {
        let (key, mut params) = (KeyPair::generate()?, CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    /// As files of trusted authorities are.
    fn pem(&self) -> String {
        let text = Base64::encode_string(&self.certificate);
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// A server of that name, whose certificate is good from one year to another.
    fn server(&self, name: &str, (from, to): (i32, i32)) -> anyhow::Result<Arc<ServerConfig>> {
        let (key, mut params) = (KeyPair::generate()?, CertificateParams::new(vec![name.to_owned()])?);
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let certificate = CertificateDer::from(params.signed_by(&key, &self.issuer)?.der().to_vec());
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config =
            ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key)?))
    }
}

const GOOD: (i32, i32) = (2000, 9999);

/// Has a node that trusts the authority send an e-mail to the server; what it says of that.
async fn sent(scheme: &str, server: &SmtpServer, authority: &Authority) -> anyhow::Result<Value> {
    let dir = chaos_tests::cluster::directory()?;
    let (roots, word) = (dir.path().join("roots.pem"), dir.path().join("word"));
    std::fs::write(&roots, authority.pem())?;
    std::fs::write(&word, SECRET)?;
    let url = format!("{scheme}://everdesk@{}", server.address);
    let word = word.display().to_string();
    let args = ["--smtp-url", &url, "--smtp-password-file", &word, "--mail-from", "chat@everdesk.example"];
    let cluster = Cluster::start_one_where(&format!("SSL_CERT_FILE={}", roots.display()), &args).await?;
    let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
    done_by_any(&cluster, &owner, "POST", "/v1/mail/test", Some(json!({ "to": "olga@shop.example" }))).await
}

#[tokio::test]
async fn an_e_mail_arrives_by_starttls_and_by_tls_and_nobody_on_the_way_reads_a_word() -> anyhow::Result<()> {
    let authority = Authority::new("the one that is trusted")?;
    let config = || authority.server(HOST, GOOD);
    for (scheme, tls) in [("smtp", Tls::StartTls(config()?)), ("smtps", Tls::FromTheFirstByte(config()?))] {
        let server = SmtpServer::start_with(tls).await?;
        let told = sent(scheme, &server, &authority).await?;
        ensure!(told["sent"] == true, "{scheme}: {told}");
        let came = server.taken();
        ensure!(came.len() == 1 && came[0].is_secret && came[0].to == ["olga@shop.example"], "{scheme}: {came:?}");
        nothing_is_told(scheme, &server)?;
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_to_a_mail_server_that_cannot_prove_its_name_or_speaks_no_tls() -> anyhow::Result<()> {
    let (authority, other) = (Authority::new("the one that is trusted")?, Authority::new("another one")?);
    let by_a_stranger = other.server(HOST, GOOD)?;
    let of_another = authority.server("mail.elsewhere.example", GOOD)?;
    let of_yesterday = authority.server(HOST, (2000, 2001))?;
    let mut all = vec![("no TLS, and it is asked for", "smtp", Tls::Never), ("no TLS at all", "smtps", Tls::Never)];
    for (what, config) in [("by a stranger", by_a_stranger), ("of another", of_another), ("of yesterday", of_yesterday)]
    {
        all.push((what, "smtp", Tls::StartTls(config.clone())));
        all.push((what, "smtps", Tls::FromTheFirstByte(config)));
    }
    for (what, scheme, tls) in all {
        let server = SmtpServer::start_with(tls).await?;
        let told = sent(scheme, &server, &authority).await?;
        ensure!(told["sent"] == false, "{what} by {scheme}: {told}");
        ensure!(told["why"].as_str().is_some_and(|why| !why.contains(SECRET)), "{told}");
        ensure!(server.came().is_empty(), "{what} by {scheme}: {:?}", server.came());
        nothing_is_told(what, &server)?;
        println!("{what} by {scheme}: {}", told["why"]);
    }
    Ok(())
}

/// Without TLS only what asks for it is said: neither who writes, nor to whom, nor a password.
fn nothing_is_told(what: &str, server: &SmtpServer) -> anyhow::Result<()> {
    let said = server.said_openly();
    let is_needed =
        |line: &String| line.starts_with("EHLO ") || line == "STARTTLS" || line == "QUIT" || line.is_empty();
    // Bytes of TLS that come to a server without it are no words.
    let is_noise = |line: &String| line.contains(|c: char| c.is_control());
    ensure!(said.iter().all(|line| is_needed(line) || is_noise(line)), "{what}: {said:?}");
    Ok(())
}
