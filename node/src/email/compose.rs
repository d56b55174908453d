//! Owns what stands in an e-mail: headers, a plain text and a page. Does not send it. Invariant: whatever somebody wrote stands there as
//! text; nothing that anybody is called becomes a header, and one e-mail is the same whenever it is written.

use super::texts::{self, Texts, language_of};
use crate::api::transcript::{Line, Transcript, escaped, lines};
use crate::backup::chunk::hex;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};
use proto::act::Whose;
use proto::command::{Event, Party, SecretBytes};
use proto::email::{Email, EmailKind, EmailRules};
use proto::ids::{SessionId, SiteId};

/// Characters of a name or a subject.
const LINE_CHARS_MAX: usize = 120;
/// Longest address. Source: RFC 5321, section 4.5.3.1.3, less the brackets.
const ADDRESS_BYTES_MAX: usize = 254;
/// Messages that stand in one e-mail, and characters of them all; of a transcript the newest.
pub const MESSAGES_MAX: usize = 2_000;
const CHARS_MAX: usize = 200_000;

/// An address that can be written to, if it is one. Only ASCII: others need a server that takes them.
pub fn address(text: &str) -> Option<Address> {
    let text = text.trim();
    let is_plain = text.len() <= ADDRESS_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    // Quotes are legal, and of use only to those who want to confuse.
    let is_usual = is_plain && !text.contains(['"', '\\', '<', '>', ',', ';', '(', ')', ':']);
    let address: Address = text.parse().ok().filter(|_| is_usual)?;
    address.domain().contains('.').then_some(address)
}

/// A name or a subject: one line, not too long, and read from one end to the other.
pub fn one_line(text: &str) -> String {
    let spaced: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !turns_text(*c)).collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    // What begins an encoded word (RFC 2047) would be decoded by whoever reads it, into anything.
    words.join(" ").replace("=?", "= ?").chars().take(LINE_CHARS_MAX).collect()
}

/// Whether a character changes the direction in which others are read.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the shard knows of what an e-mail is about.
pub struct Facts {
    pub events: Vec<Event>,
    /// There is more before `events`.
    pub cut: bool,
    /// The visitor has read up to here.
    pub read: u64,
    pub attributes: Vec<(Whose, String, String)>,
    /// What the visitor's page says.
    pub facts: Vec<(String, String)>,
    /// Proves who clicks on an address.
    pub secret: Option<SecretBytes>,
}

impl Facts {
    fn attribute(&self, name: &str) -> Option<&str> {
        let known = self.attributes.iter().find(|(whose, known, _)| *whose == Whose::Visitor && known == name);
        known.map(|(_, _, value)| value.as_str())
    }

    fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The visitor's: what agents or the site say comes before what the page says.
    pub fn address(&self) -> Option<Address> {
        self.attribute("email").and_then(address).or_else(|| self.fact("email").and_then(address))
    }

    fn name(&self) -> Option<&str> {
        self.attribute("name").or_else(|| self.fact("name"))
    }
}

/// A site, as its e-mails name it.
pub struct Site<'a> {
    pub id: SiteId,
    pub name: &'a str,
    pub rules: &'a EmailRules,
}

impl Site<'_> {
    pub fn sender(&self) -> String {
        one_line(if self.rules.sender.is_empty() { self.name } else { &self.rules.sender })
    }
}

/// The parts of an e-mail.
struct Parts {
    to: Mailbox,
    reply_to: Option<Address>,
    subject: String,
    text: String,
    html: String,
    unsubscribe: Option<String>,
}

/// Writes an e-mail; `None`: nobody needs it, or there is nobody to write to.
pub fn write(from: &Address, site: &Site<'_>, email: &Email, facts: &Facts) -> Option<Result<Message, String>> {
    let parts = match email.kind {
        EmailKind::Missed => missed(site, email, facts)?,
        EmailKind::Form => form(site, email, facts)?,
        EmailKind::Transcript => transcript(site, email, facts)?,
    };
    let kind = match email.kind {
        EmailKind::Missed => "missed",
        EmailKind::Form => "form",
        EmailKind::Transcript => "transcript",
    };
    let Email { session, first, number, .. } = email;
    let id = format!("{}.{session}.{first}.{number}.{kind}", site.id);
    Some(message(from, &site.sender(), &id, parts))
}

