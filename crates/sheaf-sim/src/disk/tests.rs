//! Each promise of the disk.

use std::collections::BTreeSet;

use sheaf_volume::file_conformance;

use super::*;

fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).unwrap();
    let mut buf = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), buf.len());
    buf
}

/// A disk with a flushed file of `bytes`.
fn flushed(sector: usize, bytes: &[u8]) -> (SimDisk, Box<dyn File>) {
    let disk = SimDisk::new(sector);
    let file = disk.open("a").unwrap();
    file.write_at(bytes, 0).unwrap();
    file.flush().unwrap();
    disk.flush().unwrap();
    (disk, file)
}

fn cuts(disk: &SimDisk, count: u64) -> impl Iterator<Item = SimDisk> {
    (0..count).map(|seed| disk.power_cut(&mut Rng::new(seed)))
}

/// Answers one call with one fault.
#[derive(Debug)]
struct Once(Mutex<(usize, DiskFault)>);

impl DiskHook for Once {
    fn before(&self, _op: &DiskOp<'_>) -> DiskFault {
        let mut state = self.0.lock().unwrap();
        state.0 = state.0.wrapping_sub(1);
        if state.0 == 0 { state.1 } else { DiskFault::None }
    }
}

fn spoil(disk: &SimDisk, call: usize, fault: DiskFault) {
    disk.set_hook(Some(Arc::new(Once(Mutex::new((call, fault))))));
}

#[test]
fn conforms() {
    file_conformance(&|| Arc::new(SimDisk::new(512)));
    file_conformance(&|| Arc::new(SimDisk::new(4_096)));
}

#[test]
fn what_was_flushed_survives_every_power_cut() {
    let (disk, file) = flushed(512, &[1; 5_000]);
    file.write_at(&[2; 100], 5_000).unwrap();
    drop(disk.open("b").unwrap());
    for cut in cuts(&disk, 200) {
        assert!(content(&cut, "a").starts_with(&[1; 5_000]), "bytes beside a write were touched");
        assert_eq!(content(&cut.power_cut(&mut Rng::new(1)), "a"), content(&cut, "a"));
        assert_eq!(cut.unsynced(), 0, "what a power cut left is settled");
    }
    assert_eq!(content(&disk, "a").len(), 5_100, "the disk itself stays");
}

#[test]
fn sectors_of_a_write_are_kept_lost_and_garbled_on_their_own() {
    let (disk, file) = flushed(512, &[1; 2_048]);
    file.write_at(&[2; 1_536], 256).unwrap();
    let mut seen = BTreeSet::new();
    for cut in cuts(&disk, 2_000) {
        let bytes = content(&cut, "a");
        assert_eq!(bytes.len(), 2_048);
        // The write lies on four sectors, of the first and last only a half.
        let part = |from: usize, to: usize| match &bytes[from..to] {
            part if part.iter().all(|b| *b == 1) => 'o',
            part if part.iter().all(|b| *b == 2) => 'n',
            _ => 'g',
        };
        seen.insert([part(256, 512), part(512, 1_024), part(1_024, 1_536), part(1_536, 1_792)]);
        assert_eq!((part(0, 256), part(1_792, 2_048)), ('o', 'o'));
    }
    assert!(seen.len() > 60, "of 81 outcomes only {}", seen.len());
}

#[test]
fn truncations_and_lengths_are_kept_or_lost() {
    let (disk, file) = flushed(512, &[1; 1_024]);
    file.truncate(100).unwrap();
    let lens: BTreeSet<usize> = cuts(&disk, 50).map(|cut| content(&cut, "a").len()).collect();
    assert_eq!(lens, BTreeSet::from([100, 1_024]));
    file.write_at(&[2; 4], 600).unwrap();
    let lens: BTreeSet<usize> = cuts(&disk, 300).map(|cut| content(&cut, "a").len()).collect();
    assert_eq!(lens, BTreeSet::from([100, 604, 1_024]));
    let zeros = cuts(&disk, 300).filter(|cut| content(cut, "a")[100..].iter().all(|b| *b == 0));
    assert!(zeros.count() > 0, "a file may grow without its bytes");
    file.flush().unwrap();
    let all: BTreeSet<Vec<u8>> = cuts(&disk, 20).map(|cut| content(&cut, "a")).collect();
    assert_eq!(all.len(), 1);
    assert_eq!(all.first().unwrap()[..600], [[1; 100].as_slice(), &[0; 500]].concat());
}

