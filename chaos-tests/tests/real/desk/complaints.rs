//! Owns what people complain of in such systems, each as a test. Does not test many at a time.

use std::time::Duration;

use super::*;
use chaos_tests::person::SOON;
use proto::client::limits::PRESENCE_GRACE;
use proto::client::{About, EventKind, SeatState, TransferTo};
use proto::desk::Channel;
use proto::ids::TeamId;

/// What is offered is told to the agent's sockets, and lapses by itself, whoever led when it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_not_stuck_in_the_queue_when_nobody_answers_and_the_leader_dies() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann", "bob"]).await?;
    set_team(&cluster, "t1", &["--accept-s", "4"]).await?;
    for (agent, _) in &agents {
        set_seat(&cluster, *agent, 3, &["--teams", "t1"]).await?;
    }
    let (new, visitor) = Person::visitor(&cluster, 2).await?;
    let session = new.session;
    let facts = [("page".into(), "https://shop.example/".into())].into_iter().collect();
    visitor.client.about(About { session, team: Some(TeamId(1)), facts, channel: Channel::WEB }).await?;
    visitor.client.send(session, "is anybody there?").await?;
    let who = async |but: Option<usize>| {
        wait::until("somebody is asked", SOON, async || {
            let asked = |at: &usize| Some(*at) != but && agents[*at].1.told.lock().offer(session).is_some();
            (0..2).find(asked)
        })
        .await
    };
    let first = who(None).await?;
    visitor
        .wait("the visitor hears that somebody is asked", |told| {
            told.places.iter().any(|place| place.position == 0).then_some(())
        })
        .await?;
    let victim = leader(&cluster, DESK).await?;
    cluster.kill(victim);
    let second = who(Some(first)).await?;
    let missed = |told: &chaos_tests::person::Told| {
        told.seat.as_ref().filter(|seat| seat.state == SeatState::Away && seat.offers.is_empty()).map(drop)
    };
    agents[first].1.wait("who let it pass is away", missed).await?;
    let offer = agents[second].1.told.lock().offer(session).context("the offer")?;
    match agents[first].1.client.accept(offer).await {
        Err(ClientError::Refused(error)) if error.code == ErrorCode::Closed => {}
        other => anyhow::bail!("another's offer was accepted: {other:?}"),
    }
    agents[second].1.client.accept(offer).await?;
    agents[second].1.client.accept(offer).await.context("said again")?;
    let holder = visitor.wait("the visitor is told who has it", |told| told.holder(session)).await?;
    ensure!(holder == agents[second].0, "{holder} has it");
    agents[second].1.client.send(session, "yes").await?;
    cluster.restart(&[victim]).await?;
    visitor.client.close(session).await?;
    is_empty(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_sees_the_position_and_is_served_as_soon_as_capacity_frees() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann"]).await?;
    let (agent, ann) = &agents[0];
    set_seat(&cluster, *agent, 1, &[]).await?;
    let mut visitors = Vec::new();
    for at in 0..4 {
        let (new, visitor) = Person::visitor(&cluster, at).await?;
        visitor.client.send(new.session, "hello").await?;
        if at == 0 {
            visitor.wait("the first is served", |told| told.holder(new.session)).await?;
        } else {
            let position = at as u64;
            let there = move |told: &chaos_tests::person::Told| {
                told.places.last().filter(|place| place.position == position).map(drop)
            };
            visitor.wait(&format!("place {position}"), there).await?;
        }
        visitors.push((new.session, visitor));
    }
    let listed = ann.client.queue(None).await?;
    let sessions: Vec<_> = listed.waiting.iter().map(|one| one.session).collect();
    ensure!(sessions == visitors[1..].iter().map(|(session, _)| *session).collect::<Vec<_>>(), "{listed:?}");
    ensure!(listed.total == 3 && listed.waiting.iter().all(|one| one.team.is_none() && one.since > 0), "{listed:?}");
    let shown = admin(&cluster, &["desks", "queue", SITE, "--limit", "2"]).await?;
    ensure!(shown["total"] == 3 && shown["waiting"].as_array().is_some_and(|all| all.len() == 2), "{shown}");
    // One gives up; the others move on.
    visitors[1].1.client.close(visitors[1].0).await?;
    ann.client.close(visitors[0].0).await?;
    visitors[2].1.wait("the next is served", |told| told.holder(visitors[2].0)).await?;
    let last = |told: &chaos_tests::person::Told| told.places.last().filter(|place| place.position == 1).map(drop);
    visitors[3].1.wait("the last is the next", last).await?;
    let late = ann.client.take(visitors[3].0, 1).await;
    ensure!(matches!(&late, Err(ClientError::Refused(error)) if error.code == ErrorCode::Closed), "{late:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returning_visitor_is_not_sent_to_an_agent_who_is_offline() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let mut agents = people(&cluster, ["ann", "bob"]).await?;
    let rules = r#"[{"when":[{"fact":"page","starts_with":"/shop"}],"skills":["shoes"],"priority":2}]"#;
    admin(&cluster, &["desks", "set-rules", SITE, "--sticky-s", "3600", "--routes", rules]).await?;
    set_seat(&cluster, agents[0].0, 2, &["--skills", "shoes"]).await?;
    agents[1].1.client.seat(SeatState::Busy).await?;
    let (new, visitor) = Person::visitor(&cluster, 1).await?;
    let session = new.session;
    let facts = [("page".into(), "/shop/shoes".into())].into_iter().collect();
    visitor.client.about(About { session, team: None, facts, channel: Channel::WEB }).await?;
    let come = async |to: AgentId| {
        visitor.client.send(session, "hello").await?;
        let holder = visitor.wait("somebody has it", |told| told.holder(session)).await?;
        ensure!(holder == to, "{holder} got it");
        visitor.client.close(session).await?;
        visitor.wait("it is over", |told| told.holder(session).is_none().then_some(())).await
    };
    come(agents[0].0).await?;
    set_seat(&cluster, agents[1].0, 2, &["--skills", "shoes"]).await?;
    agents[1].1.client.seat(SeatState::Online).await?;
    come(agents[0].0).await.context("the agent of last time")?;
    // Who crashed is offline a grace later, whatever their console thought.
    drop(agents.remove(0));
    wait::until("the agent is offline", PRESENCE_GRACE + SOON, async || {
        let view = desk(&cluster).await.ok()?;
        view["seats"].as_array()?.iter().any(|seat| seat["state"] == "offline").then_some(())
    })
    .await?;
    come(agents[0].0).await.context("another agent")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_who_reconnects_cannot_answer_over_a_colleague() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann", "bob"]).await?;
    agents[1].1.client.seat(SeatState::Busy).await?;
    let (new, visitor) = Person::visitor(&cluster, 2).await?;
    let session = new.session;
    visitor.client.send(session, "hello").await?;
    agents[0].1.wait("ann has it", |told| told.holder(session)).await?;
    let (one, other) = (agents[0].0, agents[1].0);
    // Ann's socket is away while Bob takes over; then it comes back.
    let (name, to) = (session.to_string(), other.to_string());
    let moving = ["sessions", "move", &name, "--agent", &to];
    let (moved, hopped) = tokio::join!(admin(&cluster, &moving), agents[0].1.client.hop());
    moved?;
    hopped?;
    let refused = agents[0].1.client.send(session, "as I said").await;
    ensure!(matches!(&refused, Err(ClientError::Refused(error)) if error.code == ErrorCode::Forbidden), "{refused:?}");
    agents[0].1.wait("ann is told", |told| (told.holder(session) == Some(other)).then_some(())).await?;
    agents[1].1.client.send(session, "hello, I am Bob").await?;
    let told = visitor.told.lock();
    ensure!(told.holder(session) == Some(other) && one != other, "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_that_write_at_once_open_one_conversation() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let (new, first) = Person::visitor(&cluster, 0).await?;
    let config = node::client::Config::new(
        cluster.clients_from(1),
        new.token.clone(),
        proto::client::Party::Visitor(new.visitor),
    );
    let second = Person::start(config);
    let (one, two) =
        tokio::join!(first.client.send(new.session, "from here"), second.client.send(new.session, "from there"));
    ensure!(one?.seq + two?.seq == 3, "two messages, one after the other");
    let agents = people(&cluster, ["ann"]).await?;
    agents[0].1.wait("it is assigned", |told| told.holder(new.session)).await?;
    let view = desk(&cluster).await?;
    ensure!(view["queued"] == 0 && view["seats"][0]["open"] == 1, "{view}");
    let texts = async || {
        wait::until("both tabs show both without a refresh", Duration::from_secs(5), async || {
            [&first, &second].into_iter().all(|tab| tab.told.lock().events.len() == 3).then_some(())
        })
        .await
    };
    texts().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_transferred_and_nobody_keeps_it_who_does_not_come_back() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let mut agents = people(&cluster, ["ann", "bob", "cyd"]).await?;
    set_team(&cluster, "t1", &[]).await?;
    set_seat(&cluster, agents[2].0, 1, &["--teams", "t1"]).await?;
    set_seat(&cluster, agents[1].0, 1, &[]).await?;
    admin(&cluster, &["desks", "set-rules", SITE, "--requeue-s", "2"]).await?;
    agents[1].1.client.seat(SeatState::Busy).await?;
    agents[2].1.client.seat(SeatState::Busy).await?;
    let (new, visitor) = Person::visitor(&cluster, 2).await?;
    let session = new.session;
    visitor.client.send(session, "hello").await?;
    let held_by = async |agent: AgentId| {
        let told = |told: &chaos_tests::person::Told| (told.holder(session) == Some(agent)).then_some(());
        visitor.wait("the visitor is told who has it", told).await
    };
    held_by(agents[0].0).await?;
    agents[0].1.wait("ann follows it", |told| told.holder(session)).await?;

    // To a colleague: one who is not there or has no room does not get it.
    let nobody = agents[0].1.client.transfer(session, TransferTo::Agent(AgentId(999))).await;
    ensure!(matches!(&nobody, Err(ClientError::Refused(error)) if error.code == ErrorCode::Closed), "{nobody:?}");
    agents[0].1.client.transfer(session, TransferTo::Agent(agents[1].0)).await?;
    held_by(agents[1].0).await?;
    let late = agents[0].1.client.send(session, "one more thing").await;
    ensure!(matches!(&late, Err(ClientError::Refused(error)) if error.code == ErrorCode::Forbidden), "{late:?}");
    agents[1].1.wait("bob follows it", |told| told.holder(session)).await?;
    agents[1].1.client.send(session, "bob here").await?;

    // To a team: it waits for one of them.
    agents[1].1.client.transfer(session, TransferTo::Team(TeamId(1))).await?;
    let waits = |told: &chaos_tests::person::Told| {
        told.events.last().filter(|event| matches!(event.kind, EventKind::Queued { .. })).map(drop)
    };
    visitor.wait("the visitor is told that it waits", waits).await?;
    visitor.client.send(session, "still here").await?;
    agents[2].1.client.seat(SeatState::Online).await?;
    held_by(agents[2].0).await?;
    agents[2]
        .1
        .wait("cyd is told what was said since", |told| told.events.iter().any(said("still here")).then_some(()))
        .await?;
    agents[2].1.client.send(session, "cyd here").await?;

    // Cyd's machine is gone, and does not come back.
    set_seat(&cluster, agents[1].0, 1, &["--teams", "t1"]).await?;
    agents[1].1.client.seat(SeatState::Online).await?;
    drop(agents.remove(2));
    let found = |told: &chaos_tests::person::Told| (told.holder(session) == Some(agents[1].0)).then_some(());
    visitor.wait_for("somebody else has it", PRESENCE_GRACE + SOON, found).await?;
    agents[1].1.client.send(session, "bob again").await?;
    visitor.client.close(session).await?;
    is_empty(&cluster).await
}

fn said(words: &str) -> impl Fn(&proto::client::Event<'static>) -> bool {
    move |event| matches!(&event.kind, EventKind::Message { text, .. } if text == words)
}

/// Waits until the desk says that of an agent.
async fn is_seen(cluster: &Cluster, agent: AgentId, state: &str, within: Duration) -> anyhow::Result<()> {
    let name = agent.to_string();
    let seen = wait::until("the desk knows", within, async || {
        let view = desk(cluster).await.ok()?;
        let is_so = |seat: &Value| seat["agent"] == name.as_str() && seat["state"] == state;
        view["seats"].as_array()?.iter().any(is_so).then_some(())
    });
    let done = seen.await;
    ensure!(done.is_ok(), "{agent} is not {state}: {}", desk(cluster).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_is_right_whoever_leads_and_whoever_crashes_with_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let mut agents = people(&cluster, ["ann", "bob"]).await?;
    let (ann, bob) = (agents[0].0, agents[1].0);
    agents[1].1.client.seat(SeatState::Away).await?;
    is_seen(&cluster, ann, "online", SOON).await?;
    is_seen(&cluster, bob, "away", SOON).await?;

    // The leader of her shard dies: she is there all the same, and what he said of himself is still known.
    let victim = leader(&cluster, Target::Agent(ann)).await?;
    cluster.kill(victim);
    let (new, visitor) = Person::visitor(&cluster, victim as usize % 3).await?;
    visitor.client.send(new.session, "hello").await?;
    let holder = visitor.wait("somebody has it", |told| told.holder(new.session)).await?;
    ensure!(holder == ann, "{holder} got it");
    cluster.restart(&[victim]).await?;
    is_seen(&cluster, ann, "online", SOON).await?;
    is_seen(&cluster, bob, "away", SOON).await?;

    // His machine crashes together with the leader of his shard: a grace later he is offline, and she is not.
    let victim = leader(&cluster, Target::Agent(bob)).await?;
    drop(agents.pop());
    cluster.kill(victim);
    cluster.restart(&[victim]).await?;
    is_seen(&cluster, bob, "offline", PRESENCE_GRACE + SOON).await.context("his machine crashed")?;
    is_seen(&cluster, ann, "online", SOON).await?;

    // Back at another node, he is what he said, until he says otherwise.
    let (_, back) = Person::agent(&cluster, "bob", PASSWORD, victim as usize % 3).await?;
    is_seen(&cluster, bob, "away", SOON).await?;
    back.client.seat(SeatState::Online).await?;
    is_seen(&cluster, bob, "online", SOON).await
}
