//! Owns `everdesk admin`: one command for each route, made from the table of routes. Does not know what the routes do.
//! Invariant: a route that is in the table has its command, with every parameter and field.

use super::call::{self, Target};
use super::show::shown;
use crate::admin::{Method, Route, openapi, table};
use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use serde_json::{Map, Value};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Between two looks unless `--watch` says otherwise, in seconds.
const WATCH_S: &str = "2";

/// A parameter of the query, or a field of the body.
struct Field {
    name: String,
    about: String,
    is_required: bool,
    kind: Kind,
    choices: Vec<String>,
    is_secret: bool,
}

/// How a flag's text becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Bool,
    /// Names with commas between them.
    Names,
    Json,
}

/// One command for each route, below its noun.
pub fn commands() -> Vec<Command> {
    let document = document();
    let mut nouns: Vec<Command> = Vec::new();
    for route in table() {
        let (noun, verb) = route.words.split_once(' ').expect("a test says that each route has two words");
        let command = command_of(&route, verb, &document);
        match nouns.iter().position(|known| known.get_name() == noun) {
            Some(at) => nouns[at] = nouns[at].clone().subcommand(command),
            None => {
                let about = format!("Everything about {}", noun.replace('-', " "));
                let below = Command::new(noun).about(about).subcommand_required(true).arg_required_else_help(true);
                nouns.push(below.subcommand(command));
            }
        }
    }
    nouns
}

fn document() -> Value {
    serde_json::to_value(openapi::document()).expect("a document is plain data")
}

fn command_of(route: &Route, verb: &'static str, document: &Value) -> Command {
    let mut command = Command::new(verb).about(route.about);
    for (at, name) in route.path_parameters().enumerate() {
        command = command.arg(Arg::new(name).required(true).index(at + 1).help(format!("The {name}")));
    }
    for field in fields(route, document) {
        let flag = field.name.replace('_', "-");
        let mut arg = Arg::new(format!("field-{}", field.name)).help(field.about);
        if field.is_secret {
            // Secrets in arguments would be seen by others.
            arg = arg.long(format!("{flag}-stdin")).action(ArgAction::SetTrue).required(field.is_required);
        } else {
            arg = arg.long(flag).required(field.is_required);
            arg = match field.kind {
                Kind::Names => arg.value_name("NAME,..."),
                Kind::Json => arg.value_name("JSON"),
                Kind::Bool => arg.value_parser(["true", "false"]),
                Kind::Text | Kind::Number => arg,
            };
            if !field.choices.is_empty() {
                arg = arg.value_parser(clap::builder::PossibleValuesParser::new(field.choices));
            }
        }
        command = command.arg(arg);
    }
    if route.method.is_write() {
        let key = Arg::new("key").long("idempotency-key").value_name("KEY");
        command = command.arg(key.help("Repeat safely: the same key gets the first answer again"));
    } else {
        let watch =
            Arg::new("watch").long("watch").value_name("SECONDS").num_args(0..=1).default_missing_value(WATCH_S);
        command =
            command.arg(watch.value_parser(clap::value_parser!(u64).range(1..=3600)).help("Look again and again"));
    }
    command = command.arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("The answer as it is")).arg(
        Arg::new("output")
            .long("output")
            .short('o')
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Write the answer into this file"),
    );
    Target::augment_args(command)
}

/// The schema behind references.
fn resolved<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        Some(path) => document.pointer(path).unwrap_or(schema),
        None => schema,
    }
}

fn operation<'a>(route: &Route, document: &'a Value) -> &'a Value {
    &document["paths"][route.path][route.method.name().to_lowercase()]
}

fn fields(route: &Route, document: &Value) -> Vec<Field> {
    let operation = operation(route, document);
    let of_query = operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query");
    let mut fields: Vec<Field> = of_query
        .map(|one| {
            let name = one["name"].as_str().unwrap_or_default();
            field(name, &one["schema"], document, one["description"].as_str(), false)
        })
        .collect();
    let body = resolved(&operation["requestBody"]["content"]["application/json"]["schema"], document);
    let required: Vec<&str> = body["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, schema) in body["properties"].as_object().into_iter().flatten() {
        fields.push(field(name, schema, document, None, required.contains(&name.as_str())));
    }
    fields
}

fn field(name: &str, schema: &Value, document: &Value, about: Option<&str>, is_required: bool) -> Field {
    // An enum may stand beside null, or carry its text value by value.
    let own = resolved(schema, document);
    let parts: Vec<&Value> =
        own["oneOf"].as_array().into_iter().flatten().map(|part| resolved(part, document)).collect();
    let values = std::iter::once(own)
        .chain(parts.iter().copied())
        .flat_map(|part| part["enum"].as_array().into_iter().flatten());
    let choices: Vec<String> = values.filter_map(Value::as_str).map(str::to_owned).collect();
    let is_of = |schema: &Value, kind: &str| {
        schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&kind.into()))
    };
    let is = |kind: &str| is_of(own, kind) || parts.iter().any(|part| is_of(part, kind));
    let kind = match () {
        () if is("integer") => Kind::Number,
        () if is("boolean") => Kind::Bool,
        () if is("array") && resolved(&own["items"], document)["type"] == "string" => Kind::Names,
        () if is("array") || is("object") => Kind::Json,
        () => Kind::Text,
    };
    let about = about.or(schema["description"].as_str()).or(own["description"].as_str()).unwrap_or_default().to_owned();
    Field { name: name.into(), about, is_required, kind, choices, is_secret: own["format"] == "password" }
}

