//! Opening, recovering, reading and appending.
//!
//! Invariants: nothing is applied in memory before its record is written; a failed flush poisons
//! the store until it is reopened, because the operating system may have dropped the bytes and
//! would claim success the next time (Rebello et al., USENIX ATC 2020).

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::held::Content;
use super::map::{Loc, Version};
use super::meta::{self, Identity};
use super::record::{self, Decoded, HEADER_LEN, Header};
use super::state::{State, Step};
use crate::cache::{self, PageCache};
use crate::sync::{
    AtomicBool, AtomicU64, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use crate::teeth::{Tooth, bites};
use crate::wire::{Reader, Writer};
use crate::{
    Dir, DirLock, Env, Error, ErrorKind, File, LocalLsn, Lsn, Page, PageIdx, PageSize, Result,
    VolumeId, limits,
};

const LOG_MAGIC: &[u8; 4] = b"SHFL";
const LOG_VERSION: u8 = 1;
/// Magic, version, generation, offset of the first record, checksum.
pub(super) const LOG_HEADER_LEN: usize = 4 + 1 + 8 + 8 + 8;
/// Bytes read at once while looking behind a torn record.
const SCAN_BYTES: usize = 1 << 20;

/// How to open a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreOptions {
    /// Ids for a store that does not exist yet; `None` makes that an error.
    pub(crate) create: Option<(VolumeId, PageSize)>,
    pub(crate) cache_pages: usize,
    /// Take what was flushed although pages of it are damaged: for a repair, which looks at every
    /// page afterwards.
    pub(crate) salvage: bool,
}

/// What a reader finds for a page at a state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Locate {
    Page(Page),
    /// Not here: ask for the page as of this position, and fill the version with this mark.
    Pending {
        lsn: Lsn,
        mark: LocalLsn,
    },
}

/// The end of the log file.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) generation: u64,
    pub(super) end: u64,
    pub(super) flushed: u64,
    /// Where records are put together.
    pub(super) buffer: Vec<u8>,
}

impl Tail {
    pub(super) fn file(&self) -> u8 {
        (self.generation % 2) as u8
    }
}

/// The files and state of one volume on this device.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) env: Arc<dyn Env>,
    pub(super) base: Box<dyn File>,
    pub(super) logs: [Box<dyn File>; 2],
    pub(super) metas: [Box<dyn File>; 2],
    pub(super) identity: Identity,
    pub(super) state: RwLock<State>,
    pub(super) tail: Mutex<Tail>,
    /// Taken before `tail` by whoever flushes the log or replaces it.
    flushing: Mutex<()>,
    pub(super) cache: PageCache<(u32, u64)>,
    /// Set once, never cleared: see the module's invariant.
    poisoned: AtomicBool,
    /// Log bytes written since the last fold, for the decision to fold.
    pub(super) log_bytes: AtomicU64,
    _lock: Box<dyn DirLock>,
}

