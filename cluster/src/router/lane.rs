//! Owns the calls from this node to one shard that have no answer yet. Does not know what they mean.
//! Invariant: after a change of leader, or an open outcome, everything unanswered is repeated in order (go-back-N), and
//! nothing new overtakes it; the rules' dedupe makes the repeats harmless.

use super::{ReplyTo, Router};
use crate::config::OVERLOADED_RETRY_MS;
use crate::transport::{Lane as LinkLane, MessageKind};
use parking_lot::{Mutex, ReentrantMutex};
use proto::codec;
use proto::ids::{Epoch, NodeId, ShardId};
use proto::peer::{ShardCall, ShardReply};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls of one lane that may be under way; over it the answer is `Overloaded`.
const CALLS_MAX: usize = 16 << 10;
/// A call without an answer by then is answered `Unknown`: its outcome is open.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// Silence of a leader that is connected after which everything is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(1500);
/// Pause after a leader said that it is none, while nobody better is known.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// The lane to one shard.
pub struct Lane {
    pub shard: ShardId,
    /// Held from the choice of what is sent until it is handed over, so that a new call can't overtake a repeated one when the
    /// leader is this node. Reentrant: a refusal may come back at once and cause another call. Always taken before `state`.
    order: ReentrantMutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leader: Option<NodeId>,
    next: u64,
    calls: BTreeMap<u64, Call>,
    /// The first call that was not handed to the current leader yet, if sending stopped.
    blocked_from: Option<u64>,
    /// When blocked: not before this.
    retry_at: Option<Instant>,
    last_answer: Option<Instant>,
}

struct Call {
    call: Arc<ShardCall>,
    reply: ReplyTo,
    until: Instant,
    sent_at: Instant,
}

