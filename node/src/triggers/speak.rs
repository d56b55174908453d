//! Owns the two moments of a trigger: a page is told what waits on it, and one of them speaks. Does not judge a rule: see `rule`.
//! Invariant: one look at a time for each socket, whatever its page says meanwhile.

use super::{Known, OfSite, Page, Rule};
use crate::admin::ask::{Ask, ask_from};
use crate::admin::sessions::{SessionState, SessionView};
use crate::api::variables;
use crate::connection::{Socket, Visited, Who};
use cluster::node::ClusterNode;
use cluster::shard::now_ms;
use proto::act::{Again, Prompt};
use proto::client::limits::TRIGGERS_WAITING_MAX;
use proto::client::{Reply, ServerFrame, TriggerWaits, Triggers};
use proto::command::{Command, Target};
use proto::ids::{SessionId, SiteId};
use proto::peer::{ShardCall, ShardReply};
use std::sync::Arc;

/// What a socket's page was told.
#[derive(Default)]
pub struct Told {
    /// Changes of the page since somebody began to look which triggers wait on it; 0: nobody looks.
    looks: u32,
    /// It was told of triggers.
    has_any: bool,
}

/// Who a socket is, and where.
struct Here {
    session: SessionId,
    site: SiteId,
    identified: bool,
    visit: Box<Visited>,
}

fn here(socket: &Socket) -> Option<Here> {
    socket.with(|state| match (state.who, &state.visit) {
        (Some(Who::Visitor { session, site, is_identified, .. }), Some(visit)) => {
            Some(Here { session, site, identified: is_identified, visit: visit.clone() })
        }
        _ => None,
    })
}

/// The page has changed: tells what waits on it. A change while somebody looks makes them look again.
pub fn look(socket: &Arc<Socket>) {
    let is_first = socket.with(|state| {
        state.triggers.looks += 1;
        state.triggers.looks == 1
    });
    if !is_first {
        return;
    }
    let socket = socket.clone();
    socket.hub.clone().spawn(async move {
        loop {
            let seen = socket.with(|state| state.triggers.looks);
            tell(&socket).await;
            let is_done = socket.with(|state| {
                let is_done = state.closed || state.triggers.looks == seen;
                state.triggers.looks = if is_done { 0 } else { 1 };
                is_done
            });
            if is_done {
                return;
            }
        }
    });
}

async fn tell(socket: &Arc<Socket>) {
    let (Some(here), Some(node)) = (here(socket), socket.hub.node()) else { return };
    let of_site = socket.hub.triggers.ensure(&node, here.site).await;
    let triggers = waiting(socket, &node, &here, &of_site).await;
    // A page that was told nothing need not be told that it is nothing still.
    let is_news = socket.with(|state| std::mem::replace(&mut state.triggers.has_any, !triggers.is_empty()));
    if is_news || !triggers.is_empty() {
        let body = Reply::Triggers(Triggers { session: here.session, triggers });
        socket.write(&ServerFrame { id: None, body });
    }
}

async fn waiting(socket: &Socket, node: &Arc<ClusterNode>, here: &Here, of_site: &OfSite) -> Vec<TriggerWaits> {
    let fitting: Vec<&(String, Rule)> =
        of_site.rules.iter().filter(|(_, rule)| fits(socket, here, of_site, rule)).collect();
    // The session is asked only when it matters.
    if fitting.is_empty() {
        return Vec::new();
    }
    let Some(view) = view_of(node, here.session).await else { return Vec::new() };
    let now_ms = now_ms();
    if !may_be_told(&view, now_ms) {
        return Vec::new();
    }
    let waits = fitting.into_iter().filter(|(name, rule)| is_for(rule, name, here, &view, now_ms));
    waits.map(|(name, rule)| rule.waits(name)).take(TRIGGERS_WAITING_MAX).collect()
}

fn fits(socket: &Socket, here: &Here, of_site: &OfSite, rule: &Rule) -> bool {
    let country = socket.place.country.as_deref();
    rule.fits(&Page { visit: &here.visit, country, identified: here.identified }, &of_site.staff)
}

