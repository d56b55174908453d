//! Owns the piece of a text that shows what was found. Does not look for it. Invariant: the parts are plain text, in the order of the text.

use super::query::Wanted;
use super::words::words_of_text;

/// Longest piece, in characters.
const SNIPPET_CHARS_MAX: usize = 200;
/// Of these so many before what was found first.
const CHARS_BEFORE_MAX: usize = 40;
/// Stands where the text goes on.
const MORE: &str = "…";

/// A piece around the first of what was found, in parts; true: that is what was looked for.
pub fn snippet(text: &str, wanted: Option<&Wanted>) -> Vec<(String, bool)> {
    let found = wanted.map(|wanted| found(text, wanted)).unwrap_or_default();
    let (from, to) = piece(text, found.first().map_or(0, |(from, _)| *from));
    let mut parts = Parts::default();
    if from > 0 {
        parts.push(MORE, false);
    }
    let mut at = from;
    for (first, end) in found {
        let (first, end) = (first.clamp(at, to), end.clamp(at, to));
        parts.push(&text[at..first], false);
        parts.push(&text[first..end], true);
        at = end;
    }
    parts.push(&text[at..to], false);
    if to < text.len() {
        parts.push(MORE, false);
    }
    parts.0
}

#[derive(Default)]
struct Parts(Vec<(String, bool)>);

impl Parts {
    fn push(&mut self, text: &str, is_found: bool) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some((last, kind)) if *kind == is_found => last.push_str(text),
            _ => self.0.push((text.to_owned(), is_found)),
        }
    }
}

/// Where words of it stand, in bytes, ascending and apart.
fn found(text: &str, wanted: &Wanted) -> Vec<(usize, usize)> {
    let words = wanted.words();
    let mut ranges: Vec<(usize, usize)> = words_of_text(text)
        .into_iter()
        .filter(|word| words.contains(word.text.as_str()))
        .map(|word| (word.from, word.to))
        .collect();
    ranges.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::new();
    for (from, to) in ranges {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// The bytes of a piece that holds the byte `first`.
fn piece(text: &str, first: usize) -> (usize, usize) {
    let before = text[..first].char_indices().rev().take(CHARS_BEFORE_MAX).last();
    let from = before.map_or(first, |(at, _)| at);
    let to = text[from..].char_indices().nth(SNIPPET_CHARS_MAX).map_or(text.len(), |(at, _)| from + at);
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, query: &str) -> Vec<(String, bool)> {
        snippet(text, Wanted::read(query).unwrap().as_ref())
    }

    fn part(text: &str, is_found: bool) -> (String, bool) {
        (text.to_owned(), is_found)
    }

    #[test]
    fn a_snippet_shows_what_was_found_where_it_stands() {
        assert_eq!(
            of("我想申请退款, my Refunds", "退款 refund"),
            [part("我想申请", false), part("退款", true), part(", my ", false), part("Refunds", true)]
        );
        assert_eq!(of("申请退款", "\"申请退款\""), [part("申请退款", true)], "what touches is one");
        assert_eq!(of("<b>退款</b>", "退款"), [part("<b>", false), part("退款", true), part("</b>", false)]);
        assert_eq!(of("whatever", ""), [part("whatever", false)]);
        assert_eq!(of("", "x"), []);
    }

    #[test]
    fn a_long_text_is_cut_around_what_was_found_between_characters() {
        let text = format!("{}退款{}", "好".repeat(300), "的".repeat(300));
        let parts = of(&text, "退款");
        assert_eq!(parts[0], part(&format!("…{}", "好".repeat(CHARS_BEFORE_MAX)), false));
        assert_eq!(parts[1], part("退款", true));
        let rest = SNIPPET_CHARS_MAX - CHARS_BEFORE_MAX - 2;
        assert_eq!(parts[2], part(&format!("{}…", "的".repeat(rest)), false));
        assert_eq!(of(&"好".repeat(300), ""), [part(&format!("{}…", "好".repeat(SNIPPET_CHARS_MAX)), false)]);
    }
}
