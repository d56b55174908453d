//! Owns reports: what is asked of all shards, and one answer out of theirs. Does not count: apply does, in each shard. Invariant: the site is that
//! of the credential; what a shard did not tell is not passed over in silence.

use super::report_rows::{self, ReportView, RowView};
use crate::admin::accounts::id_of;
use crate::admin::desk;
use crate::admin::problem::Problem;
use crate::admin::sessions::call_shard;
use crate::admin::{Tenant, read_meta};
use crate::reports::STRETCHES_MAX;
use crate::run::App;
use actix_web::http::header;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proto::ids::{AgentId, ShardId, SiteId, TeamId};
use proto::peer::{ShardCall, ShardReply};
use proto::report::{Figures, HOUR_MS, ReportAsk, ReportKind, ReportSum, hour_ms, hour_of};
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// Hours of one report: as many as are kept.
const HOURS_MAX: u32 = chat::limits::ROLLUP_HOURS_KEPT;
/// Hours of one report by team, agent or label: there may be thousands of rows in each.
const HOURS_APART_MAX: u32 = 100 * 24;
/// Rows of one report.
const ROWS_MAX: usize = 10_000;
/// Unless it is said from when: so many hours up to now.
const HOURS_DEFAULT: u64 = 7 * 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    Csv,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ReportQuery {
    /// From the hour (UTC) in which this lies, milliseconds since 1970. Without it: a week before `to`.
    #[param(nullable = false)]
    from: Option<u64>,
    /// Up to the end of the hour (UTC) before or in which this lies, milliseconds since 1970. Without it: now.
    #[param(nullable = false)]
    to: Option<u64>,
    /// One or two words with a comma between them: `hour` or `day`, and `team`, `agent` or `label`. Without it: one row.
    #[param(max_length = 32, nullable = false, example = "day,agent")]
    group_by: Option<String>,
    /// A name of the IANA time zone database by whose clocks days are told apart. Without it: that of the site's hours, or else UTC.
    #[param(max_length = 256, nullable = false, example = "Asia/Shanghai")]
    zone: Option<String>,
    /// Only what concerns this team.
    #[param(pattern = "^t(0|[1-9][0-9]{0,8})$", nullable = false)]
    team: Option<String>,
    /// Only what concerns this agent.
    #[param(pattern = "^a(0|[1-9][0-9]{0,18})$", nullable = false)]
    agent: Option<String>,
    /// Only what concerns conversations with this label.
    #[param(max_length = 64, nullable = false)]
    label: Option<String>,
    /// `json` unless the `Accept` header asks for `text/csv`.
    #[param(inline, nullable = false)]
    format: Option<Format>,
}

/// How long a row's stretch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Hour,
    Day,
    All,
}

/// What is asked for, read.
struct Asked {
    by: By,
    kind: ReportKind,
    /// Of the team or agent.
    id: Option<u64>,
    label: Option<String>,
    /// Rows are told apart by more than time.
    is_apart: bool,
}

impl ReportQuery {
    fn read(&self) -> Result<Asked, Problem> {
        let (mut by, mut apart) = (None, None);
        for word in self.group_by.iter().flat_map(|words| words.split(',')) {
            let was_named = match word {
                "hour" => by.replace(By::Hour).is_some(),
                "day" => by.replace(By::Day).is_some(),
                "team" => apart.replace(ReportKind::Team).is_some(),
                "agent" => apart.replace(ReportKind::Agent).is_some(),
                "label" => apart.replace(ReportKind::Label).is_some(),
                _ => true,
            };
            if was_named {
                return Err(Problem::bad_request("group_by is hour or day, and team, agent or label"));
            }
        }
        if self.label.as_ref().is_some_and(|label| label.len() > chat::limits::LABEL_BYTES_MAX) {
            return Err(Problem::bad_request("no label is that long"));
        }
        let team: Option<TeamId> = id_of("team", self.team.as_deref())?;
        let agent: Option<AgentId> = id_of("agent", self.agent.as_deref())?;
        let of_label = self.label.as_ref().map(|_| (ReportKind::Label, None));
        let of_team = team.map(|team| (ReportKind::Team, Some(u64::from(team.0))));
        let of_agent = agent.map(|agent| (ReportKind::Agent, Some(agent.0)));
        let mut only = [of_team, of_agent, of_label].into_iter().flatten();
        let (kind, id) = match (only.next(), only.next(), apart) {
            (None, _, apart) => (apart.unwrap_or(ReportKind::Site), None),
            (Some((kind, id)), None, apart) if apart.is_none_or(|apart| apart == kind) => (kind, id),
            // What both had in common was not counted.
            _ => {
                return Err(Problem::bad_request("figures are kept by team, by agent or by label, not by two of them"));
            }
        };
        let is_apart = id.is_none() && self.label.is_none() && kind != ReportKind::Site;
        Ok(Asked { by: by.unwrap_or(By::All), kind, id, label: self.label.clone(), is_apart })
    }

