//! Owns what people of the reference system do beside writing: the rules, and the choice. Does not know clients or time.
//! Invariant: as simple as the protocol, so that it can be trusted.

use super::desk::Talk;
use super::world::World;
use crate::history::*;

/// An event as a party sees it; what is between agents is nothing but its place for a visitor.
pub fn seen_by(party: &Party, event: &Event) -> Event {
    match &event.kind {
        EventKind::Act { act, .. } if act.is_internal() && *party == Party::Visitor => {
            Event { kind: EventKind::Hidden, ..event.clone() }
        }
        _ => event.clone(),
    }
}

impl Talk {
    pub fn act(
        &mut self,
        by: &Party,
        holds: bool,
        device: &DeviceId,
        n: u64,
        act: &Act,
    ) -> Result<Option<Reply>, &'static str> {
        if let Some(known) = self.answered(by, device, n)? {
            return Ok(Some(known));
        }
        self.check(by, holds, act)?;
        let seq = self.append(EventKind::Act { from: by.clone(), act: act.clone() });
        if let Act::Recall { of } = act {
            self.log.iter_mut().for_each(|event| take_back(event, *of));
        }
        let ts = self.log[seq as usize - 1].ts;
        self.sent.entry((by.clone(), device.clone())).or_default().push((seq, ts));
        Ok(Some(Reply::Sent { seq: Seq(seq), ts, dup: false }))
    }

    fn check(&self, by: &Party, holds: bool, act: &Act) -> Result<(), &'static str> {
        let of = match act {
            Act::Note { .. } | Act::Label { .. } if *by == Party::Visitor => return Err("forbidden"),
            Act::Note { .. } | Act::Label { .. } => return Ok(()),
            _ if *by != Party::Visitor && !holds => return Err("forbidden"),
            Act::Edit { of, .. } | Act::Recall { of } | Act::React { of, .. } => of,
        };
        match self.log.get(of.0.wrapping_sub(1) as usize).map(|event| &event.kind) {
            // One that was taken back is no message any more.
            Some(EventKind::Message { text, .. }) if text.is_empty() => Err("bad_request"),
            Some(EventKind::Message { from, .. }) if from == by || matches!(act, Act::React { .. }) => Ok(()),
            _ => Err("bad_request"),
        }
    }
}

fn take_back(event: &mut Event, taken: Seq) {
    let seq = event.seq;
    match &mut event.kind {
        EventKind::Message { text, .. } if seq == taken => *text = "".into(),
        EventKind::Act { act: Act::Edit { of, text }, .. } if *of == taken => *text = "".into(),
        _ => {}
    }
}

impl World {
    /// Somebody does something beside writing, on a device that does nothing else.
    pub fn begin_act(&mut self) {
        let (person, talk) = self.choose();
        let head = self.talks[talk].head();
        let of = Seq(head.saturating_sub(self.dice.roll(6) as u64));
        self.texts += 1;
        let text = format!("text {}", self.texts).into();
        let by = self.people[person].who.party();
        let act = match self.dice.roll(8) {
            0..=2 => Act::Edit { of, text },
            // Nobody takes back what nobody has seen.
            3 if self.told.contains(&(talk, of)) && self.done.insert((by.clone(), talk, of, false)) => {
                Act::Recall { of }
            }
            4 if self.done.insert((by.clone(), talk, of, true)) => Act::React { of, emoji: "👍".into() },
            5 => Act::Label { label: "refund".into(), on: self.dice.roll(2) == 0 },
            _ => Act::Note { text },
        };
        let device = DeviceId::from(format!("c{person}-deeds-{}", self.texts).as_str());
        let session = self.talks[talk].id.clone();
        self.begin(person, talk, What::Act { session, device, n: 1, act });
    }
}
