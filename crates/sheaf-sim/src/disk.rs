//! A disk that fails the way disks do: a directory in memory that remembers the order of
//! everything that was not flushed.
//!
//! Invariant: reads see what was written; a power cut leaves what was flushed and any part of the
//! rest, sector by sector ([`SimDisk::power_cut`]); a killed process leaves what was written
//! ([`SimDisk::killed`]). The same calls give the same disk. Leaves out time, and damage beside the
//! bytes that are being written.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sheaf_volume::{Dir, DirLock, File};

use self::content::{Content, Inode, What};
use crate::rng::Rng;

mod content;
mod crash;
mod hook;
#[cfg(test)]
mod tests;

pub use crash::Outcome;
pub use hook::{DiskFault, DiskHook, DiskOp};

/// A directory on a simulated disk. A clone is another handle of the same directory.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Arc<dyn DiskHook>>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the content: a hook may hold a handle of the disk that holds it.
        f.debug_struct("SimDisk").field("names", &self.state().names).finish_non_exhaustive()
    }
}

/// What all files of a disk hold, as a backup would have it.
#[derive(Clone, Debug)]
pub struct Backup(BTreeMap<String, Content>);

/// Bytes that reach the disk together or not at all.
#[derive(Clone, Copy, Debug)]
struct Sector(u64);

impl Sector {
    /// A write in parts that no sector border divides.
    fn split(self, offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
        let (mut at, mut rest) = (offset, bytes);
        std::iter::from_fn(move || {
            let room = usize::try_from(self.0 - at % self.0).unwrap_or(usize::MAX);
            let (piece, tail) = rest.split_at(rest.len().min(room));
            let place = at;
            at += piece.len() as u64;
            rest = tail;
            (!piece.is_empty()).then_some((place, piece))
        })
    }
}

#[derive(Debug)]
struct State {
    sector: Sector,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<u64, Arc<Inode>>,
    inode_next: u64,
    change_next: u64,
    capacity: Option<u64>,
    is_locked: bool,
    is_down: bool,
}

/// A name that was made (with its file) or removed, and not flushed since.
#[derive(Clone, Debug)]
struct NameChange {
    number: u64,
    name: String,
    inode: Option<u64>,
    /// Flushed, but kept in the list because a betrayed change lies below it.
    is_certain: bool,
    /// A flush of it failed.
    is_betrayed: bool,
}

impl State {
    fn new(sector: Sector) -> Self {
        Self {
            sector,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            files: BTreeMap::new(),
            inode_next: 0,
            change_next: 0,
            capacity: None,
            is_locked: false,
            is_down: false,
        }
    }

    fn next_change(&mut self) -> u64 {
        self.change_next += 1;
        self.change_next
    }

    fn rename(&mut self, name: &str, inode: Option<u64>) {
        let change = NameChange {
            number: self.next_change(),
            name: name.to_owned(),
            inode,
            is_certain: false,
            is_betrayed: false,
        };
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn flush_names(&mut self) {
        if self.name_changes.iter().any(|change| change.is_betrayed) {
            for change in self.name_changes.iter_mut().filter(|change| !change.is_betrayed) {
                change.is_certain = true;
            }
        } else {
            self.name_changes.clear();
            self.durable_names.clone_from(&self.names);
        }
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|inode| self.files.get(inode));
        named.map(|inode| inode.current.used()).sum()
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        let inode = self.files.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::make_mut(inode))
    }
}

impl SimDisk {
    /// Flips one bit of a file, as a medium does that forgets; whether there is one to flip.
    pub(crate) fn rot(&self, name: &str, rng: &mut Rng) -> bool {
        let mut flip = || -> io::Result<bool> {
            let file = self.open(name)?;
            let len = file.len()?;
            if len == 0 {
                return Ok(false);
            }
            let (at, mut byte) = (rng.below(len), [0]);
            file.read_at(&mut byte, at)?;
            file.write_at(&[byte[0] ^ 1 << rng.below(8)], at)?;
            Ok(true)
        };
        flip().unwrap_or(false)
    }

