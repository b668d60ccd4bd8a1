//! Boundary marks: one, and several in the bucket of a small log, as they are and sealed; and the
//! same bytes as a hint.
//!
//! Asserts: whatever a hint says, a reader finds the newest state and reads it; what decodes encodes to the same bytes and names a boundary that the log had reached; a
//! reader believes the newest mark or refuses it, and gives right pages or an error beside it.

use bytes::Bytes;
use sheaf_volume::{ManualEnv, Objects as _, Remote as _, Retention, fuzz, verify_log};

use crate::commit::seal;
use crate::input::{Input, assert_refusal};
use crate::world::{self, HEAD, assert_refused};

/// Marks of one input, and bytes of the hash at their end.
const MARKS_MAX: usize = 4;
const TRAILER: usize = 32;

/// The bytes as a mark; then a section for each of several marks.
pub fn target(data: &[u8]) {
    for bytes in [data.to_vec(), sealed(data)] {
        one(&bytes);
        hint(&bytes);
        several(&[&bytes]);
    }
    let mut input = Input(data);
    let mut marks = Vec::new();
    while !input.is_empty() && marks.len() < MARKS_MAX {
        marks.push(sealed(input.section()));
    }
    several(&marks.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

fn sealed(data: &[u8]) -> Vec<u8> {
    seal(data.get(..data.len().saturating_sub(TRAILER)).unwrap_or_default())
}

fn one(bytes: &[u8]) {
    match fuzz::mark(bytes) {
        Ok(mark) => {
            assert_eq!(mark.again, bytes, "a mark has one byte form");
            assert!((1..=mark.head.0).contains(&mark.boundary.0));
        }
        Err(error) => assert_refusal(&error),
    }
}

/// Any bytes at all may stand there.
fn hint(bytes: &[u8]) {
    match fuzz::hint(bytes) {
        Ok(again) => assert_eq!(again, bytes, "a hint has one byte form"),
        Err(error) => assert_refusal(&error),
    }
    let stored = Bytes::copy_from_slice(bytes);
    let (objects, reader) = world::with(world::small(), &hint_key(), stored);
    let head = reader.head().expect("a hint is believed");
    assert_eq!(head.lsn, HEAD);
    assert!(world::read(&reader, HEAD, true), "a hint is believed");
    let lineage = world::volume().into();
    let found = verify_log(&objects, &lineage, world::SIZE, None, &mut |_, _| ());
    let found = found.expect("BUG: objects in memory").findings;
    assert!(found.iter().all(|finding| finding.place == hint_key()));
}

pub(crate) fn hint_key() -> String {
    format!("volumes/{}/latest", world::volume())
}

fn several(marks: &[&[u8]]) {
    let key = |number| world::key("boundary", number);
    let Some((first, others)) = marks.split_first() else { return };
    let (objects, reader) = world::with(world::small(), &key(1), Bytes::copy_from_slice(first));
    for (number, mark) in (2..).zip(others) {
        let put = objects.put(&key(number), Bytes::copy_from_slice(mark));
        put.expect("BUG: objects in memory");
    }
    let newest = fuzz::mark(marks[marks.len() - 1]).ok();
    let newest =
        newest.filter(|mark| (mark.volume, mark.number) == (world::volume(), marks.len() as u64));
    match reader.boundary() {
        Ok(boundary) => assert_eq!(Some(boundary), newest.map(|mark| mark.boundary)),
        Err(error) => {
            assert!(newest.is_none(), "a good mark is refused: {error}");
            assert_refusal(&error);
        }
    }
    world::read(&reader, HEAD, true);
    let retention = Retention { keep_for_ms: 0, keep_commits: 2, exact: false };
    if let Err(error) = reader.gc(&ManualEnv::new(3), &retention, false, &mut |_| Ok(())) {
        assert_refused(&error);
    }
    world::read(&world::remote(&objects).1, HEAD, true);
    let lineage = world::volume().into();
    if let Err(error) = verify_log(&objects, &lineage, world::SIZE, None, &mut |_, _| ()) {
        assert_refused(&error);
    }
}
