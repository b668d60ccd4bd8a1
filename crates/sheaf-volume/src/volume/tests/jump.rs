//! The jump: a replica that takes merged changes ends where one ends that took every commit.

use std::sync::Arc;

use proptest::prelude::*;

use super::{ID, append, idx, page, replica};
use crate::volume::Volume;
use crate::{
    BucketRemote, Changes, CommitHash, ErrorKind, Lsn, MemObjects, PageCount, PageSet, Remote,
    TimelineId,
};

const NOBODY: TimelineId = TimelineId::from_bytes([0; 16]);

fn pull_all(volume: &Volume, log: &BucketRemote) {
    let commits = log.pull(volume.base().0).unwrap();
    drop(
        volume.rebase(volume.writer(), &commits).unwrap().publish(Vec::new(), Vec::new()).unwrap(),
    );
}

fn jump(volume: &Volume, changes: &Changes) {
    drop(volume.jump(volume.writer(), changes).unwrap().publish(Vec::new(), Vec::new()).unwrap());
}

fn assert_equal(a: &Volume, b: &Volume) {
    assert_eq!(a.base(), b.base());
    assert_eq!(a.head().page_count(), b.head().page_count());
    assert_eq!(a.head().content_hash().unwrap(), b.head().content_hash().unwrap());
    let times = [a, b].map(|volume| volume.status().base_time_ms);
    assert_eq!(times[0], times[1]);
}

/// A writer with six pages that everybody has, and two others at that position.
fn three() -> (Volume, Arc<BucketRemote>, Volume, Volume) {
    let objects = Arc::new(MemObjects::new());
    let (writer, log, _) = replica(&objects, 1);
    let (puller, ..) = replica(&objects, 2);
    let (jumper, ..) = replica(&objects, 3);
    let full =
        |draft: &mut crate::Draft| (1..=6u8).for_each(|n| draft.write(idx(n.into()), page(n)));
    assert!(append(&writer, &log, full).unwrap());
    for volume in [&puller, &jumper] {
        pull_all(volume, &log);
        volume.head().content_hash().unwrap();
    }
    (writer, log, puller, jumper)
}

#[test]
fn pages_cut_off_on_the_way_are_zeros_after_a_jump() {
    let (writer, log, puller, jumper) = three();
    assert!(append(&writer, &log, |draft| draft.truncate(PageCount(2))).unwrap());
    assert!(append(&writer, &log, |draft| draft.write(idx(5), page(50))).unwrap());
    let changes = log.changes(Lsn(1), NOBODY).unwrap().unwrap();
    assert_eq!((changes.floor, changes.head.page_count), (PageCount(2), PageCount(5)));
    assert_eq!(changes.pages, [idx(5)].into_iter().collect::<PageSet>());
    pull_all(&puller, &log);
    jump(&jumper, &changes);
    assert_equal(&puller, &jumper);
    assert_eq!(jumper.head().page(idx(4)).unwrap(), page(0), "an old page came back");
    // And a state from before is what it was.
    assert_eq!(jumper.at(Lsn(1)).unwrap().page(idx(4)).unwrap(), page(4));
}

#[test]
fn an_index_of_pages_and_the_commits_after_it_are_one_jump() {
    let (writer, log, puller, jumper) = three();
    assert!(append(&writer, &log, |draft| draft.truncate(PageCount(3))).unwrap());
    assert!(append(&writer, &log, |draft| draft.write(idx(6), page(60))).unwrap());
    // What an index says at this position: page 6 changed after 1; it has not 4 and 5.
    let seen = [4, 5, 6].into_iter().map(idx).collect();
    let index = Changes::of_state(ID, Lsn(1), log.head().unwrap(), seen);
    assert!(append(&writer, &log, |draft| draft.write(idx(2), page(20))).unwrap());
    let changes = Changes::read(&*log, Some(index), Lsn(1), NOBODY).unwrap().unwrap();
    assert_eq!(changes.head.lsn, Lsn(4));
    pull_all(&puller, &log);
    jump(&jumper, &changes);
    assert_equal(&puller, &jumper);
}

#[test]
fn changes_of_another_log_or_place_are_refused() {
    let (writer, log, _, jumper) = three();
    assert!(append(&writer, &log, |draft| draft.write(idx(2), page(20))).unwrap());
    let good = log.changes(Lsn(1), NOBODY).unwrap().unwrap();
    assert_eq!(good.clone().checked().unwrap(), good);
    let but = |edit: &dyn Fn(&mut Changes)| {
        let mut bad = good.clone();
        edit(&mut bad);
        bad
    };
    let forked = but(&|bad| bad.parent = Some(CommitHash([7; 32])));
    let foreign = but(&|bad| bad.volume = crate::VolumeId::from_bytes([1; 16]));
    let later = but(&|bad| bad.after = Lsn(2));
    for bad in [forked, foreign, later] {
        let error = jumper.jump(jumper.writer(), &bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let head = but(&|bad| bad.head.hash = CommitHash([7; 32]));
    let beyond = but(&|bad| bad.pages = [idx(99)].into_iter().collect());
    let floor = but(&|bad| bad.floor = PageCount(7));
    let nowhere = but(&|bad| bad.after = bad.head.lsn);
    for bad in [head, beyond, floor, nowhere] {
        assert_eq!(bad.checked().unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert_eq!(jumper.base().0, Lsn(1));
}

#[derive(Clone, Debug)]
enum Write {
    Page(u32, u8),
    Cut(u32),
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (1..24u32, 1..255u8).prop_map(|(at, fill)| Write::Page(at, fill)),
        1 => (1..24u32).prop_map(Write::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_jump_ends_where_every_commit_leads(
        commits in prop::collection::vec(prop::collection::vec(write(), 0..5), 1..14),
        begin in any::<prop::sample::Index>(),
        early in any::<bool>(),
    ) {
        let (writer, log, puller, jumper) = three();
        let begin = begin.index(commits.len());
        for (n, writes) in commits.iter().enumerate() {
            let wrote = append(&writer, &log, |draft| {
                for write in writes {
                    match *write {
                        Write::Page(at, fill) => draft.write(idx(at), page(fill)),
                        Write::Cut(count) => draft.truncate(PageCount(count.min(draft.page_count().0))),
                    }
                }
            });
            prop_assert!(wrote.unwrap());
            if n < begin {
                pull_all(&puller, &log);
                pull_all(&jumper, &log);
            }
        }
        // What changed since before is more, and no less right.
        let after = if early { Lsn(1) } else { jumper.base().0 };
        jump(&jumper, &log.changes(after, NOBODY).unwrap().unwrap());
        pull_all(&puller, &log);
        assert_equal(&puller, &jumper);
        assert_equal(&writer, &jumper);
    }
}
