//! How much memory a push and a hydration take: a long timeline on a real disk, counted by the
//! allocator. A binary of its own, because the allocator counts everything in its process.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails where it stands")]
#![expect(unsafe_code, reason = "an allocator is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_site::{Site, SiteIds, SiteOptions, View};
use sheaf_volume::{
    BucketRemote, DeviceId, ManualEnv, Objects, PageSize, Remote, SiteId, StdDir, VolumeId,
    open_url,
};

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator; only numbers are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as promised by whoever calls.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised by whoever calls.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does `work`; the most bytes that were in use meanwhile beyond those before.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    work();
    MOST.load(Ordering::Relaxed) - before
}

const MIB: usize = 1 << 20;
/// Rows, each a transaction of a quarter of a MiB: 48 MiB, and 512 MiB in the long form.
const ROWS: usize = 192;
const ROWS_LONG: usize = 2_048;
/// Far below the site, and above what one batch of 8 MiB takes: its mutations, its pages, its
/// segment, and the page cache of 16 MiB.
const PEAK_MAX: usize = 44 * MIB;
/// Rows, each of about a page: 48 MiB, and 512 MiB in the long form.
const NARROW_ROWS: i64 = 12_288;
const NARROW_ROWS_LONG: i64 = 131_072;
/// Rows of 16 pages each: 20,000 pages, 80 MiB.
const WIDE_ROWS: i64 = 1_250;
/// SQLite's own memory: its page caches of 2 MiB for each connection, and statements.
const SQLITE_MAX: usize = 8 * MIB;
/// What a changed row takes in memory while it is captured or replayed, whatever else it holds.
const ROW_BYTES: usize = 1_024;

fn ids() -> SiteIds {
    let (site, volume) = (SiteId::from_bytes([1; 16]), VolumeId::from_bytes([2; 16]));
    SiteIds { site, volume, page_size: PageSize::DEFAULT }
}

fn open(dir: &Path, number: u8, log: &Arc<BucketRemote>) -> Site {
    let options = SiteOptions {
        create: Some(ids()),
        ..SiteOptions::new("test", DeviceId::from_bytes([number; 16]))
    };
    let dir = StdDir::open(dir).unwrap();
    let site = Site::open(&dir, Arc::new(ManualEnv::new(number.into())), options).unwrap();
    site.set_remote(Some(Arc::clone(log) as Arc<dyn Remote>));
    site
}

fn is_long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

/// One after the other: the allocator counts for all of them.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bucket(root: &Path) -> Arc<BucketRemote> {
    let bucket = root.join("bucket");
    std::fs::create_dir_all(&bucket).unwrap();
    let objects: Arc<dyn Objects> = open_url(&format!("file://{}", bucket.display())).unwrap();
    Arc::new(BucketRemote::new(objects, ids().volume, ids().page_size))
}

fn check(peaks: &[(&str, usize)], max: usize) {
    let peaks: Vec<_> = peaks.iter().map(|(name, bytes)| (name, bytes / MIB)).collect();
    assert!(peaks.iter().all(|(_, mib)| *mib < max / MIB), "MiB at most: {peaks:?}");
    eprintln!("MiB at most: {peaks:?}");
}

/// One transaction that rewrites the whole site becomes one commit, whose segment is written and
/// read in pieces, and whose capture holds what changed and not what the rows hold beside it.
#[test]
fn memory_does_not_grow_with_a_commit() {
    let _turn = turn();
    let rows = if is_long() { NARROW_ROWS_LONG } else { NARROW_ROWS };
    let root = tempfile::tempdir().unwrap();
    let log = bucket(root.path());
    let site = open(&root.path().join("here"), 1, &log);
    let conn = site.connection(View::Local).unwrap();
    conn.execute_batch(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x INT, body BLOB);
         CREATE TABLE k(id TEXT PRIMARY KEY NOT NULL, x INT, body BLOB) WITHOUT ROWID;",
    )
    .unwrap();
    for first in (0..rows).step_by(64) {
        let sql =
            "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + 63)
                   INSERT INTO t SELECT i, 0, randomblob(3600) FROM n";
        conn.execute(sql, [first]).unwrap();
    }
    let sql = "INSERT INTO k SELECT 'k' || id, 0, substr(body, 1, 900) FROM t WHERE id % 16 = 0";
    conn.execute(sql, []).unwrap();
    site.exchange_with_log(&*log).unwrap();
    let other = open(&root.path().join("there"), 2, &log);
    other.adopt(ids(), log.head().unwrap()).unwrap();
    other.volume().hydrate(&mut |_, _| {}).unwrap();

    let mut peaks = Vec::new();
    let mut measure = |name, work: &mut dyn FnMut()| peaks.push((name, peak(work)));
    let exchange = || {
        let before = site.base().0;
        site.exchange_with_log(&*log).unwrap();
        assert_eq!(site.base().0, before.next(), "one transaction, one commit");
    };
    let catch_up = || {
        other.follow(&*log, &mut |_| Ok(())).unwrap();
        other.volume().hydrate(&mut |_, _| {}).unwrap();
        assert_eq!(other.base(), site.base());
    };
    for sql in
        ["UPDATE t SET x = x + 1; UPDATE k SET x = x + 1;", "CREATE INDEX large ON t(x, body);"]
    {
        let sql = format!("BEGIN; {sql} COMMIT;");
        measure("written", &mut || conn.execute_batch(&sql).unwrap());
        measure("pushed", &mut || exchange());
        measure("taken", &mut || catch_up());
    }
    let sums = "SELECT sum(x) + (SELECT sum(x) FROM k) FROM t";
    for site in [&site, &other] {
        let conn = site.connection(View::Global).unwrap();
        let sum: i64 = conn.query_row(sums, [], |row| row.get(0)).unwrap();
        assert_eq!(sum, rows + rows / 16);
    }
    check(&peaks, PEAK_MAX + usize::try_from(rows).unwrap() * ROW_BYTES);
}

