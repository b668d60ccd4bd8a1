//! The content of a block of text: leaves with white space between them and marks upon them.
//!
//! Source: specification d.5 and d.6, steps 4 and 5. Invariant: marks are sets per leaf, so there
//! is one way to write a content, its soup: properly nested, no mark over nothing, no mark twice.

use std::{
    borrow::Cow,
    cmp::{Ordering, Reverse},
    ops::Range,
    rc::Rc,
};

use super::{attrs::Attrs, tags};
use crate::text::{Class, Glued, Word, split};

/// Marks on one leaf; the rest is dropped. Bounds the work per leaf, far beyond what people nest.
pub(super) const MARKS_MAX: usize = 32;

/// A formatting element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Tells most marks apart without looking at all of them.
    print: u64,
    pub(super) name: String,
    pub(super) attrs: Attrs,
}

impl Mark {
    pub(super) fn new(name: String, attrs: Attrs) -> Self {
        let print = fnv(format!("{name} {attrs:?}").as_bytes());
        Self { print, name, attrs }
    }
}

/// The order in which sets of marks are kept; not the one in which they are written.
impl Ord for Mark {
    fn cmp(&self, other: &Self) -> Ordering {
        if std::ptr::eq(self, other) {
            return Ordering::Equal;
        }
        let rest = || (&self.name, &self.attrs).cmp(&(&other.name, &other.attrs));
        self.print.cmp(&other.print).then_with(rest)
    }
}

impl PartialOrd for Mark {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// FNV-1a in 64 bits: names blocks and marks, and nothing rests on it.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Marks of one leaf, ascending.
pub(super) type Marks = Rc<[Rc<Mark>]>;

/// A piece of a source, which all its pieces share.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    source: Rc<str>,
    range: Range<usize>,
}

impl Slice {
    /// A source of its own.
    pub(super) fn whole(source: &str) -> Self {
        Self { source: source.into(), range: 0..source.len() }
    }

    pub(super) fn as_str(&self) -> &str {
        self.source.get(self.range.clone()).unwrap_or_default()
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Slice {}

/// What stands in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A word or a sign.
    Text(Slice, Class),
    /// An element without content; `key` is what it is recognised by.
    Void { tag: String, attrs: Attrs, key: String },
}

/// An item, the white space before it, and its marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) item: Item,
    pub(super) glue: Cow<'static, str>,
    pub(super) marks: Marks,
}

/// The content of a block of text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inline {
    pub(super) leaves: Vec<Leaf>,
    /// White space behind the last leaf.
    pub(super) tail: Cow<'static, str>,
}

/// A stretch of source with one set of marks.
#[derive(Clone, Debug)]
pub(super) enum Run {
    Text(String, Marks),
    Void(String, Attrs, Marks),
}

/// The marks of a leaf, given those open there from the outermost in.
pub(super) fn effective<'a>(open: impl DoubleEndedIterator<Item = &'a Rc<Mark>>) -> Marks {
    let mut exclusive = false;
    let mut marks: Vec<Rc<Mark>> = open
        .rev()
        .filter(|mark| {
            let hidden = exclusive && tags::is_exclusive(&mark.name);
            exclusive |= tags::is_exclusive(&mark.name);
            !hidden
        })
        .cloned()
        .collect();
    marks.sort();
    marks.dedup();
    marks.truncate(MARKS_MAX);
    marks.into()
}

/// An element in text that has no content.
pub(super) fn void(tag: String, attrs: Attrs) -> Item {
    let key = match attrs.get("id") {
        Some(id) => format!("{tag}#{id}"),
        None => format!("{tag} {attrs:?}"),
    };
    Item::Void { tag, attrs, key }
}

impl Inline {
    /// Splits a source. Outside `pre` white space is one space, and none at the ends.
    pub(super) fn from_runs(runs: Vec<Run>, pre: bool) -> Self {
        let mut inline = Self::default();
        for run in runs {
            match run {
                Run::Text(text, marks) => inline.push_text(&text, &marks),
                Run::Void(tag, attrs, marks) => {
                    let glue = std::mem::take(&mut inline.tail);
                    inline.leaves.push(Leaf { item: void(tag, attrs), glue, marks });
                }
            }
        }
        inline.fit(pre);
        inline
    }

    fn push_text(&mut self, text: &str, marks: &Marks) {
        let source: Rc<str> = text.into();
        let mut words = Vec::with_capacity(text.len() / 5);
        split(text, |range, class| words.push((range, class)));
        let mut end = 0;
        self.leaves.reserve(words.len());
        for (range, class) in words {
            self.push_white(text.get(end..range.start).unwrap_or_default());
            end = range.end;
            let item = Item::Text(Slice { source: Rc::clone(&source), range }, class);
            let glue = std::mem::take(&mut self.tail);
            self.leaves.push(Leaf { item, glue, marks: Rc::clone(marks) });
        }
        self.push_white(text.get(end..).unwrap_or_default());
    }

    fn push_white(&mut self, text: &str) {
        self.tail =
            if self.tail.is_empty() { white(text) } else { white(&[&self.tail, text].concat()) };
    }

    /// Makes the white space that of a block in which it counts (`pre`) or does not.
    pub(super) fn fit(&mut self, pre: bool) {
        if pre {
            return;
        }
        for (at, leaf) in self.leaves.iter_mut().enumerate() {
            leaf.glue = white(if at == 0 || leaf.glue.is_empty() { "" } else { " " });
        }
        self.tail = white("");
    }

