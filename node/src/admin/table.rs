//! Owns the one table of routes. The guard, the OpenAPI document, the commands, the test of every role and the table in
//! docs/ADMIN.md follow from it. Invariant: a route that is not here does not exist.

use super::route::Route;
use super::{
    accounts, audit, backups, desk, drills, events, log, message_trace, move_session, nodes, profile, sessions,
    settings, shards, sockets, tokens, upgrade, webhooks,
};
use actix_web::web;
use proto::command::Role::{Admin, Operator, Viewer};

/// Every route, a path with fixed words before one with a name in the same place.
pub fn table() -> Vec<Route> {
    let mut table = of_the_cluster();
    table.extend(of_accounts());
    table.extend(of_sessions());
    table.extend(of_desks());
    table.extend(of_webhooks());
    table.extend(of_one_node());
    table.extend(of_settings_and_drills());
    table.extend(of_backups_and_builds());
    table.extend(of_the_audit_log());
    table
}

fn of_the_cluster() -> Vec<Route> {
    vec![
        Route::get("/admin/v1/cluster", Viewer, "cluster show", "The cluster as this node sees it", || {
            web::get().to(nodes::cluster)
        })
        .answers::<nodes::ClusterView>(200),
        Route::get("/admin/v1/nodes", Viewer, "nodes list", "Every node", || web::get().to(nodes::list))
            .answers::<nodes::Nodes>(200),
        Route::get("/admin/v1/nodes/{node}", Viewer, "nodes show", "One node", || web::get().to(nodes::one))
            .answers::<nodes::NodeView>(200),
        Route::put(
            "/admin/v1/nodes/{node}/state",
            Operator,
            "nodes set-state",
            "Drain a node, remove it, or let it serve again",
            || web::put().to(nodes::set_state),
        )
        .audited()
        .takes::<nodes::NodeStateBody>()
        .answers::<nodes::NodeStateView>(200),
        Route::post(
            "/admin/v1/replicas/{replica}/move",
            Operator,
            "replicas move",
            "Let a new replica on another node take the place of one",
            || web::post().to(nodes::move_replica),
        )
        .audited()
        .takes::<nodes::MoveBody>()
        .answers::<nodes::Moved>(202),
        Route::get(
            "/admin/v1/shards",
            Viewer,
            "shards list",
            "Every shard, with what each node tells of its replica",
            || web::get().to(shards::list),
        )
        .answers::<shards::Shards>(200),
        Route::get("/admin/v1/shards/{shard}", Viewer, "shards show", "One shard", || web::get().to(shards::one))
            .answers::<shards::ShardView>(200),
        Route::post(
            "/admin/v1/shards/{shard}/leader",
            Operator,
            "shards lead",
            "Hand a shard's leadership to another node",
            || web::post().to(shards::set_leader),
        )
        .audited()
        .takes::<shards::LeaderBody>()
        .answers::<shards::LeaderView>(200),
        Route::post(
            "/admin/v1/join-tokens",
            Admin,
            "join-tokens create",
            "Make a token with which one machine may join",
            || web::post().to(tokens::create_join),
        )
        .audited()
        .answers::<tokens::JoinToken>(200)
        .secret(),
    ]
}

