//! Owns what a site does not let through: networks and words. Does not keep the list: the shelf of the site's desk does. Invariant: a
//! visitor's socket is welcomed only once its site's list is known here, or cannot be had; a change is known within seconds.

use crate::push::Hub;
use cluster::router::Router;
use ipnet::IpNet;
use parking_lot::RwLock;
use proto::command::Target;
use proto::ids::SiteId;
use proto::peer::{ShardCall, ShardReply};
use proto::shelf::{Item, ItemKind};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use utoipa::ToSchema;

/// So late may a change be known.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A list that nobody used for so many looks is forgotten.
const UNUSED_LOOKS_MAX: u32 = 40;
/// Sites whose lists a node knows; those beyond it are asked for at each hello.
const SITES_MAX: usize = 10_000;
/// Longest word, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// One of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Blocked {
    /// Nobody there makes a session, connects or is heard, e.g. `192.0.2.0/24`.
    #[schema(value_type = String)]
    Network(IpNet),
    /// A message of a visitor with this word is refused; in any case, and for words of letters and digits as a whole word.
    Word(String),
}

impl Blocked {
    /// Why it cannot be kept.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Blocked::Network(network) if network.prefix_len() == 0 => Some("a network is not everybody"),
            Blocked::Network(_) => None,
            Blocked::Word(word) if word.trim() != word || word.is_empty() || word.len() > WORD_BYTES_MAX => {
                Some("a word has 1 to 64 bytes, and no blanks around it")
            }
            Blocked::Word(_) => None,
        }
    }
}

/// A site's list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Blocklist {
    networks: Vec<IpNet>,
    /// In lower case.
    words: Vec<String>,
}

impl Blocklist {
    pub fn of(all: impl Iterator<Item = Blocked>) -> Blocklist {
        let mut list = Blocklist::default();
        for blocked in all {
            match blocked {
                Blocked::Network(network) => list.networks.push(network),
                Blocked::Word(word) => list.words.push(word.to_lowercase()),
            }
        }
        list
    }

    pub fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    pub fn has_word_of(&self, text: &str) -> bool {
        !self.words.is_empty() && {
            let text = text.to_lowercase();
            self.words.iter().any(|word| holds(&text, word))
        }
    }
}

/// Whether the word stands in the text; where it begins or ends with an ASCII letter or digit, nothing of that kind stands beside it.
fn holds(text: &str, word: &str) -> bool {
    let is_plain = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let (begins, ends) = (is_plain(word.chars().next()), is_plain(word.chars().next_back()));
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !(begins && is_plain(before) || ends && is_plain(after))
    })
}

struct Known {
    list: Arc<Blocklist>,
    unused: AtomicU32,
}

/// The lists that this node's visitors need.
#[derive(Default)]
pub struct Blocklists {
    sites: RwLock<HashMap<SiteId, Known>>,
}

impl Blocklists {
    /// The list of a site, if it is known here.
    pub fn get(&self, site: SiteId) -> Option<Arc<Blocklist>> {
        let sites = self.sites.read();
        let known = sites.get(&site)?;
        known.unused.store(0, Ordering::Relaxed);
        Some(known.list.clone())
    }

    /// The list of a site, asked for if need be; an empty one when it cannot be had: visitors are not kept out by a shard without a
    /// leader.
    pub async fn ensure(&self, router: &Arc<Router>, site: SiteId) -> Arc<Blocklist> {
        if let Some(known) = self.get(site) {
            return known;
        }
        let Some(list) = fetch(router, site).await else { return Arc::default() };
        self.put(site, list)
    }

    fn put(&self, site: SiteId, list: Blocklist) -> Arc<Blocklist> {
        let mut sites = self.sites.write();
        let list = Arc::new(list);
        let has_room = sites.len() < SITES_MAX;
        match sites.get_mut(&site) {
            Some(known) => known.list = list.clone(),
            None if has_room => drop(sites.insert(site, Known { list: list.clone(), unused: AtomicU32::new(0) })),
            None => {}
        }
        list
    }

    /// The sites that were used lately; the others are forgotten.
    fn used(&self) -> Vec<SiteId> {
        let mut sites = self.sites.write();
        sites.retain(|_, known| known.unused.fetch_add(1, Ordering::Relaxed) < UNUSED_LOOKS_MAX);
        sites.keys().copied().collect()
    }
}

async fn fetch(router: &Arc<Router>, site: SiteId) -> Option<Blocklist> {
    let (shard, kind) = (router.shard_of(Target::Desk(site)), ItemKind::Blocked);
    let ShardReply::Shelf(items) = router.call(shard, ShardCall::Shelf { site, kind }).await else { return None };
    // What this build cannot read is left out.
    let read = |Item { text, .. }: Item| serde_json::from_str(&text).ok();
    Some(Blocklist::of(items.into_iter().filter_map(read)))
}

/// Keeps the lists as they are at the desks, until the node is gone.
pub async fn watch(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(router) = hub.router() else { continue };
        for site in hub.blocklists.used() {
            if let Some(list) = fetch(&router, site).await {
                hub.blocklists.put(site, list);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Blocked {
        Blocked::Word(text.to_owned())
    }

    #[test]
    fn words_are_found_whole_and_in_any_case_and_chinese_ones_anywhere() {
        let list = Blocklist::of([word("Casino"), word("赌博"), word("buy now!")].into_iter());
        for (text, has) in [
            ("the CASINO!", true),
            ("casino", true),
            ("casinos", false),
            ("mycasino", false),
            ("鞋casino鞋", true),
            ("网上赌博平台", true),
            ("Buy Now!!", true),
            ("buy now", false),
            ("", false),
        ] {
            assert_eq!(list.has_word_of(text), has, "{text}");
        }
        assert!(!Blocklist::default().has_word_of("casino"));
        for wrong in ["", " x", &"x".repeat(65)] {
            assert!(word(wrong).fault().is_some(), "{wrong}");
        }
    }

    #[test]
    fn networks_hold_their_addresses_and_nobody_blocks_everybody() {
        let network = |text: &str| Blocked::Network(text.parse().unwrap());
        let list = Blocklist::of([network("192.0.2.0/24"), network("2001:db8::/32")].into_iter());
        for (address, has) in [("192.0.2.77", true), ("192.0.3.1", false), ("2001:db8::1", true), ("::1", false)] {
            assert_eq!(list.has_address(address.parse().unwrap()), has, "{address}");
        }
        assert!(network("0.0.0.0/0").fault().is_some() && network("192.0.2.1/32").fault().is_none());
    }
}
