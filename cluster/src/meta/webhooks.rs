//! Owns meta's rules for webhooks: which there are, and what signs their deliveries. Does not know how far they have got: shards do.
//! Invariant: a webhook's number is never used again.

use super::rows::{WebhookRow, WebhookSecretRow};
use super::state::{MetaState, good_name, refused};
use proto::command::SecretBytes;
use proto::ids::{SiteId, WebhookId};
use proto::peer::MetaReply;
use proto::webhook::WebhookRules;

/// Webhooks of one site.
const PER_SITE_MAX: usize = 16;
/// Webhooks of one cluster.
const WEBHOOKS_MAX: usize = 1_000;
/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 2_048;
/// Kinds of events that one webhook names.
const KINDS_MAX: usize = 32;
/// Longest name of a kind, in bytes.
const KIND_BYTES_MAX: usize = 32;
/// Shortest and longest time until an event is given up, in seconds: up to a week.
const GIVE_UP_S: std::ops::RangeInclusive<u32> = 1..=604_800;
/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 64;

impl MetaState {
    /// The webhook of that name at that site.
    pub fn webhook_by_name(&self, site: SiteId, name: &str) -> Option<(WebhookId, &WebhookRow)> {
        self.webhooks.iter().find(|(_, row)| row.site == site && row.name == name).map(|(id, row)| (*id, row))
    }

    pub(super) fn put_webhook(
        &mut self,
        site: SiteId,
        name: String,
        rules: WebhookRules,
        secret: SecretBytes,
    ) -> MetaReply {
        let ascends = rules.kinds.windows(2).all(|pair| pair[0] < pair[1]);
        let is_kind = |kind: &String| (1..=KIND_BYTES_MAX).contains(&kind.len());
        if !self.sites.contains_key(&site) {
            return refused("no such site");
        }
        if rules.url.is_empty() || rules.url.len() > URL_BYTES_MAX || rules.url.chars().any(char::is_control) {
            return refused("a webhook's address has 1 to 2048 bytes");
        }
        if rules.kinds.len() > KINDS_MAX || !ascends || !rules.kinds.iter().all(is_kind) {
            return refused("a webhook names at most 32 kinds of events, each once");
        }
        if !GIVE_UP_S.contains(&rules.give_up_s) {
            return refused("a webhook gives an event up after 1 to 604800 seconds");
        }
        if let Some(webhook) = self.webhook_by_name(site, &name).map(|(id, _)| id) {
            self.webhooks.insert(webhook, WebhookRow { site, name, rules });
            self.changed(b'W', &webhook.0.to_be_bytes());
            // A repeated call for a new one has the secret that it has: its first answer was lost.
            let is_new = self.webhook_secrets.get(&webhook).is_some_and(|row| row.secret == secret);
            return MetaReply::Webhook { webhook, is_new };
        }
        if !good_name(&name) || secret.0.is_empty() || secret.0.len() > SECRET_BYTES_MAX {
            return refused("a webhook's name has 1 to 64 letters, digits or -_.@");
        }
        let of_site = self.webhooks.values().filter(|row| row.site == site).count();
        if of_site >= PER_SITE_MAX || self.webhooks.len() >= WEBHOOKS_MAX {
            return refused("there are as many webhooks as there can be: remove some");
        }
        let Some(cluster) = &mut self.cluster else { return refused("the cluster is not set up yet") };
        let webhook = WebhookId(cluster.next_webhook);
        cluster.next_webhook += 1;
        self.webhooks.insert(webhook, WebhookRow { site, name, rules });
        self.webhook_secrets.insert(webhook, WebhookSecretRow { secret, before: None });
        self.changed(b'C', &[]);
        self.changed(b'W', &webhook.0.to_be_bytes());
        self.changed(b'X', &webhook.0.to_be_bytes());
        MetaReply::Webhook { webhook, is_new: true }
    }

    pub(super) fn set_webhook_secret(
        &mut self,
        webhook: WebhookId,
        secret: SecretBytes,
        before_until_ms: u64,
    ) -> MetaReply {
        if !self.webhooks.contains_key(&webhook) || secret.0.is_empty() || secret.0.len() > SECRET_BYTES_MAX {
            return refused("no such webhook");
        }
        let known = self.webhook_secrets.get(&webhook);
        if known.is_some_and(|row| row.secret == secret) {
            return MetaReply::Done;
        }
        let before = known.map(|row| (row.secret.clone(), before_until_ms));
        self.webhook_secrets.insert(webhook, WebhookSecretRow { secret, before });
        self.changed(b'X', &webhook.0.to_be_bytes());
        MetaReply::Done
    }

