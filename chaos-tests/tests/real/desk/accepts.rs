//! Owns the race for an offer: an agent's two devices at two nodes, and a colleague, at the same instant, while leaders die. Does not test
//! whose turn it is. Invariant: an offered conversation becomes that of the agent who was asked, once, or is offered to another one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::race::{given_once_each, is_mine, kill_leaders, races_asked};
use super::*;
use chaos_tests::person::{SOON, Told};
use proto::client::{EventKind, Offered};
use proto::ids::SessionId;

/// Visitors at a time.
const LANES: usize = 4;

/// An agent with two devices, at two nodes.
struct Asked {
    agent: AgentId,
    devices: [Person; 2],
}

/// Who is asked, by an offer later than `last`: the place among the agents, and the offer.
async fn asked(agents: &[Asked; 2], session: SessionId, last: u64) -> anyhow::Result<(usize, Offered)> {
    wait::until("somebody is asked", SOON * 2, async || {
        let newer = |told: &Told| told.offer(session).filter(|offer| offer.offer > last);
        (0..2).find_map(|at| agents[at].devices.iter().find_map(|device| Some((at, newer(&device.told.lock())?))))
    })
    .await
}

/// Who has it by now, by which offer: one device says yes, the other no, and either may be first. Who is asked next says yes.
async fn yes_and_no(agents: &[Asked; 2], (at, offer): (usize, Offered)) -> anyhow::Result<(usize, u64)> {
    let [one, other] = &agents[at].devices;
    let (yes, no) = tokio::join!(one.client.accept(offer), other.client.decline(offer));
    no?;
    if is_mine(yes)? {
        return Ok((at, offer.offer));
    }
    let (next, later) = asked(agents, offer.session, offer.offer).await?;
    ensure!(next != at, "who said no is asked again while a colleague has room");
    ensure!(is_mine(agents[next].devices[0].client.accept(later).await)?);
    Ok((next, later.offer))
}

/// Both devices say yes, and so does the colleague, who was not asked.
async fn yes_thrice(agents: &[Asked; 2], (at, offer): (usize, Offered)) -> anyhow::Result<(usize, u64)> {
    let [one, other] = &agents[at].devices;
    let colleague = &agents[1 - at].devices[0];
    let (one, other, foreign) =
        tokio::join!(one.client.accept(offer), other.client.accept(offer), colleague.client.accept(offer));
    let told = [is_mine(one)?, is_mine(other)?, is_mine(foreign)?];
    ensure!(told == [true, true, false], "{} asked, and told {told:?}", agents[at].agent);
    Ok((at, offer.offer))
}

async fn lane(
    (session, visitor): &(SessionId, Person),
    agents: &[Asked; 2],
    number: usize,
    done: &AtomicU64,
    max: u64,
) -> anyhow::Result<()> {
    let mut last = 0;
    for race in number.. {
        if done.fetch_add(1, Ordering::Relaxed) >= max {
            break;
        }
        let before = visitor.told.lock().events.len();
        visitor.client.send(*session, format!("race {race}")).await?;
        let first = asked(agents, *session, last).await?;
        let answered = if race % 3 == 0 { yes_and_no(agents, first).await } else { yes_thrice(agents, first).await };
        let (has_it, offer) = answered.with_context(|| format!("{session}, race {race}"))?;
        last = offer;
        let has_it = &agents[has_it];
        let given = |told: &Told| {
            told.events[before..].iter().find_map(|event| match event.kind {
                EventKind::Assigned { agent } => Some((event.seq, agent)),
                _ => None,
            })
        };
        let (seq, holder) = visitor.wait("the visitor hears who has it", given).await?;
        ensure!(holder == has_it.agent, "{} has it, and the visitor is told of {holder}", has_it.agent);
        for device in &has_it.devices {
            let follows = |told: &Told| {
                let is_it = |event: &proto::client::Event<'_>| event.session == *session && event.seq == seq;
                told.events.iter().any(is_it).then_some(())
            };
            device.wait("both devices follow it", follows).await?;
        }
        visitor.client.close(*session).await?;
        visitor.wait("it is over", |told| told.holder(*session).is_none().then_some(())).await?;
    }
    let ids = agents.each_ref().map(|one| one.agent);
    given_once_each(visitor, *session, &ids).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_two_devices_and_a_colleague_accept_at_once_is_given_once_to_who_was_asked() -> anyhow::Result<()>
{
    let max = races_asked()? / 2;
    let cluster = Cluster::start(3).await?;
    set_team(&cluster, "t1", &["--accept-s", "600"]).await?;
    let mut agents = Vec::new();
    for (at, name) in ["ann", "bob"].into_iter().enumerate() {
        cluster.add_agent(name, PASSWORD).await?;
        let (agent, one) = Person::agent(&cluster, name, PASSWORD, at).await?;
        let (_, other) = Person::agent(&cluster, name, PASSWORD, at + 1).await?;
        // Room for all: a no always finds a colleague with room.
        set_seat(&cluster, agent, LANES as u32, &["--teams", "t1"]).await?;
        agents.push(Asked { agent, devices: [one, other] });
    }
    let Ok(agents) = <[Asked; 2]>::try_from(agents) else { anyhow::bail!("two agents") };
    let mut visitors = Vec::new();
    for at in 0..LANES {
        let (new, visitor) = Person::visitor(&cluster, at).await?;
        let about = proto::client::About {
            session: new.session,
            team: Some(proto::ids::TeamId(1)),
            facts: std::collections::BTreeMap::new(),
            channel: proto::desk::Channel::WEB,
        };
        visitor.client.about(about).await?;
        visitors.push((new.session, visitor));
    }
    let victims = [DESK, Target::Agent(agents[0].agent), Target::Session(visitors[0].0)];
    let (cluster, done) = (tokio::sync::RwLock::new(cluster), AtomicU64::new(0));
    let lanes = visitors.iter().enumerate().map(|(number, one)| lane(one, &agents, number, &done, max));
    let lanes = futures_util::future::try_join_all(lanes);
    let (_, kills) = tokio::try_join!(lanes, kill_leaders(&cluster, &victims, &done, max))?;
    println!("{max} offers, {kills} leaders killed");
    is_empty(&*cluster.read().await).await?;
    agents.iter().flat_map(|one| &one.devices).try_for_each(Person::check)
}
