//! Owns the one table of a site's routes. The guard, the OpenAPI document, the test of every role and tenant and the table in
//! docs/REST.md follow from it. Invariant: a route that is not here does not exist.

use super::access::{Access, Scope};
use super::{
    canned, conversations, deeds, keys, macros, people, search, table_of_reports, table_of_seats, table_of_visitors,
    transcript, views,
};
use crate::admin::{Route, audit, desk, events, webhooks};
use actix_web::web;
use proto::command::AgentRole::{Admin, Agent, Supervisor, Viewer};

/// Every route, a path with fixed words before one with a name in the same place.
pub fn table() -> Vec<Route<Access>> {
    let mut table = of_conversations();
    table.extend(table_of_seats::of_one_s_seat());
    table.extend(of_files());
    table.extend(of_search());
    table.extend(of_the_desk());
    table.extend(of_people());
    table.extend(of_the_shelf());
    table.extend(table_of_visitors::of_visitors());
    table.extend(table_of_visitors::of_reach());
    table.extend(table_of_visitors::of_the_site());
    table.extend(table_of_visitors::of_settings());
    table.extend(table_of_visitors::of_mail());
    table.extend(of_webhooks());
    table.extend(table_of_reports::of_reports());
    table
}

fn of_conversations() -> Vec<Route<Access>> {
    let read = Access::new(Viewer, Scope::ReadConversations);
    let write = Access::new(Agent, Scope::WriteConversations);
    vec![
        Route::get("/v1/conversations", read, "conversations list", "Find conversations", || {
            web::get().to(conversations::list)
        })
        .query::<conversations::ConversationsQuery>()
        .answers::<conversations::Conversations>(200),
        Route::get(
            "/v1/conversations/{session}",
            read,
            "conversations show",
            "One session and its conversation",
            || web::get().to(conversations::one),
        )
        .answers::<conversations::Conversation>(200),
        Route::get(
            "/v1/conversations/{session}/events",
            read,
            "conversations history",
            "What happened in a session",
            || web::get().to(conversations::events),
        )
        .query::<conversations::HistoryQuery>()
        .answers::<conversations::HistoryView>(200),
        Route::post(
            "/v1/conversations/{session}/events",
            write,
            "conversations send",
            "Say something, or do what else people do in a session",
            || web::post().to(deeds::send),
        )
        .daily()
        .takes::<deeds::SendBody>()
        .answers::<deeds::SentView>(200)
        .once(),
        Route::get(
            "/v1/conversations/{session}/transcript",
            read,
            "conversations transcript",
            "What was said in a session, to be kept or printed",
            || web::get().to(transcript::transcript),
        )
        .query::<transcript::TranscriptQuery>()
        .sends(&["text/html", "application/json"]),
        Route::post(
            "/v1/conversations/{session}/close",
            write,
            "conversations close",
            "End the open conversation",
            || web::post().to(deeds::close),
        )
        .daily()
        .takes::<deeds::CloseBody>()
        .answers::<conversations::Conversation>(200),
        Route::post(
            "/v1/conversations/{session}/transfer",
            write,
            "conversations transfer",
            "Give the open conversation to an agent, a team or whoever is free, with a note",
            || web::post().to(deeds::transfer),
        )
        .daily()
        .takes::<deeds::TransferBody>()
        .answers::<conversations::Conversation>(200),
    ]
}

fn of_files() -> Vec<Route<Access>> {
    let write = Access::new(Agent, Scope::WriteConversations);
    vec![
        Route::post(
            "/v1/conversations/{session}/attachments",
            write,
            "conversations upload",
            "Upload a file, to be sent with a message; the body is the file",
            || web::post().to(crate::attachments::of_agent),
        )
        .query::<crate::attachments::UploadQuery>()
        .daily()
        .answers::<crate::attachments::Uploaded>(200)
        .once(),
    ]
}

