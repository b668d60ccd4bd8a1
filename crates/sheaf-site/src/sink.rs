//! From a SQLite transaction to a mutation, inside its commit.
//!
//! Invariant: what is stored is what a second connection reads in the very draft that is being
//! committed, never what a hook claimed on the way: rolled back savepoints leave no trace.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use rusqlite::{Connection, OpenFlags};
use sheaf_volume::{Error, ErrorKind, PageIdx, PendingMutation, Result};

use crate::capture::Capture;
use crate::error::from_sqlite;
use crate::limits;
use crate::mutation::{Body, Mutation, Op};
use crate::siblings;
use crate::site::{Inner, Site, lock};
use crate::timeline::MutationRecord;
use crate::vfs::{CommitSink, Commitment, DraftSlot, Failure, FileView, SCHEMA_COOKIE, read_u32};
use crate::watch::{Noted, Tables};

/// The [`CommitSink`] of one writable connection.
pub(crate) struct LocalSink {
    site: Weak<Inner>,
    slot: Arc<DraftSlot>,
    capture: OnceLock<Capture>,
    readers: Mutex<Option<Readers>>,
    /// Set while a named mutator commits: its call is the mutation, not its rows; and while an undo
    /// does, whose replay has captured it already.
    call: Mutex<Option<(Mutation, Noted)>>,
    /// What the commit under way changes.
    tables: Mutex<Tables>,
}

/// Connections that look at the transaction from outside.
struct Readers {
    /// Sees the draft.
    draft: Connection,
    /// Why its file could not be read.
    failure: Arc<Failure>,
    /// Sees the state before it.
    before: Connection,
    /// Sees the state that is agreed on, once somebody asked for it.
    agreed: Option<Connection>,
    /// Schema cookie (and bias) that the capture has noted.
    noted: Option<(u32, u32)>,
}

impl LocalSink {
    pub(crate) fn new(site: Weak<Inner>, slot: Arc<DraftSlot>) -> Self {
        let (capture, readers, call) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { site, slot, capture, readers, call, tables: Mutex::default() }
    }

    /// Starts capturing what this connection changes.
    pub(crate) fn install(&self, conn: &mut Connection) -> Result<()> {
        let capture = Capture::install(conn)?;
        self.capture.set(capture).map_err(|_| not_installed())
    }

    pub(crate) fn with_capture<T>(&self, f: impl FnOnce(&Capture) -> Result<T>) -> Result<T> {
        let capture = self.capture.get().ok_or_else(not_installed)?;
        f(capture)
    }

    pub(crate) fn expect_call(&self, mutation: Mutation, noted: Noted) {
        *lock(&self.call) = Some((mutation, noted));
    }

    pub(crate) fn forget_call(&self) {
        *lock(&self.call) = None;
    }

    fn captured(&self) -> Result<Option<Mutation>> {
        let capture = self.capture.get().ok_or_else(not_installed)?;
        if capture.is_empty() {
            return Ok(None);
        }
        let readers = lock(&self.readers);
        let Readers { draft, failure, .. } = readers.as_ref().ok_or_else(not_installed)?;
        let run = |sql| draft.prepare_cached(sql)?.execute([]);
        // One read transaction for all tables: each would otherwise start with an empty cache.
        run("BEGIN").map_err(from_sqlite)?;
        let mutation = capture.finish(draft);
        // A read that failed may have ended it already, and is what people are to be told of.
        let ended = if draft.is_autocommit() { Ok(0) } else { run("COMMIT") };
        // The file knows why, where SQLite's result code says that something failed.
        let mutation = mutation.map_err(|e| match e.kind() {
            ErrorKind::Io => failure.take().unwrap_or(e),
            _ => e,
        })?;
        ended.map_err(from_sqlite)?;
        Ok(mutation)
    }

    /// What the author of a mutation saw agreed on in the cells that it changes.
    fn what_was_seen(&self, site: &Site, mutation: &Mutation) -> Vec<Op> {
        let ops = mutation.ops();
        if site.volume().is_timeline_empty() {
            // Nothing of one's own hides it.
            return Vec::new();
        }
        let mut readers = lock(&self.readers);
        let (Some(Readers { draft, agreed, .. }), Some(capture)) =
            (readers.as_mut(), self.capture.get())
        else {
            return Vec::new();
        };
        if capture.of_schema(|schema| siblings::may_be_kept(ops, schema, draft)) != Some(true) {
            return Vec::new();
        }
        if agreed.is_none() {
            let opened = site.open_file(FileView::Global, OpenFlags::SQLITE_OPEN_READ_ONLY);
            *agreed = opened.ok().map(|(conn, _)| conn);
        }
        match agreed {
            Some(agreed) => siblings::saw(ops, draft, (agreed, site.base().0.0)),
            None => Vec::new(),
        }
    }

