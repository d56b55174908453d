//! Owns macros: several actions at once, under one name. Does not decide whether they are allowed: each action is judged like one by hand.
//! Invariant: repeated under one `Idempotency-Key`, what was done is not done again, and the rest is.

use super::access::Caller;
use super::deeds::{Deeds, What};
use super::{canned, shelf};
use crate::admin::accounts::id_of;
use crate::admin::problem::Problem;
use crate::admin::{Answer, Tenant};
use crate::run::App;
use actix_web::web::{Data, Json, Path, ReqData};
use actix_web::{HttpRequest, HttpResponse};
use cluster::shard::now_ms;
use proto::act::Act;
use proto::shelf::ItemKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Actions of one macro.
const ACTIONS_MAX: usize = 16;
/// Longest text of an action, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// One of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// A message to the visitor, with variables as in a canned reply.
    Say(String),
    /// A note, with variables.
    Note(String),
    Label(String),
    Unlabel(String),
    /// For so long, in seconds.
    Snooze(u32),
    Transfer(To),
    /// With this reason.
    Close(String),
}

/// To one of them; without both, to whoever is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct To {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "a17")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "t2")]
    pub team: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MacroBody {
    /// In this order. What ends or gives away the conversation comes last.
    #[schema(min_items = 1, max_items = 16)]
    pub actions: Vec<Action>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MacroView {
    pub name: String,
    pub actions: Vec<Action>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Macros {
    pub macros: Vec<MacroView>,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfMacro {
    name: String,
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfMacroIn {
    session: String,
    name: String,
}

impl Action {
    fn fault(&self) -> Option<&'static str> {
        let is_text = |text: &String, max: usize| !text.trim().is_empty() && text.len() <= max;
        match self {
            Action::Say(text) | Action::Note(text) if !is_text(text, TEXT_BYTES_MAX) => {
                Some("a text has 1 to 4096 bytes")
            }
            Action::Label(label) | Action::Unlabel(label) if !is_text(label, chat::limits::LABEL_BYTES_MAX) => {
                Some("a label is empty or too long")
            }
            Action::Snooze(0) => Some("a snooze takes a second at least"),
            Action::Transfer(To { agent: Some(_), team: Some(_) }) => Some("a transfer goes to an agent or a team"),
            Action::Transfer(To { agent: Some(agent), .. }) if agent.parse::<proto::ids::AgentId>().is_err() => {
                Some("a transfer names an agent, e.g. a17")
            }
            Action::Transfer(To { team: Some(team), .. }) if team.parse::<proto::ids::TeamId>().is_err() => {
                Some("a transfer names a team, e.g. t2")
            }
            Action::Close(reason) if reason.len() > chat::limits::REASON_BYTES_MAX => Some("a reason is too long"),
            _ => None,
        }
    }

    /// Behind it the conversation is not the caller's any more.
    fn is_last(&self) -> bool {
        matches!(self, Action::Snooze(_) | Action::Transfer(_) | Action::Close(_))
    }

    fn name(&self) -> &'static str {
        match self {
            Action::Say(_) => "say",
            Action::Note(_) => "note",
            Action::Label(_) => "label",
            Action::Unlabel(_) => "unlabel",
            Action::Snooze(_) => "snooze",
            Action::Transfer(_) => "transfer",
            Action::Close(_) => "close",
        }
    }
}

pub async fn list(app: Data<App>, Tenant(site): Tenant) -> Answer<Macros> {
    let all: Vec<(String, MacroBody)> = shelf::all(&app, site, ItemKind::Macro).await?;
    let view = |(name, body): (String, MacroBody)| MacroView { name, actions: body.actions };
    Ok(Json(Macros { macros: all.into_iter().map(view).collect() }))
}

pub async fn set(app: Data<App>, Tenant(site): Tenant, of: Path<OfMacro>, body: Json<MacroBody>) -> Answer<MacroView> {
    let name = shelf::checked_name(&of.name)?.to_owned();
    let body = body.into_inner();
    if !(1..=ACTIONS_MAX).contains(&body.actions.len()) {
        return Err(Problem::refused("a macro has 1 to 16 actions"));
    }
    if let Some(fault) = body.actions.iter().find_map(Action::fault) {
        return Err(Problem::refused(fault));
    }
    if body.actions.iter().rev().skip(1).any(Action::is_last) {
        return Err(Problem::refused(
            "snooze, transfer and close come last: behind them the conversation is not yours",
        ));
    }
    shelf::put(&app, site, ItemKind::Macro, name.clone(), Some(&body)).await?;
    Ok(Json(MacroView { name, actions: body.actions }))
}

/// Also right when there is none.
pub async fn remove(app: Data<App>, Tenant(site): Tenant, of: Path<OfMacro>) -> Result<HttpResponse, Problem> {
    let name = shelf::checked_name(&of.name)?.to_owned();
    shelf::put::<MacroBody>(&app, site, ItemKind::Macro, name, None).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MacroDone {
    /// Actions that are done.
    pub done: usize,
}

pub async fn run(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfMacroIn>,
    request: HttpRequest,
) -> Answer<MacroDone> {
    let all: Vec<(String, MacroBody)> = shelf::all(&app, caller.site, ItemKind::Macro).await?;
    let found = all.into_iter().find(|(name, _)| *name == path.name);
    let (_, body) = found.ok_or_else(|| Problem::not_found("no such macro"))?;
    let mut deeds = Deeds::begin(&app, &caller, &path.session, &request).await?;
    for (at, action) in body.actions.iter().enumerate() {
        let done = act(&app, &caller, &mut deeds, &format!("m{at}."), action).await;
        done.map_err(|problem| Problem {
            detail: format!("action {} ({}): {}", at + 1, action.name(), problem.detail),
            ..problem
        })?;
    }
    Ok(Json(MacroDone { done: body.actions.len() }))
}

/// Does one action. `part`: tells it from the others of the same key.
async fn act(
    app: &Data<App>,
    caller: &Caller,
    deeds: &mut Deeds<'_>,
    part: &str,
    action: &Action,
) -> Result<(), Problem> {
    let label = |label: &String, on: bool| What::Act(Act::Label { label: label.clone(), on });
    match action {
        Action::Say(text) => {
            let text = canned::fill(app, caller, &deeds.view, text)?;
            deeds.say(part, What::Text { text, reply_to: None, attachments: Vec::new() }).await.map(drop)
        }
        Action::Note(text) => {
            let text = canned::fill(app, caller, &deeds.view, text)?;
            deeds.say(part, What::Act(Act::Note { text, mentions: Vec::new() })).await.map(drop)
        }
        Action::Label(text) => deeds.say(part, label(text, true)).await.map(drop),
        Action::Unlabel(text) => deeds.say(part, label(text, false)).await.map(drop),
        Action::Snooze(seconds) => {
            let Some(conversation) = deeds.view.conversation else { return Err(crate::admin::sessions::closed()) };
            let until_ms = now_ms() + u64::from(*seconds) * 1_000;
            deeds.say(part, What::Act(Act::Snooze { conversation, until_ms })).await.map(drop)
        }
        Action::Transfer(to) => {
            let agent = id_of("agent", to.agent.as_deref())?;
            let team = id_of("team", to.team.as_deref())?;
            deeds.give(agent, team, None).await
        }
        // Behind what the macro said itself: repeated later, it must not end another conversation.
        Action::Close(reason) => deeds.close(reason.clone(), deeds.seen()).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_one_word_and_what_it_needs_and_faults_are_named() {
        let read = |text: &str| serde_json::from_str::<Action>(text);
        let say = read(r#"{"say":"Hello {{visitor.name}}"}"#).unwrap();
        assert_eq!((say.fault(), say.is_last(), say.name()), (None, false, "say"));
        let to = read(r#"{"transfer":{"team":"t2"}}"#).unwrap();
        assert!(to.fault().is_none() && to.is_last());
        for wrong in [r#"{"shout":"x"}"#, r#"{"say":1}"#, r#"{"transfer":{"to":"t2"}}"#, r#""say""#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for faulty in [
            r#"{"say":" "}"#,
            r#"{"snooze":0}"#,
            r#"{"label":""}"#,
            r#"{"transfer":{"team":"t2","agent":"a1"}}"#,
            r#"{"transfer":{"team":"a1"}}"#,
            r#"{"transfer":{"agent":"ann"}}"#,
        ] {
            assert!(read(faulty).unwrap().fault().is_some(), "{faulty}");
        }
        let long = Action::Close("x".repeat(chat::limits::REASON_BYTES_MAX + 1));
        assert!(long.fault().is_some());
    }
}
