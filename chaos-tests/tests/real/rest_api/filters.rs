//! Owns the test of a search's filters: each finds what it names and nothing else, on whichever node is asked, and under saved views. Does not
//! test words: `search` does. Invariant: every conversation here is its session's only one, so that no filter has two answers.

use super::*;
use proto::client::{About, Act};
use proto::desk::Channel;
use proto::ids::{SessionId, TeamId};
use std::collections::BTreeSet;
use std::time::Duration;

const FOUND_WITHIN: Duration = Duration::from_secs(60);

/// Who said "kiwi", and what became of it:
/// - `one`: to team 1, where ann has it; it is open, and labelled `vip`.
/// - `two`: in an app, to no team; bob had it, it is closed, and was rated 2.
/// - `three`: to team 2, where nobody is: it waits.
/// - `four`: to team 1, where ann had it; it is closed, was labelled `late`, and rated 5.
struct Talks {
    cluster: Cluster,
    ann: AgentId,
    bob: AgentId,
    anns: String,
    sues: String,
    at_desks: [Person; 2],
    /// In that order: session, visitor, and when it was said.
    all: Vec<(SessionId, Person, u64)>,
}

impl Talks {
    async fn start() -> anyhow::Result<Talks> {
        let cluster = Cluster::start(3).await?;
        let (_, sues) = person(&cluster, SITE, "sue", "supervisor").await?;
        let (_, owner) = person(&cluster, SITE, "olga", "owner").await?;
        let (ann, anns) = person(&cluster, SITE, "ann", "agent").await?;
        let (bob, _) = person(&cluster, SITE, "bob", "agent").await?;
        for team in ["t1", "t2"] {
            done_by_any(&cluster, &owner, "PUT", &format!("/v1/teams/{team}"), Some(json!({ "name": team }))).await?;
        }
        let seat = json!({ "capacity": 9, "teams": ["t1"] });
        done_by_any(&cluster, &owner, "PUT", &format!("/v1/seats/{ann}"), Some(seat)).await?;
        let (_, ann_at_desk) = Person::agent(&cluster, "ann", PASSWORD, 1).await?;
        let (_, bob_at_desk) = Person::agent(&cluster, "bob", PASSWORD, 2).await?;
        let mut talks = Talks { cluster, ann, bob, anns, sues, at_desks: [ann_at_desk, bob_at_desk], all: Vec::new() };
        talks.one_after_the_other().await?;
        Ok(talks)
    }

    async fn one_after_the_other(&mut self) -> anyhow::Result<()> {
        for (team, channel, agent) in [
            (Some(TeamId(1)), Channel::WEB, Some(self.ann)),
            (None, Channel::APP, Some(self.bob)),
            (Some(TeamId(2)), Channel::WEB, None),
            (Some(TeamId(1)), Channel::WEB, Some(self.ann)),
        ] {
            let (new, visitor) = Person::visitor(&self.cluster, self.all.len()).await?;
            let session = new.session;
            visitor.client.about(About { session, team, facts: std::collections::BTreeMap::new(), channel }).await?;
            let ts = visitor.client.send(session, "kiwi").await?.ts;
            if let Some(agent) = agent {
                let desk = &self.at_desks[usize::from(agent == self.bob)];
                desk.wait("it is theirs", |told| (told.holder(session) == Some(agent)).then_some(())).await?;
            }
            ensure!(self.all.last().is_none_or(|(_, _, before)| *before < ts), "two in one millisecond");
            self.all.push((session, visitor, ts));
            // The next is said in another millisecond.
            wait::pause(Duration::from_millis(20)).await;
        }
        let [(one, ..), (two, twos, _), _, (four, fours, _)] = self.all.as_slice() else { anyhow::bail!("four") };
        let [ann, bob] = &self.at_desks;
        ann.client.send(*one, "melon").await?;
        ann.client.act(*one, Act::Label { label: "vip".into(), on: true }).await?;
        ann.client.act(*four, Act::Label { label: "late".into(), on: true }).await?;
        for (agent, session, visitor, score) in [(bob, two, twos, 2), (ann, four, fours, 5)] {
            agent.client.close(*session).await?;
            visitor.client.act(*session, Act::Rate { conversation: 1, score, comment: String::new() }).await?;
        }
        Ok(())
    }

    /// The places of those whom a search finds, once the node knows everything.
    async fn finds(&self, addr: &str, query: &str, expected: &[usize]) -> anyhow::Result<()> {
        let mut last = None;
        let wanted: BTreeSet<usize> = expected.iter().copied().collect();
        let is_it = wait::until(query, FOUND_WITHIN, async || {
            let answer = ask(addr, &self.sues, "GET", &format!("/v1/search?limit=100&{query}"), None).await.ok()?;
            let found = json_of(&answer).ok()?;
            let place = |hit: &Value| self.all.iter().position(|(session, ..)| hit["session"] == session.to_string());
            let hits: Option<Vec<usize>> = found["hits"].as_array().and_then(|all| all.iter().map(place).collect());
            let is_known = answer.status == 200 && found["behind"] == 0;
            last = Some(found);
            let hits = hits.filter(|_| is_known)?;
            (hits.len() == wanted.len() && hits.into_iter().collect::<BTreeSet<_>>() == wanted).then_some(())
        });
        is_it.await.with_context(|| format!("{addr}: {query}: {expected:?} expected: {last:?}"))
    }

