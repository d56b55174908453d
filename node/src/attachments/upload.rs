//! Owns how a file comes in: read up to its limit, looked at, made anew if it is an image, and laid into the session's shard in pieces.
//! Does not decide who may send it. Invariant: a file that was answered for is whole, on the disks of a quorum; under one key the same
//! file is kept once.

use super::picture::{self, Prepared};
use super::{address, bearer, look, name, unauthorized};
use crate::admin::problem::Problem;
use crate::admin::sessions::{call_shard, of};
use crate::admin::{Answer, once};
use crate::api::Caller;
use crate::api::conversations::{OfSession, done, own};
use crate::auth::{self, Bearer};
use crate::connection::is_heard;
use crate::run::App;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{self, Data, Json, Path, Query, ReqData};
use futures_util::StreamExt;
use proto::attachment::{Attachment, AttachmentState, CHUNK_BYTES_MAX, UrlSecret, Variant};
use proto::client;
use proto::client::limits::ATTACHMENT_BYTES_MAX;
use proto::command::{Command, Party, SecretBytes, Target, TokenHash};
use proto::ids::{AttachmentId, SessionId};
use proto::peer::{Refused, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

/// Uploads that one node takes at once; each holds its file in memory.
const UPLOADS_MAX: usize = 8;
/// Longest time in which the bytes of one come.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// Longest time for which a piece is offered to a shard that has no leader.
const STORE_WITHIN: Duration = Duration::from_secs(20);
/// Between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// When to come again, if there are too many.
const RETRY_MS: u64 = 2_000;

/// What uploads share.
pub struct Uploads {
    places: Semaphore,
    /// Images are made anew one at a time: a large one takes a processor and a few hundred MiB.
    studio: Semaphore,
}

impl Default for Uploads {
    fn default() -> Uploads {
        Uploads { places: Semaphore::new(UPLOADS_MAX), studio: Semaphore::new(1) }
    }
}

/// What cannot stand in the body, which is the file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// The file's name, percent-encoded.
    #[param(nullable = false)]
    name: Option<String>,
}

/// A file that a message can name now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Uploaded {
    #[schema(value_type = String)]
    pub id: AttachmentId,
    pub name: String,
    /// As the bytes say, whatever the request said.
    #[serde(rename = "type")]
    pub media: String,
    /// What is kept; of an image that was made anew, not what was sent.
    pub bytes: u64,
    /// Of an image, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub width: Option<u32>,
    /// Of an image, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub height: Option<u32>,
    /// Where it is to be had without a token, for an hour or two.
    pub url: String,
    /// Of an image: a small one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub thumbnail: Option<String>,
}

impl From<client::Attachment<'_>> for Uploaded {
    fn from(told: client::Attachment<'_>) -> Uploaded {
        Uploaded {
            id: told.id,
            name: told.name.into_owned(),
            media: told.media.into_owned(),
            bytes: told.bytes,
            width: told.width,
            height: told.height,
            url: told.url.into_owned(),
            thumbnail: told.thumbnail.map(|url| url.into_owned()),
        }
    }
}

/// Into which session, and in whose name.
struct Upload<'a> {
    app: &'a Data<App>,
    session: SessionId,
    by: Party,
    id: AttachmentId,
    name: String,
}

/// `POST /v1/attachments`, of a visitor.
pub async fn of_visitor(
    app: Data<App>,
    request: HttpRequest,
    query: Query<UploadQuery>,
    body: web::Payload,
) -> Answer<Uploaded> {
    let token = bearer(request.headers()).ok_or_else(unauthorized)?;
    let Some((Bearer::Visitor { session }, hash)) = auth::parse_token(token) else { return Err(unauthorized()) };
    let id = id_of(&request, session, Party::Visitor, &hash)?;
    let known = look(&app, session, id, Some(hash)).await?;
    let name = name::clean(query.name.as_deref().unwrap_or_default());
    check_visitor(&app, &request, session, &name).await?;
    let upload = Upload { app: &app, session, by: Party::Visitor, id, name };
    upload.take(&request, known, body).await
}

/// Files are taken from whom messages are taken from.
async fn check_visitor(app: &Data<App>, request: &HttpRequest, session: SessionId, name: &str) -> Result<(), Problem> {
    let started = Instant::now();
    let view = loop {
        match of(app, session).await {
            Err(problem) if problem.status == 503 && started.elapsed() < STORE_WITHIN => {
                tokio::time::sleep(PAUSE).await;
            }
            found => break found?,
        }
    };
    let (hub, router, site) = (app.hub.clone(), app.cluster.router.clone(), view.site);
    // The list may not be known here: the visitor's socket is at another node.
    app.on_raft(async move { drop(hub.blocklists.ensure(&router, site).await) }).await;
    let address = crate::client_address::of(request, &app.trusted_proxies);
    let is_blocked = view.blocked_until_ms.is_some_and(|until_ms| cluster::shard::now_ms() < until_ms);
    if is_blocked || !is_heard(&app.hub, site, view.identified, address, name) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "nothing is taken from this visitor"));
    }
    Ok(())
}

/// `POST /v1/conversations/{session}/attachments`, of an agent or a key.
pub async fn of_agent(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    request: HttpRequest,
    query: Query<UploadQuery>,
    body: web::Payload,
) -> Answer<Uploaded> {
    let session = own(&app, caller.site, &path.session).await?.session;
    let id = id_of(&request, session, caller.party(), &caller.hash)?;
    let known = look(&app, session, id, None).await?;
    let name = name::clean(query.name.as_deref().unwrap_or_default());
    let upload = Upload { app: &app, session, by: caller.party(), id, name };
    upload.take(&request, known, body).await
}

