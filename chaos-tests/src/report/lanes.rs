//! Owns the panels made of bars: faults, leaders, silences. Does not compute them.
//! Invariant: a bar says in its title all that its place and colour say.

use std::collections::HashSet;

use super::gaps::{Gap, Gaps, window};
use super::html::{Html, clipped, count, length, moment, percent};
use super::leaders::{Leaders, Strip};
use super::run::{Fault, PartKind, Run};
use super::timeline::{FAULTS_DRAWN_MAX, Panel, Row, key};

const BAR_PX: usize = 20;
/// Faults of one kind that overlap lie below each other, up to this deep.
const DEPTH_MAX: usize = 4;
/// Kinds and shards with a lane of their own.
const LANES_MAX: usize = 64;
/// Bytes of a title, its note last.
const TITLE_BYTES_MAX: usize = 360;
const NAME_BYTES_MAX: usize = 60;
/// The time axis in so many slots; of the silences that begin in one the longest are drawn. All over the run, for the
/// longest of all would crowd where the worst fault was.
const GAP_SLOTS: u64 = 150;
const GAPS_PER_SLOT_MAX: usize = 4;
const GAP_DRAWN_US_MIN: u64 = 100_000;
const GAPS_PX: usize = 116;
/// Colours of nodes in the style sheet.
const COLOURS: usize = 8;

/// Kinds of faults in the order in which they first struck.
pub fn kinds(faults: &[Fault]) -> Vec<&str> {
    let mut kinds: Vec<&str> = Vec::new();
    for fault in faults {
        if !kinds.contains(&fault.kind.as_str()) {
            kinds.push(&fault.kind);
        }
    }
    kinds
}

