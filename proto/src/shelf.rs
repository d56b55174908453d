//! Owns what a site keeps for its people: canned replies, macros, attributes. Does not know what stands in them: whoever reads them does.
//! Invariant: enums grow only at their end, structs never change.

use bincode::{Decode, Encode};

/// What something on the shelf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum ItemKind {
    /// A text that agents answer with.
    Canned,
    /// Several actions at once.
    Macro,
    /// An attribute of visitors or conversations, and its type.
    Attribute,
    /// A network or a word that is not let through.
    Blocked,
    /// What somebody looks for again and again.
    View,
    /// A rule by which something is said to visitors before anybody asks.
    Trigger,
    /// How often a trigger of that name has spoken, and was answered. Written by the rules, as two numbers.
    TriggerCount,
}

/// Something on the shelf.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Item {
    /// Of its own within the kind.
    pub name: String,
    /// JSON.
    pub text: String,
}
