//! Owns what the byte tests need of e-mails. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::samples::{NOW_MS, SESSION, SITE};
use proptest::collection::vec;
use proptest::prelude::*;
use proto::command::{Command, SecretBytes, SiteChange};
use proto::email::*;
use proto::peer::{ShardCall, ShardReply};

fn sample() -> Email {
    Email {
        site: SITE,
        session: SESSION,
        kind: EmailKind::Missed,
        number: 300,
        first: 250,
        upto: 251,
        to: "ada@example.com".into(),
        due_ms: NOW_MS,
        since_ms: NOW_MS - 1,
        tries: 2,
        why: "452 later".into(),
        stage: EmailStage::Sealed,
    }
}

pub fn command_samples() -> Vec<(&'static str, Command)> {
    let kind = EmailKind::Form;
    let found = vec![EmailFound { site: SITE, session: SESSION, kind, seq: 250, due_ms: NOW_MS }];
    let step = EmailStep { version: 8, after: 70_000, missed: 250, found };
    let told = |fate| EmailTold { session: SESSION, kind: EmailKind::Transcript, number: 300, tries: 2, fate };
    let why = || "550 no such mailbox".to_owned();
    let fates = vec![
        told(EmailFate::Sealed { secret: SecretBytes(vec![7; 3]) }),
        told(EmailFate::Over),
        told(EmailFate::Later { due_ms: NOW_MS }),
        told(EmailFate::Failed { why: why(), due_ms: NOW_MS }),
        told(EmailFate::Dead { why: why(), due_ms: NOW_MS }),
    ];
    let ask = EmailChange::Ask { session: SESSION, id: 300, to: "ada@example.com".into(), limited: true };
    let of = |change| Command::Email { change };
    vec![
        ("email step", of(EmailChange::Step(Box::new(step)))),
        ("email told", of(EmailChange::Told(fates))),
        ("email ask", of(ask)),
        ("email unsubscribe", of(EmailChange::Unsubscribe { session: SESSION, secret: SecretBytes(vec![7; 3]) })),
        ("email again", of(EmailChange::Again { session: SESSION, number: 300 })),
        ("email forget", of(EmailChange::Forget { session: SESSION, number: 300 })),
    ]
}

pub fn call() -> (&'static str, ShardCall) {
    ("emails", ShardCall::Emails { site: SITE, limit: 300 })
}

pub fn reply() -> (&'static str, ShardReply) {
    ("emails", ShardReply::Emails { emails: vec![sample()], total: 300 })
}

fn kind() -> impl Strategy<Value = EmailKind> {
    prop::sample::select(vec![EmailKind::Missed, EmailKind::Form, EmailKind::Transcript])
}

fn stage() -> impl Strategy<Value = EmailStage> {
    prop::sample::select(vec![EmailStage::Gathers, EmailStage::Sealed, EmailStage::Dead])
}

fn email() -> impl Strategy<Value = Email> {
    let numbers = any::<[u64; 5]>();
    ((site(), session(), kind(), stage()), numbers, (word(), text(), any::<u32>())).prop_map(
        |((site, session, kind, stage), [number, first, upto, due_ms, since_ms], (to, why, tries))| Email {
            site,
            session,
            kind,
            number,
            first,
            upto,
            to,
            due_ms,
            since_ms,
            tries,
            why,
            stage,
        },
    )
}

fn fate() -> impl Strategy<Value = EmailFate> {
    prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(|secret| EmailFate::Sealed { secret: SecretBytes(secret) }),
        Just(EmailFate::Over),
        any::<u64>().prop_map(|due_ms| EmailFate::Later { due_ms }),
        (text(), any::<u64>()).prop_map(|(why, due_ms)| EmailFate::Failed { why, due_ms }),
        (text(), any::<u64>()).prop_map(|(why, due_ms)| EmailFate::Dead { why, due_ms }),
    ]
}

fn told() -> impl Strategy<Value = EmailTold> {
    (session(), kind(), any::<(u64, u32)>(), fate()).prop_map(|(session, kind, (number, tries), fate)| EmailTold {
        session,
        kind,
        number,
        tries,
        fate,
    })
}

fn step() -> impl Strategy<Value = EmailStep> {
    let found = (site(), session(), kind(), any::<(u64, u64)>())
        .prop_map(|(site, session, kind, (seq, due_ms))| EmailFound { site, session, kind, seq, due_ms });
    (any::<[u64; 3]>(), vec(found, 0..4)).prop_map(|([version, after, missed], found)| EmailStep {
        version,
        after,
        missed,
        found,
    })
}

pub fn command() -> impl Strategy<Value = Command> {
    let change = prop_oneof![
        step().prop_map(|step| EmailChange::Step(Box::new(step))),
        vec(told(), 0..4).prop_map(EmailChange::Told),
        (session(), any::<(u128, bool)>(), word()).prop_map(|(session, (id, limited), to)| EmailChange::Ask {
            session,
            id,
            to,
            limited
        }),
        (session(), vec(any::<u8>(), 0..20))
            .prop_map(|(session, secret)| EmailChange::Unsubscribe { session, secret: SecretBytes(secret) }),
        (session(), any::<u64>()).prop_map(|(session, number)| EmailChange::Again { session, number }),
        (session(), any::<u64>()).prop_map(|(session, number)| EmailChange::Forget { session, number }),
    ];
    change.prop_map(|change| Command::Email { change })
}

pub fn site_change() -> impl Strategy<Value = SiteChange> {
    let language = prop::sample::select(vec![EmailLanguage::English, EmailLanguage::Chinese]);
    (any::<(bool, u64, u32, u32)>(), word(), text(), text(), language).prop_map(
        |((on, since_ms, missed_after_s, form_after_s), forms_to, sender, base_url, language)| SiteChange::Email {
            rules: EmailRules { on, since_ms, missed_after_s, forms_to, form_after_s, sender, base_url, language },
        },
    )
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    (site(), any::<u32>()).prop_map(|(site, limit)| ShardCall::Emails { site, limit })
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    (vec(email(), 0..4), any::<u64>()).prop_map(|(emails, total)| ShardReply::Emails { emails, total })
}
