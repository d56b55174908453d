//! Owns the tests of what a team keeps to work faster: its canned replies, every action of a macro, ratings with a comment, and routes by
//! what is known of a visitor. On real nodes. Does not test variables: the API's own tests do.

use super::visitors::Desk;
use super::*;
use proto::act::Act;
use proto::client::{About, EventKind, HistoryFrom};
use proto::desk::Channel;
use proto::ids::{SessionId, TeamId};
use std::collections::BTreeMap;

/// Ann is of team 1, bob of team 2, and a visitor talks with ann.
struct Teams {
    desk: Desk,
    bobs: String,
    bob: Person,
    ids: [AgentId; 2],
    session: SessionId,
    visitor: Person,
}

async fn comes(desk: &Desk, team: Option<TeamId>, at: usize) -> anyhow::Result<(SessionId, Person)> {
    let (new, visitor) = Person::visitor(&desk.cluster, at).await?;
    let facts = [("name".into(), "Zoë".into())].into();
    visitor.client.about(About { session: new.session, team, facts, channel: Channel::WEB }).await?;
    Ok((new.session, visitor))
}

impl Teams {
    async fn start() -> anyhow::Result<Teams> {
        let desk = Desk::start(&[]).await?;
        let (bob, bobs) = person(&desk.cluster, SITE, "bob", "agent").await?;
        let (_, at_bobs) = Person::agent(&desk.cluster, "bob", PASSWORD, 0).await?;
        let me = desk.done(&desk.anns, "GET", "/v1/me", None).await?;
        let ann: AgentId = me["agent"]["agent"].as_str().with_context(|| me.to_string())?.parse()?;
        for (team, agent) in [("t1", ann), ("t2", bob)] {
            desk.done(&desk.owner, "PUT", &format!("/v1/teams/{team}"), Some(json!({ "name": team }))).await?;
            let seat = json!({ "capacity": 5, "teams": [team] });
            desk.done(&desk.owner, "PUT", &format!("/v1/seats/{agent}"), Some(seat)).await?;
        }
        let (session, visitor) = comes(&desk, Some(TeamId(1)), 2).await?;
        visitor.client.send(session, "hello").await?;
        desk.ann.wait("ann has it", |told| (told.holder(session) == Some(ann)).then_some(())).await?;
        Ok(Teams { desk, bobs, bob: at_bobs, ids: [ann, bob], session, visitor })
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/conversations/{}{rest}", self.session)
    }

    async fn keep(&self, name: &str, actions: Value) -> anyhow::Result<()> {
        let body = json!({ "actions": actions });
        self.desk.done(&self.desk.owner, "PUT", &format!("/v1/macros/{name}"), Some(body)).await.map(drop)
    }

    async fn run(&self, token: &str, name: &str) -> anyhow::Result<Answer> {
        self.desk.ask(token, "POST", &self.path(&format!("/macros/{name}")), None).await
    }

    async fn done(&self, token: &str, name: &str, actions: u64) -> anyhow::Result<()> {
        let ran = self.run(token, name).await?;
        ensure!(ran.status == 200 && json_of(&ran)? == json!({ "done": actions }), "{name}: {}", ran.text());
        Ok(())
    }

    /// The kinds of everything that happened in the session.
    async fn kinds(&self) -> anyhow::Result<Vec<String>> {
        let history = self.desk.done(&self.desk.owner, "GET", &self.path("/events?after=0&limit=200"), None).await?;
        let events = history["events"].as_array().context("no events")?;
        Ok(events.iter().filter_map(|event| event["kind"].as_str().map(str::to_owned)).collect())
    }

    async fn ends_with(&self, expected: &[&str]) -> anyhow::Result<()> {
        let kinds = self.kinds().await?;
        ensure!(kinds.ends_with(&expected.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>()), "{kinds:?}");
        Ok(())
    }

    async fn held_by(&self, agent: AgentId) -> anyhow::Result<()> {
        let session = self.session;
        let has_it = |told: &chaos_tests::person::Told| (told.holder(session) == Some(agent)).then_some(());
        self.visitor.wait("the visitor is told who has it", has_it).await?;
        let at_desk = if agent == self.ids[0] { &self.desk.ann } else { &self.bob };
        at_desk.wait("who has it follows it", has_it).await
    }

