//! SQLite's rollback journal, which remembers which pages changed and seldom what they were.
//!
//! Invariant: it reads as the bytes that SQLite wrote. What a page was lies below the transaction
//! until that ends, so an image that is the same as there is not kept; one that is not (a page
//! that is gone from this device but not from SQLite's cache) is. A small journal keeps all of
//! them, which is cheaper than to compare.
//!
//! Nothing outlives the transaction, so no journal is ever found hot. Leaves out names of
//! super-journals: SQLite has none for a file that calls itself one in memory (`ffi.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_volume::{Error, ErrorKind, Page, PageIdx, Result, Snapshot};

use super::DraftSlot;
use crate::limits;

/// Bytes before the first record: the sector of a file whose writes do not touch their neighbours.
const HEADER_BYTES: usize = 512;
/// Bytes of a page number, and of a checksum.
const FIELD_BYTES: usize = 4;

/// The state that a transaction began on.
#[derive(Debug)]
pub(super) enum Below {
    Snapshot(Snapshot),
    /// What is below this draft.
    Draft(Arc<DraftSlot>),
}

impl Below {
    /// A page whose content is on this device.
    fn page_here(&self, idx: PageIdx) -> Option<Page> {
        match self {
            Self::Snapshot(snapshot) => snapshot.page_here(idx),
            Self::Draft(slot) => slot.lock().as_ref()?.below_here(idx),
        }
    }

    fn page(&self, idx: PageIdx) -> Result<Page> {
        match self {
            Self::Snapshot(snapshot) => snapshot.page(idx),
            Self::Draft(_) => self.page_here(idx).ok_or_else(|| {
                let text = format!("the page `{idx}` below a draft is gone");
                Error::new(ErrorKind::Internal, text)
            }),
        }
    }
}

/// A page that changed. Numbers are kept as SQLite wrote them.
#[derive(Clone, Copy, Debug)]
struct Record {
    number: [u8; FIELD_BYTES],
    checksum: [u8; FIELD_BYTES],
}

/// What the byte at an offset belongs to, and where in that it is.
enum Place {
    Header { at: usize },
    Number { record: usize, at: usize },
    Image { record: usize, at: usize },
    Checksum { record: usize, at: usize },
}

/// The journal of one transaction.
#[derive(Debug)]
pub(super) struct Journal {
    page_size: usize,
    below: Below,
    header: [u8; HEADER_BYTES],
    /// Whether the header has been written: an empty journal is no bytes.
    begun: bool,
    records: Vec<Record>,
    /// Images that are kept, by record.
    images: BTreeMap<usize, Page>,
    /// The page number of the record that is being written.
    number: [u8; FIELD_BYTES],
}

impl Journal {
    pub(super) fn new(page_size: usize, below: Below) -> Self {
        Self {
            page_size,
            below,
            header: [0; HEADER_BYTES],
            begun: false,
            records: Vec::new(),
            images: BTreeMap::new(),
            number: [0; FIELD_BYTES],
        }
    }

    fn record_bytes(&self) -> usize {
        self.page_size + 2 * FIELD_BYTES
    }

    /// Bytes of the file: whole records only.
    pub(super) fn len(&self) -> usize {
        if self.begun { HEADER_BYTES + self.records.len() * self.record_bytes() } else { 0 }
    }

    fn place(&self, offset: usize) -> Place {
        let Some(body) = offset.checked_sub(HEADER_BYTES) else {
            return Place::Header { at: offset };
        };
        let (record, within) = (body / self.record_bytes(), body % self.record_bytes());
        let Some(at) = within.checked_sub(FIELD_BYTES) else {
            return Place::Number { record, at: within };
        };
        match at.checked_sub(self.page_size) {
            None => Place::Image { record, at },
            Some(at) => Place::Checksum { record, at },
        }
    }

    /// Takes what SQLite writes: the header, or the next field of the next record.
    ///
    /// # Errors
    /// `Internal` for anything else.
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) -> Result<()> {
        let next = self.records.len();
        match self.place(offset) {
            Place::Header { at } => {
                let to = self.header.get_mut(at..at + bytes.len()).ok_or_else(unexpected)?;
                to.copy_from_slice(bytes);
                self.begun = true;
            }
            // After a failure SQLite writes from the start of the record that it did not finish.
            Place::Number { record, at: 0 } if record <= next => {
                self.cut(record);
                self.number = field(bytes)?;
            }
            Place::Image { record, at: 0 } if record == next && bytes.len() == self.page_size => {
                self.keep_if_needed(record, bytes);
            }
            Place::Checksum { record, at: 0 } if record == next => {
                self.records.push(Record { number: self.number, checksum: field(bytes)? });
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    fn keep_if_needed(&mut self, record: usize, bytes: &[u8]) {
        let is_below = || {
            let idx = PageIdx::new(u32::from_be_bytes(self.number))?;
            Some(*self.below.page_here(idx)? == *bytes)
        };
        let is_small = self.images.len() < limits::JOURNAL_IMAGES;
        if is_small || is_below() != Some(true) {
            self.images.insert(record, Page::edited(bytes, |_| ()));
        }
    }

    /// Fills `buf` from `offset`; false when part of it lies beyond the end.
    ///
    /// # Errors
    /// When what lies below cannot be read.
    pub(super) fn read(&self, buf: &mut [u8], offset: usize) -> Result<bool> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            if offset + done >= self.len() {
                rest.fill(0);
                return Ok(false);
            }
            done += match self.place(offset + done) {
                Place::Header { at } => copy(rest, &self.header, at),
                Place::Number { record, at } => copy(rest, &self.record(record)?.number, at),
                Place::Image { record, at } => copy(rest, &self.image(record)?, at),
                Place::Checksum { record, at } => copy(rest, &self.record(record)?.checksum, at),
            };
        }
        Ok(true)
    }

    fn record(&self, record: usize) -> Result<Record> {
        self.records.get(record).copied().ok_or_else(unexpected)
    }

    fn image(&self, record: usize) -> Result<Page> {
        if let Some(page) = self.images.get(&record) {
            return Ok(page.clone());
        }
        let number = u32::from_be_bytes(self.record(record)?.number);
        self.below.page(PageIdx::new(number).ok_or_else(unexpected)?)
    }

    /// Sets the size, which SQLite only ever lowers.
    pub(super) fn truncate(&mut self, bytes: usize) {
        self.begun &= bytes >= HEADER_BYTES;
        self.cut(bytes.saturating_sub(HEADER_BYTES) / self.record_bytes());
    }

    fn cut(&mut self, records: usize) {
        self.records.truncate(records);
        self.images.split_off(&records);
    }
}

