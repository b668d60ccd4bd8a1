//! Merging the contents of one block of text: words, elements without content, and tags.
//!
//! Source: specification d.5. Invariant: leaves merge as words do in a plain text, and
//! no tag keeps a word alive or removes one. What the tags of the result mean: [`super::tidy`].

use std::ops::Range;

use super::{
    attrs::{self, Attrs},
    inline::{Inline, Item, Leaf, Part, Slice, partners, white},
    tags, tidy,
};
use crate::{
    align::{
        Alignment, Hunk, Interner, Token,
        gap::{self, Gap, Piece, Sides},
    },
    text::{Class, Placed, Seams, inside_word, one_word_each},
};

/// What makes two parts of a content the same part.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Text(&'a str),
    Void(&'a str),
    Open(&'a str),
    Close(&'a str),
}

/// One version of a content, written out.
pub(super) struct Version<'a> {
    pub(super) inline: &'a Inline,
    pub(super) soup: Vec<Part<'a>>,
    pub(super) partners: Vec<usize>,
}

impl<'a> Version<'a> {
    fn new(inline: &'a Inline) -> Self {
        let soup = inline.soup();
        let partners = partners(&soup);
        Self { inline, soup, partners }
    }

    pub(super) fn part(&self, at: usize) -> Option<Part<'a>> {
        self.soup.get(at).copied()
    }

    fn leaf(&self, at: usize) -> Option<(usize, &'a Leaf)> {
        match self.part(at)? {
            Part::Leaf(number, leaf) => Some((number, leaf)),
            Part::Open(_) | Part::Close(_) => None,
        }
    }

    fn has_leaf(&self, range: Range<usize>) -> bool {
        let parts = self.soup.get(range).unwrap_or_default();
        parts.iter().any(|part| matches!(part, Part::Leaf(..)))
    }
}

/// The three versions and how they belong together.
pub(super) struct Merge<'a> {
    pub(super) base: Version<'a>,
    pub(super) left: Version<'a>,
    pub(super) right: Version<'a>,
    pub(super) sides: Sides,
}

/// Merges three contents; sets `is_coarse` if they were too large to be compared throughout.
pub(super) fn merge(base: &Inline, left: &Inline, right: &Inline, is_coarse: &mut bool) -> Inline {
    let versions = [base, left, right].map(Version::new);
    let mut interner = Interner::new();
    let [b, l, r] = versions.each_ref().map(|version| tokens(version, &mut interner));
    let sides = Sides::new(&b, l, r);
    *is_coarse |= sides.is_coarse();
    let [base, left, right] = versions;
    let emptied_left = emptied(&base, &left, &sides.left);
    let emptied_right = emptied(&base, &right, &sides.right);
    let merge = Merge { base, left, right, sides };
    let kept = |alignment: &Alignment, emptied: &[bool], at| {
        alignment.kept(at).is_some() || emptied.get(at).copied().unwrap_or(false)
    };
    let pieces = gap::merge(
        &merge.sides,
        |at| {
            kept(&merge.sides.left, &emptied_left, at)
                && kept(&merge.sides.right, &emptied_right, at)
        },
        |gap| merge.special(gap),
    );
    merge.finish(&pieces)
}

fn tokens<'a>(version: &Version<'a>, interner: &mut Interner<Key<'a>>) -> Vec<Token> {
    let token = |part: &Part<'a>| match part {
        Part::Open(mark) => interner.token(Key::Open(&mark.name), 1),
        Part::Close(mark) => interner.token(Key::Close(&mark.name), 1),
        Part::Leaf(_, leaf) => match &leaf.item {
            Item::Text(text, class) => interner.token(Key::Text(text.as_str()), class.weight()),
            Item::Void { key, .. } => interner.token(Key::Void(key), Class::Void.weight()),
        },
    };
    version.soup.iter().map(token).collect()
}

/// The base tags that a side deleted only because it deleted all the text in them: deleting text
/// is not taking its format away, but replacing it is.
fn emptied(base: &Version<'_>, side: &Version<'_>, alignment: &Alignment) -> Vec<bool> {
    let mut emptied = vec![false; base.soup.len()];
    let writes: Vec<&Hunk> =
        alignment.hunks().iter().filter(|hunk| side.has_leaf(hunk.side.clone())).collect();
    // Leaves before each part, and those of them that the side kept.
    let mut leaves = vec![(0_usize, 0_usize)];
    for at in 0..base.soup.len() {
        let (all, kept) = leaves.last().copied().unwrap_or_default();
        let is_leaf = base.leaf(at).is_some();
        let is_kept = is_leaf && alignment.kept(at).is_some();
        leaves.push((all + usize::from(is_leaf), kept + usize::from(is_kept)));
    }
    for (start, part) in base.soup.iter().enumerate() {
        let end = base.partners.get(start).copied().unwrap_or(start);
        if !matches!(part, Part::Open(_))
            || alignment.kept(start).is_some()
            || alignment.kept(end).is_some()
        {
            continue;
        }
        let (Some(from), Some(to)) = (leaves.get(start), leaves.get(end)) else { continue };
        let first = writes.partition_point(|hunk| hunk.base.end <= start);
        let written = writes.get(first).is_some_and(|hunk| hunk.base.start <= end);
        if to.0 > from.0 && to.1 == from.1 && !written {
            for at in [start, end] {
                if let Some(flag) = emptied.get_mut(at) {
                    *flag = true;
                }
            }
        }
    }
    emptied
}

