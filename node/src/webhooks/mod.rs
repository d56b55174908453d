//! Owns the delivery of a site's events to other systems. Does not decide what goes out next: `chat::courier` does, out of the log.
//! Invariant: for each webhook and shard one courier runs, at the shard's leader.

/// One webhook in one shard.
mod courier;

/// What proves where a delivery comes from.
mod signature;

pub use signature::{SECRET_BYTES, secret_text};

use crate::breaker::Breaker;
use crate::egress::{Allowed, Egress};
use crate::push::Hub;
use cluster::meta::WebhookRow;
use cluster::node::ClusterNode;
use cluster::router::ReplyTo;
use cluster::shard::Shard;
use parking_lot::Mutex;
use proto::command::Command;
use proto::ids::{Epoch, ShardId, WebhookId};
use proto::peer::ShardReply;
use proto::webhook::WebhookChange;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Between two looks at which webhooks there are and who leads.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Deliveries under way from this node to one webhook.
const IN_FLIGHT_MAX: usize = 8;
/// Longest wait for the meta group, before something counts as removed.
const META_WITHIN: Duration = Duration::from_secs(3);

/// A webhook as this node calls it, whichever shard the events are from.
struct Target {
    id: WebhookId,
    row: WebhookRow,
    site: String,
    /// It knows the secrets of now.
    node: Weak<ClusterNode>,
    breaker: Mutex<Breaker>,
    in_flight: Semaphore,
    egress: Arc<Egress>,
}

/// A courier that runs; dropping it ends it.
struct Running {
    epoch: Epoch,
    target: Arc<Target>,
    _end: DropGuard,
}

/// Sees to it that every webhook has its couriers, until the node is gone.
pub async fn watch(hub: Weak<Hub>, allowed: Arc<Allowed>) {
    let mut targets: BTreeMap<WebhookId, Arc<Target>> = BTreeMap::new();
    let mut running: BTreeMap<(ShardId, WebhookId), Running> = BTreeMap::new();
    let mut egress = None;
    let mut forgotten = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(hub) = hub.upgrade() else { return };
        let Some(node) = hub.node() else { continue };
        let known = node.with_meta(|state| {
            let row = |(id, row): (&WebhookId, &WebhookRow)| {
                let site = state.sites.get(&row.site)?.name.clone();
                Some((*id, (row.clone(), site, state.webhook_secrets.contains_key(id))))
            };
            state.webhooks.iter().filter_map(row).collect::<BTreeMap<_, _>>()
        });
        let Some(known) = known else { continue };
        let led = led(&node);
        // Shards are asked what they know only when that may be too much: it reads their rows.
        let now: Standing =
            (known.keys().copied().collect(), led.iter().map(|(id, (_, epoch))| (*id, *epoch)).collect());
        if forgotten.as_ref() != Some(&now) {
            forgotten = forget_removed(&node, &led, &now.0).await.then_some(now);
        }
        if known.is_empty() && running.is_empty() {
            continue;
        }
        let sender = match &egress {
            Some(sender) => Arc::clone(sender),
            None => match Egress::new(allowed.clone()) {
                Ok(sender) => egress.insert(Arc::new(sender)).clone(),
                Err(error) => {
                    tracing::error!(error, "webhooks cannot be called from this node");
                    continue;
                }
            },
        };
        targets.retain(|id, target| {
            known.get(id).is_some_and(|(row, _, has_secret)| *row == target.row && row.rules.on && *has_secret)
        });
        for (id, (row, site, has_secret)) in known {
            if row.rules.on && has_secret && !targets.contains_key(&id) {
                let (breaker, in_flight) = (Mutex::default(), Semaphore::new(IN_FLIGHT_MAX));
                let (egress, node) = (sender.clone(), Arc::downgrade(&node));
                targets.insert(id, Arc::new(Target { id, row, site, node, breaker, in_flight, egress }));
            }
        }
        run(&hub, &led, &targets, &mut running);
    }
}

/// How far the shard has come with a webhook, with everything acknowledged before.
pub async fn state(shard: &Arc<Shard>, webhook: WebhookId) -> ShardReply {
    match shard.read(|state, rows| state.webhook(rows, webhook)).await {
        Err(reply) => reply,
        Ok(Err(error)) => shard.halt(&error.to_string()),
        Ok(Ok((state, head))) => ShardReply::Webhook { state, head },
    }
}

/// Ends the couriers that have no place here any more, and starts those that are missing.
fn run(
    hub: &Hub,
    led: &Led,
    targets: &BTreeMap<WebhookId, Arc<Target>>,
    running: &mut BTreeMap<(ShardId, WebhookId), Running>,
) {
    running.retain(|(shard, id), courier| {
        led.get(shard).is_some_and(|(_, epoch)| *epoch == courier.epoch)
            && targets.get(id).is_some_and(|target| Arc::ptr_eq(target, &courier.target))
    });
    for (shard, epoch) in led.values() {
        for (id, target) in targets {
            running.entry((shard.id, *id)).or_insert_with(|| {
                let end = CancellationToken::new();
                let ends = end.clone();
                let courier = courier::run(shard.clone(), *epoch, target.clone());
                hub.spawn(async move {
                    tokio::select! {
                        () = ends.cancelled() => {}
                        () = courier => {}
                    }
                });
                Running { epoch: *epoch, target: target.clone(), _end: end.drop_guard() }
            });
        }
    }
}

/// Shards that this node leads.
type Led = BTreeMap<ShardId, (Arc<Shard>, Epoch)>;
/// Which webhooks there are, and who leads.
type Standing = (BTreeSet<WebhookId>, BTreeMap<ShardId, Epoch>);

fn led(node: &ClusterNode) -> Led {
    let serving = |shard: Arc<Shard>| Some((shard.id, (shard.clone(), shard.serving()?)));
    node.router.locals().into_iter().filter_map(serving).collect()
}

/// Shards forget what they know of webhooks that are gone; true when there was nothing to forget.
async fn forget_removed(node: &ClusterNode, led: &Led, known: &BTreeSet<WebhookId>) -> bool {
    let (mut gone, mut is_clear) = (Vec::new(), true);
    for (shard, _) in led.values() {
        match shard.peek(|state, rows| state.webhooks(rows)) {
            Ok(held) => gone.extend(held.into_iter().filter(|id| !known.contains(id)).map(|id| (shard.clone(), id))),
            Err(_) => is_clear = false,
        }
    }
    // One that is not known here may be new.
    if gone.is_empty() || !node.meta_catch_up(META_WITHIN).await {
        return is_clear && gone.is_empty();
    }
    for (shard, webhook) in gone {
        if node.with_meta(|state| !state.webhooks.contains_key(&webhook)) == Some(true) {
            shard.propose(&Command::Webhook { webhook, change: WebhookChange::End }, ReplyTo::Nobody);
        }
    }
    // What became of it the next look shows.
    false
}
