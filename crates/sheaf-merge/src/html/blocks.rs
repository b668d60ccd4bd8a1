//! Merging the trees of three documents.
//!
//! Source: specification d.7. Blocks are recognised by their ids and by nothing else. Invariant:
//! the result is a tree; which blocks are in it is the inclusion rule exactly; what holds no
//! included parent any more is hoisted to where that parent was. Leaves out which elements may
//! stand in which ([`super::repair`]).

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{
    DEPTH_MAX, Policy,
    inline::Inline,
    node::{Stray, merge_node},
    tree::{Content, Doc, Node, ROOT},
};
use crate::align::{
    Token,
    gap::{self, Piece, Sides},
};

/// The versions by number.
const BASE: usize = 0;
const LEFT: usize = 1;
const RIGHT: usize = 2;

/// Merges three documents; and whether some text was too large to be compared word by word.
pub(super) fn merge(docs: [&Doc; 3], policy: Policy) -> (Doc, bool) {
    let mut union = Union::new(docs);
    union.include(policy);
    let parents = union.parents();
    let mut kids: Vec<Vec<usize>> = vec![Vec::new(); union.nodes.len()];
    for (at, parent) in parents.iter().enumerate().skip(1) {
        if let Some(list) = parent.and_then(|parent| kids.get_mut(parent)) {
            list.push(at);
        }
    }
    let mut is_coarse = false;
    let mut texts = union.stray_texts(&mut is_coarse);
    let mut out = Doc::new();
    let mut work = vec![(ROOT, ROOT)];
    while let Some((at, place)) = work.pop() {
        let mine = kids.get(at).map(Vec::as_slice).unwrap_or_default();
        for kid in union.order(at, mine, &parents) {
            let nodes = [BASE, LEFT, RIGHT].map(|version| union.node(version, kid));
            let Some(mut node) = merge_node(nodes, &mut is_coarse) else { continue };
            if let Some(text) = texts.remove(&kid) {
                node.content = Content::Text(Rc::new(text));
            }
            let added = out.add(Node { parent: place, kids: Vec::new(), ..node });
            if let Some(parent) = out.nodes.get_mut(place) {
                parent.kids.push(added);
            }
            work.push((kid, added));
        }
    }
    (out, is_coarse)
}

/// One block of any version.
struct Member {
    /// Where each version has it.
    at: [Option<usize>; 3],
    included: bool,
}

/// The blocks of all versions, each once, the root first.
struct Union<'a> {
    docs: [&'a Doc; 3],
    nodes: Vec<Member>,
    /// For each version, the member that each of its nodes is.
    members: [Vec<usize>; 3],
    /// For each version, the members in document order, without the root.
    orders: [Vec<usize>; 3],
}

impl<'a> Union<'a> {
    fn new(docs: [&'a Doc; 3]) -> Self {
        let mut by_id: HashMap<&str, usize> = HashMap::from([("", ROOT)]);
        let mut nodes = vec![Member { at: [Some(ROOT); 3], included: true }];
        let mut members = docs.map(|doc| vec![ROOT; doc.nodes.len()]);
        let mut orders = [const { Vec::new() }; 3];
        let versions = docs.iter().zip(members.iter_mut().zip(orders.iter_mut())).enumerate();
        for (version, (doc, (members, order))) in versions {
            for (at, _) in doc.preorder() {
                let Some(node) = doc.nodes.get(at) else { continue };
                let member = *by_id.entry(&node.id).or_insert_with(|| {
                    nodes.push(Member { at: [None; 3], included: false });
                    nodes.len() - 1
                });
                if let Some(slot) = nodes.get_mut(member).and_then(|m| m.at.get_mut(version)) {
                    *slot = Some(at);
                }
                if let Some(slot) = members.get_mut(at) {
                    *slot = member;
                }
                order.push(member);
            }
        }
        Self { docs, nodes, members, orders }
    }

    fn at(&self, version: usize, member: usize) -> Option<usize> {
        self.nodes.get(member)?.at.get(version).copied().flatten()
    }

    fn node(&self, version: usize, member: usize) -> Option<&'a Node> {
        self.docs.get(version)?.nodes.get(self.at(version, member)?)
    }

    fn member(&self, version: usize, at: usize) -> usize {
        self.members.get(version).and_then(|members| members.get(at)).copied().unwrap_or(ROOT)
    }

    fn parent(&self, version: usize, member: usize) -> Option<usize> {
        Some(self.member(version, self.node(version, member)?.parent))
    }

