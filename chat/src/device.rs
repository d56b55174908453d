//! Owns what a session remembers of the devices that sent in it: the answers to repeated sends. Does not decide what a
//! send may do. Invariant: a send that was answered once gets the same answer for ever.

use crate::cache::Mark;
use crate::keys;
use crate::limits::{CIDS_CACHED_MAX, DEVICES_CACHED_MAX, PAGE_SENDS, PAGES_CACHED_MAX};
use crate::outcome::ApplyError;
use crate::rows::{self, Changes, DeviceRow, PageRow, Rows, SentRow, corrupt};
use proto::command::Party;
use proto::ids::SessionId;
use proto::mutants::Mutant;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The devices of one session; those not in memory have rows.
#[derive(Default)]
pub(crate) struct Devices {
    /// Sorted by party and name.
    #[expect(clippy::vec_box, reason = "a new device moves pointers, not devices: a client may bring thousands")]
    cached: Vec<Box<Device>>,
    /// All devices, in memory or not.
    pub total: u32,
    bytes: usize,
}

/// One device's sends in one session.
pub(crate) struct Device {
    party: Party,
    name: String,
    pub last_n: u64,
    /// Unnumbered sends ever; when as many are in `cids`, an unknown one is new without a look at rows.
    cid_total: u64,
    /// The sends of the page that is not full.
    page: Vec<SentRow>,
    /// Full pages, by number.
    full: BTreeMap<u64, (Vec<SentRow>, Mark)>,
    cids: BTreeMap<String, (SentRow, Mark)>,
    mark: Mark,
    used: u64,
}

/// What is known of a send without a look at rows.
pub(crate) enum Known {
    Sent(SentRow),
    New,
    /// A row decides.
    Unread,
}

const DEVICE_BYTES: usize = size_of::<Device>() + 64 + PAGE_SENDS as usize * size_of::<SentRow>();
const CID_BYTES: usize = 128;
const PAGE_BYTES: usize = 64 + PAGE_SENDS as usize * size_of::<SentRow>();

