//! Owns checking an audit chain, entry by entry, by nothing but what the entries say. Does not fetch it. Invariant: no hash that was told is
//! believed: each is made anew of the texts, as docs/AUDIT.md says.

use chat::audit_hash;
use proto::audit::hex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::ToSchema;

/// An entry, with every text that its hash is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// Gapless from 1.
    pub seq: u64,
    /// Milliseconds since 1970; never less than in the entry before.
    pub ts_ms: u64,
    /// The same in all entries of one act.
    #[schema(example = "4f1c2b7a90de4c31a5b6c7d8e9f00112")]
    pub act: String,
    /// `begun`: it is going to be done; `done`: what came of it; `refused`: for lack of rights; `told`: it is over.
    #[schema(example = "begun")]
    pub phase: String,
    /// Of `done`: the seq of its `begun`; else 0.
    pub begun: u64,
    /// The HTTP status of the answer; 0: there is none yet.
    pub status: u16,
    #[schema(example = "agent:a17")]
    pub who: String,
    pub role: String,
    /// Of the connection.
    pub address: String,
    /// The node that was asked.
    #[schema(example = "n2")]
    pub node: String,
    pub method: String,
    #[schema(example = "/v1/teams/{team}")]
    pub route: String,
    /// Path and query.
    #[schema(example = "/v1/teams/t2")]
    pub target: String,
    /// SHA-256 of the request's body; empty: it had none, or one with a password.
    pub body_sha256: String,
    /// SHA-256 of the hash before and everything above.
    pub hash: String,
}

/// A place in a chain, and the hash up to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PointView {
    pub seq: u64,
    pub hash: String,
}

impl PointView {
    /// Before the first entry.
    pub fn origin() -> PointView {
        PointView { seq: 0, hash: "0".repeat(64) }
    }
}

impl fmt::Display for PointView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for PointView {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<PointView, &'static str> {
        let wrong = "a head is SEQ:HASH, as verify prints it";
        let (seq, hash) = text.trim().split_once(':').ok_or(wrong)?;
        let seq = seq.parse().map_err(|_| wrong)?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_hash { Ok(PointView { seq, hash: hash.to_owned() }) } else { Err(wrong) }
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken at {seq}: {why}")]
pub struct Broken {
    pub seq: u64,
    pub why: String,
}

impl EntryView {
    /// Its hash, made anew.
    pub fn hash_after(&self, before: &str, chain: &str) -> String {
        let numbers = [self.seq.to_string(), self.ts_ms.to_string(), self.begun.to_string(), self.status.to_string()];
        let [seq, ts_ms, begun, status] = &numbers;
        let texts = [
            chain,
            seq,
            ts_ms,
            &self.act,
            &self.phase,
            begun,
            status,
            &self.who,
            &self.role,
            &self.address,
            &self.node,
            &self.method,
            &self.route,
            &self.target,
            &self.body_sha256,
        ];
        hex(&audit_hash(before, texts))
    }
}

/// Goes along a chain.
pub struct Verifier {
    chain: String,
    at: PointView,
    ts_ms: u64,
    /// What somebody kept elsewhere, and must be found again.
    kept: Option<PointView>,
    found: bool,
}

impl Verifier {
    /// From the entry after `cut` on. `kept`: a head of before.
    /// # Errors
    /// The beginning is none, or does not fit what was kept.
    pub fn new(chain: &str, cut: PointView, kept: Option<PointView>) -> Result<Verifier, Broken> {
        if cut.seq == 0 && cut != PointView::origin() {
            return Err(Broken { seq: 0, why: "a chain begins with a hash of zeros".into() });
        }
        if let Some(kept) = kept.as_ref().filter(|kept| kept.seq < cut.seq) {
            let why = format!("the head that was kept is of {}; the log begins at {}", kept.seq, cut.seq + 1);
            return Err(Broken { seq: cut.seq, why });
        }
        let mut verifier = Verifier { chain: chain.to_owned(), at: cut, ts_ms: 0, kept, found: false };
        verifier.look()?;
        Ok(verifier)
    }

    /// The place up to which all is well.
    pub fn at(&self) -> &PointView {
        &self.at
    }

    fn look(&mut self) -> Result<(), Broken> {
        match &self.kept {
            Some(kept) if kept.seq == self.at.seq => {
                self.found = kept.hash == self.at.hash;
                let why = "the log was written anew: this is not the entry of the head that was kept";
                if self.found { Ok(()) } else { Err(self.broken(self.at.seq, why)) }
            }
            _ => Ok(()),
        }
    }

