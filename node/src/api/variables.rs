//! Owns the variables of texts that a site keeps: `{{visitor.name}}`, `{{agent.name|our team}}`. Does not know where their values come
//! from. Invariant: a value is put in as it is, and never read for variables itself.

/// Longest name of a variable with its fallback, in bytes: what is longer is text.
const NAME_BYTES_MAX: usize = 256;

/// The text with its variables replaced; one without a value becomes its fallback, or nothing.
pub fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let after = &rest[start + 2..];
        let Some(len) = after.find("}}").filter(|len| *len <= NAME_BYTES_MAX && !after[..*len].contains("{{")) else {
            out.push_str(&rest[..start + 2]);
            rest = after;
            continue;
        };
        out.push_str(&rest[..start]);
        let (name, fallback) = after[..len].split_once('|').unwrap_or((&after[..len], ""));
        match value(name.trim()).filter(|value| !value.is_empty()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(fallback.trim()),
        }
        rest = &after[len + 2..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<String> {
        match name {
            "visitor.name" => Some("Ada".into()),
            "visitor.joke" => Some("{{agent.name}}".into()),
            "visitor.empty" => Some(String::new()),
            "agent.name" => Some("ann".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once_and_what_is_not_known_falls_back() {
        for (text, expected) in [
            ("Hello {{visitor.name}}, I am {{ agent.name }}.", "Hello Ada, I am ann."),
            ("Hello {{visitor.age|you}}{{visitor.empty| !}}", "Hello you!"),
            ("{{nothing}}", ""),
            ("{{visitor.joke}}", "{{agent.name}}"),
            ("{{{{visitor.name}}}}", "{{Ada}}"),
            ("{{visitor.name", "{{visitor.name"),
            ("{ {visitor.name}} {{", "{ {visitor.name}} {{"),
            ("你好 {{visitor.name}}，🙂{{agent.name}}", "你好 Ada，🙂ann"),
            ("", ""),
        ] {
            assert_eq!(fill(text, known), expected, "{text}");
        }
        let long = format!("{{{{{}}}}}", "x".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(fill(&long, known), long);
    }
}
