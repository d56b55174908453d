//! Owns the test of every text of the site's API: with each text of the corpora, against one node.

use super::asker::{Asker, Request, encoded};
use super::fields::{Field, Place, holds, of_document, with_text};
use super::operations::{ADDRESSES, Form, Target, bodies, form, is_fresh, kept, reads};
use super::*;
use chaos_tests::receiver::Receiver;
use chaos_tests::socket::Socket;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Operations that are exercised at the same time.
const AT_ONCE: usize = 6;
/// Longer texts stand in no path, query or header.
const LINE_BYTES_MAX: usize = 5_000;

/// A site, and whoever asks.
struct Site {
    cluster: Cluster,
    owner: String,
    /// Of a key with every scope: it may write in whatever conversation.
    key: String,
    /// An agent who is online.
    ann: AgentId,
    anns: String,
    _at_desk: Person,
    bob: AgentId,
    listener: Receiver,
    made: AtomicU64,
}

/// A field at work: what it acts on, and the visitor's socket.
struct Stage {
    target: Target,
    visitor: Option<Socket>,
}

impl Site {
    async fn start() -> anyhow::Result<Site> {
        let cluster = Cluster::start(1).await?;
        let addr = cluster.node(1).client.clone();
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        let (ann, anns) = person(&cluster, SITE, "ann", "agent").await?;
        let (bob, _) = person(&cluster, SITE, "bob", "agent").await?;
        let (_, at_desk) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
        let names: Vec<&str> = node::api::SCOPES.iter().map(|(_, name)| *name).collect();
        let key = key(&addr, &owner, "all", &names).await?;
        let mut asker = Asker::new(&addr);
        for (path, body) in [
            (format!("/v1/seats/{ann}"), json!({ "capacity": 10_000 })),
            ("/v1/teams/t9".to_owned(), json!({ "name": "nobody" })),
            ("/v1/attributes/visitor/plan".to_owned(), json!({ "type": "text" })),
            ("/v1/attributes/conversation/order".to_owned(), json!({ "type": "text" })),
            ("/v1/mail".to_owned(), json!({ "on": true, "missed_after_s": 0 })),
        ] {
            let (method, token) = ("PUT".to_owned(), owner.clone());
            asker.json(&Request { method, path, token, body: Some(body), ..Request::default() }).await?;
        }
        let listener = Receiver::start("127.0.0.1").await?;
        Ok(Site { cluster, owner, key, ann, anns, _at_desk: at_desk, bob, listener, made: AtomicU64::new(0) })
    }

    fn addr(&self) -> &str {
        &self.cluster.node(1).client
    }

    /// Whose word a field is.
    fn token(&self, field: &Field) -> &str {
        match field.name().as_str() {
            // Only whoever has the conversation.
            "conversations_send body react.emoji" => &self.anns,
            _ if field.operation == "conversations_invite" || !field.path.starts_with("/v1/conversations") => {
                &self.owner
            }
            _ => &self.key,
        }
    }