impl Store {
    /// Opens a store, recovering it from whatever a crash left, or creates it.
    pub(crate) fn open(dir: &dyn Dir, env: Arc<dyn Env>, options: StoreOptions) -> Result<Self> {
        let lock = dir.lock().map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock => Error::new(
                ErrorKind::Busy,
                format!("this replica is in use: {e}; close the other program first"),
            ),
            _ => Error::io("lock replica", e),
        })?;
        let open = |name: &str| dir.open(name).map_err(|e| Error::io("open replica file", e));
        let metas = [open("meta-0")?, open("meta-1")?];
        let logs = [open("log-0")?, open("log-1")?];
        let base = open("main.db")?;
        let found = match newest_meta(&metas) {
            Err(e) if e.kind() == ErrorKind::Corrupt && was_never_made(&metas, &logs, &*base)? => {
                None
            }
            found => found.map_err(damaged)?,
        };
        let (generation, identity, mut state) = match found {
            Some(found) => found,
            None => create(dir, &metas, &logs, options)?,
        };
        let log = log_file(&logs, generation);
        let start = read_log_header(log, generation).map_err(damaged)?;
        let end = recover(log, (generation, start), identity.page_size, &mut state, options)?;
        let tail = Tail { generation, end, flushed: start, buffer: Vec::new() };
        let store = Self {
            env,
            base,
            logs,
            metas,
            identity,
            state: RwLock::new(state),
            tail: Mutex::new(tail),
            flushing: Mutex::new(()),
            cache: cache::pages(options.cache_pages)?,
            poisoned: AtomicBool::new(false),
            log_bytes: AtomicU64::new(end - start),
            _lock: lock,
        };
        store.make_durable(dir)?;
        Ok(store)
    }

    /// What recovery found must not be lost by a later power cut, or a Seq could be reused: a
    /// process that was killed may have left a page map, names or records that are whole, but
    /// were never flushed, and everything written from here on rests on them.
    fn make_durable(&self, dir: &dyn Dir) -> Result<()> {
        if bites(Tooth::SkipFlushAtOpen) {
            return Ok(());
        }
        self.flush()?;
        meta_file(&self.metas, self.tail().generation)
            .flush()
            .and_then(|()| dir.flush())
            .map_err(|e| Error::io("flush replica", e))
    }

    pub(crate) fn volume(&self) -> VolumeId {
        self.identity.volume
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.identity.page_size
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to flush. One at a time: of several flushes of one file that are under way, an
    /// operating system may tell a single one that it dropped the bytes.
    pub(super) fn flushing(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    pub(super) fn check_poison(&self) -> Result<()> {
        if self.is_poisoned() {
            return Err(Error::new(
                ErrorKind::Closed,
                "an earlier write to disk failed, so this replica is closed; \
                 check the disk and open it again",
            ));
        }
        Ok(())
    }

    /// Writes a step and its pages as one record, then applies it. Not flushed.
    pub(crate) fn append(&self, step: &Step, pages: &[Page]) -> Result<()> {
        self.append_located(step, pages).map(|_| ())
    }

    /// [`Store::append`]; the log file and offset of the record, and where its pages are.
    pub(super) fn append_located(
        &self,
        step: &Step,
        pages: &[Page],
    ) -> Result<((u8, u64), Vec<Loc>)> {
        let contents: Vec<Content> = pages.iter().cloned().map(Content::Here).collect();
        self.append_contents(step, &contents)
    }

    /// [`Store::append_located`] where some of the pages may have been staged.
    pub(crate) fn append_contents(
        &self,
        step: &Step,
        contents: &[Content],
    ) -> Result<((u8, u64), Vec<Loc>)> {
        let mut tail = self.tail();
        self.check_poison()?;
        let place = (tail.file(), tail.end);
        // The buffer is kept: a commit would otherwise allocate and free many pages' worth.
        let mut bytes = std::mem::take(&mut tail.buffer);
        let durable = (tail.generation, tail.flushed);
        let locs = record::encode(&mut bytes, step, contents, durable, place);
        let log = log_file(&self.logs, tail.generation);
        self.env.fault("store: before log write").map_err(|e| Error::io("write log", e))?;
        if let Err(e) = log.write_at(&bytes, tail.end) {
            // Part of the record may be there; a later, shorter record must not leave its rest.
            if log.truncate(tail.end).is_err() {
                self.poison();
            }
            return Err(Error::io("write log", e));
        }
        tail.end += bytes.len() as u64;
        self.log_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if bytes.capacity() <= limits::RECORD_BUFFER_BYTES {
            tail.buffer = bytes;
        }
        let mut state = self.write();
        state.apply(step, &locs);
        for (version, content) in written_versions(&state, step).zip(contents) {
            if let Content::Here(page) = content {
                self.cache.insert(version, page.clone());
            }
        }
        Ok((place, locs))
    }

    /// Makes every step so far survive a power cut.
    pub(crate) fn flush(&self) -> Result<()> {
        let (wanted_generation, wanted_end) = {
            let tail = self.tail();
            (tail.generation, tail.end)
        };
        let _turn = self.flushing();
        let (generation, end) = {
            let tail = self.tail();
            self.check_poison()?;
            // A fold, or whoever had the turn before, has made it durable.
            if tail.generation != wanted_generation || tail.flushed >= wanted_end {
                return Ok(());
            }
            (tail.generation, tail.end)
        };
        // Outside the tail's lock: commits go on while the disk works, and share the next flush.
        let log = log_file(&self.logs, generation);
        let flush = || if bites(Tooth::SkipLogFlush) { Ok(()) } else { log.flush() };
        let done = self.env.fault("store: before log flush").and_then(|()| flush());
        if let Err(e) = done {
            self.poison();
            return Err(Error::io("flush log", e));
        }
        self.tail().flushed = end;
        Ok(())
    }

    /// Log bytes since the last fold.
    pub(crate) fn log_len(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// Whether a step waits for a flush.
    pub(crate) fn is_dirty(&self) -> bool {
        let tail = self.tail();
        tail.flushed < tail.end
    }

    /// The page as a snapshot at `at` sees it.
    pub(crate) fn page(&self, idx: PageIdx, at: LocalLsn) -> Result<Locate> {
        // Held across the file read: a fold may reuse the log file only after all readers left.
        let state = self.read();
        let version = state.map.find(idx, at);
        let (file, offset, sum) = match version.loc {
            Loc::Zero => return Ok(Locate::Page(Page::zeros(self.page_size()))),
            Loc::Pending(lsn) => return Ok(Locate::Pending { lsn, mark: version.mark }),
            Loc::Log { file, offset, sum } => (log_file(&self.logs, u64::from(file)), offset, sum),
            Loc::Base { sum } => (&*self.base, idx.offset(self.page_size()), sum),
        };
        let key = (idx.get(), version.mark.0);
        if let Some(page) = self.cache.get(&key) {
            return Ok(Locate::Page(page));
        }
        let page = Page::filled(self.page_size(), |bytes| {
            let read = file.read_at(bytes, offset).map_err(|e| Error::io("read page", e))?;
            if read == bytes.len() && record::page_sum(bytes) == sum {
                return Ok(());
            }
            Err(Error::corrupt(format!(
                "local page fails its checksum page=`{idx}` state=`{}`",
                version.mark
            )))
        })?;
        self.cache.insert(key, page.clone());
        Ok(Locate::Page(page))
    }

    /// Whether the page cache has this version.
    pub(crate) fn is_cached(&self, idx: PageIdx, mark: LocalLsn) -> bool {
        self.cache.contains_key(&(idx.get(), mark.0))
    }

    /// Whether the bytes of a version are what was written, on the disk and not in a cache.
    pub(super) fn is_whole(&self, idx: PageIdx, version: Version) -> Result<bool> {
        let (file, offset, sum) = match version.loc {
            Loc::Zero | Loc::Pending(_) => return Ok(true),
            Loc::Log { file, offset, sum } => (log_file(&self.logs, u64::from(file)), offset, sum),
            Loc::Base { sum } => (&*self.base, idx.offset(self.page_size()), sum),
        };
        is_whole(file, offset, self.page_size(), sum)
    }

    /// Declares the local bytes of a global page lost, so that they are fetched again. False if
    /// the page is a draft, which exists nowhere else.
    pub(crate) fn forget(&self, idx: PageIdx, at: LocalLsn) -> bool {
        let mut state = self.write();
        let version = state.map.find(idx, at);
        let next_base = state.bases.range(version.mark..).next().map(|(_, lsn)| *lsn);
        match next_base {
            Some(lsn) if version.mark <= state.base.local => {
                state.map.forget(idx, version.mark, lsn);
                true
            }
            _ => false,
        }
    }
}

/// Whether a page's bytes have this checksum.
pub(super) fn is_whole(file: &dyn File, offset: u64, size: PageSize, sum: u32) -> Result<bool> {
    let mut bytes = vec![0; size.bytes()];
    let read = file.read_at(&mut bytes, offset).map_err(|e| Error::io("read page", e))?;
    Ok(read == bytes.len() && record::page_sum(&bytes) == sum)
}

/// Says what to do about damage that opening cannot repair.
fn damaged(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => Error::with_source(
            ErrorKind::Corrupt,
            "the files of this replica are damaged; restore it from a backup, or remove it and \
             clone the site again (local changes that were never sent are lost then)",
            error,
        ),
        _ => error,
    }
}

pub(super) fn log_file(logs: &[Box<dyn File>; 2], generation: u64) -> &dyn File {
    let [even, odd] = logs;
    if generation.is_multiple_of(2) { &**even } else { &**odd }
}

/// Cache keys of the pages that travelled with a step, in their order.
fn written_versions<'a>(
    state: &'a State,
    step: &'a Step,
) -> Box<dyn Iterator<Item = (u32, u64)> + 'a> {
    use super::state::StepBody;
    let at = |mark: LocalLsn| move |idx: &PageIdx| (idx.get(), mark.0);
    match &step.body {
        StepBody::Commit { pages, .. } => Box::new(pages.iter().map(at(state.head))),
        StepBody::Advance { filled, replayed, .. } => {
            let drafts = replayed.iter().flat_map(|(_, pages)| pages);
            Box::new(filled.iter().map(at(state.base.local)).chain(drafts.map(at(state.head))))
        }
        StepBody::Fill { pages } => Box::new(pages.iter().map(|(idx, mark)| (idx.get(), mark.0))),
        _ => Box::new(std::iter::empty()),
    }
}

