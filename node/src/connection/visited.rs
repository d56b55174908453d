//! Owns what one socket knows of where its visitor is. Does not store it: it goes with the socket. Invariant: it is as small as the
//! protocol's limits.

use proto::client::Visit;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a visitor is and was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Visited {
    /// The pages of this visit, oldest first; the last is where the visitor is now.
    pub trail: Vec<SeenPage>,
    /// Where the visitor came from.
    pub referrer: Option<String>,
    /// Which visit of the browser it is.
    pub visits: Option<u64>,
}

/// A page that a visitor saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeenPage {
    pub url: String,
    pub title: String,
    /// Milliseconds since 1970, by the visitor's clock.
    pub at_ms: u64,
}

impl Visited {
    pub fn of(visit: Visit<'_>) -> Visited {
        let page = |page: proto::client::PageSeen<'_>| SeenPage {
            url: page.url.into_owned(),
            title: page.title.into_owned(),
            at_ms: page.at,
        };
        Visited {
            trail: visit.trail.into_iter().map(page).collect(),
            referrer: visit.referrer.map(|referrer| referrer.into_owned()),
            visits: visit.visits,
        }
    }

    /// The parameters by which campaigns are told apart, of the page that began the visit: name and value.
    pub fn campaign(&self) -> Vec<(String, String)> {
        let first = self.trail.first().and_then(|page| page.url.parse::<url::Url>().ok());
        let pairs = first.iter().flat_map(|url| url.query_pairs());
        pairs.filter(|(name, _)| name.starts_with("utm_")).map(|(name, value)| (name.into(), value.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_read_from_the_page_that_began_the_visit() {
        let page = |url: &str| SeenPage { url: url.to_owned(), title: String::new(), at_ms: 1 };
        let visited =
            |urls: &[&str]| Visited { trail: urls.iter().map(|url| page(url)).collect(), referrer: None, visits: None };
        let found = visited(&["https://a.example/?utm_source=mail&x=1&utm_campaign=%E9%9E%8B", "https://a.example/b"]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found.campaign(), [pair("utm_source", "mail"), pair("utm_campaign", "鞋")]);
        assert!(visited(&["https://a.example/", "https://a.example/?utm_source=mail"]).campaign().is_empty());
        assert!(visited(&["http://"]).campaign().is_empty());
    }
}
