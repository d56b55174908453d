//! Owns the tests of what people do beside writing, on real nodes: who sees it, and that it outlives its leader. Does not test the
//! rules case by case.

use super::*;
use chaos_tests::person::{SOON, Told};
use proto::client::{Act, Event, EventKind, HistoryFrom, SeatState};
use proto::ids::SessionId;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ann has the conversation of a visitor; Bob is busy.
async fn talk(cluster: &Cluster) -> anyhow::Result<(Vec<(AgentId, Person)>, SessionId, Person)> {
    let agents = people(cluster, ["ann", "bob"]).await?;
    agents[1].1.client.seat(SeatState::Busy).await?;
    let (new, visitor) = Person::visitor(cluster, 2).await?;
    visitor.client.send(new.session, "hello").await?;
    agents[0].1.wait("ann has it", |told| told.holder(new.session)).await?;
    Ok((agents, new.session, visitor))
}

fn kinds(events: &[Event<'_>]) -> Vec<&'static str> {
    let kind = |event: &Event<'_>| match &event.kind {
        EventKind::Message { .. } => "message",
        EventKind::Assigned { .. } => "assigned",
        EventKind::Closed { reason: None, .. } => "closed",
        EventKind::Closed { reason: Some(_), .. } => "closed because",
        EventKind::Queued { .. } => "queued",
        EventKind::Gone => "gone",
        EventKind::Erased { .. } => "erased",
        EventKind::Hidden => "hidden",
        EventKind::Act { act, .. } => proto::client::acts::kind(act),
    };
    events.iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_between_agents_reaches_no_visitor_by_any_way() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let (agents, session, visitor) = talk(&cluster).await?;
    let (ann, bob) = (&agents[0].1, &agents[1]);
    let note = Act::Note { text: "a difficult one".into(), mentions: vec![bob.0] };
    let noted = ann.client.act(session, note).await?;
    ann.client.act(session, Act::Label { label: "angry".into(), on: true }).await?;
    let mention = bob.1.wait("bob is told", |told| told.seat.as_ref()?.mentions.first().copied()).await?;
    ensure!((mention.session, mention.seq) == (session, noted.seq), "{mention:?}");
    bob.1.client.act(session, Act::Note { text: "I know her".into(), mentions: Vec::new() }).await?;
    bob.1.client.dismiss(mention).await?;
    bob.1.wait("it is seen to", |told| told.seat.as_ref().filter(|seat| seat.mentions.is_empty()).map(drop)).await?;
    ann.client.close_because(session, "sold").await?;
    let all = ["message", "assigned", "hidden", "hidden", "hidden", "closed"];
    let live = visitor.wait("it is over", |told| (told.events.len() == all.len()).then(|| kinds(&told.events))).await?;
    ensure!(live == all, "{live:?}");
    let page = visitor.client.history(session, HistoryFrom::After(0), None).await?;
    ensure!(kinds(&page.events) == all, "{page:?}");
    let seen = ann.client.history(session, HistoryFrom::After(0), None).await?;
    ensure!(kinds(&seen.events) == ["message", "assigned", "note", "label", "note", "closed because"], "{seen:?}");
    for act in [
        Act::Note { text: "me too".into(), mentions: Vec::new() },
        Act::Label { label: "vip".into(), on: true },
        Act::Reopen { conversation: 1 },
    ] {
        ensure!(refused(visitor.client.act(session, act).await)? == ErrorCode::Forbidden);
    }
    ensure!(refused(visitor.client.watch(session, true).await)? == ErrorCode::Forbidden);
    ensure!(refused(visitor.client.dismiss(mention).await)? == ErrorCode::Forbidden);
    is_empty(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_reactions_and_answers_reach_everyone_and_a_recalled_text_is_gone() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let (agents, session, visitor) = talk(&cluster).await?;
    let ann = &agents[0].1;
    let secret = visitor.client.send(session, "my card is 4111").await?;
    visitor.client.act(session, Act::Edit { seq: secret.seq, text: "my card is 4222".into() }).await?;
    ann.client.act(session, Act::React { seq: secret.seq, emoji: "👀".into(), on: true }).await?;
    ann.client.reply(session, secret.seq, "please take that back").await?;
    let draft = |told: &Told| told.drafts.iter().any(|draft| draft == "I will ta").then_some(());
    wait::until("ann sees what is typed", SOON, async || {
        // It may be lost, as anything that is typed.
        visitor.client.draft(session, "I will ta").await.ok()?;
        draft(&ann.told.lock())
    })
    .await?;
    let victim = leader(&cluster, Target::Session(session)).await?;
    let recall = visitor.client.act(session, Act::Recall { seq: secret.seq });
    let killed = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        cluster.kill(victim);
    };
    let (recalled, ()) = tokio::join!(recall, killed);
    recalled.context("the recall")?;
    let there = |told: &Told| kinds(&told.events).ends_with(&["recalled"]).then_some(());
    ann.wait("ann is told", there).await?;
    for reader in [&ann.client, &visitor.client] {
        let page = reader.history(session, HistoryFrom::After(0), None).await?;
        let all = ["message", "assigned", "message", "edited", "reaction", "message", "recalled"];
        ensure!(kinds(&page.events) == all, "{page:?}");
        let text = format!("{page:?}");
        ensure!(!text.contains("4111") && !text.contains("4222") && text.contains("take that back"), "{text}");
    }
    ensure!(visitor.told.lock().drafts.is_empty());
    cluster.restart(&[victim]).await?;
    visitor.client.close(session).await?;
    is_empty(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snoozed_conversation_comes_back_whoever_leads_by_then() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let (agents, session, visitor) = talk(&cluster).await?;
    let ann = &agents[0].1;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    ann.client.act(session, Act::Snooze { conversation: 1, until_ms: now_ms + 4_000 }).await?;
    is_empty(&cluster).await.context("it is on no desk")?;
    ensure!(refused(ann.client.send(session, "not now").await)? == ErrorCode::Forbidden);
    let victim = leader(&cluster, Target::Session(session)).await?;
    cluster.kill(victim);
    let back = |told: &Told| {
        let kinds = kinds(&told.events);
        kinds.ends_with(&["queued", "assigned"]).then_some(())
    };
    visitor.wait_for("it is back", SOON + Duration::from_secs(5), back).await?;
    ensure!(visitor.told.lock().holder(session) == Some(agents[0].0));
    wait::until("ann goes on", SOON, async || ann.client.send(session, "here I am again").await.ok().map(drop)).await?;
    cluster.restart(&[victim]).await?;

    // Closed too early: ann opens it again, and has it.
    visitor.client.close(session).await?;
    visitor.wait("it is over", |told| told.holder(session).is_none().then_some(())).await?;
    ann.client.act(session, Act::Reopen { conversation: 1 }).await?;
    let holder = visitor.wait("somebody has it", |told| told.holder(session)).await?;
    ensure!(holder == agents[0].0, "{holder} has it");
    let given_again =
        |told: &Told| (kinds(&told.events).iter().filter(|kind| **kind == "assigned").count() == 3).then_some(());
    ann.wait("ann follows it", given_again).await?;
    ann.client.close(session).await?;
    is_empty(&cluster).await
}
