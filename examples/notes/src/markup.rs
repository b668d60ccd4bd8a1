//! Rich text: the html that the merge rule wants, and the light markup that people type.
//!
//! Invariant: pure and total; a paragraph keeps its id for as long as it is edited in place, because
//! the merge knows paragraphs by their ids. Reads what the merge rule writes, and of other html the
//! text; writes `p`, `h2`, `b`, `i` and `code` alone, so lists and tables of others become
//! paragraphs once they are edited here.

/// One thing that a style says.
type Part = fn(&mut Style) -> &mut bool;

/// Marks that people type, longest first, because `**` begins with `*`.
const MARKS: [(&str, Part); 3] =
    [("**", |style| &mut style.bold), ("*", |style| &mut style.italic), ("`", |s| &mut s.code)];
/// What begins a heading.
const HEADING: &str = "# ";

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) bold: bool,
    pub(crate) italic: bool,
    pub(crate) code: bool,
}

/// Text that looks the same throughout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// A paragraph or a heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: Option<String>,
    pub(crate) is_heading: bool,
    pub(crate) spans: Vec<Span>,
}

impl Block {
    fn push(&mut self, text: &str, style: Style) {
        match self.spans.last_mut() {
            Some(last) if last.style == style => last.text.push_str(text),
            _ if text.is_empty() => {}
            _ => self.spans.push(Span { text: text.to_owned(), style }),
        }
    }

    /// Whether both say the same, whatever their ids.
    fn says(&self, other: &Self) -> bool {
        (self.is_heading, &self.spans) == (other.is_heading, &other.spans)
    }
}

/// Reads html.
pub(crate) fn from_html(html: &str) -> Vec<Block> {
    let mut reader = Reader::default();
    let mut rest = html;
    while let Some((text, tail)) = rest.split_once('<') {
        reader.text(text);
        match Tag::read(tail) {
            Some((tag, after)) => {
                reader.tag(&tag);
                rest = after;
            }
            None => {
                reader.text("<");
                rest = tail;
            }
        }
    }
    reader.text(rest);
    reader.close();
    reader.blocks
}

/// Writes html. Blocks without an id have none there either.
pub(crate) fn to_html(blocks: &[Block]) -> String {
    let mut html = String::new();
    for block in blocks {
        let tag = if block.is_heading { "h2" } else { "p" };
        let id = block.id.as_deref().map(|id| format!(" id=\"{}\"", escape(id)));
        html.push_str(&format!("<{tag}{}>", id.unwrap_or_default()));
        for Span { text, style } in &block.spans {
            let marks = [(style.bold, "b"), (style.italic, "i"), (style.code, "code")];
            let worn = marks.iter().filter(|(is_worn, _)| *is_worn).map(|(_, mark)| mark);
            worn.clone().for_each(|mark| html.push_str(&format!("<{mark}>")));
            html.push_str(&escape(text));
            worn.rev().for_each(|mark| html.push_str(&format!("</{mark}>")));
        }
        html.push_str(&format!("</{tag}>"));
    }
    html
}

/// What people see when they edit: a line per block.
pub(crate) fn to_markup(blocks: &[Block]) -> String {
    blocks.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads what people typed. White space at the end of a line is none of the text.
pub(crate) fn from_markup(text: &str) -> Vec<Block> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split('\n').map(|line| read_line(line.trim_end())).collect()
}

/// Gives the blocks of a text that was edited the ids that they had, and new ones where there was
/// none. What is alike at both ends keeps its ids; between, one block after another.
pub(crate) fn carry_ids(old: &[Block], new: &mut [Block], mut fresh: impl FnMut() -> String) {
    let ahead = old.iter().zip(new.iter()).take_while(|(a, b)| a.says(b)).count();
    let most = old.len().min(new.len()) - ahead;
    let pairs = old.iter().rev().zip(new.iter().rev());
    let behind = pairs.take(most).take_while(|(a, b)| a.says(b)).count();
    let new_len = new.len();
    let changed = new_len - ahead - behind;
    for (at, block) in new.iter_mut().enumerate() {
        let from = if at < ahead {
            old.get(at)
        } else if at >= ahead + changed {
            old.get(old.len() + at - new_len)
        } else {
            old.get(at).filter(|_| at < old.len() - behind)
        };
        block.id = from.and_then(|block| block.id.clone()).or_else(|| Some(fresh()));
    }
}

