//! Owns the tests of what people and other systems do through a site's API, on real nodes of which one dies.

use super::*;
use chaos_tests::http::header;
use proto::client::{About, EventKind, Party};
use proto::command::Target;
use proto::desk::Channel;
use proto::ids::SessionId;

/// A site at work: ann has a visitor's conversation.
struct Site {
    cluster: Cluster,
    addrs: Vec<String>,
    session: SessionId,
    visitor: Person,
    sue: AgentId,
    sues: String,
    olgas: String,
    anns: String,
    at_desk: Person,
}

impl Site {
    async fn start() -> anyhow::Result<Site> {
        let cluster = Cluster::start(3).await?;
        let (sue, sues) = person(&cluster, SITE, "sue", "supervisor").await?;
        let (_, olgas) = person(&cluster, SITE, "olga", "owner").await?;
        let (ann, anns) = person(&cluster, SITE, "ann", "agent").await?;
        let (_, at_desk) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
        let (new, visitor) = Person::visitor(&cluster, 2).await?;
        let session = new.session;
        visitor.client.send(session, "is anybody there?").await?;
        at_desk.wait("it is ann's", |told| (told.holder(session) == Some(ann)).then_some(())).await?;
        let addrs = cluster.nodes().iter().map(|node| node.client.clone()).collect();
        Ok(Site { cluster, addrs, session, visitor, sue, sues, olgas, anns, at_desk })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/conversations/{}{rest}", self.session)
    }

    /// Asks until somebody answers: a node may just be looking for a leader.
    async fn ask(
        &self,
        at: usize,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let answered = wait::until("an answer", SOON, async || {
            let asked = ask_with_key(&self.addrs[at], token, method, path, body.as_ref(), key).await;
            asked.ok().filter(|answer| answer.status != 503)
        });
        answered.await.with_context(|| path.to_owned())
    }

    async fn post(&self, token: &str, path: &str, body: Value) -> anyhow::Result<Answer> {
        self.ask(0, token, "POST", path, Some(body), None).await
    }

    async fn put(&self, token: &str, path: &str, body: Value) -> anyhow::Result<u16> {
        Ok(self.ask(0, token, "PUT", path, Some(body), None).await?.status)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        json_of(&self.ask(0, &self.sues, "GET", path, None, None).await?)
    }

    /// Said once, however often and wherever it is repeated, and whoever leads by then.
    async fn say_it_again_while_the_leader_dies(&mut self) -> anyhow::Result<()> {
        let (say, events, anns) = (json!({ "text": "good day" }), self.path("/events"), self.anns.clone());
        for at in 0..3 {
            let said = self.ask(at, &anns, "POST", &events, Some(say.clone()), Some("k-1")).await?;
            ensure!(said.status == 200 && json_of(&said)?["seq"] == 3, "{}", said.text());
        }
        let shards = self.cluster.overview().await?.data_shards().count() as u32;
        let shard = Target::Session(self.session).shard(shards);
        let path = format!("/admin/v1/shards/{shard}");
        let view = operate(&self.cluster, "GET", &path, &json!({})).await?;
        let leader = view["leader"].as_str().context("no leader")?.trim_start_matches('n').parse::<u64>()?;
        self.cluster.kill(leader);
        let again = self.ask(usize::from(leader == 1), &anns, "POST", &events, Some(say), Some("k-1")).await?;
        ensure!(json_of(&again)?["seq"] == 3, "{}", again.text());
        self.cluster.restart(&[leader]).await
    }

    /// A system writes in its own name, and only where its scopes allow it.
    async fn a_robot_speaks(&self) -> anyhow::Result<String> {
        let robot = key(&self.addrs[0], &self.olgas, "robot", &["conversations:read", "conversations:write"]).await?;
        let posted = self.post(&robot, &self.path("/events"), json!({ "text": "a robot says" })).await?;
        ensure!(posted.status == 200, "{}", posted.text());
        let is_it = |kind: &EventKind<'_>| matches!(kind, EventKind::Message { from: Party::System, text, .. } if text == "a robot says");
        let heard = self.visitor.wait("the robot is heard", |told| {
            told.events.iter().find(|event| is_it(&event.kind)).map(|event| event.seq)
        });
        ensure!(heard.await? == 4);
        ensure!(self.ask(0, &robot, "GET", "/v1/desk", None, None).await?.status == 403);
        Ok(robot)
    }

