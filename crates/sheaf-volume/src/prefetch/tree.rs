//! Scans in tree order: along the children of interior pages, as the layer above names them.
//!
//! Invariant: what is remembered is bounded, and only a guess: names that lead nowhere, in circles
//! or to pages that do not exist cost at most a page fetched for nothing. Leaves out what a page
//! looks like.

use std::collections::VecDeque;

use super::Known;
use crate::{PageIdx, PageSet, limits};

/// Interior pages seen, the newest last, and the scan that went on last.
#[derive(Debug, Default)]
pub(super) struct Tree {
    families: VecDeque<Family>,
    scan: Option<Scan>,
}

/// An interior page and where it leads, in scan order.
#[derive(Debug)]
struct Family {
    parent: PageIdx,
    children: Vec<PageIdx>,
}

/// Where a scan stands: everything up to here was asked for.
#[derive(Clone, Copy, Debug)]
struct Scan {
    parent: PageIdx,
    /// Place of the last child asked for.
    at: usize,
    window: u32,
    step: Step,
}

/// Which way a scan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Forward,
    Backward,
    /// One child was read so far.
    Unknown,
}

impl Tree {
    pub(super) fn learn(&mut self, parent: PageIdx, children: Vec<PageIdx>) {
        self.families.retain(|family| family.parent != parent);
        if children.is_empty() {
            return;
        }
        if self.families.len() >= limits::TREE_FAMILIES_MAX {
            self.families.pop_front();
        }
        self.families.push_back(Family { parent, children });
    }

    /// What to ask for if this page continues a scan.
    pub(super) fn follow(&mut self, wanted: PageIdx, known: &Known<'_>) -> Option<PageSet> {
        let (parent, at) = self.place(wanted)?;
        let Some((step, window)) = self.scan.and_then(|scan| self.goes_on(scan, parent, at, known))
        else {
            // An interior page read on the way down ends no scan of what lies below.
            if !self.is_parent(wanted) {
                self.scan = Some(Scan { parent, at, window: 1, step: Step::Unknown });
            }
            return None;
        };
        let window = known.grown(window);
        let mut pages = PageSet::new();
        let (parent, at) = self.gather((parent, at), window, step, known, &mut pages);
        self.scan = Some(Scan { parent, at, window, step });
        Some(pages)
    }

    /// The family and the place in it of a page, the newest family first.
    fn place(&self, idx: PageIdx) -> Option<(PageIdx, usize)> {
        self.families.iter().rev().find_map(|family| {
            let at = family.children.iter().position(|child| *child == idx)?;
            Some((family.parent, at))
        })
    }

    fn is_parent(&self, idx: PageIdx) -> bool {
        self.families.iter().any(|family| family.parent == idx)
    }

    fn children(&self, parent: PageIdx) -> &[PageIdx] {
        let family = self.families.iter().find(|family| family.parent == parent);
        family.map_or(&[], |family| &family.children)
    }

    /// Which way and with which window the scan goes on, if this is the next page it needs.
    fn goes_on(
        &self,
        scan: Scan,
        parent: PageIdx,
        at: usize,
        known: &Known<'_>,
    ) -> Option<(Step, u32)> {
        let reaches = |step: Step| {
            let mut place = (scan.parent, scan.at);
            for _ in 0..=limits::TREE_SKIP_MAX {
                place = self.beside(place.0, place.1, step)?;
                if place == (parent, at) {
                    return Some((step, scan.window));
                }
                // What is here already may lie between.
                if self.children(place.0).get(place.1).is_none_or(|idx| known.is_missing(*idx)) {
                    return None;
                }
            }
            None
        };
        match scan.step {
            Step::Unknown => reaches(Step::Forward).or_else(|| reaches(Step::Backward)),
            step => reaches(step),
        }
    }

    /// The place after or before one, in the next family if it is the last of its own.
    fn beside(&self, parent: PageIdx, at: usize, step: Step) -> Option<(PageIdx, usize)> {
        let within = match step {
            Step::Backward => at.checked_sub(1),
            _ => Some(at + 1).filter(|at| *at < self.children(parent).len()),
        };
        if let Some(at) = within {
            return Some((parent, at));
        }
        let (above, place) = self.place(parent)?;
        let place = match step {
            Step::Backward => place.checked_sub(1)?,
            _ => place + 1,
        };
        let sibling = *self.children(above).get(place)?;
        let last = self.children(sibling).len().checked_sub(1)?;
        Some((sibling, if step == Step::Backward { last } else { 0 }))
    }

    /// Collects missing pages of a window from a place on, and where it ended. Interior pages whose
    /// children are not known end it; as many of them come along as the next window will need.
    fn gather(
        &self,
        from: (PageIdx, usize),
        window: u32,
        step: Step,
        known: &Known<'_>,
        pages: &mut PageSet,
    ) -> (PageIdx, usize) {
        let mut place = from;
        let mut left = window;
        loop {
            let child = self.children(place.0).get(place.1).copied();
            pages.extend(child.filter(|idx| known.is_missing(*idx)));
            left -= 1;
            if left == 0 {
                return place;
            }
            let Some(next) = self.beside(place.0, place.1, step) else { break };
            place = next;
        }
        let per_family = self.children(place.0).len().max(1);
        let ahead = usize::try_from(known.grown(window)).unwrap_or(usize::MAX) / per_family + 1;
        if let Some((above, at)) = self.place(place.0) {
            let siblings = self.children(above);
            let (before, after) = siblings.split_at(at.min(siblings.len()));
            let unknown = |idx: &&PageIdx| known.is_missing(**idx);
            match step {
                Step::Backward => {
                    pages.extend(before.iter().rev().filter(unknown).take(ahead).copied());
                }
                _ => pages.extend(after.iter().skip(1).filter(unknown).take(ahead).copied()),
            }
        }
        place
    }
}
