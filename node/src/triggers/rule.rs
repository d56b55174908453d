//! Owns what a trigger is: when it speaks, what it says, how often. Does not keep it, and asks nobody. Invariant: what only the visitor's
//! page knows (time, scrolling) is told to the page and believed; everything else is judged here.

use crate::connection::Visited;
use proto::act::Again;
use proto::client::TriggerWaits;
use proto::ids::TeamId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

const DAY_MS: u64 = 86_400_000;
/// Longest text with its variables, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// Longest pattern or value, in bytes.
const PART_BYTES_MAX: usize = 256;
/// Patterns, languages, countries, attributes or parameters of one trigger.
const PARTS_MAX: usize = 32;
/// The longest that a page waits, in seconds.
const WAIT_S_MAX: u32 = 86_400;
const DAYS_MAX: u32 = 3_650;

/// Something that is said to visitors before anybody asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default = "yes")]
    pub enabled: bool,
    /// All of it must hold; what is left out need not.
    #[serde(default)]
    pub when: When,
    /// With variables as in a canned reply; `agent.name` is `speaks_as`.
    #[schema(min_length = 1, max_length = 4096)]
    pub text: String,
    /// As whom it speaks, e.g. an agent's name or a bot's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub speaks_as: Option<String>,
    /// Who is asked for when the visitor answers, unless the visitor chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "t2")]
    pub team: Option<TeamId>,
    #[serde(default)]
    pub again: Often,
    /// Higher comes first.
    #[serde(default)]
    pub priority: u8,
}

/// How often one visitor is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Often {
    /// Once and never again.
    #[default]
    Once,
    /// Once in a visit, as the visitor's browser counts them.
    Visit,
    /// Not again for so many days.
    Days(u32),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// The address of the page is like one of these; `*` stands for anything.
    #[schema(max_items = 32)]
    pub page: Vec<String>,
    /// Where the visitor came from is like one of these.
    #[schema(max_items = 32)]
    pub referrer: Vec<String>,
    /// `utm_` parameters of the page that began the visit, by name; the value is like this.
    #[schema(value_type = Object)]
    pub campaign: BTreeMap<String, String>,
    /// So many seconds on the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86400)]
    pub page_s: Option<u32>,
    /// So many seconds in this visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86400)]
    pub site_s: Option<u32>,
    /// Scrolled so far, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 100)]
    pub scroll: Option<u8>,
    /// This visit or a later one, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visits_min: Option<u64>,
    /// This visit or an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visits_max: Option<u64>,
    /// What the page says as `language` begins with one of these, e.g. `de`.
    #[schema(max_items = 32)]
    pub language: Vec<String>,
    /// By the address, e.g. `NZ`; only with a file of places.
    #[schema(max_items = 32)]
    pub country: Vec<String>,
    /// Attributes of the visitor have these values.
    #[schema(value_type = Object)]
    pub attributes: BTreeMap<String, String>,
    /// Whether the visitor proved who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identified: Option<bool>,
    /// Whether somebody takes conversations now: of the trigger's team, or at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    /// Whether the site is open by its hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

fn yes() -> bool {
    true
}

/// What the node of a visitor's socket knows.
pub struct Page<'a> {
    pub visit: &'a Visited,
    pub country: Option<&'a str>,
    pub identified: bool,
}

/// What the visitor's session knows.
pub struct Known<'a> {
    /// As the page says.
    pub language: Option<&'a str>,
    pub attributes: &'a BTreeMap<String, String>,
}

/// What the site's desk knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staff {
    pub is_open: bool,
    /// Somebody takes conversations.
    pub anybody: bool,
    /// Teams in which somebody does.
    pub teams: BTreeSet<TeamId>,
}

