//! A replica that has only the head of a site: what a query fetches, and how.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use sheaf_site::{ErrorKind, View};
use sheaf_volume::{Commit, Error, FetchedPage, Lsn, PageIdx, Remote, RemoteHead, Result, Want};

use crate::support::{Device, World, assert_converged, is_long, rows, try_rows};

/// A remote that counts what is asked of it, and can be unreachable.
#[derive(Debug)]
struct Counting {
    remote: Arc<dyn Remote>,
    requests: AtomicU64,
    pages: AtomicU64,
    asked: Mutex<Vec<u32>>,
    gone: AtomicBool,
}

impl Counting {
    fn count(&self) -> (u64, u64) {
        (self.requests.load(Ordering::SeqCst), self.pages.load(Ordering::SeqCst))
    }

    fn check(&self) -> Result<()> {
        match self.gone.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "the server cannot be reached")),
            false => Ok(()),
        }
    }
}

impl Remote for Counting {
    fn head(&self) -> Result<RemoteHead> {
        self.check()?;
        self.remote.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.check()?;
        self.remote.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.check()?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        let asked = wants.iter().flat_map(|want| want.pages.iter().map(PageIdx::get));
        self.asked.lock().unwrap().extend(asked);
        let mut pages = self.remote.fetch(wants)?;
        // As a node answers: what was asked for, no neighbours.
        pages.retain(|page| {
            wants.iter().any(|want| want.lsn == page.lsn && want.pages.contains(page.idx))
        });
        self.pages.fetch_add(pages.len() as u64, Ordering::SeqCst);
        Ok(pages)
    }
}

const ROW_BYTES: usize = 400;

/// A site of about this many bytes in a bucket, made by a few large transactions.
pub(crate) fn site(bytes: usize) -> (World, Device, usize) {
    let world = World::new();
    let a = world.device();
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, b BLOB); CREATE TABLE s(id INTEGER PRIMARY KEY)");
    let count = bytes / (ROW_BYTES + 40);
    let batch = 20_000;
    for first in (0..count).step_by(batch) {
        let last = count.min(first + batch);
        a.sql(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {first} + 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO t SELECT i, 'row ' || i, randomblob({ROW_BYTES}) FROM n"
        ));
        a.exchange();
    }
    (world, a, count)
}

/// A device that knows the head and nothing else.
fn fresh(world: &World) -> (Device, Arc<Counting>) {
    let device = world.device();
    let remote = Arc::new(Counting {
        remote: device.log.clone(),
        requests: AtomicU64::new(0),
        pages: AtomicU64::new(0),
        asked: Mutex::default(),
        gone: AtomicBool::new(false),
    });
    device.site.set_remote(Some(remote.clone()));
    device.site.adopt(world.ids, device.log.head().unwrap()).unwrap();
    (device, remote)
}

fn point_query_is_cheap(world: &World, count: usize) {
    let (device, remote) = fresh(world);
    let pages = u64::from(device.site.status().page_count);
    assert_eq!(remote.count(), (0, 0), "first contact fetches nothing");
    let id = count * 2 / 3;
    assert_eq!(device.local(&format!("SELECT v FROM t WHERE id = {id}")), format!("row {id}"));
    let (requests, fetched) = remote.count();
    println!("{pages} pages; one row: {requests} requests, {fetched} pages");
    // Not even compressed: the limit is on the wire, where pages are smaller.
    assert!(fetched * 4_096 < 64 * 1_024, "{fetched} pages for one row");
    assert!(requests <= 5, "{requests} requests for one row");
    assert_eq!(device.site.status().pages_present, fetched);
    let again = device.local(&format!("SELECT length(b) FROM t WHERE id = {id}"));
    assert_eq!((again.as_str(), remote.count()), ("400", (requests, fetched)), "fetched once");
}

