//! Owns what the byte tests need of webhooks and of keys for the API. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::emails;
use super::samples::{AGENT, HASH, NOW_MS, SESSION, SITE};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::command::*;
use proto::ids::WebhookId;
use proto::peer::{ShardCall, ShardReply};
use proto::webhook::*;

const HOOK: WebhookId = WebhookId(300);

fn lag() -> Lag {
    Lag { session: SESSION, next: 250, upto: 300, tries: 3, since_ms: NOW_MS, why: "status 500".into() }
}

pub fn commands() -> Vec<(&'static str, Command)> {
    let step = WebhookStep {
        version: 7,
        after: 70_000,
        lags: vec![lag()],
        given_up: vec![GivenUp { session: SESSION, seq: 249, why: "status 410".into() }],
        again: vec![(1, None), (2, Some("timed out".into()))],
        missed: 250,
    };
    let of = |change| Command::Webhook { webhook: HOOK, change };
    vec![
        ("webhook begin", of(WebhookChange::Begin)),
        ("webhook step", of(WebhookChange::Step(Box::new(step)))),
        ("webhook replay", of(WebhookChange::Replay { letter: Some(9) })),
        ("webhook forget", of(WebhookChange::Forget { letter: 9 })),
        ("webhook end", of(WebhookChange::End)),
    ]
}

pub fn meta_commands() -> Vec<(&'static str, MetaCommand)> {
    let (url, kinds) = ("https://a.example/hook".into(), vec!["closed".into(), "message".into()]);
    let rules = WebhookRules { url, kinds, give_up_s: 86_400, on: true };
    let secret = SecretBytes(HASH.to_vec());
    vec![
        ("put webhook", MetaCommand::PutWebhook { site: SITE, name: "crm".into(), rules, secret: secret.clone() }),
        ("set webhook secret", MetaCommand::SetWebhookSecret { webhook: HOOK, secret, before_until_ms: NOW_MS }),
        ("remove webhook", MetaCommand::RemoveWebhook { webhook: HOOK }),
        ("create api key", create_api_key()),
        ("retention", configure(SiteChange::Retention { days: 30 })),
        ("revoke api key", MetaCommand::RevokeApiKey { site: SITE, name: "crm".into() }),
    ]
}

fn configure(change: SiteChange) -> MetaCommand {
    MetaCommand::ConfigureSite { site: SITE, change }
}

fn create_api_key() -> MetaCommand {
    let (name, scopes) = ("crm".into(), vec!["conversations:read".into()]);
    MetaCommand::CreateApiKey { key: HASH, site: SITE, name, scopes, expires_ms: Some(NOW_MS) }
}

