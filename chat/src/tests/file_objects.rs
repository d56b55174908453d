//! Owns the tests of the bytes of files that leave the rows for the archive. Does not test objects: here there are none.

use super::attachments::{all_bytes, file, read, send, small, upload, with_session};
use super::world::*;
use crate::limits::RECALL_WITHIN_MS;
use crate::{FileHere, Refusal, Reply, Shard};
use proto::act::Act;
use proto::archive::{ArchiveChange, FILE_PART_BYTES, FileObject};
use proto::attachment::{Attachment, Variant};
use proto::command::{Command, Party, SecretBytes};
use proto::ids::AttachmentId;

const CHANGED: Reply = Reply::Rejected(Refusal::Changed);

fn change(of: u128, change: ArchiveChange) -> Command {
    Command::Archive { session: session(of), change: Box::new(change) }
}

fn begin(of: u128, file: u128, names: &[&str]) -> Command {
    let objects = names.iter().map(|name| (*name).to_owned()).collect();
    change(of, ArchiveChange::BeginFile { file: AttachmentId(file), objects })
}

fn object(name: &str, bytes: u64) -> FileObject {
    let parts = vec![[7; 32]; bytes.div_ceil(FILE_PART_BYTES as u64) as usize];
    FileObject { name: name.into(), bytes: bytes as u32, parts }
}

fn moved(of: u128, file: u128, objects: &[FileObject]) -> Command {
    change(of, ArchiveChange::FileMoved { file: AttachmentId(file), objects: objects.to_vec() })
}

fn here(world: &World) -> Vec<u128> {
    let found = world.shard.files_here(&world.rows, SITE, u64::MAX, 100).unwrap();
    found.into_iter().map(|here| here.file.0).collect()
}

fn objects_of(world: &World, of: u128, id: u128) -> Option<Vec<FileObject>> {
    let found = world.shard.attachment(&world.rows, session(of), AttachmentId(id)).unwrap();
    found.map(|state| state.objects)
}

/// Objects that nothing names, and whether they are to be deleted.
fn loose(world: &World) -> Vec<(String, bool)> {
    let found = world.shard.loose_objects(&world.rows, 100).unwrap();
    let mut found: Vec<_> = found.into_iter().map(|object| (object.name, object.is_dropped)).collect();
    found.sort();
    found
}

fn gone(names: &[&str]) -> Vec<(String, bool)> {
    names.iter().map(|name| ((*name).to_owned(), true)).collect()
}

fn recall(seq: u64) -> Command {
    let (device, cid) = ("d".to_owned(), format!("recall {seq}"));
    Command::Act { session: session(1), site: None, from: Party::Visitor, device, n: 0, cid, act: Act::Recall { seq } }
}

/// A message of session 1 that names file 7, in one object.
fn with_moved() -> World {
    let mut world = with_session();
    upload(&mut world, 1, 7, Party::Visitor);
    world.apply(send(1, Party::Visitor, "a", "", &[7]));
    assert_eq!(world.reply(begin(1, 7, &["f7"])), Reply::Done);
    assert_eq!(world.reply(moved(1, 7, &[object("f7", all_bytes())])), Reply::Done);
    world
}

#[test]
fn a_file_that_was_moved_leaves_no_piece_here_and_is_known_as_before() {
    let mut world = with_session();
    upload(&mut world, 1, 7, Party::Visitor);
    small(&mut world, 1, 8, Party::Visitor);
    world.apply(send(1, Party::Visitor, "a", "", &[7, 8]));
    world.chill();
    let before = world.shard.attachment(&world.rows, session(1), AttachmentId(7)).unwrap().unwrap();
    let usage = world.shard.attachment_usage(&world.rows, SITE).unwrap();
    assert!(!world.shard.has_archived(&world.rows).unwrap());
    world.apply(begin(1, 7, &["f7"]));
    assert_eq!(loose(&world), [("f7".to_owned(), false)]);
    assert_eq!(world.reply(moved(1, 7, &[object("f7", all_bytes())])), Reply::Done);
    for _ in 0..2 {
        let now = world.shard.attachment(&world.rows, session(1), AttachmentId(7)).unwrap().unwrap();
        assert_eq!(now.objects, [object("f7", all_bytes())]);
        assert_eq!(proto::attachment::AttachmentState { objects: Vec::new(), ..now }, before);
        for number in 0..4 {
            let piece = world.shard.attachment_piece(&world.rows, session(1), AttachmentId(7), Variant::Whole, number);
            assert_eq!(piece.unwrap(), None);
        }
        assert_eq!(read(&world, 1, 8), Some(vec![9; 9]), "the other one stays");
        assert_eq!(here(&world), [8]);
        assert_eq!(loose(&world), []);
        assert_eq!(world.shard.attachment_usage(&world.rows, SITE).unwrap(), usage, "the site keeps it all the same");
        assert!(world.shard.has_archived(&world.rows).unwrap());
        world.chill();
        world.shard = Shard::open(ONE, 1, &world.rows).unwrap();
    }
    assert_eq!((world.rows.count(b'N'), world.rows.count(b'n')), (1, 1));
    let again = Command::AttachmentDone {
        session: session(1),
        by: Party::Visitor,
        attachment: file(7, all_bytes()),
        source: [1; 32],
        sha256: [2; 32],
    };
    assert_eq!(world.reply(again), Reply::Done, "the upload may be repeated late");
}

