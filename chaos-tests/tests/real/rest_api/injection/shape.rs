//! Owns how a page is built: its tags with the names of their attributes. Does not look at texts. Invariant: what is neither a tag as this
//! product writes tags nor a text without angle brackets is an error, whatever a browser would make of it.

use anyhow::{Context, bail, ensure};

/// The tags of a page, in their order.
/// # Errors
/// An angle bracket stands in a text, or a tag is of a form that this product does not write.
pub fn of_page(html: &str) -> anyhow::Result<Vec<String>> {
    let (mut tags, mut rest) = (Vec::new(), html);
    while let Some(at) = rest.find(['<', '>']) {
        ensure!(rest.as_bytes()[at] == b'<', "a bracket closes what was not open: {:.80}", &rest[at..]);
        let inner = &rest[at + 1..];
        if let Some(after) = inner.strip_prefix("!doctype html>") {
            tags.push("!doctype html".to_owned());
            rest = after;
            continue;
        }
        let (tag, after) = tag(inner).with_context(|| format!("{:.80}", &rest[at..]))?;
        rest = match tag == "style" {
            // Its text is the product's own.
            true => after.split_once("</style>").context("a style without an end")?.1,
            false => after,
        };
        tags.push(tag);
    }
    ensure!(!html.contains('\u{0}'), "a page holds NUL");
    Ok(tags)
}

/// Name and names of attributes, and what stands behind the tag.
fn tag(text: &str) -> anyhow::Result<(String, &str)> {
    let name_end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '/').context("no end")?;
    let (name, mut rest) = text.split_at(name_end);
    ensure!(!name.trim_start_matches('/').is_empty(), "a bracket without a name");
    let mut tag = name.to_owned();
    loop {
        rest = match rest.strip_prefix(' ') {
            None => return Ok((tag, rest.strip_prefix('>').context("a tag goes on")?)),
            Some(attribute) => {
                let (name, value) = attribute.split_once("=\"").context("an attribute without a value")?;
                let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                ensure!(is_name && !name.is_empty() && !name.starts_with("on"), "the attribute {name:.40}");
                let (value, after) = value.split_once('"').context("a value without an end")?;
                let is_script =
                    ["javascript:", "data:", "vbscript:"].iter().any(|scheme| value.trim().starts_with(scheme));
                if value.contains(['<', '>']) || is_script {
                    bail!("the value of {name}: {value:.40}");
                }
                tag.push_str(&format!(" {name}"));
                after
            }
        };
    }
}

#[test]
fn a_page_is_its_tags_and_what_is_no_text_is_an_error() {
    let page = "<!doctype html>\n<html><style>p>a{}</style><p dir=\"auto\" class=\"n\">a &lt; b</p></html>";
    assert_eq!(of_page(page).unwrap(), ["!doctype html", "html", "style", "p dir class", "/p", "/html"]);
    for wrong in [
        "a < b",
        "a > b",
        "<p onclick=\"x\">",
        "<p x>",
        "<!-- x -->",
        "<a href=\"javascript:x\">",
        "<a href=\"<b>\">",
        "<p\n>",
        "<p",
        "\u{0}",
    ] {
        assert!(of_page(wrong).is_err(), "{wrong:?}");
    }
}
