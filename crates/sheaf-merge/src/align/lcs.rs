//! The exact part of alignment: the heaviest common subsequence of two short lists.
//!
//! Invariant: the result is the canonical walk of specification d.2 over the full table: equal
//! tokens match; otherwise a base token is skipped if that costs nothing, else a side token.
//! Only the cells an optimal walk can reach are computed: how much more of the one list than of
//! the other a walk has passed changes by what it skips, and by nothing else, so a walk that
//! leaves the band around the straight way by `t` skips at least `t` of either list for nothing,
//! and a cheaper walk that was found inside proves that the band holds every optimal one.
//!
//! The band is counted in weights, as the walk is, which makes it narrow; or in tokens, by which
//! the cells of all tables of one alignment were first counted: which ranges have a table must
//! stay what it was.

use super::Token;

/// Weight beside the straight way in the first attempt: some ten edits of a word.
const BAND_WEIGHT_FIRST: usize = 32;
/// Diagonals beside the straight way in the first attempt, where tokens are counted.
const BAND_FIRST: usize = 16;
/// How much wider the next attempt is, at most.
const BAND_GROWTH: usize = 4;
/// Smaller than any sum of weights, and far from overflow.
const NEVER: i32 = i32::MIN / 2;

/// The matched pairs, ascending, where cells need not be counted: [`cells_max`] is affordable.
pub(super) fn longest(a: &[Token], b: &[Token]) -> Vec<(usize, usize)> {
    let (in_a, in_b) = (sums(a, weight), sums(b, weight));
    let mut extra = BAND_WEIGHT_FIRST;
    loop {
        let table = Table::fill(a, b, Band::new(&in_a, &in_b, extra));
        let detour = detour(a, b, &table, weight);
        if detour < 2 * (extra + 1) {
            return table.walk(a, b);
        }
        extra = (extra * BAND_GROWTH).min(detour / 2 + 1);
    }
}

/// The matched pairs, ascending, or `None` if `budget` cells do not suffice.
pub(super) fn longest_within(
    a: &[Token],
    b: &[Token],
    budget: &mut usize,
) -> Option<Vec<(usize, usize)>> {
    let (in_a, in_b) = (sums(a, one), sums(b, one));
    let full = a.len().max(b.len());
    let mut extra = BAND_FIRST.min(full);
    loop {
        *budget = budget.checked_sub(cells(a.len(), b.len(), extra))?;
        let table = Table::fill(a, b, Band::new(&in_a, &in_b, extra));
        let detour = detour(a, b, &table, one);
        if extra >= full || detour < 2 * (extra + 1) {
            return Some(table.walk(a, b));
        }
        extra = (extra * BAND_GROWTH).min(detour / 2 + 1).min(full);
    }
}

/// The most cells that [`longest_within`] counts for lists of these lengths: every attempt but the
/// last is as much wider as it can be, and the last is no wider than that.
pub(super) fn cells_max(a: usize, b: usize) -> usize {
    let full = a.max(b);
    let mut extra = BAND_FIRST.min(full);
    let mut all = cells(a, b, extra);
    while extra < full {
        extra = (extra * BAND_GROWTH).min(full);
        all = all.saturating_add(cells(a, b, extra));
    }
    all
}

fn cells(a: usize, b: usize, extra: usize) -> usize {
    a.saturating_mul(2 * extra + a.abs_diff(b) + 1)
}

fn weight(token: &Token) -> usize {
    usize::from(token.weight)
}

fn one(_: &Token) -> usize {
    1
}

/// How much of a list is passed before each of its tokens, and at its end.
fn sums(tokens: &[Token], measure: impl Fn(&Token) -> usize) -> Vec<usize> {
    let mut sums = Vec::with_capacity(tokens.len() + 1);
    let mut sum = 0;
    sums.push(sum);
    sums.extend(tokens.iter().map(|token| {
        sum += measure(token);
        sum
    }));
    sums
}

/// What the best walk inside the band skips, less what every walk must skip.
fn detour(a: &[Token], b: &[Token], table: &Table, measure: impl Fn(&Token) -> usize) -> usize {
    let sum = |tokens: &[Token], of: &dyn Fn(&Token) -> usize| tokens.iter().map(of).sum::<usize>();
    let total = sum(a, &weight) + sum(b, &weight);
    let matched = usize::try_from(table.best).unwrap_or(0);
    let straight = sum(a, &measure).abs_diff(sum(b, &measure));
    total.saturating_sub(2 * matched).saturating_sub(straight)
}

