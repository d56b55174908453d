//! Owns the tests of files that go with messages: how they come, who may send them, how many there may be, and how they go.

use super::world::*;
use crate::limits::{
    ATTACHMENT_BYTES_MAX, ATTACHMENT_DAY_FILES_MAX, ATTACHMENT_SITE_BYTES_MAX, ATTACHMENT_UNSENT_MS,
    ATTACHMENTS_PER_MESSAGE_MAX, RECALL_WITHIN_MS, UNSENT_PER_COMMAND_MAX,
};
use crate::{HistoryRange, Refusal, Reply};
use proto::act::Act;
use proto::attachment::{Attachment, CHUNK_BYTES_MAX, UrlSecret, Variant};
use proto::command::{Command, EventBody, Party, SecretBytes};
use proto::ids::{AgentId, AttachmentId};

const INVALID: Reply = Reply::Rejected(Refusal::AttachmentInvalid);
const MIB: usize = 1 << 20;

/// A piece of attachment `id` of session `of`.
pub(crate) fn chunk(of: u128, id: u128, by: Party, number: u32, bytes: Vec<u8>) -> Command {
    let (attachment, variant, bytes) = (AttachmentId(id), Variant::Whole, SecretBytes(bytes));
    Command::AttachmentChunk { session: session(of), attachment, by, variant, number, bytes }
}

pub(crate) fn file(id: u128, bytes: u64) -> Attachment {
    Attachment {
        id: AttachmentId(id),
        name: "bill.pdf".into(),
        media: "application/pdf".into(),
        bytes,
        width: 0,
        height: 0,
        thumbnail: 0,
        secret: UrlSecret([5; 16]),
    }
}

pub(crate) fn done(of: u128, id: u128, by: Party, bytes: u64) -> Command {
    let (source, sha256) = ([1; 32], [2; 32]);
    Command::AttachmentDone { session: session(of), by, attachment: file(id, bytes), source, sha256 }
}

pub(crate) fn send(of: u128, from: Party, cid: &str, text: &str, ids: &[u128]) -> Command {
    let (device, cid, text) = ("d".into(), cid.into(), text.into());
    let attachments = ids.iter().map(|id| AttachmentId(*id)).collect();
    Command::Send { session: session(of), from, device, n: 0, cid, text, reply_to: None, attachments }
}

/// Three pieces, and a session to put them into.
fn pieces() -> Vec<Vec<u8>> {
    vec![vec![1; CHUNK_BYTES_MAX], vec![2; CHUNK_BYTES_MAX], vec![3; 77]]
}

pub(crate) fn all_bytes() -> u64 {
    pieces().iter().map(|piece| piece.len() as u64).sum()
}

pub(crate) fn upload(world: &mut World, of: u128, id: u128, by: Party) {
    for (number, piece) in (0..).zip(pieces()) {
        assert_eq!(world.reply(chunk(of, id, by, number, piece)), Reply::Done);
    }
    assert_eq!(world.reply(done(of, id, by, all_bytes())), Reply::Done);
}

pub(crate) fn small(world: &mut World, of: u128, id: u128, by: Party) {
    assert_eq!(world.reply(chunk(of, id, by, 0, vec![9; 9])), Reply::Done);
    assert_eq!(world.reply(done(of, id, by, 9)), Reply::Done);
}

pub(crate) fn with_session() -> World {
    let mut world = World::alone();
    world.apply(open(1));
    world.apply(open(2));
    world
}

/// The whole file, as it can be read.
pub(crate) fn read(world: &World, of: u128, id: u128) -> Option<Vec<u8>> {
    let (of, id) = (session(of), AttachmentId(id));
    let state = world.shard.attachment(&world.rows, of, id).unwrap()?;
    let mut found = Vec::new();
    for number in 0.. {
        let piece = world.shard.attachment_piece(&world.rows, of, id, Variant::Whole, number).unwrap();
        let Some(piece) = piece else { break };
        found.extend(piece);
    }
    assert_eq!(found.len() as u64, state.attachment.bytes);
    Some(found)
}