fn of_accounts() -> Vec<Route> {
    vec![
        Route::get(
            "/admin/v1/api-tokens",
            Admin,
            "api-tokens list",
            "Every token for this API, without its secret",
            || web::get().to(tokens::list),
        )
        .answers::<tokens::Tokens>(200),
        Route::post("/admin/v1/api-tokens", Admin, "api-tokens create", "Make a token for this API", || {
            web::post().to(tokens::create)
        })
        .audited()
        .takes::<tokens::NewToken>()
        .answers::<tokens::MadeToken>(201)
        .secret(),
        Route::delete("/admin/v1/api-tokens/{name}", Admin, "api-tokens revoke", "Make a token good no longer", || {
            web::delete().to(tokens::revoke)
        })
        .audited(),
        Route::get("/admin/v1/sites", Viewer, "sites list", "Every site", || web::get().to(accounts::sites))
            .query::<accounts::SitesQuery>()
            .answers::<accounts::Sites>(200),
        Route::post("/admin/v1/sites", Admin, "sites add", "Add a site; the same name again changes nothing", || {
            web::post().to(accounts::add_site)
        })
        .audited()
        .takes::<accounts::NewSite>()
        .answers::<accounts::MadeSite>(200),
        Route::get("/admin/v1/agents", Viewer, "agents list", "Every agent", || web::get().to(accounts::agents))
            .query::<accounts::AgentsQuery>()
            .answers::<accounts::Agents>(200)
            .also(&[404]),
        Route::post("/admin/v1/agents", Admin, "agents add", "Add an agent, or set a new password", || {
            web::post().to(accounts::add_agent)
        })
        .audited()
        .takes::<accounts::NewAgent>()
        .answers::<accounts::MadeAgent>(200),
        Route::put("/admin/v1/agents/{agent}/role", Admin, "agents set-role", "Set what an agent may do", || {
            web::put().to(accounts::set_role)
        })
        .audited()
        .takes::<accounts::RoleBody>()
        .answers::<accounts::RoleBody>(200),
    ]
}

fn of_the_audit_log() -> Vec<Route> {
    vec![
        Route::get("/admin/v1/audit", Viewer, "audit operators", "What operators did, in a chain of hashes", || {
            web::get().to(audit::of_operators)
        })
        .query::<audit::AuditQuery>()
        .answers::<audit::AuditView>(200),
        Route::get(
            "/admin/v1/sites/{site}/audit",
            Viewer,
            "audit site",
            "What the administrators of a site did, in a chain of hashes",
            || web::get().to(audit::of_site),
        )
        .query::<audit::AuditQuery>()
        .answers::<audit::AuditView>(200),
    ]
}

fn of_sessions() -> Vec<Route> {
    vec![
        Route::get("/admin/v1/sessions", Viewer, "sessions find", "Find sessions", || web::get().to(sessions::list))
            .query::<sessions::SessionsQuery>()
            .answers::<sessions::Sessions>(200)
            .also(&[404]),
        Route::get(
            "/admin/v1/sessions/{session}",
            Viewer,
            "sessions show",
            "One session, as its leader knows it",
            || web::get().to(sessions::one),
        )
        .answers::<sessions::SessionView>(200),
        Route::post(
            "/admin/v1/sessions/{session}/close",
            Operator,
            "sessions close",
            "End the open conversation of a session",
            || web::post().to(sessions::close),
        )
        .audited()
        .answers::<sessions::SessionView>(200),
        Route::post(
            "/admin/v1/sessions/{session}/move",
            Operator,
            "sessions move",
            "Give the open conversation of a session to another agent",
            || web::post().to(move_session::move_session),
        )
        .audited()
        .takes::<move_session::MoveSession>()
        .answers::<sessions::SessionView>(200),
        Route::get(
            "/admin/v1/sessions/{session}/messages/{seq}/trace",
            Viewer,
            "sessions trace",
            "The way of one message: accepted, committed, routed, delivered, read",
            || web::get().to(message_trace::trace),
        )
        .answers::<message_trace::MessageTrace>(200),
    ]
}

