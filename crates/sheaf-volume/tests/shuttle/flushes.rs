//! Flushes: what was acknowledged is on the disk, and after a failure nothing is acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_volume::{
    Append, Commit, Durability, FetchedPage, Lsn, MemDir, MemObjects, Remote, RemoteHead,
    RemoteLog, Result, SegmentId, Want,
};
use shuttle::thread;

use crate::explore;
use crate::support::{
    after_power_cut, append, bucket, env, fill_at, idx, open, page, replica, save, size,
};

#[test]
fn what_a_flush_acknowledged_is_in_the_flushed_image() {
    explore(|| {
        let dir = MemDir::new();
        let volume = open(&dir, env(), size()).unwrap();
        thread::scope(|scope| {
            for n in 1..=2 {
                let (dir, volume) = (&dir, &volume);
                scope.spawn(move || {
                    save(volume, n, 1, Durability::Normal).unwrap();
                    volume.flush().unwrap();
                    assert_eq!(after_power_cut(dir, n), 1, "acknowledged and lost");
                    save(volume, n, 2, Durability::Local).unwrap();
                    assert_eq!(after_power_cut(dir, n), 2, "acknowledged and lost");
                });
            }
            scope.spawn(|| volume.flush().unwrap());
            scope.spawn(|| {
                let writer = volume.writer();
                volume.checkpoint(&writer).unwrap();
            });
        });
        assert!(!volume.is_dirty());
    });
}

/// A log that looks at the pusher's disk whenever somebody could see a commit.
#[derive(Debug)]
struct Watching {
    log: Arc<dyn RemoteLog>,
    dir: MemDir,
}

impl Remote for Watching {
    fn head(&self) -> Result<RemoteHead> {
        self.log.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.log.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.log.fetch(wants)
    }
}

impl RemoteLog for Watching {
    fn put_segment(&self, id: SegmentId, bytes: Bytes) -> Result<()> {
        self.log.put_segment(id, bytes)
    }

    fn append(&self, commit: &Commit) -> Result<Append> {
        let left = open(&self.dir.crash(), env(), size())?;
        assert!(left.push_interrupted(), "a commit is seen before its intent is durable");
        let appended = self.log.append(commit)?;
        assert!(open(&self.dir.crash(), env(), size())?.push_interrupted());
        Ok(appended)
    }

    fn recover(&self, lsn: Lsn, nonce: [u8; 16]) -> Result<Append> {
        self.log.recover(lsn, nonce)
    }
}

#[test]
fn an_intent_is_durable_before_its_commit_is_seen() {
    explore(|| {
        let objects = Arc::new(MemObjects::new());
        let (volume, log, dir) = replica(&objects, 1);
        let watching = Watching { log: log.clone(), dir };
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(append(&volume, &watching, |draft| draft.write(idx(1), page(5))).unwrap());
            });
            scope.spawn(|| volume.flush().unwrap());
            scope.spawn(|| {
                volume.set_attrs(vec![("a".to_owned(), Some(Bytes::from_static(b"b")))]).unwrap();
            });
        });
        let (next, _, _) = replica(&objects, 2);
        let commits = bucket(&objects).pull(Lsn(0)).unwrap();
        let draft = next.rebase(next.writer(), &commits).unwrap();
        drop(draft.publish(Vec::new(), Vec::new()).unwrap());
        assert_eq!([fill_at(&volume.head(), 1), fill_at(&next.head(), 1)], [5, 5]);
    });
}
