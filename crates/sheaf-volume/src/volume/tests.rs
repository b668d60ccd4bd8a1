//! Volumes over a bucket: drafts, truncation, races for a position, interrupted pushes.

use std::sync::Arc;

use super::{Draft, Durability, PushMeta, Saved, Volume, VolumeOptions};
use crate::{
    BucketRemote, Env, ErrorKind, Lsn, ManualEnv, MemDir, MemObjects, Objects, Page, PageCount,
    PageIdx, PageSize, Remote, Result, VolumeId,
};

mod deltas;
mod jump;
mod reclaimed;
mod space;
mod worked_example;

const ID: VolumeId = VolumeId::from_bytes([9; 16]);

fn idx(number: u32) -> PageIdx {
    PageIdx::new(number).unwrap()
}

fn page(fill: u8) -> Page {
    vec![fill; PageSize::DEFAULT.bytes()].into()
}

fn open(dir: &MemDir, env: Arc<dyn Env>) -> Volume {
    let create = Some((ID, PageSize::DEFAULT));
    Volume::open(dir, env, VolumeOptions { create, ..VolumeOptions::default() }).unwrap()
}

fn replica(objects: &Arc<MemObjects>, seed: u64) -> (Volume, Arc<BucketRemote>, MemDir) {
    let dir = MemDir::new();
    let volume = open(&dir, Arc::new(ManualEnv::new(seed)));
    let log = bucket(objects);
    volume.set_remote(Some(log.clone() as Arc<dyn Remote>));
    (volume, log, dir)
}

fn bucket(objects: &Arc<MemObjects>) -> Arc<BucketRemote> {
    Arc::new(BucketRemote::new(objects.clone() as Arc<dyn Objects>, ID, PageSize::DEFAULT))
}

fn meta() -> PushMeta {
    PushMeta { writer: [1; 16], epoch: 0, tables: Vec::new(), applied: Vec::new() }
}

/// Pulls, writes, pushes and publishes; false when another was first.
fn append(volume: &Volume, log: &BucketRemote, write: impl Fn(&mut Draft)) -> Result<bool> {
    let commits = log.pull(volume.base().0)?;
    let mut draft = volume.rebase(volume.writer(), &commits)?;
    write(&mut draft);
    let pushed = volume.push(&mut draft, log, meta())?.is_some();
    drop(draft.publish(Vec::new(), Vec::new())?);
    Ok(pushed)
}

#[test]
fn pages_cut_off_and_grown_over_again_are_zeros_here_and_elsewhere() {
    let objects = Arc::new(MemObjects::new());
    let (a, log, _) = replica(&objects, 1);
    let (b, _, _) = replica(&objects, 2);
    let full = |draft: &mut Draft| (1..=6u8).for_each(|n| draft.write(idx(n.into()), page(n)));
    assert!(append(&a, &log, full).unwrap());
    // Within one draft, and across two commits.
    let dip = |draft: &mut Draft| {
        draft.truncate(PageCount(2));
        draft.write(idx(5), page(50));
    };
    assert!(append(&a, &log, dip).unwrap());
    assert!(append(&a, &log, |draft| draft.truncate(PageCount(1))).unwrap());
    assert!(append(&a, &log, |draft| draft.write(idx(3), page(30))).unwrap());
    let commits = log.pull(Lsn(0)).unwrap();
    drop(b.rebase(b.writer(), &commits).unwrap().publish(Vec::new(), Vec::new()).unwrap());
    for volume in [&a, &b] {
        let snapshot = volume.head();
        assert_eq!(snapshot.page_count(), PageCount(3));
        assert_eq!(snapshot.page(idx(2)).unwrap(), page(0), "an old page came back");
        assert_eq!(snapshot.page(idx(3)).unwrap(), page(30));
        let earlier = volume.at(Lsn(2)).unwrap();
        assert_eq!(earlier.page(idx(4)).unwrap(), page(0));
        assert_eq!(earlier.page(idx(5)).unwrap(), page(50));
    }
    assert_eq!(a.head().content_hash().unwrap(), b.head().content_hash().unwrap());
}

