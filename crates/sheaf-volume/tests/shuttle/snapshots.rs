//! Views that never change, while commits, folds and rebases go on around them.

use std::sync::Arc;

use sheaf_volume::{
    Durability, Lsn, MemDir, MemObjects, PageCount, PageSet, PageSize, Remote, Snapshot, Volume,
};
use shuttle::thread;

use crate::support::{
    Fake, append_all, bucket, env, fill_at, idx, open, page, replica, save, size,
};
use crate::{Met, explore};

const PAGES: u32 = 3;

/// What every page of the view is full of.
fn fill(snapshot: &Snapshot) -> u8 {
    let fills: Vec<u8> = (1..=PAGES).map(|n| fill_at(snapshot, n)).collect();
    assert!(fills.iter().all(|fill| *fill == fills[0]), "a mix of states: {fills:?}");
    fills[0]
}

/// A replica with two global states behind it and nothing in its cache.
fn cold(objects: &Arc<MemObjects>) -> (Volume, Arc<dyn Remote>, MemDir) {
    let (volume, log, dir) = replica(objects, 1);
    append_all(&volume, &*log, PAGES, 1);
    let writer = volume.writer();
    volume.checkpoint(&writer).unwrap();
    drop(writer);
    append_all(&volume, &*log, PAGES, 2);
    drop(volume);
    let volume = open(&dir, env(), size()).unwrap();
    volume.set_remote(Some(log.clone()));
    (volume, log, dir)
}

#[test]
fn a_view_stays_while_folds_reuse_the_files_below_it() {
    explore(|| {
        let objects = Arc::new(MemObjects::new());
        let (volume, _, dir) = cold(&objects);
        let held = volume.head();
        thread::scope(|scope| {
            // Two folds: the second one writes into the log file that the first one left.
            scope.spawn(|| {
                for n in [3, 4] {
                    append_all(&volume, &*bucket(&objects), PAGES, n);
                    let writer = volume.writer();
                    volume.checkpoint(&writer).unwrap();
                }
            });
            scope.spawn(|| {
                let copy = held.clone();
                assert_eq!(fill(&copy), 2);
                drop(copy);
                assert_eq!(fill(&held), 2);
            });
            scope.spawn(|| {
                let head = volume.head();
                let seen = fill(&head);
                assert!((2..=4).contains(&seen));
                assert_eq!(fill(&head), seen, "a view changed");
                let global = volume.global();
                assert!(fill(&global) >= seen, "the past came back");
            });
        });
        assert_eq!(fill(&held), 2);
        drop(held);
        let writer = volume.writer();
        volume.checkpoint(&writer).unwrap();
        assert_eq!(fill(&volume.head()), 4);
        // What is on the disk is what the readers had.
        assert_eq!(fill(&open(&dir.crash(), env(), size()).unwrap().head()), 4);
    });
}

#[test]
fn a_view_taken_beside_a_fold_is_held() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        let volume = open(&MemDir::new(), env(), size()).unwrap();
        save(&volume, 1, 1, Durability::Memory).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                save(&volume, 1, 2, Durability::Memory).unwrap();
                let writer = volume.writer();
                volume.checkpoint(&writer).unwrap();
            });
            scope.spawn(|| match fill_at(&volume.head(), 1) {
                1 => noted.note("before"),
                2 => noted.note("after"),
                other => panic!("nobody ever wrote {other}"),
            });
        });
    });
    met.expect(&["after", "before"]);
}

