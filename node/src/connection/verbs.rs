//! Owns what each verb does once hello is done. Does not read sockets. Invariant: every request gets one answer.

use super::heard;
use super::hello::{HelloAsk, hello};
use super::shown::{client_event, client_party};
use super::socket::{REQUESTS_MAX, Sent, Socket, Who, error_of};
use super::supervise;
use crate::auth;
use cluster::router::{ReplyTo, Router};
use proto::act::Act;
use proto::client::limits::{FAULTS_IN_A_ROW_MAX, HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX};
use proto::client::{
    ClientFrame, CloseCode, Content, Cursor, CursorState, ErrorCode, ErrorInfo, FrameError, Hello, History,
    HistoryFrom, HistoryPage, Ping, Pong, Reply, Send, ServerFrame, SessionHead, Verb,
};
use proto::command::{Command, Target};
use proto::failpoints::FailPoint;
use proto::ids::{SessionId, ShardId, VisitorId};
use proto::peer::{Page, Refused, ShardCall, ShardReply};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What agents do about queue and offers, and what pages say of visitors.
mod at_desk;
/// Where a visitor is, and what triggers say there.
mod at_page;

/// Carries out one text frame, or says what is wrong with it.
pub fn take(socket: &Arc<Socket>, text: &[u8]) {
    let started = Instant::now();
    let parsed = proto::client::parse(text);
    socket.hub.metrics.decode.record(started.elapsed().as_secs_f64());
    match parsed {
        Ok(frame) => {
            socket.with(|state| state.faults_in_a_row = 0);
            carry_out(socket, frame);
        }
        Err(error) => fault(socket, error),
    }
}

fn fault(socket: &Socket, error: FrameError) {
    let faults = socket.with(|state| {
        state.faults_in_a_row += 1;
        state.faults_in_a_row
    });
    socket.write(&error.into_reply());
    if faults >= FAULTS_IN_A_ROW_MAX {
        socket.close(CloseCode::Policy);
    }
}

fn carry_out(socket: &Arc<Socket>, frame: ClientFrame<'_>) {
    let id = frame.id;
    let (who, hello_said) = socket.with(|state| (state.who, state.hello_said));
    if let Verb::Hello(ask) = frame.verb {
        return say_hello(socket, id, ask, hello_said);
    }
    if !hello_said {
        return socket.error(Some(id), ErrorInfo::new(ErrorCode::HelloExpected, "the first frame must be hello"));
    }
    let Some(who) = who else {
        let wait = Duration::from_millis(50);
        return socket.error(Some(id), ErrorInfo::retry(ErrorCode::Unavailable, "the welcome is not out yet", wait));
    };
    match frame.verb {
        Verb::Hello(_) => {}
        Verb::Send(ask) => send(socket, who, id, ask),
        Verb::History(ask) => history(socket, who, id, ask),
        Verb::Cursor(ask) => cursor(socket, who, id, ask),
        Verb::Typing(ask) => {
            let draft = draft_of(socket, who, ask.draft);
            let call = ShardCall::Typing { session: ask.session, party: who.party(), on: ask.on, draft };
            ask_shard(socket, who, id, ask.session, call, |_| Reply::Ok);
        }
        Verb::Close(ask) => {
            let session = ask.session;
            let seen = ask.seen.unwrap_or_else(|| socket.with(|state| state.known(session)));
            let reason = ask.reason.filter(|_| matches!(who, Who::Agent { .. })).unwrap_or_default().into_owned();
            let call = ShardCall::Propose(Command::CloseSeen { session, by: who.party(), seen, reason });
            ask_shard(socket, who, id, ask.session, call, |_| Reply::Ok);
        }
        Verb::Ping(ask) => ping(socket, id, &ask),
        Verb::Accept(_) | Verb::Decline(_) | Verb::Take(_) | Verb::Seat(_) | Verb::Queue(_) | Verb::Dismiss(_) => {
            at_desk::carry_out(socket, who, id, &frame.verb);
        }
        Verb::About(ask) => at_desk::about(socket, who, id, ask),
        Verb::Visit(ask) => at_page::visit(socket, who, id, ask),
        Verb::Trigger(ask) => at_page::trigger(socket, who, id, ask),
        Verb::Transfer(ask) => at_desk::transfer(socket, who, id, ask),
        Verb::Watch(ask) => supervise::watch(socket, who, id, ask),
    }
}

fn say_hello(socket: &Arc<Socket>, id: u64, ask: Hello<'_>, hello_said: bool) {
    if hello_said {
        return socket.error(Some(id), ErrorInfo::new(ErrorCode::AlreadyHello, "this socket has said hello"));
    }
    let Some((bearer, token)) = auth::parse_token(&ask.token) else {
        return socket.error(Some(id), ErrorInfo::new(ErrorCode::Unauthorized, "the token is not valid"));
    };
    socket.with(|state| {
        state.hello_said = true;
        state.device = ask.device.into_owned();
    });
    let resume = ask.resume.iter().map(|entry| (entry.session, (entry.seq, entry.watch))).collect();
    let hub = socket.hub.clone();
    let socket = socket.clone();
    socket.hub.clone().spawn(async move { hello(hub, socket, HelloAsk { id, bearer, token, resume }).await });
}

