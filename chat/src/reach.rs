//! Owns who writes to a visitor first: what triggers said, and the invitations of agents. Does not know the rules of triggers: nodes do.
//! Invariant: neither opens a conversation, and neither comes while one is open; a trigger speaks as often as it may and no more, and
//! one invitation is open at a time.

use crate::act::Doer;
use crate::apply::{Shard, Work};
use crate::cache::Mark;
use crate::keys;
use crate::limits::{
    DECLINED_MS, INVITE_MS_MAX, INVITES_PER_DAY_MAX, PROMPT_ANSWER_MS, PROMPT_NAME_BYTES_MAX, PROMPT_PAUSE_MS,
    PROMPTS_MAX,
};
use crate::message::check_text;
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, Changes, InviteRow, PromptRow, ReachRow, Rows, SaidRow};
use crate::session::{self, Session};
use proto::act::{Act, Again, Prompt};
use proto::command::{EventBody, Mail, Party};
use proto::desk::Ask;
use proto::ids::{AgentId, SessionId, SiteId};

/// The device in whose name triggers speak.
const DEVICE: &str = "trigger";
const DAY_MS: u64 = 86_400_000;

/// What was said to one visitor first.
#[derive(Default)]
pub(crate) struct Reach {
    /// Most visitors were told nothing, and there are many.
    row: Option<Box<ReachRow>>,
    mark: Mark,
}

static NOTHING: ReachRow =
    ReachRow { prompts: Vec::new(), said: None, invite: None, invited_ms: Vec::new(), declined_ms: 0 };

impl Reach {
    pub(crate) fn load(rows: &dyn Rows, session: SessionId) -> Result<Reach, ApplyError> {
        let row: Option<ReachRow> = rows::read(rows, "reach", &keys::reach(session))?;
        Ok(Reach { row: row.map(Box::new), mark: Mark::Clean })
    }

    fn row(&self) -> &ReachRow {
        self.row.as_deref().unwrap_or(&NOTHING)
    }

    fn change(&mut self) -> &mut ReachRow {
        self.mark.touch();
        self.row.get_or_insert_default()
    }

    pub(crate) fn save(&mut self, session: SessionId, out: &mut Changes) {
        if !self.mark.begin() {
            return;
        }
        match &self.row {
            Some(row) => rows::save(out, keys::reach(session), row.as_ref()),
            None => out.push((keys::reach(session), None)),
        }
    }

    pub(crate) fn saved(&mut self, written: bool) {
        self.mark.end(written);
    }

    pub(crate) fn bytes(&self) -> usize {
        let Some(row) = &self.row else { return 0 };
        let names: usize = row.prompts.iter().map(|row| size_of::<PromptRow>() + row.trigger.len()).sum();
        let said = row.said.as_ref().map_or(0, |said| said.trigger.len());
        size_of::<ReachRow>() + names + 8 * row.invited_ms.len() + said
    }

    pub(crate) fn forget(&mut self) {
        if self.row.take().is_some() {
            self.mark.touch();
        }
    }

    /// A conversation ended: whatever the visitor writes next answers nothing that was said before.
    pub(crate) fn close(&mut self) {
        let row = self.row();
        if row.said.is_some() || row.invite.is_some() {
            let row = self.change();
            (row.said, row.invite) = (None, None);
        }
    }

    /// Triggers that have spoken: when last, in milliseconds since 1970, and in which visit; ascending by name.
    pub(crate) fn prompts(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.row().prompts.iter().map(|row| (row.trigger.as_str(), row.ms, row.visit))
    }

    /// Who has invited the visitor, with which event and until when, in milliseconds since 1970. It may be over.
    pub(crate) fn invite(&self) -> Option<(AgentId, u64, u64)> {
        self.row().invite.map(|invite| (invite.agent, invite.seq, invite.until_ms))
    }

    fn open_invite(&self, now_ms: u64) -> Option<InviteRow> {
        self.row().invite.filter(|invite| now_ms < invite.until_ms)
    }

    fn find(&self, trigger: &str) -> Result<usize, usize> {
        self.row().prompts.binary_search_by(|row| row.trigger.as_str().cmp(trigger))
    }

    /// Whether the trigger has said to this visitor what it may.
    fn has_said(&self, prompt: &Prompt, now_ms: u64) -> bool {
        let Ok(at) = self.find(&prompt.trigger) else { return false };
        let row = &self.row().prompts[at];
        match prompt.again {
            Again::Never => true,
            Again::NextVisit => row.visit >= prompt.visit,
            Again::After { ms } => now_ms.saturating_sub(row.ms) < ms,
        }
    }

