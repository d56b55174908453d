//! Owns the samples and the arbitrary values of what a site does about a visitor as a whole, and of every refusal. See `samples` and `arbitrary`.

use super::arbitrary::{party, session, site, word};
use super::samples::{AGENT, HASH, NOW_MS, SESSION, SITE};
use proptest::option;
use proptest::prelude::*;
use proto::act::{Again, Prompt};
use proto::command::{Carried, Command, Mail, Party};
use proto::desk::{About, Channel};
use proto::ids::{SessionId, TeamId, VisitorId};
use proto::peer::Refused;

pub fn commands() -> Vec<(&'static str, Command)> {
    vec![
        ("block", Command::Block { session: SESSION, until_ms: Some(NOW_MS) }),
        ("bar", {
            let (device, cid) = ("d1".into(), "c-1".into());
            Command::Bar { session: SESSION, from: Party::Visitor, device, n: 9, cid }
        }),
        ("identify", {
            let (visitor, proof) = (VisitorId(u128::MAX - 1), HASH);
            Command::Identify { session: SESSION, site: SITE, visitor, token: HASH, proof, until_ms: NOW_MS }
        }),
        ("logout", Command::Logout { session: SESSION, token: HASH }),
        ("merge", Command::Merge { session: SESSION, token: HASH, into: SessionId(u128::MAX) }),
        ("erase", Command::Erase { session: SESSION, upto: 251, forget: true }),
        ("prompt", {
            let (trigger, name, text) = ("hello".into(), Some("Ada".into()), "grüß dich".into());
            let (again, visit, team) = (Again::After { ms: 251 }, 3, Some(TeamId(2)));
            let prompt = Box::new(Prompt { trigger, name, text, again, visit, team });
            Command::Prompt { session: SESSION, site: SITE, prompt }
        }),
    ]
}

fn prompt() -> impl Strategy<Value = Prompt> {
    let again =
        prop_oneof![Just(Again::Never), Just(Again::NextVisit), any::<u64>().prop_map(|ms| Again::After { ms }),];
    (word(), option::of(word()), word(), again, any::<u64>(), option::of(any::<u32>().prop_map(TeamId)))
        .prop_map(|(trigger, name, text, again, visit, team)| Prompt { trigger, name, text, again, visit, team })
}

pub fn merged() -> Mail {
    let attributes = vec![("plan".into(), "pro".into())];
    let about = About { team: Some(TeamId(2)), facts: vec![("page".into(), "/shop".into())], channel: Channel(1) };
    let (agent, blocked_ms, unsubscribed) = (Some(AGENT), Some(NOW_MS), true);
    let carried = Box::new(Carried { attributes, about, agent, is_open: true, blocked_ms, unsubscribed });
    Mail::Merged { session: SESSION, from: SessionId(u128::MAX), site: SITE, upto: 251, carried }
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (session(), option::of(any::<u64>())).prop_map(|(session, until_ms)| Command::Block { session, until_ms }),
        (session(), party(), (word(), any::<u64>(), word()))
            .prop_map(|(session, from, (device, n, cid))| { Command::Bar { session, from, device, n, cid } }),
        (session(), site(), any::<u128>(), any::<([u8; 32], [u8; 32], u64)>()).prop_map(
            |(session, site, visitor, (token, proof, until_ms))| {
                let visitor = VisitorId(visitor);
                Command::Identify { session, site, visitor, token, proof, until_ms }
            }
        ),
        (session(), any::<[u8; 32]>()).prop_map(|(session, token)| Command::Logout { session, token }),
        (session(), any::<[u8; 32]>(), session()).prop_map(|(session, token, into)| Command::Merge {
            session,
            token,
            into
        }),
        (session(), site(), prompt()).prop_map(|(session, site, prompt)| Command::Prompt {
            session,
            site,
            prompt: Box::new(prompt)
        }),
        (session(), any::<u64>(), any::<bool>()).prop_map(|(session, upto, forget)| Command::Erase {
            session,
            upto,
            forget
        }),
    ]
}

pub fn refusals() -> Vec<(&'static str, Refused)> {
    vec![
        ("unknown session", Refused::UnknownSession),
        ("unknown agent", Refused::UnknownAgent),
        ("bad token", Refused::BadToken),
        ("not yours", Refused::NotYours),
        ("conversation closed", Refused::ConversationClosed),
        ("cid gap", Refused::CidGap { expected: 251 }),
        ("text too large", Refused::TextTooLarge),
        ("text empty", Refused::TextEmpty),
        ("cid invalid", Refused::CidInvalid),
        ("device invalid", Refused::DeviceInvalid),
        ("inbox gap", Refused::InboxGap { expected: 1 }),
        ("limit reached", Refused::LimitReached),
        ("changed", Refused::Changed),
        ("offer gone", Refused::OfferGone),
        ("rules invalid", Refused::RulesInvalid),
        ("seat full", Refused::SeatFull),
        ("not there", Refused::NotThere),
        ("target invalid", Refused::TargetInvalid),
        ("too late", Refused::TooLate),
        ("act invalid", Refused::ActInvalid),
        ("blocked", Refused::Blocked),
        ("attachment invalid", Refused::AttachmentInvalid),
        ("day full", Refused::DayFull),
        ("site full", Refused::SiteFull),
        ("talking", Refused::Talking),
        ("invited", Refused::Invited),
        ("too often", Refused::TooOften),
        ("archive away", Refused::ArchiveAway),
    ]
}