pub(super) fn read_all(file: &dyn File) -> Result<Vec<u8>> {
    let len = file.len().map_err(|e| Error::io("read replica file", e))?;
    let len = usize::try_from(len).map_err(|_| Error::corrupt("replica file too large"))?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read replica file", e))?;
    bytes.truncate(read);
    Ok(bytes)
}

fn newest_meta(metas: &[Box<dyn File>; 2]) -> Result<Option<(u64, Identity, State)>> {
    let mut newest: Option<(u64, Identity, State)> = None;
    let mut damaged = None;
    for file in metas {
        let bytes = read_all(&**file)?;
        if bytes.is_empty() {
            continue;
        }
        match meta::decode(&bytes) {
            Ok(found) if newest.as_ref().is_none_or(|n| n.0 < found.0) => newest = Some(found),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e),
            // A crash while it was being written; the other one is still whole.
            Err(e) => damaged = Some(e),
        }
    }
    match (newest, damaged) {
        (Some(found), _) => Ok(Some(found)),
        (None, Some(e)) => Err(e),
        (None, None) => Ok(None),
    }
}

fn create(
    dir: &dyn Dir,
    metas: &[Box<dyn File>; 2],
    logs: &[Box<dyn File>; 2],
    options: StoreOptions,
) -> Result<(u64, Identity, State)> {
    let (volume, page_size) = options
        .create
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no replica here"))?;
    let identity = Identity { volume, page_size };
    let mut state = State::default();
    state.bases.insert(LocalLsn::ZERO, Lsn::ZERO);
    let [log, _] = logs;
    let [file, _] = metas;
    let failed = |e| Error::io("create replica", e);
    // ORDER: a meta file says that there is a store, so all names and the log come before it.
    // What an attempt that was cut short has left is cut away.
    dir.flush().and_then(|()| file.truncate(0)).and_then(|()| log.truncate(0)).map_err(failed)?;
    write_log_header(&**log, 0, LOG_HEADER_LEN as u64)?;
    let bytes = meta::encode(0, identity, &state);
    log.flush()
        .and_then(|()| file.write_at(&bytes, 0))
        .and_then(|()| file.flush())
        .map_err(failed)?;
    Ok((0, identity, state))
}

