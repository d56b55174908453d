//! Owns the settings of the cluster: their names, types and bounds, and who watches them. Does not store them: meta does.
//! Invariant: a value that is stored was checked; one that this version does not understand counts as not set.

use super::problem::Problem;
use super::{Answer, propose, read_meta};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data, Json, Path};
use cluster::node::{ClusterNode, DEAD_AFTER, FINALIZE_AFTER};
use proto::command::MetaCommand;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use utoipa::ToSchema;

pub const DRAIN_OVER: &str = "drain_over_s";
pub const DRAIN_RETRY: &str = "drain_retry_ms";
pub const JOIN_TOKEN_LIFE: &str = "join_token_life_s";
const LOG_FILTER: &str = "log_filter";
/// Streams of changes at once.
pub const WATCHERS_MAX: usize = 32;
/// A stream without news says so this often, so that a dead reader is noticed.
const STILL_THERE: Duration = Duration::from_secs(15);

/// The type and bounds of a setting.
enum Kind {
    Number { least: u64, most: u64 },
    Filter,
}

/// One setting that there is.
struct Setting {
    name: &'static str,
    kind: Kind,
    /// `None`: each node's own flag decides.
    default: Option<&'static str>,
    about: &'static str,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: DEAD_AFTER,
        kind: Kind::Number { least: 1, most: 86_400 },
        default: None,
        about: "Seconds after which a node that is not reached counts as dead; unset: --dead-after-s of each node.",
    },
    Setting {
        name: DRAIN_OVER,
        kind: Kind::Number { least: 0, most: 600 },
        default: Some("5"),
        about: "Seconds over which a drained node sends its clients away.",
    },
    Setting {
        name: DRAIN_RETRY,
        kind: Kind::Number { least: 1, most: 60_000 },
        default: Some("50"),
        about: "Milliseconds that those clients are told to wait before they connect elsewhere.",
    },
    Setting {
        name: FINALIZE_AFTER,
        kind: Kind::Number { least: 0, most: 2_592_000 },
        default: Some("0"),
        about: "Seconds after which a version that every node speaks is put in force by itself; 0: by hand.",
    },
    Setting {
        name: JOIN_TOKEN_LIFE,
        kind: Kind::Number { least: 60, most: 604_800 },
        default: Some("900"),
        about: "Seconds for which a new join token is good.",
    },
    Setting {
        name: LOG_FILTER,
        kind: Kind::Filter,
        default: None,
        about: "What every node logs; unset: --log of each node.",
    },
    Setting {
        name: crate::session::IDLE,
        kind: Kind::Number { least: 5, most: 86_400 },
        default: Some("60"),
        about: "Seconds without a call after which a session's actor leaves memory.",
    },
];

impl Setting {
    fn check(&self, value: &str) -> Result<(), Problem> {
        match self.kind {
            Kind::Number { least, most } => match value.parse::<u64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(()),
                _ => Err(Problem::refused(format!("{} is a number from {least} to {most}", self.name))),
            },
            Kind::Filter if value.len() > super::log::FILTER_BYTES_MAX => {
                Err(Problem::refused("a filter has at most 256 bytes"))
            }
            Kind::Filter => {
                EnvFilter::try_new(value).map(drop).map_err(|error| Problem::refused(format!("{}: {error}", self.name)))
            }
        }
    }
}

/// Whether a setting of that name takes that value.
/// # Errors
/// There is no such setting, or it does not.
pub(crate) fn check(name: &str, value: &str) -> Result<(), Problem> {
    of_name(name)?.check(value)
}

fn of_name(name: &str) -> Result<&'static Setting, Problem> {
    SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| Problem::not_found("no such setting"))
}