/// A visitor has one session; an agent's rights are checked where the session lives.
fn may_ask(who: Who, session: SessionId) -> bool {
    match who {
        Who::Visitor { session: own, .. } => own == session,
        Who::Agent { .. } => true,
    }
}

pub(super) fn forbidden() -> ErrorInfo<'static> {
    ErrorInfo::new(ErrorCode::Forbidden, "this session is not yours")
}

fn send(socket: &Arc<Socket>, who: Who, id: u64, ask: Send<'_>) {
    let started = Instant::now();
    if !may_ask(who, ask.session) {
        return socket.error(Some(id), forbidden());
    }
    let Some(router) = socket.hub.router() else {
        return socket.error(Some(id), error_of(&ShardReply::Unknown));
    };
    let session = ask.session;
    let cid = ask.cid.into_owned();
    let content = ask.content.into_owned();
    let sent = Sent { id, session, cid: cid.clone(), content: content.clone(), started };
    let Some(key) = socket.start_send(sent) else {
        let wait = Duration::from_millis(200);
        return socket
            .error(Some(id), ErrorInfo::retry(ErrorCode::Overloaded, "too many requests on this socket", wait));
    };
    FailPoint::SendTaken.pass();
    let device = socket.with(|state| state.device.clone());
    let (from, n) = (who.party(), ask.n.unwrap_or(0));
    let command = match content {
        ref content if !is_heard(socket, who, content) => Command::Bar { session, from, device, n, cid },
        Content::Text { text, reply_to, attachments } => {
            Command::Send { session, from, device, n, cid, text: text.into_owned(), reply_to, attachments }
        }
        Content::Act(act) => {
            let site = if let Who::Agent { site, .. } = who { Some(site) } else { None };
            Command::Act { session, site, from, device, n, cid, act }
        }
    };
    let shard = router.shard_of(Target::Session(session));
    router.send(shard, ShardCall::Propose(command), ReplyTo::Sink { sink: socket.clone(), key });
    socket.hub.metrics.route.record(started.elapsed().as_secs_f64());
}

/// Whether what the visitor sends is let through.
fn is_heard(socket: &Socket, who: Who, content: &Content<'_>) -> bool {
    let Who::Visitor { site, is_identified, .. } = who else { return true };
    let text = match content {
        Content::Text { text, .. } => &**text,
        Content::Act(Act::Edit { text, .. } | Act::Rate { comment: text, .. }) => text.as_str(),
        Content::Act(_) => "",
    };
    heard::is_heard(&socket.hub, site, is_identified, socket.address, text)
}

/// What a visitor is writing, for the agents; nothing of what would not be let through.
fn draft_of(socket: &Socket, who: Who, draft: Option<Cow<'_, str>>) -> String {
    let Who::Visitor { site, is_identified, .. } = who else { return String::new() };
    let is_heard = |draft: &Cow<'_, str>| heard::is_heard(&socket.hub, site, is_identified, socket.address, draft);
    draft.filter(is_heard).unwrap_or_default().into_owned()
}

/// Answers with what the future of `work` comes to, within the socket's limit of requests. `work` itself runs now, so that
/// what it asks keeps its place among the socket's requests.
fn ask<F>(socket: &Arc<Socket>, who: Who, id: u64, session: SessionId, work: impl FnOnce(Arc<Router>, ShardId) -> F)
where
    F: Future<Output = Result<Reply<'static>, ShardReply>> + std::marker::Send + 'static,
{
    if !may_ask(who, session) {
        return socket.error(Some(id), forbidden());
    }
    ask_target(socket, id, Target::Session(session), work);
}

/// As `ask`, of any actor; whether the socket may is the caller's to know.
pub(super) fn ask_target<F>(socket: &Arc<Socket>, id: u64, target: Target, work: impl FnOnce(Arc<Router>, ShardId) -> F)
where
    F: Future<Output = Result<Reply<'static>, ShardReply>> + std::marker::Send + 'static,
{
    let Some(router) = socket.hub.router() else {
        return socket.error(Some(id), error_of(&ShardReply::Unknown));
    };
    if !admit(socket, id) {
        return;
    }
    let shard = router.shard_of(target);
    let answer = work(router, shard);
    answer_admitted(socket, id, async move { answer.await.map_err(|reply| error_of(&reply)) });
}

/// Counts a request in; false: the socket has too many, and was told so.
fn admit(socket: &Socket, id: u64) -> bool {
    let admitted = socket.with(|state| {
        let admitted = state.asking < REQUESTS_MAX;
        state.asking += usize::from(admitted);
        admitted
    });
    if !admitted {
        let wait = Duration::from_millis(200);
        socket.error(Some(id), ErrorInfo::retry(ErrorCode::Overloaded, "too many requests on this socket", wait));
    }
    admitted
}