    async fn stage(&self, field: &Field, asker: &mut Asker) -> anyhow::Result<Stage> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let agent = if field.operation == "conversations_transfer" { self.ann } else { self.bob };
        let (name, team) = (format!("n{number}"), format!("t{}", 100 + number));
        let mut target = Target { agent: agent.to_string(), name, team, ..Target::default() };
        if !field.path.contains("{session}") && !field.path.contains("{visitor}") {
            return Ok(Stage { target, visitor: None });
        }
        let new = http::create_visitor(self.addr(), SITE).await?;
        (target.session, target.visitor) = (new.session.to_string(), new.visitor.to_string());
        let mut socket = Socket::hello(self.addr(), &new.token, None).await?;
        if field.operation == "conversations_invite" {
            return Ok(Stage { target, visitor: Some(socket) });
        }
        let hello = json!({ "id": 2, "send": { "session": target.session, "cid": "c", "text": "hello" } });
        let answer = socket.ask(&hello, SOON, &mut Vec::new()).await?;
        ensure!(!answer["ack"].is_null(), "{answer}");
        target.seq = 1;
        if field.name() == "conversations_send body edit.text" {
            let path = format!("/v1/conversations/{}/events", target.session);
            let body = Some(json!({ "text": "a first one" }));
            let said = Request { method: "POST".into(), path, token: self.key.clone(), body, ..Request::default() };
            target.seq = asker.json(&said).await?["seq"].as_u64().context("no seq")?;
        }
        if field.name() == "conversations_send body react.emoji" {
            self._at_desk
                .wait("it is ann's", |told| told.holder(new.session).filter(|agent| *agent == self.ann))
                .await?;
        }
        Ok(Stage { target, visitor: None })
    }

    /// The request with that text in the field, if there is such a request.
    fn request(&self, field: &Field, at: &Target, text: &str) -> Option<Request> {
        let fill = |place: &str| field.path.replace(&format!("{{{place}}}"), &encoded(text));
        let all = bodies(&field.operation, at);
        let mut request = Request {
            method: field.method.clone(),
            path: at.path(&field.path),
            token: self.token(field).to_owned(),
            body: all.first().cloned(),
            file: (field.operation == "conversations_upload").then(|| b"a text".to_vec()),
            ..Request::default()
        };
        match &field.place {
            Place::Path(name) => request.path = at.path(&fill(name)),
            Place::Query(name) => request.path = format!("{}?{name}={}", request.path, encoded(text)),
            Place::Header(_) => request.key = Some(text.to_owned()),
            Place::Body(place) => request.body = Some(all.iter().find_map(|body| with_text(body, place, text))?),
        }
        Some(request)
    }

    async fn try_field(&self, field: &Field) -> anyhow::Result<Tried> {
        let (mut tried, mut asker) = (Tried::default(), Asker::new(self.addr()));
        let form = form(field).context("nobody has said what it is")?;
        let mut texts = corpus::texts();
        let is_address = ADDRESSES.contains(&field.name().as_str());
        if is_address {
            texts.extend(corpus::addresses(self.listener.address.port()));
        }
        match field.place {
            Place::Body(_) => {}
            Place::Header(_) => texts.retain(|text| text.len() < 200 && !text.contains(char::is_control)),
            _ => texts.retain(|text| text.len() < LINE_BYTES_MAX),
        }
        let mut stage = self.stage(field, &mut asker).await?;
        for text in texts {
            if is_fresh(field) && tried.taken > 0 {
                stage = self.stage(field, &mut asker).await?;
            }
            if is_address {
                // Each stays, so that it is tried.
                stage.target.name = format!("h{}", tried.taken);
            }
            let judged = self.try_text(field, form, &stage, &text, &mut asker).await;
            match judged.with_context(|| format!("{} {text:.80?}", field.name())) {
                Ok(true) => tried.taken += 1,
                Ok(false) => tried.refused += 1,
                Err(error) => tried.wrong.push(format!("{error:#}")),
            }
        }
        let is_read = form == Form::Open && matches!(field.place, Place::Body(_));
        ensure!(!is_read || tried.taken > 0 || !tried.wrong.is_empty(), "all was refused: that shows nothing");
        Ok(tried)
    }

    /// Whether it was taken.
    async fn try_text(
        &self,
        field: &Field,
        form: Form,
        stage: &Stage,
        text: &str,
        asker: &mut Asker,
    ) -> anyhow::Result<bool> {
        let _is_open = &stage.visitor;
        let request = self.request(field, &stage.target, text).context("no body has a place for it")?;
        let answer = asker.ask(&request).await?;
        if answer.status >= 300 {
            return Ok(false);
        }
        ensure!(form != Form::Closed, "it has a closed form, and this was taken: {}", answer.text());
        let told: Value = if answer.body.is_empty() { Value::Null } else { serde_json::from_slice(&answer.body)? };
        if form == Form::Secret {
            ensure!(!holds(&told, text), "it is told");
        } else if field.name() == "conversations_upload query name" {
            is_name_of_a_file(told["name"].as_str().context("no name")?)?;
        } else if matches!(field.place, Place::Path(_) | Place::Body(_)) && field.method != "DELETE" {
            let read = match reads(&field.operation, &stage.target) {
                Some(path) => {
                    let (method, token) = ("GET".to_owned(), self.owner.clone());
                    asker.json(&Request { method, path, token, ..Request::default() }).await?
                }
                None => told,
            };
            ensure!(holds(&read, &kept(field, text)), "it is not kept as it was written: {:.2000}", read.to_string());
        }
        Ok(true)
    }
}

