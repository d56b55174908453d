//! Owns how a judgement of the checkers stands on the page. Does not judge. Invariant: no violation that is shown has more
//! lines than a person reads.

use proto::command::Target;
use proto::ids::SessionId;

use super::{Verdict, Violation};
use crate::checkers::findings::Findings;
use crate::checkers::verdict;

/// An excerpt on the page.
const EXCERPT_LINES_MAX: usize = 40;

/// The verdict of each check, in the order of the checks.
pub fn verdicts(judged: &verdict::Verdict) -> Vec<Verdict> {
    let of = |name: &'static str| {
        let shown = judged.shown().filter(move |(violation, _)| violation.property == name);
        let violation = shown.map(|(violation, lines)| Violation {
            session: violation.session.as_ref().map(ToString::to_string).unwrap_or_default(),
            text: violation.text.clone(),
            excerpt: lines.iter().take(EXCERPT_LINES_MAX).map(ToString::to_string).collect(),
        });
        violation.collect::<Vec<_>>()
    };
    let one = |findings: &Findings| Verdict {
        name: findings.property.to_owned(),
        checked: findings.checked,
        violations: of(findings.property),
    };
    judged.properties.iter().map(one).collect()
}

/// The shard of a session that is named as histories name it, in a cluster of so many; `None`: it is not a name.
pub fn shard_of(session: &str, shards: u64) -> Option<u64> {
    let session: SessionId = session.parse().ok()?;
    Some(u64::from(Target::Session(session).shard(u32::try_from(shards).ok()?).0))
}