    /// That of a team comes before the one for all where the team is named, and nowhere else.
    async fn canned_replies_of_a_team(&self) -> anyhow::Result<()> {
        let Desk { owner, anns, .. } = &self.desk;
        let ours =
            json!({ "text": "{{visitor.name|you}}, {{agent.name}} of sales says bye{{visitor.age}}", "team": "t1" });
        ensure!(
            self.desk.ask(anns, "PUT", "/v1/canned/bye", Some(ours.clone())).await?.status == 403,
            "ann is an agent"
        );
        self.desk.done(owner, "PUT", "/v1/canned/bye", Some(ours)).await?;
        let fill = self.path("/canned/bye");
        let of_team = format!("{fill}?team=t1");
        let filled = async |path: &str| self.desk.ask(anns, "GET", path, None).await;
        ensure!(filled(&fill).await?.status == 404, "there is none for all");
        ensure!(filled(&format!("{fill}?team=t2")).await?.status == 404, "there is none of that team");
        let all = json!({ "text": "Bye from all of us" });
        self.desk.done(owner, "PUT", "/v1/canned/bye", Some(all)).await?;
        for (path, text) in [
            (of_team.clone(), "Zoë, ann of sales says bye"),
            (fill.clone(), "Bye from all of us"),
            (format!("{fill}?team=t2"), "Bye from all of us"),
        ] {
            let answer = json_of(&filled(&path).await?)?;
            ensure!(answer == json!({ "text": text }), "{path}: {answer}");
        }
        let list = self.desk.done(anns, "GET", "/v1/canned", None).await?;
        let seen: Vec<_> = list["canned"].as_array().context("no list")?.iter().map(|one| &one["team"]).collect();
        ensure!(seen == [&json!("t1"), &Value::Null], "{list}");
        // What is filled is what the visitor gets.
        let text = json_of(&filled(&of_team).await?)?["text"].clone();
        self.desk.done(anns, "POST", &self.path("/events"), Some(json!({ "text": text }))).await?;
        let said = |told: &chaos_tests::person::Told| {
            let is_it = |event: &proto::client::Event<'_>| matches!(&event.kind, EventKind::Message { text, .. } if text == "Zoë, ann of sales says bye");
            told.events.iter().any(is_it).then_some(())
        };
        self.visitor.wait("the visitor reads it", said).await?;
        ensure!(self.desk.ask(owner, "DELETE", "/v1/canned/bye?team=t1", None).await?.status == 204);
        ensure!(json_of(&filled(&of_team).await?)? == json!({ "text": "Bye from all of us" }));
        Ok(())
    }

    async fn labels(&self) -> anyhow::Result<Value> {
        Ok(self.desk.show(self.session).await?["labels"].clone())
    }

    /// Laid aside, it is nobody's until the visitor writes; then it is who laid it aside that has it.
    async fn snoozed_and_back(&self) -> anyhow::Result<()> {
        self.keep("later", json!([{ "label": "waits" }, { "snooze": 3600 }])).await?;
        self.keep("back", json!([{ "unlabel": "waits" }, { "note": "here again" }])).await?;
        self.done(&self.desk.anns, "later", 2).await?;
        self.ends_with(&["label", "snoozed"]).await?;
        ensure!(self.labels().await? == json!(["waits"]));
        let seat = wait::until("ann's place is free", SOON, async || {
            let view = self.desk.done(&self.desk.owner, "GET", "/v1/desk", None).await.ok()?;
            let ann = self.ids[0].to_string();
            let seat = view["seats"].as_array()?.iter().find(|seat| seat["agent"] == ann.as_str())?.clone();
            (seat["open"] == 0 && view["queued"] == 0).then_some(())
        });
        seat.await?;
        self.visitor.client.send(self.session, "are you there?").await?;
        let is_back = |told: &chaos_tests::person::Told| {
            let given = told.events.iter().filter(|event| matches!(event.kind, EventKind::Assigned { .. })).count();
            (given == 2).then_some(())
        };
        self.visitor.wait("it is back", is_back).await?;
        self.held_by(self.ids[0]).await?;
        self.done(&self.desk.anns, "back", 2).await?;
        self.ends_with(&["label", "note"]).await?;
        ensure!(self.labels().await? == json!([]));
        Ok(())
    }