    fn broken(&self, seq: u64, why: impl Into<String>) -> Broken {
        Broken { seq, why: why.into() }
    }

    /// The next entry.
    /// # Errors
    /// It is not the one that follows.
    pub fn next(&mut self, entry: &EntryView) -> Result<(), Broken> {
        let seq = self.at.seq + 1;
        if entry.seq != seq {
            return Err(self.broken(seq, format!("entry {} stands in its place", entry.seq)));
        }
        if entry.hash_after(&self.at.hash, &self.chain) != entry.hash {
            return Err(self.broken(seq, "its hash is not that of its contents and of what is before it"));
        }
        if entry.ts_ms < self.ts_ms {
            return Err(self.broken(seq, "its time is before that of the entry before"));
        }
        if (entry.phase == "done") != (entry.begun != 0) || entry.begun >= seq {
            return Err(self.broken(seq, "it ends what did not begin before it"));
        }
        self.ts_ms = entry.ts_ms;
        self.at = PointView { seq, hash: entry.hash.clone() };
        self.look()
    }

    /// There are no more. `head`: where the log says that it ends.
    /// # Errors
    /// Something is missing at the end.
    pub fn end(self, head: &PointView) -> Result<PointView, Broken> {
        if self.at != *head {
            return Err(
                self.broken(self.at.seq + 1, format!("it is missing; the log says that it ends at {}", head.seq))
            );
        }
        match &self.kept {
            Some(kept) if !self.found => {
                Err(self.broken(self.at.seq + 1, format!("it is missing; there was an entry {} before", kept.seq)))
            }
            _ => Ok(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &str = "site3";

    fn entry(seq: u64) -> EntryView {
        let (phase, begun, status) = if seq.is_multiple_of(2) { ("done", seq - 1, 200) } else { ("begun", 0, 0) };
        EntryView {
            seq,
            ts_ms: 1_763_700_000_000 + seq / 3,
            act: format!("{:032x}", seq.div_ceil(2)),
            phase: phase.into(),
            begun,
            status,
            who: "agent:a17".into(),
            role: "owner".into(),
            address: "192.0.2.7".into(),
            node: "n2".into(),
            method: "PUT".into(),
            route: "/v1/teams/{team}".into(),
            target: format!("/v1/teams/t{seq}"),
            body_sha256: "ab".repeat(32),
            hash: String::new(),
        }
    }

    /// With good hashes, from the beginning on.
    fn chained(mut entries: Vec<EntryView>) -> Vec<EntryView> {
        let mut before = PointView::origin().hash;
        for (at, entry) in entries.iter_mut().enumerate() {
            entry.seq = at as u64 + 1;
            entry.hash = entry.hash_after(&before, CHAIN);
            before.clone_from(&entry.hash);
        }
        entries
    }

    fn good(len: u64) -> Vec<EntryView> {
        chained((1..=len).map(entry).collect())
    }

    fn head_of(entries: &[EntryView]) -> PointView {
        entries.last().map_or_else(PointView::origin, |last| PointView { seq: last.seq, hash: last.hash.clone() })
    }

    fn checked(entries: &[EntryView], head: &PointView, kept: Option<&PointView>) -> Result<PointView, Broken> {
        let mut verifier = Verifier::new(CHAIN, PointView::origin(), kept.cloned())?;
        entries.iter().try_for_each(|entry| verifier.next(entry))?;
        verifier.end(head)
    }

    fn broken_at(entries: &[EntryView]) -> Option<u64> {
        checked(entries, &head_of(entries), None).err().map(|broken| broken.seq)
    }

    #[test]
    fn a_chain_that_nobody_touched_is_whole_and_every_head_of_it_is_found_again() {
        let all = good(40);
        let head = head_of(&all);
        assert_eq!(checked(&all, &head, None), Ok(head.clone()));
        assert_eq!(checked(&[], &PointView::origin(), None), Ok(PointView::origin()));
        for len in 0..=all.len() {
            let kept = head_of(&all[..len]);
            assert_eq!(checked(&all, &head, Some(&kept)), Ok(head.clone()));
            assert_eq!(kept.to_string().parse(), Ok(kept));
        }
    }

    #[test]
    fn a_change_of_any_field_is_found_at_its_entry() {
        type Change = fn(&mut EntryView);
        let changes: [Change; 15] = [
            |entry| entry.seq += 1,
            |entry| entry.ts_ms += 1,
            |entry| entry.act = "0".repeat(32),
            |entry| entry.phase = "refused".into(),
            |entry| entry.begun += 1,
            |entry| entry.status += 1,
            |entry| entry.who = "agent:a18".into(),
            |entry| entry.role.clear(),
            |entry| entry.address.push('1'),
            |entry| entry.node = "n3".into(),
            |entry| entry.method = "DELETE".into(),
            |entry| entry.route.push('/'),
            |entry| entry.target.push('9'),
            |entry| entry.body_sha256.clear(),
            |entry| entry.hash = "0".repeat(64),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut all = good(20);
            change(&mut all[11]);
            assert_eq!(broken_at(&all), Some(12), "change {at}");
        }
        let all = good(3);
        let mut other = Verifier::new("site4", PointView::origin(), None).unwrap();
        assert!(other.next(&all[0]).is_err(), "a chain cannot pass for another one");
        // A text that goes over into the next one makes another hash.
        let mut moved = good(3);
        (moved[0].who, moved[0].role) = ("agent:a17o".into(), "wner".into());
        assert_eq!(broken_at(&moved), Some(1));
    }

    #[test]
    fn a_removed_a_swapped_and_an_inserted_entry_are_found() {
        let mut removed = good(20);
        removed.remove(7);
        assert_eq!(broken_at(&removed), Some(8));
        // Also when those behind it are numbered anew.
        removed.iter_mut().enumerate().for_each(|(at, entry)| entry.seq = at as u64 + 1);
        assert_eq!(broken_at(&removed), Some(8));
        let mut swapped = good(20);
        swapped.swap(7, 8);
        assert_eq!(broken_at(&swapped), Some(8));
        let (seven, eight) = (swapped[7].seq, swapped[8].seq);
        (swapped[7].seq, swapped[8].seq) = (eight, seven);
        assert_eq!(broken_at(&swapped), Some(8));
        let mut inserted = good(20);
        let mut new = inserted[4].clone();
        new.target = "/v1/teams/t99".into();
        new.hash = new.hash_after(&inserted[3].hash, CHAIN);
        inserted.insert(4, new);
        inserted.iter_mut().enumerate().for_each(|(at, entry)| entry.seq = at as u64 + 1);
        assert_eq!(broken_at(&inserted), Some(6), "it has a good hash itself, but what comes after it has not");
    }

    #[test]
    fn what_is_cut_off_at_the_end_or_written_anew_is_found_by_a_head_that_was_kept() {
        let all = good(20);
        let kept = head_of(&all[..18]);
        let short = &all[..15];
        assert_eq!(checked(short, &head_of(&all), None).unwrap_err().seq, 16, "the log itself says where it ends");
        assert!(checked(short, &head_of(short), None).is_ok(), "without a head nobody can tell");
        assert_eq!(checked(short, &head_of(short), Some(&kept)).unwrap_err().seq, 16);
        let mut anew = all.clone();
        anew[2].who = "agent:a1".into();
        let anew = chained(anew);
        assert!(checked(&anew, &head_of(&anew), None).is_ok(), "without a head nobody can tell");
        assert_eq!(checked(&anew, &head_of(&anew), Some(&kept)).unwrap_err().seq, 18);
    }

    #[test]
    fn a_chain_goes_on_from_where_it_was_cut() {
        let all = good(20);
        let from = |cut: usize, kept: Option<PointView>| {
            let mut verifier = Verifier::new(CHAIN, head_of(&all[..cut]), kept)?;
            all[cut..].iter().try_for_each(|entry| verifier.next(entry))?;
            verifier.end(&head_of(&all))
        };
        assert!(from(10, None).is_ok());
        assert!(from(10, Some(head_of(&all[..10]))).is_ok(), "the cut itself was kept");
        assert_eq!(from(10, Some(head_of(&all[..9]))).unwrap_err().seq, 10, "nobody can tell any more");
        let false_cut = PointView { seq: 0, hash: "1".repeat(64) };
        assert!(Verifier::new(CHAIN, false_cut, None).is_err());
    }

    #[test]
    fn time_that_goes_back_and_ends_of_nothing_are_found_even_with_good_hashes() {
        let mut late = good(20);
        late[9].ts_ms -= 1_000;
        assert_eq!(broken_at(&chained(late)), Some(10));
        let mut ends = good(20);
        ends[9].begun = 10;
        assert_eq!(broken_at(&chained(ends)), Some(10));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for wrong in ["", "7", "7:", "x:00", &format!("7:{}", "A".repeat(64)), &format!("7:{}", "a".repeat(63))] {
            assert!(wrong.parse::<PointView>().is_err(), "{wrong}");
        }
    }
}
