//! Owns what a site keeps for its people, at the shard of its desk. Does not know what stands in it. Invariant: what one site keeps of one
//! kind is bounded in number and bytes.

use crate::apply::Shard;
use crate::cache::Weight;
use crate::journal::Note;
use crate::keys;
use crate::limits::{SHELF_BYTES_MAX, SHELF_ITEM_BYTES_MAX, SHELF_ITEMS_MAX, SHELF_NAME_BYTES_MAX};
use crate::outcome::{ApplyError, Refusal, Reply};
use crate::rows::{self, ItemRow, Rows, ShelfRow};
use proto::ids::SiteId;
use proto::shelf::{Item, ItemKind};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_128;

/// Where something stands: site, kind, and the hash of its name.
pub(crate) type ItemKey = (SiteId, ItemKind, u128);

impl Weight for ItemRow {
    fn bytes(&self) -> usize {
        size_of::<ItemRow>() + self.item.name.len() + self.item.text.len()
    }
}

impl Weight for ShelfRow {
    fn bytes(&self) -> usize {
        size_of::<ShelfRow>()
    }
}

fn key_of(site: SiteId, kind: ItemKind, name: &str) -> ItemKey {
    (site, kind, xxh3_128(name.as_bytes()))
}

/// How often a trigger has spoken, and was answered.
fn counts_of(text: &str) -> (u64, u64) {
    let mut numbers = text.trim_matches(['[', ']']).split(',').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn item_bytes(item: &Item) -> u64 {
    (item.name.len() + item.text.len()) as u64
}

impl Shard {
    /// Puts something on the shelf, or takes it off.
    pub(crate) fn shelve(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        kind: ItemKind,
        name: String,
        text: Option<String>,
    ) -> Result<Reply, ApplyError> {
        let is_name = (1..=SHELF_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if !is_name || text.as_ref().is_some_and(|text| text.len() > SHELF_ITEM_BYTES_MAX) {
            return Ok(Reply::Rejected(Refusal::RulesInvalid("something on a shelf")));
        }
        let key = key_of(site, kind, &name);
        let before = self.item(rows, key)?;
        let shelf = self.shelf(rows, site, kind)?;
        let item = text.map(|text| Item { name, text });
        if before == item {
            return Ok(Reply::Done);
        }
        let count = shelf.items + u64::from(item.is_some()) - u64::from(before.is_some());
        let bytes = shelf.bytes + item.as_ref().map_or(0, item_bytes) - before.as_ref().map_or(0, item_bytes);
        if item.is_some() && (count > SHELF_ITEMS_MAX || bytes > SHELF_BYTES_MAX) {
            return Ok(Reply::Rejected(Refusal::LimitReached("what a site keeps")));
        }
        self.work.journal.note_bytes(Note::Shelf, u64::from(site.0), &proto::codec::encode_bare(&(kind, key.2, &item)));
        let tick = self.work.tick;
        self.shelves.put((site, kind), tick, ShelfRow { items: count, bytes });
        self.items.put(key, tick, item.map(|item| ItemRow { item }));
        Ok(Reply::Done)
    }

    /// A trigger has spoken, or was answered. One that is no more is not counted.
    pub(crate) fn count_prompt(
        &mut self,
        rows: &dyn Rows,
        site: SiteId,
        trigger: String,
        answered: bool,
    ) -> Result<(), ApplyError> {
        if self.item(rows, key_of(site, ItemKind::Trigger, &trigger))?.is_none() {
            return Ok(());
        }
        let known = self.item(rows, key_of(site, ItemKind::TriggerCount, &trigger))?;
        let (spoken, answers) = known.map_or((0, 0), |item| counts_of(&item.text));
        let text = format!("[{},{}]", spoken + u64::from(!answered), answers + u64::from(answered));
        self.shelve(rows, site, ItemKind::TriggerCount, trigger, Some(text)).map(drop)
    }

    fn item(&self, rows: &dyn Rows, key: ItemKey) -> Result<Option<Item>, ApplyError> {
        match self.items.peek(&key) {
            Some(known) => Ok(known.as_ref().map(|row| row.item.clone())),
            None => Ok(rows::read::<ItemRow>(rows, "item", &keys::item(key))?.map(|row| row.item)),
        }
    }

    fn shelf(&self, rows: &dyn Rows, site: SiteId, kind: ItemKind) -> Result<ShelfRow, ApplyError> {
        if let Some(known) = self.shelves.peek(&(site, kind)) {
            return Ok(*known);
        }
        let row: ShelfRow = rows::read(rows, "shelf", &keys::shelf(site, kind))?.unwrap_or_default();
        rows::counted("shelf", &[row.items, row.bytes])?;
        Ok(row)
    }

    /// Everything of a kind that a site keeps, ascending by name.
    /// # Errors
    /// `ApplyError` when rows cannot be read.
    pub fn items(&self, rows: &dyn Rows, site: SiteId, kind: ItemKind) -> Result<Vec<Item>, ApplyError> {
        let mut found: BTreeMap<ItemKey, Item> = BTreeMap::new();
        rows::each(rows, "item", &keys::items(site, kind), SHELF_ITEMS_MAX as usize, |_, row: ItemRow| {
            found.insert(key_of(site, kind, &row.item.name), row.item);
            Ok(())
        })?;
        let cached = self.items.range((site, kind, 0)).take_while(|((of, is, _), _)| (*of, *is) == (site, kind));
        for (key, row) in cached {
            match row {
                Some(row) => drop(found.insert(*key, row.item.clone())),
                None => drop(found.remove(key)),
            }
        }
        let mut items: Vec<Item> = found.into_values().collect();
        items.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(items)
    }
}
