//! Bytes of one file, in shared blocks, and what was done to them since the last flush.
//!
//! Invariant: a missing block reads as zeros and bytes beyond the length are always zero, so a
//! file that is cut and grown again never shows what it held before. Copies share their blocks
//! until one of them changes. Leaves out which of the changes survive: see `crash.rs`.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

/// Bytes in one block: the unit of sharing, of sparseness and of the capacity count.
pub(super) const BLOCK: u64 = 4_096;
const BLOCK_LEN: usize = 4_096;

type Block = Arc<[u8; BLOCK_LEN]>;

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    blocks: Arc<BTreeMap<u64, Block>>,
}

impl Content {
    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
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

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
        let blocks = Arc::make_mut(&mut self.blocks);
        let mut offset = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (block, at) = place(offset);
            let (part, tail) = rest.split_at(rest.len().min(BLOCK_LEN - at));
            let target = blocks.entry(block).or_insert_with(|| Arc::new([0; BLOCK_LEN]));
            if let Some(target) = Arc::make_mut(target).get_mut(at..at + part.len()) {
                target.copy_from_slice(part);
            }
            offset += part.len() as u64;
            rest = tail;
        }
    }

    /// Cuts bytes or adds zeros.
    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.len {
            let (block, at) = place(len);
            let blocks = Arc::make_mut(&mut self.blocks);
            drop(blocks.split_off(&if at == 0 { block } else { block + 1 }));
            if at > 0
                && let Some(bytes) = blocks.get_mut(&block)
                && let Some(tail) = Arc::make_mut(bytes).get_mut(at..)
            {
                tail.fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn used(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK
    }

    /// Blocks that a write would add.
    pub(super) fn fresh_blocks(&self, offset: u64, end: u64) -> u64 {
        let touched = offset / BLOCK..=(end - 1) / BLOCK;
        touched.filter(|block| !self.blocks.contains_key(block)).count() as u64
    }

    pub(super) fn hash_into(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&self.len.to_le_bytes());
        for (number, block) in &*self.blocks {
            // A block of zeros and a hole are the same bytes.
            if block.iter().any(|byte| *byte != 0) {
                hasher.update(&number.to_le_bytes());
                hasher.update(&**block);
            }
        }
    }
}

fn place(offset: u64) -> (u64, usize) {
    (offset / BLOCK, usize::try_from(offset % BLOCK).unwrap_or(0))
}

/// One change that a power cut may undo.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Position in the order of all changes of the disk.
    pub(super) number: u64,
    pub(super) what: What,
    pub(super) standing: Standing,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Write { offset: u64, bytes: Bytes },
    Truncate { len: u64 },
}

/// How sure a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not flushed.
    Unsynced,
    /// A flush of it failed: later flushes succeed and say nothing about it.
    Betrayed,
    /// Flushed, but kept in the list because a betrayed change lies below it.
    Flushed,
}

/// A file: what its readers see, what a power cut leaves for certain, and the changes between.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) current: Content,
    pub(super) durable: Content,
    pub(super) changes: Vec<Change>,
}

impl Inode {
    /// A file whose every byte is durable.
    pub(super) fn settled(content: Content) -> Self {
        Self { durable: content.clone(), current: content, changes: Vec::new() }
    }

    pub(super) fn change(&mut self, number: u64, what: What) {
        match &what {
            What::Write { offset, bytes } => self.current.write_at(bytes, *offset),
            What::Truncate { len } => self.current.truncate(*len),
        }
        self.changes.push(Change { number, what, standing: Standing::Unsynced });
    }

    pub(super) fn flush(&mut self) {
        if self.changes.iter().any(|change| change.standing == Standing::Betrayed) {
            self.settle(Standing::Flushed);
        } else {
            self.changes.clear();
            self.durable = self.current.clone();
        }
    }

    /// A flush that fails: nobody knows what of the changes reached the disk, or ever will.
    pub(super) fn betray(&mut self) {
        self.settle(Standing::Betrayed);
    }

    fn settle(&mut self, standing: Standing) {
        for change in &mut self.changes {
            if change.standing == Standing::Unsynced {
                change.standing = standing;
            }
        }
    }
}
