//! Owns the property tests: whatever is written reads back, by hand and by serde alike.

use super::*;
use crate::act::Whose;
use crate::desk::Channel;
use crate::ids::{AgentId, AttachmentId, SessionId, TeamId, VisitorId};
use proptest::prelude::*;
use std::borrow::Cow;

fn session() -> impl Strategy<Value = SessionId> {
    any::<u128>().prop_map(SessionId)
}

fn party() -> impl Strategy<Value = Party> {
    prop_oneof![
        any::<u128>().prop_map(|id| Party::Visitor(VisitorId(id))),
        any::<u64>().prop_map(|id| Party::Agent(AgentId(id))),
        Just(Party::System),
    ]
}

/// Any characters at all, control characters, quotes and other planes too.
fn text() -> impl Strategy<Value = Cow<'static, str>> {
    proptest::collection::vec(any::<char>(), 1..200).prop_map(|chars| Cow::Owned(chars.into_iter().collect()))
}

fn name() -> impl Strategy<Value = Cow<'static, str>> {
    "[ -~]{1,64}".prop_map(Cow::Owned)
}

fn heads() -> impl Strategy<Value = Vec<SessionSeq>> {
    let entry = (session(), any::<u64>(), any::<bool>());
    proptest::collection::vec(entry.prop_map(|(session, seq, watch)| SessionSeq { session, seq, watch }), 0..8)
}

fn act() -> impl Strategy<Value = Act> {
    let short = || "[ -~]{1,32}";
    let agents = proptest::collection::vec(any::<u64>().prop_map(AgentId), 0..4);
    prop_oneof![
        (text(), agents).prop_map(|(text, mentions)| Act::Note { text: text.into_owned(), mentions }),
        (any::<u64>(), text()).prop_map(|(seq, text)| Act::Edit { seq, text: text.into_owned() }),
        any::<u64>().prop_map(|seq| Act::Recall { seq }),
        (any::<u64>(), short(), any::<bool>()).prop_map(|(seq, emoji, on)| Act::React { seq, emoji, on }),
        (short(), any::<bool>()).prop_map(|(label, on)| Act::Label { label, on }),
        any::<(u64, u64)>().prop_map(|(conversation, until_ms)| Act::Snooze { conversation, until_ms }),
        any::<u64>().prop_map(|conversation| Act::Reopen { conversation }),
        any::<u64>().prop_map(|seq| Act::Decline { seq }),
        (any::<u64>(), 1..=5_u8, "[ -~]{0,32}").prop_map(|(conversation, score, comment)| Act::Rate {
            conversation,
            score,
            comment
        }),
    ]
}

/// Acts that no client sends.
fn told_act() -> impl Strategy<Value = Act> {
    let short = || "[ -~]{1,32}";
    prop_oneof![
        (any::<bool>(), short(), proptest::option::of(short())).prop_map(|(visitor, name, value)| {
            let whose = if visitor { Whose::Visitor } else { Whose::Conversation };
            Act::Attribute { whose, name, value }
        }),
        (session(), any::<u64>()).prop_map(|(session, upto)| Act::Merge { session, upto }),
    ]
}

fn first() -> impl Strategy<Value = Act> {
    let prompt = (name(), proptest::option::of(name()), text()).prop_map(|(trigger, name, text)| Act::Prompt {
        trigger: trigger.into_owned(),
        name: name.map(Cow::into_owned),
        text: text.into_owned(),
    });
    let invite = (text(), any::<u64>()).prop_map(|(text, until_ms)| Act::Invite { text: text.into_owned(), until_ms });
    prop_oneof![prompt, invite]
}

fn attachment() -> impl Strategy<Value = Attachment<'static>> {
    let size = proptest::option::of(any::<(u32, u32)>());
    (any::<u128>(), text(), name(), any::<u64>(), size, proptest::option::of(name())).prop_map(
        |(id, called, media, bytes, size, thumbnail)| Attachment {
            id: AttachmentId(id),
            name: called,
            media: media.clone(),
            bytes,
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            url: media,
            thumbnail,
        },
    )
}

