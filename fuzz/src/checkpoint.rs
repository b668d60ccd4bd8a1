//! A checkpoint in the bucket of a small log, as it is and with all of its hashes right.
//!
//! Asserts: what decodes encodes to the same bytes, and its frames lie within their segments; a
//! reader over it gives an error or every page asked for, and right ones where hashes tell damage;
//! nothing that is built upon it, and no reclaimer, claims a bug of ours or takes away what could
//! be read. Hashes are computed here from `docs/format.md`, not by the code under test.

use std::collections::BTreeSet;

use bytes::Bytes;
use sheaf_volume::{
    BucketRemote, Lsn, ManualEnv, Objects as _, PageIdx, Retention, fuzz, verify_log,
};

use crate::input::assert_refusal;
use crate::world::{self, CUT, HEAD, assert_refused};

/// Bytes before the volume; of the directory's hash; of a chunk's.
const PRELUDE: usize = 9;
const TRAILER: usize = 32;
const SHORT: usize = 16;
/// The version that has a lead.
const WITH_LEAD: u8 = 2;
/// The least that a frame takes in a chunk.
const FRAME_BYTES_MIN: usize = 24;

/// The checkpoint, as it is and sealed.
pub fn target(data: &[u8]) {
    let sealed = seal(data);
    let ours = [genuine(), led()];
    let is_ours = |data: &[u8]| ours.iter().any(|ours| *data == **ours);
    // Where the hashes are right, the checkpoint is as its maker meant it: a liar's, if not ours.
    check(data, is_ours(data) || sealed.as_deref() != Some(data));
    if let Some(sealed) = sealed {
        check(&sealed, is_ours(&sealed));
    }
}

/// What production makes.
pub(crate) fn genuine() -> Bytes {
    world::object(world::small(), &world::key("checkpoints", CUT.0))
}

/// The same with a lead: of pages that were rewritten, and of pages in both segments.
pub(crate) fn led() -> Bytes {
    let key = world::key("checkpoints", CUT.0);
    let (objects, _) = world::with(world::small(), &key, Bytes::new());
    objects.delete(&key).expect("BUG: objects in memory");
    let reader = world::remote(&objects).1.with_leads(|at, kind, _| {
        let group = |numbers: std::ops::RangeInclusive<u32>| numbers.filter_map(PageIdx::new);
        match (at.get(), kind) {
            (1, 0) => vec![(group(9..=10).collect(), 1)],
            // More than fit, so that only their frames are named.
            (9, 1) => vec![(group(3..=24).chain(group(5..=24)).collect(), 2)],
            _ => Vec::new(),
        }
    });
    reader.checkpoint(&ManualEnv::new(1), CUT).expect("BUG: objects in memory");
    objects.get(&key).expect("BUG: it was just made")
}

fn check(data: &[u8], is_honest: bool) {
    let bytes = Bytes::copy_from_slice(data);
    decode(&bytes);
    let bucket = || world::with(world::small(), &world::key("checkpoints", CUT.0), bytes.clone());
    let (_, reader) = bucket();
    let before = world::read(&reader, HEAD, is_honest);
    world::read(&reader, CUT, is_honest);
    changes(&reader);
    // Another is built upon it.
    let (objects, reader) = bucket();
    match reader.checkpoint(&ManualEnv::new(2), HEAD) {
        Ok(_) => {
            let read = world::read(&world::remote(&objects).1, HEAD, is_honest);
            assert!(read || !is_honest, "what a checkpoint was made of cannot be read through it");
        }
        Err(error) => assert_refused(&error),
    }
    let retention = Retention { keep_for_ms: 0, keep_commits: 1, exact: true };
    let (objects, reader) = bucket();
    match reader.gc(&ManualEnv::new(3), &retention, false, &mut |_| Ok(())) {
        Ok(_) => {
            let after = world::read(&world::remote(&objects).1, HEAD, is_honest);
            assert!(after || !before || !is_honest, "a reclaimer took away what could be read");
        }
        Err(error) => assert_refused(&error),
    }
    let lineage = world::volume().into();
    if let Err(error) = verify_log(&bucket().0, &lineage, world::SIZE, None, &mut |_, _| ()) {
        assert_refused(&error);
    }
}

