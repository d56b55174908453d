//! Owns reading the audit log: operators read their chain and those of sites, sites read theirs. Does not check it: whoever has it does, for
//! the node that answers may be the one that lies. Invariant: a page holds every text that its hashes are made of.

use super::problem::Problem;
use super::sessions::call_shard;
use super::{Answer, Tenant, accounts, unexpected};
use crate::audit::verify::{EntryView, PointView};
use crate::run::App;
use actix_web::web::{Data, Json, Query};
use proto::audit::{AuditLine, AuditPage, ChainPoint, OPERATORS, chain_name, hex};
use proto::command::Target;
use proto::ids::SiteId;
use proto::peer::{ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// The seq of the last entry of the page before.
    #[param(nullable = false)]
    after: Option<u64>,
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// What the chain is called in its hashes.
    #[schema(example = "site1")]
    pub chain: String,
    /// The last entry that is not kept any more; seq 0: all are.
    pub cut: PointView,
    /// The newest entry.
    pub head: PointView,
    /// Oldest first. A page may be shorter than asked for, and yet not the last: go on until `head`.
    pub entries: Vec<EntryView>,
}

fn point(point: ChainPoint) -> PointView {
    PointView { seq: point.seq, hash: hex(&point.hash) }
}

impl From<AuditLine> for EntryView {
    fn from(AuditLine { entry, hash }: AuditLine) -> EntryView {
        let (seq, ts_ms, act) = (entry.seq, entry.ts_ms, entry.act);
        EntryView {
            seq,
            ts_ms,
            act: format!("{:032x}", act.act),
            phase: act.phase.name().to_owned(),
            begun: act.phase.begun(),
            status: act.phase.status(),
            who: act.who,
            role: act.role,
            address: act.address,
            node: act.node,
            method: act.method,
            route: act.route,
            target: act.target,
            body_sha256: act.body.map_or_else(String::new, |hash| hex(&hash)),
            hash: hex(&hash),
        }
    }
}

async fn page(app: &App, site: SiteId, AuditQuery { after, limit }: AuditQuery) -> Answer<AuditView> {
    let limit = accounts::limit(limit)? as u32;
    let shard = app.cluster.router.shard_of(Target::Desk(site));
    match call_shard(app, shard, ShardCall::Audit { site, after: after.unwrap_or(0), limit }).await {
        ShardReply::Audit(AuditPage { lines, head, cut }) => Ok(Json(AuditView {
            chain: chain_name(site),
            cut: point(cut),
            head: point(head),
            entries: lines.into_iter().map(EntryView::from).collect(),
        })),
        ShardReply::Refused(_) => Err(unexpected()),
        _ => Err(Problem::unavailable(format!("{shard} has no leader just now, try again"))),
    }
}

/// What operators did, and those who were no operators.
pub async fn of_operators(app: Data<App>, query: Query<AuditQuery>) -> Answer<AuditView> {
    page(&app, OPERATORS, query.into_inner()).await
}

/// What the administrators of a site did there.
pub async fn of_site(app: Data<App>, Tenant(site): Tenant, query: Query<AuditQuery>) -> Answer<AuditView> {
    page(&app, site, query.into_inner()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat::audit_hash;
    use proto::audit::{AuditAct, AuditEntry, AuditPhase};

    #[test]
    fn a_shown_entry_has_the_hash_of_the_stored_one() {
        for phase in [
            AuditPhase::Begun,
            AuditPhase::Done { begun: 6, status: 204 },
            AuditPhase::Refused { status: 403 },
            AuditPhase::Told { status: 200 },
        ] {
            let act = AuditAct {
                act: 9,
                phase,
                who: "agent:a17".into(),
                role: "owner".into(),
                address: "2001:db8::1".into(),
                node: "n2".into(),
                method: "PUT".into(),
                route: "/v1/canned/{shortcut}".into(),
                target: "/v1/canned/ü,7:".into(),
                body: (phase != AuditPhase::Begun).then_some([7; 32]),
            };
            let entry = AuditEntry { seq: 7, ts_ms: 1_763_700_000_000, act };
            let before = hex(&[3; 32]);
            let hash = audit_hash(&before, entry.texts(SiteId(3)).iter().map(String::as_str));
            let shown = EntryView::from(AuditLine { entry, hash });
            assert_eq!(shown.hash_after(&before, "site3"), shown.hash);
            assert_ne!(shown.hash_after(&before, "site4"), shown.hash);
        }
    }
}
