//! Owns the test of every text of a client's frames: with each text of the corpora, against one node.

use super::asker::{Asker, Request};
use super::fields::{holds, with_text};
use super::frames::{Field, Told, bodies, is_agents, of_document, told};
use super::*;
use chaos_tests::socket::{Came, Socket};
use futures_util::StreamExt;
use std::time::Duration;

const AT_ONCE: usize = 6;
/// Two looks at a push that may be lost.
const PUSHED_WITHIN: Duration = Duration::from_millis(500);

struct Site {
    cluster: Cluster,
    key: String,
    ann: AgentId,
    anns: String,
}

/// A visitor and ann, each with a bare socket.
struct Talk {
    session: String,
    token: String,
    visitor: Socket,
    ann: Socket,
    /// Of frames.
    next: u64,
    pushes: Vec<Value>,
}

impl Site {
    async fn start() -> anyhow::Result<Site> {
        let cluster = Cluster::start(1).await?;
        let addr = cluster.node(1).client.clone();
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        let (ann, anns) = person(&cluster, SITE, "ann", "supervisor").await?;
        let names: Vec<&str> = node::api::SCOPES.iter().map(|(_, name)| *name).collect();
        let key = key(&addr, &owner, "all", &names).await?;
        let seat = json!({ "capacity": 10_000 });
        done_by_any(&cluster, &owner, "PUT", &format!("/v1/seats/{ann}"), Some(seat)).await?;
        Ok(Site { cluster, key, ann, anns })
    }

    fn addr(&self) -> &str {
        &self.cluster.node(1).client
    }

    fn get(&self, path: String) -> Request {
        Request { method: "GET".into(), path, token: self.key.clone(), ..Request::default() }
    }

    /// A conversation that is ann's.
    async fn talk(&self, asker: &mut Asker) -> anyhow::Result<Talk> {
        let new = http::create_visitor(self.addr(), SITE).await?;
        let ann = Socket::hello(self.addr(), &self.anns, None).await?;
        let visitor = Socket::hello(self.addr(), &new.token, None).await?;
        let (session, token) = (new.session.to_string(), new.token);
        let mut talk = Talk { session, token, visitor, ann, next: 2, pushes: Vec::new() };
        let visit = &bodies("visit", &talk.session, "")[0];
        ensure!(is_taken(&talk.ask(false, "visit", visit).await?)?, "it cannot say where it is");
        self.open(&mut talk, asker).await?;
        Ok(talk)
    }

    /// The visitor writes, and ann has the conversation.
    async fn open(&self, talk: &mut Talk, asker: &mut Asker) -> anyhow::Result<()> {
        let cid = format!("open-{}", talk.next);
        let said = json!({ "session": talk.session, "cid": cid, "text": "hello" });
        let answer = talk.ask(false, "send", &said).await?;
        ensure!(!answer["ack"].is_null(), "{answer}");
        let request = self.get(format!("/v1/conversations/{}", talk.session));
        let given = wait::until("it is ann's", SOON, async || {
            let view = asker.json(&request).await.ok()?;
            (view["agent"] == self.ann.to_string()).then_some(())
        });
        given.await
    }

    async fn try_field(&self, field: &Field) -> anyhow::Result<Tried> {
        let (mut tried, mut asker) = (Tried::default(), Asker::new(self.addr()));
        let mut talk = self.talk(&mut asker).await?;
        for text in corpus::texts() {
            let judged = match field.verb.as_str() {
                "hello" => self.try_hello(field, &talk, &text).await,
                _ => self.try_text(field, &mut talk, &text, &mut asker).await,
            };
            match judged.with_context(|| format!("{} {text:.80?}", field.name())) {
                Ok(true) => tried.taken += 1,
                Ok(false) => tried.refused += 1,
                Err(error) => tried.wrong.push(format!("{error:#}")),
            }
        }
        Ok(tried)
    }

    /// Each on a socket of its own.
    async fn try_hello(&self, field: &Field, talk: &Talk, text: &str) -> anyhow::Result<bool> {
        let body = bodies("hello", &talk.session, &talk.token);
        let body = with_text(&body[0], &field.at, text).context("no place")?;
        let mut socket = Socket::open(self.addr()).await?;
        socket.send(&json!({ "id": 1, "hello": body })).await?;
        let Came::Frame(answer) = socket.next(SOON).await? else { anyhow::bail!("no answer") };
        let is_taken = is_taken(&answer)?;
        ensure!(!is_taken || told(field) == Some(Some(Told::Nobody)), "taken: {answer}");
        Ok(is_taken)
    }

