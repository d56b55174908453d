//! Owns what the checks found, as a table and as quotations of the history. Does not check.
//! Invariant: excerpts together stay below `EXCERPTS_BYTES_MAX`; what is left out is counted.

use super::html::{Html, Table, count};
use super::{ReportInput, Verdict, Violation};

/// Bytes of all quotations on the page, after escaping.
const EXCERPTS_BYTES_MAX: usize = 160 << 10;
const VIOLATIONS_SHOWN_MAX: usize = 200;
const CHECKS_MAX: usize = 100;
const EXCERPT_LINES_MAX: usize = 80;
const LINE_BYTES_MAX: usize = 400;
const TEXT_BYTES_MAX: usize = 600;

/// How many things were looked at, over all checks.
pub fn checked(verdicts: &[Verdict]) -> u64 {
    verdicts.iter().map(|verdict| verdict.checked).sum()
}

/// How many promises were found broken.
pub fn violations(verdicts: &[Verdict]) -> u64 {
    verdicts.iter().map(|verdict| verdict.violations.len() as u64).sum()
}

/// Each check with what it looked at.
pub fn table(input: &ReportInput<'_>) -> Html {
    if input.verdicts.is_empty() {
        return Html::made("<h2 id=\"checks\">Checks</h2>\n<p class=\"none\">No check was made.</p>\n".to_owned());
    }
    let row = |verdict: &Verdict| {
        let broken = verdict.violations.len() as u64;
        let (class, word) = match (broken, verdict.checked) {
            (0, 0) => ("invalid", "nothing to check"),
            (0, _) => ("pass", "holds"),
            _ => ("fail", "broken"),
        };
        vec![
            Html::within(&verdict.name, 120),
            Html::text(&count(verdict.checked)),
            Html::text(&count(broken)),
            Html::made(format!("<span class=\"word {class}\">{word}</span>")),
        ]
    };
    let rows = input.verdicts.iter().take(CHECKS_MAX).map(row).collect();
    let head = ["check", "things checked", "violations", "verdict"];
    let table = Table { caption: "Checks", head: &head, numbers_from: 1, text_from: 3, rows };
    Html::made(format!("<h2 id=\"checks\">Checks</h2>\n{}", table.html()))
}

/// Each violation with its excerpt; nothing when there is none.
pub fn quotations(input: &ReportInput<'_>) -> Html {
    let total = violations(input.verdicts);
    if total == 0 {
        return Html::default();
    }
    let all = input.verdicts.iter().flat_map(|verdict| verdict.violations.iter().map(move |one| (verdict, one)));
    let mut parts = Vec::new();
    let mut bytes = 0;
    for (verdict, violation) in all.take(VIOLATIONS_SHOWN_MAX) {
        // The first is open: whoever opens a failed run wants to see what broke.
        let part = quotation(verdict, violation, parts.is_empty());
        if bytes + part.len() > EXCERPTS_BYTES_MAX {
            break;
        }
        bytes += part.len();
        parts.push(part);
    }
    let left_out = total - parts.len() as u64;
    let note = match left_out {
        0 => Html::default(),
        _ => Html::made(format!("<p class=\"none\">{} more are not shown here.</p>\n", count(left_out))),
    };
    let parts: Html = parts.into_iter().collect();
    Html::made(format!("<h2 id=\"violations\">Violations</h2>\n{parts}{note}"))
}

fn quotation(verdict: &Verdict, violation: &Violation, open: bool) -> Html {
    let session = match violation.session.as_str() {
        "" => Html::default(),
        session => Html::made(format!(" <span class=\"session\">session {}</span>", Html::within(session, 80))),
    };
    let line = |line: &String| Html::made(format!("{}\n", Html::within(line, LINE_BYTES_MAX)));
    let lines: Html = violation.excerpt.iter().take(EXCERPT_LINES_MAX).map(line).collect();
    let more = violation.excerpt.len().saturating_sub(EXCERPT_LINES_MAX);
    let more = if more > 0 { format!("… and {more} lines more\n") } else { String::new() };
    Html::made(format!(
        "<details class=\"violation\"{}><summary><b>{}</b>{session}<span class=\"what\">{}</span></summary>\
         <pre tabindex=\"0\" aria-label=\"excerpt of the history\">{}{more}</pre></details>\n",
        if open { " open" } else { "" },
        Html::within(&verdict.name, 120),
        Html::within(&violation.text, TEXT_BYTES_MAX),
        lines,
    ))
}