/// The value in force of a setting that is a number and has a default.
pub fn number(node: &ClusterNode, name: &'static str) -> u64 {
    let setting = SETTINGS.iter().find(|setting| setting.name == name).expect("callers name settings of the list");
    let set = node.with_meta(|state| state.setting(name).map(str::to_owned)).flatten();
    let set = set.filter(|value| setting.check(value).is_ok());
    set.as_deref().or(setting.default).and_then(|value| value.parse().ok()).expect("a default of the list is a number")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettingType {
    Number,
    /// What to log.
    Filter,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SettingView {
    #[schema(example = "drain_over_s")]
    pub name: String,
    /// What somebody set; null: nobody did.
    pub value: Option<String>,
    /// What counts while it is not set; null: each node's own flag.
    pub default: Option<String>,
    #[serde(rename = "type")]
    pub kind: SettingType,
    pub least: Option<u64>,
    pub most: Option<u64>,
    pub about: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Settings {
    pub settings: Vec<SettingView>,
}

fn view(setting: &Setting, value: Option<String>) -> SettingView {
    let (kind, least, most) = match setting.kind {
        Kind::Number { least, most } => (SettingType::Number, Some(least), Some(most)),
        Kind::Filter => (SettingType::Filter, None, None),
    };
    let default = setting.default.map(str::to_owned);
    SettingView { name: setting.name.into(), value, default, kind, least, most, about: setting.about.into() }
}

fn all(app: &App) -> Result<Settings, Problem> {
    read_meta(app, |state| {
        let value = |setting: &Setting| state.setting(setting.name).map(str::to_owned);
        Settings { settings: SETTINGS.iter().map(|setting| view(setting, value(setting))).collect() }
    })
}

pub async fn list(app: Data<App>) -> Answer<Settings> {
    all(&app).map(Json)
}

pub async fn one(app: Data<App>, name: Path<String>) -> Answer<SettingView> {
    let setting = of_name(&name)?;
    let value = read_meta(&app, |state| state.setting(setting.name).map(str::to_owned))?;
    Ok(Json(view(setting, value)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingBody {
    /// Numbers as text too.
    #[schema(max_length = 256, example = "9")]
    pub value: String,
}

pub async fn set(app: Data<App>, name: Path<String>, body: Json<SettingBody>) -> Answer<SettingView> {
    let setting = of_name(&name)?;
    let value = body.into_inner().value;
    setting.check(&value)?;
    propose(&app, MetaCommand::SetSetting { name: setting.name.into(), value: Some(value.clone()) }).await?;
    Ok(Json(view(setting, Some(value))))
}

pub async fn unset(app: Data<App>, name: Path<String>) -> Result<HttpResponse, Problem> {
    let setting = of_name(&name)?;
    propose(&app, MetaCommand::SetSetting { name: setting.name.into(), value: None }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// All settings at once, and again all of them after every change, as server-sent events.
pub async fn watch(app: Data<App>) -> Result<HttpResponse, Problem> {
    let place = app.admin.watchers.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::unavailable("too many watch the settings"))?;
    let changes = app.cluster.watch_meta();
    let changes = changes.ok_or_else(|| Problem::unavailable("this node has no replica of the meta group yet"))?;
    let first = (app, changes, None::<Settings>, place);
    let events = futures_util::stream::unfold(first, |(app, mut changes, told, place)| async move {
        loop {
            changes.mark_unchanged();
            let now = all(&app).ok()?;
            if told.as_ref() != Some(&now) {
                let data = serde_json::to_string(&now).ok()?;
                let event = Bytes::from(format!("event: settings\ndata: {data}\n\n"));
                return Some((Ok::<_, std::convert::Infallible>(event), (app, changes, Some(now), place)));
            }
            match tokio::time::timeout(STILL_THERE, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some((Ok(Bytes::from_static(b": still there\n\n")), (app, changes, told, place))),
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .streaming(events))
}

/// Lets this node log what the setting says.
pub async fn follow_log_filter(app: Data<App>) {
    let mut told = None;
    loop {
        // A node that has just joined has no meta state yet.
        let Some(mut changes) = app.cluster.watch_meta() else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        loop {
            changes.mark_unchanged();
            let set = app.cluster.with_meta(|state| state.setting(LOG_FILTER).map(str::to_owned)).flatten();
            if set != told {
                if let Err(error) = crate::telemetry::set_filter(set.as_deref()) {
                    tracing::warn!(error, "the setting log_filter is not understood");
                }
                told = set;
            }
            if changes.changed().await.is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_takes_its_default_and_its_bounds_and_nothing_beyond() {
        for setting in SETTINGS {
            assert!(setting.default.is_none_or(|value| setting.check(value).is_ok()), "{}", setting.name);
            if let Kind::Number { least, most } = setting.kind {
                assert!(setting.check(&least.to_string()).is_ok() && setting.check(&most.to_string()).is_ok());
                for bad in [(most + 1).to_string(), "-1".into(), "x".into(), String::new()] {
                    assert!(setting.check(&bad).is_err(), "{} {bad}", setting.name);
                }
            }
        }
        assert!(of_name(LOG_FILTER).unwrap().check("no=such=thing").is_err());
    }
}