    /// To a team, to an agent, and to its end.
    async fn given_away_and_ended(&self) -> anyhow::Result<()> {
        let [ann, bob] = self.ids;
        self.keep("to-two", json!([{ "note": "for your team" }, { "transfer": { "team": "t2" } }])).await?;
        self.keep("to-ann", json!([{ "transfer": { "agent": ann.to_string() } }])).await?;
        self.keep("end", json!([{ "say": "Goodbye, {{visitor.name}}" }, { "label": "done" }, { "close": "solved" }]))
            .await?;
        self.done(&self.desk.anns, "to-two", 2).await?;
        self.held_by(bob).await?;
        self.ends_with(&["note", "queued", "assigned"]).await?;
        ensure!(self.run(&self.desk.anns, "to-ann").await?.status == 403, "it is not hers to give");
        self.done(&self.bobs, "to-ann", 1).await?;
        self.held_by(ann).await?;
        self.done(&self.desk.anns, "end", 3).await?;
        self.ends_with(&["message", "label", "closed"]).await?;
        let view = self.desk.show(self.session).await?;
        ensure!(view["state"] == "closed" && view["labels"] == json!(["done"]), "{view}");
        let history = self.desk.done(&self.desk.owner, "GET", &self.path("/events?after=0&limit=200"), None).await?;
        let last: Vec<_> = history["events"].as_array().context("no events")?.iter().rev().take(3).collect();
        ensure!(last[0]["reason"] == "solved" && last[2]["text"] == "Goodbye, Zoë", "{last:?}");
        Ok(())
    }

