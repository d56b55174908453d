//! Owns files that go with messages: their pieces, who may send them, how much of them there may be, and when they go. Does not know
//! what stands in them: whoever uploads them to a node has looked. Invariant: an attachment goes with one message of its own session and
//! uploader, or it goes away in time; and nothing of it stays when it goes.

use crate::apply::{Shard, Work};
use crate::cache::{Table, Weight};
use crate::due::{Due, Dues};
use crate::file_objects::HereKey;
use crate::journal::Note;
use crate::keys;
use crate::limits::{
    ATTACHMENT_BYTES_MAX, ATTACHMENT_DAY_BYTES_MAX, ATTACHMENT_DAY_FILES_MAX, ATTACHMENT_NAME_BYTES_MAX,
    ATTACHMENT_SITE_BYTES_MAX, ATTACHMENT_SITE_FILES_MAX, ATTACHMENT_THUMBNAIL_BYTES_MAX, ATTACHMENT_UNSENT_MS,
    ATTACHMENTS_PER_MESSAGE_MAX,
};
use crate::objects::{Objects, drop_object};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, AttachmentRow, Changes, ChunkRow, DayRow, DoneRow, DueRow, HereRow, PieceRow, Rows, UsageRow};
use crate::session;
use proto::attachment::{Attachment, AttachmentState, CHUNK_BYTES_MAX, Variant};
use proto::command::{Party, TokenHash};
use proto::ids::{AttachmentId, SessionId, SiteId};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64;

/// Whose, and which.
pub(crate) type AttachmentKey = (SessionId, AttachmentId);
/// One piece of it.
pub(crate) type ChunkKey = (SessionId, AttachmentId, Variant, u32);

/// No site has this number: what is due about an attachment stands under its own id, in the place of a session's.
pub(crate) const OF_ATTACHMENTS: SiteId = SiteId(u32::MAX);
const DAY_MS: u64 = 86_400_000;

/// A piece that rows do not hold yet, or hold no longer; once they are written, nothing of it is in memory.
#[derive(Default)]
pub(crate) struct Chunk(Option<ChunkRow>);

impl Weight for Chunk {
    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |row| row.bytes.len())
    }
    fn is_void(&self) -> bool {
        true
    }
}

impl Weight for AttachmentRow {
    fn bytes(&self) -> usize {
        let done = self.done.as_ref().map_or(0, |done| attachment_bytes(&done.attachment));
        size_of::<AttachmentRow>() + done + self.pieces.len() * size_of::<PieceRow>() + self.objects_bytes()
    }
}

impl Weight for DayRow {
    fn bytes(&self) -> usize {
        size_of::<DayRow>()
    }
}

impl Weight for UsageRow {
    fn bytes(&self) -> usize {
        size_of::<UsageRow>()
    }
}

/// What a client is told of an attachment, two addresses included, in bytes and roughly: pages of events are cut by it. In memory it is less.
const TOLD_BYTES: usize = 512;

/// The weight of what is known of an attachment.
pub(crate) fn attachment_bytes(attachment: &Attachment) -> usize {
    TOLD_BYTES + 2 * attachment.name.len() + attachment.media.len()
}

/// The attachments of a shard's sessions.
pub(crate) struct Attachments {
    pub(crate) known: Table<AttachmentKey, Option<AttachmentRow>>,
    chunks: Table<ChunkKey, Chunk>,
    /// What each session has uploaded in a day.
    days: Table<SessionId, DayRow>,
    /// What is kept here of each site.
    pub(crate) usage: Table<SiteId, UsageRow>,
    /// What messages name and the archive does not have; `None`: it is no more, or was moved.
    pub(crate) here: Table<HereKey, Option<HereRow>>,
}

/// What somebody uploads.
struct Piece {
    site: SiteId,
    by: Party,
    of: (Variant, u32),
    bytes: Vec<u8>,
}

impl Attachments {
    pub(crate) fn new() -> Attachments {
        Attachments {
            known: Table::new(),
            chunks: Table::new(),
            days: Table::new(),
            usage: Table::new(),
            here: Table::new(),
        }
    }