    /// The first hour and the one behind the last.
    fn hours(&self, asked: &Asked, now_ms: u64) -> Result<(u32, u32), Problem> {
        let to = self.to.unwrap_or(now_ms);
        let from = self.from.unwrap_or(to.saturating_sub(HOURS_DEFAULT * HOUR_MS));
        let end = u32::try_from(to.div_ceil(HOUR_MS)).unwrap_or(u32::MAX);
        let first = hour_of(from);
        let max = if asked.kind == ReportKind::Site { HOURS_MAX } else { HOURS_APART_MAX };
        match () {
            () if from >= to || end <= first => Err(Problem::bad_request("from is before to")),
            () if end - first > max => {
                Err(Problem::bad_request(format!("a report like that is over {} days at most", max / 24)))
            }
            () => Ok((first, end)),
        }
    }
}

/// Where stretches begin: an hour belongs to the day in which it begins.
fn starts(by: By, (first, end): (u32, u32), zone: &TimeZone) -> Vec<u32> {
    match by {
        By::All => vec![first],
        By::Hour => (first..end).collect(),
        By::Day => {
            let begins = |date: Date| {
                let at = date.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond();
                u32::try_from(u64::try_from(at).ok()?.div_ceil(HOUR_MS)).ok()
            };
            let today = date_of(first, zone);
            let days = (1..).map_while(|ahead: i32| today?.checked_add(ahead.days()).ok());
            let later = days.map_while(begins).skip_while(|hour| *hour <= first).take_while(|hour| *hour < end);
            std::iter::once(first).chain(later).collect()
        }
    }
}

/// The day on which an hour begins.
fn date_of(hour: u32, zone: &TimeZone) -> Option<Date> {
    let at = Timestamp::from_millisecond(i64::try_from(hour_ms(hour)).ok()?).ok()?;
    Some(at.to_zoned(zone.clone()).date())
}

pub async fn summary(
    app: Data<App>,
    Tenant(site): Tenant,
    request: HttpRequest,
    query: Query<ReportQuery>,
) -> Result<HttpResponse, Problem> {
    let asked = query.read()?;
    let now_ms = cluster::shard::now_ms();
    let (first, end) = query.hours(&asked, now_ms)?;
    let zone = zone_of(&app, site, &query, &asked).await?;
    let tz = TimeZone::get(&zone).map_err(|_| Problem::bad_request("there is no such time zone"))?;
    let starts = starts(asked.by, (first, end), &tz);
    if starts.len() > STRETCHES_MAX {
        return Err(Problem::bad_request(format!("that is more than {STRETCHES_MAX} hours apart: ask for days")));
    }
    let (sums, missing) = gather(&app, site, &asked, &starts, end, now_ms).await?;
    let is_csv = wants_csv(&query, &request);
    if is_csv && !missing.is_empty() {
        // A file cannot say that something is not in it.
        return Err(Problem::unavailable(format!("{} has no leader just now, try again", missing[0])));
    }
    let rows = rows_of(&app, &asked, &starts, end, &tz, sums)?;
    let view = ReportView { from: hour_ms(first), to: hour_ms(end), zone, partial: !missing.is_empty(), missing, rows };
    if !is_csv {
        return Ok(HttpResponse::Ok().json(view));
    }
    let body = report_rows::csv_of(&view).map_err(|_| crate::admin::unexpected())?;
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8; header=present")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"report.csv\""))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(body))
}

