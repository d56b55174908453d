//! Owns `everdesk health`: what a container's health check runs. Does not decide health: the node does.
//! Invariant: it needs no credential and no data directory, and answers within the time that was given.

use anyhow::{Context, bail};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Which node, and what to ask.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// The node's address for clients, as given to `everdesk start`; 0.0.0.0 stands for this machine.
    #[arg(long, env = "EVERDESK_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Ask only whether the process answers, not whether clients can be served.
    #[arg(long)]
    live: bool,
    /// Longest wait, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    within_ms: u64,
}

/// Prints `ready` or `live`.
/// # Errors
/// Nobody answers, or the node says why it cannot serve.
pub fn check(args: &HealthArgs) -> anyhow::Result<()> {
    let word = if args.live { "live" } else { "ready" };
    let address = reachable(args.listen);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_millis(args.within_ms)))
        .build()
        .into();
    let answer = agent.get(format!("http://{address}/health/{word}")).call();
    let mut response = answer.with_context(|| format!("{address} does not answer"))?;
    let status = response.status();
    if status.is_success() {
        println!("{word}");
        return Ok(());
    }
    let body: Value = serde_json::from_str(&response.body_mut().read_to_string()?).unwrap_or(Value::Null);
    let reasons: Vec<&str> = body["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    bail!("not {word}: {}", if reasons.is_empty() { status.to_string() } else { reasons.join("; ") })
}

/// Nobody can connect to "all addresses".
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn args(listen: SocketAddr) -> HealthArgs {
        HealthArgs { listen, live: false, within_ms: 5_000 }
    }

    /// Answers one request with these bytes.
    fn server(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut asked = [0; 1024];
            let len = stream.read(&mut asked).expect("a request");
            stream.write_all(answer.as_bytes()).expect("an answer");
            String::from_utf8_lossy(&asked[..len]).into_owned()
        });
        (address, thread)
    }

    #[test]
    fn all_addresses_are_asked_on_this_machine() {
        let asked = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(asked("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(asked("[::]:8080"), "[::1]:8080");
        assert_eq!(asked("10.0.0.1:80"), "10.0.0.1:80");
    }

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let body = r#"{"ready":false,"reasons":["this node is going away"]}"#;
        let answer = format!("HTTP/1.1 503 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (address, thread) = server(Box::leak(answer.into_boxed_str()));
        let said = check(&args(address)).expect_err("503").to_string();
        assert_eq!(said, "not ready: this node is going away");
        assert!(thread.join().expect("answered").starts_with("GET /health/ready "));
    }

    #[test]
    fn a_ready_node_is_well_and_nobody_is_not() {
        let (address, thread) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        check(&args(address)).expect("200");
        thread.join().expect("answered");
        // Its listener is gone now.
        assert!(check(&args(address)).expect_err("nobody").to_string().contains("does not answer"));
    }
}
