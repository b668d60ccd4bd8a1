//! A document: blocks with ids in a tree, text in the innermost.
//!
//! Invariant: the tree is acyclic with the root at index 0, every other node is its parent's
//! child exactly once, ids are distinct; the root's id is empty. Held in one vector, so that no
//! depth of nesting needs a deep stack.

use std::{collections::HashMap, rc::Rc};

use super::{attrs::Attrs, inline::Inline};

/// The index of the root.
pub(super) const ROOT: usize = 0;

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Other blocks: its children.
    Blocks,
    /// Text, which versions and results share.
    Text(Rc<Inline>),
    /// Nothing, ever.
    Void,
}

/// A block.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) tag: String,
    /// Without the id.
    pub(super) attrs: Attrs,
    pub(super) parent: usize,
    pub(super) kids: Vec<usize>,
    pub(super) content: Content,
}

/// A document.
#[derive(Clone, Debug)]
pub(super) struct Doc {
    pub(super) nodes: Vec<Node>,
}

impl Node {
    /// Whether both say the same, but for id and place.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.tag == other.tag && self.attrs == other.attrs && self.content == other.content
    }
}

impl Doc {
    /// A document with nothing in it.
    pub(super) fn new() -> Self {
        let root = Node {
            id: String::new(),
            tag: String::from("root"),
            attrs: Attrs::new(),
            parent: ROOT,
            kids: Vec::new(),
            content: Content::Blocks,
        };
        Self { nodes: vec![root] }
    }

    /// Adds a node, not yet among its parent's children.
    pub(super) fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub(super) fn kids(&self, at: usize) -> &[usize] {
        self.nodes.get(at).map_or(&[], |node| &node.kids)
    }

    /// All nodes but the root with their depth, parents before children, in document order.
    pub(super) fn preorder(&self) -> Vec<(usize, usize)> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut stack: Vec<(usize, usize)> =
            self.kids(ROOT).iter().rev().map(|&kid| (kid, 1)).collect();
        while let Some((at, depth)) = stack.pop() {
            order.push((at, depth));
            stack.extend(self.kids(at).iter().rev().map(|&kid| (kid, depth + 1)));
        }
        order
    }
}

/// Ids in use, and how a second use of one is renamed (B22).
#[derive(Debug, Default)]
pub(super) struct Names {
    /// For each id, the last number tried behind it.
    used: HashMap<String, u32>,
}

impl Names {
    /// Takes an id, which changes only if it is not free.
    pub(super) fn keep(&mut self, id: &mut String) {
        if self.used.contains_key(id.as_str()) {
            *id = self.take(id);
        } else {
            self.used.insert(id.clone(), 1);
        }
    }

    /// The id itself if it is free, else `id~2`, `id~3` and so on.
    pub(super) fn take(&mut self, id: &str) -> String {
        let mut name = id.to_owned();
        while self.used.contains_key(&name) {
            let number = self.used.get_mut(id).map_or(2, |last| {
                *last += 1;
                *last
            });
            name = format!("{id}~{number}");
        }
        self.used.insert(name.clone(), 1);
        name
    }
}
