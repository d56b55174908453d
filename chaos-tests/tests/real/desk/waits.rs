//! Owns the test of what a visitor who waits is told: the place and the wait to expect, as the queue moves. Does not test how a wait is
//! reckoned: `chat/src/tests/places.rs` does. Invariant: the newest place that a visitor was told is the one where they stand.

use super::*;
use chaos_tests::person::Told;
use proto::client::Place;

/// The newest place that a visitor was told, once it is that one, and whether a wait is known with it.
async fn stands_at(visitor: &Person, position: u64, is_known: bool) -> anyhow::Result<Place> {
    let newest = |told: &Told| {
        told.places.last().filter(|place| place.position == position && place.wait_ms.is_some() == is_known).cloned()
    };
    visitor.wait(&format!("place {position}, wait known: {is_known}"), newest).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_told_the_place_and_the_wait_to_expect_as_the_queue_moves_whoever_leads() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann"]).await?;
    let (agent, ann) = &agents[0];
    set_seat(&cluster, *agent, 1, &[]).await?;
    let mut visitors = Vec::new();
    for at in 0..5 {
        let (new, visitor) = Person::visitor(&cluster, at).await?;
        visitor.client.send(new.session, "hello").await?;
        if at == 0 {
            visitor.wait("the first is served", |told| told.holder(new.session)).await?;
        } else {
            // Nobody has been served out of the queue yet: nobody knows how long that takes.
            stands_at(&visitor, at as u64, false).await?;
        }
        visitors.push((new.session, visitor));
    }
    // The next is served: everybody moves up, and by the pace of the one the second of those behind waits twice as long as the first.
    let serve = async |ended: usize| {
        ann.client.close(visitors[ended].0).await?;
        let next = &visitors[ended + 1];
        let holder = next.1.wait("the next is served", |told| told.holder(next.0)).await?;
        ensure!(holder == *agent, "{holder}");
        ann.wait("ann follows it", |told| (told.holder(next.0) == Some(*agent)).then_some(())).await
    };
    serve(0).await?;
    let mut waits = Vec::new();
    for (position, at) in (1..).zip(2..5) {
        waits.push(stands_at(&visitors[at].1, position, true).await?.wait_ms.context("known")?);
    }
    ensure!(waits[0] > 0 && waits == [waits[0], 2 * waits[0], 3 * waits[0]], "{waits:?}");

    // Whoever leads the desk by then, and whichever node the visitor's socket is at.
    let victim = leader(&cluster, DESK).await?;
    cluster.kill(victim);
    serve(1).await?;
    let (third, fourth) = (stands_at(&visitors[3].1, 1, true).await?, stands_at(&visitors[4].1, 2, true).await?);
    ensure!(fourth.wait_ms == third.wait_ms.map(|wait| 2 * wait), "{third:?} {fourth:?}");
    cluster.restart(&[victim]).await?;
    // Who gives up makes room in the queue.
    visitors[3].1.client.close(visitors[3].0).await?;
    stands_at(&visitors[4].1, 1, true).await?;
    ann.client.close(visitors[2].0).await?;
    visitors[4].1.wait("the last is served", |told| told.holder(visitors[4].0)).await?;
    let places: Vec<u64> = visitors[4].1.told.lock().places.iter().map(|place| place.position).collect();
    ensure!(places.is_sorted_by(|one, next| one >= next) && places.first() == Some(&4), "{places:?}");
    let served = visitors[0].1.told.lock().places.clone();
    ensure!(served.iter().all(|place| place.position == 0), "who was served at once stood nowhere: {served:?}");
    visitors[4].1.client.close(visitors[4].0).await?;
    is_empty(&cluster).await
}
