//! Owns the race for a conversation: two agents on two nodes, at the same instant, while leaders die. Does not test fairness.
//! Invariant: exactly one of them is told that it is theirs, and the visitor is given to that one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use chaos_tests::person::{Person, SOON};
use node::client::ClientError;
use proto::client::{ErrorCode, EventKind, HistoryFrom, SeatState};
use proto::ids::SessionId;

/// Visitors who are fought for at a time.
const LANES: u64 = 8;
/// Unless `EVERDESK_RACES` says otherwise.
const RACES: u64 = 240;
/// A leader dies after so many.
const RACES_PER_KILL: u64 = 60;

/// How many races are asked for.
pub(super) fn races_asked() -> anyhow::Result<u64> {
    Ok(std::env::var("EVERDESK_RACES").map_or(Ok(RACES), |text| text.parse())?)
}

/// Kills leaders, each of what `victims` names in turn, while `done` counts up to `max`: one for every `RACES_PER_KILL`. Each comes back.
pub(super) async fn kill_leaders(
    cluster: &tokio::sync::RwLock<Cluster>,
    victims: &[Target],
    done: &AtomicU64,
    max: u64,
) -> anyhow::Result<u64> {
    let kills = (max / RACES_PER_KILL).max(1);
    for (kill, target) in (1..=kills).zip(victims.iter().cycle()) {
        let at = kill * max / (kills + 1);
        wait::until("the races go on", Duration::from_secs(600), async || {
            (done.load(Ordering::Relaxed) >= at).then_some(())
        })
        .await?;
        let mut cluster = cluster.write().await;
        let victim = leader(&cluster, *target).await?;
        cluster.kill(victim);
        cluster.restart(&[victim]).await?;
    }
    Ok(kills)
}

pub(super) fn is_mine(answer: Result<(), ClientError>) -> anyhow::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(ClientError::Refused(error)) if error.code == ErrorCode::Closed => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A visitor comes again and again; both agents take every conversation at once.
async fn lane(
    cluster: &tokio::sync::RwLock<Cluster>,
    agents: &[(AgentId, Person); 2],
    races: &AtomicU64,
    max: u64,
    number: u64,
) -> anyhow::Result<[u64; 2]> {
    let (new, visitor) = Person::visitor(&*cluster.read().await, number as usize % 3).await?;
    let mut won = [0, 0];
    for conversation in 1.. {
        if races.fetch_add(1, Ordering::Relaxed) >= max {
            break;
        }
        visitor.client.send(new.session, format!("race {conversation}")).await?;
        wait::until("the conversation waits", SOON, async || {
            let queue = agents[0].1.client.queue(Some(200)).await.ok()?;
            queue.waiting.iter().any(|one| one.session == new.session && one.conversation == conversation).then_some(())
        })
        .await?;
        let taken = agents.each_ref().map(|agent| agent.1.client.take(new.session, conversation));
        let [one, two] = taken;
        let (one, two) = tokio::join!(one, two);
        let mine = [is_mine(one)?, is_mine(two)?];
        ensure!(mine[0] != mine[1], "{} {conversation}: {mine:?} think that it is theirs", new.session);
        let winner = usize::from(mine[1]);
        won[winner] += 1;
        let told = visitor.wait("the visitor hears who has it", |told| told.holder(new.session)).await?;
        ensure!(told == agents[winner].0, "{} took it, and the visitor is told of {told}", agents[winner].0);
        visitor.client.close(new.session).await?;
        visitor.wait("it ends", |told| told.holder(new.session).is_none().then_some(())).await?;
    }
    let ids = agents.each_ref().map(|(id, _)| *id);
    given_once_each(&visitor, new.session, &ids).await?;
    Ok(won)
}

/// Each conversation was given once.
pub(super) async fn given_once_each(visitor: &Person, session: SessionId, agents: &[AgentId]) -> anyhow::Result<()> {
    let (mut after, mut is_open, mut holder) = (0, false, None);
    loop {
        let page = visitor.client.history(session, HistoryFrom::After(after), Some(200)).await?;
        for event in &page.events {
            match &event.kind {
                EventKind::Message { .. } => is_open = true,
                EventKind::Assigned { agent } => {
                    let known = agents.contains(agent);
                    ensure!(is_open && known && holder.replace(*agent).is_none(), "given twice at {}", event.seq);
                }
                EventKind::Queued { .. } => anyhow::bail!("given back at {}", event.seq),
                EventKind::Act { .. } | EventKind::Gone | EventKind::Erased { .. } | EventKind::Hidden => {
                    anyhow::bail!("an act at {}", event.seq)
                }
                EventKind::Closed { .. } => {
                    ensure!(holder.take().is_some(), "closed before anybody had it, at {}", event.seq);
                    is_open = false;
                }
            }
        }
        after = page.events.last().map_or(after, |event| event.seq);
        if after >= page.head {
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_who_click_at_the_same_instant_never_both_get_a_visitor() -> anyhow::Result<()> {
    let max = races_asked()?;
    let cluster = Cluster::start(3).await?;
    for name in ["ann", "bob"] {
        cluster.add_agent(name, PASSWORD).await?;
    }
    let agents =
        [Person::agent(&cluster, "ann", PASSWORD, 0).await?, Person::agent(&cluster, "bob", PASSWORD, 1).await?];
    for (agent, person) in &agents {
        // As many as are fought for: more than the capacity is refused, and would decide nothing.
        set_seat(&cluster, *agent, LANES as u32, &[]).await?;
        person.client.seat(SeatState::Busy).await?;
    }
    wait::until("both are busy", SOON, async || {
        let view = desk(&cluster).await.ok()?;
        view["seats"].as_array()?.iter().all(|seat| seat["state"] == "busy").then_some(())
    })
    .await?;

    let cluster = tokio::sync::RwLock::new(cluster);
    let races = AtomicU64::new(0);
    let lanes =
        futures_util::future::try_join_all((0..LANES).map(|number| lane(&cluster, &agents, &races, max, number)));
    let kills = kill_leaders(&cluster, &[DESK], &races, max);
    let (won, kills) = tokio::try_join!(lanes, kills)?;
    let won = won.into_iter().fold([0, 0], |sum, lane| [sum[0] + lane[0], sum[1] + lane[1]]);
    agents.iter().try_for_each(|(_, person)| person.check())?;
    is_empty(&*cluster.read().await).await?;
    println!("{} races, won by {won:?}, {kills} leaders killed", won[0] + won[1]);
    ensure!(won[0] + won[1] == max, "{won:?} of {max}");
    Ok(())
}