    pub(crate) fn row(&self, rows: &dyn Rows, key: AttachmentKey) -> Result<Option<AttachmentRow>, ApplyError> {
        match self.known.peek(&key) {
            Some(known) => Ok(known.clone()),
            None => rows::read(rows, "attachment", &keys::attachment(key)),
        }
    }

    fn day(&self, rows: &dyn Rows, session: SessionId, day: u64) -> Result<DayRow, ApplyError> {
        let row = match self.days.peek(&session) {
            Some(known) => Some(*known),
            None => rows::read(rows, "attachment day", &keys::attachment_day(session))?,
        };
        let row = row.unwrap_or_default();
        rows::counted("attachment day", &[row.files, row.bytes])?;
        Ok(if row.day == day { row } else { DayRow { day, files: 0, bytes: 0 } })
    }

    pub(crate) fn usage(&self, rows: &dyn Rows, site: SiteId) -> Result<UsageRow, ApplyError> {
        let row = match self.usage.peek(&site) {
            Some(known) => Some(*known),
            None => rows::read(rows, "attachment usage", &keys::attachment_usage(site))?,
        };
        let row = row.unwrap_or_default();
        rows::counted("attachment usage", &[row.files, row.bytes, row.moved])?;
        Ok(row)
    }

    /// Takes a piece; the first one begins the upload.
    fn take(
        &mut self,
        rows: &dyn Rows,
        work: &mut Work,
        dues: &mut Dues,
        key: AttachmentKey,
        piece: Piece,
    ) -> Result<Reply, ApplyError> {
        let Piece { site, by, of: (variant, number), bytes } = piece;
        let (len, hash) = (bytes.len(), xxh3_64(&bytes));
        let before = self.row(rows, key)?;
        let is_new = before.is_none();
        let made_ms = work.clock_ms;
        let mut row = before.unwrap_or_else(|| AttachmentRow::new(site, by, made_ms));
        if let Some(known) = row.pieces.iter().find(|piece| (piece.variant, piece.number) == (variant, number)) {
            let is_same = row.by == by && (known.bytes as usize, known.hash) == (len, hash);
            return Ok(if is_same { Reply::Done } else { Reply::Rejected(Refusal::AttachmentInvalid) });
        }
        let after = row.bytes_of(variant) + len as u64;
        if row.by != by || row.done.is_some() || !(1..=CHUNK_BYTES_MAX).contains(&len) || after > bytes_max(variant) {
            return Ok(Reply::Rejected(Refusal::AttachmentInvalid));
        }
        let mut day = self.day(rows, key.0, work.clock_ms / DAY_MS)?;
        day.files += u64::from(is_new);
        day.bytes += len as u64;
        if day.files > ATTACHMENT_DAY_FILES_MAX || day.bytes > ATTACHMENT_DAY_BYTES_MAX {
            return Ok(Reply::Rejected(Refusal::DayFull));
        }
        let mut usage = self.usage(rows, site)?;
        usage.files += u64::from(is_new);
        usage.bytes += len as u64;
        if usage.files > work.share(ATTACHMENT_SITE_FILES_MAX) || usage.bytes > work.share(ATTACHMENT_SITE_BYTES_MAX) {
            return Ok(Reply::Rejected(Refusal::SiteFull));
        }
        if is_new {
            dues.put(unsent(&row, key), work.tick, DueRow::Unsent { session: key.0 });
        }
        row.pieces.push(PieceRow { variant, number, bytes: len as u32, hash });
        let tick = work.tick;
        note(work, key, &[1, variant as u64, u64::from(number), len as u64, hash]);
        self.days.put(key.0, tick, day);
        self.usage.put(site, tick, usage);
        self.known.put(key, tick, Some(row));
        self.put_chunk(tick, (key.0, key.1, variant, number), Some(ChunkRow { bytes }));
        Ok(Reply::Done)
    }