fn of_search() -> Vec<Route<Access>> {
    let read = Access::new(Viewer, Scope::ReadConversations);
    let write = Access::new(Agent, Scope::WriteDesk);
    vec![
        Route::get("/v1/search", read, "search", "Find what was said, the newest first", || {
            web::get().to(search::search)
        })
        .query::<search::SearchQuery>()
        .answers::<search::SearchView>(200),
        Route::get("/v1/views", read, "views list", "What people look for again and again: one's own, of all", || {
            web::get().to(views::list)
        })
        .answers::<views::Views>(200),
        Route::put(
            "/v1/views/{name}",
            write,
            "views set",
            "Make or change a saved view; what others use, too, is for supervisors",
            || web::put().to(views::set),
        )
        .audited()
        .takes::<views::ViewBody>()
        .answers::<views::ViewView>(200),
        Route::delete("/v1/views/{name}", write, "views remove", "Remove a saved view", || {
            web::delete().to(views::remove)
        })
        .audited()
        .query::<views::WhoseQuery>(),
    ]
}

fn of_the_desk() -> Vec<Route<Access>> {
    let read = Access::new(Viewer, Scope::ReadDesk);
    let write = Access::new(Admin, Scope::WriteDesk);
    vec![
        Route::get(
            "/v1/events",
            Access::new(Supervisor, Scope::ReadEvents),
            "events list",
            "What happened at the site, from a cursor on",
            || web::get().to(events::list),
        )
        .query::<events::EventsQuery>()
        .answers::<events::Events>(200)
        .also(&[410]),
        Route::get("/v1/desk", read, "desk show", "Teams, seats and rules, and how many wait", || {
            web::get().to(desk::show)
        })
        .answers::<desk::DeskView>(200),
        Route::get("/v1/queue", read, "desk queue", "Who waits", || web::get().to(desk::queue))
            .query::<desk::QueueQuery>()
            .answers::<desk::QueueView>(200),
        Route::put("/v1/rules", write, "desk set-rules", "Set how conversations are routed", || {
            web::put().to(desk::set_rules)
        })
        .audited()
        .takes::<desk::Rules>()
        .answers::<desk::Rules>(200),
        Route::put("/v1/teams/{team}", write, "teams set", "Make a team, or change it", || {
            web::put().to(desk::set_team)
        })
        .audited()
        .takes::<desk::Team>()
        .answers::<desk::TeamView>(200),
        Route::delete("/v1/teams/{team}", write, "teams remove", "Remove a team", || {
            web::delete().to(desk::remove_team)
        })
        .audited(),
        Route::put("/v1/seats/{agent}", write, "seats set", "Set an agent's capacity, teams and skills", || {
            web::put().to(desk::set_seat)
        })
        .audited()
        .takes::<desk::Seat>()
        .answers::<desk::Seat>(200),
    ]
}

fn of_the_shelf() -> Vec<Route<Access>> {
    let read = Access::new(Agent, Scope::ReadDesk);
    let write = Access::new(Agent, Scope::WriteDesk);
    let shared = Access::new(Supervisor, Scope::WriteDesk);
    let run = Access::new(Agent, Scope::WriteConversations);
    vec![
        Route::get("/v1/canned", read, "canned list", "Canned replies: one's own, of teams, of all", || {
            web::get().to(canned::list)
        })
        .answers::<canned::CannedReplies>(200),
        Route::put(
            "/v1/canned/{shortcut}",
            write,
            "canned set",
            "Make or change a canned reply; what others use, too, is for supervisors",
            || web::put().to(canned::set),
        )
        .audited()
        .takes::<canned::CannedBody>()
        .answers::<canned::CannedView>(200),
        Route::delete("/v1/canned/{shortcut}", write, "canned remove", "Remove a canned reply", || {
            web::delete().to(canned::remove)
        })
        .audited()
        .query::<canned::WhoseQuery>(),
        Route::get(
            "/v1/conversations/{session}/canned/{shortcut}",
            Access::new(Agent, Scope::ReadConversations),
            "canned fill",
            "A canned reply with its variables filled",
            || web::get().to(canned::filled),
        )
        .query::<canned::TeamQuery>()
        .answers::<canned::Filled>(200),
        Route::get("/v1/macros", read, "macros list", "Every macro", || web::get().to(macros::list))
            .answers::<macros::Macros>(200),
        Route::put("/v1/macros/{name}", shared, "macros set", "Make a macro, or change it", || {
            web::put().to(macros::set)
        })
        .audited()
        .takes::<macros::MacroBody>()
        .answers::<macros::MacroView>(200),
        Route::delete("/v1/macros/{name}", shared, "macros remove", "Remove a macro", || {
            web::delete().to(macros::remove)
        })
        .audited(),
        Route::post(
            "/v1/conversations/{session}/macros/{name}",
            run,
            "macros run",
            "Do what a macro says, in a session",
            || web::post().to(macros::run),
        )
        .daily()
        .answers::<macros::MacroDone>(200),
    ]
}

