//! Owns the tables of figures: gaps, faults, shards, operations, nodes. Does not compute silences.
//! Invariant: the definition of a gap stands above its figures.

use std::collections::BTreeMap;

use super::gaps::{Gaps, Impact};
use super::html::{Html, Table, count, length, moment};
use super::lanes::{kinds, node_list};
use super::leaders::Leaders;
use super::run::{End, Fault, PartKind, Run};
use super::series::Spread;

/// Rows of the list of single faults.
const FAULTS_LISTED_MAX: usize = 300;
const KINDS_LISTED_MAX: usize = 48;
const SHARDS_LISTED_MAX: usize = 64;
const NODES_LISTED_MAX: usize = 64;
/// Bytes of the last column of the operations.
const REASONS_BYTES_MAX: usize = 800;
const NONE: &str = "–";

/// Says what `gaps.rs` does.
const DEFINITION: &str = "A silence of a PART is a time in which at least one of its sends waited and none was acknowledged. \
It begins with the last ack, or with the first send after it if none waited then, and ends with the next ack. If all waiting \
sends are given up (refused or unknown) it goes on only if the next send follows within 1 s, else it ends there. A send that was \
never acknowledged waits no longer than until the next ack of its PART, for by then the PART served; one without an end line \
for 10 s at most. Silences under 10 ms are not counted. The gap of a fault is the longest silence of any PART within \
[fault, healed + 5 s], cut to that window; beside it the same for all sends of the cluster together. Windows may overlap, then \
a silence counts for each. Percentiles are exact (nearest rank).";

/// Fail-over gaps by kind of fault, and what they are.
pub fn gaps(run: &Run, gaps: &Gaps) -> Html {
    let part = match run.part_kind {
        PartKind::Shard => "shard",
        PartKind::Session => "session",
    };
    let definition = Html::text(&DEFINITION.replace("PART", part));
    let impacts: Vec<(&Fault, Option<Impact>)> = gaps.by_fault(run).collect();
    let row = |name: &str, of: &dyn Fn(&Fault) -> bool| {
        let found: Vec<Option<Impact>> =
            impacts.iter().filter(|(fault, _)| of(fault)).map(|(_, impact)| *impact).collect();
        let with_sends: Vec<Impact> = found.iter().flatten().copied().collect();
        let mut cells = vec![Html::within(name, 60), number(found.len() as u64), number(with_sends.len() as u64)];
        cells.extend(spread(with_sends.iter().map(|impact| impact.part_us).collect(), measured));
        cells.extend(spread(with_sends.iter().map(|impact| impact.whole_us).collect(), measured));
        cells
    };
    let mut rows: Vec<Vec<Html>> = kinds(&run.faults)
        .into_iter()
        .take(KINDS_LISTED_MAX)
        .map(|kind| row(kind, &|fault| fault.kind == kind))
        .collect();
    if rows.len() > 1 {
        rows.push(row("all faults", &|_| true));
    }
    let calm = gaps.without_fault(run);
    let none = || Html::text(NONE);
    rows.push(vec![
        Html::text(if run.faults.is_empty() { "the whole run" } else { "outside all windows" }),
        none(),
        none(),
        none(),
        none(),
        measured(calm.part_us),
        none(),
        none(),
        measured(calm.whole_us),
    ]);
    let any = |figure: &str| format!("a {part}: {figure}");
    let (p50, p99, max) = (any("p50"), any("p99"), any("max"));
    let head = ["fault", "count", "with sends", &p50, &p99, &max, "cluster: p50", "cluster: p99", "cluster: max"];
    let table = Table { caption: "Fail-over gaps by kind of fault", head: &head, numbers_from: 1, text_from: 9, rows };
    Html::made(format!(
        "<h2 id=\"gaps\">Fail-over gaps</h2>\n{}<details class=\"define\"><summary>What a gap is</summary><p>{definition}</p></details>\n",
        table.html()
    ))
}

