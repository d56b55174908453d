//! Owns whose address a request comes from. Does not judge it. Invariant: a header is believed only as far as proxies that the operator
//! named have written it.

use actix_web::HttpRequest;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The header in which proxies say who asked them.
const FORWARDED: &str = "x-forwarded-for";

/// Where the client is; `trusted`: proxies of this house.
pub fn of(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let values = request.headers().get_all(FORWARDED).filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    Some(behind(request.peer_addr()?.ip(), &hops, trusted))
}

/// The nearest one that is no proxy of ours. `hops`: as they were written, the nearest last.
fn behind(peer: IpAddr, hops: &[&str], trusted: &[IpNet]) -> IpAddr {
    let mut address = peer.to_canonical();
    for hop in hops.iter().rev() {
        let hop = hop.trim();
        let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
        let written = hop.parse::<IpAddr>().ok().or_else(with_port);
        match written.filter(|_| trusted.iter().any(|network| network.contains(&address))) {
            Some(before) => address = before.to_canonical(),
            None => break,
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_believed_as_far_as_our_own_proxies_wrote_it() {
        let ours: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (peer, hops, client) in [
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["1.1.1.1", " 198.51.100.7 "], "198.51.100.7"),
            ("10.0.0.1", vec!["198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", vec!["nonsense"], "10.0.0.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("::ffff:192.0.2.1", vec![], "192.0.2.1"),
        ] {
            assert_eq!(behind(peer.parse().unwrap(), &hops, &ours).to_string(), client, "{peer} {hops:?}");
        }
    }
}
