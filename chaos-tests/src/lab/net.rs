//! Owns a network of its own for one cluster: a bridge, and a namespace for each node and for clients. Does not cut it; see `cuts`.
//! Invariant: outside its namespaces it adds one device and one address to the machine, in a subnet that nothing else uses.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;

use anyhow::{Context, bail};

use super::cuts::Rules;
use super::owner::{self, NAMESPACES};
use super::tool::{self, Need};

/// Nodes of a network at most; the addresses behind are the clients' and the tests'.
pub const NODES_MAX: u64 = 200;
/// Every node has its own address, so all use the same ports.
pub const CLIENT_PORT: u16 = 8080;
pub const PEER_PORT: u16 = 7080;
pub const ADMIN_PORT: u16 = 9080;

const NEEDS: [Need; 4] =
    [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux"), ("setpriv", "util-linux")];
const CLIENTS_HOST: u8 = 251;
const HARNESS_HOST: u8 = 254;
/// Second and third number of 10.x.y.0/24.
const SUBNETS: std::ops::Range<u32> = 200 << 8..250 << 8;

/// Who sends and receives on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Counts from 1.
    Node(u64),
    /// Processes in the clients' namespace.
    Clients,
    /// Processes outside all namespaces: the test itself.
    Harness,
}

/// The network. Removed when dropped, with every process in its namespaces.
pub struct Network {
    tag: String,
    /// First three numbers of its addresses.
    subnet: [u8; 3],
    /// The one that it adds to the machine.
    device: String,
    nodes: u64,
    pub(super) rules: Mutex<Rules>,
    pub(super) queues: AtomicU16,
}

impl Network {
    /// Whether this machine can have one; if not, use the loopback address and no cuts.
    /// # Errors
    /// What is missing, and how to get it.
    pub fn available() -> Result<(), String> {
        tool::require(&NEEDS)?;
        let name = owner::tag();
        let made = tool::run("ip", &["netns", "add", &name]);
        owner::remove_namespace(&name);
        made.map(drop).map_err(|error| format!("no network namespaces here: {error:#}"))
    }

    /// Makes namespaces for nodes 1 to `nodes` and for clients, all on one bridge.
    /// # Errors
    /// `available` says why, or no subnet is free.
    pub fn new(nodes: u64) -> anyhow::Result<Network> {
        anyhow::ensure!((1..=NODES_MAX).contains(&nodes), "{nodes} nodes: a network has 1 to {NODES_MAX}");
        tool::require(&NEEDS).map_err(anyhow::Error::msg)?;
        let mut network = Network {
            tag: owner::tag(),
            subnet: [10, 0, 0],
            device: String::new(),
            nodes,
            rules: Mutex::new(Rules::default()),
            queues: AtomicU16::new(0),
        };
        network.set_up().context("set a network up")?;
        Ok(network)
    }

    fn set_up(&mut self) -> anyhow::Result<()> {
        let bridge = self.bridge();
        tool::run("ip", &["netns", "add", &bridge])?;
        (self.device, self.subnet) = claim_subnet(&bridge, &self.tag)?;
        let mut ports = String::from("link add br0 type bridge\nlink set br0 up\nlink set lo up\n");
        ports.push_str("link set out master br0 up\n");
        for end in self.inner_ends() {
            let (name, port) = (self.namespace(end), port_of(end));
            tool::run("ip", &["netns", "add", &name])?;
            ports.push_str(&format!("link add {port} type veth peer name eth0 netns {name}\n"));
            ports.push_str(&format!("link set {port} master br0 up\n"));
        }
        tool::run_with("ip", &["-n", &bridge, "-batch", "-"], &ports)?;
        for end in self.inner_ends() {
            let addr = self.address(end);
            let inside = format!("link set lo up\naddress add {addr}/24 dev eth0\nlink set eth0 up\n");
            tool::run_with("ip", &["-n", &self.namespace(end), "-batch", "-"], &inside)?;
        }
        Ok(())
    }

