//! A volume on this device: snapshots, one writer, lazy pages, pull and push.
//!
//! Invariants: a [`Snapshot`] never changes; there is one [`WriterGuard`] at a time and readers
//! never wait for it; a read returns the right version or an error, never zeros or an older page
//! instead. Leaves out what pages mean, and when to pull or push.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::cache::{self, PageCache};
use crate::prefetch::{Children, History};
use crate::store::{Step, StepBody, Store, StoreOptions};
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, RwLock};
use crate::{
    Changes, Commit, CommitHash, Dir, Env, Error, ErrorKind, LocalLsn, Lsn, PageCount, PageIdx,
    PageSize, Remote, Result, VolumeId, limits,
};

mod compare;
mod deltas;
mod draft;
mod evict;
mod fetch;
mod held;
mod push;
mod snapshot;
mod spill;
#[cfg(test)]
mod tests;
mod working_set;

pub use crate::store::{HeldMutation, PendingMutation};
pub use deltas::Deltas;
pub use draft::{Draft, Durability, Saved};
pub use evict::Evicted;
pub use held::RecentPages;
pub use push::PushMeta;
pub use snapshot::Snapshot;
use working_set::WorkingSet;

/// How to open a volume.
#[derive(Clone, Copy, Debug)]
pub struct VolumeOptions {
    /// Ids for a volume that is not on this device yet; `None` makes that `NotFound`.
    pub create: Option<(VolumeId, PageSize)>,
    /// Pages of the decoded page cache.
    pub cache_pages: usize,
    /// Bytes of the pages of a write transaction, and again of the mutations that wait, which are
    /// kept in memory. What is more waits in the log file.
    pub memory_bytes: usize,
    /// Where pages lead, for the prefetcher; `None` if nobody knows.
    pub children: Option<Children>,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self {
            create: None,
            cache_pages: limits::CACHE_PAGES,
            memory_bytes: limits::MEMORY_BYTES,
            children: None,
        }
    }
}

/// Attribute that replaces a provisional volume id after first contact.
const ATTR_VOLUME: &str = "volume/id";
/// Attribute with the volumes that this one branched from; none for one that is no branch.
const ATTR_PARENTS: &str = "volume/parents";

/// A replica of one volume. Cheap to clone; any number of threads may read.
#[derive(Clone, Debug)]
pub struct Volume(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    env: Arc<dyn Env>,
    remote: RwLock<Option<Arc<dyn Remote>>>,
    pins: Mutex<BTreeMap<LocalLsn, usize>>,
    writer: Mutex<bool>,
    writer_free: Condvar,
    in_flight: Mutex<InFlight>,
    children: Option<Children>,
    working_set: WorkingSet,
    arrived: Condvar,
    past: PageCache<(u64, u32)>,
    /// The newest position among those asked for when the remote said that it no longer keeps
    /// one: what is older is asked for where it still is.
    expired: AtomicU64,
    counters: Counters,
    /// Log bytes right after the last fold: what folding again would have to carry.
    carried: AtomicU64,
    /// See [`VolumeOptions::memory_bytes`].
    memory_bytes: usize,
}

#[derive(Debug, Default)]
struct InFlight {
    pages: BTreeSet<(PageIdx, LocalLsn)>,
    history: History,
    /// The same for reads of past positions.
    past: History,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    pages: AtomicU64,
}

/// Where a volume stands, for status displays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeStatus {
    /// The newest local state.
    pub head: LocalLsn,
    /// The newest local state that equals a global one.
    pub base: LocalLsn,
    /// The global position that `base` equals.
    pub base_lsn: Lsn,
    /// Hash of the commit there.
    pub base_hash: CommitHash,
    /// When that commit was made, milliseconds since 1970.
    pub base_time_ms: u64,
    /// Pages at the head.
    pub page_count: PageCount,
    /// Pages at the head whose content is not here.
    pub pages_pending: u64,
    /// Whether a push is in flight or was interrupted.
    pub pushing: bool,
    /// Whether an earlier disk error closed this replica.
    pub poisoned: bool,
    /// Requests made for missing pages since opening.
    pub fetch_requests: u64,
    /// Pages fetched since opening.
    pub fetched_pages: u64,
}

/// The right to write a volume; dropping it lets the next writer in.
#[derive(Debug)]
pub struct WriterGuard(Volume);

impl Drop for WriterGuard {
    fn drop(&mut self) {
        *lock(&self.0.0.writer) = false;
        self.0.0.writer_free.notify_one();
    }
}

