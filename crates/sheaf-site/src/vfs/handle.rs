//! One open main database file, in Rust terms; `ffi.rs` maps it to C.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::ffi;
use sheaf_volume::{
    Draft, Durability, ErrorKind, Page, PageCount, PageIdx, Result, Saved, Snapshot,
};

use super::journal::{Below, Journal};
use super::{Commitment, FileSpec, FileView};

/// Offsets in page 1 of the fields that change with every SQLite transaction.
const CHANGE_COUNTER: usize = 24;
const VERSION_VALID_FOR: usize = 92;
/// Offset in page 1 of the number of pages, which SQLite sets with every commit.
const PAGE_COUNT: usize = 28;
/// Offset of the number that changes with the schema.
pub(crate) const SCHEMA_COOKIE: usize = 40;

/// SQLite's lock levels.
pub(super) const LOCK_NONE: i32 = ffi::SQLITE_LOCK_NONE;
const LOCK_SHARED: i32 = ffi::SQLITE_LOCK_SHARED;
const LOCK_RESERVED: i32 = ffi::SQLITE_LOCK_RESERVED;

/// An open file: a view, its lock, and what the lock pins.
pub(super) struct Handle {
    spec: FileSpec,
    lock: i32,
    snapshot: Option<Snapshot>,
    /// Added to the state's number in the change counter shown: moves on after a commit that
    /// made no state, because SQLite's cache then carries a counter that no state has yet.
    bias: u32,
    /// The schema bias of this transaction.
    schema_bias: u32,
    pub(super) durability: Durability,
    /// A commit of this transaction failed: SQLite now writes the old pages back and ends it.
    failed: bool,
    /// The change counter that SQLite last wrote in this transaction.
    counter_written: Option<u32>,
    /// The rollback journal, while SQLite has it open.
    journal: Option<Journal>,
}

/// A SQLite result code.
pub(super) type Code = i32;

