//! Crash points, one after the other: small workloads are stopped before every call to the disk
//! and at every fault point, many outcomes of a power cut are tried for each, and what is left
//! must open and hold what was promised.
//!
//! Invariant: a workload runs once, and a picture is taken before each call; the middle of a write
//! is among the outcomes of the picture after it, the middle of a flush among those of the one
//! before. A power cut may leave no state older than the last that was acknowledged as flushed,
//! and none that was not begun. Leaves out several devices that crash together: see the simulator.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sheaf_volume::{Dir, Error, ErrorKind, MemObjects};

use self::recorder::{Moment, Plan, Recorder};
use self::site::SiteBench;
use self::volume::VolumeBench;
use crate::disk::{Outcome, SimDisk};
use crate::rng::Rng;

mod faults;
mod flaky;
mod recorder;
mod site;
mod site_work;
mod volume;
mod volume_work;

/// How much to try.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Outcomes of a power cut per boundary.
    pub images_per_boundary: usize,
    /// Boundaries per workload, drawn; all of them without a bound.
    pub boundaries_max: Option<usize>,
    /// Of all images of a workload about so many, spread over its boundaries, have their recovery
    /// crashed again at every boundary of its own.
    pub nested: usize,
    /// Runs per workload in which a call to the disk fails, drawn from all calls and all ways, and
    /// as many in which a fault point does.
    pub faults: usize,
    /// Only workloads whose names contain this.
    pub only: Option<&'a str>,
    /// What the drawn things follow from.
    pub seed: u64,
    /// Puts something between the store and its disk while a workload runs (not in recoveries).
    pub wrap: Option<Wrap>,
}

impl Options<'_> {
    /// Everything the issue of crash points asks for.
    #[must_use]
    pub const fn full(seed: u64) -> Self {
        Self {
            images_per_boundary: 64,
            boundaries_max: None,
            nested: 60,
            faults: 200,
            only: None,
            seed,
            wrap: None,
        }
    }

    /// A sample that takes seconds.
    #[must_use]
    pub const fn short(seed: u64) -> Self {
        Self {
            images_per_boundary: 7,
            boundaries_max: Some(3),
            nested: 6,
            faults: 1,
            only: None,
            seed,
            wrap: None,
        }
    }
}

/// Something between a store and its disk.
pub type Wrap = fn(&SimDisk) -> Arc<dyn Dir>;

/// What was tried, and what was wrong.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Workloads run.
    pub workloads: u64,
    /// Boundaries of calls and fault points at which images were made.
    pub boundaries: u64,
    /// Images made.
    pub images: u64,
    /// Images that were opened, because they were unlike those before.
    pub distinct_images: u64,
    /// Images of recoveries that were crashed, of those opened.
    pub nested_images: u64,
    /// Runs in which a call or a fault point was made to fail.
    pub faults: u64,
    /// How often each fault point was reached.
    pub fault_points: BTreeMap<&'static str, u64>,
    /// What was wrong.
    pub failures: Vec<Failure>,
}

/// Something that was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The workload.
    pub workload: &'static str,
    /// The call before which it stopped, or that failed.
    pub boundary: String,
    /// What chose the outcome.
    pub outcome_seed: u64,
    /// What was found.
    pub what: String,
}

/// What a check says.
#[derive(Debug)]
enum Trouble {
    /// The store reported an error.
    Error(Error),
    /// The store did something that it must not.
    Wrong(String),
}

type Checked<T> = Result<T, Trouble>;

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Error(error) => error,
            Trouble::Wrong(what) => Self::new(ErrorKind::Internal, what),
        }
    }
}

impl Trouble {
    fn describe(&self) -> String {
        match self {
            Self::Error(error) => format!("{:?}: {error:?}", error.kind()),
            Self::Wrong(what) => what.clone(),
        }
    }
}

fn wrong<T>(what: impl Into<String>) -> Checked<T> {
    Err(Trouble::Wrong(what.into()))
}

/// How a workload is set up.
#[derive(Clone, Copy, Debug)]
struct Setup {
    sector: usize,
    seed: u64,
    wrap: Option<Wrap>,
}

