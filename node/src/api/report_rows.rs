//! Owns how a report looks, as JSON and as a table for other programs (CSV). Does not gather it. Invariant: both have the same figures; no cell of
//! a table is a formula.

use proto::ids::{AgentId, ShardId, TeamId};
use proto::report::{Figures, ReportKind, Times};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ReportView {
    /// Where the first hour begins, milliseconds since 1970.
    pub from: u64,
    /// Where the last hour ends.
    pub to: u64,
    /// By whose clocks days are told apart.
    pub zone: String,
    /// What happened in some shards is not in it.
    pub partial: bool,
    /// Those shards.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<ShardId>,
    /// Ascending by time, then by whom they are about.
    pub rows: Vec<RowView>,
}

/// What happened in a stretch of time. See docs/REPORTS.md for what each figure means.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowView {
    /// Milliseconds since 1970.
    pub from: u64,
    pub to: u64,
    /// The day, or the hour in UTC, when rows are told apart by that.
    pub time: Option<String>,
    #[schema(value_type = Option<String>)]
    pub team: Option<TeamId>,
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    /// The agent's.
    pub name: Option<String>,
    /// Empty: of labels that were too many to be kept apart.
    pub label: Option<String>,
    pub opened: u64,
    pub reopened: u64,
    pub closed: u64,
    pub abandoned: u64,
    pub unanswered: u64,
    pub assigned: u64,
    pub transferred: u64,
    pub requeued: u64,
    pub labelled: u64,
    pub messages: MessagesView,
    pub first_response: TimesView,
    pub response: TimesView,
    pub resolution: TimesView,
    pub wait: TimesView,
    pub abandonment: TimesView,
    pub csat: CsatView,
    /// Agents' time; null where it is not kept: by team and by label.
    pub presence: Option<PresenceView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MessagesView {
    pub visitors: u64,
    pub agents: u64,
    pub system: u64,
}

/// How long something took, in milliseconds; null: nothing was counted, or it is not known of this.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimesView {
    pub count: u64,
    pub mean: Option<u64>,
    /// Half took so long or less, give or take an eighth.
    pub p50: Option<u64>,
    /// Nine in ten.
    pub p90: Option<u64>,
    pub max: Option<u64>,
}

impl TimesView {
    fn of(times: &Times) -> TimesView {
        let max = (times.count > 0).then_some(times.max_ms);
        let (p50, p90) = (times.percentile_ms(50), times.percentile_ms(90));
        TimesView { count: times.count, mean: times.mean_ms(), p50, p90, max }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CsatView {
    /// Conversations that were rated.
    pub ratings: u64,
    /// By score, from 1 to 5.
    pub scores: [u64; 5],
    /// How many of a hundred are 4 or 5.
    pub satisfied: Option<f64>,
    pub mean: Option<f64>,
}

impl CsatView {
    fn of(scores: &[i64; 5]) -> CsatView {
        // A rating that was changed may have been given before the stretch.
        let scores = scores.map(|score| u64::try_from(score).unwrap_or(0));
        let ratings: u64 = scores.iter().sum();
        let sum: u64 = scores.iter().zip(1..).map(|(count, score)| count * score).sum();
        let share =
            |part: u64, digits: f64| (ratings > 0).then(|| (part as f64 / ratings as f64 * digits).round() / digits);
        CsatView { ratings, scores, satisfied: share(100 * (scores[3] + scores[4]), 10.0), mean: share(sum, 100.0) }
    }
}

/// In milliseconds, but for the last.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresenceView {
    pub online: u64,
    pub busy: u64,
    pub away: u64,
    /// The time that conversations were with agents, each counted.
    pub load: u64,
    /// Most conversations that an agent had at once; null of the whole site.
    pub load_max: Option<u64>,
}

impl RowView {
    /// Of nobody in particular so far.
    pub fn new(from: u64, to: u64, time: Option<String>, kind: ReportKind, figures: &Figures) -> RowView {
        let is_of_agents = matches!(kind, ReportKind::Site | ReportKind::Agent);
        let presence = is_of_agents.then(|| PresenceView {
            online: figures.online_ms,
            busy: figures.busy_ms,
            away: figures.away_ms,
            load: figures.held_ms,
            load_max: (kind == ReportKind::Agent).then_some(figures.held_max),
        });
        RowView {
            from,
            to,
            time,
            team: None,
            agent: None,
            name: None,
            label: None,
            opened: figures.opened,
            reopened: figures.reopened,
            closed: figures.closed,
            abandoned: figures.abandoned,
            unanswered: figures.unanswered,
            assigned: figures.assigned,
            transferred: figures.transferred,
            requeued: figures.requeued,
            labelled: figures.labelled,
            messages: MessagesView {
                visitors: figures.from_visitors,
                agents: figures.from_agents,
                system: figures.from_system,
            },
            first_response: TimesView::of(&figures.first_response),
            response: TimesView::of(&figures.response),
            resolution: TimesView::of(&figures.resolution),
            wait: TimesView::of(&figures.wait),
            abandonment: TimesView::of(&figures.abandonment),
            csat: CsatView::of(&figures.scores),
            presence,
        }
    }

