//! Owns what tests outside and inside share: the opening to the forms of rows, and rows in memory. Does not serve the product.
//! Invariant: see `proto::fuzzing`; a map behaves as the store behind the real seam.

use crate::rows::*;
use crate::{Changes, Rows, RowsError};
use proto::codec::CodecError;
use std::collections::BTreeMap;

/// Rows in memory.
pub type RowMap = BTreeMap<Vec<u8>, Vec<u8>>;

impl Rows for RowMap {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), RowsError> {
        let from = from.unwrap_or(prefix).to_vec();
        if reverse {
            let mut down = self.range(..=from).rev().take_while(|(key, _)| key.starts_with(prefix));
            down.all(|(key, value)| visit(key, value));
        } else {
            let mut up = self.range(from..).take_while(|(key, _)| key.starts_with(prefix));
            up.all(|(key, value)| visit(key, value));
        }
        Ok(())
    }
}

/// Writes a checkpoint into rows.
pub fn write(rows: &mut RowMap, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

/// A row's value, of any kind that this crate stores.
/// # Errors
/// `CodecError`: it is none.
pub fn row(bytes: &[u8]) -> Result<(), CodecError> {
    proto::same_by_tag!(bytes =>
        HeaderRow, FeedBlockRow, SessionRow, BlockRow, DeviceRow, PageRow, SentRow, AgentRow, DeskRow, QueuedRow, WantRow, VersionRow, DueRow, TeamRow, SeatRow, LaneRow,
        WebhookRow, ItemRow, ShelfRow, AuditRow, ChainRow, ArchivedRow, ObjectRow,
        AttachmentRow, ChunkRow, DayRow, UsageRow, HereRow, EmailRow, EmailStandRow, EmailCourseRow,
        RollupRow, StintRow, TalkRow,
        ReachRow,
    )
}