fn decode(bytes: &Bytes) {
    let found = match fuzz::checkpoint(bytes) {
        Ok(found) => found,
        Err(error) => return assert_refusal(&error),
    };
    assert!(found.again == bytes, "a checkpoint has one byte form");
    assert!(found.lead_pages.iter().all(|idx| found.page_count.contains(*idx)));
    assert!(found.frames.len() <= bytes.len() / FRAME_BYTES_MIN);
    let mut alive = BTreeSet::new();
    for frame in &found.frames {
        assert!((1..=8).contains(&frame.members.len()));
        assert!(frame.members.is_sorted_by(|a, b| a < b) && !frame.live.is_empty());
        assert!(frame.offset + u64::from(frame.len) <= found.segments[frame.segment]);
        assert!(frame.len as usize <= frame.members.len() * found.page_size.bytes() + 1);
        for (idx, lsn) in &frame.live {
            assert!(frame.members.contains(idx) && found.page_count.contains(*idx));
            assert!(*lsn > Lsn::ZERO && *lsn <= found.lsn);
            assert!(alive.insert(*idx), "a page is alive twice");
        }
    }
}

fn changes(reader: &BucketRemote) {
    match reader.changed_since_checkpoint(Lsn(1)) {
        Ok(Some((head, pages))) => {
            assert!(head.lsn == CUT && pages.iter().all(|idx| head.page_count.contains(idx)));
        }
        Ok(None) => panic!("the checkpoint is not found"),
        Err(error) => assert_refused(&error),
    }
}

/// The same with right hashes; `None` where it cannot be told what they are of.
pub(crate) fn seal(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = data.to_vec();
    let len = u32::from_le_bytes(bytes.get(5..PRELUDE)?.try_into().ok()?) as usize;
    let end = len.checked_sub(TRAILER)?;
    for (at, chunk) in parts(bytes.get(..end)?, len).unwrap_or_default() {
        let Some(chunk) = bytes.get(chunk) else { break };
        let hash = blake3::hash(chunk);
        bytes[at..at + SHORT].copy_from_slice(&hash.as_bytes()[..SHORT]);
    }
    let hash = blake3::hash(&bytes[..end]);
    bytes.get_mut(end..len)?.copy_from_slice(hash.as_bytes());
    Some(bytes)
}

/// Where the directory has the hash of the lead and of each chunk, and where these are.
fn parts(directory: &[u8], len: usize) -> Option<Vec<(usize, std::ops::Range<usize>)>> {
    let mut at = PRELUDE + 16;
    varint(directory, &mut at)?;
    at += 32;
    for _ in 0..4 {
        varint(directory, &mut at)?;
    }
    for _ in 0..varint(directory, &mut at)? {
        at += 1 + 16 + if *directory.get(at)? == 1 { 16 } else { 0 };
        varint(directory, &mut at)?;
        varint(directory, &mut at)?;
    }
    let (mut found, mut start) = (Vec::new(), len);
    if *directory.get(PRELUDE - 5)? == WITH_LEAD {
        let end = start.checked_add(usize::try_from(varint(directory, &mut at)?).ok()?)?;
        directory.get(at..at + SHORT)?;
        found.push((at, start..end));
        (at, start) = (at + SHORT, end);
    }
    for _ in 0..varint(directory, &mut at)? {
        let end = start.checked_add(usize::try_from(varint(directory, &mut at)?).ok()?)?;
        directory.get(at..at + SHORT)?;
        found.push((at, start..end));
        (at, start) = (at + SHORT, end);
    }
    Some(found)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
