//! Canonical alignment of two token lists: which tokens of a base a side kept.
//!
//! Source: specification d.2. The result is the heaviest common subsequence with fixed ties, so
//! that every replica predicts what the appender computes; no library's heuristics have a say.
//! Invariant: pairs ascend in both lists and join equal tokens only; time is bounded by
//! [`DP_CELLS_MAX`], [`DP_CELLS_TOTAL_MAX`] and [`ANCHOR_ROUNDS_MAX`], beyond which fewer tokens
//! are matched, never wrong ones, and the result says so. Leaves out what a merge does with it: [`gap`].

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    ops::Range,
};

mod anchors;
pub mod gap;
mod hash;
mod lcs;

/// Cells of the exact table for one range: 2,048 by 2,048 tokens; larger ranges use anchors.
pub const DP_CELLS_MAX: usize = 1 << 22;
/// Cells of all exact tables of one alignment: bounds a text of many large ranges.
pub const DP_CELLS_TOTAL_MAX: usize = 1 << 26;
/// How often a range is cut at anchors before the rest counts as replaced.
pub const ANCHOR_ROUNDS_MAX: u32 = 32;

/// A token as alignment sees it. Equal keys must carry equal weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Identity: two tokens are equal if and only if their keys are.
    pub key: u32,
    /// How much it counts as a match, at least 1.
    pub weight: u8,
}

/// Gives equal values equal keys, in the order of first use.
#[derive(Debug)]
pub struct Interner<T> {
    keys: HashMap<T, u32, hash::Key>,
}

impl<T: Hash + Eq> Interner<T> {
    /// An interner that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { keys: HashMap::with_hasher(hash::Key::draw()) }
    }

    /// The token of a value.
    ///
    /// # Panics
    /// After 2^32 distinct values, which do not fit into memory as lists that one could merge.
    pub fn token(&mut self, value: T, weight: u8) -> Token {
        let next = u32::try_from(self.keys.len()).expect("BUG: more than 2^32 distinct tokens");
        Token { key: *self.keys.entry(value).or_insert(next), weight }
    }
}

impl<T: Hash + Eq> Default for Interner<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A stretch where a side differs from the base: `base` was deleted, `side` inserted.
///
/// The insertion belongs to the gap before base token `base.end`: after what it replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// Base tokens that are gone.
    pub base: Range<usize>,
    /// Tokens of the side that came.
    pub side: Range<usize>,
}

/// What one side did to the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    kept: Vec<Option<usize>>,
    hunks: Vec<Hunk>,
    is_coarse: bool,
}

impl Alignment {
    /// Where the side has base token `base`, if it kept it.
    #[must_use]
    pub fn kept(&self, base: usize) -> Option<usize> {
        self.kept.get(base).copied().flatten()
    }

    /// The changes, in ascending order, with at least one kept token between any two.
    #[must_use]
    pub fn hunks(&self) -> &[Hunk] {
        &self.hunks
    }

    /// Whether a stretch was too large to be compared token by token, so that it counts as
    /// replaced although both have tokens of it.
    #[must_use]
    pub fn is_coarse(&self) -> bool {
        self.is_coarse
    }

    /// For each token of a side of `len` tokens, the base token it is.
    #[must_use]
    pub fn origins(&self, len: usize) -> Vec<Option<usize>> {
        let mut origins = vec![None; len];
        for (base, side) in self.kept.iter().enumerate() {
            if let Some(origin) = side.and_then(|side| origins.get_mut(side)) {
                *origin = Some(base);
            }
        }
        origins
    }
}

/// The changes between what is kept.
fn hunks(kept: &[Option<usize>], side_len: usize) -> Vec<Hunk> {
    let mut hunks = Vec::new();
    let (mut base, mut side) = (0, 0);
    let ends = kept.iter().enumerate().filter_map(|(i, j)| j.map(|j| (i, j)));
    for (i, j) in ends.chain([(kept.len(), side_len)]) {
        if base < i || side < j {
            hunks.push(Hunk { base: base..i, side: side..j });
        }
        (base, side) = (i + 1, j + 1);
    }
    hunks
}

