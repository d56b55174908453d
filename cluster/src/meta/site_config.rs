//! Owns meta's rules for what holds for a whole site: how long it keeps what was said, and how its visitors prove who they are. Does not
//! erase or verify anything. Invariant: two keys at most are good at a time, so that one takes the other's place without a gap.

use super::rows::SiteEmailRow;
use super::state::{MetaState, good_name, refused};
use proto::command::{SecretBytes, SiteChange};
use proto::email::EmailRules;
use proto::ids::SiteId;
use proto::peer::MetaReply;

/// Longest time to keep what was said, in days; beyond it: for ever.
const RETENTION_DAYS_MAX: u32 = 36_500;
/// Longest time that files stay in the shards before they go to the archive, in hours.
const FILES_HOURS_MAX: u32 = 24 * RETENTION_DAYS_MAX;
/// Keys that are good at a time.
const KEYS_MAX: usize = 2;
/// An address, a name or a URL of e-mails, in bytes.
const EMAIL_TEXT_BYTES_MAX: usize = 254;
/// Longest time that an e-mail gathers what goes into it, in seconds.
const EMAIL_AFTER_S_MAX: u32 = 604_800;
/// Bytes of a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;

impl MetaState {
    pub(super) fn configure_site(&mut self, site: SiteId, change: SiteChange) -> MetaReply {
        if !self.sites.contains_key(&site) {
            return refused("no such site");
        }
        let config = self.site_configs.entry(site).or_default();
        match change {
            SiteChange::Retention { days } | SiteChange::Archive { days } if days > RETENTION_DAYS_MAX => {
                return refused("what was said is kept, here or in the archive, for 1 to 36500 days, or 0: for ever");
            }
            SiteChange::Retention { days } => config.retention_days = days,
            SiteChange::Archive { days } => config.archive_days = days,
            SiteChange::ArchiveFiles { hours: Some(hours) } if hours > FILES_HOURS_MAX => {
                return refused("files go to the archive after 876000 hours at most");
            }
            SiteChange::ArchiveFiles { hours } => config.archive_files_hours = hours,
            SiteChange::Identity { mode } => config.identity = mode,
            SiteChange::IdentityKey { name, secret } => return self.set_identity_key(site, name, secret),
            SiteChange::Email { rules } => return self.set_email_rules(site, rules),
        }
        self.changed(b'F', &site.0.to_be_bytes());
        MetaReply::Done
    }

    fn set_email_rules(&mut self, site: SiteId, rules: EmailRules) -> MetaReply {
        let texts = [&rules.forms_to, &rules.sender, &rules.base_url];
        if texts.iter().any(|text| text.len() > EMAIL_TEXT_BYTES_MAX || text.chars().any(char::is_control)) {
            return refused("a text is longer than 254 bytes, or has control characters");
        }
        if rules.missed_after_s > EMAIL_AFTER_S_MAX || rules.form_after_s > EMAIL_AFTER_S_MAX {
            return refused("e-mails wait for a week at most");
        }
        self.site_emails.insert(site, SiteEmailRow { rules });
        self.changed(b'm', &site.0.to_be_bytes());
        MetaReply::Done
    }

    fn set_identity_key(&mut self, site: SiteId, name: String, secret: Option<SecretBytes>) -> MetaReply {
        if !good_name(&name) || secret.as_ref().is_some_and(|secret| !KEY_BYTES.contains(&secret.0.len())) {
            return refused("a key has a name of 1 to 64 letters, digits or -_.@, and 32 to 64 bytes");
        }
        let keys = &mut self.identity_keys.entry(site).or_default().keys;
        let known = keys.iter().position(|(known, _)| *known == name);
        match (known, secret) {
            (Some(at), Some(secret)) if keys[at].1 == secret => return MetaReply::Done,
            (Some(_), Some(_)) => return refused("a key has this name already: remove it first, or choose another"),
            (Some(at), None) => drop(keys.remove(at)),
            (None, None) => return MetaReply::Done,
            (None, Some(_)) if keys.len() >= KEYS_MAX => {
                return refused("there are two keys already: remove one first");
            }
            (None, Some(secret)) => keys.push((name, secret)),
        }
        self.changed(b'I', &site.0.to_be_bytes());
        MetaReply::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::cluster;
    use super::*;
    use proto::command::{IdentityMode, MetaCommand};

    const SITE: SiteId = SiteId(1);

    fn configure(state: &mut MetaState, site: SiteId, change: SiteChange) -> MetaReply {
        state.apply(5, MetaCommand::ConfigureSite { site, change })
    }

    #[test]
    fn a_site_has_two_keys_at_most_and_keeps_what_it_says_it_keeps() {
        let mut state = cluster();
        let key = |name: &str, byte: Option<u8>| SiteChange::IdentityKey {
            name: name.to_owned(),
            secret: byte.map(|byte| SecretBytes(vec![byte; 32])),
        };
        assert_eq!(configure(&mut state, SITE, key("one", Some(1))), MetaReply::Done);
        assert_eq!(configure(&mut state, SITE, key("one", Some(1))), MetaReply::Done, "a retry");
        assert!(matches!(configure(&mut state, SITE, key("one", Some(2))), MetaReply::Refused { .. }));
        assert_eq!(configure(&mut state, SITE, key("two", Some(2))), MetaReply::Done);
        assert!(matches!(configure(&mut state, SITE, key("three", Some(3))), MetaReply::Refused { .. }));
        assert_eq!(configure(&mut state, SITE, key("one", None)), MetaReply::Done);
        assert_eq!(configure(&mut state, SITE, key("three", Some(3))), MetaReply::Done);
        assert!(matches!(configure(&mut state, SiteId(9), key("one", Some(1))), MetaReply::Refused { .. }));
        let short = SiteChange::IdentityKey { name: "k".into(), secret: Some(SecretBytes(vec![1; 31])) };
        assert!(matches!(configure(&mut state, SITE, short), MetaReply::Refused { .. }));
        configure(&mut state, SITE, SiteChange::Retention { days: 30 });
        configure(&mut state, SITE, SiteChange::Archive { days: 7 });
        configure(&mut state, SITE, SiteChange::ArchiveFiles { hours: Some(0) });
        let late = SiteChange::ArchiveFiles { hours: Some(FILES_HOURS_MAX + 1) };
        assert!(matches!(configure(&mut state, SITE, late), MetaReply::Refused { .. }));
        configure(&mut state, SITE, SiteChange::Identity { mode: IdentityMode::Required });
        let long = SiteChange::Retention { days: RETENTION_DAYS_MAX + 1 };
        assert!(matches!(configure(&mut state, SITE, long), MetaReply::Refused { .. }));
        let mut again = MetaState::default();
        for (key, row) in state.rows() {
            again.load(&key, &row.unwrap()).unwrap();
        }
        assert_eq!((&again.site_configs, &again.identity_keys), (&state.site_configs, &state.identity_keys));
        assert_eq!(again.site_configs[&SITE].retention_days, 30);
        assert_eq!(again.site_configs[&SITE].archive_days, 7);
        assert_eq!(again.site_configs[&SITE].archive_files_hours, Some(0));
        assert_eq!(again.identity_keys[&SITE].keys.len(), 2);
    }
}
