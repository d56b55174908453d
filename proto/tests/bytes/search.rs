//! Owns what the byte tests need of searching. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::samples::{AGENT, NOW_MS, SESSION, SITE};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::command::Party;
use proto::desk::Channel;
use proto::ids::{TeamId, VisitorId};
use proto::peer::{ShardCall, ShardReply};
use proto::search::{SaidBy, SearchAsk, SearchHit, SearchPage, SearchPlace, Standing};

const PLACE: SearchPlace = SearchPlace { ts_ms: NOW_MS, session: SESSION, seq: 9 };

pub fn call() -> (&'static str, ShardCall) {
    let ask = SearchAsk {
        site: SITE,
        text: "\"申请退款\" parcel".into(),
        by: Some(SaidBy::Note),
        from_ms: Some(NOW_MS),
        to_ms: Some(NOW_MS + 1),
        agent: Some(AGENT),
        team: Some(TeamId(2)),
        label: Some("vip".into()),
        standing: Some(Standing::Waiting),
        rating: Some((1, 2)),
        channel: Some(Channel(1)),
        after: Some(PLACE),
        limit: 50,
    };
    ("search", ShardCall::Search(Box::new(ask)))
}

pub fn reply() -> (&'static str, ShardReply) {
    let hit = SearchHit {
        place: PLACE,
        visitor: VisitorId(5),
        from: Party::Agent(AGENT),
        by: SaidBy::Agent,
        standing: Standing::Closed,
        agent: Some(AGENT),
        labels: vec!["vip".into()],
        snippet: vec![("我想".into(), false), ("退款".into(), true)],
    };
    ("found", ShardReply::Found(SearchPage { hits: vec![hit], next: Some(PLACE), behind: 3 }))
}

fn by() -> impl Strategy<Value = SaidBy> {
    prop::sample::select(vec![SaidBy::Visitor, SaidBy::Agent, SaidBy::System, SaidBy::Note])
}

fn standing() -> impl Strategy<Value = Standing> {
    prop::sample::select(vec![Standing::Open, Standing::Waiting, Standing::Closed, Standing::Snoozed])
}

fn place() -> impl Strategy<Value = SearchPlace> {
    (any::<u64>(), session(), any::<u64>()).prop_map(|(ts_ms, session, seq)| SearchPlace { ts_ms, session, seq })
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    let words = (site(), text(), option::of(by()), any::<(Option<u64>, Option<u64>)>());
    let facts = (option::of(agent()), any::<Option<u32>>(), option::of(text()), option::of(standing()));
    let facts = (facts, any::<Option<(u8, u8)>>(), option::of(any::<u8>().prop_map(Channel)));
    (words, facts, option::of(place()), any::<u32>()).prop_map(|(words, facts, after, limit)| {
        let (site, text, by, (from_ms, to_ms)) = words;
        let ((agent, team, label, standing), rating, channel) = facts;
        let team = team.map(TeamId);
        let ask =
            SearchAsk { site, text, by, from_ms, to_ms, agent, team, label, standing, rating, channel, after, limit };
        ShardCall::Search(Box::new(ask))
    })
}

fn hit() -> impl Strategy<Value = SearchHit> {
    let who = (any::<u128>().prop_map(VisitorId), party(), by(), standing(), option::of(agent()));
    (place(), who, vec(text(), 0..3), vec((text(), any::<bool>()), 0..4)).prop_map(|(place, who, labels, snippet)| {
        let (visitor, from, by, standing, agent) = who;
        SearchHit { place, visitor, from, by, standing, agent, labels, snippet }
    })
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    (vec(hit(), 0..4), option::of(place()), any::<u64>())
        .prop_map(|(hits, next, behind)| ShardReply::Found(SearchPage { hits, next, behind }))
}
