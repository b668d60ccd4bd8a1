//! One site on this device: the replica, its flusher, and the way to its server.
//!
//! Invariant: everything that runs for a site has ended when its last handle is dropped, so that
//! its directory can be opened again at once.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, Transaction};
use sheaf_site::{
    Asking, Custom, Error, ErrorKind, Imported, PendingInfo, RejectedInfo, Restored, Result,
    RuleInfo, Sides, View,
};
use sheaf_volume::{
    DeviceId, Dir as _, Evicted, LocalLsn, Lsn, Remote, SiteId, StdDir, TimelineId, VolumeId,
};

use crate::{
    bucket::Bucket,
    client::{Client, Departure, Shared},
    clock,
    exchange::{Ask, Exchange},
    flush::Flusher,
    link::Link,
    log::{self, LogEntry},
    server::Server,
    subscribe::Crew,
    traffic::Meter,
};

/// Attribute of the volume that remembers the server.
pub(crate) const ATTR_SERVER: &str = "client/server";

/// Attribute of the volume that remembers how much of it may stay here: 8 bytes, bytes of pages.
const ATTR_CACHE_SIZE: &str = "client/cache-size";

/// Attribute of the volume that notes a fork under way.
pub(crate) const ATTR_FORK: &str = "client/fork";

/// A site on this device. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Site(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// Declared in the order in which they must end: whoever works for the site first, the
    /// flusher after the last commit, the replica last.
    way: Mutex<Option<Way>>,
    _flusher: Flusher,
    site: sheaf_site::Site,
    /// No network is used for it.
    offline: AtomicBool,
    dir: StdDir,
    departure: Departure,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A replica at rest should not keep a long log of superseded pages. Nobody is left to tell
        // of a failure; the log is as good as it was, and the next opening says what is wrong.
        let volume = self.site.volume();
        volume.tidy().ok();
        if let Some(max) = volume.attr(ATTR_CACHE_SIZE).and_then(|b| b.as_ref().try_into().ok())
            && let Some(writer) = volume.try_writer()
        {
            volume.evict(&writer, u64::from_le_bytes(max)).ok();
        }
    }
}

/// How a site reaches its server.
#[derive(Clone, Debug)]
enum Way {
    Node { server: Server, link: Arc<Link>, _attached: Arc<Attached> },
    Bucket { server: Server, bucket: Arc<Bucket> },
}

/// A site that a link knows of; it is made to forget it when dropped.
#[derive(Debug)]
struct Attached {
    link: Arc<Link>,
    name: String,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.link.detach(&self.name);
    }
}

/// The state of a site on this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its id.
    pub site: SiteId,
    /// Its main volume.
    pub volume: VolumeId,
    /// This device.
    pub device: DeviceId,
    /// This device's timeline.
    pub timeline: TimelineId,
    /// The server it is exchanged with, if it has one.
    pub server: Option<String>,
    /// Whether it is kept exchanged in the background and the server answers.
    pub online: bool,
    /// The newest local state.
    pub head: LocalLsn,
    /// The newest local state that equals a global one: the one at `base`.
    pub base_local: LocalLsn,
    /// Number of the newest own mutation that the log has decided.
    pub acknowledged: u64,
    /// The newest position of the log that this device has heard of since it opened the site.
    pub remote: Lsn,
    /// The position this replica is based on.
    pub base: Lsn,
    /// When that commit was made, milliseconds since 1970.
    pub base_time_ms: u64,
    /// Pages at the head.
    pub page_count: u32,
    /// Pages whose content is here.
    pub pages_present: u64,
    /// Pages whose content is fetched when somebody reads them.
    pub pages_pending: u64,
    /// Own mutations that the log has not decided, oldest first.
    pub pending: Vec<PendingInfo>,
    /// Own mutations that were rejected and not dismissed.
    pub rejected: Vec<RejectedInfo>,
    /// Bytes on this device's disk.
    pub local_bytes: u64,
    /// Whether an earlier disk error closed this replica.
    pub poisoned: bool,
}

impl Status {
    /// How many own mutations wait to be sent or decided.
    #[must_use]
    pub fn unpushed(&self) -> usize {
        self.pending.len()
    }
}

