//! The gap merge: two sets of changes to one base become one list, without conflicts.
//!
//! Source: specification d.3. Invariant: a base token survives if and only if both sides keep it;
//! an inserted run of either side survives whole and contiguous, once if both inserted it.
//! Leaves out what tokens mean: a caller may decide single gaps itself ([`Gap`]).

use std::{hash::Hash, ops::Range};

use super::{Alignment, Hunk, Interner, Token, align};

/// Where one token of the result stands in each version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Its place in the base.
    pub base: Option<usize>,
    /// Its place in left.
    pub left: Option<usize>,
    /// Its place in right.
    pub right: Option<usize>,
}

impl Piece {
    /// The places of left tokens that right does not have.
    pub fn of_left(range: Range<usize>) -> impl Iterator<Item = Self> {
        range.map(|at| Self { left: Some(at), ..Self::default() })
    }

    /// The places of right tokens that left does not have.
    pub fn of_right(range: Range<usize>) -> impl Iterator<Item = Self> {
        range.map(|at| Self { right: Some(at), ..Self::default() })
    }
}

/// A gap into which both sides inserted something different.
#[derive(Clone, Copy, Debug)]
pub struct Gap<'a> {
    /// What left replaced and inserted here.
    pub left: &'a Hunk,
    /// What right replaced and inserted here.
    pub right: &'a Hunk,
}

impl Gap<'_> {
    /// Whether left's run comes first: a replacement stands before a mere insertion, the
    /// replacement that starts earlier before the other, else left before right.
    #[must_use]
    pub fn left_first(self) -> bool {
        let (left, right) = (&self.left.base, &self.right.base);
        right.is_empty() || !(left.is_empty() || right.start < left.start)
    }
}

/// Two versions of a base, aligned with it.
#[derive(Clone, Debug)]
pub struct Sides {
    base_len: usize,
    left_tokens: Vec<Token>,
    right_tokens: Vec<Token>,
    /// Base against left.
    pub left: Alignment,
    /// Base against right.
    pub right: Alignment,
}

impl Sides {
    /// Aligns both versions with the base.
    #[must_use]
    pub fn new(base: &[Token], left: Vec<Token>, right: Vec<Token>) -> Self {
        Self {
            base_len: base.len(),
            left: align(base, &left),
            right: align(base, &right),
            left_tokens: left,
            right_tokens: right,
        }
    }

    /// Whether a version could not be compared with the base throughout.
    #[must_use]
    pub fn is_coarse(&self) -> bool {
        self.left.is_coarse() || self.right.is_coarse()
    }

    /// Whether both keep a token of the base.
    #[must_use]
    pub fn both_keep(&self, at: usize) -> bool {
        self.left.kept(at).is_some() && self.right.kept(at).is_some()
    }
}