/// `1, 3` for people.
pub fn node_list(nodes: &[u64]) -> String {
    nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn colour(nodes: &[u64], node: u64) -> usize {
    nodes.iter().position(|known| *known == node).unwrap_or_default() % COLOURS
}

fn at(from_us: u64, to_us: u64, end_us: u64) -> String {
    format!("left:{}%;width:{}%", percent(from_us, end_us), percent(to_us - from_us, end_us))
}

/// One lane a kind.
pub fn faults(run: &Run) -> Panel {
    let drawn = &run.faults[..run.faults.len().min(FAULTS_DRAWN_MAX)];
    let mut rows: Vec<Row> =
        kinds(drawn).into_iter().take(LANES_MAX).map(|kind| fault_lane(run, drawn, kind)).collect();
    if rows.is_empty() {
        rows.push(Row {
            gutter: Html::text("none"),
            height_px: BAR_PX,
            class: "lane",
            label: "no faults".to_owned(),
            drawing: Html::default(),
        });
    }
    let mut key_html = vec![key("bar", "from fault to healed, with the numbers of the nodes")];
    if !run.ready.is_empty() {
        key_html.push(key("ready-key", "all shards serve again"));
    }
    Panel { title: "Faults", key: key_html.into_iter().collect(), rows }
}

fn fault_lane(run: &Run, faults: &[Fault], kind: &str) -> Row {
    let mut free_at_us: Vec<u64> = Vec::new();
    let mut bars = Vec::new();
    for fault in faults.iter().filter(|fault| fault.kind == kind) {
        let end_us = run.fault_end_us(fault);
        let depth = free_at_us.iter().position(|free_us| *free_us <= fault.began_us).unwrap_or(free_at_us.len());
        let depth = depth.min(DEPTH_MAX - 1);
        free_at_us.resize(free_at_us.len().max(depth + 1), 0);
        free_at_us[depth] = end_us;
        bars.push(Html::made(format!(
            "<b class=\"bar{}\" style=\"{};top:{}px\" title=\"{}\">{}</b>",
            if fault.healed_us.is_none() { " open" } else { "" },
            at(fault.began_us, end_us, run.end_us),
            depth * BAR_PX + 2,
            Html::within(&fault_text(run, fault), TITLE_BYTES_MAX),
            node_names(run, fault),
        )));
    }
    let label = format!("{}: {} faults", clipped(kind, NAME_BYTES_MAX), bars.len());
    Row {
        gutter: Html::within(kind, 40),
        height_px: free_at_us.len().max(1) * BAR_PX,
        class: "lane",
        label,
        drawing: bars.into_iter().collect(),
    }
}

/// What stands in a bar.
fn node_names(run: &Run, fault: &Fault) -> Html {
    match fault.nodes.len() {
        3.. if fault.nodes == run.nodes => Html::text("all"),
        _ => Html::within(&node_list(&fault.nodes), 24),
    }
}

fn fault_text(run: &Run, fault: &Fault) -> String {
    let end_us = run.fault_end_us(fault);
    let healed = if fault.healed_us.is_some() { "healed" } else { "never healed" };
    let mut text = format!("{} #{}", clipped(&fault.kind, NAME_BYTES_MAX), fault.id);
    if !fault.nodes.is_empty() {
        text.push_str(&format!(", node {}", node_list(&fault.nodes)));
    }
    text.push_str(&format!(
        "\n{} to {}, {healed} after {}",
        moment(fault.began_us),
        moment(end_us),
        length(end_us - fault.began_us)
    ));
    if !fault.note.is_empty() {
        text.push_str(&format!("\n{}", fault.note));
    }
    text
}

/// One strip a shard.
pub fn leaders(run: &Run, leaders: Leaders) -> Panel {
    let nodes = run.all_nodes();
    let mut rows: Vec<Row> = leaders
        .shards
        .iter()
        .take(LANES_MAX)
        .map(|(shard, strips)| Row {
            gutter: Html::made(format!("shard {shard}")),
            height_px: BAR_PX,
            class: "lane",
            label: format!("shard {shard}: {} leaderships", strips.iter().filter(|strip| strip.node.is_some()).count()),
            drawing: strips.iter().map(|strip| strip_bar(run, &nodes, *shard, strip)).collect(),
        })
        .collect();
    if rows.is_empty() {
        rows.push(Row {
            gutter: Html::text("not sampled"),
            height_px: BAR_PX,
            class: "lane",
            label: "leaders were not sampled".to_owned(),
            drawing: Html::default(),
        });
    }
    let mut keys: Vec<Html> = nodes
        .iter()
        .take(COLOURS * 2)
        .map(|node| key(&format!("n{}", colour(&nodes, *node)), &format!("node {node}")))
        .collect();
    keys.push(key("nobody", "nobody leads"));
    if leaders.merged_below_us > 0 {
        keys.push(Html::text(&format!("strips under {} are left out", length(leaders.merged_below_us))));
    }
    if leaders.shards.len() > LANES_MAX {
        keys.push(Html::text(&format!("the first {LANES_MAX} of {} shards", leaders.shards.len())));
    }
    Panel { title: "Leader of each shard", key: keys.into_iter().collect(), rows }
}

fn strip_bar(run: &Run, nodes: &[u64], shard: u64, strip: &Strip) -> Html {
    let epoch = strip.epoch.map(|epoch| format!(", epoch {epoch}")).unwrap_or_default();
    let (class, who, number) = match strip.node {
        Some(node) => (format!("n{}", colour(nodes, node)), format!("node {node} leads{epoch}"), node.to_string()),
        None => ("nobody".to_owned(), "nobody leads".to_owned(), String::new()),
    };
    Html::made(format!(
        "<b class=\"{class}\" style=\"{}\" title=\"shard {shard}: {who}\n{} to {}, {}\">{number}</b>",
        at(strip.from_us, strip.to_us, run.end_us),
        moment(strip.from_us),
        moment(strip.to_us),
        length(strip.length_us()),
    ))
}

/// Each silence as a bar as long as it was, the longer the higher.
pub fn gaps(run: &Run, gaps: &Gaps) -> Panel {
    let (one, each) = match run.part_kind {
        PartKind::Shard => ("one shard", "shard"),
        PartKind::Session => ("one session", "session"),
    };
    let (parts, whole) = (longest(run, &gaps.parts), longest(run, &gaps.whole));
    let most_us = parts.iter().chain(&whole).map(|gap| gap.length_us()).max().unwrap_or(GAP_DRAWN_US_MIN);
    // Head room for the figure beside the longest.
    let decades = (most_us as f64 * 1.5 / GAP_DRAWN_US_MIN as f64).log10().max(2.0);
    let labelled = worst(run, &gaps.parts);
    let bar = |gap: &Gap| {
        let height = (gap.length_us() as f64 / GAP_DRAWN_US_MIN as f64).log10() / decades * 100.0;
        let name = gap.part.and_then(|part| run.parts.get(part as usize));
        let who = name.map_or("the whole cluster".to_owned(), |name| format!("{each} {}", clipped(name, 24)));
        let label =
            if labelled.contains(&key_of(gap)) { format!("<s>{}</s>", length(gap.length_us())) } else { String::new() };
        Html::made(format!(
            "<b class=\"{}\" style=\"{};bottom:{height:.1}%\" title=\"{}\n{} to {}\">{label}</b>",
            if gap.part.is_some() { "gap" } else { "gap whole" },
            at(gap.from_us, gap.to_us, run.end_us),
            Html::text(&format!("no ack for {} while sends waited: {who}", length(gap.length_us()))),
            moment(gap.from_us),
            moment(gap.to_us),
        ))
    };
    let ticks = (0..=decades as u32).map(|decade| {
        let bottom = f64::from(decade) / decades * 100.0;
        let text = length(GAP_DRAWN_US_MIN * 10_u64.pow(decade)).replace(".00", "").replace(".0", "");
        (bottom, text)
    });
    let row = Row {
        gutter: axis(ticks.clone()),
        height_px: GAPS_PX,
        class: "chart",
        label: format!(
            "silences: {} of {one}, {} of the whole cluster, the longest {}",
            count(parts.len() as u64),
            count(whole.len() as u64),
            length(most_us)
        ),
        drawing: rules(ticks).into_iter().chain(parts.iter().map(bar)).chain(whole.iter().map(bar)).collect(),
    };
    let keys = [
        key("gap-key", &format!("{one} without an ack while its sends waited")),
        key("whole", "the whole cluster"),
        Html::text(&format!("from {} on, log scale", length(GAP_DRAWN_US_MIN))),
    ];
    Panel { title: "Fail-over gaps", key: keys.into_iter().collect(), rows: vec![row] }
}

/// Names beside an axis; the number is percent from below.
pub fn axis(ticks: impl Iterator<Item = (f64, String)>) -> Html {
    ticks
        .map(|(bottom, text)| Html::made(format!("<span style=\"bottom:{bottom:.1}%\">{}</span>", Html::text(&text))))
        .collect()
}

/// Thin lines at the same places.
pub fn rules(ticks: impl Iterator<Item = (f64, String)>) -> Option<Html> {
    Some(ticks.map(|(bottom, _)| Html::made(format!("<hr style=\"bottom:{bottom:.1}%\">"))).collect())
}

fn longest(run: &Run, gaps: &[Gap]) -> Vec<Gap> {
    let mut longest: Vec<Gap> = gaps.iter().filter(|gap| gap.length_us() >= GAP_DRAWN_US_MIN).copied().collect();
    longest.sort_by_key(|gap| std::cmp::Reverse(gap.length_us()));
    let mut taken = [0; GAP_SLOTS as usize + 1];
    longest.retain(|gap| {
        let slot = &mut taken[(gap.from_us / (run.end_us / GAP_SLOTS + 1)) as usize];
        *slot += 1;
        *slot <= GAPS_PER_SLOT_MAX
    });
    longest
}

fn key_of(gap: &Gap) -> (u64, u64, Option<u32>) {
    (gap.from_us, gap.to_us, gap.part)
}

/// The longest silence of each fault's window, to be named in figures.
fn worst(run: &Run, gaps: &[Gap]) -> HashSet<(u64, u64, Option<u32>)> {
    let of = |fault: &Fault| {
        let (from_us, to_us) = window(run, fault);
        let touches = gaps.iter().filter(|gap| gap.to_us >= from_us && gap.from_us <= to_us);
        touches.max_by_key(|gap| gap.length_us()).map(key_of)
    };
    run.faults.iter().take(FAULTS_DRAWN_MAX).filter_map(of).collect()
}