/// A poisoned mutex means a panic elsewhere; the data behind ours is valid between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volume {
    /// Opens a replica in this directory, recovering it from whatever a crash left.
    ///
    /// # Errors
    /// `Busy` when another process has it open, `NotFound` when there is none and none is to be
    /// created, `Corrupt`, `Unsupported` or `Io`.
    pub fn open(dir: &dyn Dir, env: Arc<dyn Env>, options: VolumeOptions) -> Result<Self> {
        let store_options = StoreOptions {
            create: options.create,
            cache_pages: options.cache_pages.max(16),
            salvage: false,
        };
        let store = Store::open(dir, Arc::clone(&env), store_options)?;
        let history = History::with_working_set(working_set::remembered(&store));
        let in_flight = InFlight { history, ..InFlight::default() };
        Ok(Self(Arc::new(Shared {
            store,
            env,
            remote: RwLock::new(None),
            pins: Mutex::default(),
            writer: Mutex::new(false),
            writer_free: Condvar::new(),
            in_flight: Mutex::new(in_flight),
            children: options.children,
            working_set: WorkingSet::default(),
            arrived: Condvar::new(),
            past: cache::fetched_ahead(limits::PAST_CACHE_PAGES)?,
            expired: AtomicU64::new(0),
            counters: Counters::default(),
            carried: AtomicU64::new(0),
            memory_bytes: options.memory_bytes,
        })))
    }

    /// The volume's id; a provisional one until first contact.
    #[must_use]
    pub fn id(&self) -> VolumeId {
        let adopted = self.attr(ATTR_VOLUME);
        adopted
            .and_then(|bytes| VolumeId::try_from(&*bytes).ok())
            .unwrap_or_else(|| self.0.store.volume())
    }

    /// Bytes per page.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.0.store.page_size()
    }

    /// Where missing pages are fetched from.
    pub fn set_remote(&self, remote: Option<Arc<dyn Remote>>) {
        *self.0.remote.write().unwrap_or_else(PoisonError::into_inner) = remote;
    }

    /// Where missing pages and the past come from.
    ///
    /// # Errors
    /// `Unavailable` when there is none.
    pub fn remote(&self) -> Result<Arc<dyn Remote>> {
        let remote = self.0.remote.read().unwrap_or_else(PoisonError::into_inner).clone();
        remote.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "a page is not on this device and no server is connected; go online and try again",
            )
        })
    }

    /// The global position and hash this replica is based on.
    #[must_use]
    pub fn base(&self) -> (Lsn, CommitHash) {
        let state = self.0.store.read();
        (state.base.lsn, state.base.hash)
    }

    /// Mutations that the log has not decided, oldest first, with all of their bytes.
    ///
    /// # Errors
    /// As [`Volume::mutation`].
    pub fn timeline(&self) -> Result<Vec<PendingMutation>> {
        let seqs: Vec<u64> = self.held().iter().map(|held| held.seq).collect();
        seqs.into_iter().filter_map(|seq| self.mutation(seq).transpose()).collect()
    }

    /// Number of the newest mutation that the log has not decided.
    #[must_use]
    pub fn last_pending_seq(&self) -> Option<u64> {
        self.0.store.read().timeline.last().map(|mutation| mutation.seq)
    }

    /// Whether the timeline has no mutations.
    #[must_use]
    pub fn is_timeline_empty(&self) -> bool {
        self.0.store.read().timeline.is_empty()
    }

    /// A small named value of the layer above, atomic with the steps that change it.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<Bytes> {
        self.0.store.read().attrs.get(name).cloned()
    }

    /// All small named values whose name begins with `prefix`, in order.
    #[must_use]
    pub fn attrs(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let state = self.0.store.read();
        let from = state.attrs.range(prefix.to_owned()..);
        from.take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Changes small named values (`None` removes one) and flushes.
    ///
    /// # Errors
    /// `Io`, or `Closed` after an earlier disk error.
    pub fn set_attrs(&self, attrs: Vec<(String, Option<Bytes>)>) -> Result<()> {
        self.0.store.append(&Step { body: StepBody::Attrs, attrs }, &[])?;
        self.flush()
    }

    /// Makes every commit so far survive a power cut.
    ///
    /// # Errors
    /// `Io`; the replica is closed then.
    pub fn flush(&self) -> Result<()> {
        self.0.store.flush()
    }

    /// Whether a commit waits for a flush.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.0.store.is_dirty()
    }

    /// Becomes the writer, or `None` while there is another.
    #[must_use]
    pub fn try_writer(&self) -> Option<WriterGuard> {
        let mut taken = lock(&self.0.writer);
        if *taken {
            return None;
        }
        *taken = true;
        Some(WriterGuard(self.clone()))
    }

    /// Becomes the writer, waiting for the present one to finish.
    #[must_use]
    pub fn writer(&self) -> WriterGuard {
        let mut taken = lock(&self.0.writer);
        while *taken {
            taken = self.0.writer_free.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        WriterGuard(self.clone())
    }

    /// Moves what the log holds of the newest global state into the base file and starts the log
    /// anew. Needs no network.
    ///
    /// # Errors
    /// `Io`; the replica stays as it was.
    pub fn checkpoint(&self, writer: &WriterGuard) -> Result<()> {
        writer.check(self)?;
        let pins: Vec<LocalLsn> = lock(&self.0.pins).keys().copied().collect();
        self.0.store.fold(&pins)?;
        self.0.carried.store(self.0.store.log_len(), Ordering::Relaxed);
        Ok(())
    }

    /// Folds when that is worth it at a quiet moment: everything is agreed and nothing is held, so
    /// that the base file becomes the whole database, or most of a long log is superseded.
    ///
    /// # Errors
    /// As [`Volume::checkpoint`].
    pub fn tidy(&self) -> Result<()> {
        self.remember_working_set()?;
        let log = self.0.store.log_len();
        let idle = log >= limits::IDLE_FOLD_LOG_BYTES && self.is_idle();
        let carried = self.0.carried.load(Ordering::Relaxed);
        let superseded = log >= limits::CLOSE_FOLD_LOG_BYTES.max(carried.saturating_mul(2));
        if !idle && !superseded {
            return Ok(());
        }
        match self.try_writer() {
            Some(writer) => self.checkpoint(&writer),
            None => Ok(()),
        }
    }

    /// Folds when the log has grown far beyond what a fold would carry.
    ///
    /// The step before it is in the log already, so a fold that fails must not make that step look
    /// failed: a full disk leaves everything as it was and the next commit tries again; a failed
    /// flush has closed the store, and the next operation says so.
    fn maybe_checkpoint(&self, writer: &WriterGuard) {
        let carried = self.0.carried.load(Ordering::Relaxed);
        if self.0.store.log_len() >= limits::FOLD_LOG_BYTES.max(carried.saturating_mul(3)) {
            self.checkpoint(writer).ok();
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.0.store.read();
        state.base.local == state.head && state.timeline.is_empty() && lock(&self.0.pins).is_empty()
    }

    /// Where the volume stands. Walks the page map: meant for people, not for every commit.
    #[must_use]
    pub fn status(&self) -> VolumeStatus {
        let state = self.0.store.read();
        let pages = (1..=state.head_pages.0).filter_map(PageIdx::new);
        let is_pending = |idx: &PageIdx| state.is_pending(*idx, state.head);
        let pages_pending = pages.filter(is_pending).count() as u64;
        VolumeStatus {
            head: state.head,
            base: state.base.local,
            base_lsn: state.base.lsn,
            base_hash: state.base.hash,
            base_time_ms: state.base.time_ms,
            page_count: state.head_pages,
            pages_pending,
            pushing: state.intent.is_some(),
            poisoned: self.0.store.is_poisoned(),
            fetch_requests: self.0.counters.requests.load(Ordering::Relaxed),
            fetched_pages: self.0.counters.pages.load(Ordering::Relaxed),
        }
    }

    fn check_changes(&self, changes: &Changes) -> Result<()> {
        let (lsn, hash) = self.base();
        let parent = changes.parent.filter(|_| changes.after == lsn);
        let wrong = if changes.volume != self.id() {
            "changes of another volume"
        } else if changes.after > lsn || changes.head.lsn <= lsn {
            "changes that do not begin where this replica is"
        } else if parent.is_some_and(|parent| parent != hash) {
            "changes of a log that is not ours: it was replaced or forked"
        } else if changes.head.page_size != self.page_size() {
            "changes with another page size"
        } else {
            return Ok(());
        };
        Err(Error::corrupt(format!("the remote sent {wrong} lsn=`{}`", changes.head.lsn)))
    }

    fn check_commit(&self, commit: &Commit, lsn: Lsn, parent: CommitHash) -> Result<()> {
        self.check_place(commit.volume, (commit.lsn, commit.parent), (lsn, parent))?;
        if commit.page_size != self.page_size() {
            let text = format!("the remote sent a commit with another page size lsn=`{lsn}`");
            return Err(Error::corrupt(text));
        }
        Ok(())
    }

    /// Whether a commit of `volume` at a position, with a parent, is the `next` one here.
    fn check_place(
        &self,
        volume: VolumeId,
        (lsn, parent): (Lsn, CommitHash),
        next: (Lsn, CommitHash),
    ) -> Result<()> {
        let wrong = if volume != self.id() {
            "another volume's commit"
        } else if lsn != next.0 {
            "a gap in the log"
        } else if parent != next.1 {
            "a commit whose parent is not ours: the log was replaced or forked"
        } else {
            return Ok(());
        };
        Err(Error::corrupt(format!("the remote sent {wrong} lsn=`{lsn}`")))
    }
}

impl WriterGuard {
    fn check(&self, volume: &Volume) -> Result<()> {
        if Arc::ptr_eq(&self.0.0, &volume.0) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Internal, "a writer of another volume"))
    }

    /// The volume this writes.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.0
    }
}