#[test]
fn files_wait_to_be_moved_from_when_a_message_names_them_in_that_order() {
    let mut world = with_session();
    for id in [9, 7, 8] {
        small(&mut world, 1, id, Party::Visitor);
    }
    small(&mut world, 2, 6, Party::Visitor);
    assert_eq!(here(&world), [], "no message names any");
    assert_eq!(world.reply(begin(1, 7, &["f7"])), CHANGED);
    for (of, id) in [(1, 8), (2, 6), (1, 9)] {
        world.now_ms += 1_000;
        world.apply(send(of, Party::Visitor, &format!("c{id}"), "", &[id]));
    }
    let upto = |world: &World, upto_ms: u64, limit: usize| {
        let found = world.shard.files_here(&world.rows, SITE, upto_ms, limit).unwrap();
        found.into_iter().map(|here| here.file.0).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(here(&world), [8, 6, 9]);
        assert_eq!(upto(&world, world.now_ms - 1_000, 9), [8, 6]);
        assert_eq!(upto(&world, world.now_ms, 2), [8, 6]);
        assert_eq!(upto(&world, world.now_ms - 3_000, 9), [] as [u128; 0]);
        let first = world.shard.files_here(&world.rows, SITE, u64::MAX, 1).unwrap();
        assert_eq!(first, [FileHere { session: session(1), file: AttachmentId(8), bytes: 9 }]);
        world.chill();
    }
    // What changed since the rows were written counts.
    world.apply(begin(1, 8, &["f8"]));
    world.apply(moved(1, 8, &[object("f8", 9)]));
    world.now_ms += 1_000;
    world.apply(send(1, Party::Visitor, "c7", "", &[7]));
    assert_eq!((here(&world), upto(&world, u64::MAX, 2)), (vec![6, 9, 7], vec![6, 9]));
    assert_eq!(world.shard.cached_bytes(), world.shard.recount_bytes());
}

#[test]
fn a_thumbnail_has_an_object_of_its_own_beside_its_image() {
    let mut world = with_session();
    for variant in [Variant::Whole, Variant::Thumbnail] {
        let (attachment, bytes) = (AttachmentId(7), SecretBytes(vec![variant as u8; 50]));
        let (session, by) = (session(1), Party::Visitor);
        world.apply(Command::AttachmentChunk { session, attachment, by, variant, number: 0, bytes });
    }
    let attachment = Attachment { width: 640, height: 480, thumbnail: 50, ..file(7, 50) };
    let (session, by, hash) = (session(1), Party::Visitor, [1; 32]);
    assert_eq!(
        world.reply(Command::AttachmentDone { session, by, attachment, source: hash, sha256: hash }),
        Reply::Done
    );
    world.apply(send(1, Party::Visitor, "a", "", &[7]));
    world.apply(begin(1, 7, &["whole", "small"]));
    let both = [object("whole", 50), object("small", 50)];
    assert_eq!(world.reply(moved(1, 7, &both[..1])), CHANGED, "the thumbnail would be nowhere");
    assert_eq!(world.reply(moved(1, 7, &[both[0].clone(), both[0].clone()])), CHANGED);
    assert_eq!(world.reply(moved(1, 7, &both)), Reply::Done);
    assert_eq!(objects_of(&world, 1, 7), Some(both.to_vec()));
    world.apply(recall(1));
    world.chill();
    assert_eq!(loose(&world), gone(&["small", "whole"]));
    assert_eq!(world.rows.count(b'N'), 0);
}