    fn open_readers(&self, site: &Site) -> Result<Readers> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let (draft, failure) = site.open_file(FileView::Draft(Arc::clone(&self.slot)), flags)?;
        let head = FileView::Local { slot: Arc::default(), sink: None };
        let (before, _) = site.open_file(head, flags)?;
        Ok(Readers { draft, failure, before, agreed: None, noted: None })
    }
}

impl CommitSink for LocalSink {
    fn begin_write(&self) -> Result<()> {
        let Some(site) = self.site.upgrade().map(Site) else { return Ok(()) };
        let Some(capture) = self.capture.get() else { return Ok(()) };
        let first = site.volume().head().page(PageIdx::FIRST)?;
        let bias = site.0.schema_bias.load(Ordering::Acquire);
        let schema = Some((read_u32(&first, SCHEMA_COOKIE), bias));
        let mut readers = lock(&self.readers);
        let readers = match &mut *readers {
            Some(readers) => readers,
            none => none.insert(self.open_readers(&site)?),
        };
        if readers.noted != schema {
            capture.note_schema(&readers.before)?;
            readers.noted = schema;
        }
        Ok(())
    }

    fn is_committing(&self) -> bool {
        self.capture.get().is_some_and(Capture::is_committing)
    }

    fn before_commit(&self) -> Result<Commitment> {
        let site = self.site.upgrade().map(Site).ok_or_else(|| {
            Error::new(ErrorKind::Closed, "the site was closed before this transaction ended")
        })?;
        let mut attrs = Vec::new();
        let call = lock(&self.call).take();
        let (mutation, noted) = match call {
            // It ran as it will be redone, and has moved its locks.
            Some((call, noted)) => (Some(call), Some(noted)),
            None => {
                let captured = self.captured()?;
                let locks = captured.iter().flat_map(|captured| &captured.locks);
                attrs.extend(site.moves_attrs(locks));
                (captured, None)
            }
        };
        let Some(mut mutation) = mutation else { return Ok(Commitment::default()) };
        if let Body::Rows(ops) = &mutation.body
            && let Some(mut ids) = site.row_ids()?
        {
            if ids.lists_inserts(ops) {
                Arc::make_mut(&mut ids).note_inserts(ops);
                attrs.extend(site.row_ids_attr(&ids));
            }
            mutation.ids = ids.mentioned_by(ops, &mutation.places);
        }
        let mut uid = [0; 8];
        site.0.env.fill_random(&mut uid);
        let called = noted.as_ref().and_then(|noted| noted.called.as_deref());
        *lock(&self.tables) = site.0.watch.commit_tables(&mutation, called);
        if let Some(noted) = noted {
            site.0.watch.note(uid, noted);
        }
        let (seq, base, now) = (site.last_seq() + 1, site.base().0, site.0.env.now_ms());
        let new = |mutation: &Mutation| MutationRecord::new(seq, base, now, uid, mutation);
        let saw = self.what_was_seen(&site, &mutation);
        let done = mutation.ops().len();
        if let Body::Rows(ops) = &mut mutation.body
            && done + saw.len() <= limits::MUTATION_OPS_MAX
        {
            ops.extend(saw);
        }
        let mut record = new(&mutation);
        if let Body::Rows(ops) = &mut mutation.body
            && ops.len() > done
            && limits::check_mutation(record.bytes.len()).is_err()
        {
            // What would make it too large is not said.
            ops.truncate(done);
            record = new(&mutation);
        }
        limits::check_mutation(record.bytes.len())?;
        Ok(Commitment { mutation: Some(PendingMutation::from(record)), attrs })
    }

    fn after_commit(&self, saved: bool) {
        let tables = lock(&self.tables).take();
        if let Some(capture) = self.capture.get() {
            capture.clear();
        }
        if !saved {
            // The draft's schema is cached under a number that the next draft may use for another.
            *lock(&self.readers) = None;
        }
        if saved && let Some(site) = self.site.upgrade() {
            site.watch.committed(tables);
            Site(site).notify();
        }
    }
}

fn not_installed() -> Error {
    Error::new(ErrorKind::Internal, "the capture of this connection was not installed once")
}
