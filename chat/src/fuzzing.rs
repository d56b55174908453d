//! Owns the opening through which the fuzz targets reach the forms of rows. Does not serve the product. Invariant: see `proto::fuzzing`.

use crate::rows::*;
use proto::codec::CodecError;

/// A row's value, of any kind that this crate stores.
/// # Errors
/// `CodecError`: it is none.
pub fn row(bytes: &[u8]) -> Result<(), CodecError> {
    proto::same_by_tag!(bytes =>
        HeaderRow, SessionRow, BlockRow, DeviceRow, PageRow, SentRow, AgentRow, DeskRow, QueuedRow, WantRow, VersionRow,
    )
}
