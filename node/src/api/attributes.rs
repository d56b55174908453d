//! Owns the attributes of visitors and conversations: which there are, of which type, and setting them. Does not store them: the shelf
//! has the schema, sessions the values. Invariant: what is set fits the type that the site said then.

use super::access::Caller;
use super::conversations::{Conversation, OfSession};
use super::deeds::{Deeds, What};
use super::shelf;
use crate::admin::problem::Problem;
use crate::admin::{Answer, Tenant};
use crate::run::App;
use actix_web::web::{Data, Json, Path, ReqData};
use actix_web::{HttpRequest, HttpResponse};
use proto::act::{Act, Whose};
use proto::client::limits::ATTRIBUTE_BYTES_MAX;
use proto::shelf::ItemKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Options of one choice.
const OPTIONS_MAX: usize = 64;
/// Longest title, in bytes.
const TITLE_BYTES_MAX: usize = 128;
/// Attributes in one request.
const SET_MAX: usize = 16;
/// Those that only a proof of who the visitor is sets.
pub const PROVED: [&str; 3] = ["user", "name", "email"];

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Text,
    Number,
    Boolean,
    /// `YYYY-MM-DD`
    Date,
    /// One of its options.
    Choice,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttributeBody {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 128)]
    pub title: String,
    /// Of a choice.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub options: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AttributeView {
    #[schema(value_type = String, example = "visitor")]
    pub whose: Whose,
    #[schema(example = "plan")]
    pub name: String,
    #[serde(flatten)]
    pub attribute: AttributeBody,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Attributes {
    pub attributes: Vec<AttributeView>,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfAttribute {
    whose: String,
    name: String,
}

impl OfAttribute {
    fn checked(&self) -> Result<(Whose, String), Problem> {
        let whose = match self.whose.as_str() {
            "visitor" => Whose::Visitor,
            "conversation" => Whose::Conversation,
            _ => return Err(Problem::not_found("an attribute is of a visitor or a conversation")),
        };
        let name = shelf::checked_name(&self.name)?;
        if whose == Whose::Visitor && PROVED.contains(&name) {
            return Err(Problem::refused("user, name and email are what a visitor proved"));
        }
        Ok((whose, name.to_owned()))
    }
}

fn item_name(whose: Whose, name: &str) -> String {
    match whose {
        Whose::Visitor => format!("visitor/{name}"),
        Whose::Conversation => format!("conversation/{name}"),
    }
}

fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= ATTRIBUTE_BYTES_MAX && !text.chars().any(char::is_control)
}

impl AttributeBody {
    fn fault(&self) -> Option<&'static str> {
        match (self.kind, self.options.len()) {
            _ if self.title.len() > TITLE_BYTES_MAX => Some("a title has at most 128 bytes"),
            (Kind::Choice, 0) => Some("a choice has options"),
            (Kind::Choice, 1..=OPTIONS_MAX) if self.options.iter().all(|option| is_text(option)) => None,
            (Kind::Choice, _) => Some("a choice has 1 to 64 options of 1 to 256 bytes"),
            (_, 0) => None,
            _ => Some("options are of a choice"),
        }
    }

    /// A value as it is kept: the same text for the same value.
    fn text_of(&self, value: &Value) -> Result<String, &'static str> {
        match (self.kind, value) {
            (Kind::Text, Value::String(text)) if is_text(text) => Ok(text.clone()),
            (Kind::Text, _) => Err("a text of 1 to 256 bytes without control characters"),
            (Kind::Number, Value::Number(number)) => Ok(number.to_string()),
            (Kind::Number, _) => Err("a number"),
            (Kind::Boolean, Value::Bool(is)) => Ok(is.to_string()),
            (Kind::Boolean, _) => Err("true or false"),
            (Kind::Date, Value::String(text)) if is_date(text) => Ok(text.clone()),
            (Kind::Date, _) => Err("a date, YYYY-MM-DD"),
            (Kind::Choice, Value::String(text)) if self.options.contains(text) => Ok(text.clone()),
            (Kind::Choice, _) => Err("one of its options"),
        }
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok_and(|date| date.to_string() == text)
}

pub async fn list(app: Data<App>, Tenant(site): Tenant) -> Answer<Attributes> {
    let all: Vec<(String, AttributeBody)> = shelf::all(&app, site, ItemKind::Attribute).await?;
    let view = |(name, attribute): (String, AttributeBody)| {
        let (whose, name) = name.split_once('/')?;
        let whose = if whose == "visitor" { Whose::Visitor } else { Whose::Conversation };
        Some(AttributeView { whose, name: name.to_owned(), attribute })
    };
    Ok(Json(Attributes { attributes: all.into_iter().filter_map(view).collect() }))
}