fn wants_csv(query: &ReportQuery, request: &HttpRequest) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = accepts.split(',').any(|range| range.split(';').next().is_some_and(|kind| kind.trim() == "text/csv"));
    query.format.map_or(named, |format| format == Format::Csv)
}

async fn zone_of(app: &Data<App>, site: SiteId, query: &ReportQuery, asked: &Asked) -> Result<String, Problem> {
    if let Some(zone) = &query.zone {
        return Ok(zone.clone());
    }
    if asked.by != By::Day {
        return Ok("UTC".to_owned());
    }
    let desk = desk::show(app.clone(), Tenant(site)).await?.into_inner();
    // A zone that this build does not know keeps nobody from a report.
    let zone = desk.rules.hours.map(|hours| hours.zone).filter(|zone| crate::hours::is_zone(zone));
    Ok(zone.unwrap_or_else(|| "UTC".to_owned()))
}

/// Sums by stretch and id.
type Sums = BTreeMap<(u32, u128), (String, Figures)>;

/// What all shards have, and which did not say.
async fn gather(
    app: &Data<App>,
    site: SiteId,
    asked: &Asked,
    starts: &[u32],
    end: u32,
    now_ms: u64,
) -> Result<(Sums, Vec<ShardId>), Problem> {
    let (kind, id, label, starts) = (asked.kind, asked.id, asked.label.clone(), starts.to_vec());
    let from = starts.first().copied().unwrap_or(end);
    let ask = ReportAsk { site, kind, id, label, starts, end, from, now_ms };
    let asks = app.cluster.router.shards().into_iter().map(|shard| {
        let (app, ask) = (app.clone(), ask.clone());
        async move { (shard, of_shard(&app, shard, ask).await) }
    });
    let (mut sums, mut missing) = (Sums::new(), Vec::new());
    for (shard, told) in futures_util::future::join_all(asks).await {
        let Some(told) = told? else {
            missing.push(shard);
            continue;
        };
        for ((stretch, id), (label, figures)) in told {
            add(&mut sums, ReportSum { stretch, id, label, figures })?;
        }
    }
    Ok((sums, missing))
}

/// Adds a sum to those that are known.
/// # Errors
/// There are too many rows then.
fn add(sums: &mut Sums, told: ReportSum) -> Result<(), Problem> {
    let ReportSum { stretch, id, label, figures } = told;
    let (known, sum) = sums.entry((stretch, id)).or_default();
    if known.is_empty() {
        *known = label;
    }
    sum.merge(&figures);
    if sums.len() > ROWS_MAX {
        return Err(Problem::bad_request(format!("that is more than {ROWS_MAX} rows: ask for less at once")));
    }
    Ok(())
}

/// Every page of a shard; `None`: it does not answer.
async fn of_shard(app: &Data<App>, shard: ShardId, mut ask: ReportAsk) -> Result<Option<Sums>, Problem> {
    let mut all = Sums::new();
    loop {
        let ShardReply::Report(page) = call_shard(app, shard, ShardCall::Report(Box::new(ask.clone()))).await else {
            return Ok(None);
        };
        // Pages of a shard share rows.
        page.sums.into_iter().try_for_each(|sum| add(&mut all, sum))?;
        match page.next.filter(|next| *next > ask.from) {
            Some(next) => ask.from = next,
            None => return Ok(Some(all)),
        }
    }
}

