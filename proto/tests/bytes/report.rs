//! Owns what the byte tests need of reports. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::samples::{NOW_MS, SITE};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::peer::{ShardCall, ShardReply};
use proto::report::{Figures, ReportAsk, ReportKind, ReportPage, ReportSum, Times};

const KINDS: [ReportKind; 4] = [ReportKind::Site, ReportKind::Team, ReportKind::Agent, ReportKind::Label];

pub fn call() -> (&'static str, ShardCall) {
    let (id, label, starts) = (Some(300), Some("vip".into()), vec![489_900, 489_924]);
    let (kind, end, from, now_ms) = (ReportKind::Label, 489_948, 489_910, NOW_MS);
    let ask = ReportAsk { site: SITE, kind, id, label, starts, end, from, now_ms };
    ("report", ShardCall::Report(Box::new(ask)))
}

pub fn reply() -> (&'static str, ShardReply) {
    let mut figures = Figures { opened: 3, held_max: 4, scores: [0, 1, -1, 0, 300], ..Figures::default() };
    figures.response.add(90_000);
    figures.abandonment.add_sum(2, 300, 251);
    let sum = ReportSum { stretch: 1, id: 1 << 100, label: "vip".into(), figures };
    ("figures", ShardReply::Report(ReportPage { sums: vec![sum], next: Some(489_930) }))
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    let hours = (vec(any::<u32>(), 0..9), any::<(u32, u32, u64)>());
    let of = (prop::sample::select(KINDS.to_vec()), any::<Option<u64>>(), option::of(text()));
    (site(), of, hours).prop_map(|(site, (kind, id, label), (starts, (end, from, now_ms)))| {
        ShardCall::Report(Box::new(ReportAsk { site, kind, id, label, starts, end, from, now_ms }))
    })
}

fn times() -> impl Strategy<Value = Times> {
    (any::<(u64, u64, u64)>(), vec(any::<(u8, u64)>(), 0..9)).prop_map(|((count, sum_ms, max_ms), spread)| Times {
        count,
        sum_ms,
        max_ms,
        spread,
    })
}

fn figures() -> impl Strategy<Value = Figures> {
    let counts = (any::<[u64; 12]>(), any::<[i64; 5]>(), any::<[u64; 5]>());
    (counts, (times(), times(), times(), times(), times())).prop_map(|((counts, scores, agents), times)| {
        let [opened, reopened, closed, abandoned, unanswered, assigned, transferred, requeued, labelled, ..] = counts;
        let [.., from_visitors, from_agents, from_system] = counts;
        let [online_ms, busy_ms, away_ms, held_ms, held_max] = agents;
        let (first_response, response, resolution, wait, abandonment) = times;
        Figures {
            opened,
            reopened,
            closed,
            abandoned,
            unanswered,
            assigned,
            transferred,
            requeued,
            labelled,
            from_visitors,
            from_agents,
            from_system,
            scores,
            online_ms,
            busy_ms,
            away_ms,
            held_ms,
            held_max,
            first_response,
            response,
            resolution,
            wait,
            abandonment,
        }
    })
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    let sum = (any::<(u32, u128)>(), text(), figures()).prop_map(|((stretch, id), label, figures)| ReportSum {
        stretch,
        id,
        label,
        figures,
    });
    (vec(sum, 0..4), any::<Option<u32>>()).prop_map(|(sums, next)| ShardReply::Report(ReportPage { sums, next }))
}
