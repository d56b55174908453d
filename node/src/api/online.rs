//! Owns the list of who is on a site now: where they are, what they saw, with what. Does not store it: it is asked of every node. Invariant:
//! a visitor with several tabs is one entry, and only a site's own people see it.

use crate::admin::ask::{Ask, ask_all};
use crate::admin::problem::Problem;
use crate::admin::{Answer, Tenant};
use crate::connection::{Socket, Visited, Who};
use crate::hooks::Local;
use crate::run::App;
use actix_web::web::{Data, Json, Query};
use proto::ids::{NodeId, SessionId, SiteId, VisitorId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;
use utoipa::{IntoParams, ToSchema};
use woothee::parser::Parser;

/// Visitors of one answer.
const LIMIT_MAX: usize = 1_000;
/// As above when the caller names no limit.
const LIMIT_DEFAULT: usize = 100;

/// Which visitors of a site, of one node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnlineAsk {
    pub site: SiteId,
    pub after: Option<SessionId>,
    pub limit: usize,
}

/// What one node knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct OnlineFound {
    visitors: Vec<Online>,
    count: u64,
}

impl OnlineFound {
    /// Whether this one is the first.
    pub fn begins_with(&self, session: SessionId) -> bool {
        self.visitors.first().is_some_and(|online| online.session == session)
    }
}

/// A visitor with an open page.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Online {
    #[schema(value_type = String)]
    pub session: SessionId,
    #[schema(value_type = String)]
    pub visitor: VisitorId,
    /// The visitor proved who they are.
    pub identified: bool,
    /// Since when a page is open, milliseconds since 1970.
    pub since_ms: u64,
    /// Open pages.
    pub tabs: u32,
    /// Where they are; null: the page does not say.
    pub visit: Option<Visited>,
    /// Name and value of `utm_` parameters of the page that began the visit.
    #[schema(value_type = Object)]
    pub campaign: BTreeMap<String, String>,
    /// By what the client says of itself; null: it cannot be told.
    pub browser: Option<String>,
    pub system: Option<String>,
    /// `pc`, `smartphone`, `mobilephone`, `crawler` ...
    pub device: Option<String>,
    /// By the address, as ISO 3166-1 has it, e.g. `NZ`; null: not known.
    pub country: Option<String>,
    pub city: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct OnlineView {
    /// In the order of their sessions.
    pub visitors: Vec<Online>,
    /// Visitors with an open page in all; those with pages at two nodes count twice.
    pub count: u64,
    /// Ask again with this as `after`; null: there are no more.
    #[schema(value_type = Option<String>)]
    pub next: Option<SessionId>,
    /// A node did not answer: its visitors are left out.
    pub partial: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OnlineQuery {
    /// The `next` of the page before.
    #[param(pattern = "^[0-9a-f]{32}$", nullable = false)]
    after: Option<String>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
}

pub async fn list(app: Data<App>, Tenant(site): Tenant, query: Query<OnlineQuery>) -> Answer<OnlineView> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request("limit is 1 to 1000"));
    }
    let after = crate::admin::accounts::id_of("after", query.after.as_deref())?;
    let asked = OnlineAsk { site, after, limit: limit + 1 };
    let nodes = app.cluster.with_meta(|state| state.members().count()).unwrap_or(0);
    let found: Vec<(NodeId, OnlineFound)> = ask_all(&app, || Ask::Online(asked.clone())).await;
    let (mut all, mut count) = (BTreeMap::new(), 0);
    let partial = found.len() < nodes;
    for (_, found) in found {
        count += found.count;
        for online in found.visitors {
            add(&mut all, online);
        }
    }
    let is_cut = all.len() > limit;
    let visitors: Vec<Online> = all.into_values().take(limit).collect();
    let next = visitors.last().map(|online| online.session).filter(|_| is_cut);
    Ok(Json(OnlineView { visitors, count, next, partial }))
}

