//! Reading any text as a document: nothing is an error.
//!
//! Source: specification d.6, d.7 (normalise). The tree is
//! ours, because a browser's tree extends unclosed formatting over what follows and keeps it
//! doubled. Invariant: total, linear but for constants, no recursion; reading what was written
//! gives the same document. Leaves out foreign content (SVG, MathML) and what browsers do to
//! blocks inside tables.

use std::{collections::HashMap, rc::Rc};

use super::{
    attrs::Attrs,
    inline::{Inline, MARKS_MAX, Mark, Marks, Run, effective},
    naming,
    tags::{self, Kind},
    tokens::{Token, Tokens, normal},
    tree::{Content, Doc, Node, ROOT},
};

/// Texts without formatting by what is written: what several versions have is split only once.
pub(super) type Texts = HashMap<String, Rc<Inline>>;

/// Reads a document; blocks more than `depth` deep are taken apart.
pub(super) fn parse(html: &str, depth: usize) -> Doc {
    let mut reader = Reader::new(depth);
    for token in Tokens::new(&normal(html)) {
        reader.token(token);
    }
    reader.finish(inline)
}

/// Reads a document if its blocks are no deeper and no more; stops where it knows that they are.
pub(super) fn parse_within(
    html: &str,
    depth: usize,
    nodes: usize,
    texts: &mut Texts,
) -> Option<Doc> {
    let mut reader = Reader::new(depth);
    for token in Tokens::new(&normal(html)) {
        reader.token(token);
        if reader.cut || reader.doc.nodes.len() > nodes {
            return None;
        }
    }
    Some(reader.finish(|runs, tag| shared(runs, tag, texts)))
}

/// What is not yet known of a node until it ends.
#[derive(Default)]
struct Draft {
    runs: Vec<Run>,
    /// A paragraph that no tag began.
    implicit: bool,
}

struct Reader {
    doc: Doc,
    drafts: Vec<Draft>,
    /// The open blocks from the root in.
    stack: Vec<usize>,
    /// The open paragraph that no tag began, in the innermost block.
    implicit: Option<usize>,
    /// The open marks and how many blocks were open when each began.
    marks: Vec<(Rc<Mark>, usize)>,
    /// What `marks` amounts to, unless it has changed since.
    current: Option<Marks>,
    /// Open blocks beyond the depth that is kept.
    beyond: Vec<String>,
    /// Whether blocks were nested too deep, so that some were taken apart.
    cut: bool,
    depth_max: usize,
}

impl Reader {
    fn new(depth_max: usize) -> Self {
        Self {
            depth_max,
            doc: Doc::new(),
            drafts: vec![Draft::default()],
            stack: vec![ROOT],
            implicit: None,
            marks: Vec::new(),
            current: None,
            beyond: Vec::new(),
            cut: false,
        }
    }

    fn token(&mut self, token: Token<'_>) {
        match token {
            Token::Start(name, id, attrs) => self.start(&name, id, attrs),
            Token::End(name) => self.end(&name),
            Token::Text(text) => self.text(text),
        }
    }

    fn start(&mut self, name: &str, id: Option<String>, attrs: Attrs) {
        let name = tags::canonical(name);
        match tags::kind(name) {
            Kind::Gone | Kind::Ignored => {}
            Kind::Mark => {
                if self.marks.len() < MARKS_MAX {
                    let mark = Mark::new(name.to_owned(), with_id(id, attrs));
                    self.marks.push((Rc::new(mark), self.stack.len()));
                    self.current = None;
                }
            }
            Kind::Leaf => {
                let run = Run::Void(name.to_owned(), with_id(id, attrs), self.marks());
                self.push(run);
            }
            Kind::Void => {
                self.end_text();
                self.add(name, id, attrs, false);
            }
            kind => self.start_block(name, id, attrs, kind),
        }
    }

    fn start_block(&mut self, name: &str, id: Option<String>, attrs: Attrs, kind: Kind) {
        self.end_text();
        self.end_implied(name);
        // One level more for text, so that what is wrapped into a paragraph is read again.
        let room = if kind == Kind::Text { self.depth_max + 1 } else { self.depth_max };
        if self.stack.len() > room {
            self.cut = true;
            self.beyond.push(name.to_owned());
            self.text(String::from(" "));
            return;
        }
        let at = self.add(name, id, attrs, false);
        self.stack.push(at);
    }

    fn end(&mut self, name: &str) {
        let name = tags::canonical(name);
        match tags::kind(name) {
            Kind::Mark => {
                if let Some(at) = self.marks.iter().rposition(|(mark, _)| mark.name == name) {
                    self.marks.remove(at);
                    self.current = None;
                }
            }
            Kind::Gone | Kind::Ignored | Kind::Leaf | Kind::Void => {}
            Kind::Text | Kind::Flexible | Kind::Container => {
                if self.beyond.last().is_some_and(|last| last == name) {
                    self.beyond.pop();
                    self.text(String::from(" "));
                } else if let Some(at) = self.open(|tag| tag == name, |tag| fences(tag, name)) {
                    self.end_to(at);
                }
            }
        }
    }

    /// The place of the innermost open block that `is`, not looking beyond one that `fences`.
    fn open(&self, is: impl Fn(&str) -> bool, fences: impl Fn(&str) -> bool) -> Option<usize> {
        for (place, &at) in self.stack.iter().enumerate().skip(1).rev() {
            let tag = &self.doc.nodes.get(at)?.tag;
            if is(tag) {
                return Some(place);
            }
            if fences(tag) {
                return None;
            }
        }
        None
    }