    /// Not `Table::put`: the bytes count towards the next checkpoint.
    pub(crate) fn put_chunk(&mut self, tick: u64, key: ChunkKey, row: Option<ChunkRow>) {
        let Ok(held) = self.chunks.hold::<std::convert::Infallible>(key, tick, || Ok(Some(Chunk::default())));
        if let Some(mut chunk) = held {
            chunk.change().0 = row;
        }
    }

    /// All pieces of it are there.
    fn finish(
        &mut self,
        rows: &dyn Rows,
        work: &mut Work,
        session: SessionId,
        by: Party,
        done: DoneRow,
    ) -> Result<Reply, ApplyError> {
        let key = (session, done.attachment.id);
        let invalid = Ok(Reply::Rejected(Refusal::AttachmentInvalid));
        let Some(mut row) = self.row(rows, key)?.filter(|row| row.by == by) else { return invalid };
        if let Some(known) = &row.done {
            // Its secret is drawn anew with every try; the first one stays.
            return if known.is_same(&done) { Ok(Reply::Done) } else { invalid };
        }
        let Attachment { bytes, thumbnail, .. } = done.attachment;
        let is_whole = row.is_whole(Variant::Whole, bytes) && row.is_whole(Variant::Thumbnail, u64::from(thumbnail));
        if !is_whole || !is_sound(&done.attachment) {
            return invalid;
        }
        note(work, key, &[2]);
        work.journal.note_bytes(Note::Attachment, u64::from(row.site.0), &proto::codec::encode_bare(&done));
        row.done = Some(done);
        self.known.put(key, work.tick, Some(row));
        Ok(Reply::Done)
    }

    /// What a message would name; `None`: it may not.
    pub(crate) fn named(
        &self,
        rows: &dyn Rows,
        session: SessionId,
        from: Party,
        ids: &[AttachmentId],
    ) -> Result<Option<Vec<Attachment>>, ApplyError> {
        let distinct: BTreeSet<&AttachmentId> = ids.iter().collect();
        if ids.len() > ATTACHMENTS_PER_MESSAGE_MAX || distinct.len() < ids.len() {
            return Ok(None);
        }
        let mut found = Vec::new();
        for id in ids {
            let row = self.row(rows, (session, *id))?.filter(|row| row.by == from && row.seq.is_none());
            let Some(done) = row.and_then(|row| row.done) else { return Ok(None) };
            found.push(done.attachment);
        }
        Ok(Some(found))
    }

    /// They go with the message at `seq`.
    pub(crate) fn sent(
        &mut self,
        rows: &dyn Rows,
        work: &Work,
        dues: &mut Dues,
        (session, seq): (SessionId, u64),
        attachments: &[Attachment],
    ) -> Result<(), ApplyError> {
        for attachment in attachments {
            let key = (session, attachment.id);
            if let Some(row) = self.row(rows, key)? {
                dues.remove(unsent(&row, key), work.tick);
                let row = AttachmentRow { seq: Some(seq), sent_ms: work.clock_ms, ..row };
                self.here.put(row.here(key), work.tick, Some(HereRow { bytes: row.bytes() }));
                self.known.put(key, work.tick, Some(row));
            }
        }
        Ok(())
    }

    /// Nothing of it stays; its objects are to be deleted.
    pub(crate) fn remove(
        &mut self,
        rows: &dyn Rows,
        work: &mut Work,
        dues: &mut Dues,
        objects: &mut Objects,
        key: AttachmentKey,
    ) -> Result<(), ApplyError> {
        let Some(row) = self.row(rows, key)? else { return Ok(()) };
        if row.seq.is_none() {
            dues.remove(unsent(&row, key), work.tick);
        } else if row.objects.is_empty() {
            self.here.put(row.here(key), work.tick, None);
        }
        let mut usage = self.usage(rows, row.site)?;
        usage.files = usage.files.saturating_sub(1);
        usage.moved = usage.moved.saturating_sub(u64::from(!row.objects.is_empty()));
        usage.bytes = usage.bytes.saturating_sub(row.bytes());
        if row.objects.is_empty() {
            self.forget_pieces(work.tick, key, &row);
        }
        note(work, key, &[3]);
        for object in row.objects {
            drop_object(objects, work, key.0, object.name);
        }
        self.usage.put(row.site, work.tick, usage);
        self.known.put(key, work.tick, None);
        Ok(())
    }

