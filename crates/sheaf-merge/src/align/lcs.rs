//! The exact part of alignment: the heaviest common subsequence of two short lists.
//!
//! Invariant: the result is the canonical walk of specification d.2 over the full table: equal
//! tokens match; otherwise a base token is skipped if that costs nothing, else a side token.
//! Only the diagonals an optimal walk can reach are computed: a walk that leaves the band around
//! the straight way by `t` skips at least `t` tokens of either list, so a cheaper walk that was
//! found inside proves that the band holds every optimal one.

use super::Token;

/// Diagonals beside the straight way in the first attempt.
const BAND_FIRST: usize = 16;
/// How much wider the next attempt is, at most.
const BAND_GROWTH: usize = 4;
/// Smaller than any sum of weights, and far from overflow.
const NEVER: i32 = i32::MIN / 2;

/// The matched pairs, ascending, or `None` if `budget` cells do not suffice.
pub(super) fn longest(a: &[Token], b: &[Token], budget: &mut usize) -> Option<Vec<(usize, usize)>> {
    let total: usize = a.iter().chain(b).map(|token| usize::from(token.weight)).sum();
    let full = a.len().max(b.len());
    let straight = a.len().abs_diff(b.len());
    let mut extra = BAND_FIRST.min(full);
    loop {
        let band = Band::new(a.len(), b.len(), extra);
        *budget = budget.checked_sub(band.width * a.len())?;
        let table = Table::fill(a, b, band);
        let matched = usize::try_from(table.best).unwrap_or(0);
        // What the best walk inside the band skips, less what every walk must skip.
        let detour = total.saturating_sub(2 * matched).saturating_sub(straight);
        if extra >= full || detour < 2 * (extra + 1) {
            return Some(table.walk(a, b));
        }
        extra = (extra * BAND_GROWTH).min(detour / 2 + 1).min(full);
    }
}

/// The cells (i, j) with `low <= j - i`, `width` diagonals in all; `low` is at most zero.
struct Band {
    below: usize,
    width: usize,
}

impl Band {
    fn new(a: usize, b: usize, extra: usize) -> Self {
        let below = extra + a.saturating_sub(b);
        let above = extra + b.saturating_sub(a);
        Self { below, width: below + above + 1 }
    }

    /// First and last column of a row, both inside the table.
    fn row(&self, i: usize, columns: usize) -> (usize, usize) {
        (i.saturating_sub(self.below), (i + self.width - 1).saturating_sub(self.below).min(columns))
    }
}

struct Table {
    band: Band,
    skips: Vec<u64>,
    best: i32,
}

impl Table {
    /// Weights of the best common subsequence of every pair of suffixes, from the last row up;
    /// only the directions are kept, one bit each.
    fn fill(a: &[Token], b: &[Token], band: Band) -> Self {
        let mut table = Self { skips: vec![0; (a.len() * band.width).div_ceil(64)], band, best: 0 };
        let columns = b.len();
        let mut row = vec![0_i32; columns + 2];
        let (first, _) = table.band.row(a.len(), columns);
        if let Some(outside) = first.checked_sub(1).and_then(|at| row.get_mut(at)) {
            *outside = NEVER;
        }
        for (i, token) in a.iter().enumerate().rev() {
            let (first, last) = table.band.row(i, columns);
            table.fill_row(i, *token, b, &mut row, first, last);
            if let Some(outside) = first.checked_sub(1).and_then(|at| row.get_mut(at)) {
                *outside = NEVER;
            }
        }
        table.best = row.first().copied().unwrap_or(0);
        table
    }

    /// `row` holds row i + 1 and becomes row i.
    fn fill_row(
        &mut self,
        i: usize,
        token: Token,
        b: &[Token],
        row: &mut [i32],
        first: usize,
        last: usize,
    ) {
        let inside = last.min(b.len().saturating_sub(1));
        // Right of the last column there is nothing to match; right of the band nobody walks.
        let (mut right, mut diagonal) =
            if last == b.len() { (0, 0) } else { (NEVER, row.get(last + 1).copied().unwrap_or(0)) };
        let start = i * self.band.width + self.band.below - i;
        let (Some(columns), Some(cells)) = (b.get(first..=inside), row.get_mut(first..=inside))
        else {
            return;
        };
        for (offset, (other, cell)) in columns.iter().zip(cells).enumerate().rev() {
            let down = *cell;
            let value = if other.key == token.key {
                diagonal + i32::from(token.weight)
            } else if down >= right {
                let bit = start + first + offset;
                if let Some(word) = self.skips.get_mut(bit / 64) {
                    *word |= 1 << (bit % 64);
                }
                down
            } else {
                right
            };
            (diagonal, right, *cell) = (down, value, value);
        }
    }

    fn walk(&self, a: &[Token], b: &[Token]) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        let (mut i, mut j) = (0, 0);
        while let (Some(left), Some(right)) = (a.get(i), b.get(j)) {
            let bit = (i * self.band.width + self.band.below + j).wrapping_sub(i);
            if left.key == right.key {
                pairs.push((i, j));
                (i, j) = (i + 1, j + 1);
            } else if self.skips.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1) {
                i += 1;
            } else {
                j += 1;
            }
        }
        pairs
    }
}