fn of_people() -> Vec<Route<Access>> {
    let me = Access::new(Viewer, Scope::ReadConversations);
    vec![
        Route::get("/v1/me", me, "me show", "Who asks", || web::get().to(people::me)).answers::<people::Me>(200),
        Route::get(
            "/v1/agents",
            Access::new(Viewer, Scope::ReadPeople),
            "agents list",
            "Every agent of the site",
            || web::get().to(people::agents),
        )
        .query::<people::PeopleQuery>()
        .answers::<crate::admin::accounts::Agents>(200),
        Route::post(
            "/v1/agents",
            Access::new(Admin, Scope::WritePeople),
            "agents add",
            "Add an agent, or set a new password",
            || web::post().to(people::add_agent),
        )
        .audited()
        .takes::<people::NewPerson>()
        .answers::<crate::admin::accounts::MadeAgent>(200),
        Route::put(
            "/v1/agents/{agent}/role",
            Access::new(Admin, Scope::Nothing),
            "agents set-role",
            "Set what an agent may do, up to one's own role",
            || web::put().to(people::set_role),
        )
        .audited()
        .takes::<crate::admin::accounts::RoleBody>()
        .answers::<crate::admin::accounts::RoleBody>(200),
        Route::get(
            "/v1/keys",
            Access::new(Admin, Scope::Nothing),
            "keys list",
            "Every key, without its secret",
            || web::get().to(keys::list),
        )
        .answers::<keys::Keys>(200),
        Route::get(
            "/v1/audit",
            Access::new(Admin, Scope::ReadAudit),
            "audit list",
            "What the site's administrators did, in a chain of hashes",
            || web::get().to(audit::of_site),
        )
        .query::<audit::AuditQuery>()
        .answers::<audit::AuditView>(200),
        Route::post("/v1/keys", Access::new(Admin, Scope::Nothing), "keys create", "Make a key", || {
            web::post().to(keys::create)
        })
        .audited()
        .takes::<keys::NewKey>()
        .answers::<keys::MadeKey>(201)
        .secret(),
        Route::delete(
            "/v1/keys/{name}",
            Access::new(Admin, Scope::Nothing),
            "keys revoke",
            "Make a key good no longer",
            || web::delete().to(keys::revoke),
        )
        .audited(),
    ]
}

