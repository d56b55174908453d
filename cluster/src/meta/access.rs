//! Owns meta's rules for the admin API: tokens, settings, and writes that may be repeated. Pure and deterministic.
//! Does not know HTTP. Invariant: every map has a limit in number, and the rows of repeated writes one in age.

use super::rows::{ApiTokenRow, OnceRow, SettingRow};
use super::state::{MetaState, good_name, refused};
use super::stored::agent_key;
use proto::command::{AgentRole, OnceAnswer, OnceState, TokenHash};
use proto::ids::AgentId;
use proto::peer::MetaReply;

/// Tokens for the admin API.
const API_TOKENS_MAX: usize = 1_000;
/// Settings that somebody set.
const SETTINGS_MAX: usize = 256;
/// Longest name and value of a setting, in bytes.
const SETTING_BYTES_MAX: usize = 256;
/// Keys of repeated writes; over it the oldest goes.
const ONCE_MAX: usize = 10_000;
/// How long the answer to a write is known, in milliseconds.
const ONCE_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// A request that was not answered by then, in milliseconds, is given up: its node has died.
const ONCE_HELD_MS: u64 = 60_000;
/// Longest answer that is kept, in bytes.
pub const ONCE_BODY_BYTES_MAX: usize = 8 << 10;

impl MetaState {
    /// What somebody set; `None`: nobody did.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|row| row.value.as_str())
    }

    pub(super) fn set_agent_role(&mut self, agent: AgentId, role: AgentRole) -> MetaReply {
        let Some(row) = self.agents.get_mut(&agent) else { return refused("no such agent") };
        row.role = role;
        self.dirty.insert(agent_key(agent));
        MetaReply::Done
    }

    pub(super) fn create_api_token(&mut self, token: TokenHash, row: ApiTokenRow) -> MetaReply {
        if self.api_tokens.contains_key(&token) {
            return MetaReply::Done;
        }
        if !good_name(&row.name) {
            return refused("a token's name has 1 to 64 letters, digits or -_.@");
        }
        if self.api_tokens.values().any(|known| known.name == row.name) {
            return refused("a token has this name already: revoke it first, or choose another");
        }
        if self.api_tokens.len() >= API_TOKENS_MAX {
            return refused("there are as many tokens as there can be: revoke some");
        }
        self.api_tokens.insert(token, row);
        self.changed(b'P', &token);
        MetaReply::Done
    }

    pub(super) fn revoke_api_token(&mut self, name: &str) -> MetaReply {
        let found: Vec<TokenHash> =
            self.api_tokens.iter().filter(|(_, row)| row.name == name).map(|(hash, _)| *hash).collect();
        for hash in found {
            self.api_tokens.remove(&hash);
            self.changed(b'P', &hash);
        }
        MetaReply::Done
    }

    pub(super) fn set_setting(&mut self, name: String, value: Option<String>) -> MetaReply {
        let too_long =
            name.len() > SETTING_BYTES_MAX || value.as_ref().is_some_and(|text| text.len() > SETTING_BYTES_MAX);
        let is_new = value.is_some() && !self.settings.contains_key(&name);
        if too_long || is_new && self.settings.len() >= SETTINGS_MAX {
            return refused("a setting has at most 256 bytes, and there are at most 256");
        }
        self.changed(b'G', name.as_bytes());
        match value {
            Some(value) => drop(self.settings.insert(name, SettingRow { value })),
            None => drop(self.settings.remove(&name)),
        }
        MetaReply::Done
    }

    /// A request begins under a key. The same holder may ask again: its first answer was lost.
    pub(super) fn begin_once(&mut self, now_ms: u64, key: TokenHash, request: TokenHash, holder: u128) -> MetaReply {
        self.drop_old_once(now_ms);
        if let Some(row) = self.once.get(&key) {
            let is_given_up = row.at_ms.saturating_add(ONCE_HELD_MS) <= now_ms;
            match &row.answer {
                _ if row.request != request => return MetaReply::Once(OnceState::Other),
                Some(answer) => return MetaReply::Once(OnceState::Answered(answer.clone())),
                None if row.holder != holder && !is_given_up => return MetaReply::Once(OnceState::Held),
                None => {}
            }
        } else if self.once.len() >= ONCE_MAX {
            let Some(oldest) = self.oldest_once(now_ms) else {
                return refused("as many writes with a key are under way as there may be");
            };
            self.once.remove(&oldest);
            self.changed(b'O', &oldest);
        }
        self.once.insert(key, OnceRow { request, holder, at_ms: now_ms, answer: None });
        self.changed(b'O', &key);
        MetaReply::Once(OnceState::Go)
    }

    /// Whose answer is known, or who has been given up: a write under way must not be begun a second time.
    fn oldest_once(&self, now_ms: u64) -> Option<TokenHash> {
        let is_over = |row: &OnceRow| row.answer.is_some() || row.at_ms.saturating_add(ONCE_HELD_MS) <= now_ms;
        let over = self.once.iter().filter(|(_, row)| is_over(row));
        over.min_by_key(|(_, row)| row.at_ms).map(|(key, _)| *key)
    }

    pub(super) fn end_once(&mut self, key: TokenHash, holder: u128, answer: Option<OnceAnswer>) -> MetaReply {
        // Another request may have taken the key over meanwhile: its answer counts.
        let Some(row) = self.once.get_mut(&key).filter(|row| row.holder == holder) else { return MetaReply::Done };
        match answer {
            Some(OnceAnswer { body: Some(body), .. }) if body.len() > ONCE_BODY_BYTES_MAX => {
                return refused("the answer is too long to be kept");
            }
            Some(answer) => row.answer = Some(answer),
            None => drop(self.once.remove(&key)),
        }
        self.changed(b'O', &key);
        MetaReply::Done
    }

    fn drop_old_once(&mut self, now_ms: u64) {
        let old = |row: &OnceRow| row.at_ms.saturating_add(ONCE_KEPT_MS) <= now_ms;
        let gone: Vec<TokenHash> = self.once.iter().filter(|(_, row)| old(row)).map(|(key, _)| *key).collect();
        for key in gone {
            self.once.remove(&key);
            self.changed(b'O', &key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::command::{MetaCommand, Role};

    const KEY: TokenHash = [1; 32];
    const REQUEST: TokenHash = [2; 32];

    fn begin(state: &mut MetaState, now_ms: u64, request: TokenHash, holder: u128) -> MetaReply {
        state.apply(now_ms, MetaCommand::BeginOnce { key: KEY, request, holder })
    }

    #[test]
    fn a_repeated_write_gets_the_first_answer_and_another_write_none() {
        let mut state = MetaState::default();
        assert_eq!(begin(&mut state, 0, REQUEST, 1), MetaReply::Once(OnceState::Go));
        assert_eq!(begin(&mut state, 0, REQUEST, 1), MetaReply::Once(OnceState::Go), "a retry of the same try");
        assert_eq!(begin(&mut state, 0, REQUEST, 2), MetaReply::Once(OnceState::Held));
        assert_eq!(begin(&mut state, 0, [3; 32], 2), MetaReply::Once(OnceState::Other));
        let answer = OnceAnswer { status: 200, body: Some("{}".into()) };
        let end = MetaCommand::EndOnce { key: KEY, holder: 1, answer: Some(answer.clone()) };
        assert_eq!(state.apply(1, end), MetaReply::Done);
        assert_eq!(begin(&mut state, 2, REQUEST, 3), MetaReply::Once(OnceState::Answered(answer)));
        assert_eq!(begin(&mut state, ONCE_KEPT_MS, REQUEST, 3), MetaReply::Once(OnceState::Go), "it was forgotten");
    }

    #[test]
    fn a_key_whose_node_died_is_taken_over_and_a_late_answer_does_not_count() {
        let mut state = MetaState::default();
        begin(&mut state, 0, REQUEST, 1);
        assert_eq!(begin(&mut state, ONCE_HELD_MS, REQUEST, 2), MetaReply::Once(OnceState::Go));
        let late = Some(OnceAnswer { status: 200, body: None });
        state.apply(ONCE_HELD_MS, MetaCommand::EndOnce { key: KEY, holder: 1, answer: late });
        assert_eq!(begin(&mut state, ONCE_HELD_MS, REQUEST, 3), MetaReply::Once(OnceState::Held));
        state.apply(ONCE_HELD_MS, MetaCommand::EndOnce { key: KEY, holder: 2, answer: None });
        assert_eq!(
            begin(&mut state, ONCE_HELD_MS, REQUEST, 3),
            MetaReply::Once(OnceState::Go),
            "it failed: free again"
        );
    }

    #[test]
    fn keys_are_bounded_and_the_oldest_goes_first() {
        let mut state = MetaState::default();
        let key = |n: u64| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        let begin = |n: u64| MetaCommand::BeginOnce { key: key(n), request: REQUEST, holder: 1 };
        for n in 0..ONCE_MAX as u64 {
            assert_eq!(state.apply(n, begin(n)), MetaReply::Once(OnceState::Go));
        }
        // While all are under way, none is forgotten: it would be done twice.
        let next = ONCE_MAX as u64;
        assert!(matches!(state.apply(next, begin(next)), MetaReply::Refused { .. }));
        for n in [7, 0] {
            let answer = Some(OnceAnswer { status: 200, body: None });
            state.apply(next, MetaCommand::EndOnce { key: key(n), holder: 1, answer });
        }
        assert_eq!(state.apply(next, begin(next)), MetaReply::Once(OnceState::Go));
        assert_eq!(state.once.len(), ONCE_MAX);
        assert!(!state.once.contains_key(&key(0)) && state.once.contains_key(&key(7)));
    }

    #[test]
    fn a_token_has_a_name_of_its_own_until_it_is_revoked() {
        let mut state = MetaState::default();
        let create = |token, name: &str| MetaCommand::CreateApiToken {
            token: [token; 32],
            name: name.into(),
            role: Role::Viewer,
            expires_ms: None,
        };
        assert_eq!(state.apply(5, create(1, "ci")), MetaReply::Done);
        assert_eq!(state.apply(6, create(1, "ci")), MetaReply::Done, "a retry");
        assert!(matches!(state.apply(7, create(2, "ci")), MetaReply::Refused { .. }));
        assert!(matches!(state.apply(7, create(2, "a b")), MetaReply::Refused { .. }));
        state.apply(8, MetaCommand::RevokeApiToken { name: "ci".into() });
        assert!(state.api_tokens.is_empty());
        assert_eq!(state.apply(9, create(2, "ci")), MetaReply::Done);
    }

    #[test]
    fn what_was_set_comes_back_from_rows() {
        let mut state = MetaState::default();
        state.apply(1, MetaCommand::SetSetting { name: "drain_over_s".into(), value: Some("9".into()) });
        begin(&mut state, 1, REQUEST, 1);
        let mut again = MetaState::default();
        for (key, row) in state.take_changes() {
            again.load(&key, &row.unwrap()).unwrap();
        }
        assert_eq!((again.settings, again.once), (state.settings.clone(), state.once.clone()));
        state.apply(2, MetaCommand::SetSetting { name: "drain_over_s".into(), value: None });
        assert_eq!(state.take_changes(), vec![(b"Gdrain_over_s".to_vec(), None)]);
    }
}