impl Lane {
    pub(super) fn new(shard: ShardId) -> Self {
        Lane { shard, order: ReentrantMutex::new(()), state: Mutex::new(State { next: 1, ..State::default() }) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().calls.is_empty()
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.state.lock().leader
    }

    pub(super) fn submit(self: &Arc<Self>, router: &Arc<Router>, call: ShardCall, reply: ReplyTo) {
        let _order = self.order.lock();
        let local = {
            let mut state = self.state.lock();
            if state.calls.len() >= CALLS_MAX {
                drop(state);
                return reply.send(ShardReply::Overloaded { retry_after_ms: OVERLOADED_RETRY_MS });
            }
            let id = state.next;
            state.next += 1;
            let now = Instant::now();
            let call = Arc::new(call);
            state.calls.insert(id, Call { call: call.clone(), reply, until: now + CALL_WITHIN, sent_at: now });
            if state.blocked_from.is_some() {
                return;
            }
            self.dispatch(router, &mut state, id, call)
        };
        if let Some((id, call)) = local {
            self.serve_here(router, id, call);
        }
    }

    /// Sends one call to the leader; returns it when the leader is this node (it is served after the lock is gone).
    fn dispatch(
        &self,
        router: &Arc<Router>,
        state: &mut State,
        id: u64,
        call: Arc<ShardCall>,
    ) -> Option<(u64, Arc<ShardCall>)> {
        let block = |state: &mut State| state.blocked_from = Some(id);
        match state.leader {
            None => block(state),
            Some(node) if node == router.me => return Some((id, call)),
            Some(node) => {
                let sent = router.transport.peer(node).is_some_and(|peer| {
                    let encode = |out: &mut Vec<u8>| codec::encode_into(call.as_ref(), out);
                    peer.send(LinkLane::App, MessageKind::ShardCall, self.shard.0, id, encode).is_ok()
                });
                if !sent {
                    block(state);
                }
            }
        }
        None
    }

    fn serve_here(self: &Arc<Self>, router: &Arc<Router>, id: u64, call: Arc<ShardCall>) {
        let reply = ReplyTo::Lane { router: Arc::downgrade(router), lane: self.clone(), call: id };
        router.serve(router.me, self.shard, call, reply);
    }

    /// Repeats everything that has no answer, in order.
    pub(super) fn resend(self: &Arc<Self>, router: &Arc<Router>) {
        let _order = self.order.lock();
        let mut here = Vec::new();
        {
            let mut state = self.state.lock();
            state.blocked_from = None;
            state.retry_at = None;
            state.last_answer = Some(Instant::now());
            let waiting: Vec<(u64, Arc<ShardCall>)> =
                state.calls.iter().map(|(id, call)| (*id, call.call.clone())).collect();
            for (id, call) in waiting {
                if state.blocked_from.is_some() {
                    break;
                }
                if let Some(call) = self.dispatch(router, &mut state, id, call) {
                    here.push(call);
                }
            }
        }
        for (id, call) in here {
            self.serve_here(router, id, call);
        }
    }

    pub(super) fn leader_is(self: &Arc<Self>, router: &Arc<Router>, leader: Option<NodeId>) {
        {
            let mut state = self.state.lock();
            if state.leader == leader {
                return;
            }
            state.leader = leader;
            if leader.is_none() {
                // Keep what is under way: the old leader may still answer.
                return;
            }
        }
        self.resend(router);
    }

    pub(super) fn answered(self: &Arc<Self>, router: &Arc<Router>, from: NodeId, id: u64, reply: ShardReply) {
        match reply {
            ShardReply::NotLeader { hint } => self.not_leader(router, from, hint),
            ShardReply::Unknown => {
                let mut state = self.state.lock();
                if state.calls.contains_key(&id) {
                    self.block_all(&mut state);
                }
            }
            reply => {
                let call = {
                    let mut state = self.state.lock();
                    state.last_answer = Some(Instant::now());
                    state.calls.remove(&id)
                };
                if let Some(call) = call {
                    metrics::histogram!("chat_router_call_seconds").record(call.sent_at.elapsed().as_secs_f64());
                    call.reply.send(reply);
                }
            }
        }
    }

    /// Nothing new is sent until the tick has repeated what is unanswered.
    fn block_all(&self, state: &mut State) {
        state.blocked_from = state.calls.keys().next().copied().or(Some(state.next));
        if state.retry_at.is_none() {
            state.retry_at = Some(Instant::now() + RETRY_AFTER);
        }
    }

    fn not_leader(self: &Arc<Self>, router: &Arc<Router>, from: NodeId, hint: Option<NodeId>) {
        let changed = {
            let mut state = self.state.lock();
            // Too late: the calls have gone to another node since, which knows better than one that was left behind.
            if state.leader.is_some_and(|leader| leader != from) {
                return;
            }
            self.block_all(&mut state);
            // A node that just told us it is no leader must not hint at itself.
            let better = hint.filter(|hint| *hint != from);
            if let Some(better) = better {
                state.leader = Some(better);
            }
            better
        };
        if let Some(leader) = changed {
            router.tell(self.shard, leader, Epoch(0));
        }
    }

    /// Answers what is overdue; repeats when blocked or when the leader is silent.
    pub(super) fn tick(self: &Arc<Self>, router: &Arc<Router>) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        let repeat = {
            let mut state = self.state.lock();
            if state.calls.is_empty() {
                state.blocked_from = None;
                state.retry_at = None;
                return;
            }
            let late: Vec<u64> =
                state.calls.iter().take_while(|(_, call)| call.until <= now).map(|(id, _)| *id).collect();
            overdue.extend(late.into_iter().filter_map(|id| state.calls.remove(&id)));
            let blocked = state.blocked_from.is_some() && state.retry_at.is_none_or(|at| at <= now);
            let oldest = state.calls.values().next().map(|call| call.sent_at);
            let heard = state.last_answer.max(oldest);
            let silent = heard.is_some_and(|heard| now.duration_since(heard) > REPEAT_AFTER);
            !state.calls.is_empty() && state.leader.is_some() && (blocked || silent)
        };
        for call in overdue {
            call.reply.send(ShardReply::Unknown);
        }
        if repeat {
            self.resend(router);
        }
    }
}
