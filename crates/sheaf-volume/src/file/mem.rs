//! A directory in memory that knows what a power cut would leave.
//!
//! Invariant: every file keeps two contents, what was written and what was flushed, and every name
//! likewise; [`MemDir::crash`] keeps only the flushed half, [`MemDir::fork`] (a killed process on a
//! living machine) keeps what was written. Content is kept in shared blocks, so that sparse files
//! and copies cost little. Leaves out torn writes: a write is flushed whole or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, PoisonError},
};

use super::{Dir, DirLock, File};
use crate::sync::{Mutex, MutexGuard};

/// Bytes in one block: the unit of sparseness and of the capacity count.
const BLOCK: u64 = 4_096;
const BLOCK_LEN: usize = 4_096;

/// A directory in memory. A clone is another handle of the same directory.
#[derive(Clone, Debug, Default)]
pub struct MemDir {
    state: Arc<Mutex<State>>,
}

impl MemDir {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is left after a power cut: flushed names with their flushed bytes. This directory
    /// stays as it is.
    #[must_use]
    pub fn crash(&self) -> Self {
        let state = self.state();
        let files = state.flushed_names.values().filter_map(|&inode| {
            let flushed = state.files.get(&inode)?.flushed.clone();
            Some((inode, MemData::settled(flushed)))
        });
        Self::restarted(state.flushed_names.clone(), files.collect(), state.inode_next)
    }

    /// What is left after this process was killed: everything written, flushed or not. What was
    /// not flushed is still at the mercy of a later [`MemDir::crash`].
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let mut forked = Self::restarted(state.names.clone(), state.files.clone(), 0);
        if let Some(inner) = Arc::get_mut(&mut forked.state) {
            let inner = inner.get_mut().unwrap_or_else(PoisonError::into_inner);
            inner.flushed_names = state.flushed_names.clone();
            inner.inode_next = state.inode_next;
        }
        forked
    }

    /// Bounds the bytes all files together may occupy, in blocks of 4 KiB; a write beyond fails
    /// with `StorageFull` and changes nothing. `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes that all files together occupy, in blocks of 4 KiB; holes cost nothing.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Makes every later flush of a file or of the directory fail (or work again).
    pub fn fail_flush(&self, fail: bool) {
        self.state().fail_flush = fail;
    }

    /// Makes every later flush of the directory itself fail (or work again).
    pub fn fail_names(&self, fail: bool) {
        self.state().fail_names = fail;
    }

    fn restarted(
        names: BTreeMap<String, u64>,
        files: BTreeMap<u64, MemData>,
        inode_next: u64,
    ) -> Self {
        let flushed_names = names.clone();
        let state = State { names, flushed_names, files, inode_next, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state whole: every change below is complete or not begun.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dir for MemDir {
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        check_name(name)?;
        let mut state = self.state();
        let inode = if let Some(&inode) = state.names.get(name) {
            inode
        } else {
            let inode = state.inode_next;
            state.inode_next += 1;
            state.names.insert(name.to_owned(), inode);
            state.files.insert(inode, MemData::default());
            inode
        };
        Ok(Box::new(MemFile { dir: self.clone(), inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        // The content stays for open handles and for a power cut before the next flush.
        self.state().names.remove(name);
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn DirLock>> {
        let mut state = self.state();
        if state.locked {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "in use by this process"));
        }
        state.locked = true;
        Ok(Box::new(MemLock { dir: self.clone() }))
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state();
        state.check_flush()?;
        if state.fail_names {
            return Err(io::Error::other("flush failed (injected)"));
        }
        state.flushed_names = state.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct MemLock {
    dir: MemDir,
}

impl DirLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.dir.state().locked = false;
    }
}

#[derive(Debug)]
struct MemFile {
    dir: MemDir,
    inode: u64,
}

impl MemFile {
    fn with<T>(&self, act: impl FnOnce(&mut MemData) -> T) -> T {
        let mut state = self.dir.state();
        act(state.files.get_mut(&self.inode).expect("BUG: an inode outlives its handles"))
    }
}

impl File for MemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|data| data.current.len))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.with(|data| data.current.read_at(buf, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.dir.state();
        let room = state.capacity.map(|capacity| capacity.saturating_sub(state.used()));
        let data = state.files.get_mut(&self.inode).expect("BUG: an inode outlives its handles");
        let len = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        let end = offset.checked_add(len).ok_or_else(too_long)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let fresh = (offset / BLOCK..=(end - 1) / BLOCK)
            .filter(|block| !data.current.blocks.contains_key(block))
            .count();
        if room.is_some_and(|room| fresh > 0 && fresh as u64 * BLOCK > room) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"));
        }
        data.write_at(bytes, offset, end);
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|data| data.truncate(len));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.dir.state();
        state.check_flush()?;
        let data = state.files.get_mut(&self.inode).expect("BUG: an inode outlives its handles");
        data.flush();
        Ok(())
    }
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, u64>,
    flushed_names: BTreeMap<String, u64>,
    files: BTreeMap<u64, MemData>,
    inode_next: u64,
    capacity: Option<u64>,
    fail_flush: bool,
    fail_names: bool,
    locked: bool,
}

