//! Owns the part of the table of routes that is about visitors as a whole, and about what holds for the whole site. See `table`.

use super::access::{Access, Scope};
use super::{attributes, blocklist, conversations, deeds, invitations, mail, online, site, triggers, visitors};
use crate::admin::Route;
use actix_web::web;
use proto::command::AgentRole::{Admin, Agent, Supervisor, Viewer};

pub fn of_visitors() -> Vec<Route<Access>> {
    let write = Access::new(Agent, Scope::WriteConversations);
    let erase = Access::new(Admin, Scope::ErasePeople);
    vec![
        Route::put(
            "/v1/conversations/{session}/attributes",
            write,
            "conversations set-attributes",
            "Set attributes of the visitor or the conversation",
            || web::put().to(attributes::set_values),
        )
        .takes::<attributes::ValuesBody>()
        .answers::<conversations::Conversation>(200)
        .daily(),
        Route::put(
            "/v1/conversations/{session}/block",
            Access::new(Supervisor, Scope::WriteConversations),
            "conversations block",
            "Take nothing from the visitor, for a time or for good",
            || web::put().to(visitors::block),
        )
        .takes::<visitors::BlockBody>()
        .answers::<conversations::Conversation>(200)
        .audited(),
        Route::delete(
            "/v1/conversations/{session}/block",
            Access::new(Supervisor, Scope::WriteConversations),
            "conversations unblock",
            "Take what the visitor sends again",
            || web::delete().to(visitors::unblock),
        )
        .answers::<conversations::Conversation>(200)
        .audited(),
        Route::get(
            "/v1/visitors/online",
            Access::new(Viewer, Scope::ReadConversations),
            "visitors online",
            "Who is on the site now, where, and what they saw",
            || web::get().to(online::list),
        )
        .query::<online::OnlineQuery>()
        .answers::<online::OnlineView>(200),
        Route::get(
            "/v1/visitors/{visitor}/export",
            Access::new(Admin, Scope::ReadConversations),
            "visitors export",
            "Everything that is kept of a visitor",
            || web::get().to(visitors::export),
        )
        .query::<visitors::ExportQuery>()
        .answers::<visitors::Export>(200),
        Route::post(
            "/v1/visitors/erase",
            erase,
            "visitors erase-many",
            "Erase what was said and is known of these visitors",
            || web::post().to(visitors::erase_many),
        )
        .takes::<visitors::EraseBody>()
        .answers::<visitors::Erased>(200)
        .audited(),
        Route::delete(
            "/v1/visitors/{visitor}",
            erase,
            "visitors erase",
            "Erase what was said and is known of a visitor",
            || web::delete().to(visitors::erase),
        )
        .answers::<visitors::Erased>(200)
        .audited(),
    ]
}

/// Who writes first.
pub fn of_reach() -> Vec<Route<Access>> {
    let write = Access::new(Agent, Scope::WriteConversations);
    vec![
        Route::post(
            "/v1/conversations/{session}/invite",
            write,
            "conversations invite",
            "Write first to a visitor who is on the site; the visitor's answer is yours",
            || web::post().to(invitations::invite),
        )
        .takes::<invitations::InviteBody>()
        .answers::<deeds::SentView>(200)
        .daily()
        .once(),
        Route::get(
            "/v1/triggers",
            Access::new(Agent, Scope::ReadDesk),
            "triggers list",
            "What is said to visitors before they write, and how often it was",
            || web::get().to(triggers::list),
        )
        .answers::<triggers::TriggersView>(200),
        Route::put(
            "/v1/triggers/{name}",
            Access::new(Supervisor, Scope::WriteDesk),
            "triggers set",
            "Make a trigger, or change it",
            || web::put().to(triggers::set),
        )
        .takes::<crate::triggers::Rule>()
        .answers::<triggers::TriggerView>(200)
        .audited(),
        Route::delete(
            "/v1/triggers/{name}",
            Access::new(Supervisor, Scope::WriteDesk),
            "triggers remove",
            "Remove a trigger and its counts",
            || web::delete().to(triggers::remove),
        )
        .audited(),
    ]
}

