//! Owns the list of everything measured, with units and buckets. Does not measure.
//! Invariant: every name that the workspace emits is declared here, and no label is unbounded.

use metrics::Unit;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of every histogram of seconds: 50 us to 10 s.
const SECONDS: [f64; 18] = [
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
    10.0,
];
/// Upper bounds of every histogram of counts.
const COUNTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

/// Kind, name, unit and meaning, along the way of a message.
const METRICS: &[(Kind, &str, Unit, &str)] = &[
    (Gauge, "chat_active_connections", Unit::Count, "Open client sockets of this node"),
    (Counter, "chat_connections_opened_total", Unit::Count, "Client sockets that said hello"),
    (Counter, "chat_connections_dropped_total", Unit::Count, "Client sockets closed because they read too slowly"),
    (Counter, "chat_errors_sent_total", Unit::Count, "Error frames sent to clients, by code"),
    (Histogram, "chat_message_process_seconds", Unit::Seconds, "From a send's last byte to its ack, at the gateway"),
    (Histogram, "chat_stage_decode_seconds", Unit::Seconds, "Stage 1: reading a client frame"),
    (
        Histogram,
        "chat_stage_route_seconds",
        Unit::Seconds,
        "Stage 2: from the frame to the session's actor at the leader",
    ),
    (Histogram, "chat_stage_propose_seconds", Unit::Seconds, "Stage 3: waiting for the shard's next entry"),
    (Histogram, "chat_stage_fsync_seconds", Unit::Seconds, "Stage 4: writing and syncing the log on this node"),
    (Histogram, "chat_stage_commit_seconds", Unit::Seconds, "Stage 5: from the entry's proposal to its commit"),
    (Histogram, "chat_stage_apply_seconds", Unit::Seconds, "Stage 6: applying a round of entries"),
    (Histogram, "chat_stage_push_seconds", Unit::Seconds, "Stage 7: from apply to the subscribers' sockets"),
    (Histogram, "chat_router_call_seconds", Unit::Seconds, "A call to a shard's leader, repeats included"),
    (Histogram, "chat_proposer_batch_messages_count", Unit::Count, "Commands per log entry"),
    (Counter, "chat_storage_fsyncs_total", Unit::Count, "Synced writes of the log"),
    (Histogram, "chat_storage_batch_appends_count", Unit::Count, "Appends of all shards per synced write"),
    (Gauge, "chat_session_actors_count", Unit::Count, "Session actors at the shards that this node leads"),
    (Gauge, "chat_agent_actors_count", Unit::Count, "Agent actors at the shards that this node leads"),
    (
        Counter,
        "chat_session_panics_total",
        Unit::Count,
        "Session actors and their reads that ended by a fault of this program; nothing stored is lost by it",
    ),
    (
        Counter,
        "chat_push_dropped_total",
        Unit::Count,
        "Pushes to another node that were dropped; subscribers repair by cursor",
    ),
    (Counter, "chat_gateway_visitors_total", Unit::Count, "Visitors created here"),
    (Counter, "chat_attachments_kept_total", Unit::Count, "Files that were uploaded here and are whole in their shard"),
    (Counter, "chat_attachments_read_total", Unit::Count, "Files and thumbnails that were read here"),
    (Counter, "chat_attachments_refused_total", Unit::Count, "Uploads that were sent away because there were too many"),
    (Histogram, "chat_attachment_keep_seconds", Unit::Seconds, "From an upload's last byte to its answer"),
    (Counter, "chat_gateway_logins_total", Unit::Count, "Agent logins here, by outcome"),
    (Gauge, "chat_desk_waiting_count", Unit::Count, "Conversations that wait for an agent, at the desks led here"),
    (Gauge, "chat_desk_assigned_count", Unit::Count, "Conversations that have an agent, at the desks led here"),
    (Gauge, "chat_desk_agents_online_count", Unit::Count, "Agents that are online, at the desks led here"),
    (Counter, "chat_webhook_deliveries_total", Unit::Count, "Deliveries to webhooks that were tried, by result"),
    (Histogram, "chat_webhook_delivery_seconds", Unit::Seconds, "From a delivery's beginning to the receiver's answer"),
    (Counter, "chat_webhook_given_up_total", Unit::Count, "Events that became dead letters"),
    (
        Counter,
        "chat_webhook_missed_total",
        Unit::Count,
        "Events that were not kept for as long as a webhook was behind",
    ),
    (
        Counter,
        "chat_archive_moved_total",
        Unit::Count,
        "Sessions whose old events went to the archive, or were cut there",
    ),
    (Counter, "chat_archive_plain_bytes_total", Unit::Bytes, "Events that were moved, before they were compressed"),
    (Counter, "chat_archive_object_bytes_total", Unit::Bytes, "The same as they were written"),
    (Counter, "chat_archive_files_moved_total", Unit::Count, "Files whose bytes went to the archive"),
    (Counter, "chat_archive_file_bytes_total", Unit::Bytes, "Their bytes"),
    (
        Counter,
        "chat_archive_fetched_total",
        Unit::Count,
        "Objects, and parts of files, that were fetched from the archive, by result",
    ),
    (Histogram, "chat_archive_fetch_seconds", Unit::Seconds, "How long it took to fetch one"),
    (Counter, "chat_archive_lost_total", Unit::Count, "Objects that the archive should have and does not"),
    (Counter, "chat_archive_deleted_total", Unit::Count, "Objects that were deleted from the archive"),
    (Counter, "chat_email_sent_total", Unit::Count, "E-mails that were tried, by result"),
    (Histogram, "chat_email_send_seconds", Unit::Seconds, "From an e-mail's beginning to the server's answer"),
    (Gauge, "chat_email_waiting_count", Unit::Count, "E-mails that wait, in the shards led here"),
    (Gauge, "chat_email_dead_count", Unit::Count, "E-mails that could not be delivered, in the shards led here"),
    (Counter, "chat_email_given_up_total", Unit::Count, "E-mails that were given up"),
    (
        Counter,
        "chat_email_missed_total",
        Unit::Count,
        "Events that were not kept for as long as nobody looked what is to be e-mailed",
    ),
    (Counter, "chat_retention_erased_total", Unit::Count, "Times that what was too old was erased from a session"),
    (
        Counter,
        "chat_audit_untold_total",
        Unit::Count,
        "Outcomes and refusals of administrative acts that the audit log does not hear of",
    ),
    (
        Counter,
        "chat_audit_refusals_passed_over_total",
        Unit::Count,
        "Requests without rights that the audit log is not told of, because there were too many",
    ),
    (Histogram, "chat_search_seconds", Unit::Seconds, "A search of one shard, at its leader"),
    (
        Gauge,
        "chat_search_behind_count",
        Unit::Count,
        "Events that the search index furthest behind here does not know yet",
    ),
    (Counter, "chat_search_errors_total", Unit::Count, "Failures of search indexes here; each is tried again"),
    (Counter, "chat_search_rebuilds_total", Unit::Count, "Search indexes that were thrown away here and built anew"),
    (Gauge, "chat_cluster_shards_count", Unit::Count, "Shards of the cluster, with the meta group"),
    (
        Gauge,
        "chat_cluster_shards_led_count",
        Unit::Count,
        "Shards that this node leads and serves, with the meta group",
    ),
    (
        Gauge,
        "chat_cluster_shards_leaderless_count",
        Unit::Count,
        "Shards, with the meta group, of which this node knows no leader",
    ),
    (
        Gauge,
        "chat_cluster_lag_max_count",
        Unit::Count,
        "Log entries that the slowest replica of the shards led here is behind",
    ),
    (
        Gauge,
        "chat_cluster_nodes_up_count",
        Unit::Count,
        "Nodes of the cluster that this node has a link to, and itself",
    ),
    (Gauge, "chat_cluster_nodes_down_count", Unit::Count, "Nodes of the cluster that this node has no link to"),
    (Gauge, "chat_cluster_nodes_dead_count", Unit::Count, "Nodes that counted as dead when this node last heard of it"),
    (Gauge, "chat_cluster_ready_count", Unit::Count, "1 when this node is ready, 0 when not"),
];

