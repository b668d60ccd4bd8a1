//! One frame of pages behind a right hash, and behind a wrong one.
//!
//! Asserts: what unpacks has exactly the pages and sizes its commit says, whatever the frame
//! claims; one wrong bit in the hash and nothing unpacks. The hash is computed here from
//! `docs/format.md`, not by the code under test.

use sheaf_volume::{
    Commit, CommitHash, ErrorKind, FrameRef, Lsn, PageCount, PageIdx, PageSet, PageSize, VolumeId,
};

use crate::input::{Input, assert_refusal, page_size};

pub(crate) const VOLUME: VolumeId = VolumeId::from_bytes([7; 16]);

/// Page size, number of pages, distance between them, then the frame's bytes.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let size = page_size(input.byte());
    let count = u32::from(input.byte() % 9);
    let gap = u32::from(input.byte()).max(1);
    let members: Vec<PageIdx> = (1..=count).filter_map(|n| PageIdx::new(n * gap)).collect();
    let mut commit = commit_of(size, &members, input.0);
    match commit.inline_pages() {
        Ok(pages) => {
            assert!(pages.iter().map(|(idx, _)| *idx).eq(members.iter().copied()));
            assert!(pages.iter().all(|(_, page)| page.len() == size.bytes()));
        }
        Err(error) => assert_refusal(&error),
    }
    for frame in &mut commit.frames {
        frame.hash[usize::from(data.first().copied().unwrap_or(0)) % 16] ^= 1;
    }
    let error = commit.inline_pages().expect_err("a wrong hash is found");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// A commit with one inline frame of these pages.
pub(crate) fn commit_of(size: PageSize, members: &[PageIdx], bytes: &[u8]) -> Commit {
    let pages: PageSet = members.iter().copied().collect();
    let too_many = "BUG: an input beyond four gigabytes";
    let frame = FrameRef {
        pages: u32::try_from(members.len()).expect(too_many),
        len: u32::try_from(bytes.len()).expect(too_many),
        hash: hash(members, bytes),
    };
    Commit {
        volume: VOLUME,
        lsn: Lsn(1),
        parent: CommitHash::default(),
        epoch: 1,
        writer: [1; 16],
        nonce: [2; 16],
        time_ms: 1_700_000_000_000,
        page_size: size,
        page_count: PageCount(pages.last().map_or(0, PageIdx::get)),
        bulk_seen: Lsn::ZERO,
        pages,
        frames: vec![frame],
        segment: None,
        inline: bytes.to_vec().into(),
        tables: Vec::new(),
        applied: Vec::new(),
    }
}

fn hash(members: &[PageIdx], bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"sheaf frame v1").update(VOLUME.as_bytes());
    hasher.update(&u32::try_from(members.len()).unwrap_or(u32::MAX).to_le_bytes());
    for member in members {
        hasher.update(&member.get().to_le_bytes());
    }
    let mut hash = [0; 16];
    hasher.update(bytes).finalize_xof().fill(&mut hash);
    hash
}
