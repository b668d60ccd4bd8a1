//! Teeth: each mistake that the engine can be told to make is noticed within 2,000 seeds.
//!
//! A mistake is global to the process, so they are tried one after the other.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use sheaf_sim::{options::Options, run};
use sheaf_volume::teeth::{Tooth, bite};

/// Seeds within which a mistake must be noticed.
const SEEDS_MAX: u64 = 2_000;

/// Claims of the design, the mistakes that break them, and for each the seed that noticed it when
/// this was written: it is tried first.
const TEETH: &[(&str, &[(Tooth, u64)])] = &[
    (
        "durability of acknowledged commits",
        &[(Tooth::SkipLogFlush, 1), (Tooth::SkipFlushAtOpen, 83), (Tooth::SendUnflushed, 47)],
    ),
    ("atomic gapless log", &[(Tooth::OverwriteLog, 3), (Tooth::ForgetParent, 1)]),
    (
        "ambiguity resolved, never guessed",
        &[(Tooth::GuessCommitted, 3), (Tooth::ReportAmbiguousAsDone, 3)],
    ),
    (
        "snapshot reads",
        &[(Tooth::ReadNewest, 0), (Tooth::ForgetPinned, 5), (Tooth::KeepLostSchema, 37)],
    ),
    (
        "lazy reads return the right version or an error",
        &[(Tooth::ZerosForMissing, 1), (Tooth::FetchOlder, 1), (Tooth::SkipFrameHash, 1068)],
    ),
    (
        "exactly-once mutations",
        &[(Tooth::SkipProgress, 0), (Tooth::ApplyTwice, 1), (Tooth::ForgetDecided, 0)],
    ),
    ("convergence", &[(Tooth::MissOnePage, 26), (Tooth::PublishHalf, 0)]),
    ("no cross-volume contamination", &[(Tooth::ShareLogKeys, 0), (Tooth::ShareNames, 1)]),
    (
        "recovery from a crash at any I/O point",
        &[(Tooth::AcceptTornRecord, 9), (Tooth::SkipFoldFlush, 1)],
    ),
    ("clocks harmless", &[(Tooth::TrustClock, 3), (Tooth::RefuseEarlier, 1)]),
    ("auth isolation", &[(Tooth::AdmitNobody, 2), (Tooth::AdmitUnknown, 1)]),
    (
        "merge rules total and convergent",
        &[
            (Tooth::OverwriteCounters, 7),
            (Tooth::ForgetIdle, 6),
            (Tooth::KeepTakenNumber, 0),
            (Tooth::TrustShownIds, 9),
            (Tooth::ForgetRefused, 76),
            (Tooth::MergeWithoutBase, 0),
            (Tooth::ForgetRead, 27),
            (Tooth::ForgetAgreed, 844),
            (Tooth::ForgetPlaces, 3),
        ],
    ),
    (
        "locks order what was decided",
        &[(Tooth::FreezeLocks, 7), (Tooth::NeverAsk, 7), (Tooth::AskForEver, 7)],
    ),
    ("nothing is dropped silently", &[(Tooth::ForgetWithdrawn, 7)]),
    ("an editor keeps its text", &[(Tooth::TellEarly, 4)]),
    ("local and agreed are told apart", &[(Tooth::DenyPending, 0), (Tooth::ForgetConflicts, 26)]),
    ("history is what happened", &[(Tooth::SkipChange, 20), (Tooth::UndoOverwrites, 7)]),
    (
        "integrity_check clean after everything",
        &[(Tooth::LoseWrites, 1), (Tooth::SkipReferences, 1)],
    ),
    ("GC deletes nothing reachable", &[(Tooth::SkipMark, 0), (Tooth::IgnorePins, 0)]),
    ("every queue bounded", &[(Tooth::ForgetPush, 0), (Tooth::ForgetNews, 1)]),
];

/// What a seed finds.
fn finding(seed: u64) -> Option<String> {
    run(Options::draw(seed), false).violation.map(|violation| violation.claim.to_owned())
}

/// The first seed that notices, and by which claim.
fn noticed(likely: u64) -> Option<(u64, String)> {
    if let Some(claim) = finding(likely) {
        return Some((likely, claim));
    }
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
                    if let Some(claim) = finding(seed) {
                        done.store(true, Ordering::Relaxed);
                        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                        if first.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *first = Some((seed, claim));
                        }
                    }
                }
            });
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
#[expect(clippy::print_stdout, reason = "the table of docs/testing.md is made of these lines")]
fn every_mistake_is_noticed() {
    // `TEETH=A,B` tries these alone.
    let only = std::env::var("TEETH").ok();
    let mut unnoticed = Vec::new();
    for (claim, teeth) in TEETH {
        for (tooth, likely) in *teeth {
            let name = format!("{tooth:?}");
            if only.as_ref().is_some_and(|only| !only.split(',').any(|one| one == name)) {
                continue;
            }
            bite(*tooth);
            match noticed(*likely) {
                Some((seed, by)) => println!("| {claim} | `{name}` | {seed} | {by} |"),
                None => unnoticed.push(name),
            }
            bite(Tooth::None);
        }
    }
    assert!(unnoticed.is_empty(), "nobody notices: {unnoticed:?}");
}
