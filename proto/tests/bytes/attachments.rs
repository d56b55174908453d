//! Owns what the byte tests need of files that go with messages. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::samples::{AGENT, HASH, SESSION, SITE};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::attachment::{Attachment, AttachmentState, UrlSecret, Variant};
use proto::command::{Command, Party, SecretBytes};
use proto::ids::AttachmentId;
use proto::peer::{ShardCall, ShardReply};

const ID: AttachmentId = AttachmentId(u128::MAX - 7);

pub fn sample() -> Attachment {
    Attachment {
        id: ID,
        name: "grüße.png".into(),
        media: "image/png".into(),
        bytes: 65_536,
        width: 251,
        height: 1,
        thumbnail: 250,
        secret: UrlSecret([7; 16]),
    }
}

pub fn send() -> (&'static str, Command) {
    let (session, from) = (SESSION, Party::Agent(AGENT));
    let (device, cid, text) = ("d1".into(), "c-1".into(), "grüß dich".into());
    let attachments = vec![ID];
    ("send", Command::Send { session, from, device, n: 251, cid, text, reply_to: Some(250), attachments })
}

pub fn command_samples() -> Vec<(&'static str, Command)> {
    let (session, by, bytes) = (SESSION, Party::Visitor, SecretBytes(vec![0, 255]));
    let done = Command::AttachmentDone { session, by, attachment: sample(), source: HASH, sha256: HASH };
    let variant = Variant::Thumbnail;
    vec![
        ("attachment chunk", Command::AttachmentChunk { session, attachment: ID, by, variant, number: 251, bytes }),
        ("attachment done", done),
    ]
}

pub fn calls() -> Vec<(&'static str, ShardCall)> {
    let (session, attachment) = (SESSION, ID);
    vec![
        ("attachment", ShardCall::Attachment { session, attachment, token: Some(HASH) }),
        ("attachment chunk", ShardCall::AttachmentChunk { session, attachment, variant: Variant::Whole, number: 3 }),
    ]
}

pub fn replies() -> Vec<(&'static str, ShardReply)> {
    let state = AttachmentState {
        attachment: sample(),
        site: SITE,
        by: Party::System,
        seq: Some(251),
        source: HASH,
        sha256: HASH,
        objects: vec![super::archive::file_object()],
    };
    vec![
        ("attachment", ShardReply::Attachment(Box::new(state))),
        ("attachment chunk", ShardReply::AttachmentChunk(SecretBytes(vec![1, 2]))),
    ]
}

fn id() -> impl Strategy<Value = AttachmentId> {
    any::<u128>().prop_map(AttachmentId)
}

pub fn ids() -> impl Strategy<Value = Vec<AttachmentId>> {
    vec(id(), 0..4)
}

fn variant() -> impl Strategy<Value = Variant> {
    prop::sample::select(vec![Variant::Whole, Variant::Thumbnail])
}

pub fn attachment() -> impl Strategy<Value = Attachment> {
    (id(), word(), word(), any::<(u64, u32, u32, u32)>(), any::<[u8; 16]>()).prop_map(
        |(id, name, media, (bytes, width, height, thumbnail), secret)| Attachment {
            id,
            name,
            media,
            bytes,
            width,
            height,
            thumbnail,
            secret: UrlSecret(secret),
        },
    )
}

pub fn command() -> impl Strategy<Value = Command> {
    let chunk = (session(), id(), party(), variant(), any::<u32>(), bytes());
    let done = (session(), party(), attachment(), token(), token());
    prop_oneof![
        chunk.prop_map(|(session, attachment, by, variant, number, bytes)| {
            let bytes = SecretBytes(bytes);
            Command::AttachmentChunk { session, attachment, by, variant, number, bytes }
        }),
        done.prop_map(|(session, by, attachment, source, sha256)| Command::AttachmentDone {
            session,
            by,
            attachment,
            source,
            sha256
        }),
    ]
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    prop_oneof![
        (session(), id(), option::of(token())).prop_map(|(session, attachment, token)| ShardCall::Attachment {
            session,
            attachment,
            token
        }),
        (session(), id(), variant(), any::<u32>()).prop_map(|(session, attachment, variant, number)| {
            ShardCall::AttachmentChunk { session, attachment, variant, number }
        }),
    ]
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    let objects = vec(super::archive::any_file_object(), 0..3);
    let state = (attachment(), site(), party(), option::of(any::<u64>()), token(), token(), objects);
    prop_oneof![
        state.prop_map(|(attachment, site, by, seq, source, sha256, objects)| {
            ShardReply::Attachment(Box::new(AttachmentState { attachment, site, by, seq, source, sha256, objects }))
        }),
        bytes().prop_map(|bytes| ShardReply::AttachmentChunk(SecretBytes(bytes))),
    ]
}