impl State {
    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|inode| self.files.get(inode));
        named.map(|data| data.current.blocks.len() as u64 * BLOCK).sum()
    }

    fn check_flush(&self) -> io::Result<()> {
        if self.fail_flush { Err(io::Error::other("flush failed (injected)")) } else { Ok(()) }
    }
}

/// One file: what was written, what was flushed, and where the two may differ.
#[derive(Clone, Debug, Default)]
struct MemData {
    current: Content,
    flushed: Content,
    /// Blocks written since the last flush.
    dirty: BTreeSet<u64>,
    /// The shortest length since the last flush, if the file was cut.
    cut: Option<u64>,
}

impl MemData {
    fn settled(content: Content) -> Self {
        Self { flushed: content.clone(), current: content, dirty: BTreeSet::new(), cut: None }
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64, end: u64) {
        self.current.len = self.current.len.max(end);
        let mut offset = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (block, at) = place(offset);
            let (part, tail) = rest.split_at(rest.len().min(BLOCK_LEN - at));
            let target = self.current.blocks.entry(block);
            let target = Arc::make_mut(target.or_insert_with(|| Arc::new([0; BLOCK_LEN])));
            if let Some(target) = target.get_mut(at..at + part.len()) {
                target.copy_from_slice(part);
            }
            self.dirty.insert(block);
            offset += part.len() as u64;
            rest = tail;
        }
    }

    fn truncate(&mut self, len: u64) {
        if len < self.current.len {
            self.cut = Some(self.cut.map_or(len, |cut| cut.min(len)));
            self.current.cut(len);
        }
        self.current.len = len;
    }

    fn flush(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.flushed.cut(cut);
        }
        self.flushed.len = self.current.len;
        for block in std::mem::take(&mut self.dirty) {
            // A block that was written and then cut away is in neither content.
            if let Some(bytes) = self.current.blocks.get(&block) {
                self.flushed.blocks.insert(block, Arc::clone(bytes));
            }
        }
    }
}

/// Bytes of one file; a missing block reads as zeros, and bytes beyond `len` are always zero.
#[derive(Clone, Debug, Default)]
struct Content {
    len: u64,
    blocks: BTreeMap<u64, Arc<[u8; BLOCK_LEN]>>,
}

impl Content {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = left.min(buf.len());
        let mut offset = offset;
        let mut rest = buf.get_mut(..count).unwrap_or_default();
        while !rest.is_empty() {
            let (block, at) = place(offset);
            let (part, tail) = rest.split_at_mut(rest.len().min(BLOCK_LEN - at));
            match self.blocks.get(&block).and_then(|bytes| bytes.get(at..at + part.len())) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
            offset += part.len() as u64;
            rest = tail;
        }
        count
    }

    /// Drops everything from `len` on, without changing the length.
    fn cut(&mut self, len: u64) {
        let (block, at) = place(len);
        drop(self.blocks.split_off(&if at == 0 { block } else { block + 1 }));
        if at > 0
            && let Some(bytes) = self.blocks.get_mut(&block)
            && let Some(tail) = Arc::make_mut(bytes).get_mut(at..)
        {
            tail.fill(0);
        }
    }
}

