//! Which white space stands between the words of a merged text.
//!
//! Source: specification d.4. Invariant: splitting the merged text gives the merged words again;
//! where two words are neighbours in one version, they are as far apart as there.

use unicode_segmentation::GraphemeCursor;

use super::{Class, Word, scalar3, words::is_apostrophe};
use crate::align::gap::Piece;

/// A version of a text, as far as its glue goes.
pub(crate) trait Glued {
    /// How many words it has.
    fn words(&self) -> usize;

    /// The glue before a word, and after the last.
    fn glue(&self, at: usize) -> &str;
}

/// A word of the result, and where it stands in each version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) piece: Piece,
    pub(crate) word: Word<'a>,
    /// Whether no version has this word: both sides' edits of one word were joined.
    pub(crate) made: bool,
}

/// The glue of a result, whose words come one after the other.
pub(crate) struct Seams<'a, G> {
    versions: [&'a G; 3],
    /// The last word, and the one before it with the glue between them.
    last: Option<Placed<'a>>,
    before: Option<(Placed<'a>, &'a str)>,
}

impl<'a, G: Glued> Seams<'a, G> {
    pub(crate) fn new(versions: [&'a G; 3]) -> Self {
        Self { versions, last: None, before: None }
    }

    /// The glue before the next word of the result.
    pub(crate) fn before(&mut self, y: Placed<'a>) -> &'a str {
        let Some(x) = self.last.replace(y) else {
            let [base, left, right] = self.versions.map(|version| version.glue(0));
            return scalar3(base, left, right);
        };
        let glue = between(self.versions, &x, &y);
        let joins = |(w, before): (Placed<'_>, &str)| {
            before.is_empty() && glue.is_empty() && joins_three(self.versions, [&w, &x, &y])
        };
        let glue = if self.before.is_some_and(joins) { " " } else { glue };
        self.before = Some((x, glue));
        glue
    }

    /// The glue behind the last word; all there is if there is none.
    pub(crate) fn end(&self) -> &'a str {
        let end = |version: &G| if self.last.is_some() { version.words() } else { 0 };
        let [base, left, right] = self.versions.map(|version| version.glue(end(version)));
        scalar3(base, left, right)
    }
}

/// The places of `x` and `y` in the base, left and right, where they are neighbours there.
fn neighbours(x: Piece, y: Piece) -> [Option<usize>; 3] {
    let follows = |x: Option<usize>, y: Option<usize>| (x? + 1 == y?).then_some(y?);
    [follows(x.base, y.base), follows(x.left, y.left), follows(x.right, y.right)]
}

fn between<'a, G: Glued>(
    [base, left, right]: [&'a G; 3],
    x: &Placed<'_>,
    y: &Placed<'_>,
) -> &'a str {
    let glue = match neighbours(x.piece, y.piece) {
        [b, Some(l), Some(r)] => {
            scalar3(b.map(|b| base.glue(b)), Some(left.glue(l)), Some(right.glue(r)))
                .unwrap_or_default()
        }
        [_, Some(l), None] => left.glue(l),
        [_, None, Some(r)] => right.glue(r),
        [_, None, None] => {
            let before = |version: &'a G, at: Option<usize>| Some(version.glue(at?));
            let after = |version: &'a G, at: Option<usize>| Some(version.glue(at? + 1));
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
    (word(x) || is_apostrophe(x.text)) && word(y)
        || word(x) && is_apostrophe(y.text)
        || !is_boundary(x.text, y.text)
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
fn joins_three<G: Glued>(versions: [&G; 3], [x, y, z]: [&Placed<'_>; 3]) -> bool {
    let shape =
        x.word.class == Class::Word && is_apostrophe(y.word.text) && z.word.class == Class::Word;
    let (first, second) = (neighbours(x.piece, y.piece), neighbours(y.piece, z.piece));
    let together = versions.iter().zip(first.into_iter().zip(second)).any(|(version, pair)| {
        matches!(pair, (Some(y), Some(z)) if version.glue(y).is_empty() && version.glue(z).is_empty())
    });
    shape && !together
}
