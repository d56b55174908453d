//! Owns what an operator does: gives conversations to other agents, by chance, and now and then erases a visitor. Does not look at the outcome.
//! Invariant: each move is in the book before it leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proto::ids::SessionId;

use super::client::name;
use super::ways::{Answer, Ways, node};
use super::{Dice, Room};
use crate::history::{AgentId, Body, ClientId, What, Who};

/// Moves for one erasure.
const ERASES_ONCE_IN: u64 = 24;
/// Sessions for one that is erased at most: what is erased is not judged by much.
const SESSIONS_PER_ERASED: usize = 20;

/// Erases a visitor, who goes.
async fn erase<W: Ways>(room: &Room<W>, client: ClientId, session: SessionId, dice: &mut Dice) {
    let visitor = room.visitors.lock().get(&session).copied();
    let is_enough = room.erased.lock().len() >= room.shape.visitors.div_ceil(SESSIONS_PER_ERASED);
    let Some(visitor) = visitor.filter(|_| !is_enough && !room.is_erased(session)) else { return };
    room.erased.lock().insert(session);
    let op = room.book.invoke(client, What::Erase { session: name(session) });
    room.book.record(match room.ways.erase(node(&room.ways, dice.below(64)), session, visitor).await {
        Answer::Ok(()) => Body::Ok { op, result: None },
        Answer::Refused(code) => Body::Fail { op, code },
        Answer::Unknown(why) => Body::Unknown { op, why },
    });
}

pub(super) async fn run<W: Ways>(room: Arc<Room<W>>) -> anyhow::Result<()> {
    let mut dice = Dice::new(room.shape.seed, 900_000);
    let client = ClientId(room.clients.fetch_add(1, Ordering::Relaxed) + 1);
    room.book.record(Body::Client { client, who: Who::Operator });
    if let Some(accept_within) = room.shape.accept_within {
        for turn in 0.. {
            if room.is_over()
                || matches!(room.ways.set_team(node(&room.ways, turn), accept_within).await, Answer::Ok(()))
            {
                break;
            }
            tokio::time::sleep(dice.pause(room.shape.move_every)).await;
        }
    }
    while !room.is_over() {
        tokio::time::sleep(dice.pause(room.shape.move_every)).await;
        let session = { room.sessions.lock().get(dice.below(room.shape.visitors)).copied() };
        let agent = { room.agents.lock().get(dice.below(room.shape.agents)).copied() };
        let (Some(session), Some(agent)) = (session, agent) else { continue };
        if dice.once_in(ERASES_ONCE_IN) {
            erase(&room, client, session, &mut dice).await;
            continue;
        }
        let to = AgentId::from(agent.to_string().as_str());
        let op = room.book.invoke(client, What::Move { session: name(session), agent: to });
        room.book.record(match room.ways.move_session(node(&room.ways, dice.below(64)), session, agent).await {
            Answer::Ok(()) => Body::Ok { op, result: None },
            Answer::Refused(code) => Body::Fail { op, code },
            Answer::Unknown(why) => Body::Unknown { op, why },
        });
    }
    Ok(())
}
