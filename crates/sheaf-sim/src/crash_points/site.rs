//! A site under test: every operation leaves a row with its number and counts itself.
//!
//! Invariant: after a crash the operations found are the first so many, with exactly the rows that
//! plain SQLite gives for them; after an exchange everybody has each of them once. Leaves out
//! which pages hold them: see `volume.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_site::{Site, SiteIds, SiteOptions, View, explain, from_sqlite, rusqlite::Connection};
use sheaf_volume::{
    BucketRemote, DeviceId, Dir, Env, Error, ErrorKind, ManualEnv, MemDir, MemObjects, Objects,
    PageIdx, PageSize, Remote, Result, SiteId, VolumeId,
};

use super::flaky::{Answer, Flaky};
use super::recorder::{Recorder, copy_objects};
use super::{Bench, Checked, Setup, wrong};
use crate::disk::SimDisk;

const IDS: SiteIds = SiteIds {
    site: SiteId::from_bytes([1; 16]),
    volume: VolumeId::from_bytes([2; 16]),
    page_size: PageSize::DEFAULT,
};
const PROVISIONAL: SiteIds = SiteIds {
    site: SiteId::from_bytes([3; 16]),
    volume: VolumeId::from_bytes([4; 16]),
    page_size: PageSize::DEFAULT,
};

const SCHEMA: &str = "CREATE TABLE ledger(id INTEGER PRIMARY KEY, n COUNTER_INT);
    CREATE TABLE done(name TEXT PRIMARY KEY NOT NULL);
    CREATE TABLE t(id INTEGER PRIMARY KEY, v, b BLOB);
    INSERT INTO ledger VALUES (1, 0);";
const MUTATOR: &str = "UPDATE ledger SET n = n + 1 WHERE id = 1; INSERT INTO done VALUES (:name);";

pub(super) type Work = fn(&mut SiteBench) -> Result<()>;

pub(super) struct SiteBench {
    recorder: Arc<Recorder>,
    disk: SimDisk,
    setup: Setup,
    is_prepared: bool,
    work: Work,
    objects: Arc<MemObjects>,
    site: Option<Site>,
    log: Arc<BucketRemote>,
    other: Option<Site>,
    others: usize,
    /// What each operation did, for the twin; `None` for what it cannot follow.
    ops: Vec<Option<String>>,
    /// Identities of mutations that were handed out, by timeline and number, with the operations
    /// there were.
    handed: BTreeMap<([u8; 16], u64), (usize, Vec<u8>)>,
}

fn log_of(objects: &Arc<MemObjects>) -> Arc<BucketRemote> {
    let objects = Arc::clone(objects) as Arc<dyn Objects>;
    Arc::new(BucketRemote::new(objects, IDS.volume, IDS.page_size))
}

fn open_site(
    dir: &dyn Dir,
    env: Arc<dyn Env>,
    device: u8,
    ids: SiteIds,
    log: &Arc<BucketRemote>,
) -> Result<Site> {
    let device = DeviceId::from_bytes([device; 16]);
    let options = SiteOptions { create: Some(ids), ..SiteOptions::new("test", device) };
    let site = Site::open(dir, env, SiteOptions { cache_pages: 64, ..options })?;
    site.set_remote(Some(Arc::clone(log) as Arc<dyn Remote>));
    Ok(site)
}

fn batch(conn: &Connection, sql: &str) -> Result<()> {
    conn.execute_batch(sql).map_err(|error| explain(conn, error))
}

/// All rows of a query, as text.
fn rows(conn: &Connection, sql: &str) -> Result<Vec<String>> {
    let read = || {
        let mut statement = conn.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = (0..columns).map(|at| row.get_ref(at).map(|cell| format!("{cell:?}")));
            lines.push(cells.collect::<std::result::Result<Vec<_>, _>>()?.join("|"));
        }
        Ok(lines)
    };
    read().map_err(|error| explain(conn, error))
}

/// Every row of every table of people.
fn dump(conn: &Connection) -> Result<Vec<String>> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' \
                 ESCAPE '~' AND name NOT LIKE '~_~_sheaf%' ESCAPE '~' ORDER BY name";
    let mut statement = conn.prepare(names).map_err(from_sqlite)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0)).map_err(from_sqlite)?;
    let mut lines = Vec::new();
    for name in names {
        let name = name.map_err(from_sqlite)?;
        lines.extend(rows(conn, &format!("SELECT '{name}', * FROM \"{name}\" ORDER BY 1, 2"))?);
    }
    Ok(lines)
}