/// Whether a meta file that cannot be read is what a crash left while the store was being made.
/// Nothing was ever written then: the first record comes after the first meta file.
fn was_never_made(
    [first, second]: &[Box<dyn File>; 2],
    [log, other]: &[Box<dyn File>; 2],
    base: &dyn File,
) -> Result<bool> {
    let len = |file: &dyn File| file.len().map_err(|e| Error::io("read replica file", e));
    let is_bare = len(&**log)? <= LOG_HEADER_LEN as u64;
    let is_bare = is_bare && len(&**second)? == 0 && len(&**other)? == 0 && len(base)? == 0;
    Ok(is_bare && !meta::is_whole(&read_all(&**first)?))
}

/// The meta file of a generation.
pub(super) fn meta_file(metas: &[Box<dyn File>; 2], generation: u64) -> &dyn File {
    let [even, odd] = metas;
    if generation.is_multiple_of(2) { &**even } else { &**odd }
}

pub(super) fn write_log_header(log: &dyn File, generation: u64, start: u64) -> Result<()> {
    let mut out = Writer::default();
    out.raw(LOG_MAGIC);
    out.u8(LOG_VERSION);
    out.u64(generation);
    out.u64(start);
    let sum = xxhash_rust::xxh3::xxh3_64(&out.0);
    out.u64(sum);
    log.write_at(&out.finish(), 0).map_err(|e| Error::io("write log", e))
}