fn place(offset: u64) -> (u64, usize) {
    let at = usize::try_from(offset % BLOCK).expect("BUG: a block is larger than memory");
    (offset / BLOCK, at)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "file offset too large")
}

/// Whether a name is one every platform can store; `lock` is taken by [`Dir::lock`].
pub(super) fn check_name(name: &str) -> io::Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if name.is_empty() || name.starts_with('.') || name == "lock" || !name.bytes().all(plain) {
        let message = format!("not a file name name=`{name}`");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_conformance;

    fn content(dir: &MemDir, name: &str) -> Vec<u8> {
        let file = dir.open(name).unwrap();
        let mut buf = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), buf.len());
        buf
    }

    #[test]
    fn conforms() {
        file_conformance(&|| Arc::new(MemDir::new()));
    }

    #[test]
    fn a_power_cut_keeps_what_was_flushed_and_a_kill_keeps_all() {
        let dir = MemDir::new();
        let file = dir.open("a").unwrap();
        file.write_at(b"one", 0).unwrap();
        file.flush().unwrap();
        assert_eq!(dir.crash().list().unwrap(), [""; 0], "the name was not flushed");
        dir.flush().unwrap();
        file.write_at(b"TWO", 2).unwrap();
        dir.open("b").unwrap().write_at(b"b", 0).unwrap();

        assert_eq!(content(&dir.crash(), "a"), b"one");
        assert_eq!(dir.crash().list().unwrap(), ["a"]);
        let forked = dir.fork();
        assert_eq!(content(&forked, "a"), b"onTWO");
        assert_eq!(forked.list().unwrap(), ["a", "b"]);
        assert_eq!(content(&forked.crash(), "a"), b"one");
        file.write_at(b"later", 0).unwrap();
        assert_eq!(content(&forked, "a"), b"onTWO", "a fork shares nothing with its origin");
    }

    #[test]
    fn a_removed_name_comes_back_unless_flushed() {
        let dir = MemDir::new();
        let file = dir.open("a").unwrap();
        file.write_at(b"x", 0).unwrap();
        file.flush().unwrap();
        dir.flush().unwrap();
        dir.remove("a").unwrap();
        assert_eq!(content(&dir.crash(), "a"), b"x");
        dir.flush().unwrap();
        assert!(dir.crash().list().unwrap().is_empty());
    }

    #[test]
    fn cutting_and_growing_flushes_zeros_not_old_bytes() {
        let dir = MemDir::new();
        let file = dir.open("a").unwrap();
        dir.flush().unwrap();
        file.write_at(&[7; 10_000], 0).unwrap();
        file.flush().unwrap();
        file.truncate(5_000).unwrap();
        file.truncate(9_000).unwrap();
        let mut expected = vec![7; 10_000];
        assert_eq!(content(&dir.crash(), "a"), expected);
        file.flush().unwrap();
        expected.truncate(5_000);
        expected.resize(9_000, 0);
        assert_eq!(content(&dir.crash(), "a"), expected);
        assert_eq!(content(&dir, "a"), expected);
    }

    #[test]
    fn capacity_and_flush_failures_are_injected() {
        let dir = MemDir::new();
        let file = dir.open("a").unwrap();
        file.write_at(b"x", 1 << 40).unwrap();
        assert_eq!(dir.used(), BLOCK, "holes cost nothing");
        dir.set_capacity(Some(2 * BLOCK));
        let error = file.write_at(&[1; 3 * BLOCK_LEN], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let mut byte = [9];
        assert_eq!(file.read_at(&mut byte, 0).unwrap(), 1);
        assert_eq!(byte, [0], "nothing was written");
        file.write_at(&[1; BLOCK_LEN], 0).unwrap();
        dir.set_capacity(None);
        file.write_at(&[1; 3 * BLOCK_LEN], 0).unwrap();

        dir.fail_flush(true);
        assert!(file.flush().is_err() && dir.flush().is_err());
        assert!(dir.crash().list().unwrap().is_empty());
        dir.fail_flush(false);
        file.flush().and_then(|()| dir.flush()).unwrap();
        assert_eq!(dir.crash().list().unwrap(), ["a"]);
    }
}