    async fn try_text(&self, field: &Field, talk: &mut Talk, text: &str, asker: &mut Asker) -> anyhow::Result<bool> {
        let all = bodies(&field.verb, &talk.session, &talk.token);
        let mut body = all.iter().find_map(|body| with_text(body, &field.at, text)).context("no place")?;
        if field.verb == "send" && field.at != "cid" {
            body["cid"] = format!("c{}", talk.next).into();
        }
        let answer = talk.ask(is_agents(field), &field.verb, &body).await?;
        let taken = is_taken(&answer)?;
        // Faults in a row close a socket.
        let pong = talk.ask(is_agents(field), "ping", &json!({})).await?;
        ensure!(!pong["pong"].is_null(), "{pong}");
        if !taken {
            return Ok(false);
        }
        let told = told(field).flatten().with_context(|| format!("it has a closed form, and was taken: {answer}"))?;
        self.read(field, told, talk, text, asker).await?;
        if field.name() == "close.reason" {
            self.open(talk, asker).await?;
        }
        if field.name() == "send.label.label" {
            let cid = format!("off{}", talk.next);
            let off = json!({ "session": talk.session, "cid": cid, "label": { "label": text, "on": false } });
            ensure!(is_taken(&talk.ask(true, "send", &off).await?)?, "it cannot be taken off");
        }
        Ok(true)
    }

    async fn read(
        &self,
        field: &Field,
        told: Told,
        talk: &mut Talk,
        text: &str,
        asker: &mut Asker,
    ) -> anyhow::Result<()> {
        let read = match told {
            Told::Nobody => return Ok(()),
            Told::Push => return talk.pushed(text).await,
            Told::OwnHistory => talk.ask(false, "history", &json!({ "session": talk.session, "limit": 5 })).await?,
            Told::Events => asker.json(&self.get(format!("/v1/conversations/{}/events?limit=5", talk.session))).await?,
            Told::Session => asker.json(&self.get(format!("/v1/conversations/{}", talk.session))).await?,
            Told::Online => asker.json(&self.get("/v1/visitors/online?limit=1000".to_owned())).await?,
        };
        ensure!(holds(&read, text), "{} is not kept as it was written: {:.1000}", field.name(), read.to_string());
        Ok(())
    }
}

impl Talk {
    /// The answer, of ann's socket or the visitor's.
    async fn ask(&mut self, by_ann: bool, verb: &str, body: &Value) -> anyhow::Result<Value> {
        self.next += 1;
        let frame = json!({ "id": self.next, verb: body });
        let socket = if by_ann { &mut self.ann } else { &mut self.visitor };
        socket.ask(&frame, SOON, &mut self.pushes).await
    }

    /// A draft may be lost: then it is typed again.
    async fn pushed(&mut self, text: &str) -> anyhow::Result<()> {
        for _ in 0..20 {
            while let Came::Frame(push) = self.ann.next(PUSHED_WITHIN).await? {
                if holds(&push["typing"], text) {
                    return Ok(());
                }
            }
            self.ask(false, "typing", &json!({ "session": self.session, "draft": text })).await?;
        }
        anyhow::bail!("ann does not see what is typed")
    }
}

/// Whether it was done; an answer that is neither is an error, and so is a fault of the node.
fn is_taken(answer: &Value) -> anyhow::Result<bool> {
    let error = &answer["error"];
    if error.is_null() {
        let is_done = ["ack", "ok", "cursor", "history", "pong", "welcome"].iter().any(|kind| !answer[kind].is_null());
        ensure!(is_done, "neither done nor refused: {answer}");
        return Ok(true);
    }
    let code = error["code"].as_str().context("no code")?;
    ensure!(error["message"].is_string() && !matches!(code, "internal" | "unavailable" | "overloaded"), "{answer}");
    Ok(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_text_of_a_frame_is_kept_as_it_was_written_or_refused() -> anyhow::Result<()> {
    let path = format!("{}/../docs/asyncapi.yaml", env!("CARGO_MANIFEST_DIR"));
    let document = yaml::read(&std::fs::read_to_string(path)?)?;
    let fields = of_document(&document);
    ensure!(fields.len() > 30, "the document was not read: {fields:?}");
    let has_place =
        |field: &Field| bodies(&field.verb, "", "").iter().any(|body| with_text(body, &field.at, "x").is_some());
    let unknown = fields.iter().filter(|field| told(field).is_none() || !has_place(field));
    let unknown: Vec<String> = unknown.map(Field::name).collect();
    ensure!(unknown.is_empty(), "say in `frames` how these are exercised: {unknown:#?}");
    let site = Site::start().await?;
    let site = &site;
    let run = |field: Field| async move { (field.name(), site.try_field(&field).await) };
    let done: Vec<_> =
        futures_util::stream::iter(fields.into_iter().map(run)).buffer_unordered(AT_ONCE).collect().await;
    judge(done, "frames")
}
