//! Owns the way of an e-mail to the operator's SMTP server. Does not decide what is sent, nor when again. Invariant: the password shows
//! nowhere, and a server that does not answer is left alone by everybody.

use crate::auth::Secret;
use crate::breaker::{Breaker, State};
use cluster::shard::now_ms;
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use parking_lot::Mutex;
use proto::ids::SiteId;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use url::Url;

/// Longest wait for one answer of the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest time that one e-mail takes.
const SEND_WITHIN: Duration = Duration::from_secs(60);
/// Connections to the server.
const CONNECTIONS_MAX: usize = 4;
/// A connection that nobody uses is closed.
const IDLE_WITHIN: Duration = Duration::from_secs(30);
/// Longest e-mail, in bytes, as it goes over the line.
const EMAIL_BYTES_MAX: usize = 2 << 20;
const HOUR_MS: u64 = 3_600_000;
/// In which the password is looked for when no file is named.
const PASSWORD_VARIABLE: &str = "EVERDESK_SMTP_PASSWORD";

/// How e-mails leave.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SmtpSettings {
    /// SMTP server for e-mails: smtp://USER@HOST:PORT (STARTTLS), smtps://USER@HOST:PORT (TLS from the first byte), or
    /// smtp-plain://HOST:PORT (no TLS; for a relay on the same machine). Without it, this node sends no e-mails. The password is read from
    /// --smtp-password-file, or from the variable EVERDESK_SMTP_PASSWORD.
    #[arg(long, env = "EVERDESK_SMTP_URL", value_name = "URL", requires = "mail_from")]
    pub smtp_url: Option<String>,
    /// File with the password for the SMTP server.
    #[arg(long, env = "EVERDESK_SMTP_PASSWORD_FILE", value_name = "FILE", requires = "smtp_url")]
    pub smtp_password_file: Option<PathBuf>,
    /// Address that e-mails come from, e.g. chat@example.com.
    #[arg(long, env = "EVERDESK_MAIL_FROM", value_name = "ADDRESS")]
    pub mail_from: Option<String>,
    /// E-mails of one site that this node sends in an hour; the rest waits.
    #[arg(long, env = "EVERDESK_MAILS_PER_HOUR", default_value_t = 1_000)]
    pub mails_per_hour: u32,
}

/// Sends e-mails.
pub struct Mailer {
    /// `None`: it is being dropped.
    transport: Option<AsyncSmtpTransport<Tokio1Executor>>,
    /// Connections are tended and closed there.
    runtime: Handle,
    from: Address,
    breaker: Mutex<Breaker>,
    places: Semaphore,
    per_hour: u32,
    /// In which hour, and how many.
    sent: Mutex<BTreeMap<SiteId, (u64, u32)>>,
}

/// Why the server has not taken an e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSent {
    /// For people.
    pub why: String,
    /// The same would come of it another time.
    pub is_final: bool,
}

impl Mailer {
    /// `None`: nothing is to be sent.
    /// # Errors
    /// A setting that cannot work; the text names the flag.
    pub fn new(settings: &SmtpSettings, runtime: &Handle) -> Result<Option<Arc<Mailer>>, String> {
        let (Some(url), Some(from)) = (&settings.smtp_url, &settings.mail_from) else { return Ok(None) };
        let from = super::compose::address(from).ok_or("--mail-from is no address")?;
        let password = match &settings.smtp_password_file {
            Some(file) => {
                Some(std::fs::read_to_string(file).map_err(|error| format!("--smtp-password-file: {error}"))?)
            }
            None => std::env::var(PASSWORD_VARIABLE).ok(),
        };
        let password = password.map(|text| Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()));
        let _entered = runtime.enter();
        let transport = Some(transport(url, password, &from)?);
        Ok(Some(Arc::new(Mailer {
            transport,
            runtime: runtime.clone(),
            from,
            breaker: Mutex::default(),
            places: Semaphore::new(CONNECTIONS_MAX),
            per_hour: settings.mails_per_hour,
            sent: Mutex::default(),
        })))
    }

    /// Where e-mails come from; its domain is that of Message-IDs.
    pub fn from(&self) -> &Address {
        &self.from
    }

    /// Whether the server may be called; `Trial`: by whoever takes it, once.
    pub fn state(&self) -> State {
        self.breaker.lock().state(Instant::now())
    }

    /// Takes the one call while it is left alone.
    pub fn try_once(&self) -> bool {
        self.breaker.lock().try_once(Instant::now(), SEND_WITHIN)
    }

    /// Takes one of those that the site may have sent in this hour.
    pub fn has_room(&self, site: SiteId) -> bool {
        let hour = now_ms() / HOUR_MS;
        let mut sent = self.sent.lock();
        sent.retain(|_, (of, _)| *of == hour);
        let (_, count) = sent.entry(site).or_insert((hour, 0));
        let has_room = *count < self.per_hour;
        *count += u32::from(has_room);
        has_room
    }

    /// # Errors
    /// `NotSent`.
    pub async fn send(&self, message: Message, is_trial: bool) -> Result<(), NotSent> {
        if message.formatted().len() > EMAIL_BYTES_MAX {
            return Err(NotSent { why: "it is too long".to_owned(), is_final: true });
        }
        let _place = self.places.acquire().await;
        let started = Instant::now();
        let Some(transport) = &self.transport else {
            return Err(NotSent { why: "this node ends".to_owned(), is_final: false });
        };
        let sent = tokio::time::timeout(SEND_WITHIN, transport.send(message)).await;
        let (told, is_well) = match sent {
            Ok(Ok(_)) => (Ok(()), true),
            Ok(Err(error)) => {
                let code = error.status().map(u16::from);
                (Err(NotSent { why: reason(&error), is_final: is_final(code) }), is_well(code))
            }
            Err(_) => (Err(NotSent { why: "the server did not answer in time".to_owned(), is_final: false }), false),
        };
        self.breaker.lock().tell(Instant::now(), is_well, is_trial);
        let result = match &told {
            Ok(()) => "sent",
            Err(failed) if failed.is_final => "refused",
            Err(_) => "failed",
        };
        metrics::counter!("chat_email_sent_total", "result" => result).increment(1);
        metrics::histogram!("chat_email_send_seconds").record(started.elapsed().as_secs_f64());
        told
    }
}

