//! Two edits inside one word.
//!
//! Source: `intra` of specification d.3. Invariant: the result is one word, and holds both edits;
//! digits never qualify, since a number that nobody wrote is worse than two numbers.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::{Class, split};

/// Signs a word must have for its parts to be merged.
const INTRA_LEN_MIN: usize = 4;
/// A change counts as one inside the word up to 1 part in so many of it.
const INTRA_SHARE: usize = 2;

/// Both edits applied to `base`, if they are small and an unchanged sign stands between them.
pub(super) fn merge(base: &str, left: &str, right: &str) -> Option<String> {
    let clusters = |text| -> Option<Vec<&str>> {
        let text: &str = text;
        text.graphemes(true).map(|cluster| is_alphabetic(cluster).then_some(cluster)).collect()
    };
    let (base, left, right) = (clusters(base)?, clusters(left)?, clusters(right)?);
    if base.len() < INTRA_LEN_MIN {
        return None;
    }
    let (l, r) = (change(&base, &left)?, change(&base, &right)?);
    let (first, second) = if l.0.end < r.0.start {
        (l, r)
    } else if r.0.end < l.0.start {
        (r, l)
    } else {
        return None;
    };
    let parts = [
        base.get(..first.0.start)?,
        first.1,
        base.get(first.0.end..second.0.start)?,
        second.1,
        base.get(second.0.end..)?,
    ];
    let word = parts.concat().concat();
    let whole = word.graphemes(true).count() == parts.iter().map(|part| part.len()).sum::<usize>();
    let mut classes = Vec::new();
    split(&word, |_, class| classes.push(class));
    (whole && classes == [Class::Word]).then_some(word)
}

fn is_alphabetic(cluster: &str) -> bool {
    cluster.chars().next().is_some_and(char::is_alphabetic) && !cluster.contains(char::is_numeric)
}

/// What one side replaced, and by what.
fn change<'a, 'b>(base: &[&'b str], side: &'a [&'b str]) -> Option<(Range<usize>, &'a [&'b str])> {
    let prefix = base.iter().zip(side).take_while(|(a, b)| a == b).count();
    let suffix = base
        .iter()
        .skip(prefix)
        .rev()
        .zip(side.iter().skip(prefix).rev())
        .take_while(|(a, b)| a == b)
        .count();
    let span = prefix..base.len() - suffix;
    let new = side.get(prefix..side.len() - suffix)?;
    let small = |len: usize| len * INTRA_SHARE <= base.len();
    (small(span.len()) && small(new.len())).then_some((span, new))
}