/// Something that works on a disk, and knows the states that it may be found in. States have
/// numbers; a recorder holds the lowest and highest that are possible at the moment.
trait Bench: Sized {
    fn recorder(&self) -> &Arc<Recorder>;
    fn disk(&self) -> &SimDisk;
    fn objects(&self) -> &Arc<MemObjects>;
    /// What happens before anything is watched.
    fn prepare(&mut self) -> sheaf_volume::Result<()>;
    fn work(&mut self) -> sheaf_volume::Result<()>;
    /// The same bench, not open yet, on another disk and bucket.
    fn on_image(&self, disk: SimDisk, objects: &MemObjects, seed: u64) -> Self;
    /// Opens, and finds in which of the states it is; forgets the newer ones.
    fn open_and_find(&mut self, low: usize, high: usize) -> Checked<usize>;
    /// The same without opening.
    fn find(&mut self, low: usize, high: usize) -> Checked<usize>;
    /// Goes on working, catches up with the log, and checks everything.
    fn aftermath(&mut self) -> Checked<()>;
    fn close(&mut self);
}

/// Runs the workloads. `progress` gets the name of each before it runs.
pub fn run(options: Options<'_>, progress: &mut dyn FnMut(&str)) -> Report {
    let (report, rng) = (Report::default(), Rng::new(options.seed));
    let mut run = Run { options, report, rng, next: 1, boundaries: 0 };
    let is_wanted = |name: &str| options.only.is_none_or(|only| name.contains(only));
    for (at, (name, size, work)) in volume_work::ALL.iter().enumerate() {
        if is_wanted(name) {
            progress(name);
            run.workload(name, &|setup| VolumeBench::new(*size, *work, setup), at);
        }
    }
    for (at, (name, is_prepared, work)) in site_work::ALL.iter().enumerate() {
        if is_wanted(name) {
            progress(name);
            run.workload(name, &|setup| SiteBench::new(*is_prepared, *work, setup), at);
        }
    }
    run.report
}

struct Run<'a> {
    options: Options<'a>,
    report: Report,
    rng: Rng,
    next: u64,
    /// Of the workload that runs.
    boundaries: usize,
}

/// Images of one workload that were opened already.
type Seen = HashSet<([u8; 32], usize, usize, usize, usize)>;