/// What the messages of a session name.
fn named(world: &World, of: u128) -> Vec<Vec<Attachment>> {
    let page = world.shard.history(&world.rows, session(of), HistoryRange::After(0), 99, MIB).unwrap().unwrap();
    let of_message = |event: &std::sync::Arc<proto::command::Event>| match &event.body {
        EventBody::Message { attachments, .. } => Some(attachments.clone()),
        _ => None,
    };
    page.events.iter().filter_map(of_message).collect()
}

fn attachment_rows(world: &World) -> usize {
    world.rows.count(b'M') + world.rows.count(b'N')
}

#[test]
fn pieces_come_in_any_order_and_again_and_are_read_back_wherever_they_are() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        for chill_at in 0..6 {
            let mut world = with_session();
            for (at, number) in order.into_iter().enumerate() {
                let piece = chunk(1, 7, Party::Visitor, number as u32, pieces()[number].clone());
                assert_eq!(world.reply(piece.clone()), Reply::Done);
                if chill_at == at {
                    world.chill();
                }
                assert_eq!(world.reply(piece), Reply::Done, "a repetition changes nothing");
                assert_eq!(read(&world, 1, 7), None, "it is not finished");
            }
            assert_eq!(world.reply(done(1, 7, Party::Visitor, all_bytes())), Reply::Done);
            if chill_at == 3 {
                world.chill();
            }
            assert_eq!(world.reply(done(1, 7, Party::Visitor, all_bytes())), Reply::Done);
            assert_eq!(read(&world, 1, 7), Some(pieces().concat()));
            let again = chunk(1, 7, Party::Visitor, 1, pieces()[1].clone());
            assert_eq!(world.reply(again), Reply::Done, "the repetition may be late");
            if chill_at == 4 {
                world.chill();
                world.shard = crate::Shard::open(ONE, 1, &world.rows).unwrap();
            }
            assert_eq!(read(&world, 1, 7), Some(pieces().concat()));
        }
    }
}

#[test]
fn a_piece_that_is_another_one_or_does_not_fit_is_refused() {
    let mut world = with_session();
    world.apply(chunk(1, 7, Party::Visitor, 0, pieces()[0].clone()));
    let refused = [
        ("other bytes", chunk(1, 7, Party::Visitor, 0, vec![9; CHUNK_BYTES_MAX])),
        ("somebody else's", chunk(1, 7, Party::System, 1, pieces()[1].clone())),
        ("nothing", chunk(1, 7, Party::Visitor, 1, Vec::new())),
        ("too large", chunk(1, 8, Party::Visitor, 0, vec![0; CHUNK_BYTES_MAX + 1])),
        ("a piece is missing", done(1, 7, Party::Visitor, all_bytes())),
        ("nothing has come", done(1, 9, Party::Visitor, 5)),
        ("somebody else's end", done(1, 7, Party::System, CHUNK_BYTES_MAX as u64)),
    ];
    for (why, command) in refused {
        assert_eq!(world.reply(command), INVALID, "{why}");
    }
    let nowhere = chunk(3, 7, Party::Visitor, 0, vec![1]);
    assert_eq!(world.reply(nowhere), Reply::Rejected(Refusal::UnknownSession));
    world.apply(done(1, 7, Party::Visitor, CHUNK_BYTES_MAX as u64));
    assert_eq!(world.reply(chunk(1, 7, Party::Visitor, 1, vec![1])), INVALID, "it is finished");
    assert_eq!(world.reply(done(1, 7, Party::Visitor, 9)), INVALID, "it was finished as another one");
    // A short piece in the middle, although the bytes are right in all.
    world.apply(chunk(1, 10, Party::Visitor, 0, vec![1; 5]));
    world.apply(chunk(1, 10, Party::Visitor, 1, vec![1; 5]));
    assert_eq!(world.reply(done(1, 10, Party::Visitor, 10)), INVALID);
    // The last piece would make it too large.
    let full = ATTACHMENT_BYTES_MAX as usize / CHUNK_BYTES_MAX;
    for number in 0..full as u32 {
        assert_eq!(world.reply(chunk(1, 11, Party::Visitor, number, vec![1; CHUNK_BYTES_MAX])), Reply::Done);
    }
    assert_eq!(world.reply(chunk(1, 11, Party::Visitor, full as u32, vec![1])), INVALID);
    assert_eq!(world.reply(done(1, 11, Party::Visitor, ATTACHMENT_BYTES_MAX)), Reply::Done);
}

