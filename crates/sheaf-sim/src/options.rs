//! What one run is like: how many of everything, how big, how often, and which faults up to which
//! rate. Each seed draws its own.
//!
//! Invariant: options follow from the seed; a report that names the seed names them. Every class of
//! faults is absent in half of the runs, so that no fault can hide behind another. Leaves out when
//! a fault strikes: that is drawn as the run goes.

use crate::rng::Rng;

mod fields;

/// Rates are per million operations of the class, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What everything is drawn from.
    pub seed: u64,
    /// Devices.
    pub devices: usize,
    /// Nodes; zero means that devices use the buckets directly.
    pub nodes: usize,
    /// Sites, spread over the buckets.
    pub sites: usize,
    /// Object stores.
    pub buckets: usize,
    /// Of a hundred devices, how many use the bucket directly although there is a node.
    pub direct_percent: u64,
    /// Bytes per page of every site.
    pub page_size: u32,
    /// Pages in the decoded page cache of a replica.
    pub cache_pages: usize,
    /// Bytes that a disk writes as one.
    pub sector: usize,
    /// Milliseconds of the first phase, with faults.
    pub safety_ms: u64,
    /// Milliseconds within which everything must have converged after the faults end.
    pub liveness_ms: u64,
    /// Mean pause between the transactions of one device.
    pub write_pause_ms: u64,
    /// Mean pause between two exchanges of a device with a bucket, at least.
    pub exchange_pause_ms: u64,
    /// Of a million transactions, how many are flushed before they return.
    pub flushed: u32,
    /// The faults.
    pub faults: Faults,
    /// What people do.
    pub workload: Workload,
    /// What is kept, and what of it where.
    pub keeping: Keeping,
}

/// What becomes of what is old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Keepers: machines from which people reclaim and make branches.
    pub keepers: usize,
    /// Mean pause between two things that a keeper does, milliseconds.
    pub pause_ms: u64,
    /// So many of the newest states of a site are kept.
    pub commits: u64,
    /// States as old as this are kept, milliseconds.
    pub for_ms: u64,
    /// Of a million passes, how many make the checkpoint that goes as far as these allow.
    pub exact: u32,
    /// Of a million things that a keeper does, how many concern branches.
    pub branches: u32,
    /// Of a million folds on a device, how many are evictions.
    pub evictions: u32,
}

/// Upper bounds of every class of faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Network.
    pub network: NetworkFaults,
    /// Object stores.
    pub bucket: BucketFaults,
    /// Local disks.
    pub disk: DiskFaults,
    /// Processes.
    pub process: ProcessFaults,
    /// Clocks.
    pub clock: ClockFaults,
}

/// Faults between hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFaults {
    /// The longest usual delay of a frame, milliseconds; one in a hundred takes up to 50 times as long.
    pub delay_ms: u64,
    /// Frames that disappear.
    pub loss: u32,
    /// Frames that come twice.
    pub duplicate: u32,
    /// Frames that come after a later one.
    pub reorder: u32,
    /// Connections that break with a frame.
    pub cut: u32,
    /// Broken connections of which only one end hears.
    pub half_open: u32,
    /// Mean pause between partitions of one host, milliseconds; zero for never.
    pub partition_every_ms: u64,
    /// The longest partition. Half of them are one-way.
    pub partition_ms: u64,
}

/// Faults of an object store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketFaults {
    /// The longest usual answer, milliseconds; one in a hundred takes up to 20 times as long.
    pub latency_ms: u64,
    /// "Come back later", nothing done.
    pub unavailable: u32,
    /// A write that fails with an unknown outcome and was not done.
    pub fails_before: u32,
    /// A write that fails with an unknown outcome and was done.
    pub fails_after: u32,
    /// A write that fails with an unknown outcome and is done later.
    pub fails_late: u32,
    /// A read that gives fewer bytes.
    pub short: u32,
    /// A read with a flipped bit.
    pub flip: u32,
    /// A read of what is there that says it is not.
    pub missing: u32,
    /// A list as it was a while ago.
    pub stale_list: u32,
    /// Mean pause between outages, milliseconds; zero for never.
    pub outage_every_ms: u64,
    /// The longest outage.
    pub outage_ms: u64,
}

/// Faults of a local disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// An operation that fails.
    pub io_error: u32,
    /// A write that finds no space.
    pub full: u32,
    /// A write that is done in part and fails, a read that gives fewer bytes.
    pub short: u32,
    /// A flush that fails; a later one claims success.
    pub flush_fails: u32,
    /// Of a million starts, how many find a flipped bit in what a replica keeps of agreed pages.
    pub rot: u32,
}