/// Cells whose directions are one number.
const WORD: usize = u64::BITS as usize;

/// The columns of a row that are inside, and where its directions begin.
#[derive(Clone, Copy, Default)]
struct Row {
    first: usize,
    /// One behind the last.
    end: usize,
    word: usize,
}

/// For each row of a table, the last included, its columns up to `extra` beside the straight way.
struct Band(Vec<Row>);

impl Band {
    /// `in_a` and `in_b` are what [`sums`] gave.
    fn new(in_a: &[usize], in_b: &[usize], extra: usize) -> Self {
        let all = |sums: &[usize]| sums.last().copied().unwrap_or(0);
        let below = extra + all(in_a).saturating_sub(all(in_b));
        let above = extra + all(in_b).saturating_sub(all(in_a));
        let mut row = Row::default();
        let rows = in_a.iter().map(|&passed| {
            row.word += (row.end - row.first).div_ceil(WORD);
            let is_below = |at: usize| in_b.get(at).is_some_and(|&other| other + below < passed);
            while is_below(row.first) {
                row.first += 1;
            }
            row.end = row.end.max(row.first);
            let is_inside = |at: usize| in_b.get(at).is_some_and(|&other| other <= passed + above);
            while is_inside(row.end) {
                row.end += 1;
            }
            row
        });
        Self(rows.collect())
    }

    fn row(&self, i: usize) -> Row {
        self.0.get(i).copied().unwrap_or_default()
    }
}

struct Table {
    band: Band,
    skips: Vec<u64>,
    best: i32,
}

impl Table {
    /// Weights of the best common subsequence of every pair of suffixes, from the last row up;
    /// only the directions are kept, one bit each, those of a row in numbers of its own.
    fn fill(a: &[Token], b: &[Token], band: Band) -> Self {
        let last = band.row(a.len());
        let mut table = Self { skips: vec![0; last.word], band, best: 0 };
        // What no walk inside the band reaches stays `NEVER`, one column right of the last too.
        let mut row = vec![NEVER; b.len() + 2];
        if let Some(inside) = row.get_mut(last.first..last.end) {
            inside.fill(0);
        }
        for (i, token) in a.iter().enumerate().rev() {
            table.fill_row(table.band.row(i), *token, b, &mut row);
        }
        table.best = row.first().copied().unwrap_or(0);
        table
    }

    /// `cells` holds the row below `row` and becomes `row`.
    fn fill_row(&mut self, row: Row, token: Token, b: &[Token], cells: &mut [i32]) {
        // Right of the last column there is nothing to match; right of the band nobody walks.
        let at_end = row.end > b.len();
        let end = row.end.min(b.len());
        let diagonal = cells.get(end).copied().unwrap_or(NEVER);
        let right = if at_end { 0 } else { NEVER };
        if let Some(outside) = cells.get_mut(row.end) {
            *outside = NEVER;
        }
        let (mut right, mut diagonal) = (right, diagonal);
        let (columns, cells) = (b.get(row.first..end), cells.get_mut(row.first..end));
        let (Some(columns), Some(cells), Some(words)) =
            (columns, cells, self.skips.get_mut(row.word..))
        else {
            return;
        };
        let parts = columns.chunks(WORD).zip(cells.chunks_mut(WORD));
        let words = words.iter_mut().take(parts.len());
        for ((columns, cells), word) in parts.zip(words).rev() {
            for (other, cell) in columns.iter().zip(cells).rev() {
                let down = *cell;
                let is_equal = other.key == token.key;
                let skips = !is_equal && down >= right;
                *word = *word << 1 | u64::from(skips);
                let best = if skips { down } else { right };
                let value = if is_equal { diagonal + i32::from(token.weight) } else { best };
                (diagonal, right, *cell) = (down, value, value);
            }
        }
    }

    fn walk(&self, a: &[Token], b: &[Token]) -> Vec<(usize, usize)> {
        let mut pairs = Vec::with_capacity(a.len().min(b.len()));
        let (mut i, mut j) = (0, 0);
        while let (Some(left), Some(right)) = (a.get(i), b.get(j)) {
            if left.key == right.key {
                pairs.push((i, j));
                (i, j) = (i + 1, j + 1);
                continue;
            }
            let row = self.band.row(i);
            let at = j.wrapping_sub(row.first);
            let word = self.skips.get(row.word + at / WORD);
            if word.is_some_and(|word| word >> (at % WORD) & 1 == 1) {
                i += 1;
            } else {
                j += 1;
            }
        }
        pairs
    }
}
