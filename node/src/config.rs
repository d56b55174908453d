//! Owns the settings of `everdesk start`. Does not read files; flags and the environment come through clap.
//! Invariant: what `validate` let through needs no second check, and no secret shows in its debug form.

use crate::auth::Secret;
use crate::email::SmtpSettings;
use crate::telemetry::LogConfig;
use cluster::config::{RaftTimings, SHARDS_MAX};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Most threads of one kind.
const THREADS_MAX: usize = 256;

/// Start a node. The first start founds a cluster, or joins one with `--join`; later starts go on with the data directory.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Directory of this node's data, and of the commands' credential.
    #[arg(long, env = "EVERDESK_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Address for clients: HTTP and WebSocket. Port 0 picks a free one.
    #[arg(long, env = "EVERDESK_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address for the other nodes.
    #[arg(long, env = "EVERDESK_PEER_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:7080")]
    pub peer_listen: SocketAddr,
    /// Address for administration.
    #[arg(long, env = "EVERDESK_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:9080")]
    pub admin_listen: SocketAddr,
    /// Join the cluster of this node: the address of its peer listener. Passed over once the data directory belongs to a cluster.
    #[arg(long, env = "EVERDESK_JOIN", value_name = "HOST:PEERPORT", requires = "token")]
    pub join: Option<String>,
    /// Join token from `everdesk token create`.
    #[arg(long, env = "EVERDESK_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// Data shards of a cluster that is founded now; fixed for ever then.
    #[arg(long, env = "EVERDESK_SHARDS", default_value_t = 6)]
    pub shards: u32,
    /// How often a leader proves that it is alive, in milliseconds.
    #[arg(long, env = "EVERDESK_HEARTBEAT_MS", default_value_t = 100)]
    pub heartbeat_ms: u64,
    /// Shortest silence of a leader before an election, in milliseconds.
    #[arg(long, env = "EVERDESK_ELECTION_MIN_MS", default_value_t = 300)]
    pub election_min_ms: u64,
    /// Longest such silence, in milliseconds.
    #[arg(long, env = "EVERDESK_ELECTION_MAX_MS", default_value_t = 600)]
    pub election_max_ms: u64,
    /// A node that the meta group's leader has not reached for so many seconds counts as dead, and other nodes take its
    /// replicas over.
    #[arg(long, env = "EVERDESK_DEAD_AFTER_S", default_value_t = 300)]
    pub dead_after_s: u64,
    /// Where this machine stands, e.g. its rack or data centre: replicas of a shard are spread over zones.
    #[arg(long, env = "EVERDESK_ZONE", default_value = "")]
    pub zone: String,
    /// Threads that serve clients; one for two cores unless given.
    #[arg(long, env = "EVERDESK_HTTP_WORKERS")]
    pub http_workers: Option<usize>,
    /// Threads that run the replicas; one for two cores unless given.
    #[arg(long, env = "EVERDESK_RAFT_THREADS")]
    pub raft_threads: Option<usize>,
    /// Host that other nodes and clients are told where this node listens on all addresses (0.0.0.0).
    #[arg(long, env = "EVERDESK_ADVERTISE_HOST", value_name = "HOST")]
    pub advertise_host: Option<String>,
    /// File with the token of the admin API that this node starts with; drawn at random unless given. Read at the first start
    /// only. The founder's is good at every node, so that who deploys a cluster knows it beforehand.
    #[arg(long, env = "EVERDESK_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Let administrators cause faults on purpose, each for a bounded time, to see a fail-over. Not for a cluster that serves.
    #[arg(long, env = "EVERDESK_ALLOW_DRILLS")]
    pub allow_drills: bool,
    /// Networks outside of the internet that webhooks may call, e.g. 10.1.0.0/16 for a system in the same house.
    #[arg(long, env = "EVERDESK_WEBHOOK_ALLOW", value_name = "NETWORK", value_delimiter = ',')]
    pub webhook_allow: Vec<ipnet::IpNet>,
    /// Networks of reverse proxies whose X-Forwarded-For says where a client is; without it, where the connection comes from.
    #[arg(long, env = "EVERDESK_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',')]
    pub trusted_proxy: Vec<ipnet::IpNet>,
    /// File in the MaxMind DB format (.mmdb) that says in which country and city addresses are; read again when it changes.
    #[arg(long, env = "EVERDESK_GEO_FILE", value_name = "FILE")]
    pub geo_file: Option<PathBuf>,
    /// How long a day is for retention, in seconds. For tests.
    /// Where old conversations are moved: DIR, which all nodes share, or s3://BUCKET/PREFIX with the usual AWS_ variables. The same at
    /// every node; without it they stay here. See docs/ARCHIVE.md.
    #[arg(long, env = "EVERDESK_ARCHIVE", value_name = "PLACE")]
    pub archive: Option<String>,
    /// How long a day is for retention and for the archive, in seconds. For tests.
    #[arg(long, env = "EVERDESK_RETENTION_DAY_S", hide = true, default_value_t = crate::retention::DAY.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    pub retention_day_s: u64,
    #[command(flatten)]
    pub smtp: SmtpSettings,
    #[command(flatten)]
    pub log: LogConfig,
}

/// Longest name of a zone, in bytes.
const ZONE_BYTES_MAX: usize = 64;

