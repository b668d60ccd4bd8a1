//! Making a document one that HTML allows.
//!
//! Source: specification d.7 (repair). Invariant: total; nothing is lost; a document that is right
//! already stays as it is, so that repairing twice is repairing once. Beyond the specification:
//! what may not stand in a list, a table or a row is wrapped, and terms get their list, because a
//! parser would put them elsewhere.

use std::rc::Rc;

use super::{
    attrs::Attrs,
    tags::{self, Kind},
    tree::{Content, Doc, Names, Node, ROOT},
};

/// Cells with which the rows of all tables of a document are filled up, at most: where more are
/// missing all stay ragged, because a table that is filled up later would not be the same.
pub(super) const PAD_CELLS_MAX: usize = 4_096;

/// Repairs a document.
pub(super) fn repair(doc: &mut Doc) {
    let mut repair = Repair { names: None, doc };
    // Ids are distinct, but for those of paragraphs that were taken up into their block. They have
    // none, and are nowhere in the tree: all that their names could do is to take one like theirs.
    if repair.doc.nodes.iter().any(|node| node.id.starts_with('~')) {
        repair.name();
    }
    for at in 1..repair.doc.nodes.len() {
        repair.fit(at);
    }
    let mut work = vec![ROOT];
    while let Some(at) = work.pop() {
        repair.place_kids(at);
        work.extend(repair.doc.kids(at));
    }
    repair.fill_tables();
}

struct Repair<'a> {
    doc: &'a mut Doc,
    /// The ids in use, once they are asked for.
    names: Option<Names>,
}

