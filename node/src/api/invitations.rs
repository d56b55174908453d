//! Owns an agent's invitation to a visitor who is on the site. Does not decide who may be invited: the visitor's session does.
//! Invariant: of several at once one is made, and under one `Idempotency-Key` it is made once.

use super::access::{Caller, Who};
use super::conversations::OfSession;
use super::deeds::{Deeds, SentView, What};
use super::online::{OnlineAsk, OnlineFound};
use crate::admin::Answer;
use crate::admin::ask::{Ask, ask_all};
use crate::admin::problem::Problem;
use crate::run::App;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path, ReqData};
use cluster::shard::now_ms;
use proto::act::Act;
use proto::ids::{NodeId, SessionId, SiteId};
use serde::Deserialize;
use utoipa::ToSchema;

const MINUTE_MS: u64 = 60_000;
const MINUTES_MAX: u32 = (chat::limits::INVITE_MS_MAX / MINUTE_MS) as u32;
const MINUTES_DEFAULT: u32 = 10;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteBody {
    /// What the visitor reads first.
    #[schema(min_length = 1, max_length = 16384)]
    pub text: String,
    /// For so long may the visitor answer; 10 unless said otherwise.
    #[schema(minimum = 1, maximum = 60, nullable = false)]
    pub minutes: Option<u32>,
}

pub async fn invite(
    app: Data<App>,
    caller: ReqData<Caller>,
    path: Path<OfSession>,
    request: HttpRequest,
    body: Json<InviteBody>,
) -> Answer<SentView> {
    let InviteBody { text, minutes } = body.into_inner();
    let minutes = minutes.unwrap_or(MINUTES_DEFAULT);
    if !(1..=MINUTES_MAX).contains(&minutes) {
        return Err(Problem::bad_request("minutes are 1 to 60"));
    }
    let mut deeds = Deeds::begin(&app, &caller, &path.session, &request).await?;
    if !matches!(caller.who, Who::Agent { .. }) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "an agent invites, not a key"));
    }
    let is_there = is_on_site(&app, caller.site, deeds.view.session).await;
    // Of a visitor who has gone the session is asked all the same: an invitation that was made is made, whoever asks again. A new one is
    // over before it begins, and refused.
    let until_ms = if is_there { now_ms() + u64::from(minutes) * MINUTE_MS } else { 0 };
    let act = Act::Invite { text: text.clone(), until_ms };
    let part = format!("invite {}", What::Text { text, reply_to: None, attachments: Vec::new() }.name());
    match deeds.say(&part, What::Act(act)).await {
        Ok(sent) => Ok(Json(sent)),
        Err(problem) if problem.status == StatusCode::UNPROCESSABLE_ENTITY.as_u16() && !is_there => {
            Err(Problem::conflict("the visitor is not on the site now"))
        }
        Err(problem) => Err(problem),
    }
}

/// Whether a page of the visitor is open, at any node that answers.
async fn is_on_site(app: &App, site: SiteId, session: SessionId) -> bool {
    let asked = OnlineAsk { site, after: session.0.checked_sub(1).map(SessionId), limit: 1 };
    let found: Vec<(NodeId, OnlineFound)> = ask_all(app, || Ask::Online(asked.clone())).await;
    found.iter().any(|(_, found)| found.begins_with(session))
}
