//! Owns the id newtypes. Does not know where an id is stored. Invariant: two kinds of id never mix.

use std::fmt;
use std::str::FromStr;

/// An id that could not be read from its text form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}")]
pub struct BadId {
    /// The kind of id that was expected, e.g. `session id`.
    pub kind: &'static str,
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let digits = text.strip_prefix($prefix).ok_or(BadId { kind: $kind })?;
                let canonical = !digits.is_empty()
                    && digits.bytes().all(|b| b.is_ascii_digit())
                    && (digits == "0" || !digits.starts_with('0'));
                if !canonical {
                    return Err(BadId { kind: $kind });
                }
                digits.parse().map($name).map_err(|_| BadId { kind: $kind })
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

number_id!(
    /// A machine of the cluster, allotted by the meta group at join. Text form `n1`.
    NodeId, u32, "n", "node id"
);
number_id!(
    /// A Raft group. 0 is the meta group, data shards count from 1. Text form `g1`.
    ShardId, u32, "g", "shard id"
);
number_id!(
    /// One replica of one shard on one node; the Raft node id. Allotted by meta and never reused. Text form `r1`.
    ReplicaId, u32, "r", "replica id"
);
number_id!(
    /// A tenant, allotted by meta. Text form `site1`; clients use the site's name.
    SiteId, u32, "site", "site id"
);
number_id!(
    /// A human seat, allotted by meta. Text form `a1`.
    AgentId, u64, "a", "agent id"
);
number_id!(
    /// A group of agents of a site, numbered by whoever sets its rules. 0 is everybody. Text form `t1`.
    TeamId, u32, "t", "team id"
);
number_id!(
    /// Where events of a site go, allotted by meta and never reused. Text form `w1`.
    WebhookId, u64, "w", "webhook id"
);
number_id!(
    /// A leadership of one shard: the Raft term. Grows with every new leader.
    Epoch, u64, "e", "epoch"
);

/// The meta group: nodes, shard map, accounts, settings. It holds no per-session data.
pub const META_SHARD: ShardId = ShardId(0);

macro_rules! wide_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bincode::Encode, bincode::Decode)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if !canonical {
                    return Err(BadId { kind: $kind });
                }
                u128::from_str_radix(text, 16).map($name).map_err(|_| BadId { kind: $kind })
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

wide_id!(
    /// A visitor of a site: 128 random bits. Text form: 32 lower-case hex digits.
    VisitorId, "visitor id"
);
wide_id!(
    /// A visitor's session actor, derived from site and visitor. Text form: 32 lower-case hex digits.
    SessionId, "session id"
);
wide_id!(
    /// A file that goes with a message of its session. Text form: 32 lower-case hex digits.
    AttachmentId, "attachment id"
);
wide_id!(
    /// The cluster, drawn at bootstrap. Text form: 32 lower-case hex digits.
    ClusterId, "cluster id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        assert_eq!("n7".parse(), Ok(NodeId(7)));
        assert_eq!(NodeId(7).to_string(), "n7");
        let session = SessionId(0xabc);
        assert_eq!(session.to_string().parse(), Ok(session));
    }

    #[test]
    fn sloppy_text_is_refused() {
        for text in ["7", "n", "n07", "n+7", "n 7", "n4294967296", "N7"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
        for text in ["", "abc", "0000000000000000000000000000ABCD", "000000000000000000000000000000abc"] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }
}
