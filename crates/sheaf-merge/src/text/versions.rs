//! Splitting three versions of a text, and numbering their words.
//!
//! Invariant: the words are those of [`super::split`], and equal words have equal keys. What a
//! side has in common with the base, which is most of it, is neither split nor looked up again.
//! Leaves out which words belong together: equal bytes are only a quick way to equal words. Kept
//! small, because memory that is touched for the first time costs as much as the work itself.

use super::{
    Class, Word,
    glue::Glued,
    words::{char_at, is_white, split_stretch},
};
use crate::align::{Interner, Token};

/// Where a word stands in a text of at most [`super::TEXT_BYTES_MAX`].
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    end: u32,
    class: Class,
}

/// One version of a text.
pub(super) struct Version<'a> {
    text: &'a str,
    places: Vec<Place>,
    /// As many as there are words. Whoever takes them takes nothing else away.
    pub(super) tokens: Vec<Token>,
}

impl<'a> Version<'a> {
    fn new(text: &'a str) -> Self {
        // Words and signs of running text have some five bytes with the space behind them.
        let len = text.len() / 4;
        Self { text, places: Vec::with_capacity(len), tokens: Vec::with_capacity(len) }
    }

    pub(super) fn word(&self, at: usize) -> Option<Word<'a>> {
        let Place { start, end, class } = *self.places.get(at)?;
        Some(Word { text: self.text.get(index(start)..index(end))?, class })
    }

    /// Splits one stretch, and numbers its words. Gives its end, or `None` if it is the last.
    fn read_stretch(&mut self, at: usize, interner: &mut Interner<&'a str>) -> Option<usize> {
        split_stretch(self.text, at, |range, class| {
            let text = self.text.get(range.clone()).unwrap_or_default();
            self.tokens.push(interner.token(text, class.weight()));
            self.places.push(Place { start: place(range.start), end: place(range.end), class });
        })
    }
}

impl Glued for Version<'_> {
    fn words(&self) -> usize {
        self.places.len()
    }

    fn glue(&self, at: usize) -> &str {
        let before = at.checked_sub(1).map(|before| self.places.get(before));
        let start = before.map_or(Some(0), |before| Some(index(before?.end)));
        let end = self.places.get(at).map_or(self.text.len(), |place| index(place.start));
        start.and_then(|start| self.text.get(start..end)).unwrap_or_default()
    }
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn place(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Reads three versions of a text, the base first.
pub(super) fn read<'a>([base, left, right]: [&'a str; 3]) -> [Version<'a>; 3] {
    let mut interner = Interner::new();
    let base = Base::read(base, &mut interner);
    let left = base.read_side(left, &mut interner);
    let right = base.read_side(right, &mut interner);
    [base.version, left, right]
}

/// A stretch of the base: white space and what stands behind it, up to the next.
#[derive(Clone, Copy)]
struct Stretch {
    /// Its first byte.
    start: usize,
    /// Its first word.
    word: usize,
}

struct Base<'a> {
    version: Version<'a>,
    /// The last has no words, and may have no white space.
    stretches: Vec<Stretch>,
    /// For each key, the stretch where it is first.
    firsts: Vec<usize>,
}

impl<'a> Base<'a> {
    fn read(text: &'a str, interner: &mut Interner<&'a str>) -> Self {
        let (stretches, firsts) = (Vec::new(), Vec::new());
        let mut base = Self { version: Version::new(text), stretches, firsts };
        let mut next = Some(0);
        while let Some(start) = next {
            let word = base.version.tokens.len();
            next = base.version.read_stretch(start, interner);
            for token in base.version.tokens.iter().skip(word) {
                // Keys count up.
                if usize::try_from(token.key) == Ok(base.firsts.len()) {
                    base.firsts.push(base.stretches.len());
                }
            }
            base.stretches.push(Stretch { start, word });
        }
        base
    }

    fn read_side(&self, text: &'a str, interner: &mut Interner<&'a str>) -> Version<'a> {
        let mut side = Version::new(text);
        // What may come next: what follows the last known stretch, or what does after one was
        // replaced or deleted, or what follows the place of a word that is not there.
        let (mut next, mut other) = (0, 0);
        let mut at = 0;
        loop {
            let common = |from: usize| Some((from, self.common(from, text, at)?));
            if let Some((from, to)) = [next, next + 1, other].into_iter().find_map(common) {
                at += self.copy(from, to, at, &mut side);
                next = to;
                continue;
            }
            let word = side.tokens.len();
            let Some(end) = side.read_stretch(at, interner) else { return side };
            at = end;
            let key = side.tokens.get(word).and_then(|token| usize::try_from(token.key).ok());
            let first = key.and_then(|key| self.firsts.get(key));
            other = first.map_or(other, |first| first + 1);
        }
    }

    /// The stretch up to which a side has at `at` what the base has from `from` on, if there is
    /// one at all. What stands in a stretch depends on nothing outside.
    fn common(&self, from: usize, text: &str, at: usize) -> Option<usize> {
        let start = self.stretches.get(from)?.start;
        let (ours, theirs) =
            (self.version.text.as_bytes().get(start..)?, text.as_bytes().get(at..)?);
        let end = start + ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        let rest = self.stretches.get(from + 1..)?;
        let common = rest.iter().take_while(|stretch| stretch.start <= end).count();
        // The last one may go on where the base has white space.
        let is_end = |to: &usize| {
            let end = self.stretches.get(*to).map_or(start, |stretch| stretch.start);
            char_at(text, at + end - start).is_none_or(is_white)
        };
        (from + 1..=from + common).rev().take(2).find(is_end)
    }

    /// Adds stretches of the base to a side, where they begin at `at`; gives how long they are.
    fn copy(&self, from: usize, to: usize, at: usize, side: &mut Version<'a>) -> usize {
        let (Some(from), Some(to)) = (self.stretches.get(from), self.stretches.get(to)) else {
            return 0;
        };
        let words = from.word..to.word;
        let places = self.version.places.get(words.clone()).unwrap_or_default();
        let moved = |at_base: u32| place(index(at_base) - from.start + at);
        side.places.extend(places.iter().map(|place| Place {
            start: moved(place.start),
            end: moved(place.end),
            class: place.class,
        }));
        side.tokens.extend_from_slice(self.version.tokens.get(words).unwrap_or_default());
        to.start - from.start
    }
}