/// A setting that cannot work; the text names the flag.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |text: String| Err(ConfigError(text));
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            return wrong(format!("--shards must be 1 to {SHARDS_MAX}"));
        }
        for (flag, threads) in [("--http-workers", self.http_workers), ("--raft-threads", self.raft_threads)] {
            if threads.is_some_and(|threads| !(1..=THREADS_MAX).contains(&threads)) {
                return wrong(format!("{flag} must be 1 to {THREADS_MAX}"));
            }
        }
        if self.dead_after_s == 0 {
            return wrong("--dead-after-s must be at least 1".into());
        }
        if self.zone.len() > ZONE_BYTES_MAX {
            return wrong(format!("--zone is longer than {ZONE_BYTES_MAX} bytes"));
        }
        if self.join.as_deref().is_some_and(|join| !is_host_port(join)) {
            return wrong("--join must be HOST:PEERPORT".into());
        }
        if self.token.as_ref().is_some_and(|token| token.expose().is_empty()) {
            return wrong("--token is empty".into());
        }
        if self.advertise_host.as_deref().is_some_and(|host| !is_host(host)) {
            return wrong("--advertise-host must be a host name or an IP address, without a port".into());
        }
        if self.peer_listen.ip().is_unspecified() && self.advertise_host.is_none() {
            return wrong(format!(
                "--peer-listen {} needs --advertise-host: the other nodes must be told one address",
                self.peer_listen
            ));
        }
        let listeners = [&self.listen, &self.peer_listen, &self.admin_listen];
        for (at, one) in listeners.iter().enumerate() {
            if one.port() != 0 && listeners[..at].contains(one) {
                return wrong(format!("two listeners are given {one}"));
            }
        }
        self.timings().validate().map_err(ConfigError)
    }

    pub fn timings(&self) -> RaftTimings {
        RaftTimings {
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            election_min: Duration::from_millis(self.election_min_ms),
            election_max: Duration::from_millis(self.election_max_ms),
        }
    }

    /// What others are told about a listener that is bound to `bound`.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        if !bound.ip().is_unspecified() {
            return bound.to_string();
        }
        let host = match &self.advertise_host {
            Some(host) => host.clone(),
            // `validate` asks for a host when this one is unspecified too.
            None => self.peer_listen.ip().to_string(),
        };
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
            return format!("[{host}]:{}", bound.port());
        }
        format!("{host}:{}", bound.port())
    }
}

/// One thread for two cores: clients and replicas are served by as many threads each, and together there is one per core. On two
/// cores this took 15 % less CPU per message at one in flight than one per core each (`make bench`).
pub fn half_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (!text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')))
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    fn config(flags: &[&str]) -> Config {
        Line::try_parse_from(std::iter::once(&"start").chain(flags)).expect("flags that clap takes").config
    }

    fn error(flags: &[&str]) -> String {
        config(flags).validate().expect_err("a setting that cannot work").to_string()
    }

    #[test]
    fn a_node_needs_no_configuration() {
        let config = config(&[]);
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.advertised(config.peer_listen), "127.0.0.1:7080");
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let faulty: [(&[&str], &str); 9] = [
            (&["--shards", "0"], "--shards"),
            (&["--shards", "65"], "--shards"),
            (&["--http-workers", "0"], "--http-workers"),
            (&["--raft-threads", "100000"], "--raft-threads"),
            (&["--join", "somewhere", "--token", "t"], "--join"),
            (&["--join", "h:0", "--token", "t"], "--join"),
            (&["--peer-listen", "0.0.0.0:7080"], "--advertise-host"),
            (&["--listen", "127.0.0.1:7080"], "two listeners"),
            (&["--election-min-ms", "150"], "election"),
        ];
        for (flags, part) in faulty {
            let text = error(flags);
            assert!(text.contains(part), "{flags:?}: {text}");
        }
        assert!(Line::try_parse_from(["start", "--join", "h:1"]).is_err(), "no token");
        assert!(Line::try_parse_from(["start", "--lisen", "h:1"]).is_err(), "no such flag");
    }

    #[test]
    fn all_addresses_are_advertised_under_the_given_host() {
        let named = config(&["--peer-listen", "0.0.0.0:0", "--advertise-host", "node-1.example"]);
        assert_eq!(named.validate(), Ok(()));
        assert_eq!(named.advertised(SocketAddr::from(([0, 0, 0, 0], 9))), "node-1.example:9");
        assert_eq!(named.advertised(SocketAddr::from(([10, 0, 0, 1], 9))), "10.0.0.1:9");
        let wide = config(&["--listen", "0.0.0.0:8080", "--peer-listen", "10.0.0.1:7080"]);
        assert_eq!(wide.validate(), Ok(()));
        assert_eq!(wide.advertised(wide.listen), "10.0.0.1:8080");
        let six = config(&["--listen", "[::]:8080", "--peer-listen", "[::1]:7080"]);
        assert_eq!(six.advertised(six.listen), "[::1]:8080");
    }

    #[test]
    fn the_join_token_is_never_printed() {
        let config = config(&["--join", "h:1", "--token", "join.very-secret"]);
        let printed = format!("{config:?}");
        assert!(!printed.contains("very-secret"), "{printed}");
        assert!(printed.contains("***"), "{printed}");
    }
}
