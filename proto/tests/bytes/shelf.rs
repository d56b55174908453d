//! Owns what the byte tests need of what sites keep. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::samples::SITE;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::command::Command;
use proto::peer::{ShardCall, ShardReply};
use proto::shelf::{Item, ItemKind};

pub fn command_sample() -> (&'static str, Command) {
    let (name, text) = ("hello".into(), Some("{}".into()));
    ("shelve", Command::Shelve { site: SITE, kind: ItemKind::Macro, name, text })
}

pub fn call() -> (&'static str, ShardCall) {
    ("shelf", ShardCall::Shelf { site: SITE, kind: ItemKind::Attribute })
}

pub fn reply() -> (&'static str, ShardReply) {
    ("shelf", ShardReply::Shelf(vec![Item { name: "hello".into(), text: "{}".into() }]))
}

fn kind() -> impl Strategy<Value = ItemKind> {
    use ItemKind::{Attribute, Blocked, Canned, Macro, Trigger, TriggerCount, View};
    prop::sample::select(vec![Canned, Macro, Attribute, Blocked, View, Trigger, TriggerCount])
}

pub fn command() -> impl Strategy<Value = Command> {
    (site(), kind(), word(), option::of(text())).prop_map(|(site, kind, name, text)| Command::Shelve {
        site,
        kind,
        name,
        text,
    })
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    (site(), kind()).prop_map(|(site, kind)| ShardCall::Shelf { site, kind })
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    vec((word(), text()).prop_map(|(name, text)| Item { name, text }), 0..4).prop_map(ShardReply::Shelf)
}
