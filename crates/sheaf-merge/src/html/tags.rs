//! What each element is: the per-tag rules of specification d.7, as data.
//!
//! Invariant: total: a name that is not listed is a container. Leaves out behaviour.

/// How an element takes part in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Formatting of text: a set of marks on every leaf.
    Mark,
    /// Stands in text like a word, and has no content.
    Leaf,
    /// A block without content.
    Void,
    /// A block that holds text only.
    Text,
    /// A block that holds either text or blocks.
    Flexible,
    /// A block that holds blocks.
    Container,
    /// Gone with all it holds: no part of a document's text.
    Gone,
    /// Gone, but what it holds stays.
    Ignored,
}

/// Marks that do not grow when text is typed at their end (H10).
pub(super) fn expands(mark: &str) -> bool {
    !matches!(mark, "a" | "code")
}

/// The mark of which a leaf has one only: links do not nest (H06).
pub(super) fn is_exclusive(mark: &str) -> bool {
    mark == "a"
}

/// Elements whose text the tokenizer takes as it is written become `pre`, which is not such one:
/// else what is written in them would be read differently.
pub(super) fn canonical(tag: &str) -> &str {
    match tag {
        "textarea" | "xmp" | "plaintext" | "listing" => "pre",
        _ => tag,
    }
}

pub(super) fn kind(tag: &str) -> Kind {
    match tag {
        "a" | "abbr" | "b" | "bdi" | "bdo" | "big" | "cite" | "code" | "data" | "del" | "dfn"
        | "em" | "font" | "i" | "ins" | "kbd" | "label" | "mark" | "nobr" | "q" | "s" | "samp"
        | "small" | "span" | "strike" | "strong" | "sub" | "sup" | "time" | "tt" | "u" | "var" => {
            Kind::Mark
        }
        "br" | "img" | "input" | "wbr" => Kind::Leaf,
        "area" | "col" | "embed" | "hr" | "iframe" | "source" | "track" => Kind::Void,
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "pre" => Kind::Text,
        "address" | "blockquote" | "caption" | "dd" | "dt" | "figcaption" | "li" | "summary"
        | "td" | "th" => Kind::Flexible,
        "noembed" | "noframes" | "noscript" | "script" | "style" | "title" => Kind::Gone,
        "base" | "basefont" | "bgsound" | "frame" | "frameset" | "head" | "html" | "image"
        | "keygen" | "link" | "meta" | "param" => Kind::Ignored,
        _ if is_name(tag) => Kind::Container,
        _ => Kind::Ignored,
    }
}

/// Whether a block is written without an end tag.
pub(super) fn is_unclosed(tag: &str) -> bool {
    kind(tag) == Kind::Leaf || kind(tag) == Kind::Void && tag != "iframe"
}

fn is_name(tag: &str) -> bool {
    tag.starts_with(|first: char| first.is_ascii_lowercase())
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'_'))
}

/// Whether an attribute can be written so that every parser reads the same.
pub(super) fn is_attribute(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '_' | ':' | '@'))
        && name.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'_' | b'.' | b'@')
        })
}

pub(super) fn is_list(tag: &str) -> bool {
    matches!(tag, "ul" | "ol" | "menu")
}

pub(super) fn is_cell(tag: &str) -> bool {
    matches!(tag, "td" | "th")
}

pub(super) fn is_row_group(tag: &str) -> bool {
    matches!(tag, "tbody" | "thead" | "tfoot")
}

/// What may stand in a table beside rows and their groups.
pub(super) fn is_table_part(tag: &str) -> bool {
    is_row_group(tag) || matches!(tag, "tr" | "caption" | "colgroup")
}

/// The open elements that a start tag of this name ends, and those beyond which it does not look.
pub(super) fn ends(tag: &str) -> (&'static [&'static str], &'static [&'static str]) {
    const GROUPS: &[&str] = &["caption", "colgroup", "tbody", "tfoot", "thead"];
    match tag {
        "li" => (&["li"], &["blockquote", "menu", "ol", "table", "td", "th", "ul"]),
        "dt" | "dd" => (&["dd", "dt"], &["blockquote", "dl", "table", "td", "th"]),
        "td" | "th" => (&["td", "th"], &["table", "tr"]),
        "tr" => (&["tr"], &["table", "tbody", "tfoot", "thead"]),
        "caption" | "colgroup" | "tbody" | "tfoot" | "thead" => (GROUPS, &["table"]),
        _ => (&[], &[]),
    }
}