    /// Each filter alone and with another, by what it must find.
    async fn all_filters(&self, addrs: &[String]) -> anyhow::Result<()> {
        let (ann, bob) = (self.ann, self.bob);
        let said: Vec<u64> = self.all.iter().map(|(_, _, ts)| *ts).collect();
        for addr in addrs {
            self.finds(addr, "q=kiwi", &[0, 1, 2, 3]).await?;
            self.finds(addr, "q=melon", &[0]).await?;
        }
        let expected: Vec<(String, &[usize])> = vec![
            (format!("agent={ann}"), &[0, 3]),
            (format!("agent={bob}"), &[1]),
            ("agent=a999".into(), &[]),
            ("team=t1".into(), &[0, 3]),
            ("team=t2".into(), &[2]),
            ("team=t9".into(), &[]),
            ("label=vip".into(), &[0]),
            ("label=late".into(), &[3]),
            ("label=none".into(), &[]),
            ("state=open".into(), &[0]),
            ("state=waiting".into(), &[2]),
            ("state=closed".into(), &[1, 3]),
            ("channel=web".into(), &[0, 2, 3]),
            ("channel=app".into(), &[1]),
            ("channel=wechat".into(), &[]),
            (format!("from={}", said[2]), &[2, 3]),
            (format!("to={}", said[2]), &[0, 1]),
            (format!("from={}&to={}", said[1], said[3]), &[1, 2]),
            (format!("from={}", said[3] + 1), &[]),
            ("rating_min=3".into(), &[3]),
            ("rating_max=3".into(), &[1]),
            ("rating_min=1".into(), &[1, 3]),
            ("rating_min=2&rating_max=2".into(), &[1]),
            ("rating_min=3&rating_max=4".into(), &[]),
            ("by=visitor".into(), &[0, 1, 2, 3]),
            ("by=agent".into(), &[]),
            (format!("agent={ann}&state=closed"), &[3]),
            (format!("agent={bob}&state=open"), &[]),
            (format!("team=t1&label=vip&channel=web&to={}", said[1]), &[0]),
        ];
        for (at, (filter, found)) in expected.iter().enumerate() {
            self.finds(&addrs[at % addrs.len()], &format!("q=kiwi&{filter}"), found).await?;
        }
        self.finds(&addrs[0], "q=melon&by=agent", &[0]).await?;
        self.finds(&addrs[0], "q=melon&by=visitor", &[]).await?;
        // Without words, too.
        self.finds(&addrs[0], "by=visitor&state=waiting", &[2]).await
    }

    /// A view is kept, is there for whom it is for, and whoever searches with it finds what it names.
    async fn views(&self) -> anyhow::Result<()> {
        let ann = self.ann;
        for (token, name, body) in [
            (&self.sues, "done", json!({ "filters": { "q": "kiwi", "agent": ann.to_string(), "state": "closed" } })),
            (&self.sues, "bad", json!({ "filters": { "rating_max": 2, "by": "visitor" }, "mine": true })),
            (&self.anns, "vips", json!({ "filters": { "q": "kiwi", "label": "vip", "team": "t1" }, "mine": true })),
        ] {
            done_by_any(&self.cluster, token, "PUT", &format!("/v1/views/{name}"), Some(body)).await?;
        }
        let addrs: Vec<&str> = self.cluster.members().map(|node| node.client.as_str()).collect();
        for (at, (token, expected)) in [
            (&self.sues, [("bad", true, vec![1]), ("done", false, vec![3])]),
            (&self.anns, [("vips", true, vec![0]), ("done", false, vec![3])]),
        ]
        .iter()
        .enumerate()
        {
            let list = done_by_any(&self.cluster, token, "GET", "/v1/views", None).await?;
            let views = list["views"].as_array().context("no views")?;
            ensure!(views.len() == expected.len(), "{list}");
            for (view, (name, mine, found)) in views.iter().zip(expected) {
                ensure!(view["name"] == *name && view["mine"] == *mine, "{list}");
                self.finds(addrs[at], &query_of(&view["filters"])?, found).await?;
            }
        }
        Ok(())
    }
}

/// The query that a view's filters are.
fn query_of(filters: &Value) -> anyhow::Result<String> {
    let filters = filters.as_object().context("no filters")?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let known = filters.iter().filter(|(_, value)| !value.is_null());
    let parts: Vec<String> = known.map(|(name, value)| format!("{name}={}", text(value))).collect();
    ensure!(!parts.is_empty(), "a view without a filter");
    Ok(parts.join("&"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_filter_of_a_search_finds_what_it_names_and_nothing_else_whoever_dies() -> anyhow::Result<()> {
    let mut talks = Talks::start().await?;
    let addrs: Vec<String> = talks.cluster.nodes().iter().map(|node| node.client.clone()).collect();
    talks.all_filters(&addrs).await?;
    talks.views().await?;
    talks.cluster.kill(3);
    talks.all_filters(&addrs[..2]).await?;

    // What becomes of it changes what filters find.
    let (one, ..) = &talks.all[0];
    let ann = &talks.at_desks[0];
    ann.client.act(*one, Act::Label { label: "vip".into(), on: false }).await?;
    ann.client.close(*one).await?;
    for (filter, found) in
        [("label=vip", [].as_slice()), ("state=open", &[]), ("state=closed", &[0, 1, 3]), ("state=waiting", &[2])]
    {
        talks.finds(&addrs[1], &format!("q=kiwi&{filter}"), found).await?;
    }
    talks.cluster.restart(&[3]).await?;
    talks.finds(&addrs[2], &format!("q=kiwi&agent={}&state=closed", talks.ann), &[0, 3]).await?;
    talks.all.iter().try_for_each(|(_, visitor, _)| visitor.check())
}