pub async fn set(
    app: Data<App>,
    Tenant(site): Tenant,
    of: Path<OfAttribute>,
    body: Json<AttributeBody>,
) -> Answer<AttributeView> {
    let (whose, name) = of.checked()?;
    let attribute = body.into_inner();
    if let Some(fault) = attribute.fault() {
        return Err(Problem::refused(fault));
    }
    shelf::put(&app, site, ItemKind::Attribute, item_name(whose, &name), Some(&attribute)).await?;
    Ok(Json(AttributeView { whose, name, attribute }))
}

/// Also right when there is none. Values that were set stay, and cannot be changed any more.
pub async fn remove(app: Data<App>, Tenant(site): Tenant, of: Path<OfAttribute>) -> Result<HttpResponse, Problem> {
    let (whose, name) = of.checked()?;
    shelf::put::<AttributeBody>(&app, site, ItemKind::Attribute, item_name(whose, &name), None).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Name and value; null takes one away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValuesBody {
    #[serde(default)]
    #[schema(value_type = Object)]
    visitor: BTreeMap<String, Value>,
    #[serde(default)]
    #[schema(value_type = Object)]
    conversation: BTreeMap<String, Value>,
}

/// Each is set once under one key; when one does not fit, none is set.
pub async fn set_values(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    request: HttpRequest,
    body: Json<ValuesBody>,
) -> Answer<Conversation> {
    let ValuesBody { visitor, conversation } = body.into_inner();
    let given = visitor.into_iter().map(|(name, value)| (Whose::Visitor, name, value));
    let given = given.chain(conversation.into_iter().map(|(name, value)| (Whose::Conversation, name, value)));
    let given: Vec<(Whose, String, Value)> = given.collect();
    if given.is_empty() || given.len() > SET_MAX {
        return Err(Problem::refused("1 to 16 attributes at once"));
    }
    // First: what is another site's is not there, whatever is asked of it.
    let mut deeds = Deeds::begin(&app, &caller, &path.session, &request).await?;
    let schema: Vec<(String, AttributeBody)> = shelf::all(&app, caller.site, ItemKind::Attribute).await?;
    let schema: BTreeMap<String, AttributeBody> = schema.into_iter().collect();
    let mut acts = Vec::new();
    for (whose, name, value) in given {
        let key = item_name(whose, &name);
        let attribute =
            schema.get(&key).ok_or_else(|| Problem::refused(format!("{key}: there is no such attribute")))?;
        let text = match value {
            Value::Null => None,
            value => Some(attribute.text_of(&value).map_err(|wants| Problem::refused(format!("{key}: is {wants}")))?),
        };
        acts.push((key, Act::Attribute { whose, name, value: text }));
    }
    for (key, act) in acts {
        let what = What::Act(act);
        // Under one key another value is another deed.
        let part = format!("attribute {key} {}", what.name());
        deeds.say(&part, what).await?;
    }
    Ok(Json(deeds.end().await))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(kind: Kind, options: &[&str]) -> AttributeBody {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        AttributeBody { kind, title: String::new(), options }
    }

    #[test]
    fn a_value_fits_the_type_of_its_attribute_or_is_refused() {
        let choice = of(Kind::Choice, &["free", "pro"]);
        for (attribute, value, text) in [
            (of(Kind::Text, &[]), json!("Zoë 你好"), Some("Zoë 你好")),
            (of(Kind::Text, &[]), json!(""), None),
            (of(Kind::Text, &[]), json!("a\nb"), None),
            (of(Kind::Text, &[]), json!("x".repeat(257)), None),
            (of(Kind::Text, &[]), json!(7), None),
            (of(Kind::Number, &[]), json!(-7.5), Some("-7.5")),
            (of(Kind::Number, &[]), json!("7"), None),
            (of(Kind::Boolean, &[]), json!(true), Some("true")),
            (of(Kind::Boolean, &[]), json!("true"), None),
            (of(Kind::Date, &[]), json!("2026-02-28"), Some("2026-02-28")),
            (of(Kind::Date, &[]), json!("2026-02-29"), None),
            (of(Kind::Date, &[]), json!("20260228"), None),
            (choice.clone(), json!("pro"), Some("pro")),
            (choice.clone(), json!("gold"), None),
            (choice.clone(), json!(["pro"]), None),
        ] {
            assert_eq!(attribute.text_of(&value).ok().as_deref(), text, "{attribute:?} {value}");
        }
        assert!(choice.fault().is_none());
        for wrong in [of(Kind::Choice, &[]), of(Kind::Text, &["a"]), of(Kind::Choice, &[""])] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
