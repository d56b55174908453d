//! Owns the tests of reports, on real nodes of which the one dies that leads while people talk. Does not test definitions: the rules' own tests
//! do.

use super::*;
use futures_util::future::try_join_all;
use proto::client::Act;
use proto::ids::SessionId;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Over so many sessions every shard has one.
const VISITORS: usize = 12;
/// Those who talk while the leader of one of them dies.
const AT_ONCE: usize = 4;
const HOUR_MS: u64 = 3_600_000;

struct Desk {
    addrs: Vec<String>,
    ann: AgentId,
    /// Until she goes home.
    at_desk: Option<Person>,
    visitors: Vec<(SessionId, Person)>,
}

impl Desk {
    /// A visitor asks, ann answers, the visitor thanks, ann labels and closes, and the visitor is content.
    async fn talk(&self, nth: usize) -> anyhow::Result<()> {
        let (session, visitor) = &self.visitors[nth];
        let (session, ann) = (*session, self.ann);
        let at_desk = self.at_desk.as_ref().context("ann has gone")?;
        visitor.client.send(session, "hello").await?;
        at_desk.wait("it is ann's", |told| (told.holder(session) == Some(ann)).then_some(())).await?;
        at_desk.client.send(session, "good day").await?;
        visitor.client.send(session, "thank you").await?;
        let label = Act::Label { label: "=vip".into(), on: true };
        at_desk.client.act(session, label).await?;
        at_desk.client.close(session).await?;
        let rating = Act::Rate { conversation: 1, score: if nth == 0 { 3 } else { 5 }, comment: String::new() };
        visitor.client.act(session, rating).await?;
        Ok(())
    }

    async fn get(&self, at: usize, token: &str, path: &str) -> anyhow::Result<Answer> {
        let answered = wait::until("an answer", SOON, async || {
            ask(&self.addrs[at], token, "GET", path, None).await.ok().filter(|answer| answer.status != 503)
        });
        answered.await.with_context(|| path.to_owned())
    }

    /// What every node says, which is the same.
    async fn report(&self, token: &str, query: &str) -> anyhow::Result<Value> {
        let mut told = Vec::new();
        for at in 0..self.addrs.len() {
            let answer = self.get(at, token, &format!("/v1/reports/summary?{query}")).await?;
            ensure!(answer.status == 200, "{query}: {}", answer.text());
            told.push(json_of(&answer)?);
        }
        ensure!(told[0]["partial"] == false, "{}", told[0]);
        ensure!(told.iter().all(|one| *one == told[0]), "{told:?}");
        Ok(told.swap_remove(0))
    }
}

fn now_ms() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// The only row of a report that nothing tells apart.
fn only_row(report: &Value) -> anyhow::Result<&Value> {
    let rows = report["rows"].as_array().context("no rows")?;
    ensure!(rows.len() == 1, "{report}");
    Ok(&rows[0])
}

/// What was done, exactly: nothing is lost with the leader, and nothing doubled by whoever repeats it.
fn is_what_was_done(row: &Value, of_site: bool) -> anyhow::Result<()> {
    let (served, gone) = (VISITORS as u64, u64::from(of_site));
    let expected = [
        ("/closed", served + gone),
        ("/assigned", served),
        ("/transferred", 0),
        ("/requeued", 0),
        ("/unanswered", 0),
        ("/abandoned", gone),
        ("/messages/agents", served),
        ("/first_response/count", served),
        ("/response/count", served),
        ("/resolution/count", served),
        ("/wait/count", served),
        ("/csat/ratings", served),
        ("/csat/scores/2", 1),
        ("/csat/scores/4", served - 1),
    ];
    for (place, count) in expected {
        ensure!(row.pointer(place) == Some(&json!(count)), "{place} is not {count}: {row}");
    }
    let times = |name: &str| row[name]["mean"].as_u64().zip(row[name]["max"].as_u64());
    let (wait, first) = (times("wait").context("no wait")?, times("first_response").context("no response")?);
    ensure!(wait.1 <= first.1 && first.1 <= times("resolution").context("none")?.1, "{row}");
    Ok(())
}