    fn is_included(&self, member: usize) -> bool {
        self.nodes.get(member).is_some_and(|member| member.included)
    }

    fn set_included(&mut self, member: usize, included: bool) {
        if let Some(member) = self.nodes.get_mut(member) {
            member.included = included;
        }
    }

    fn include(&mut self, policy: Policy) {
        for member in &mut self.nodes {
            let [base, left, right] = member.at.map(|at| at.is_some());
            member.included = (left && right) || (!base && (left || right));
        }
        match policy {
            Policy::Hoist => {}
            Policy::Drop => self.drop_orphans(),
            Policy::UpdateWins => self.keep_updated(),
        }
    }

    /// Inserts with an excluded ancestor in every version that has them.
    fn drop_orphans(&mut self) {
        let mut kept = HashSet::new();
        for version in [LEFT, RIGHT] {
            let mut orphans = HashSet::new();
            for &member in self.orders.get(version).into_iter().flatten() {
                let parent = self.parent(version, member).unwrap_or(ROOT);
                if orphans.contains(&parent) || !self.is_included(parent) {
                    orphans.insert(member);
                } else {
                    kept.insert(member);
                }
            }
        }
        for member in 1..self.nodes.len() {
            if self.at(BASE, member).is_none() && !kept.contains(&member) {
                self.set_included(member, false);
            }
        }
    }

    /// Blocks that one side changed and the other deleted, and all that is above them or above
    /// an insert.
    fn keep_updated(&mut self) {
        for version in [LEFT, RIGHT] {
            let other = if version == LEFT { RIGHT } else { LEFT };
            let mut anchored = HashSet::new();
            for member in self.orders.get(version).cloned().unwrap_or_default() {
                let Some(node) = self.node(version, member) else { continue };
                let stays = match self.node(BASE, member) {
                    Some(base) => self.at(other, member).is_none() && !base.says_the_same(node),
                    None => true,
                };
                let mut next = if stays { Some(member) } else { None };
                while let Some(member) = next.filter(|member| anchored.insert(*member)) {
                    self.set_included(member, true);
                    next = self.parent(version, member);
                }
            }
        }
    }

    /// The nearest included block above, in one version.
    fn included_parent(&self, version: usize, member: usize) -> usize {
        let mut parent = self.parent(version, member).unwrap_or(ROOT);
        while !self.is_included(parent) {
            parent = self.parent(version, parent).unwrap_or(ROOT);
        }
        parent
    }

    /// The parent of each included block in the result: right's first, then left's changes as far
    /// as they make no cycle (B08).
    fn parents(&self) -> Vec<Option<usize>> {
        let mut parents = vec![None; self.nodes.len()];
        for &member in self.orders.get(RIGHT).into_iter().flatten() {
            set(&mut parents, member, self.included(member, RIGHT));
        }
        for &member in self.orders.get(LEFT).into_iter().flatten() {
            let raw = [BASE, LEFT, RIGHT].map(|version| self.parent(version, member));
            let stayed = raw.first() == raw.get(LEFT);
            if self.at(RIGHT, member).is_some() {
                let target = self.included(member, LEFT);
                if !stayed && !target.is_some_and(|target| below(&parents, target, member)) {
                    set(&mut parents, member, target);
                }
            } else {
                set(&mut parents, member, self.included(member, LEFT));
            }
        }
        parents
    }

    fn included(&self, member: usize, version: usize) -> Option<usize> {
        self.is_included(member).then(|| self.included_parent(version, member))
    }

    /// What a version has below a member, deleted blocks as tombstones before what was in them.
    fn list(&self, version: usize, member: usize) -> Vec<usize> {
        let Some(doc) = self.docs.get(version) else { return Vec::new() };
        let Some(at) = self.at(version, member) else { return Vec::new() };
        let mut list = Vec::new();
        let mut stack: Vec<usize> = doc.kids(at).iter().rev().copied().collect();
        while let Some(at) = stack.pop() {
            let member = self.member(version, at);
            list.push(member);
            if !self.is_included(member) {
                stack.extend(doc.kids(at).iter().rev());
            }
        }
        list
    }