impl Site {
    /// Takes over an opened replica. `server` is the one the user names now; without it the site
    /// keeps the one it remembers.
    pub(crate) fn new(
        client: Arc<Shared>,
        site: sheaf_site::Site,
        dir: StdDir,
        server: Option<&Server>,
    ) -> Result<Self> {
        let flusher = Flusher::start(site.volume().clone())?;
        let dirt = flusher.dirt();
        site.on_commit(move || dirt.note());
        let remembered = site.volume().attr(ATTR_SERVER);
        let remembered = remembered.and_then(|url| String::from_utf8(url.to_vec()).ok());
        let server = match (server, &remembered) {
            (Some(server), Some(known)) if server.as_str() == known => Some(server.clone()),
            (Some(server), _) => {
                let url = server.as_str().as_bytes().to_vec().into();
                site.volume().set_attrs(vec![(ATTR_SERVER.to_owned(), Some(url))])?;
                Some(server.clone())
            }
            (None, Some(known)) => Some(Server::parse(known)?),
            (None, None) => None,
        };
        let departure = Departure { client, name: site.name() };
        let (way, offline) = (Mutex::default(), AtomicBool::new(false));
        let inner = Inner { way, _flusher: flusher, site, offline, dir, departure };
        *inner.lock() = server.map(|server| inner.connect(server)).transpose()?;
        Ok(Self(Arc::new(inner)))
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.0.site.name()
    }

    /// The replica below, for what this crate does not wrap.
    #[must_use]
    pub fn engine(&self) -> &sheaf_site::Site {
        &self.0.site
    }

    /// Who runs the queries of this client.
    pub(crate) fn crew(&self) -> &Crew {
        self.0.departure.client.crew()
    }

    /// An ordinary SQLite connection to one of the site's states; `Local` is writable.
    ///
    /// # Errors
    /// `NotFound` for a position that does not exist, `Unavailable` when a page is missing and
    /// cannot be fetched.
    pub fn connection(&self, view: View) -> Result<Connection> {
        self.0.site.connection(view)
    }

    /// Runs `f` in a write transaction and commits it; gives the number of its mutation, or
    /// `None` when nothing changed.
    ///
    /// # Errors
    /// Whatever `f` returns (nothing is changed then), `Busy` while another connection writes,
    /// `Io` when the disk fails.
    pub fn write<T>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<(T, Option<u64>)> {
        self.0.site.write(f)
    }

    /// Reads a view in one transaction.
    ///
    /// # Errors
    /// Whatever `f` returns, and as [`Site::connection`].
    pub fn read<T>(&self, view: View, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.0.site.read(view, f)
    }

    /// Gives up every mutation that the log has not decided: the local state becomes the global
    /// one. `keep` runs before, while nobody can write, and stops it by an error: the place to
    /// export what is given up. Gives how many.
    ///
    /// # Errors
    /// Whatever `keep` returns, `Io`.
    pub fn reset(&self, keep: impl FnOnce() -> Result<()>) -> Result<usize> {
        self.0.site.give_up_pending(keep)
    }

    /// Runs a named mutator with arguments from a JSON object; gives its number.
    ///
    /// # Errors
    /// `NotFound` for an unknown mutator, `Invalid` when it refuses or the arguments are wrong.
    pub fn mutate(&self, name: &str, args: &serde_json::Value) -> Result<u64> {
        self.0.site.mutate(name, args)
    }

    /// Defines a named mutator: a SQL script with named parameters. It travels like any row.
    ///
    /// # Errors
    /// `Invalid` when the script does not parse.
    pub fn define_mutator(&self, name: &str, sql: &str) -> Result<()> {
        self.0.site.define_mutator(name, sql)
    }

    /// The merge rules of a table as this device sees it, or of all tables.
    ///
    /// # Errors
    /// `NotFound` if there is no such table, `Unavailable` when a page cannot be fetched.
    pub fn rules(&self, table: Option<&str>) -> Result<Vec<RuleInfo>> {
        self.0.site.rules(table)
    }

    /// Declares the merge rule of a column by its name, or with column `*` the row policy of a
    /// table; `None` takes a declaration back. It travels like any row. Gives what is stored.
    ///
    /// # Errors
    /// `NotFound` if there is no such table or column, `Invalid` for a rule that there is not, or
    /// that does not go with the column's type.
    pub fn merge_rule(
        &self,
        table: &str,
        column: &str,
        rule: Option<&str>,
    ) -> Result<Option<String>> {
        self.0.site.merge_rule(table, column, rule)
    }

    /// Defines the function of the merge rule `custom:NAME`: an SQL expression over `:base`,
    /// `:left` and `:right`. It travels like any row. `None` takes it back.
    ///
    /// # Errors
    /// `Invalid` for a name or an expression that cannot be.
    pub fn define_merge(&self, name: &str, sql: Option<&str>) -> Result<()> {
        self.0.site.define_merge(name, sql)
    }

