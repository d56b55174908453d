//! Owns the tests of `parse` that golden files cannot hold: sizes, bytes that are not UTF-8, borrowing.

use super::limits::*;
use super::*;
use crate::ids::SessionId;
use std::borrow::Cow;

const SESSION: &str = "00000000000000000000000000000abc";

fn code_of(frame: &[u8]) -> ErrorCode {
    parse(frame).unwrap_err().code
}

fn send_of(cid: &str, text: &str) -> String {
    format!(r#"{{"id":7,"send":{{"session":"{SESSION}","cid":"{cid}","text":"{text}"}}}}"#)
}

#[test]
fn a_text_of_exactly_the_limit_passes_and_one_byte_more_is_refused() {
    assert!(parse(send_of("c", &"x".repeat(TEXT_BYTES_MAX)).as_bytes()).is_ok());
    let error = parse(send_of("c", &"x".repeat(TEXT_BYTES_MAX + 1)).as_bytes()).unwrap_err();
    assert_eq!((error.id, error.code), (Some(7), ErrorCode::TooLarge));
}

#[test]
fn the_text_limit_counts_unescaped_bytes() {
    // Sixteen thousand line breaks take twice the bytes on the wire.
    assert!(parse(send_of("c", &"\\n".repeat(TEXT_BYTES_MAX)).as_bytes()).is_ok());
    assert_eq!(code_of(send_of("c", &"\u{4f60}".repeat(TEXT_BYTES_MAX / 3 + 1)).as_bytes()), ErrorCode::TooLarge);
}

#[test]
fn a_frame_over_the_limit_is_refused_unread() {
    let padded = format!("{}{}", r#"{"id":1,"ping":{}}"#, " ".repeat(FRAME_BYTES_MAX));
    assert_eq!(code_of(padded.as_bytes()), ErrorCode::FrameTooLarge);
    assert!(parse(&padded.as_bytes()[..FRAME_BYTES_MAX]).is_ok());
}

#[test]
fn the_longest_resume_list_fits_in_one_frame() {
    let entry = format!(r#"{{"session":"{SESSION}","seq":{}}}"#, u64::MAX);
    let list_of = |len: usize| {
        let list = vec![entry.as_str(); len].join(",");
        format!(r#"{{"id":1,"hello":{{"token":"{}","device":"d","resume":[{list}]}}}}"#, "t".repeat(TOKEN_BYTES_MAX))
    };
    assert!(parse(list_of(RESUME_SESSIONS_MAX).as_bytes()).is_ok());
    assert_eq!(code_of(list_of(RESUME_SESSIONS_MAX + 1).as_bytes()), ErrorCode::BadRequest);
}

#[test]
fn bytes_that_are_not_utf_8_are_malformed() {
    let error = parse(b"{\"id\":1,\"ping\":{\"x\":\"\xff\"}}").unwrap_err();
    assert_eq!((error.code, &*error.message), (ErrorCode::Malformed, "the frame is not UTF-8"));
}

#[test]
fn a_depth_bomb_of_the_whole_frame_is_refused() {
    assert_eq!(code_of("[".repeat(FRAME_BYTES_MAX).as_bytes()), ErrorCode::BadRequest);
    let bomb = format!(r#"{{"id":1,"ping":{{"x":{}"#, "{\"a\":".repeat(10_000));
    assert_eq!(code_of(bomb.as_bytes()), ErrorCode::Malformed);
}

#[test]
fn strings_without_escapes_are_borrowed_and_others_unescaped() {
    let frame = send_of("plain", "a\\u00e9\\ud83d\\ude42\\/\\t");
    let Verb::Send(send) = parse(frame.as_bytes()).unwrap().verb else { panic!("not a send") };
    assert!(matches!(send.cid, Cow::Borrowed("plain")));
    assert_eq!(
        send.content,
        Content::Text { text: Cow::Borrowed("a\u{e9}\u{1f642}/\t"), reply_to: None, attachments: Vec::new() }
    );
    assert_eq!(send.session, SessionId(0xabc));
}

#[test]
fn white_space_field_order_and_unknown_fields_do_not_matter() {
    let frame = format!(
        " {{ \"send\" : {{ \"text\":\"x\", \"later\":[{{\"a\":-1.5e+3}},null,true], \"cid\":\"c\",\r\n\t\"session\":\"{SESSION}\" }} , \"id\" : 18446744073709551615 }} "
    );
    let frame = parse(frame.as_bytes()).unwrap();
    assert_eq!(frame.id, u64::MAX);
}

#[test]
fn typing_without_on_means_on() {
    let frame = format!(r#"{{"id":1,"typing":{{"session":"{SESSION}"}}}}"#);
    let typing = Typing { session: SessionId(0xabc), on: true, draft: None };
    assert_eq!(parse(frame.as_bytes()).unwrap().verb, Verb::Typing(typing));
}

#[test]
fn the_id_is_found_behind_the_fault() {
    let error = parse(br#"{"send":{"session":5},"id":31}"#).unwrap_err();
    assert_eq!(error.id, Some(31));
    assert_eq!(
        error.into_reply().to_json(),
        r#"{"id":31,"error":{"code":"bad_request","message":"send.session: expected a string"}}"#
    );
}
