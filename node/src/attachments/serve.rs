//! Owns how an attachment gets to whoever may have it. Does not know how it came. Invariant: whoever asks is known, by a token or by a
//! signature, before anything is said of what there is; and a file that was not made anew here is never shown, only saved.

use super::{address, bearer, look, name, picture, unauthorized, unknown};
use crate::admin::problem::Problem;
use crate::admin::sessions::call_shard;
use crate::api::{Access, Scope, caller_of};
use crate::archive::ArchiveError;
use crate::auth::{self, Bearer};
use crate::run::App;
use actix_web::http::header;
use actix_web::web::{Bytes, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::stream;
use proto::archive::{FILE_PART_BYTES, FileObject};
use proto::attachment::{AttachmentState, CHUNK_BYTES_MAX, Variant};
use proto::command::{AgentRole, Party, SecretBytes, Target};
use proto::ids::{AttachmentId, SessionId};
use proto::peer::{ShardCall, ShardReply};
use serde::Deserialize;

/// So often one piece is asked for, when its shard has no leader just now.
const TRIES_MAX: u32 = 5;

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfAttachment {
    session: String,
    attachment: String,
}

/// In place of a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    until: Option<u64>,
    sign: Option<String>,
}

/// What is asked for.
struct Wanted {
    session: SessionId,
    id: AttachmentId,
    /// To be shown, not saved.
    as_image: bool,
    variant: Variant,
}

impl Wanted {
    fn of(path: &OfAttachment, as_image: bool, variant: Variant) -> Result<Wanted, Problem> {
        let session = path.session.parse().map_err(|_| unknown())?;
        let id = path.attachment.parse().map_err(|_| unknown())?;
        Ok(Wanted { session, id, as_image, variant })
    }
}

/// `GET /v1/images/{session}/{attachment}`
pub async fn image(
    app: Data<App>,
    request: HttpRequest,
    path: Path<OfAttachment>,
    signed: Query<Signed>,
) -> Result<HttpResponse, Problem> {
    let wanted = Wanted::of(&path, true, Variant::Whole)?;
    serve(app, &request, wanted, signed.into_inner()).await
}

/// `GET /v1/images/{session}/{attachment}/thumbnail`
pub async fn thumbnail(
    app: Data<App>,
    request: HttpRequest,
    path: Path<OfAttachment>,
    signed: Query<Signed>,
) -> Result<HttpResponse, Problem> {
    let wanted = Wanted::of(&path, true, Variant::Thumbnail)?;
    serve(app, &request, wanted, signed.into_inner()).await
}

/// `GET /v1/files/{session}/{attachment}`
pub async fn file(
    app: Data<App>,
    request: HttpRequest,
    path: Path<OfAttachment>,
    signed: Query<Signed>,
) -> Result<HttpResponse, Problem> {
    let wanted = Wanted::of(&path, false, Variant::Whole)?;
    serve(app, &request, wanted, signed.into_inner()).await
}

async fn serve(app: Data<App>, request: &HttpRequest, wanted: Wanted, signed: Signed) -> Result<HttpResponse, Problem> {
    let state = allowed(&app, request, &wanted, signed).await?;
    let bytes = match wanted.variant {
        Variant::Whole => state.attachment.bytes,
        Variant::Thumbnail => u64::from(state.attachment.thumbnail),
    };
    if bytes == 0 || wanted.as_image && !state.attachment.is_image() {
        return Err(unknown());
    }
    let mut response = HttpResponse::Ok();
    head(&mut response, &wanted, &state);
    let mut reader = Reader { app, wanted, bytes, at: 0, object: None };
    reader.object = reader.object_of(state);
    // Before anything is promised: the place of the files may be away.
    let first = reader.next().await?;
    metrics::counter!("chat_attachments_read_total").increment(1);
    Ok(response.no_chunking(bytes).streaming(parts(first, reader)))
}

/// What is known of it, if whoever asks may have it.
async fn allowed(
    app: &Data<App>,
    request: &HttpRequest,
    wanted: &Wanted,
    signed: Signed,
) -> Result<AttachmentState, Problem> {
    let Wanted { session, id, as_image, variant } = wanted;
    if let Signed { until: Some(until_s), sign: Some(sign) } = signed {
        let path = address::path(*session, *id, *as_image, *variant);
        let is_good = |state: &AttachmentState| {
            let now_ms = cluster::shard::now_ms();
            address::is_good(state.attachment.secret, &path, (until_s, &sign), now_ms)
        };
        // Whether there is such an attachment is nobody's to know who has no address of it.
        return look(app, *session, *id, None).await?.filter(is_good).ok_or_else(unauthorized);
    }
    let token = bearer(request.headers()).ok_or_else(unauthorized)?;
    if let Some((Bearer::Visitor { session: own }, hash)) = auth::parse_token(token) {
        let found = look(app, own, *id, Some(hash)).await?.filter(|_| own == *session);
        return found.filter(|state| state.seq.is_some() || state.by == Party::Visitor).ok_or_else(unknown);
    }
    let caller = caller_of(app, token).await?;
    if !Access::new(AgentRole::Viewer, Scope::ReadConversations).allows(&caller.who) {
        let detail = "this needs the scope conversations:read, which the key has not";
        return Err(Problem::new(actix_web::http::StatusCode::FORBIDDEN, detail));
    }
    look(app, *session, *id, None).await?.filter(|state| state.site == caller.site).ok_or_else(unknown)
}

