//! Owns the frame of the timeline: panels one below the other on one time axis, ticks, shades of faults, buttons.
//! Does not know what a panel shows. Invariant: everything below a `scale` stands in percent of the run, so that
//! the script zooms by stretching the scales and redraws nothing.

use super::charts;
use super::gaps::Gaps;
use super::html::{Html, moment, percent};
use super::lanes;
use super::leaders::Leaders;
use super::run::Run;
use super::series::Series;

/// Ticks drawn without the script; the script chooses by the width of the screen.
const TICKS: u64 = 10;
/// Distances between ticks, in seconds.
const STEPS_S: [u64; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600];
/// Shades behind the curves: more would be one grey.
pub const FAULTS_DRAWN_MAX: usize = 300;

/// One line of a panel: its name or axis left, its drawing right.
pub struct Row {
    pub gutter: Html,
    pub height_px: usize,
    pub class: &'static str,
    /// What a screen reader says instead of the drawing.
    pub label: String,
    pub drawing: Html,
}

impl Row {
    fn html(&self) -> Html {
        let Row { gutter, height_px, class, drawing, label } = self;
        let label = Html::text(label);
        Html::made(format!(
            "<div class=\"row {class}\" style=\"height:{height_px}px\"><div class=\"gutter\">{gutter}</div>\
             <div class=\"plot\" role=\"img\" aria-label=\"{label}\"><div class=\"scale\">{drawing}</div></div></div>\n"
        ))
    }
}

/// Rows under one heading, with the key to their colours.
pub struct Panel {
    pub title: &'static str,
    pub key: Html,
    pub rows: Vec<Row>,
}

impl Panel {
    fn html(&self) -> Html {
        let rows: Html = self.rows.iter().map(Row::html).collect();
        Html::made(format!(
            "<section class=\"panel\"><div class=\"over-line\"><h3>{}</h3><div class=\"key\">{}</div></div>\n{rows}</section>\n",
            Html::text(self.title),
            self.key
        ))
    }
}

/// A swatch of the key, and what it means.
pub fn key(class: &str, meaning: &str) -> Html {
    Html::made(format!("<span><i class=\"swatch {class}\"></i>{}</span> ", Html::text(meaning)))
}

/// The whole section.
pub fn section(run: &Run, series: &Series, gaps: &Gaps, leaders: Leaders) -> Html {
    if run.end_us == 0 {
        return Html::made(
            "<h2 id=\"timeline\">Timeline</h2><p class=\"none\">The run recorded nothing.</p>".to_owned(),
        );
    }
    let panels = [
        lanes::faults(run),
        lanes::leaders(run, leaders.drawable()),
        charts::throughput(run, series),
        charts::latency(run, series),
        lanes::gaps(run, gaps),
    ];
    let panels: Html = panels.iter().map(Panel::html).collect();
    let (shades, ticks, data) = (shades(run), ticks(run.end_us), charts::data(run, series));
    Html::made(format!(
        "<h2 id=\"timeline\">Timeline</h2>\n<div class=\"tools\" id=\"tools\" hidden>\
         <button type=\"button\" data-do=\"left\" aria-label=\"earlier\">←</button>\
         <button type=\"button\" data-do=\"right\" aria-label=\"later\">→</button>\
         <button type=\"button\" data-do=\"in\" aria-label=\"zoom in\">+</button>\
         <button type=\"button\" data-do=\"out\" aria-label=\"zoom out\">−</button>\
         <button type=\"button\" data-do=\"all\">whole run</button>\
         <output id=\"range\"></output>\
         <span class=\"hint\">Drag to look closer, shift-drag to move, double-click for the whole run.</span></div>\n\
         <div class=\"timeline\" id=\"lines\" tabindex=\"0\" role=\"group\" aria-label=\"timeline; arrow keys move, plus and minus zoom, 0 shows the whole run\">\n\
         <div class=\"behind\"><div class=\"scale\">{shades}<div id=\"grid\"></div></div></div>\n{panels}\
         <div class=\"row axis\" style=\"height:24px\"><div class=\"gutter\">min:s</div>\
         <div class=\"plot\"><div class=\"scale\" id=\"ticks\">{ticks}</div></div></div>\n\
         <div class=\"select\" id=\"select\" hidden></div><div class=\"hair\" id=\"hair\" hidden></div></div>\n\
         <div class=\"tip\" id=\"tip\" hidden></div>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n"
    ))
}

/// Where faults were, behind the curves; and when the cluster was whole again.
fn shades(run: &Run) -> Html {
    let end_us = run.end_us;
    let shade = run.faults.iter().take(FAULTS_DRAWN_MAX).map(|fault| {
        let left = percent(fault.began_us, end_us);
        let width = percent(run.fault_end_us(fault) - fault.began_us, end_us);
        Html::made(format!("<i class=\"shade\" style=\"left:{left}%;width:{width}%\"></i>"))
    });
    let ready = run.ready.iter().take(FAULTS_DRAWN_MAX).map(|&(at_us, _)| {
        let left = percent(at_us, end_us);
        Html::made(format!("<i class=\"ready\" style=\"left:{left}%\"></i>"))
    });
    shade.chain(ready).collect()
}

fn ticks(end_us: u64) -> Html {
    let seconds = end_us / 1_000_000;
    let step_s = STEPS_S.into_iter().find(|step| seconds / step <= TICKS).unwrap_or(seconds / TICKS + 1);
    let tick = |at_s: u64| {
        let (left, text) = (percent(at_s * 1_000_000, end_us), moment(at_s * 1_000_000));
        Html::made(format!("<span style=\"left:{left}%\">{}</span>", text.trim_end_matches(".0")))
    };
    (0..=seconds).step_by(step_s as usize).map(tick).collect()
}