/// The visitors of this node's sockets.
pub fn on_this_node(local: &Local, ask: &OnlineAsk) -> OnlineFound {
    let mut all = BTreeMap::new();
    local.hub.each_socket(|socket| {
        if let Some(online) = of_socket(socket, ask.site) {
            add(&mut all, online);
        }
    });
    let count = all.len() as u64;
    let behind = all.into_values().filter(|online| ask.after.is_none_or(|after| online.session > after));
    OnlineFound { visitors: behind.take(ask.limit.min(LIMIT_MAX + 1)).collect(), count }
}

/// Several tabs are one visitor, who is where the newest word says.
fn add(all: &mut BTreeMap<SessionId, Online>, online: Online) {
    let at = |online: &Online| online.visit.as_ref().and_then(|visit| visit.trail.last()).map(|page| page.at_ms);
    match all.get_mut(&online.session) {
        None => drop(all.insert(online.session, online)),
        Some(known) => {
            let (tabs, since_ms) = (known.tabs + online.tabs, known.since_ms.min(online.since_ms));
            if at(&online) > at(known) {
                *known = online;
            }
            (known.tabs, known.since_ms) = (tabs, since_ms);
        }
    }
}

fn of_socket(socket: &Socket, of: SiteId) -> Option<Online> {
    let (who, visit) = socket.with(|state| (state.who, state.visit.as_deref().cloned()));
    let Some(Who::Visitor { session, visitor, site, is_identified, .. }) = who.filter(|_| !socket.with(|s| s.closed))
    else {
        return None;
    };
    if site != of {
        return None;
    }
    let client = socket.user_agent.as_deref().and_then(|text| Parser::new().parse(text));
    let known = |text: &str| (!text.is_empty() && text != "UNKNOWN").then(|| text.to_owned());
    let versioned =
        |name: &str, version: &str| known(name).map(|name| format!("{name} {version}").trim_end().to_owned());
    Some(Online {
        session,
        visitor,
        identified: is_identified,
        since_ms: socket.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        tabs: 1,
        campaign: visit.as_ref().map(|visit| visit.campaign().into_iter().collect()).unwrap_or_default(),
        visit,
        browser: client.as_ref().and_then(|client| versioned(client.name, client.version)),
        system: client.as_ref().and_then(|client| versioned(client.os, &client.os_version)),
        device: client.as_ref().and_then(|client| known(client.category)),
        country: socket.place.country.as_deref().map(str::to_owned),
        city: socket.place.city.as_deref().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::SeenPage;

    #[test]
    fn tabs_of_a_visitor_are_one_entry_that_is_where_the_newest_word_says() {
        let online = |session: u128, since_ms, at: Option<u64>| Online {
            session: SessionId(session),
            visitor: VisitorId(session),
            identified: false,
            since_ms,
            tabs: 1,
            visit: at.map(|at_ms| Visited {
                trail: vec![SeenPage { url: format!("https://a.example/{at_ms}"), title: String::new(), at_ms }],
                referrer: None,
                visits: None,
            }),
            campaign: BTreeMap::new(),
            browser: None,
            system: None,
            device: None,
            country: None,
            city: None,
        };
        let mut all = BTreeMap::new();
        for one in [online(1, 50, Some(7)), online(2, 60, None), online(1, 40, Some(9)), online(1, 70, Some(8))] {
            add(&mut all, one);
        }
        let first = &all[&SessionId(1)];
        assert_eq!((first.tabs, first.since_ms), (3, 40));
        assert_eq!(first.visit.as_ref().unwrap().trail[0].at_ms, 9);
        assert_eq!((all.len(), all[&SessionId(2)].tabs), (2, 1));
    }

    #[test]
    fn a_browser_is_told_by_what_it_says_of_itself() {
        let text = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";
        let client = Parser::new().parse(text).unwrap();
        assert_eq!((client.name, client.category), ("Chrome", "pc"));
        assert!(Parser::new().parse("").is_none_or(|client| client.name == "UNKNOWN"));
    }
}
