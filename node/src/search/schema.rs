//! Owns what stands in an index: its fields, and what they are called. Does not read or write it. Invariant: a word stands there under its
//! site, so a search that names no site finds nothing; the text itself does not stand there.

use super::words::words_of_text;
use proto::ids::{SessionId, SiteId};
use proto::search::{SaidBy, SearchPlace};
use std::borrow::Cow;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{PreTokenizedString, Token};
use tantivy::{TantivyDocument, Term};

/// Grows when words are made in another way, or fields change: an index of another form is built anew.
pub const FORM: u32 = 1;

/// Bits of an order that are of the session.
const ORDER_SESSION_BITS: u32 = 20;

pub const ORDER: &str = "order";
pub const SESSION_HIGH: &str = "session_high";
pub const SESSION_LOW: &str = "session_low";
pub const SEQ: &str = "seq";
pub const TEXT_SEQ: &str = "text_seq";
pub const BY: &str = "by";

/// Something that was said, as the index takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<'a> {
    pub site: SiteId,
    pub place: SearchPlace,
    /// The event that holds its text: the message itself, or the last edit.
    pub text_seq: u64,
    pub by: SaidBy,
    pub text: Cow<'a, str>,
}

/// The fields of every index.
#[derive(Debug, Clone)]
pub struct Fields {
    pub schema: Schema,
    words: Field,
    site: Field,
    /// Session and seq.
    place: Field,
    session: Field,
    order: Field,
    session_high: Field,
    session_low: Field,
    seq: Field,
    text_seq: Field,
    by: Field,
}

impl Fields {
    pub fn new() -> Fields {
        let mut schema = Schema::builder();
        let positions = TextFieldIndexing::default()
            .set_index_option(IndexRecordOption::WithFreqsAndPositions)
            .set_fieldnorms(false)
            // Words come ready made.
            .set_tokenizer("raw");
        let words = schema.add_text_field("words", TextOptions::default().set_indexing_options(positions));
        let site = schema.add_u64_field("site", INDEXED);
        let place = schema.add_bytes_field("place", INDEXED);
        let session = schema.add_bytes_field("session", INDEXED);
        let [order, session_high, session_low, seq, text_seq, by] =
            [ORDER, SESSION_HIGH, SESSION_LOW, SEQ, TEXT_SEQ, BY].map(|name| schema.add_u64_field(name, FAST));
        let schema = schema.build();
        Fields { schema, words, site, place, session, order, session_high, session_low, seq, text_seq, by }
    }

    pub fn document(&self, said: &Said<'_>) -> TantivyDocument {
        let SearchPlace { session, seq, .. } = said.place;
        let words = words_of_text(&said.text).into_iter().map(|word| Token {
            offset_from: 0,
            offset_to: 0,
            position: word.at,
            text: of_site(said.site, &word.text),
            position_length: 1,
        });
        let mut document = TantivyDocument::new();
        let tokens = words.collect();
        document.add_pre_tokenized_text(self.words, PreTokenizedString { text: String::new(), tokens });
        document.add_u64(self.site, said.site.0.into());
        document.add_bytes(self.place, &place_key(session, seq));
        document.add_bytes(self.session, &session.0.to_be_bytes());
        document.add_u64(self.order, order(said.place));
        document.add_u64(self.session_high, (session.0 >> 64) as u64);
        document.add_u64(self.session_low, session.0 as u64);
        document.add_u64(self.seq, seq);
        document.add_u64(self.text_seq, said.text_seq);
        document.add_u64(self.by, said.by as u64);
        document
    }

    pub fn word(&self, site: SiteId, word: &str) -> Term {
        Term::from_field_text(self.words, &of_site(site, word))
    }

    pub fn site(&self, site: SiteId) -> Term {
        Term::from_field_u64(self.site, site.0.into())
    }

    pub fn place(&self, session: SessionId, seq: u64) -> Term {
        Term::from_field_bytes(self.place, &place_key(session, seq))
    }

    pub fn session(&self, session: SessionId) -> Term {
        Term::from_field_bytes(self.session, &session.0.to_be_bytes())
    }
}

/// No word holds a colon, and no number of a site does.
fn of_site(site: SiteId, word: &str) -> String {
    format!("{:x}:{word}", site.0)
}

fn place_key(session: SessionId, seq: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&session.0.to_be_bytes());
    key[16..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// Never sorts two places in another way than they sort themselves; places of one session and millisecond share it.
pub fn order(place: SearchPlace) -> u64 {
    first_of(place.ts_ms) | (place.session.0 >> (128 - ORDER_SESSION_BITS)) as u64
}

/// The lowest order of that time.
pub fn first_of(ts_ms: u64) -> u64 {
    ts_ms.min(u64::MAX >> ORDER_SESSION_BITS) << ORDER_SESSION_BITS
}

/// The time of an order.
pub fn time_of(order: u64) -> u64 {
    order >> ORDER_SESSION_BITS
}

pub fn by_of(number: u64) -> SaidBy {
    match number {
        0 => SaidBy::Visitor,
        1 => SaidBy::Agent,
        2 => SaidBy::System,
        _ => SaidBy::Note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_sort_as_places_do() {
        let place = |ts_ms, high: u128, seq| SearchPlace { ts_ms, session: SessionId(high << 108), seq };
        let places = [place(1, 9, 9), place(2, 1, 1), place(2, 1, 2), place(2, 2, 1), place(3, 0, 1)];
        assert!(places.is_sorted() && places.map(order).is_sorted());
        assert_eq!(time_of(order(places[4])), 3);
        for by in [SaidBy::Visitor, SaidBy::Agent, SaidBy::System, SaidBy::Note] {
            assert_eq!(by_of(by as u64), by);
        }
    }
}