/// Copies as much of `from`, from byte `at` on, as there is room for; how much that was.
fn copy(to: &mut [u8], from: &[u8], at: usize) -> usize {
    let from = from.get(at..).unwrap_or_default();
    let count = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

fn field(bytes: &[u8]) -> Result<[u8; FIELD_BYTES]> {
    bytes.try_into().map_err(|_| unexpected())
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "SQLite writes another journal than it is known to")
}

#[cfg(test)]
mod tests {
    use sheaf_volume::{Durability, ManualEnv, MemDir, PageSize, Volume, VolumeId, VolumeOptions};

    use super::*;

    const SIZE: usize = 512;
    const PAGES: u32 = 40;

    fn page(number: u32, salt: u8) -> Vec<u8> {
        let byte = number.to_le_bytes()[0];
        (0..SIZE).map(|at| at.to_le_bytes()[0].wrapping_mul(byte) ^ salt).collect()
    }

    fn snapshot() -> Snapshot {
        let create = Some((VolumeId::from_bytes([7; 16]), PageSize::new(512).unwrap()));
        let options = VolumeOptions { create, ..VolumeOptions::default() };
        let volume = Volume::open(&MemDir::new(), Arc::new(ManualEnv::new(1)), options).unwrap();
        let mut draft = volume.draft(volume.writer());
        for number in 1..=PAGES {
            draft.write(PageIdx::new(number).unwrap(), page(number, 0).into());
        }
        drop(draft.save(None, Vec::new(), Durability::Memory).unwrap());
        volume.head()
    }

    fn write(journal: &mut Journal, model: &mut Vec<u8>, bytes: &[u8], offset: usize) {
        journal.write(bytes, offset).unwrap();
        model.truncate(offset);
        model.extend(bytes);
    }

    fn record(journal: &mut Journal, model: &mut Vec<u8>, number: u32, salt: u8) {
        let fields = [&number.to_be_bytes()[..], &page(number, salt), &[salt, 1, 2, 3]];
        for bytes in fields {
            let offset = model.len();
            write(journal, model, bytes, offset);
        }
    }

    fn check(journal: &Journal, model: &[u8]) {
        assert_eq!(journal.len(), model.len());
        for (offset, len) in (0..model.len() + 9).step_by(7).zip((1..700).cycle()) {
            let mut read = vec![1; len];
            let whole = journal.read(&mut read, offset).unwrap();
            let end = model.len().min(offset + len);
            let mut expected = model.get(offset..end).unwrap_or_default().to_vec();
            assert_eq!(whole, expected.len() == len);
            expected.resize(len, 0);
            assert!(read == expected, "{len} bytes at {offset}");
        }
    }

    #[test]
    fn it_reads_as_it_was_written() {
        let mut journal = Journal::new(SIZE, Below::Snapshot(snapshot()));
        let mut model = Vec::new();
        check(&journal, &model);
        write(&mut journal, &mut model, &[9; HEADER_BYTES], 0);
        for number in 1..=PAGES {
            record(&mut journal, &mut model, number, u8::from(number % 10 == 0));
        }
        // A page beyond the state below, which SQLite would not write.
        record(&mut journal, &mut model, PAGES + 1, 0);
        check(&journal, &model);
        let differ = PAGES as usize / 10 + 1;
        assert!(journal.images.len() <= limits::JOURNAL_IMAGES + differ, "few images are kept");
        // A record that was not finished is written again.
        journal.write(&[0, 0, 0, 5], model.len()).unwrap();
        check(&journal, &model);
        record(&mut journal, &mut model, 6, 0);
        check(&journal, &model);
        for records in [30, 3, 0] {
            model.truncate(HEADER_BYTES + records * (SIZE + 8));
            journal.truncate(model.len());
            record(&mut journal, &mut model, 7, 0);
            check(&journal, &model);
        }
        journal.truncate(0);
        check(&journal, &[]);
    }

    #[test]
    fn what_is_no_next_field_is_refused() {
        let mut journal = Journal::new(SIZE, Below::Snapshot(snapshot()));
        journal.write(&[9; HEADER_BYTES], 0).unwrap();
        let body = HEADER_BYTES + FIELD_BYTES;
        for (bytes, offset) in
            [(513, 0), (3, HEADER_BYTES), (SIZE - 1, body), (4, body + 1), (4, HEADER_BYTES + 520)]
        {
            assert!(journal.write(&vec![0; bytes], offset).is_err(), "{bytes} at {offset}");
        }
    }
}
