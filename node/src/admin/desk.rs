//! Owns a site's desk as administrators see and set it. Does not keep rules: the desk itself does, in its shard's log.
//! Invariant: what is refused says which part of it is wrong.

use super::accounts::id_of;
use super::ask::{Ask, ask, leader_of};
use super::hours::HoursView;
use super::problem::Problem;
use super::sessions::{call_shard, led, read_led};
use super::tenant::Tenant;
use super::{Answer, read_meta};
use crate::run::App;
use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use chat::{fault_of_seat, fault_of_site, fault_of_team};
use cluster::node::ClusterNode;
use proto::client::limits::QUEUE_LIMIT_MAX;
use proto::command::{Command, Target};
use proto::desk::{Channel, Condition, Route, SeatRules, SeatState, SiteRules, TeamRules, Test};
use proto::ids::{AgentId, SessionId, SiteId, TeamId};
use proto::peer::{Refused, ShardCall, ShardReply};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What a team does.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Team {
    #[schema(min_length = 1, max_length = 256, example = "sales")]
    pub name: String,
    /// Its agents are asked, and must accept within so many seconds; 0: conversations are given to them without asking.
    #[serde(default)]
    #[schema(maximum = 3600)]
    pub accept_s: u32,
    /// Its agents take conversations of teams that have nobody free.
    #[serde(default)]
    pub helps: bool,
    /// Conversations that no route sends elsewhere are spread over the teams that say so.
    #[serde(default)]
    pub shares: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TeamView {
    #[schema(value_type = String, example = "t2")]
    pub team: TeamId,
    #[serde(flatten)]
    pub rules: Team,
}

/// What an agent takes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Conversations at once.
    #[schema(maximum = 10000)]
    pub capacity: u32,
    /// Conversations at once of one channel; other channels have the capacity alone.
    #[serde(default)]
    pub channels: Vec<ChannelLimit>,
    /// Of which teams the agent is, e.g. t2.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 64)]
    pub teams: Vec<TeamId>,
    #[serde(default)]
    #[schema(max_items = 32)]
    pub skills: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelLimit {
    pub channel: ChannelName,
    pub capacity: u32,
}

/// By which way a visitor writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelName {
    /// A page.
    Web,
    /// An app on a phone.
    App,
    Api,
    Email,
    Wechat,
    Wecom,
    Feishu,
}

impl ChannelName {
    /// In the order of [`Channel::NAMES`].
    const ALL: [ChannelName; Channel::NAMES.len()] = [
        ChannelName::Web,
        ChannelName::App,
        ChannelName::Api,
        ChannelName::Email,
        ChannelName::Wechat,
        ChannelName::Wecom,
        ChannelName::Feishu,
    ];

    pub fn of(channel: Channel) -> ChannelName {
        ChannelName::ALL.get(usize::from(channel.0)).copied().unwrap_or(ChannelName::Web)
    }

    pub fn channel(self) -> Channel {
        Channel(self as u8)
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SeatState)]
pub enum State {
    Offline,
    Online,
    Busy,
    Away,
}

