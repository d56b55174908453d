//! Owns e-mails: which are written about what, and their way to an SMTP server. Does not keep those that wait: each shard does. Invariant:
//! for each shard one postman runs, at the shard's leader, and what it knows the log knows.

/// From the feed to e-mails that wait, and from there to the server.
mod postman;

/// What stands in an e-mail.
mod compose;
mod texts;

/// To the server.
mod sender;

/// Whether a visitor has a page open.
mod present;

/// What visitors and browsers ask for.
mod visitors;

pub use compose::{Site, address, test};
pub use present::on_this_node;
pub use sender::{Mailer, SmtpSettings};
pub use visitors::{Downloads, configure, order, site_of};

use crate::push::Hub;
use cluster::shard::Shard;
use proto::ids::{Epoch, ShardId, SiteId};
use proto::peer::ShardReply;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Between two looks at who leads.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// E-mails of one answer.
const LIST_MAX: usize = 1_000;

/// Sees to it that every shard which this node leads has its postman, until the node is gone. `mailer`: `None`: this node sends nothing.
pub async fn watch(hub: Weak<Hub>, mailer: Option<Arc<Mailer>>) {
    let Some(mailer) = mailer else { return };
    let mut running: BTreeMap<ShardId, (Epoch, DropGuard)> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let mut led: BTreeMap<ShardId, (Arc<Shard>, Epoch)> = BTreeMap::new();
        for shard in node.router.locals() {
            if let Some(epoch) = shard.serving() {
                led.insert(shard.id, (shard, epoch));
            }
        }
        running.retain(|shard, (epoch, _)| led.get(shard).is_some_and(|(_, now)| now == epoch));
        let (mut waiting, mut dead) = (0, 0);
        for (shard, epoch) in led.into_values() {
            if let Ok((more, gone)) = shard.peek(|state, rows| state.emails_count(rows)) {
                (waiting, dead) = (waiting + more, dead + gone);
            }
            running.entry(shard.id).or_insert_with(|| {
                let end = CancellationToken::new();
                let ends = end.clone();
                let postman = postman::run(shard, epoch, Arc::downgrade(&hub), mailer.clone());
                hub.spawn(async move {
                    tokio::select! {
                        () = ends.cancelled() => {}
                        () = postman => {}
                    }
                });
                (epoch, end.drop_guard())
            });
        }
        metrics::gauge!("chat_email_waiting_count").set(waiting as f64);
        metrics::gauge!("chat_email_dead_count").set(dead as f64);
    }
}

/// What waits of a site's e-mails in the shard, with everything acknowledged before.
pub async fn waiting(shard: &Arc<Shard>, site: SiteId, limit: u32) -> ShardReply {
    let limit = (limit as usize).min(LIST_MAX);
    match shard.read(|state, rows| state.emails(rows, site, limit)).await {
        Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
        Ok(Ok((emails, total))) => ShardReply::Emails { emails, total },
    }
}
