//! A site on this device: ordinary SQLite connections over one volume, and its timeline.
//!
//! Invariants: a local transaction and its mutation are one atomic record; readers never wait for
//! the writer, a rebase or the network (except for a page that is not here). Leaves out talking:
//! whoever owns the connection to a node or bucket calls `integrate`, `outbox` and `lead`.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use sheaf_volume::{
    CommitHash, DeviceId, Dir, Durability, Env, Error, ErrorKind, Lsn, PageSize, Remote, Result,
    SiteId, TimelineId, Volume, VolumeId, VolumeOptions,
};

use crate::clock;
use crate::error::{from_sqlite, kind_number, sqlite_detail};
use crate::locks::{self, OwnWaiting};
use crate::merges::Registered;
use crate::mutation::{Body, Mutation};
use crate::rebase::RebaseConnection;
use crate::replay::Outcome;
use crate::rowids::RowIds;
use crate::sink::LocalSink;
use crate::timeline::Decided;
use crate::vfs::{self, DraftSlot, Failure, FileSpec, FileView, OpenName};

const ATTR_SITE: &str = "site/id";
const ATTR_NAME: &str = "site/name";
const ATTR_DEVICE: &str = "site/device";
pub(crate) const ATTR_TIMELINE: &str = "timeline/id";
pub(crate) const ATTR_DECIDED: &str = "timeline/decided";
pub(crate) const ATTR_ROW_IDS: &str = "timeline/row-ids";
/// Statements each connection keeps prepared.
const STATEMENT_CACHE: usize = 64;

/// The ids of a site and its main volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteIds {
    /// The site.
    pub site: SiteId,
    /// Its main volume.
    pub volume: VolumeId,
    /// Bytes per page.
    pub page_size: PageSize,
}

/// How to open a site.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// Its name, as people write it.
    pub name: String,
    /// The device whose replica this is.
    pub device: DeviceId,
    /// Ids for a site that is not on this device yet; `None` makes new ones.
    pub create: Option<SiteIds>,
    /// Bytes per page of a site that gets new ids here.
    pub page_size: PageSize,
    /// Pages of the decoded page cache.
    pub cache_pages: usize,
    /// See [`VolumeOptions::memory_bytes`].
    pub memory_bytes: usize,
}

impl SiteOptions {
    /// Options with new ids and the usual cache.
    #[must_use]
    pub fn new(name: impl Into<String>, device: DeviceId) -> Self {
        let VolumeOptions { cache_pages, memory_bytes, .. } = VolumeOptions::default();
        let page_size = PageSize::DEFAULT;
        Self { name: name.into(), device, create: None, page_size, cache_pages, memory_bytes }
    }
}

/// Which state of a site a connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What is agreed plus this device's own mutations; writable.
    Local,
    /// What everybody has agreed on, as far as this device knows.
    Global,
    /// The agreed state at a position of the log.
    At(Lsn),
    /// The agreed state at a time, milliseconds since 1970.
    AtTime(u64),
}

/// A site on this device. Cheap to clone.
#[derive(Clone)]
pub struct Site(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) volume: Volume,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) device: DeviceId,
    /// The attribute of that name, read: the bytes are kept, so that no others have their place.
    row_ids: Mutex<Option<(Bytes, Arc<RowIds>)>>,
    pub(crate) merges: Registered,
    pub(crate) schema_bias: Arc<AtomicU32>,
    pub(crate) rebase: Mutex<Option<RebaseConnection>>,
    writer: Mutex<Option<LocalConnection>>,
    global_name: OpenName,
    /// The newest position of the log that this device has heard of since it opened the site.
    pub(crate) heard: AtomicU64,
    /// Page size of the site that this replica could not become.
    pub(crate) refused_size: Mutex<Option<PageSize>>,
    listeners: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    /// What the outbox has handed out since opening.
    pub(crate) offered_bytes: AtomicU64,
    pub(crate) watch: crate::watch::Hub,
    pub(crate) deeds: Mutex<crate::history::Deeds>,
}

