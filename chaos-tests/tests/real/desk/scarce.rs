//! Owns the test of scarce seats: more visitors than there is room for, conversations that end all the time, and leaders that die. Does not
//! test who comes first. Invariant: no agent has more than their seat holds, no visitor two agents, and nobody waits beside room.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::race::{is_mine, kill_leaders, races_asked};
use super::*;
use proto::client::{EventKind, HistoryFrom, TransferTo};
use proto::ids::SessionId;
use std::collections::BTreeMap;

/// Conversations at once of one agent.
const CAPACITY: u32 = 2;
const VISITORS: usize = 12;
/// Longest wait of a visitor, over leaders that die.
const PATIENCE: Duration = Duration::from_secs(120);

/// So long somebody is talked with.
const TALK: Duration = Duration::from_millis(100);

type Agents = [(AgentId, Person)];

/// A time during which an agent had a conversation, in milliseconds.
#[derive(Debug)]
struct Held {
    agent: AgentId,
    from_ms: u64,
    /// `None`: the agent has it still.
    to_ms: Option<u64>,
}

/// The most that each agent had at once. One clock stamps all nodes of this machine, and a place is given again only after what had it has
/// ended: so what ends in a millisecond has ended before what begins in it.
fn most_at_once(all: &[Held]) -> BTreeMap<AgentId, i64> {
    let begins = all.iter().map(|held| (held.agent, held.from_ms, 1));
    let ends = all.iter().filter_map(|held| Some((held.agent, held.to_ms?, -1)));
    let mut steps: Vec<(AgentId, u64, i64)> = begins.chain(ends).collect();
    steps.sort_unstable();
    let (mut now, mut most) = (BTreeMap::new(), BTreeMap::new());
    for (agent, _, step) in steps {
        let count = now.entry(agent).or_insert(0);
        *count += step;
        let highest = most.entry(agent).or_insert(0);
        *highest = (*highest).max(*count);
    }
    most
}

#[test]
fn what_is_held_at_once_is_counted_by_when_it_began_and_ended() {
    let held = |agent, from_ms, to_ms| Held { agent: AgentId(agent), from_ms, to_ms };
    let one_after_another = [held(1, 10, Some(20)), held(1, 20, Some(30)), held(2, 5, None)];
    assert_eq!(most_at_once(&one_after_another), [(AgentId(1), 1), (AgentId(2), 1)].into());
    let beside = [held(1, 10, Some(21)), held(1, 20, None), held(1, 15, Some(40))];
    assert_eq!(most_at_once(&beside), [(AgentId(1), 3)].into());
}

/// Who had a session when, by its whole history; fails when it was given to somebody while somebody had it.
async fn held(visitor: &Person, session: SessionId) -> anyhow::Result<Vec<Held>> {
    let (mut all, mut after, mut is_open) = (Vec::<Held>::new(), 0, false);
    loop {
        let page = visitor.client.history(session, HistoryFrom::After(after), Some(200)).await?;
        for event in &page.events {
            let holder = all.last_mut().filter(|held| held.to_ms.is_none());
            match &event.kind {
                EventKind::Message { .. } => is_open = true,
                EventKind::Assigned { agent } => {
                    ensure!(is_open && holder.is_none(), "{session}: given to {agent} at {}: {holder:?}", event.seq);
                    all.push(Held { agent: *agent, from_ms: event.ts, to_ms: None });
                }
                EventKind::Queued { .. } => holder.context("given back by nobody")?.to_ms = Some(event.ts),
                EventKind::Closed { .. } => {
                    ensure!(is_open, "{session}: closed twice at {}", event.seq);
                    is_open = false;
                    if let Some(holder) = holder {
                        holder.to_ms = Some(event.ts);
                    }
                }
                other => anyhow::bail!("{session}: {other:?} at {}", event.seq),
            }
        }
        after = page.events.last().map_or(after, |event| event.seq);
        if after >= page.head {
            return Ok(all);
        }
    }
}

