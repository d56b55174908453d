//! Owns the tests of those who look after a desk, on real nodes: supervisors, and the hours of a site. Does not test the calendar.

use super::*;
use chaos_tests::http;
use chaos_tests::person::Told;
use proto::client::{Act, EventKind, TransferTo};
use std::time::{SystemTime, UNIX_EPOCH};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_follows_whispers_and_takes_over_and_nobody_else_may() -> anyhow::Result<()> {
    let cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann", "bob", "sue"]).await?;
    for (agent, _) in &agents[1..] {
        set_seat(&cluster, *agent, 0, &[]).await?;
    }
    let (new, visitor) = Person::visitor(&cluster, 0).await?;
    let session = new.session;
    visitor.client.send(session, "hello").await?;
    let ann = &agents[0].1;
    ann.wait("ann has it", |told| told.holder(session)).await?;
    let sue = &agents[2].1;
    let name = agents[2].0.to_string();
    ensure!(refused(sue.client.watch(session, true).await)? == ErrorCode::Forbidden, "not yet");
    admin(&cluster, &["agents", "set-role", &name, "--role", "supervisor"]).await?;
    wait::until("sue is a supervisor", wait_within(), async || sue.client.watch(session, true).await.ok()).await?;
    sue.client.watch(session, true).await.context("said again")?;
    sue.wait("sue sees what was said", |told| told.holder(session)).await?;
    ann.client.send(session, "how can I help?").await?;
    let heard = |told: &Told| told.events.iter().any(|event| event.seq == 3).then_some(());
    sue.wait("sue sees what is said", heard).await?;

    // She whispers: Ann reads it, the visitor does not.
    sue.client.act(session, Act::Note { text: "offer a refund".into(), mentions: Vec::new() }).await?;
    let whispered = |told: &Told| {
        let is_note = |kind: &EventKind<'_>| matches!(kind, EventKind::Act { act: Act::Note { .. }, .. });
        told.events.iter().any(|event| is_note(&event.kind)).then_some(())
    };
    ann.wait("ann reads it", whispered).await?;
    let hidden = |told: &Told| told.events.iter().any(|event| event.kind == EventKind::Hidden).then_some(());
    visitor.wait("the visitor sees that something has its place", hidden).await?;
    ensure!(whispered(&visitor.told.lock()).is_none());
    ensure!(refused(sue.client.send(session, "hello, I am Sue").await)? == ErrorCode::Forbidden, "not hers");
    ensure!(
        refused(agents[1].1.client.transfer(session, TransferTo::Agent(agents[1].0)).await)? == ErrorCode::Forbidden
    );

    // She takes over, and gives it back to Ann.
    sue.client.transfer(session, TransferTo::Agent(agents[2].0)).await?;
    let holds = |agent| move |told: &Told| (told.holder(session) == Some(agent)).then_some(());
    visitor.wait("sue has it", holds(agents[2].0)).await?;
    wait::until("sue answers", wait_within(), async || sue.client.send(session, "Sue here").await.ok()).await?;
    ensure!(refused(ann.client.send(session, "no, me").await)? == ErrorCode::Forbidden);
    sue.client.transfer(session, TransferTo::Agent(agents[0].0)).await?;
    visitor.wait("ann has it", holds(agents[0].0)).await?;
    wait::until("ann answers", wait_within(), async || ann.client.send(session, "Ann again").await.ok()).await?;
    let heard = |told: &Told| {
        let last = told.events.last()?;
        matches!(&last.kind, EventKind::Message { text, .. } if text == "Ann again").then_some(())
    };
    sue.wait("sue follows it still", heard).await?;
    sue.client.watch(session, false).await?;
    let seen = sue.told.lock().events.len();
    ann.client.send(session, "we are alone").await?;
    let until_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64 + 3_600_000;
    ann.client.act(session, Act::Snooze { conversation: 1, until_ms }).await?;
    is_empty(&cluster).await?;
    ensure!(sue.told.lock().events.len() == seen, "{:?}", sue.told.lock().events);

    // What was laid aside she takes over, too, and begins with the event that says so.
    sue.client.transfer(session, TransferTo::Agent(agents[2].0)).await?;
    let begun = |told: &Told| told.events.get(seen).map(|event| event.kind.clone());
    let first = sue.wait("sue follows it", begun).await?;
    ensure!(first == EventKind::Assigned { agent: agents[2].0 }, "{first:?}");
    visitor.client.send(session, "are you there?").await?;
    let asked = |told: &Told| {
        let last = told.events.last()?;
        matches!(&last.kind, EventKind::Message { text, .. } if text == "are you there?").then_some(())
    };
    sue.wait("sue hears the visitor", asked).await?;
    sue.client.close(session).await?;
    is_empty(&cluster).await?;
    [ann, sue, &visitor].into_iter().try_for_each(Person::check)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_of_its_hours_a_site_keeps_its_visitors_and_says_when_it_opens() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let agents = people(&cluster, ["ann"]).await?;
    let ann = &agents[0].1;
    let address = cluster.clients_from(0)[0].clone();
    let site = async || {
        let answer = http::get(&address, &format!("/v1/sites/{SITE}"), &[]).await.ok()?;
        serde_json::from_str::<Value>(&answer.text()).ok()
    };
    ensure!(site().await.is_some_and(|site| site["open"] == true));
    // A day of next year, and never else.
    let hours = r#"{"zone":"Asia/Shanghai","days":[{"date":"2099-01-01","open":[{"from":"09:00","to":"18:00"}]}]}"#;
    let shown = admin(&cluster, &["desks", "set-rules", SITE, "--hours", hours]).await?;
    ensure!(shown["hours"]["zone"] == "Asia/Shanghai", "{shown}");
    wait::until("the site is closed", wait_within(), async || site().await.filter(|site| site["open"] == false))
        .await?;
    let victim = leader(&cluster, DESK).await?;
    cluster.kill(victim);
    let (new, visitor) = Person::visitor(&cluster, (victim % 3) as usize).await?;
    visitor.client.send(new.session, "I leave you a message").await?;
    let closed = |told: &Told| told.places.last().filter(|place| place.opens.is_some()).copied();
    let place = visitor.wait("the visitor is told", closed).await?;
    ensure!(place.position == 1, "{place:?}");
    cluster.restart(&[victim]).await?;
    ensure!(desk(&cluster).await?["queued"] == 1);
    // Who is there may take it all the same.
    let (other, second) = Person::visitor(&cluster, 1).await?;
    second.client.send(other.session, "and I another").await?;
    wait::until("ann takes it", wait_within(), async || ann.client.take(other.session, 1).await.ok()).await?;
    ann.wait("it is hers", |told| told.holder(other.session)).await?;
    ensure!(desk(&cluster).await?["closed_until_ms"].is_u64());

    admin(&cluster, &["desks", "set-rules", SITE]).await?;
    visitor.wait("the site is open, and ann is there", |told| told.holder(new.session)).await?;
    let bad = cluster.command(&["admin", "desks", "set-rules", SITE, "--hours", r#"{"zone":"Mars"}"#], "").await;
    ensure!(bad.is_err_and(|error| error.to_string().contains("time zone")));
    Ok(())
}
