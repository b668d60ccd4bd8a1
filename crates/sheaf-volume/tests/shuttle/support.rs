//! Volumes, a bucket and a remote that fails as it is told, for one schedule at a time.
//!
//! Invariant: nothing here outlives a schedule, and every page's content tells where it belongs.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use sheaf_volume::{
    BucketRemote, Commit, CommitHash, Dir, Draft, Durability, Env, Error, ErrorKind, FetchedPage,
    Lsn, ManualEnv, MemDir, MemObjects, Objects, Page, PageCount, PageIdx, PageSize, PushMeta,
    Remote, RemoteHead, RemoteLog, Result, Snapshot, Volume, VolumeId, VolumeOptions, Want,
};
use shuttle::sync::{Mutex, MutexGuard};
use shuttle::thread;

pub(crate) const ID: VolumeId = VolumeId::from_bytes([9; 16]);

/// Small pages, for there are many schedules.
pub(crate) fn size() -> PageSize {
    PageSize::new(512).unwrap()
}

pub(crate) fn idx(number: u32) -> PageIdx {
    PageIdx::new(number).unwrap()
}

pub(crate) fn page(fill: u8) -> Page {
    vec![fill; size().bytes()].into()
}

/// The byte that a page is full of.
pub(crate) fn fill_of(page: &Page) -> u8 {
    assert!(page.iter().all(|byte| *byte == page[0]), "a torn page");
    page[0]
}

pub(crate) fn fill_at(snapshot: &Snapshot, number: u32) -> u8 {
    fill_of(&snapshot.page(idx(number)).unwrap())
}

pub(crate) fn open(dir: &dyn Dir, env: Arc<dyn Env>, size: PageSize) -> Result<Volume> {
    // The smallest cache there is, so that reads go to the files too.
    Volume::open(
        dir,
        env,
        VolumeOptions { create: Some((ID, size)), cache_pages: 1, ..VolumeOptions::default() },
    )
}

pub(crate) fn env() -> Arc<dyn Env> {
    Arc::new(ManualEnv::new(1))
}

/// Saves one page in its own transaction.
pub(crate) fn save(volume: &Volume, number: u32, fill: u8, how: Durability) -> Result<()> {
    let mut draft = volume.draft(volume.writer());
    draft.write(idx(number), page(fill));
    draft.save(None, Vec::new(), how).map(drop)
}

/// What is on the disk after a power cut now, by page; zero for a page that is not there.
pub(crate) fn after_power_cut(dir: &MemDir, number: u32) -> u8 {
    let volume = open(&dir.crash(), env(), size()).unwrap();
    fill_at(&volume.head(), number)
}

/// Runs what may panic on purpose, as a thread of a larger program would; true if it did.
pub(crate) fn panics(act: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(act)).is_err()
}

/// A panic that no hook reports.
pub(crate) fn panic_quietly() -> ! {
    resume_unwind(Box::new("meant"))
}

pub(crate) fn bucket(objects: &Arc<MemObjects>) -> Arc<BucketRemote> {
    Arc::new(BucketRemote::new(objects.clone() as Arc<dyn Objects>, ID, size()))
}

/// A replica in its own directory, with its own view of a bucket.
pub(crate) fn replica(objects: &Arc<MemObjects>, seed: u64) -> (Volume, Arc<BucketRemote>, MemDir) {
    replica_of(size(), objects, seed)
}

pub(crate) fn replica_of(
    size: PageSize,
    objects: &Arc<MemObjects>,
    seed: u64,
) -> (Volume, Arc<BucketRemote>, MemDir) {
    let dir = MemDir::new();
    let volume = open(&dir, Arc::new(ManualEnv::new(seed)), size).unwrap();
    let log = Arc::new(BucketRemote::new(objects.clone() as Arc<dyn Objects>, ID, size));
    volume.set_remote(Some(log.clone() as Arc<dyn Remote>));
    (volume, log, dir)
}

fn meta() -> PushMeta {
    PushMeta { writer: [1; 16], epoch: 0, tables: Vec::new(), applied: Vec::new() }
}