impl Repair<'_> {
    /// The ids in use.
    fn name(&mut self) -> &mut Names {
        self.names.get_or_insert_with(|| {
            let mut names = Names::default();
            for node in self.doc.nodes.iter_mut().skip(1) {
                names.keep(&mut node.id);
            }
            names
        })
    }

    /// Makes element and content fit each other.
    fn fit(&mut self, at: usize) {
        let Some(node) = self.doc.nodes.get_mut(at) else { return };
        let kind = tags::kind(&node.tag);
        let has_kids = !node.kids.is_empty();
        let text = match std::mem::replace(&mut node.content, Content::Blocks) {
            Content::Text(inline) => Some(inline),
            Content::Blocks | Content::Void => None,
        };
        let empty = text.as_ref().is_none_or(|text| text.leaves.is_empty());
        match kind {
            // White space alone counts in `pre`, so its text is kept as it is.
            Kind::Text | Kind::Flexible if !has_kids => {
                let mut inline = text.unwrap_or_default();
                let pre = node.tag == "pre";
                if !inline.fits(pre) {
                    Rc::make_mut(&mut inline).fit(pre);
                }
                node.content = Content::Text(inline);
                return;
            }
            Kind::Void if !has_kids && empty => {
                node.content = Content::Void;
                return;
            }
            Kind::Container | Kind::Flexible => {}
            _ => "div".clone_into(&mut node.tag),
        }
        if let Some(mut inline) = text.filter(|_| !empty) {
            Rc::make_mut(&mut inline).fit(false);
            let paragraph = self.wrapper("p", at, at, Content::Text(inline));
            if let Some(node) = self.doc.nodes.get_mut(at) {
                node.kids.insert(0, paragraph);
            }
        }
    }

    /// A new node below `parent`, named after the node it is there for.
    fn wrapper(&mut self, tag: &str, parent: usize, first: usize, content: Content) -> usize {
        let id = format!("w:{}", self.id(first));
        self.add(tag, parent, &id, content)
    }

    fn add(&mut self, tag: &str, parent: usize, id: &str, content: Content) -> usize {
        let id = self.name().take(id);
        let (tag, attrs, kids) = (tag.to_owned(), Attrs::new(), Vec::new());
        self.doc.add(Node { id, tag, attrs, parent, kids, content })
    }

    fn id(&self, at: usize) -> &str {
        self.doc.nodes.get(at).map_or("", |node| node.id.as_str())
    }

    fn tag(&self, at: usize) -> &str {
        self.doc.nodes.get(at).map_or("", |node| node.tag.as_str())
    }

    /// Puts what may not stand below a node into what may.
    fn place_kids(&mut self, at: usize) {
        let parent = self.tag(at).to_owned();
        let kids = self.doc.kids(at).to_vec();
        let mut placed = Vec::with_capacity(kids.len());
        let mut last: Option<(Wrap, usize)> = None;
        for kid in kids {
            let wrap = wrap(&parent, self.tag(kid));
            let Some(Wrap { tag, shared }) = wrap else {
                self.unmake_cell(kid, &parent);
                placed.push(kid);
                last = None;
                continue;
            };
            let target = match &last {
                Some((before, target)) if shared && before.tag == tag => *target,
                _ => {
                    let target = self.wrapper(tag, at, kid, Content::Blocks);
                    placed.push(target);
                    target
                }
            };
            last = Some((Wrap { tag, shared }, target));
            if let Some(node) = self.doc.nodes.get_mut(kid) {
                node.parent = target;
            }
            if let Some(node) = self.doc.nodes.get_mut(target) {
                node.kids.push(kid);
            }
        }
        if let Some(node) = self.doc.nodes.get_mut(at) {
            node.kids = placed;
        }
    }

    /// A cell outside a row is an ordinary block.
    fn unmake_cell(&mut self, at: usize, parent: &str) {
        if let Some(node) = self.doc.nodes.get_mut(at)
            && tags::is_cell(&node.tag)
            && parent != "tr"
        {
            let tag = if matches!(node.content, Content::Text(_)) { "p" } else { "div" };
            tag.clone_into(&mut node.tag);
        }
    }

    /// Gives all rows of a table as many cells, unless cells span several.
    fn fill_tables(&mut self) {
        // Rows that are too short, how many cells they have, and how many they should have.
        let mut short: Vec<(usize, usize, usize)> = Vec::new();
        let mut missing = 0;
        for at in (1..self.doc.nodes.len()).filter(|&at| self.tag(at) == "table") {
            let rows = self.rows(at);
            if rows.iter().any(|&row| self.doc.kids(row).iter().any(|&cell| self.spans(cell))) {
                continue;
            }
            let have = |row: &usize| self.doc.kids(*row).len();
            let width = rows.iter().map(have).max().unwrap_or(0);
            for row in rows {
                let have = self.doc.kids(row).len();
                if have < width {
                    short.push((row, have, width));
                    missing += width - have;
                }
            }
        }
        if missing > PAD_CELLS_MAX {
            return;
        }
        for (row, have, width) in short {
            for index in have..width {
                self.pad(row, index);
            }
        }
    }

    fn rows(&self, table: usize) -> Vec<usize> {
        let mut rows = Vec::new();
        for &kid in self.doc.kids(table) {
            let group = if tags::is_row_group(self.tag(kid)) { self.doc.kids(kid) } else { &[] };
            rows.extend([kid].iter().chain(group).filter(|&&row| self.tag(row) == "tr"));
        }
        rows
    }

    fn spans(&self, cell: usize) -> bool {
        let attrs = self.doc.nodes.get(cell).map(|node| &node.attrs);
        attrs.is_some_and(|a| a.contains_key("colspan") || a.contains_key("rowspan"))
    }

    fn pad(&mut self, row: usize, index: usize) {
        let id = format!("w:{}.{index}", self.id(row));
        let cell = self.add("td", row, &id, Content::Text(Rc::default()));
        if let Some(node) = self.doc.nodes.get_mut(row) {
            node.kids.push(cell);
        }
    }
}

/// What a node has to be put into.
struct Wrap {
    tag: &'static str,
    /// Together with its neighbours.
    shared: bool,
}

fn wrap(parent: &str, kid: &str) -> Option<Wrap> {
    let alone = |tag| Some(Wrap { tag, shared: false });
    let shared = |tag| Some(Wrap { tag, shared: true });
    match parent {
        _ if tags::is_list(parent) => {
            if kid == "li" {
                None
            } else {
                alone("li")
            }
        }
        "tr" => {
            if tags::is_cell(kid) {
                None
            } else {
                alone("td")
            }
        }
        "table" => {
            if tags::is_table_part(kid) || kid == "col" {
                None
            } else {
                shared("tr")
            }
        }
        _ if tags::is_row_group(parent) => {
            if kid == "tr" {
                None
            } else {
                shared("tr")
            }
        }
        _ if kid == "li" => shared("ul"),
        _ if tags::is_table_part(kid) => shared("table"),
        "dl" => None,
        _ if matches!(kid, "dt" | "dd") => shared("dl"),
        _ => None,
    }
}
