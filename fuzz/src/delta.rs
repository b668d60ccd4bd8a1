//! Page deltas over an old version of the input's choice, and commit deltas.
//!
//! Asserts: a delta makes a page of the old version's size or is refused; what the encoder makes
//! of any two pages makes the second of the first; a commit delta is written back as it was read,
//! and a wrong bit in its check is found. The check is computed here from `docs/format.md`, not by
//! the code under test.

use bytes::Bytes;
use sheaf_volume::{CommitDelta, ErrorKind, VolumeId, apply_delta, encode_delta};

use crate::input::{Input, assert_refusal, page_size};
use crate::site::IDS;

const CHECK_LEN: usize = 16;

/// The bytes as a commit delta, as they are and sealed; then page size, a section that begins the
/// old version, and a delta (and as much of a new version).
pub fn target(data: &[u8]) {
    commit(data);
    let body = &data[..data.len().saturating_sub(CHECK_LEN)];
    let sealed = [body, &check(IDS.volume, body)].concat();
    commit(&sealed);
    let mut wrong = sealed;
    if let Some(last) = wrong.last_mut() {
        *last ^= 1;
    }
    let error = CommitDelta::decode(IDS.volume, &wrong.into()).expect_err("a wrong check is found");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");

    let mut input = Input(data);
    let size = page_size(input.byte()).bytes();
    let mut old = input.section().to_vec();
    old.resize(size, 0xa5);
    match apply_delta(&old, input.0) {
        Ok(page) => round_trip(&old, &page),
        Err(error) => assert_refusal(&error),
    }
    let mut new = input.0.to_vec();
    new.resize(size, 0);
    round_trip(&old, &new);
}

fn round_trip(old: &[u8], new: &[u8]) {
    assert_eq!(new.len(), old.len());
    let delta = encode_delta(old, new);
    assert!(delta.len() <= new.len() + 1);
    assert_eq!(&*apply_delta(old, &delta).expect("BUG: our own delta"), new);
}

fn commit(data: &[u8]) {
    match CommitDelta::decode(IDS.volume, &Bytes::copy_from_slice(data)) {
        Ok(delta) => {
            assert_eq!(delta.encode(), data, "one byte form");
            assert!(delta.page_set().iter().all(|idx| delta.page_count.contains(idx)));
        }
        Err(error) => assert_refusal(&error),
    }
}

fn check(volume: VolumeId, body: &[u8]) -> [u8; CHECK_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sheaf commit delta v1").update(volume.as_bytes()).update(body);
    let mut check = [0; CHECK_LEN];
    hasher.finalize_xof().fill(&mut check);
    check
}
