//! A store opened from bytes: meta file, log file and base file.
//!
//! Asserts: opening gives a store or a refusal; a store reads pages or refuses, takes a commit
//! and a checkpoint, and opens again with what was committed.

use std::sync::Arc;

use sheaf_volume::{
    Dir as _, Durability, ErrorKind, ManualEnv, MemDir, Page, PageIdx, PageSize, Snapshot, Volume,
    VolumeOptions, fuzz,
};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::{
    commit::seal,
    input::{Input, assert_refusal},
    record::PAGES_MAX,
};

/// Bytes of the log file's header, and of the checksum at its end.
const LOG_HEADER: usize = 29;
/// Bytes of a record's header, and where its checksum begins.
const RECORD_HEADER: usize = 36;
const RECORD_SUM: usize = 28;
/// Pages read of a store.
const PAGES_READ: u32 = 32;

/// Sections meta and log, then the base file; as they are, then sealed.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let (meta, log, base) = (input.section(), input.section(), input.0);
    open(meta, log, base);
    let meta = seal(meta.get(..meta.len().saturating_sub(32)).unwrap_or_default());
    if let Ok(found) = fuzz::meta(&meta, PAGES_MAX) {
        open(&meta, &sealed_log(log, found.generation, found.page_size), base);
    }
}

fn open(meta: &[u8], log: &[u8], base: &[u8]) {
    // Nothing below opens unless this does; its page map is what this target keeps small.
    let parity = match fuzz::meta(meta, PAGES_MAX) {
        Ok(found) if !claims_little(log, found.page_size) => return,
        Ok(found) => found.generation % 2,
        Err(_) => 0,
    };
    let dir = MemDir::new();
    for (name, bytes) in
        [(format!("meta-{parity}"), meta), (format!("log-{parity}"), log), ("main.db".into(), base)]
    {
        let file = dir.open(&name).expect("BUG: a directory in memory");
        file.write_at(bytes, 0).expect("BUG: a directory in memory");
    }
    let volume = match reopen(&dir) {
        Ok(volume) => volume,
        // A meta file that was cut short, and nothing else: the store was never made.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return assert!(fuzz::meta(meta, PAGES_MAX).is_err());
        }
        Err(error) => return assert_refusal(&error),
    };
    for (name, _) in volume.attrs("") {
        assert!(volume.attr(&name).is_some());
    }
    // Bytes that stay on the disk until they are read may be damaged there.
    if let Ok(timeline) = volume.timeline() {
        assert_eq!(volume.last_pending_seq(), timeline.last().map(|last| last.seq));
    }
    read(&volume.head());
    read(&volume.global());
    let page = Page::from(vec![0xa5; volume.page_size().bytes()]);
    write(&volume, &page);
    drop(volume);
    let volume = reopen(&dir).expect("BUG: a store that opened does not open again");
    let found = volume.head().page(PageIdx::FIRST).expect("BUG: a committed page is lost");
    assert_eq!(found, page, "a committed page is what was written");
}

fn reopen(dir: &MemDir) -> sheaf_volume::Result<Volume> {
    let options = VolumeOptions { create: None, cache_pages: 16, ..VolumeOptions::default() };
    Volume::open(dir, Arc::new(ManualEnv::new(1)), options)
}

fn read(snapshot: &Snapshot) {
    for idx in (1..=snapshot.page_count().0.min(PAGES_READ)).filter_map(PageIdx::new) {
        match snapshot.page(idx) {
            Ok(page) => assert_eq!(page.len(), snapshot.volume().page_size().bytes()),
            // Pending, and there is no remote.
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => assert_refusal(&error),
        }
    }
}

fn write(volume: &Volume, page: &Page) {
    let mut draft = volume.draft(volume.writer());
    draft.write(PageIdx::FIRST, page.clone());
    let saved = draft.save(None, Vec::new(), Durability::Local);
    let (_, writer) = saved.expect("BUG: a store that opened takes no commit");
    volume.checkpoint(&writer).expect("BUG: a store that opened cannot fold");
}

/// Whether the records speak of few enough pages; see [`fuzz::meta`].
fn claims_little(log: &[u8], size: PageSize) -> bool {
    let mut at = LOG_HEADER;
    while let Some((meta, pages, len)) = record_at(log, at, size) {
        let claim = fuzz::record(meta, pages).map_or(0, |(_, highest)| highest);
        if claim > PAGES_MAX {
            return false;
        }
        at += len;
    }
    true
}

/// The metadata of the record at this byte, its number of pages and its length.
fn record_at(log: &[u8], at: usize, size: PageSize) -> Option<(&[u8], u32, usize)> {
    let head = log.get(at..at + RECORD_HEADER)?;
    let number = |from: usize| head.get(from..from + 4)?.try_into().ok().map(u32::from_le_bytes);
    let (meta_len, pages) = (number(4)? as usize, number(8)?);
    let len = RECORD_HEADER.checked_add(meta_len)?;
    let whole = (pages as usize).checked_mul(size.bytes())?.checked_add(len)?;
    log.get(at..at.checked_add(whole)?)?;
    Some((log.get(at + RECORD_HEADER..at + len)?, pages, whole))
}

/// The log with every checksum right, as far as its records are whole.
fn sealed_log(log: &[u8], generation: u64, size: PageSize) -> Vec<u8> {
    let mut log = log.to_vec();
    if log.len() < LOG_HEADER {
        return log;
    }
    log[..4].copy_from_slice(b"SHFL");
    log[5..13].copy_from_slice(&generation.to_le_bytes());
    let sum = xxh3_64(&log[..LOG_HEADER - 8]);
    log[LOG_HEADER - 8..LOG_HEADER].copy_from_slice(&sum.to_le_bytes());
    let mut at = LOG_HEADER;
    while let Some((meta, pages, len)) = record_at(&log, at, size) {
        let pages = pages as usize;
        let (meta_len, body) = (meta.len(), at + RECORD_HEADER + meta.len());
        for page in 0..pages.min(meta_len / 4) {
            let from = body + page * size.bytes();
            let sum = (xxh3_64(&log[from..from + size.bytes()]) & 0xffff_ffff) as u32;
            let slot = body - (pages.min(meta_len / 4) - page) * 4;
            log[slot..slot + 4].copy_from_slice(&sum.to_le_bytes());
        }
        log[at..at + 4].copy_from_slice(b"SHFR");
        log[at + 12..at + 20].copy_from_slice(&generation.to_le_bytes());
        let mut hash = Xxh3Default::new();
        hash.update(&log[at..at + RECORD_SUM]);
        hash.update(&log[at + RECORD_HEADER..body]);
        let sum = hash.digest();
        log[at + RECORD_SUM..at + RECORD_HEADER].copy_from_slice(&sum.to_le_bytes());
        at += len;
    }
    log
}