/// Faults of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFaults {
    /// Mean pause between crashes of one host, milliseconds; zero for never.
    pub crash_every_ms: u64,
    /// Crashes that are power cuts, of a million; the others kill the process.
    pub power_cut: u32,
    /// Crashes at a named fault point.
    pub at_point: u32,
    /// Crashes at an operation of the disk.
    pub at_disk: u32,
    /// Mean pause between pauses of one host, milliseconds; zero for never.
    pub pause_every_ms: u64,
    /// The longest pause.
    pub pause_ms: u64,
}

/// Faults of a clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockFaults {
    /// How far a clock is off, at most, in either direction.
    pub offset_ms: u64,
    /// How much too fast or slow it goes, at most.
    pub drift_per_million: u64,
    /// Mean pause between jumps, milliseconds; zero for never.
    pub jump_every_ms: u64,
}

/// How often each kind of transaction is tried, as weights; zero for never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Bank transfers through a named mutator that refuses overdrafts.
    pub transfer: u32,
    /// Counters.
    pub count: u32,
    /// Lists that only grow, and whose members are sometimes deleted.
    pub append: u32,
    /// Races for a unique name.
    pub claim: u32,
    /// Edits of a column of a text.
    pub edit: u32,
    /// Rows under numbers that SQLite chooses, and rows that refer to them.
    pub number: u32,
    /// Schema changes.
    pub schema: u32,
    /// Mutations that fail, wherever and whenever they run again.
    pub failing: u32,
    /// Of a million transactions, how many are large.
    pub large: u32,
    /// Of a million transactions, how many consist of several steps.
    pub several: u32,
    /// Of a million transactions, how many are not what a device of ours would make.
    pub forged: u32,
    /// Of a million transactions, how many change documents that others change at the same time.
    pub merge: u32,
    /// Whether some of those documents' cells keep several values; zero for no.
    pub values: u32,
    /// Of a million transactions, how many take a lock.
    pub lock: u32,
    /// Of a million transactions, how many write pages of HTML or order the rows of lists.
    pub pages: u32,
    /// Mean pause between two acts of the person who has a document open in an editor, on every
    /// replica, milliseconds; zero for no editors.
    pub editor_pause_ms: u64,
    /// Of a million looks at a replica, how many compare all marks besides.
    pub marks: u32,
    /// Of a million transactions, after how many another one is taken back.
    pub undo: u32,
    /// Of a million replicas, on how many somebody looks back at a row when everything rests.
    pub history: u32,
}

impl Options {
    /// The options of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed).fork("options");
        let nodes = pick(&mut rng, &[0, 0, 1, 1, 1, 2, 3]);
        let sites = pick(&mut rng, &[1, 1, 1, 2]);
        let mut options = Self {
            seed,
            devices: pick(&mut rng, &[2, 2, 3, 3, 4, 5]),
            nodes,
            sites,
            buckets: if sites > 1 { pick(&mut rng, &[1, 2]) } else { 1 },
            direct_percent: pick(&mut rng, &[0, 0, 30]),
            page_size: pick(&mut rng, &[512, 1_024, 4_096, 4_096, 4_096, 8_192, 65_536]),
            cache_pages: pick(&mut rng, &[1, 8, 64, 2_048]),
            sector: pick(&mut rng, &[512, 4_096]),
            safety_ms: 60_000,
            // Fetching all of a site page by page over a slow network takes its time.
            liveness_ms: 1_800_000,
            write_pause_ms: pick(&mut rng, &[200, 500, 1_000, 3_000]),
            exchange_pause_ms: pick(&mut rng, &[200, 1_000, 5_000, 20_000]),
            flushed: pick(&mut rng, &[0, 100_000, 500_000, 1_000_000]),
            faults: Faults::draw(&mut rng),
            workload: Workload::draw(&mut rng),
            keeping: Keeping::draw(&mut rng),
        };
        options.faults.disk.rot = pick(&mut rng, &[0, 300_000]);
        // From a generator of their own: the other options of a seed stay what they were.
        let mut rng = Rng::new(seed).fork("collaboration");
        options.workload.merge = pick(&mut rng, &[0, 0, 200_000, 500_000]);
        options.workload.lock = pick(&mut rng, &[0, 0, 100_000, 300_000]);
        let mut rng = Rng::new(seed).fork("two values");
        options.workload.editor_pause_ms = pick(&mut rng, &[0, 0, 500, 3_000]);
        options.workload.marks = pick(&mut rng, &[0, 0, 300_000]);
        options.workload.undo = pick(&mut rng, &[0, 0, 100_000]);
        options.workload.history = pick(&mut rng, &[0, 0, 500_000]);
        let mut rng = Rng::new(seed).fork("several values");
        options.workload.values = u32::from(rng.chance(700_000));
        let mut rng = Rng::new(seed).fork("pages");
        options.workload.pages = pick(&mut rng, &[0, 0, 0, 200_000, 500_000]);
        options
    }
}

