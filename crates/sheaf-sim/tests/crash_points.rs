//! The crash points of the local store and of the exchange, and that their search can fail.
//!
//! Invariant: the short form and the long form differ in how much they try, not in what they
//! check. Leaves out the simulator's own crashes.

#![expect(clippy::print_stdout, reason = "the figures of a run are for people")]

use std::sync::Arc;

use sheaf_sim::crash_points::{Options, Report, run};
use sheaf_sim::disk::SimDisk;
use sheaf_volume::{Dir, DirLock, File};

const SEED: u64 = 1;

fn is_long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

fn show(report: &Report) -> String {
    let mut kinds = std::collections::BTreeMap::<(&str, String), (u64, u64)>::new();
    for failure in &report.failures {
        let what: String = failure.what.chars().take(300).collect();
        let boundary: String = failure.boundary.chars().take(80).collect();
        let kind = kinds.entry((failure.workload, what)).or_insert((0, failure.outcome_seed));
        kind.0 += 1;
        if kind.0 < 4 {
            println!("{} | {boundary} | {}", failure.workload, failure.outcome_seed);
        }
    }
    format!("{} failures, by kind with count and one seed: {kinds:#?}", report.failures.len())
}

#[test]
fn every_crash_point_leaves_what_was_promised() {
    let mut options = if is_long() { Options::full(SEED) } else { Options::short(SEED) };
    let only = std::env::var("SHEAF_TEST_ONLY").ok();
    options.only = only.as_deref();
    let report = run(options, &mut |name| {
        if is_long() {
            println!("{name}");
        }
    });
    println!(
        "{} workloads, {} boundaries, {} images, {} distinct, {} nested, {} faults, {:#?}",
        report.workloads,
        report.boundaries,
        report.images,
        report.distinct_images,
        report.nested_images,
        report.faults,
        report.fault_points
    );
    assert!(report.failures.is_empty(), "{}", show(&report));
    if only.is_none() {
        assert!(report.workloads >= 40);
        assert_eq!(report.fault_points.len(), 7, "every fault point is reached");
    }
}

/// Swallows flushes of the log files.
#[derive(Debug)]
struct Careless(SimDisk);

#[derive(Debug)]
struct CarelessFile(Box<dyn File>);

impl Dir for Careless {
    fn open(&self, name: &str) -> std::io::Result<Box<dyn File>> {
        let file = self.0.open(name)?;
        Ok(if name.starts_with("log") { Box::new(CarelessFile(file)) } else { file })
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }

    fn lock(&self) -> std::io::Result<Box<dyn DirLock>> {
        self.0.lock()
    }

    fn flush(&self) -> std::io::Result<()> {
        Dir::flush(&self.0)
    }
}

impl File for CarelessFile {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn truncate(&self, len: u64) -> std::io::Result<()> {
        self.0.truncate(len)
    }

    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_is_not_flushed_is_found_out() {
    for (only, found) in [("volume: one page", "not one of states"), ("site: small", "operations")]
    {
        let careless = |disk: &SimDisk| Arc::new(Careless(disk.clone())) as Arc<dyn Dir>;
        let options = Options {
            only: Some(only),
            wrap: Some(careless),
            images_per_boundary: 8,
            nested: 0,
            faults: 0,
            ..Options::full(SEED)
        };
        let report = run(options, &mut |_| {});
        let is_lost = |what: &str| what.contains(found);
        assert!(report.failures.iter().any(|f| is_lost(&f.what)), "{only}: {}", show(&report));
    }
}
