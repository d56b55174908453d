//! Owns what a visitor does: writes, reads, goes away, comes back on another device. Does not look at the outcome.
//! Invariant: one session for the whole run, whatever the devices.

use std::sync::Arc;
use std::time::Duration;

use proto::client::Party;
use proto::client::http::VisitorCreated;

use super::client::{Client, name};
use super::deeds::Deeds;
use super::ways::{Answer, Ways, node};
use super::{Dice, Room};
use crate::history::Who;

/// Sends that may wait for their acks; the next one waits for them.
const UNDER_WAY_MAX: usize = 4;
/// Pause before another try to get in.
const COME_AGAIN_AFTER: Duration = Duration::from_millis(300);

pub(super) async fn run<W: Ways>(room: Arc<Room<W>>, number: usize) -> anyhow::Result<()> {
    let mut dice = Dice::new(room.shape.seed, 1_000 + number as u64);
    let Some(me) = come(&room, number).await else { return Ok(()) };
    let session = me.session;
    room.tokens.lock().insert(session, me.token.clone());
    room.visitors.lock().insert(session, me.visitor);
    let mut deeds = Deeds::default();
    room.sessions.lock().push(session);
    for device in 0.. {
        let who = Who::Visitor(name(session));
        let mut client = Client::start(
            room.clone(),
            number + device,
            who,
            Party::Visitor(me.visitor),
            me.token.clone(),
            Some(session),
        );
        loop {
            tokio::time::sleep(dice.pause(room.shape.pace)).await;
            while let Ok(event) = client.unseen.try_recv() {
                deeds.saw(&event, Party::Visitor(me.visitor));
            }
            if room.is_erased(session) {
                client.die().await;
                return Ok(());
            }
            if room.is_over() {
                client.finish().await;
                return Ok(());
            }
            if client.under_way() >= UNDER_WAY_MAX {
                continue;
            }
            match dice.below(400) {
                0..270 => client.send(session).await,
                270..300 => {
                    if let Some(deed) = deeds.choose(session, &mut dice) {
                        client.act(session, deed).await;
                    }
                }
                300..340 => {
                    let head = client.head(session);
                    client.cursor(session, Some(head), dice.once_in(2).then_some(head));
                }
                340..370 => {
                    let back = dice.below(30) as u64;
                    client.history(session, client.head(session).saturating_sub(back), 100);
                }
                370..378 => client.close(session),
                378..395 => client.hop().await,
                395..398 => break,
                _ => tokio::time::sleep(room.shape.pace * 10).await,
            }
        }
        client.die().await;
    }
    Ok(())
}

/// Gets a session, as often as it takes.
async fn come<W: Ways>(room: &Room<W>, number: usize) -> Option<VisitorCreated> {
    for turn in number.. {
        if room.is_over() {
            break;
        }
        // A visitor whose creation got no answer is nobody: its token is lost.
        if let Answer::Ok(created) = room.ways.create_visitor(node(&room.ways, turn)).await {
            return Some(created);
        }
        tokio::time::sleep(COME_AGAIN_AFTER).await;
    }
    None
}
