//! Owns the test of sessions that an operator moves between agents. Does not test who gets a session by itself.

use anyhow::{Context, bail, ensure};
use chaos_tests::cluster::Cluster;
use chaos_tests::http::{Connection, header};
use chaos_tests::person::{Person, SOON, Told};
use chaos_tests::wait;
use parking_lot::Mutex;
use proto::client::{EventKind, HistoryFrom, Party};
use proto::ids::AgentId;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";
const MOVES: u64 = 20;
/// Before this move, the node that leads the session's shard dies.
const KILL_AT: u64 = 10;

async fn wait(person: &Person, seq: u64) -> anyhow::Result<()> {
    let told = |told: &Told| told.events.iter().any(|event| event.seq == seq).then_some(());
    person.wait(&format!("seq {seq} is told"), told).await
}

/// Asks a node to move the session; the status, and what it said.
async fn move_to(cluster: &Cluster, number: u64, session: &str, agent: &str) -> anyhow::Result<(u16, Value)> {
    let bearer = format!("Bearer {}", cluster.admin_token()?);
    let headers = [("Connection", "close"), ("Authorization", &bearer), ("Content-Type", "application/json")];
    let (path, body) = (format!("/admin/v1/sessions/{session}/move"), json!({ "agent": agent }).to_string());
    let mut connection = Connection::open(&cluster.node(number).admin).await?;
    let answer = connection.request("POST", &path, &headers, body.as_bytes()).await?;
    ensure!(header(&answer.head, "content-type").is_some_and(|kind| kind.contains("json")), "{}", answer.text());
    Ok((answer.status, serde_json::from_slice(&answer.body)?))
}

/// Who cannot see the session does not get it.
async fn check_refused(cluster: &Cluster, session: &str) -> anyhow::Result<()> {
    ensure!(move_to(cluster, 1, session, "a999999").await?.0 == 404, "an agent who is not there");
    let listed: Value = serde_json::from_str(&cluster.command(&["admin", "agents", "list", "--json"], "").await?)?;
    let cyd = listed["agents"].as_array().and_then(|all| all.iter().find(|agent| agent["name"] == "cyd"));
    let cyd = cyd.and_then(|cyd| cyd["agent"].as_str()).context("no cyd")?;
    let (status, told) = move_to(cluster, 2, session, cyd).await?;
    ensure!(status == 422 && told["detail"].as_str().is_some_and(|why| why.contains("not online")), "{told}");
    cluster.command(&["site", "add", "elsewhere"], "").await?;
    cluster.command(&["agent", "add", "--site", "elsewhere", "--name", "eve", "--password-stdin"], PASSWORD).await?;
    let listed: Value = serde_json::from_str(
        &cluster.command(&["admin", "agents", "list", "--site", "elsewhere", "--json"], "").await?,
    )?;
    let eve = listed["agents"][0]["agent"].as_str().context("no eve")?;
    ensure!(move_to(cluster, 2, session, eve).await?.0 == 422, "an agent of another site");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_moved_while_they_talk_and_a_node_dies_has_one_agent_at_a_time() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    for name in ["ann", "bob", "cyd"] {
        cluster.add_agent(name, PASSWORD).await?;
    }
    let agents =
        [Person::agent(&cluster, "ann", PASSWORD, 1).await?, Person::agent(&cluster, "bob", PASSWORD, 2).await?];
    let (new, visitor) = Person::visitor(&cluster, 0).await?;
    let (id, session) = (new.session, new.session.to_string());
    let acked = Mutex::new(vec![(visitor.client.send(id, "0").await?.seq, "0".to_owned())]);
    let first = wait::until("an agent has the session", SOON, async || {
        (0..2).find(|at| {
            agents[*at].1.told.lock().events.iter().any(|event| matches!(event.kind, EventKind::Assigned { .. }))
        })
    });
    let mut has = first.await?;

    check_refused(&cluster, &session).await?;
    let mut dead = None;
    for round in 1..=MOVES {
        if round == KILL_AT {
            let text = cluster.command(&["admin", "sessions", "show", &session, "--json"], "").await?;
            let leader = serde_json::from_str::<Value>(&text)?["leader"].as_str().context("no leader")?.to_owned();
            let leader: u64 = leader.trim_start_matches('n').parse()?;
            cluster.kill(leader);
            dead = Some(leader);
        }
        let to = 1 - has;
        let number = (1..=3).map(|n| 1 + (round + n) % 3).find(|n| dead != Some(*n)).context("no node")?;
        let moving = wait::until("the session is moved", SOON, async || {
            match move_to(&cluster, number, &session, &agents[to].0.to_string()).await {
                Ok((200, view)) => Some(view),
                _ => None,
            }
        });
        let text = format!("visitor {round}");
        let (view, ack) = tokio::join!(moving, visitor.client.send(id, text.clone()));
        let (view, ack) = (view?, ack?);
        acked.lock().push((ack.seq, text));
        ensure!(view["agent"] == agents[to].0.to_string() && view["state"] == "open", "{view}");
        let from = view["open_from"].as_u64().context("no open_from")?;
        wait(&agents[to].1, from).await.context("the new agent does not follow it")?;
        let text = format!("agent {round}");
        let seq = agents[to].1.client.send(id, text.clone()).await.context("the new agent cannot answer")?.seq;
        acked.lock().push((seq, text));
        match agents[has].1.client.send(id, "still mine?").await {
            Err(error) if error.to_string().contains("not yours") => {}
            other => bail!("the agent before may still write: {other:?}"),
        }
        has = to;
    }
    let command = ["admin", "sessions", "move", &session, "--agent", &agents[1 - has].0.to_string()];
    if let Some(number) = dead {
        cluster.restart(&[number]).await?;
    }
    let told = cluster.command(&command, "").await?;
    let owner = &agents[1 - has];
    ensure!(told.contains(&owner.0.to_string()), "{told}");
    let view: Value =
        serde_json::from_str(&cluster.command(&["admin", "sessions", "show", &session, "--json"], "").await?)?;
    wait(&owner.1, view["open_from"].as_u64().context("no open_from")?).await?;
    let closed = wait::until("the last agent closes it", SOON, async || owner.1.client.close(id).await.ok());
    closed.await?;
    let (status, told) = move_to(&cluster, 1, &session, &agents[0].0.to_string()).await?;
    ensure!(status == 422 && told["detail"].as_str().is_some_and(|why| why.contains("no conversation")), "{told}");
    check(&visitor, &agents, id, &acked.into_inner()).await
}

