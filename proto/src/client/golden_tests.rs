//! Owns the check of `golden/client/`: what was once published still reads and writes the same bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use serde::Deserialize;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "golden", "client"].iter().collect()
}

/// File name without `.json` -> its text without the final line break.
fn goldens() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        found.insert(name, std::fs::read_to_string(&path).unwrap().trim_end_matches('\n').to_owned());
    }
    found
}

fn document(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", name].iter().collect();
    std::fs::read_to_string(path).unwrap()
}

fn same<'a, T: serde::Serialize + Deserialize<'a>>(name: &str, text: &'a str) {
    let value: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_string(&value).unwrap(), text, "{name}");
}

#[test]
fn every_golden_reads_and_writes_the_same_bytes() {
    for (name, text) in goldens() {
        if name.starts_with("client-") {
            let frame = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(frame.to_json(), text, "{name}");
        } else if name.starts_with("server-") {
            let frame: ServerFrame<'_> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(frame.to_json(), text, "{name}");
            assert_eq!(serde_json::to_string(&frame).unwrap(), text, "{name}");
        } else {
            match name.as_str() {
                "http-visitor-created" => same::<http::VisitorCreated>(&name, &text),
                "http-site" | "http-site-closed" => same::<http::SiteState>(&name, &text),
                "http-login" => same::<http::Login>(&name, &text),
                "http-logged-in" => same::<http::LoggedIn>(&name, &text),
                "http-error" => same::<http::ErrorBody<'_>>(&name, &text),
                "refused" => {}
                other => panic!("{other}.json has no reader"),
            }
        }
    }
}

#[test]
fn every_verb_reply_and_code_has_a_golden() {
    let goldens = goldens();
    let has = |prefix: String| goldens.keys().any(|name| name.starts_with(&prefix));
    for verb in request::VERBS {
        assert!(has(format!("client-{verb}")), "{verb}");
    }
    for reply in reply::REPLIES {
        assert!(has(format!("server-{reply}")), "{reply}");
    }
    for code in ErrorCode::ALL {
        assert!(goldens.contains_key(&format!("server-error-{code}")), "{code}");
    }
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    frame: String,
    id: Option<u64>,
    code: ErrorCode,
    message: String,
}

#[test]
fn every_named_bad_frame_gets_its_own_answer() {
    let text = std::fs::read_to_string(folder().join("refused.json")).unwrap();
    let refused: Vec<Refused> = serde_json::from_str(&text).unwrap();
    assert!(refused.len() >= 40);
    for case in refused {
        let error = parse(case.frame.as_bytes()).expect_err(&case.name);
        let told = (error.id, error.code, &*error.message);
        assert_eq!(told, (case.id, case.code, &*case.message), "{}", case.name);
    }
}

#[test]
fn the_documents_hold_every_golden_verb_and_code() {
    let protocol = document("PROTOCOL.md");
    let asyncapi = document("asyncapi.yaml");
    for (name, text) in goldens() {
        if name == "refused" {
            continue;
        }
        assert!(protocol.contains(&text), "PROTOCOL.md lacks the text of {name}.json");
        if !name.starts_with("http-") && !name.starts_with("server-error-") {
            assert!(asyncapi.contains(&format!("{name}.json")), "asyncapi.yaml lacks {name}.json");
        }
    }
    for word in request::VERBS.iter().chain(&reply::REPLIES) {
        assert!(asyncapi.contains(&format!("_{word}:\n      name: {word}\n")), "asyncapi.yaml lacks {word}");
    }
    for code in ErrorCode::ALL {
        assert!(protocol.contains(&format!("| `{code}` |")), "PROTOCOL.md lacks {code}");
        assert!(asyncapi.contains(&format!("- {code}\n")), "asyncapi.yaml lacks {code}");
    }
}
