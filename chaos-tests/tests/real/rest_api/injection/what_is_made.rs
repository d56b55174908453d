//! Owns the test of what is made of texts: pages, e-mails, requests of webhooks, tables. One site writes every text of the corpora wherever
//! people write; what comes of it is built as what comes of a harmless text.

use super::asker::{Asker, Request};
use super::fields::holds;
use super::*;
use base64ct::{Base64UrlUnpadded, Encoding};
use chaos_tests::receiver::Receiver;
use chaos_tests::smtp::SmtpServer;
use chaos_tests::socket::Socket;
use mail_parser::{MessageParser, MimeHeaders};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const HARMLESS: &str = "good day";
/// Longest wait for everything that is sent.
const SENT_WITHIN: Duration = Duration::from_secs(90);
/// Whom transcripts and messages that were left go to.
const BOSS: &str = "boss@shop.example";
const DESK: &str = "desk@shop.example";

struct Shop {
    cluster: Cluster,
    server: SmtpServer,
    receiver: Receiver,
    asker: Asker,
    owner: String,
    anns: String,
    key: Vec<u8>,
    _at_desk: Person,
    ann: AgentId,
}

/// How something is built, by what it is: all of them are built alike.
#[derive(Default)]
struct Shapes(BTreeMap<String, (Vec<String>, usize)>);

impl Shapes {
    fn add(&mut self, what: &str, shape: Vec<String>, of: &str) -> anyhow::Result<()> {
        let (usual, count) = self.0.entry(what.to_owned()).or_insert_with(|| (shape.clone(), 0));
        *count += 1;
        ensure!(*usual == shape, "{what}, of {of:.60?}: {shape:#?}, and usually {usual:#?}");
        Ok(())
    }
}

impl Shop {
    async fn start() -> anyhow::Result<Shop> {
        let (server, receiver) = (SmtpServer::start().await?, Receiver::start("127.0.0.1").await?);
        let url = server.url();
        let args = ["--smtp-url", &url, "--mail-from", "chat@everdesk.example", "--webhook-allow", "127.0.0.0/8"];
        let cluster = Cluster::start_with(1, &args).await?;
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        let (ann, anns) = person(&cluster, SITE, "ann", "agent").await?;
        let (_, at_desk) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
        let (asker, key) = (Asker::new(&cluster.node(1).client), Vec::new());
        let mut shop = Shop { cluster, server, receiver, asker, owner, anns, key, _at_desk: at_desk, ann };
        let mail = json!({ "on": true, "missed_after_s": 2, "form_after_s": 2, "forms_to": DESK,
            "base_url": "https://chat.shop.example" });
        let hook = json!({ "url": shop.receiver.url() });
        for (path, body) in [
            (format!("/v1/seats/{ann}"), json!({ "capacity": 10_000 })),
            ("/v1/attributes/visitor/plan".to_owned(), json!({ "type": "text" })),
            ("/v1/mail".to_owned(), mail),
            ("/v1/webhooks/crm".to_owned(), hook),
        ] {
            shop.done("PUT", &path, Some(body)).await?;
        }
        let made = shop.done("PUT", "/v1/identity-keys/one", None).await?;
        shop.key = Base64UrlUnpadded::decode_vec(made["secret"].as_str().context("no secret")?)?;
        Ok(shop)
    }

    async fn ask(&mut self, token: &str, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Answer> {
        let (method, path, token) = (method.to_owned(), path.to_owned(), token.to_owned());
        self.asker.ask(&Request { method, path, token, body, ..Request::default() }).await
    }

    async fn done(&mut self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let owner = self.owner.clone();
        let answer = self.ask(&owner, method, path, body).await?;
        ensure!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text());
        if answer.body.is_empty() { Ok(Value::Null) } else { json_of(&answer) }
    }

    /// A visitor who proved to be called so, or, if nobody can be called so, Bea; with a socket.
    async fn visitor(&mut self, at: usize, name: &str) -> anyhow::Result<(String, String, Socket)> {
        let (user, email) = (format!("u{at}"), format!("v{at}@example.com"));
        let mut made = None;
        for name in [name, "Bea"] {
            let proof =
                super::super::visitors::token_of(&self.key, (&user, name, &email), &format!("j{at}-{}", name.len()));
            let body = json!({ "identity": { "token": proof } });
            let answer = self.ask("", "POST", &format!("/v1/sites/{SITE}/visitors"), Some(body)).await?;
            if answer.status == 200 {
                made = Some(json_of(&answer)?);
                break;
            }
        }
        let made = made.context("nobody is let in")?;
        let text = |name: &str| made[name].as_str().map(str::to_owned).context("a field is missing");
        let (session, token) = (text("session")?, text("token")?);
        let socket = Socket::hello(&self.cluster.node(1).client, &token, None).await?;
        Ok((session, token, socket))
    }