impl Rule {
    /// Why it cannot be kept.
    pub fn fault(&self) -> Option<&'static str> {
        let When { page, referrer, campaign, page_s, site_s, scroll, language, country, attributes, .. } = &self.when;
        let is_part = |part: &String| (1..=PART_BYTES_MAX).contains(&part.len()) && !part.chars().any(char::is_control);
        let lists = [page, referrer, language, country];
        let maps = [campaign, attributes];
        match () {
            () if self.text.trim().is_empty() || self.text.len() > TEXT_BYTES_MAX => Some("a text has 1 to 4096 bytes"),
            () if self.speaks_as.as_ref().is_some_and(|name| !is_part(name) || name.len() > 64) => {
                Some("speaks_as has 1 to 64 bytes and no control characters")
            }
            () if lists.iter().any(|list| list.len() > PARTS_MAX) || maps.iter().any(|map| map.len() > PARTS_MAX) => {
                Some("a condition has at most 32 parts")
            }
            () if !lists.iter().flat_map(|list| list.iter()).all(is_part)
                || !maps.iter().flat_map(|map| map.iter()).all(|(name, value)| is_part(name) && is_part(value)) =>
            {
                Some("a part of a condition has 1 to 256 bytes and no control characters")
            }
            () if [page_s, site_s].into_iter().flatten().any(|wait| *wait > WAIT_S_MAX) => {
                Some("a page waits for a day at most")
            }
            () if scroll.is_some_and(|scroll| scroll > 100) => Some("scroll is 0 to 100"),
            () if matches!(self.again, Often::Days(days) if !(1..=DAYS_MAX).contains(&days)) => {
                Some("days are 1 to 3650")
            }
            () => None,
        }
    }

    /// Whether it may be said on this page, as far as that is known without the session.
    pub fn fits(&self, page: &Page<'_>, staff: &Staff) -> bool {
        let When { page: pages, referrer, campaign, visits_min, visits_max, country, .. } = &self.when;
        let Page { visit, country: here, identified } = page;
        let Some(now) = visit.trail.last() else { return false };
        let said: BTreeMap<String, String> = visit.campaign().into_iter().collect();
        let visits = visit.visits.unwrap_or(1);
        let from = visit.referrer.as_deref().unwrap_or_default();
        self.enabled
            && (pages.is_empty() || pages.iter().any(|pattern| is_like(&now.url, pattern)))
            && (referrer.is_empty() || referrer.iter().any(|pattern| is_like(from, pattern)))
            && campaign.iter().all(|(name, value)| said.get(name).is_some_and(|said| is_like(said, value)))
            && visits_min.is_none_or(|min| visits >= min)
            && visits_max.is_none_or(|max| visits <= max)
            && (country.is_empty() || here.is_some_and(|here| country.iter().any(|one| one.eq_ignore_ascii_case(here))))
            && self.when.identified.is_none_or(|wanted| wanted == *identified)
            && self.when.open.is_none_or(|wanted| wanted == staff.is_open)
            && self.when.online.is_none_or(|wanted| wanted == staff.has(self.team))
    }

    /// The same, of what the session knows.
    pub fn fits_visitor(&self, known: &Known<'_>) -> bool {
        let When { language, attributes, .. } = &self.when;
        let speaks = |wanted: &String| known.language.is_some_and(|spoken| is_language(spoken, wanted));
        (language.is_empty() || language.iter().any(speaks))
            && attributes.iter().all(|(name, value)| known.attributes.get(name) == Some(value))
    }

    /// What the page is told.
    pub fn waits(&self, name: &str) -> TriggerWaits {
        let When { page_s, site_s, scroll, .. } = self.when;
        TriggerWaits { trigger: name.to_owned(), page_s, site_s, scroll }
    }

    pub fn again(&self) -> Again {
        match self.again {
            Often::Once => Again::Never,
            Often::Visit => Again::NextVisit,
            Often::Days(days) => Again::After { ms: u64::from(days) * DAY_MS },
        }
    }
}

impl Staff {
    fn has(&self, team: Option<TeamId>) -> bool {
        team.map_or(self.anybody, |team| self.teams.contains(&team))
    }
}