    /// An empty disk whose sectors have so many bytes.
    #[must_use]
    pub fn new(sector: usize) -> Self {
        Self::with_state(State::new(Sector((sector as u64).max(1))))
    }

    fn with_state(state: State) -> Self {
        Self(Arc::new(Shared { state: Mutex::new(state), hook: Mutex::new(None) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is complete or not begun, so a panic elsewhere leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `hook` see every later call through any handle of this disk.
    pub fn set_hook(&self, hook: Option<Arc<dyn DiskHook>>) {
        *self.0.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// This disk after its process was killed: everything written, flushed or not, still at the
    /// mercy of a later power cut. Without the hook and the lock.
    #[must_use]
    pub fn killed(&self) -> Self {
        let state = self.state();
        Self::with_state(State {
            sector: state.sector,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            name_changes: state.name_changes.clone(),
            files: state.files.clone(),
            inode_next: state.inode_next,
            change_next: state.change_next,
            capacity: state.capacity,
            is_locked: false,
            is_down: false,
        })
    }

    /// From now on every call through a handle of this disk fails and changes nothing. For code
    /// that still unwinds when its machine is dead; [`SimDisk::power_cut`] and
    /// [`SimDisk::killed`] go on working.
    pub fn kill_switch(&self) {
        self.state().is_down = true;
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

    /// Flips one bit somewhere in some file, on the disk itself: no flush or power cut undoes it,
    /// only a later write of that byte. Gives the file and the byte, or `None` without bytes.
    pub fn flip_bit(&self, rng: &mut Rng) -> Option<(String, u64)> {
        let mut state = self.state();
        let lens = state.names.iter().filter_map(|(name, number)| {
            Some((name.clone(), *number, state.files.get(number)?.current.len))
        });
        let lens: Vec<(String, u64, u64)> = lens.collect();
        let mut at = rng.below(lens.iter().map(|(.., len)| len).sum());
        let bit = 1 << rng.below(8);
        for (name, number, len) in lens {
            if at >= len {
                at -= len;
                continue;
            }
            let inode = state.inode(number).ok()?;
            for content in [&mut inode.current, &mut inode.durable] {
                let mut byte = [0];
                if content.read_at(&mut byte, at) == 1 {
                    content.write_at(&byte.map(|byte| byte ^ bit), at);
                }
            }
            return Some((name, at));
        }
        None
    }

    /// What the files hold now, for [`SimDisk::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Backup {
        let state = self.state();
        let files = state.names.iter().filter_map(|(name, number)| {
            Some((name.clone(), state.files.get(number)?.current.clone()))
        });
        Backup(files.collect())
    }

    /// Puts a backup in the place of everything here, and flushes it. Files that are open go on
    /// with what they had and cannot be reached by name any more.
    pub fn restore(&self, backup: &Backup) {
        let mut state = self.state();
        state.names.clear();
        state.name_changes.clear();
        for (name, content) in &backup.0 {
            let number = state.inode_next;
            state.inode_next += 1;
            state.names.insert(name.clone(), number);
            state.files.insert(number, Arc::new(Inode::settled(content.clone())));
        }
        state.durable_names = state.names.clone();
    }

    /// A hash of what the files hold: equal for disks that nobody can tell apart.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (name, content) in &self.snapshot().0 {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            content.hash_into(&mut hasher);
        }
        *hasher.finalize().as_bytes()
    }

    /// Asks the hook, then locks the state of a machine that is up. The hook may use this disk, so
    /// nothing is locked while it is asked.
    fn begin(&self, op: DiskOp<'_>) -> io::Result<(MutexGuard<'_, State>, DiskFault)> {
        drop(self.up()?);
        let hook = self.0.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fault = hook.map_or(DiskFault::None, |hook| hook.before(&op));
        // The hook may have pulled the plug.
        let state = self.up()?;
        match (fault, op) {
            (DiskFault::None, _)
            | (DiskFault::Short { .. }, DiskOp::Read { .. } | DiskOp::Write { .. })
            | (DiskFault::FlushFails, DiskOp::Flush { .. } | DiskOp::FlushDir) => {
                Ok((state, fault))
            }
            (DiskFault::Fail(kind), _) => Err(io::Error::new(kind, "injected disk error")),
            (DiskFault::Short { .. } | DiskFault::FlushFails, _) => Err(broken()),
        }
    }

    fn up(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_down { Err(io::Error::other("the machine is down")) } else { Ok(state) }
    }
}

fn broken() -> io::Error {
    io::Error::other("injected disk error")
}

impl Dir for SimDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        check_name(name)?;
        let (mut state, _) = self.begin(DiskOp::Open { name })?;
        let inode = if let Some(&inode) = state.names.get(name) {
            inode
        } else {
            let inode = state.inode_next;
            state.inode_next += 1;
            state.files.insert(inode, Arc::default());
            state.rename(name, Some(inode));
            inode
        };
        Ok(Box::new(SimFile { disk: self.clone(), name: name.to_owned(), inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let (state, _) = self.begin(DiskOp::List)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let (mut state, _) = self.begin(DiskOp::Remove { name })?;
        // The content stays for open handles and for a power cut before the next flush.
        if state.names.contains_key(name) {
            state.rename(name, None);
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn DirLock>> {
        let (mut state, _) = self.begin(DiskOp::Lock)?;
        if state.is_locked {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "in use by this process"));
        }
        state.is_locked = true;
        Ok(Box::new(SimLock { disk: self.clone() }))
    }

    fn flush(&self) -> io::Result<()> {
        let (mut state, fault) = self.begin(DiskOp::FlushDir)?;
        if fault == DiskFault::FlushFails {
            state.name_changes.iter_mut().for_each(|c| c.is_betrayed |= !c.is_certain);
            return Err(broken());
        }
        state.flush_names();
        Ok(())
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().is_locked = false;
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    name: String,
    inode: u64,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.up()?;
        Ok(state.inode(self.inode)?.current.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let op = DiskOp::Read { name: &self.name, offset, len: buf.len() };
        let (mut state, fault) = self.disk.begin(op)?;
        let len = match fault {
            DiskFault::Short { keep } => keep.min(buf.len()),
            _ => buf.len(),
        };
        let content = &state.inode(self.inode)?.current;
        Ok(content.read_at(buf.get_mut(..len).unwrap_or_default(), offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let op = DiskOp::Write { name: &self.name, offset, len: bytes.len() };
        let (mut state, fault) = self.disk.begin(op)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let room = state.capacity.map(|capacity| capacity.saturating_sub(state.used()));
        let number = state.next_change();
        let inode = state.inode(self.inode)?;
        let fresh = inode.current.fresh_blocks(offset, end) * content::BLOCK;
        if fresh > 0 && room.is_some_and(|room| fresh > room) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"));
        }
        let done = match fault {
            DiskFault::Short { keep } => bytes.get(..keep).unwrap_or(bytes),
            _ => bytes,
        };
        inode.change(number, What::Write { offset, bytes: Bytes::copy_from_slice(done) });
        if fault == DiskFault::None { Ok(()) } else { Err(broken()) }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let (mut state, _) = self.disk.begin(DiskOp::Truncate { name: &self.name, len })?;
        let number = state.next_change();
        let inode = state.inode(self.inode)?;
        if inode.current.len != len {
            inode.change(number, What::Truncate { len });
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let (mut state, fault) = self.disk.begin(DiskOp::Flush { name: &self.name })?;
        let inode = state.inode(self.inode)?;
        if fault == DiskFault::FlushFails {
            inode.betray();
            return Err(broken());
        }
        inode.flush();
        Ok(())
    }
}

/// The rule of every platform's `Dir`; `lock` is taken by [`Dir::lock`].
fn check_name(name: &str) -> io::Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if name.is_empty() || name.starts_with('.') || name == "lock" || !name.bytes().all(plain) {
        let message = format!("not a file name name=`{name}`");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}
