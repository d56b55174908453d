//! Owns the curves: throughput, outcomes that were no ack, latency. Does not compute them.
//! Invariant: x is the number of the interval, so that a path is short and stretches with the time axis.

use super::html::{Html, count, decimals, length};
use super::lanes::{axis, rules};
use super::run::Run;
use super::series::{Point, Series, Spread};
use super::timeline::{Panel, Row, key};

const THROUGHPUT_PX: usize = 116;
const LATENCY_PX: usize = 150;
const MARKS_PX: usize = 18;

/// Acked sends per second; below them what was refused and what nobody knows.
pub fn throughput(run: &Run, series: &Series) -> Panel {
    let peak = series.per_second(series.most(|point| point.acked));
    let top = round_up(peak);
    let y = |point: &Point| 100.0 - series.per_second(point.acked) / top * 100.0;
    let line: String = (series.points.iter().enumerate())
        .map(|(index, point)| format!("V{}H{}", decimals(y(point), 1), index + 1))
        .collect();
    let ends = series.points.len();
    let paths = format!("<path class=\"area\" d=\"M0 100{line}V100H0\"/><path class=\"acks\" d=\"M0 100{line}V100\"/>");
    let ticks = [0.0, 0.5, 1.0].into_iter().map(|part| (part * 100.0, decimals(top * part, 1)));
    let drawing = if ends == 0 { Html::default() } else { svg(run, series, &paths) };
    let rows = vec![
        Row {
            gutter: axis(ticks.clone()),
            height_px: THROUGHPUT_PX,
            class: "chart",
            label: format!("acknowledged sends per second, at most {}", decimals(peak, 0)),
            drawing: rules(ticks).into_iter().chain([drawing]).collect(),
        },
        marks(run, series, "unknown", |point| point.unknown),
        marks(run, series, "refused", |point| point.failed),
    ];
    let keys = [
        key("acks", "acknowledged sends per second"),
        key("unknown", "outcome unknown"),
        key("refused", "refused"),
        Html::text(&format!("in steps of {}", step(series))),
    ];
    Panel { title: "Throughput", key: keys.into_iter().collect(), rows }
}

fn marks(run: &Run, series: &Series, class: &'static str, of: impl Fn(&Point) -> u64) -> Row {
    let most = series.most(&of);
    let mark = |(index, point): (usize, &Point)| {
        let height = (of(point) as f64 / most as f64).sqrt() * 65.0 + 25.0;
        format!("M{index}.5 100v-{}", decimals(height, 0))
    };
    let path: String = series.points.iter().enumerate().filter(|(_, point)| of(point) > 0).map(mark).collect();
    let total: u64 = series.points.iter().map(of).sum();
    Row {
        gutter: Html::text(class),
        height_px: MARKS_PX,
        class: "lane marks",
        label: format!("{} sends {class}", count(total)),
        drawing: svg(run, series, &format!("<path class=\"{class}\" d=\"{path}\"/>")),
    }
}

/// p50, p99 and the slowest of the acked sends.
pub fn latency(run: &Run, series: &Series) -> Panel {
    let spreads = || series.points.iter().filter_map(|point| point.latency_us);
    let low = spreads().map(|spread| spread.p50).min().unwrap_or(1_000).max(1) as f64;
    let high = spreads().map(|spread| spread.max).max().unwrap_or(1_000_000).max(1) as f64;
    let from = low.log10().floor();
    let decades = (high.log10().ceil() - from).max(2.0);
    let y = |us: u64| 100.0 - ((us.max(1) as f64).log10() - from) / decades * 100.0;
    let slowest: String = (series.points.iter().enumerate())
        .filter_map(|(index, point)| Some((index, point.latency_us?)))
        .map(|(index, spread)| format!("M{index} {}h1", decimals(y(spread.max), 1)))
        .collect();
    let paths = format!(
        "<path class=\"max\" d=\"{slowest}\"/><path class=\"p99\" d=\"{}\"/><path class=\"p50\" d=\"{}\"/>",
        curve(series, |spread| y(spread.p99)),
        curve(series, |spread| y(spread.p50)),
    );
    let ticks = (0..=decades as i32).map(|decade| {
        let us = 10_f64.powf(from + f64::from(decade)).round() as u64;
        (f64::from(decade) / decades * 100.0, length(us).replace(".00", "").replace(".0", ""))
    });
    let row = Row {
        gutter: axis(ticks.clone()),
        height_px: LATENCY_PX,
        class: "chart",
        label: format!("latency of acknowledged sends, the slowest {}", length(high as u64)),
        drawing: rules(ticks).into_iter().chain([svg(run, series, &paths)]).collect(),
    };
    let scale = format!("of the sends acknowledged in each {}, log scale", step(series));
    let keys = [key("p50", "p50"), key("p99", "p99"), key("max", "slowest"), Html::text(&scale)];
    Panel { title: "Latency", key: keys.into_iter().collect(), rows: vec![row] }
}

/// The figures under the pointer, for the script.
pub fn data(run: &Run, series: &Series) -> Html {
    let list = |of: &dyn Fn(&Point) -> u64| {
        series.points.iter().map(|point| of(point).to_string()).collect::<Vec<_>>().join(",")
    };
    let latency = |of: fn(Spread) -> u64| list(&|point| point.latency_us.map(of).unwrap_or_default());
    Html::made(format!(
        "{{\"end\":{},\"width\":{},\"acked\":[{}],\"failed\":[{}],\"unknown\":[{}],\"p50\":[{}],\"p99\":[{}],\"max\":[{}]}}",
        run.end_us,
        series.width_us,
        list(&|point| point.acked),
        list(&|point| point.failed),
        list(&|point| point.unknown),
        latency(|spread| spread.p50),
        latency(|spread| spread.p99),
        latency(|spread| spread.max),
    ))
}

fn svg(run: &Run, series: &Series, paths: &str) -> Html {
    let width = decimals(run.end_us as f64 / series.width_us as f64, 3);
    Html::made(format!(
        "<svg viewBox=\"0 0 {width} 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{paths}</svg>"
    ))
}

/// A line in steps, broken where nothing was acknowledged.
fn curve(series: &Series, y: impl Fn(Spread) -> f64) -> String {
    let mut path = String::new();
    let mut on = false;
    for (index, point) in series.points.iter().enumerate() {
        if let Some(spread) = point.latency_us {
            let y = decimals(y(spread), 1);
            path.push_str(&if on { format!("V{y}") } else { format!("M{index} {y}") });
            path.push_str(&format!("H{}", index + 1));
        }
        on = point.latency_us.is_some();
    }
    path
}

fn step(series: &Series) -> String {
    format!("{} s", series.width_us / 1_000_000)
}

/// The next 1, 2 or 5 with zeros.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(10.0 * power)
}