/// By docs/ATTACHMENTS.md.
fn is_name_of_a_file(name: &str) -> anyhow::Result<()> {
    let is_hidden =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}');
    ensure!(!name.is_empty() && name.len() <= 255 && name != "." && name != "..", "{name:?}");
    ensure!(!name.contains(['/', '\\']) && !name.contains(is_hidden), "{name:?}");
    Ok(())
}

/// What lies beside a node's data directory, and at its top.
fn files(cluster: &Cluster) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for dir in [cluster.dir(), &cluster.node(1).data_dir] {
        for entry in std::fs::read_dir(dir)? {
            found.insert(entry?.path().display().to_string());
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_text_of_the_api_is_kept_as_it_was_written_or_refused() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let document = Request { method: "GET".into(), path: "/v1/openapi.json".into(), ..Request::default() };
    let document = Asker::new(site.addr()).json(&document).await?;
    let all = of_document(&document);
    ensure!(all.len() > 150, "the document was not read: {}", all.len());
    let unknown: Vec<String> = all
        .iter()
        .filter(|field| form(field).is_none() || site.request(field, &Target::default(), "x").is_none())
        .map(Field::name)
        .collect();
    ensure!(unknown.is_empty(), "say in `operations` how these are exercised: {unknown:#?}");
    let before = files(&site.cluster)?;
    // One header, looked at in one place.
    let fields = all
        .into_iter()
        .filter(|field| !matches!(field.place, Place::Header(_)) || field.operation == "conversations_send");
    let mut lanes: BTreeMap<String, Vec<Field>> = BTreeMap::new();
    for field in fields {
        lanes.entry(lane(&field.operation).to_owned()).or_default().push(field);
    }
    let site_of = &site;
    let run = |fields: Vec<Field>| async move {
        let mut done = Vec::new();
        for field in fields {
            let tried = site_of.try_field(&field).await.with_context(|| field.name());
            done.push((field.name(), tried));
        }
        done
    };
    let done: Vec<(String, anyhow::Result<Tried>)> = futures_util::stream::iter(lanes.into_values().map(run))
        .buffer_unordered(AT_ONCE)
        .flat_map(futures_util::stream::iter)
        .collect()
        .await;
    judge(done, "the API")?;
    hooks_reach_nothing(&site).await?;
    let after: Vec<String> = files(&site.cluster)?.difference(&before).cloned().collect();
    ensure!(after.is_empty(), "somebody wrote {after:?}");
    Ok(())
}

/// What is done in the same lane is done one after the other: who makes and who removes something of a name.
fn lane(operation: &str) -> &str {
    let (what, _) = operation.split_once('_').unwrap_or((operation, ""));
    if what == "conversations" { operation } else { what }
}

/// Webhooks under whatever address was taken are tried, and nobody hears of it.
async fn hooks_reach_nothing(site: &Site) -> anyhow::Result<()> {
    let mut asker = Asker::new(site.addr());
    let get = |path: String| Request { method: "GET".into(), path, token: site.owner.clone(), ..Request::default() };
    let hooks = asker.json(&get("/v1/webhooks".into())).await?;
    let new = http::create_visitor(site.addr(), SITE).await?;
    let mut socket = Socket::hello(site.addr(), &new.token, None).await?;
    let hello = json!({ "id": 2, "send": { "session": new.session.to_string(), "cid": "c", "text": "hello" } });
    socket.ask(&hello, SOON, &mut Vec::new()).await?;
    let mut tried = 0;
    for hook in hooks["webhooks"].as_array().context("no list")? {
        let (name, url) = (hook["name"].as_str().context("no name")?, hook["url"].as_str().context("no url")?);
        if !url.contains(&site.listener.address.port().to_string()) {
            continue;
        }
        let path = format!("/v1/webhooks/{}", encoded(name));
        let failed = wait::until("it is tried, and fails", SOON, async || {
            let standing = asker.json(&get(path.clone())).await.ok()?;
            let lags = standing["lags"].as_array()?.iter().any(|lag| lag["tries"].as_u64() > Some(0));
            (lags || standing["dead"].as_u64() > Some(0)).then_some(())
        });
        failed.await.with_context(|| url.to_owned())?;
        tried += 1;
    }
    println!("{tried} webhooks were taken under names of this machine, and reached nothing");
    ensure!(site.listener.connections() == 0, "somebody called within");
    Ok(())
}
