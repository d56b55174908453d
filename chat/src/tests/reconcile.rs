//! Owns the proof that shards which were cut at different moments go on together once they are reconciled: nothing that a
//! session holds is touched, no conversation has two agents, no seat is lost and nobody waits for ever.

use super::mails::{Cluster, check_everyone_is_served, check_everyone_is_served_by_the_rules};
use super::steps::*;
use super::world::*;
use crate::desk::Desk;
use crate::rows::{AgentRow, DeskRow};
use crate::{ApplyError, Reconciliation, Reply, Shard, keys};
use proptest::prelude::*;
use proto::codec::encode;
use proto::command::{Command, Mail, Party};
use proto::ids::{AgentId, SessionId, ShardId};
use std::collections::BTreeMap;

/// One shard's rows at some moment, and what its sessions had answered by then.
struct Cut {
    rows: TestRows,
    said: BTreeMap<(SessionId, Party), u64>,
}

fn cut(cluster: &mut Cluster, shard: u32) -> Cut {
    let world = cluster.worlds.get_mut(&ShardId(shard)).unwrap();
    world.checkpoint();
    let rows = TestRows { map: world.rows.map.clone(), ..TestRows::default() };
    let home = |session: &SessionId| proto::command::Target::Session(*session).shard(SHARDS) == ShardId(shard);
    let said = cluster.said.iter().filter(|((session, _), _)| home(session)).map(|(key, n)| (*key, *n)).collect();
    Cut { rows, said }
}

/// The rows of sessions, byte by byte.
fn of_sessions(rows: &TestRows) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let kinds = b"SEDPC";
    rows.map
        .iter()
        .filter(|(key, _)| kinds.contains(&key[0]))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn restore(mut cuts: BTreeMap<ShardId, Cut>) -> Cluster {
    let mut all = Reconciliation::new(SHARDS);
    cuts.values().for_each(|cut| all.read(&cut.rows).unwrap());
    let mut restored = Cluster::default();
    for (shard, cut) in &mut cuts {
        let before = of_sessions(&cut.rows);
        let (changes, _) = all.changes(*shard, &cut.rows, &|id| Some(format!("agent {id}"))).unwrap();
        cut.rows.write(changes);
        assert_eq!(of_sessions(&cut.rows), before, "a session was touched");
        assert_eq!(cut.rows.count(b'O'), 0);
    }
    for (id, Cut { rows, said }) in cuts {
        let shard = Shard::open(id, SHARDS, &rows).unwrap();
        restored.said.extend(said);
        restored.worlds.insert(id, World { shard, rows, now_ms: 100_000_000 });
    }
    restored
}

/// Every send that was acknowledged before its shard's cut is known by its number.
fn check_repeats(cluster: &mut Cluster) {
    for ((session, party), last) in cluster.said.clone() {
        let shard = proto::command::Target::Session(session).shard(SHARDS);
        let world = cluster.worlds.get_mut(&shard).unwrap();
        for n in 1..=last {
            let reply = world.reply(say(session.0, party, n, "x"));
            assert!(matches!(reply, Reply::Sent { dup: true, .. }), "{session} {party:?} {n}: {reply:?}");
        }
    }
}

