//! How much memory a push and a hydration take: a long timeline on a real disk, counted by the
//! allocator. A binary of its own, because the allocator counts everything in its process.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails where it stands")]
#![expect(unsafe_code, reason = "an allocator is")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

fn ids() -> SiteIds {
    let (site, volume) = (SiteId::from_bytes([1; 16]), VolumeId::from_bytes([2; 16]));
    SiteIds { site, volume, page_size: PageSize::DEFAULT }
}

fn open(dir: &std::path::Path, number: u8, log: &Arc<BucketRemote>) -> Site {
    let options = SiteOptions {
        create: Some(ids()),
        ..SiteOptions::new("test", DeviceId::from_bytes([number; 16]))
    };
    let dir = StdDir::open(dir).unwrap();
    let site = Site::open(&dir, Arc::new(ManualEnv::new(number.into())), options).unwrap();
    site.set_remote(Some(Arc::clone(log) as Arc<dyn Remote>));
    site
}

#[test]
fn memory_does_not_grow_with_the_site() {
    let is_long = std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1");
    let rows = if is_long { ROWS_LONG } else { ROWS };
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (root.path().join("here"), root.path().join("there"));
    let bucket = root.path().join("bucket");
    std::fs::create_dir_all(&bucket).unwrap();
    let objects: Arc<dyn Objects> = open_url(&format!("file://{}", bucket.display())).unwrap();
    let log = Arc::new(BucketRemote::new(objects, ids().volume, ids().page_size));

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
    let peaks = [written, pushed, hydrated, evicted].map(|bytes| bytes / MIB);
    assert!(peaks.iter().all(|mib| *mib < PEAK_MAX / MIB), "MiB at most: {peaks:?}");
}
