//! The worked example of DESIGN 4.4, step by step, and which pages travel.

use std::sync::{Arc, Mutex};

use super::{ID, append, idx, meta};
use crate::store::Locate;
use crate::{
    BucketRemote, Commit, Draft, Durability, FetchedPage, Lsn, ManualEnv, MemDir, MemObjects,
    Objects, Page, PageSize, Remote, RemoteHead, Result, Volume, VolumeOptions, Want,
};

/// Pages that do not fit into a commit object, so that a pull says only which changed.
const SIZE: PageSize = match PageSize::new(65_536) {
    Some(size) => size,
    None => panic!("65,536 is a page size"),
};

/// A bucket that remembers what it was asked for, and gives that and no neighbours.
#[derive(Debug)]
struct Asked {
    log: BucketRemote,
    /// Each request: positions and pages.
    requests: Mutex<Vec<Vec<(u64, u32)>>>,
}

impl Remote for Asked {
    fn head(&self) -> Result<RemoteHead> {
        self.log.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.log.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        let of =
            |want: &Want| want.pages.iter().map(|idx| (want.lsn.0, idx.get())).collect::<Vec<_>>();
        self.requests.lock().unwrap().push(wants.iter().flat_map(of).collect());
        let mut pages = self.log.fetch(wants)?;
        pages.retain(|page| wants.iter().any(|w| w.lsn == page.lsn && w.pages.contains(page.idx)));
        Ok(pages)
    }
}

fn noise(seed: u8) -> Page {
    let mut bytes = vec![0; SIZE.bytes()];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn replica(objects: &Arc<MemObjects>, seed: u64) -> (Volume, Arc<Asked>) {
    let create = Some((ID, SIZE));
    let options = VolumeOptions { create, ..VolumeOptions::default() };
    let volume = Volume::open(&MemDir::new(), Arc::new(ManualEnv::new(seed)), options).unwrap();
    let log = BucketRemote::new(Arc::clone(objects) as Arc<dyn Objects>, ID, SIZE);
    let asked = Arc::new(Asked { log, requests: Mutex::default() });
    volume.set_remote(Some(asked.clone() as Arc<dyn Remote>));
    (volume, asked)
}

fn write_locally(volume: &Volume, times: u8, pages: [u32; 2]) {
    for round in 0..times {
        let mut draft = volume.draft(volume.writer());
        for number in pages {
            draft.write(idx(number), noise(round));
        }
        drop(draft.save(None, Vec::new(), Durability::Normal).unwrap());
    }
}

/// Writes two pages, each with its own content.
fn both(pages: [u32; 2], fill: u8) -> impl Fn(&mut Draft) {
    move |draft| {
        for number in pages {
            draft.write(idx(number), noise(fill + u8::try_from(number).unwrap()));
        }
    }
}

fn pull(volume: &Volume, asked: &Asked) {
    let commits = asked.pull(volume.base().0).unwrap();
    drop(
        volume.rebase(volume.writer(), &commits).unwrap().publish(Vec::new(), Vec::new()).unwrap(),
    );
}

/// The state, the position it equals, and per page where its mark stands; `None` if it is here.
type Stand = (u64, u64, Vec<Option<(u64, u64)>>);

fn stand(volume: &Volume) -> Stand {
    let state = volume.0.store.read();
    let mark = |number: u32| state.pending(idx(number), state.head);
    let marks = (1..=state.head_pages.0).map(|n| mark(n).map(|(lsn, mark)| (lsn.0, mark.0)));
    (state.head.0, state.base.lsn.0, marks.collect())
}

/// As the table in DESIGN 4.4, with two differences: states are counted from 1, and a push makes
/// one state more, because nothing is visible before the log has answered (ADR 0004).
#[test]
fn worked_example() {
    let objects = Arc::new(MemObjects::new());
    let (volume, asked) = replica(&objects, 1);
    let (other, others) = replica(&objects, 2);
    let (here, at_11, at_23) = (None, Some((1, 11)), Some((3, 23)));

    write_locally(&volume, 10, [1, 2]);
    assert_eq!(stand(&volume), (10, 0, vec![here; 2]), "create, write ten times");

    assert!(append(&other, &others.log, both([1, 2], 100)).unwrap());
    pull(&volume, &asked);
    assert_eq!(stand(&volume), (11, 1, vec![at_11; 2]), "pull: someone else wrote");

    write_locally(&volume, 10, [3, 4]);
    assert_eq!(stand(&volume), (21, 1, vec![at_11, at_11, here, here]), "write ten times");
    let mut draft = volume.rebase(volume.writer(), &[]).unwrap();
    both([3, 4], 9)(&mut draft);
    assert!(volume.push(&mut draft, &asked.log, meta()).unwrap().is_some());
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
    assert_eq!(stand(&volume), (22, 2, vec![at_11, at_11, here, here]), "push");

    assert!(append(&other, &others.log, both([3, 4], 200)).unwrap());
    pull(&volume, &asked);
    assert_eq!(stand(&volume), (23, 3, vec![at_11, at_11, at_23, at_23]), "pull");
    assert!(asked.requests.lock().unwrap().is_empty(), "no page has travelled so far");

    // The mark found is the one at 11; the planner adds the two pages after it, and each is stored
    // where its own mark stands.
    assert_eq!(volume.head().page(idx(1)).unwrap(), noise(101));
    assert_eq!(*asked.requests.lock().unwrap(), [vec![(1, 1), (1, 2), (3, 3)]]);
    assert_eq!(stand(&volume), (23, 3, vec![here, here, here, at_23]), "read");

    // What came along is not asked for again, and no page stands where it did not yet hold.
    assert_eq!(volume.head().page(idx(2)).unwrap(), noise(102));
    assert_eq!(volume.head().page(idx(3)).unwrap(), noise(203));
    assert_eq!(asked.requests.lock().unwrap().len(), 1);
    let before = volume.0.store.page(idx(3), crate::LocalLsn(22)).unwrap();
    assert!(matches!(before, Locate::Page(page) if page == noise(12)), "still the page pushed");
}