/// A writable connection with its capture.
pub(crate) struct LocalConnection {
    pub(crate) conn: Connection,
    pub(crate) sink: Arc<LocalSink>,
    pub(crate) failure: Arc<Failure>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("name", &self.name()).field("ids", &self.ids()).finish()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    /// Opens the replica in this directory, or creates it.
    ///
    /// # Errors
    /// `Busy` when another process has it open, `Corrupt`, `Unsupported` or `Io`.
    pub fn open(dir: &dyn Dir, env: Arc<dyn Env>, options: SiteOptions) -> Result<Self> {
        vfs::register()?;
        let ids = options.create.unwrap_or_else(|| SiteIds {
            site: SiteId::mint(&*env),
            volume: VolumeId::mint(&*env),
            page_size: options.page_size,
        });
        let create = Some((ids.volume, ids.page_size));
        let volume_options = VolumeOptions {
            create,
            cache_pages: options.cache_pages,
            memory_bytes: options.memory_bytes,
            children: Some(vfs::children),
        };
        let volume = Volume::open(dir, Arc::clone(&env), volume_options)?;
        if volume.attr(ATTR_SITE).is_none() {
            let timeline = TimelineId::mint(&*env);
            let attr = |name: &str, bytes: &[u8]| (name.to_owned(), Some(bytes.to_vec().into()));
            volume.set_attrs(vec![
                attr(ATTR_SITE, ids.site.as_bytes()),
                attr(ATTR_NAME, options.name.as_bytes()),
                attr(ATTR_DEVICE, options.device.as_bytes()),
                attr(ATTR_TIMELINE, timeline.as_bytes()),
            ])?;
        }
        let schema_bias = Arc::new(AtomicU32::new(0));
        let global_name = OpenName::new(
            &env,
            FileSpec {
                volume: volume.clone(),
                view: FileView::Global,
                failure: Arc::default(),
                schema_bias: Arc::clone(&schema_bias),
            },
        );
        Ok(Self(Arc::new(Inner {
            volume,
            env,
            device: options.device,
            schema_bias,
            row_ids: Mutex::default(),
            merges: Registered::default(),
            rebase: Mutex::new(None),
            writer: Mutex::new(None),
            global_name,
            heard: AtomicU64::new(0),
            refused_size: Mutex::default(),
            listeners: Mutex::default(),
            offered_bytes: AtomicU64::new(0),
            watch: crate::watch::Hub::default(),
            deeds: Mutex::new(crate::history::Deeds::open(dir)),
        })))
    }

    /// The site's ids; the volume's is provisional until first contact.
    #[must_use]
    pub fn ids(&self) -> SiteIds {
        let volume = &self.0.volume;
        let site = volume.attr(ATTR_SITE).and_then(|bytes| SiteId::try_from(&*bytes).ok());
        SiteIds {
            site: site.unwrap_or(SiteId::from_bytes([0; 16])),
            volume: volume.id(),
            page_size: volume.page_size(),
        }
    }

    pub(crate) fn site_attr(id: SiteId) -> (String, Option<Bytes>) {
        (ATTR_SITE.to_owned(), Some(id.as_bytes().to_vec().into()))
    }