    /// Whether [`Self::fit`] would change nothing.
    pub(super) fn fits(&self, pre: bool) -> bool {
        let (first, rest) =
            self.leaves.split_first().map_or((None, &[][..]), |(f, r)| (Some(f), r));
        let ends = self.tail.is_empty() && first.is_none_or(|leaf| leaf.glue.is_empty());
        pre || ends && rest.iter().all(|leaf| matches!(leaf.glue.as_ref(), "" | " "))
    }

    /// How many marks lie upon the leaves, those of neighbours with the same ones counted once.
    pub(super) fn marks(&self) -> usize {
        let before = [None].into_iter().chain(self.leaves.iter().map(|leaf| Some(&leaf.marks)));
        let changes =
            self.leaves.iter().zip(before).filter(|(leaf, before)| {
                before.is_none_or(|before| !Rc::ptr_eq(before, &leaf.marks))
            });
        changes.map(|(leaf, _)| leaf.marks.len()).sum()
    }

    /// The content as it is written (d.6, step 5).
    pub(super) fn soup(&self) -> Vec<Part<'_>> {
        let runs = self.mark_runs();
        let mut soup = Vec::with_capacity(self.leaves.len());
        let mut open: Vec<&Rc<Mark>> = Vec::new();
        let mut before: Option<&Marks> = None;
        for (at, (leaf, runs)) in self.leaves.iter().zip(runs).enumerate() {
            if before.replace(&leaf.marks).is_some_and(|marks| Rc::ptr_eq(marks, &leaf.marks)) {
                soup.push(Part::Leaf(at, leaf));
                continue;
            }
            let stays = |mark: &&Rc<Mark>| leaf.marks.binary_search(mark).is_ok();
            let keep = open.iter().position(|mark| !stays(mark)).unwrap_or(open.len());
            soup.extend(open.drain(keep..).rev().map(Part::Close));
            let mut missing: Vec<_> = leaf
                .marks
                .iter()
                .zip(runs.iter())
                .filter(|(mark, _)| !open.contains(mark))
                .collect();
            missing.sort_by_key(|&(mark, end)| (Reverse(end), &mark.name, &mark.attrs));
            soup.extend(missing.iter().map(|(mark, _)| Part::Open(mark)));
            open.extend(missing.into_iter().map(|(mark, _)| mark));
            soup.push(Part::Leaf(at, leaf));
        }
        soup.extend(open.into_iter().rev().map(Part::Close));
        soup
    }

    /// For each mark of each leaf, the last leaf up to which it lasts without a break.
    fn mark_runs(&self) -> Vec<Rc<[usize]>> {
        let mut runs: Vec<Rc<[usize]>> = Vec::with_capacity(self.leaves.len());
        let mut next: Option<&Leaf> = None;
        for (at, leaf) in self.leaves.iter().enumerate().rev() {
            let ends = match (next, runs.last()) {
                (Some(next), Some(ends)) if Rc::ptr_eq(&next.marks, &leaf.marks) => Rc::clone(ends),
                (Some(next), Some(ends)) => {
                    let last = |mark| ends.get(next.marks.binary_search(mark).ok()?).copied();
                    leaf.marks.iter().map(|mark| last(mark).unwrap_or(at)).collect()
                }
                _ => leaf.marks.iter().map(|_| at).collect(),
            };
            runs.push(ends);
            next = Some(leaf);
        }
        runs.reverse();
        runs
    }
}

impl Glued for Inline {
    fn words(&self) -> usize {
        self.leaves.len()
    }

    fn glue(&self, at: usize) -> &str {
        match self.leaves.get(at) {
            Some(leaf) => &leaf.glue,
            None if at == self.leaves.len() => &self.tail,
            None => "",
        }
    }
}

/// White space, without memory of its own where it is the usual.
pub(super) fn white(text: &str) -> Cow<'static, str> {
    match text {
        "" => Cow::Borrowed(""),
        " " => Cow::Borrowed(" "),
        "\n" => Cow::Borrowed("\n"),
        _ => Cow::Owned(text.to_owned()),
    }
}

impl Item {
    pub(super) fn word(&self) -> Word<'_> {
        match self {
            Self::Text(text, class) => Word { text: text.as_str(), class: *class },
            Self::Void { key, .. } => Word { text: key, class: Class::Void },
        }
    }
}

/// One part of a written content.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Open(&'a Rc<Mark>),
    Close(&'a Rc<Mark>),
    /// A leaf and its number.
    Leaf(usize, &'a Leaf),
}

/// For each tag of a soup, the place of its partner; leaves point at themselves.
pub(super) fn partners(soup: &[Part<'_>]) -> Vec<usize> {
    let mut partners: Vec<usize> = (0..soup.len()).collect();
    let mut open = Vec::new();
    for (at, part) in soup.iter().enumerate() {
        match part {
            Part::Open(_) => open.push(at),
            Part::Leaf(..) => {}
            // A soup nests properly.
            Part::Close(_) => {
                if let Some(start) = open.pop() {
                    if let Some(partner) = partners.get_mut(start) {
                        *partner = at;
                    }
                    if let Some(partner) = partners.get_mut(at) {
                        *partner = start;
                    }
                }
            }
        }
    }
    partners
}