/// Aligns `side` with `base` (specification d.2).
#[must_use]
pub fn align(base: &[Token], side: &[Token]) -> Alignment {
    let mut kept = vec![None; base.len()];
    let mut cells = DP_CELLS_TOTAL_MAX;
    let mut is_coarse = false;
    // An explicit stack: how deep anchors nest is up to the input.
    let mut ranges = vec![(0..base.len(), 0..side.len(), ANCHOR_ROUNDS_MAX)];
    while let Some((b, s, rounds)) = ranges.pop() {
        let (b, s) = trim(base, side, b, s, &mut kept);
        let (mid_b, mid_s) = (part(base, &b), part(side, &s));
        if mid_b.is_empty() || mid_s.is_empty() {
            continue;
        }
        if let Some(pairs) = exact(mid_b, mid_s, &mut cells, rounds == ANCHOR_ROUNDS_MAX) {
            mark(&mut kept, b.start, s.start, &pairs);
        } else {
            let pairs = if rounds > 0 { anchors::unique(mid_b, mid_s) } else { Vec::new() };
            mark(&mut kept, b.start, s.start, &pairs);
            if pairs.is_empty() {
                is_coarse |= have_common(mid_b, mid_s);
            } else {
                ranges.extend(between(&b, &s, &pairs).map(|(b, s)| (b, s, rounds - 1)));
            }
        }
    }
    slide(base, side, &mut kept);
    Alignment { hunks: hunks(&kept, side.len()), kept, is_coarse }
}

/// The canonical pairs, or `None` if there are too many cells, of which `cells` are left. Where
/// nothing was cut at anchors before, nothing is compared afterwards that would need what is left.
fn exact(
    base: &[Token],
    side: &[Token],
    cells: &mut usize,
    is_all: bool,
) -> Option<Vec<(usize, usize)>> {
    if base.len().saturating_mul(side.len()) > DP_CELLS_MAX {
        return None;
    }
    if is_all && lcs::cells_max(base.len(), side.len()) <= *cells {
        return Some(lcs::longest(base, side));
    }
    lcs::longest_within(base, side, cells)
}

fn have_common(a: &[Token], b: &[Token]) -> bool {
    let keys: HashSet<u32> = a.iter().map(|token| token.key).collect();
    b.iter().any(|token| keys.contains(&token.key))
}

fn part<'a>(tokens: &'a [Token], range: &Range<usize>) -> &'a [Token] {
    tokens.get(range.clone()).unwrap_or_default()
}

fn key(tokens: &[Token], at: usize) -> Option<u32> {
    tokens.get(at).map(|token| token.key)
}

fn set(kept: &mut [Option<usize>], base: usize, side: Option<usize>) {
    if let Some(slot) = kept.get_mut(base) {
        *slot = side;
    }
}

fn mark(kept: &mut [Option<usize>], base: usize, side: usize, pairs: &[(usize, usize)]) {
    for &(i, j) in pairs {
        set(kept, base + i, Some(side + j));
    }
}

/// The ranges between anchors, from last to first: a stack hands them out from first to last.
fn between<'a>(
    b: &'a Range<usize>,
    s: &'a Range<usize>,
    pairs: &'a [(usize, usize)],
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
    let starts = [(b.start, s.start)]
        .into_iter()
        .chain(pairs.iter().map(|&(i, j)| (b.start + i + 1, s.start + j + 1)));
    let ends = pairs.iter().map(|&(i, j)| (b.start + i, s.start + j)).chain([(b.end, s.end)]);
    let ranges: Vec<_> = starts.zip(ends).map(|(from, to)| (from.0..to.0, from.1..to.1)).collect();
    ranges.into_iter().rev()
}

/// Matches the common prefix, then the common suffix, and returns what is left.
fn trim(
    base: &[Token],
    side: &[Token],
    mut b: Range<usize>,
    mut s: Range<usize>,
    kept: &mut [Option<usize>],
) -> (Range<usize>, Range<usize>) {
    while !b.is_empty() && !s.is_empty() && key(base, b.start) == key(side, s.start) {
        set(kept, b.start, Some(s.start));
        (b.start, s.start) = (b.start + 1, s.start + 1);
    }
    while !b.is_empty() && !s.is_empty() && key(base, b.end - 1) == key(side, s.end - 1) {
        (b.end, s.end) = (b.end - 1, s.end - 1);
        set(kept, b.end, Some(s.end));
    }
    (b, s)
}

/// Moves pure insertions and deletions as far to the right as equal tokens allow, so that the
/// same edit lands at the same place on both sides.
fn slide(base: &[Token], side: &[Token], kept: &mut [Option<usize>]) {
    for hunk in hunks(kept, side.len()).into_iter().rev() {
        let (mut b, mut s) = (hunk.base, hunk.side);
        if b.is_empty() {
            while kept.get(b.end).copied().flatten() == Some(s.end)
                && key(base, b.end) == key(side, s.start)
            {
                set(kept, b.end, Some(s.start));
                b.end += 1;
                (s.start, s.end) = (s.start + 1, s.end + 1);
            }
        } else if s.is_empty() {
            while let Some(next) = kept.get(b.end).copied().flatten()
                && key(base, b.start) == key(base, b.end)
            {
                set(kept, b.start, Some(next));
                set(kept, b.end, None);
                (b.start, b.end) = (b.start + 1, b.end + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
