//! Owns the test of what an agent does about their own seat over HTTP, while the node dies that their console is at. On real nodes.

use super::visitors::Desk;
use super::*;
use proto::act::Act;
use proto::client::EventKind;
use proto::ids::SessionId;

impl Desk {
    async fn anns(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        self.done(&self.anns, method, path, body).await
    }

    async fn says(&self, state: &str) -> anyhow::Result<()> {
        let seat = self.anns("PUT", "/v1/me/seat", Some(json!({ "state": state }))).await?;
        ensure!(seat["state"] == state, "{seat}");
        Ok(())
    }

    /// A visitor who writes, and the number of what ann is offered of it.
    async fn offered(&self, text: &str) -> anyhow::Result<(SessionId, u64, Person)> {
        let (new, visitor) = Person::visitor(&self.cluster, 2).await?;
        visitor.client.send(new.session, text).await?;
        Ok((new.session, self.offer_of(new.session).await?, visitor))
    }

    async fn offer_of(&self, session: SessionId) -> anyhow::Result<u64> {
        let offer = wait::until("it is offered", SOON, async || {
            let seat = self.anns("GET", "/v1/me/seat", None).await.ok()?;
            let all = seat["offers"].as_array()?;
            all.iter().find(|offer| offer["session"] == json!(session.to_string()))?["offer"].as_u64()
        });
        offer.await
    }

    async fn states(&self, session: SessionId) -> anyhow::Result<Vec<&'static str>> {
        let mut found = Vec::new();
        for state in ["open", "waiting", "snoozed", "closed"] {
            let listed = self.anns("GET", &format!("/v1/conversations?state={state}&limit=100"), None).await?;
            if listed.to_string().contains(&session.to_string()) {
                found.push(state);
            }
        }
        Ok(found)
    }
}

#[tokio::test]
async fn an_agent_works_over_http_alone_beside_a_console_that_is_only_looked_at() -> anyhow::Result<()> {
    let mut desk = Desk::start(&[]).await?;
    let me = desk.anns("GET", "/v1/me/seat", None).await?["agent"].as_str().context("no agent")?.to_owned();
    let team = json!({ "name": "sales", "accept_s": 600, "shares": true });
    desk.done(&desk.owner, "PUT", "/v1/teams/t1", Some(team)).await?;
    let seat = json!({ "capacity": 8, "teams": ["t1"] });
    desk.done(&desk.owner, "PUT", &format!("/v1/seats/{me}"), Some(seat)).await?;
    let key = key(&desk.cluster.node(1).client, &desk.owner, "system", &["conversations:write", "desk:write"]).await?;
    for (method, path, body) in [("GET", "/v1/me/seat", None), ("PUT", "/v1/me/seat", Some(json!({ "state": "away" })))]
    {
        let answer = desk.ask(&key, method, path, body).await?;
        ensure!(answer.status == 403, "a key has no seat: {}", answer.text());
    }
    let (session, offer, visitor) = desk.offered("hello").await?;
    let path = format!("/v1/conversations/{session}");
    let wrong = desk.ask(&desk.anns, "POST", &format!("{path}/accept"), Some(json!({ "offer": offer + 1 }))).await?;
    ensure!(wrong.status == 409, "{}", wrong.text());
    desk.cluster.kill(2);
    let view = desk.anns("POST", &format!("{path}/accept"), Some(json!({ "offer": offer }))).await?;
    ensure!(view["session"] == json!(session.to_string()), "{view}");
    visitor.wait("it is ann's", |told| told.holder(session)).await?;

    // The visitor sees how far ann has read, and that she writes; nothing goes back.
    let head = visitor.told.lock().events.iter().map(|event| event.seq).max().context("nothing was told")?;
    let read = desk.anns("PUT", &format!("{path}/cursor"), Some(json!({ "received": head, "read": head }))).await?;
    ensure!(read == json!({ "received": head, "read": head }), "{read}");
    let back = desk.anns("PUT", &format!("{path}/cursor"), Some(json!({ "read": 1 }))).await?;
    ensure!(back == read, "{back}");
    desk.anns("PUT", &format!("{path}/typing"), Some(json!({ "on": true }))).await?;

    // What is laid aside is a state of its own, and not work that waits.
    wait::until("it is listed as hers", SOON, async || (desk.states(session).await.ok()? == ["open"]).then_some(()))
        .await?;
    let until = cluster::shard::now_ms() + 3_600_000;
    desk.anns("POST", &format!("{path}/events"), Some(json!({ "snooze": { "conversation": 1, "until": until } })))
        .await?;
    ensure!(desk.states(session).await? == ["snoozed"], "{:?}", desk.states(session).await?);
    ensure!(desk.show(session).await?["state"] == "snoozed");
    // Its visitor brings it back, and who laid it aside comes first.
    visitor.client.send(session, "I have found it").await?;
    let again = desk.offer_of(session).await?;
    desk.anns("POST", &format!("{path}/accept"), Some(json!({ "offer": again }))).await?;
    wait::until("it is open again", SOON, async || (desk.states(session).await.ok()? == ["open"]).then_some(()))
        .await?;

    mentions_and_what_is_declined(&desk, session).await
}

async fn mentions_and_what_is_declined(desk: &Desk, session: SessionId) -> anyhow::Result<()> {
    let seat = desk.anns("GET", "/v1/me/seat", None).await?;
    let me: AgentId = seat["agent"].as_str().context("no agent")?.parse()?;
    ensure!(seat["open"] == json!([{ "session": session.to_string(), "conversation": 1 }]), "{seat}");
    let note = json!({ "note": { "text": "look at this", "mentions": [me] } });
    desk.done(&desk.owner, "POST", &format!("/v1/conversations/{session}/events"), Some(note)).await?;
    let seq = wait::until("ann is told of the note", SOON, async || {
        desk.anns("GET", "/v1/me/seat", None).await.ok()?["mentions"][0]["seq"].as_u64()
    });
    let mention = format!("/v1/me/mentions/{session}/{}", seq.await?);
    for _ in 0..2 {
        desk.anns("DELETE", &mention, None).await?;
    }
    ensure!(desk.anns("GET", "/v1/me/seat", None).await?["mentions"] == json!([]));

    // Who is away is offered nothing; what is declined waits for others.
    let (declined, offer, _visitor) = desk.offered("and me?").await?;
    desk.says("away").await?;
    let all = desk.anns("GET", "/v1/me/seat", None).await?;
    ensure!(all["connected"] == true && all["state"] == "away", "{all}");
    wait::until("it is offered no more", SOON, async || {
        let seat = desk.anns("GET", "/v1/me/seat", None).await.ok()?;
        (seat["offers"] == json!([])).then_some(())
    })
    .await?;
    let path = format!("/v1/conversations/{declined}");
    let gone = desk.ask(&desk.anns, "POST", &format!("{path}/decline"), Some(json!({ "offer": offer }))).await?;
    ensure!(gone.status < 300 || gone.status == 409, "{}", gone.text());
    ensure!(desk.show(declined).await?["state"] == "waiting");
    desk.anns("POST", &format!("{path}/take"), Some(json!({ "conversation": 1 }))).await?;
    desk.ann.wait("she has it all the same", |told| told.holder(declined)).await?;
    let is_note =
        |event: &&proto::client::Event<'_>| matches!(&event.kind, EventKind::Act { act: Act::Note { .. }, .. });
    let notes = desk.ann.told.lock().events.iter().filter(is_note).count();
    ensure!(notes == 1, "her console heard of the note once");
    Ok(())
}