impl<'a> Merge<'a> {
    /// Gaps that tags decide (d.5), and words that both sides edited.
    fn special(&self, gap: Gap<'_>) -> Option<Vec<Piece>> {
        if let Some([b, l, r]) = one_word_each(gap)
            && self.both_edits(b, l, r).is_some()
        {
            return Some(vec![Piece { base: Some(b), left: Some(l), right: Some(r) }]);
        }
        let left: Vec<Piece> = Piece::of_left(gap.left.side.clone()).collect();
        let right: Vec<Piece> = Piece::of_right(gap.right.side.clone()).collect();
        let left_text = self.left.has_leaf(gap.left.side.clone());
        let right_text = self.right.has_leaf(gap.right.side.clone());
        let (first, second) = match (left_text, right_text) {
            (true, true) => return None,
            (false, true) => return Some(self.tags_around(&left, right)),
            (true, false) => return Some(self.tags_around(&right, left)),
            (false, false) if gap.left_first() => (left, right),
            (false, false) => (right, left),
        };
        let all = first.into_iter().chain(second);
        let (ends, starts): (Vec<_>, Vec<_>) = all.partition(|piece| self.is_end(piece).is_some());
        Some(ends.into_iter().chain(starts).collect())
    }

    /// Text that was typed where formatting changed: it belongs to formatting that expands.
    fn tags_around(&self, tags: &[Piece], text: Vec<Piece>) -> Vec<Piece> {
        let select = |wanted: Option<bool>| {
            let expands = move |piece: &&Piece| self.is_end(piece) == wanted;
            tags.iter().filter(expands).copied().collect::<Vec<_>>()
        };
        [select(Some(false)), text, select(Some(true)), select(None)].concat()
    }

    /// For an end tag, whether its mark expands.
    fn is_end(&self, piece: &Piece) -> Option<bool> {
        match self.any_part(piece)? {
            Part::Close(mark) => Some(tags::expands(&mark.name)),
            Part::Open(_) | Part::Leaf(..) => None,
        }
    }

    /// What stands at a piece, in the first version that has it.
    pub(super) fn any_part(&self, piece: &Piece) -> Option<Part<'a>> {
        let part = |version: &Version<'a>, at: Option<usize>| version.part(at?);
        part(&self.left, piece.left)
            .or_else(|| part(&self.right, piece.right))
            .or_else(|| part(&self.base, piece.base))
    }

    fn both_edits(&self, b: usize, l: usize, r: usize) -> Option<String> {
        let word = |version: &Version<'_>, at| version.leaf(at).map(|(_, leaf)| leaf.item.clone());
        let (b, l, r) = (word(&self.base, b)?, word(&self.left, l)?, word(&self.right, r)?);
        inside_word(b.word(), l.word(), r.word())
    }

    /// The leaf of a piece, with attributes merged; and whether no version has it.
    fn item(&self, piece: &Piece) -> Option<(Item, bool)> {
        let [b, l, r] = self.leaves(piece);
        if let Piece { base: Some(b), left: Some(l), right: Some(r) } = *piece
            && self.sides.left.kept(b).is_none()
        {
            let text = Slice::whole(&self.both_edits(b, l, r)?);
            return Some((Item::Text(text, Class::Word), true));
        }
        let none = Attrs::new();
        let of = |leaf: Option<(usize, &'_ Leaf)>| match leaf {
            Some((_, Leaf { item: Item::Void { attrs, .. }, .. })) => Some(attrs.clone()),
            _ => None,
        };
        if let (Some((_, leaf)), Some((_, _))) = (l, r)
            && let Item::Void { tag, .. } = &leaf.item
            && let (Some(left), Some(right)) = (of(l), of(r))
        {
            let merged = attrs::merge(&of(b).unwrap_or(none), &left, &right);
            return Some((super::inline::void(tag.clone(), merged), false));
        }
        l.or(r).or(b).map(|(_, leaf)| (leaf.item.clone(), false))
    }

    fn leaves(&self, piece: &Piece) -> [Option<(usize, &Leaf)>; 3] {
        [
            piece.base.and_then(|at| self.base.leaf(at)),
            piece.left.and_then(|at| self.left.leaf(at)),
            piece.right.and_then(|at| self.right.leaf(at)),
        ]
    }

    fn finish(&self, pieces: &[Piece]) -> Inline {
        let marks = tidy::marks(self, pieces);
        let mut items = Vec::new();
        let mut numbers = Vec::new();
        for (piece, marks) in pieces.iter().zip(marks) {
            let number = |leaf: Option<(usize, &Leaf)>| leaf.map(|(number, _)| number);
            let [base, left, right] = self.leaves(piece).map(number);
            if base.or(left).or(right).is_some()
                && let Some((item, made)) = self.item(piece)
            {
                items.push((item, marks));
                numbers.push((Piece { base, left, right }, made));
            }
        }
        let versions = [&self.base, &self.left, &self.right].map(|version| version.inline);
        let mut seams = Seams::new(versions);
        let glue = items.iter().zip(numbers).map(|((item, _), (piece, made))| {
            white(seams.before(Placed { piece, word: item.word(), made }))
        });
        let glue: Vec<_> = glue.collect();
        let tail = white(seams.end());
        let leaf = |((item, marks), glue)| Leaf { item, glue, marks };
        Inline { leaves: items.into_iter().zip(glue).map(leaf).collect(), tail }
    }
}