/// Faults by kind, and each one.
pub fn faults(run: &Run, gaps: &Gaps) -> Html {
    if run.faults.is_empty() {
        return Html::made("<h2 id=\"faults\">Faults</h2>\n<p class=\"none\">No fault was made.</p>\n".to_owned());
    }
    let last_us = |fault: &Fault| run.fault_end_us(fault) - fault.began_us;
    let row = |kind: &str| {
        let of: Vec<&Fault> = run.faults.iter().filter(|fault| fault.kind == kind).collect();
        let open = of.iter().filter(|fault| fault.healed_us.is_none()).count() as u64;
        let total_us = of.iter().map(|fault| last_us(fault)).sum();
        let longest_us = of.iter().map(|fault| last_us(fault)).max().unwrap_or_default();
        vec![
            Html::within(kind, 60),
            number(of.len() as u64),
            Html::text(&length(total_us)),
            Html::text(&length(longest_us)),
            number(open),
        ]
    };
    let rows = kinds(&run.faults).into_iter().take(KINDS_LISTED_MAX).map(row).collect();
    let head = ["kind", "count", "total time", "longest", "never healed"];
    let table = Table { caption: "Faults by kind", head: &head, numbers_from: 1, text_from: 5, rows };
    Html::made(format!("<h2 id=\"faults\">Faults</h2>\n{}{}", table.html(), each_fault(run, gaps)))
}

fn each_fault(run: &Run, gaps: &Gaps) -> Html {
    let row = |(fault, impact): (&Fault, Option<Impact>)| {
        let show = format!(
            "<button type=\"button\" class=\"show\" data-from=\"{}\" data-to=\"{}\">{}</button>",
            fault.began_us,
            run.fault_end_us(fault),
            moment(fault.began_us)
        );
        vec![
            Html::made(format!("#{}", fault.id)),
            Html::within(&fault.kind, 60),
            Html::made(show),
            Html::text(&length(run.fault_end_us(fault) - fault.began_us)),
            impact.map_or(Html::text(NONE), |impact| measured(impact.part_us)),
            impact.map_or(Html::text(NONE), |impact| measured(impact.whole_us)),
            Html::within(&node_list(&fault.nodes), 40),
            Html::within(&fault.note, 160),
        ]
    };
    let rows = gaps.by_fault(run).take(FAULTS_LISTED_MAX).map(row).collect();
    let head = ["fault", "kind", "began", "lasted", "gap", "gap, cluster", "nodes", "note"];
    let table = Table { caption: "Every fault", head: &head, numbers_from: 2, text_from: 6, rows };
    let shown = run.faults.len().min(FAULTS_LISTED_MAX);
    Html::made(format!("<details><summary>Each of the {shown} faults</summary>{}</details>\n", table.html()))
}