    /// Why the trigger may not speak now, though it has not said this before.
    fn check(&self, prompt: &Prompt, now_ms: u64) -> Option<Refusal> {
        let is_name =
            |name: &str| (1..=PROMPT_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        let has_spoken = self.row().prompts.iter().any(|row| now_ms.saturating_sub(row.ms) < PROMPT_PAUSE_MS);
        match () {
            () if !is_name(&prompt.trigger) || !prompt.name.as_deref().is_none_or(is_name) => Some(Refusal::ActInvalid),
            () if self.open_invite(now_ms).is_some() => Some(Refusal::Invited),
            () if has_spoken => Some(Refusal::TooOften),
            () if self.row().prompts.len() >= PROMPTS_MAX && self.find(&prompt.trigger).is_err() => {
                Some(Refusal::LimitReached("triggers that have spoken"))
            }
            () => check_text(&prompt.text),
        }
    }

    fn note(&mut self, prompt: &Prompt, now_ms: u64, seq: u64) {
        let (trigger, ms, visit) = (prompt.trigger.clone(), now_ms, prompt.visit);
        let place = self.find(&trigger);
        let row = self.change();
        row.said = Some(SaidRow { trigger: trigger.clone(), ms, seq, team: prompt.team });
        match place {
            Ok(at) => row.prompts[at] = PromptRow { trigger, ms, visit },
            Err(at) => row.prompts.insert(at, PromptRow { trigger, ms, visit }),
        }
    }
}

impl Session {
    pub(crate) fn check_invite(&self, now_ms: u64, text: &str, until_ms: u64) -> Option<Refusal> {
        let row = self.reach.row();
        let of_day = row.invited_ms.iter().filter(|ms| now_ms.saturating_sub(**ms) < DAY_MS).count();
        let has_declined = row.declined_ms > 0 && now_ms.saturating_sub(row.declined_ms) < DECLINED_MS;
        let is_time = now_ms < until_ms && until_ms - now_ms <= INVITE_MS_MAX;
        match () {
            () if self.open.is_some() => Some(Refusal::Talking),
            () if self.reach.open_invite(now_ms).is_some() => Some(Refusal::Invited),
            () if !is_time => Some(Refusal::ActInvalid),
            () if has_declined || of_day >= INVITES_PER_DAY_MAX => Some(Refusal::TooOften),
            () => check_text(text).or_else(|| self.check_visitor(Party::Visitor, now_ms)),
        }
    }

    pub(crate) fn check_decline(&self, doer: Doer, seq: u64) -> Option<Refusal> {
        match self.reach.row().invite.filter(|invite| invite.seq == seq) {
            _ if doer.party != Party::Visitor => Some(Refusal::NotYours),
            None => Some(Refusal::TargetInvalid),
            Some(invite) => (doer.now_ms >= invite.until_ms).then_some(Refusal::TooLate),
        }
    }

    pub(crate) fn invite(&mut self, agent: AgentId, seq: u64, now_ms: u64, until_ms: u64) {
        let row = self.reach.change();
        row.invite = Some(InviteRow { agent, seq, until_ms });
        row.invited_ms.push(now_ms);
        let excess = row.invited_ms.len().saturating_sub(INVITES_PER_DAY_MAX);
        row.invited_ms.drain(..excess);
    }

    pub(crate) fn decline(&mut self, now_ms: u64) {
        let row = self.reach.change();
        (row.invite, row.declined_ms) = (None, now_ms);
    }

    /// The visitor writes, and a conversation begins: it is for whoever wrote first. Returns the event that is answered.
    pub(crate) fn answers(&mut self, work: &mut Work, ask: &mut Ask) -> Option<u64> {
        let invite = self.reach.open_invite(work.clock_ms);
        let said = self.reach.row().said.clone();
        self.reach.close();
        if let Some(InviteRow { agent, seq, .. }) = invite {
            ask.back = Some(agent);
            return Some(seq);
        }
        let SaidRow { trigger, seq, team, .. } =
            said.filter(|said| work.clock_ms.saturating_sub(said.ms) < PROMPT_ANSWER_MS)?;
        ask.team = ask.team.or(team);
        work.mail(Mail::Prompted { site: self.site, trigger, answered: true });
        Some(seq)
    }
}

impl Shard {
    /// A trigger speaks. What it has said before is not said again, and that is no refusal.
    pub(crate) fn prompt(
        &mut self,
        rows: &dyn Rows,
        id: SessionId,
        site: SiteId,
        prompt: Prompt,
    ) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        if session.site != site {
            return Ok(Reply::Rejected(Refusal::SiteMismatch));
        }
        if session.reach.has_said(&prompt, work.clock_ms) {
            return Ok(Reply::Done);
        }
        let talking = session.open.is_some().then_some(Refusal::Talking);
        let blocked = || session.check_visitor(Party::Visitor, work.clock_ms);
        if let Some(refusal) = talking.or_else(blocked).or_else(|| session.reach.check(&prompt, work.clock_ms)) {
            return Ok(Reply::Rejected(refusal));
        }
        let session = session.change();
        session.reach.note(&prompt, work.clock_ms, session.log.head() + 1);
        let Prompt { trigger, name, text, .. } = prompt;
        work.mail(Mail::Prompted { site, trigger: trigger.clone(), answered: false });
        let act = Act::Prompt { trigger, name, text };
        let (from, device) = (Party::System, DEVICE.to_owned());
        let body = EventBody::Act { from, device, n: 0, cid: String::new(), act };
        let event = session.log.append(work.clock_ms, body);
        work.event(site, id, event);
        Ok(Reply::Done)
    }
}