    /// Every cell, in the order of the table, with the name of its column.
    fn cells(&self) -> Vec<(String, String)> {
        let mut cells = Vec::new();
        let mut cell = |name: &str, value: Option<String>| cells.push((name.to_owned(), value.unwrap_or_default()));
        cell("from", Some(self.from.to_string()));
        cell("to", Some(self.to.to_string()));
        cell("time", self.time.clone());
        cell("team", self.team.map(|team| team.to_string()));
        cell("agent", self.agent.map(|agent| agent.to_string()));
        cell("name", self.name.as_deref().map(harmless));
        cell("label", self.label.as_deref().map(harmless));
        let counts = [
            ("opened", self.opened),
            ("reopened", self.reopened),
            ("closed", self.closed),
            ("abandoned", self.abandoned),
            ("unanswered", self.unanswered),
            ("assigned", self.assigned),
            ("transferred", self.transferred),
            ("requeued", self.requeued),
            ("labelled", self.labelled),
            ("messages_visitors", self.messages.visitors),
            ("messages_agents", self.messages.agents),
            ("messages_system", self.messages.system),
        ];
        counts.into_iter().for_each(|(name, count)| cell(name, Some(count.to_string())));
        let times = [
            ("first_response", &self.first_response),
            ("response", &self.response),
            ("resolution", &self.resolution),
            ("wait", &self.wait),
            ("abandonment", &self.abandonment),
        ];
        for (name, TimesView { count, mean, p50, p90, max }) in times {
            let parts =
                [("count", Some(*count)), ("mean_ms", *mean), ("p50_ms", *p50), ("p90_ms", *p90), ("max_ms", *max)];
            parts.into_iter().for_each(|(part, ms)| cell(&format!("{name}_{part}"), ms.map(|ms| ms.to_string())));
        }
        cell("csat_ratings", Some(self.csat.ratings.to_string()));
        for (score, count) in (1..).zip(self.csat.scores) {
            cell(&format!("csat_{score}"), Some(count.to_string()));
        }
        cell("csat_satisfied", self.csat.satisfied.map(|share| share.to_string()));
        cell("csat_mean", self.csat.mean.map(|mean| mean.to_string()));
        let presence = self.presence.as_ref();
        cell("online_ms", presence.map(|known| known.online.to_string()));
        cell("busy_ms", presence.map(|known| known.busy.to_string()));
        cell("away_ms", presence.map(|known| known.away.to_string()));
        cell("load_ms", presence.map(|known| known.load.to_string()));
        cell("load_max", presence.and_then(|known| known.load_max).map(|max| max.to_string()));
        cells
    }
}

/// A text that no program takes for a formula.
/// Source: OWASP, CSV injection.
fn harmless(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

/// The rows as a table, its first line the names of the columns; RFC 4180.
/// # Errors
/// It cannot be written.
pub fn csv_of(view: &ReportView) -> Result<Vec<u8>, csv::Error> {
    let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let names = RowView::new(0, 0, None, ReportKind::Site, &Figures::default()).cells();
    out.write_record(names.iter().map(|(name, _)| name))?;
    for row in &view.rows {
        out.write_record(row.cells().iter().map(|(_, value)| value))?;
    }
    out.into_inner().map_err(|error| error.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(rows: Vec<RowView>) -> ReportView {
        ReportView { from: 0, to: 0, zone: "UTC".into(), partial: false, missing: Vec::new(), rows }
    }

    #[test]
    fn a_table_reads_back_and_nothing_in_it_is_a_formula() {
        let labels = [
            "=1+1",
            "＝1+1",
            "+49",
            "-2",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "a,b",
            "say \"hi\"",
            "two\nlines",
            "名字",
            "",
        ];
        let mut figures = Figures { opened: 3, scores: [1, 0, 0, 0, 3], ..Figures::default() };
        figures.wait.add(90_000);
        let row = |label: &str| RowView {
            label: Some(label.into()),
            ..RowView::new(3_600_000, 7_200_000, None, ReportKind::Label, &figures)
        };
        let bytes = csv_of(&view(labels.map(row).into())).unwrap();
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let names = reader.headers().unwrap().clone();
        let column = |name: &str| names.iter().position(|known| known == name).unwrap();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), labels.len());
        for (label, row) in labels.iter().zip(&rows) {
            let read = &row[column("label")];
            assert_eq!(read.trim_start_matches('\''), *label);
            assert!(!read.starts_with(['=', '＝', '+', '-', '@', '\t', '\r', '\n']), "{read:?}");
            assert_eq!((&row[column("opened")], &row[column("wait_mean_ms")]), ("3", "90000"));
            assert_eq!((&row[column("csat_satisfied")], &row[column("csat_mean")]), ("75", "4"));
            assert_eq!((&row[column("response_p90_ms")], &row[column("online_ms")]), ("", ""));
        }
    }

    #[test]
    fn a_report_without_rows_has_the_line_of_names() {
        let bytes = csv_of(&view(Vec::new())).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("from,to,time,team,agent,name,label,opened,") && text.ends_with("load_max\r\n"));
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn ratings_taken_back_leave_no_negative_figures() {
        let csat = CsatView::of(&[-1, 0, 0, 1, 0]);
        assert_eq!(
            (csat.ratings, csat.scores, csat.satisfied, csat.mean),
            (1, [0, 0, 0, 1, 0], Some(100.0), Some(4.0))
        );
        assert_eq!(CsatView::of(&[0; 5]).mean, None);
    }
}