fn of_webhooks() -> Vec<Route<Access>> {
    let read = Access::new(Admin, Scope::ReadWebhooks);
    let write = Access::new(Admin, Scope::WriteWebhooks);
    vec![
        Route::get("/v1/webhooks", read, "webhooks list", "Every webhook", || web::get().to(webhooks::list))
            .answers::<webhooks::Webhooks>(200),
        Route::get(
            "/v1/webhooks/{name}",
            read,
            "webhooks show",
            "One webhook, and how far its deliveries have come",
            || web::get().to(webhooks::show),
        )
        .answers::<webhooks::WebhookStanding>(200),
        Route::put("/v1/webhooks/{name}", write, "webhooks set", "Make a webhook, or change it", || {
            web::put().to(webhooks::set)
        })
        .audited()
        .takes::<webhooks::Webhook>()
        .answers::<webhooks::MadeWebhook>(200)
        .secret(),
        Route::delete("/v1/webhooks/{name}", write, "webhooks remove", "Remove a webhook", || {
            web::delete().to(webhooks::remove)
        })
        .audited(),
        Route::post(
            "/v1/webhooks/{name}/secret",
            write,
            "webhooks rotate",
            "Draw a new secret; the one before signs, too, for a day",
            || web::post().to(webhooks::rotate),
        )
        .audited()
        .answers::<webhooks::WebhookSecret>(200)
        .secret(),
        Route::get("/v1/webhooks/{name}/dead", read, "webhooks dead", "Events that could not be delivered", || {
            web::get().to(webhooks::dead)
        })
        .answers::<webhooks::DeadLetters>(200),
        Route::post(
            "/v1/webhooks/{name}/replay",
            write,
            "webhooks replay",
            "Deliver a dead letter after all, or all of them",
            || web::post().to(webhooks::replay),
        )
        .audited()
        .takes::<webhooks::ReplayBody>(),
        Route::delete("/v1/webhooks/{name}/dead/{letter}", write, "webhooks forget", "Drop a dead letter", || {
            web::delete().to(webhooks::forget)
        })
        .audited(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::route::{guide_holds, names_are_of_one_form};
    use std::collections::BTreeSet;

    #[test]
    fn every_route_has_a_name_and_a_method_of_its_own_and_names_no_site() {
        let table = table();
        let words: BTreeSet<&str> = table.iter().map(|route| route.words).collect();
        let places: BTreeSet<(&str, &str)> = table.iter().map(|route| (route.path, route.method.name())).collect();
        assert_eq!((words.len(), places.len()), (table.len(), table.len()));
        assert!(table.iter().all(|route| route.path.starts_with("/v1/") && !route.path.contains("{site}")));
    }

    #[test]
    fn no_two_forms_of_the_document_have_one_name() {
        names_are_of_one_form(&table());
    }

    #[test]
    fn the_guide_holds_the_table_of_routes() {
        guide_holds("REST.md", &table(), |route| {
            let scope = route.access.scope.name().map_or("-".to_owned(), |name| format!("`{name}`"));
            format!("{} | {} | {scope}", route.about, route.access.role_text())
        });
    }

    #[test]
    fn somebody_has_decided_of_every_write_whether_the_audit_log_tells_of_it() {
        for route in table() {
            assert_eq!(route.audit.is_some(), route.method.is_write(), "{} {}", route.method.name(), route.path);
            let is_for_admins = route.access.role.is_none_or(|role| role >= Admin);
            assert!(!route.method.is_write() || route.is_audited() || !is_for_admins, "{}", route.path);
        }
        let passwords: Vec<&str> = table().iter().filter(|route| route.has_password).map(|route| route.path).collect();
        assert_eq!(passwords, ["/v1/agents"], "their bodies are not hashed");
    }

    #[test]
    fn viewers_change_nothing_and_roles_and_keys_are_for_administrators() {
        for route in table() {
            let least = route.access.role.expect("every route is for somebody");
            assert!(!route.method.is_write() || least > Viewer, "{}", route.path);
            let is_of_people = route.path.starts_with("/v1/keys") || route.path.ends_with("/role");
            assert!(!is_of_people || (least >= Admin && route.access.scope == Scope::Nothing), "{}", route.path);
        }
    }

    #[test]
    fn the_document_holds_every_route_with_every_status() {
        let document = serde_json::to_value(super::super::document()).unwrap();
        for route in table() {
            let operation = &document["paths"][route.path][route.method.name().to_lowercase()];
            let mut statuses: BTreeSet<u16> = route.refusals();
            statuses.insert(route.success.0);
            let told = operation["responses"].as_object().unwrap_or_else(|| panic!("{} {operation}", route.path));
            assert_eq!(told.keys().map(|status| status.parse().unwrap()).collect::<BTreeSet<u16>>(), statuses);
        }
    }

    #[test]
    fn no_form_of_the_document_forbids_what_another_one_adds_to_it() {
        let document = serde_json::to_value(super::super::document()).unwrap();
        let forms = document["components"]["schemas"].as_object().unwrap();
        let all = forms.values().filter_map(|form| form["allOf"].as_array());
        let parts: Vec<&serde_json::Value> = all.flatten().collect();
        assert!(parts.len() > 4, "{parts:?}");
        for part in parts {
            let named = part["$ref"].as_str().and_then(|path| document.pointer(path.trim_start_matches('#')));
            assert_ne!(named.unwrap_or(part)["additionalProperties"], false, "{part}");
        }
    }
}