    /// The address of an end.
    pub fn address(&self, end: End) -> Ipv4Addr {
        let host = match end {
            End::Node(number) => number as u8,
            End::Clients => CLIENTS_HOST,
            End::Harness => HARNESS_HOST,
        };
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, host)
    }

    /// `host:port` of a node; the ports are `CLIENT_PORT`, `PEER_PORT` and `ADMIN_PORT`.
    pub fn host_port(&self, node: u64, port: u16) -> String {
        format!("{}:{port}", self.address(End::Node(node)))
    }

    /// What to put before a command so that it runs there. It replaces itself by the command, so the process id stays.
    pub fn exec_in(&self, end: End) -> Vec<String> {
        match end {
            End::Harness => Vec::new(),
            // Not `ip netns exec`: that gives the process mounts of its own, which keep a disk alive that was unmounted here.
            inner => enter(&self.namespace(inner)),
        }
    }

    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Every node's number.
    pub fn numbers(&self) -> Vec<u64> {
        (1..=self.nodes).collect()
    }

    /// The same as `exec_in`, for the namespace through which all packets go.
    pub(super) fn exec_in_bridge(&self) -> Vec<String> {
        enter(&self.bridge())
    }

    /// The name of the bridge's side of the cable to an end.
    pub(super) fn port(&self, end: End) -> String {
        port_of(end)
    }

    fn inner_ends(&self) -> Vec<End> {
        (1..=self.nodes).map(End::Node).chain([End::Clients]).collect()
    }

    fn bridge(&self) -> String {
        format!("{}-br", self.tag)
    }

    fn namespace(&self, end: End) -> String {
        format!("{}-{}", self.tag, port_of(end))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for end in self.inner_ends() {
            owner::remove_namespace(&self.namespace(end));
        }
        // It would go with its other end, but only when the kernel comes around to that.
        owner::remove_device(&self.device);
        owner::remove_namespace(&self.bridge());
    }
}

fn enter(namespace: &str) -> Vec<String> {
    let nsenter = tool::find("nsenter").map_or_else(|| "nsenter".to_owned(), |path| path.display().to_string());
    vec![nsenter, format!("--net={NAMESPACES}/{namespace}"), "--".to_owned()]
}

fn port_of(end: End) -> String {
    match end {
        End::Node(number) => format!("n{number}"),
        End::Clients => "clients".to_owned(),
        End::Harness => "out".to_owned(),
    }
}

/// Takes a subnet by making its device, whose name only one lab can have, and gives the device the tests' address.
fn claim_subnet(bridge: &str, tag: &str) -> anyhow::Result<(String, [u8; 3])> {
    let used = used_subnets()?;
    let count = SUBNETS.end - SUBNETS.start;
    let first = std::process::id().wrapping_mul(37) % count;
    for step in 0..count {
        let slot = SUBNETS.start + (first + step) % count;
        let [_, _, x, y] = slot.to_be_bytes();
        let subnet = [10, x, y];
        if used.iter().any(|other| other.overlaps(subnet)) {
            continue;
        }
        let device = format!("edlab{slot}");
        let made = tool::run("ip", &["link", "add", &device, "type", "veth", "peer", "name", "out", "netns", bridge]);
        match made {
            Ok(_) => {}
            // Another lab was faster.
            Err(error) if error.to_string().contains("File exists") => continue,
            Err(error) => return Err(error),
        }
        let own = format!("10.{x}.{y}.{HARNESS_HOST}/24");
        // The alias tells whose it is: the name is too short for that.
        let up = format!("link set {device} alias {tag}\naddress add {own} dev {device}\nlink set {device} up\n");
        tool::run_with("ip", &["-batch", "-"], &up)?;
        return Ok((device, subnet));
    }
    bail!("no free subnet among 10.200.0.0/24 to 10.249.255.0/24: free one, or run without a network of its own")
}

/// A range of addresses that something on this machine uses.
struct Range {
    first: u32,
    bits: u32,
}

impl Range {
    fn read(text: &str) -> Option<Range> {
        let (addr, bits) = text.split_once('/').unwrap_or((text, "32"));
        Some(Range { first: u32::from(addr.parse::<Ipv4Addr>().ok()?), bits: bits.parse().ok()? })
    }

    fn overlaps(&self, [a, b, c]: [u8; 3]) -> bool {
        // Two ranges overlap when they agree in the bits that both fix.
        let fixed = self.bits.min(24);
        let mask = u32::MAX.checked_shl(32 - fixed).unwrap_or(0);
        self.first & mask == u32::from_be_bytes([a, b, c, 0]) & mask
    }
}

fn used_subnets() -> anyhow::Result<Vec<Range>> {
    let routes = tool::run("ip", &["-4", "route", "show", "table", "all"])?;
    let addresses = tool::run("ip", &["-4", "-o", "address", "show"])?;
    let words = routes.split_whitespace().chain(addresses.split_whitespace());
    // The default route is named `default`, so it is no range here.
    Ok(words.filter_map(Range::read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_range_is_seen_whether_it_is_wider_or_narrower() {
        let overlaps = |text: &str| Range::read(text).is_some_and(|range| range.overlaps([10, 200, 7]));
        assert!(overlaps("10.0.0.0/8"));
        assert!(overlaps("10.200.7.0/24"));
        assert!(overlaps("10.200.7.9"));
        assert!(!overlaps("10.200.8.0/24"));
        assert!(!overlaps("172.17.0.0/16"));
        assert!(Range::read("edlab7").is_none());
    }
}
