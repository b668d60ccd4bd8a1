//! The page at the byte where SQLite keeps its file locks, 1 GiB into the file: it is never used.
//!
//! With pages of 64 KiB it is page 16,385. The volume is brought near it by giving it pages that
//! belong to nothing, at no cost because pages that were never written are not stored; SQLite then
//! grows over the place by itself. In the end these pages join the free list, so that SQLite's
//! own check can account for every page.

use sheaf_volume::{Lsn, Page, PageCount, PageIdx, PageSize, PushMeta, Remote};

use crate::support::{Device, World};

const PAGE_BYTES: u32 = 65_536;
const LOCK_PAGE: u32 = 0x4000_0000 / PAGE_BYTES + 1;
/// Fields of the database header.
const PAGES_AT: usize = 28;
const FREE_TRUNK_AT: usize = 32;
const FREE_COUNT_AT: usize = 36;

fn page(number: u32) -> PageIdx {
    PageIdx::new(number).unwrap()
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Appends a commit that SQLite had no part in.
fn append(device: &Device, count: u32, pages: Vec<(u32, Vec<u8>)>) {
    let volume = device.site.volume();
    let mut draft = volume.rebase(volume.writer(), &[]).unwrap();
    draft.truncate(PageCount(count));
    for (number, bytes) in pages {
        draft.write(page(number), Page::from(bytes));
    }
    let meta = PushMeta { writer: [7; 16], epoch: 0, tables: Vec::new(), applied: Vec::new() };
    volume.push(&mut draft, &*device.log, meta).unwrap().expect("nobody else writes");
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
}

#[test]
fn the_lock_page_is_never_written_nor_stored() {
    let mut world = World::new();
    world.ids.page_size = PageSize::new(PAGE_BYTES).unwrap();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB)");
    a.sql("INSERT INTO t VALUES (1, zeroblob(200000))");
    a.exchange();
    b.exchange();

    let used = a.site.volume().global().page_count().0;
    let near = LOCK_PAGE - 3;
    let mut header = a.site.volume().global().page(page(1)).unwrap().to_vec();
    put(&mut header, PAGES_AT, near);
    append(&a, near, vec![(1, header)]);

    // Several times over the place: in a draft, in a rebase, with a spill, and back again.
    a.sql("PRAGMA cache_size = 5; INSERT INTO t VALUES (2, randomblob(500000))");
    let grown = a.site.volume().head().page_count().0;
    assert!(grown > LOCK_PAGE, "grown to {grown}");
    a.exchange();
    b.exchange();
    b.sql("BEGIN; INSERT INTO t VALUES (3, randomblob(900000)); ROLLBACK");
    b.sql("INSERT INTO t VALUES (4, randomblob(300000)); DELETE FROM t WHERE id = 2");
    b.exchange();
    a.exchange();

    // Hand the pages that belong to nothing to the free list: one trunk names them all.
    let snapshot = a.site.volume().global();
    let mut header = snapshot.page(page(1)).unwrap().to_vec();
    let field = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    let (count, next, free) = (field(PAGES_AT), field(FREE_TRUNK_AT), field(FREE_COUNT_AT));
    assert_eq!(count, snapshot.page_count().0);
    drop(snapshot);
    let leaves: Vec<u32> = (used + 2..=near).collect();
    let mut trunk = vec![0; PAGE_BYTES as usize];
    put(&mut trunk, 0, next);
    put(&mut trunk, 4, u32::try_from(leaves.len()).unwrap());
    for (at, leaf) in leaves.iter().enumerate() {
        put(&mut trunk, 8 + 4 * at, *leaf);
    }
    let freed = u32::try_from(leaves.len()).unwrap() + 1;
    put(&mut header, FREE_TRUNK_AT, used + 1);
    put(&mut header, FREE_COUNT_AT, free + freed);
    append(&a, count, vec![(1, header), (used + 1, trunk)]);
    b.exchange();

    for device in [&a, &b] {
        assert_eq!(device.local("PRAGMA integrity_check"), "ok");
        assert_eq!(device.local("SELECT id, length(b) FROM t"), "1|200000;4|300000");
        let lock = device.site.volume().global().page(page(LOCK_PAGE)).unwrap();
        assert!(lock.iter().all(|byte| *byte == 0), "the lock page was written");
    }
    let commits = a.log.pull(Lsn::ZERO).unwrap();
    assert!(commits.iter().any(|commit| commit.pages.contains(page(LOCK_PAGE - 1))));
    assert!(commits.iter().any(|commit| commit.pages.contains(page(LOCK_PAGE + 1))));
    for commit in &commits {
        assert!(!commit.pages.contains(page(LOCK_PAGE)), "stored at lsn {}", commit.lsn);
    }
    let writer = a.site.volume().writer();
    a.site.volume().checkpoint(&writer).unwrap();
    drop(writer);
    assert_eq!(a.local("PRAGMA integrity_check"), "ok");
    assert!(a.site.base() == b.site.base());
}