fn line(block: &Block) -> String {
    let plain = spell(block, str::to_owned);
    if read_line(&plain).says(block) {
        return plain;
    }
    // Something in the text would be read as a mark.
    spell(block, |text| {
        let mut escaped = String::new();
        for char in text.chars() {
            if is_special(char) {
                escaped.push('\\');
            }
            escaped.push(char);
        }
        escaped
    })
}

fn is_special(char: char) -> bool {
    matches!(char, '\\' | '*' | '`' | '#')
}

fn spell(block: &Block, text_of: impl Fn(&str) -> String) -> String {
    let mut line = String::from(if block.is_heading { HEADING } else { "" });
    let mut before = Style::default();
    for span in &block.spans {
        line.push_str(&turns(before, span.style));
        line.push_str(&text_of(&span.text));
        before = span.style;
    }
    line + &turns(before, Style::default())
}

/// The marks that lead from one style to another: each turns one thing on or off.
fn turns(mut from: Style, mut to: Style) -> String {
    let turned = MARKS.iter().filter(|(_, part)| *part(&mut from) != *part(&mut to));
    turned.map(|(mark, _)| *mark).collect()
}

fn read_line(line: &str) -> Block {
    let (is_heading, mut rest) = match line.strip_prefix(HEADING) {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let mut block = Block { is_heading, ..Block::default() };
    let mut style = Style::default();
    while let Some(char) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix('\\')
            && let Some(escaped) = after.chars().next().filter(|char| is_special(*char))
        {
            block.push(escaped.encode_utf8(&mut [0; 4]), style);
            rest = after.get(escaped.len_utf8()..).unwrap_or_default();
        } else if let Some((after, part)) = turn(rest, style) {
            *part(&mut style) ^= true;
            rest = after;
        } else {
            block.push(char.encode_utf8(&mut [0; 4]), style);
            rest = rest.get(char.len_utf8()..).unwrap_or_default();
        }
    }
    block
}

/// The mark that stands here, if it is one: it ends what is on, or something ends what it begins.
fn turn(rest: &str, mut style: Style) -> Option<(&str, Part)> {
    MARKS.iter().find_map(|(mark, part)| {
        let after = rest.strip_prefix(mark)?;
        let is_literal = style.code && *mark != "`";
        let ends = *part(&mut style) || after.find(mark).is_some_and(|at| at > 0);
        (ends && !is_literal).then_some((after, *part))
    })
}

/// A tag of html: its name, whether it ends, its id.
struct Tag<'a> {
    name: &'a str,
    is_end: bool,
    id: Option<String>,
}

impl<'a> Tag<'a> {
    /// Reads what follows `<`; `None` if that is no tag.
    fn read(text: &'a str) -> Option<(Self, &'a str)> {
        let mut quote = None;
        let end = text.find(|char| match (quote, char) {
            (None, '"' | '\'') => {
                quote = Some(char);
                false
            }
            (None, '>') => true,
            (Some(open), _) if open == char => {
                quote = None;
                false
            }
            _ => false,
        })?;
        let (inside, after) = (text.get(..end)?, text.get(end + 1..)?);
        let (is_end, inside) = match inside.strip_prefix('/') {
            Some(inside) => (true, inside),
            None => (false, inside),
        };
        let length = inside.find(|char: char| !char.is_ascii_alphanumeric());
        let (name, attrs) = inside.split_at(length.unwrap_or(inside.len()));
        if !name.starts_with(|char: char| char.is_ascii_alphabetic()) {
            return None;
        }
        let id = attrs.split_once(" id=\"").and_then(|(_, rest)| rest.split_once('"'));
        let id = id.map(|(id, _)| unescape(id));
        Some((Self { name, is_end, id }, after))
    }
}

#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    open: Option<Block>,
    /// Whether the open block stays without text: an empty line.
    is_line: bool,
    style: Style,
}