    /// Its time has come: no message has named it.
    pub(crate) fn unsent_due(
        &mut self,
        rows: &dyn Rows,
        work: &mut Work,
        (dues, objects): (&mut Dues, &mut Objects),
        due: Due,
        of: SessionId,
    ) -> Result<(), ApplyError> {
        let key = (of, AttachmentId(due.session.0));
        match self.row(rows, key)? {
            Some(row) if row.seq.is_none() => self.remove(rows, work, dues, objects, key),
            _ => Ok(()),
        }
    }

    /// Whether what a command looks at is in memory.
    pub(crate) fn is_warm(&self, session: SessionId, ids: &[AttachmentId]) -> bool {
        ids.iter().all(|id| self.known.peek(&(session, *id)).is_some())
    }

    pub(crate) fn save(&mut self, out: &mut Changes) {
        self.known.begin_checkpoint(|key, row| {
            out.push((keys::attachment(key), row.as_ref().map(proto::codec::encode)));
        });
        self.chunks.begin_checkpoint(|key, chunk| {
            out.push((keys::attachment_chunk(key), chunk.0.as_ref().map(proto::codec::encode)));
        });
        self.days.begin_checkpoint(|session, row| rows::save(out, keys::attachment_day(session), row));
        self.usage.begin_checkpoint(|site, row| rows::save(out, keys::attachment_usage(site), row));
        self.here.begin_checkpoint(|key, row| out.push((keys::here(key), row.as_ref().map(proto::codec::encode))));
    }

    pub(crate) fn saved(&mut self, written: bool) {
        self.known.end_checkpoint(written, |_| ());
        self.chunks.end_checkpoint(written, |_| ());
        self.days.end_checkpoint(written, |_| ());
        self.usage.end_checkpoint(written, |_| ());
        self.here.end_checkpoint(written, |_| ());
    }

    pub(crate) fn droppable(&self, uses: &mut Vec<(u64, usize)>) {
        self.known.droppable(uses);
        self.days.droppable(uses);
        self.usage.droppable(uses);
        self.here.droppable(uses);
    }

    pub(crate) fn drop_unused(&mut self, used: u64) {
        self.known.drop_unused(used, |_| ());
        self.days.drop_unused(used, |_| ());
        self.usage.drop_unused(used, |_| ());
        self.here.drop_unused(used, |_| ());
    }

    pub(crate) fn dirty_bytes(&self) -> usize {
        let files = self.known.dirty_bytes() + self.chunks.dirty_bytes() + self.here.dirty_bytes();
        files + self.days.dirty_bytes() + self.usage.dirty_bytes()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.known.bytes() + self.chunks.bytes() + self.here.bytes() + self.days.bytes() + self.usage.bytes()
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        let files = self.known.recount() + self.chunks.recount() + self.here.recount();
        files + self.days.recount() + self.usage.recount()
    }
}

impl AttachmentRow {
    fn new(site: SiteId, by: Party, made_ms: u64) -> AttachmentRow {
        let (pieces, objects) = (Vec::new(), Vec::new());
        AttachmentRow { site, by, made_ms, pieces, done: None, seq: None, sent_ms: 0, objects }
    }

    /// Of all its forms, wherever they are.
    fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.bytes)).sum()
    }

    fn bytes_of(&self, variant: Variant) -> u64 {
        self.pieces.iter().filter(|piece| piece.variant == variant).map(|piece| u64::from(piece.bytes)).sum()
    }

    /// The pieces are numbered from 0 without gaps, each but the last is full, and in all they have so many bytes.
    fn is_whole(&self, variant: Variant, bytes: u64) -> bool {
        let pieces: Vec<&PieceRow> = self.pieces.iter().filter(|piece| piece.variant == variant).collect();
        let full = bytes / CHUNK_BYTES_MAX as u64;
        let is_in_place = |piece: &&PieceRow| {
            let number = u64::from(piece.number);
            number < full && piece.bytes as usize == CHUNK_BYTES_MAX || number == full
        };
        self.bytes_of(variant) == bytes
            && pieces.len() as u64 == bytes.div_ceil(CHUNK_BYTES_MAX as u64)
            && pieces.iter().all(is_in_place)
    }
}

