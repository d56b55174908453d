//! Owns reading the part of YAML in which docs/asyncapi.yaml is written: blocks, plain and quoted words, lists in brackets, folded texts.
//! Does not read the rest of it. Invariant: a line that is of no such form is an error, never passed over.

use anyhow::{Context, ensure};
use serde_json::{Map, Value};

struct Lines<'a> {
    /// Blanks before it, and what stands behind them.
    all: Vec<(usize, &'a str)>,
    at: usize,
}

/// # Errors
/// A line is of another form; the text is the line.
pub fn read(text: &str) -> anyhow::Result<Value> {
    let all = text.lines().map(|line| (line.len() - line.trim_start().len(), line.trim()));
    let all = all.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')).collect();
    let mut lines = Lines { all, at: 0 };
    let read = block(&mut lines, 0)?;
    ensure!(lines.at == lines.all.len(), "not read: {:?}", lines.all.get(lines.at));
    Ok(read)
}

impl<'a> Lines<'a> {
    fn next_at(&self, indent: usize) -> Option<&'a str> {
        self.all.get(self.at).filter(|(found, _)| *found == indent).map(|(_, text)| *text)
    }

    fn deeper(&self, indent: usize) -> Option<usize> {
        self.all.get(self.at).map(|(found, _)| *found).filter(|found| *found > indent)
    }
}

fn block(lines: &mut Lines<'_>, indent: usize) -> anyhow::Result<Value> {
    match lines.next_at(indent) {
        Some(text) if text.starts_with("- ") => list(lines, indent),
        _ => object(lines, indent),
    }
}

fn list(lines: &mut Lines<'_>, indent: usize) -> anyhow::Result<Value> {
    let mut all = Vec::new();
    while let Some(item) = lines.next_at(indent).and_then(|text| text.strip_prefix("- ")) {
        if split(item).is_some() {
            lines.all[lines.at] = (indent + 2, item);
            all.push(object(lines, indent + 2)?);
        } else {
            lines.at += 1;
            all.push(word(item)?);
        }
    }
    Ok(all.into())
}

fn object(lines: &mut Lines<'_>, indent: usize) -> anyhow::Result<Value> {
    let mut all = Map::new();
    while let Some(text) = lines.next_at(indent) {
        let (name, rest) = split(text).with_context(|| text.to_owned())?;
        lines.at += 1;
        let is_list = rest.is_empty() && lines.next_at(indent).is_some_and(|next| next.starts_with("- "));
        let value = match lines.deeper(indent) {
            Some(deeper) if rest == ">-" => folded(lines, deeper),
            Some(deeper) if rest.is_empty() => block(lines, deeper)?,
            _ if is_list => list(lines, indent)?,
            _ => word(rest)?,
        };
        ensure!(all.insert(name.to_owned(), value).is_none(), "twice: {text}");
    }
    Ok(all.into())
}

fn folded(lines: &mut Lines<'_>, indent: usize) -> Value {
    let mut text = Vec::new();
    while let Some((_, line)) = lines.all.get(lines.at).filter(|(found, _)| *found >= indent) {
        text.push(*line);
        lines.at += 1;
    }
    text.join(" ").into()
}

/// Name and value of a line.
fn split(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(": ").or_else(|| text.strip_suffix(':').map(|name| (name, "")))?;
    let is_name =
        name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$' | '/' | '.' | '{' | '}'));
    is_name.then_some((name, rest.trim()))
}

fn word(text: &str) -> anyhow::Result<Value> {
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(inner) = quoted('\'').or_else(|| quoted('"')) {
        return Ok(inner.into());
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let all: anyhow::Result<Vec<Value>> = inner.split(',').map(|one| word(one.trim())).collect();
        return Ok(all?.into());
    }
    ensure!(!text.starts_with(['[', '{', '&', '*', '!', '|', '>', '"', '\'']) || text == "{}", "{text}");
    Ok(match text {
        "{}" => Map::new().into(),
        "true" => true.into(),
        "false" => false.into(),
        number => number.parse::<i64>().map_or_else(|_| text.into(), Value::from),
    })
}