    /// What fails is named, what came before it is done, and what comes behind it is not.
    async fn what_fails_is_named(&self) -> anyhow::Result<()> {
        let before = self.kinds().await?;
        self.keep("late", json!([{ "label": "late" }, { "say": "Anything else?" }, { "note": "never" }])).await?;
        self.keep("nobody", json!([{ "transfer": { "agent": "a999" } }])).await?;
        let late = self.run(&self.desk.anns, "late").await?;
        let detail = json_of(&late)?["detail"].as_str().context("no detail")?.to_owned();
        ensure!(late.status == 422 && detail.starts_with("action 2 (say): "), "{}", late.text());
        let after = self.kinds().await?;
        ensure!(after[before.len()..] == ["label"], "{after:?}");
        let nobody = self.run(&self.desk.anns, "nobody").await?;
        ensure!(nobody.status == 409 || nobody.status == 404 || nobody.status == 422, "{}", nobody.text());
        ensure!(nobody.text().contains("action 1 (transfer): "), "{}", nobody.text());
        ensure!(self.run(&self.desk.anns, "unheard-of").await?.status == 404);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canned_replies_of_a_team_are_filled_and_every_action_of_a_macro_is_done_or_named() -> anyhow::Result<()> {
    let teams = Teams::start().await?;
    teams.canned_replies_of_a_team().await?;
    teams.snoozed_and_back().await?;
    teams.given_away_and_ended().await?;
    teams.what_fails_is_named().await?;
    [&teams.desk.ann, &teams.bob, &teams.visitor].into_iter().try_for_each(Person::check)
}

/// Whose conversations a visitor gets who writes now.
async fn goes_to(teams: &Teams, (session, visitor): &(SessionId, Person), agent: AgentId) -> anyhow::Result<()> {
    visitor.client.send(*session, "hello").await?;
    let holder = visitor.wait("somebody has it", |told| told.holder(*session)).await?;
    ensure!(holder == agent, "{holder} got it");
    let at_desk = if agent == teams.ids[0] { &teams.desk.ann } else { &teams.bob };
    at_desk.wait("who has it follows it", |told| (told.holder(*session) == Some(agent)).then_some(())).await?;
    at_desk.client.close(*session).await?;
    visitor.wait("it is over", |told| told.holder(*session).is_none().then_some(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitors_attribute_chooses_the_team_and_a_ratings_comment_is_read_by_agents_whoever_dies()
-> anyhow::Result<()> {
    let mut teams = Teams::start().await?;
    let [ann, bob] = teams.ids;
    let plan = json!({ "type": "choice", "options": ["free", "pro"] });
    let owner = teams.desk.owner.clone();
    teams.desk.done(&owner, "PUT", "/v1/attributes/visitor/plan", Some(plan)).await?;
    let routes = json!({ "routes": [
        { "when": [{ "fact": "attribute.plan", "is": ["pro"] }], "team": "t2" },
        { "when": [], "team": "t1" },
    ] });
    teams.desk.done(&owner, "PUT", "/v1/rules", Some(routes)).await?;
    let mut visitors = Vec::new();
    for (at, plan) in [None, Some("pro"), Some("free")].into_iter().enumerate() {
        let one = comes(&teams.desk, None, at).await?;
        // Before anything is known of them, all go the same way.
        goes_to(&teams, &one, ann).await?;
        if let Some(plan) = plan {
            let set = json!({ "visitor": { "plan": plan } });
            let path = format!("/v1/conversations/{}/attributes", one.0);
            teams.desk.done(&teams.desk.anns, "PUT", &path, Some(set)).await?;
        }
        visitors.push(one);
    }
    let victim = teams.desk.cluster.leader_of(visitors[1].0).await?;
    teams.desk.cluster.kill(victim);
    for (one, agent) in visitors.iter().zip([ann, bob, ann]) {
        goes_to(&teams, one, agent).await?;
    }
    // What the page says of itself is no attribute.
    let (session, visitor) = &visitors[0];
    let facts: BTreeMap<_, _> = [("plan".into(), "pro".into())].into();
    visitor.client.about(About { session: *session, team: None, facts, channel: Channel::WEB }).await?;
    goes_to(&teams, &visitors[0], ann).await?;
    teams.desk.cluster.restart(&[victim]).await?;
    rated(&teams, &visitors[1]).await
}

/// The visitor says how it was, and why; agents read both, wherever they look, and thinking better of it is told, too.
async fn rated(teams: &Teams, (session, visitor): &(SessionId, Person)) -> anyhow::Result<()> {
    let (hasty, calm) = ("<b>slow</b> 客服", "slow, but \"kind\"");
    for (score, comment) in [(2, hasty), (4, calm)] {
        visitor.client.act(*session, Act::Rate { conversation: 2, score, comment: comment.into() }).await?;
    }
    let view = teams.desk.show(*session).await?;
    ensure!(view["rating"] == json!({ "conversation": 2, "score": 4 }), "{view}");
    let told = |events: &Value| -> anyhow::Result<Vec<Value>> {
        let events = events.as_array().context("no events")?;
        let events = events.iter().map(|one| if one["event"].is_object() { &one["event"] } else { one });
        Ok(events.filter(|one| one["kind"] == "rated").map(|one| json!([one["score"], one["comment"]])).collect())
    };
    let both = [json!([2, hasty]), json!([4, calm])];
    let desk = &teams.desk;
    let path = format!("/v1/conversations/{session}/events?after=0&limit=200");
    let read = desk.done(&desk.anns, "GET", &path, None).await?;
    ensure!(told(&read["events"])? == both, "{read}");
    let mine = desk.ann.client.history(*session, HistoryFrom::After(0), None).await?;
    let is_rating = |event: &proto::client::Event<'_>| match &event.kind {
        EventKind::Act { act: Act::Rate { score, comment, .. }, .. } => Some((*score, comment.clone())),
        _ => None,
    };
    let seen: Vec<(u8, String)> = mine.events.iter().filter_map(is_rating).collect();
    ensure!(seen == [(2, hasty.to_owned()), (4, calm.to_owned())], "{seen:?}");
    let visitor = read["events"][0]["from"]["id"].as_str().context("no visitor")?.to_owned();
    let export = desk.done(&desk.owner, "GET", &format!("/v1/visitors/{visitor}/export"), None).await?;
    ensure!(told(&export["events"])? == both, "{export}");
    let stream = desk.done(&desk.owner, "GET", "/v1/events?limit=1000", None).await?;
    ensure!(told(&stream["events"])? == both, "{stream}");
    Ok(())
}
