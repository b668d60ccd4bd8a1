//! Merging one block: its element, its attributes and what it holds.
//!
//! Source: specification d.7 (node). Invariant: equal contents stay as they are; content that one
//! side left alone is the other side's. Leaves out whether the element may hold it
//! ([`super::repair`]).

use std::rc::Rc;

use super::{
    attrs::{self, Attrs},
    inline::Inline,
    soup,
    tree::{Content, Node},
};
use crate::text::scalar3;

/// The block of the result, not yet in its place, of the versions that have it.
pub(super) fn merge_node(
    [base, left, right]: [Option<&Node>; 3],
    is_coarse: &mut bool,
) -> Option<Node> {
    let (left, right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return left.or(right).or(base).cloned(),
    };
    let tag = scalar3(base.map(|node| &node.tag), Some(&left.tag), Some(&right.tag))?.clone();
    let none = Attrs::new();
    let attrs = attrs::merge(base.map_or(&none, |node| &node.attrs), &left.attrs, &right.attrs);
    let base = base.map(|node| &node.content);
    let content = merge_content(base, &left.content, &right.content, is_coarse);
    Some(Node { id: left.id.clone(), tag, attrs, parent: 0, kids: Vec::new(), content })
}

fn merge_content(
    base: Option<&Content>,
    left: &Content,
    right: &Content,
    is_coarse: &mut bool,
) -> Content {
    if left == right || base == Some(right) {
        return left.clone();
    }
    if base == Some(left) {
        return right.clone();
    }
    let none = Inline::default();
    let words = || {
        let [base, left, right] = [base, Some(left), Some(right)]
            .map(|content| content.map_or(&none, |content| text_or(content, &none)));
        let mut is_cut = false;
        (soup::merge(base, left, right, &mut is_cut), is_cut)
    };
    let words = match (left, right) {
        (Content::Text(_), Content::Text(_)) => Some(words()),
        // One side has made it a block without content, such as a line: what the other one wrote
        // stays, and the block becomes one that holds it.
        (Content::Void, Content::Text(_)) | (Content::Text(_), Content::Void) => {
            Some(words()).filter(|(words, _)| !words.leaves.is_empty())
        }
        _ => None,
    };
    match words {
        Some((words, is_cut)) => {
            *is_coarse |= is_cut;
            Content::Text(Rc::new(words))
        }
        // Who changed what kind of block it is supplies the content.
        None if base.is_some_and(|base| same_kind(base, left)) => right.clone(),
        None => left.clone(),
    }
}

fn text_or<'a>(content: &'a Content, none: &'a Inline) -> &'a Inline {
    match content {
        Content::Text(inline) => inline,
        Content::Blocks | Content::Void => none,
    }
}

fn same_kind(a: &Content, b: &Content) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// What one side wrote into a block out of which the other made a block of blocks.
pub(super) struct Stray<'a> {
    /// The text before both.
    base: Rc<Inline>,
    /// What the writing side has.
    text: &'a Inline,
    /// Whether left is the side that made blocks.
    pub(super) left_made_blocks: bool,
}

impl<'a> Stray<'a> {
    /// The stray text of a block, if there is any.
    pub(super) fn of([base, left, right]: [Option<&'a Node>; 3]) -> Option<Self> {
        let (left, right) = (&left?.content, &right?.content);
        let (text, left_made_blocks) = match (left, right) {
            (Content::Blocks, Content::Text(text)) => (text, true),
            (Content::Text(text), Content::Blocks) => (text, false),
            _ => return None,
        };
        let base = match base.map(|node| &node.content) {
            Some(Content::Text(base)) => Rc::clone(base),
            None if left_made_blocks => Rc::default(),
            _ => return None,
        };
        (*base != **text).then_some(Self { base, text, left_made_blocks })
    }

    /// Merged with what the block-making side has in place of the text.
    pub(super) fn merge_into(&self, made: &Inline, is_coarse: &mut bool) -> Inline {
        if self.left_made_blocks {
            soup::merge(&self.base, made, self.text, is_coarse)
        } else {
            soup::merge(&self.base, self.text, made, is_coarse)
        }
    }
}
