//! SQLite on a volume: a VFS whose main database files are views of a site.
//!
//! Invariants: taking the shared lock pins one snapshot, so a transaction sees one state; the
//! reserved lock is the volume's one writer; a commit happens at `SQLITE_FCNTL_SYNC`, where SQLite
//! can still report an error, and is one local step. No journal is ever on disk: what a rollback
//! needs lies below the transaction (`journal.rs`), atomicity is the store's. No panic crosses
//! into C.
//!
//! Page 1 is kept with its change counter and version-valid-for fields zeroed, so that a page is
//! not new because of them; readers are shown a counter made from the local state's number, which
//! is what makes every other connection drop its page cache after a commit.
//!
//! Leaves out temporary files (the default VFS has them) and the meaning of a commit (a
//! [`CommitSink`] turns it into a mutation).

#![expect(unsafe_code, reason = "SQLite calls a VFS through C function pointers")]

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use sheaf_volume::{Draft, Env, Error, ErrorKind, PendingMutation, Result, Snapshot, Volume};

mod ffi;
mod handle;
mod journal;
mod journal_ffi;
mod readahead;
mod watch;

pub(crate) use ffi::{VFS_NAME, register};
pub(crate) use handle::{SCHEMA_COOKIE, read_u32};
pub(crate) use readahead::children;
pub use readahead::leads;
pub(crate) use watch::{Carried, Watch};

/// Turns a transaction into a mutation, inside its commit.
pub(crate) trait CommitSink: Send + Sync {
    /// A write transaction begins on the head; nothing has been written yet.
    fn begin_write(&self) -> Result<()>;

    /// Whether SQLite says that it commits; `false` also where it does not say (VACUUM).
    fn is_committing(&self) -> bool;

    /// What to store with the pages. Called with the draft complete and readable through a
    /// [`View::Draft`] connection.
    fn before_commit(&self) -> Result<Commitment>;

    /// The commit is visible (`true`) or failed.
    fn after_commit(&self, saved: bool);
}

/// What a commit stores besides pages.
#[derive(Debug, Default)]
pub(crate) struct Commitment {
    pub(crate) mutation: Option<PendingMutation>,
    pub(crate) attrs: Vec<(String, Option<Bytes>)>,
}

/// A draft that two connections can see: the one that writes it and the one that captures it.
#[derive(Debug, Default)]
pub(crate) struct DraftSlot(Mutex<Option<Draft>>);

impl DraftSlot {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Draft>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file name opens.
#[derive(Clone)]
pub(crate) enum FileView {
    /// The head; writable, with a sink for its commits.
    Local { slot: Arc<DraftSlot>, sink: Option<Arc<dyn CommitSink>> },
    /// The base, following it as it moves.
    Global,
    /// A state of the past.
    At(Snapshot),
    /// A state whose reads are noted.
    Watched(Arc<Watch>),
    /// The uncommitted draft of a [`FileView::Local`], read-only.
    Draft(Arc<DraftSlot>),
    /// A draft that the site publishes itself: commits only end the transaction.
    Rebase(Arc<DraftSlot>),
}

/// Everything a file needs.
#[derive(Clone)]
pub(crate) struct FileSpec {
    pub(crate) volume: Volume,
    pub(crate) view: FileView,
    pub(crate) failure: Arc<Failure>,
    /// Added to the schema cookie shown to SQLite: moves on when a rebase drops a schema change,
    /// because the redone history may carry another schema under the same cookie.
    pub(crate) schema_bias: Arc<AtomicU32>,
}

/// The last error behind a SQLite result code that cannot carry its message.
#[derive(Debug, Default)]
pub(crate) struct Failure(Mutex<Option<Error>>);

impl Failure {
    pub(crate) fn set(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The kind of what [`Failure::take`] would give.
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Error::kind)
    }

    pub(crate) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Names that can be opened now, and the environment for time.
#[derive(Default)]
struct Registry {
    files: HashMap<String, FileSpec>,
    next: u64,
    env: Option<Arc<dyn Env>>,
}

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: OnceLock<Mutex<Registry>> = OnceLock::new();
    REGISTRY.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the names of views begin: like no file that somebody would attach.
const NAME_PREFIX: &str = "\u{1}sheaf-view-";

/// A name under which SQLite can open a file, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenName(String);

impl OpenName {
    /// Makes a file known to the VFS.
    pub(crate) fn new(env: &Arc<dyn Env>, spec: FileSpec) -> Self {
        let mut registry = registry();
        registry.next += 1;
        let name = format!("{NAME_PREFIX}{}", registry.next);
        registry.files.insert(name.clone(), spec);
        registry.env.get_or_insert_with(|| Arc::clone(env));
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for OpenName {
    fn drop(&mut self) {
        registry().files.remove(&self.0);
    }
}

fn spec_of(name: &str) -> Option<FileSpec> {
    registry().files.get(name).cloned()
}

/// Milliseconds since 1970 for SQLite's `now`: the running mutation's own time, else the clock.
fn now_ms() -> Option<u64> {
    crate::clock::override_ms().or_else(|| registry().env.as_ref().map(|env| env.now_ms()))
}