#[test]
fn names_and_sizes_that_no_node_would_give_are_refused() {
    let mut world = with_session();
    world.apply(chunk(1, 7, Party::Visitor, 0, vec![1; 9]));
    let is = |attachment: Attachment| Command::AttachmentDone {
        session: session(1),
        by: Party::Visitor,
        attachment,
        source: [1; 32],
        sha256: [2; 32],
    };
    for wrong in [
        Attachment { name: String::new(), ..file(7, 9) },
        Attachment { name: "a\r\nb".into(), ..file(7, 9) },
        Attachment { name: "n".repeat(256), ..file(7, 9) },
        Attachment { media: String::new(), ..file(7, 9) },
        Attachment { width: 5, ..file(7, 9) },
        Attachment { thumbnail: 3, ..file(7, 9) },
    ] {
        assert_eq!(world.reply(is(wrong.clone())), INVALID, "{wrong:?}");
    }
    assert_eq!(world.reply(is(file(7, 9))), Reply::Done);
    // Whoever repeats the upload has drawn another secret; the first one stays.
    assert_eq!(world.reply(is(Attachment { secret: UrlSecret([6; 16]), ..file(7, 9) })), Reply::Done);
    let known = world.shard.attachment(&world.rows, session(1), AttachmentId(7)).unwrap().unwrap();
    assert_eq!(known.attachment, file(7, 9));
}

#[test]
fn a_message_names_finished_uploads_of_its_sender_and_session_once() {
    let mut world = with_session();
    let ada = Party::Agent(AgentId(4));
    world.apply(login(4));
    world.apply(presence(4, true));
    world.apply(say(1, Party::Visitor, 1, "hello"));
    world.settle();
    small(&mut world, 1, 7, Party::Visitor);
    small(&mut world, 1, 8, Party::Visitor);
    small(&mut world, 1, 9, ada);
    small(&mut world, 2, 10, Party::Visitor);
    world.apply(chunk(1, 11, Party::Visitor, 0, vec![1]));
    let mine = |cid: &str, ids: &[u128]| send(1, Party::Visitor, cid, "look", ids);
    let many: Vec<u128> = (100..101 + ATTACHMENTS_PER_MESSAGE_MAX as u128).collect();
    many.iter().for_each(|id| small(&mut world, 1, *id, Party::Visitor));
    for (cid, ids) in [
        ("unknown", &[99][..]),
        ("of another session", &[10]),
        ("unfinished", &[7, 11]),
        ("of somebody else", &[9]),
        ("twice in one", &[7, 7]),
        ("too many", &many),
    ] {
        assert_eq!(world.reply(mine(cid, ids)), INVALID, "{cid}");
        world.chill();
        // What was refused once stays refused, even if it would be right by now.
        assert_eq!(world.reply(mine(cid, &[8])), INVALID, "{cid}");
    }
    assert_eq!(world.reply(mine("no text", &[])), sent(3, world.now_ms, false));
    assert_eq!(world.reply(send(1, Party::Visitor, "empty", "", &[])), Reply::Rejected(Refusal::TextEmpty));
    assert_eq!(world.reply(send(1, Party::Visitor, "files only", "", &[7, 8])), sent(4, world.now_ms, false));
    let first_ms = world.now_ms;
    assert_eq!(world.reply(send(1, Party::Visitor, "files only", "", &[7, 8])), sent(4, first_ms, true));
    assert_eq!(world.reply(mine("again", &[8])), INVALID);
    assert_eq!(world.reply(send(1, ada, "agent", "mine", &[9])), sent(5, world.now_ms, false));
    world.chill();
    assert_eq!(named(&world, 1)[2..], [vec![file(7, 9), file(8, 9)], vec![file(9, 9)]]);
    let state = world.shard.attachment(&world.rows, session(1), AttachmentId(9)).unwrap().unwrap();
    assert_eq!((state.seq, state.by), (Some(5), ada));
}

