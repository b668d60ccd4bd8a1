//! Packs: their format, who writes them, what a late reader pays, and that they decide nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::super::tests::{Log, SIZE, volume};
use super::*;
use crate::{Cost, Meter, Objects, Remote, RemoteLog};

fn metered(log: &Log) -> (BucketRemote, Arc<Meter>) {
    let meter = Arc::new(Meter::over(Arc::clone(&log.objects)));
    (BucketRemote::new(Arc::clone(&meter) as Arc<dyn Objects>, volume(), SIZE), meter)
}

/// A log of small commits, each of which changes two of fifty pages.
fn long_log(commits: u64) -> Log {
    let mut log = Log::new();
    for n in 0..u32::try_from(commits).unwrap() {
        let (one, other) = (n * 7 % 50 + 1, n * 11 % 50 + 1);
        let pages = if one == other { vec![one] } else { vec![one.min(other), one.max(other)] };
        log.write(50, &pages, false);
    }
    log
}

fn packs(log: &Log) -> Vec<Lsn> {
    let prefix = pack_prefix(volume());
    let keys = log.objects.list(&prefix, None).unwrap();
    keys.iter().map(|key| lsn_in(&prefix, key).unwrap()).collect()
}

/// Every commit after a position, in as many pulls as it takes.
fn pull_all(remote: &BucketRemote, after: Lsn) -> Vec<Commit> {
    let mut all: Vec<Commit> = Vec::new();
    loop {
        let commits = remote.pull(all.last().map_or(after, |last| last.lsn)).unwrap();
        if commits.is_empty() {
            return all;
        }
        assert!(commits.len() <= crate::limits::PULL_COMMITS_MAX);
        all.extend(commits);
    }
}

#[test]
fn the_appender_packs_each_full_run_and_a_late_reader_gets_the_same_commits() {
    let log = long_log(600);
    assert_eq!(packs(&log), [Lsn(256), Lsn(512)]);
    let all = pull_all(&log.reader(), Lsn(0));
    assert_eq!(all.len(), 600);
    let afters = [0, 1, 200, 255, 256, 257, 300, 511, 512, 599, 600];
    let check = |after: u64| {
        let got = pull_all(&log.reader(), Lsn(after));
        assert!(got == all[usize::try_from(after).unwrap()..], "after {after}");
    };
    afters.into_iter().for_each(check);
    let pack = log.objects.get(&pack_key(volume(), Lsn(512))).unwrap();
    let pack = Pack::decode(&pack).unwrap();
    for (lsn, bytes) in (257..).map(Lsn).zip(&pack.commits) {
        assert_eq!(log.objects.get(&log_key(volume(), lsn)).unwrap(), bytes, "byte for byte");
    }
    for key in log.objects.list(&pack_prefix(volume()), None).unwrap() {
        log.objects.delete(&key).unwrap();
    }
    afters.into_iter().for_each(check);
}

#[test]
#[expect(clippy::print_stdout, reason = "figures, for whoever asks for them with --nocapture")]
fn who_is_far_behind_makes_few_requests() {
    // The worst place of the head: nearly a whole run has no pack yet.
    const HEAD: u64 = 10_239;
    let log = long_log(HEAD);
    println!("behind  rounds  requests  bytes");
    for (behind, rounds_max, requests_max) in
        [(1, 4, 5), (10, 7, 15), (100, 8, 105), (1_000, 10, 282), (10_000, 28, 375)]
    {
        let (remote, meter) = metered(&log);
        assert_eq!(pull_all(&remote, Lsn(HEAD - behind)).len() as u64, behind);
        let Cost { rounds, requests, bytes_down: bytes, .. } = meter.take();
        println!("{behind:6}  {rounds:6}  {requests:8}  {bytes}");
        assert!(rounds <= rounds_max, "{rounds} rounds for {behind} commits");
        assert!(requests <= requests_max, "{requests} requests for {behind} commits");
        // Looking again where there was nothing is one request.
        assert_eq!(remote.pull(Lsn(HEAD)).unwrap(), []);
        assert_eq!(meter.take().requests, 1);
    }
}

#[test]
fn who_reads_a_run_without_a_pack_makes_it() {
    let log = long_log(300);
    let key = pack_key(volume(), Lsn(256));
    let good = log.objects.get(&key).unwrap();
    log.objects.delete(&key).unwrap();
    // One who has not read the whole run does not.
    pull_all(&log.reader(), Lsn(1));
    assert_eq!(packs(&log), []);
    pull_all(&log.reader(), Lsn(0));
    assert_eq!(log.objects.get(&key).unwrap(), good);
}

#[test]
fn a_run_of_large_commits_has_no_pack() {
    let mut log = Log::new();
    let noise = |n: u64| blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof();
    for n in 0..256 {
        let mut commit = log.plan(1, &[], false);
        // Names that do not repeat: as large as what changed may be.
        let mut name = vec![0; 1_024];
        noise(n).fill(&mut name);
        let name = name.iter().map(|byte| char::from(byte % 26 + 97)).collect::<String>();
        commit.tables = (0..36).map(|table| format!("{table:02}{name}")).collect();
        assert_eq!(log.remote.append(&commit).unwrap(), crate::Append::Committed);
        log.head = log.remote.head().unwrap();
    }
    assert_eq!(packs(&log), []);
    assert_eq!(pull_all(&log.reader(), Lsn(0)).len(), 256);
    assert_eq!(packs(&log), []);
}

