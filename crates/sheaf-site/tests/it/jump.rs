//! Replicas that were away for long: one step to the newest state, with what they had pending.

use std::collections::BTreeSet;

use sheaf_volume::{
    Append, BucketRemote, Changes, Commit, Error, ErrorKind, FetchedPage, Lsn, PageIdx, PageSet,
    Remote, RemoteHead, RemoteLog, Result, SegmentId, SegmentPieces, TimelineId, Verdict, Want,
};

use crate::support::{Device, World, assert_converged};

/// A log that takes a commit and breaks off before it says so.
#[derive(Debug)]
struct BreaksOff<'d>(&'d BucketRemote);

/// A log whose commits up to a position were reclaimed, with an index of the pages there.
#[derive(Debug)]
struct Reclaimed<'d> {
    log: &'d BucketRemote,
    boundary: Lsn,
}

impl Reclaimed<'_> {
    /// What an index of the state at the boundary tells about the time after a position.
    fn index(&self, after: Lsn) -> Result<Changes> {
        let mut commits = self.log.pull(after)?;
        commits.retain(|commit| commit.lsn <= self.boundary);
        let mut all = None;
        Changes::extend(&mut all, commits, TimelineId::from_bytes([0; 16]))?;
        let all = all.expect("there are commits up to the boundary");
        let cut = (all.floor.0 + 1..=all.head.page_count.0).filter_map(PageIdx::new);
        let mut pages: PageSet = cut.collect();
        pages.union_with(&all.pages);
        Ok(Changes::of_state(all.volume, after, all.head, pages))
    }
}

impl Remote for Reclaimed<'_> {
    fn head(&self) -> Result<RemoteHead> {
        self.log.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        if after < self.boundary {
            return Err(Error::new(ErrorKind::Expired, "reclaimed"));
        }
        self.log.pull(after)
    }

    fn changes(&self, after: Lsn, timeline: TimelineId) -> Result<Option<Changes>> {
        let index = (after < self.boundary).then(|| self.index(after)).transpose()?;
        Changes::read(self, index, after, timeline)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        assert!(wants.iter().all(|want| want.lsn >= self.boundary), "a page that is gone");
        self.log.fetch(wants)
    }
}

impl Remote for BreaksOff<'_> {
    fn head(&self) -> Result<RemoteHead> {
        self.0.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.0.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.0.fetch(wants)
    }
}

impl RemoteLog for BreaksOff<'_> {
    fn put_segment(&self, id: SegmentId, pieces: &mut SegmentPieces<'_>) -> Result<()> {
        self.0.put_segment(id, pieces)
    }

    fn append(&self, commit: &Commit) -> Result<Append> {
        self.0.append(commit)?;
        Err(Error::new(ErrorKind::Ambiguous, "broke off"))
    }

    fn recover(&self, lsn: Lsn, nonce: [u8; 16]) -> Result<Append> {
        self.0.recover(lsn, nonce)
    }
}

/// Two devices with a table of counters, and `b` with three mutations (one of which is refused)
/// that the log has decided without `b` having heard of it, and one that nobody has.
fn pending_and_decided(world: &World) -> (Device, Device) {
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v COUNTER_INT, u TEXT UNIQUE)");
    a.sql("INSERT INTO t VALUES (1, 0, 'one'), (2, 0, 'two')");
    a.exchange();
    b.exchange();
    b.sql("UPDATE t SET v = v + 1 WHERE id = 1");
    b.sql("INSERT INTO t VALUES (8, 0, 'taken')");
    b.sql("UPDATE t SET v = v + 1 WHERE id = 2");
    a.sql("INSERT INTO t VALUES (7, 0, 'taken')");
    a.sql("UPDATE t SET v = v + 10 WHERE id = 2");
    a.exchange();
    let broke = b.site.exchange_with_log(&BreaksOff(&b.log)).unwrap_err();
    assert_eq!(broke.kind(), ErrorKind::Ambiguous);
    b.sql("UPDATE t SET v = v + 100 WHERE id = 1");
    assert_eq!(b.site.status().pending.len(), 4);
    (a, b)
}

fn grow(device: &Device, commits: usize) {
    for n in 0..commits {
        device.sql(&format!("UPDATE t SET v = v + 1000 WHERE id = {}", n % 2 + 1));
        device.exchange();
    }
}