/// A past position is not kept here, so each of its pages travels; not each by itself.
fn scan_of_the_past_takes_few_requests(world: &World) {
    let (device, remote) = fresh(world);
    let (base, _) = device.site.base();
    let past = Lsn(base.0 - 1);
    let view = View::At(past);
    let pages: u64 = device.rows(view, "PRAGMA page_count").parse().unwrap();
    assert_ne!(device.rows(view, "SELECT sum(length(b)) FROM t"), "");
    let (requests, fetched) = remote.count();
    println!("scan of the past: {requests} requests, {fetched} pages");
    assert!(requests < 30 + pages / 128, "{requests} requests for {pages} pages");
    // What is kept of the past is bounded, so interior pages read far ahead may come once more.
    assert!(fetched <= pages + 8 + pages / 256, "{fetched} of {pages}: pages travelled twice");
}

/// Everything at once is not a scan that has to grow.
fn hydrating_takes_few_requests(world: &World) {
    let (device, remote) = fresh(world);
    let pages = u64::from(device.site.status().page_count);
    let mut told = (0, 0);
    device.site.volume().hydrate(&mut |done, all| told = (done, all)).unwrap();
    let (requests, fetched) = remote.count();
    println!("hydrate: {requests} requests, {fetched} pages");
    assert_eq!((told, fetched), ((pages, pages), pages));
    assert_eq!(requests, pages.div_ceil(1_024), "{pages} pages");
}

fn scan_takes_few_requests(world: &World, count: usize) {
    let (device, remote) = fresh(world);
    let pages = u64::from(device.site.status().page_count);
    assert_eq!(
        device.local("SELECT count(*), sum(length(b)) FROM t"),
        format!("{count}|{}", count * ROW_BYTES)
    );
    let (requests, fetched) = remote.count();
    println!("scan: {requests} requests, {fetched} pages");
    assert!(fetched >= pages - 8 && fetched <= pages, "{fetched} of {pages}");
    // One after the other: what is in one request is in one round trip.
    assert!(requests <= 12, "{requests} round trips for {pages} pages");
    let mut asked = remote.asked.lock().unwrap().clone();
    asked.sort_unstable();
    let all = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), all, "a page was asked for twice");
}

#[test]
fn a_replica_of_the_head_answers_a_query_with_few_pages() {
    let (world, a, count) = site(if is_long() { 100_000_000 } else { 20_000_000 });
    point_query_is_cheap(&world, count);
    scan_takes_few_requests(&world, count);
    scan_of_the_past_takes_few_requests(&world);
    hydrating_takes_few_requests(&world);
    let (b, remote) = fresh(&world);
    b.sql("UPDATE t SET v = 'changed' WHERE id = 7");
    let before = remote.count().1;
    b.site.exchange_with_log(&*b.log).unwrap();
    println!("a change of one row: {before} pages, {} with its push", remote.count().1);
    assert!(remote.count().1 < 40, "{} pages to change one row", remote.count().1);
    a.exchange();
    assert_eq!(a.local("SELECT v FROM t WHERE id = 7"), "changed");
    assert!(a.site.base() == b.site.base());
    if !is_long() {
        assert_converged(&[&a, &b]);
    }
}

/// Rows that came in no order: neighbours in the table lie anywhere in the file.
#[test]
fn a_scan_of_a_scattered_table_takes_few_requests() {
    let world = World::new();
    let a = world.device();
    let count = 40_000;
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB)");
    for part in 0..4 {
        a.sql(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {part} UNION ALL SELECT i + 4 FROM n WHERE i + 4 < {count})
             INSERT INTO t SELECT i * 7919 % {count}, randomblob({ROW_BYTES}) FROM n"
        ));
        a.exchange();
    }
    for order in ["ASC", "DESC"] {
        let (device, remote) = fresh(&world);
        let pages = u64::from(device.site.status().page_count);
        let sql = format!("SELECT sum(length(b)) FROM (SELECT b FROM t ORDER BY id {order})");
        assert_eq!(device.local(&sql), format!("{}", count * ROW_BYTES));
        let (requests, fetched) = remote.count();
        println!("scattered, {order}: {requests} requests, {fetched} of {pages} pages");
        assert!(fetched <= pages, "pages travelled twice");
        assert!(requests <= 12, "{requests} requests for {pages} pages");
    }
}