/// SQLite's own memory, which the allocator does not see, and the rest while a transaction changes
/// a page each of 20,000, is rolled back, is committed, and is replayed: SQLite would keep every
/// page as it was.
#[test]
fn memory_does_not_grow_with_the_pages_of_a_transaction() {
    let _turn = turn();
    let root = tempfile::tempdir().unwrap();
    let log = bucket(root.path());
    let site = open(&root.path().join("here"), 1, &log);
    let conn = site.connection(View::Local).unwrap();
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x INT, body BLOB)").unwrap();
    for _ in 0..WIDE_ROWS {
        conn.execute("INSERT INTO t(x, body) VALUES (0, randomblob(65536))", []).unwrap();
    }
    site.exchange_with_log(&*log).unwrap();

    let mut peaks = Vec::new();
    let mut measure = |name, work: &mut dyn FnMut()| {
        // SAFETY: a counter of the library, which it keeps by default.
        let high = || unsafe { rusqlite::ffi::sqlite3_memory_highwater(1) };
        high();
        let rest = peak(work);
        let sqlite = usize::try_from(high()).unwrap();
        assert!(sqlite < SQLITE_MAX, "{name}: SQLite takes {} MiB", sqlite / MIB);
        peaks.push((name, sqlite + rest));
    };
    // The width of the number moves the text behind it, so that all of its pages change.
    let update = "UPDATE t SET x = x + 1000";
    measure("rolled back", &mut || {
        conn.execute_batch(&format!("BEGIN; {update}; ROLLBACK")).unwrap();
    });
    measure("rolled back to", &mut || {
        let sql = format!("BEGIN; SAVEPOINT s; {update}; ROLLBACK TO s; COMMIT");
        conn.execute_batch(&sql).unwrap();
    });
    measure("changed twice", &mut || {
        let again = "UPDATE t SET x = x * 1000";
        let sql = format!("BEGIN; {update}; SAVEPOINT s; {again}; ROLLBACK TO s; ROLLBACK");
        conn.execute_batch(&sql).unwrap();
    });
    let sum = |conn: &rusqlite::Connection| -> i64 {
        conn.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(sum(&conn), 0);
    measure("written", &mut || conn.execute_batch(update).unwrap());
    measure("replayed", &mut || assert_eq!(site.redo().unwrap().replayed, 1));
    measure("pushed", &mut || drop(site.exchange_with_log(&*log).unwrap()));
    assert_eq!(sum(&site.connection(View::Global).unwrap()), WIDE_ROWS * 1_000);
    check(&peaks, PEAK_MAX);
}

#[test]
fn memory_does_not_grow_with_the_site() {
    let _turn = turn();
    let rows = if is_long() { ROWS_LONG } else { ROWS };
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (root.path().join("here"), root.path().join("there"));
    let log = bucket(root.path());

    let site = open(&here, 1, &log);
    let written = peak(|| {
        let conn = site.connection(View::Local).unwrap();
        conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)").unwrap();
        for _ in 0..rows {
            conn.execute("INSERT INTO t(body) VALUES (randomblob(262144))", []).unwrap();
        }
    });
    let pushed = peak(|| {
        assert_eq!(site.exchange_with_log(&*log).unwrap().pushed, rows + 1);
    });
    drop(site);
    let other = open(&there, 2, &log);
    let hydrated = peak(|| {
        other.adopt(ids(), log.head().unwrap()).unwrap();
        other.volume().hydrate(&mut |_, _| {}).unwrap();
    });
    let all: i64 = other
        .connection(View::Local)
        .unwrap()
        .query_row("SELECT sum(length(body)) FROM t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(all, 262_144 * i64::try_from(rows).unwrap());
    let evicted = peak(|| {
        let volume = other.volume();
        volume.evict(&volume.writer(), 4 << 20).unwrap();
    });
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let files = std::fs::read_dir(&there).unwrap();
        let blocks: u64 = files.map(|file| file.unwrap().metadata().unwrap().blocks()).sum();
        assert!(blocks * 512 < 6 << 20, "{} bytes on disk after eviction", blocks * 512);
    }
    let names = ["written", "pushed", "hydrated", "evicted"];
    let peaks: Vec<_> = names.into_iter().zip([written, pushed, hydrated, evicted]).collect();
    check(&peaks, PEAK_MAX);
}