/// `de` is spoken by `de` and `de-CH`, in any case.
fn is_language(spoken: &str, wanted: &str) -> bool {
    let (spoken, wanted) = (spoken.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    spoken.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Whether a text is like a pattern in which `*` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // The earliest place for each part leaves the most for the next.
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::SeenPage;

    fn rule(json: &str) -> Rule {
        serde_json::from_str(json).unwrap()
    }

    fn visit(urls: &[&str], referrer: Option<&str>, visits: Option<u64>) -> Visited {
        let page = |url: &&str| SeenPage { url: (*url).to_owned(), title: String::new(), at_ms: 1 };
        Visited { trail: urls.iter().map(page).collect(), referrer: referrer.map(str::to_owned), visits }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (text, pattern, like) in [
            ("https://a.example/shoes", "https://a.example/shoes", true),
            ("https://a.example/shoes/1", "https://a.example/shoes", false),
            ("https://a.example/shoes/1", "https://a.example/shoes*", true),
            ("https://a.example/shoes/1", "*shoes*", true),
            ("https://a.example/shoes", "*shoes", true),
            ("https://a.example/hats", "*shoes*", false),
            ("https://a.example/a/b/c", "https://*/a/*/c", true),
            ("https://a.example/a/c", "https://*/a/*/c", false),
            ("aa", "a*a", true),
            ("a", "a*a", false),
            ("鞋子", "*子", true),
            ("", "*", true),
            ("x", "**", true),
        ] {
            assert_eq!(is_like(text, pattern), like, "{text} {pattern}");
        }
    }

    #[test]
    fn every_condition_must_hold_and_what_is_left_out_need_not() {
        let seen = visit(
            &["https://a.example/?utm_source=mail", "https://a.example/shoes"],
            Some("https://s.example/"),
            Some(3),
        );
        let page = Page { visit: &seen, country: Some("NZ"), identified: true };
        let staff = Staff { is_open: true, anybody: true, teams: [TeamId(2)].into() };
        for (when, fits) in [
            ("{}", true),
            (r#"{"page":["*/hats","*/shoes"]}"#, true),
            (r#"{"page":["*/hats"]}"#, false),
            (r#"{"referrer":["https://s.example/*"]}"#, true),
            (r#"{"referrer":["https://t.example/*"]}"#, false),
            (r#"{"campaign":{"utm_source":"ma*"}}"#, true),
            (r#"{"campaign":{"utm_source":"ads"}}"#, false),
            (r#"{"campaign":{"utm_medium":"*"}}"#, false),
            (r#"{"visits_min":3,"visits_max":3}"#, true),
            (r#"{"visits_min":4}"#, false),
            (r#"{"visits_max":2}"#, false),
            (r#"{"country":["de","nz"]}"#, true),
            (r#"{"country":["DE"]}"#, false),
            (r#"{"identified":true}"#, true),
            (r#"{"identified":false}"#, false),
            (r#"{"open":false}"#, false),
            (r#"{"online":true}"#, true),
            (r#"{"online":false}"#, false),
            (r#"{"page_s":20,"scroll":50}"#, true),
        ] {
            let rule = rule(&format!(r#"{{"text":"x","when":{when}}}"#));
            assert_eq!((rule.fits(&page, &staff), rule.fault()), (fits, None), "{when}");
        }
        let of_team = |team: u32| rule(&format!(r#"{{"text":"x","team":"t{team}","when":{{"online":true}}}}"#));
        assert!(of_team(2).fits(&page, &staff) && !of_team(3).fits(&page, &staff));
        assert!(!rule(r#"{"text":"x","enabled":false}"#).fits(&page, &staff));
        let nowhere = Page { visit: &visit(&[], None, None), country: None, identified: false };
        assert!(!rule(r#"{"text":"x"}"#).fits(&nowhere, &staff));
    }

    #[test]
    fn what_the_session_knows_must_hold_too() {
        let attributes: BTreeMap<String, String> = [("plan".to_owned(), "pro".to_owned())].into();
        let known = Known { language: Some("de-CH"), attributes: &attributes };
        for (when, fits) in [
            (r#"{"language":["fr","DE"]}"#, true),
            (r#"{"language":["de-ch"]}"#, true),
            (r#"{"language":["d"]}"#, false),
            (r#"{"attributes":{"plan":"pro"}}"#, true),
            (r#"{"attributes":{"plan":"free"}}"#, false),
            (r#"{"attributes":{"age":"9"}}"#, false),
        ] {
            assert_eq!(rule(&format!(r#"{{"text":"x","when":{when}}}"#)).fits_visitor(&known), fits, "{when}");
        }
        let nobody = Known { language: None, attributes: &BTreeMap::new() };
        assert!(rule(r#"{"text":"x"}"#).fits_visitor(&nobody));
        assert!(!rule(r#"{"text":"x","when":{"language":["de"]}}"#).fits_visitor(&nobody));
    }

    #[test]
    fn a_rule_is_read_as_it_is_written_and_faults_are_named() {
        let full = rule(r#"{"text":"Hi {{visitor.name}}","speaks_as":"Ada","again":{"days":7},"priority":3}"#);
        assert_eq!((full.again(), full.fault()), (Again::After { ms: 7 * DAY_MS }, None));
        assert_eq!(rule(&serde_json::to_string(&full).unwrap()), full);
        assert_eq!(rule(r#"{"text":"x","again":"visit"}"#).again(), Again::NextVisit);
        assert_eq!(rule(r#"{"text":"x"}"#).again(), Again::Never);
        let waits = rule(r#"{"text":"x","when":{"page_s":20}}"#).waits("shoes");
        assert_eq!((waits.trigger.as_str(), waits.page_s, waits.scroll), ("shoes", Some(20), None));
        for faulty in [
            r#"{"text":" "}"#,
            r#"{"text":"x","speaks_as":""}"#,
            r#"{"text":"x","again":{"days":0}}"#,
            r#"{"text":"x","when":{"scroll":101}}"#,
            r#"{"text":"x","when":{"page":[""]}}"#,
            r#"{"text":"x","when":{"page_s":86401}}"#,
            r#"{"text":"x","when":{"attributes":{"a":"\n"}}}"#,
        ] {
            assert!(rule(faulty).fault().is_some(), "{faulty}");
        }
        for wrong in [r#"{"text":"x","when":{"moon":1}}"#, r#"{"text":"x","often":1}"#, r#"{}"#] {
            assert!(serde_json::from_str::<Rule>(wrong).is_err(), "{wrong}");
        }
    }
}