#[test]
fn a_damaged_missing_or_foreign_pack_decides_nothing() {
    let log = long_log(700);
    let all = pull_all(&log.reader(), Lsn(0));
    let key = pack_key(volume(), Lsn(512));
    let good = log.objects.get(&key).unwrap();
    let read = |bytes: Option<Bytes>, why: &str| {
        match bytes {
            Some(bytes) => log.objects.put(&key, bytes).unwrap(),
            None => log.objects.delete(&key).unwrap(),
        }
        assert!(pull_all(&log.reader(), Lsn(0)) == all, "{why}");
        assert!(pull_all(&log.reader(), Lsn(300)) == all[300..], "{why}");
    };
    let pack = Pack::decode(&good).unwrap();
    let other = Pack { volume: VolumeId::from_bytes([4; 16]), ..pack.clone() };
    let moved = Pack { first: Lsn(1), ..pack.clone() };
    let mut short = pack.clone();
    short.commits.pop();
    let mut swapped = pack.clone();
    swapped.commits.swap(3, 4);
    // A whole chain of somebody's own, each commit good by itself: only the log's end tells.
    let mut forged = pack.clone();
    let mut parent = all[255].hash();
    for (bytes, commit) in forged.commits.iter_mut().zip(&all[256..]) {
        let commit = Commit { time_ms: 77, parent, ..commit.clone() };
        parent = commit.hash();
        *bytes = commit.encode();
    }
    for (pack, why) in [
        (other, "another volume's"),
        (moved, "another run's"),
        (short, "too short"),
        (swapped, "out of order"),
        (forged, "forged"),
    ] {
        read(Some(pack.encode()), why);
    }
    read(Some(Bytes::from_static(b"nonsense")), "nonsense");
    let newer = [&good[..4], &[9], &good[5..good.len() - 32]].concat();
    let newer = [&newer[..], blake3::hash(&newer).as_bytes()].concat();
    read(Some(newer.into()), "of a newer version");
    read(None, "missing");
}

#[test]
fn a_pack_does_not_hide_a_hole_or_damage_in_the_log_behind_it() {
    let log = long_log(260);
    log.objects.delete(&log_key(volume(), Lsn(258))).unwrap();
    let reader = log.reader();
    assert_eq!(reader.pull(Lsn(0)).unwrap().len(), 257);
    assert_eq!(reader.pull(Lsn(257)).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A store that lets nobody write below `packs/`.
#[derive(Debug)]
struct NoPacks(Arc<dyn Objects>, AtomicUsize);

impl Objects for NoPacks {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.0.get(key)
    }

    fn get_ranges(
        &self,
        wants: &[(String, std::ops::Range<u64>)],
    ) -> Vec<Result<Bytes, ObjectsError>> {
        self.0.get_ranges(wants)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.0.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        if key.contains("/packs/") {
            self.1.fetch_add(1, Ordering::Relaxed);
            return Err(ObjectsError::Denied(key.to_owned()));
        }
        self.0.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.0.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.0.delete(key)
    }
}

#[test]
fn an_append_stands_whatever_becomes_of_its_pack() {
    let mut log = Log::new();
    let objects = Arc::new(NoPacks(log.objects.clone(), AtomicUsize::new(0)));
    log.remote = BucketRemote::new(Arc::clone(&objects) as Arc<dyn Objects>, volume(), SIZE);
    for _ in 0..520 {
        log.write(1, &[1], false);
    }
    assert_eq!(objects.1.load(Ordering::Relaxed), 1, "one refusal is enough");
    assert_eq!(pull_all(&log.reader(), Lsn(0)).len(), 520);
}

fn fixture() -> Pack {
    let commits = (0..3u8).map(|n| Bytes::from(vec![n; usize::from(n) * 100])).collect();
    Pack { volume: VolumeId::from_bytes([7; 16]), first: Lsn(1_000), commits }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a fixture is a file of the repository")]
fn the_released_version_decodes_to_what_it_was_made_of() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pack-v1.bin");
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        std::fs::write(&path, fixture().encode()).unwrap();
    }
    let bytes = Bytes::from(std::fs::read(&path).unwrap());
    assert_eq!(Pack::decode(&bytes).unwrap(), fixture());
    assert_eq!(fixture().encode(), bytes, "the writer has changed");
}

#[test]
fn every_flipped_byte_truncation_and_extension_is_found() {
    let good = fixture().encode();
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x10;
        assert_eq!(Pack::decode(&bad.into()).unwrap_err().kind(), ErrorKind::Corrupt, "{at}");
        assert_eq!(Pack::decode(&good.slice(..at)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert!(Pack::decode(&[&good[..], &[0]].concat().into()).is_err());
}

proptest! {
    #[test]
    fn packs_round_trip(
        first in 1..crate::limits::LSN_MAX,
        commits in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..40),
    ) {
        let commits = commits.into_iter().map(Bytes::from).collect();
        let pack = Pack { volume: VolumeId::from_bytes([7; 16]), first: Lsn(first), commits };
        prop_assert_eq!(Pack::decode(&pack.encode()).unwrap(), pack);
    }

    #[test]
    fn any_sealed_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let body = [&b"SHFP\x01"[..], &body].concat();
        let sealed = [&body[..], blake3::hash(&body).as_bytes()].concat();
        let _outcome = Pack::decode(&sealed.into());
    }
}