    /// Says the text in every way in which people of a site and a visitor say something; false: it is none that can be said.
    async fn talk(&mut self, at: usize, text: &str, shapes: &mut Shapes) -> anyhow::Result<bool> {
        let (session, token, mut socket) = self.visitor(at, text).await?;
        let (mut told, path) = (Vec::new(), format!("/v1/conversations/{session}"));
        let mut frame = async |id: u64, verb: &str, mut body: Value| {
            body["session"] = session.clone().into();
            socket.ask(&json!({ "id": id, verb: body }), SOON, &mut told).await
        };
        // What nobody may say is not said; the rest of the pages is there all the same.
        frame(2, "about", json!({ "facts": { "page": text } })).await?;
        let (page, from) = (format!("https://shop.example/{text}"), format!("https://search.example/?q={text}"));
        let visit = json!({ "trail": [{ "url": page, "title": text, "at": 1 }], "referrer": from });
        // A longer one is no frame.
        if text.len() < 5_000 {
            frame(3, "visit", visit).await?;
        }
        let (owner, anns) = (self.owner.clone(), self.anns.clone());
        let invited = self.ask(&anns, "POST", &format!("{path}/invite"), Some(json!({ "text": text }))).await?;
        if invited.status != 200 {
            ensure!((400..500).contains(&invited.status), "{}", invited.text());
            return Ok(false);
        }
        let name = if text.len() < 5_000 { super::asker::encoded(text) } else { "x".to_owned() };
        let (method, upload) = ("POST".to_owned(), format!("/v1/attachments?name={name}"));
        let file =
            Request { method, path: upload, token: token.clone(), file: Some(text.into()), ..Request::default() };
        let id = self.asker.json(&file).await?["id"].clone();
        let said = frame(4, "send", json!({ "cid": "a", "text": text, "attachments": [id] })).await?;
        ensure!(!said["ack"].is_null(), "{said}");
        let (asker, ann) = (&mut self.asker, self.ann.to_string());
        let view = Request { method: "GET".into(), path: path.clone(), token: owner.clone(), ..Request::default() };
        let given = wait::until("it is ann's", SOON, async || {
            let view = asker.json(&view).await.ok()?;
            (view["agent"] == ann).then_some(())
        });
        given.await?;
        for body in
            [json!({ "text": text }), json!({ "note": { "text": text } }), json!({ "label": { "label": text } })]
        {
            self.ask(&anns, "POST", &format!("{path}/events"), Some(body)).await?;
        }
        self.ask(&anns, "PUT", &format!("{path}/attributes"), Some(json!({ "visitor": { "plan": text } }))).await?;
        // As the site calls itself, if it can.
        self.ask(&owner, "PUT", "/v1/mail", Some(json!({ "sender": text }))).await?;
        for (what, token, path) in [
            ("an agent's transcript", &owner, format!("{path}/transcript?notes=true")),
            ("a visitor's transcript", &token, "/v1/visitors/transcript".to_owned()),
        ] {
            let page = self.ask(token, "GET", &path, None).await?;
            ensure!(page.status == 200, "{what}: {} {}", page.status, page.text());
            shapes.add(what, shape::of_page(&page.text())?, text)?;
            let join = if path.contains('?') { '&' } else { '?' };
            let json = self.ask(token, "GET", &format!("{path}{join}format=json"), None).await?;
            ensure!(holds(&json_of(&json)?, text), "{what} has not what was said: {}", json.text());
        }
        self.done("POST", "/v1/mail/test", Some(json!({ "to": format!("test{at}@shop.example") }))).await?;
        self.done("POST", &format!("{path}/transcript/mail"), Some(json!({ "to": BOSS }))).await?;
        Ok(true)
    }

    /// While the site is closed.
    async fn leave(&mut self, at: usize, text: &str) -> anyhow::Result<()> {
        let (session, _, mut socket) = self.visitor(at, text).await?;
        for (id, verb, body) in [
            (2, "about", json!({ "session": session, "facts": { "page": text } })),
            (3, "send", json!({ "session": session, "cid": "a", "text": text })),
        ] {
            let answer = socket.ask(&json!({ "id": id, verb: body }), SOON, &mut Vec::new()).await?;
            ensure!(verb == "about" || !answer["ack"].is_null(), "{answer}");
        }
        Ok(())
    }

    /// Until so many e-mails came to whoever `is_to` names.
    async fn came(&mut self, count: usize, is_to: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let came = wait::until("the e-mails came", SENT_WITHIN, async || {
            let ids = self.server.taken().into_iter().filter(|came| is_to(&came.to[0]));
            let ids: BTreeSet<String> = ids.filter_map(|came| id_of(&came.text)).collect();
            (ids.len() >= count).then_some(())
        });
        if let Err(error) = came.await {
            let queue = self.done("GET", "/v1/mail/queue", None).await?;
            let tried: BTreeSet<String> =
                self.server.came().into_iter().map(|came| came.to[0].clone()).filter(|to| is_to(to)).collect();
            anyhow::bail!(
                "{error:#}: {} of {count} people were written to, {tried:?}; what waits: {queue}",
                tried.len()
            );
        }
        Ok(())
    }
}