pub fn calls() -> [(&'static str, ShardCall); 2] {
    [
        ("webhook", ShardCall::Webhook { webhook: HOOK }),
        ("agent token", ShardCall::AgentToken { agent: AGENT, token: HASH }),
    ]
}

pub fn replies() -> [(&'static str, ShardReply); 2] {
    let (number, session, seq, at_ms, why) = (9, SESSION, 248, NOW_MS, "status 404".into());
    let dead = vec![DeadLetter { number, session, seq, at_ms, why, again: true }];
    let state =
        WebhookState { version: 8, after: 70_000, lags: vec![lag()], dead, letters: 9, dropped: 2, missed: 250 };
    [
        ("webhook", ShardReply::Webhook { state: Some(state), head: 70_001 }),
        ("webhook unknown", ShardReply::Webhook { state: None, head: 70_001 }),
    ]
}

fn hook() -> impl Strategy<Value = WebhookId> {
    any::<u64>().prop_map(WebhookId)
}

fn lags() -> impl Strategy<Value = Vec<Lag>> {
    let lag = (session(), any::<(u64, u64, u32, u64)>(), text());
    vec(lag, 0..4).prop_map(|lags| {
        let lag = |(session, (next, upto, tries, since_ms), why)| Lag { session, next, upto, tries, since_ms, why };
        lags.into_iter().map(lag).collect()
    })
}

fn step() -> impl Strategy<Value = WebhookStep> {
    let given_up = (session(), any::<u64>(), text()).prop_map(|(session, seq, why)| GivenUp { session, seq, why });
    (any::<(u64, u64, u64)>(), lags(), vec(given_up, 0..4), vec((any::<u64>(), option::of(text())), 0..4)).prop_map(
        |((version, after, missed), lags, given_up, again)| WebhookStep {
            version,
            after,
            lags,
            given_up,
            again,
            missed,
        },
    )
}

pub fn command() -> impl Strategy<Value = Command> {
    let change = prop_oneof![
        Just(WebhookChange::Begin),
        step().prop_map(|step| WebhookChange::Step(Box::new(step))),
        option::of(any::<u64>()).prop_map(|letter| WebhookChange::Replay { letter }),
        any::<u64>().prop_map(|letter| WebhookChange::Forget { letter }),
        Just(WebhookChange::End),
    ];
    (hook(), change).prop_map(|(webhook, change)| Command::Webhook { webhook, change })
}

fn site_change() -> impl Strategy<Value = SiteChange> {
    let mode =
        any::<bool>().prop_map(|required| if required { IdentityMode::Required } else { IdentityMode::Optional });
    prop_oneof![
        any::<u32>().prop_map(|days| SiteChange::Retention { days }),
        any::<u32>().prop_map(|days| SiteChange::Archive { days }),
        option::of(any::<u32>()).prop_map(|hours| SiteChange::ArchiveFiles { hours }),
        mode.prop_map(|mode| SiteChange::Identity { mode }),
        (word(), option::of(bytes()))
            .prop_map(|(name, secret)| SiteChange::IdentityKey { name, secret: secret.map(SecretBytes) }),
        emails::site_change(),
    ]
}

pub fn meta_command() -> impl Strategy<Value = MetaCommand> {
    let rules = (text(), vec(word(), 0..4), any::<(u32, bool)>())
        .prop_map(|(url, kinds, (give_up_s, on))| WebhookRules { url, kinds, give_up_s, on });
    prop_oneof![
        (site(), word(), rules, bytes()).prop_map(|(site, name, rules, secret)| {
            MetaCommand::PutWebhook { site, name, rules, secret: SecretBytes(secret) }
        }),
        (hook(), bytes(), any::<u64>()).prop_map(|(webhook, secret, before_until_ms)| {
            MetaCommand::SetWebhookSecret { webhook, secret: SecretBytes(secret), before_until_ms }
        }),
        hook().prop_map(|webhook| MetaCommand::RemoveWebhook { webhook }),
        (token(), site(), word(), vec(word(), 0..4), option::of(any::<u64>())).prop_map(
            |(key, site, name, scopes, expires_ms)| MetaCommand::CreateApiKey { key, site, name, scopes, expires_ms }
        ),
        (site(), word()).prop_map(|(site, name)| MetaCommand::RevokeApiKey { site, name }),
        (site(), site_change()).prop_map(|(site, change)| MetaCommand::ConfigureSite { site, change }),
    ]
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    prop_oneof![
        hook().prop_map(|webhook| ShardCall::Webhook { webhook }),
        (agent(), token()).prop_map(|(agent, token)| ShardCall::AgentToken { agent, token }),
    ]
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    let letter = (any::<(u64, u64, u64, bool)>(), session(), text())
        .prop_map(|((number, seq, at_ms, again), session, why)| DeadLetter { number, session, seq, at_ms, why, again });
    let state = (any::<[u64; 5]>(), lags(), vec(letter, 0..4)).prop_map(
        |([version, after, letters, dropped, missed], lags, dead)| WebhookState {
            version,
            after,
            lags,
            dead,
            letters,
            dropped,
            missed,
        },
    );
    (option::of(state), any::<u64>()).prop_map(|(state, head)| ShardReply::Webhook { state, head })
}