async fn view_of(node: &Arc<ClusterNode>, session: SessionId) -> Option<SessionView> {
    let leader = node.leader_of(node.router.shard_of(Target::Session(session)))?;
    ask_from(node, leader, &Ask::Session { session }).await.ok()
}

/// Whether anything may be said to the visitor at all.
fn may_be_told(view: &SessionView, now_ms: u64) -> bool {
    let is_blocked = view.blocked_until_ms.is_some_and(|until_ms| now_ms < until_ms);
    let is_invited = view.invitation.as_ref().is_some_and(|invitation| now_ms < invitation.until_ms);
    view.state == SessionState::Closed && !is_blocked && !is_invited
}

/// Whether the visitor is meant, and was not told before.
fn is_for(rule: &Rule, name: &str, here: &Here, view: &SessionView, now_ms: u64) -> bool {
    let language = view.facts.iter().find(|fact| fact.name == "language").map(|fact| fact.value.as_str());
    let known = Known { language, attributes: &view.attributes.visitor };
    let visit = here.visit.visits.unwrap_or(0);
    let has_said = view.prompts.iter().filter(|prompt| prompt.trigger == name).any(|prompt| match rule.again() {
        Again::Never => true,
        Again::NextVisit => prompt.visit >= visit,
        Again::After { ms } => now_ms.saturating_sub(prompt.at_ms) < ms,
    });
    rule.fits_visitor(&known) && !has_said
}

/// Why a trigger says nothing.
pub enum Silent {
    /// The page has not said on this socket where the visitor is.
    Early,
    /// There is none of that name that fits this page and this visitor.
    Unfit,
    /// The session's leader does not let it, or cannot be had.
    Answered(ShardReply),
}

/// What a trigger waits for on its page has come. `Ok`: it has spoken, now or before.
/// # Errors
/// See [`Silent`].
pub async fn speak(socket: &Arc<Socket>, name: &str) -> Result<(), Silent> {
    let unknown = || Silent::Answered(ShardReply::Unknown);
    let (here, node) = (here(socket).ok_or(Silent::Early)?, socket.hub.node().ok_or_else(unknown)?);
    let of_site = socket.hub.triggers.ensure(&node, here.site).await;
    let found = of_site.rules.iter().find(|(known, _)| known == name);
    let (_, rule) = found.filter(|(_, rule)| fits(socket, &here, &of_site, rule)).ok_or(Silent::Unfit)?;
    let view = view_of(&node, here.session).await.ok_or_else(unknown)?;
    let language = view.facts.iter().find(|fact| fact.name == "language").map(|fact| fact.value.as_str());
    // Whether it was said before, the session itself judges: two sockets may ask at once.
    if !rule.fits_visitor(&Known { language, attributes: &view.attributes.visitor }) {
        return Err(Silent::Unfit);
    }
    let prompt = Prompt {
        trigger: name.to_owned(),
        name: rule.speaks_as.clone(),
        text: filled(&node, here.site, rule, &view),
        again: rule.again(),
        visit: here.visit.visits.unwrap_or(0),
        team: rule.team,
    };
    let command = Command::Prompt { session: here.session, site: here.site, prompt: Box::new(prompt) };
    let shard = node.router.shard_of(Target::Session(here.session));
    match node.router.call(shard, ShardCall::Propose(command)).await {
        ShardReply::Done => Ok(()),
        other => Err(Silent::Answered(other)),
    }
}

fn filled(node: &ClusterNode, site: SiteId, rule: &Rule, view: &SessionView) -> String {
    let value = |name: &str| match name {
        "site" => node.with_meta(|state| state.sites.get(&site).map(|row| row.name.clone())).flatten(),
        "agent.name" => rule.speaks_as.clone(),
        _ => {
            let fact = name.strip_prefix("visitor.")?;
            let known = view.facts.iter().find(|known| known.name == fact).map(|known| known.value.clone());
            view.attributes.visitor.get(fact).cloned().or(known)
        }
    };
    variables::fill(&rule.text, value)
}