/// An e-mail that shows that e-mails arrive.
/// # Errors
/// It cannot be written.
pub fn test(from: &Address, site: &Site<'_>, to: Address, id: u128) -> Result<Message, String> {
    let (subject, text) = texts::of_test(site.rules.language);
    let (subject, html) = (format!("{subject}: {}", one_line(site.name)), page("en", &paragraph(text)));
    let to = Mailbox::new(None, to);
    let parts = Parts { to, reply_to: None, subject, text: format!("{text}\n"), html, unsubscribe: None };
    message(from, &site.sender(), &format!("{}.{id:032x}.test", site.id), parts)
}

fn message(from: &Address, sender: &str, id: &str, parts: Parts) -> Result<Message, String> {
    let Parts { to, reply_to, subject, text, html, unsubscribe } = parts;
    let header = |name: &'static str, value: String| HeaderValue::new(HeaderName::new_from_ascii_str(name), value);
    let mut builder = Message::builder()
        .from(Mailbox::new((!sender.is_empty()).then(|| sender.to_owned()), from.clone()))
        .to(to)
        .subject(one_line(&subject))
        .message_id(Some(format!("<{id}@{}>", from.domain())))
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()));
    if let Some(address) = reply_to {
        builder = builder.reply_to(Mailbox::new(None, address));
    }
    if let Some(url) = unsubscribe {
        // Source: RFC 8058.
        let folded = HeaderValue::dangerous_new_pre_encoded(
            HeaderName::new_from_ascii_str("List-Unsubscribe"),
            format!("<{url}>"),
            format!("<{url}>"),
        );
        builder = builder
            .raw_header(folded)
            .raw_header(header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
    }
    builder.multipart(MultiPart::alternative_plain_html(text, html)).map_err(|error| error.to_string())
}

/// The address under which a visitor says that they want no more.
pub fn unsubscribe_path(secret: &SecretBytes, session: SessionId) -> String {
    format!("/v1/unsubscribe/{session}?key={}", hex(&secret.0))
}

fn paragraph(text: &str) -> String {
    format!("<p dir=\"auto\" style=\"white-space:pre-wrap\">{}</p>\n", escaped(text))
}

fn link(about: &str, url: &str) -> String {
    let url = escaped(url);
    format!("<p>{} <a href=\"{url}\">{url}</a></p>\n", escaped(about))
}

/// A whole page. `body`: already escaped.
pub fn page(lang: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"{lang}\"><head><meta charset=\"utf-8\"></head>\n<body>\n{body}</body></html>\n"
    )
}

/// What was said, as text and as a page, newest last; what is too much is left out at the beginning.
fn said(lines: &[Line], texts: &Texts, mut cut: bool) -> (String, String) {
    let mut room = CHARS_MAX;
    let mut kept = 0;
    for line in lines.iter().rev().take(MESSAGES_MAX) {
        let chars = line.text.as_deref().map_or(0, |text| text.chars().count());
        if chars > room {
            break;
        }
        (room, kept) = (room - chars, kept + 1);
    }
    cut |= kept < lines.len();
    let (mut text, mut html) = (String::new(), String::new());
    if cut {
        text.push_str(&format!("{}\n\n", texts.cut));
        html.push_str(&paragraph(texts.cut));
    }
    for line in &lines[lines.len() - kept..] {
        let body = line.text.as_deref().unwrap_or(texts.taken_back);
        let files: String = line.files.iter().map(|name| format!("\n[{}]", one_line(name))).collect();
        text.push_str(&format!("{}, {}\n{body}{files}\n\n", line.from, line.at));
        html.push_str(&format!("<p><b dir=\"auto\">{}</b> {}</p>\n", escaped(&line.from), escaped(&line.at)));
        html.push_str(&paragraph(&format!("{body}{files}")));
    }
    (text, html)
}

