//! Owns what the fuzz targets ask of every frozen type. Does not serve the product. Invariant: what decodes is written and read
//! again as the same value.

use crate::codec::{CodecError, Frozen, decode, encode};

/// Reads a value; what can be read must be read again after it was written.
/// # Errors
/// Those of [`decode`].
/// # Panics
/// The value is another one when it is read again.
pub fn same<T: Frozen + PartialEq>(bytes: &[u8]) -> Result<T, CodecError> {
    let value: T = decode(bytes)?;
    let written = encode(&value);
    assert!(decode::<T>(&written).is_ok_and(|again| again == value), "tag {} is not read as it was written", T::TAG);
    Ok(value)
}

/// Tries each of the types whose tag the bytes begin with.
#[doc(hidden)]
#[macro_export]
macro_rules! same_by_tag {
    ($bytes:expr => $($name:ty),+ $(,)?) => {
        match $bytes.first() {
            $(Some(&<$name as $crate::codec::Frozen>::TAG) => $crate::fuzzing::same::<$name>($bytes).map(drop),)+
            Some(found) => Err($crate::codec::CodecError::Tag { expected: 0, found: *found }),
            None => Err($crate::codec::CodecError::Empty),
        }
    };
}

/// A value of any frozen type of this crate.
/// # Errors
/// Those of [`decode`].
pub fn value(bytes: &[u8]) -> Result<(), CodecError> {
    use crate::archive::ArchivedEvents;
    use crate::command::{Batch, Event, Mail, MetaBatch};
    use crate::cut::*;
    use crate::peer::*;
    crate::same_by_tag!(bytes =>
        Batch, Event, MetaBatch, Mail,
        Hello, HelloReply, VoteRow, MembershipRow, AppliedRow, AppendHead, AppendReply, VoteCall, VoteReply, TransferCall,
        LostCall, LostReply, SnapshotCall, SnapshotReply, ShardCall, ShardReply, Pushes, MetaCall, MetaReply, LogPoint,
        CutCall, CutReply, ArchivedEvents,
    )
}
