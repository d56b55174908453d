//! Owns what a visitor's page says of the visitor. Does not know what routes make of it. Invariant: facts are bounded texts, ascending by name.

use crate::apply::Shard;
use crate::journal::Note;
use crate::limits::{CHANNEL_MAX, FACT_BYTES_MAX, FACT_NAME_BYTES_MAX, FACTS_MAX};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::Rows;
use crate::session;
use proto::desk::About;
use proto::ids::SessionId;

fn is_sound(about: &About) -> bool {
    let is_text = |text: &String| !text.chars().any(char::is_control);
    let is_fact = |(name, value): &(String, String)| {
        (1..=FACT_NAME_BYTES_MAX).contains(&name.len())
            && value.len() <= FACT_BYTES_MAX
            && is_text(name)
            && is_text(value)
    };
    let ascends = about.facts.windows(2).all(|pair| pair[0].0 < pair[1].0);
    about.channel.0 <= CHANNEL_MAX && about.facts.len() <= FACTS_MAX && ascends && about.facts.iter().all(is_fact)
}

impl Shard {
    /// What a visitor's page says is for the next conversation: one that waits already keeps its place.
    pub(crate) fn about(&mut self, rows: &dyn Rows, id: SessionId, about: About) -> Result<Reply, ApplyError> {
        let work = &mut self.work;
        let Some(mut session) = session::hold(&mut self.sessions, rows, id, work.tick)? else {
            return Ok(Reply::Rejected(Refusal::UnknownSession));
        };
        if !is_sound(&about) {
            return Ok(Reply::Rejected(Refusal::RulesInvalid("what is known of a visitor")));
        }
        if session.about != about {
            work.journal.note_session(Note::About, id, &[about.facts.len() as u64]);
            work.journal.note_bytes(Note::About, u64::from(session.site.0), &proto::codec::encode_bare(&about));
            session.change().about = about;
        }
        Ok(Reply::Done)
    }
}
