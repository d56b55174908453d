//! Owns meta's rules for the keys with which other systems use a site's API. Does not know what their scopes allow. Invariant: a key is
//! of one site, for ever.

use super::rows::ApiKeyRow;
use super::state::{MetaState, good_name, refused};
use proto::command::TokenHash;
use proto::ids::SiteId;
use proto::peer::MetaReply;

/// Keys of one site.
const PER_SITE_MAX: usize = 100;
/// Keys of one cluster.
const KEYS_MAX: usize = 10_000;
/// Scopes of one key.
const SCOPES_MAX: usize = 32;
/// Longest name of a scope, in bytes.
const SCOPE_BYTES_MAX: usize = 64;

impl MetaState {
    pub(super) fn create_api_key(&mut self, key: TokenHash, row: ApiKeyRow) -> MetaReply {
        if self.api_keys.contains_key(&key) {
            return MetaReply::Done;
        }
        let is_scope = |scope: &String| (1..=SCOPE_BYTES_MAX).contains(&scope.len());
        if !good_name(&row.name) || row.scopes.len() > SCOPES_MAX || !row.scopes.iter().all(is_scope) {
            return refused("a key's name has 1 to 64 letters, digits or -_.@");
        }
        if !self.sites.contains_key(&row.site) {
            return refused("no such site");
        }
        let of_site = || self.api_keys.values().filter(|known| known.site == row.site);
        if of_site().any(|known| known.name == row.name) {
            return refused("a key has this name already: revoke it first, or choose another");
        }
        if of_site().count() >= PER_SITE_MAX || self.api_keys.len() >= KEYS_MAX {
            return refused("there are as many keys as there can be: revoke some");
        }
        self.api_keys.insert(key, row);
        self.changed(b'Y', &key);
        MetaReply::Done
    }

    pub(super) fn revoke_api_key(&mut self, site: SiteId, name: &str) -> MetaReply {
        let found = self.api_keys.iter().find(|(_, row)| row.site == site && row.name == name);
        if let Some(key) = found.map(|(key, _)| *key) {
            self.api_keys.remove(&key);
            self.changed(b'Y', &key);
        }
        MetaReply::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::cluster;
    use super::*;
    use proto::command::MetaCommand;

    const SITE: SiteId = SiteId(1);

    fn create(state: &mut MetaState, key: u16, site: SiteId, name: &str) -> MetaReply {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&key.to_be_bytes());
        let scopes = vec!["conversations:read".into()];
        state.apply(5, MetaCommand::CreateApiKey { key: hash, site, name: name.into(), scopes, expires_ms: None })
    }

    #[test]
    fn a_key_has_a_name_of_its_own_at_its_site_and_there_are_not_too_many() {
        let mut state = cluster();
        let MetaReply::Site { site: other } = state.apply(1, MetaCommand::AddSite { name: "shop".into() }) else {
            panic!("a site")
        };
        assert_eq!(create(&mut state, 1, SITE, "crm"), MetaReply::Done);
        assert_eq!(create(&mut state, 1, SITE, "crm"), MetaReply::Done, "a retry");
        assert!(matches!(create(&mut state, 2, SITE, "crm"), MetaReply::Refused { .. }));
        assert_eq!(create(&mut state, 2, other, "crm"), MetaReply::Done);
        assert!(matches!(create(&mut state, 3, SiteId(9), "crm"), MetaReply::Refused { .. }));
        assert!(matches!(create(&mut state, 3, SITE, "a b"), MetaReply::Refused { .. }));
        let mut again = MetaState::default();
        for (key, row) in state.rows() {
            again.load(&key, &row.unwrap()).unwrap();
        }
        assert_eq!(again.api_keys, state.api_keys);
        state.apply(6, MetaCommand::RevokeApiKey { site: other, name: "crm".into() });
        assert_eq!(state.api_keys.values().map(|row| row.site).collect::<Vec<_>>(), [SITE]);
        for n in 1..PER_SITE_MAX {
            assert_eq!(create(&mut state, 100 + n as u16, SITE, &format!("k{n}")), MetaReply::Done);
        }
        assert!(matches!(create(&mut state, 999, SITE, "more"), MetaReply::Refused { .. }));
    }
}
