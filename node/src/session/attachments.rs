//! Owns reading a session's attachments at its leader. Does not need the session's actor: what is finished never changes, it only goes.
//! Invariant: an answer holds everything that was acknowledged before the question.

use crate::auth::same_hash;
use cluster::shard::Shard;
use proto::attachment::Variant;
use proto::command::{SecretBytes, TokenHash};
use proto::ids::{AttachmentId, SessionId};
use proto::peer::{Refused, ShardReply};
use std::sync::Arc;

/// What is known of a finished attachment. With a token: only if it is the visitor's.
pub async fn attachment(
    shard: &Arc<Shard>,
    session: SessionId,
    id: AttachmentId,
    token: Option<TokenHash>,
) -> ShardReply {
    let read = shard.read(|state, rows| -> Result<ShardReply, chat::ApplyError> {
        let Some(view) = state.session(rows, session)? else {
            return Ok(ShardReply::Refused(Refused::UnknownSession));
        };
        if token.is_some_and(|token| !view.tokens.iter().any(|known| same_hash(known, &token))) {
            return Ok(ShardReply::Refused(Refused::BadToken));
        }
        let found = state.attachment(rows, session, id)?;
        Ok(found
            .map_or(ShardReply::Refused(Refused::AttachmentInvalid), |found| ShardReply::Attachment(Box::new(found))))
    });
    match read.await {
        Ok(Ok(reply)) | Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
    }
}

/// One piece of it.
pub async fn attachment_chunk(
    shard: &Arc<Shard>,
    session: SessionId,
    id: AttachmentId,
    (variant, number): (Variant, u32),
) -> ShardReply {
    match shard.read(|state, rows| state.attachment_piece(rows, session, id, variant, number)).await {
        Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
        Ok(Ok(None)) => ShardReply::Refused(Refused::AttachmentInvalid),
        Ok(Ok(Some(bytes))) => ShardReply::AttachmentChunk(SecretBytes(bytes)),
    }
}
