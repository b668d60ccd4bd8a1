//! Writing a document: the canonical form.
//!
//! Source: specification d.6, step 5. Invariant: what is written is well-formed, and reading it
//! gives the document back.

use super::{
    attrs::Attrs,
    inline::{Inline, Item, Part},
    tags,
    tree::{Content, Doc, ROOT},
};

/// Writes a whole document.
pub(super) fn document(doc: &Doc) -> String {
    let mut out = String::new();
    // A block to open, or the tag of one to close: depth is up to the document.
    let mut stack: Vec<Result<usize, &str>> =
        doc.kids(ROOT).iter().rev().map(|&kid| Ok(kid)).collect();
    while let Some(step) = stack.pop() {
        let node = match step {
            Err(tag) => {
                end(&mut out, tag);
                continue;
            }
            Ok(at) => doc.nodes.get(at),
        };
        let Some(node) = node else { continue };
        out.push('<');
        out.push_str(&node.tag);
        attribute(&mut out, "id", &node.id);
        attributes(&mut out, &node.attrs);
        out.push('>');
        match &node.content {
            Content::Void if tags::is_unclosed(&node.tag) => {}
            Content::Void => end(&mut out, &node.tag),
            Content::Text(inline) => {
                // The first line feed of a `pre` is no content to a parser.
                let fed = inline.leaves.first().map_or(&inline.tail, |leaf| &leaf.glue);
                if node.tag == "pre" && fed.starts_with('\n') {
                    out.push('\n');
                }
                text(&mut out, inline);
                end(&mut out, &node.tag);
            }
            Content::Blocks => {
                stack.push(Err(&node.tag));
                stack.extend(node.kids.iter().rev().map(|&kid| Ok(kid)));
            }
        }
    }
    out
}

/// Writes text: white space behind what closes and before what opens.
pub(super) fn text(out: &mut String, inline: &Inline) {
    if inline.leaves.iter().all(|leaf| leaf.marks.is_empty()) {
        // Most texts have no tags to put in order.
        for leaf in &inline.leaves {
            escape(out, &leaf.glue);
            item(out, &leaf.item);
        }
        return escape(out, &inline.tail);
    }
    let mut due = inline.leaves.iter().map(|leaf| leaf.glue.as_ref());
    let mut glue = due.next();
    for part in inline.soup() {
        if !matches!(part, Part::Close(_)) {
            escape(out, glue.take().unwrap_or_default());
        }
        match part {
            Part::Open(mark) => start(out, &mark.name, &mark.attrs),
            Part::Close(mark) => end(out, &mark.name),
            Part::Leaf(_, leaf) => {
                item(out, &leaf.item);
                glue = due.next();
            }
        }
    }
    escape(out, &inline.tail);
}

fn item(out: &mut String, item: &Item) {
    match item {
        Item::Text(text, _) => escape(out, text.as_str()),
        Item::Void { tag, attrs, .. } => start(out, tag, attrs),
    }
}

fn start(out: &mut String, tag: &str, attrs: &Attrs) {
    out.push('<');
    out.push_str(tag);
    attributes(out, attrs);
    out.push('>');
}

fn end(out: &mut String, tag: &str) {
    out.push_str("</");
    out.push_str(tag);
    out.push('>');
}

fn attributes(out: &mut String, attrs: &Attrs) {
    for (name, value) in attrs {
        attribute(out, name, value);
    }
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape_but(out, value, b'\0');
    out.push('"');
}

fn escape(out: &mut String, text: &str) {
    escape_but(out, text, b'"');
}

/// Escapes what markup is made of, except for one sign that is none here.
fn escape_but(out: &mut String, text: &str, plain: u8) {
    let special = |byte| matches!(byte, b'&' | b'<' | b'>' | b'"') && byte != plain;
    let mut done = 0;
    while let Some(found) = text.bytes().skip(done).position(special) {
        out.push_str(text.get(done..done + found).unwrap_or_default());
        out.push_str(match text.as_bytes().get(done + found) {
            Some(b'&') => "&amp;",
            Some(b'<') => "&lt;",
            Some(b'>') => "&gt;",
            _ => "&quot;",
        });
        done += found + 1;
    }
    out.push_str(text.get(done..).unwrap_or_default());
}