#[test]
fn commits_may_claim_any_page_count() {
    let objects = Arc::new(MemObjects::new());
    let (a, log, _) = replica(&objects, 1);
    let (b, _, _) = replica(&objects, 2);
    let vast = |draft: &mut Draft| {
        draft.write(idx(1), page(1));
        draft.write(idx(u32::MAX), page(2));
    };
    assert!(append(&a, &log, vast).unwrap());
    assert!(append(&a, &log, |draft| draft.truncate(PageCount(1))).unwrap());
    assert!(append(&a, &log, |draft| draft.write(idx(3), page(3))).unwrap());
    let commits = log.pull(Lsn(0)).unwrap();
    let mut draft = b.rebase(b.writer(), &commits).unwrap();
    assert_eq!(draft.page(idx(2)).unwrap(), page(0));
    assert_eq!(draft.page(idx(3)).unwrap(), page(3));
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
    assert_eq!(a.head().content_hash().unwrap(), b.head().content_hash().unwrap());
}

#[test]
fn two_writers_race_and_one_wins_each_position() {
    let objects = Arc::new(MemObjects::new());
    let (a, log_a, _) = replica(&objects, 1);
    let (b, log_b, _) = replica(&objects, 2);
    for round in 0..20 {
        let mut mine = a.rebase(a.writer(), &log_a.pull(a.base().0).unwrap()).unwrap();
        let mut theirs = b.rebase(b.writer(), &log_b.pull(b.base().0).unwrap()).unwrap();
        mine.write(idx(1), page(round));
        theirs.write(idx(1), page(100 + round));
        let first = a.push(&mut mine, &*log_a, meta()).unwrap();
        let second = b.push(&mut theirs, &*log_b, meta()).unwrap();
        assert!(first.is_some() && second.is_none());
        drop(mine.publish(Vec::new(), Vec::new()).unwrap());
        drop(theirs.discard());
    }
    assert_eq!(log_a.head().unwrap().lsn, Lsn(20));
}

#[test]
fn a_draft_that_is_dropped_leaves_no_trace_and_an_empty_one_makes_no_state() {
    let objects = Arc::new(MemObjects::new());
    let (volume, _, _) = replica(&objects, 1);
    let mut draft = volume.draft(volume.writer());
    draft.write(idx(1), page(1));
    drop(draft);
    assert_eq!(volume.head().page_count(), PageCount(0));
    let draft = volume.draft(volume.writer());
    let (saved, writer) = draft.save(None, Vec::new(), Durability::Local).unwrap();
    assert_eq!(saved, Saved::Unchanged);
    assert!(volume.try_writer().is_none(), "one writer at a time");
    drop(writer);
    assert!(volume.try_writer().is_some());
}

/// An environment that fails at one fault point.
#[derive(Debug)]
struct FailAt(ManualEnv, &'static str);

impl Env for FailAt {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.0.fill_random(bytes);
    }

    fn fault(&self, point: &'static str) -> std::io::Result<()> {
        if point == self.1 { Err(std::io::Error::other("crash here")) } else { Ok(()) }
    }
}

#[test]
fn an_interrupted_push_is_resolved_by_asking_the_log() {
    for (point, landed) in [("push: before append", false), ("push: after append", true)] {
        let objects = Arc::new(MemObjects::new());
        let dir = MemDir::new();
        let volume = open(&dir, Arc::new(FailAt(ManualEnv::new(1), point)));
        let log = bucket(&objects);
        volume.set_remote(Some(log.clone() as Arc<dyn Remote>));
        let crashed = append(&volume, &log, |draft| draft.write(idx(1), page(1)));
        assert_eq!(crashed.unwrap_err().kind(), ErrorKind::Io);
        // The power is cut: the intent was flushed before anybody could see the commit.
        let again = open(&dir.crash(), Arc::new(ManualEnv::new(2)));
        assert!(again.push_interrupted(), "{point}");
        let writer = again.writer();
        assert_eq!(again.recover_push(&writer, &*log).unwrap(), landed, "{point}");
        drop(writer);
        assert!(!again.push_interrupted());
        again.set_remote(Some(log.clone() as Arc<dyn Remote>));
        assert!(append(&again, &log, |draft| draft.write(idx(2), page(2))).unwrap());
        assert_eq!(again.base().0, if landed { Lsn(2) } else { Lsn(1) });
        let first = again.head().page(idx(1)).unwrap();
        assert_eq!(first, if landed { page(1) } else { page(0) });
    }
}
