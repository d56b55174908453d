//! Owns the bodies about whole states: rows as a shard or meta finds them at a start, and commands as the log has them.
//! Does not use a database. Invariant: rows that contradict each other are an error, never a panic; the outcome of commands does
//! not depend on checkpoints.

use super::records::records;
use chat::fuzzing::{RowMap, write};
use chat::{ApplyError, HistoryRange, Reconciliation, Shard};
use cluster::meta::{GroupPlan, MetaState, missing_replicas, next_move, preferred_leaders, replicas_on};
use proto::codec::decode;
use proto::command::{Batch, Command, MetaBatch, Party};
use proto::ids::{AgentId, NodeId, SessionId, ShardId, SiteId};

/// The only data shard, so that every actor is on it.
const SHARD: ShardId = ShardId(1);
/// Events in a page of history.
const PAGE: usize = 3;

/// Opens a shard on any rows, reads whatever a node reads, and reconciles it as a restore does.
pub fn chat_state(bytes: &[u8]) {
    let rows: RowMap = records(bytes).iter().map(|record| (record.key.to_vec(), record.value.to_vec())).collect();
    let _ = read_all(&rows);
    let _ = reconcile(&rows);
}

fn read_all(rows: &RowMap) -> Result<(), ApplyError> {
    let shard = Shard::open(SHARD, 1, rows)?;
    let _ = (shard.online_agents(rows), shard.find_sessions(rows, None, 8, |_| true));
    for (to, ..) in shard.outbox_targets() {
        let _ = shard.outbox(rows, to, 0, PAGE);
    }
    for key in rows.keys() {
        if let (Some(b'S'), Some(id)) = (key.first(), key.last_chunk()) {
            let session = SessionId(u128::from_be_bytes(*id));
            if let Ok(Some(view)) = shard.session(rows, session) {
                // Nodes count from the event before the first one of a conversation, and from the head.
                assert!(view.open.is_none_or(|open| (1..=view.head).contains(&open.first_seq)));
                assert!(view.head < u64::MAX);
            }
            for range in [HistoryRange::Latest, HistoryRange::After(0), HistoryRange::Before(u64::MAX)] {
                let page = shard.history(rows, session, range, PAGE, 1 << 10);
                assert!(page.is_err() || page.is_ok_and(|page| page.is_none_or(|page| page.events.len() <= PAGE)));
            }
            for (n, cid) in [(1, ""), (33, ""), (0, "c")] {
                let _ = shard.find_sent(rows, session, Party::Visitor, "d", n, cid);
            }
        }
        if let (Some(b'A'), Some(id)) = (key.first(), key.last_chunk()) {
            let _ = shard.agent(rows, AgentId(u64::from_be_bytes(*id)));
        }
        if let (Some(b'K'), Some(id)) = (key.first(), key.last_chunk()) {
            let _ = shard.desk(rows, SiteId(u32::from_be_bytes(*id)));
        }
    }
    Ok(())
}

fn reconcile(rows: &RowMap) -> Result<(), ApplyError> {
    let mut all = Reconciliation::new(1);
    all.read(rows)?;
    let _ = (all.ids(), all.agents().count());
    let (changes, _) = all.changes(SHARD, rows, &|_| None)?;
    let mut after = rows.clone();
    write(&mut after, changes);
    // A restored shard must be readable.
    read_all(&after)
}

/// Applies any commands to a new shard, without checkpoints and with one after each, and compares.
pub fn chat_commands(bytes: &[u8]) {
    let Ok(batch) = decode::<Batch>(bytes) else { return };
    let commands: Vec<Command> = batch.commands.into_iter().take(64).collect();
    let (mut warm, mut cold) = (Shards::new(), Shards::new());
    for command in commands {
        let one = warm.shard.apply(&warm.rows, batch.now_ms, command.clone());
        let other = cold.shard.apply(&cold.rows, batch.now_ms, command);
        match (one, other) {
            (Ok(one), Ok(other)) => assert_eq!(one, other, "an outcome depends on a checkpoint"),
            (one, other) => {
                assert!(one.is_err() && other.is_err(), "an error depends on a checkpoint");
                return;
            }
        }
        cold.chill();
    }
    assert_eq!(warm.shard.state_hash(), cold.shard.state_hash());
    warm.chill();
    let again = Shard::open(SHARD, 1, &warm.rows).expect("own rows can be read");
    assert_eq!(again.state_hash(), warm.shard.state_hash());
    reconcile(&warm.rows).expect("own rows can be reconciled");
}

struct Shards {
    shard: Shard,
    rows: RowMap,
}

impl Shards {
    fn new() -> Shards {
        let rows = RowMap::new();
        Shards { shard: Shard::open(SHARD, 1, &rows).expect("no rows are no error"), rows }
    }

    /// Everything into rows and out of memory.
    fn chill(&mut self) {
        let changes = self.shard.begin_checkpoint();
        write(&mut self.rows, changes);
        self.shard.end_checkpoint(true);
        self.shard.evict(0);
    }
}

/// Loads the meta group from any rows, makes the plans that follow from them, and applies commands. A record without a key is a
/// batch of commands.
pub fn meta_state(bytes: &[u8]) {
    let (rows, batches): (Vec<_>, Vec<_>) = records(bytes).into_iter().partition(|record| !record.key.is_empty());
    let mut state = MetaState::default();
    for row in &rows {
        if state.load(row.key, row.value).is_err() {
            return;
        }
    }
    plan(&state);
    for record in batches.iter().take(16) {
        let Ok(batch) = decode::<MetaBatch>(record.value) else { continue };
        for command in batch.commands.into_iter().take(16) {
            let _ = state.apply(batch.now_ms, command);
        }
    }
    plan(&state);
    let rows = state.rows();
    let mut again = MetaState::default();
    for (key, value) in &rows {
        again.load(key, value.as_deref().expect("all rows are there")).expect("own rows can be loaded");
    }
    assert_eq!(again.rows(), rows, "loaded as it was stored");
}

fn plan(state: &MetaState) {
    let _ =
        (preferred_leaders(state), next_move(state), missing_replicas(state), state.version(), state.next_version());
    for shard in [ShardId(0), SHARD] {
        let _ = GroupPlan::of(state, shard);
    }
    for node in state.nodes.keys().copied().chain([NodeId(0)]).take(8) {
        let _ = (replicas_on(state, node), state.holds_data(node), state.meta_replica(node));
    }
    let _ = (state.signing_authority(), state.trusted(), state.newest_authority().map(|(number, _)| number));
}
