//! Owns the bytes of raft's calls between nodes. Does not send them. Invariant: entry bodies are written from and read
//! into shared memory, never copied per entry on the way in.

use super::types::{Entry, TypeConfig, from_log, log_id, point, to_log, vote, vote_row};
use bytes::{Buf, Bytes};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use proto::codec;
use proto::peer::{AppendHead, AppendReply, TransferCall, VoteCall, VoteReply};
use storage::LogEntry;

/// Most entries in one append call.
const ENTRIES_MAX: u32 = 8 << 10;
/// Bytes of an entry before its body: term u64, index u64, length u32.
const ENTRY_HEAD_BYTES: usize = 20;

pub fn put_append(request: &AppendEntriesRequest<TypeConfig>, out: &mut Vec<u8>) {
    let head = AppendHead {
        vote: vote_row(&request.vote),
        prev: request.prev_log_id.as_ref().map(point),
        commit: request.leader_commit.as_ref().map(point),
        entries: request.entries.len() as u32,
    };
    let start = out.len();
    out.extend_from_slice(&[0; 2]);
    codec::encode_into(&head, out);
    let length = (out.len() - start - 2) as u16;
    out[start..start + 2].copy_from_slice(&length.to_le_bytes());
    for entry in &request.entries {
        let LogEntry { index, term, body } = to_log(entry);
        out.extend_from_slice(&term.to_le_bytes());
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
    }
}

/// # Errors
/// Bytes that no peer of this version writes.
pub fn get_append(mut body: Bytes) -> Result<AppendEntriesRequest<TypeConfig>, String> {
    let short = || "append is cut short".to_string();
    if body.len() < 2 {
        return Err(short());
    }
    let length = usize::from(body.get_u16_le());
    if body.len() < length {
        return Err(short());
    }
    let head: AppendHead = codec::decode(&body.split_to(length)).map_err(|error| error.to_string())?;
    if head.entries > ENTRIES_MAX {
        return Err(format!("append of {} entries", head.entries));
    }
    // A count that lies reserves no more than its entries could fill.
    let count = (head.entries as usize).min(body.len() / ENTRY_HEAD_BYTES);
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for _ in 0..head.entries {
        if body.len() < ENTRY_HEAD_BYTES {
            return Err(short());
        }
        let term = body.get_u64_le();
        let index = body.get_u64_le();
        let length = body.get_u32_le() as usize;
        if body.len() < length {
            return Err(short());
        }
        entries.push(from_log(LogEntry { index, term, body: body.split_to(length) })?);
    }
    if !body.is_empty() {
        return Err("append has bytes left over".into());
    }
    Ok(AppendEntriesRequest {
        vote: vote(&head.vote),
        prev_log_id: head.prev.map(log_id),
        leader_commit: head.commit.map(log_id),
        entries,
    })
}

pub fn append_reply(response: &AppendEntriesResponse<TypeConfig>) -> AppendReply {
    match response {
        AppendEntriesResponse::Success => AppendReply::Success,
        AppendEntriesResponse::PartialSuccess(id) => AppendReply::PartialSuccess(id.as_ref().map(point)),
        AppendEntriesResponse::Conflict => AppendReply::Conflict,
        AppendEntriesResponse::HigherVote(higher) => AppendReply::HigherVote(vote_row(higher)),
    }
}

/// `None`: the replica is not there.
pub fn append_response(reply: AppendReply) -> Option<AppendEntriesResponse<TypeConfig>> {
    Some(match reply {
        AppendReply::Success => AppendEntriesResponse::Success,
        AppendReply::PartialSuccess(at) => AppendEntriesResponse::PartialSuccess(at.map(log_id)),
        AppendReply::Conflict => AppendEntriesResponse::Conflict,
        AppendReply::HigherVote(row) => AppendEntriesResponse::HigherVote(vote(&row)),
        AppendReply::Gone => return None,
    })
}

pub fn vote_call(request: &VoteRequest<TypeConfig>) -> VoteCall {
    VoteCall {
        vote: vote_row(&request.vote),
        last: request.last_log_id.as_ref().map(point),
        leadership_transfer: request.leadership_transfer,
    }
}

pub fn vote_request(call: &VoteCall) -> VoteRequest<TypeConfig> {
    let mut request = VoteRequest::new(vote(&call.vote), call.last.map(log_id));
    request.leadership_transfer = call.leadership_transfer;
    request
}

pub fn vote_reply(response: &VoteResponse<TypeConfig>) -> VoteReply {
    VoteReply {
        vote: vote_row(&response.vote),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(point),
    }
}

pub fn vote_response(reply: &VoteReply) -> VoteResponse<TypeConfig> {
    VoteResponse::new(vote(&reply.vote), reply.last.map(log_id), reply.granted)
}

pub fn transfer_call(request: &TransferLeaderRequest<TypeConfig>) -> TransferCall {
    TransferCall {
        from: vote_row(request.from_leader()),
        to: *request.to_node_id(),
        last: request.last_log_id().map(point),
    }
}

pub fn transfer_request(call: &TransferCall) -> TransferLeaderRequest<TypeConfig> {
    TransferLeaderRequest::new(vote(&call.from), call.to, call.last.map(log_id))
}
