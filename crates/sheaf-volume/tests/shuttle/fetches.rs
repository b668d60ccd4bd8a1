//! Missing pages: who asks, who waits, and what a failure does to those who wait.

use std::sync::{Arc, LazyLock};

use sheaf_volume::{
    Draft, ErrorKind, MemDir, MemObjects, Page, PageSize, Remote, RemoteLog, Snapshot, Volume,
};
use shuttle::thread;

use crate::support::{
    Fake, Fate, ID, append, env, fill_at, fill_of, idx, open, panics, replica_of, size,
};
use crate::{Met, explore};

/// Reads one page in each of several threads.
fn read_each(volume: &Volume, numbers: &[u32], check: impl Fn(&Snapshot, u32) + Sync) {
    let check = &check;
    thread::scope(|scope| {
        for &number in numbers {
            scope.spawn(move || check(&volume.head(), number));
        }
    });
}

#[test]
fn readers_of_a_missing_page_send_one_request() {
    explore(|| {
        let fake = Fake::new(size(), &[]);
        let volume = fake.adopted(&MemDir::new(), 1);
        read_each(&volume, &[1, 1, 1], |head, n| assert_eq!(fill_at(head, n), 1));
        assert_eq!(fake.asked(), [idx(1)]);
        assert_eq!(volume.status().fetch_requests, 1);
    });
}

#[test]
fn scans_that_meet_ask_for_no_page_twice() {
    explore(|| {
        let fake = Fake::new(size(), &[]);
        let volume = fake.adopted(&MemDir::new(), 5);
        thread::scope(|scope| {
            scope
                .spawn(|| (1..=5u8).for_each(|n| assert_eq!(fill_at(&volume.head(), n.into()), n)));
            scope
                .spawn(|| (2..=5u8).for_each(|n| assert_eq!(fill_at(&volume.head(), n.into()), n)));
            scope.spawn(|| volume.hydrate(&mut |_, _| {}).unwrap());
        });
        let mut asked = fake.asked();
        asked.sort_unstable();
        assert_eq!(asked, (1..=5).map(idx).collect::<Vec<_>>());
    });
}

#[test]
fn a_failing_request_wakes_everybody_who_waits() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        let fake = Fake::new(size(), &[Fate::Fail]);
        let volume = fake.adopted(&MemDir::new(), 1);
        // One reader has the failure; those who waited for it ask again.
        read_each(&volume, &[1, 1, 1], |head, n| match head.page(idx(n)) {
            Ok(page) => {
                noted.note("answered");
                assert_eq!(fill_of(&page), 1);
            }
            Err(e) => {
                noted.note("failed");
                assert_eq!(e.kind(), ErrorKind::Unavailable);
            }
        });
        assert_eq!(fake.asked().len(), 2, "one request failed, one was answered");
        assert_eq!(fill_at(&volume.head(), 1), 1);
    });
    met.expect(&["answered", "failed"]);
}

#[test]
fn a_remote_that_stays_away_fails_every_reader() {
    explore(|| {
        let fake = Fake::new(size(), &[Fate::Fail; 16]);
        let volume = fake.adopted(&MemDir::new(), 2);
        read_each(&volume, &[1, 1, 2, 1], |head, n| {
            assert_eq!(head.page(idx(n)).unwrap_err().kind(), ErrorKind::Unavailable);
        });
    });
}

#[test]
fn a_request_that_panics_wakes_everybody_who_waits() {
    explore(|| {
        let fake = Fake::new(size(), &[Fate::Panic]);
        let volume = fake.adopted(&MemDir::new(), 1);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let head = volume.head();
                    if panics(|| assert_eq!(fill_at(&head, 1), 1)) {
                        assert_eq!(fill_at(&head, 1), 1);
                    }
                });
            }
        });
        assert_eq!(fake.asked().len(), 2, "one request panicked, one was answered");
    });
}

#[test]
fn what_arrives_beside_a_fold_is_kept() {
    explore(|| {
        let fake = Fake::new(size(), &[]);
        let dir = MemDir::new();
        let volume = fake.adopted(&dir, 2);
        thread::scope(|scope| {
            // Neither of these is the writer, so a fold may begin at any moment of them.
            scope.spawn(|| assert_eq!(fill_at(&volume.head(), 1), 1));
            scope.spawn(|| volume.set_attrs(vec![("a".to_owned(), Some("b".into()))]).unwrap());
            scope.spawn(|| {
                let writer = volume.writer();
                volume.checkpoint(&writer).unwrap();
            });
        });
        // Once more from the files, with nobody to ask.
        for volume in [volume, open(&dir.fork(), env(), size()).unwrap()] {
            volume.set_remote(None);
            assert_eq!(fill_at(&volume.head(), 1), 1);
            assert_eq!(volume.attr("a").unwrap(), "b");
        }
    });
}

const LARGE: PageSize = PageSize::new(65_536).expect("a power of two");

/// Large pages that do not compress, so that their commits do not carry them along. Each begins
/// with its own number.
static NOISE: LazyLock<[Page; 3]> = LazyLock::new(|| {
    [0u8, 1, 2].map(|number| {
        let mut seed = u64::from(number) + 1;
        let mut next = || {
            // Xorshift (Marsaglia 2003); not through `Env`, whose lock is the scheduler's.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[3]
        };
        let mut bytes: Vec<u8> = (0..LARGE.bytes()).map(|_| next()).collect();
        bytes[0] = number;
        bytes.into()
    })
});

fn noise(number: u8) -> Page {
    NOISE[usize::from(number)].clone()
}

/// Which noise the two pages of a view are.
fn noises(snapshot: &Snapshot) -> [u8; 2] {
    [1, 2].map(|number| {
        let page = snapshot.page(idx(number)).unwrap();
        assert_eq!(page, noise(page[0]), "a torn page");
        page[0]
    })
}

#[test]
fn an_answer_for_an_older_state_stays_there() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        let objects = Arc::new(MemObjects::new());
        let (author, log, _) = replica_of(LARGE, &objects, 1);
        let write = |fill: u8| {
            let write = |draft: &mut Draft| [1, 2].map(|n| draft.write(idx(n), noise(fill)));
            assert!(append(&author, &*log, |draft| _ = write(draft)).unwrap());
        };
        write(1);
        let (reader, remote, _) = replica_of(LARGE, &objects, 2);
        let draft = reader.adopt(reader.writer(), ID, remote.head().unwrap()).unwrap();
        drop(draft.publish(Vec::new(), Vec::new()).unwrap());
        write(2);
        let old = reader.head();
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(noises(&old), [1, 1]));
            scope.spawn(|| {
                let seen = noises(&reader.head());
                assert_eq!(seen[0], seen[1], "a mix of two states");
                noted.note(if seen[0] == 1 { "before" } else { "after" });
            });
            scope.spawn(|| follow(&reader, &*remote));
        });
        assert_eq!([noises(&old), noises(&reader.head())], [[1, 1], [2, 2]]);
    });
    met.expect(&["after", "before"]);
}

/// Takes what the log has, as a replica without work of its own does.
fn follow(volume: &Volume, log: &dyn RemoteLog) {
    let commits = log.pull(volume.base().0).unwrap();
    let draft = volume.rebase(volume.writer(), &commits).unwrap();
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
}
