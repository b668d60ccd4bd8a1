//! One commit, as in the log of a bucket and on the wire.
//!
//! Asserts: what decodes passes `check` and encodes to the very same bytes, its hash is its
//! trailer, and its inline pages are as many and as large as it says or refused.

use bytes::Bytes;
use sheaf_volume::Commit;

use crate::input::assert_refusal;

/// Bytes of the hash at the end.
const TRAILER: usize = 32;

/// The bytes as they are, then with a right trailer.
pub fn target(data: &[u8]) {
    check(data);
    let body = data.get(..data.len().saturating_sub(TRAILER)).unwrap_or_default();
    check(&seal(body));
}

/// A body with its trailer.
pub(crate) fn seal(body: &[u8]) -> Vec<u8> {
    [body, blake3::hash(body).as_bytes()].concat()
}

fn check(bytes: &[u8]) {
    let commit = match Commit::decode(Bytes::copy_from_slice(bytes)) {
        Ok(commit) => commit,
        Err(error) => return assert_refusal(&error),
    };
    assert_eq!(commit.encode(), bytes, "a commit has one byte form");
    assert_eq!(bytes.get(bytes.len() - TRAILER..), Some(&commit.hash().0[..]));
    commit.check().expect("BUG: decoded what check refuses");
    for applied in &commit.applied {
        let end = applied.end_seq();
        let last = applied.verdicts().last().map(|(seq, _)| seq + 1);
        assert_eq!(last, Some(end), "verdicts end where the run ends");
    }
    match commit.inline_pages() {
        Ok(pages) if commit.segment.is_some() => assert!(pages.is_empty()),
        Ok(pages) => {
            assert!(pages.iter().map(|(idx, _)| *idx).eq(commit.pages.iter()));
            assert!(pages.iter().all(|(_, page)| page.len() == commit.page_size.bytes()));
        }
        Err(error) => assert_refusal(&error),
    }
}
