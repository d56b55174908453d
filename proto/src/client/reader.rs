//! Owns a pull reader of JSON text that borrows what it can. Does not know verbs or limits of fields.
//! Invariant: it never looks past the text, never recurses deeper than `DEPTH_MAX`, and accepts RFC 8259 only.

use std::borrow::Cow;
use std::str::FromStr;

use super::code::ErrorCode;
use super::limits::DEPTH_MAX;
use super::scan::next_special;

/// Why reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub code: ErrorCode,
    pub message: Cow<'static, str>,
}

impl Fault {
    pub fn malformed(message: &'static str) -> Self {
        Fault { code: ErrorCode::Malformed, message: Cow::Borrowed(message) }
    }
    pub fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Fault { code: ErrorCode::BadRequest, message: message.into() }
    }
    pub(super) fn wanted(field: &str, what: &str) -> Self {
        Fault::bad(format!("{field}: expected {what}"))
    }
}

const ENDS_EARLY: &str = "the frame ends in the middle of a value";
const NOT_JSON: &str = "the frame is not JSON";
const TOO_DEEP: &str = "nested deeper than 16 levels";
const BAD_STRING: &str = "a string holds an unescaped control character";
const BAD_ESCAPE: &str = "a string holds an invalid escape";

pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Reader { text, at: 0, depth: 0 }
    }

    /// Reads an object; `on_field` reads the value of a key it knows and returns false for one it does not.
    /// An unknown field is skipped, so that a later client may say more.
    pub fn object(
        &mut self,
        field: &str,
        mut on_field: impl FnMut(&mut Self, &str) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        self.open(field, b'{', "an object")?;
        if self.next_is(b'}') {
            return self.leave();
        }
        loop {
            let key = self.key()?;
            if !on_field(self, &key)? {
                self.skip()?;
            }
            if !self.more(b'}')? {
                return self.leave();
            }
        }
    }

    /// Reads an array; `on_item` reads one element.
    pub fn array(&mut self, field: &str, mut on_item: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.open(field, b'[', "a list")?;
        if self.next_is(b']') {
            return self.leave();
        }
        loop {
            on_item(self)?;
            if !self.more(b']')? {
                return self.leave();
            }
        }
    }

    pub fn string(&mut self, field: &str) -> Result<Cow<'a, str>, Fault> {
        self.value(field, b'"', "a string")?;
        self.string_body()
    }

    pub fn parsed<T: FromStr>(&mut self, field: &str, what: &str) -> Result<T, Fault> {
        self.string(field)?.parse().map_err(|_| Fault::wanted(field, what))
    }

    pub fn bool(&mut self, field: &str) -> Result<bool, Fault> {
        match self.peek()? {
            b't' => self.literal("true").map(|()| true),
            b'f' => self.literal("false").map(|()| false),
            _ => Err(self.unexpected(field, "true or false")),
        }
    }

    /// Reads a whole number that fits in 64 bits.
    pub fn u64(&mut self, field: &str) -> Result<u64, Fault> {
        let first = self.peek()?;
        if !first.is_ascii_digit() {
            return Err(self.unexpected(field, "a whole number"));
        }
        let start = self.at;
        let mut number: u64 = 0;
        while let Some(digit) = self.here().filter(u8::is_ascii_digit) {
            let grown = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0')));
            number = grown.ok_or_else(|| Fault::bad(format!("{field}: out of range")))?;
            self.at += 1;
        }
        if first == b'0' && self.at > start + 1 {
            return Err(Fault::malformed("a number starts with 0"));
        }
        if matches!(self.here(), Some(b'.' | b'e' | b'E')) {
            return Err(Fault::wanted(field, "a whole number"));
        }
        Ok(number)
    }

    /// Passes over any value.
    pub fn skip(&mut self) -> Result<(), Fault> {
        match self.peek()? {
            b'{' => self.object("", |reader, _| reader.skip().map(|()| true)),
            b'[' => self.array("", Self::skip),
            b'"' => {
                self.at += 1;
                self.string_body().map(drop)
            }
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Fault::malformed(NOT_JSON)),
        }
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(Fault::malformed("there is more text after the frame")) }
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.here() {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Result<u8, Fault> {
        self.space();
        self.here().ok_or(Fault::malformed(ENDS_EARLY))
    }

    fn next_is(&mut self, byte: u8) -> bool {
        self.space();
        let hit = self.here() == Some(byte);
        self.at += usize::from(hit);
        hit
    }

    /// A value of another type is the client's mistake in one field; what starts no value at all is not JSON.
    fn unexpected(&mut self, field: &str, what: &str) -> Fault {
        match self.here() {
            Some(b'{' | b'[' | b'"' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => Fault::wanted(field, what),
            _ => Fault::malformed(NOT_JSON),
        }
    }

    fn value(&mut self, field: &str, first: u8, what: &str) -> Result<(), Fault> {
        if self.peek()? != first {
            return Err(self.unexpected(field, what));
        }
        self.at += 1;
        Ok(())
    }

    fn open(&mut self, field: &str, first: u8, what: &str) -> Result<(), Fault> {
        self.value(field, first, what)?;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(Fault::malformed(TOO_DEEP)) } else { Ok(()) }
    }

    fn leave(&mut self) -> Result<(), Fault> {
        self.depth -= 1;
        Ok(())
    }

    fn more(&mut self, close: u8) -> Result<bool, Fault> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Ok(true),
            _ if byte == close => Ok(false),
            _ => Err(Fault::malformed(NOT_JSON)),
        }
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek()? != b'"' {
            return Err(Fault::malformed(NOT_JSON));
        }
        self.at += 1;
        let key = self.string_body()?;
        if self.peek()? != b':' {
            return Err(Fault::malformed(NOT_JSON));
        }
        self.at += 1;
        Ok(key)
    }

    fn literal(&mut self, word: &str) -> Result<(), Fault> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Fault::malformed(NOT_JSON));
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.here().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(Fault::malformed(NOT_JSON)) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.at += usize::from(self.here() == Some(b'-'));
        if self.here() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.here() {
            self.at += 1;
            self.at += usize::from(matches!(self.here(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Reads what follows an opening quote, up to and with the closing one.
    fn string_body(&mut self) -> Result<Cow<'a, str>, Fault> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        self.at = next_special(bytes, start);
        if self.here() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        let mut owned = String::with_capacity((self.at - start) * 2 + 16);
        owned.push_str(&self.text[start..self.at]);
        loop {
            match self.here() {
                None => return Err(Fault::malformed(ENDS_EARLY)),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => owned.push(self.escape()?),
                Some(_) => return Err(Fault::malformed(BAD_STRING)),
            }
            let run = self.at;
            self.at = next_special(bytes, run);
            owned.push_str(&self.text[run..self.at]);
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        self.at += 1;
        let byte = self.here().ok_or(Fault::malformed(ENDS_EARLY))?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(Fault::malformed(BAD_ESCAPE)),
        })
    }

    fn unicode(&mut self) -> Result<char, Fault> {
        let high = self.hex4()?;
        if let Some(plain) = char::from_u32(high) {
            return Ok(plain);
        }
        // Only surrogates are left: a high one must be followed by an escaped low one.
        let lone = Fault::malformed("a string holds half a surrogate pair");
        if high >= 0xdc00 || self.literal("\\u").is_err() {
            return Err(lone);
        }
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(lone);
        }
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(lone)
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let mut number = 0;
        for _ in 0..4 {
            let byte = self.here().ok_or(Fault::malformed(ENDS_EARLY))?;
            let digit = char::from(byte).to_digit(16).ok_or(Fault::malformed(BAD_ESCAPE))?;
            number = number * 16 + digit;
            self.at += 1;
        }
        Ok(number)
    }
}
