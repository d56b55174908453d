//! Owns reading what somebody looks for. Does not look for it. Invariant: every condition made here names the site, so that what another
//! tenant's people wrote cannot be found.

use super::schema::Fields;
use super::words::{Word, words_of_query};
use proto::ids::SiteId;
use std::collections::BTreeSet;
use tantivy::query::{BooleanQuery, PhraseQuery, Query, TermQuery};
use tantivy::schema::IndexRecordOption;

/// Longest text that is looked for, in bytes.
pub const QUERY_BYTES_MAX: usize = 512;
/// Most words of it.
pub const QUERY_WORDS_MAX: usize = 32;

/// Why nothing can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("what is looked for has at most 512 bytes")]
    TooLong,
    #[error("what is looked for has at most 32 words")]
    TooManyWords,
    #[error("what is looked for has no letter, digit or other character of a word")]
    NoWords,
}

/// What somebody looks for: all of it stands in what is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Each stands alone or, in quotation marks, behind the one before.
    phrases: Vec<Vec<Word>>,
}

impl Wanted {
    /// `None`: nothing in particular.
    /// # Errors
    /// `QueryError`: it must be said in another way.
    pub fn read(text: &str) -> Result<Option<Wanted>, QueryError> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        if text.len() > QUERY_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        let (mut phrases, mut is_quoted) = (Vec::new(), false);
        for part in text.split(['"', '“', '”', '＂']) {
            let words = words_of_query(part);
            match is_quoted {
                true if !words.is_empty() => phrases.push(words),
                true => {}
                false => phrases.extend(words.into_iter().map(|word| vec![word])),
            }
            is_quoted = !is_quoted;
        }
        match phrases.iter().map(Vec::len).sum() {
            0 => Err(QueryError::NoWords),
            1..=QUERY_WORDS_MAX => Ok(Some(Wanted { phrases })),
            _ => Err(QueryError::TooManyWords),
        }
    }

    /// Every word of it.
    pub fn words(&self) -> BTreeSet<&str> {
        self.phrases.iter().flatten().map(|word| word.text.as_str()).collect()
    }
}

/// What is looked for, at one site; without words, all that was said there.
pub fn query(fields: &Fields, site: SiteId, wanted: Option<&Wanted>) -> Box<dyn Query> {
    let Some(wanted) = wanted else {
        return Box::new(TermQuery::new(fields.site(site), IndexRecordOption::Basic));
    };
    let mut seen = BTreeSet::new();
    let mut parts: Vec<Box<dyn Query>> = Vec::new();
    for phrase in &wanted.phrases {
        let (first, rest) = phrase.split_first().expect("a phrase has words");
        if rest.is_empty() {
            if seen.insert(&first.text) {
                parts.push(Box::new(TermQuery::new(fields.word(site, &first.text), IndexRecordOption::Basic)));
            }
            continue;
        }
        let at = |word: &Word| (word.at - first.at, fields.word(site, &word.text));
        parts.push(Box::new(PhraseQuery::new_with_offset(phrase.iter().map(at).collect())));
    }
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => Box::new(BooleanQuery::intersection(parts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(text: &str) -> Vec<Vec<String>> {
        let wanted = Wanted::read(text).unwrap().unwrap();
        wanted.phrases.into_iter().map(|words| words.into_iter().map(|word| word.text).collect()).collect()
    }

    #[test]
    fn words_are_wanted_one_by_one_and_quoted_ones_side_by_side() {
        assert_eq!(phrases("退款 parcels"), [["退款"], ["parcel"]]);
        assert_eq!(phrases("申请退款"), [["申请"], ["退款"]], "no phrase, though no space is between them");
        assert_eq!(phrases("\"申请退款\" now"), [vec!["申请", "退款"], vec!["now"]]);
        assert_eq!(
            phrases("now “lost parcel"),
            [vec!["now"], vec!["lost", "parcel"]],
            "an open quotation ends with the text"
        );
        assert_eq!(phrases("\"\" a"), [["a"]]);
    }

    #[test]
    fn what_cannot_be_looked_for_is_said_clearly() {
        assert_eq!(Wanted::read("  "), Ok(None));
        assert_eq!(Wanted::read("?!，"), Err(QueryError::NoWords));
        assert_eq!(Wanted::read(&"a".repeat(513)), Err(QueryError::TooLong));
        assert_eq!(Wanted::read(&"a ".repeat(33)), Err(QueryError::TooManyWords));
        assert!(Wanted::read(&"a ".repeat(32)).is_ok());
        let told = [QueryError::TooLong.to_string(), QueryError::TooManyWords.to_string()];
        assert!(told[0].contains(&QUERY_BYTES_MAX.to_string()) && told[1].contains(&QUERY_WORDS_MAX.to_string()));
    }
}
