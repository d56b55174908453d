//! Owns the tests of what stands in e-mails: what people write who want one to do something, and what it says to whoever gets it.

use super::*;
use mail_parser::MessageParser;
use proto::command::EventBody;
use proto::email::{EmailLanguage, EmailStage};
use proto::ids::AgentId;

const SESSION: SessionId = SessionId(0xabc);

/// What people are called, or write, who want an e-mail to do something.
const CORPUS: [&str; 16] = [
    "Ada\r\nBcc: victim@example.com",
    "Ada\nSubject: other",
    "Ada\r\n\r\n<script>alert(1)</script>",
    "Ada\rX-Injected: 1",
    "\u{0}\u{7}Ada",
    "\"Ada\" <mallory@example.com>",
    "Ada\", <mallory@example.com>, \"",
    "=?utf-8?q?Ada=0D=0ABcc:_victim@example.com?=",
    "=?utf-8?b?QWRhDQpCY2M6IHZpY3RpbUBleGFtcGxlLmNvbQ==?=",
    "\u{202e}moc.elpmaxe@yrollam\u{202c}",
    "\u{2066}مرحبا\u{2069} שלום",
    "你好，世界 🙂",
    "\u{85}\u{2028}\u{2029}Bcc: victim@example.com",
    ".\r\nQUIT\r\n",
    "--boundary\r\nContent-Type: text/html",
    "a@b, c@d; e",
];

fn from() -> Address {
    "chat@everdesk.example".parse().unwrap()
}

fn rules() -> EmailRules {
    EmailRules {
        on: true,
        forms_to: "desk@shop.example".into(),
        base_url: "https://chat.shop.example/".into(),
        ..EmailRules::default()
    }
}

fn email(kind: EmailKind) -> Email {
    Email {
        site: SiteId(7),
        session: SESSION,
        kind,
        number: 3,
        first: 1,
        upto: 9,
        to: String::new(),
        due_ms: 0,
        since_ms: 0,
        tries: 0,
        why: String::new(),
        stage: EmailStage::Sealed,
    }
}

fn said(seq: u64, from: Party, text: &str) -> Event {
    let (device, cid) = (String::new(), String::new());
    let body =
        EventBody::Message { from, device, n: 0, cid, text: text.into(), reply_to: None, attachments: Vec::new() };
    Event { seq, ts_ms: 1_795_420_800_000 + seq, body }
}

fn facts(events: Vec<Event>) -> Facts {
    let attribute = |name: &str, value: &str| (Whose::Visitor, name.to_owned(), value.to_owned());
    Facts {
        events,
        cut: false,
        read: 0,
        attributes: vec![attribute("email", "ada@example.com"), attribute("name", "Ada")],
        facts: Vec::new(),
        secret: Some(SecretBytes(vec![7; 16])),
    }
}

fn written(kind: EmailKind, site_name: &str, rules: &EmailRules, facts: &Facts) -> Vec<u8> {
    let site = Site { id: SiteId(7), name: site_name, rules };
    write(&from(), &site, &email(kind), facts).expect("somebody needs it").expect("it can be written").formatted()
}

/// Names of the headers of the whole, in order.
fn headers(bytes: &[u8]) -> Vec<String> {
    let parsed = MessageParser::default().parse(bytes).unwrap();
    parsed.headers().iter().map(|header| header.name().to_owned()).collect()
}

const AGENT: Party = Party::Agent(AgentId(4));

#[test]
fn whatever_people_are_called_or_write_an_e_mail_has_the_same_headers() {
    for kind in [EmailKind::Missed, EmailKind::Form, EmailKind::Transcript] {
        let plain = vec![said(1, Party::Visitor, "hello"), said(2, AGENT, "good day")];
        let usual = headers(&written(kind, "shop", &rules(), &facts(plain)));
        assert!(usual.iter().any(|name| name.eq_ignore_ascii_case("message-id")), "{usual:?}");
        for hostile in CORPUS {
            let events = vec![said(1, Party::Visitor, hostile), said(2, AGENT, hostile)];
            let mut known = facts(events);
            known.attributes[1].2 = hostile.to_owned();
            known.attributes.push((Whose::Conversation, hostile.to_owned(), hostile.to_owned()));
            let bytes = written(kind, hostile, &EmailRules { sender: hostile.into(), ..rules() }, &known);
            assert_eq!(headers(&bytes), usual, "{hostile:?}");
            let parsed = MessageParser::default().parse(&bytes).unwrap();
            let to: Vec<&str> = parsed.to().unwrap().iter().filter_map(|to| to.address()).collect();
            let expected = if kind == EmailKind::Form { "desk@shop.example" } else { "ada@example.com" };
            assert_eq!(to, [expected], "{hostile:?}");
            let from: Vec<&str> = parsed.from().unwrap().iter().filter_map(|from| from.address()).collect();
            assert_eq!(from, ["chat@everdesk.example"], "{hostile:?}");
            let subject = parsed.subject().unwrap();
            assert!(!subject.chars().any(|c| c.is_control() || turns_text(c)), "{subject:?}");
            assert!(!bytes.split(|byte| *byte == b'\n').any(|line| line.len() > 998), "a line is too long");
            let html = parsed.body_html(0).unwrap();
            assert!(!html.contains("<script"), "{html}");
        }
    }
}