fn of_desks() -> Vec<Route> {
    vec![
        Route::get(
            "/admin/v1/sites/{site}/desk",
            Viewer,
            "desks show",
            "Teams, seats and rules of a site, and how many wait",
            || web::get().to(desk::show),
        )
        .answers::<desk::DeskView>(200),
        Route::get(
            "/admin/v1/sites/{site}/events",
            Viewer,
            "events list",
            "What happened at a site, from a cursor on",
            || web::get().to(events::list),
        )
        .query::<events::EventsQuery>()
        .answers::<events::Events>(200)
        .also(&[410]),
        Route::get("/admin/v1/sites/{site}/queue", Viewer, "desks queue", "Who waits at a site", || {
            web::get().to(desk::queue)
        })
        .query::<desk::QueueQuery>()
        .answers::<desk::QueueView>(200),
        Route::put(
            "/admin/v1/sites/{site}/rules",
            Operator,
            "desks set-rules",
            "Set how a site routes conversations",
            || web::put().to(desk::set_rules),
        )
        .audited()
        .takes::<desk::Rules>()
        .answers::<desk::Rules>(200),
        Route::put("/admin/v1/sites/{site}/teams/{team}", Operator, "teams set", "Make a team, or change it", || {
            web::put().to(desk::set_team)
        })
        .audited()
        .takes::<desk::Team>()
        .answers::<desk::TeamView>(200),
        Route::delete(
            "/admin/v1/sites/{site}/teams/{team}",
            Operator,
            "teams remove",
            "Remove a team: who waits for it is served by everybody",
            || web::delete().to(desk::remove_team),
        )
        .audited(),
        Route::put(
            "/admin/v1/sites/{site}/seats/{agent}",
            Operator,
            "seats set",
            "Set an agent's capacity, teams and skills",
            || web::put().to(desk::set_seat),
        )
        .audited()
        .takes::<desk::Seat>()
        .answers::<desk::Seat>(200),
    ]
}

fn of_webhooks() -> Vec<Route> {
    vec![
        Route::get("/admin/v1/sites/{site}/webhooks", Viewer, "webhooks list", "Every webhook of a site", || {
            web::get().to(webhooks::list)
        })
        .answers::<webhooks::Webhooks>(200),
        Route::get(
            "/admin/v1/sites/{site}/webhooks/{name}",
            Viewer,
            "webhooks show",
            "One webhook, and how far its deliveries have come",
            || web::get().to(webhooks::show),
        )
        .answers::<webhooks::WebhookStanding>(200),
        Route::put(
            "/admin/v1/sites/{site}/webhooks/{name}",
            Admin,
            "webhooks set",
            "Make a webhook, or change it",
            || web::put().to(webhooks::set),
        )
        .audited()
        .takes::<webhooks::Webhook>()
        .answers::<webhooks::MadeWebhook>(200)
        .secret(),
        Route::delete(
            "/admin/v1/sites/{site}/webhooks/{name}",
            Admin,
            "webhooks remove",
            "Remove a webhook, with what waits for it",
            || web::delete().to(webhooks::remove),
        )
        .audited(),
        Route::post(
            "/admin/v1/sites/{site}/webhooks/{name}/secret",
            Admin,
            "webhooks rotate",
            "Draw a new secret; the one before signs, too, for a day",
            || web::post().to(webhooks::rotate),
        )
        .audited()
        .answers::<webhooks::WebhookSecret>(200)
        .secret(),
        Route::get(
            "/admin/v1/sites/{site}/webhooks/{name}/dead",
            Viewer,
            "webhooks dead",
            "Events that could not be delivered",
            || web::get().to(webhooks::dead),
        )
        .answers::<webhooks::DeadLetters>(200),
        Route::post(
            "/admin/v1/sites/{site}/webhooks/{name}/replay",
            Operator,
            "webhooks replay",
            "Deliver a dead letter after all, or all of them",
            || web::post().to(webhooks::replay),
        )
        .audited()
        .takes::<webhooks::ReplayBody>(),
        Route::delete(
            "/admin/v1/sites/{site}/webhooks/{name}/dead/{letter}",
            Operator,
            "webhooks forget",
            "Drop a dead letter",
            || web::delete().to(webhooks::forget),
        )
        .audited(),
    ]
}

