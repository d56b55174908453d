//! Owns the list of fields with a text, out of a document: OpenAPI's of the site's API. Does not know what they mean. Invariant: a text
//! that the document has is in the list, wherever it stands.

use serde_json::Value;
use std::collections::BTreeMap;

/// Where a text stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Path(String),
    Query(String),
    Header(String),
    /// Names with dots between them; `[]`: each of a list, `{name}` and `{value}`: of whatever stands in an object.
    Body(String),
}

/// A text of a request.
#[derive(Debug, Clone)]
pub struct Field {
    pub operation: String,
    pub method: String,
    pub path: String,
    pub place: Place,
    /// The document says which texts are right.
    pub is_closed: bool,
}

impl Field {
    /// As the tables of tests have it: `canned_set body text`.
    pub fn name(&self) -> String {
        let (kind, name) = match &self.place {
            Place::Path(name) => ("path", name),
            Place::Query(name) => ("query", name),
            Place::Header(name) => ("header", name),
            Place::Body(name) => ("body", name),
        };
        format!("{} {kind} {name}", self.operation)
    }
}

/// Every text of every request.
pub fn of_document(document: &Value) -> Vec<Field> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let mut places = Vec::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().unwrap_or_default();
                for (at, is_closed) in texts_of(document, &parameter["schema"]) {
                    let name = format!("{name}{at}");
                    let place = match parameter["in"].as_str() {
                        Some("path") => Place::Path(name),
                        Some("query") => Place::Query(name),
                        _ => Place::Header(name),
                    };
                    places.push((place, is_closed));
                }
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            places.extend(texts_of(document, body).into_iter().map(|(at, is)| (Place::Body(at), is)));
            let field = |(place, is_closed)| Field {
                operation: operation["operationId"].as_str().unwrap_or_default().to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                place,
                is_closed,
            };
            all.extend(places.into_iter().map(field));
        }
    }
    all
}

/// Places of texts in a form of a document, and whether the document says which are right.
pub fn texts_of(document: &Value, schema: &Value) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    walk(document, schema, "", &mut found);
    found
}

fn walk(document: &Value, schema: &Value, at: &str, found: &mut BTreeMap<String, bool>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        return walk(document, target, at, found);
    }
    for kind in ["oneOf", "anyOf", "allOf"] {
        for one in schema[kind].as_array().into_iter().flatten() {
            walk(document, one, at, found);
        }
    }
    let types = &schema["type"];
    let is_a = |name: &str| types == name || types.as_array().is_some_and(|types| types.iter().any(|one| one == name));
    if is_a("string") {
        let is_closed = !schema["enum"].is_null() || !schema["pattern"].is_null() || !schema["const"].is_null();
        // One of several forms that is open makes it so.
        *found.entry(at.to_owned()).or_insert(true) &= is_closed;
    }
    if is_a("array") {
        walk(document, &schema["items"], &format!("{at}[]"), found);
    }
    let named = schema["properties"].as_object();
    for (name, of) in named.into_iter().flatten() {
        let inner = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        walk(document, of, &inner, found);
    }
    if is_a("object") && named.is_none_or(serde_json::Map::is_empty) {
        // Whatever stands in it: nobody has said what may not.
        found.insert(format!("{at}{{name}}"), false);
        found.insert(format!("{at}{{value}}"), false);
    }
}

/// The body with that text in that place, if the body has the place.
pub fn with_text(body: &Value, at: &str, text: &str) -> Option<Value> {
    if at.is_empty() {
        return body.is_string().then(|| text.into());
    }
    if let Some(rest) = at.strip_prefix("[]") {
        let rest = rest.trim_start_matches('.');
        let list = body.as_array()?;
        let (index, replaced) =
            list.iter().enumerate().find_map(|(index, one)| Some((index, with_text(one, rest, text)?)))?;
        let mut list = list.clone();
        list[index] = replaced;
        return Some(list.into());
    }
    let mut object = body.as_object()?.clone();
    match at {
        "{name}" => {
            let (name, value) = object.iter().next().map(|(name, value)| (name.clone(), value.clone()))?;
            object.remove(&name);
            object.insert(text.to_owned(), value);
        }
        "{value}" => {
            let name = object.keys().next()?.clone();
            object.insert(name, text.into());
        }
        _ => {
            let end = at.find(['.', '[', '{']).unwrap_or(at.len());
            let (name, rest) = at.split_at(end);
            let replaced = with_text(object.get(name)?, rest.trim_start_matches('.'), text)?;
            object.insert(name.to_owned(), replaced);
        }
    }
    Some(object.into())
}

/// Whether a text stands in what was read: as a text or as a name, whole.
pub fn holds(read: &Value, text: &str) -> bool {
    match read {
        Value::String(found) => found == text,
        Value::Array(all) => all.iter().any(|one| holds(one, text)),
        Value::Object(all) => all.iter().any(|(name, value)| name == text || holds(value, text)),
        _ => false,
    }
}