    async fn a_body_says_one_thing(&self) -> anyhow::Result<()> {
        let events = self.path("/events");
        let label = self.post(&self.anns, &events, json!({ "label": { "label": "vip" } })).await?;
        ensure!(label.status == 200, "{}", label.text());
        for wrong in [
            json!({}),
            json!({ "text": "a", "recall": { "of": 1 } }),
            json!({ "label": { "label": "x" }, "reply_to": 1 }),
            json!({ "shout": "a" }),
        ] {
            let refused = self.post(&self.anns, &events, wrong.clone()).await?;
            ensure!(refused.status == 400, "{wrong}: {}", refused.text());
        }
        let bad_key = self.ask(0, &self.anns, "POST", &events, Some(json!({ "text": "a" })), Some("a b")).await?;
        ensure!(bad_key.status == 400, "{}", bad_key.text());
        Ok(())
    }

    /// A canned reply with what is known, and a macro that is repeated elsewhere and done once.
    async fn canned_replies_and_macros(&self) -> anyhow::Result<()> {
        let facts = [("name".into(), "Ada".into())].into();
        self.visitor.client.about(About { session: self.session, team: None, facts, channel: Channel::APP }).await?;
        let text = "Hello {{visitor.name|you}}, {{agent.name}} of {{site}} here{{visitor.age}}";
        let (canned, mine) = ("/v1/canned/hello", json!({ "text": text, "mine": true }));
        ensure!(self.put(&self.anns, canned, json!({ "text": text })).await? == 403);
        ensure!(self.put(&self.sues, canned, json!({ "text": "for all" })).await? == 200);
        ensure!(self.put(&self.anns, canned, mine).await? == 200);
        let fill = self.path("/canned/hello");
        let filled = json_of(&self.ask(0, &self.anns, "GET", &fill, None, None).await?)?;
        ensure!(filled["text"] == "Hello Ada, ann of demo here", "{filled}");
        ensure!(self.get(&fill).await?["text"] == "for all", "her own is nobody else's");
        let actions =
            [json!({ "say": "Wait, {{visitor.name}}" }), json!({ "label": "vip" }), json!({ "note": "again" })];
        ensure!(self.put(&self.sues, "/v1/macros/vip", json!({ "actions": actions })).await? == 200);
        let early = json!({ "actions": [{ "close": "" }, { "say": "too late" }] });
        ensure!(self.put(&self.sues, "/v1/macros/wrong", early).await? == 422);
        for at in 0..3 {
            let done = self.ask(at, &self.anns, "POST", &self.path("/macros/vip"), None, Some("k-3")).await?;
            ensure!(done.status == 200 && json_of(&done)?["done"] == 3, "{}", done.text());
        }
        Ok(())
    }

    /// It goes to somebody with a note, which is there before they are; then it is not ann's to end.
    async fn given_with_a_note(&self) -> anyhow::Result<()> {
        let (_, sue_at_desk) = Person::agent(&self.cluster, "sue", PASSWORD, 0).await?;
        let is_sue = |seat: &Value| seat["agent"] == self.sue.to_string() && seat["state"] == "online";
        let there = wait::until("sue is there", SOON, async || {
            self.get("/v1/desk").await.ok()?["seats"].as_array()?.iter().any(is_sue).then_some(())
        });
        there.await?;
        let give = json!({ "agent": self.sue.to_string(), "note": "an old friend" });
        let given = self.ask(0, &self.anns, "POST", &self.path("/transfer"), Some(give), Some("k-2")).await?;
        ensure!(given.status == 200, "{}", given.text());
        let session = self.session;
        sue_at_desk.wait("it is sue's", |told| (told.holder(session) == Some(self.sue)).then_some(())).await?;
        let history = self.get(&self.path("/events?after=0&limit=200")).await?;
        let events = history["events"].as_array().context("no events")?;
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
        ensure!(kinds[4..] == ["label", "message", "label", "note", "note", "assigned"], "{kinds:?}");
        ensure!(history["head"] == kinds.len(), "{history}");
        let not_hers = self.post(&self.anns, &self.path("/close"), json!({})).await?;
        ensure!(not_hers.status == 403, "{}", not_hers.text());
        Ok(())
    }