/// Handles of the hot path: looking a name up per message would cost more than recording it.
pub struct StageMetrics {
    pub decode: metrics::Histogram,
    pub route: metrics::Histogram,
    pub process: metrics::Histogram,
}

impl StageMetrics {
    pub fn new() -> Self {
        StageMetrics {
            decode: metrics::histogram!("chat_stage_decode_seconds"),
            route: metrics::histogram!("chat_stage_route_seconds"),
            process: metrics::histogram!("chat_message_process_seconds"),
        }
    }
}

impl Default for StageMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Installs the recorder for the whole process. The caller runs `run_upkeep` every few seconds, or histograms grow.
/// # Errors
/// A recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_count".into()), &COUNTS)?
        .install_recorder()?;
    for (kind, name, unit, help) in METRICS {
        // Registered as well as described: a figure that is still zero is shown all the same.
        match kind {
            Counter => {
                metrics::describe_counter!(*name, *unit, *help);
                metrics::counter!(*name).absolute(0);
            }
            Gauge => {
                metrics::describe_gauge!(*name, *unit, *help);
                metrics::gauge!(*name).set(0.0);
            }
            Histogram => {
                metrics::describe_histogram!(*name, *unit, *help);
                drop(metrics::histogram!(*name));
            }
        }
    }
    Ok(handle)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
