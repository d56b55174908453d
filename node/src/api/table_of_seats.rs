//! Owns the part of the table that is about one's own seat. Does not carry anything out. Invariant: no key has these routes: they are done
//! by somebody in their own name.

use super::access::{Access, Scope};
use super::{conversations, seat};
use crate::admin::Route;
use actix_web::web;
use proto::command::AgentRole::Agent;

pub fn of_one_s_seat() -> Vec<Route<Access>> {
    let own = Access::new(Agent, Scope::Nothing);
    vec![
        Route::get("/v1/me/seat", own, "me seat", "One's own state, conversations, offers and mentions", || {
            web::get().to(seat::show)
        })
        .answers::<seat::SeatOfMine>(200),
        Route::put("/v1/me/seat", own, "me set-seat", "Say that one is online, busy or away", || {
            web::put().to(seat::set)
        })
        .daily()
        .takes::<seat::SeatBody>()
        .answers::<seat::SeatOfMine>(200),
        Route::delete(
            "/v1/me/mentions/{session}/{seq}",
            own,
            "me dismiss",
            "A note that mentions one was seen to",
            || web::delete().to(seat::dismiss),
        )
        .daily(),
        Route::post(
            "/v1/conversations/{session}/accept",
            own,
            "conversations accept",
            "Take a conversation that is offered",
            || web::post().to(seat::accept),
        )
        .daily()
        .takes::<seat::OfferBody>()
        .answers::<conversations::Conversation>(200),
        Route::post(
            "/v1/conversations/{session}/decline",
            own,
            "conversations decline",
            "Leave a conversation that is offered to somebody else",
            || web::post().to(seat::decline),
        )
        .daily()
        .takes::<seat::OfferBody>()
        .answers::<conversations::Conversation>(200),
        Route::post(
            "/v1/conversations/{session}/take",
            own,
            "conversations take",
            "Take a conversation out of the queue",
            || web::post().to(seat::take),
        )
        .daily()
        .takes::<seat::TakeBody>()
        .answers::<conversations::Conversation>(200),
        Route::put("/v1/conversations/{session}/cursor", own, "conversations read", "How far one has read", || {
            web::put().to(seat::cursor)
        })
        .daily()
        .takes::<seat::CursorBody>()
        .answers::<seat::CursorBody>(200),
        Route::put(
            "/v1/conversations/{session}/typing",
            own,
            "conversations typing",
            "One is writing, or not any more",
            || web::put().to(seat::typing),
        )
        .daily()
        .takes::<seat::TypingBody>(),
    ]
}
