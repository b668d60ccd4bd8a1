//! Sees every call to the disk and every fault point of one run: takes a picture before each, and
//! spoils the one that the plan names.
//!
//! Invariant: a picture holds the disk with everything unsynced, the bucket, and which states of
//! the model are allowed there. Leaves out what becomes of a picture.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_volume::{Env, ManualEnv, MemObjects, Objects as _};

use crate::disk::{DiskFault, DiskHook, DiskOp, SimDisk};

/// What an injected error looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The device reports an error; a flush loses what it should have saved.
    Eio,
    /// No space: writes and truncations fail.
    Full,
    /// Writes stop half-way.
    Short,
}

/// What is to go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Plan {
    #[default]
    Nothing,
    /// The disk call with this number, or every one from there on.
    Disk { at: usize, kind: Kind, forever: bool },
    /// The time with this number that the fault point is reached.
    Point { name: &'static str, nth: u64 },
}

/// The moment before a call.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) before: String,
    pub(super) disk: SimDisk,
    pub(super) objects: Arc<MemObjects>,
    /// The oldest and the newest state that a crash now may leave.
    pub(super) low: usize,
    pub(super) high: usize,
    /// Counts [`Recorder::next_phase`].
    pub(super) phase: usize,
}

#[derive(Debug, Default)]
struct Inner {
    is_on: bool,
    low: usize,
    high: usize,
    phase: usize,
    moments: Vec<Moment>,
    copy: Option<(usize, Arc<MemObjects>)>,
    plan: Plan,
    calls: Vec<&'static [Kind]>,
    points: BTreeMap<&'static str, u64>,
    is_hit: bool,
}

#[derive(Debug)]
pub(super) struct Recorder {
    disk: SimDisk,
    objects: Arc<MemObjects>,
    env: ManualEnv,
    inner: Mutex<Inner>,
}

impl Recorder {
    pub(super) fn new(disk: SimDisk, objects: Arc<MemObjects>, seed: u64) -> Arc<Self> {
        let (env, inner) = (ManualEnv::new(seed), Mutex::default());
        let recorder = Arc::new(Self { disk, objects, env, inner });
        recorder.disk.set_hook(Some(Arc::clone(&recorder) as Arc<dyn DiskHook>));
        recorder
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was counted, and takes pictures from now on or not.
    pub(super) fn start(&self, is_on: bool, plan: Plan) {
        let mut inner = self.inner();
        let (low, high) = (inner.low, inner.high);
        *inner = Inner { is_on, plan, low, high, ..Inner::default() };
    }

    pub(super) fn bounds(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.low, inner.high)
    }

    pub(super) fn set_low(&self, low: usize) {
        self.inner().low = low;
    }

    pub(super) fn set_high(&self, high: usize) {
        self.inner().high = high;
    }

    pub(super) fn next_phase(&self) {
        self.inner().phase += 1;
    }

    /// The ways in which each call so far could have failed.
    pub(super) fn calls(&self) -> Vec<&'static [Kind]> {
        self.inner().calls.clone()
    }

    pub(super) fn points(&self) -> BTreeMap<&'static str, u64> {
        self.inner().points.clone()
    }

    pub(super) fn is_hit(&self) -> bool {
        self.inner().is_hit
    }

    /// Takes the last picture, and gives all.
    pub(super) fn finish(&self) -> Vec<Moment> {
        self.shoot(&mut self.inner(), || "the end".to_owned());
        std::mem::take(&mut self.inner().moments)
    }

    /// Ends the hold that disk and recorder have on each other.
    pub(super) fn release(&self) {
        self.disk.set_hook(None);
    }

    fn shoot(&self, inner: &mut Inner, before: impl FnOnce() -> String) {
        if !inner.is_on {
            return;
        }
        let keys = self.objects.list("", None).unwrap_or_default();
        let objects = match &inner.copy {
            Some((count, copy)) if *count == keys.len() => Arc::clone(copy),
            _ => copy_objects(&self.objects),
        };
        inner.copy = Some((keys.len(), Arc::clone(&objects)));
        let (low, high, phase) = (inner.low, inner.high, inner.phase);
        let disk = self.disk.killed();
        inner.moments.push(Moment { before: before(), disk, objects, low, high, phase });
    }
}

/// A bucket with the same objects.
pub(super) fn copy_objects(from: &MemObjects) -> Arc<MemObjects> {
    let copy = MemObjects::new();
    for key in from.list("", None).unwrap_or_default() {
        if let Ok(bytes) = from.get(&key) {
            copy.put(&key, bytes).ok();
        }
    }
    Arc::new(copy)
}

impl DiskHook for Recorder {
    fn before(&self, op: &DiskOp<'_>) -> DiskFault {
        let mut inner = self.inner();
        if op.is_change() {
            self.shoot(&mut inner, || format!("{op:?}"));
        }
        let ways: &'static [Kind] = match op {
            DiskOp::Write { .. } => &[Kind::Eio, Kind::Full, Kind::Short],
            DiskOp::Truncate { .. } => &[Kind::Eio, Kind::Full],
            _ => &[Kind::Eio],
        };
        inner.calls.push(ways);
        let Plan::Disk { at, kind, forever } = inner.plan else { return DiskFault::None };
        let call = inner.calls.len();
        if !ways.contains(&kind) || call < at || (call > at && !forever) {
            return DiskFault::None;
        }
        let fault = match (kind, op) {
            (Kind::Eio, DiskOp::Flush { .. } | DiskOp::FlushDir) => DiskFault::FlushFails,
            (Kind::Eio, _) => DiskFault::Fail(io::ErrorKind::Other),
            (Kind::Full, _) => DiskFault::Fail(io::ErrorKind::StorageFull),
            (Kind::Short, DiskOp::Write { len, .. }) => DiskFault::Short { keep: len / 2 },
            (Kind::Short, _) => DiskFault::None,
        };
        inner.is_hit |= fault != DiskFault::None;
        fault
    }
}

impl Env for Recorder {
    fn now_ms(&self) -> u64 {
        self.env.now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.env.fill_random(bytes);
    }

    fn fault(&self, point: &'static str) -> io::Result<()> {
        let mut inner = self.inner();
        self.shoot(&mut inner, || format!("fault point `{point}`"));
        *inner.points.entry(point).or_default() += 1;
        let nth = inner.points.get(point).copied().unwrap_or(0);
        let is_planned = inner.plan == Plan::Point { name: point, nth };
        inner.is_hit |= is_planned;
        if is_planned { Err(io::Error::other(format!("injected at `{point}`"))) } else { Ok(()) }
    }
}