#[test]
fn a_recalled_message_takes_its_attachments_along() {
    for chill_at in 0..3 {
        let mut world = with_session();
        upload(&mut world, 1, 7, Party::Visitor);
        small(&mut world, 1, 8, Party::Visitor);
        let chill = |world: &mut World, at| {
            if chill_at == at {
                world.chill();
            }
        };
        chill(&mut world, 0);
        world.apply(send(1, Party::Visitor, "a", "", &[7]));
        world.apply(send(1, Party::Visitor, "b", "kept", &[8]));
        chill(&mut world, 1);
        let act = Act::Recall { seq: 1 };
        let (device, cid) = ("d".to_owned(), "recall".to_owned());
        let recall = Command::Act { session: session(1), site: None, from: Party::Visitor, device, n: 0, cid, act };
        assert!(matches!(world.reply(recall.clone()), Reply::Sent { seq: 3, .. }));
        chill(&mut world, 2);
        assert_eq!((read(&world, 1, 7), read(&world, 1, 8)), (None, Some(vec![9; 9])));
        world.chill();
        assert_eq!((read(&world, 1, 7), read(&world, 1, 8)), (None, Some(vec![9; 9])));
        assert_eq!(named(&world, 1), [vec![], vec![file(8, 9)]]);
        assert_eq!(attachment_rows(&world), 2);
        assert_eq!(world.reply(send(1, Party::Visitor, "c", "", &[7])), INVALID);
        // A message that had nothing but files can be recalled once.
        let Command::Act { session, site, from, device, n, act, .. } = recall else { panic!("an act") };
        let again = Command::Act { session, site, from, device, n, cid: "more".into(), act };
        assert_eq!(world.reply(again), Reply::Rejected(Refusal::TargetInvalid));
    }
}

#[test]
fn what_is_erased_takes_its_attachments_along() {
    for is_chilled in [false, true] {
        let mut world = with_session();
        upload(&mut world, 1, 7, Party::Visitor);
        small(&mut world, 1, 8, Party::Visitor);
        world.apply(send(1, Party::Visitor, "a", "old", &[7]));
        world.apply(close(1, Party::Visitor));
        world.apply(send(1, Party::Visitor, "b", "new", &[8]));
        world.apply(close(1, Party::Visitor));
        if is_chilled {
            world.chill();
        }
        world.apply(Command::Erase { session: session(1), upto: 2, forget: false });
        world.chill();
        assert_eq!((read(&world, 1, 7), read(&world, 1, 8)), (None, Some(vec![9; 9])));
        world.apply(Command::Erase { session: session(1), upto: u64::MAX, forget: true });
        world.chill();
        assert_eq!((read(&world, 1, 8), attachment_rows(&world)), (None, 0));
    }
}

#[test]
fn what_no_message_names_goes_in_time_and_in_steps_and_the_rest_stays() {
    let mut world = with_session();
    upload(&mut world, 1, 7, Party::Visitor);
    world.apply(send(1, Party::Visitor, "a", "", &[7]));
    upload(&mut world, 1, 8, Party::Visitor);
    world.apply(chunk(1, 9, Party::Visitor, 0, vec![1; 30]));
    world.chill();
    let many = UNSENT_PER_COMMAND_MAX as u128 + 5;
    (100..100 + many).for_each(|id| small(&mut world, 2, id, Party::Visitor));
    world.apply(Command::Tick);
    assert!(read(&world, 1, 8).is_some());
    world.chill();
    assert_eq!(attachment_rows(&world), 4 + 4 + 2 + 2 * many as usize);
    world.now_ms += ATTACHMENT_UNSENT_MS;
    world.apply(Command::Tick);
    assert_eq!((read(&world, 1, 7), read(&world, 1, 8)), (Some(pieces().concat()), None));
    assert!(read(&world, 2, 99 + many).is_some(), "the last one waits for the next step");
    world.apply(Command::Tick);
    world.chill();
    assert_eq!((attachment_rows(&world), world.rows.count(b'T')), (4, 0));
    assert_eq!(world.shard.next_due_ms(), None);
    // It may be uploaded again.
    upload(&mut world, 1, 8, Party::Visitor);
    world.now_ms += RECALL_WITHIN_MS;
    assert_eq!(world.reply(send(1, Party::Visitor, "b", "", &[8])), sent(2, world.now_ms, false));
}

