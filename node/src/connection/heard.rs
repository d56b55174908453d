//! Owns what of a visitor is let through at all. Does not keep the rules: sites do. Invariant: what comes by a socket and what comes by
//! an upload is asked the same.

use crate::push::Hub;
use proto::command::IdentityMode;
use proto::ids::SiteId;
use std::net::IpAddr;

/// Whether what a visitor sends is let through: a site may ask for a proof of who they are, and block networks and words.
pub fn is_heard(hub: &Hub, site: SiteId, is_identified: bool, address: Option<IpAddr>, text: &str) -> bool {
    !is_blocked(hub, site, address, text) && (is_identified || !wants_proof(hub, site))
}

/// Whether the network or a word is on the site's list.
fn is_blocked(hub: &Hub, site: SiteId, address: Option<IpAddr>, text: &str) -> bool {
    let Some(list) = hub.blocklists.get(site) else { return false };
    address.is_some_and(|address| list.has_address(address)) || list.has_word_of(text)
}

fn wants_proof(hub: &Hub, site: SiteId) -> bool {
    let wants = |state: &cluster::meta::MetaState| {
        state.site_configs.get(&site).is_some_and(|row| row.identity == IdentityMode::Required)
    };
    hub.node().and_then(|node| node.with_meta(wants)) == Some(true)
}