/// What changed elsewhere of what this replica reads first comes with the first of it.
#[test]
fn an_opening_fetches_what_the_last_one_read() {
    let (world, a, count) = site(8_000_000);
    let (b, remote) = fresh(&world);
    let queries = |device: &Device| {
        for id in [1, count / 3, count / 2, count - 1] {
            device.local(&format!("SELECT v FROM t WHERE id = {id}"));
        }
    };
    queries(&b);
    b.site.volume().tidy().unwrap();
    let Device { site: before, dir, .. } = b;
    drop(before);
    let b = world.open(dir, 2);
    b.site.set_remote(Some(remote.clone()));
    a.sql("UPDATE t SET v = v || '!'");
    a.exchange();
    b.pull();
    let before = remote.count().0;
    queries(&b);
    let requests = remote.count().0 - before;
    println!("the same queries after an opening: {requests} requests");
    assert!(requests <= 2, "{requests} requests for what the last opening read");
}

#[test]
fn a_redo_asks_for_changed_pages_together() {
    let (world, a, count) = site(4_000_000);
    let (b, remote) = fresh(&world);
    b.site.volume().hydrate(&mut |_, _| ()).unwrap();
    a.sql("UPDATE t SET v = v || '!'");
    a.exchange();
    b.sql("UPDATE t SET b = x'00' WHERE id % 50 = 7");
    let before = remote.count();
    b.site.exchange_with_log(&*b.log).unwrap();
    let (requests, pages) = (remote.count().0 - before.0, remote.count().1 - before.1);
    println!("redo of {} rows: {requests} requests, {pages} pages", count / 50);
    assert!(requests < 24, "{requests} requests for {pages} pages");
    a.exchange();
    b.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn readers_of_one_missing_page_share_one_request() {
    let (world, _, _) = site(1_000_000);
    for number in [1, 2, 50, 100] {
        let (device, remote) = fresh(&world);
        let idx = PageIdx::new(number).unwrap();
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let snapshot = device.site.volume().global();
                    barrier.wait();
                    assert_eq!(snapshot.page(idx).unwrap().len(), 4_096);
                });
            }
        });
        assert_eq!(remote.count().0, 1, "page {number}");
    }
    // And through SQLite, whole queries: no page is asked for twice.
    let (device, remote) = fresh(&world);
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for reader in 0..6 {
            let (device, barrier) = (&device, &barrier);
            scope.spawn(move || {
                let conn = device.site.connection(View::Local).unwrap();
                barrier.wait();
                let sql = format!("SELECT count(*), sum(id + {reader}) IS NULL FROM t");
                assert_eq!(rows(&conn, &sql), "2272|0");
            });
        }
    });
    let mut asked = remote.asked.lock().unwrap().clone();
    let all = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), all, "a page was asked for twice");
}

#[test]
fn a_remote_that_is_gone_is_an_error_until_it_is_back() {
    let (world, _, count) = site(1_000_000);
    let (device, remote) = fresh(&world);
    let first = "SELECT v FROM t WHERE id = 1";
    let last = format!("SELECT v FROM t WHERE id = {count}");
    assert_eq!(device.local(first), "row 1");
    let conn = device.site.connection(View::Local).unwrap();
    remote.gone.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let error = try_rows(&device, View::Local, &last).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("cannot be reached"), "{error:?}");
        assert_eq!(rows(&conn, first), "row 1", "what is here can be read");
        let error = conn.execute_batch(&format!("UPDATE t SET v = 'x' WHERE id = {count}"));
        assert!(error.is_err() && conn.is_autocommit());
        conn.execute_batch(
            "UPDATE t SET v = 'row 1' WHERE id = 1; UPDATE t SET v = v || '!' WHERE id = 1",
        )
        .unwrap();
        conn.execute_batch("UPDATE t SET v = 'row 1' WHERE id = 1").unwrap();
    }
    device.site.set_remote(None);
    let error = try_rows(&device, View::Local, &last).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("go online"), "{error:?}");
    device.site.set_remote(Some(remote.clone()));
    remote.gone.store(false, Ordering::SeqCst);
    assert_eq!(rows(&conn, &last), format!("row {count}"));
    conn.execute_batch(&format!("UPDATE t SET v = 'x' WHERE id = {count}")).unwrap();
    device.exchange();
    assert_converged(&[&device]);
}
