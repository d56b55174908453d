//! Any value of every type: strategies, from the smallest part up.

use super::desk;
pub use super::meta::meta_batch;
use super::meta::{meta_command, once_state};
use super::{attachments, audit, emails, report, search, shelf, visitors, webhooks};
pub use crate::archive::archived_events;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::command::*;
use proto::cut::*;
use proto::feed::*;
use proto::ids::*;
use proto::peer::*;

pub fn session() -> impl Strategy<Value = SessionId> {
    any::<u128>().prop_map(SessionId)
}
pub fn agent() -> impl Strategy<Value = AgentId> {
    any::<u64>().prop_map(AgentId)
}
pub fn site() -> impl Strategy<Value = SiteId> {
    any::<u32>().prop_map(SiteId)
}
pub fn node() -> impl Strategy<Value = NodeId> {
    any::<u32>().prop_map(NodeId)
}
pub fn shard() -> impl Strategy<Value = ShardId> {
    any::<u32>().prop_map(ShardId)
}
pub fn replica() -> impl Strategy<Value = ReplicaId> {
    any::<u32>().prop_map(ReplicaId)
}
pub fn token() -> impl Strategy<Value = TokenHash> {
    any::<TokenHash>()
}
pub fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect())
}
pub fn word() -> impl Strategy<Value = String> {
    ".{0,9}"
}

pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

pub fn address() -> impl Strategy<Value = NodeAddress> {
    (word(), word(), word()).prop_map(|(peer, client, admin)| NodeAddress { peer, client, admin })
}

pub fn party() -> impl Strategy<Value = Party> {
    prop_oneof![Just(Party::Visitor), agent().prop_map(Party::Agent), Just(Party::System)]
}

pub fn command() -> impl Strategy<Value = Command> {
    let open = (session(), site(), any::<u128>(), token());
    let said = (text(), option::of(any::<u64>()), attachments::ids());
    let send = (session(), party(), word(), any::<u64>(), word(), said);
    let cursor = (session(), party(), any::<(u64, u64)>());
    prop_oneof![
        open.prop_map(|(session, site, visitor, token)| {
            Command::OpenSession { session, site, visitor: VisitorId(visitor), token }
        }),
        send.prop_map(|(session, from, device, n, cid, (text, reply_to, attachments))| Command::Send {
            session,
            from,
            device,
            n,
            cid,
            text,
            reply_to,
            attachments
        }),
        cursor.prop_map(|(session, party, (received, read))| Command::Cursor { session, party, received, read }),
        (session(), party()).prop_map(|(session, by)| Command::Close { session, by }),
        (agent(), site(), text(), token()).prop_map(|(agent, site, name, token)| Command::AgentLogin {
            agent,
            site,
            name,
            token
        }),
        (agent(), any::<bool>()).prop_map(|(agent, online)| Command::AgentPresence { agent, online }),
        (shard(), any::<u64>(), mail()).prop_map(|(from, seq, message)| Command::Inbox { from, seq, message }),
        (shard(), any::<u64>()).prop_map(|(to, upto)| Command::OutboxAcked { to, upto }),
        any::<u16>().prop_map(|version| Command::SetShardVersion { version }),
        (session(), agent()).prop_map(|(session, agent)| Command::Reassign { session, agent }),
        (session(), party(), any::<u64>(), text()).prop_map(|(session, by, seen, reason)| Command::CloseSeen {
            session,
            by,
            seen,
            reason
        }),
        (session(), agent(), any::<u64>()).prop_map(|(session, agent, seen)| Command::ReassignSeen {
            session,
            agent,
            seen
        }),
        desk::command(),
        webhooks::command(),
        shelf::command(),
        audit::command(),
        visitors::command(),
        attachments::command(),
        crate::archive::command(),
        emails::command(),
    ]
}

pub fn batch() -> impl Strategy<Value = Batch> {
    (any::<u64>(), vec(command(), 0..6)).prop_map(|(now_ms, commands)| Batch { now_ms, commands })
}