/// Whether the server refuses this e-mail for good: its address or what is in it. What is wrong with the connection or the account passes.
/// Source: RFC 5321, section 4.2.3.
fn is_final(code: Option<u16>) -> bool {
    matches!(code, Some(550..=553 | 555 | 556))
}

/// Whether a server that answers so would take another e-mail: not one that closes, or does not know us.
fn is_well(code: Option<u16>) -> bool {
    code.is_some_and(|code| !matches!(code, 421 | 454 | 500..=504 | 521 | 530..=538 | 554))
}

impl Drop for Mailer {
    /// The pool of connections ends its task by a task, wherever the last user of it goes.
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.transport = None;
    }
}

fn transport(
    url: &str,
    password: Option<Secret>,
    from: &Address,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let wrong = |why: &str| format!("--smtp-url {why}");
    let url: Url = url.parse().map_err(|_| wrong("is no URL"))?;
    if url.password().is_some() {
        return Err(wrong("must not hold the password: --smtp-password-file does"));
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?;
    // Another part may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tls = || TlsParameters::new(host.to_owned()).map_err(|error| wrong(&error.to_string()));
    let (tls, port) = match url.scheme() {
        "smtp" => (Tls::Required(tls()?), 587),
        "smtps" => (Tls::Wrapper(tls()?), 465),
        "smtp-plain" => (Tls::None, 25),
        _ => return Err(wrong("begins with smtp://, smtps:// or smtp-plain://")),
    };
    let pool = PoolConfig::new().max_size(CONNECTIONS_MAX as u32).idle_timeout(IDLE_WITHIN);
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(url.port().unwrap_or(port))
        .tls(tls)
        .timeout(Some(ANSWER_WITHIN))
        .hello_name(ClientId::Domain(from.domain().to_owned()))
        .pool_config(pool);
    if !url.username().is_empty() {
        let user = percent(url.username()).ok_or_else(|| wrong("has a user that cannot be read"))?;
        let password = password.ok_or_else(|| wrong("has a user, and there is no password"))?;
        builder = builder.credentials(Credentials::new(user, password.expose().to_owned()));
    }
    Ok(builder.build())
}

/// `%40` in a user's name is `@`.
fn percent(text: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            out.push(*first);
        }
    }
    String::from_utf8(out).ok()
}

/// The innermost reason: the outer ones say less.
fn reason(error: &lettre::transport::smtp::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(deeper) = inner.source() {
        inner = deeper;
    }
    match error.status() {
        Some(code) => format!("{code} {inner}"),
        None => inner.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailer(url: &str, per_hour: u32) -> Result<Option<Arc<Mailer>>, String> {
        let mail_from = Some("chat@example.com".to_owned());
        let smtp_url = Some(url.to_owned());
        let settings = SmtpSettings { smtp_url, mail_from, mails_per_hour: per_hour, ..SmtpSettings::default() };
        Mailer::new(&settings, &Handle::current())
    }

    #[tokio::test]
    async fn a_server_is_named_without_a_password_and_settings_that_cannot_work_are_named() {
        assert!(Mailer::new(&SmtpSettings::default(), &Handle::current()).unwrap().is_none());
        for (url, part) in [
            ("smtp://ada:secret@mail.example", "--smtp-password-file"),
            ("smtp://ada@mail.example", "no password"),
            ("http://mail.example", "begins with"),
            ("smtp://", "names no host"),
            ("mail.example", "is no URL"),
        ] {
            let error = mailer(url, 1).err().unwrap_or_default();
            assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
        }
        assert_eq!(percent("ada%40example.com").as_deref(), Some("ada@example.com"));
        assert_eq!((percent("%4"), percent("%zz")), (None, None));
    }

    #[tokio::test]
    async fn a_site_sends_so_many_in_an_hour_and_another_one_all_the_same() {
        let mailer = mailer("smtp-plain://127.0.0.1:1", 2).unwrap().unwrap();
        let room: Vec<bool> = (0..4).map(|_| mailer.has_room(SiteId(1))).collect();
        // The hour may change in between.
        assert!(room[0] && room.iter().filter(|has| **has).count() <= 3, "{room:?}");
        assert!(mailer.has_room(SiteId(2)));
        assert_eq!(mailer.from().domain(), "example.com");
    }

    #[test]
    fn a_mailer_may_go_when_its_runtime_is_gone() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let made = runtime.block_on(async { mailer("smtp-plain://127.0.0.1:1", 1) }).unwrap();
        drop(runtime);
        assert_eq!(made.map(|mailer| mailer.per_hour), Some(1));
    }
}
