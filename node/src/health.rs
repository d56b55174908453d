//! Owns what a load balancer and Prometheus ask. Does not decide health: the cluster does.
//! Invariant: live means that the process answers; ready means that clients can be served now.

use crate::gateway::retry_after;
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::Data;
use std::sync::atomic::Ordering;

/// How soon an answer of "not ready" is worth asking again, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;

pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "live": true }))
}

/// Why clients cannot be served now; empty: they can.
fn unready(app: &App) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if app.draining.load(Ordering::Acquire) {
        reasons.push("this node is going away");
    }
    if !app.cluster.is_ready() {
        reasons.push("not every shard has a leader that this node can reach and that a majority answers");
    }
    reasons
}

pub async fn ready(app: Data<App>) -> HttpResponse {
    let reasons = unready(&app);
    if reasons.is_empty() {
        return HttpResponse::Ok().json(serde_json::json!({ "ready": true, "reasons": reasons }));
    }
    let body = serde_json::json!({ "ready": false, "reasons": reasons, "retry_after_ms": ASK_AGAIN_MS });
    HttpResponse::ServiceUnavailable().insert_header(retry_after(ASK_AGAIN_MS)).json(body)
}

pub async fn metrics(app: Data<App>) -> HttpResponse {
    // What is true now, not at the last change: read when it is asked for.
    crate::figures::refresh(&app).await;
    metrics::gauge!("chat_cluster_ready_count").set(f64::from(u8::from(unready(&app).is_empty())));
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(app.metrics.render())
}
