//! Owns the names of files: what is kept of the one that an uploader gives, and how it stands in a header. Does not trust it.
//! Invariant: a name is no path, holds nothing that is not seen, and no header ends in it.
//! Source: RFC 6266, RFC 8187.

use proto::client::limits::ATTACHMENT_NAME_BYTES_MAX;
use std::fmt::Write;

/// What a file without a name is called.
const NAMELESS: &str = "file";

/// Whether a character is not seen, or turns the text around it: with one of them `exe.gpj` looks like `jpg.exe`.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

/// What is kept of a name.
pub fn clean(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|c| !is_hidden(*c)).collect();
    let is_edge = |c: char| c.is_whitespace() || c == '.';
    name = name.trim_start_matches(is_edge).trim_end_matches(is_edge).to_owned();
    while name.len() > ATTACHMENT_NAME_BYTES_MAX {
        name.pop();
    }
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}

/// The name with another ending: of what was made anew in another form.
pub fn with_ending(name: &str, ending: &str) -> String {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut stem = stem.to_owned();
    while stem.len() + 1 + ending.len() > ATTACHMENT_NAME_BYTES_MAX {
        stem.pop();
    }
    format!("{stem}.{ending}")
}

/// A `Content-Disposition`. `how`: `inline` or `attachment`.
pub fn disposition(how: &str, name: &str) -> String {
    // For clients that know nothing else: letters, digits and what harms nowhere.
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ') { c } else { '_' };
    let mut header = format!("{how}; filename=\"{}\"; filename*=UTF-8''", name.chars().map(plain).collect::<String>());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            header.push(char::from(byte));
        } else {
            write!(header, "%{byte:02X}").expect("a String takes every text");
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path_and_holds_nothing_that_is_not_seen() {
        for (given, kept) in [
            ("bill.pdf", "bill.pdf"),
            ("grüße 你好.png", "grüße 你好.png"),
            ("/etc/passwd", "passwd"),
            ("..\\..\\win.ini", "win.ini"),
            ("../..", "file"),
            ("", "file"),
            (" . ", "file"),
            (".htaccess", "htaccess"),
            ("a\r\nSet-Cookie: b=c", "aSet-Cookie: b=c"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
            ("zero\u{200b}width\u{feff}.txt", "zerowidth.txt"),
            ("nul\0byte", "nulbyte"),
        ] {
            assert_eq!(clean(given), kept, "{given:?}");
        }
        let long = clean(&"你".repeat(200));
        assert!(long.len() <= ATTACHMENT_NAME_BYTES_MAX && long.chars().all(|c| c == '你'));
        let long = with_ending(&"n".repeat(255), "jpg");
        assert!(long.len() == ATTACHMENT_NAME_BYTES_MAX && long.ends_with("n.jpg"));
        assert_eq!(with_ending("a.b.webp", "png"), "a.b.png");
    }

    #[test]
    fn no_name_ends_its_header_or_begins_another() {
        let corpus = [
            "plain.txt",
            "quote\".txt",
            "back\\slash.txt",
            "semi;colon=1.txt",
            "a\"; filename=\"evil.html",
            "percent%0d%0aX: y",
            "line\r\nSet-Cookie: a=b",
            "nul\0.txt",
            "tab\t.txt",
            "ümläut.txt",
            "你好.png",
            "🙂.gif",
            "\u{202e}txt.exe",
            "'single''.txt",
            "<script>.html",
            "*.txt",
            "utf-8''x",
        ];
        for given in corpus {
            for name in [given.to_owned(), clean(given)] {
                let header = disposition("attachment", &name);
                assert!(header.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{header}");
                let rest = header.strip_prefix("attachment; filename=\"").unwrap();
                let (plain, rest) = rest.split_once('"').unwrap();
                assert!(!plain.contains(['\\', ';', '%']), "{header}");
                let encoded = rest.strip_prefix("; filename*=UTF-8''").unwrap();
                assert!(!encoded.contains(['"', ';', '\'', ' ', '*']), "{header}");
                assert_eq!(decoded(encoded), name, "{header}");
                assert!(actix_web::http::header::HeaderValue::from_str(&header).is_ok());
            }
        }
    }

    fn decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                b'%' => {
                    let (hex, after) = rest.split_at(2);
                    bytes.push(u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap());
                    rest = after;
                }
                byte => bytes.push(*byte),
            }
        }
        String::from_utf8(bytes).unwrap()
    }
}
