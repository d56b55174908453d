//! Owns how each text of the site's API is exercised: a body in which it stands, where it is read back, and which texts have a closed form.
//! Does not ask. Invariant: a text of the document that is in none of these lists fails the test that reads them.

use super::fields::{Field, Place};
use serde_json::{Value, json};

/// Names in paths that people choose; the rest of a path are ids.
const NAMES: [&str; 2] = ["name", "shortcut"];

/// Queries in which anything may stand.
const QUERIES: [&str; 4] =
    ["conversations_upload query name", "search query q", "search query label", "reports_summary query label"];

/// Texts with a closed form, of which the document does not say it: ids of what there is, words of a list, times, addresses of e-mails.
/// Everything else is refused.
const CLOSED: [&str; 28] = [
    "blocklist_set body network",
    "canned_set body team",
    "conversations_mail_transcript body to",
    "conversations_send body attachments[]",
    "conversations_send body note.mentions[]",
    "conversations_set_attributes body conversation{name}",
    "conversations_set_attributes body visitor{name}",
    "conversations_transfer body agent",
    "conversations_transfer body team",
    "desk_set_rules body hours.zone",
    "desk_set_rules body routes[].team",
    "events_list query after",
    "keys_create body scopes[]",
    "macros_set body actions[].transfer.agent",
    "macros_set body actions[].transfer.team",
    "mail_set body base_url",
    "mail_set body forms_to",
    "mail_test body to",
    "me_set_seat body state",
    "reports_summary query group_by",
    "reports_summary query zone",
    "search query after",
    "seats_set body teams[]",
    "triggers_set body again",
    "triggers_set body team",
    "views_set body filters.agent",
    "views_set body filters.team",
    "webhooks_set body kinds[]",
];

/// Texts that are told to nobody.
const SECRET: [&str; 1] = ["agents_add body password"];

/// Texts that name something which is fetched.
pub const ADDRESSES: [&str; 1] = ["webhooks_set body url"];

/// Fields of which every text needs a session of its own: a session takes such a thing once, or a few times in a day.
const FRESH: [&str; 5] = [
    "conversations_close body reason",
    "conversations_invite body text",
    "conversations_send body label.label",
    "conversations_transfer body note",
    "conversations_upload query name",
];

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Kept as it is, or refused.
    Open,
    /// Refused, whatever of the corpora it is.
    Closed,
    /// Taken or refused, and told to nobody.
    Secret,
}

/// How a field is judged; `None`: nobody has said.
pub fn form(field: &Field) -> Option<Form> {
    let name = field.name();
    let has = |list: &[&str]| list.contains(&name.as_str());
    match &field.place {
        _ if has(&SECRET) => Some(Form::Secret),
        _ if has(&CLOSED) => Some(Form::Closed),
        Place::Path(part) if NAMES.contains(&part.as_str()) => Some(Form::Open),
        Place::Path(_) => Some(Form::Closed),
        // Whatever can stand in a header and be seen is a key.
        Place::Header(_) => Some(Form::Open),
        Place::Query(_) if has(&QUERIES) => Some(Form::Open),
        Place::Query(_) | Place::Body(_) if field.is_closed => Some(Form::Closed),
        Place::Query(_) => None,
        Place::Body(_) => Some(Form::Open),
    }
}

pub fn is_fresh(field: &Field) -> bool {
    FRESH.contains(&field.name().as_str())
}

/// What a request acts on.
#[derive(Debug, Clone, Default)]
pub struct Target {
    pub session: String,
    pub visitor: String,
    pub agent: String,
    /// Of whatever it makes: of this field only.
    pub name: String,
    /// A team of its own.
    pub team: String,
    /// Of a message that the caller may edit.
    pub seq: u64,
}

impl Target {
    pub fn path(&self, path: &str) -> String {
        path.replace("{session}", &self.session)
            .replace("{visitor}", &self.visitor)
            .replace("{agent}", &self.agent)
            .replace("{team}", &self.team)
            .replace("{name}", &self.name)
            .replace("{shortcut}", &self.name)
            .replace("{whose}", "visitor")
            .replace("{number}", "1")
            .replace("{letter}", "g1-1")
    }
}