/// The messages of one side among the events of an e-mail; those that were taken back are nobody's business.
fn messages(email: &Email, facts: &Facts, of_agents: bool, name: impl Fn(Party) -> String) -> Vec<Line> {
    let is_theirs = |event: &&Event| match event.body.sent_by() {
        Some((Party::Agent(_), _, _)) => of_agents,
        Some((Party::Visitor, _, _)) => !of_agents,
        _ => false,
    };
    let seqs: Vec<u64> = facts.events.iter().filter(is_theirs).map(|event| event.seq).collect();
    let wanted = |line: &Line| {
        (email.first..=email.upto).contains(&line.seq) && seqs.binary_search(&line.seq).is_ok() && line.text.is_some()
    };
    lines(&facts.events, false, name).into_iter().filter(wanted).collect()
}

fn missed(site: &Site<'_>, email: &Email, facts: &Facts) -> Option<Parts> {
    let to = Mailbox::new(None, facts.address()?);
    let texts = texts::of(language_of(facts.fact("language"), site.rules.language));
    let sender = site.sender();
    let mut messages = messages(email, facts, true, |_| sender.clone());
    messages.retain(|line| line.seq > facts.read);
    if messages.is_empty() {
        return None;
    }
    let secret = facts.secret.as_ref()?;
    let base = site.rules.base_url.trim_end_matches('/');
    let unsubscribe = format!("{base}{}", unsubscribe_path(secret, email.session));
    let (said_text, said_html) = said(&messages, texts, false);
    let text = format!("{}\n\n{said_text}{} {unsubscribe}\n", texts.missed_about, texts.unsubscribe);
    let body = format!("{}{said_html}{}", paragraph(texts.missed_about), link(texts.unsubscribe, &unsubscribe));
    let subject = format!("{} {sender}", texts.missed);
    let html = page(texts.lang, &body);
    Some(Parts { to, reply_to: None, subject, text, html, unsubscribe: Some(unsubscribe) })
}

fn form(site: &Site<'_>, email: &Email, facts: &Facts) -> Option<Parts> {
    let to = Mailbox::new(None, address(&site.rules.forms_to)?);
    let texts = texts::of(site.rules.language);
    let name = one_line(facts.name().unwrap_or(texts.visitor));
    let messages = messages(email, facts, false, |_| name.clone());
    if messages.is_empty() {
        return None;
    }
    let (said_text, said_html) = said(&messages, texts, false);
    let own = facts.attributes.iter().map(|(_, name, value)| (name, value));
    let known = own.chain(facts.facts.iter().map(|(name, value)| (name, value)));
    let known: Vec<String> = known.map(|(name, value)| format!("{}: {}", one_line(name), one_line(value))).collect();
    let known = known.join("\n");
    let text = format!("{}\n\n{said_text}{}\n{known}\n\n{}\n", texts.form_about, texts.known, email.session);
    let body = format!(
        "{}{said_html}{}{}{}",
        paragraph(texts.form_about),
        paragraph(texts.known),
        paragraph(&known),
        paragraph(&email.session.to_string())
    );
    let subject = format!("{} {name}", texts.form);
    Some(Parts { to, reply_to: facts.address(), subject, text, html: page(texts.lang, &body), unsubscribe: None })
}

fn transcript(site: &Site<'_>, email: &Email, facts: &Facts) -> Option<Parts> {
    let given = address(&email.to);
    let to = Mailbox::new(None, given.or_else(|| facts.address().filter(|_| email.to.is_empty()))?);
    let texts = texts::of(language_of(facts.fact("language"), site.rules.language));
    let sender = site.sender();
    let all = lines(&facts.events, false, names(&sender, texts.visitor));
    let whole: Vec<Line> = all.into_iter().filter(|line| line.seq <= email.upto).collect();
    let (text, body) = said(&whole, texts, facts.cut);
    let subject = format!("{} {sender}", texts.transcript);
    Some(Parts { to, reply_to: None, subject, text, html: page(texts.lang, &body), unsubscribe: None })
}

/// How a visitor sees those who wrote: an agent is the site.
fn names<'a>(sender: &'a str, visitor: &'a str) -> impl Fn(Party) -> String + 'a {
    move |party| if party == Party::Visitor { visitor.to_owned() } else { sender.to_owned() }
}

/// A transcript as a visitor gets it.
pub fn of_visitor(site: &Site<'_>, session: SessionId, events: &[Event], cut: bool) -> Transcript {
    let sender = site.sender();
    let texts = texts::of(site.rules.language);
    Transcript { site: sender.clone(), session, cut, lines: lines(events, false, names(&sender, texts.visitor)) }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