/// Found by the fuzz target `chat_state`: a restore counted on from what a backup's rows say.
#[test]
fn counters_of_a_backup_that_nobody_counted_are_corrupt_and_no_panic() {
    let desk = DeskRow { next_ticket: u64::MAX, ..Desk::empty_row() };
    let open = vec![(session(1), 1)];
    let agent = AgentRow { version: u64::MAX, open, ..crate::agent::new(SITE, "Ada".into()) };
    for (key, value) in [(keys::desk(SITE), encode(&desk)), (keys::agent(AgentId(1)), encode(&agent))] {
        let mut rows = TestRows::default();
        rows.map.insert(key, value);
        let mut all = Reconciliation::new(1);
        let read = all.read(&rows).and_then(|()| all.changes(ONE, &rows, &|_| None).map(drop));
        assert!(matches!(read, Err(ApplyError::Corrupt { .. })), "{read:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shards_cut_at_any_moments_go_on_together_once_reconciled(
        before in steps(), after in steps_without_operator(), moments in prop::collection::vec(any::<prop::sample::Index>(), SHARDS as usize),
    ) {
        let mut restored = restore(cuts_of(before, &moments));
        restored.check_settled();
        restored.check_histories();
        check_repeats(&mut restored);
        for step in after {
            restored.step(step);
            restored.believed();
        }
        restored.settle();
        restored.check_histories();
        check_everyone_is_served(restored);
    }

    #[test]
    fn teams_offers_and_transfers_go_on_after_a_restore(
        before in steps_with_rules(), after in steps_with_rules(), moments in prop::collection::vec(any::<prop::sample::Index>(), SHARDS as usize),
    ) {
        let mut restored = restore(cuts_of(before, &moments));
        // A desk that is older than its sessions may have given out less than they have taken.
        restored.lowered = (0..AGENTS).map(AgentId).collect();
        restored.check_settled();
        for step in after {
            restored.step(step);
            restored.lowered = (0..AGENTS).map(AgentId).collect();
        }
        restored.settle();
        restored.check_histories();
        check_everyone_is_served_by_the_rules(restored);
    }
}

/// Plays the steps, and cuts each shard at its moment.
fn cuts_of(before: Vec<Step>, moments: &[prop::sample::Index]) -> BTreeMap<ShardId, Cut> {
    let mut cluster = Cluster::new();
    let moments: Vec<usize> = moments.iter().map(|moment| moment.index(before.len() + 1)).collect();
    let mut cuts = BTreeMap::new();
    for (at, step) in before.into_iter().map(Some).chain([None]).enumerate() {
        for shard in (1..=SHARDS).filter(|shard| moments[*shard as usize - 1] == at) {
            cuts.insert(ShardId(shard), cut(&mut cluster, shard));
        }
        if let Some(step) = step {
            cluster.step(step);
        }
    }
    cuts
}

/// A session and a desk on different shards.
fn session_far_from_its_desk(cluster: &Cluster) -> (u128, u32, u32) {
    let home = |id: u128| proto::command::Target::Session(SessionId(id)).shard(SHARDS).0;
    let desk = |id: u128| {
        let shard = proto::command::Target::Session(SessionId(id)).shard(SHARDS);
        let world = &cluster.worlds[&shard];
        let site = world.shard.session(&world.rows, SessionId(id)).unwrap().unwrap().site;
        proto::command::Target::Desk(site).shard(SHARDS).0
    };
    let id = (0..SESSIONS).find(|id| home(*id) != desk(*id)).expect("nine sessions do not all live beside their desks");
    (id, home(id), desk(id))
}

#[test]
fn a_mail_that_its_source_forgot_and_its_target_never_saw_is_told_by_the_rows() {
    let mut cluster = Cluster::new();
    let (id, home, desk) = session_far_from_its_desk(&cluster);
    let mut cuts = BTreeMap::from([(ShardId(desk), cut(&mut cluster, desk))]);
    cluster.say(id, Party::Visitor);
    cluster.settle();
    cluster.step(Step::Acknowledge { from: home, to: desk });
    for shard in (1..=SHARDS).filter(|shard| *shard != desk) {
        cuts.insert(ShardId(shard), cut(&mut cluster, shard));
    }
    let mails = &cuts[&ShardId(home)].rows;
    let waiting = Shard::open(ShardId(home), SHARDS, mails).unwrap().outbox_targets();
    assert!(waiting.iter().all(|(to, _, _)| to.0 != desk), "the mail is in neither cut: {waiting:?}");
    let mut restored = restore(cuts);
    (0..AGENTS).for_each(|agent| restored.step(Step::Presence(agent, true)));
    restored.settle();
    restored.check_settled();
    assert!(restored.open()[&(SessionId(id), 1)].1.is_some(), "the visitor would wait for ever");
}

#[test]
fn a_source_that_is_older_than_its_target_is_heard_again() {
    let mut cluster = Cluster::new();
    let (id, home, desk) = session_far_from_its_desk(&cluster);
    let mut cuts = BTreeMap::new();
    for shard in (1..=SHARDS).filter(|shard| *shard != desk) {
        cuts.insert(ShardId(shard), cut(&mut cluster, shard));
    }
    cluster.say(id, Party::Visitor);
    cluster.settle();
    cuts.insert(ShardId(desk), cut(&mut cluster, desk));
    let mut restored = restore(cuts);
    restored.say(id, Party::Visitor);
    let site = restored.open()[&(SessionId(id), 1)].0;
    let mail = Mail::Want { site, session: SessionId(id), conversation: 1, ask: Box::default() };
    assert_eq!(restored.mails(home, desk, 0), [(1, mail.clone())], "its seqs begin anew");
    let world = restored.worlds.get_mut(&ShardId(desk)).unwrap();
    assert_eq!(world.reply(Command::Inbox { from: ShardId(home), seq: 1, message: mail }), Reply::Done);
    (0..AGENTS).for_each(|agent| restored.step(Step::Presence(agent, true)));
    restored.settle();
    restored.check_settled();
    assert!(restored.open()[&(SessionId(id), 1)].1.is_some());
}

#[test]
fn an_agent_who_came_after_its_shard_was_cut_keeps_the_conversation() {
    let mut cluster = Cluster::new();
    let (agent, site) = (AgentId(77), proto::ids::SiteId(1));
    let home = proto::command::Target::Agent(agent).shard(SHARDS);
    let mut cuts = BTreeMap::from([(home, cut(&mut cluster, home.0))]);
    let world = cluster.worlds.get_mut(&home).unwrap();
    world.apply(Command::AgentLogin { agent, site, name: "late".into(), token: [1; 32] });
    world.apply(presence(agent.0, true));
    cluster.settle();
    for id in 0..SESSIONS {
        cluster.say(id, Party::Visitor);
    }
    cluster.settle();
    for shard in (1..=SHARDS).filter(|shard| ShardId(*shard) != home) {
        cuts.insert(ShardId(shard), cut(&mut cluster, shard));
    }
    let restored = restore(cuts);
    let world = &restored.worlds[&home];
    let held = restored.open().values().filter(|(_, of)| *of == Some(agent)).count();
    assert!(held > 0, "no session far from the agent's shard was given: the test proved nothing");
    let view = world.shard.agent(&world.rows, agent).unwrap().unwrap();
    assert_eq!((view.open.len(), view.name.as_str(), view.online), (held, "agent a77", false));
}