/// Carries out the command of a route.
/// # Errors
/// What the node refused.
pub fn run(matches: &ArgMatches) -> anyhow::Result<bool> {
    let Some((noun, below)) = matches.subcommand() else { return Ok(false) };
    let Some((verb, given)) = below.subcommand() else { return Ok(false) };
    let words = format!("{noun} {verb}");
    let Some(route) = table().into_iter().find(|route| route.words == words) else { return Ok(false) };
    let target = Target::from_arg_matches(given)?;
    let document = document();
    let mut path = route.path.to_owned();
    for name in route.path_parameters() {
        let value = given.get_one::<String>(name).context("clap asked for it")?;
        path = path.replace(&format!("{{{name}}}"), &escaped(value));
    }
    let values = values(&fields(&route, &document), given)?;
    let mut body = None;
    if route.body.is_some() {
        body = Some(Value::Object(values));
    } else if !values.is_empty() {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let query: Vec<String> =
            values.iter().map(|(name, value)| format!("{name}={}", escaped(&text(value)))).collect();
        path = format!("{path}?{}", query.join("&"));
    }
    if words == "settings watch" {
        call::follow(&target, &path)?;
        return Ok(true);
    }
    let key = route.method.is_write().then(|| given.get_one::<String>("key")).flatten();
    let watch = (route.method == Method::Get).then(|| given.get_one::<u64>("watch")).flatten();
    loop {
        let told = call::ask(&target, route.method.name(), &path, key.map(String::as_str), body.as_ref())?;
        if watch.is_some() {
            // To the top left, and everything below cleared.
            print!("\x1b[H\x1b[2J");
        }
        put(&told, given)?;
        match watch {
            Some(seconds) => pause(Duration::from_secs(*seconds)),
            None => return Ok(true),
        }
    }
}

fn pause(pause: Duration) {
    // Nobody wakes this thread.
    std::thread::park_timeout(pause);
}

fn put(told: &call::Told, given: &ArgMatches) -> anyhow::Result<()> {
    let is_json = told.kind.starts_with("application/json") || told.body.is_empty();
    let bytes = match (is_json, given.get_flag("json")) {
        (true, true) if told.body.is_empty() => Vec::new(),
        (true, true) => [told.body.as_slice(), b"\n"].concat(),
        (true, false) if told.body.is_empty() => b"done\n".to_vec(),
        (true, false) => shown(&told.json()?).into_bytes(),
        (false, _) => told.body.clone(),
    };
    if let Some(file) = given.get_one::<PathBuf>("output") {
        return std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()));
    }
    if !is_json && std::str::from_utf8(&bytes).is_err() {
        bail!("the answer is not text: name a file with --output");
    }
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}

fn values(fields: &[Field], given: &ArgMatches) -> anyhow::Result<Map<String, Value>> {
    let mut values = Map::new();
    for field in fields {
        let id = format!("field-{}", field.name);
        if field.is_secret {
            if given.get_flag(&id) {
                values.insert(field.name.clone(), Value::String(secret_from_stdin()?));
            }
            continue;
        }
        let Some(text) = given.get_one::<String>(&id) else { continue };
        let flag = || field.name.replace('_', "-");
        let value = match field.kind {
            Kind::Number => Value::from(text.parse::<u64>().with_context(|| format!("--{} is a number", flag()))?),
            Kind::Bool => Value::Bool(text == "true"),
            Kind::Names => text.split(',').filter(|name| !name.is_empty()).map(Value::from).collect(),
            Kind::Json => serde_json::from_str(text).with_context(|| format!("--{} is JSON", flag()))?,
            Kind::Text => Value::String(text.clone()),
        };
        values.insert(field.name.clone(), value);
    }
    Ok(values)
}

/// A secret, without the line break that ends it.
/// # Errors
/// It is not text.
pub fn secret_from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => anyhow::anyhow!("the password is not UTF-8"),
        _ => error.into(),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A text as one part of a path or query.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            b'.' if text != "." && text != ".." => out.push('.'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_command_that_clap_takes() {
        let root = Command::new("admin").subcommands(commands());
        root.clone().debug_assert();
        let count: usize = root.get_subcommands().map(|noun| noun.get_subcommands().count()).sum();
        assert_eq!(count, table().len());
    }

    #[test]
    fn bodies_and_choices_become_flags() {
        let root = Command::new("admin").subcommands(commands());
        let line = ["admin", "nodes", "set-state", "n2", "--state", "draining"];
        assert!(root.clone().try_get_matches_from(line).is_ok());
        let line = ["admin", "nodes", "set-state", "n2", "--state", "removed"];
        assert!(root.clone().try_get_matches_from(line).is_err(), "no operator wants that");
        let line = ["admin", "agents", "add", "--site", "demo", "--name", "ann", "--password", "x"];
        assert!(root.clone().try_get_matches_from(line).is_err(), "passwords do not stand in arguments");
        let line = ["admin", "seats", "set", "demo", "a1", "--capacity", "5", "--teams", "t1,t2", "--channels", "[]"];
        let given = root.try_get_matches_from(line).unwrap();
        let (_, seats) = given.subcommand().unwrap();
        let (_, set) = seats.subcommand().unwrap();
        let route = table().into_iter().find(|route| route.words == "seats set").unwrap();
        let told = Value::Object(values(&fields(&route, &document()), set).unwrap());
        assert_eq!(told, serde_json::json!({ "capacity": 5, "teams": ["t1", "t2"], "channels": [] }));
    }

    #[test]
    fn an_id_cannot_lead_to_another_path() {
        assert_eq!(escaped("../x?y#z"), "..%2Fx%3Fy%23z");
        assert_eq!(escaped(".."), "%2E%2E");
    }
}