impl Devices {
    pub(crate) fn with_total(total: u32) -> Devices {
        Devices { total, ..Devices::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a device that is not in memory has no row either.
    pub(crate) fn is_complete(&self) -> bool {
        self.cached.len() == self.total as usize
    }

    pub(crate) fn find(&self, party: Party, name: &str) -> Result<usize, usize> {
        self.cached.binary_search_by(|device| device.order(party, name))
    }

    pub(crate) fn get(&self, at: usize) -> &Device {
        &self.cached[at]
    }

    /// Brings a device with a row into memory; `Err`: where a new one would stand.
    pub(crate) fn load(
        &mut self,
        rows: &dyn Rows,
        session: SessionId,
        party: Party,
        name: &str,
    ) -> Result<Result<usize, usize>, ApplyError> {
        let at = match self.find(party, name) {
            Err(at) if !self.is_complete() => at,
            found => return Ok(found),
        };
        if Mutant::DedupeForgotten.is_on() {
            return Ok(Err(at));
        }
        let Some(device) = Device::load(rows, session, party, name)? else { return Ok(Err(at)) };
        self.cached.insert(at, Box::new(device));
        self.bytes += DEVICE_BYTES;
        Ok(Ok(at))
    }

    /// A device's first send.
    pub(crate) fn add(&mut self, at: usize, party: Party, name: &str) {
        self.cached.insert(at, Box::new(Device::new(party, name)));
        self.total += 1;
        self.bytes += DEVICE_BYTES;
    }

    /// Remembers the answer to a new send.
    pub(crate) fn record(&mut self, at: usize, tick: u64, (n, cid): (u64, &str), sent: SentRow) {
        if n == 0 { self.record_cid(at, tick, cid, sent) } else { self.record_numbered(at, tick, sent) }
    }

    /// Remembers the answer to the numbered send `last_n + 1`.
    fn record_numbered(&mut self, at: usize, tick: u64, sent: SentRow) {
        let device = &mut self.cached[at];
        device.mark.touch();
        device.used = tick;
        device.last_n += 1;
        device.page.push(sent);
        if device.last_n.is_multiple_of(PAGE_SENDS) {
            let page = std::mem::take(&mut device.page);
            device.full.insert(device.last_n / PAGE_SENDS - 1, (page, Mark::Dirty));
            self.bytes += PAGE_BYTES;
        }
    }

    /// Remembers the answer to a new unnumbered send.
    fn record_cid(&mut self, at: usize, tick: u64, cid: &str, sent: SentRow) {
        let device = &mut self.cached[at];
        device.mark.touch();
        device.used = tick;
        device.cid_total += 1;
        device.cids.insert(cid.to_owned(), (sent, Mark::Dirty));
        self.bytes += CID_BYTES + cid.len();
    }

    pub(crate) fn save(&mut self, session: SessionId, out: &mut Changes) {
        for device in &mut self.cached {
            device.save(session, out);
        }
    }

    /// The checkpoint ended: sheds what rows hold, beyond the newest.
    pub(crate) fn saved(&mut self, written: bool) {
        for device in &mut self.cached {
            self.bytes -= device.saved(written);
        }
        let surplus = self.cached.len().saturating_sub(DEVICES_CACHED_MAX);
        if surplus == 0 {
            return;
        }
        let mut uses: Vec<u64> =
            self.cached.iter().filter(|device| device.is_clean()).map(|device| device.used).collect();
        uses.sort_unstable();
        let Some(oldest) = uses.get(surplus.min(uses.len()).saturating_sub(1)).copied() else { return };
        let bytes = &mut self.bytes;
        self.cached.retain(|device| {
            let stays = !device.is_clean() || device.used > oldest;
            if !stays {
                *bytes -= device.bytes();
            }
            stays
        });
    }
}

impl Device {
    fn new(party: Party, name: &str) -> Device {
        Device {
            party,
            name: name.to_owned(),
            last_n: 0,
            cid_total: 0,
            page: Vec::new(),
            full: BTreeMap::new(),
            cids: BTreeMap::new(),
            mark: Mark::Clean,
            used: 0,
        }
    }

    pub(crate) fn load(
        rows: &dyn Rows,
        session: SessionId,
        party: Party,
        name: &str,
    ) -> Result<Option<Device>, ApplyError> {
        let Some(row) = rows::read::<DeviceRow>(rows, "device", &keys::device(session, party, name))? else {
            return Ok(None);
        };
        rows::counted("device", &[row.last_n, row.cids])?;
        if row.page.len() as u64 != row.last_n % PAGE_SENDS {
            return Err(corrupt("device", "the page does not end at the last number"));
        }
        let mut device = Device::new(party, name);
        (device.last_n, device.cid_total, device.page) = (row.last_n, row.cids, row.page);
        Ok(Some(device))
    }

    fn order(&self, party: Party, name: &str) -> Ordering {
        self.party.cmp(&party).then_with(|| self.name.as_str().cmp(name))
    }

    /// What memory knows of a send; `n` 0: by `cid`.
    pub(crate) fn known(&self, n: u64, cid: &str) -> Known {
        if n == 0 {
            return match self.cids.get(cid) {
                Some((sent, _)) => Known::Sent(*sent),
                None if self.cids.len() as u64 == self.cid_total => Known::New,
                None => Known::Unread,
            };
        }
        if n > self.last_n {
            return Known::New;
        }
        let (page, index) = ((n - 1) / PAGE_SENDS, ((n - 1) % PAGE_SENDS) as usize);
        if page == self.last_n / PAGE_SENDS {
            return Known::Sent(self.page[index]);
        }
        self.full.get(&page).map_or(Known::Unread, |(page, _)| Known::Sent(page[index]))
    }

    /// The answer to a send that was answered before.
    pub(crate) fn sent(
        &self,
        rows: &dyn Rows,
        session: SessionId,
        n: u64,
        cid: &str,
    ) -> Result<Option<SentRow>, ApplyError> {
        match self.known(n, cid) {
            Known::Sent(sent) => Ok(Some(sent)),
            Known::New => Ok(None),
            Known::Unread if n == 0 => rows::read(rows, "cid", &keys::cid(session, self.party, &self.name, cid)),
            Known::Unread => {
                let (number, index) = ((n - 1) / PAGE_SENDS, ((n - 1) % PAGE_SENDS) as usize);
                let key = keys::page(session, self.party, &self.name, number);
                let page: Option<PageRow> = rows::read(rows, "page", &key)?;
                let sent = page.as_ref().and_then(|page| page.sent.get(index));
                sent.copied().map(Some).ok_or_else(|| corrupt("page", "a page below the last number is not there"))
            }
        }
    }

    fn is_clean(&self) -> bool {
        self.mark.is_clean()
    }

    fn bytes(&self) -> usize {
        let cids: usize = self.cids.keys().map(|cid| CID_BYTES + cid.len()).sum();
        DEVICE_BYTES + PAGE_BYTES * self.full.len() + cids
    }

    fn save(&mut self, session: SessionId, out: &mut Changes) {
        if !self.mark.begin() {
            return;
        }
        let row = DeviceRow { last_n: self.last_n, cids: self.cid_total, page: self.page.clone() };
        rows::save(out, keys::device(session, self.party, &self.name), &row);
        for (number, (page, mark)) in &mut self.full {
            if mark.begin() {
                let key = keys::page(session, self.party, &self.name, *number);
                rows::save(out, key, &PageRow { sent: page.clone() });
            }
        }
        for (cid, (sent, mark)) in &mut self.cids {
            if mark.begin() {
                rows::save(out, keys::cid(session, self.party, &self.name, cid), sent);
            }
        }
    }

    /// Ends the checkpoint and returns the bytes shed.
    fn saved(&mut self, written: bool) -> usize {
        self.mark.end(written);
        let before = self.bytes();
        let mut surplus = self.full.len().saturating_sub(PAGES_CACHED_MAX);
        self.full.retain(|_, (_, mark)| {
            mark.end(written);
            let goes = surplus > 0 && mark.is_clean();
            surplus -= usize::from(goes);
            !goes
        });
        let mut surplus = self.cids.len().saturating_sub(CIDS_CACHED_MAX);
        self.cids.retain(|_, (_, mark)| {
            mark.end(written);
            let goes = surplus > 0 && mark.is_clean();
            surplus -= usize::from(goes);
            !goes
        });
        before - self.bytes()
    }
}