fn counted(sql: &str, name: &str) -> String {
    format!(
        "BEGIN; {sql}; UPDATE ledger SET n = n + 1 WHERE id = 1; \
         INSERT INTO done VALUES ('{name}'); COMMIT;"
    )
}

impl SiteBench {
    pub(super) fn new(is_prepared: bool, work: Work, setup: Setup) -> Self {
        let objects = Arc::new(MemObjects::new());
        let disk = SimDisk::new(setup.sector);
        Self {
            recorder: Recorder::new(disk.clone(), Arc::clone(&objects), setup.seed),
            disk,
            setup,
            is_prepared,
            work,
            site: None,
            log: log_of(&objects),
            objects,
            other: None,
            others: 0,
            ops: Vec::new(),
            handed: BTreeMap::new(),
        }
    }

    pub(super) fn site(&self) -> Result<Site> {
        self.site.clone().ok_or_else(|| Error::new(ErrorKind::Closed, "not open"))
    }

    fn open_as(&mut self, ids: SiteIds) -> Result<()> {
        let dir: Arc<dyn Dir> = match self.setup.wrap {
            Some(wrap) => wrap(&self.disk),
            None => Arc::new(self.disk.clone()),
        };
        let env = Arc::clone(&self.recorder) as Arc<dyn Env>;
        self.site = Some(open_site(&*dir, env, 1, ids, &self.log)?);
        Ok(())
    }

    pub(super) fn open(&mut self) -> Result<()> {
        self.open_as(IDS)
    }

    pub(super) fn open_as_stranger(&mut self) -> Result<()> {
        self.open_as(PROVISIONAL)
    }

    pub(super) fn adopt(&self) -> Result<()> {
        self.site()?.adopt(IDS, self.log.head()?)
    }

    fn durable(&self) {
        self.recorder.set_low(self.ops.len());
    }

    fn begin(&mut self, op: Option<String>) -> String {
        self.ops.push(op);
        self.recorder.set_high(self.ops.len());
        format!("a{:04}", self.ops.len())
    }

    /// One transaction of ours, grouped with later ones at the next flush.
    pub(super) fn op(&mut self, sql: &str) -> Result<()> {
        let conn = self.site()?.connection(View::Local)?;
        let name = self.begin(Some(sql.to_owned()));
        batch(&conn, &counted(sql, &name))
    }

    /// One transaction of ours that is flushed before it returns.
    pub(super) fn synced(&mut self, sql: &str) -> Result<()> {
        let conn = self.site()?.connection(View::Local)?;
        batch(&conn, "PRAGMA synchronous = FULL")?;
        let name = self.begin(Some(sql.to_owned()));
        batch(&conn, &counted(sql, &name))?;
        self.durable();
        Ok(())
    }

    /// A call of a mutator that does nothing but what every operation does.
    pub(super) fn call(&mut self) -> Result<()> {
        let site = self.site()?;
        let name = self.begin(Some("SELECT 1".to_owned()));
        site.mutate("count", &serde_json::json!({ "name": name })).map(drop)
    }

    /// Reads only what there is: no mutation, no state.
    pub(super) fn local(&self, sql: &str) -> Result<()> {
        batch(&self.site()?.connection(View::Local)?, sql)
    }

    pub(super) fn flush(&self) -> Result<()> {
        self.site()?.volume().flush()?;
        self.durable();
        Ok(())
    }

    pub(super) fn fold(&self) -> Result<()> {
        let volume = self.site()?.volume().clone();
        volume.checkpoint(&volume.writer())?;
        self.durable();
        Ok(())
    }

    pub(super) fn reopen(&mut self) -> Result<()> {
        self.site()?.volume().tidy()?;
        self.site = None;
        self.open()?;
        self.durable();
        Ok(())
    }

