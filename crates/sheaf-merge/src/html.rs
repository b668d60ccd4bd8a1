//! The rule `html`: a three-way merge of documents by blocks with ids, and of their text by words.
//!
//! Source: specification d.5 to d.7. Invariant: total and deterministic; what a merge writes is
//! well-formed and canonical, whatever it was given; no word and no block that a side inserted is
//! lost (under [`Policy::Drop`], but for what was inserted into a deleted block). Leaves out what
//! is safe to show: scripts and styles are dropped because they are no text, but attributes are
//! kept as they are, and whoever renders a document from elsewhere has to sanitise it.

mod attrs;
mod blocks;
mod inline;
mod node;
mod parse;
mod repair;
mod soup;
mod tags;
#[cfg(test)]
mod tests;
mod tidy;
mod tokens;
mod tree;
mod write;

use crate::text::{TEXT_TOKENS_MAX, short_cut};
use parse::{Parsed, parse};
use tags::Kind;
use tree::{Content, Doc};

/// Bytes of one version up to which trees are merged.
pub const HTML_BYTES_MAX: usize = 1 << 20;
/// Blocks of one version up to which trees are merged.
pub const NODES_MAX: usize = 50_000;
/// Blocks inside each other that are kept; deeper ones are taken apart, and not merged.
pub const DEPTH_MAX: usize = 200;
/// Attributes of one element up to which trees are merged.
pub const ATTRS_MAX: usize = 4_096;
/// The depth to which a document is taken apart that is too deep with what a repair puts around
/// its blocks, which is at most a row, a cell and a list around each.
const DEPTH_REPAIRED_MAX: usize = DEPTH_MAX / 4 - 1;

/// What becomes of blocks that one side deleted and the other worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Deleted is deleted; what the other side inserted into it stands where it was.
    #[default]
    Hoist,
    /// Deleted is deleted, with all that was inserted into it.
    Drop,
    /// A block that was changed or inserted stays, and so does what it stands in.
    UpdateWins,
}

/// Merges three documents under [`Policy::Hoist`]; beyond the limits of [`try_merge`] left
/// stands, in canonical form. Versions that need no merge are returned as they are.
#[must_use]
pub fn merge(base: &str, left: &str, right: &str) -> String {
    try_merge(Policy::Hoist, base, left, right).unwrap_or_else(|| canon(left))
}

/// Merges three documents, or returns `None` if a version is beyond [`HTML_BYTES_MAX`],
/// [`NODES_MAX`], [`TEXT_TOKENS_MAX`], [`DEPTH_MAX`] or [`ATTRS_MAX`]: then the caller falls back
/// to `lww` and says so.
#[must_use]
pub fn try_merge(policy: Policy, base: &str, left: &str, right: &str) -> Option<String> {
    if let Some(known) = short_cut(base, left, right) {
        return Some(known.to_owned());
    }
    merge_trees(policy, base, left, right)
}

/// The canonical form of a document, in which it should be written: well-formed, every block with
/// an id, formatting in the one order of [`merge`]. Equal to its own canonical form.
#[must_use]
pub fn canon(html: &str) -> String {
    settle(parse(html, DEPTH_MAX).doc)
}

fn merge_trees(policy: Policy, base: &str, left: &str, right: &str) -> Option<String> {
    let docs = [read(base)?, read(left)?, read(right)?];
    Some(settle(blocks::merge(docs.each_ref(), policy)))
}

/// Reads a version as what its canonical form says, if it is within the limits.
fn read(html: &str) -> Option<Doc> {
    if html.len() > HTML_BYTES_MAX {
        return None;
    }
    let Parsed { mut doc, cut } = parse(html, DEPTH_MAX);
    repair::repair(&mut doc);
    let leaves = |content: &Content| match content {
        Content::Text(inline) => inline.leaves.len(),
        Content::Blocks | Content::Void => 0,
    };
    let tokens: usize = doc.nodes.iter().map(|node| leaves(&node.content)).sum();
    let attrs = doc.nodes.iter().map(|node| node.attrs.len()).max().unwrap_or(0);
    let small = doc.nodes.len() <= NODES_MAX && tokens <= TEXT_TOKENS_MAX && attrs <= ATTRS_MAX;
    (small && !cut && !is_too_deep(&doc)).then_some(doc)
}

/// Writes a document that is right and not too deep.
fn settle(mut doc: Doc) -> String {
    repair::repair(&mut doc);
    if is_too_deep(&doc) {
        doc = parse(&write::document(&doc), DEPTH_REPAIRED_MAX).doc;
        repair::repair(&mut doc);
    }
    write::document(&doc)
}

fn is_too_deep(doc: &Doc) -> bool {
    doc.preorder().into_iter().any(|(at, depth)| {
        let text = |tag: &str| matches!(tags::kind(tag), Kind::Text | Kind::Void);
        depth > DEPTH_MAX && !doc.nodes.get(at).is_some_and(|node| text(&node.tag))
    })
}
