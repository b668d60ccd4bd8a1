//! Giving every block of a document that was read an id of its own.
//!
//! Source: specification d.7 (normalise). Invariant: afterwards ids are distinct and none is empty,
//! and those that were are unchanged. Leaves out the root, and what is not in the tree.

use std::collections::HashSet;

use super::{
    inline::fnv,
    tree::{Content, Doc, Names},
    write,
};

/// Makes ids distinct, the first use of each keeping it, and gives the nodes without one an id
/// that says what they hold: equal blocks without ids are the same block in every version.
pub(super) fn name(doc: &mut Doc) {
    let order = doc.preorder();
    if are_named(doc, &order) {
        return;
    }
    let mut names = Names::default();
    for &(at, _) in &order {
        if let Some(node) = doc.nodes.get_mut(at)
            && !node.id.is_empty()
        {
            names.keep(&mut node.id);
        }
    }
    let has_name = |&(at, _): &(usize, usize)| doc.nodes.get(at).is_some_and(|n| !n.id.is_empty());
    if order.iter().all(has_name) {
        return;
    }
    let digests = digests(doc, &order);
    for &(at, _) in &order {
        if let Some(node) = doc.nodes.get_mut(at)
            && node.id.is_empty()
        {
            let digest = digests.get(at).copied().unwrap_or_default();
            node.id = names.take(&format!("n:{digest:016x}"));
        }
    }
}

/// Whether all have an id of their own already.
fn are_named(doc: &Doc, order: &[(usize, usize)]) -> bool {
    let mut ids = HashSet::with_capacity(order.len());
    let mut nodes = order.iter().filter_map(|&(at, _)| doc.nodes.get(at));
    nodes.all(|node| !node.id.is_empty() && ids.insert(node.id.as_str()))
}

/// What each node without an id holds, as one number; those with one are their ids.
fn digests(doc: &Doc, order: &[(usize, usize)]) -> Vec<u64> {
    let mut digests = vec![0; doc.nodes.len()];
    for &(at, _) in order.iter().rev() {
        let Some(node) = doc.nodes.get(at) else { continue };
        let mut text = format!("{}\0{:?}\0{}\0", node.tag, node.attrs, node.id);
        if node.id.is_empty() {
            if let Content::Text(inline) = &node.content {
                write::text(&mut text, inline);
            }
            for &kid in &node.kids {
                text.push_str(&format!("\0{:x}", digests.get(kid).copied().unwrap_or(0)));
            }
        }
        if let Some(digest) = digests.get_mut(at) {
            *digest = fnv(text.as_bytes());
        }
    }
    digests
}
