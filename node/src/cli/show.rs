//! Owns how an answer looks in a terminal: facts line by line, lists as tables. Does not know what is shown.
//! Invariant: every field of the answer is there.

use serde_json::{Map, Value};
use std::fmt::Write;

/// The answer as text that ends with a line break.
pub fn shown(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(object) => facts(&mut out, object),
        Value::Array(rows) => table(&mut out, rows),
        other => out = format!("{}\n", cell(other)),
    }
    out
}

fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|rows| rows.iter().any(Value::is_object))
}

fn facts(out: &mut String, object: &Map<String, Value>) {
    let short: Vec<(&String, &Value)> = object.iter().filter(|(_, value)| !is_table(value)).collect();
    // A list alone needs no frame.
    let lists: Vec<(&String, &Value)> = object.iter().filter(|(_, value)| is_table(value)).collect();
    let width = short.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &short {
        let is_end = name.as_str() == "next" && value.is_null();
        if !is_end {
            let _ = writeln!(out, "{name:<width$}  {}", cell(value));
        }
    }
    for (name, rows) in lists {
        if !out.is_empty() {
            let _ = writeln!(out, "\n{name}:");
        }
        table(out, rows.as_array().map_or(&[], Vec::as_slice));
    }
}

fn table(out: &mut String, rows: &[Value]) {
    let mut names: Vec<&String> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let lines: Vec<Vec<String>> =
        rows.iter().map(|row| names.iter().map(|name| cell(&row[name.as_str()])).collect()).collect();
    let width = |column: usize| {
        let widest = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        widest.max(names[column].len())
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let mut put = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", padded.join("  ").trim_end());
    };
    put(names.iter().map(|name| name.as_str()).collect());
    for line in &lines {
        put(line.iter().map(String::as_str).collect());
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(object) => {
            let facts = object.iter().filter(|(_, value)| !value.is_null());
            facts.map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_a_table_and_facts_are_lines() {
        let value = json!({ "ready": true, "nodes": [{ "node": "n1", "up": true }, { "node": "n10", "zone": null }], "next": null });
        assert_eq!(shown(&value), "ready  true\n\nnodes:\nnode  up    zone\nn1    true  -\nn10   -     -\n");
    }

    #[test]
    fn a_list_in_a_row_stays_in_its_cell() {
        let value = json!([{ "replicas": [{ "node": "n1", "lag": null }, { "node": "n2", "lag": 3 }] }]);
        assert_eq!(shown(&value), "replicas\nnode=n1, node=n2 lag=3\n");
    }
}
