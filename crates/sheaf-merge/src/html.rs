//! The rule `html`: a three-way merge of documents by blocks with ids, and of their text by words.
//!
//! Source: specification d.5 to d.7. Invariant: total and deterministic; what a merge writes is
//! well-formed and canonical, whatever it was given; no word and no block that a side inserted is
//! lost, but for words that were typed into the text of a block that the other side deleted, and
//! under [`Policy::Drop`] all that was inserted into a deleted block. Leaves out what
//! is safe to show: scripts and styles are dropped because they are no text, but attributes are
//! kept as they are, and whoever renders a document from elsewhere has to sanitise it.

mod attrs;
mod blocks;
mod inline;
mod naming;
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
use parse::{Texts, parse, parse_within};
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
/// Formatting elements around the words of one version up to which trees are merged, counted anew
/// wherever they change: a few for every word.
pub const MARKS_TOTAL_MAX: usize = 1_000_000;
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
/// [`NODES_MAX`], [`TEXT_TOKENS_MAX`], [`MARKS_TOTAL_MAX`], [`DEPTH_MAX`] or [`ATTRS_MAX`]: then the caller falls back
/// to `lww` and says so.
#[must_use]
pub fn try_merge(policy: Policy, base: &str, left: &str, right: &str) -> Option<String> {
    merge_noted(policy, base, left, right).map(|(html, _)| html)
}

/// As [`try_merge`], and whether some text was too large to be compared word by word.
pub(crate) fn merge_noted(
    policy: Policy,
    base: &str,
    left: &str,
    right: &str,
) -> Option<(String, bool)> {
    if let Some(known) = short_cut(base, left, right) {
        return Some((known.to_owned(), false));
    }
    merge_trees(policy, base, left, right)
}

/// The canonical form of a document, in which it should be written: well-formed, every block with
/// an id, formatting in the one order of [`merge`]. Equal to its own canonical form.
///
/// An editor that begins with it finds its blocks again after a merge. Scripts and styles are
/// dropped and attributes are kept: this is no sanitiser. Any text has this form; there is no
/// limit but memory, of which a megabyte takes some 200.
///
/// ```
/// let html = sheaf_merge::html::canon("<p id=a>Hello <b>world");
/// assert_eq!(html, "<p id=\"a\">Hello <b>world</b></p>");
/// ```
#[must_use]
pub fn canon(html: &str) -> String {
    settle(parse(html, DEPTH_MAX))
}

fn merge_trees(policy: Policy, base: &str, left: &str, right: &str) -> Option<(String, bool)> {
    let mut texts = Texts::new();
    let docs = [read(base, &mut texts)?, read(left, &mut texts)?, read(right, &mut texts)?];
    drop(texts);
    let (doc, is_coarse) = blocks::merge(docs.each_ref(), policy);
    Some((settle(doc), is_coarse))
}

/// Reads a version as what its canonical form says, if it is within the limits.
fn read(html: &str, texts: &mut Texts) -> Option<Doc> {
    if html.len() > HTML_BYTES_MAX {
        return None;
    }
    let mut doc = parse_within(html, DEPTH_MAX, NODES_MAX, texts)?;
    repair::repair(&mut doc);
    let (mut tokens, mut marks, mut attrs) = (0, 0, 0);
    for node in &doc.nodes {
        if let Content::Text(inline) = &node.content {
            tokens += inline.leaves.len();
            marks += inline.marks();
        }
        attrs = attrs.max(node.attrs.len());
    }
    let is_small = doc.nodes.len() <= NODES_MAX
        && tokens <= TEXT_TOKENS_MAX
        && marks <= MARKS_TOTAL_MAX
        && attrs <= ATTRS_MAX;
    (is_small && !is_too_deep(&doc)).then_some(doc)
}

/// Writes a document that is right and not too deep.
fn settle(mut doc: Doc) -> String {
    repair::repair(&mut doc);
    if is_too_deep(&doc) {
        doc = parse(&write::document(&doc), DEPTH_REPAIRED_MAX);
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