    /// Hands the pending mutations to a node, which may do anything with them.
    pub(super) fn hand_out(&mut self) -> Result<()> {
        if let Some(batch) = self.site()?.outbox(0, usize::MAX)? {
            for record in batch.mutations {
                let uid = record.bytes.get(..8).unwrap_or_default().to_vec();
                let key = (*batch.timeline.as_bytes(), record.seq);
                self.handed.insert(key, (self.ops.len(), uid));
            }
            self.durable();
        }
        Ok(())
    }

    /// Everything is in the log when this returns.
    pub(super) fn exchange(&self) -> Result<()> {
        self.site()?.exchange_with_log(&*self.log)?;
        self.durable();
        Ok(())
    }

    /// An exchange whose append gets no answer.
    pub(super) fn exchange_in_vain(&self, answer: Answer) -> Result<()> {
        let log = Flaky { log: Arc::clone(&self.log), answer };
        match self.site()?.exchange_with_log(&log) {
            Err(error) if error.kind() == ErrorKind::Ambiguous => Ok(()),
            other => other.map(drop),
        }
    }

    /// Another device does something and appends it.
    pub(super) fn others(&mut self, sql: &str) -> Result<()> {
        let site = match self.other.take() {
            Some(site) => site,
            None => {
                let env = Arc::new(ManualEnv::new(self.setup.seed + 7_777));
                open_site(&MemDir::new(), env, 2, IDS, &self.log)?
            }
        };
        site.exchange_with_log(&*self.log)?;
        self.others += 1;
        let sql = match self.others {
            1 => sql.to_owned(),
            number => counted(sql, &format!("b{number:04}")),
        };
        batch(&site.connection(View::Local)?, &sql)?;
        site.exchange_with_log(&*self.log)?;
        self.other = Some(site);
        Ok(())
    }

    /// The next append of ours meets one of another device, which it has not seen.
    pub(super) fn exchange_late(&mut self, sql: &str) -> Result<()> {
        let site = self.site()?;
        let Some(batch) = site.outbox(0, usize::MAX)? else { return Ok(()) };
        self.durable();
        self.others(sql)?;
        site.lead(&[batch], &*self.log, 3)?;
        Ok(())
    }

    /// Whether the rows are those that plain SQLite gives for the operations found.
    fn check_rows(&self, conn: &Connection, count: usize) -> Checked<()> {
        if self.others > 1 {
            return Ok(());
        }
        let twin = Connection::open_in_memory().map_err(from_sqlite)?;
        batch(&twin, SCHEMA)?;
        for (number, op) in (1..).zip(self.ops.iter().take(count)) {
            let Some(sql) = op else { return Ok(()) };
            batch(&twin, &counted(sql, &format!("a{number:04}")))?;
        }
        let (found, expected) = (dump(conn)?, dump(&twin)?);
        if found == expected { Ok(()) } else { wrong(format!("rows {found:?}, not {expected:?}")) }
    }

    /// Operations of ours that are there: the first so many.
    fn count(&self, conn: &Connection) -> Checked<usize> {
        let known = "SELECT name FROM sqlite_schema WHERE name = 'done'";
        if rows(conn, known)?.is_empty() {
            return Ok(0);
        }
        let found = rows(conn, "SELECT name FROM done WHERE name LIKE 'a%' ORDER BY name")?;
        for (number, name) in (1..).zip(&found) {
            if *name != format!("Text({:?})", format!("a{number:04}").as_bytes()) {
                return wrong(format!("operations with a hole: {name} at {number}"));
            }
        }
        Ok(found.len())
    }

    /// No number that was handed out stands for another mutation now.
    fn check_handed(&self, site: &Site) -> Checked<()> {
        let timeline = *site.timeline().as_bytes();
        let pending = site.outbox(0, usize::MAX)?.map_or_else(Vec::new, |batch| batch.mutations);
        for ((of, seq), (_, uid)) in &self.handed {
            if *of != timeline {
                continue;
            }
            let now = pending.iter().find(|record| record.seq == *seq);
            let is_other = now.is_some_and(|record| record.bytes.get(..8) != Some(uid.as_slice()));
            if is_other || site.last_seq() < *seq {
                return wrong(format!("number {seq} was handed out and stands for another now"));
            }
        }
        Ok(())
    }

