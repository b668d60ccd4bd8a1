//! What every [`Dir`] must do, as one function that a platform's tests call.
//!
//! Leaves out durability, which only a simulated disk can show.

use std::{io, sync::Arc};

use super::{Dir, File};

/// Runs every check against fresh, empty directories from `make`.
///
/// # Panics
/// When the directory does not keep the contract of [`Dir`] and [`File`].
pub fn file_conformance(make: &dyn Fn() -> Arc<dyn Dir>) {
    lengths_and_reads(&*make());
    holes(&*make());
    truncation(&*make());
    overwrites(&*make());
    reopening(&*make());
    names(&*make());
    locking(&*make());
    threads(&make());
}

fn open(dir: &dyn Dir, name: &str) -> Box<dyn File> {
    dir.open(name).expect("open")
}

fn content(file: &dyn File) -> Vec<u8> {
    let len = usize::try_from(file.len().expect("len")).expect("a test file fits memory");
    let mut buf = vec![0xee; len];
    assert_eq!(file.read_at(&mut buf, 0).expect("read"), len, "a whole read is short");
    buf
}

fn lengths_and_reads(dir: &dyn Dir) {
    let file = open(dir, "a");
    assert_eq!(file.len().expect("len"), 0, "a new file is empty");
    assert!(file.is_empty().expect("is_empty"));
    let mut buf = [0xee; 8];
    assert_eq!(file.read_at(&mut buf, 0).expect("read"), 0, "an empty file has nothing to read");
    file.write_at(b"hello", 0).expect("write");
    assert_eq!(file.len().expect("len"), 5);
    assert!(!file.is_empty().expect("is_empty"));
    assert_eq!(file.read_at(&mut buf, 0).expect("read"), 5, "a read at the end is short");
    assert_eq!(&buf, b"hello\xee\xee\xee", "a short read leaves the rest of the buffer alone");
    assert_eq!(file.read_at(&mut buf, 3).expect("read"), 2);
    assert!(buf.starts_with(b"lo"));
    assert_eq!(file.read_at(&mut buf, 5).expect("read"), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).expect("read"), 0);
    assert_eq!(file.read_at(&mut [], 0).expect("read"), 0);
    file.write_at(b"", 1 << 40).expect("write");
    assert_eq!(file.len().expect("len"), 5, "an empty write does not grow the file");
}

fn holes(dir: &dyn Dir) {
    let file = open(dir, "a");
    file.write_at(b"x", 0).expect("write");
    file.write_at(b"y", 20_000).expect("write");
    let mut expected = vec![0; 20_001];
    expected.splice(..1, *b"x");
    expected.splice(20_000.., *b"y");
    assert_eq!(content(&*file), expected, "a hole reads as zeros");
}

fn truncation(dir: &dyn Dir) {
    let file = open(dir, "a");
    file.write_at(&[7; 10_000], 0).expect("write");
    file.truncate(5_001).expect("truncate");
    assert_eq!(content(&*file), [7; 5_001]);
    file.truncate(9_000).expect("truncate");
    let mut expected = vec![7; 5_001];
    expected.resize(9_000, 0);
    assert_eq!(content(&*file), expected, "cut bytes do not come back");
    file.truncate(0).expect("truncate");
    assert!(file.is_empty().expect("is_empty"));
    file.write_at(b"z", 2).expect("write");
    assert_eq!(content(&*file), b"\0\0z");
}

fn overwrites(dir: &dyn Dir) {
    let file = open(dir, "a");
    let mut model = vec![0u8; 12_000];
    file.truncate(12_000).expect("truncate");
    // Offsets on, before and after block borders, in an order that overlaps.
    for (value, (offset, len)) in
        (1u8..).zip([(0, 4_096), (4_095, 2), (4_096, 4_096), (8_191, 1_000), (1, 11_998), (9, 1)])
    {
        file.write_at(&vec![value; len], offset as u64).expect("write");
        model.splice(offset..offset + len, vec![value; len]);
        assert_eq!(content(&*file), model, "write of {len} at {offset}");
    }
}

fn reopening(dir: &dyn Dir) {
    let file = open(dir, "a");
    file.write_at(b"one", 0).expect("write");
    let other = open(dir, "a");
    assert_eq!(content(&*other), b"one", "a second handle sees the bytes");
    other.write_at(b"two", 3).expect("write");
    assert_eq!(content(&*file), b"onetwo", "and the first sees those of the second");
    file.flush().expect("flush");
    drop((file, other));
    dir.flush().expect("flush names");
    assert_eq!(content(&*open(dir, "a")), b"onetwo", "opening again keeps the bytes");
}

fn names(dir: &dyn Dir) {
    assert_eq!(dir.list().expect("list"), Vec::<String>::new());
    for name in ["b", "a-1", "0.log", "c_d"] {
        drop(open(dir, name));
    }
    assert_eq!(dir.list().expect("list"), ["0.log", "a-1", "b", "c_d"], "names are sorted");
    dir.remove("b").expect("remove");
    dir.remove("b").expect("removing a missing file is no error");
    assert_eq!(dir.list().expect("list"), ["0.log", "a-1", "c_d"]);
    let file = open(dir, "a-1");
    file.write_at(b"x", 0).expect("write");
    drop(file);
    dir.remove("a-1").expect("remove");
    assert!(open(dir, "a-1").is_empty().expect("is_empty"), "a removed file starts anew");
    for bad in ["", ".", "..", ".hidden", "../a", "a/b", "a\\b", "A", "a b", "lock", "a\0"] {
        let error = dir.open(bad).expect_err("a bad name was accepted");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        assert!(dir.remove(bad).is_err(), "{bad:?}");
    }
    assert_eq!(dir.list().expect("list"), ["0.log", "a-1", "c_d"]);
}

fn locking(dir: &dyn Dir) {
    let lock = dir.lock().expect("lock");
    let error = dir.lock().expect_err("two locks at once");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(dir.list().expect("list"), Vec::<String>::new(), "a lock is no file");
    drop(lock);
    drop(dir.lock().expect("the lock is free again"));
}

fn threads(dir: &Arc<dyn Dir>) {
    let file = open(&**dir, "a");
    std::thread::scope(|scope| {
        for part in 0u8..4 {
            let file = &*file;
            scope.spawn(move || {
                for step in 0..16 {
                    let offset = (step * 4 + u64::from(part)) * 1_000;
                    file.write_at(&[part + 1; 1_000], offset).expect("write");
                }
            });
        }
    });
    let bytes = content(&*file);
    assert_eq!(bytes.len(), 64_000);
    let right = bytes.chunks(1_000).zip((1..=4u8).cycle());
    assert!(right.into_iter().all(|(chunk, part)| chunk == [part; 1_000]), "threads mix bytes");
}