pub fn mail() -> impl Strategy<Value = Mail> {
    let conversation = any::<u64>;
    prop_oneof![
        (site(), session(), conversation(), desk::ask()).prop_map(|(site, session, conversation, ask)| Mail::Want {
            site,
            session,
            conversation,
            ask
        }),
        (site(), session(), conversation(), option::of(agent()))
            .prop_map(|(site, session, conversation, agent)| Mail::Done { site, session, conversation, agent }),
        (site(), agent(), desk::seat_state()).prop_map(|(site, agent, state)| Mail::AgentState { site, agent, state }),
        (session(), conversation(), agent(), any::<(u64, u64, u32)>()).prop_map(
            |(session, conversation, agent, (part, turn, team))| {
                let team = proto::ids::TeamId(team);
                Mail::Assign { session, conversation, part, agent, turn, team }
            }
        ),
        desk::mail(),
        (agent(), session(), conversation()).prop_map(|(agent, session, conversation)| Mail::Assigned {
            agent,
            session,
            conversation
        }),
        (agent(), session(), conversation()).prop_map(|(agent, session, conversation)| Mail::Unassigned {
            agent,
            session,
            conversation
        }),
        (site(), session(), any::<(u64, u64)>(), agent()).prop_map(|(site, session, (conversation, part), agent)| {
            Mail::Reassigned { site, session, conversation, part, agent }
        }),
        (agent(), session(), conversation(), any::<u64>())
            .prop_map(|(agent, session, offer, until_ms)| { Mail::Offered { agent, session, offer, until_ms } }),
        (agent(), session(), conversation(), any::<bool>())
            .prop_map(|(agent, session, offer, missed)| { Mail::Withdrawn { agent, session, offer, missed } }),
        (site(), any::<u8>(), any::<u32>()).prop_map(|(site, urgency, lane)| Mail::Onward { site, urgency, lane }),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    let files = vec(attachments::attachment(), 0..3);
    let message = (party(), word(), any::<u64>(), word(), text(), option::of(any::<u64>()), files);
    let done = (party(), word(), any::<u64>(), word(), desk::act());
    let body = prop_oneof![
        message.prop_map(|(from, device, n, cid, text, reply_to, attachments)| EventBody::Message {
            from,
            device,
            n,
            cid,
            text,
            reply_to,
            attachments
        }),
        done.prop_map(|(from, device, n, cid, act)| EventBody::Act { from, device, n, cid, act }),
        (agent(), any::<u64>()).prop_map(|(agent, conversation)| EventBody::Assigned { agent, conversation }),
        (party(), any::<u64>(), text()).prop_map(|(by, conversation, reason)| EventBody::Closed {
            by,
            conversation,
            reason
        }),
        (party(), any::<u64>()).prop_map(|(by, conversation)| EventBody::Queued { by, conversation }),
        Just(EventBody::Gone),
        any::<u64>().prop_map(|upto| EventBody::Erased { upto }),
    ];
    (any::<(u64, u64)>(), body).prop_map(|((seq, ts_ms), body)| Event { seq, ts_ms, body })
}

pub fn hello() -> impl Strategy<Value = Hello> {
    let link = (any::<(u128, u64)>(), node(), node(), any::<(u16, u16)>());
    let join = (text(), any::<u128>(), address(), any::<(u16, u16)>());
    let enroll = (text(), any::<u128>(), address(), bytes(), any::<(u16, u16)>());
    prop_oneof![
        link.prop_map(|((cluster, incarnation), node, to, (protocol_min, protocol_max))| Hello::Link {
            cluster,
            node,
            to,
            incarnation,
            protocol_min,
            protocol_max
        }),
        join.prop_map(|(token, request, address, (protocol_min, protocol_max))| Hello::Join {
            token,
            request,
            address,
            protocol_min,
            protocol_max
        }),
        enroll.prop_map(|(token, request, address, certificate_request, (protocol_min, protocol_max))| Hello::Enroll {
            token,
            request,
            address,
            certificate_request,
            protocol_min,
            protocol_max
        }),
    ]
}

pub fn hello_reply() -> impl Strategy<Value = HelloReply> {
    let joined = (any::<(u128, u32)>(), node(), vec((node(), address()), 0..4), vec((replica(), node()), 0..4));
    let enrolled = (
        any::<(u128, u32)>(),
        node(),
        vec((node(), address()), 0..4),
        (bytes(), bytes()),
        (vec(bytes(), 0..3), any::<u16>()),
    );
    prop_oneof![
        any::<(u64, u16)>().prop_map(|(incarnation, protocol)| HelloReply::Linked { incarnation, protocol }),
        joined.prop_map(|((cluster, shards), node, nodes, meta)| {
            HelloReply::Joined { cluster, node, shards, nodes, meta }
        }),
        word().prop_map(|peer| HelloReply::Elsewhere { peer }),
        text().prop_map(|reason| HelloReply::Refused { reason }),
        enrolled.prop_map(|((cluster, shards), node, nodes, (certificate, issuer), (trusted, version))| {
            HelloReply::Enrolled { cluster, node, shards, nodes, certificate, issuer, trusted, version }
        }),
        any::<u16>().prop_map(|version| HelloReply::WrongVersion { version }),
    ]
}

pub fn point() -> impl Strategy<Value = LogPoint> {
    any::<(u64, u64)>().prop_map(|(term, index)| LogPoint { term, index })
}
pub fn last() -> impl Strategy<Value = Option<LogPoint>> {
    option::of(point())
}
pub fn vote() -> impl Strategy<Value = VoteRow> {
    any::<(u64, u64, bool)>().prop_map(|(term, replica, committed)| VoteRow { term, replica, committed })
}

pub fn membership() -> impl Strategy<Value = MembershipRow> {
    (vec(vec(any::<u64>(), 0..5), 0..3), vec((any::<u64>(), node()), 0..6))
        .prop_map(|(configs, members)| MembershipRow { configs, members })
}

pub fn applied() -> impl Strategy<Value = AppliedRow> {
    (last(), last(), membership()).prop_map(|(applied, membership_at, membership)| AppliedRow {
        applied,
        membership_at,
        membership,
    })
}

pub fn append_head() -> impl Strategy<Value = AppendHead> {
    (vote(), last(), last(), any::<u32>()).prop_map(|(vote, prev, commit, entries)| AppendHead {
        vote,
        prev,
        commit,
        entries,
    })
}

pub fn append_reply() -> impl Strategy<Value = AppendReply> {
    prop_oneof![
        Just(AppendReply::Success),
        last().prop_map(AppendReply::PartialSuccess),
        Just(AppendReply::Conflict),
        vote().prop_map(AppendReply::HigherVote),
        Just(AppendReply::Gone),
    ]
}

pub fn vote_call() -> impl Strategy<Value = VoteCall> {
    (vote(), last(), any::<bool>()).prop_map(|(vote, last, leadership_transfer)| VoteCall {
        vote,
        last,
        leadership_transfer,
    })
}
pub fn vote_reply() -> impl Strategy<Value = VoteReply> {
    (vote(), any::<bool>(), last()).prop_map(|(vote, granted, last)| VoteReply { vote, granted, last })
}
pub fn transfer_call() -> impl Strategy<Value = TransferCall> {
    (vote(), any::<u64>(), last()).prop_map(|(from, to, last)| TransferCall { from, to, last })
}
pub fn lost_call() -> impl Strategy<Value = LostCall> {
    any::<u64>().prop_map(|term| LostCall { term })
}
pub fn lost_reply() -> impl Strategy<Value = LostReply> {
    (any::<bool>(), last()).prop_map(|(lost, last)| LostReply { lost, last })
}

pub fn snapshot_call() -> impl Strategy<Value = SnapshotCall> {
    prop_oneof![
        (vote(), applied()).prop_map(|(vote, applied)| SnapshotCall::Begin { vote, applied }),
        (any::<u32>(), vec(any::<u8>(), 0..300)).prop_map(|(number, rows)| SnapshotCall::Chunk { number, rows }),
        (vote(), any::<u32>()).prop_map(|(vote, chunks)| SnapshotCall::End { vote, chunks }),
    ]
}

pub fn snapshot_reply() -> impl Strategy<Value = SnapshotReply> {
    prop_oneof![
        Just(SnapshotReply::Next),
        vote().prop_map(|vote| SnapshotReply::Installed { vote }),
        vote().prop_map(|vote| SnapshotReply::HigherVote { vote }),
        text().prop_map(|reason| SnapshotReply::Failed { reason }),
    ]
}

pub fn cut_call() -> impl Strategy<Value = CutCall> {
    prop_oneof![
        any::<u32>().prop_map(|shard| CutCall::Open { shard: ShardId(shard) }),
        any::<(u64, u32)>().prop_map(|(cut, number)| CutCall::Next { cut, number }),
        any::<u64>().prop_map(|cut| CutCall::Close { cut }),
    ]
}

pub fn cut_reply() -> impl Strategy<Value = CutReply> {
    prop_oneof![
        (any::<u64>(), applied()).prop_map(|(cut, applied)| CutReply::Opened { cut, applied }),
        vec(any::<u8>(), 0..300).prop_map(|rows| CutReply::Chunk { rows }),
        prop::sample::select(vec![CutReply::End, CutReply::Closed]),
        option::of(node()).prop_map(|hint| CutReply::NotLeader { hint }),
        text().prop_map(|reason| CutReply::Failed { reason }),
    ]
}

pub fn page() -> impl Strategy<Value = Page> {
    prop_oneof![any::<u64>().prop_map(Page::After), any::<u64>().prop_map(Page::Before), Just(Page::Latest)]
}

pub fn shard_call() -> impl Strategy<Value = ShardCall> {
    prop_oneof![
        command().prop_map(ShardCall::Propose),
        (session(), option::of(token()), option::of(any::<u64>()))
            .prop_map(|(session, token, after)| ShardCall::Attach { session, token, after }),
        session().prop_map(|session| ShardCall::Detach { session }),
        (agent(), option::of(token())).prop_map(|(agent, token)| ShardCall::AttachAgent { agent, token }),
        agent().prop_map(|agent| ShardCall::DetachAgent { agent }),
        (session(), page(), any::<u32>(), option::of(site()))
            .prop_map(|(session, page, limit, site)| ShardCall::History { session, page, limit, site }),
        (session(), party(), any::<bool>(), text()).prop_map(|(session, party, on, draft)| ShardCall::Typing {
            session,
            party,
            on,
            draft
        }),
        site().prop_map(|site| ShardCall::Hours { site }),
        (site(), any::<u64>(), any::<u32>()).prop_map(|(site, after, limit)| ShardCall::Feed { site, after, limit }),
        webhooks::shard_call(),
        shelf::shard_call(),
        audit::shard_call(),
        attachments::shard_call(),
        search::shard_call(),
        report::shard_call(),
        emails::shard_call(),
    ]
}

pub fn session_state() -> impl Strategy<Value = SessionState> {
    let cursors = any::<((u64, u64), (u64, u64))>();
    (site(), any::<(u128, u64, u64, (u64, u64))>(), option::of(agent()), cursors, vec(event(), 0..4)).prop_map(
        |(site, (visitor, head, open_from, (conversation, part)), agent, (visitor_cursor, agent_cursor), events)| {
            SessionState {
                is_identified: head % 2 == 0,
                tokens: vec![[head as u8; 32]; part as usize % 3],
                conversation,
                part,
                site,
                visitor: VisitorId(visitor),
                head,
                open_from,
                agent,
                visitor_cursor,
                agent_cursor,
                events,
            }
        },
    )
}

pub fn refused() -> impl Strategy<Value = Refused> {
    let mut all: Vec<Refused> = crate::samples::refusals().into_iter().map(|(_, refused)| refused).collect();
    all.extend([Refused::CidGap { expected: u64::MAX }, Refused::InboxGap { expected: 300 }]);
    prop::sample::select(all)
}

pub fn open() -> impl Strategy<Value = Vec<(SessionId, u64)>> {
    vec((session(), any::<u64>()), 0..5)
}

pub fn agent_state() -> impl Strategy<Value = AgentState> {
    let offers = vec((session(), any::<u64>(), any::<u64>()), 0..4);
    (site(), text(), any::<u64>(), open(), offers, desk::seat_state(), open()).prop_map(
        |(site, name, version, open, offers, state, mentions)| AgentState {
            site,
            name,
            version,
            open,
            offers,
            state,
            mentions,
        },
    )
}

fn feed_item() -> impl Strategy<Value = FeedItem> {
    (any::<u64>(), session(), any::<u128>(), event()).prop_map(|(number, session, visitor, event)| FeedItem {
        number,
        session,
        visitor: VisitorId(visitor),
        event,
    })
}

pub fn shard_reply() -> impl Strategy<Value = ShardReply> {
    prop_oneof![
        any::<(u64, u64, bool)>().prop_map(|(seq, ts_ms, dup)| ShardReply::Sent { seq, ts_ms, dup }),
        Just(ShardReply::Done),
        session_state().prop_map(ShardReply::Attached),
        agent_state().prop_map(ShardReply::AgentAttached),
        (vec(event(), 0..4), any::<u64>()).prop_map(|(events, head)| ShardReply::History { events, head }),
        refused().prop_map(ShardReply::Refused),
        option::of(node()).prop_map(|hint| ShardReply::NotLeader { hint }),
        any::<u32>().prop_map(|retry_after_ms| ShardReply::Overloaded { retry_after_ms }),
        Just(ShardReply::Unknown),
        any::<(u64, u64)>().prop_map(|(received, read)| ShardReply::Cursor { received, read }),
        (vec(desk::waiting(), 0..4), any::<u64>()).prop_map(|(waiting, total)| ShardReply::Queue { waiting, total }),
        vec(desk::place(), 0..4).prop_map(ShardReply::Places),
        option::of(any::<u64>()).prop_map(|closed| ShardReply::Hours { closed }),
        (vec(feed_item(), 0..4), any::<(u64, u64, u64)>())
            .prop_map(|(items, (next, head, first))| ShardReply::Feed(FeedPage { items, next, head, first })),
        webhooks::shard_reply(),
        shelf::shard_reply(),
        audit::shard_reply(),
        attachments::shard_reply(),
        search::shard_reply(),
        report::shard_reply(),
        emails::shard_reply(),
    ]
}

pub fn push() -> impl Strategy<Value = Push> {
    prop_oneof![
        (session(), event()).prop_map(|(session, event)| Push::Event { session, event }),
        (session(), party(), any::<(u64, u64)>()).prop_map(|(session, party, (received, read))| Push::Cursor {
            session,
            party,
            received,
            read
        }),
        (session(), party(), any::<bool>(), text()).prop_map(|(session, party, on, draft)| Push::Typing {
            session,
            party,
            on,
            draft
        }),
        (agent(), agent_state()).prop_map(|(agent, state)| Push::Agent { agent, state }),
        (agent(), any::<bool>(), vec(session(), 0..4)).prop_map(|(agent, online, open)| Push::Presence {
            agent,
            online,
            open
        }),
        (session(), vec(any::<[u8; 32]>(), 0..4)).prop_map(|(session, gone)| Push::LoggedOut { session, gone }),
    ]
}

pub fn pushes() -> impl Strategy<Value = Pushes> {
    (shard(), any::<u64>(), vec(push(), 0..6)).prop_map(|(shard, epoch, items)| Pushes { shard, epoch, items })
}

pub fn meta_call() -> impl Strategy<Value = MetaCall> {
    prop_oneof![meta_command().prop_map(MetaCall::Propose), Just(MetaCall::Barrier)]
}

pub fn meta_reply() -> impl Strategy<Value = MetaReply> {
    prop_oneof![
        Just(MetaReply::Done),
        (node(), any::<u32>()).prop_map(|(node, shards)| MetaReply::Node { node, shards }),
        replica().prop_map(|replica| MetaReply::Replica { replica }),
        site().prop_map(|site| MetaReply::Site { site }),
        agent().prop_map(|agent| MetaReply::Agent { agent }),
        text().prop_map(|reason| MetaReply::Refused { reason }),
        option::of(node()).prop_map(|hint| MetaReply::NotLeader { hint }),
        Just(MetaReply::Unknown),
        any::<u64>().prop_map(|index| MetaReply::At { index }),
        once_state().prop_map(MetaReply::Once),
        any::<(u64, bool)>().prop_map(|(webhook, is_new)| MetaReply::Webhook { webhook: WebhookId(webhook), is_new }),
    ]
}