    pub(super) fn remove_webhook(&mut self, webhook: WebhookId) -> MetaReply {
        self.webhooks.remove(&webhook);
        self.webhook_secrets.remove(&webhook);
        self.changed(b'W', &webhook.0.to_be_bytes());
        self.changed(b'X', &webhook.0.to_be_bytes());
        MetaReply::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::cluster;
    use super::*;
    use proto::command::MetaCommand;

    const SITE: SiteId = SiteId(1);

    fn rules(url: &str) -> WebhookRules {
        WebhookRules { url: url.into(), kinds: Vec::new(), give_up_s: 60, on: true }
    }

    fn put(state: &mut MetaState, name: &str, rules: WebhookRules, secret: u8) -> MetaReply {
        let secret = SecretBytes(vec![secret; 32]);
        state.apply(1, MetaCommand::PutWebhook { site: SITE, name: name.into(), rules, secret })
    }

    #[test]
    fn a_webhook_keeps_its_number_and_secret_when_it_is_changed_and_gives_up_both_when_it_goes() {
        let mut state = cluster();
        let first = WebhookId(1);
        let made = MetaReply::Webhook { webhook: first, is_new: true };
        for _ in 0..2 {
            assert_eq!(put(&mut state, "crm", rules("https://a.example"), 1), made, "also when it is repeated");
        }
        let changed = MetaReply::Webhook { webhook: first, is_new: false };
        assert_eq!(put(&mut state, "crm", rules("https://b.example"), 2), changed);
        assert_eq!(state.webhook_by_name(SITE, "crm").unwrap().1.rules.url, "https://b.example");
        assert_eq!(state.webhook_secrets[&first].secret, SecretBytes(vec![1; 32]));
        let secret = |byte: u8| SecretBytes(vec![byte; 32]);
        let rotate = MetaCommand::SetWebhookSecret { webhook: first, secret: secret(3), before_until_ms: 9 };
        for _ in 0..2 {
            assert_eq!(state.apply(2, rotate.clone()), MetaReply::Done);
            let row = &state.webhook_secrets[&first];
            assert_eq!((&row.secret, row.before.as_ref()), (&secret(3), Some(&(secret(1), 9))));
        }
        let mut again = MetaState::default();
        for (key, row) in state.rows() {
            again.load(&key, &row.unwrap()).unwrap();
        }
        assert_eq!((&again.webhooks, &again.webhook_secrets), (&state.webhooks, &state.webhook_secrets));
        state.apply(3, MetaCommand::RemoveWebhook { webhook: first });
        assert!(state.webhooks.is_empty() && state.webhook_secrets.is_empty());
        let second = MetaReply::Webhook { webhook: WebhookId(2), is_new: true };
        assert_eq!(put(&mut state, "crm", rules("https://a.example"), 1), second);
    }

    #[test]
    fn webhooks_are_bounded_in_every_way() {
        let mut state = cluster();
        let good = || rules("https://a.example");
        let kinds = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
        for (name, wrong) in [
            ("a b", good()),
            ("a", rules("")),
            ("a", rules(&"x".repeat(URL_BYTES_MAX + 1))),
            ("a", WebhookRules { give_up_s: 0, ..good() }),
            ("a", WebhookRules { kinds: kinds(&["note", "closed"]), ..good() }),
            ("a", WebhookRules { kinds: kinds(&["note", "note"]), ..good() }),
            ("a", WebhookRules { kinds: kinds(&[""]), ..good() }),
        ] {
            assert!(matches!(put(&mut state, name, wrong, 1), MetaReply::Refused { .. }), "{name}");
        }
        for n in 0..PER_SITE_MAX {
            assert!(matches!(put(&mut state, &format!("w{n}"), good(), 1), MetaReply::Webhook { .. }));
        }
        assert!(matches!(put(&mut state, "more", good(), 1), MetaReply::Refused { .. }));
        assert!(matches!(put(&mut state, "w0", good(), 2), MetaReply::Webhook { is_new: false, .. }));
        let unknown =
            MetaCommand::PutWebhook { site: SiteId(9), name: "a".into(), rules: good(), secret: SecretBytes(vec![1]) };
        assert!(matches!(state.apply(1, unknown), MetaReply::Refused { .. }));
    }
}
