//! Owns the opening through which the fuzz targets reach what this crate reads from disks and links. Does not serve the product.
//! Invariant: bytes go through the functions that a node calls, and what can be read is written and read again as the same.

use crate::checked_file;
use crate::meta::*;
use crate::node::Identity;
use crate::raft::types::{applied_row, applied_state, from_log, membership, membership_row, to_log};
use crate::raft::wire;
use crate::tls::Credentials;
use crate::transport::frame::{self, Message, MessageKind};
use bytes::{Bytes, BytesMut};
use proto::codec::{CodecError, decode};
use proto::cut::CutCall;
use proto::fuzzing::same;
use proto::peer::*;
use storage::LogEntry;

/// A row of the meta group, or of a file of the data directory.
/// # Errors
/// `CodecError`: it is none.
pub fn row(bytes: &[u8]) -> Result<(), CodecError> {
    proto::same_by_tag!(bytes =>
        ClusterRow, NodeRowV1, ReplicaRowV1, TokenRow, SiteRow, AgentRow, NodeRow, ReplicaRow, AuthorityRow, TrustRow, VersionsRow,
        LineageRow, ApiTokenRow, SettingRow, OnceRow, WebhookRow, WebhookSecretRow, ApiKeyRow, SiteConfigRow, IdentityKeysRow, SiteEmailRow, Identity, Credentials,
    )
}

/// A checked file of the data directory, and the same with a right check sum.
pub fn file(bytes: &[u8]) {
    let whole = [bytes, &checked_file::check(bytes)].concat();
    for bytes in [bytes.to_vec(), whole] {
        if let Ok(row) = checked_file::checked("fuzzed", bytes) {
            let _ = same::<Identity>(&row);
            let _ = same::<Credentials>(&row);
        }
    }
}

/// What a link receives, cut into pieces as the network cuts it; the number of messages that a node would act on.
pub fn link(bytes: &[u8], piece: usize) -> usize {
    let mut buffer = BytesMut::new();
    let mut found = 0;
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match frame::next_frame(&mut buffer).map(|frame| frame.map(frame::messages)) {
                Ok(Some(Ok(messages))) => found += messages.iter().filter(|message| body(message)).count(),
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return found,
            }
        }
    }
    found
}

/// Reads the body of a message as its kind is read.
fn body(message: &Message) -> bool {
    let bytes = &message.body[..];
    match message.kind {
        MessageKind::Append => append(bytes),
        MessageKind::Vote | MessageKind::PreVote => {
            same::<VoteCall>(bytes).is_ok_and(|call| wire::vote_call(&wire::vote_request(&call)) == call)
        }
        MessageKind::Transfer => {
            same::<TransferCall>(bytes).is_ok_and(|call| wire::transfer_call(&wire::transfer_request(&call)) == call)
        }
        MessageKind::Lost => same::<LostCall>(bytes).is_ok(),
        MessageKind::Snapshot => same::<SnapshotCall>(bytes).is_ok(),
        MessageKind::ShardCall => same::<ShardCall>(bytes).is_ok(),
        MessageKind::ShardReply => same::<ShardReply>(bytes).is_ok(),
        MessageKind::Pushes => same::<Pushes>(bytes).is_ok(),
        MessageKind::MetaCall => same::<MetaCall>(bytes).is_ok(),
        MessageKind::Cut => same::<CutCall>(bytes).is_ok(),
        // Whoever called knows what it waits for; `proto` reads each kind of answer.
        MessageKind::Answer => proto::fuzzing::value(bytes).is_ok(),
        MessageKind::NodeCall | MessageKind::Leads => true,
        #[cfg(feature = "next")]
        MessageKind::Tallied => true,
    }
}

/// The body of an append.
/// # Panics
/// It is another one when it is read again.
pub fn append(bytes: &[u8]) -> bool {
    let Ok(request) = wire::get_append(Bytes::copy_from_slice(bytes)) else { return false };
    let mut written = Vec::new();
    wire::put_append(&request, &mut written);
    let mut again = Vec::new();
    wire::put_append(
        &wire::get_append(written.clone().into()).expect("an append is read as it was written"),
        &mut again,
    );
    assert!(written == again, "an append is read as it was written");
    true
}

/// The body of a log entry, and the rows that hold a membership.
/// # Panics
/// It is another one when it is read again.
pub fn entry(bytes: &[u8]) {
    let entry = LogEntry { index: 1, term: 1, body: Bytes::copy_from_slice(bytes) };
    if let Ok(entry) = from_log(entry) {
        let written = to_log(&entry).body;
        let again = from_log(LogEntry { index: 1, term: 1, body: written.clone() })
            .expect("an entry is read as it was written");
        assert!(to_log(&again).body == written, "an entry is read as it was written");
    }
    if let Ok(row) = decode::<MembershipRow>(bytes)
        && let Ok(found) = membership(&row)
    {
        assert!(
            membership(&membership_row(&found)).is_ok_and(|again| again == found),
            "a membership is read as it was written"
        );
    }
    if let Ok(row) = decode::<AppliedRow>(bytes)
        && let Ok((applied, stored)) = applied_state(&row)
    {
        let again = applied_state(&applied_row(applied.as_ref(), &stored));
        assert!(again == Ok((applied, stored)), "an applied row is read as it was written");
    }
}

/// What a join token says besides its secret.
pub fn join_pins(token: &str) -> usize {
    crate::node::join::pins(token).map_or(0, |pins| pins.len())
}

/// The version that the mark of a data directory names.
pub fn version_mark(text: &str) -> Option<u16> {
    crate::node::versions::marked(text)
}
