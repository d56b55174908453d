//! Owns what the fuzz targets ask of the admin API's own parsers. Does not serve the product. Invariant: bytes go through the types
//! that the routes name.

use super::accounts::{AgentsQuery, NewAgent, NewSite, SitesQuery, id_of};
use super::ask::Ask;
use super::backups::NewBackup;
use super::drills::DrillBody;
use super::log::LogBody;
use super::move_session::{MoveSession, Seat};
use super::nodes::{MoveBody, NodeStateBody};
use super::problem::Problem;
use super::profile::{CpuQuery, HeapQuery};
use super::sessions::{SessionView, SessionsFound, SessionsQuery, known};
use super::settings::{SettingBody, check};
use super::shards::{Held, LeaderBody};
use super::sockets::{Sockets, SocketsQuery};
use super::tokens::NewToken;
use actix_web::web::Query;
use proto::ids::{AgentId, NodeId, ReplicaId, SessionId, ShardId, SiteId, VisitorId};
use serde::de::DeserializeOwned;

/// A query string, the parts of a path, the password in a header; each read as every route reads it.
pub fn text(text: &str) {
    let _ = Query::<SessionsQuery>::from_query(text);
    let _ = Query::<SitesQuery>::from_query(text);
    let _ = Query::<AgentsQuery>::from_query(text);
    let _ = Query::<SocketsQuery>::from_query(text);
    let _ = Query::<CpuQuery>::from_query(text);
    let _ = Query::<HeapQuery>::from_query(text);
    let _ = known(text);
    ids(text);
    let _ = super::guard::password_of(text);
    if let Some((name, value)) = text.split_once('=') {
        let _ = check(name, value);
    }
}

/// An id that can be read is written as it was read: there is one text for each.
fn ids(text: &str) {
    fn one<T: std::str::FromStr + std::fmt::Display>(text: &str) {
        if let Ok(Some(id)) = id_of::<T>("after", Some(text)) {
            assert_eq!(id.to_string(), text);
        }
    }
    one::<AgentId>(text);
    one::<NodeId>(text);
    one::<ReplicaId>(text);
    one::<SessionId>(text);
    one::<ShardId>(text);
    one::<SiteId>(text);
    one::<VisitorId>(text);
}

/// A body of a route, or what one node asks or tells another.
pub fn json(bytes: &[u8]) {
    fn read<T: DeserializeOwned>(bytes: &[u8]) {
        let _ = serde_json::from_slice::<T>(bytes);
    }
    read::<NewSite>(bytes);
    read::<NewAgent>(bytes);
    read::<NewBackup>(bytes);
    read::<DrillBody>(bytes);
    read::<LogBody>(bytes);
    read::<MoveSession>(bytes);
    read::<NodeStateBody>(bytes);
    read::<MoveBody>(bytes);
    read::<SettingBody>(bytes);
    read::<LeaderBody>(bytes);
    read::<NewToken>(bytes);
    read::<Result<serde_json::Value, Problem>>(bytes);
    read::<SessionsFound>(bytes);
    read::<SessionView>(bytes);
    read::<Vec<Held>>(bytes);
    read::<Seat>(bytes);
    read::<Sockets>(bytes);
    if let Ok(asked) = serde_json::from_slice::<Ask>(bytes) {
        let written = serde_json::to_vec(&asked).expect("a question is plain data");
        assert!(serde_json::from_slice::<Ask>(&written).is_ok(), "a question is read as it was written");
    }
}
