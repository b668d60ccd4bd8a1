//! Randomness that follows from a seed, and can be split so that one part's draws do not move
//! another's.
//!
//! Invariant: the same seed and the same calls give the same values on every platform. Leaves out
//! unpredictability.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A generator of its own for one purpose. It depends on the label and on what was drawn here
    /// before; later draws here do not move it.
    #[must_use]
    pub fn fork(&mut self, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.bits().to_le_bytes());
        hasher.update(label.as_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; zero for a bound of zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of a plain remainder is below 2^-32 for the small bounds used here.
        self.bits().checked_rem(bound).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// An index into something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True with a probability of `per_million` in a million. Draws nothing when that is zero, so
    /// that a fault which is switched off leaves the other draws where they were.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// One of some things.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// Fills a buffer.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_from_the_seed() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            let mut fork = rng.fork("a");
            (rng.bits(), fork.between(5, 9), fork.index(3), rng.chance(500_000))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let (_, between, index, _) = draw(7);
        assert!((5..=9).contains(&between) && index < 3);
    }

    #[test]
    fn nothing_is_drawn_for_what_cannot_happen() {
        let (mut a, mut b) = (Rng::new(1), Rng::new(1));
        assert!(!a.chance(0));
        assert_eq!(a.bits(), b.bits());
    }
}