async fn a_table_reads_back(desk: &Desk, token: &str, range: &str) -> anyhow::Result<()> {
    let path = format!("/v1/reports/summary?{range}&group_by=label&format=csv");
    let answer = desk.get(0, token, &path).await?;
    ensure!(answer.status == 200 && answer.head.contains("text/csv"), "{}", answer.head);
    let mut reader = csv::Reader::from_reader(&answer.body[..]);
    let names = reader.headers()?.clone();
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    let cell = |name: &str| names.iter().position(|known| known == name).and_then(|at| rows.first()?.get(at));
    // What looks like a formula is none.
    ensure!(rows.len() == 1 && cell("label") == Some("'=vip"), "{rows:?}");
    let served = VISITORS.to_string();
    ensure!(cell("closed") == Some(&served) && cell("csat_ratings") == Some(&served), "{names:?} {rows:?}");
    ensure!(cell("messages_visitors") == Some(&(2 * VISITORS).to_string()), "{rows:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_says_exactly_what_was_done_on_every_node_whoever_died_meanwhile() -> anyhow::Result<()> {
    let began_ms = now_ms()?;
    let mut cluster = Cluster::start(3).await?;
    let (_, sues) = person(&cluster, SITE, "sue", "supervisor").await?;
    let (ann, anns) = person(&cluster, SITE, "ann", "agent").await?;
    let seat = json!({ "capacity": VISITORS });
    operate(&cluster, "PUT", &format!("/admin/v1/sites/{SITE}/seats/{ann}"), &seat).await?;
    let (_, at_desk) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
    let mut visitors = Vec::new();
    for nth in 0..VISITORS {
        let (new, person) = Person::visitor(&cluster, nth % 3).await?;
        visitors.push((new.session, person));
    }
    let addrs = cluster.nodes().iter().map(|node| node.client.clone()).collect();
    let mut desk = Desk { addrs, ann, at_desk: Some(at_desk), visitors };
    desk.talk(0).await?;
    let leader = cluster.leader_of(desk.visitors[1].0).await?;
    let dies = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        cluster.kill(leader);
        anyhow::Ok(())
    };
    let talks = try_join_all((1..=AT_ONCE).map(|nth| desk.talk(nth)));
    tokio::try_join!(talks, dies)?;
    for nth in AT_ONCE + 1..VISITORS {
        desk.talk(nth).await?;
    }
    cluster.restart(&[leader]).await?;
    // Ann goes home, and one more comes and goes again.
    desk.at_desk.take().context("ann has gone")?.check()?;
    let is_gone = |seat: &Value| seat["agent"] == ann.to_string() && seat["state"] == "offline";
    let gone = wait::until("ann is gone", SOON * 2, async || {
        let answer = desk.get(0, &sues, "/v1/desk").await.ok()?;
        json_of(&answer).ok()?["seats"].as_array()?.iter().any(is_gone).then_some(())
    });
    gone.await?;
    let (new, visitor) = Person::visitor(&cluster, 0).await?;
    visitor.client.send(new.session, "anybody?").await?;
    visitor.client.close(new.session).await?;

    let range = format!("from={began_ms}&to={}", now_ms()? + HOUR_MS);
    let hers = desk.report(&sues, &format!("{range}&agent={ann}")).await?;
    is_what_was_done(only_row(&hers)?, false)?;
    let online = only_row(&hers)?["presence"]["online"].as_u64().context("no time")?;
    ensure!((1..=now_ms()? - began_ms).contains(&online), "{hers}");
    let site = desk.report(&sues, &range).await?;
    is_what_was_done(only_row(&site)?, true)?;
    ensure!(only_row(&site)?["presence"]["online"] == online, "{site}");
    ensure!(only_row(&site)?["opened"] == VISITORS + 1, "{site}");
    ensure!(only_row(&site)?["messages"]["visitors"] == 2 * VISITORS + 1, "{site}");
    let hours = desk.report(&sues, &format!("{range}&group_by=hour,team")).await?;
    let rows = hours["rows"].as_array().context("no rows")?;
    let of_teams: u64 = rows.iter().filter_map(|row| row["opened"].as_u64()).sum();
    ensure!(of_teams == VISITORS as u64 + 1, "{hours}");
    a_table_reads_back(&desk, &sues, &range).await?;
    ensure!(desk.get(0, &anns, "/v1/reports/summary").await?.status == 403);
    let wrong = desk.get(0, &sues, "/v1/reports/summary?group_by=agent,team").await?;
    ensure!(wrong.status == 400, "{}", wrong.text());
    visitor.check()
}