impl Handle {
    /// Whether SQLite may ask to write this file.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.spec.view, FileView::Local { .. } | FileView::Rebase(_))
    }

    pub(super) fn new(spec: FileSpec) -> Self {
        let durability = Durability::Normal;
        Self {
            spec,
            lock: LOCK_NONE,
            snapshot: None,
            bias: 0,
            schema_bias: 0,
            durability,
            failed: false,
            counter_written: None,
            journal: None,
        }
    }

    /// Begins the journal of the transaction that now begins; false when none does.
    pub(super) fn open_journal(&mut self) -> bool {
        let below = match &self.spec.view {
            FileView::Local { .. } => self.snapshot.clone().map(Below::Snapshot),
            FileView::Rebase(slot) => Some(Below::Draft(Arc::clone(slot))),
            FileView::Global | FileView::At(_) | FileView::Watched(_) | FileView::Draft(_) => None,
        };
        self.journal = below.map(|below| Journal::new(self.page_size(), below));
        self.journal.is_some()
    }

    pub(super) fn close_journal(&mut self) {
        self.journal = None;
    }

    /// The journal that SQLite has open.
    ///
    /// # Errors
    /// `Internal` when it has none.
    pub(super) fn journal(&mut self) -> Result<&mut Journal> {
        self.journal.as_mut().ok_or_else(no_transaction)
    }

    pub(super) fn page_size(&self) -> usize {
        self.spec.volume.page_size().bytes()
    }

    /// Remembers the reason behind a result code.
    pub(super) fn fail(&self, error: sheaf_volume::Error, code: Code) -> Code {
        let code = match error.kind() {
            ErrorKind::Corrupt => ffi::SQLITE_CORRUPT,
            ErrorKind::Io if error.to_string().contains("disk is full") => ffi::SQLITE_FULL,
            _ => code,
        };
        self.spec.failure.set(error);
        code
    }

    /// Runs `f` on the draft this handle sees, if there is one.
    fn with_draft<T>(&self, f: impl FnOnce(&mut Draft) -> T) -> Option<T> {
        match &self.spec.view {
            FileView::Local { .. } if self.lock < LOCK_RESERVED => None,
            FileView::Local { slot, .. } | FileView::Draft(slot) | FileView::Rebase(slot) => {
                slot.lock().as_mut().map(f)
            }
            FileView::Global | FileView::At(_) | FileView::Watched(_) => None,
        }
    }

    fn take_snapshot(&self) -> Snapshot {
        match &self.spec.view {
            FileView::Global => self.spec.volume.global(),
            FileView::At(snapshot) => snapshot.clone(),
            FileView::Watched(watch) => watch.snapshot().clone(),
            FileView::Local { .. } | FileView::Draft(_) | FileView::Rebase(_) => {
                self.spec.volume.head()
            }
        }
    }

    fn page(&self, idx: PageIdx) -> Result<Page> {
        if let Some(page) = self.with_draft(|draft| draft.page(idx)) {
            return page;
        }
        if let FileView::Watched(watch) = &self.spec.view {
            return watch.page(idx);
        }
        match &self.snapshot {
            Some(snapshot) => snapshot.page(idx),
            // SQLite looks at the header once before it takes a lock.
            None => self.take_snapshot().page(idx),
        }
    }

    pub(super) fn page_count(&self) -> PageCount {
        if let Some(count) = self.with_draft(|draft| draft.page_count()) {
            return count;
        }
        match &self.snapshot {
            Some(snapshot) => snapshot.page_count(),
            None => self.take_snapshot().page_count(),
        }
    }

    /// The change counter shown to SQLite.
    fn counter(&self) -> u32 {
        let state = self.snapshot.as_ref().and_then(Snapshot::local).map_or(0, |local| local.0);
        #[expect(clippy::cast_possible_truncation, reason = "a counter that wraps, as SQLite's")]
        let low = state as u32;
        low.wrapping_add(self.bias)
    }

    /// Fills `buf` from `offset`; false when part of it lies beyond the end.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> Result<bool> {
        let size = self.page_size();
        let len = u64::from(self.page_count().0) * size as u64;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let Some(idx) =
                PageIdx::containing(at, self.spec.volume.page_size()).filter(|_| at < len)
            else {
                rest.fill(0);
                return Ok(false);
            };
            let page = self.page(idx)?;
            let within = usize::try_from(at % size as u64).unwrap_or(0);
            let count = rest.len().min(size - within);
            if let (Some(to), Some(from)) =
                (rest.get_mut(..count), page.get(within..within + count))
            {
                to.copy_from_slice(from);
                if idx == PageIdx::FIRST {
                    self.show_counter(to, &page, within);
                }
            }
            done += count;
        }
        Ok(true)
    }

    /// Replaces the fields of page 1 that are ours in `buf`, which shows it from byte `start`.
    fn show_counter(&self, buf: &mut [u8], page: &[u8], start: usize) {
        let counter = self.counter();
        let cookie = read_u32(page, SCHEMA_COOKIE).wrapping_add(self.schema_bias);
        let fields =
            [(CHANGE_COUNTER, counter), (VERSION_VALID_FOR, counter), (SCHEMA_COOKIE, cookie)];
        for (field, value) in fields {
            for (at, byte) in (field..).zip(value.to_be_bytes()) {
                if let Some(to) = at.checked_sub(start).and_then(|at| buf.get_mut(at)) {
                    *to = byte;
                }
            }
        }
    }

    /// Takes out of page 1 what [`Handle::show_counter`] puts in.
    fn hide_counter(&self, page: &mut [u8]) {
        let cookie = read_u32(page, SCHEMA_COOKIE).wrapping_sub(self.schema_bias);
        let fields = [(CHANGE_COUNTER, 0), (VERSION_VALID_FOR, 0), (SCHEMA_COOKIE, cookie)];
        for (field, value) in fields {
            if let Some(bytes) = page.get_mut(field..field + 4) {
                bytes.copy_from_slice(&u32::to_be_bytes(value));
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let size = self.spec.volume.page_size();
        let idx = PageIdx::containing(offset, size)
            .filter(|idx| idx.offset(size) == offset && bytes.len() == size.bytes())
            .ok_or_else(|| {
                sheaf_volume::Error::invalid(format!(
                    "this site has pages of {} bytes, and that cannot be changed",
                    size.get()
                ))
            })?;
        if idx == PageIdx::FIRST {
            self.counter_written = Some(read_u32(bytes, CHANGE_COUNTER));
        }
        let page = Page::edited(bytes, |page| {
            if idx == PageIdx::FIRST {
                self.hide_counter(page);
            }
        });
        match self.with_draft(|draft| draft.write(idx, page)) {
            // What SQLite writes back after a commit that failed lies below already.
            None if !self.failed => Err(no_transaction()),
            _ => Ok(()),
        }
    }

    pub(super) fn truncate(&self, bytes: u64) -> Result<()> {
        let pages = bytes / self.page_size() as u64;
        let count = u32::try_from(pages).map_err(|_| no_transaction())?;
        if self.with_draft(|draft| draft.truncate(PageCount(count))).is_some() || self.failed {
            return Ok(());
        }
        // SQLite cuts the file after the sync that was our commit: the commit has done it already.
        match self.snapshot.as_ref().is_some_and(|snapshot| snapshot.page_count().0 == count) {
            true => Ok(()),
            false => Err(no_transaction()),
        }
    }

    pub(super) fn lock(&mut self, level: i32) -> Code {
        if level <= self.lock {
            return ffi::SQLITE_OK;
        }
        if self.lock == LOCK_NONE {
            let own = matches!(self.spec.view, FileView::Draft(_) | FileView::Rebase(_));
            self.snapshot = Some(self.take_snapshot());
            self.schema_bias = self.spec.schema_bias.load(Ordering::Acquire);
            if own {
                // The draft may have changed in ways no counter tells: never trust the cache. By
                // two, because a write transaction leaves a counter in SQLite's cache that is one
                // further, and a draft that was given up leaves the state's number as it was.
                self.bias = self.bias.wrapping_add(2);
            }
            self.lock = LOCK_SHARED;
        }
        if level >= LOCK_RESERVED && self.lock < LOCK_RESERVED {
            let code = self.reserve();
            if code != ffi::SQLITE_OK {
                return code;
            }
        }
        self.lock = level;
        ffi::SQLITE_OK
    }

    /// Becomes the one writer, if the snapshot read so far is still the newest.
    fn reserve(&mut self) -> Code {
        let (slot, sink) = match &self.spec.view {
            FileView::Local { slot, sink } => (Arc::clone(slot), sink.clone()),
            FileView::Rebase(_) => return ffi::SQLITE_OK,
            FileView::Global | FileView::At(_) | FileView::Watched(_) | FileView::Draft(_) => {
                return ffi::SQLITE_READONLY;
            }
        };
        let Some(writer) = self.spec.volume.try_writer() else { return ffi::SQLITE_BUSY };
        let draft = self.spec.volume.draft(writer);
        if draft.started_on() != self.snapshot.as_ref().and_then(Snapshot::local) {
            return ffi::SQLITE_BUSY_SNAPSHOT;
        }
        *slot.lock() = Some(draft);
        self.failed = false;
        self.counter_written = None;
        if let Some(Err(e)) = sink.map(|sink| sink.begin_write()) {
            drop(slot.lock().take());
            return self.fail(e, ffi::SQLITE_IOERR_LOCK);
        }
        ffi::SQLITE_OK
    }

    pub(super) fn unlock(&mut self, level: i32) {
        if level < LOCK_RESERVED
            && self.lock >= LOCK_RESERVED
            && let FileView::Local { slot, .. } = &self.spec.view
        {
            drop(slot.lock().take());
            self.failed = false;
        }
        if level == LOCK_NONE {
            self.snapshot = None;
        }
        self.lock = self.lock.min(level);
    }

    /// Makes the transaction one local step: what SQLite calls at the point of commit.
    pub(super) fn commit(&mut self) -> Code {
        let FileView::Local { slot, sink } = self.spec.view.clone() else { return ffi::SQLITE_OK };
        if self.failed || slot.lock().is_none() {
            return ffi::SQLITE_OK;
        }
        // SQLite comes by here too when it has written back what a rollback undoes. A commit always
        // writes page 1 with the next change counter, a rollback at most with the old one.
        let moved_on = self.counter_written.is_some_and(|written| written != self.counter());
        if !moved_on && !sink.as_ref().is_some_and(|sink| sink.is_committing()) {
            return ffi::SQLITE_OK;
        }
        let saved = self.save(&slot, sink.as_deref());
        if let Some(sink) = &sink {
            sink.after_commit(saved.is_ok());
        }
        match saved {
            Ok(Saved::State(_)) => self.snapshot = Some(self.spec.volume.head()),
            Ok(Saved::Unchanged) => self.bias = self.bias.wrapping_add(1),
            Err(e) => {
                self.failed = true;
                let code = match e.kind() {
                    ErrorKind::Invalid | ErrorKind::Limit => ffi::SQLITE_CONSTRAINT,
                    _ => ffi::SQLITE_IOERR_FSYNC,
                };
                return self.fail(e, code);
            }
        }
        ffi::SQLITE_OK
    }

    fn save(&self, slot: &super::DraftSlot, sink: Option<&dyn super::CommitSink>) -> Result<Saved> {
        let Commitment { mutation, attrs } = match sink {
            Some(sink) => sink.before_commit()?,
            None => Commitment::default(),
        };
        {
            let mut guard = slot.lock();
            let draft = guard.as_mut().ok_or_else(no_transaction)?;
            let count = read_u32(&draft.page(PageIdx::FIRST)?, PAGE_COUNT);
            if count > 0 && count < draft.page_count().0 {
                draft.truncate(PageCount(count));
            }
            draft.drop_if_unchanged(PageIdx::FIRST)?;
            if mutation.is_none() {
                draft.drop_unchanged()?;
            }
        }
        let draft = slot.lock().take().ok_or_else(no_transaction)?;
        let (saved, _writer) = draft.save(mutation, attrs, self.durability)?;
        Ok(saved)
    }
}

/// A big-endian field of a database header; zero where the page is too short to have it.
pub(crate) fn read_u32(page: &[u8], at: usize) -> u32 {
    let bytes = page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_be_bytes)
}

fn no_transaction() -> sheaf_volume::Error {
    sheaf_volume::Error::new(ErrorKind::Internal, "a write outside a transaction")
}