    fn check_whole(conn: &Connection) -> Checked<()> {
        let answer = rows(conn, "PRAGMA integrity_check")?;
        if answer != [format!("Text({:?})", b"ok")] {
            return wrong(format!("integrity_check: {answer:?}"));
        }
        let sums = rows(conn, "SELECT n - (SELECT count(*) FROM done) FROM ledger")?;
        if sums == ["Integer(0)"] { Ok(()) } else { wrong(format!("counted wrongly: {sums:?}")) }
    }
}

fn pages(site: &Site) -> Result<Vec<sheaf_volume::Page>> {
    let snapshot = site.volume().global();
    let all = (1..=snapshot.page_count().0).filter_map(PageIdx::new);
    all.map(|idx| snapshot.page(idx)).collect()
}

impl Bench for SiteBench {
    fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn objects(&self) -> &Arc<MemObjects> {
        &self.objects
    }

    fn prepare(&mut self) -> Result<()> {
        self.others(SCHEMA)?;
        if let Some(other) = &self.other {
            other.define_mutator("count", MUTATOR)?;
            other.exchange_with_log(&*self.log)?;
        }
        if self.is_prepared {
            self.open()?;
            self.exchange()?;
            self.flush()?;
        }
        Ok(())
    }

    fn work(&mut self) -> Result<()> {
        (self.work)(self)
    }

    fn on_image(&self, disk: SimDisk, objects: &MemObjects, seed: u64) -> Self {
        let objects = copy_objects(objects);
        Self {
            recorder: Recorder::new(disk.clone(), Arc::clone(&objects), seed),
            disk,
            setup: Setup { seed, wrap: None, ..self.setup },
            is_prepared: true,
            work: self.work,
            site: None,
            log: log_of(&objects),
            objects,
            other: None,
            others: self.others,
            ops: self.ops.clone(),
            handed: self.handed.clone(),
        }
    }

    fn open_and_find(&mut self, low: usize, high: usize) -> Checked<usize> {
        self.open()?;
        self.find(low, high)
    }

    fn find(&mut self, low: usize, high: usize) -> Checked<usize> {
        let site = self.site()?;
        let conn = site.connection(View::Local)?;
        let count = self.count(&conn)?;
        if !(low..=high).contains(&count) {
            return wrong(format!("{count} operations, not {low}..={high}"));
        }
        if !rows(&conn, "SELECT 1 FROM sqlite_schema WHERE name = 'ledger'")?.is_empty() {
            Self::check_whole(&conn)?;
            self.check_rows(&conn, count)?;
        }
        // A crash before it was handed out may have lost it.
        self.handed.retain(|_, (at, _)| *at <= low);
        self.check_handed(&site)?;
        self.ops.truncate(count);
        self.recorder.set_high(count);
        Ok(count)
    }

    fn aftermath(&mut self) -> Checked<()> {
        let site = self.site()?;
        let conn = site.connection(View::Local)?;
        if rows(&conn, "SELECT 1 FROM sqlite_schema WHERE name = 'ledger'")?.is_empty() {
            if site.ids().volume != IDS.volume {
                self.adopt()?;
            }
            self.exchange()?;
        }
        self.op("INSERT INTO t(v) VALUES ('later')")?;
        self.exchange()?;
        let count = self.ops.len();
        let env = Arc::new(ManualEnv::new(self.setup.seed ^ 0x5555));
        let fresh = open_site(&MemDir::new(), env, 3, IDS, &self.log)?;
        fresh.exchange_with_log(&*self.log)?;
        for site in [&site, &fresh] {
            let conn = site.connection(View::Local)?;
            Self::check_whole(&conn)?;
            let found = self.count(&conn)?;
            if found != count {
                return wrong(format!("{found} operations after an exchange, not {count}"));
            }
            self.check_rows(&conn, count)?;
            Self::check_whole(&site.connection(View::Global)?)?;
        }
        if !site.volume().is_timeline_empty() || !site.rejected().is_empty() {
            return wrong("something is pending or rejected after an exchange");
        }
        if site.base() != fresh.base() || pages(&site)? != pages(&fresh)? {
            return wrong("two devices at one position differ");
        }
        self.op("UPDATE t SET v = 'last'")?;
        drop(conn);
        drop(site);
        self.fold()?;
        self.reopen()?;
        let last = self.ops.len();
        self.find(last, last).map(|_| ())
    }

    fn close(&mut self) {
        self.site = None;
        self.other = None;
        self.recorder.release();
    }
}
