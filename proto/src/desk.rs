//! Owns what a desk is told: what a conversation asks for, and the rules of its teams, seats and site. Does not route.
//! Invariant: lists of names ascend without doubles; structs never change, enums grow at their end.

use crate::ids::{AgentId, TeamId};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize, Serializer};
use std::str::FromStr;

/// By which way a visitor writes: a place in [`Channel::NAMES`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Channel(pub u8);

impl Channel {
    /// A page.
    pub const WEB: Channel = Channel(0);
    /// An app on a phone.
    pub const APP: Channel = Channel(1);
    /// Only ever grows at its end: numbers are stored.
    pub const NAMES: [&str; 7] = ["web", "app", "api", "email", "wechat", "wecom", "feishu"];

    /// Its name; of a number that nobody gave a name, that of the web.
    pub fn name(self) -> &'static str {
        Channel::NAMES.get(usize::from(self.0)).unwrap_or(&Channel::NAMES[0])
    }

    /// What visitors may say of themselves. The others are said by whoever brings them.
    pub fn is_said_by_visitors(self) -> bool {
        self == Channel::WEB || self == Channel::APP
    }
}

impl FromStr for Channel {
    type Err = ();

    fn from_str(name: &str) -> Result<Channel, ()> {
        let at = Channel::NAMES.iter().position(|known| *known == name).ok_or(())?;
        u8::try_from(at).map(Channel).map_err(drop)
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What is known of a visitor when a conversation begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct About {
    /// The team that the visitor chose.
    pub team: Option<TeamId>,
    /// Name and value, ascending by name, no name twice.
    pub facts: Vec<(String, String)>,
    pub channel: Channel,
}

/// What a conversation asks of the desk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Ask {
    /// The team that was named; without one the site's routes choose.
    pub team: Option<TeamId>,
    /// Name and value of what routes look at: page, language, attributes.
    pub facts: Vec<(String, String)>,
    /// All of these, and those of the route; ascending.
    pub skills: Vec<String>,
    pub channel: Channel,
    /// Higher is served first; that of the route when it is higher.
    pub priority: u8,
    /// Who had the conversation before, and when it ended, in milliseconds since 1970.
    pub last: Option<(AgentId, u64)>,
    /// Who has just given it back: anybody else comes first.
    pub but: Option<AgentId>,
    /// Who laid it aside or opened it again: comes first, whatever the rules say of the agent who had the last one.
    pub back: Option<AgentId>,
}

impl Ask {
    /// What a conversation asks for whose visitor is known so.
    pub fn of(about: &About, last: Option<(AgentId, u64)>) -> Ask {
        Ask { team: about.team, facts: about.facts.clone(), channel: about.channel, last, ..Ask::default() }
    }
}

/// The rules of a team.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct TeamRules {
    pub name: String,
    /// Within this time an agent must accept what is offered; 0: conversations are assigned without asking.
    pub accept_ms: u32,
    /// Its members take conversations of teams that have nobody free.
    pub helps: bool,
    /// Conversations that no route sends elsewhere are spread over the teams that say so.
    pub hashed: bool,
}

/// The rules of a seat.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SeatRules {
    /// Conversations at once, over all channels.
    pub capacity: u32,
    /// Conversations at once of these channels; others have the capacity alone. Ascending.
    pub channels: Vec<(Channel, u32)>,
    /// Ascending.
    pub teams: Vec<TeamId>,
    /// Ascending.
    pub skills: Vec<String>,
}

/// The rules of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct SiteRules {
    /// The first whose conditions all hold is taken.
    pub routes: Vec<Route>,
    /// For so long after a conversation its agent comes first for the next; 0: never.
    pub sticky_ms: u64,
    /// An agent without a socket for so long loses the open conversations to the queue; 0: never.
    pub requeue_ms: u64,
    /// When the site gives conversations to agents; `None`: always.
    pub hours: Option<Hours>,
}

/// When a site is open, by the clocks of a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Hours {
    /// A name of the IANA time zone database, e.g. `Asia/Shanghai`.
    pub zone: String,
    /// Stretches of a usual week, ascending, none touching another; one over midnight is two.
    pub week: Vec<(Weekday, Stretch)>,
    /// Days with hours of their own, ascending: a holiday has none.
    pub days: Vec<Day>,
}

/// 0: Monday; 6: Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Weekday(pub u8);

/// From this minute of a day up to, and without, that one: `from < to <= 1440`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Stretch {
    pub from: u16,
    pub to: u16,
}

/// A day of the calendar.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Day {
    /// `YYYYMMDD` as a number, e.g. 20261225.
    pub date: u32,
    /// Ascending, none touching another.
    pub open: Vec<Stretch>,
}

/// Where conversations go that look so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Route {
    pub when: Vec<Condition>,
    /// Unless the visitor chose one; `None`: one of the teams that share the rest. A route to a team that is no more is passed over.
    pub team: Option<TeamId>,
    /// Ascending.
    pub skills: Vec<String>,
    pub priority: u8,
}

/// What a fact must be.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Condition {
    pub fact: String,
    pub test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Test {
    /// One of these. Ascending.
    Is(Vec<String>),
    StartsWith(String),
    Contains(String),
}

/// Whether a seat is given conversations. Clients know it by the same words, in lower case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeatState {
    /// No socket.
    #[default]
    Offline,
    Online,
    /// Here, and takes nothing new for now.
    Busy,
    /// Not at the desk, or missed an offer.
    Away,
}
