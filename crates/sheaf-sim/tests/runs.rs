//! Seeds on every change: some that are new to nobody, those that once found something, and the
//! proof that a seed says everything.
//!
//! `cargo xtask sim` runs as many more as one likes.

use std::{fs, path::Path};

use sheaf_sim::{Campaign, options::Options, regression, run};

fn is_long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

/// Runs seeds on all cores.
fn all(seeds: std::ops::Range<u64>, test: impl Fn(u64) + Sync) {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    test(seed);
                }
            });
        }
    });
}

#[test]
fn seeds_find_nothing() {
    let campaign = std::sync::Mutex::new(Campaign::default());
    all(0..if is_long() { 3_000 } else { 300 }, |seed| {
        let options = Options::draw(seed);
        let outcome = run(options.clone(), false);
        campaign.lock().unwrap().add(&options, &outcome);
    });
    let campaign = campaign.into_inner().unwrap();
    let found: Vec<String> = campaign
        .found
        .iter()
        .map(|(options, found)| format!("{found}\n  again: {}", options.command()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_seed_says_everything() {
    all(1_000..if is_long() { 1_200 } else { 1_008 }, |seed| {
        let (first, second) = (run(Options::draw(seed), false), run(Options::draw(seed), false));
        assert_eq!(first.lines, second.lines, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "kept runs are files of the repository")]
fn what_was_found_once_stays_mended() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let text = String::from_utf8(fs::read(&file).unwrap()).unwrap();
        let options = regression::read(&text).unwrap_or_else(|why| panic!("{file:?}: {why}"));
        let outcome = run(options, false);
        assert_eq!(outcome.violation, None, "{file:?}");
    }
}