/// Answers a request that was counted in.
fn answer_admitted(
    socket: &Arc<Socket>,
    id: u64,
    answer: impl Future<Output = Result<Reply<'static>, ErrorInfo<'static>>> + std::marker::Send + 'static,
) {
    let socket = socket.clone();
    socket.hub.clone().spawn(async move {
        let answer = answer.await;
        socket.with(|state| state.asking -= 1);
        match answer {
            Ok(body) => socket.write(&ServerFrame { id: Some(id), body }),
            Err(error) => socket.error(Some(id), error),
        }
    });
}

/// Asks the session's leader and answers with what `ok` makes of its reply.
fn ask_shard(
    socket: &Arc<Socket>,
    who: Who,
    id: u64,
    session: SessionId,
    call: ShardCall,
    ok: impl FnOnce(&ShardReply) -> Reply<'static> + std::marker::Send + 'static,
) {
    ask(socket, who, id, session, |router, shard| {
        let asked = router.call(shard, call);
        async move {
            match asked.await {
                reply @ (ShardReply::Done | ShardReply::Cursor { .. } | ShardReply::History { .. }) => Ok(ok(&reply)),
                other => Err(other),
            }
        }
    });
}

fn history(socket: &Arc<Socket>, who: Who, id: u64, ask: History) {
    let page = match ask.from {
        HistoryFrom::After(seq) => Page::After(seq),
        HistoryFrom::Before(seq) => Page::Before(seq),
        HistoryFrom::Latest => Page::Latest,
    };
    let limit = ask.limit.unwrap_or(HISTORY_LIMIT_DEFAULT).min(HISTORY_LIMIT_MAX) as u32;
    let site = match who {
        Who::Visitor { .. } => None,
        Who::Agent { site, .. } => Some(site),
    };
    let session = ask.session;
    let call = ShardCall::History { session, page, limit, site };
    if let Who::Visitor { visitor, .. } = who {
        return ask_shard(socket, who, id, session, call, move |reply| history_page(session, visitor, reply, false));
    }
    // An agent may read a session that the socket does not follow: who its visitor is comes with the attach state.
    let known = socket.with(|state| state.subscription(session).and_then(|sub| sub.visitor));
    match known {
        Some(visitor) => {
            ask_shard(socket, who, id, session, call, move |reply| history_page(session, visitor, reply, true));
        }
        None => foreign_history(socket, who, id, session, call),
    }
}

fn history_page(session: SessionId, visitor: VisitorId, reply: &ShardReply, for_agents: bool) -> Reply<'static> {
    let ShardReply::History { events, head } = reply else { return Reply::Ok };
    let event = |event| client_event(session, visitor, event, for_agents).into_owned();
    let events = events.iter().map(event).collect();
    Reply::History(HistoryPage { session, events, head: *head })
}

/// History of a session that this socket does not follow: one more look tells its visitor.
fn foreign_history(socket: &Arc<Socket>, who: Who, id: u64, session: SessionId, call: ShardCall) {
    let hub = socket.hub.clone();
    ask(socket, who, id, session, |router, shard| {
        let page = router.call(shard, call);
        async move {
            let page = page.await;
            let ShardReply::History { .. } = page else { return Err(page) };
            let state = router.call(shard, ShardCall::Attach { session, token: None, after: Some(u64::MAX) }).await;
            let ShardReply::Attached(state) = state else { return Err(state) };
            if !hub.follows(session) {
                hub.unfollow(session);
            }
            Ok(history_page(session, state.visitor, &page, true))
        }
    });
}

fn cursor(socket: &Arc<Socket>, who: Who, id: u64, ask: Cursor) {
    let session = ask.session;
    let (received, read) = (ask.received.unwrap_or(0), ask.read.unwrap_or(0));
    let Some(visitor) = socket.with(|state| state.subscription(session).and_then(|sub| sub.visitor)) else {
        return socket.error(
            Some(id),
            if may_ask(who, session) { error_of(&ShardReply::Refused(Refused::NotYours)) } else { forbidden() },
        );
    };
    let call = ShardCall::Propose(Command::Cursor { session, party: who.party(), received, read });
    ask_shard(socket, who, id, session, call, move |reply| {
        let ShardReply::Cursor { received, read } = *reply else { return Reply::Ok };
        Reply::Cursor(CursorState { session, from: client_party(who.party(), visitor), received, read })
    });
}

fn ping(socket: &Arc<Socket>, id: u64, ask: &Ping) {
    let heads = socket.with(|state| {
        let wanted =
            |session: &SessionId| ask.heads.is_empty() || ask.heads.iter().any(|head| head.session == *session);
        state
            .sessions
            .iter()
            .filter(|sub| sub.cursor.is_some() && wanted(&sub.session))
            .map(|sub| SessionHead { session: sub.session, head: sub.head })
            .collect()
    });
    socket.write(&ServerFrame { id: Some(id), body: Reply::Pong(Pong { heads }) });
}
