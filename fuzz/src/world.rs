//! A small log in memory, for targets that put a foreign object into a bucket.
//!
//! Invariant: the same bytes every time. Commits are made here from `docs/format.md`; segments,
//! packs and checkpoints by the code that production uses.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sheaf_volume::{
    BucketRemote, Commit, CommitHash, Error, ErrorKind, Lsn, ManualEnv, MemObjects, Objects as _,
    PageCount, PageIdx, PageSet, PageSize, Remote as _, RemoteLog as _, SegmentId, VolumeId, Want,
};

use crate::frame::{VOLUME, commit_of};

pub(crate) const SIZE: PageSize = PageSize::new(512).expect("BUG: a page size");
/// Pages in every state.
const PAGES: u32 = 24;
/// Which pages each commit changes, and whether it has a segment for them. The checkpoint refers to
/// both segments, and has one of its own for the rest.
const COMMITS: [(&[u32], bool); 6] = [
    (&[1, 2, 3, 4, 5, 6, 7, 8], true),
    (&[9, 10, 11, 12, 13, 14, 15, 16], false),
    (&[3, 17, 24], false),
    (&[9, 18, 19, 20, 21, 22], true),
    (&[1], false),
    (&[20], false),
];
/// The position of the checkpoint.
pub(crate) const CUT: Lsn = Lsn(4);
/// The newest position.
pub(crate) const HEAD: Lsn = Lsn(6);
/// Commits of the long log: one pack, and some behind it.
pub(crate) const LONG: u64 = 258;

/// The objects of a log, by key.
pub(crate) type World = Vec<(String, Bytes)>;

/// Six commits, with a checkpoint at [`CUT`].
pub(crate) fn small() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let log = remote(&MemObjects::new());
        let mut parent = CommitHash::default();
        for (lsn, (pages, in_segment)) in (1..).zip(COMMITS) {
            parent = append(&log.1, lsn, parent, pages, in_segment);
            if Lsn(lsn) == CUT {
                log.1.checkpoint(&ManualEnv::new(1), CUT).expect("BUG: objects in memory");
            }
        }
        all(&log.0)
    })
}

/// [`LONG`] commits, all but the first without a page.
pub(crate) fn long() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let log = remote(&MemObjects::new());
        let mut parent = CommitHash::default();
        for lsn in 1..=LONG {
            parent = append(&log.1, lsn, parent, if lsn == 1 { &[1] } else { &[] }, false);
        }
        all(&log.0)
    })
}

fn append(
    log: &BucketRemote,
    lsn: u64,
    parent: CommitHash,
    pages: &[u32],
    far: bool,
) -> CommitHash {
    let members: Vec<PageIdx> = pages.iter().filter_map(|&number| PageIdx::new(number)).collect();
    // The first byte says that the frame is not compressed.
    let pages = members.iter().flat_map(|idx| content(Lsn(lsn), *idx));
    let bytes: Vec<u8> = std::iter::once(0).chain(pages).collect();
    let mut commit = commit_of(SIZE, &members, &bytes);
    (commit.lsn, commit.parent, commit.page_count) = (Lsn(lsn), parent, PageCount(PAGES));
    commit.nonce[8..].copy_from_slice(&lsn.to_be_bytes());
    if members.is_empty() {
        (commit.frames, commit.inline) = (Vec::new(), Bytes::new());
    }
    if far {
        let id = SegmentId::from_bytes(commit.nonce);
        let mut pieces = std::iter::once(Ok(std::mem::take(&mut commit.inline)));
        log.put_segment(id, &mut pieces).expect("BUG: objects in memory");
        commit.segment = Some(id);
    }
    log.append(&commit).expect("BUG: a commit that follows");
    commit.hash()
}

fn content(lsn: Lsn, idx: PageIdx) -> Vec<u8> {
    [lsn.0.to_le_bytes()[0], idx.get().to_le_bytes()[0]].repeat(SIZE.bytes() / 2)
}