fn id_of(text: &[u8]) -> Option<String> {
    MessageParser::default().parse(text)?.message_id().map(str::to_owned)
}

/// Its headers, its parts, and the tags of its page.
fn shape_of_email(text: &[u8]) -> anyhow::Result<Vec<String>> {
    let email = MessageParser::default().parse(text).context("it is no e-mail")?;
    let mut shape: Vec<String> = email.headers().iter().map(|header| header.name().to_owned()).collect();
    for part in &email.parts {
        let kind = part.content_type().map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()));
        shape.push(format!("part {} {}", kind.unwrap_or_default(), part.headers.len()));
    }
    let people = |list: Option<&mail_parser::Address<'_>>| list.map_or(0, |list| list.iter().count());
    shape.push(format!("from {} to {} cc {}", people(email.from()), people(email.to()), people(email.cc())));
    ensure!(email.html_body_count() == 1 && email.attachment_count() == 0, "it has other parts");
    shape.extend(shape::of_page(&email.body_html(0).context("no page")?)?);
    Ok(shape)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_written_pages_e_mails_webhooks_and_tables_are_built_as_of_a_harmless_text() -> anyhow::Result<()> {
    let mut shop = Shop::start().await?;
    let (mut shapes, mut said) = (Shapes::default(), Vec::new());
    let texts: Vec<String> = std::iter::once(HARMLESS.to_owned()).chain(corpus::texts()).collect();
    for (at, text) in texts.iter().enumerate() {
        if shop.talk(at, text, &mut shapes).await.with_context(|| format!("{text:.60?}"))? {
            said.push((at, text));
        }
    }
    ensure!(said.len() > texts.len() * 9 / 10, "only {} of {} were said", said.len(), texts.len());
    shop.came(said.len(), |to| to.starts_with('v')).await.context("missed messages")?;
    shop.came(said.len(), |to| to == BOSS).await.context("transcripts")?;
    let hours = json!({ "hours": { "zone": "UTC", "days": [{ "date": "2099-01-01", "open": [{ "from": "10:00", "to": "11:00" }] }] } });
    shop.done("PUT", "/v1/rules", Some(hours)).await?;
    let closed = wait::until("it is closed", SOON, async || {
        let state = shop.ask("", "GET", &format!("/v1/sites/{SITE}"), None).await.ok()?;
        json_of(&state).ok().filter(|state| state["open"] == false)
    });
    closed.await?;
    for (at, text) in &said {
        shop.leave(1_000 + at, text).await.with_context(|| format!("{text:.60?}"))?;
    }
    shop.came(said.len(), |to| to == DESK).await.context("messages that were left")?;
    for came in shop.server.taken() {
        ensure!(came.from == "chat@everdesk.example" && came.to.len() == 1, "{came:?}");
        let what = match came.to[0].split('@').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit())
        {
            to @ ("v" | "test" | "boss" | "desk") => format!("an e-mail to {to}"),
            _ => anyhow::bail!("somebody else gets an e-mail: {:?}", came.to),
        };
        let shape = shape_of_email(&came.text);
        let shape = shape.with_context(|| String::from_utf8_lossy(&came.text).into_owned())?;
        shapes.add(&what, shape, &String::from_utf8_lossy(&came.text))?;
    }
    webhooks_are_alike(&shop, &said, &mut shapes).await?;
    nothing_is_a_formula(&mut shop).await?;
    for (what, (tags, count)) in &shapes.0 {
        println!("{what}: {count}, each of {} parts", tags.len());
    }
    Ok(())
}

async fn webhooks_are_alike(shop: &Shop, said: &[(usize, &String)], shapes: &mut Shapes) -> anyhow::Result<()> {
    let all = wait::until("every text was told", SENT_WITHIN, async || {
        let deliveries = shop.receiver.deliveries();
        let is_told = |text: &String| deliveries.iter().any(|delivery| holds(&delivery.body["event"], text));
        said.iter().all(|(_, text)| is_told(text)).then_some(deliveries)
    });
    for delivery in all.await? {
        shapes.add("a webhook", delivery.headers, &delivery.text)?;
    }
    Ok(())
}

async fn nothing_is_a_formula(shop: &mut Shop) -> anyhow::Result<()> {
    let owner = shop.owner.clone();
    let table = shop.ask(&owner, "GET", "/v1/reports/summary?group_by=label&format=csv", None).await?;
    ensure!(table.status == 200, "{}", table.text());
    let mut reader = csv::ReaderBuilder::new().from_reader(table.body.as_slice());
    let (mut rows, mut cells) = (0, 0);
    for row in reader.records() {
        rows += 1;
        for cell in &row? {
            cells += 1;
            let is_number = cell.parse::<f64>().is_ok();
            let begins = |c: char| matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠') || c.is_control();
            ensure!(is_number || !cell.starts_with(begins), "a formula: {cell:?}");
        }
    }
    ensure!(rows > 20, "only {rows} rows");
    println!("a table: {rows} rows, {cells} cells");
    Ok(())
}
