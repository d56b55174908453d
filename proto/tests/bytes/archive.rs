//! Owns the samples and the arbitrary values of the archive. See `samples` and `arbitrary`.

use super::arbitrary::{event, session, word};
use super::samples::{HASH, NOW_MS, SESSION};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::archive::{ArchiveChange, ArchivedEvents, ArchivedObject, ArchivedRange, FileObject};
use proto::command::{Command, Event, EventBody};
use proto::ids::AttachmentId;

fn range_sample() -> ArchivedRange {
    let object = ArchivedObject { name: "c/1/s/1-2-h".into(), sha256: HASH, bytes: 300, plain_bytes: 70_000 };
    let files = vec![(2, AttachmentId(300))];
    ArchivedRange { first: 1, last: 2, object: Some(object), marks: vec![NOW_MS << 1 | 1, 2_000], files }
}

pub fn file_object() -> FileObject {
    FileObject { name: "c/1/s/f-1-h".into(), bytes: 300, parts: vec![HASH] }
}

pub fn any_file_object() -> impl Strategy<Value = FileObject> {
    let parts = vec(any::<[u8; 32]>(), 0..3);
    (word(), any::<u32>(), parts).prop_map(|(name, bytes, parts)| FileObject { name, bytes, parts })
}

pub fn commands() -> Vec<(&'static str, Command)> {
    let object = "c/1/s/1-2-h".to_owned();
    let archive = |change| Command::Archive { session: SESSION, change: Box::new(change) };
    vec![
        ("archive begin", archive(ArchiveChange::Begin { objects: vec![object.clone()] })),
        ("archive moved", archive(ArchiveChange::Moved { ranges: vec![range_sample()] })),
        ("archive cut", archive(ArchiveChange::Cut { range: ArchivedRange { object: None, ..range_sample() } })),
        ("archive dropped", archive(ArchiveChange::Dropped { object: object.clone() })),
        ("archive deleted", archive(ArchiveChange::Deleted { object: object.clone() })),
        ("archive begin file", archive(ArchiveChange::BeginFile { file: AttachmentId(300), objects: vec![object] })),
        (
            "archive file moved",
            archive(ArchiveChange::FileMoved { file: AttachmentId(300), objects: vec![file_object()] }),
        ),
    ]
}

pub fn events() -> Vec<(&'static str, ArchivedEvents)> {
    let gone = Event { seq: 1, ts_ms: NOW_MS, body: EventBody::Gone };
    vec![("one", ArchivedEvents { session: SESSION, events: vec![gone] })]
}

pub fn archived_events() -> impl Strategy<Value = ArchivedEvents> {
    (session(), vec(event(), 0..4)).prop_map(|(session, events)| ArchivedEvents { session, events })
}

fn range() -> impl Strategy<Value = ArchivedRange> {
    let object = (word(), any::<([u8; 32], u32, u32)>());
    let object =
        object.prop_map(|(name, (sha256, bytes, plain_bytes))| ArchivedObject { name, sha256, bytes, plain_bytes });
    let files = vec(any::<(u64, u128)>().prop_map(|(seq, id)| (seq, AttachmentId(id))), 0..3);
    (any::<(u64, u64)>(), option::of(object), vec(any::<u64>(), 0..5), files)
        .prop_map(|((first, last), object, marks, files)| ArchivedRange { first, last, object, marks, files })
}

pub fn command() -> impl Strategy<Value = Command> {
    let change = prop_oneof![
        vec(word(), 0..3).prop_map(|objects| ArchiveChange::Begin { objects }),
        vec(range(), 0..3).prop_map(|ranges| ArchiveChange::Moved { ranges }),
        range().prop_map(|range| ArchiveChange::Cut { range }),
        word().prop_map(|object| ArchiveChange::Dropped { object }),
        word().prop_map(|object| ArchiveChange::Deleted { object }),
        (any::<u128>(), vec(word(), 0..3))
            .prop_map(|(file, objects)| ArchiveChange::BeginFile { file: AttachmentId(file), objects }),
        (any::<u128>(), vec(any_file_object(), 0..3))
            .prop_map(|(file, objects)| ArchiveChange::FileMoved { file: AttachmentId(file), objects }),
    ];
    (session(), change).prop_map(|(session, change)| Command::Archive { session, change: Box::new(change) })
}