    /// The site's name.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.0.volume.attr(ATTR_NAME).unwrap_or_default();
        String::from_utf8_lossy(&name).into_owned()
    }

    /// This device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.0.device
    }

    /// This device's timeline for this site.
    #[must_use]
    pub fn timeline(&self) -> TimelineId {
        let id = self.0.volume.attr(ATTR_TIMELINE);
        id.and_then(|bytes| TimelineId::try_from(&*bytes).ok())
            .unwrap_or(TimelineId::from_bytes([0; 16]))
    }

    /// How far the log has decided this timeline.
    pub(crate) fn decided(&self) -> Decided {
        let bytes = self.0.volume.attr(ATTR_DECIDED);
        bytes.and_then(|bytes| Decided::decode(&bytes)).unwrap_or_default()
    }

    /// Which rows of this device's own are shown under numbers that are a guess.
    ///
    /// `None` for the usual case that there are none.
    ///
    /// # Errors
    /// `Invalid` for a damaged attribute.
    pub(crate) fn row_ids(&self) -> Result<Option<Arc<RowIds>>> {
        let Some(bytes) = self.0.volume.attr(ATTR_ROW_IDS) else { return Ok(None) };
        let mut read = lock(&self.0.row_ids);
        if let Some((known, ids)) = &*read
            && known.as_ptr_range() == bytes.as_ptr_range()
        {
            return Ok(Some(Arc::clone(ids)));
        }
        let ids = Arc::new(RowIds::decode(&bytes)?);
        *read = Some((bytes, Arc::clone(&ids)));
        Ok(Some(ids))
    }

    /// The volume below.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.0.volume
    }

    /// The global position and hash this replica is based on.
    #[must_use]
    pub fn base(&self) -> (Lsn, CommitHash) {
        self.0.volume.base()
    }

    /// Where missing pages are fetched from.
    pub fn set_remote(&self, remote: Option<Arc<dyn Remote>>) {
        self.0.volume.set_remote(remote);
    }

    /// Calls `f` after every local commit that made a mutation. It must return at once.
    pub fn on_commit(&self, f: impl Fn() + Send + Sync + 'static) {
        lock(&self.0.listeners).push(Box::new(f));
    }

    pub(crate) fn notify(&self) {
        for listener in &*lock(&self.0.listeners) {
            listener();
        }
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// An ordinary SQLite connection. `Local` is writable and everything it commits is captured;
    /// the other views are read-only.
    ///
    /// # Errors
    /// `NotFound` for a position that does not exist, `Unavailable` when a page is missing and
    /// cannot be fetched.
    pub fn connection(&self, view: View) -> Result<Connection> {
        let file = match view {
            View::Local => return Ok(self.open_local()?.conn),
            View::Global => FileView::Global,
            View::At(lsn) => FileView::At(self.0.volume.at(lsn)?),
            View::AtTime(time_ms) => {
                let lsn = self.0.volume.lsn_at_time(time_ms)?;
                FileView::At(self.0.volume.at(lsn)?)
            }
        };
        let (conn, _) = self.open_file(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(conn)
    }

    /// A connection to a file view, and where its errors are kept.
    pub(crate) fn open_file(
        &self,
        view: FileView,
        flags: OpenFlags,
    ) -> Result<(Connection, Arc<Failure>)> {
        let failure: Arc<Failure> = Arc::default();
        let spec = FileSpec {
            volume: self.0.volume.clone(),
            view,
            failure: Arc::clone(&failure),
            schema_bias: Arc::clone(&self.0.schema_bias),
        };
        let name = OpenName::new(&self.0.env, spec);
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let conn = Connection::open_with_flags_and_vfs(name.as_str(), flags, vfs::VFS_NAME)?;
            conn.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
            // SQLite would begin an empty database with its own default.
            conn.pragma_update(None, "page_size", self.0.volume.page_size().get())?;
            // The journal that the VFS serves; SQLite's own in memory keeps every page.
            conn.pragma_update(None, "journal_mode", "delete")?;
            // SQLite's own default would flush at every commit; ours groups flushes (DESIGN 4.1).
            conn.pragma_update(None, "synchronous", "normal")?;
            self.register_functions(&conn, &failure)?;
            crate::mutator::register_functions(&conn, Arc::clone(&self.0.env))?;
            crate::siblings::register(&conn)?;
            crate::positions::register(&conn)?;
            crate::watch::register_functions(self, &conn)?;
            Ok(conn)
        };
        let conn = open().map_err(|e| sqlite_detail(e, &failure))?;
        Ok((conn, failure))
    }

    fn register_functions(
        &self,
        conn: &Connection,
        failure: &Arc<Failure>,
    ) -> rusqlite::Result<()> {
        use rusqlite::functions::FunctionFlags;
        let kept = Arc::clone(failure);
        conn.create_scalar_function(
            "sheaf_failure_kind",
            0,
            FunctionFlags::SQLITE_UTF8,
            move |_| Ok(kept.kind().and_then(kind_number)),
        )?;
        let failure = Arc::clone(failure);
        // The reason behind the last result code of this connection that could not carry one.
        conn.create_scalar_function("sheaf_failure", 0, FunctionFlags::SQLITE_UTF8, move |_| {
            Ok(failure.take().map(|error| error.to_string()))
        })?;
        let global = self.0.global_name.as_str().to_owned();
        // ATTACH sheaf_view('global') AS global
        conn.create_scalar_function("sheaf_view", 1, FunctionFlags::SQLITE_UTF8, move |ctx| {
            match ctx.get::<String>(0)?.as_str() {
                "global" => Ok(global.clone()),
                other => Err(rusqlite::Error::UserFunctionError(
                    format!("no view `{other}`; there is `global`").into(),
                )),
            }
        })
    }

    pub(crate) fn open_local(&self) -> Result<LocalConnection> {
        let slot: Arc<DraftSlot> = Arc::default();
        let sink = Arc::new(LocalSink::new(self.downgrade(), Arc::clone(&slot)));
        let view = FileView::Local { slot, sink: Some(Arc::clone(&sink) as _) };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let (mut conn, failure) = self.open_file(view, flags)?;
        sink.install(&mut conn)?;
        crate::rules::register(&conn).map_err(from_sqlite)?;
        crate::siblings::register_writing(&conn).map_err(from_sqlite)?;
        crate::merges::register(&conn).map_err(from_sqlite)?;
        let waiting = OwnWaiting(self.downgrade());
        sink.with_capture(|capture| locks::register(&conn, capture, waiting).map_err(from_sqlite))?;
        Ok(LocalConnection { conn, sink, failure })
    }

    /// Runs `f` in a write transaction and commits it; gives the sequence number of its mutation,
    /// or `None` when it changed nothing that others need to know.
    ///
    /// # Errors
    /// Whatever `f` returns (nothing is changed then), `Busy` while another connection writes,
    /// `Io` when the disk fails.
    pub fn write<T>(
        &self,
        f: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>,
    ) -> Result<(T, Option<u64>)> {
        self.write_with(Durability::Normal, f)
    }

    /// As [`Site::write`], returning once the commit is as durable as asked for.
    ///
    /// # Errors
    /// As [`Site::write`].
    pub fn write_with<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>,
    ) -> Result<(T, Option<u64>)> {
        let level = match durability {
            Durability::Memory => "OFF",
            Durability::Normal => "NORMAL",
            Durability::Local => "FULL",
        };
        self.with_writer(|local| {
            local.conn.pragma_update(None, "synchronous", level).map_err(from_sqlite)?;
            let before = self.last_seq();
            let immediate = TransactionBehavior::Immediate;
            let tx = rusqlite::Transaction::new_unchecked(&local.conn, immediate)
                .map_err(|e| sqlite_detail(e, &local.failure))?;
            let value = f(&tx)?;
            tx.commit().map_err(|e| sqlite_detail(e, &local.failure))?;
            let after = self.last_seq();
            Ok((value, (after > before).then_some(after)))
        })
    }

    /// Lends the site's own writing connection.
    pub(crate) fn with_writer<T>(
        &self,
        f: impl FnOnce(&LocalConnection) -> Result<T>,
    ) -> Result<T> {
        let mut writer = lock(&self.0.writer);
        let local = match writer.take() {
            Some(local) => local,
            None => self.open_local()?,
        };
        let result = f(&local);
        // A connection that is stuck in a transaction is not kept.
        if local.conn.is_autocommit() {
            *writer = Some(local);
        }
        result
    }

    /// Takes note of how far the log goes, for [`Site::status`].
    pub fn heard_of(&self, lsn: Lsn) {
        self.0.heard.fetch_max(lsn.0, Ordering::Relaxed);
    }

    /// The page size of the site that [`Site::adopt`] refused last, because this replica was made
    /// with another; a replica made with that size can adopt it.
    #[must_use]
    pub fn refused_page_size(&self) -> Option<PageSize> {
        *lock(&self.0.refused_size)
    }

    /// The newest sequence number given out.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.0.volume.last_pending_seq().unwrap_or_else(|| self.decided().seq)
    }

    /// As [`Site::connection`], but only for reading.
    ///
    /// # Errors
    /// As [`Site::connection`].
    pub fn reader(&self, view: View) -> Result<Connection> {
        match view {
            View::Local => {
                let local = FileView::Local { slot: Arc::default(), sink: None };
                Ok(self.open_file(local, OpenFlags::SQLITE_OPEN_READ_ONLY)?.0)
            }
            other => self.connection(other),
        }
    }

    /// Reads a view in one transaction.
    ///
    /// # Errors
    /// Whatever `f` returns, and as [`Site::connection`].
    pub fn read<T>(&self, view: View, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let conn = self.reader(view)?;
        conn.execute_batch("BEGIN").map_err(from_sqlite)?;
        f(&conn)
    }

    /// Defines a named mutator: a SQL script with named parameters. It travels like any row.
    ///
    /// # Errors
    /// `Invalid` when the script does not parse.
    pub fn define_mutator(&self, name: &str, sql: &str) -> Result<()> {
        self.write(|tx| crate::mutator::define(tx, name, sql)).map(|_| ())
    }

    /// Runs a named mutator with arguments from a JSON object; gives its sequence number.
    ///
    /// # Errors
    /// `NotFound` for an unknown mutator, `Invalid` when it refuses or the arguments are wrong;
    /// nothing is changed then.
    pub fn mutate(&self, name: &str, args: &serde_json::Value) -> Result<u64> {
        let mut seed = [0; 32];
        self.0.env.fill_random(&mut seed);
        let time_ms = self.0.env.now_ms();
        let args = crate::value::args_from_json(args)?;
        let body = Body::Call { name: name.to_owned(), args, seed, time_ms };
        let mutation = Mutation::new(body, true);
        self.with_writer(|local| {
            let immediate = TransactionBehavior::Immediate;
            let tx = rusqlite::Transaction::new_unchecked(&local.conn, immediate)
                .map_err(|e| sqlite_detail(e, &local.failure))?;
            let seq = self.last_seq() + 1;
            let context = crate::replay::ReplayContext {
                timeline: self.timeline(),
                seq,
                base: self.base().0,
                target: self.base().0.next(),
                authority: false,
                device: self.0.device,
                time_ms,
            };
            let merges = self.merges();
            let mut remap = crate::replay::Remap::new(merges);
            let run = || {
                local.sink.with_capture(|capture| {
                    crate::replay::replay(&tx, capture, &context, &mut remap, &mutation)
                })
            };
            let replayed = clock::with_time(time_ms, run)?;
            match replayed.outcome {
                Outcome::Applied { .. } => {}
                Outcome::Rejected { reason } | Outcome::Asks { reason } => {
                    return Err(Error::invalid(reason));
                }
                Outcome::Undecided { reason } => {
                    return Err(Error::new(ErrorKind::Unsupported, reason));
                }
            }
            local.sink.expect_call(replayed.recaptured.unwrap_or(mutation), remap.noted);
            let committed = tx.commit();
            local.sink.forget_call();
            committed.map_err(|e| sqlite_detail(e, &local.failure))?;
            Ok(seq)
        })
    }
}