/// What a browser is told of it.
fn head(response: &mut HttpResponseBuilder, wanted: &Wanted, state: &AttachmentState) {
    let (how, media, policy) = match wanted.as_image {
        true => {
            let media = state.attachment.media.as_str();
            let is_small = wanted.variant == Variant::Thumbnail;
            ("inline", if is_small { picture::thumbnail_media(media) } else { media }, "cross-origin")
        }
        // Whatever it is: with a type of its own, somebody might show it after all.
        false => ("attachment", "application/octet-stream", "same-origin"),
    };
    response
        .insert_header((header::CONTENT_TYPE, media))
        .insert_header((header::CONTENT_DISPOSITION, name::disposition(how, &state.attachment.name)))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"))
        .insert_header(("cross-origin-resource-policy", policy))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        // Not for longer: a message may be recalled.
        .insert_header((header::CACHE_CONTROL, "private, max-age=3600, immutable"));
}

/// The parts one after the other, each asked for when the one before is on its way. Ends with an error if one is missing: the length that
/// was told is not reached then.
fn parts(first: Bytes, reader: Reader) -> impl stream::Stream<Item = Result<Bytes, actix_web::Error>> {
    stream::try_unfold((Some(first), reader), async |(first, mut reader)| match first {
        Some(first) => Ok(Some((first, (None, reader)))),
        None if reader.at == reader.bytes => Ok(None),
        None => Ok::<_, actix_web::Error>(Some((reader.next().await?, (None, reader)))),
    })
}

/// How far somebody has read a form of an attachment.
struct Reader {
    app: Data<App>,
    wanted: Wanted,
    bytes: u64,
    at: u64,
    /// Its bytes are there, and not in the shard.
    object: Option<FileObject>,
}

impl Reader {
    fn object_of(&self, state: AttachmentState) -> Option<FileObject> {
        state.objects.into_iter().nth(self.wanted.variant as usize)
    }

    /// What comes next; not behind the end.
    async fn next(&mut self) -> Result<Bytes, Problem> {
        let bytes = match &self.object {
            Some(object) => self.part(object.clone()).await?,
            None => match self.piece().await? {
                Some(bytes) => bytes,
                // It went to the archive while it was read, or it is gone.
                None => {
                    let state =
                        look(&self.app, self.wanted.session, self.wanted.id, None).await?.ok_or_else(unknown)?;
                    let object = self.object_of(state).ok_or_else(unknown)?;
                    self.object = Some(object.clone());
                    self.part(object).await?
                }
            },
        };
        if bytes.is_empty() {
            return Err(unknown());
        }
        self.at += bytes.len() as u64;
        Ok(bytes)
    }

    /// Out of the archive: the rest of the part in which the next byte is.
    async fn part(&self, object: FileObject) -> Result<Bytes, Problem> {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        let (archive, name) = (self.app.archive.clone(), object.name.clone());
        let fetched = self.app.on_raft(async move { archive.fetch_part(&object, at / FILE_PART_BYTES).await }).await;
        match fetched {
            Some(Err(ArchiveError::Missing)) => Err(self.missing(&name).await),
            Some(Ok(bytes)) => Ok(bytes.slice((at % FILE_PART_BYTES).min(bytes.len())..)),
            Some(Err(_)) => Err(Problem::unavailable(crate::archive::AWAY)),
            None => Err(Problem::unavailable("the node is stopping")),
        }
    }

    /// Why the place does not have an object: the file is gone meanwhile, or its object is lost.
    async fn missing(&self, object: &str) -> Problem {
        match look(&self.app, self.wanted.session, self.wanted.id, None).await {
            Ok(state) => match state.and_then(|state| self.object_of(state)) {
                Some(now) if now.name == object => {
                    self.app.archive.tell_lost(object);
                    Problem::unavailable(crate::archive::AWAY)
                }
                _ => unknown(),
            },
            Err(problem) => problem,
        }
    }

    /// Out of the shard; `None`: it is not there any more.
    async fn piece(&self) -> Result<Option<Bytes>, Problem> {
        let Wanted { session, id, variant, .. } = self.wanted;
        let number = (self.at / CHUNK_BYTES_MAX as u64) as u32;
        let shard = self.app.cluster.router.shard_of(Target::Session(session));
        let call = ShardCall::AttachmentChunk { session, attachment: id, variant, number };
        for _ in 0..TRIES_MAX {
            match call_shard(&self.app, shard, call.clone()).await {
                ShardReply::AttachmentChunk(SecretBytes(bytes)) => return Ok(Some(Bytes::from(bytes))),
                ShardReply::Refused(_) => return Ok(None),
                _ => tokio::time::sleep(super::upload::PAUSE).await,
            }
        }
        Err(Problem::unavailable("the session's shard has no leader just now, try again"))
    }
}