/// Bodies that are right; each text of the operation stands in one of them.
pub fn bodies(operation: &str, at: &Target) -> Vec<Value> {
    match operation {
        "agents_add" => vec![json!({ "name": at.name, "password": super::PASSWORD })],
        "agents_set_role" => vec![json!({ "role": "agent" })],
        "attributes_set" => vec![json!({ "type": "choice", "title": "plan", "options": ["free"] })],
        "blocklist_set" => vec![json!({ "word": "casino" }), json!({ "network": "192.0.2.0/24" })],
        "canned_set" => vec![json!({ "text": "hello", "team": "t9" })],
        "conversations_accept" | "conversations_decline" => vec![json!({ "offer": 1 })],
        "conversations_close" => vec![json!({ "reason": "sold" })],
        "conversations_invite" => vec![json!({ "text": "may I help?" })],
        "conversations_mail_transcript" => vec![json!({ "to": "boss@shop.example" })],
        "conversations_send" => vec![
            json!({ "text": "hello" }),
            json!({ "text": "hello", "attachments": ["0a1b2c3d4e5f60718293a4b5c6d7e8f9"] }),
            json!({ "note": { "text": "hello", "mentions": [at.agent] } }),
            json!({ "label": { "label": "vip" } }),
            json!({ "edit": { "of": at.seq, "text": "hello" } }),
            json!({ "react": { "of": at.seq, "emoji": "👍" } }),
        ],
        "conversations_set_attributes" => {
            vec![json!({ "visitor": { "plan": "pro" } }), json!({ "conversation": { "order": "17" } })]
        }
        "conversations_transfer" => {
            vec![json!({ "note": "hello" }), json!({ "agent": at.agent }), json!({ "team": "t9" })]
        }
        "conversations_read" => vec![json!({ "read": 1 })],
        "conversations_take" => vec![json!({ "conversation": 1 })],
        "conversations_typing" => vec![json!({ "on": true })],
        "desk_set_rules" => vec![rules()],
        "keys_create" => vec![json!({ "name": at.name, "scopes": ["desk:read"] })],
        "macros_set" => vec![
            json!({ "actions": [{ "say": "a" }, { "note": "b" }, { "label": "c" }, { "unlabel": "d" }, { "close": "e" }] }),
            json!({ "actions": [{ "transfer": { "agent": "a1" } }] }),
            json!({ "actions": [{ "transfer": { "team": "t9" } }] }),
        ],
        "mail_set" => vec![
            json!({ "sender": "The shop", "forms_to": "desk@shop.example", "base_url": "https://chat.shop.example",
                "language": "en" }),
        ],
        "me_set_seat" => vec![json!({ "state": "online" })],
        "mail_test" => vec![json!({ "to": "olga@shop.example" })],
        "seats_set" => vec![
            json!({ "capacity": 5, "teams": ["t9"], "skills": ["shoes"], "channels": [{ "channel": "app", "capacity": 2 }] }),
        ],
        "settings_set" => vec![json!({ "identity": "optional" })],
        "teams_set" => vec![json!({ "name": "sales" })],
        "triggers_set" => vec![trigger()],
        "views_set" => vec![
            json!({ "filters": { "q": "parcel", "by": "visitor", "state": "open", "agent": "a1", "team": "t9", "label": "vip",
                "channel": "app" } }),
        ],
        "visitors_erase_many" => vec![json!({ "visitors": ["00000000000000000000000000000000"] })],
        "webhooks_set" => vec![json!({ "url": "https://crm.example/", "kinds": ["message"] })],
        "webhooks_replay" => vec![json!({ "letter": "g1-1" })],
        _ => Vec::new(),
    }
}

/// Rules by which everything goes on as without them.
fn rules() -> Value {
    let never = |test: Value| {
        let mut condition = json!({ "fact": "what nobody says" });
        condition.as_object_mut().expect("it is one").extend(test.as_object().cloned().unwrap_or_default());
        condition
    };
    let when = [never(json!({ "is": ["x"] })), never(json!({ "starts_with": "x" })), never(json!({ "contains": "x" }))];
    let always = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        .map(|day| json!({ "day": day, "from": "00:00", "to": "24:00" }));
    let day = json!({ "date": "2099-01-01", "open": [{ "from": "10:00", "to": "14:00" }] });
    json!({ "routes": [{ "when": when, "team": "t9", "skills": ["shoes"] }],
        "hours": { "zone": "UTC", "week": always, "days": [day] } })
}

fn trigger() -> Value {
    json!({ "text": "may I help?", "speaks_as": "Ada", "team": "t9", "again": "visit", "enabled": false,
        "when": { "page": ["https://shop.example/*"], "referrer": ["*"], "campaign": { "utm_source": "mail" },
            "language": ["de"], "country": ["NZ"], "attributes": { "plan": "pro" } } })
}

/// Where what an operation took is read.
pub fn reads(operation: &str, at: &Target) -> Option<String> {
    let path = match operation {
        "agents_add" => "/v1/agents?limit=1000",
        "attributes_set" => "/v1/attributes",
        "blocklist_set" => "/v1/blocklist",
        "canned_set" => "/v1/canned",
        "conversations_close" | "conversations_invite" | "conversations_send" | "conversations_transfer" => {
            return Some(format!("/v1/conversations/{}/events?limit=20", at.session));
        }
        "conversations_set_attributes" => return Some(format!("/v1/conversations/{}", at.session)),
        "desk_set_rules" | "seats_set" | "teams_set" => "/v1/desk",
        "identity_keys_set" | "settings_set" => "/v1/settings",
        "keys_create" => "/v1/keys",
        "macros_set" => "/v1/macros",
        "mail_set" => "/v1/mail",
        "triggers_set" => "/v1/triggers",
        "views_set" => "/v1/views",
        "webhooks_set" => "/v1/webhooks",
        _ => return None,
    };
    Some(path.to_owned())
}

/// A text as the guide says that it is kept.
pub fn kept(field: &Field, text: &str) -> String {
    match field.name().as_str() {
        // The answer names those whom nobody knows.
        "visitors_erase_many body visitors[]" => text.chars().take(64).collect(),
        _ => text.to_owned(),
    }
}