fn event() -> impl Strategy<Value = Event<'static>> {
    let kind = prop_oneof![
        (
            party(),
            text(),
            proptest::collection::vec(attachment(), 0..3),
            proptest::option::of(any::<u64>()),
            proptest::option::of(name())
        )
            .prop_map(|(from, text, attachments, reply_to, cid)| EventKind::Message {
                from,
                text,
                attachments,
                reply_to,
                cid
            }),
        (party(), prop_oneof![act(), told_act(), first()], proptest::option::of(name()))
            .prop_map(|(from, act, cid)| EventKind::Act { from, act, cid }),
        Just(EventKind::Hidden),
        Just(EventKind::Gone),
        any::<u64>().prop_map(|upto| EventKind::Erased { upto }),
        any::<u64>().prop_map(|agent| EventKind::Assigned { agent: AgentId(agent) }),
        (party(), proptest::option::of(text())).prop_map(|(by, reason)| EventKind::Closed { by, reason }),
        party().prop_map(|by| EventKind::Queued { by }),
    ];
    (session(), any::<u64>(), any::<u64>(), kind).prop_map(|(session, seq, ts, kind)| Event { session, seq, ts, kind })
}

fn content() -> impl Strategy<Value = Content<'static>> {
    prop_oneof![
        (text(), proptest::option::of(any::<u64>()), proptest::collection::vec(any::<u128>(), 0..=8)).prop_map(
            |(text, reply_to, ids)| {
                let attachments: Vec<AttachmentId> = ids.into_iter().map(AttachmentId).collect();
                // With files a message needs no text.
                let text = if attachments.len() > 4 { "".into() } else { text };
                Content::Text { text, reply_to, attachments }
            }
        ),
        act().prop_map(Content::Act),
    ]
}

fn visit() -> impl Strategy<Value = Verb<'static>> {
    let page = ("[ -~]{0,40}", name(), any::<u64>()).prop_map(|(rest, title, at)| PageSeen {
        url: Cow::Owned(format!("https://{rest}")),
        title,
        at,
    });
    let trail = proptest::collection::vec(page, 1..5);
    let referrer = "[ -~]{0,40}".prop_map(|rest| Cow::Owned(format!("http://{rest}")));
    (session(), trail, proptest::option::of(referrer), proptest::option::of(any::<u64>()))
        .prop_map(|(session, trail, referrer, visits)| Verb::Visit(Visit { session, trail, referrer, visits }))
}

fn verb() -> impl Strategy<Value = Verb<'static>> {
    let from = prop_oneof![
        any::<u64>().prop_map(HistoryFrom::After),
        any::<u64>().prop_map(HistoryFrom::Before),
        Just(HistoryFrom::Latest),
    ];
    prop_oneof![
        visit(),
        (session(), name()).prop_map(|(session, trigger)| Verb::Trigger(Trigger { session, trigger })),
        (name(), name(), heads()).prop_map(|(token, device, resume)| Verb::Hello(Hello { token, device, resume })),
        (session(), name(), content(), proptest::option::of(1..=u64::MAX))
            .prop_map(|(session, cid, content, n)| Verb::Send(Send { session, cid, content, n })),
        (session(), any::<u64>()).prop_map(|(session, seq)| Verb::Dismiss(Dismiss { session, seq })),
        (session(), any::<bool>(), proptest::option::of(any::<u64>()))
            .prop_map(|(session, on, seq)| Verb::Watch(Watch { session, on, seq })),
        (session(), from, proptest::option::of(1..=200u64)).prop_map(|(session, from, limit)| Verb::History(History {
            session,
            from,
            limit
        })),
        (session(), any::<u64>(), proptest::option::of(any::<u64>()))
            .prop_map(|(session, seq, read)| Verb::Cursor(Cursor { session, received: Some(seq), read })),
        (session(), any::<bool>(), proptest::option::of(text()))
            .prop_map(|(session, on, draft)| Verb::Typing(Typing { session, on, draft })),
        (session(), proptest::option::of(any::<u64>()), proptest::option::of(name()))
            .prop_map(|(session, seen, reason)| Verb::Close(Close { session, seen, reason })),
        heads().prop_map(|heads| Verb::Ping(Ping { heads })),
        (session(), any::<u64>(), any::<bool>()).prop_map(|(session, offer, accepts)| {
            let of = Offer { session, offer };
            if accepts { Verb::Accept(of) } else { Verb::Decline(of) }
        }),
        (session(), any::<u64>()).prop_map(|(session, conversation)| Verb::Take(Take { session, conversation })),
        prop_oneof![Just(SeatState::Online), Just(SeatState::Busy), Just(SeatState::Away)]
            .prop_map(|state| Verb::Seat(SeatSaid { state })),
        (session(), 0..3_u8, any::<u32>(), proptest::option::of(any::<u64>())).prop_map(
            |(session, to, number, seen)| {
                let to = match to {
                    0 => TransferTo::Agent(AgentId(u64::from(number))),
                    1 => TransferTo::Team(TeamId(number)),
                    _ => TransferTo::Queue,
                };
                Verb::Transfer(Transfer { session, to, seen })
            }
        ),
        proptest::option::of(1..=200u64).prop_map(|limit| Verb::Queue(QueueAsk { limit })),
        (session(), proptest::option::of(any::<u32>()), proptest::collection::btree_map(name(), name(), 0..8), 0..2u8)
            .prop_map(|(session, team, facts, channel)| {
                Verb::About(About { session, team: team.map(TeamId), facts, channel: Channel(channel) })
            }),
    ]
}