/// What a page has at a position of the small log.
fn truth(at: Lsn, idx: PageIdx) -> Vec<u8> {
    let writer = (1..=at.0).zip(COMMITS).filter(|(_, (pages, _))| pages.contains(&idx.get()));
    writer.last().map_or_else(|| vec![0; SIZE.bytes()], |(lsn, _)| content(Lsn(lsn), idx))
}

fn all(objects: &MemObjects) -> World {
    let keys = objects.list("", None).expect("BUG: objects in memory");
    let get = |key: String| {
        let bytes = objects.get(&key).expect("BUG: objects in memory");
        (key, bytes)
    };
    keys.into_iter().map(get).collect()
}

/// The objects of a world in a bucket, with one of them put there, or in place of another.
pub(crate) fn with(world: &World, key: &str, bytes: Bytes) -> (MemObjects, BucketRemote) {
    let objects = MemObjects::new();
    for (key, bytes) in world {
        objects.put(key, bytes.clone()).expect("BUG: objects in memory");
    }
    objects.put(key, bytes).expect("BUG: objects in memory");
    remote(&objects)
}

/// The same objects in a bucket of their own.
pub(crate) fn copy(objects: &MemObjects) -> MemObjects {
    let copy = MemObjects::new();
    for (key, bytes) in all(objects) {
        copy.put(&key, bytes).expect("BUG: objects in memory");
    }
    copy
}

/// Objects, and somebody who knows nothing of them yet.
pub(crate) fn remote(objects: &MemObjects) -> (MemObjects, BucketRemote) {
    (objects.clone(), BucketRemote::new(Arc::new(objects.clone()), VOLUME, SIZE))
}

/// The key of an object that the log's volume has under this folder and number.
pub(crate) fn key(folder: &str, number: u64) -> String {
    format!("volumes/{VOLUME}/{folder}/{number:020}")
}

/// The object under a key.
pub(crate) fn object(world: &World, key: &str) -> Bytes {
    let found = world.iter().find(|(known, _)| known == key);
    found.map(|(_, bytes)| bytes.clone()).expect("BUG: the world has this object")
}

/// Reads every page at a position of the small log: whether that works. What comes back is what was
/// asked for, of the right size; and if the reader was told no lies, it is right.
pub(crate) fn read(reader: &BucketRemote, at: Lsn, is_honest: bool) -> bool {
    let pages: PageSet = (1..=PAGES).filter_map(PageIdx::new).collect();
    let answer = match reader.fetch(&[Want { lsn: at, pages: pages.clone() }]) {
        Ok(answer) => answer,
        Err(error) => {
            assert_refused(&error);
            return false;
        }
    };
    for page in &answer {
        assert_eq!((page.lsn, page.page.len()), (at, SIZE.bytes()));
        assert!(!is_honest || *page.page == truth(at, page.idx)[..], "page {} is wrong", page.idx);
    }
    let got: PageSet = answer.iter().map(|page| page.idx).collect();
    assert!(pages.iter().all(|idx| got.contains(idx)), "pages are missing in the answer");
    true
}

/// Reading through foreign objects may also find that what they name is not there, or no longer.
#[track_caller]
pub(crate) fn assert_refused(error: &Error) {
    let is_away = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Expired);
    if !is_away {
        crate::input::assert_refusal(error);
    }
}

/// Whose log it is.
pub(crate) const fn volume() -> VolumeId {
    VOLUME
}

/// A commit of the long log, as it must be read whatever its pack says.
pub(crate) fn commits(world: &World) -> Vec<Commit> {
    let prefix = key("log", 0);
    let prefix = prefix.trim_end_matches('0');
    let logs = world.iter().filter(|(key, _)| key.starts_with(prefix));
    logs.map(|(_, bytes)| Commit::decode(bytes.clone()).expect("BUG: our own commit")).collect()
}