    /// The order of the children of one block of the result.
    fn order(&self, parent: usize, kids: &[usize], parents: &[Option<usize>]) -> Vec<usize> {
        if kids.is_empty() {
            return Vec::new();
        }
        let [base, left, right] = [BASE, LEFT, RIGHT].map(|version| self.list(version, parent));
        let [b, l, r] = [&base, &left, &right].map(|list| tokens(list));
        let sides = Sides::new(&b, l, r);
        let moved = |list: &[usize], origins: Vec<Option<usize>>| -> HashSet<usize> {
            let pairs = list.iter().zip(origins);
            pairs.filter(|(_, origin)| origin.is_none()).map(|(member, _)| *member).collect()
        };
        let moved_left = moved(&left, sides.left.origins(left.len()));
        let moved_right = moved(&right, sides.right.origins(right.len()));
        // A block that nobody put elsewhere stays at its place, though one side may not have it.
        let stays = |at| {
            let moved =
                |member: &usize| moved_left.contains(member) || moved_right.contains(member);
            base.get(at).is_some_and(|member| !moved(member))
        };
        let pieces = gap::merge(&sides, stays, |_| None);
        let mut order = Vec::with_capacity(kids.len());
        let mut placed = HashSet::new();
        for piece in pieces {
            let Some(member) = member_of(piece, &base, &left, &right) else { continue };
            // Moved by both sides: left's place.
            let second =
                piece.base.is_none() && piece.left.is_none() && moved_left.contains(&member);
            let here = parents.get(member).copied().flatten() == Some(parent);
            if here && !second && placed.insert(member) {
                order.push(member);
            }
        }
        let mut rest: Vec<usize> =
            kids.iter().filter(|kid| !placed.contains(kid)).copied().collect();
        rest.sort_by_key(|&kid| self.id(kid));
        order.extend(rest);
        order
    }

    /// Texts that are not simply what the versions of a block have: words that one side wrote into
    /// a block of which the other made a block of blocks go to the first block made there, which
    /// has the text now, or else stay in a paragraph of their own.
    fn stray_texts(&self, is_coarse: &mut bool) -> HashMap<usize, Inline> {
        let mut texts = HashMap::new();
        for member in 1..self.nodes.len() {
            let nodes = [BASE, LEFT, RIGHT].map(|version| self.node(version, member));
            let Some(stray) = Stray::of(nodes) else { continue };
            let maker = if stray.left_made_blocks { LEFT } else { RIGHT };
            let made = self.at(maker, member).and_then(|at| {
                let doc = self.docs.get(maker)?;
                doc.kids(at).iter().find_map(|&kid| {
                    let member = self.member(maker, kid);
                    let new = [BASE, LEFT, RIGHT]
                        .iter()
                        .all(|&version| version == maker || self.at(version, member).is_none());
                    match &doc.nodes.get(kid)?.content {
                        Content::Text(inline) if new && self.is_included(member) => {
                            Some((member, inline))
                        }
                        _ => None,
                    }
                })
            });
            let (target, text) = match made {
                Some((target, inline)) => (target, stray.merge_into(inline, is_coarse)),
                None => (member, stray.merge_into(&Inline::default(), is_coarse)),
            };
            // Where the words went, they may all be gone; a paragraph for none is made nowhere.
            if target != member || !text.leaves.is_empty() {
                texts.insert(target, text);
            }
        }
        texts
    }

    fn id(&self, member: usize) -> &'a str {
        let node = [BASE, LEFT, RIGHT].iter().find_map(|&version| self.node(version, member));
        node.map_or("", |node| node.id.as_str())
    }
}

fn set(parents: &mut [Option<usize>], member: usize, parent: Option<usize>) {
    if let Some(slot) = parents.get_mut(member) {
        *slot = parent;
    }
}

/// Whether `target` is `member` or below it, or so deep that nobody could tell cheaply.
fn below(parents: &[Option<usize>], target: usize, member: usize) -> bool {
    let mut next = Some(target);
    for _ in 0..=2 * DEPTH_MAX {
        match next {
            Some(ROOT) | None => return false,
            Some(at) if at == member => return true,
            Some(at) => next = parents.get(at).copied().flatten(),
        }
    }
    true
}

fn tokens(list: &[usize]) -> Vec<Token> {
    let key = |&member: &usize| u32::try_from(member).expect("BUG: more than 2^32 blocks");
    list.iter().map(|member| Token { key: key(member), weight: 1 }).collect()
}

fn member_of(piece: Piece, base: &[usize], left: &[usize], right: &[usize]) -> Option<usize> {
    let from = |list: &[usize], at: Option<usize>| list.get(at?).copied();
    from(base, piece.base).or_else(|| from(left, piece.left)).or_else(|| from(right, piece.right))
}