/// What was acked stands where it was acked, only who has the session writes, and who has it is told of all there is.
async fn check(
    visitor: &Person,
    agents: &[(AgentId, Person)],
    session: proto::ids::SessionId,
    acked: &[(u64, String)],
) -> anyhow::Result<()> {
    let history = visitor.client.history(session, HistoryFrom::After(0), Some(200)).await?;
    let (mut owner, mut moves) = (None, 0);
    for (event, seq) in history.events.iter().zip(1..) {
        ensure!(event.seq == seq, "seq {} where {seq} was due", event.seq);
        match &event.kind {
            EventKind::Assigned { agent } => {
                ensure!(owner != Some(*agent), "{agent} got it twice in a row");
                moves += u64::from(owner.replace(*agent).is_some());
            }
            EventKind::Message { from: Party::Agent(agent), .. } => {
                ensure!(owner == Some(*agent), "{agent} wrote {seq}")
            }
            EventKind::Closed { .. } | EventKind::Queued { .. } => owner = None,
            EventKind::Message { .. }
            | EventKind::Act { .. }
            | EventKind::Gone
            | EventKind::Erased { .. }
            | EventKind::Hidden => {}
        }
        // The event that takes it away is told to both; what came before the first was assigned, to the first.
        for (agent, told) in agents.iter().filter(|(agent, _)| owner == Some(*agent)) {
            wait(told, seq).await.with_context(|| format!("{agent} has the session"))?;
        }
    }
    ensure!(moves == MOVES + 1 && owner.is_none(), "{moves} moves, and in the end {owner:?} has it");
    for (seq, text) in acked {
        let event = history.events.iter().find(|event| event.seq == *seq).context("an acked message is lost")?;
        ensure!(
            matches!(&event.kind, EventKind::Message { text: stored, .. } if stored == text),
            "{event:?} is not {text}"
        );
    }
    let messages = history.events.iter().filter(|event| matches!(event.kind, EventKind::Message { .. })).count();
    ensure!(messages == acked.len(), "{messages} messages, {} acked", acked.len());
    agents.iter().map(|(_, told)| told).chain([visitor]).try_for_each(Person::check)?;
    println!("{moves} moves, {messages} messages, {} events", history.events.len());
    Ok(())
}
