//! Owns what an agent does: answers, reads, closes, loses its connection. Does not look at the outcome.
//! Invariant: it acts in sessions only because it was told of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proto::client::http::LoggedIn;
use proto::client::{EventKind, Party, SeatState};
use proto::ids::SessionId;

use super::client::Client;
use super::deeds::Deeds;
use super::ways::{Answer, Ways, node};
use super::{Dice, Room};
use crate::history::{AgentId, Who};

/// Sends that may wait for their acks.
const UNDER_WAY_MAX: usize = 8;
/// Conversations of an agent at once, where they are asked.
const CAPACITY: u32 = 12;
const COME_AGAIN_AFTER: Duration = Duration::from_millis(300);

pub(super) async fn run<W: Ways>(room: Arc<Room<W>>, number: usize) -> anyhow::Result<()> {
    let mut dice = Dice::new(room.shape.seed, 500_000 + number as u64);
    let Some(me) = come(&room, number).await else { return Ok(()) };
    room.agents.lock().push(me.agent);
    room.agent_token.lock().get_or_insert_with(|| me.clone());
    let mut deeds = Deeds::default();
    let who = || Who::Agent(AgentId::from(me.agent.to_string().as_str()));
    let start =
        |turn: usize| Client::start(room.clone(), number + turn, who(), Party::Agent(me.agent), me.token.clone(), None);
    let mut client = start(0);
    // Sessions that it was told of, with the newest seq; those that ended too: late answers must be refused, not lost.
    let mut known = BTreeMap::<SessionId, u64>::new();
    for turn in 1.. {
        tokio::time::sleep(dice.pause(room.shape.pace)).await;
        while let Ok(event) = client.unseen.try_recv() {
            deeds.saw(&event, Party::Agent(me.agent));
            if matches!(event.kind, EventKind::Closed { .. } | EventKind::Queued { .. }) && !dice.once_in(8) {
                known.remove(&event.session);
            } else {
                known.insert(event.session, event.seq);
            }
        }
        if room.is_over() {
            client.finish().await;
            return Ok(());
        }
        if room.shape.accept_within.is_some() {
            at_desk(&mut client, &mut dice);
        }
        if room.shape.accept_within.is_some()
            && dice.once_in(60)
            && let Some(session) = known.keys().next_back()
        {
            client.give_back(*session);
        }
        let Some((session, head)) = known.iter().nth(dice.below(known.len())).map(|(session, head)| (*session, *head))
        else {
            continue;
        };
        if client.under_way() >= UNDER_WAY_MAX {
            continue;
        }
        match dice.below(400) {
            0..240 => client.send(session).await,
            240..262 => {
                if let Some(deed) = deeds.choose(session, &mut dice) {
                    client.act(session, deed).await;
                }
            }
            262..280 => client.act(session, Deeds::among_agents(&mut dice)).await,
            280..320 => client.cursor(session, Some(head), dice.once_in(2).then_some(head)),
            320..340 => client.history(session, head.saturating_sub(dice.below(30) as u64), 100),
            340..375 => client.close(session),
            375..395 => client.hop().await,
            395..397 => {
                client.die().await;
                client = start(turn);
            }
            _ => tokio::time::sleep(room.shape.pace * 10).await,
        }
    }
    Ok(())
}

/// Answers most of what is offered, comes back from a break, and now and then takes one out of its turn or a break.
fn at_desk<W: Ways>(client: &mut Client<W>, dice: &mut Dice) {
    if client.under_way() >= UNDER_WAY_MAX {
        return;
    }
    let Some(seat) = client.seat() else { return };
    for offer in seat.offers {
        match dice.below(16) {
            0 => client.answer(offer, false),
            // Lets it pass.
            1..4 => {}
            _ => client.answer(offer, true),
        }
    }
    if seat.state != SeatState::Online && dice.once_in(3) {
        client.say_state(SeatState::Online);
    } else if dice.once_in(40) {
        client.say_state(if dice.once_in(2) { SeatState::Busy } else { SeatState::Away });
    }
    if dice.once_in(20) {
        client.take();
    }
}

async fn come<W: Ways>(room: &Room<W>, number: usize) -> Option<LoggedIn> {
    let agent = format!("agent-{number}");
    let mut is_known = false;
    for turn in number.. {
        if room.is_over() {
            break;
        }
        let node = node(&room.ways, turn);
        if !is_known {
            // Refused: an earlier try without an answer was done.
            is_known = matches!(room.ways.add_agent(node, &agent).await, Answer::Ok(()) | Answer::Refused(_));
        }
        if is_known && let Answer::Ok(logged_in) = room.ways.log_in(node, &agent).await {
            let is_seated = room.shape.accept_within.is_none()
                || matches!(room.ways.set_seat(node, logged_in.agent, CAPACITY).await, Answer::Ok(()));
            if is_seated {
                return Some(logged_in);
            }
        }
        tokio::time::sleep(COME_AGAIN_AFTER).await;
    }
    None
}