/// A visitor who comes again and again: some give up, some are served, some are given back and served again.
async fn lane(
    (session, visitor): &(SessionId, Person),
    agents: &Agents,
    number: usize,
    done: &AtomicU64,
    max: u64,
) -> anyhow::Result<()> {
    for conversation in number.. {
        if done.fetch_add(1, Ordering::Relaxed) >= max {
            break;
        }
        let before = visitor.told.lock().events.len();
        visitor.client.send(*session, format!("visit {conversation}")).await?;
        let served = async || {
            let holder = visitor.wait_for("somebody has it", PATIENCE, |told| told.holder(*session)).await?;
            let agent = agents.iter().find(|(id, _)| *id == holder).context("nobody of us")?;
            let has_it = |told: &chaos_tests::person::Told| (told.holder(*session) == Some(holder)).then_some(());
            agent.1.wait_for("the agent follows it", PATIENCE, has_it).await?;
            // Long enough that seats are full and others wait.
            wait::pause(TALK).await;
            anyhow::Ok(agent)
        };
        match conversation % 4 {
            0 => visitor.client.close(*session).await?,
            1 => drop(served().await?.1.client.close(*session).await?),
            2 => {
                served().await?;
                visitor.client.close(*session).await?;
            }
            _ => {
                served().await?.1.client.transfer(*session, TransferTo::Queue).await?;
                let is_queued = |told: &chaos_tests::person::Told| {
                    told.events[before..]
                        .iter()
                        .any(|event| matches!(event.kind, EventKind::Queued { .. }))
                        .then_some(())
                };
                visitor.wait("it waits again", is_queued).await?;
                served().await?;
                visitor.client.close(*session).await?;
            }
        }
        let is_over = |told: &chaos_tests::person::Told| {
            told.events[before..].iter().any(|event| matches!(event.kind, EventKind::Closed { .. })).then_some(())
        };
        visitor.wait_for("it is over", PATIENCE, is_over).await?;
    }
    Ok(())
}

/// An agent who takes whoever is first, again and again, full or not. Returns how many were theirs.
async fn grabs(agent: &Person, is_over: &AtomicBool) -> anyhow::Result<u64> {
    let mut taken = 0;
    while !is_over.load(Ordering::Relaxed) {
        let queue = agent.client.queue(Some(1)).await?;
        if let Some(first) = queue.waiting.first() {
            taken += u64::from(is_mine(agent.client.take(first.session, first.conversation).await)?);
        }
        wait::pause(Duration::from_millis(100)).await;
    }
    Ok(taken)
}

/// Open conversations of every seat, and how many wait.
fn counted(view: &Value) -> Option<(Vec<u64>, u64)> {
    let open = view["seats"].as_array()?.iter().map(|seat| seat["open"].as_u64()).collect::<Option<_>>()?;
    Some((open, view["queued"].as_u64()?))
}

