//! The rule `text`: a three-way merge of plain text by words.
//!
//! Source: specification 3.0 (short cuts, limits), d.1 to d.4. Invariant: total and
//! deterministic; a word survives if and only if both sides keep it, every inserted word is there
//! once, no two words fuse, and there is no conflict. Leaves out markup ([`crate::html`]) and any
//! understanding of sentences: a paragraph that moves inside a text is a deletion and an insertion.

use std::borrow::Cow;

use crate::align::gap::{self, Gap, Piece, Sides};

mod glue;
mod intra;
#[cfg(test)]
mod tests;
mod versions;
mod words;

use versions::Version;

pub(crate) use glue::{Glued, Placed, Seams};
pub(crate) use words::{Class, Word, is_white, split};

/// Bytes of one version up to which words are merged.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Words and signs of one version up to which they are merged.
pub const TEXT_TOKENS_MAX: usize = 200_000;

/// Merges three texts; beyond the limits of [`try_merge`] left stands.
#[must_use]
pub fn merge(base: &str, left: &str, right: &str) -> String {
    try_merge(base, left, right).unwrap_or_else(|| left.to_owned())
}

/// Merges three texts, or returns `None` if a version has more than [`TEXT_BYTES_MAX`] bytes or
/// [`TEXT_TOKENS_MAX`] words and signs: then the caller falls back to `lww` and says so.
#[must_use]
pub fn try_merge(base: &str, left: &str, right: &str) -> Option<String> {
    merge_noted(base, left, right).map(|(text, _)| text)
}

/// As [`try_merge`], and whether stretches were too large to be compared word by word: they count
/// as replaced, so that what both sides have of one is there twice if both changed it.
pub(crate) fn merge_noted(base: &str, left: &str, right: &str) -> Option<(String, bool)> {
    if let Some(known) = short_cut(base, left, right) {
        return Some((known.to_owned(), false));
    }
    merge_words(base, left, right)
}

/// What needs no work, bytes unchanged (3.0).
pub(crate) fn short_cut<'a>(base: &str, left: &'a str, right: &'a str) -> Option<&'a str> {
    if left == right || right == base {
        Some(left)
    } else if left == base {
        Some(right)
    } else {
        None
    }
}

/// The three-way choice of a thing that cannot be merged: left wins, as it is ordered later (3.0).
pub(crate) fn scalar3<T: PartialEq>(base: T, left: T, right: T) -> T {
    if left == base { right } else { left }
}

fn merge_words(base: &str, left: &str, right: &str) -> Option<(String, bool)> {
    let texts = [base, left, right];
    if texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) {
        return None;
    }
    let [b_crlf, l_crlf, r_crlf] = texts.map(has_crlf_style);
    let crlf = scalar3(b_crlf, l_crlf, r_crlf);
    let texts = texts.map(with_line_feeds);
    let versions = versions::read(texts.each_ref().map(|text| text.as_ref()));
    if versions.iter().any(|version| version.words() > TEXT_TOKENS_MAX) {
        return None;
    }
    let (merged, is_coarse) = join(versions);
    Some((if crlf { with_crlf(&merged) } else { merged }, is_coarse))
}

fn join(mut versions: [Version<'_>; 3]) -> (String, bool) {
    let [b, l, r] = versions.each_mut().map(|version| std::mem::take(&mut version.tokens));
    let sides = Sides::new(&b, l, r);
    let versions = versions.each_ref();
    let [base, left, right] = versions;
    let both_keep = |at| sides.both_keep(at);
    // Both sides' edits of one word, by the base word.
    let mut made: Vec<(usize, String)> = Vec::new();
    let pieces = gap::merge(&sides, both_keep, |gap| {
        let [b, l, r] = one_word_each(gap)?;
        let both = inside_word(base.word(b)?, left.word(l)?, right.word(r)?)?;
        made.push((b, both));
        Some(vec![Piece { base: Some(b), left: Some(l), right: Some(r) }])
    });
    let mut out = String::with_capacity(left.words() * 6);
    let mut seams = Seams::new(versions);
    for piece in pieces {
        if let Some(placed) = place(piece, versions, &sides, &made) {
            out.push_str(seams.before(placed));
            out.push_str(placed.word.text);
        }
    }
    out.push_str(seams.end());
    (out, sides.is_coarse())
}

/// The base word and its replacements, if both sides replaced one token by one token.
pub(crate) fn one_word_each(gap: Gap<'_>) -> Option<[usize; 3]> {
    let Gap { left, right } = gap;
    let alone = |range: &std::ops::Range<usize>| range.len() == 1;
    (left.base == right.base && alone(&left.base) && alone(&left.side) && alone(&right.side))
        .then_some([left.base.start, left.side.start, right.side.start])
}

/// Both edits of one word, if they can be told apart (`intra` of d.3).
pub(crate) fn inside_word(base: Word<'_>, left: Word<'_>, right: Word<'_>) -> Option<String> {
    let words = [base, left, right].iter().all(|word| word.class == Class::Word);
    words.then(|| intra::merge(base.text, left.text, right.text)).flatten()
}

/// The word of a piece, which is one of a version's or, if the piece stands for a base word that
/// neither side kept, the one [`inside_word`] made.
fn place<'a>(
    piece: Piece,
    [base, left, right]: [&Version<'a>; 3],
    sides: &Sides,
    made: &'a [(usize, String)],
) -> Option<Placed<'a>> {
    if let Piece { base: Some(b), left: Some(_), right: Some(_) } = piece
        && sides.left.kept(b).is_none()
        && sides.right.kept(b).is_none()
    {
        let at = made.binary_search_by_key(&b, |(base, _)| *base).ok()?;
        let (_, text) = made.get(at)?;
        return Some(Placed { piece, word: Word { text, class: Class::Word }, made: true });
    }
    let from = |version: &Version<'a>, at: Option<usize>| version.word(at?);
    let word = from(left, piece.left)
        .or_else(|| from(right, piece.right))
        .or_else(|| from(base, piece.base))?;
    Some(Placed { piece, word, made: false })
}

/// Whether every line ends with CR LF, and there is one. A return of its own is content, and
/// could not be told from the returns of line ends if these were taken off.
fn has_crlf_style(text: &str) -> bool {
    if !text.contains('\r') {
        return false;
    }
    let pairs = text.matches("\r\n").count();
    pairs > 0 && pairs == text.matches('\n').count() && pairs == text.matches('\r').count()
}

fn with_line_feeds(text: &str) -> Cow<'_, str> {
    if has_crlf_style(text) { Cow::Owned(text.replace("\r\n", "\n")) } else { Cow::Borrowed(text) }
}

/// A version of mixed style has brought CR LF itself, so only bare line feeds get their return.
fn with_crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let mut last = '\0';
    for char in text.chars() {
        if char == '\n' && last != '\r' {
            out.push('\r');
        }
        out.push(char);
        last = char;
    }
    out
}
