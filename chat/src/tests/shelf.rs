//! Owns the tests of what a site keeps for its people. Does not test what stands in it.

use super::world::*;
use crate::limits::{SHELF_BYTES_MAX, SHELF_ITEM_BYTES_MAX, SHELF_ITEMS_MAX, SHELF_NAME_BYTES_MAX};
use crate::{Refusal, Reply};
use proto::command::Command;
use proto::ids::SiteId;
use proto::shelf::{Item, ItemKind};

fn shelve(site: SiteId, kind: ItemKind, name: &str, text: Option<&str>) -> Command {
    Command::Shelve { site, kind, name: name.into(), text: text.map(str::to_owned) }
}

fn names(world: &World, site: SiteId, kind: ItemKind) -> Vec<String> {
    world.shard.items(&world.rows, site, kind).unwrap().into_iter().map(|item| item.name).collect()
}

#[test]
fn a_site_keeps_what_it_was_given_by_kind_and_name_whatever_is_in_memory() {
    let mut world = World::alone();
    let kept = [("b", "1"), ("a", "2"), ("ü", "3")];
    for (name, text) in kept {
        assert_eq!(world.reply(shelve(SITE, ItemKind::Canned, name, Some(text))), Reply::Done);
    }
    world.apply(shelve(SITE, ItemKind::Macro, "a", Some("m")));
    world.apply(shelve(SiteId(9), ItemKind::Canned, "theirs", Some("t")));
    for chilled in [false, true] {
        if chilled {
            world.chill();
        }
        assert_eq!(names(&world, SITE, ItemKind::Canned), ["a", "b", "ü"]);
        assert_eq!(names(&world, SITE, ItemKind::Macro), ["a"]);
        assert_eq!(names(&world, SiteId(9), ItemKind::Canned), ["theirs"]);
    }
    world.apply(shelve(SITE, ItemKind::Canned, "b", Some("changed")));
    world.apply(shelve(SITE, ItemKind::Canned, "a", None));
    world.apply(shelve(SITE, ItemKind::Canned, "a", None));
    let changed = Item { name: "b".into(), text: "changed".into() };
    assert_eq!(world.shard.items(&world.rows, SITE, ItemKind::Canned).unwrap()[0], changed);
    world.chill();
    assert_eq!(names(&world, SITE, ItemKind::Canned), ["b", "ü"]);
}

#[test]
fn a_shelf_is_bounded_in_every_way_and_has_room_again_when_something_goes() {
    let mut world = World::alone();
    let invalid = Reply::Rejected(Refusal::RulesInvalid("something on a shelf"));
    let long = "x".repeat(SHELF_ITEM_BYTES_MAX + 1);
    for (name, text) in [("", "x"), ("a\n", "x"), (&"n".repeat(SHELF_NAME_BYTES_MAX + 1), "x"), ("a", &long)] {
        assert_eq!(world.reply(shelve(SITE, ItemKind::Canned, name, Some(text))), invalid);
    }
    let full = Reply::Rejected(Refusal::LimitReached("what a site keeps"));
    for n in 0..SHELF_ITEMS_MAX {
        assert_eq!(world.reply(shelve(SITE, ItemKind::Canned, &format!("{n}"), Some("x"))), Reply::Done);
    }
    world.chill();
    assert_eq!(world.reply(shelve(SITE, ItemKind::Canned, "more", Some("x"))), full);
    assert_eq!(world.reply(shelve(SITE, ItemKind::Canned, "7", Some("changed"))), Reply::Done);
    world.apply(shelve(SITE, ItemKind::Canned, "8", None));
    assert_eq!(world.reply(shelve(SITE, ItemKind::Canned, "more", Some("x"))), Reply::Done);
    // Another kind has room of its own, up to its bytes.
    let big = "x".repeat(SHELF_ITEM_BYTES_MAX);
    let fits = SHELF_BYTES_MAX / (SHELF_ITEM_BYTES_MAX as u64 + 4);
    for n in 1_000..1_000 + fits {
        assert_eq!(world.reply(shelve(SITE, ItemKind::Macro, &format!("{n}"), Some(&big))), Reply::Done);
    }
    assert_eq!(world.reply(shelve(SITE, ItemKind::Macro, "last", Some(&big))), full);
    assert_eq!(world.reply(shelve(SITE, ItemKind::Macro, "1000", Some("small"))), Reply::Done);
    assert_eq!(world.reply(shelve(SITE, ItemKind::Macro, "last", Some(&big))), Reply::Done);
}