/// Looks at the desk's own count all the while: never above the capacity.
async fn looks_on(cluster: &tokio::sync::RwLock<Cluster>, is_over: &AtomicBool) -> anyhow::Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        // While the node that is asked is away, nobody answers.
        if let Ok(view) = desk(&*cluster.read().await).await {
            let (open, _) = counted(&view).context("no seats")?;
            ensure!(open.iter().all(|open| *open <= u64::from(CAPACITY)), "{view}");
        }
        wait::pause(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// So many want somebody: waits until as many as there is room for have somebody, and the rest wait.
async fn has_settled(cluster: &Cluster, wanting: usize) -> anyhow::Result<()> {
    let room = 3 * u64::from(CAPACITY);
    let (had, waiting) = ((wanting as u64).min(room), (wanting as u64).saturating_sub(room));
    let settled = wait::until("nobody waits beside room", PATIENCE, async || {
        let (open, queued) = counted(&desk(cluster).await.ok()?)?;
        (open.iter().sum::<u64>() == had && queued == waiting).then_some(())
    });
    let done = settled.await;
    ensure!(done.is_ok(), "{wanting} want somebody: {}", desk(cluster).await?);
    Ok(())
}

/// Somebody waits, and every seat is full: nobody can take one more.
async fn nobody_takes_one_more(agents: &Agents) -> anyhow::Result<()> {
    for (agent, person) in agents {
        let queue = person.client.queue(Some(1)).await?;
        let first = queue.waiting.first().context("nobody waits")?;
        let taken = refused(person.client.take(first.session, first.conversation).await);
        ensure!(taken? == ErrorCode::Closed, "{agent} took one more");
    }
    Ok(())
}

/// Everybody comes, and one after the other is served to the end.
async fn all_are_served(cluster: &Cluster, agents: &Agents, visitors: &[(SessionId, Person)]) -> anyhow::Result<()> {
    for (session, visitor) in visitors {
        visitor.client.send(*session, "once more").await?;
    }
    for wanting in (1..=visitors.len()).rev() {
        has_settled(cluster, wanting).await?;
        if wanting > agents.len() * CAPACITY as usize {
            nobody_takes_one_more(agents).await?;
        }
        let ends = wait::until("somebody is served", PATIENCE, async || {
            visitors.iter().find(|(session, visitor)| visitor.told.lock().holder(*session).is_some())
        });
        let (session, visitor) = ends.await?;
        visitor.client.close(*session).await?;
        visitor.wait("it is over", |told| told.holder(*session).is_none().then_some(())).await?;
    }
    is_empty(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_seat_holds_more_than_its_room_and_nobody_waits_beside_room_whoever_dies() -> anyhow::Result<()> {
    let max = races_asked()?;
    let cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann", "bob", "cyd"]).await?;
    for (agent, _) in &agents {
        set_seat(&cluster, *agent, CAPACITY, &[]).await?;
    }
    let mut visitors = Vec::new();
    for at in 0..VISITORS {
        let (new, visitor) = Person::visitor(&cluster, at).await?;
        visitors.push((new.session, visitor));
    }
    let victims = [DESK, Target::Session(visitors[0].0), Target::Agent(agents[0].0), DESK, Target::Agent(agents[1].0)];
    let (cluster, done, is_over) = (tokio::sync::RwLock::new(cluster), AtomicU64::new(0), AtomicBool::new(false));
    let work = async {
        let lanes = visitors.iter().enumerate().map(|(number, one)| lane(one, &agents, number, &done, max));
        let lanes = futures_util::future::try_join_all(lanes);
        let worked = tokio::try_join!(lanes, kill_leaders(&cluster, &victims, &done, max));
        is_over.store(true, Ordering::Relaxed);
        worked
    };
    let grabbing = futures_util::future::try_join_all(agents.iter().map(|(_, agent)| grabs(agent, &is_over)));
    let ((_, kills), taken, ()) = tokio::try_join!(work, grabbing, looks_on(&cluster, &is_over))?;

    let cluster = cluster.into_inner();
    is_empty(&cluster).await?;
    all_are_served(&cluster, &agents, &visitors).await?;
    let mut all = Vec::new();
    for (session, visitor) in &visitors {
        all.extend(held(visitor, *session).await?);
        visitor.check()?;
    }
    ensure!(all.iter().all(|held| held.to_ms.is_some()), "somebody has something at an empty desk: {all:?}");
    let most = most_at_once(&all);
    // Each was full, and none was more than that.
    let full: BTreeMap<AgentId, i64> = agents.iter().map(|(agent, _)| (*agent, i64::from(CAPACITY))).collect();
    ensure!(most == full, "at once, the agents had {most:?}");
    println!("{max} conversations, given {} times, {taken:?} of them taken, {kills} leaders killed", all.len());
    agents.iter().try_for_each(|(_, agent)| agent.check())
}