impl From<SeatState> for State {
    fn from(state: SeatState) -> State {
        match state {
            SeatState::Offline => State::Offline,
            SeatState::Online => State::Online,
            SeatState::Busy => State::Busy,
            SeatState::Away => State::Away,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SeatView {
    #[schema(value_type = String, example = "a17")]
    pub agent: AgentId,
    pub state: State,
    /// Conversations assigned and offered.
    pub open: u32,
    /// Of them, offered.
    pub offered: usize,
    #[serde(flatten)]
    pub rules: Seat,
}

/// How a site routes conversations.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The first whose conditions all hold is taken.
    #[serde(default)]
    #[schema(max_items = 256)]
    pub routes: Vec<RouteView>,
    /// For so long after a conversation its agent comes first for the visitor's next one, in seconds; 0: never.
    #[serde(default)]
    pub sticky_s: u32,
    /// An agent without a socket for so long loses open conversations to the queue, in seconds; 0: never.
    #[serde(default = "requeue_s")]
    pub requeue_s: u32,
    /// Outside of them nobody is given a conversation; without any the site is always open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<HoursView>,
}

/// Unless a site says otherwise.
fn requeue_s() -> u32 {
    (chat::limits::REQUEUE_MS / 1_000) as u32
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteView {
    /// Without any it always holds.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub when: Vec<ConditionView>,
    /// Unless the visitor chose one; without it, one of the teams that share the rest.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "t2")]
    pub team: Option<TeamId>,
    /// What its agent must have.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub skills: Vec<String>,
    /// Higher is served first.
    #[serde(default)]
    pub priority: u8,
}

/// What a fact of the visitor must be: one of three tests.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionView {
    #[schema(min_length = 1, max_length = 256, example = "page")]
    pub fact: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 32)]
    pub is: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_with: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeskView {
    #[schema(value_type = String, example = "site1")]
    pub site: SiteId,
    pub teams: Vec<TeamView>,
    pub seats: Vec<SeatView>,
    pub rules: Rules,
    /// Conversations that wait.
    pub queued: u64,
    /// Of them, those that all who could serve them have just declined: they are asked again in a moment.
    pub aside: u64,
    /// The site is closed by its hours until then, milliseconds since 1970; 0: nobody knows until when. Null: it is open.
    pub closed_until_ms: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct QueueQuery {
    #[param(minimum = 1, maximum = 200, nullable = false)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct QueueView {
    /// The first who wait, in the order in which they are served.
    pub waiting: Vec<WaitingView>,
    /// Of the whole queue.
    pub total: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WaitingView {
    #[schema(value_type = String)]
    pub session: SessionId,
    /// Counted within the session.
    pub conversation: u64,
    /// None: everybody may serve it.
    #[schema(value_type = Option<String>)]
    pub team: Option<TeamId>,
    pub priority: u8,
    /// When it came, milliseconds since 1970.
    pub since_ms: u64,
}

impl Team {
    fn of(rules: TeamRules) -> Team {
        let TeamRules { name, accept_ms, helps, hashed } = rules;
        Team { name, accept_s: accept_ms / 1_000, helps, shares: hashed }
    }

    fn rules(self) -> TeamRules {
        let Team { name, accept_s, helps, shares } = self;
        TeamRules { name, accept_ms: accept_s.saturating_mul(1_000), helps, hashed: shares }
    }
}

impl Seat {
    fn of(rules: SeatRules) -> Seat {
        let SeatRules { capacity, channels, teams, skills } = rules;
        let channels = channels
            .into_iter()
            .map(|(of, capacity)| ChannelLimit { channel: ChannelName::of(of), capacity })
            .collect();
        Seat { capacity, channels, teams, skills }
    }

    fn rules(self) -> SeatRules {
        let Seat { capacity, channels, teams, skills } = self;
        let mut channels: Vec<(Channel, u32)> =
            channels.into_iter().map(|limit| (limit.channel.channel(), limit.capacity)).collect();
        channels.sort_unstable();
        SeatRules { capacity, channels, teams: sorted(teams), skills: sorted(skills) }
    }
}

impl Rules {
    fn of(rules: SiteRules) -> Rules {
        let route = |Route { when, team, skills, priority }: Route| RouteView {
            when: when.into_iter().map(ConditionView::of).collect(),
            team,
            skills,
            priority,
        };
        Rules {
            routes: rules.routes.into_iter().map(route).collect(),
            sticky_s: u32::try_from(rules.sticky_ms / 1_000).unwrap_or(u32::MAX),
            requeue_s: u32::try_from(rules.requeue_ms / 1_000).unwrap_or(u32::MAX),
            hours: rules.hours.map(HoursView::of),
        }
    }

    fn rules(self) -> Result<SiteRules, Problem> {
        let mut routes = Vec::with_capacity(self.routes.len());
        for RouteView { when, team, skills, priority } in self.routes {
            let when = when.into_iter().map(ConditionView::condition).collect::<Result<_, _>>()?;
            routes.push(Route { when, team, skills: sorted(skills), priority });
        }
        let [sticky_ms, requeue_ms] = [self.sticky_s, self.requeue_s].map(|seconds| u64::from(seconds) * 1_000);
        let hours = self.hours.map(HoursView::hours).transpose()?;
        Ok(SiteRules { routes, sticky_ms, requeue_ms, hours })
    }
}

impl ConditionView {
    fn of(Condition { fact, test }: Condition) -> ConditionView {
        let mut view = ConditionView { fact, is: None, starts_with: None, contains: None };
        match test {
            Test::Is(any) => view.is = Some(any),
            Test::StartsWith(start) => view.starts_with = Some(start),
            Test::Contains(part) => view.contains = Some(part),
        }
        view
    }

    fn condition(self) -> Result<Condition, Problem> {
        let test = match (self.is, self.starts_with, self.contains) {
            (Some(any), None, None) => Test::Is(sorted(any)),
            (None, Some(start), None) => Test::StartsWith(start),
            (None, None, Some(part)) => Test::Contains(part),
            _ => return Err(Problem::refused("a condition has one of is, starts_with, contains")),
        };
        Ok(Condition { fact: self.fact, test })
    }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list.dedup();
    list
}

pub fn site_of(app: &App, name: &str) -> Result<SiteId, Problem> {
    let site = read_meta(app, |state| state.site_by_name(name).map(|(site, _)| site))?;
    site.ok_or_else(|| Problem::not_found("no such site"))
}

/// Reads a desk at the leader of its shard.
/// # Errors
/// This node does not lead it.
pub async fn inspect(node: &ClusterNode, site: SiteId) -> Result<DeskView, Problem> {
    let shard = led(node, Target::Desk(site), "site")?;
    let view = read_led(&shard, "site", |state, rows| state.desk(rows, site)).await?;
    let seat = |seat: chat::SeatView| SeatView {
        agent: seat.agent,
        state: seat.state.into(),
        open: seat.open,
        offered: seat.offered,
        rules: Seat::of(seat.rules),
    };
    Ok(DeskView {
        site,
        teams: view.teams.into_iter().map(|(team, rules)| TeamView { team, rules: Team::of(rules) }).collect(),
        seats: view.seats.into_iter().map(seat).collect(),
        rules: Rules::of(view.rules),
        queued: view.queue_len,
        aside: view.aside,
        closed_until_ms: view.closed,
    })
}

pub async fn show(app: Data<App>, Tenant(site): Tenant) -> Answer<DeskView> {
    let leader = leader_of(&app, app.cluster.router.shard_of(Target::Desk(site)))?;
    Ok(Json(ask(&app, leader, &Ask::Desk { site }).await?))
}

pub async fn queue(app: Data<App>, Tenant(site): Tenant, query: Query<QueueQuery>) -> Answer<QueueView> {
    let limit = query.limit.unwrap_or(50);
    if !(1..=QUEUE_LIMIT_MAX as u32).contains(&limit) {
        return Err(Problem::bad_request("limit is 1 to 200"));
    }
    let shard = app.cluster.router.shard_of(Target::Desk(site));
    match call_shard(&app, shard, ShardCall::Queue { site, limit }).await {
        ShardReply::Queue { waiting, total } => {
            let view = |one: proto::peer::Waiting| WaitingView {
                session: one.session,
                conversation: one.conversation,
                team: (one.team != TeamId(0)).then_some(one.team),
                priority: one.priority,
                since_ms: one.since_ms,
            };
            Ok(Json(QueueView { waiting: waiting.into_iter().map(view).collect(), total }))
        }
        _ => Err(Problem::unavailable(format!("{shard} has no leader just now, try again"))),
    }
}

/// Logs a command of a desk. `fault`: what is wrong with it.
async fn set(app: &App, site: SiteId, command: Command, fault: Option<&'static str>) -> Result<(), Problem> {
    if let Some(what) = fault {
        return Err(Problem::refused(format!("{what}: empty, too long, too many, or out of range")));
    }
    let shard = app.cluster.router.shard_of(Target::Desk(site));
    match call_shard(app, shard, ShardCall::Propose(command)).await {
        ShardReply::Done => Ok(()),
        ShardReply::Refused(Refused::LimitReached) => Err(Problem::refused("the site has as many as there may be")),
        ShardReply::Refused(_) => Err(Problem::refused("the rules do not allow it")),
        _ => Err(Problem::unavailable(format!("{shard} has no leader just now, try again"))),
    }
}

pub async fn set_rules(app: Data<App>, Tenant(site): Tenant, body: Json<Rules>) -> Answer<Rules> {
    let rules = body.into_inner().rules()?;
    let fault = fault_of_site(&rules);
    set(&app, site, Command::PutSite { site, rules: rules.clone() }, fault).await?;
    Ok(Json(Rules::of(rules)))
}

fn known_team(team: &str) -> Result<TeamId, Problem> {
    id_of("team", Some(team))?.ok_or_else(|| Problem::not_found("no such team"))
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfTeam {
    team: String,
}

pub async fn set_team(app: Data<App>, Tenant(site): Tenant, of: Path<OfTeam>, body: Json<Team>) -> Answer<TeamView> {
    let team = known_team(&of.team)?;
    let rules = body.into_inner().rules();
    let fault = fault_of_team(team, Some(&rules));
    set(&app, site, Command::PutTeam { site, team, rules: Some(rules.clone()) }, fault).await?;
    Ok(Json(TeamView { team, rules: Team::of(rules) }))
}

/// Also right when there is none.
pub async fn remove_team(app: Data<App>, Tenant(site): Tenant, of: Path<OfTeam>) -> Result<HttpResponse, Problem> {
    let team = known_team(&of.team)?;
    set(&app, site, Command::PutTeam { site, team, rules: None }, fault_of_team(team, None)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Of a path.
#[derive(Debug, Deserialize)]
pub struct OfAgent {
    agent: String,
}

pub async fn set_seat(app: Data<App>, Tenant(site): Tenant, of: Path<OfAgent>, body: Json<Seat>) -> Answer<Seat> {
    let agent: AgentId = id_of("agent", Some(&of.agent))?.ok_or_else(|| Problem::not_found("no such agent"))?;
    if read_meta(&app, |state| state.agents.get(&agent).map(|row| row.site))? != Some(site) {
        return Err(Problem::not_found("no such agent"));
    }
    let rules = body.into_inner().rules();
    let fault = fault_of_seat(&rules);
    set(&app, site, Command::PutSeat { site, agent, rules: rules.clone() }, fault).await?;
    Ok(Json(Seat::of(rules)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_has_the_name_that_the_rules_know_it_by() {
        for (number, name) in (0..).zip(Channel::NAMES) {
            let told = ChannelName::of(Channel(number));
            assert_eq!(serde_json::to_value(told).unwrap(), name);
            assert_eq!(told.channel(), Channel(number));
        }
    }
}
