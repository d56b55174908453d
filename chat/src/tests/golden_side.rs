//! Owns samples of what a shard keeps beside conversations, for the tests of stored bytes. See `golden`.

use super::golden::{AGENT, AGENT_PARTY, SESSION};
use crate::keys;
use crate::rollup::RollupKey;
use crate::rows::*;
use proto::archive::{ArchivedObject, ArchivedRange, FileObject};
use proto::attachment::{Attachment, UrlSecret, Variant};
use proto::audit::{AuditAct, AuditEntry, AuditLine, AuditPhase, ChainPoint};
use proto::codec::encode;
use proto::command::SecretBytes;
use proto::desk::SeatState;
use proto::email::{Email, EmailKind, EmailStage};
use proto::ids::{AttachmentId, SiteId, TeamId};
use proto::report::{Figures, ReportKind};
use proto::webhook::{DeadLetter, Lag, WebhookState};

pub(super) fn rollup_row() -> RollupRow {
    let mut figures = Figures { opened: 3, scores: [0, 0, -1, 0, 300], online_ms: 3_600_000, ..Figures::default() };
    (figures.held_max, figures.from_system) = (4, 2);
    [250, 90_000, 90_001].into_iter().for_each(|ms| figures.wait.add(ms));
    RollupRow { figures, label: "refund".into(), labels: 2 }
}

pub(super) fn stint_row() -> StintRow {
    let (since_ms, due_ms) = (1_763_700_000_000, 1_764_304_800_000);
    StintRow { site: SiteId(7), since_ms, due_ms, state: SeatState::Busy, held: 3 }
}

pub(super) fn talk_row() -> TalkRow {
    let (team, agent) = (Some(TeamId(2)), Some(AGENT));
    TalkRow {
        opened_ms: 1_763_700_000_000,
        first_ms: 1_763_700_000_000,
        asked_ms: 1_763_700_000_001,
        waits_ms: 1_763_700_000_002,
        team,
        agent,
        first_response_ms: Some(9_000),
        waits: SomeRow { count: 1, sum_ms: 9_000, max_ms: 9_000 },
        responses: SomeRow { count: 2, sum_ms: 300, max_ms: 251 },
        from_visitors: 3,
        from_agents: 2,
        rated: Some(RatedRow { score: 4, team, agent }),
    }
}

pub(super) fn chain_row() -> ChainRow {
    let (head, cut) = (ChainPoint { seq: 300, hash: [8; 32] }, ChainPoint { seq: 9, hash: [9; 32] });
    ChainRow { head, cut, ts_ms: 1_763_700_000_000, seen: vec![SeenRow { act: 1 << 100, is_end: true, seq: 300 }] }
}

pub(super) fn archived_row() -> ArchivedRow {
    let object = ArchivedObject { name: "c/1/s/1-2-h".into(), sha256: [8; 32], bytes: 300, plain_bytes: 70_000 };
    let files = vec![(2, AttachmentId(300))];
    let range = ArchivedRange { first: 1, last: 2, object: Some(object), marks: vec![3_527_400_000_001, 2_000], files };
    let erased = ArchivedRange { first: 3, last: 3, object: None, marks: vec![7], files: Vec::new() };
    ArchivedRow { ranges: vec![range, erased] }
}

pub(super) fn audit_row() -> AuditRow {
    let act = AuditAct {
        act: 1 << 100,
        phase: AuditPhase::Done { begun: 299, status: 204 },
        who: "key:crm".into(),
        role: "key".into(),
        address: "192.0.2.7".into(),
        node: "n3".into(),
        method: "DELETE".into(),
        route: "/v1/teams/{team}".into(),
        target: "/v1/teams/t2".into(),
        body: Some([7; 32]),
    };
    AuditRow { line: AuditLine { entry: AuditEntry { seq: 300, ts_ms: 1_763_700_000_000, act }, hash: [8; 32] } }
}

pub(super) fn attachment() -> Attachment {
    Attachment {
        id: AttachmentId(300),
        name: "grüße.png".into(),
        media: "image/png".into(),
        bytes: 65_536,
        width: 251,
        height: 1,
        thumbnail: 250,
        secret: UrlSecret([7; 16]),
    }
}

pub(super) fn attachment_row() -> AttachmentRow {
    let pieces = vec![PieceRow { variant: Variant::Thumbnail, number: 0, bytes: 250, hash: u64::MAX }];
    let done = Some(DoneRow { attachment: attachment(), source: [1; 32], sha256: [2; 32] });
    let (site, by, made_ms) = (SiteId(7), AGENT_PARTY, 1_763_700_000_000);
    let objects = vec![FileObject { name: "c/1/s/f-1-h".into(), bytes: 300, parts: vec![[8; 32]] }];
    AttachmentRow { site, by, made_ms, pieces, done, seq: Some(300), sent_ms: 1_763_700_000_000, objects }
}