/// Offset of the first record.
pub(super) fn read_log_header(log: &dyn File, generation: u64) -> Result<u64> {
    let mut bytes = [0; LOG_HEADER_LEN];
    let read = log.read_at(&mut bytes, 0).map_err(|e| Error::io("read log", e))?;
    let mut reader = Reader::new(bytes.get(..read).unwrap_or_default(), "log file");
    if &reader.array::<4>()? != LOG_MAGIC {
        return Err(reader.fail("not one of ours"));
    }
    if reader.u8()? > LOG_VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this replica was made by a newer version of Sheaf; upgrade",
        ));
    }
    let (found, start, sum) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let whole = bytes.get(..LOG_HEADER_LEN - 8).map(xxhash_rust::xxh3::xxh3_64) == Some(sum);
    if !whole || found != generation {
        return Err(reader.fail("header does not belong to the page map"));
    }
    // What is carried over lies before the first record and was flushed before the page map.
    if start > log.len().map_err(|e| Error::io("read log", e))? {
        return Err(reader.fail("begins behind its end"));
    }
    Ok(start)
}

/// The end of a log, as [`scan`] found it.
#[derive(Debug)]
pub(super) struct Scan {
    /// Behind the last record that counts.
    pub(super) end: u64,
    /// Length of the file.
    pub(super) len: u64,
    /// Whether what follows `end` had been flushed: then it is damaged, not cut short.
    pub(super) was_flushed: bool,
    /// Records that count.
    pub(super) records: u64,
    /// Where records begin that count although pages of them are damaged.
    pub(super) damaged: Vec<u64>,
}

/// Applies every whole record, and if `salvage` also those whose pages are damaged although they
/// had been flushed. Writes nothing.
pub(super) fn scan(
    log: &dyn File,
    (generation, start): (u64, u64),
    size: PageSize,
    state: &mut State,
    salvage: bool,
) -> Result<Scan> {
    let len = log.len().map_err(|e| Error::io("read log", e))?;
    let mut scan = Scan { end: start, len, was_flushed: false, records: 0, damaged: Vec::new() };
    while let Some(record) = read_record(log, generation, scan.end, size)? {
        if !record.is_whole {
            if !salvage || !durable_beyond(log, generation, scan.end, len)? {
                break;
            }
            scan.damaged.push(scan.end);
        }
        if record.header.flushed > scan.end {
            return Err(damaged(Error::corrupt("log record: durable before it was written")));
        }
        state.apply(&record.step, &record.locs);
        scan.records += 1;
        scan.end += record.header.record_len(size);
    }
    scan.was_flushed = len > scan.end && durable_beyond(log, generation, scan.end, len)?;
    Ok(scan)
}