/// The rows of the answer: of a single series one for each stretch, with nothing in it or not.
fn rows_of(
    app: &App,
    asked: &Asked,
    starts: &[u32],
    end: u32,
    zone: &TimeZone,
    mut sums: Sums,
) -> Result<Vec<RowView>, Problem> {
    if !asked.is_apart {
        let (stretches, label) = (0..starts.len() as u32, asked.label.clone().unwrap_or_default());
        let id = sums.keys().next().map_or(u128::from(asked.id.unwrap_or(0)), |(_, id)| *id);
        for stretch in stretches {
            sums.entry((stretch, id)).or_insert_with(|| (label.clone(), Figures::default()));
        }
    }
    let time = |stretch: usize| {
        let hour = starts.get(stretch).copied().unwrap_or(end);
        match asked.by {
            By::All => None,
            By::Day => date_of(hour, zone).map(|date| date.to_string()),
            By::Hour => i64::try_from(hour_ms(hour))
                .ok()
                .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                .map(|at| at.to_string()),
        }
    };
    read_meta(app, |state| {
        let row = |((stretch, id), (label, figures)): ((u32, u128), (String, Figures))| {
            let at = stretch as usize;
            let (from, to) = (starts.get(at).copied().unwrap_or(end), starts.get(at + 1).copied().unwrap_or(end));
            let mut row = RowView::new(hour_ms(from), hour_ms(to), time(at), asked.kind, &figures);
            match asked.kind {
                ReportKind::Site => {}
                ReportKind::Team => row.team = u32::try_from(id).ok().map(TeamId),
                ReportKind::Agent => {
                    row.agent = u64::try_from(id).ok().map(AgentId);
                    row.name = row.agent.and_then(|agent| state.agents.get(&agent)).map(|agent| agent.name.clone());
                }
                ReportKind::Label => row.label = Some(label),
            }
            row
        };
        sums.into_iter().map(row).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(text: &str) -> u32 {
        hour_of(text.parse::<Timestamp>().unwrap().as_millisecond() as u64)
    }

    fn query(group_by: &str) -> ReportQuery {
        ReportQuery { group_by: Some(group_by.into()), ..ReportQuery::default() }
    }

    #[test]
    fn days_begin_at_midnight_of_the_zone_whatever_its_clocks_do() {
        let days = |zone: &str, from: &str, to: &str| {
            let zone = TimeZone::get(zone).unwrap();
            let range = (hour(from), hour(to));
            starts(By::Day, range, &zone).iter().map(|start| start - range.0).collect::<Vec<u32>>()
        };
        assert_eq!(days("UTC", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z"), [0, 24]);
        assert_eq!(days("Asia/Shanghai", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z"), [0, 16, 40]);
        // The day on which the clocks go back has 25 hours, the one on which they go forward 23.
        assert_eq!(days("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-27T00:00:00Z"), [0, 25, 49]);
        assert_eq!(days("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-31T00:00:00Z"), [0, 23, 47]);
        // Midnight is at half past six in the evening: the hour from six to seven belongs to the day before.
        assert_eq!(days("Asia/Kolkata", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"), [0, 19]);
    }

    #[test]
    fn two_divisions_at_once_are_refused_and_time_goes_with_any() {
        for wrong in ["", "hour,day", "team,agent", "week", "agent,agent", "day,"] {
            assert!(query(wrong).read().is_err(), "{wrong}");
        }
        let both = ReportQuery { team: Some("t1".into()), ..query("agent") };
        assert!(both.read().is_err());
        let asked = ReportQuery { agent: Some("a7".into()), ..query("day") }.read().ok().unwrap();
        assert_eq!((asked.by, asked.kind, asked.id, asked.is_apart), (By::Day, ReportKind::Agent, Some(7), false));
        let asked = query("hour,label").read().ok().unwrap();
        assert_eq!((asked.by, asked.kind, asked.id, asked.is_apart), (By::Hour, ReportKind::Label, None, true));
    }

    #[test]
    fn a_range_is_of_whole_hours_and_not_longer_than_figures_are_kept() {
        let of = |from: u64, to: u64, group_by: &str| {
            let query = ReportQuery { from: Some(from), to: Some(to), ..query(group_by) };
            query.read().and_then(|asked| query.hours(&asked, 0)).ok()
        };
        assert_eq!(of(HOUR_MS - 1, HOUR_MS + 1, "day"), Some((0, 2)));
        assert_eq!(of(HOUR_MS, HOUR_MS, "day"), None);
        assert_eq!(of(0, 400 * 24 * HOUR_MS, "day"), Some((0, 9_600)));
        assert_eq!(of(0, 400 * 24 * HOUR_MS + 1, "day"), None);
        assert_eq!(of(0, 101 * 24 * HOUR_MS, "day,agent"), None);
        assert_eq!(of(u64::MAX - 1, u64::MAX, "day"), None);
    }
}
