//! Owns the test of those routes for visitors and pages that are not in the document of the site's API. Does not test what they do.

use super::asker::{Asker, Request, encoded};
use super::*;

/// Longer texts stand in no path.
const LINE_BYTES_MAX: usize = 5_000;

/// Everything that is asked with one text; `good`: the token of a visitor.
fn requests(text: &str, session: &str, good: &str) -> Vec<(&'static str, Request)> {
    let get = |path: String, token: &str| Request {
        method: "GET".into(),
        path,
        token: token.to_owned(),
        ..Request::default()
    };
    let post =
        |path: String, body: Value| Request { method: "POST".into(), path, body: Some(body), ..Request::default() };
    let visitors = format!("/v1/sites/{SITE}/visitors");
    let mut all = vec![
        ("a site to log in to", post("/v1/agents/login".into(), json!({ "site": text, "name": "x", "password": "x" }))),
        ("a name to log in", post("/v1/agents/login".into(), json!({ "site": SITE, "name": text, "password": "x" }))),
        ("a token of identity", post(visitors.clone(), json!({ "identity": { "token": text } }))),
        (
            "a name of identity",
            post(visitors.clone(), json!({ "identity": { "hmac": { "user": text, "hash": "0" } } })),
        ),
        (
            "a hash of identity",
            post(visitors.clone(), json!({ "identity": { "hmac": { "user": "x", "hash": text } } })),
        ),
        ("a session of before", post(visitors, json!({ "identity": { "token": "x" }, "was": text }))),
    ];
    let mut mail = post("/v1/visitors/transcript/mail".into(), json!({ "to": text }));
    mail.token = good.to_owned();
    all.push(("an address for a transcript", mail));
    if text.len() > LINE_BYTES_MAX {
        return all;
    }
    let part = encoded(text);
    all.extend([
        ("a site", get(format!("/v1/sites/{part}"), "")),
        ("a site for visitors", post(format!("/v1/sites/{part}/visitors"), json!({}))),
        ("a form of a transcript", get(format!("/v1/visitors/transcript?format={part}"), good)),
        ("a session of an image", get(format!("/v1/images/{part}/0a1b2c3d4e5f60718293a4b5c6d7e8f9"), good)),
        ("an attachment", get(format!("/v1/files/{session}/{part}"), good)),
        ("a thumbnail", get(format!("/v1/images/{session}/{part}/thumbnail"), good)),
        ("a signature", get(format!("/v1/files/{session}/0a1b2c3d4e5f60718293a4b5c6d7e8f9?until=1&sign={part}"), "")),
        (
            "a time of a signature",
            get(format!("/v1/files/{session}/0a1b2c3d4e5f60718293a4b5c6d7e8f9?until={part}&sign=x"), ""),
        ),
        ("a file of the demo", get(format!("/demo/{part}"), "")),
        ("a path", get(format!("/{part}"), "")),
        (
            "a key to unsubscribe",
            Request { method: "POST".into(), ..get(format!("/v1/unsubscribe/{session}?key={part}"), "") },
        ),
        (
            "a session to unsubscribe",
            Request { method: "POST".into(), ..get(format!("/v1/unsubscribe/{part}?key=0"), "") },
        ),
    ]);
    all
}

#[tokio::test]
async fn texts_in_routes_of_visitors_and_pages_are_refused_and_named_files_are_kept_by_a_plain_name()
-> anyhow::Result<()> {
    let cluster = Cluster::start(1).await?;
    let new = http::create_visitor(&cluster.node(1).client, SITE).await?;
    let (session, mut asker) = (new.session.to_string(), Asker::new(&cluster.node(1).client));
    let (mut wrong, mut cases, mut fields, mut usual_page) = (Vec::new(), 0, 0, None);
    for text in corpus::texts() {
        let all = requests(&text, &session, &new.token);
        fields = fields.max(all.len() + 2);
        for (what, request) in all {
            cases += 1;
            match asker.ask(&request).await {
                Ok(answer) if (400..500).contains(&answer.status) => {}
                Ok(answer) => wrong.push(format!("{what} {text:.60?}: {}", answer.status)),
                Err(error) => wrong.push(format!("{what} {text:.60?}: {error:#}")),
            }
        }
        if text.len() > LINE_BYTES_MAX {
            continue;
        }
        cases += 2;
        // The page asks for nothing but a click: the address is the business of whoever clicks.
        let (method, path) = ("GET".to_owned(), format!("/v1/unsubscribe/{0}?key={0}", encoded(&text)));
        let page = asker.ask(&Request { method, path, ..Request::default() }).await?;
        let usual = usual_page.get_or_insert_with(|| page.body.clone());
        if page.status != 200 || page.body != *usual {
            wrong.push(format!("the page to unsubscribe {text:.60?}: {}", page.text()));
        }
        // Not more files than a session takes in a day.
        let (method, path) = ("POST".to_owned(), format!("/v1/attachments?name={}", encoded(&text)));
        let upload =
            Request { method, path, token: new.token.clone(), file: Some(b"a text".to_vec()), ..Request::default() };
        let told = asker.json(&upload).await?;
        let name = told["name"].as_str().context("no name")?;
        let is_plain =
            !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\\']) && !name.contains(char::is_control);
        if !is_plain {
            wrong.push(format!("the name of a file {text:.60?}: {name:?}"));
        }
        // As it stands in the header of whoever saves it.
        let url = told["url"].as_str().context("no url")?.to_owned();
        let saved = asker.ask(&Request { method: "GET".into(), path: url, ..Request::default() }).await?;
        let how = chaos_tests::http::header(&saved.head, "content-disposition").unwrap_or_default().to_owned();
        let parts =
            how.strip_prefix("attachment; filename=\"").and_then(|rest| rest.split_once("\"; filename*=UTF-8''"));
        let is_right = parts.is_some_and(|(plain, encoded)| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '%');
            plain.chars().chain(encoded.chars()).all(is_plain) && !plain.contains('%')
        });
        if !is_right || saved.body != b"a text" {
            wrong.push(format!("the header of a file {text:.60?}: {how}"));
        }
    }
    println!("{fields} fields beside the document, {cases} cases");
    ensure!(wrong.is_empty(), "{} of {cases}: {wrong:#?}", wrong.len());
    Ok(())
}
