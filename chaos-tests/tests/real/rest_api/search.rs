//! Owns the tests of looking for what was said, on real nodes of which one dies. Does not test words: the index's own tests do.

use super::*;
use node::client::Config;
use proto::client::{About, Act, Party};
use proto::command::Target;
use proto::desk::Channel;
use proto::ids::SessionId;
use std::collections::BTreeMap;
use std::time::Duration;

/// An index is built in its own time, behind a node that has just begun.
const FOUND_WITHIN: Duration = Duration::from_secs(60);
/// Visitors of the first site: over so many sessions every shard has one.
const VISITORS: usize = 12;

struct Sites {
    cluster: Cluster,
    addrs: Vec<String>,
    visitors: Vec<(SessionId, Person)>,
    sues: String,
    eves: String,
}

impl Sites {
    /// Two sites where people talk in Chinese and English.
    async fn start() -> anyhow::Result<Sites> {
        let cluster = Cluster::start(3).await?;
        operate(&cluster, "POST", "/admin/v1/sites", &json!({ "name": "shop" })).await?;
        let (_, sues) = person(&cluster, SITE, "sue", "supervisor").await?;
        let (_, eves) = person(&cluster, "shop", "eve", "supervisor").await?;
        let addrs: Vec<String> = cluster.nodes().iter().map(|node| node.client.clone()).collect();
        let mut visitors = Vec::new();
        for nth in 0..VISITORS {
            let (new, person) = Person::visitor(&cluster, nth % 3).await?;
            person.client.send(new.session, format!("我想申请退款，订单号是A{nth}")).await?;
            person.client.send(new.session, format!("Where are my {nth} parcels?")).await?;
            visitors.push((new.session, person));
        }
        let sites = Sites { cluster, addrs, visitors, sues, eves };
        sites.shop_says("退款 parcel foreignsecret").await?;
        Ok(sites)
    }

    async fn shop_says(&self, text: &str) -> anyhow::Result<()> {
        let new = http::create_visitor(&self.addrs[0], "shop").await?;
        let config = Config::new(self.cluster.clients_from(0), new.token.clone(), Party::Visitor(new.visitor));
        let visitor = Person::start(config);
        visitor.client.send(new.session, text).await?;
        visitor.check()
    }

    /// What one node finds; `None`: it cannot tell just now.
    async fn find(&self, at: usize, token: &str, query: &str) -> anyhow::Result<Option<Value>> {
        let answer = ask(&self.addrs[at], token, "GET", &format!("/v1/search?{query}"), None).await?;
        match answer.status {
            200 => Ok(Some(json_of(&answer)?)),
            503 => Ok(None),
            other => anyhow::bail!("{query}: {other} {}", answer.text()),
        }
    }

    /// Asks a node until it has heard of everything and finds so many.
    async fn finds(&self, at: usize, token: &str, query: &str, count: usize) -> anyhow::Result<Vec<Value>> {
        let mut last = None;
        let found = wait::until(query, FOUND_WITHIN, async || {
            let found = self.find(at, token, query).await.ok().flatten()?;
            let hits = found["hits"].as_array()?.clone();
            let is_it = found["behind"] == 0 && hits.len() == count;
            last = Some(found);
            is_it.then_some(hits)
        });
        found.await.with_context(|| format!("n{}: {count} of {query}: {last:?}", at + 1))
    }

    /// On these nodes, both languages are found, and nothing of the other site.
    async fn all_is_found(&self, nodes: &[usize], visitors: usize) -> anyhow::Result<()> {
        for at in nodes {
            let refunds = self.finds(*at, &self.sues, &escaped("q=退款&limit=100"), visitors).await?;
            let parcels = self.finds(*at, &self.sues, "q=parcel&limit=100", visitors).await?;
            for hit in refunds.iter().chain(&parcels) {
                let session: SessionId = hit["session"].as_str().context("no session")?.parse()?;
                ensure!(self.visitors.iter().any(|(own, _)| *own == session), "{hit}");
                let parts = hit["snippet"].as_array().context("no snippet")?;
                ensure!(parts.iter().any(|part| part["found"] == true), "{hit}");
                ensure!(!hit.to_string().contains("foreignsecret"), "{hit}");
            }
            self.finds(*at, &self.sues, "q=foreignsecret", 0).await?;
            self.finds(*at, &self.eves, "q=foreignsecret", 1).await?;
            self.finds(*at, &self.eves, &escaped("q=退款"), 1).await?;
        }
        Ok(())
    }

