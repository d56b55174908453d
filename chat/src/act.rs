//! Owns what people do in a session beside writing to each other: who may do what, and what becomes of it. Does not know how a
//! send is repeated. Invariant: an act that was refused has changed nothing.

use crate::apply::Work;
use crate::archive::is_message;
use crate::due::Dues;
use crate::history::{self, HistoryRange};
use crate::limits::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_MAX, COMMENT_BYTES_MAX, EDIT_WITHIN_MS, EMOJI_BYTES_MAX,
    LABEL_BYTES_MAX, LABELS_MAX, MENTIONS_MAX, RECALL_WITHIN_MS, SCORE_MAX, SEEN_LOOK_MAX, SNOOZE_MS_MAX,
};
use crate::message::check_text;
use crate::outcome::{ApplyError, Refusal};
use crate::rows::{AttributeRow, RatingRow, Rows};
use crate::session::Session;
use proto::act::{Act, Whose};
use proto::command::{Event, EventBody, Mail, Party};
use proto::ids::{AttachmentId, SessionId, SiteId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who does it, and when.
#[derive(Clone, Copy)]
pub(crate) struct Doer {
    pub party: Party,
    /// An agent's own.
    pub site: Option<SiteId>,
    pub now_ms: u64,
}

impl Session {
    /// Why the act may not be done; `None`: it may.
    pub(crate) fn check_act(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        doer: Doer,
        act: &Act,
    ) -> Result<Option<Refusal>, ApplyError> {
        Ok(match act {
            Act::Note { text, mentions } => self
                .check_site(doer)
                .or_else(|| check_text(text))
                .or_else(|| (mentions.len() > MENTIONS_MAX).then_some(Refusal::ActInvalid)),
            Act::Label { label, on } => self.check_site(doer).or_else(|| self.check_label(label, *on)),
            Act::React { seq, emoji, .. } => match self.check_says(doer).or_else(|| check_emoji(emoji)) {
                None => (!self.is_target(rows, id, *seq)?).then_some(Refusal::TargetInvalid),
                refusal => refusal,
            },
            Act::Edit { seq, text } => match self.check_says(doer).or_else(|| check_text(text)) {
                None => self.check_own(rows, id, doer, *seq, EDIT_WITHIN_MS)?,
                refusal => refusal,
            },
            Act::Recall { seq } => match self.check_says(doer) {
                None => self.check_own(rows, id, doer, *seq, RECALL_WITHIN_MS)?,
                refusal => refusal,
            },
            Act::Snooze { conversation, until_ms } => self.check_snooze(doer, *conversation, *until_ms),
            Act::Reopen { conversation } => self.check_agent(doer).or_else(|| self.check_reopen(*conversation)),
            Act::Rate { conversation, score, comment } => self.check_rating(doer, *conversation, *score, comment),
            Act::Attribute { whose, name, value } => {
                self.check_site(doer).or_else(|| self.check_attribute(*whose, name, value.as_deref()))
            }
            // The other session says so, by mail.
            Act::Merge { .. } => Some(Refusal::NotYours),
            // The rules themselves say it: see `reach`.
            Act::Prompt { .. } => Some(Refusal::ActInvalid),
            Act::Invite { text, until_ms } => {
                self.check_agent(doer).or_else(|| self.check_invite(doer.now_ms, text, *until_ms))
            }
            Act::Decline { seq } => self.check_decline(doer, *seq),
        })
    }

    /// Who may speak, and is heard.
    pub(crate) fn check_says(&self, doer: Doer) -> Option<Refusal> {
        self.check_speaks(doer.party).or_else(|| self.check_visitor(doer.party, doer.now_ms))
    }

    /// An agent or a system of the session's site, whoever has the conversation.
    fn check_site(&self, doer: Doer) -> Option<Refusal> {
        let is_of_site = doer.party != Party::Visitor && doer.site == Some(self.site);
        (!is_of_site).then_some(Refusal::NotYours)
    }

    /// The same, of agents only.
    fn check_agent(&self, doer: Doer) -> Option<Refusal> {
        let is_agent = matches!(doer.party, Party::Agent(_));
        if is_agent { self.check_site(doer) } else { Some(Refusal::NotYours) }
    }

    fn check_label(&self, label: &str, on: bool) -> Option<Refusal> {
        let is_text = !label.trim().is_empty() && !label.chars().any(char::is_control);
        match () {
            () if !is_text || label.len() > LABEL_BYTES_MAX => Some(Refusal::ActInvalid),
            () if self.conversations == 0 => Some(Refusal::ConversationClosed),
            () if on && self.labels.len() >= LABELS_MAX && !self.has_label(label) => Some(Refusal::ActInvalid),
            () => None,
        }
    }

    fn has_label(&self, label: &str) -> bool {
        self.labels.binary_search_by(|known| known.as_str().cmp(label)).is_ok()
    }

    /// The message at `seq`, unless it was recalled.
    fn target(&self, rows: &dyn Rows, id: SessionId, seq: u64) -> Result<Option<Arc<Event>>, ApplyError> {
        Ok(self.log.find(rows, id, seq)?.filter(|event| is_message(&event.body)))
    }

    /// Whether there is such a message. The archive is not asked for it.
    fn is_target(&self, rows: &dyn Rows, id: SessionId, seq: u64) -> Result<bool, ApplyError> {
        match seq <= self.log.cold.last() {
            true => Ok(self.log.cold.is_message(seq)),
            false => Ok(self.target(rows, id, seq)?.is_some()),
        }
    }

    /// Whether a message can be answered.
    pub(crate) fn check_reply_to(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        reply_to: Option<u64>,
    ) -> Result<Option<Refusal>, ApplyError> {
        let Some(seq) = reply_to else { return Ok(None) };
        Ok((!self.is_target(rows, id, seq)?).then_some(Refusal::TargetInvalid))
    }

    /// A message of the doer's own, not too old and not too far back.
    fn check_own(
        &self,
        rows: &dyn Rows,
        id: SessionId,
        doer: Doer,
        seq: u64,
        within_ms: u64,
    ) -> Result<Option<Refusal>, ApplyError> {
        if seq <= self.log.cold.last() {
            let is_late = self.log.cold.is_message(seq);
            return Ok(Some(if is_late { Refusal::TooLate } else { Refusal::TargetInvalid }));
        }
        let is_own = |event: &Arc<Event>| matches!(&event.body, EventBody::Message { from, .. } if *from == doer.party);
        let Some(event) = self.target(rows, id, seq)?.filter(is_own) else { return Ok(Some(Refusal::TargetInvalid)) };
        let is_late = doer.now_ms > event.ts_ms + within_ms || self.log.head() - seq > SEEN_LOOK_MAX;
        Ok(is_late.then_some(Refusal::TooLate))
    }

    fn check_snooze(&self, doer: Doer, conversation: u64, until_ms: u64) -> Option<Refusal> {
        let open = self.open.filter(|open| open.number == conversation);
        let is_time = doer.now_ms < until_ms && until_ms - doer.now_ms <= SNOOZE_MS_MAX;
        match (doer.party, open) {
            (Party::Visitor, _) => Some(Refusal::NotYours),
            (_, None) => Some(Refusal::ConversationClosed),
            (Party::Agent(agent), Some(open)) if open.agent == Some(agent) => (!is_time).then_some(Refusal::ActInvalid),
            _ => Some(Refusal::NotYours),
        }
    }

    fn check_reopen(&self, conversation: u64) -> Option<Refusal> {
        let can = self.open.is_none() && conversation > 0 && self.conversations == conversation;
        (!can).then_some(Refusal::Changed)
    }

    /// A visitor may think better of it, until the next conversation.
    fn check_rating(&self, doer: Doer, conversation: u64, score: u8, comment: &str) -> Option<Refusal> {
        match () {
            () if doer.party != Party::Visitor => Some(Refusal::NotYours),
            () if conversation == 0 || conversation != self.conversations => Some(Refusal::Changed),
            () if !(1..=SCORE_MAX).contains(&score) || comment.len() > COMMENT_BYTES_MAX => Some(Refusal::ActInvalid),
            () => self.check_visitor(doer.party, doer.now_ms),
        }
    }

    fn check_attribute(&self, whose: Whose, name: &str, value: Option<&str>) -> Option<Refusal> {
        let is_text = |text: &str, bytes_max: usize| {
            !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
        };
        let of_it = self.attributes.iter().filter(|row| row.whose == whose);
        let is_known = of_it.clone().any(|row| row.name == name);
        match () {
            () if !is_text(name, ATTRIBUTE_NAME_BYTES_MAX) => Some(Refusal::ActInvalid),
            () if value.is_some_and(|value| !is_text(value, ATTRIBUTE_BYTES_MAX)) => Some(Refusal::ActInvalid),
            () if whose == Whose::Conversation && self.conversations == 0 => Some(Refusal::ConversationClosed),
            () if value.is_some() && !is_known && of_it.count() >= ATTRIBUTES_MAX => Some(Refusal::ActInvalid),
            () => None,
        }
    }

    /// Whether something is taken from the visitor now.
    pub(crate) fn check_visitor(&self, from: Party, now_ms: u64) -> Option<Refusal> {
        let is_blocked = from == Party::Visitor && self.blocked_ms.is_some_and(|until_ms| now_ms < until_ms);
        is_blocked.then_some(Refusal::Blocked)
    }

    fn set_attribute(&mut self, whose: Whose, name: String, value: Option<String>) {
        let at = self.attributes.binary_search_by(|row| (row.whose, row.name.as_str()).cmp(&(whose, name.as_str())));
        match (at, value) {
            (Ok(at), Some(value)) => self.attributes[at].value = value,
            (Ok(at), None) => drop(self.attributes.remove(at)),
            (Err(at), Some(value)) => self.attributes.insert(at, AttributeRow { whose, name, value }),
            (Err(_), None) => {}
        }
    }

    /// Whether what the act looks at is in memory.
    pub(crate) fn has_target(&self, act: &Act) -> bool {
        match act {
            Act::Edit { seq, .. } | Act::React { seq, .. } => self.log.get(*seq).is_some(),
            // Its whole block is written anew.
            Act::Recall { seq } => self.log.has_block(*seq) && !self.has_files(*seq),
            Act::Note { .. }
            | Act::Label { .. }
            | Act::Snooze { .. }
            | Act::Reopen { .. }
            | Act::Rate { .. }
            | Act::Prompt { .. }
            | Act::Invite { .. }
            | Act::Decline { .. }
            | Act::Attribute { .. }
            | Act::Merge { .. } => true,
        }
    }

    /// Whether the message at `seq` is in memory and has attachments: what becomes of them is in rows.
    fn has_files(&self, seq: u64) -> bool {
        let body = self.log.get(seq).map(|event| &event.body);
        matches!(body, Some(EventBody::Message { attachments, .. }) if !attachments.is_empty())
    }

    /// What an act changes beside the log, to which it was added at `seq`. Returns the attachments that are no more.
    pub(crate) fn do_act(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        work: &mut Work,
        dues: &mut Dues,
        (party, seq): (Party, u64),
        act: Act,
    ) -> Result<Vec<AttachmentId>, ApplyError> {
        match act {
            Act::Note { mentions, .. } => {
                for agent in mentions {
                    work.mail(Mail::Mentioned { agent, site: self.site, session: id, seq });
                }
            }
            Act::Label { label, on } => match (self.labels.binary_search(&label), on) {
                (Err(at), true) => {
                    self.count_labelled(work, &label);
                    self.labels.insert(at, label);
                }
                (Ok(at), false) => drop(self.labels.remove(at)),
                _ => {}
            },
            Act::Recall { seq } => return self.recall(rows, id, seq),
            Act::Snooze { until_ms, .. } => self.snooze(id, work, dues, until_ms),
            Act::Reopen { conversation } => {
                if let Party::Agent(agent) = party {
                    self.reopen(id, work, (conversation, seq), agent);
                }
            }
            Act::Rate { conversation, score, .. } => {
                self.count_rated(work, score);
                self.rating = Some(RatingRow { conversation, score });
            }
            Act::Attribute { whose, name, value } => self.set_attribute(whose, name, value),
            Act::Invite { until_ms, .. } => {
                if let Party::Agent(agent) = party {
                    self.invite(agent, seq, work.clock_ms, until_ms);
                }
            }
            Act::Decline { .. } => self.decline(work.clock_ms),
            Act::Edit { .. } | Act::React { .. } | Act::Prompt { .. } | Act::Merge { .. } => {}
        }
        Ok(Vec::new())
    }

    /// No text of the message stays: neither the first one nor those that it was given later. Returns its attachments, which go, too.
    fn recall(&mut self, rows: &dyn Rows, id: SessionId, target: u64) -> Result<Vec<AttachmentId>, ApplyError> {
        let range = HistoryRange::After(target - 1);
        let page = history::read(rows, id, &self.log, range, usize::MAX, usize::MAX)?;
        let emptied = |event: &Arc<Event>| {
            let body = match &event.body {
                EventBody::Message { from, device, n, cid, .. } if event.seq == target => EventBody::Message {
                    from: *from,
                    device: device.clone(),
                    n: *n,
                    cid: cid.clone(),
                    text: String::new(),
                    reply_to: None,
                    attachments: Vec::new(),
                },
                EventBody::Act { from, device, n, cid, act: Act::Edit { seq, .. } } if *seq == target => {
                    let act = Act::Edit { seq: target, text: String::new() };
                    EventBody::Act { from: *from, device: device.clone(), n: *n, cid: cid.clone(), act }
                }
                _ => return None,
            };
            Some((event.seq, body))
        };
        let changes: BTreeMap<u64, EventBody> = page.events.iter().filter_map(emptied).collect();
        let gone = page.events.iter().filter(|event| event.seq == target).flat_map(|event| match &event.body {
            EventBody::Message { attachments, .. } => attachments.iter().map(|attachment| attachment.id).collect(),
            _ => Vec::new(),
        });
        let gone = gone.collect();
        self.log.amend(rows, id, changes)?;
        Ok(gone)
    }
}

fn check_emoji(emoji: &str) -> Option<Refusal> {
    let is_sound = (1..=EMOJI_BYTES_MAX).contains(&emoji.len())
        && !emoji.chars().any(|char| char.is_control() || char.is_whitespace() || char.is_ascii());
    // The keycaps begin with an ASCII digit.
    let is_keycap =
        emoji.len() <= EMOJI_BYTES_MAX && emoji.ends_with('\u{20e3}') && !emoji.chars().any(char::is_control);
    (!is_sound && !is_keycap).then_some(Refusal::ActInvalid)
}
