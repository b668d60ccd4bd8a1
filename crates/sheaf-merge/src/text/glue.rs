//! Which white space stands between the words of a merged text.
//!
//! Source: specification d.4. Invariant: splitting the merged text gives the merged words again;
//! where two words are neighbours in one version, they are as far apart as there.

use unicode_segmentation::GraphemeCursor;

use super::{Class, Word, scalar3, words::is_apostrophe};
use crate::align::gap::Piece;

/// Words and the glue around them: one glue before each word and one after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strand<'a> {
    pub(crate) words: Vec<Word<'a>>,
    pub(crate) glue: Vec<&'a str>,
}

impl<'a> Strand<'a> {
    fn glue(&self, at: usize) -> &'a str {
        self.glue.get(at).copied().unwrap_or_default()
    }
}

/// A word of the result, and where it stands in each version.
#[derive(Clone, Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) piece: Piece,
    pub(crate) word: Word<'a>,
    /// Whether no version has this word: both sides' edits of one word were joined.
    pub(crate) made: bool,
}

/// The glue of the result, one more than it has words.
pub(crate) fn glue<'a>(versions: [&Strand<'a>; 3], placed: &[Placed<'_>]) -> Vec<&'a str> {
    let [base, left, right] = versions;
    let mut out = Vec::with_capacity(placed.len() + 1);
    out.push(scalar3(base.glue(0), left.glue(0), right.glue(0)));
    let mut before: Option<(&Placed<'_>, &str)> = None;
    for (x, y) in placed.iter().zip(placed.iter().skip(1)) {
        let glue = between(versions, x, y);
        let joins = |(w, before): (&Placed<'_>, &str)| {
            before.is_empty() && glue.is_empty() && joins_three(versions, [w, x, y])
        };
        let glue = if before.is_some_and(joins) { " " } else { glue };
        out.push(glue);
        before = Some((x, glue));
    }
    if !placed.is_empty() {
        let end = |strand: &Strand<'a>| strand.glue.last().copied().unwrap_or_default();
        out.push(scalar3(end(base), end(left), end(right)));
    }
    out
}

/// The places of `x` and `y` in the base, left and right, where they are neighbours there.
fn neighbours(x: Piece, y: Piece) -> [Option<usize>; 3] {
    let follows = |x: Option<usize>, y: Option<usize>| (x? + 1 == y?).then_some(y?);
    [follows(x.base, y.base), follows(x.left, y.left), follows(x.right, y.right)]
}

fn between<'a>([base, left, right]: [&Strand<'a>; 3], x: &Placed<'_>, y: &Placed<'_>) -> &'a str {
    let glue = match neighbours(x.piece, y.piece) {
        [b, Some(l), Some(r)] => {
            scalar3(b.map(|b| base.glue(b)), Some(left.glue(l)), Some(right.glue(r)))
                .unwrap_or_default()
        }
        [_, Some(l), None] => left.glue(l),
        [_, None, Some(r)] => right.glue(r),
        [_, None, None] => {
            let before = |strand: &Strand<'a>, at: Option<usize>| Some(strand.glue(at?));
            let after = |strand: &Strand<'a>, at: Option<usize>| Some(strand.glue(at? + 1));
            let seam = [
                before(left, y.piece.left),
                before(right, y.piece.right),
                after(left, x.piece.left),
                after(right, x.piece.right),
            ];
            let seam = seam.into_iter().flatten().find(|glue| !glue.is_empty());
            return seam.unwrap_or_else(|| if fuse(&x.word, &y.word) { " " } else { "" });
        }
    };
    if glue.is_empty() && (x.made || y.made) && fuse(&x.word, &y.word) { " " } else { glue }
}

/// Whether two words without glue would not be these two words any more.
fn fuse(x: &Word<'_>, y: &Word<'_>) -> bool {
    if x.class == Class::Void || y.class == Class::Void {
        return false;
    }
    let word = |word: &Word<'_>| word.class == Class::Word;
    (word(x) || is_apostrophe(&x.text)) && word(y)
        || word(x) && is_apostrophe(&y.text)
        || !is_boundary(&x.text, &y.text)
}

/// Whether a grapheme cluster ends where `x` ends, with `y` behind it.
fn is_boundary(x: &str, y: &str) -> bool {
    let ascii = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_graphic);
    if ascii(x.as_bytes().last()) && ascii(y.as_bytes().first()) {
        return true;
    }
    let both = [x, y].concat();
    GraphemeCursor::new(x.len(), both.len(), true).is_boundary(&both, 0).unwrap_or(true)
}

/// Whether an apostrophe would join two words which stand so in no version: `rock '` and `' n`
/// must not become `rock'n`, which is one word.
fn joins_three(versions: [&Strand<'_>; 3], [x, y, z]: [&Placed<'_>; 3]) -> bool {
    let shape =
        x.word.class == Class::Word && is_apostrophe(&y.word.text) && z.word.class == Class::Word;
    let (first, second) = (neighbours(x.piece, y.piece), neighbours(y.piece, z.piece));
    let together = versions.iter().zip(first.into_iter().zip(second)).any(|(strand, pair)| {
        matches!(pair, (Some(y), Some(z)) if strand.glue(y).is_empty() && strand.glue(z).is_empty())
    });
    shape && !together
}