fn reply() -> impl Strategy<Value = ServerFrame<'static>> {
    let ack =
        (any::<u64>(), session(), text(), any::<u64>(), any::<bool>()).prop_map(|(id, session, cid, seq, dup)| {
            ServerFrame { id: Some(id), body: Reply::Ack(Ack { session, cid, seq, ts: seq, dup }) }
        });
    let history =
        (any::<u64>(), session(), proptest::collection::vec(event(), 0..4)).prop_map(|(id, session, events)| {
            ServerFrame { id: Some(id), body: Reply::History(HistoryPage { session, events, head: id }) }
        });
    let push = event().prop_map(|event| ServerFrame { id: None, body: Reply::Event(event) });
    let offer =
        (session(), any::<u64>(), any::<u64>()).prop_map(|(session, offer, until)| Offered { session, offer, until });
    let mention = (session(), any::<u64>()).prop_map(|(session, seq)| Mention { session, seq });
    let lists = (proptest::collection::vec(offer, 0..4), proptest::collection::vec(mention, 0..4));
    let seat = lists.prop_map(|(offers, mentions)| {
        let state = SeatState::Away;
        ServerFrame { id: None, body: Reply::Seat(Seat { state, offers, mentions }) }
    });
    let place = (session(), any::<u64>(), any::<(Option<u64>, Option<u64>)>()).prop_map(
        |(session, position, (wait_ms, opens))| ServerFrame {
            id: None,
            body: Reply::Place(Place { session, position, wait_ms, opens }),
        },
    );
    let waiting = (session(), any::<u64>(), any::<u32>(), any::<u8>()).prop_map(|(session, since, team, priority)| {
        Waiting { session, conversation: since, team: (team > 0).then_some(TeamId(team)), priority, since }
    });
    let queue = (any::<u64>(), proptest::collection::vec(waiting, 0..4))
        .prop_map(|(id, waiting)| ServerFrame { id: Some(id), body: Reply::Queue(Queue { waiting, total: id }) });
    let waits =
        (name(), any::<(Option<u32>, Option<u32>, Option<u8>)>()).prop_map(|(trigger, (page_s, site_s, scroll))| {
            TriggerWaits { trigger: trigger.into_owned(), page_s, site_s, scroll }
        });
    let triggers = (session(), proptest::collection::vec(waits, 0..4)).prop_map(|(session, triggers)| ServerFrame {
        id: None,
        body: Reply::Triggers(Triggers { session, triggers }),
    });
    prop_oneof![ack, history, push, seat, place, queue, triggers]
}

proptest! {
    #[test]
    fn a_client_frame_reads_back(id in any::<u64>(), verb in verb()) {
        let frame = ClientFrame { id, verb };
        let json = frame.to_json();
        prop_assert_eq!(parse(json.as_bytes()), Ok(frame));
    }

    #[test]
    fn a_hand_written_reply_equals_serde_and_reads_back(frame in reply()) {
        let json = frame.to_json();
        prop_assert_eq!(&json, &serde_json::to_string(&frame).unwrap());
        let back: ServerFrame<'_> = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(back, frame);
    }

    #[test]
    fn no_bytes_make_parse_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_serde_calls_json_is_not_malformed_and_the_rest_is_refused(text in "[\\[\\]{}\",:0-9eE.+\\-truefalsn\\\\ ]{0,30}") {
        let wrapped = format!("{{\"id\":1,\"ping\":{{\"x\":{text}}}}}");
        let told = parse(wrapped.as_bytes());
        if serde_json::from_str::<serde::de::IgnoredAny>(&wrapped).is_ok() {
            prop_assert!(!matches!(told, Err(error) if error.code == ErrorCode::Malformed));
        } else {
            prop_assert!(told.is_err());
        }
    }
}
