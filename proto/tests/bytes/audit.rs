//! Owns what the byte tests need of audit chains. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::samples::SITE;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::audit::{AuditAct, AuditEntry, AuditLine, AuditPage, AuditPhase, ChainPoint};
use proto::command::Command;
use proto::peer::{ShardCall, ShardReply};

fn act_sample(phase: AuditPhase) -> AuditAct {
    AuditAct {
        act: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        phase,
        who: "agent:a300".into(),
        role: "owner".into(),
        address: "192.0.2.7".into(),
        node: "n3".into(),
        method: "PUT".into(),
        route: "/v1/teams/{team}".into(),
        target: "/v1/teams/t2".into(),
        body: Some([7; 32]),
    }
}

pub fn command_samples() -> Vec<(&'static str, Command)> {
    let sample = |phase| Command::Audit { site: SITE, act: Box::new(act_sample(phase)) };
    vec![
        ("audit begun", sample(AuditPhase::Begun)),
        ("audit done", sample(AuditPhase::Done { begun: 300, status: 204 })),
        ("audit refused", sample(AuditPhase::Refused { status: 403 })),
        ("audit told", sample(AuditPhase::Told { status: 200 })),
    ]
}

pub fn call() -> (&'static str, ShardCall) {
    ("audit", ShardCall::Audit { site: SITE, after: 300, limit: 100 })
}

pub fn replies() -> Vec<(&'static str, ShardReply)> {
    let entry = AuditEntry { seq: 301, ts_ms: 1_763_700_000_000, act: act_sample(AuditPhase::Begun) };
    let lines = vec![AuditLine { entry, hash: [8; 32] }];
    let (head, cut) = (ChainPoint { seq: 301, hash: [8; 32] }, ChainPoint { seq: 251, hash: [9; 32] });
    vec![("audited", ShardReply::Audited { seq: 300 }), ("audit", ShardReply::Audit(AuditPage { lines, head, cut }))]
}

fn phase() -> impl Strategy<Value = AuditPhase> {
    prop_oneof![
        Just(AuditPhase::Begun),
        any::<(u64, u16)>().prop_map(|(begun, status)| AuditPhase::Done { begun, status }),
        any::<u16>().prop_map(|status| AuditPhase::Refused { status }),
        any::<u16>().prop_map(|status| AuditPhase::Told { status }),
    ]
}

fn act() -> impl Strategy<Value = AuditAct> {
    let texts = (word(), word(), word(), word());
    let request = (word(), word(), text(), option::of(token()));
    (any::<u128>(), phase(), texts, request).prop_map(
        |(act, phase, (who, role, address, node), (method, route, target, body))| AuditAct {
            act,
            phase,
            who,
            role,
            address,
            node,
            method,
            route,
            target,
            body,
        },
    )
}

fn point() -> impl Strategy<Value = ChainPoint> {
    (any::<u64>(), token()).prop_map(|(seq, hash)| ChainPoint { seq, hash })
}

fn line() -> impl Strategy<Value = AuditLine> {
    let line = |((seq, ts_ms), act, hash)| AuditLine { entry: AuditEntry { seq, ts_ms, act }, hash };
    (any::<(u64, u64)>(), act(), token()).prop_map(line)
}

pub fn command() -> impl Strategy<Value = Command> {
    (site(), act()).prop_map(|(site, act)| Command::Audit { site, act: Box::new(act) })
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    (site(), any::<u64>(), any::<u32>()).prop_map(|(site, after, limit)| ShardCall::Audit { site, after, limit })
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    let page = (vec(line(), 0..4), point(), point());
    prop_oneof![
        any::<u64>().prop_map(|seq| ShardReply::Audited { seq }),
        page.prop_map(|(lines, head, cut)| ShardReply::Audit(AuditPage { lines, head, cut })),
    ]
}
