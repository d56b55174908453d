//! Owns what triggers say to the visitors of this node's sockets: which wait on a page, and that one speaks. Does not keep the rules: the
//! shelf of the site's desk does; nor how often one may speak: the visitor's session does (ADR 0026). Invariant: a page is told only of
//! triggers of which everything holds that a node can know, and nothing is said before all of it was looked at once more.

mod rule;
mod speak;

pub use rule::{Known, Page, Rule, Staff};
pub use speak::{Silent, Told, look, speak};

use crate::admin::ask::{Ask, ask_from};
use crate::admin::desk::{DeskView, State};
use crate::push::Hub;
use cluster::node::ClusterNode;
use parking_lot::RwLock;
use proto::command::Target;
use proto::ids::SiteId;
use proto::peer::{ShardCall, ShardReply};
use proto::shelf::{Item, ItemKind};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// So late may a change be known.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Triggers of a site that nobody visited for so many looks are forgotten.
const UNUSED_LOOKS_MAX: u32 = 40;
/// Sites whose triggers a node knows; those beyond it are asked for at each visit.
const SITES_MAX: usize = 10_000;

/// The triggers of a site, and who is at its desk.
#[derive(Debug, Default)]
pub struct OfSite {
    /// In the order in which they come.
    pub rules: Vec<(String, Rule)>,
    pub staff: Staff,
}

struct Kept {
    of_site: Arc<OfSite>,
    unused: AtomicU32,
}

/// The triggers that this node's visitors need.
#[derive(Default)]
pub struct Triggers {
    sites: RwLock<HashMap<SiteId, Kept>>,
}

impl Triggers {
    fn get(&self, site: SiteId) -> Option<Arc<OfSite>> {
        let sites = self.sites.read();
        let kept = sites.get(&site)?;
        kept.unused.store(0, Ordering::Relaxed);
        Some(kept.of_site.clone())
    }

    /// The triggers of a site, asked for if need be; none when they cannot be had.
    async fn ensure(&self, node: &Arc<ClusterNode>, site: SiteId) -> Arc<OfSite> {
        if let Some(kept) = self.get(site) {
            return kept;
        }
        let Some(of_site) = fetch(node, site).await else { return Arc::default() };
        self.put(site, of_site)
    }

    fn put(&self, site: SiteId, of_site: OfSite) -> Arc<OfSite> {
        let of_site = Arc::new(of_site);
        let mut sites = self.sites.write();
        let has_room = sites.len() < SITES_MAX;
        match sites.get_mut(&site) {
            Some(kept) => kept.of_site = of_site.clone(),
            None if has_room => drop(sites.insert(site, Kept { of_site: of_site.clone(), unused: AtomicU32::new(0) })),
            None => {}
        }
        of_site
    }

    /// The sites that were used lately; the others are forgotten.
    fn used(&self) -> Vec<SiteId> {
        let mut sites = self.sites.write();
        sites.retain(|_, kept| kept.unused.fetch_add(1, Ordering::Relaxed) < UNUSED_LOOKS_MAX);
        sites.keys().copied().collect()
    }
}

async fn fetch(node: &Arc<ClusterNode>, site: SiteId) -> Option<OfSite> {
    let (shard, kind) = (node.router.shard_of(Target::Desk(site)), ItemKind::Trigger);
    let ShardReply::Shelf(items) = node.router.call(shard, ShardCall::Shelf { site, kind }).await else { return None };
    // What this build cannot read is left out.
    let read = |Item { name, text }: Item| serde_json::from_str(&text).ok().map(|rule: Rule| (name, rule));
    let mut rules: Vec<(String, Rule)> = items.into_iter().filter_map(read).filter(|(_, rule)| rule.enabled).collect();
    rules.sort_by(|(one, a), (other, b)| (Reverse(a.priority), one).cmp(&(Reverse(b.priority), other)));
    let asks_for_staff = rules.iter().any(|(_, rule)| rule.when.online.is_some() || rule.when.open.is_some());
    let staff = if asks_for_staff { staff_of(node, site).await? } else { Staff::default() };
    Some(OfSite { rules, staff })
}

async fn staff_of(node: &Arc<ClusterNode>, site: SiteId) -> Option<Staff> {
    let leader = node.leader_of(node.router.shard_of(Target::Desk(site)))?;
    let desk: DeskView = ask_from(node, leader, &Ask::Desk { site }).await.ok()?;
    let there = || desk.seats.iter().filter(|seat| matches!(seat.state, State::Online));
    Some(Staff {
        is_open: desk.closed_until_ms.is_none(),
        anybody: there().next().is_some(),
        teams: there().flat_map(|seat| seat.rules.teams.iter().copied()).collect(),
    })
}

/// Keeps the triggers as they are at the desks, until the node is gone.
pub async fn watch(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        for site in hub.triggers.used() {
            if let Some(of_site) = fetch(&node, site).await {
                hub.triggers.put(site, of_site);
            }
        }
    }
}
