//! Teeth: each mistake that the engine can be told to make is noticed within 2,000 seeds.
//!
//! A mistake is global to the process, so they are tried one after the other.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sheaf_sim::{options::Options, run};
use sheaf_volume::teeth::{Tooth, bite};

/// Seeds within which a mistake must be noticed.
const SEEDS_MAX: u64 = 2_000;

/// Claims of the design, and the mistakes that break them.
const TEETH: &[(&str, &[Tooth])] = &[
    ("durability of acknowledged commits", &[Tooth::SkipLogFlush, Tooth::SkipFlushAtOpen]),
    ("atomic gapless log", &[Tooth::OverwriteLog, Tooth::ForgetParent]),
    (
        "ambiguity resolved, never guessed",
        &[Tooth::GuessCommitted, Tooth::ReportAmbiguousAsDone, Tooth::SkipIntentFlush],
    ),
    ("snapshot reads", &[Tooth::ReadNewest, Tooth::ForgetPinned, Tooth::KeepLostSchema]),
    (
        "lazy reads return the right version or an error",
        &[Tooth::ZerosForMissing, Tooth::FetchOlder, Tooth::SkipFrameHash],
    ),
    ("exactly-once mutations", &[Tooth::SkipProgress, Tooth::ApplyTwice, Tooth::ForgetDecided]),
    ("convergence", &[Tooth::MissOnePage, Tooth::PublishHalf]),
    ("no cross-volume contamination", &[Tooth::ShareLogKeys, Tooth::ShareNames]),
    ("recovery from a crash at any I/O point", &[Tooth::AcceptTornRecord, Tooth::SkipFoldFlush]),
    ("clocks harmless", &[Tooth::TrustClock, Tooth::RefuseEarlier]),
    (
        "merge rules total and convergent",
        &[Tooth::OverwriteCounters, Tooth::ForgetIdle, Tooth::KeepTakenNumber],
    ),
    ("integrity_check clean after everything", &[Tooth::LoseWrites, Tooth::SkipReferences]),
    ("every queue bounded", &[Tooth::ForgetPush, Tooth::ForgetNews]),
];

/// The first seed that notices, and by which claim.
fn noticed() -> Option<(u64, String)> {
    let (next, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let first: Mutex<Option<(u64, String)>> = Mutex::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS_MAX {
                        return;
                    }
                    let mut options = Options::draw(seed);
                    // What never comes to rest is noticed as well sooner as later.
                    options.liveness_ms = 300_000;
                    if let Some(violation) = run(options, false).violation {
                        done.store(true, Ordering::Relaxed);
                        let mut first = first.lock().unwrap();
                        let earlier = first.as_ref().is_none_or(|(known, _)| seed < *known);
                        if earlier {
                            *first = Some((seed, violation.claim.to_owned()));
                        }
                    }
                }
            });
        }
    });
    first.into_inner().unwrap()
}

#[test]
#[expect(clippy::print_stdout, reason = "the table of docs/testing.md is made of these lines")]
fn every_mistake_is_noticed() {
    let only = std::env::var("TOOTH").ok();
    let mut unnoticed = Vec::new();
    for (claim, teeth) in TEETH {
        for tooth in *teeth {
            let name = format!("{tooth:?}");
            if only.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            bite(*tooth);
            match noticed() {
                Some((seed, by)) => println!("| {claim} | `{name}` | {seed} | {by} |"),
                None => unnoticed.push(name),
            }
            bite(Tooth::None);
        }
    }
    assert!(unnoticed.is_empty(), "nobody notices: {unnoticed:?}");
}
