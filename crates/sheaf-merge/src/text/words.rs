//! Splitting text into words, signs and the white space between them.
//!
//! Source: specification d.1. Invariant: words come in their order, and what stands between them,
//! their glue, is white space or nothing.
//! One thing differs from d.1: a combining mark behind a white space is a sign of its own and no
//! part of the glue, so that choosing glue never loses it. No normalisation.

use std::ops::Range;

use unicode_segmentation::{Graphemes, UnicodeSegmentation};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
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

/// Calls `found` with the place of each word.
pub(crate) fn split(text: &str, mut found: impl FnMut(Range<usize>, Class)) {
    let mut next = Some(0);
    while let Some(at) = next {
        next = split_stretch(text, at, &mut found);
    }
}

/// Splits what begins with the white space at `at`, up to the next. Gives where that is, or `None`
/// at the end of the text.
pub(super) fn split_stretch(
    text: &str,
    at: usize,
    mut found: impl FnMut(Range<usize>, Class),
) -> Option<usize> {
    let (start, _) = run_end(text, at, true);
    let (end, is_ascii) = run_end(text, start, false);
    let solid = text.get(start..end).filter(|solid| !solid.is_empty())?;
    let found = |from: usize, to: usize, class| found(start + from..start + to, class);
    if is_ascii {
        split_ascii(solid, found);
    } else {
        split_solid(solid, found);
    }
    Some(end)
}

/// Where white space ends that begins at `start`, or what is none; and whether it is ASCII. Byte
/// by byte, because most texts have few signs that have to be put together.
fn run_end(text: &str, start: usize, white: bool) -> (usize, bool) {
    let (mut end, mut is_ascii) = (start, true);
    while let Some(&byte) = text.as_bytes().get(end) {
        if byte.is_ascii() {
            if matches!(byte, b' ' | b'\t'..=b'\r') != white {
                break;
            }
            end += 1;
        } else {
            let char = char_at(text, end).filter(|&char| is_white(char) == white);
            let Some(char) = char else { break };
            (end, is_ascii) = (end + char.len_utf8(), false);
        }
    }
    (end, is_ascii)
}

pub(super) fn char_at(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

/// What [`split_solid`] does, for text of which every sign is a cluster of its own.
fn split_ascii(text: &str, mut found: impl FnMut(usize, usize, Class)) {
    let bytes = text.as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_word_at = |at: usize| bytes.get(at).is_some_and(is_word);
    let mut start = 0;
    while start < bytes.len() {
        let mut end = start + 1;
        let mut class = Class::Sign;
        if is_word_at(start) {
            class = Class::Word;
            loop {
                end +=
                    bytes.get(end..).unwrap_or_default().iter().take_while(|b| is_word(b)).count();
                if bytes.get(end) != Some(&b'\'') || !is_word_at(end + 1) {
                    break;
                }
                end += 2;
            }
        }
        found(start, end, class);
        start = end;
    }
}

/// Splits a text without white space.
fn split_solid(text: &str, mut found: impl FnMut(usize, usize, Class)) {
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
        found(start, end, class);
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