pub(super) fn reach_row() -> ReachRow {
    let (trigger, ms) = ("hello".to_owned(), 1_763_700_000_000);
    ReachRow {
        prompts: vec![PromptRow { trigger: trigger.clone(), ms, visit: 3 }],
        said: Some(SaidRow { trigger, ms, seq: 251, team: Some(TeamId(2)) }),
        invite: Some(InviteRow { agent: AGENT, seq: 300, until_ms: ms }),
        invited_ms: vec![ms],
        declined_ms: ms,
    }
}

/// Those of the archive.
pub(super) fn archive_lines() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("archived key", keys::archived(SESSION)),
        ("archived", encode(&archived_row())),
        ("object key", keys::object((SESSION, 300))),
        ("object", encode(&ObjectRow { name: "c/1/s/1-2-h".into(), since_ms: 300, is_dropped: true })),
    ]
}

/// Those of files that go with messages.
pub(super) fn email() -> Email {
    let (kind, stage) = (EmailKind::Form, EmailStage::Dead);
    let (to, why) = ("a@b.example".to_owned(), "550".to_owned());
    let (number, first, upto, due_ms, since_ms, tries) = (300, 250, 251, 252, 253, 2);
    Email { site: SiteId(7), session: SESSION, kind, number, first, upto, to, due_ms, since_ms, tries, why, stage }
}

pub(super) fn email_stand() -> EmailStandRow {
    EmailStandRow { unsubscribed: true, secret: SecretBytes(vec![7; 3]), asked: vec![(300, 9)] }
}

pub(super) fn email_lines() -> Vec<(&'static str, Vec<u8>)> {
    let course = EmailCourseRow { version: 300, after: 70_000, numbers: 251, missed: 9 };
    vec![
        ("email key", keys::email((SESSION, EmailKind::Form, 300))),
        ("email", encode(&EmailRow { email: email() })),
        ("email stand key", keys::email_stand(SESSION)),
        ("email stand", encode(&email_stand())),
        ("email course key", keys::EMAIL_COURSE.to_vec()),
        ("email course", encode(&course)),
    ]
}

pub(super) fn attachment_lines() -> Vec<(&'static str, Vec<u8>)> {
    let key = (SESSION, AttachmentId(300));
    vec![
        ("due unsent", encode(&DueRow::Unsent { session: SESSION })),
        ("attachment key", keys::attachment(key)),
        ("attachment", encode(&attachment_row())),
        ("attachment chunk key", keys::attachment_chunk((key.0, key.1, Variant::Thumbnail, 258))),
        ("attachment chunk", encode(&ChunkRow { bytes: vec![0, 255] })),
        ("attachment day key", keys::attachment_day(SESSION)),
        ("attachment day", encode(&DayRow { day: 20_413, files: 9, bytes: 300 })),
        ("attachment usage key", keys::attachment_usage(SiteId(7))),
        ("attachment usage", encode(&UsageRow { files: 9, bytes: 300, moved: 4 })),
        ("here key", keys::here((SiteId(7), 300, SESSION, AttachmentId(300)))),
        ("here", encode(&HereRow { bytes: 300 })),
    ]
}

/// Those of what reports are made of.
pub(super) fn report_lines() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("due sweep", encode(&DueRow::Sweep)),
        ("due stint", encode(&DueRow::Stint)),
        ("rollup key", keys::rollup(RollupKey { site: SiteId(7), kind: ReportKind::Agent, hour: 489_916, id: 300 })),
        ("rollup", encode(&rollup_row())),
        ("stint key", keys::stint(AGENT)),
        ("stint", encode(&stint_row())),
        ("talk key", keys::talk(SESSION)),
        ("talk", encode(&talk_row())),
    ]
}

pub(super) fn webhook_state() -> WebhookState {
    let why = String::from("status 500");
    let lag = Lag { session: SESSION, next: 250, upto: 300, tries: 3, since_ms: 9, why: why.clone() };
    let letter = DeadLetter { number: 9, session: SESSION, seq: 248, at_ms: 10, why, again: true };
    let (version, after, letters, dropped, missed) = (8, 70_000, 9, 2, 250);
    WebhookState { version, after, lags: vec![lag], dead: vec![letter], letters, dropped, missed }
}

pub(super) fn reach_lines() -> [(&'static str, Vec<u8>); 2] {
    [("reach key", keys::reach(SESSION)), ("reach", encode(&reach_row()))]
}