impl Run<'_> {
    fn seed(&mut self) -> u64 {
        self.next += 1;
        self.next.wrapping_mul(1_000_003).wrapping_add(self.options.seed << 40)
    }

    fn fail(&mut self, workload: &'static str, boundary: &str, outcome_seed: u64, what: String) {
        let boundary = boundary.to_owned();
        self.report.failures.push(Failure { workload, boundary, outcome_seed, what });
    }

    fn setup(&mut self, at: usize) -> Setup {
        let large = (at as u64 + self.options.seed).is_multiple_of(2);
        let sector = if large { 4_096 } else { 512 };
        Setup { sector, seed: self.seed(), wrap: self.options.wrap }
    }

    fn workload<B: Bench>(&mut self, name: &'static str, make: &dyn Fn(Setup) -> B, at: usize) {
        self.report.workloads += 1;
        let setup = self.setup(at);
        let mut bench = make(setup);
        let recorder = Arc::clone(bench.recorder());
        let done = bench.prepare().and_then(|()| {
            recorder.start(true, Plan::Nothing);
            bench.work()
        });
        if let Err(error) = done {
            self.fail(name, "no fault", setup.seed, format!("{error:?}"));
        }
        let (calls, points) = (recorder.calls(), recorder.points());
        for (point, count) in &points {
            *self.report.fault_points.entry(point).or_default() += count;
        }
        let moments = recorder.finish();
        let mut seen = Seen::new();
        let moments = self.sample(moments);
        self.boundaries = moments.len();
        for moment in moments {
            self.explore(name, &bench, &moment, self.options.images_per_boundary, &mut seen);
        }
        bench.close();
        if self.options.wrap.is_none() {
            self.fail_each(name, make, setup, &calls, &points);
        }
    }

    /// Some of them, in their order.
    fn sample<T>(&mut self, mut from: Vec<T>) -> Vec<T> {
        let max = self.options.boundaries_max.unwrap_or(usize::MAX);
        while from.len() > max {
            let at = self.rng.index(from.len());
            from.remove(at);
        }
        from
    }

    /// Tries outcomes of one moment.
    fn explore<B: Bench>(
        &mut self,
        name: &'static str,
        bench: &B,
        moment: &Moment,
        count: usize,
        seen: &mut Seen,
    ) {
        self.report.boundaries += 1;
        for at in 0..count {
            let seed = self.seed();
            let image = image(&moment.disk, at, seed);
            self.report.images += 1;
            // A killed process leaves a disk that a later power cut may still change.
            let objects = Arc::as_ptr(&moment.objects) as usize;
            let key = (image.fingerprint(), moment.low, moment.high, objects, image.unsynced());
            if !seen.insert(key) {
                continue;
            }
            self.report.distinct_images += 1;
            let all = (self.boundaries * count) as u64;
            let is_nested = self.rng.below(all) < self.options.nested as u64;
            let mut copy = bench.on_image(image, &moment.objects, seed);
            copy.recorder().start(is_nested, Plan::Nothing);
            let found = check(&mut copy, moment.low, moment.high);
            if let Err(trouble) = found {
                self.fail(name, &moment.before, seed, trouble.describe());
            } else if is_nested {
                self.explore_again(name, bench, &copy, moment);
            }
            copy.close();
        }
    }

    /// Crashes a recovery, and what followed it, at every boundary.
    fn explore_again<B: Bench>(
        &mut self,
        name: &'static str,
        first: &B,
        second: &B,
        outer: &Moment,
    ) {
        let mut seen = Seen::new();
        for moment in self.sample(second.recorder().finish()) {
            // Until it was open, everything that was possible before still is.
            let bench = if moment.phase == 0 { first } else { second };
            for at in 0..self.options.images_per_boundary.div_ceil(8) {
                let seed = self.seed();
                let image = image(&moment.disk, at, seed);
                let objects = Arc::as_ptr(&moment.objects) as usize;
                let bounds = match moment.phase {
                    0 => (outer.low, outer.high),
                    _ => (moment.low, moment.high),
                };
                let key = (image.fingerprint(), bounds.0, bounds.1, objects, image.unsynced());
                self.report.images += 1;
                if !seen.insert(key) {
                    continue;
                }
                self.report.distinct_images += 1;
                self.report.nested_images += 1;
                let mut copy = bench.on_image(image, &moment.objects, seed);
                if let Err(trouble) = check(&mut copy, bounds.0, bounds.1) {
                    let boundary = format!("{}, then {}", outer.before, moment.before);
                    self.fail(name, &boundary, seed, trouble.describe());
                }
                copy.close();
            }
        }
    }
}

/// One of the disks that a crash may leave.
fn image(disk: &SimDisk, at: usize, seed: u64) -> SimDisk {
    let mut rng = Rng::new(seed);
    match at {
        0 => disk.killed(),
        1 => disk.power_cut_with(Outcome::AllKept),
        2 => disk.power_cut_with(Outcome::NoneKept),
        3 => disk.power_cut_with(Outcome::LastTorn(0)),
        4 => disk.power_cut_with(Outcome::LastTorn(1 + rng.below(4))),
        5 => disk.power_cut_with(Outcome::Prefix(rng.index(disk.unsynced() + 1))),
        _ => disk.power_cut(&mut rng),
    }
}

/// Opens an image, finds its state, and goes on.
fn check<B: Bench>(bench: &mut B, low: usize, high: usize) -> Checked<()> {
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let at = bench.open_and_find(low, high)?;
        // What a reader was shown after a crash must not be lost by the next one.
        bench.recorder().set_low(at);
        bench.recorder().next_phase();
        bench.aftermath()
    }));
    tried.unwrap_or_else(|_| wrong("panic"))
}
