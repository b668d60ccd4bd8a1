//! Flushes: what was acknowledged is on the disk, and after a failure nothing is acknowledged.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sheaf_volume::{
    Append, Commit, Dir, DirLock, Durability, ErrorKind, FetchedPage, File, Lsn, MemDir,
    MemObjects, Remote, RemoteHead, RemoteLog, Result, SegmentId, SegmentPieces, Want,
};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use shuttle::thread;

use crate::support::{
    after_power_cut, append, bucket, env, fill_at, idx, open, page, replica, save, size,
};
use crate::{Met, explore};

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

/// A directory whose disk drops what one flush should have made durable. That flush says so, and
/// the next ones of the same file claim that all is well, as operating systems do, until the file
/// is written anew.
#[derive(Clone, Debug)]
struct LossyDir {
    dir: MemDir,
    disk: Arc<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    /// Flushes that will still work; then one fails.
    good: AtomicU64,
    failed: AtomicBool,
}

#[derive(Debug)]
struct LossyFile {
    file: Box<dyn File>,
    disk: Arc<Disk>,
    lost: AtomicBool,
}

impl Dir for LossyDir {
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let (file, disk) = (self.dir.open(name)?, Arc::clone(&self.disk));
        Ok(Box::new(LossyFile { file, disk, lost: AtomicBool::new(false) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.dir.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }

    fn lock(&self) -> io::Result<Box<dyn DirLock>> {
        self.dir.lock()
    }

    fn flush(&self) -> io::Result<()> {
        self.dir.flush()
    }
}

impl File for LossyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            self.lost.store(false, Ordering::SeqCst);
        }
        self.file.truncate(len)
    }

    fn flush(&self) -> io::Result<()> {
        if self.lost.load(Ordering::SeqCst) {
            return Ok(());
        }
        let used =
            self.disk.good.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if used.is_ok() || self.disk.failed.swap(true, Ordering::SeqCst) {
            return self.file.flush();
        }
        self.lost.store(true, Ordering::SeqCst);
        Err(io::Error::other("the disk dropped it"))
    }
}

/// Threads commit and flush while the disk fails after `good` flushes; `fold` lets one fold too.
fn lose(good: u64, fold: bool, met: &Met) {
    let dir = MemDir::new();
    let disk = Arc::new(Disk::default());
    disk.good.store(u64::MAX, Ordering::SeqCst);
    let lossy = LossyDir { dir: dir.clone(), disk: Arc::clone(&disk) };
    let volume = open(&lossy, env(), size()).unwrap();
    disk.good.store(good, Ordering::SeqCst);
    thread::scope(|scope| {
        for n in 1..=3 {
            let (dir, volume) = (&dir, &volume);
            scope.spawn(move || {
                let saved = save(volume, n, 1, Durability::Memory);
                match saved.and_then(|()| volume.flush()) {
                    Ok(()) => {
                        met.note("acknowledged");
                        assert_eq!(after_power_cut(dir, n), 1, "acknowledged and lost");
                    }
                    Err(e) => {
                        met.note(if e.kind() == ErrorKind::Closed { "closed" } else { "failed" });
                        assert!(matches!(e.kind(), ErrorKind::Io | ErrorKind::Closed));
                    }
                }
            });
        }
        if fold {
            scope.spawn(|| {
                let writer = volume.writer();
                volume.checkpoint(&writer).ok();
            });
        }
    });
    let poisoned = volume.status().poisoned;
    assert!(fold || poisoned == disk.failed.load(Ordering::SeqCst));
    if poisoned {
        // Closed for everybody, whatever the disk claims now.
        assert_eq!(volume.flush().unwrap_err().kind(), ErrorKind::Closed);
        let again = save(&volume, 1, 2, Durability::Memory);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Closed);
        let writer = volume.writer();
        assert_eq!(volume.checkpoint(&writer).unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn nobody_is_acknowledged_after_a_failed_flush() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        lose(0, false, &noted);
        lose(1, false, &noted);
    });
    met.expect(&["acknowledged", "closed", "failed"]);
}

#[test]
fn nobody_is_acknowledged_after_the_failed_flush_of_a_fold() {
    let met = Met::default();
    let noted = met.clone();
    explore(move || {
        lose(0, true, &noted);
        lose(1, true, &noted);
        lose(2, true, &noted);
    });
    met.expect(&["acknowledged", "closed", "failed"]);
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
    fn put_segment(&self, id: SegmentId, pieces: &mut SegmentPieces<'_>) -> Result<()> {
        self.log.put_segment(id, pieces)
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