/// Applies every whole record; cuts a torn tail; returns the end of the log.
fn recover(
    log: &dyn File,
    place: (u64, u64),
    size: PageSize,
    state: &mut State,
    options: StoreOptions,
) -> Result<u64> {
    let Scan { end, len, was_flushed, .. } = scan(log, place, size, state, options.salvage)?;
    if was_flushed {
        return Err(Error::corrupt(format!(
            "the local log is damaged at byte {end}, below what was flushed; \
             restore this replica from a backup, or remove it and clone the site again \
             (local changes that were never sent are lost then)"
        )));
    }
    if len > end {
        // Flushed, or a later record could come to lie before what is cut off here.
        log.truncate(end).and_then(|()| log.flush()).map_err(|e| Error::io("cut torn log", e))?;
    }
    Ok(end)
}

/// A record with a right checksum.
struct Record {
    header: Header,
    step: Step,
    locs: Vec<Loc>,
    /// Whether its pages have right checksums too.
    is_whole: bool,
}

fn read_record(log: &dyn File, generation: u64, at: u64, size: PageSize) -> Result<Option<Record>> {
    let read = |buf: &mut [u8], at| log.read_at(buf, at).map_err(|e| Error::io("read log", e));
    let mut head = [0; HEADER_LEN];
    if read(&mut head, at)? < HEADER_LEN {
        return Ok(None);
    }
    let Some(header) = Header::read(&head).filter(|header| header.generation == generation) else {
        return Ok(None);
    };
    let len = log.len().map_err(|e| Error::io("read log", e))?;
    if at + header.record_len(size) > len {
        return Ok(None);
    }
    let mut meta = vec![0; header.meta_len as usize];
    if read(&mut meta, at + HEADER_LEN as u64)? < meta.len() || !header.matches(&head, &meta) {
        return Ok(None);
    }
    let file = (generation % 2) as u8;
    let Decoded { step, sums, staged } = record::decode(&meta, header.page_count, file)?;
    let mut offset = at + HEADER_LEN as u64 + u64::from(header.meta_len);
    let mut page = vec![0; size.bytes()];
    let mut locs = Vec::with_capacity(sums.len() + staged.len());
    let mut staged = staged.into_iter().peekable();
    let mut sums = sums.into_iter();
    let mut is_whole = true;
    loop {
        if let Some((_, earlier)) = staged.next_if(|(index, _)| *index as usize == locs.len()) {
            if earlier.offset + page.len() as u64 > at {
                return Err(damaged(Error::corrupt("log record: refers to what comes later")));
            }
            locs.push(Loc::Log { file, offset: earlier.offset, sum: earlier.sum });
            continue;
        }
        let Some(sum) = sums.next() else { break };
        let found = (read(&mut page, offset)? == page.len()).then(|| record::page_sum(&page));
        // The mistake believes what it finds, so that no later check of the page tells of it.
        let believed = found.filter(|_| bites(Tooth::AcceptTornRecord)).unwrap_or(sum);
        is_whole &= found == Some(believed);
        locs.push(Loc::Log { file, offset, sum: believed });
        offset += page.len() as u64;
    }
    Ok(Some(Record { header, step, locs, is_whole }))
}

/// Whether a valid record behind the bad one at `bad` says that it had been flushed.
fn durable_beyond(log: &dyn File, generation: u64, bad: u64, len: u64) -> Result<bool> {
    let mut from = bad + 1;
    let mut window = vec![0; SCAN_BYTES];
    while from + (HEADER_LEN as u64) < len {
        let read = log.read_at(&mut window, from).map_err(|e| Error::io("read log", e))?;
        for at in 0..read.saturating_sub(HEADER_LEN) {
            let Some(head) = window.get(at..at + HEADER_LEN) else { break };
            let Some(header) = Header::read(head) else { continue };
            if header.generation != generation || header.flushed <= bad {
                continue;
            }
            let mut meta = vec![0; (header.meta_len as usize).min(limits::TAIL_META_BYTES_MAX)];
            let offset = from + at as u64 + HEADER_LEN as u64;
            let got = log.read_at(&mut meta, offset).map_err(|e| Error::io("read log", e))?;
            if got == header.meta_len as usize && header.matches(head, &meta) {
                return Ok(true);
            }
        }
        from += (read.saturating_sub(HEADER_LEN)).max(1) as u64;
    }
    Ok(false)
}