impl Keeping {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            keepers: pick(rng, &[0, 0, 1, 1, 2]),
            pause_ms: pick(rng, &[500, 2_000, 10_000]),
            commits: pick(rng, &[1, 1, 3, 20]),
            for_ms: pick(rng, &[0, 0, 2_000, 20_000]),
            exact: pick(rng, &[1_000_000, 1_000_000, 500_000]),
            branches: pick(rng, &[0, 300_000, 600_000]),
            evictions: pick(rng, &[0, 500_000]),
        }
    }
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let network = NetworkFaults {
            delay_ms: pick(rng, &[2, 20, 200, 2_000]),
            loss: rate(rng, 50_000),
            duplicate: rate(rng, 50_000),
            reorder: rate(rng, 50_000),
            cut: rate(rng, 100_000),
            half_open: rate(rng, 500_000),
            partition_every_ms: every(rng, 5_000, 60_000),
            partition_ms: rng.between(100, 60_000),
        };
        let bucket = BucketFaults {
            latency_ms: pick(rng, &[1, 10, 50, 500]),
            unavailable: rate(rng, 200_000),
            fails_before: rate(rng, 100_000),
            fails_after: rate(rng, 100_000),
            fails_late: rate(rng, 50_000),
            short: rate(rng, 50_000),
            flip: rate(rng, 10_000),
            missing: rate(rng, 10_000),
            stale_list: rate(rng, 100_000),
            outage_every_ms: every(rng, 10_000, 60_000),
            outage_ms: rng.between(100, 30_000),
        };
        let disk = DiskFaults {
            io_error: rate(rng, 2_000),
            full: rate(rng, 2_000),
            short: rate(rng, 2_000),
            flush_fails: rate(rng, 10_000),
            // Drawn last, see `Options::draw`.
            rot: 0,
        };
        let process = ProcessFaults {
            crash_every_ms: every(rng, 5_000, 60_000),
            power_cut: pick(rng, &[0, 500_000, 1_000_000]),
            at_point: rate(rng, 20_000),
            at_disk: rate(rng, 5_000),
            pause_every_ms: every(rng, 10_000, 60_000),
            pause_ms: pick(rng, &[100, 2_000, 30_000, 3_600_000]),
        };
        let clock = ClockFaults {
            offset_ms: pick(rng, &[0, 1_000, 86_400_000]),
            drift_per_million: pick(rng, &[0, 200, 50_000]),
            jump_every_ms: every(rng, 10_000, 60_000),
        };
        Self { network, bucket, disk, process, clock }
    }
}

impl Workload {
    fn draw(rng: &mut Rng) -> Self {
        let mut weight = |usual: u32| if rng.chance(250_000) { 0 } else { usual };
        Self {
            transfer: weight(3),
            count: weight(3),
            // Something is always written.
            append: 3,
            claim: weight(2),
            edit: weight(3),
            number: weight(2),
            schema: weight(1),
            failing: weight(1),
            large: weight(30_000),
            several: weight(200_000),
            forged: weight(20_000),
            // Drawn by `Options::draw`.
            merge: 0,
            values: 0,
            lock: 0,
            pages: 0,
            editor_pause_ms: 0,
            marks: 0,
            undo: 0,
            history: 0,
        }
    }
}

fn pick<T: Copy + Default>(rng: &mut Rng, from: &[T]) -> T {
    rng.pick(from).copied().unwrap_or_default()
}

/// A rate up to a bound, none in half of the runs.
fn rate(rng: &mut Rng, bound: u32) -> u32 {
    if rng.chance(500_000) {
        0
    } else {
        u32::try_from(rng.between(1, u64::from(bound))).unwrap_or(0)
    }
}

/// A mean pause, never in half of the runs.
fn every(rng: &mut Rng, low: u64, high: u64) -> u64 {
    if rng.chance(500_000) { 0 } else { rng.between(low, high) }
}