/// How often each shard changed hands, and how long nobody led it.
pub fn shards(leaders: &Leaders) -> Html {
    let rows: Vec<Vec<Html>> = (leaders.shards.iter().take(SHARDS_LISTED_MAX))
        .map(|(shard, strips)| {
            let led = Leaders::led(strips);
            let (without, longest) = (length(led.without_us), length(led.without_us_max));
            vec![
                Html::made(format!("shard&nbsp;{shard}")),
                number(led.changes),
                Html::text(&without),
                Html::text(&longest),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Html::default();
    }
    let head = ["shard", "changes of leader", "without a leader", "longest"];
    let table = Table { caption: "Leaders by shard", head: &head, numbers_from: 1, text_from: 4, rows };
    Html::made(format!("<h2 id=\"shards\">Shards</h2>\n{}", table.html()))
}

/// Operations by kind and outcome.
pub fn operations(run: &Run) -> Html {
    let row = |(kind, name): (usize, &String)| {
        let of = || run.ops.iter().filter(move |op| op.kind == kind);
        let mut tally = [0_u64; 4];
        let mut reasons: BTreeMap<(&str, usize), u64> = BTreeMap::new();
        let mut latencies_us = Vec::new();
        for op in of() {
            let (column, reason) = match op.end {
                End::Ok => (0, None),
                End::Fail(reason) => (1, Some(("refused", reason))),
                End::Unknown(reason) => (2, Some(("unknown", reason))),
                End::Open => (3, None),
            };
            tally[column] += 1;
            reason.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            latencies_us.extend(op.ended_us.filter(|_| op.end == End::Ok).map(|ended_us| ended_us - op.invoked_us));
        }
        let mut cells = vec![Html::within(name, 40), number(tally.iter().sum())];
        cells.extend(tally.into_iter().map(number));
        cells.extend(spread(latencies_us, latency));
        cells.push(Html::within(&reason_list(run, &reasons), REASONS_BYTES_MAX));
        cells
    };
    let rows: Vec<Vec<Html>> = run.kinds.iter().enumerate().map(row).collect();
    if rows.is_empty() {
        return Html::made(
            "<h2 id=\"operations\">Operations</h2>\n<p class=\"none\">No operation was begun.</p>\n".to_owned(),
        );
    }
    let head =
        ["operation", "invoked", "ok", "refused", "unknown", "no end", "p50", "p99", "max", "refused and unknown, why"];
    let table = Table { caption: "Operations by kind and outcome", head: &head, numbers_from: 1, text_from: 9, rows };
    Html::made(format!("<h2 id=\"operations\">Operations</h2>\n{}", table.html()))
}

fn reason_list(run: &Run, reasons: &BTreeMap<(&str, usize), u64>) -> String {
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    let text = |((_, reason), times): &(&(&str, usize), &u64)| {
        format!("{} × {}", count(**times), run.reasons.get(*reason).map_or(NONE, String::as_str))
    };
    sorted.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// What each node had to do with.
pub fn nodes(run: &Run, leaders: &Leaders) -> Html {
    let row = |node: u64| {
        let tally = run.tallies.get(&node).copied().unwrap_or_default();
        let hit = run.faults.iter().filter(|fault| fault.nodes.contains(&node)).count() as u64;
        let strips = || leaders.shards.values().flatten();
        let led_us: u64 = strips().filter(|strip| strip.node == Some(node)).map(|strip| strip.length_us()).sum();
        let all_us: u64 = strips().map(|strip| strip.length_us()).sum();
        let share =
            if all_us == 0 { NONE.to_owned() } else { format!("{:.0} %", led_us as f64 * 100.0 / all_us as f64) };
        vec![
            Html::made(format!("node&nbsp;{node}")),
            number(tally.connects),
            number(tally.disconnects),
            number(hit),
            Html::text(&share),
            number(tally.final_reads),
            number(tally.hashes),
        ]
    };
    let rows: Vec<Vec<Html>> = run.all_nodes().into_iter().take(NODES_LISTED_MAX).map(row).collect();
    if rows.is_empty() {
        return Html::default();
    }
    let head = ["node", "connects", "disconnects", "faults", "led of all shard time", "histories read", "hashes"];
    let table = Table { caption: "Nodes", head: &head, numbers_from: 1, text_from: 7, rows };
    Html::made(format!("<h2 id=\"nodes\">Nodes</h2>\n{}", table.html()))
}

fn number(value: u64) -> Html {
    Html::text(&count(value))
}

/// A silence; those that are too short to be kept read as 0 here.
fn measured(us: u64) -> Html {
    Html::text(&if us == 0 { "< 10 ms".to_owned() } else { length(us) })
}

fn spread(values_us: Vec<u64>, written: fn(u64) -> Html) -> [Html; 3] {
    match Spread::of(values_us) {
        Some(spread) => [spread.p50, spread.p99, spread.max].map(written),
        None => [NONE; 3].map(Html::text),
    }
}

fn latency(us: u64) -> Html {
    Html::text(&length(us))
}