/// Merges. `keep` says for each base token whether it is in the result; `special` may decide a
/// gap into which both sides inserted different runs, neither of them part of the other.
pub fn merge(
    sides: &Sides,
    mut keep: impl FnMut(usize) -> bool,
    mut special: impl FnMut(Gap<'_>) -> Option<Vec<Piece>>,
) -> Vec<Piece> {
    let new = |alignment: &Alignment| -> usize {
        alignment.hunks().iter().map(|hunk| hunk.side.len()).sum()
    };
    let mut pieces = Vec::with_capacity(sides.base_len + new(&sides.left) + new(&sides.right));
    let mut left = sides.left.hunks().iter().peekable();
    let mut right = sides.right.hunks().iter().peekable();
    for gap in 0..=sides.base_len {
        let l = left.next_if(|hunk| hunk.base.end == gap);
        let r = right.next_if(|hunk| hunk.base.end == gap);
        combine(sides, l, r, &mut special, &mut pieces);
        if gap < sides.base_len && keep(gap) {
            pieces.push(Piece {
                base: Some(gap),
                left: sides.left.kept(gap),
                right: sides.right.kept(gap),
            });
        }
    }
    pieces
}

fn combine(
    sides: &Sides,
    left: Option<&Hunk>,
    right: Option<&Hunk>,
    special: &mut impl FnMut(Gap<'_>) -> Option<Vec<Piece>>,
    out: &mut Vec<Piece>,
) {
    let left = left.filter(|hunk| !hunk.side.is_empty());
    let right = right.filter(|hunk| !hunk.side.is_empty());
    let (left, right) = match (left, right) {
        (None, None) => return,
        (Some(left), None) => return out.extend(Piece::of_left(left.side.clone())),
        (None, Some(right)) => return out.extend(Piece::of_right(right.side.clone())),
        (Some(left), Some(right)) => (left, right),
    };
    let l = sides.left_tokens.get(left.side.clone()).unwrap_or_default();
    let r = sides.right_tokens.get(right.side.clone()).unwrap_or_default();
    // Identical edits once. Their tokens stand in both versions, which glue and tags ask for.
    if let Some(at) = find(l, r) {
        let also = within(left.side.start + at, &right.side);
        let pieces = Piece::of_left(left.side.clone());
        out.extend(pieces.map(|piece| Piece { right: piece.left.and_then(&also), ..piece }));
    } else if let Some(at) = find(r, l) {
        let also = within(right.side.start + at, &left.side);
        let pieces = Piece::of_right(right.side.clone());
        out.extend(pieces.map(|piece| Piece { left: piece.right.and_then(&also), ..piece }));
    } else {
        let gap = Gap { left, right };
        out.extend(special(gap).unwrap_or_else(|| {
            let (l, r) = (Piece::of_left(left.side.clone()), Piece::of_right(right.side.clone()));
            if gap.left_first() { l.chain(r).collect() } else { r.chain(l).collect() }
        }));
    }
}

/// For a place in the longer run its place in the shorter one, which stands in it from `start` on.
fn within(start: usize, part: &Range<usize>) -> impl Fn(usize) -> Option<usize> + use<> {
    let part = part.clone();
    move |at| {
        let place = part.start + at.checked_sub(start)?;
        part.contains(&place).then_some(place)
    }
}

/// Where `part` first stands in `whole` as one run (Knuth, Morris, Pratt: linear time).
fn find(whole: &[Token], part: &[Token]) -> Option<usize> {
    if part.len() > whole.len() {
        return None;
    }
    let same = |a: Option<&Token>, b: &Token| a.is_some_and(|a| a.key == b.key);
    // borders[i]: the longest proper prefix of `part` that ends its first i + 1 tokens.
    let mut borders: Vec<usize> = Vec::with_capacity(part.len());
    let mut matched = 0;
    for (at, token) in part.iter().enumerate() {
        while at > 0 && matched > 0 && !same(part.get(matched), token) {
            matched = borders.get(matched - 1).copied().unwrap_or(0);
        }
        matched += usize::from(at > 0 && same(part.get(matched), token));
        borders.push(matched);
    }
    matched = 0;
    for (at, token) in whole.iter().enumerate() {
        while matched > 0 && !same(part.get(matched), token) {
            matched = borders.get(matched - 1).copied().unwrap_or(0);
        }
        matched += usize::from(same(part.get(matched), token));
        if matched == part.len() {
            return Some(at + 1 - part.len());
        }
    }
    None
}

/// Merges three lists of plain values: what one side deleted is gone, what it inserted is there,
/// left's insertions before right's in one gap.
#[must_use]
pub fn merge_lists<T: Hash + Eq + Clone>(base: &[T], left: &[T], right: &[T]) -> Vec<T> {
    let mut interner = Interner::new();
    let mut tokens = |list| -> Vec<Token> {
        let list: &[T] = list;
        list.iter().map(|value| interner.token(value.clone(), 1)).collect()
    };
    let (b, l, r) = (tokens(base), tokens(left), tokens(right));
    let sides = Sides::new(&b, l, r);
    let pieces = merge(&sides, |at| sides.both_keep(at), |_| None);
    let value = |piece: Piece| match piece.left {
        Some(at) => left.get(at).cloned(),
        None => piece.right.and_then(|at| right.get(at).cloned()),
    };
    pieces.into_iter().filter_map(value).collect()
}
