//! The corpus through every target, with the stable toolchain.
//!
//! Invariant: what runs follows from the files and a fixed seed. Each file runs as it is, then
//! some damaged forms of it run: flipped bits, cuts, splices with its neighbours. With
//! `SHEAF_TEST_LONG=1` there are many more.

#![expect(clippy::disallowed_methods, reason = "the corpus is files of the repository")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::{fs, panic};

use sheaf_fuzz::TARGETS;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % bound.max(1)
    }
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn damaged(rng: &mut Rng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match rng.below(5) {
        0 => bytes.truncate(rng.below(bytes.len() + 1)),
        1 => {
            let (cut, from) = (rng.below(bytes.len() + 1), rng.below(other.len() + 1));
            bytes.truncate(cut);
            bytes.extend_from_slice(&other[from..]);
        }
        2 if !bytes.is_empty() => {
            let at = rng.below(bytes.len());
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)];
        }
        _ => {
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
        }
    }
    bytes
}

fn run(target: fn(&[u8]), path: &Path, what: &str, bytes: &[u8]) {
    if panic::catch_unwind(|| target(bytes)).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash");
        fs::write(&kept, bytes).unwrap();
        panic!("{} {what}; the input is in {}", path.display(), kept.display());
    }
}

fn smoke(name: &str) {
    let long = std::env::var("SHEAF_TEST_LONG").is_ok_and(|value| value == "1");
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let files = corpus(name);
    assert!(!files.is_empty(), "no corpus for {name}");
    let rounds = if long { 2_000 } else { 1_800 / files.len() };
    let mut rng = Rng(7);
    run(*target, Path::new("no file"), "empty", b"");
    for (at, (path, bytes)) in files.iter().enumerate() {
        run(*target, path, "as it is", bytes);
        let (_, other) = &files[(at + 1) % files.len()];
        for round in 0..rounds {
            let bytes = damaged(&mut rng, bytes, other);
            run(*target, path, &format!("damaged, round {round}"), &bytes);
        }
    }
}

macro_rules! smoke {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*

        #[test]
        fn every_target_has_its_smoke_and_its_door() {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            for name in names {
                let door = format!("fuzz_targets/{name}.rs");
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(door).is_file(), "{name}");
            }
        }
    };
}

smoke! {
    boundary branch btree checkpoint commit deeds delta frame history mutation pack pages pull record
    site sql store wire
}
