//! Closing a site while others may hold it.

use futures_util::FutureExt as _;
use sheaf_site::{Site, SiteIds, SiteOptions};
use sheaf_volume::{
    BucketRemote, DeviceId, Env, ManualEnv, MemObjects, PageSize, Remote as _, SiteId, StdDir,
};

use tokio::sync::Notify;

use super::*;
use crate::open::Watcher;

const IDS: SiteIds = SiteIds {
    site: SiteId::from_bytes([1; 16]),
    volume: VolumeId::from_bytes([2; 16]),
    page_size: PageSize::DEFAULT,
};

fn open_site(dir: &StdDir) -> Result<Site> {
    let env: Arc<dyn Env> = Arc::new(ManualEnv::new(1));
    let options = SiteOptions::new("s", DeviceId::from_bytes([3; 16]));
    Site::open(dir, env, SiteOptions { create: Some(IDS), ..options })
}

/// An actor whose thread has not been started, in its slot.
fn actor(dir: &StdDir) -> Actor {
    let log = Arc::new(BucketRemote::new(Arc::new(MemObjects::new()), IDS.volume, IDS.page_size));
    let head = log.head().unwrap();
    let (queue, jobs) = mpsc::channel(1);
    let site = open_site(dir).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualEnv::new(2));
    let open = Arc::new(OpenSite::new(IDS, site, log, head, queue, Arc::clone(&clock)));
    let slot: Slot = Arc::new(Mutex::new(Some(Arc::clone(&open))));
    Actor::new(open, slot, jobs, Arc::new(Metrics::new()), clock)
}

#[test]
fn an_idle_site_is_closed_only_when_nobody_holds_or_watches_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = StdDir::open(root.path()).unwrap();
    let actor = actor(&dir);
    let slot = Arc::clone(&actor.slot);

    let held = Arc::clone(&actor.open);
    let actor = actor.close_if_unused().expect("somebody reads it");
    drop(held);

    let (notices, _incoming) = mpsc::channel(1);
    actor.open.watch(7, Watcher { notices, cut: Arc::default() });
    let actor = actor.close_if_unused().expect("somebody watches it");
    actor.open.unwatch(7);

    // The watch left a look in the queue.
    let mut actor = actor.close_if_unused().expect("there is work");
    assert!(matches!(actor.jobs.try_recv(), Ok(Job::Look)));

    assert!(open_site(&dir).is_err(), "one replica at a time");
    assert!(actor.close_if_unused().is_none());
    assert!(locked(&slot).is_none());
    open_site(&dir).expect("the directory is free again");
}

#[test]
fn a_site_that_failed_leaves_its_slot_but_not_that_of_its_successor() {
    let root = tempfile::tempdir().unwrap();
    let dirs = [root.path().join("a"), root.path().join("b")].map(|p| StdDir::open(p).unwrap());
    let failed = actor(&dirs[0]);
    let slot = Arc::clone(&failed.slot);
    failed.open.bury();
    assert!(failed.open.is_dead());
    let successor = actor(&dirs[1]);
    *locked(&slot) = Some(Arc::clone(&successor.open));
    assert!(failed.leave().is_none());
    let kept = locked(&slot).clone().expect("the successor stays");
    assert!(Arc::ptr_eq(&kept, &successor.open) && !kept.is_dead());
}

/// Found by the simulator (seed 295): whoever watched a site whose replica failed heard nothing of
/// it any more, because its successor did not know them.
#[test]
fn whoever_watches_a_site_that_fails_is_cut_off_to_come_again() {
    let root = tempfile::tempdir().unwrap();
    let dir = StdDir::open(root.path()).unwrap();
    let actor = actor(&dir);
    let (notices, _incoming) = mpsc::channel(1);
    let cut = Arc::new(Notify::new());
    actor.open.watch(1, Watcher { notices, cut: Arc::clone(&cut) });
    actor.failed(&Error::new(ErrorKind::Unavailable, "the store is away"), Vec::new());
    assert!(cut.notified().now_or_never().is_none(), "a store that is away is no reason");
    actor.failed(&Error::new(ErrorKind::Io, "the disk failed"), Vec::new());
    assert!(cut.notified().now_or_never().is_some());
    assert!(actor.open.is_dead() && !actor.open.is_watched());
}

#[test]
fn a_watcher_without_room_is_cut_off_and_others_are_told() {
    let root = tempfile::tempdir().unwrap();
    let dir = StdDir::open(root.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let actor = actor(&dir);
    let (full, _full_incoming) = mpsc::channel(1);
    let (roomy, mut incoming) = mpsc::channel(8);
    let (cut, other) = (Arc::new(Notify::new()), Arc::default());
    actor.open.watch(1, Watcher { notices: full, cut: Arc::clone(&cut) });
    actor.open.watch(2, Watcher { notices: roomy, cut: other });
    let notice = actor.open.notice_after(Lsn::ZERO);
    assert_eq!([actor.open.tell(&notice), actor.open.tell(&notice)], [0, 1]);
    runtime.block_on(cut.notified());
    assert!(incoming.try_recv().is_ok() && incoming.try_recv().is_ok());
    assert_eq!(actor.open.tell(&notice), 0, "it is not told again");
}
