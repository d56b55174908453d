//! Owns telling visitors who wait where they stand in the queue. Does not know the queue: the leader of the site's desk does.
//! Invariant: a node asks about the visitors that it has sockets of, and about nobody twice at a time.

use super::hub::Hub;
use crate::connection::{Socket, Who};
use crate::desk::PLACES_MAX;
use parking_lot::Mutex;
use proto::client::{Place, Reply, ServerFrame};
use proto::command::Target;
use proto::ids::{SessionId, SiteId};
use proto::peer::{PlaceInQueue, ShardCall, ShardReply};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Sockets of visitors who may wait, by number.
#[derive(Default)]
pub struct Places {
    sockets: Mutex<BTreeMap<u64, Weak<Socket>>>,
}

impl Places {
    /// Those who wait, by site; the others are forgotten.
    fn waiting(&self) -> BTreeMap<SiteId, Vec<(SessionId, Arc<Socket>)>> {
        let mut by_site: BTreeMap<SiteId, Vec<(SessionId, Arc<Socket>)>> = BTreeMap::new();
        self.sockets.lock().retain(|_, socket| {
            let Some(socket) = socket.upgrade() else { return false };
            let (stays, found) = socket.with(|state| {
                let found = match state.who {
                    Some(Who::Visitor { session, site, .. }) if state.waits(session) => Some((site, session)),
                    _ => None,
                };
                // Until the welcome is out nobody knows whose it is.
                let stays = !state.closed && (found.is_some() || state.who.is_none());
                // Under this lock: who begins to wait a moment later is put here again.
                state.place_watched = stays;
                (stays, found)
            });
            if let Some((site, session)) = found.filter(|_| stays) {
                by_site.entry(site).or_default().push((session, socket));
            }
            stays
        });
        by_site
    }
}

impl Hub {
    /// Looks from now on, if the visitor of the socket waits.
    pub fn watch_place(&self, socket: &Socket, session: SessionId) {
        let begins = socket.with(|state| {
            let is_agent = matches!(state.who, Some(Who::Agent { .. }));
            let begins = !state.place_watched && !is_agent && state.waits(session);
            state.place_watched |= begins;
            begins
        });
        if begins && let Some(socket) = socket.arc() {
            self.places.sockets.lock().insert(socket.number, Arc::downgrade(&socket));
        }
    }

    /// Looks until the hub is gone.
    pub fn watch_places(self: &Arc<Self>) {
        let hub = Arc::downgrade(self);
        self.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(hub) = hub.upgrade() else { return };
                hub.look_at_places().await;
            }
        });
    }

    async fn look_at_places(&self) {
        for (site, waiting) in self.places.waiting() {
            for some in waiting.chunks(PLACES_MAX) {
                let Some(router) = self.router() else { return };
                let sessions = some.iter().map(|(session, _)| *session).collect();
                let asked = router.call(router.shard_of(Target::Desk(site)), ShardCall::Places { site, sessions });
                // Nobody is told where they stand while nobody knows.
                let Ok(ShardReply::Places(places)) = tokio::time::timeout(LOOK_EVERY, asked).await else { break };
                let places: HashMap<SessionId, PlaceInQueue> =
                    places.into_iter().map(|place| (place.session, place)).collect();
                for (session, socket) in some {
                    if let Some(place) = places.get(session) {
                        tell(socket, *place);
                    }
                }
            }
        }
    }
}

fn tell(socket: &Socket, PlaceInQueue { session, position, wait_ms, opens_ms: opens }: PlaceInQueue) {
    let told = socket.with(|state| {
        let welcomed = state.welcomed;
        let sub = state.subscription(session).filter(|sub| welcomed && sub.cursor.is_some());
        if !sub.is_some_and(|sub| sub.moves_to((position, wait_ms.is_some(), opens))) {
            return None;
        }
        let body = Reply::Place(Place { session, position, wait_ms, opens });
        Some(state.write(ServerFrame { id: None, body }.to_json()))
    });
    told.into_iter().for_each(|fits| socket.written(fits));
}
