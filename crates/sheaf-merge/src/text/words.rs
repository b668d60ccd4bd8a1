//! Splitting text into words, signs and the white space between them.
//!
//! Source: specification d.1. Invariant: glue and words in turn give the text back, byte for byte.
//! One thing differs from d.1: a combining mark behind a white space is a sign of its own and no
//! part of the glue, so that choosing glue never loses it. No normalisation.

use std::{borrow::Cow, iter::Peekable, str::CharIndices};

use unicode_segmentation::{Graphemes, UnicodeSegmentation};

use super::glue::Strand;

/// What kind of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Letters, digits, `_`, and apostrophes inside.
    Word,
    /// One sign of a script that writes without spaces.
    Continua,
    /// Any other sign.
    Sign,
    /// An element without text, such as an image (d.5).
    Void,
}

impl Class {
    /// How much a match of such a token counts (d.2).
    pub(crate) const fn weight(self) -> u8 {
        match self {
            Self::Word | Self::Void => 4,
            Self::Continua => 2,
            Self::Sign => 1,
        }
    }
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) class: Class,
}

/// White space that separates; no-break spaces are content.
pub(crate) fn is_white(char: char) -> bool {
    char.is_whitespace() && !matches!(char, '\u{a0}' | '\u{2007}' | '\u{202f}')
}

pub(crate) fn is_apostrophe(text: &str) -> bool {
    text == "'" || text == "\u{2019}"
}

fn class_of(cluster: &str) -> Class {
    let Some(first) = cluster.chars().next() else { return Class::Sign };
    match u32::from(first) {
        0x0E00..=0x0EFF
        | 0x1000..=0x109F
        | 0x1780..=0x17FF
        | 0x3040..=0x30FF
        | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0xFF66..=0xFF9F
        | 0x20000..=0x3FFFF => Class::Continua,
        _ if first.is_alphabetic() || first.is_numeric() || first == '_' => Class::Word,
        _ => Class::Sign,
    }
}

/// Splits a text; there is one more glue than there are words.
pub(crate) fn split(text: &str) -> Strand<'_> {
    // Words of running text have some six bytes with the space behind them.
    let (words, glue) = (Vec::with_capacity(text.len() / 6), Vec::with_capacity(text.len() / 6));
    let mut strand = Strand { words, glue };
    let mut chars = text.char_indices().peekable();
    loop {
        let white = run(text, &mut chars, is_white);
        let solid = run(text, &mut chars, |char| !is_white(char));
        strand.glue.push(white);
        if solid.is_empty() {
            return strand;
        }
        if solid.is_ascii() {
            split_ascii(solid, &mut strand);
        } else {
            split_solid(solid, &mut strand);
        }
    }
}

fn run<'a>(
    text: &'a str,
    chars: &mut Peekable<CharIndices<'a>>,
    is: impl Fn(char) -> bool,
) -> &'a str {
    let start = chars.peek().map_or(text.len(), |&(at, _)| at);
    while chars.next_if(|&(_, char)| is(char)).is_some() {}
    let end = chars.peek().map_or(text.len(), |&(at, _)| at);
    text.get(start..end).unwrap_or_default()
}

/// What [`split_solid`] does, for text of which every sign is a cluster of its own.
fn split_ascii<'a>(text: &'a str, strand: &mut Strand<'a>) {
    let bytes = text.as_bytes();
    let is_word =
        |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let mut start = 0;
    while start < bytes.len() {
        let mut end = start + 1;
        let mut class = Class::Sign;
        if is_word(start) {
            class = Class::Word;
            while let Some(len) = match bytes.get(end) {
                Some(b'\'') if is_word(end + 1) => Some(2),
                _ => is_word(end).then_some(1),
            } {
                end += len;
            }
        }
        push(text, start, end, class, strand);
        start = end;
    }
}

/// Adds a word. The glue before the first of a stretch is there already.
fn push<'a>(text: &'a str, start: usize, end: usize, class: Class, strand: &mut Strand<'a>) {
    if start > 0 {
        strand.glue.push("");
    }
    let text = text.get(start..end).unwrap_or_default();
    strand.words.push(Word { text: Cow::Borrowed(text), class });
}

/// Splits a text without white space.
fn split_solid<'a>(text: &'a str, strand: &mut Strand<'a>) {
    let mut clusters = text.graphemes(true);
    let mut start = 0;
    while let Some(cluster) = clusters.next() {
        let class = class_of(cluster);
        let mut end = start + cluster.len();
        if class == Class::Word {
            while let Some(len) = continues(&clusters) {
                end += len;
                clusters = text.get(end..).unwrap_or_default().graphemes(true);
            }
        }
        push(text, start, end, class, strand);
        start = end;
    }
}

/// How many bytes more belong to the word that has begun.
fn continues(rest: &Graphemes<'_>) -> Option<usize> {
    let mut rest = rest.clone();
    let cluster = rest.next()?;
    if class_of(cluster) == Class::Word {
        return Some(cluster.len());
    }
    let next = rest.next().filter(|_| is_apostrophe(cluster))?;
    (class_of(next) == Class::Word).then_some(cluster.len() + next.len())
}
