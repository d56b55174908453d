//! Owns the verbs of a visitor's page: where the visitor is, and that something which a trigger waits for has come. Does not judge
//! triggers. Invariant: only the visitor's own session is meant.

use super::{admit, answer_admitted, forbidden, may_ask};
use crate::connection::socket::{Socket, Who, error_of};
use crate::connection::visited::Visited;
use crate::triggers::{self, Silent};
use proto::client::{ErrorCode, ErrorInfo, Reply, ServerFrame, Trigger, Visit};
use std::sync::Arc;
use std::time::Duration;

/// Keeps where the visitor is, for as long as the socket is open.
pub fn visit(socket: &Arc<Socket>, who: Who, id: u64, ask: Visit<'_>) {
    if !matches!(who, Who::Visitor { .. }) || !may_ask(who, ask.session) {
        return socket.error(Some(id), forbidden());
    }
    let visit = Box::new(Visited::of(ask));
    socket.with(|state| state.visit = Some(visit));
    socket.write(&ServerFrame { id: Some(id), body: Reply::Ok });
    triggers::look(socket);
}

pub fn trigger(socket: &Arc<Socket>, who: Who, id: u64, ask: Trigger<'_>) {
    if !matches!(who, Who::Visitor { .. }) || !may_ask(who, ask.session) {
        return socket.error(Some(id), forbidden());
    }
    if !admit(socket, id) {
        return;
    }
    let (name, speaker) = (ask.trigger.into_owned(), socket.clone());
    answer_admitted(socket, id, async move {
        match triggers::speak(&speaker, &name).await {
            Ok(()) => Ok(Reply::Ok),
            Err(Silent::Early) => {
                let wait = Duration::from_millis(100);
                Err(ErrorInfo::retry(ErrorCode::Unavailable, "say first where the visitor is", wait))
            }
            Err(Silent::Unfit) => Err(ErrorInfo::new(ErrorCode::NotFound, "no such trigger for this page and visitor")),
            Err(Silent::Answered(reply)) => Err(error_of(&reply)),
        }
    });
}