#[test]
fn a_session_uploads_so_much_in_a_day_and_a_site_keeps_so_much() {
    let mut world = with_session();
    for id in 0..u128::from(ATTACHMENT_DAY_FILES_MAX) {
        small(&mut world, 1, id, Party::Visitor);
    }
    let full = Reply::Rejected(Refusal::DayFull);
    assert_eq!(world.reply(chunk(1, 1_000, Party::Visitor, 0, vec![1])), full);
    world.chill();
    assert_eq!(world.reply(chunk(1, 1_000, Party::System, 0, vec![1])), full);
    small(&mut world, 2, 1_000, Party::Visitor);
    // Not even room that became free counts before the next day.
    world.now_ms += ATTACHMENT_UNSENT_MS;
    world.apply(Command::Tick);
    small(&mut world, 1, 1_000, Party::Visitor);
    assert_eq!(world.shard.attachment_usage(&world.rows, SITE).unwrap().0, ATTACHMENT_DAY_FILES_MAX - 31 + 1);
    (0..4).for_each(|_| drop(world.apply(Command::Tick)));
    assert_eq!(world.shard.attachment_usage(&world.rows, SITE).unwrap(), (1, 9));
    // Each of many shards has its part of what the site may keep.
    let shards = (ATTACHMENT_SITE_BYTES_MAX / (3 * MIB as u64)) as u32;
    let id = (1..).find(|id| proto::command::Target::Session(session(*id)).shard(shards) == ONE).unwrap();
    let mut world = World::of(ONE, shards);
    world.apply(open(id));
    let mut replies = (0..13).map(|number| world.reply(chunk(id, 7, Party::Visitor, number, vec![1; CHUNK_BYTES_MAX])));
    assert!(replies.by_ref().take(12).all(|reply| reply == Reply::Done));
    assert_eq!(replies.next(), Some(Reply::Rejected(Refusal::SiteFull)));
}

#[test]
fn the_bytes_leave_memory_with_the_checkpoint_and_count_towards_it() {
    let mut world = with_session();
    world.checkpoint();
    let before = (world.shard.cached_bytes(), world.shard.dirty_bytes());
    (0..20).for_each(|id| upload(&mut world, 1, id, Party::Visitor));
    let bytes = 20 * all_bytes() as usize;
    assert!(world.shard.cached_bytes() > before.0 + bytes && world.shard.dirty_bytes() > before.1 + bytes);
    let changes = world.shard.begin_checkpoint();
    assert_eq!(read(&world, 1, 3), Some(pieces().concat()), "the checkpoint is not written yet");
    world.shard.end_checkpoint(false);
    assert!(world.shard.dirty_bytes() > bytes, "its changes are owed again");
    drop(changes);
    let changes = world.shard.begin_checkpoint();
    // One of them goes meanwhile: the next checkpoint must say so.
    world.apply(send(1, Party::Visitor, "a", "", &[5]));
    let act = Act::Recall { seq: 1 };
    let (device, cid) = ("d".to_owned(), "recall".to_owned());
    world.apply(Command::Act { session: session(1), site: None, from: Party::Visitor, device, n: 0, cid, act });
    world.rows.write(changes);
    world.shard.end_checkpoint(true);
    assert!(world.shard.cached_bytes() < before.0 + 64 * 1024, "{}", world.shard.cached_bytes());
    assert_eq!((read(&world, 1, 3), read(&world, 1, 5)), (Some(pieces().concat()), None));
    world.checkpoint();
    assert_eq!((read(&world, 1, 3), attachment_rows(&world)), (Some(pieces().concat()), 19 * 4));
    assert_eq!(world.shard.recount_bytes(), world.shard.cached_bytes());
}

#[test]
fn an_upload_goes_in_time_when_its_cluster_was_restored_meanwhile() {
    let mut world = with_session();
    upload(&mut world, 1, 7, Party::Visitor);
    small(&mut world, 1, 8, Party::Visitor);
    world.apply(send(1, Party::Visitor, "a", "", &[8]));
    world.checkpoint();
    let mut all = crate::Reconciliation::new(1);
    all.read(&world.rows).unwrap();
    let (changes, _) = all.changes(ONE, &world.rows, &|_| None).unwrap();
    world.rows.write(changes);
    world.shard = crate::Shard::open(ONE, 1, &world.rows).unwrap();
    assert_eq!(read(&world, 1, 7), Some(pieces().concat()));
    world.now_ms += ATTACHMENT_UNSENT_MS;
    world.apply(Command::Tick);
    assert_eq!((read(&world, 1, 7), read(&world, 1, 8)), (None, Some(vec![9; 9])));
}