    fn end_implied(&mut self, name: &str) {
        let (ended, fences) = tags::ends(name);
        if ended.is_empty() {
            return;
        }
        if let Some(at) = self.open(|tag| ended.contains(&tag), |tag| fences.contains(&tag)) {
            self.end_to(at);
        }
    }

    /// Ends the text that cannot hold the block which comes.
    fn end_text(&mut self) {
        self.implicit = None;
        let top = self.stack.last().and_then(|&at| self.doc.nodes.get(at));
        if top.is_some_and(|node| tags::kind(&node.tag) == Kind::Text) {
            self.end_to(self.stack.len() - 1);
        }
    }

    /// Ends the open blocks from this place of the stack on, and the marks that began in them.
    fn end_to(&mut self, place: usize) {
        self.implicit = None;
        self.beyond.clear();
        self.stack.truncate(place.max(1));
        let (marks, depth) = (self.marks.len(), self.stack.len());
        self.marks.retain(|&(_, began)| began <= depth);
        if self.marks.len() < marks {
            self.current = None;
        }
    }

    fn text(&mut self, text: String) {
        let marks = self.marks();
        self.push(Run::Text(text, marks));
    }

    fn marks(&mut self) -> Marks {
        let open = &self.marks;
        Rc::clone(self.current.get_or_insert_with(|| effective(open.iter().map(|(mark, _)| mark))))
    }

    /// Adds to the text that is open, or begins a paragraph for it.
    fn push(&mut self, run: Run) {
        let top = self.stack.last().copied().unwrap_or(ROOT);
        let is_text =
            self.doc.nodes.get(top).is_some_and(|node| tags::kind(&node.tag) == Kind::Text);
        let target = if is_text {
            top
        } else if let Some(at) = self.implicit {
            at
        } else {
            if matches!(&run, Run::Text(text, _) if text.chars().all(crate::text::is_white)) {
                return;
            }
            let at = self.add("p", None, Attrs::new(), true);
            self.implicit = Some(at);
            at
        };
        let Some(draft) = self.drafts.get_mut(target) else { return };
        // One run for what looks the same, so that tags without effect do not cut a word in two.
        match (draft.runs.last_mut(), run) {
            (Some(Run::Text(last, before)), Run::Text(text, marks)) if *before == marks => {
                last.push_str(&text);
            }
            (_, run) => draft.runs.push(run),
        }
    }

    fn add(&mut self, tag: &str, id: Option<String>, attrs: Attrs, implicit: bool) -> usize {
        let parent = self.stack.last().copied().unwrap_or(ROOT);
        let id = id.unwrap_or_default();
        let at = self.doc.add(Node {
            id,
            tag: tag.to_owned(),
            attrs,
            parent,
            kids: Vec::new(),
            content: Content::Blocks,
        });
        self.drafts.push(Draft { runs: Vec::new(), implicit });
        if let Some(node) = self.doc.nodes.get_mut(parent) {
            node.kids.push(at);
        }
        at
    }

    /// `inline` makes the content of a block of text.
    fn finish(mut self, mut inline: impl FnMut(Vec<Run>, &str) -> Rc<Inline>) -> Doc {
        self.take_up_paragraphs();
        for (node, draft) in self.doc.nodes.iter_mut().zip(self.drafts) {
            node.content = match tags::kind(&node.tag) {
                Kind::Void => Content::Void,
                Kind::Text => Content::Text(inline(draft.runs, &node.tag)),
                Kind::Flexible if node.kids.is_empty() => {
                    Content::Text(inline(draft.runs, &node.tag))
                }
                _ => Content::Blocks,
            };
        }
        naming::name(&mut self.doc);
        self.doc
    }

    /// A block that holds nothing but text holds it itself.
    fn take_up_paragraphs(&mut self) {
        for at in 0..self.doc.nodes.len() {
            let Some(node) = self.doc.nodes.get(at) else { continue };
            let (Kind::Flexible, &[kid]) = (tags::kind(&node.tag), node.kids.as_slice()) else {
                continue;
            };
            let Some(draft) = self.drafts.get_mut(kid).filter(|draft| draft.implicit) else {
                continue;
            };
            let runs = std::mem::take(&mut draft.runs);
            if let (Some(draft), Some(node)) = (self.drafts.get_mut(at), self.doc.nodes.get_mut(at))
            {
                draft.runs = runs;
                node.kids.clear();
            }
        }
    }
}

/// All attributes of an element that is no block: its id is one of them.
fn with_id(id: Option<String>, mut attrs: Attrs) -> Attrs {
    if let Some(id) = id {
        attrs.insert(String::from("id"), id);
    }
    attrs
}

/// A cell of a table keeps an end tag inside from reaching out of it.
fn fences(tag: &str, name: &str) -> bool {
    matches!(tag, "td" | "th" | "caption" | "table")
        && !(name == "table" || tags::is_cell(name) || tags::is_table_part(name))
}

/// As [`inline`]: one content for all blocks that say the same.
fn shared(mut runs: Vec<Run>, tag: &str, texts: &mut Texts) -> Rc<Inline> {
    match runs.as_mut_slice() {
        [Run::Text(text, marks)] if marks.is_empty() && tag != "pre" => {
            if let Some(known) = texts.get(text.as_str()) {
                return Rc::clone(known);
            }
            let text = text.clone();
            let new = inline(runs, tag);
            texts.insert(text, Rc::clone(&new));
            new
        }
        _ => inline(runs, tag),
    }
}

fn inline(mut runs: Vec<Run>, tag: &str) -> Rc<Inline> {
    if tag == "pre"
        && let Some(Run::Text(text, _)) = runs.first_mut()
        && text.starts_with('\n')
    {
        text.remove(0);
    }
    Rc::new(Inline::from_runs(runs, tag == "pre"))
}