#[test]
fn names_come_and_go_with_their_flush() {
    let (disk, _file) = flushed(512, b"x");
    disk.remove("a").unwrap();
    let file = disk.open("b").unwrap();
    file.write_at(b"y", 0).unwrap();
    file.flush().unwrap();
    let names: BTreeSet<Vec<String>> = cuts(&disk, 100).map(|cut| cut.list().unwrap()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for cut in cuts(&disk, 100).filter(|cut| cut.list().unwrap().contains(&"b".to_owned())) {
        assert_eq!(content(&cut, "b"), b"y");
    }
    disk.flush().unwrap();
    assert!(cuts(&disk, 20).all(|cut| cut.list().unwrap() == ["b"]));
}

#[test]
fn outcomes_can_be_listed() {
    let (disk, file) = flushed(512, &[0; 2_048]);
    for at in 0..3u8 {
        file.write_at(&[at + 1; 512], u64::from(at) * 512).unwrap();
    }
    file.write_at(&[9; 1_024], 1_024).unwrap();
    assert_eq!(disk.unsynced(), 4);
    let firsts = |outcome| {
        let bytes = content(&disk.power_cut_with(outcome), "a");
        [0, 512, 1_024, 1_536].map(|at| bytes[at])
    };
    assert_eq!(firsts(Outcome::AllKept), [1, 2, 9, 9]);
    assert_eq!(firsts(Outcome::NoneKept), [0, 0, 0, 0]);
    assert_eq!(firsts(Outcome::Prefix(2)), [1, 2, 0, 0]);
    assert_eq!(firsts(Outcome::Prefix(4)), [1, 2, 9, 9]);
    assert_eq!(firsts(Outcome::LastTorn(1)), [1, 2, 9, 0]);
    assert_eq!(firsts(Outcome::LastTorn(0)), [1, 2, 3, 0]);
}

#[test]
fn a_kill_keeps_all_and_shares_nothing() {
    let (disk, file) = flushed(512, b"one");
    file.write_at(b"TWO", 2).unwrap();
    let _lock = disk.lock().unwrap();
    let killed = disk.killed();
    drop(killed.lock().unwrap());
    file.write_at(b"later", 0).unwrap();
    assert_eq!(content(&killed, "a"), b"onTWO");
    assert_eq!(content(&killed.power_cut_with(Outcome::NoneKept), "a"), b"one");
    assert_eq!(content(&disk, "a"), b"later");
}

#[test]
fn a_failed_flush_is_followed_by_lies() {
    let (disk, file) = flushed(512, &[1; 8]);
    file.write_at(&[2; 4], 0).unwrap();
    spoil(&disk, 1, DiskFault::FlushFails);
    file.flush().unwrap_err();
    file.write_at(&[3; 4], 4).unwrap();
    file.flush().unwrap();
    let kept: BTreeSet<Vec<u8>> = cuts(&disk.killed(), 100).map(|cut| content(&cut, "a")).collect();
    assert!(kept.contains([1, 1, 1, 1, 3, 3, 3, 3].as_slice()), "the lost bytes");
    assert!(kept.contains([2, 2, 2, 2, 3, 3, 3, 3].as_slice()), "the kept bytes");
    assert!(kept.iter().all(|bytes| bytes[4..] == [3; 4]), "what came later is flushed");
    drop(disk.open("b").unwrap());
    spoil(&disk, 1, DiskFault::FlushFails);
    Dir::flush(&disk).unwrap_err();
    Dir::flush(&disk).unwrap();
    let names = cuts(&disk, 50).map(|cut| cut.list().unwrap().len());
    assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
}

#[test]
fn faults_are_injected() {
    let (disk, file) = flushed(512, b"abcdef");
    spoil(&disk, 1, DiskFault::Fail(io::ErrorKind::StorageFull));
    assert_eq!(file.write_at(b"X", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    spoil(&disk, 2, DiskFault::Short { keep: 2 });
    assert_eq!(file.len().unwrap(), 6);
    file.write_at(b"1", 5).unwrap();
    file.write_at(b"XYZ", 0).unwrap_err();
    assert_eq!(content(&disk, "a"), b"XYcde1");
    spoil(&disk, 1, DiskFault::Short { keep: 3 });
    assert_eq!(file.read_at(&mut [0; 6], 0).unwrap(), 3);
    for (call, act) in [
        (1, &(|disk: &SimDisk| disk.open("b").map(drop)) as &dyn Fn(&SimDisk) -> io::Result<()>),
        (1, &|disk| disk.list().map(drop)),
        (1, &|disk| disk.remove("a")),
        (1, &|disk| disk.lock().map(drop)),
        (1, &|disk| Dir::flush(disk)),
    ] {
        spoil(&disk, call, DiskFault::Fail(io::ErrorKind::PermissionDenied));
        assert_eq!(act(&disk).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
    assert_eq!(disk.list().unwrap(), ["a"], "a failed call changes nothing");
}

#[test]
fn a_full_disk_changes_nothing() {
    let (disk, file) = flushed(512, b"x");
    file.write_at(b"x", 1 << 40).unwrap();
    assert_eq!(disk.used(), 8_192, "holes cost nothing");
    disk.set_capacity(Some(12_288));
    let error = file.write_at(&[1; 9_000], 4_096).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    file.write_at(&[1; 4_096], 0).unwrap();
    file.write_at(&[1; 4_096], 4_096).unwrap();
    disk.set_capacity(None);
    file.write_at(&[1; 9_000], 8_192).unwrap();
}

#[test]
fn rot_survives_everything_and_hits_all_files() {
    let (disk, file) = flushed(512, &[0; 100]);
    disk.open("b").unwrap().write_at(&[0; 100], 0).unwrap();
    let mut rng = Rng::new(3);
    let hits: Vec<_> = (0..40).filter_map(|_| disk.flip_bit(&mut rng)).collect();
    assert_eq!(hits.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), 2);
    let before = content(&disk, "a");
    assert_ne!(before, [0; 100]);
    assert_eq!(content(&disk.power_cut(&mut rng), "a"), before);
    file.flush().unwrap();
    assert_eq!(content(&disk, "a"), before);
    assert_eq!(SimDisk::new(512).flip_bit(&mut rng), None);
}

#[test]
fn a_backup_comes_back() {
    let (disk, file) = flushed(512, b"old");
    let backup = disk.snapshot();
    let print = disk.fingerprint();
    file.write_at(b"new", 0).unwrap();
    drop(disk.open("b").unwrap());
    assert_ne!(disk.fingerprint(), print);
    disk.restore(&backup);
    assert_eq!(disk.fingerprint(), print);
    assert_eq!(disk.power_cut(&mut Rng::new(1)).fingerprint(), print);
    file.write_at(b"stale", 0).unwrap();
    assert_eq!(content(&disk, "a"), b"old");
}

#[test]
fn a_dead_machine_does_nothing() {
    let (disk, file) = flushed(512, b"x");
    let lock = disk.lock().unwrap();
    let print = disk.fingerprint();
    disk.kill_switch();
    assert!(file.write_at(b"y", 0).is_err() && file.flush().is_err() && file.len().is_err());
    assert!(disk.open("b").is_err() && disk.remove("a").is_err() && Dir::flush(&disk).is_err());
    assert!(disk.list().is_err() && disk.lock().is_err() && file.truncate(0).is_err());
    drop(lock);
    assert_eq!(disk.fingerprint(), print);
    assert_eq!(content(&disk.killed(), "a"), b"x");
}

#[test]
fn the_same_calls_give_the_same_disk() {
    let make = || {
        let (disk, file) = flushed(512, &[1; 4_000]);
        for at in 0..50 {
            file.write_at(&[at; 700], u64::from(at) * 77).unwrap();
        }
        disk.power_cut(&mut Rng::new(9)).fingerprint()
    };
    assert_eq!(make(), make());
}
