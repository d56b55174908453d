//! Owns the order of the page, its head and its foot. Does not know how a part is drawn.
//! Invariant: style and script are in the page, and its policy forbids it to load anything.

use super::gaps::Gaps;
use super::html::{Html, clipped, count, length};
use super::leaders::Leaders;
use super::run::Run;
use super::series::{Series, Spread};
use super::{Outcome, ReportInput, tables, timeline, verdicts};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const REASONS_MAX: usize = 20;
const TEXT_BYTES_MAX: usize = 600;
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

pub fn page(input: &ReportInput<'_>) -> String {
    let run = input.run;
    let (series, gaps, leaders) = (Series::of(run), Gaps::of(run), Leaders::of(run));
    let word = word(input.outcome);
    let title = format!("{} · {}", word.to_uppercase(), name(run));
    let parts: Html = [
        head(input, &gaps),
        verdicts::quotations(input),
        {
            // The tables need every strip, the drawing only what can be seen.
            let (shards, nodes) = (tables::shards(&leaders), tables::nodes(run, &leaders));
            let drawn = timeline::section(run, &series, &gaps, leaders);
            Html::made(format!(
                "{drawn}<div class=\"pair\"><section>{}</section><section>{}</section></div>\n\
                 <section>{}</section><section>{}</section>\n\
                 <div class=\"pair\"><section>{shards}</section><section>{nodes}</section></div>\n",
                verdicts::table(input),
                tables::faults(run, &gaps),
                tables::gaps(run, &gaps),
                tables::operations(run),
            ))
        },
        foot(run),
    ]
    .into_iter()
    .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body class=\"{word}\">\n<main>\n{parts}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        Html::text(&title)
    )
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Invalid => "invalid",
    }
}

fn name(run: &Run) -> String {
    let what = match run.kind.as_str() {
        "sim" => "simulation",
        _ => "chaos run",
    };
    if run.seed.is_empty() { what.to_owned() } else { format!("{what}, seed {}", clipped(&run.seed, 40)) }
}

fn head(input: &ReportInput<'_>, gaps: &Gaps) -> Html {
    let run = input.run;
    let reasons: Html = (input.reasons.iter().take(REASONS_MAX))
        .map(|reason| Html::made(format!("<li>{}</li>", Html::within(reason, TEXT_BYTES_MAX))))
        .collect();
    let reasons = if input.reasons.is_empty() { reasons } else { Html::made(format!("<ul>{reasons}</ul>")) };
    let latencies_us =
        run.sends().filter_map(|op| Some(op.ended_us? - op.invoked_us).filter(|_| op.end == super::run::End::Ok));
    let latency = Spread::of(latencies_us.collect());
    let impacts: Vec<u64> = gaps.impacts.iter().flatten().map(|impact| impact.part_us).collect();
    let facts = [
        ("duration", length(run.end_us)),
        ("nodes", count(run.all_nodes().len() as u64)),
        ("shards", count(run.shards)),
        ("sessions", count(run.sessions)),
        ("messages acked", count(run.messages)),
        ("faults", count(run.faults.len() as u64)),
        ("send p50 / p99", latency.map_or("–".to_owned(), |all| format!("{} / {}", length(all.p50), length(all.p99)))),
        (
            "fail-over gap p50 / max",
            Spread::of(impacts).map_or("–".to_owned(), |all| format!("{} / {}", length(all.p50), length(all.max))),
        ),
    ];
    let facts: String = (facts.iter())
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", Html::text(value)))
        .collect();
    Html::made(format!(
        "<header>\n<div class=\"verdict\"><p class=\"outcome\">{}</p><div><h1>{}</h1><p>{}</p>{reasons}</div></div>\n\
         <p class=\"again\"><span>Run it again</span> <code>{}</code></p>\n<dl class=\"facts\">{facts}</dl>\n</header>\n",
        word(input.outcome).to_uppercase(),
        Html::text(&capital(&name(run))),
        Html::text(&sentence(input)),
        Html::within(input.command, TEXT_BYTES_MAX),
    ))
}

fn sentence(input: &ReportInput<'_>) -> String {
    let (checks, things, broken) =
        (input.verdicts.len() as u64, verdicts::checked(input.verdicts), verdicts::violations(input.verdicts));
    let found = match broken {
        0 => "no violation".to_owned(),
        1 => "1 violation".to_owned(),
        more => format!("{} violations", count(more)),
    };
    let looked = format!("{} checks looked at {} things and found {found}.", count(checks), count(things));
    match input.outcome {
        Outcome::Invalid => format!("This run proves nothing. {looked}"),
        Outcome::Pass | Outcome::Fail => looked,
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn foot(run: &Run) -> Html {
    let unreadable = match run.unreadable {
        0 => String::new(),
        lines => format!(" <b>{} of them could not be read and are missing here.</b>", count(lines)),
    };
    Html::made(format!(
        "<footer>Made from {} lines of history.jsonl, {} clients.{unreadable} Times are of the run's clock, from its beginning.</footer>\n",
        count(run.lines),
        count(run.clients)
    ))
}
