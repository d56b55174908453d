//! Owns how text becomes HTML, and how numbers are written. Does not know runs.
//! Invariant: an `Html` is made of literals, numbers and escaped text; nothing else gets in.

use std::fmt::{self, Display};

/// Text that may stand in a page as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// Foreign text.
    pub fn text(text: &str) -> Html {
        Html(escaped(text))
    }

    /// Foreign text, cut so that no more than about `bytes_max` bytes come of it: escaping makes text longer.
    pub fn within(text: &str, bytes_max: usize) -> Html {
        let mut out = String::new();
        for c in text.chars() {
            let before = out.len();
            escape(c, &mut out);
            if out.len() > bytes_max {
                out.truncate(before);
                out.push('…');
                break;
            }
        }
        Html(out)
    }

    /// Text written here, into which only `Html` and numbers were put.
    pub fn made(html: String) -> Html {
        Html(html)
    }

    pub fn into_string(self) -> String {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<I: IntoIterator<Item = Html>>(parts: I) -> Html {
        Html(parts.into_iter().map(Html::into_string).collect())
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| escape(c, &mut out));
    out
}

/// For text and for attributes in double quotes. Control characters show as a sign, so that no terminal code hides in them.
fn escape(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        '\n' | '\t' => out.push(c),
        c if c.is_control() => out.push('\u{fffd}'),
        c => out.push(c),
    }
}

/// At most `chars_max` characters, the last an ellipsis if something was cut.
pub fn clipped(text: &str, chars_max: usize) -> String {
    if text.chars().nth(chars_max).is_none() {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// A table with its caption hidden from eyes but not from screen readers, for the heading above says the same.
pub struct Table<'a> {
    pub caption: &'a str,
    /// Names of columns.
    pub head: &'a [&'a str],
    /// Columns from this one on are numbers, up to `text_from`.
    pub numbers_from: usize,
    /// Columns from this one on are text again.
    pub text_from: usize,
    pub rows: Vec<Vec<Html>>,
}

impl Table<'_> {
    pub fn html(&self) -> Html {
        let class = |column: usize| {
            if (self.numbers_from..self.text_from).contains(&column) { " class=\"num\"" } else { "" }
        };
        let head: String = (self.head.iter().enumerate())
            .map(|(column, name)| format!("<th scope=\"col\"{}>{}</th>", class(column), escaped(name)))
            .collect();
        let row = |row: &Vec<Html>| {
            let cells = row.iter().enumerate().map(|(column, cell)| match column {
                0 => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td{}>{cell}</td>", class(column)),
            });
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(row).collect();
        let caption = escaped(self.caption);
        Html(format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table>\
             <caption class=\"unseen\">{caption}</caption><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
        ))
    }
}

/// `1234567` as `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A length of time with three digits that matter.
pub fn length(us: u64) -> String {
    match us {
        0 => "0".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", digits3(us as f64 / 1e3)),
        1_000_000..60_000_000 => format!("{} s", digits3(us as f64 / 1e6)),
        60_000_000..3_600_000_000 => format!("{} min {:02} s", us / 60_000_000, us / 1_000_000 % 60),
        _ => format!("{} h {:02} min", us / 3_600_000_000, us / 60_000_000 % 60),
    }
}

/// A moment of the run: `03:21.4`, minutes first.
pub fn moment(us: u64) -> String {
    format!("{:02}:{:02}.{}", us / 60_000_000, us / 1_000_000 % 60, us / 100_000 % 10)
}

/// Where a moment lies on the time axis, in percent of the run.
pub fn percent(us: u64, end_us: u64) -> String {
    decimals(us as f64 * 100.0 / end_us.max(1) as f64, 4)
}

/// At most `places` decimals, without zeros at the end: curves are made of thousands of these.
pub fn decimals(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn digits3(value: f64) -> String {
    let places = if value >= 100.0 { 0 } else { 1 + usize::from(value < 10.0) };
    format!("{value:.places$}")
}