#[test]
fn tidying_takes_nothing_from_anybody() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        // Tidying begins at a mebibyte of log.
        let large = PageSize::new(65_536).unwrap();
        let dir = MemDir::new();
        let fake = Fake::new(large, &[]);
        fake.adopted(&dir, 17).set_remote(None);
        let volume = open(&dir, env(), large).unwrap();
        volume.set_remote(Some(fake));
        volume.hydrate(&mut |_, _| {}).unwrap();
        drop(volume);
        let volume = open(&dir, env(), large).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| volume.tidy().unwrap());
            scope.spawn(|| {
                let head = volume.head();
                assert_eq!([fill_at(&head, 1), fill_at(&head, 17)], [1, 17]);
            });
            scope.spawn(|| {
                let mut draft = volume.draft(volume.writer());
                draft.write(idx(2), vec![99; large.bytes()].into());
                drop(draft.save(None, Vec::new(), Durability::Memory).unwrap());
            });
        });
        let base = sheaf_volume::Dir::open(&dir, "main.db").unwrap();
        noted.note(if base.is_empty().unwrap() { "not folded" } else { "folded" });
        for volume in [volume, open(&dir.fork(), env(), large).unwrap()] {
            let head = volume.head();
            assert_eq!([fill_at(&head, 1), fill_at(&head, 2), fill_at(&head, 17)], [1, 99, 17]);
        }
    });
    met.expect(&["folded", "not folded"]);
}

#[test]
fn a_rebase_is_seen_whole_or_not_at_all() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        let objects = Arc::new(MemObjects::new());
        let (other, log, _) = replica(&objects, 1);
        append_all(&other, &*log, PAGES, 1);
        let (volume, mine, _) = replica(&objects, 2);
        let draft = volume.rebase(volume.writer(), &mine.pull(Lsn(0)).unwrap()).unwrap();
        drop(draft.publish(Vec::new(), Vec::new()).unwrap());
        // A draft on top of the base, redone on the next one, where it makes another page.
        save(&volume, 4, 11, Durability::Memory).unwrap();
        append_all(&other, &*log, PAGES, 2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let commits = mine.pull(Lsn(1)).unwrap();
                let mut draft = volume.rebase(volume.writer(), &commits).unwrap();
                draft.write(idx(4), page(12));
                draft.write(idx(5), page(12));
                let attr = ("at".to_owned(), Some(vec![2].into()));
                drop(draft.publish(Vec::new(), vec![attr]).unwrap());
            });
            for _ in 0..2 {
                let noted = noted.clone();
                let volume = &volume;
                scope.spawn(move || {
                    let attr = volume.attr("at").is_some();
                    let head = volume.head();
                    let (count, base) = (head.page_count(), fill(&head));
                    let drafts = [fill_at(&head, 4), fill_at(&head, 5)];
                    let state = (count, drafts);
                    assert!(!attr || base == 2, "the attribute came before its state");
                    if base == 1 {
                        noted.note("before");
                        assert_eq!(state, (PageCount(4), [11, 0]));
                    } else {
                        noted.note("after");
                        assert_eq!((base, state), (2, (PageCount(5), [12, 12])));
                    }
                });
            }
        });
    });
    met.expect(&["after", "before"]);
}

#[test]
fn a_position_means_the_same_state_while_the_base_moves() {
    explore(|| {
        let objects = Arc::new(MemObjects::new());
        let (volume, log, _) = replica(&objects, 1);
        append_all(&volume, &*log, PAGES, 1);
        thread::scope(|scope| {
            scope.spawn(|| append_all(&volume, &*log, PAGES, 2));
            scope.spawn(|| assert_eq!(fill(&volume.at(Lsn(1)).unwrap()), 1));
            scope.spawn(|| {
                let pages: PageSet = (1..=PAGES).map(idx).collect();
                let pages = volume.pages_at(Lsn(1), &pages).unwrap();
                assert!(pages.iter().all(|(_, content)| *content == page(1)));
            });
        });
    });
}

#[test]
fn the_page_cache_gives_no_other_version() {
    explore(|| {
        let volume = open(&MemDir::new(), env(), size()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=2 {
                    let mut draft = volume.draft(volume.writer());
                    // More pages than the cache holds, so that versions come and go.
                    (1..=20).for_each(|number| draft.write(idx(number), page(n)));
                    drop(draft.save(None, Vec::new(), Durability::Memory).unwrap());
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    let head = volume.head();
                    let (seen, again) = (fill(&head), fill(&head));
                    assert_eq!(seen, again, "a view changed");
                    assert_eq!(fill_at(&head, 20), seen, "a mix of states");
                });
            }
        });
        assert_eq!(fill(&volume.head()), 2);
    });
}