    /// Registers a function for the merge rule `custom:NAME` in this process, where the site
    /// defines none of that name. It must be pure, and whoever orders the site's mutations must
    /// have it too: without it they are rejected.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be.
    pub fn register_merge(
        &self,
        name: &str,
        function: impl Fn(Sides<'_>) -> Custom + Send + Sync + 'static,
    ) -> Result<()> {
        self.0.site.register_merge(name, function)
    }

    /// Takes over an ordinary database file; `progress` is told the rows done so far.
    ///
    /// # Errors
    /// `Invalid` when the file is not a database or its tables are here already, `Io`.
    pub fn import(&self, file: &Path, progress: &mut dyn FnMut(u64)) -> Result<Imported> {
        self.0.site.import_file(file, progress)
    }

    /// Writes one of the site's states as an ordinary database file.
    ///
    /// # Errors
    /// `Unavailable` when a page is missing and cannot be fetched, `Io`.
    pub fn export(&self, view: View, file: &Path) -> Result<()> {
        self.0.site.export_file(view, file)
    }

    /// Makes the local state equal to a view, as one mutation on top of what was done since; with
    /// `dry_run`, only says what that would change.
    ///
    /// # Errors
    /// As [`Site::connection`] for the view; `Limit` when more differs than one mutation may
    /// change. Nothing is changed then.
    pub fn restore(&self, view: View, dry_run: bool) -> Result<Restored> {
        self.0.site.restore(view, dry_run)
    }

    /// Forgets one rejected mutation, once its author has seen it; whether it was there.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_rejected(&self, seq: u64) -> Result<bool> {
        self.0.site.dismiss_rejected(seq)
    }