/// Pulls, writes, pushes and publishes; false when another was first.
pub(crate) fn append(
    volume: &Volume,
    log: &dyn RemoteLog,
    write: impl Fn(&mut Draft),
) -> Result<bool> {
    let writer = volume.writer();
    let mut draft = volume.rebase(writer, &log.pull(volume.base().0)?)?;
    write(&mut draft);
    let pushed = volume.push(&mut draft, log, meta())?.is_some();
    if pushed {
        drop(draft.publish(Vec::new(), Vec::new())?);
    } else {
        drop(draft.discard());
    }
    Ok(pushed)
}

/// Writes pages 1 to `count`, all alike, as the next state of the log.
pub(crate) fn append_all(volume: &Volume, log: &dyn RemoteLog, count: u32, fill: u8) {
    let write = |draft: &mut Draft| (1..=count).for_each(|n| draft.write(idx(n), page(fill)));
    assert!(append(volume, log, write).unwrap());
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    Answer,
    Fail,
    Panic,
}

/// A remote whose page `n` is full of `n`, and that sees to it that no page is under way twice.
#[derive(Debug)]
pub(crate) struct Fake {
    state: Mutex<FakeState>,
    page_size: PageSize,
}

#[derive(Debug, Default)]
struct FakeState {
    fates: VecDeque<Fate>,
    under_way: BTreeSet<(Lsn, PageIdx)>,
    asked: Vec<PageIdx>,
}

impl Fake {
    /// Requests meet these fates in turn; later ones are answered.
    pub(crate) fn new(page_size: PageSize, fates: &[Fate]) -> Arc<Self> {
        let fates = fates.iter().copied().collect();
        Arc::new(Self { state: Mutex::new(FakeState { fates, ..FakeState::default() }), page_size })
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Every page asked for so far, as often as it was.
    pub(crate) fn asked(&self) -> Vec<PageIdx> {
        self.state().asked.clone()
    }

    /// A new replica that has adopted this remote's state of `count` pages and has none of them.
    pub(crate) fn adopted(self: &Arc<Self>, dir: &MemDir, count: u32) -> Volume {
        let volume = open(dir, env(), self.page_size).unwrap();
        volume.set_remote(Some(self.clone() as Arc<dyn Remote>));
        let head = RemoteHead { page_count: PageCount(count), ..self.head().unwrap() };
        let draft = volume.adopt(volume.writer(), ID, head).unwrap();
        drop(draft.publish(Vec::new(), Vec::new()).unwrap());
        volume
    }
}

impl Remote for Fake {
    fn head(&self) -> Result<RemoteHead> {
        Ok(RemoteHead {
            lsn: Lsn(1),
            hash: CommitHash([1; 32]),
            page_count: PageCount(0),
            page_size: self.page_size,
            time_ms: 0,
        })
    }

    fn pull(&self, _: Lsn) -> Result<Vec<Commit>> {
        Ok(Vec::new())
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        let each = |want: &Want| -> Vec<_> { want.pages.iter().map(|n| (want.lsn, n)).collect() };
        let keys: Vec<(Lsn, PageIdx)> = wants.iter().flat_map(each).collect();
        let fate = {
            let mut state = self.state();
            for key in &keys {
                assert!(state.under_way.insert(*key), "page {} is under way already", key.1);
                state.asked.push(key.1);
            }
            state.fates.pop_front().unwrap_or(Fate::Answer)
        };
        thread::yield_now();
        self.state().under_way.retain(|key| !keys.contains(key));
        match fate {
            Fate::Answer => {}
            Fate::Fail => return Err(Error::new(ErrorKind::Unavailable, "no way")),
            Fate::Panic => panic_quietly(),
        }
        let answer = keys.into_iter().map(|(lsn, idx)| {
            let fill = u8::try_from(idx.get()).unwrap();
            FetchedPage { idx, lsn, page: vec![fill; self.page_size.bytes()].into() }
        });
        Ok(answer.collect())
    }
}
