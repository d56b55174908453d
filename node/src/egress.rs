//! Owns requests that the desk makes to addresses which its users chose. Does not know what is sent. Invariant: a connection is made only
//! to an address that was checked, whatever a name resolves to later and wherever a receiver redirects to.

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use url::Host;

/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for a whole answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read, so that the connection can serve again; none of them matters.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 3;
/// Idle connections to one receiver.
const IDLE_MAX: usize = 8;
/// The longest pause that a receiver may ask for.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Networks that are not the internet, besides what lies outside of 2000::/3.
/// Source: IANA's registries of special-purpose addresses, November 2026.
const CLOSED: [&str; 24] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    // What a cloud keeps its metadata under beside 169.254.169.254.
    "168.63.129.16/32",
    "2001::/23",
    "2001:db8::/32",
    // Both hold an IPv4 address that a gateway would go on to.
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
];

static CLOSED_NETS: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| CLOSED.iter().map(|net| net.parse().expect("the list holds networks")).collect());

/// Everything that may be reached.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// The internet, and these networks.
    pub fn new(also: Vec<IpNet>) -> Arc<Allowed> {
        Arc::new(Allowed(also))
    }

    fn has(&self, address: IpAddr) -> bool {
        // An IPv4 address in the clothes of an IPv6 one is what it is.
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address)) || is_public(address)
    }

    /// Whether a URL may be asked, as far as it can be told without a resolver.
    /// # Errors
    /// What is wrong with it, as a sentence's end.
    pub fn check(&self, url: &Url) -> Result<(), &'static str> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("only http and https are spoken");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL with a user in it is not asked");
        }
        let address = match url.host() {
            None => return Err("the URL names no host"),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        if self.has(address) { Ok(()) } else { Err(NOT_ALLOWED) }
    }
}

const NOT_ALLOWED: &str = "the address is not on the internet, and --webhook-allow does not name it";

fn is_public(address: IpAddr) -> bool {
    let is_routed = match address {
        IpAddr::V4(address) => address != Ipv4Addr::BROADCAST,
        IpAddr::V6(address) => Ipv6Addr::segments(&address)[0] & 0xe000 == 0x2000,
    };
    is_routed && !CLOSED_NETS.iter().any(|net| net.contains(&address))
}

/// Resolves names to addresses that may be reached.
struct Guarded(Arc<Allowed>);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let may: Vec<SocketAddr> = found.into_iter().filter(|address| allowed.has(address.ip())).collect();
            if may.is_empty() {
                return Err(NOT_ALLOWED.into());
            }
            Ok(Box::new(may.into_iter()) as Addrs)
        })
    }
}

/// Sends requests to the outside.
pub struct Egress {
    client: Client,
    allowed: Arc<Allowed>,
}

/// How a request failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// For people; constant but for numbers and names of the receiver's own.
    pub why: String,
    /// The receiver asks to be left alone for so long.
    pub wait: Duration,
}

impl Egress {
    /// # Errors
    /// The machine's root certificates cannot be read.
    pub fn new(allowed: Arc<Allowed>) -> Result<Egress, String> {
        // Another part may have done so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let for_redirects = allowed.clone();
        let client = Client::builder()
            .user_agent(concat!("Everdesk/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            // The address of a webhook may hold a secret, and a redirect leads to somebody else.
            .referer(false)
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .pool_max_idle_per_host(IDLE_MAX)
            .dns_resolver(Arc::new(Guarded(allowed.clone())))
            .redirect(Policy::custom(move |attempt| redirected(&for_redirects, attempt)))
            .build();
        Ok(Egress { client: client.map_err(|error| reason(&error))?, allowed })
    }

    /// Posts a JSON body. Everything but a status of success has failed.
    /// # Errors
    /// `Failed`.
    pub async fn post(&self, url: Url, headers: HeaderMap, body: String) -> Result<(), Failed> {
        let failed = |why: String| Failed { why, wait: Duration::ZERO };
        self.allowed.check(&url).map_err(|why| failed(why.to_owned()))?;
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let mut answer = sent.map_err(|error| failed(reason(&error)))?;
        let status = answer.status();
        let wait = wait_of(status, answer.headers());
        let mut read = 0;
        while let Ok(Some(part)) = answer.chunk().await {
            read += part.len();
            if read > ANSWER_BYTES_MAX {
                break;
            }
        }
        if status.is_success() { Ok(()) } else { Err(Failed { why: format!("status {}", status.as_u16()), wait }) }
    }
}

/// A receiver may move, but not turn the post into something else, nor lead to where it could not have been set up.
fn redirected(allowed: &Allowed, attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let keeps = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if !keeps {
        return attempt.stop();
    }
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_safe && attempt.url().scheme() != "https" {
        return attempt.error("a redirect from https to http is not followed");
    }
    match allowed.check(attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    }
}

fn wait_of(status: StatusCode, headers: &HeaderMap) -> Duration {
    let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.filter(|_| asks).map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds).min(WAIT_MAX))
}

/// The innermost reason, without the URL: it may hold a secret.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut inner = std::error::Error::source(error);
    while let Some(deeper) = inner.and_then(std::error::Error::source) {
        inner = Some(deeper);
    }
    inner.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