fn of_one_node() -> Vec<Route> {
    vec![
        Route::get("/admin/v1/nodes/{node}/sockets", Viewer, "nodes sockets", "The open sockets of a node", || {
            web::get().to(sockets::list)
        })
        .query::<sockets::SocketsQuery>()
        .answers::<sockets::Sockets>(200),
        Route::get("/admin/v1/nodes/{node}/log", Viewer, "nodes log", "What a node logs", || web::get().to(log::get))
            .answers::<log::LogView>(200),
        Route::put(
            "/admin/v1/nodes/{node}/log",
            Operator,
            "nodes set-log",
            "Change what a node logs, until its end",
            || web::put().to(log::set),
        )
        .audited()
        .takes::<log::LogBody>()
        .answers::<log::LogView>(200),
        Route::get(
            "/admin/v1/profiles/cpu",
            Operator,
            "profiles cpu",
            "Take a CPU profile of the node that is asked",
            || web::get().to(profile::cpu),
        )
        .query::<profile::CpuQuery>()
        .sends(profile::TYPES),
        Route::get(
            "/admin/v1/profiles/heap",
            Operator,
            "profiles heap",
            "Take a heap profile of the node that is asked",
            || web::get().to(profile::heap),
        )
        .query::<profile::HeapQuery>()
        .sends(&["application/octet-stream"])
        .also(&[501]),
    ]
}

fn of_settings_and_drills() -> Vec<Route> {
    vec![
        Route::get("/admin/v1/settings", Viewer, "settings list", "Every setting of the cluster", || {
            web::get().to(settings::list)
        })
        .answers::<settings::Settings>(200),
        Route::get(
            "/admin/v1/settings/watch",
            Viewer,
            "settings watch",
            "Every setting now, and again after each change, as a stream",
            || web::get().to(settings::watch),
        )
        .sends(&["text/event-stream"]),
        Route::get("/admin/v1/settings/{name}", Viewer, "settings show", "One setting", || {
            web::get().to(settings::one)
        })
        .answers::<settings::SettingView>(200),
        Route::put(
            "/admin/v1/settings/{name}",
            Operator,
            "settings set",
            "Set a setting on all nodes, at once",
            || web::put().to(settings::set),
        )
        .audited()
        .takes::<settings::SettingBody>()
        .answers::<settings::SettingView>(200),
        Route::delete(
            "/admin/v1/settings/{name}",
            Operator,
            "settings unset",
            "Put a setting back to its default",
            || web::delete().to(settings::unset),
        )
        .audited(),
        Route::get("/admin/v1/drills", Viewer, "drills list", "The last drills from this node", || {
            web::get().to(drills::list)
        })
        .answers::<drills::Reports>(200),
        Route::post(
            "/admin/v1/drills",
            Admin,
            "drills run",
            "Cause a fault for a bounded time, and report the fail-over",
            || web::post().to(drills::run),
        )
        .audited()
        .takes::<drills::DrillBody>()
        .answers::<drills::DrillReport>(200),
    ]
}

fn of_backups_and_builds() -> Vec<Route> {
    vec![
        Route::get(
            "/admin/v1/backups",
            Viewer,
            "backups last",
            "The last backup that the node made that is asked",
            || web::get().to(backups::last),
        )
        .answers::<backups::LastBackup>(200),
        Route::post("/admin/v1/backups", Admin, "backups create", "Begin a backup", || web::post().to(backups::create))
            .audited()
            .takes::<backups::NewBackup>()
            .answers::<backups::Begun>(202),
        Route::get(
            "/admin/v1/upgrade",
            Viewer,
            "upgrade status",
            "The version in force, and what the nodes speak",
            || web::get().to(upgrade::show),
        )
        .answers::<upgrade::UpgradeView>(200),
        Route::post(
            "/admin/v1/upgrade/finalize",
            Admin,
            "upgrade finalize",
            "Put the next version in force, for ever",
            || web::post().to(upgrade::finalize),
        )
        .audited()
        .answers::<upgrade::Finalized>(200),
        Route::get(
            "/admin/v1/certificates",
            Viewer,
            "certificates status",
            "The authorities, and whose certificate each node has",
            || web::get().to(upgrade::certificates),
        )
        .answers::<upgrade::Certificates>(200),
        Route::post(
            "/admin/v1/certificates/renew",
            Admin,
            "certificates renew",
            "Draw a new authority; every node gets a new certificate",
            || web::post().to(upgrade::renew_certificates),
        )
        .audited()
        .answers::<upgrade::Authorities>(202),
    ]
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