#[test]
fn a_very_long_name_or_text_makes_a_mail_that_servers_take() {
    let long = "好".repeat(50_000);
    let known = facts(vec![said(1, Party::Visitor, &long), said(2, AGENT, &"x".repeat(150_000))]);
    for kind in [EmailKind::Missed, EmailKind::Form, EmailKind::Transcript] {
        let bytes = written(kind, &"n".repeat(5_000), &rules(), &known);
        assert!(!bytes.split(|byte| *byte == b'\n').any(|line| line.len() > 998), "a line is too long");
        assert!(bytes.len() < 2 << 20, "{}", bytes.len());
        assert!(MessageParser::default().parse(&bytes).unwrap().subject().unwrap().chars().count() <= LINE_CHARS_MAX);
    }
}

#[test]
fn a_missed_message_says_what_was_missed_in_the_visitors_language_and_how_to_stop_it() {
    let events = vec![
        said(1, AGENT, "read already"),
        said(2, Party::Visitor, "my own"),
        said(3, AGENT, "a < b\n你好"),
        said(4, AGENT, ""),
    ];
    let mut known = facts(events);
    known.read = 1;
    known.facts.push(("language".into(), "zh-CN".into()));
    let bytes = written(EmailKind::Missed, "shop", &rules(), &known);
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    let (text, html) = (parsed.body_text(0).unwrap(), parsed.body_html(0).unwrap());
    assert!(text.contains("a < b\r\n你好") || text.contains("a < b\n你好"), "{text}");
    assert!(!text.contains("read already") && !text.contains("my own"), "{text}");
    assert!(html.contains("a &lt; b") && html.contains("lang=\"zh\""), "{html}");
    assert_eq!(parsed.subject(), Some("您有新消息： shop"));
    let url = format!("https://chat.shop.example/v1/unsubscribe/{SESSION}?key={}", "07".repeat(16));
    assert!(text.contains(&url), "{text}");
    let raw = String::from_utf8_lossy(&bytes);
    assert!(raw.contains(&format!("List-Unsubscribe: <{url}>\r\n")), "{raw}");
    assert!(raw.contains("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"));
    assert!(raw.contains("Auto-Submitted: auto-generated\r\n"));
    assert_eq!(parsed.message_id(), Some(format!("site7.{SESSION}.1.3.missed@everdesk.example").as_str()));
    // Nothing is left to be told.
    known.read = 4;
    let (rules, name) = (rules(), "shop");
    let site = Site { id: SiteId(7), name, rules: &rules };
    assert!(write(&from(), &site, &email(EmailKind::Missed), &known).is_none());
}

#[test]
fn a_form_comes_with_what_is_known_and_is_answered_to_the_visitor() {
    let mut known = facts(vec![said(1, Party::Visitor, "are you there?")]);
    known.facts.push(("page".into(), "https://shop.example/鞋".into()));
    let rules = EmailRules { language: EmailLanguage::Chinese, ..rules() };
    let bytes = written(EmailKind::Form, "shop", &rules, &known);
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    let text = parsed.body_text(0).unwrap();
    assert!(text.contains("are you there?") && text.contains("page: https://shop.example/鞋"), "{text}");
    assert_eq!(parsed.reply_to().and_then(|to| to.first()).and_then(|to| to.address()), Some("ada@example.com"));
    assert_eq!(parsed.subject(), Some("访客留言： Ada"));
}

#[test]
fn a_visitor_gets_no_notes_and_reads_the_site_where_an_agent_wrote() {
    let act = proto::act::Act::Note { text: "difficult".into(), mentions: Vec::new() };
    let (device, cid) = (String::new(), String::new());
    let note = Event { seq: 2, ts_ms: 5, body: EventBody::Act { from: AGENT, device, n: 0, cid, act } };
    let events = [said(1, Party::Visitor, "hello"), note, said(3, AGENT, "good day")];
    let rules = EmailRules { sender: "The shop".into(), ..rules() };
    let site = Site { id: SiteId(7), name: "shop", rules: &rules };
    let transcript = of_visitor(&site, SESSION, &events, false);
    let from: Vec<&str> = transcript.lines.iter().map(|line| line.from.as_str()).collect();
    assert_eq!(from, ["Visitor", "The shop"]);
    assert!(!transcript.html().contains("difficult"));
}

#[test]
fn only_what_can_be_written_to_is_an_address() {
    for good in ["ada@example.com", " a.b+c@mail.example.co.uk ", "x_y-z@1.example"] {
        assert!(address(good).is_some(), "{good}");
    }
    let long = format!("{}@example.com", "a".repeat(250));
    for bad in [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@localhost",
        "ada@example.com\r\nBcc: c@d.example",
        "a@b.example,c@d.example",
        "Ada <ada@example.com>",
        "\"a b\"@example.com",
        "ada@exam ple.com",
        "用户@例子.公司",
        "a@b@example.com",
        &long,
    ] {
        assert!(address(bad).is_none(), "{bad:?}");
    }
}
