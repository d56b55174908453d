//! Owns arbitrary commands of the meta group. Invariant: every variant and every field can come.

use super::arbitrary::*;
use super::webhooks;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proto::command::*;
use proto::version::Versions;

fn agent_role() -> impl Strategy<Value = AgentRole> {
    use AgentRole::{Admin, Agent, Owner, Supervisor, Viewer};
    prop::sample::select(vec![Viewer, Agent, Supervisor, Admin, Owner])
}

fn node_state() -> impl Strategy<Value = NodeState> {
    prop_oneof![Just(NodeState::Active), Just(NodeState::Draining), Just(NodeState::Leaving), Just(NodeState::Removed)]
}

pub fn meta_command() -> impl Strategy<Value = MetaCommand> {
    let bootstrap = (any::<(u128, u32)>(), address(), token(), text());
    prop_oneof![
        bootstrap.prop_map(|((cluster, shards), address, admin_token, admin_password)| {
            MetaCommand::Bootstrap { cluster, shards, address, admin_token, admin_password }
        }),
        (token(), any::<u64>()).prop_map(|(token, expires_ms)| MetaCommand::CreateJoinToken { token, expires_ms }),
        (token(), any::<u128>(), address()).prop_map(|(token, request, address)| MetaCommand::Join {
            token,
            request,
            address
        }),
        (node(), address()).prop_map(|(node, address)| MetaCommand::MoveNode { node, address }),
        (shard(), node()).prop_map(|(shard, node)| MetaCommand::AddReplica { shard, node }),
        replica().prop_map(|replica| MetaCommand::SetVoter { replica }),
        replica().prop_map(|replica| MetaCommand::RetireReplica { replica }),
        text().prop_map(|name| MetaCommand::AddSite { name }),
        (word(), word(), text()).prop_map(|(site, name, password)| MetaCommand::AddAgent { site, name, password }),
        (node(), node_state()).prop_map(|(node, state)| MetaCommand::SetNodeState { node, state }),
        (node(), any::<bool>()).prop_map(|(node, dead)| MetaCommand::SetNodeDead { node, dead }),
        (node(), text()).prop_map(|(node, zone)| MetaCommand::SetNodeZone { node, zone }),
        replica().prop_map(|replica| MetaCommand::RetireExcess { replica }),
        (replica(), node()).prop_map(|(replica, to)| MetaCommand::MoveReplica { replica, to }),
        (bytes(), bytes())
            .prop_map(|(certificate, key)| { MetaCommand::AddAuthority { certificate, key: SecretBytes(key) } }),
        Just(MetaCommand::DropAuthorities),
        (node(), any::<(u16, u16)>())
            .prop_map(|(node, (min, max))| { MetaCommand::SetNodeVersions { node, versions: Versions { min, max } } }),
        any::<u16>().prop_map(|version| MetaCommand::Finalize { version }),
        (node(), any::<(u32, u32)>()).prop_map(|(node, (trusts, certified))| MetaCommand::SetNodeTrust {
            node,
            trusts,
            certified
        }),
        (token(), word(), role(), option::of(any::<u64>())).prop_map(|(token, name, role, expires_ms)| {
            MetaCommand::CreateApiToken { token, name, role, expires_ms }
        }),
        word().prop_map(|name| MetaCommand::RevokeApiToken { name }),
        (word(), option::of(text())).prop_map(|(name, value)| MetaCommand::SetSetting { name, value }),
        (token(), token(), any::<u128>()).prop_map(|(key, request, holder)| MetaCommand::BeginOnce {
            key,
            request,
            holder
        }),
        webhooks::meta_command(),
        (agent(), agent_role()).prop_map(|(agent, role)| MetaCommand::SetAgentRole { agent, role }),
        (token(), any::<u128>(), option::of(once_answer())).prop_map(|(key, holder, answer)| MetaCommand::EndOnce {
            key,
            holder,
            answer
        }),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Viewer), Just(Role::Operator), Just(Role::Admin)]
}

fn once_answer() -> impl Strategy<Value = OnceAnswer> {
    (any::<u16>(), option::of(text())).prop_map(|(status, body)| OnceAnswer { status, body })
}

pub fn once_state() -> impl Strategy<Value = OnceState> {
    prop_oneof![
        Just(OnceState::Go),
        Just(OnceState::Held),
        Just(OnceState::Other),
        once_answer().prop_map(OnceState::Answered),
    ]
}

pub fn meta_batch() -> impl Strategy<Value = MetaBatch> {
    (any::<u64>(), vec(meta_command(), 0..6)).prop_map(|(now_ms, commands)| MetaBatch { now_ms, commands })
}
