//! Owns how each text of a client's frames is exercised: a frame in which it stands, who sends it, and where it is read back. Does not send.
//! Invariant: a text of docs/asyncapi.yaml that is in none of these lists fails the test that reads them.

use super::fields::texts_of;
use serde_json::{Value, json};

/// A text of a frame.
#[derive(Debug, Clone)]
pub struct Field {
    pub verb: String,
    /// Within the verb.
    pub at: String,
    /// The document says which texts are right.
    pub is_closed: bool,
}

impl Field {
    pub fn name(&self) -> String {
        let dot = if self.at.starts_with(['[', '{']) { "" } else { "." };
        format!("{}{dot}{}", self.verb, self.at)
    }
}

/// Every text of every frame.
pub fn of_document(document: &Value) -> Vec<Field> {
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let verbs = schemas.filter_map(|(name, schema)| Some((name.strip_prefix("ask_")?, schema)));
    let fields = verbs.flat_map(|(verb, schema)| {
        let field = |(at, is_closed)| Field { verb: verb.to_owned(), at, is_closed };
        texts_of(document, schema).into_iter().map(field)
    });
    fields.collect()
}

/// Where a text is read when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// In what happened in the session.
    Events,
    /// In what its author reads of that.
    OwnHistory,
    /// In the session, as agents see it.
    Session,
    /// In the list of who is on the site.
    Online,
    /// By a push to the agent.
    Push,
    /// To nobody.
    Nobody,
}

/// Texts that are kept as they are, or refused, and where.
const OPEN: [(&str, Told); 13] = [
    ("about.facts{name}", Told::Session),
    ("about.facts{value}", Told::Session),
    ("close.reason", Told::Events),
    ("hello.device", Told::Nobody),
    ("send.cid", Told::OwnHistory),
    ("send.edit.text", Told::Events),
    ("send.label.label", Told::Events),
    ("send.note.text", Told::Events),
    ("send.rate.comment", Told::Events),
    ("send.react.emoji", Told::Events),
    ("send.text", Told::Events),
    ("typing.draft", Told::Push),
    ("visit.trail[].title", Told::Online),
];

/// Texts with a closed form of which the document does not say it: a token, a name of what there is, addresses.
const CLOSED: [&str; 4] = ["hello.token", "trigger.trigger", "visit.referrer", "visit.trail[].url"];

/// `Ok(None)`: it has a closed form, and everything else is refused.
pub fn told(field: &Field) -> Option<Option<Told>> {
    let name = field.name();
    let open = OPEN.iter().find(|(open, _)| *open == name).map(|(_, told)| Some(*told));
    open.or_else(|| (field.is_closed || CLOSED.contains(&name.as_str())).then_some(None))
}

/// Whether an agent sends it.
pub fn is_agents(field: &Field) -> bool {
    matches!(field.verb.as_str(), "accept" | "decline" | "take" | "seat" | "transfer" | "close" | "dismiss" | "watch")
        || field.at.starts_with("note")
        || field.at.starts_with("label")
}

/// What stands under the verb, in all forms that it takes; with the text of the session and a token.
pub fn bodies(verb: &str, session: &str, token: &str) -> Vec<Value> {
    let mut all = match verb {
        "hello" => return vec![json!({ "token": token, "device": "d", "resume": [{ "session": session, "seq": 0 }] })],
        "ping" => return vec![json!({ "heads": [{ "session": session, "seq": 0 }] })],
        "seat" => return vec![json!({ "state": "online" })],
        "send" => vec![
            json!({ "cid": "c", "text": "hello" }),
            json!({ "cid": "c", "text": "hello", "attachments": ["0a1b2c3d4e5f60718293a4b5c6d7e8f9"] }),
            json!({ "cid": "c", "note": { "text": "hello", "mentions": ["a1"] } }),
            json!({ "cid": "c", "edit": { "of": 1, "text": "hello" } }),
            json!({ "cid": "c", "react": { "of": 1, "emoji": "👍" } }),
            json!({ "cid": "c", "label": { "label": "vip" } }),
            json!({ "cid": "c", "rate": { "conversation": 1, "score": 4, "comment": "quick" } }),
        ],
        "typing" => vec![json!({ "on": true, "draft": "where is" })],
        "close" => vec![json!({ "reason": "sold" })],
        "accept" | "decline" => vec![json!({ "offer": 1 })],
        "take" => vec![json!({ "conversation": 1 })],
        "transfer" => vec![json!({ "agent": "a1" }), json!({ "team": "t9" })],
        "about" => vec![json!({ "team": "t9", "facts": { "page": "x" } })],
        "dismiss" => vec![json!({ "seq": 1 })],
        "visit" => vec![json!({ "trail": [{ "url": "https://shop.example/", "title": "Shop", "at": 1 }],
                "referrer": "https://search.example/", "visits": 1 })],
        "trigger" => vec![json!({ "trigger": "hello" })],
        "history" | "cursor" | "watch" => vec![json!({ "received": 0 })],
        _ => Vec::new(),
    };
    for body in all.iter_mut().filter_map(Value::as_object_mut) {
        body.insert("session".to_owned(), session.into());
    }
    all
}
