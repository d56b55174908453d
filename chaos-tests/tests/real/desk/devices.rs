//! Owns the tests of an agent with several devices and offers that are open: who is there, and who is asked when they are not. Does not test
//! how a client finds another node. Invariant: an agent is there as long as one device is, and an offer waits for nobody who is not.

use std::time::{Duration, Instant};

use super::*;
use chaos_tests::person::{SOON, Told};
use node::client::{Config, http};
use proto::client::limits::PRESENCE_GRACE;
use proto::client::{About, Offered, Party, SeatState};
use proto::desk::Channel;
use proto::ids::{SessionId, TeamId};

/// A device that knows one node and no other: it goes with it.
async fn device_at(cluster: &Cluster, name: &str, node: u64) -> anyhow::Result<(AgentId, Person)> {
    let addr = cluster.node(node).client.clone();
    let login = http::login(&addr, SITE, name, PASSWORD).await?;
    Ok((login.agent, Person::start(Config::new(vec![addr], login.token, Party::Agent(login.agent)))))
}

/// A visitor of the team, who has written.
async fn visitor(cluster: &Cluster, text: &str) -> anyhow::Result<(SessionId, Person)> {
    let (new, visitor) = Person::visitor(cluster, 0).await?;
    let facts = std::collections::BTreeMap::new();
    let about = About { session: new.session, team: Some(TeamId(1)), facts, channel: Channel::WEB };
    visitor.client.about(about).await?;
    visitor.client.send(new.session, text).await?;
    Ok((new.session, visitor))
}

async fn is_asked(who: &Person, session: SessionId, within: Duration) -> anyhow::Result<Offered> {
    who.wait_for("it is offered", within, |told| told.offer(session)).await
}

async fn takes_it(agent: AgentId, who: &Person, offer: Offered, visitor: &Person) -> anyhow::Result<()> {
    who.client.accept(offer).await?;
    let holder = visitor.wait("somebody has it", |told| told.holder(offer.session)).await?;
    ensure!(holder == agent, "{holder} has it");
    Ok(())
}

async fn state_of(cluster: &Cluster, agent: AgentId) -> anyhow::Result<String> {
    let view = desk(cluster).await?;
    let seats = view["seats"].as_array().context("no seats")?;
    let seat = seats.iter().find(|seat| seat["agent"] == agent.to_string()).context("no seat")?;
    Ok(seat["state"].as_str().context("no state")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_there_until_the_last_device_is_gone_and_then_another_is_asked() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    set_team(&cluster, "t1", &["--accept-s", "3600"]).await?;
    for name in ["ann", "bob", "cyd"] {
        cluster.add_agent(name, PASSWORD).await?;
    }
    let (ann, phone) = device_at(&cluster, "ann", 2).await?;
    let (_, laptop) = device_at(&cluster, "ann", 3).await?;
    set_seat(&cluster, ann, 4, &["--teams", "t1"]).await?;
    let (first, one) = visitor(&cluster, "hello").await?;
    for device in [&phone, &laptop] {
        is_asked(device, first, SOON).await?;
    }

    // The phone's node is gone, and the phone with it: she is there all the same, longer than a device's lease.
    cluster.kill(2);
    drop(phone);
    let until = Instant::now() + PRESENCE_GRACE + Duration::from_secs(10);
    let mut looks = 0;
    while Instant::now() < until {
        // Nobody may be able to say just now.
        if let Ok(state) = state_of(&cluster, ann).await {
            ensure!(state == "online", "ann is {state} after {looks} looks");
            looks += 1;
        }
        wait::pause(Duration::from_millis(500)).await;
    }
    ensure!(looks > 10, "nobody could say where ann is");
    takes_it(ann, &laptop, is_asked(&laptop, first, SOON).await?, &one).await?;
    let (second, two) = visitor(&cluster, "and I").await?;
    takes_it(ann, &laptop, is_asked(&laptop, second, SOON).await?, &two).await?;
    cluster.restart(&[2]).await?;

    // With the laptop the last one goes, while she is asked: a lease later she is offline, and her colleague is asked.
    let (third, three) = visitor(&cluster, "me, too").await?;
    is_asked(&laptop, third, SOON).await?;
    let (bob, bobs) = device_at(&cluster, "bob", 1).await?;
    set_seat(&cluster, bob, 4, &["--teams", "t1"]).await?;
    wait::until("bob is there", SOON, async || (state_of(&cluster, bob).await.ok()? == "online").then_some(())).await?;
    cluster.kill(3);
    drop(laptop);
    let offer = is_asked(&bobs, third, PRESENCE_GRACE + SOON * 2).await?;
    ensure!(state_of(&cluster, ann).await? == "offline");
    ensure!(
        one.told.lock().holder(first) == Some(ann) && two.told.lock().holder(second) == Some(ann),
        "hers stays hers"
    );
    cluster.restart(&[3]).await?;

    // He takes a break before he has answered: somebody else is asked, and he cannot say yes any more.
    let (cyd, cyds) = device_at(&cluster, "cyd", 1).await?;
    set_seat(&cluster, cyd, 4, &["--teams", "t1"]).await?;
    wait::until("cyd is there", SOON, async || (state_of(&cluster, cyd).await.ok()? == "online").then_some(())).await?;
    ensure!(bobs.told.lock().offer(third) == Some(offer), "it was taken from bob for no reason");
    bobs.client.seat(SeatState::Away).await?;
    let next = is_asked(&cyds, third, SOON).await?;
    let none = |told: &Told| {
        told.seat.as_ref().filter(|seat| seat.state == SeatState::Away && seat.offers.is_empty()).map(drop)
    };
    bobs.wait("bob is not asked any more", none).await?;
    ensure!(refused(bobs.client.accept(offer).await)? == ErrorCode::Closed);
    takes_it(cyd, &cyds, next, &three).await?;

    for (session, visitor) in [(first, &one), (second, &two), (third, &three)] {
        visitor.client.close(session).await?;
        visitor.check()?;
    }
    is_empty(&cluster).await
}