    /// Pages behind each other hold every hit once, the newest first.
    async fn pages(&self, at: usize) -> anyhow::Result<()> {
        let (mut seen, mut after, mut last) = (std::collections::BTreeSet::new(), String::new(), u64::MAX);
        loop {
            let page = self.find(at, &self.sues, &format!("q=parcels&limit=5{after}")).await?.context("no answer")?;
            for hit in page["hits"].as_array().context("no hits")? {
                let ts = hit["ts"].as_u64().context("no time")?;
                ensure!(ts <= last && seen.insert(hit["session"].to_string()), "{hit}");
                last = ts;
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        ensure!(seen.len() == VISITORS, "{seen:?}");
        Ok(())
    }

    /// Edits, recalls, notes, labels and states.
    async fn what_becomes_of_it(&self) -> anyhow::Result<()> {
        let (session, visitor) = &self.visitors[0];
        let said = visitor.client.send(*session, "hurriedsecret").await?;
        let typo = visitor.client.send(*session, "wrongword").await?;
        self.finds(0, &self.sues, "q=hurriedsecret", 1).await?;
        visitor.client.act(*session, Act::Recall { seq: said.seq }).await?;
        // At once: what is shown is read from the session.
        for at in 0..3 {
            let found = self.find(at, &self.sues, "q=hurriedsecret").await?.context("no answer")?;
            ensure!(found["hits"] == json!([]), "{found}");
        }
        visitor.client.act(*session, Act::Edit { seq: typo.seq, text: "rightword".into() }).await?;
        let edited = self.finds(1, &self.sues, "q=rightword", 1).await?;
        ensure!(edited[0]["seq"] == typo.seq && edited[0]["ts"] == typo.ts, "{edited:?}");
        self.finds(1, &self.sues, "q=wrongword", 0).await?;
        let path = format!("/v1/conversations/{session}/events");
        for body in [json!({ "note": { "text": "an old friend" } }), json!({ "label": { "label": "vip" } })] {
            let done = ask(&self.addrs[0], &self.sues, "POST", &path, Some(&body)).await?;
            ensure!(done.status == 200, "{}", done.text());
        }
        let notes = self.finds(2, &self.sues, "q=friend&by=note", 1).await?;
        ensure!(notes[0]["by"] == "note" && notes[0]["labels"] == json!(["vip"]), "{notes:?}");
        self.finds(2, &self.sues, "q=friend&by=visitor", 0).await?;
        self.finds(0, &self.sues, "q=parcels&label=vip", 1).await?;
        self.finds(0, &self.sues, "q=parcels&label=none", 0).await?;
        self.finds(0, &self.sues, "q=parcels&state=waiting&limit=100", VISITORS).await?;
        self.finds(0, &self.sues, "q=parcels&state=closed", 0).await?;
        self.finds(0, &self.sues, "q=parcels&agent=a1", 0).await?;
        self.finds(0, &self.sues, "q=parcels&team=t2", 0).await?;
        self.finds(0, &self.sues, "q=parcels&to=1", 0).await?;
        visitor.client.act(*session, Act::Rate { conversation: 1, score: 2, comment: String::new() }).await?;
        self.finds(0, &self.sues, "q=parcels&rating_max=2", 1).await?;
        self.finds(0, &self.sues, "q=parcels&rating_min=2&rating_max=2", 1).await?;
        self.finds(0, &self.sues, "q=parcels&rating_min=3", 0).await?;
        let (session, phone) = &self.visitors[1];
        let about = About { session: *session, team: None, facts: BTreeMap::new(), channel: Channel::APP };
        phone.client.about(about).await?;
        let by_app = self.finds(1, &self.sues, "q=parcels&channel=app", 1).await?;
        ensure!(by_app[0]["session"] == session.to_string(), "{by_app:?}");
        self.finds(1, &self.sues, "q=parcels&channel=web&limit=100", VISITORS - 1).await?;
        self.finds(1, &self.sues, "q=parcels&channel=wechat", 0).await?;
        Ok(())
    }

    async fn what_makes_no_sense_is_refused(&self) -> anyhow::Result<()> {
        let long = format!("q={}", "a".repeat(513));
        for query in [
            "q=%3F%21",
            &long,
            "limit=0",
            "limit=101",
            "after=x",
            "agent=x",
            "state=x",
            "channel=radio",
            "rating_min=6",
            "rating_min=3&rating_max=2",
        ] {
            let answer = ask(&self.addrs[0], &self.sues, "GET", &format!("/v1/search?{query}"), None).await?;
            ensure!(answer.status == 400, "{query}: {} {}", answer.status, answer.text());
        }
        Ok(())
    }

    async fn views(&self) -> anyhow::Result<()> {
        let view = json!({ "filters": { "q": "退款", "state": "waiting" }, "mine": true });
        let put = ask(&self.addrs[0], &self.sues, "PUT", "/v1/views/refunds", Some(&view)).await?;
        ensure!(put.status == 200, "{}", put.text());
        let wrong = json!({ "filters": { "agent": "sue" } });
        let refused = ask(&self.addrs[0], &self.sues, "PUT", "/v1/views/wrong", Some(&wrong)).await?;
        ensure!(refused.status == 422, "{}", refused.text());
        for (token, count) in [(&self.sues, 1), (&self.eves, 0)] {
            let list = json_of(&ask(&self.addrs[1], token, "GET", "/v1/views", None).await?)?;
            ensure!(list["views"].as_array().context("no views")?.len() == count, "{list}");
        }
        let removed = ask(&self.addrs[2], &self.sues, "DELETE", "/v1/views/refunds?mine=true", None).await?;
        ensure!(removed.status == 204, "{}", removed.text());
        Ok(())
    }

    /// The node that leads the first visitor's shard.
    async fn leader(&self) -> anyhow::Result<u64> {
        let shards = self.cluster.overview().await?.data_shards().count() as u32;
        let shard = Target::Session(self.visitors[0].0).shard(shards);
        let view = operate(&self.cluster, "GET", &format!("/admin/v1/shards/{shard}"), &json!({})).await?;
        Ok(view["leader"].as_str().context("no leader")?.trim_start_matches('n').parse()?)
    }
}

/// A query with characters that a URL does not have.
fn escaped(query: &str) -> String {
    let byte = |byte: u8| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    query.bytes().map(byte).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn search_finds_what_was_said_on_every_node_and_catches_up_after_kill_9() -> anyhow::Result<()> {
    let mut sites = Sites::start().await?;
    sites.all_is_found(&[0, 1, 2], VISITORS).await?;
    sites.pages(1).await?;
    sites.what_becomes_of_it().await?;
    sites.what_makes_no_sense_is_refused().await?;
    sites.views().await?;

    let leader = sites.leader().await?;
    sites.cluster.kill(leader);
    let others: Vec<usize> = (0..3).filter(|at| *at as u64 + 1 != leader).collect();
    sites.all_is_found(&others, VISITORS).await?;
    // What is said meanwhile, the dead node's indexes have to catch up with.
    let (session, visitor) = &sites.visitors[0];
    visitor.client.send(*session, "退款 parcel again").await?;
    sites.all_is_found(&others, VISITORS + 1).await?;
    sites.cluster.restart(&[leader]).await?;
    sites.all_is_found(&[0, 1, 2], VISITORS + 1).await?;
    // Its own indexes, when it leads again: the others are not there to answer for it.
    for at in &others {
        sites.cluster.command(&["admin", "drain", &format!("n{}", at + 1)], "").await?;
    }
    let all = sites.cluster.overview().await?.data_shards().count();
    let leads_all = wait::until("the restarted node leads everything", FOUND_WITHIN, async || {
        (sites.cluster.overview().await.ok()?.led_by(leader).len() >= all).then_some(())
    });
    leads_all.await?;
    sites.all_is_found(&[leader as usize - 1], VISITORS + 1).await?;
    for (_, visitor) in &sites.visitors {
        visitor.check()?;
    }
    Ok(())
}