    /// Forgets the rejected mutations up to this number; how many there were.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_rejected_through(&self, seq: u64) -> Result<usize> {
        self.0.site.dismiss_rejected_through(seq)
    }

    /// The own change that waits for its author, because a lock with the mode `ask` has failed:
    /// nothing from it on is pushed before [`Site::go_on`] or [`Site::withdraw`].
    /// [`crate::Event::Asks`] tells when one begins to.
    #[must_use]
    pub fn asking(&self) -> Option<Asking> {
        self.0.site.asking()
    }

    /// Says that its author has seen what is there now and wants the change that asks all the
    /// same, and those after it that take the same locks. They ask again if a lock moves before
    /// they arrive.
    ///
    /// # Errors
    /// `Conflict` if that change does not ask (any more); `Unavailable` when a page that redoing
    /// needs cannot be fetched; `Io`.
    pub fn go_on(&self, seq: u64) -> Result<()> {
        self.0.site.go_on(seq)
    }

    /// Gives up the change that asks, which is kept among the rejected ones; those after it go on.
    ///
    /// # Errors
    /// As [`Site::go_on`].
    pub fn withdraw(&self, seq: u64) -> Result<()> {
        self.0.site.withdraw(seq)
    }

    /// Fetches every page that is not here; `progress` is told done and total.
    ///
    /// # Errors
    /// `Unavailable` without a server that answers.
    pub fn hydrate(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        self.0.site.volume().hydrate(progress)
    }

    /// Drops pages that the server has until those that are left take at most `bytes_max`; how many
    /// were dropped. Whoever reads one of them fetches it again. With `remember` the same is done
    /// whenever the site is closed.
    ///
    /// # Errors
    /// `Invalid` without a server, `Busy` while somebody writes, `Io`.
    pub fn evict(&self, bytes_max: u64, remember: bool) -> Result<Evicted> {
        // Without a server they could not be had again.
        drop(self.0.way()?);
        let volume = self.0.site.volume();
        if remember {
            let value = Some(bytes_max.to_le_bytes().to_vec().into());
            volume.set_attrs(vec![(ATTR_CACHE_SIZE.to_owned(), value)])?;
        }
        let Some(writer) = volume.try_writer() else {
            let text = "the site is being written; try again when that has ended";
            return Err(Error::new(ErrorKind::Busy, text));
        };
        volume.evict(&writer, bytes_max)
    }

    /// Bytes of own changes that have been handed out to the server since the site was opened, and
    /// of those that wait. For displays of progress.
    #[must_use]
    pub fn push_progress(&self) -> (u64, u64) {
        (self.0.site.offered_bytes(), self.0.site.pending_bytes(0))
    }

    /// Where the site stands. Walks the page map: meant for people.
    #[must_use]
    pub fn status(&self) -> Status {
        let status = self.0.site.status();
        let (server, online) = self.0.is_online(&status.name);
        Status {
            name: status.name,
            site: status.site,
            volume: status.volume,
            device: status.device,
            timeline: status.timeline,
            server,
            online,
            head: status.head,
            base_local: status.base_local,
            acknowledged: status.acknowledged,
            remote: status.remote,
            base: status.base,
            base_time_ms: status.base_time_ms,
            page_count: status.page_count,
            pages_present: status.pages_present,
            pages_pending: status.pages_pending,
            pending: status.pending,
            rejected: status.rejected,
            local_bytes: self.0.local_bytes(),
            poisoned: status.poisoned,
        }
    }

    /// Whether the site is kept exchanged in the background and the server answers: cheap, unlike
    /// [`Site::status`], which says so too.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.0.is_online(&self.name()).1
    }

    /// Pulls and pushes until this replica has everything the server had, and the server has
    /// everything this replica had, when this was called. Creates the site there if need be. What
    /// it brings about is told as events too.
    ///
    /// # Errors
    /// `Invalid` without a server; `Unavailable` when it cannot be reached or does not answer in
    /// time, and after [`Site::go_offline`]; `Denied` when it refuses the token; or what it says
    /// about the site.
    pub fn exchange(&self, timeout: Duration) -> Result<Exchange> {
        let done = self.run(Ask::EVERYTHING, timeout)?;
        self.0.site.volume().tidy()?;
        Ok(done)
    }

    /// Pulls until this replica has everything the server had when this was called.
    ///
    /// # Errors
    /// As [`Site::exchange`]; `NotFound` when the server does not know the site.
    pub fn pull(&self, timeout: Duration) -> Result<Exchange> {
        self.run(Ask { pull: true, push: false, create: false }, timeout)
    }

    /// Pushes until the server has everything this replica had when this was called, and takes the
    /// commits that contain it.
    ///
    /// # Errors
    /// As [`Site::exchange`].
    pub fn push(&self, timeout: Duration) -> Result<Exchange> {
        self.run(Ask { pull: false, push: true, create: true }, timeout)
    }

    /// Keeps the site exchanged in the background until [`Site::go_offline`]: others' commits are
    /// taken when they are announced, own ones are pushed at once.
    ///
    /// # Errors
    /// `Invalid` without a server, `Io` when the system gives no thread.
    pub fn go_online(&self) -> Result<()> {
        let way = self.0.way()?;
        self.0.offline.store(false, Ordering::Release);
        self.0.attach_remote(&way);
        match &way {
            Way::Node { link, .. } => link.set_online(&self.name(), true),
            Way::Bucket { bucket, .. } => bucket.set_online(true)?,
        }
        Ok(())
    }

    /// Uses no network for this site any more: nothing is exchanged, not by asking either, and
    /// reading a page that is not here is `Unavailable`, until [`Site::go_online`] or
    /// [`Site::go_manual`].
    pub fn go_offline(&self) {
        let Some(way) = self.0.lock().clone() else { return };
        self.0.offline.store(true, Ordering::Release);
        self.0.stop_background(&way);
        self.0.site.set_remote(None);
    }

    /// The client that it belongs to, and its server.
    pub(crate) fn home(&self) -> Result<(Client, Server)> {
        let client = Client::of(Arc::clone(&self.0.departure.client));
        Ok((client, self.0.way()?.server().clone()))
    }

    /// Exchanges the site when it is asked to and not in the background, and fetches missing pages
    /// when they are read: how a site is after it was opened.
    ///
    /// # Errors
    /// `Invalid` without a server.
    pub fn go_manual(&self) -> Result<()> {
        self.stand_alone().map(drop)
    }

    /// As [`Site::go_manual`]; gives its server.
    pub(crate) fn stand_alone(&self) -> Result<Server> {
        let way = self.0.way()?;
        self.0.stop_background(&way);
        self.0.offline.store(false, Ordering::Release);
        self.0.attach_remote(&way);
        Ok(way.server().clone())
    }

    /// Looks at the server now for a site that is online, instead of at the next turn or the next
    /// attempt to reach it; returns at once, and events tell what comes of it. Nothing for a site
    /// that is not online.
    pub fn look_now(&self) {
        match &*self.0.lock() {
            Some(Way::Node { link, .. }) => link.look_now(&self.name()),
            Some(Way::Bucket { bucket, .. }) => bucket.nudge().note_commit(),
            None => {}
        }
    }

    /// Runs `work` without the way to missing pages.
    pub(crate) fn without_pages<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.site.set_remote(None);
        let done = work();
        if let Ok(way) = self.0.way()
            && !self.0.offline.load(Ordering::Acquire)
        {
            self.0.attach_remote(&way);
        }
        done
    }

    /// The newest `limit` entries of the log before `before` (`None`: from its head), newest
    /// first, from the server.
    ///
    /// # Errors
    /// `Invalid` without a server, `Unavailable` when it cannot be reached, `Denied`.
    pub fn log(&self, limit: usize, before: Option<Lsn>) -> Result<Vec<LogEntry>> {
        let remote = self.0.remote(&self.0.way()?);
        log::read(remote.as_ref(), limit, before)
    }

    /// The log and pages as the server has them, for reading.
    pub(crate) fn log_source(&self) -> Result<Arc<dyn Remote>> {
        Ok(self.0.remote(&self.0.way()?))
    }

    fn run(&self, ask: Ask, timeout: Duration) -> Result<Exchange> {
        let way = self.0.way()?;
        if self.0.offline.load(Ordering::Acquire) {
            let text = format!(
                "site `{}` is offline because somebody wished it: go online first",
                self.name()
            );
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        let began = clock::now_ms();
        let (tally, meter) = match &way {
            Way::Node { link, .. } => {
                let before = link.traffic().read();
                let tally = link.exchange(&self.name(), ask, timeout)?;
                (tally, link.traffic().read().since(before))
            }
            Way::Bucket { bucket, .. } => (bucket.exchange(ask)?, Meter::default()),
        };
        let ms = clock::now_ms().saturating_sub(began);
        Ok(Exchange::new(tally, self.0.site.base().0, meter, ms))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Option<Way>> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn way(&self) -> Result<Way> {
        self.lock().clone().ok_or_else(|| {
            let text = format!("site `{}` has no server: name one", self.site.name());
            Error::new(ErrorKind::Invalid, text)
        })
    }

    /// Sets up the way to a server; reaches for nobody yet.
    fn connect(&self, server: Server) -> Result<Way> {
        let name = self.site.name();
        let way = match &server {
            Server::Node(url) => {
                let link = self.departure.client.link(url)?;
                link.attach(&name, self.site.clone());
                let attached = Attached { link: Arc::clone(&link), name: name.clone() };
                let nudge = link.downgrade();
                self.site.on_commit(move || {
                    if let Some(link) = nudge.upgrade() {
                        link.note_commit(&name);
                    }
                });
                Way::Node { server, link, _attached: Arc::new(attached) }
            }
            Server::Bucket(url) => {
                let objects = self.departure.client.objects(url)?;
                let events = self.departure.client.events();
                let poller = self.departure.client.poller();
                let bucket = Bucket::new(url, self.site.clone(), objects, events, poller);
                let bucket = Arc::new(bucket);
                let nudge = bucket.nudge();
                self.site.on_commit(move || nudge.note_commit());
                Way::Bucket { server, bucket }
            }
        };
        self.attach_remote(&way);
        Ok(way)
    }

    fn stop_background(&self, way: &Way) {
        match way {
            Way::Node { link, .. } => link.set_online(&self.site.name(), false),
            // Only starting the poller can fail.
            Way::Bucket { bucket, .. } => drop(bucket.set_online(false)),
        }
    }

    /// The server, and whether the site is kept exchanged with it and it answers.
    fn is_online(&self, name: &str) -> (Option<String>, bool) {
        let way = self.lock();
        let Some(way) = &*way else { return (None, false) };
        let (is_wished, answers) = way.is_online(name);
        (Some(way.server().as_str().to_owned()), is_wished && answers)
    }

    /// Missing pages are fetched from there from now on.
    fn attach_remote(&self, way: &Way) {
        self.site.set_remote(Some(self.remote(way)));
    }

    fn remote(&self, way: &Way) -> Arc<dyn Remote> {
        let ids = self.site.ids();
        match way {
            Way::Node { link, .. } => link.remote(self.site.volume().lineage(), ids.page_size),
            Way::Bucket { bucket, .. } => bucket.remote(),
        }
    }

    fn local_bytes(&self) -> u64 {
        // A file that cannot be looked at is reported by whoever needs it.
        let size = |name: &String| self.dir.open(name).and_then(|file| file.len()).unwrap_or(0);
        self.dir.list().unwrap_or_default().iter().map(size).sum()
    }
}

impl Way {
    fn server(&self) -> &Server {
        match self {
            Self::Node { server, .. } | Self::Bucket { server, .. } => server,
        }
    }

    /// Whether it is wished online, and whether the server answers.
    fn is_online(&self, name: &str) -> (bool, bool) {
        match self {
            Self::Node { link, .. } => link.is_online(name),
            Self::Bucket { bucket, .. } => bucket.is_online(),
        }
    }
}
