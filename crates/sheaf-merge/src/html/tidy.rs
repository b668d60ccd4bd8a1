//! What the tags of a merged content mean: which marks lie on which leaf.
//!
//! Source: specification d.6, steps 1 to 4. Tags are paired by a choice between three versions
//! and not by nesting, because a parser would extend what somebody had taken away. Invariant:
//! any sequence of tags gives marks; a start without an end, and an end without a start before
//! it, have no effect.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    attrs::{self, Attrs},
    inline::{MARKS_MAX, Mark, Marks, Part, effective},
    soup::{Merge, Version},
};
use crate::{
    align::{Alignment, gap::Piece},
    text::scalar3,
};

/// Open tags that lie upon one leaf; later ones have no effect. Bounds the work per leaf.
const OPEN_MAX: usize = 2 * MARKS_MAX;

/// Which start tag an end tag means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// One of the base, which may be gone.
    Base(usize),
    /// One that a side inserted, by its place in the result.
    Result(usize),
}

/// One side: its tags, and where they are in the base and in the result.
struct Side<'a, 'b> {
    version: &'b Version<'a>,
    alignment: &'b Alignment,
    origins: Vec<Option<usize>>,
    places: Vec<Option<usize>>,
}

/// The marks of every piece; those of tags are empty.
pub(super) fn marks(merge: &Merge<'_>, pieces: &[Piece]) -> Vec<Marks> {
    let sides = [
        Side::new(&merge.left, &merge.sides.left, pieces, |piece| piece.left),
        Side::new(&merge.right, &merge.sides.right, pieces, |piece| piece.right),
    ];
    let base_places = places(merge.base.soup.len(), pieces, |piece| piece.base);
    let pairing = Pairing { merge, sides, base_places };
    // The last end tag of every start tag; crossed ends cancel each other (H04).
    let mut ends: Vec<Option<usize>> = vec![None; pieces.len()];
    for (at, piece) in pieces.iter().enumerate() {
        if matches!(merge.any_part(piece), Some(Part::Close(_)))
            && let Some(start) = pairing.start_of(piece).filter(|&start| start < at)
            && let Some(end) = ends.get_mut(start)
        {
            *end = Some(at);
        }
    }
    sweep(merge, pieces, &ends)
}

fn sweep(merge: &Merge<'_>, pieces: &[Piece], ends: &[Option<usize>]) -> Vec<Marks> {
    let none: Marks = Rc::new([]);
    let mut open: BTreeMap<usize, Rc<Mark>> = BTreeMap::new();
    let mut closes: BTreeMap<usize, usize> = BTreeMap::new();
    let mut current: Option<Marks> = None;
    let mut out = Vec::with_capacity(pieces.len());
    for (at, piece) in pieces.iter().enumerate() {
        let mut here = Rc::clone(&none);
        match merge.any_part(piece) {
            Some(Part::Open(mark)) => {
                if let Some(&Some(end)) = ends.get(at)
                    && open.len() < OPEN_MAX
                {
                    let mark = Mark::new(mark.name.clone(), attributes(merge, piece));
                    open.insert(at, Rc::new(mark));
                    closes.insert(end, at);
                    current = None;
                }
            }
            Some(Part::Close(_)) => {
                let closed = closes.remove(&at).and_then(|start| open.remove(&start));
                current = current.filter(|_| closed.is_none());
            }
            Some(Part::Leaf(..)) => {
                here = Rc::clone(current.get_or_insert_with(|| effective(open.values())));
            }
            None => {}
        }
        out.push(here);
    }
    out
}

/// Merged where both sides have the start tag, else those of the side that has it.
fn attributes(merge: &Merge<'_>, piece: &Piece) -> Attrs {
    let of = |version: &Version<'_>, at: Option<usize>| match version.part(at?)? {
        Part::Open(mark) => Some(mark.attrs.clone()),
        Part::Close(_) | Part::Leaf(..) => None,
    };
    let base = of(&merge.base, piece.base);
    match (of(&merge.left, piece.left), of(&merge.right, piece.right)) {
        (Some(left), Some(right)) => attrs::merge(&base.unwrap_or_default(), &left, &right),
        (left, right) => left.or(right).or(base).unwrap_or_default(),
    }
}

fn places(
    len: usize,
    pieces: &[Piece],
    of: impl Fn(&Piece) -> Option<usize>,
) -> Vec<Option<usize>> {
    let mut places = vec![None; len];
    for (at, piece) in pieces.iter().enumerate() {
        if let Some(place) = of(piece).and_then(|from| places.get_mut(from)) {
            *place = Some(at);
        }
    }
    places
}

impl<'a, 'b> Side<'a, 'b> {
    fn new(
        version: &'b Version<'a>,
        alignment: &'b Alignment,
        pieces: &[Piece],
        of: impl Fn(&Piece) -> Option<usize>,
    ) -> Self {
        let len = version.soup.len();
        Self {
            version,
            alignment,
            origins: alignment.origins(len),
            places: places(len, pieces, of),
        }
    }

    /// Which start tag the end tag at this place of the side means.
    fn start_of(&self, end: usize) -> Option<Start> {
        let start = *self.version.partners.get(end)?;
        match self.origins.get(start).copied().flatten() {
            Some(base) => Some(Start::Base(base)),
            None => self.places.get(start).copied().flatten().map(Start::Result),
        }
    }
}

struct Pairing<'a, 'b> {
    merge: &'b Merge<'a>,
    sides: [Side<'a, 'b>; 2],
    base_places: Vec<Option<usize>>,
}

impl Pairing<'_, '_> {
    /// The start tag of an end tag of the result, as a place in the result (d.6, step 2).
    fn start_of(&self, piece: &Piece) -> Option<usize> {
        let base = piece.base.and_then(|end| self.merge.base.partners.get(end)).copied();
        let base = base.map(Start::Base);
        let [left, right] = &self.sides;
        let means = |side: &Side<'_, '_>, at: Option<usize>| match at {
            Some(end) => side.start_of(end),
            // Kept although the side emptied it.
            None => base,
        };
        let on_left = piece.left.is_some() || piece.base.is_some();
        let on_right = piece.right.is_some() || piece.base.is_some();
        let (l, r) = (means(left, piece.left), means(right, piece.right));
        match (on_left, on_right) {
            (true, true) if l == r || l == base || r == base => self.place(scalar3(base, l, r)?),
            (true, true) => {
                let (l, r) = (l.and_then(|l| self.place(l)), r.and_then(|r| self.place(r)));
                l.into_iter().chain(r).min()
            }
            (true, false) => self.place(l?),
            (false, _) => self.place(r?),
        }
    }

    /// Where a start tag is; for a base tag that is gone, where a side moved it.
    fn place(&self, start: Start) -> Option<usize> {
        let at = |base: usize| self.base_places.get(base).copied().flatten();
        let base = match start {
            Start::Result(place) => return Some(place),
            Start::Base(base) => base,
        };
        at(base).or_else(|| {
            let end = *self.merge.base.partners.get(base)?;
            self.sides.iter().find_map(|side| match side.start_of(side.alignment.kept(end)?)? {
                Start::Result(place) => Some(place),
                Start::Base(other) => at(other),
            })
        })
    }
}