impl DoneRow {
    fn is_same(&self, other: &DoneRow) -> bool {
        let attachment = Attachment { secret: self.attachment.secret, ..other.attachment.clone() };
        *self == DoneRow { attachment, ..*other }
    }
}

fn bytes_max(variant: Variant) -> u64 {
    match variant {
        Variant::Whole => ATTACHMENT_BYTES_MAX,
        Variant::Thumbnail => ATTACHMENT_THUMBNAIL_BYTES_MAX,
    }
}

fn is_sound(attachment: &Attachment) -> bool {
    let is_text = |text: &str, max: usize| (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
    let Attachment { name, media, bytes, width, height, thumbnail, .. } = attachment;
    is_text(name, ATTACHMENT_NAME_BYTES_MAX)
        && is_text(media, ATTACHMENT_NAME_BYTES_MAX)
        && *bytes > 0
        && (*width > 0) == (*height > 0)
        && (*thumbnail == 0 || *width > 0)
}

fn unsent(row: &AttachmentRow, (_, id): AttachmentKey) -> Due {
    Due { due_ms: row.made_ms + ATTACHMENT_UNSENT_MS, site: OF_ATTACHMENTS, session: SessionId(id.0) }
}

fn note(work: &mut Work, (session, id): AttachmentKey, numbers: &[u64]) {
    work.journal.note_session(Note::Attachment, session, &[(id.0 >> 64) as u64, id.0 as u64]);
    work.journal.note(Note::Attachment, numbers);
}

impl Shard {
    pub(crate) fn attachment_chunk(
        &mut self,
        rows: &dyn Rows,
        key: AttachmentKey,
        by: Party,
        of: (Variant, u32),
        bytes: Vec<u8>,
    ) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(site) = session::hold(&mut self.sessions, rows, key.0, work.tick)?.map(|session| session.site) else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        self.attachments.take(rows, work, &mut self.dues, key, Piece { site, by, of, bytes })
    }

    pub(crate) fn attachment_done(
        &mut self,
        rows: &dyn Rows,
        session: SessionId,
        by: Party,
        attachment: Attachment,
        (source, sha256): (TokenHash, TokenHash),
    ) -> Result<Reply, ApplyError> {
        self.attachments.finish(rows, &mut self.work, session, by, DoneRow { attachment, source, sha256 })
    }

    /// A finished attachment.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn attachment(
        &self,
        rows: &dyn Rows,
        session: SessionId,
        id: AttachmentId,
    ) -> Result<Option<AttachmentState>, ApplyError> {
        let Some(row) = self.attachments.row(rows, (session, id))? else { return Ok(None) };
        let AttachmentRow { site, by, seq, done, objects, .. } = row;
        let state = |DoneRow { attachment, source, sha256 }| AttachmentState {
            attachment,
            site,
            by,
            seq,
            source,
            sha256,
            objects,
        };
        Ok(done.map(state))
    }

    /// Files of a site that this shard keeps, and their bytes.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn attachment_usage(&self, rows: &dyn Rows, site: SiteId) -> Result<(u64, u64), ApplyError> {
        let UsageRow { files, bytes, .. } = self.attachments.usage(rows, site)?;
        Ok((files, bytes))
    }

    /// A piece of an attachment.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn attachment_piece(
        &self,
        rows: &dyn Rows,
        session: SessionId,
        id: AttachmentId,
        variant: Variant,
        number: u32,
    ) -> Result<Option<Vec<u8>>, ApplyError> {
        let key = (session, id, variant, number);
        match self.attachments.chunks.peek(&key) {
            Some(Chunk(row)) => Ok(row.as_ref().map(|row| row.bytes.clone())),
            None => {
                Ok(rows::read::<ChunkRow>(rows, "attachment chunk", &keys::attachment_chunk(key))?.map(|row| row.bytes))
            }
        }
    }
}