/// Under one key of one credential it is the same attachment; without a key, a new one.
fn id_of(
    request: &HttpRequest,
    session: SessionId,
    by: Party,
    credential: &TokenHash,
) -> Result<AttachmentId, Problem> {
    let Some(key) = once::key_of(request.headers())? else {
        return drawn().map(|bytes| AttachmentId(u128::from_be_bytes(bytes)));
    };
    let mut hash = Sha256::new_with_prefix(b"attachment\n");
    hash.update(session.0.to_be_bytes());
    hash.update(proto::codec::encode_bare(&by));
    hash.update(credential);
    hash.update(key);
    let hash: TokenHash = hash.finalize().into();
    Ok(AttachmentId(hash.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))))
}

fn drawn() -> Result<[u8; 16], Problem> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Problem::fault("no randomness"))?;
    Ok(bytes)
}

impl Upload<'_> {
    async fn take(self, request: &HttpRequest, known: Option<AttachmentState>, body: web::Payload) -> Answer<Uploaded> {
        let Ok(_place) = self.app.uploads.places.try_acquire() else {
            metrics::counter!("chat_attachments_refused_total").increment(1);
            let full = Problem::unavailable("this node takes as many uploads as it can, try again");
            return Err(Problem { retry_after_ms: Some(RETRY_MS), ..full });
        };
        let bytes = read(request, body).await?;
        let source: TokenHash = Sha256::digest(&bytes).into();
        let state = match known {
            Some(state) => state,
            None => self.keep(bytes, source).await?,
        };
        if state.source != source || state.by != self.by {
            return Err(Problem::refused("the key was used for another file").of_kind("key-reused"));
        }
        Ok(Json(address::for_client(self.session, &state.attachment, cluster::shard::now_ms()).into()))
    }

    /// Looks at the file and lays it into the shard; what is known of it then.
    async fn keep(&self, bytes: Vec<u8>, source: TokenHash) -> Result<AttachmentState, Problem> {
        let started = Instant::now();
        let Prepared { name, media, bytes, width, height, thumbnail } = self.prepared(bytes).await?;
        self.put(Variant::Whole, &bytes).await?;
        self.put(Variant::Thumbnail, &thumbnail).await?;
        let attachment = Attachment {
            id: self.id,
            name,
            media,
            bytes: bytes.len() as u64,
            width,
            height,
            thumbnail: thumbnail.len() as u32,
            secret: UrlSecret(drawn()?),
        };
        let sha256 = Sha256::digest(&bytes).into();
        let (session, by) = (self.session, self.by);
        self.propose(Command::AttachmentDone { session, by, attachment, source, sha256 }).await?;
        metrics::counter!("chat_attachments_kept_total").increment(1);
        metrics::histogram!("chat_attachment_keep_seconds").record(started.elapsed().as_secs_f64());
        // The one that was finished first, if the upload was repeated meanwhile.
        look(self.app, session, self.id, None).await?.ok_or_else(|| Problem::conflict("the upload went away meanwhile"))
    }

    async fn prepared(&self, bytes: Vec<u8>) -> Result<Prepared, Problem> {
        let stopping = |_| Problem::unavailable("the node is stopping");
        let is_picture = picture::is_picture(&bytes);
        let _room = match is_picture {
            true => Some(self.app.uploads.studio.acquire().await.map_err(|_| Problem::fault("no studio"))?),
            false => None,
        };
        if !is_picture {
            return Ok(picture::as_file(self.name.clone(), bytes));
        }
        let name = self.name.clone();
        self.app.runtime.spawn_blocking(move || picture::anew(name, bytes)).await.map_err(stopping)
    }

    /// Piece by piece, so that none holds up the messages of the shard for long.
    async fn put(&self, variant: Variant, bytes: &[u8]) -> Result<(), Problem> {
        for (number, piece) in (0..).zip(bytes.chunks(CHUNK_BYTES_MAX)) {
            let (session, attachment, by) = (self.session, self.id, self.by);
            let bytes = SecretBytes(piece.to_vec());
            self.propose(Command::AttachmentChunk { session, attachment, by, variant, number, bytes }).await?;
        }
        Ok(())
    }

    /// Until the shard has it, or says no: everything here may be repeated.
    async fn propose(&self, command: Command) -> Result<(), Problem> {
        let shard = self.app.cluster.router.shard_of(Target::Session(self.session));
        let until = Instant::now() + STORE_WITHIN;
        loop {
            match call_shard(self.app, shard, ShardCall::Propose(command.clone())).await {
                ShardReply::Refused(Refused::AttachmentInvalid) => {
                    return Err(
                        Problem::conflict("under this key another file is being uploaded").of_kind("key-reused")
                    );
                }
                ShardReply::Done => return Ok(()),
                other @ ShardReply::Refused(_) => return done(other).map(drop),
                other if Instant::now() > until => return done(other).map(drop),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a file has at most {ATTACHMENT_BYTES_MAX} bytes"))
}

/// The whole body, never more of it than a file may have.
async fn read(request: &HttpRequest, mut body: web::Payload) -> Result<Vec<u8>, Problem> {
    let told = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if told.and_then(|text| text.parse::<u64>().ok()).is_some_and(|told| told > ATTACHMENT_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(part) = body.next().await {
            let part = part.map_err(|_| Problem::bad_request("the body ends early"))?;
            if bytes.len() + part.len() > ATTACHMENT_BYTES_MAX {
                return Err(too_large());
            }
            bytes.extend_from_slice(&part);
        }
        Ok(())
    };
    let late = |_| Problem::bad_request(format!("the body took longer than {} s", BODY_WITHIN.as_secs()));
    tokio::time::timeout(BODY_WITHIN, reading).await.map_err(late)??;
    if bytes.is_empty() { Err(Problem::bad_request("the body is the file, and there is none")) } else { Ok(bytes) }
}