    /// What was said, as the visitor may have it, and harmless whatever it is.
    async fn a_transcript(&self) -> anyhow::Result<()> {
        let hostile = "<script>alert('x')</script>";
        self.visitor.client.send(self.session, hostile).await?;
        let html = self.ask(0, &self.anns, "GET", &self.path("/transcript"), None, None).await?;
        let text = html.text();
        ensure!(text.contains("a robot says") && text.contains("&lt;script&gt;") && !text.contains(hostile), "{text}");
        ensure!(!text.contains("an old friend"), "a note: {text}");
        let policy = header(&html.head, "content-security-policy").unwrap_or_default();
        ensure!(policy.starts_with("default-src 'none'") && html.head.contains("attachment"), "{}", html.head);
        let json = self.get(&self.path("/transcript?format=json&notes=true")).await?;
        let lines = json["lines"].as_array().context("no lines")?;
        ensure!(lines.iter().any(|line| line["note"] == true && line["text"] == "an old friend"), "{json}");
        ensure!(lines.iter().any(|line| line["from"] == "ann" && line["text"] == "good day"), "{json}");
        Ok(())
    }

    async fn closed_by(&self, robot: &str) -> anyhow::Result<()> {
        let closed = self.post(robot, &self.path("/close"), json!({ "reason": "solved" })).await?;
        let view = json_of(&closed)?;
        ensure!(closed.status == 200 && view["state"] == "closed" && view["labels"][0] == "vip", "{view}");
        let is_closed = |kind: &EventKind<'_>| matches!(kind, EventKind::Closed { .. });
        let told = self
            .visitor
            .wait("it is closed", |told| told.events.iter().any(|event| is_closed(&event.kind)).then_some(()));
        told.await
    }

    /// A key that was revoked is nobody's; nobody makes anybody more than they are.
    async fn roles_and_keys_end(&self, robot: &str) -> anyhow::Result<()> {
        let revoked = self.ask(0, &self.olgas, "DELETE", "/v1/keys/robot", None, None).await?;
        ensure!(revoked.status == 204, "{}", revoked.text());
        let gone = wait::until("the key is gone", SOON, async || {
            (self.ask(0, robot, "GET", "/v1/me", None, None).await.ok()?.status == 401).then_some(())
        });
        gone.await?;
        let (adam, adams) = person(&self.cluster, SITE, "adam", "admin").await?;
        let role = format!("/v1/agents/{adam}/role");
        ensure!(self.put(&adams, &role, json!({ "role": "owner" })).await? == 403);
        let password = json!({ "name": "olga", "password": "another password" });
        ensure!(self.post(&adams, "/v1/agents", password).await?.status == 403);
        ensure!(self.put(&self.olgas, &role, json!({ "role": "viewer" })).await? == 200);
        let only_reads = wait::until("adam only reads", SOON, async || {
            (self.put(&adams, "/v1/rules", json!({})).await.ok()? == 403).then_some(())
        });
        only_reads.await?;
        ensure!(self.ask(0, &adams, "GET", "/v1/desk", None, None).await?.status == 200);
        let (_, no_seat) = Person::agent(&self.cluster, "adam", PASSWORD, 0).await?;
        let refused = wait::until("a viewer has no seat", SOON, async || no_seat.told.lock().broken.clone());
        ensure!(refused.await?.contains("unauthorized"));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_and_systems_work_through_the_api_and_what_is_repeated_is_done_once() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    let list = site.get("/v1/conversations?state=open").await?;
    ensure!(list["conversations"][0]["session"] == site.session.to_string(), "{list}");
    site.say_it_again_while_the_leader_dies().await?;
    let robot = site.a_robot_speaks().await?;
    site.a_body_says_one_thing().await?;
    site.canned_replies_and_macros().await?;
    site.given_with_a_note().await?;
    site.a_transcript().await?;
    site.closed_by(&robot).await?;
    site.roles_and_keys_end(&robot).await?;
    site.at_desk.check()
}
