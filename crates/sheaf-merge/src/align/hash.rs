//! A hash for numbering words: a multiplication for every eight bytes.
//!
//! Invariant: equal values hash equally under one [`Key`], which is drawn anew for every merge
//! and never leaves it, so that nobody can choose words that collide. Leaves out what a
//! cryptographic hash gives: whoever knew the key could choose them.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What hashes depend on beside the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    start: u64,
    factor: u64,
}

impl Key {
    pub(super) fn draw() -> Self {
        let random = RandomState::new();
        Self { start: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for Key {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { state: self.start, factor: self.factor }
    }
}

pub(super) struct Fold {
    state: u64,
    factor: u64,
}

impl Fold {
    /// Both halves of a product depend on all bits of what is multiplied.
    fn mix(&mut self, part: u64) {
        let product = u128::from(self.state ^ part) * u128::from(self.factor);
        let [low, high] = [product, product >> 64].map(|half| half & u128::from(u64::MAX));
        self.state = u64::try_from(low ^ high).unwrap_or_default();
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (whole, rest) = bytes.as_chunks();
        for part in whole {
            self.mix(u64::from_le_bytes(*part));
        }
        // Fewer than eight bytes, and a bit that says how many.
        self.mix(rest.iter().fold(1, |part, byte| part << 8 | u64::from(*byte)));
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
