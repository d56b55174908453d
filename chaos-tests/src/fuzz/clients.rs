//! Owns the bodies about frames between clients and nodes. Does not know sockets. Invariant: what parses is within every limit, and
//! survives being written and parsed again.

use proto::client::limits::*;
use proto::client::{Act, ClientFrame, Content, Reply, SeatState, ServerFrame, Verb, parse};

/// What a client sends, as a node reads it.
pub fn client_frame(bytes: &[u8]) {
    match parse(bytes) {
        Ok(frame) => {
            check_limits(&frame);
            let json = frame.to_json();
            // Blanks and unknown fields are gone; a default that was not said may be added.
            assert!(json.len() <= bytes.len() + 64, "written longer than it was read");
            if json.len() <= FRAME_BYTES_MAX {
                assert_eq!(parse(json.as_bytes()).as_ref(), Ok(&frame), "read as it was written");
            }
        }
        Err(error) => {
            let json = error.into_reply().to_json();
            let told: ServerFrame<'_> = serde_json::from_str(&json).expect("a refusal is a frame");
            assert!(matches!(told.body, Reply::Error(_)));
        }
    }
}

fn check_limits(frame: &ClientFrame<'_>) {
    match &frame.verb {
        Verb::Hello(hello) => {
            assert!((1..=TOKEN_BYTES_MAX).contains(&hello.token.len()));
            assert!((1..=DEVICE_BYTES_MAX).contains(&hello.device.len()));
            assert!(hello.resume.len() <= RESUME_SESSIONS_MAX);
        }
        Verb::Send(send) => {
            assert!((1..=CID_BYTES_MAX).contains(&send.cid.len()));
            let text_len = match &send.content {
                // A file may speak for itself.
                Content::Text { text, attachments, .. } => {
                    assert!(attachments.len() <= ATTACHMENTS_PER_MESSAGE_MAX);
                    text.len().max(usize::from(!attachments.is_empty()))
                }
                Content::Act(Act::Note { text, mentions }) => {
                    assert!(mentions.len() <= MENTIONS_MAX);
                    text.len()
                }
                Content::Act(Act::Edit { text, .. }) => text.len(),
                Content::Act(Act::React { emoji, .. }) => {
                    assert!((1..=EMOJI_BYTES_MAX).contains(&emoji.len()));
                    1
                }
                Content::Act(Act::Label { label, .. }) => {
                    assert!((1..=LABEL_BYTES_MAX).contains(&label.len()));
                    1
                }
                Content::Act(Act::Rate { score, comment, .. }) => {
                    assert!((1..=SCORE_MAX).contains(score) && comment.len() <= COMMENT_BYTES_MAX);
                    1
                }
                Content::Act(Act::Attribute { .. } | Act::Merge { .. } | Act::Prompt { .. } | Act::Invite { .. }) => {
                    unreachable!("no frame holds it")
                }
                Content::Act(Act::Recall { .. } | Act::Snooze { .. } | Act::Reopen { .. } | Act::Decline { .. }) => 1,
            };
            assert!((1..=TEXT_BYTES_MAX).contains(&text_len));
            assert_ne!(send.n, Some(0));
        }
        Verb::History(history) => assert!(history.limit.is_none_or(|limit| (1..=HISTORY_LIMIT_MAX).contains(&limit))),
        Verb::Ping(ping) => assert!(ping.heads.len() <= HEADS_MAX),
        Verb::Queue(queue) => assert!(queue.limit.is_none_or(|limit| (1..=QUEUE_LIMIT_MAX).contains(&limit))),
        Verb::Seat(said) => assert_ne!(said.state, SeatState::Offline),
        Verb::Visit(visit) => {
            assert!((1..=TRAIL_MAX).contains(&visit.trail.len()));
            for page in &visit.trail {
                assert!(page.url.len() <= PAGE_URL_BYTES_MAX && page.title.len() <= PAGE_TITLE_BYTES_MAX);
            }
        }
        Verb::Trigger(said) => assert!(said.trigger.len() <= TRIGGER_BYTES_MAX),
        Verb::About(about) => {
            assert!(about.facts.len() <= FACTS_MAX);
            for (name, value) in &about.facts {
                assert!((1..=FACT_NAME_BYTES_MAX).contains(&name.len()) && value.len() <= FACT_BYTES_MAX);
            }
        }
        Verb::Typing(typing) => {
            assert!(typing.draft.as_ref().is_none_or(|draft| draft.len() <= DRAFT_BYTES_MAX));
        }
        Verb::Close(close) => {
            assert!(close.reason.as_ref().is_none_or(|reason| reason.len() <= REASON_BYTES_MAX));
        }
        Verb::Cursor(_) | Verb::Dismiss(_) | Verb::Watch(_) => {}
        Verb::Accept(_) | Verb::Decline(_) | Verb::Take(_) | Verb::Transfer(_) => {}
    }
}

/// What a node sends, as the Rust client acts on it: one frame a line.
pub fn rust_client(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        node::fuzzing::client(text);
    }
}

/// What a node sends, as the Rust client reads it: frames, and the bodies of HTTP answers.
pub fn server_frame(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(frame) = serde_json::from_str::<ServerFrame<'_>>(text) {
        let json = frame.to_json();
        let again: ServerFrame<'_> = serde_json::from_str(&json).expect("a frame is read as it was written");
        assert_eq!(again, frame, "a frame is read as it was written");
    }
    let _ = serde_json::from_str::<proto::client::http::VisitorCreated>(text);
    let _ = serde_json::from_str::<proto::client::http::LoggedIn>(text);
    let _ = serde_json::from_str::<proto::client::http::Login>(text);
    let _ = serde_json::from_str::<proto::client::http::ErrorBody<'_>>(text);
}