impl Reader {
    fn text(&mut self, text: &str) {
        if self.open.is_none() && text.trim().is_empty() {
            return;
        }
        let text = unescape(text).replace(['\n', '\r', '\t'], " ");
        let style = self.style;
        self.open.get_or_insert_default().push(&text, style);
    }

    fn tag(&mut self, tag: &Tag<'_>) {
        match tag.name {
            "b" | "strong" => self.style.bold = !tag.is_end,
            "i" | "em" => self.style.italic = !tag.is_end,
            "code" => self.style.code = !tag.is_end,
            "br" => self.text(" "),
            "a" | "s" | "u" | "span" | "sub" | "sup" | "small" | "img" | "wbr" => {}
            _ if tag.is_end => self.close(),
            name => {
                self.close();
                let is_heading = matches!(name, "h1" | "h2" | "h3" | "h4" | "h5" | "h6");
                self.is_line = is_heading || name == "p";
                self.open = Some(Block { id: tag.id.clone(), is_heading, spans: Vec::new() });
            }
        }
    }

    fn close(&mut self) {
        let is_line = std::mem::take(&mut self.is_line);
        self.style = Style::default();
        let block = self.open.take().filter(|block| is_line || !block.spans.is_empty());
        self.blocks.extend(block);
    }
}

const ENTITIES: [(&str, char); 6] = [
    ("amp;", '&'),
    ("lt;", '<'),
    ("gt;", '>'),
    ("quot;", '"'),
    ("#39;", '\''),
    ("nbsp;", '\u{a0}'),
];

fn unescape(text: &str) -> String {
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = ENTITIES.iter().find_map(|(name, char)| Some((part.strip_prefix(name)?, char)));
        match known {
            Some((rest, char)) => {
                plain.push(*char);
                plain.push_str(rest);
            }
            None => {
                plain.push('&');
                plain.push_str(part);
            }
        }
    }
    plain
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_shown_again() {
        for text in [
            "plain",
            "a **bold** word",
            "*soft* and **loud** and ***both***",
            "# A heading\n\nand `code * 2`",
            "2 * 3 * 4 has no marks?",
            "an open **mark",
            "a < b & c > \"d\"",
            "\\*no mark\\*",
        ] {
            let blocks = from_markup(text);
            let again = from_html(&to_html(&blocks));
            assert_eq!(again, blocks, "{text}");
            assert_eq!(from_markup(&to_markup(&again)), blocks, "{text}");
        }
        assert_eq!(to_html(&from_markup("a **b**")), "<p>a <b>b</b></p>");
        assert_eq!(to_markup(&from_html("<p>1 *x* 2</p>")), "1 \\*x\\* 2");
    }

    #[test]
    fn html_of_others_is_read_for_its_text() {
        let blocks = from_html("<ul id=\"u\"><li id=\"l\">one</li></ul>two<img src='>'> <3 &x");
        let texts: Vec<String> =
            blocks.iter().map(|block| to_markup(std::slice::from_ref(block))).collect();
        assert_eq!(texts, ["one", "two <3 &x"]);
        assert_eq!(blocks[0].id.as_deref(), Some("l"));
        for odd in ["<", "</", "<p", "<p id=\"", "&", "</p></p>", "<b>x"] {
            from_html(odd);
        }
    }

    #[test]
    fn paragraphs_keep_their_ids() {
        let ids = |before: &str, after: &str| {
            let mut old = from_markup(before);
            let mut number = 0;
            carry_ids(&[], &mut old, || {
                number += 1;
                number.to_string()
            });
            let mut new = from_markup(after);
            carry_ids(&old, &mut new, || "new".to_owned());
            new.into_iter().map(|block| block.id.unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ids("a\nb\nc", "a\nbx\nc"), "1 2 3");
        assert_eq!(ids("a\nb\nc", "a\nb\nnew\nc"), "1 2 new 3");
        assert_eq!(ids("a\nlong line\nc", "a\nlong\nline\nc"), "1 2 new 3");
        assert_eq!(ids("a\nb\nc", "a\nc"), "1 3");
        assert_eq!(ids("a\nb\nc", "ab\nc"), "1 3");
        assert_eq!(ids("a\na", "a\na\na"), "1 2 new");
        assert_eq!(ids("", "x"), "new");
    }
}