pub fn of_the_site() -> Vec<Route<Access>> {
    let write = Access::new(Admin, Scope::WriteDesk);
    vec![
        Route::get(
            "/v1/attributes",
            Access::new(Viewer, Scope::ReadDesk),
            "attributes list",
            "Every attribute, and its type",
            || web::get().to(attributes::list),
        )
        .answers::<attributes::Attributes>(200),
        Route::put(
            "/v1/attributes/{whose}/{name}",
            write,
            "attributes set",
            "Make an attribute of visitors or conversations, or change it",
            || web::put().to(attributes::set),
        )
        .takes::<attributes::AttributeBody>()
        .answers::<attributes::AttributeView>(200)
        .audited(),
        Route::delete("/v1/attributes/{whose}/{name}", write, "attributes remove", "Remove an attribute", || {
            web::delete().to(attributes::remove)
        })
        .audited(),
        Route::get(
            "/v1/blocklist",
            Access::new(Supervisor, Scope::ReadDesk),
            "blocklist list",
            "Networks and words that are not let through",
            || web::get().to(blocklist::list),
        )
        .answers::<blocklist::BlocklistView>(200),
        Route::put(
            "/v1/blocklist/{name}",
            Access::new(Supervisor, Scope::WriteDesk),
            "blocklist set",
            "Let a network or a word through no longer",
            || web::put().to(blocklist::set),
        )
        .takes::<crate::blocklist::Blocked>()
        .answers::<blocklist::BlockedView>(200)
        .audited(),
        Route::delete(
            "/v1/blocklist/{name}",
            Access::new(Supervisor, Scope::WriteDesk),
            "blocklist remove",
            "Let it through again",
            || web::delete().to(blocklist::remove),
        )
        .audited(),
    ]
}

pub fn of_settings() -> Vec<Route<Access>> {
    let write = Access::new(Admin, Scope::WriteDesk);
    vec![
        Route::get(
            "/v1/settings",
            Access::new(Admin, Scope::ReadDesk),
            "settings show",
            "What holds for the whole site",
            || web::get().to(site::show),
        )
        .answers::<site::SettingsView>(200),
        Route::put("/v1/settings", write, "settings set", "Set what holds for the whole site", || {
            web::put().to(site::set)
        })
        .takes::<site::SettingsBody>()
        .answers::<site::SettingsView>(200)
        .audited(),
        Route::put(
            "/v1/identity-keys/{name}",
            Access::new(Admin, Scope::Nothing),
            "identity-keys set",
            "Draw a key with which the site signs who its visitors are",
            || web::put().to(site::make_key),
        )
        .answers::<site::MadeIdentityKey>(200)
        .secret()
        .audited(),
        Route::delete(
            "/v1/identity-keys/{name}",
            Access::new(Admin, Scope::Nothing),
            "identity-keys remove",
            "Make such a key good no longer",
            || web::delete().to(site::remove_key),
        )
        .audited(),
    ]
}

pub fn of_mail() -> Vec<Route<Access>> {
    let read = Access::new(Admin, Scope::ReadDesk);
    let write = Access::new(Admin, Scope::WriteDesk);
    vec![
        Route::post(
            "/v1/conversations/{session}/transcript/mail",
            Access::new(Agent, Scope::WriteConversations),
            "conversations mail-transcript",
            "Send what was said by e-mail",
            || web::post().to(mail::transcript),
        )
        .takes::<mail::TranscriptBody>()
        .also(&[429])
        .daily(),
        Route::get("/v1/mail", read, "mail show", "Whether and how the site writes e-mails", || {
            web::get().to(mail::show)
        })
        .answers::<mail::MailView>(200),
        Route::put("/v1/mail", write, "mail set", "Set whether and how the site writes e-mails", || {
            web::put().to(mail::set)
        })
        .takes::<mail::MailBody>()
        .answers::<mail::MailView>(200)
        .audited(),
        Route::post("/v1/mail/test", write, "mail test", "Send an e-mail now, and tell what the server said", || {
            web::post().to(mail::test)
        })
        .takes::<mail::TestBody>()
        .also(&[429])
        .answers::<mail::Tested>(200)
        .audited(),
        Route::get(
            "/v1/mail/queue",
            read,
            "mail queue",
            "E-mails that wait, and those that could not be delivered",
            || web::get().to(mail::queue),
        )
        .answers::<mail::Queue>(200),
        Route::post(
            "/v1/mail/queue/{session}/{number}/retry",
            write,
            "mail retry",
            "Send an e-mail after all that could not be delivered",
            || web::post().to(mail::retry),
        )
        .audited(),
        Route::delete("/v1/mail/queue/{session}/{number}", write, "mail forget", "Drop such an e-mail", || {
            web::delete().to(mail::forget)
        })
        .audited(),
    ]
}