#[test]
fn a_jump_drops_what_the_log_has_decided_and_tells_how() {
    let world = World::new();
    let (a, b) = pending_and_decided(&world);
    a.exchange();
    grow(&a, 9);
    let changes = b.log.changes(b.site.base().0, b.site.timeline()).unwrap().unwrap();
    let outcome = b.site.jump(&changes).unwrap();
    let verdicts: Vec<Verdict> = outcome.confirmed.iter().map(|(.., verdict)| *verdict).collect();
    assert_eq!(verdicts, [Verdict::Ok, Verdict::Rejected, Verdict::Ok]);
    assert_eq!((outcome.rejected.len(), outcome.replayed, outcome.untold), (1, 1, vec![]));
    assert_eq!(b.site.rejected().len(), 1);
    assert_eq!(b.local("SELECT v FROM t WHERE id < 3"), "5101;4011");
    b.exchange();
    a.exchange();
    assert_eq!(a.local("SELECT v FROM t WHERE id < 3"), "5101;4011");
    assert_converged(&[&a, &b]);
}

#[test]
fn who_is_far_behind_jumps_once_and_ends_where_the_others_are() {
    let world = World::new();
    let (a, b) = pending_and_decided(&world);
    let puller = world.device();
    puller.exchange();
    a.exchange();
    grow(&a, 1_100);
    // Commit by commit, in steps of its own.
    loop {
        let commits = puller.log.pull(puller.site.base().0).unwrap();
        if commits.is_empty() {
            break;
        }
        puller.site.integrate(commits).unwrap();
    }
    let before = b.site.volume().status().head;
    let mut seen = 0;
    let followed = b.site.follow(&*b.log, &mut |commits| {
        seen += commits.len();
        Ok(())
    });
    let followed = followed.unwrap();
    assert_eq!((followed.commits, seen), (1_101, 0));
    // One state for the base, one for what was redone on it.
    assert_eq!(b.site.volume().status().head.0, before.0 + 2);
    assert_eq!(followed.outcome.confirmed.len(), 3);
    assert_eq!(b.local("SELECT v FROM t WHERE id < 3"), "550101;550011");
    for device in [&b, &a, &puller] {
        device.exchange();
    }
    assert_converged(&[&a, &b, &puller]);
}

#[test]
fn who_was_away_while_the_log_was_reclaimed_recovers() {
    let world = World::new();
    let (a, b) = pending_and_decided(&world);
    a.exchange();
    grow(&a, 6);
    let boundary = a.site.base().0;
    grow(&a, 3);
    let reclaimed = Reclaimed { log: &b.log, boundary };
    let outcome = b.site.follow(&reclaimed, &mut |_| Ok(())).unwrap().outcome;
    // Three were decided, nobody can tell how; one is still to be sent.
    assert_eq!((outcome.untold.len(), outcome.confirmed.len(), outcome.replayed), (3, 0, 1));
    assert_eq!(b.site.status().pending.len(), 1);
    let kept = b.site.rejected();
    let seqs: BTreeSet<u64> = kept.iter().map(|rejected| rejected.seq).collect();
    assert_eq!(seqs, outcome.untold.into_iter().collect());
    assert!(kept.iter().all(|rejected| rejected.reason.contains("not known")), "{kept:?}");
    b.site.dismiss_rejected_through(u64::MAX).unwrap();
    assert_eq!(b.local("SELECT v FROM t WHERE id < 3"), "5101;4011");
    b.exchange();
    a.exchange();
    assert_converged(&[&a, &b]);
}

#[test]
fn a_restored_backup_that_jumps_keeps_its_pending_work() {
    let world = World::new();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v COUNTER_INT)");
    a.sql("INSERT INTO t VALUES (1, 0), (2, 0)");
    a.exchange();
    b.exchange();
    let backup = b.dir.fork();
    b.sql("UPDATE t SET v = v + 1 WHERE id = 1");
    b.exchange();
    grow(&a, 4);
    let restored = world.open(backup, 2);
    restored.sql("UPDATE t SET v = v + 100 WHERE id = 1");
    let boundary = a.site.base().0;
    let reclaimed = Reclaimed { log: &restored.log, boundary };
    let timeline = restored.site.timeline();
    let outcome = restored.site.follow(&reclaimed, &mut |_| Ok(())).unwrap().outcome;
    assert_eq!((outcome.untold.len(), outcome.replayed), (0, 1));
    assert_ne!(restored.site.timeline(), timeline);
    restored.exchange();
    a.exchange();
    b.exchange();
    assert_eq!(a.local("SELECT v FROM t WHERE id = 1"), "2101");
    assert_converged(&[&a, &b, &restored]);
}