#[test]
fn whoever_moves_a_file_and_comes_too_late_or_says_something_else_changes_nothing() {
    let right = [object("f7", all_bytes())];
    let mut world = with_session();
    upload(&mut world, 1, 7, Party::Visitor);
    world.apply(send(1, Party::Visitor, "a", "", &[7]));
    assert_eq!(world.reply(moved(1, 7, &right)), CHANGED, "nobody began it");
    assert_eq!(world.reply(begin(1, 9, &["f9"])), CHANGED, "there is no such file");
    assert_eq!(world.reply(begin(2, 7, &["f7"])), CHANGED, "it is in another session");
    assert_eq!(world.reply(begin(1, 7, &[])), CHANGED);
    world.apply(begin(1, 7, &["f7", "late", "dropped"]));
    world.apply(change(1, ArchiveChange::Dropped { object: "dropped".into() }));
    let part = FileObject { parts: vec![[7; 32]; 2], ..right[0].clone() };
    for wrong in [vec![], vec![object("f7", all_bytes() - 1)], vec![part], vec![object("dropped", all_bytes())]] {
        assert_eq!(world.reply(moved(1, 7, &wrong)), CHANGED, "{wrong:?}");
    }
    assert!(read(&world, 1, 7).is_some(), "it is still here");
    // Its session is open, and goes on meanwhile.
    world.apply(send(1, Party::Visitor, "b", "hello?", &[]));
    assert_eq!(world.reply(moved(1, 7, &right)), Reply::Done);
    assert_eq!(world.reply(moved(1, 7, &[object("late", all_bytes())])), CHANGED, "it was moved before");
    assert_eq!(world.reply(begin(1, 7, &["f7"])), CHANGED, "an object that holds a file is not begun again");
    world.apply(change(1, ArchiveChange::Dropped { object: "f7".into() }));
    assert_eq!(loose(&world), [("dropped".to_owned(), true), ("late".to_owned(), false)]);
    assert_eq!(objects_of(&world, 1, 7), Some(right.to_vec()));
    // Another one is recalled before the log names its object.
    small(&mut world, 1, 8, Party::Visitor);
    world.apply(send(1, Party::Visitor, "c", "", &[8]));
    world.apply(begin(1, 8, &["f8"]));
    world.apply(recall(3));
    assert_eq!(world.reply(moved(1, 8, &[object("f8", 9)])), CHANGED);
    world.apply(change(1, ArchiveChange::Dropped { object: "f8".into() }));
    world.chill();
    assert_eq!(objects_of(&world, 1, 8), None);
    assert_eq!(loose(&world), [("dropped".to_owned(), true), ("f8".to_owned(), true), ("late".to_owned(), false)]);
}

#[test]
fn the_object_of_a_file_that_is_recalled_or_erased_is_to_be_deleted() {
    let mut recalled = with_moved();
    recalled.now_ms += RECALL_WITHIN_MS / 2;
    assert!(matches!(recalled.reply(recall(1)), Reply::Sent { .. }));
    let mut erased = with_moved();
    erased.apply(login(4));
    erased.apply(presence(4, true));
    erased.settle();
    erased.apply(close(1, Party::System));
    erased.settle();
    assert!(matches!(erased.reply(Command::Erase { session: session(1), upto: 9, forget: true }), Reply::Sent { .. }));
    for mut world in [recalled, erased] {
        for _ in 0..2 {
            assert_eq!(loose(&world), gone(&["f7"]));
            assert_eq!((objects_of(&world, 1, 7), here(&world)), (None, vec![]));
            assert_eq!(world.shard.attachment_usage(&world.rows, SITE).unwrap(), (0, 0));
            world.chill();
        }
        assert!(world.shard.has_archived(&world.rows).unwrap(), "the object may still be there");
        world.apply(change(1, ArchiveChange::Deleted { object: "f7".into() }));
        world.chill();
        assert_eq!((loose(&world), world.rows.count(b'h')), (vec![], 0));
        assert!(!world.shard.has_archived(&world.rows).unwrap());
    }
}
