//! Owns the bytes of an object of the archive: events, compressed with the dictionary that was trained on chats. Does not know where they
//! go. Invariant: a dictionary is never changed: a better one gets another number, and is added.

use chat::archived_range;
use proto::archive::{ArchivedEvents, ArchivedObject, ArchivedRange};
use proto::codec;
use proto::command::Event;
use proto::ids::SessionId;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Slow and small: each conversation is packed once.
const LEVEL: i32 = 9;
/// Longest plain form of an object, in bytes; one event has a few KiB at most.
const PLAIN_BYTES_MAX: usize = 4 << 20;
/// Events of one object, in bytes of their plain form.
const OBJECT_BYTES: usize = 1 << 20;
/// Longest object, in bytes.
pub const PACKED_BYTES_MAX: u64 = PLAIN_BYTES_MAX as u64;

/// Number and bytes of each dictionary; the last one packs. How it was made: docs/ARCHIVE.md.
const DICTIONARIES: [(u32, &[u8]); 1] = [(27, include_bytes!("chats.zdict"))];

/// An object, ready to be written.
pub struct Packed {
    pub range: ArchivedRange,
    pub object: ArchivedObject,
    pub bytes: Vec<u8>,
}

/// Packs consecutive events into objects below `folder`. `attempt` is drawn anew each time: a deletion that is late never meets the object
/// of a later attempt.
pub fn pack(folder: &str, session: SessionId, attempt: u64, events: &[Arc<Event>]) -> Vec<Packed> {
    let (mut objects, mut part, mut part_bytes) = (Vec::new(), Vec::new(), 0);
    for event in events {
        let bytes = codec::encode_bare(event.as_ref()).len();
        if part.len() >= chat::limits::ARCHIVE_EVENTS_MAX || (part_bytes + bytes > OBJECT_BYTES && !part.is_empty()) {
            objects.extend(pack_one(folder, session, attempt, &std::mem::take(&mut part)));
            part_bytes = 0;
        }
        part_bytes += bytes;
        part.push(event.clone());
    }
    objects.extend(pack_one(folder, session, attempt, &part));
    objects
}

/// `None`: no events.
fn pack_one(folder: &str, session: SessionId, attempt: u64, events: &[Arc<Event>]) -> Option<Packed> {
    let range = archived_range(events)?;
    let plain =
        codec::encode(&ArchivedEvents { session, events: events.iter().map(|event| (**event).clone()).collect() });
    let mut bytes = vec![0; zstd_safe::compress_bound(plain.len())];
    let (_, dictionary) = DICTIONARIES[DICTIONARIES.len() - 1];
    let mut context = zstd_safe::CCtx::create();
    let len =
        context.compress_using_dict(&mut bytes[..], &plain, dictionary, LEVEL).expect("the bound holds every frame");
    bytes.truncate(len);
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    let object = ArchivedObject {
        name: format!("{folder}{session}/{}-{}-{attempt:016x}", range.first, range.last),
        sha256,
        bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        plain_bytes: u32::try_from(plain.len()).unwrap_or(u32::MAX),
    };
    let range = ArchivedRange { object: Some(object.clone()), ..range };
    Some(Packed { range, object, bytes })
}

/// The events of an object.
/// # Errors
/// Why the bytes are not what was stored.
pub fn unpack(object: &ArchivedObject, bytes: &[u8]) -> Result<Vec<Arc<Event>>, String> {
    if <[u8; 32]>::from(Sha256::digest(bytes)) != object.sha256 {
        return Err("its SHA-256 is another".into());
    }
    let number = zstd_safe::get_dict_id_from_frame(bytes).map_or(0, |id| id.get());
    let known = DICTIONARIES.iter().find(|(known, _)| *known == number);
    let (_, dictionary) = known.ok_or_else(|| format!("this build does not have dictionary {number}"))?;
    let len = zstd_safe::get_frame_content_size(bytes).ok().flatten().ok_or("it is not compressed data")?;
    let len = usize::try_from(len).ok().filter(|len| *len <= PLAIN_BYTES_MAX).ok_or("it would be too long")?;
    let mut plain = vec![0; len];
    let mut context = zstd_safe::DCtx::create();
    let got = context.decompress_using_dict(&mut plain[..], bytes, dictionary);
    plain.truncate(got.map_err(|_| "it cannot be decompressed")?);
    let held: ArchivedEvents = codec::decode(&plain).map_err(|error| error.to_string())?;
    Ok(held.events.into_iter().map(Arc::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::command::{EventBody, Party};

    fn events(count: u64, text_bytes: usize) -> Vec<Arc<Event>> {
        let body = |seq: u64| EventBody::Message {
            from: Party::Visitor,
            device: "d".into(),
            n: seq,
            cid: format!("c{seq}"),
            text: "你好 ".repeat(text_bytes / 7),
            reply_to: None,
            attachments: Vec::new(),
        };
        (1..=count).map(|seq| Arc::new(Event { seq, ts_ms: 1_000 * seq, body: body(seq) })).collect()
    }

    #[test]
    fn what_is_packed_is_read_again_and_what_was_changed_is_not() {
        let (session, said) = (SessionId(7), events(2_500, 30));
        let objects = pack("c/1/", session, 9, &said);
        assert_eq!(
            objects.iter().map(|one| (one.range.first, one.range.last)).collect::<Vec<_>>(),
            [(1, 1_000), (1_001, 2_000), (2_001, 2_500)]
        );
        let mut read = Vec::new();
        for packed in &objects {
            assert!(packed.object.name.starts_with(&format!("c/1/{session}/")));
            assert!(packed.bytes.len() * 2 < packed.object.plain_bytes as usize);
            read.extend(unpack(&packed.object, &packed.bytes).unwrap());
            let mut harmed = packed.bytes.clone();
            harmed[packed.bytes.len() / 2] ^= 1;
            assert!(unpack(&packed.object, &harmed).is_err());
        }
        assert_eq!(read, said);
    }

    #[test]
    fn long_texts_make_more_objects_and_hostile_bytes_no_events() {
        assert!(pack("c/", SessionId(7), 9, &events(200, 16_000)).len() >= 3);
        assert!(pack("c/", SessionId(7), 9, &[]).is_empty());
        let mut object = pack("c/", SessionId(7), 9, &events(3, 9)).remove(0).object;
        for hostile in [&b""[..], b"not zstd", &[0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff]] {
            object.sha256 = Sha256::digest(hostile).into();
            assert!(unpack(&object, hostile).is_err());
        }
    }
}
