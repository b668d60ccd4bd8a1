//! Pages that several people write at once: documents of blocks with ids, with marks in their text.
//!
//! Invariant: the model keeps which blocks are there and which words are in them, never what the
//! merge makes of a document: a block that anybody took away is gone with all its words, every
//! other word that somebody put is there once, and the outcome is well-formed in every order.
//! Blocks and words are never used twice. A word is taken out only of a block in which one device
//! alone writes, because a text has no identities (see [`super::together`]). Leaves out where
//! blocks and words stand, and which marks are left.

use std::{fmt::Write as _, ops::Range};

use rusqlite::{Connection, params};

use super::{Author, Step, has_table};

/// Pages.
const PAGES: u64 = 2;
/// What every page begins with: a paragraph, and an item so that the list is never empty.
const BLOCKS: &str = "<p id=\"top\">top</p><ul id=\"list\"><li id=\"item\">item</li></ul>";
/// Blocks that nobody takes away.
const STAY: [&str; 2] = ["top", "item"];
/// What the id of a block begins with in which its author alone writes.
const OWN: &str = "own";

const PAGES_OF_PEOPLE: &str = "CREATE TABLE page(id TEXT PRIMARY KEY NOT NULL, body HTML_TEXT)";
const PAGES_OF_MODEL: &str = "
CREATE TABLE block(id TEXT NOT NULL, page TEXT NOT NULL, PRIMARY KEY(page, id));
CREATE TABLE said(word TEXT NOT NULL, block TEXT NOT NULL, page TEXT NOT NULL,
    PRIMARY KEY(page, block, word), FOREIGN KEY(page, block) REFERENCES block(page, id)
    ON DELETE CASCADE);
";

/// What somebody means to do with a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wrote {
    /// A new block with its id for a word, before another one or at the end.
    Block { id: String, at: u64 },
    /// A block goes.
    Unblock { id: String },
    /// A block is carried before another one of its kind.
    Carry { id: String, at: u64 },
    /// A new word in a block, with a mark or without.
    Word { id: String, word: String, mark: Option<&'static str>, at: u64 },
    /// A word is taken out.
    Strike { id: String, word: String },
}

/// The tables, as people or as the model have them.
pub(super) fn found(conn: &Connection, model: bool) -> rusqlite::Result<()> {
    conn.execute_batch(if model { PAGES_OF_MODEL } else { PAGES_OF_PEOPLE })?;
    for page in (0..PAGES).map(name) {
        if !model {
            conn.execute("INSERT INTO page VALUES (?1, ?2)", [&*page, BLOCKS])?;
            continue;
        }
        for id in STAY {
            conn.execute("INSERT INTO block VALUES (?1, ?2)", [id, &page])?;
            conn.execute("INSERT INTO said VALUES (?1, ?1, ?2)", [id, &page])?;
        }
    }
    Ok(())
}

fn name(page: u64) -> String {
    format!("h{page}")
}

impl Wrote {
    /// What the model keeps of it.
    pub(super) fn mean(&self, conn: &Connection, page: &str) -> rusqlite::Result<()> {
        let one = |sql: &str, args: &[&str]| {
            conn.execute(sql, rusqlite::params_from_iter(args)).map(drop)
        };
        // What was put into a block that has gone is gone with it.
        let says = "INSERT INTO said SELECT ?1, id, page FROM block WHERE id = ?2 AND page = ?3";
        match self {
            Self::Block { id, .. } => {
                one("INSERT INTO block VALUES (?1, ?2)", &[id, page])?;
                one(says, &[id, id, page])
            }
            Self::Unblock { id } => {
                one("DELETE FROM block WHERE id = ?1 AND page = ?2", &[id, page])
            }
            Self::Carry { .. } => Ok(()),
            Self::Word { id, word, .. } => one(says, &[word, id, page]),
            Self::Strike { id, word } => {
                let sql = "DELETE FROM said WHERE word = ?1 AND block = ?2 AND page = ?3";
                one(sql, &[word, id, page])
            }
        }
    }

    /// Does it, as an editor would that knows nothing of merging.
    pub(super) fn write(&self, conn: &Connection, page: &str) -> rusqlite::Result<()> {
        let body = self.changed(body(conn, page)?);
        conn.execute("UPDATE page SET body = ?2 WHERE id = ?1", params![page, body]).map(drop)
    }

    /// A document with the change made.
    fn changed(&self, mut body: String) -> String {
        let known = blocks(&body);
        let of = |id: &String| known.iter().find(|block| block.id == *id);
        let pick = |at: u64, len: usize| usize::try_from(at % (len as u64).max(1)).unwrap_or(0);
        match self {
            Self::Block { id, at } => match known.get(pick(*at, known.len() + 1)) {
                Some(Block { tag, whole, .. }) => {
                    body.insert_str(whole.start, &format!("<{tag} id=\"{id}\">{id}</{tag}>"));
                }
                None => body.push_str(&format!("<p id=\"{id}\">{id}</p>")),
            },
            Self::Unblock { id } => {
                if let Some(block) = of(id) {
                    body.replace_range(block.whole.clone(), "");
                }
            }
            Self::Carry { id, at } => {
                let Some(block) = of(id) else { return body };
                let alike: Vec<&Block> =
                    known.iter().filter(|other| other.tag == block.tag).collect();
                let Some(to) = alike.get(pick(*at, alike.len())).map(|to| to.whole.start) else {
                    return body;
                };
                let (from, text) = (block.whole.clone(), body[block.whole.clone()].to_owned());
                if to > from.start {
                    body.insert_str(to, &text);
                    body.replace_range(from, "");
                } else {
                    body.replace_range(from, "");
                    body.insert_str(to, &text);
                }
            }
            Self::Word { id, word, mark, at } => {
                let Some(block) = of(id) else { return body };
                let mut words: Vec<&str> = body[block.text.clone()].split(' ').collect();
                let word = mark.map_or_else(|| word.clone(), |m| format!("<{m}>{word}</{m}>"));
                words.insert(pick(*at, words.len() + 1), &word);
                let text = words.join(" ");
                body.replace_range(block.text.clone(), &text);
            }
            Self::Strike { id, word } => {
                let Some(block) = of(id) else { return body };
                let text = without(&body[block.text.clone()], word);
                body.replace_range(block.text.clone(), &text);
            }
        }
        body
    }
}

/// A text without a word; the tags around it stay.
fn without(text: &str, word: &str) -> String {
    let is_in_word = |c: char| c.is_ascii_alphanumeric();
    let is_whole = |at: usize| {
        !text[..at].ends_with(is_in_word) && !text[at + word.len()..].starts_with(is_in_word)
    };
    match text.match_indices(word).map(|(at, _)| at).find(|at| is_whole(*at)) {
        Some(at) => format!("{}{}", &text[..at], &text[at + word.len()..]),
        None => text.to_owned(),
    }
}

fn body(conn: &Connection, page: &str) -> rusqlite::Result<String> {
    conn.query_row("SELECT body FROM page WHERE id = ?1", [page], |row| row.get(0))
}

/// A block that holds text, and where it is.
#[derive(Debug)]
struct Block {
    id: String,
    tag: &'static str,
    whole: Range<usize>,
    text: Range<usize>,
}

impl Block {
    fn words(&self, body: &str) -> Vec<String> {
        let mut text = String::new();
        let mut is_tag = false;
        for c in body[self.text.clone()].chars() {
            match c {
                '<' => is_tag = true,
                '>' => is_tag = false,
                c if !is_tag => text.push(c),
                _ => {}
            }
        }
        text.split_whitespace().map(str::to_owned).collect()
    }
}

/// The blocks of a document that hold text, in their order: what the pages of this test can be,
/// read without the parser that is to be tested.
fn blocks(body: &str) -> Vec<Block> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(found) = body[at..].find('<') {
        let start = at + found;
        at = start + 1;
        let Some(tag) = ["p", "li"].into_iter().find(|tag| {
            body[at..].strip_prefix(tag).is_some_and(|rest| rest.starts_with([' ', '>']))
        }) else {
            continue;
        };
        let Some(opened) = body[at..].find('>').map(|len| at + len) else { break };
        let id = body[at..opened].split_once("id=").map_or("", |(_, id)| id);
        let id = id.trim_start_matches('"').split(['"', ' ']).next().unwrap_or_default().to_owned();
        let close = format!("</{tag}>");
        let Some(len) = body[opened..].find(&close) else { break };
        let (text, end) = (opened + 1..opened + len, opened + len + close.len());
        out.push(Block { id, tag, whole: start..end, text });
        at = end;
    }
    out
}

/// Whether every tag that opens closes, and in its order.
fn is_well_formed(body: &str) -> bool {
    let mut open = Vec::new();
    let tags = body.split('<').skip(1).map(|part| part.split('>').next().unwrap_or_default());
    for tag in tags {
        match tag.strip_prefix('/') {
            Some(tag) if open.pop() == Some(tag) => {}
            Some(_) => return false,
            None => open.push(tag.split(' ').next().unwrap_or_default()),
        }
    }
    open.is_empty()
}

/// What the pages say, to the model or to people.
pub(crate) fn dump(conn: &Connection, out: &mut String) -> rusqlite::Result<()> {
    let model = has_table(conn, "block")?;
    if !model && !has_table(conn, "page")? {
        return Ok(());
    }
    for page in (0..PAGES).map(name) {
        let mut says: Vec<String> = if model { meant(conn, &page)? } else { shown(conn, &page)? };
        says.sort();
        let _ = writeln!(out, "page {page} {}", says.join(" ")).is_ok();
    }
    Ok(())
}

fn meant(conn: &Connection, page: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT block.id || '/' || coalesce(said.word, '') FROM block
        LEFT JOIN said ON said.block = block.id AND said.page = block.page WHERE block.page = ?1";
    conn.prepare_cached(sql)?.query_map([page], |row| row.get(0))?.collect()
}

fn shown(conn: &Connection, page: &str) -> rusqlite::Result<Vec<String>> {
    let body = body(conn, page)?;
    let mut says = Vec::new();
    if !is_well_formed(&body) {
        says.push(format!("not well-formed: {body}"));
    }
    for block in blocks(&body) {
        let words = block.words(&body);
        if words.is_empty() {
            says.push(format!("{}/", block.id));
        }
        says.extend(words.iter().map(|word| format!("{}/{word}", block.id)));
    }
    Ok(says)
}

impl Author {
    /// Changes of pages that travel together, by what this device sees.
    pub(super) fn writes(&mut self, conn: &Connection) -> rusqlite::Result<Vec<Step>> {
        let count = if self.rng.chance(300_000) { 2 } else { 1 };
        let step = |_| {
            let page = name(self.rng.below(PAGES));
            let wrote = self.wrote(&body(conn, &page)?);
            Ok(Step::Page { page, wrote })
        };
        (0..count).map(step).collect()
    }

    fn wrote(&mut self, body: &str) -> Wrote {
        let mine = format!("{OWN}{}x", self.name.replace(['.', '-'], "x"));
        let known = blocks(body);
        let at = self.rng.below(1 << 16);
        let is_mine = |block: &&Block| block.id.starts_with(&mine);
        let open: Vec<&Block> =
            known.iter().filter(|block| is_mine(block) || !block.id.starts_with(OWN)).collect();
        let goes: Vec<&Block> = known.iter().filter(|block| !STAY.contains(&&*block.id)).collect();
        let drawn = self.rng.below(10);
        let id = |block: &&Block| block.id.clone();
        match drawn {
            0 if !goes.is_empty() => {
                return Wrote::Unblock { id: self.rng.pick(&goes).map(id).unwrap_or_default() };
            }
            1 if !known.is_empty() => {
                let known: Vec<&Block> = known.iter().collect();
                return Wrote::Carry { id: self.rng.pick(&known).map(id).unwrap_or_default(), at };
            }
            2 | 3 => {
                let own: Vec<&Block> = known.iter().filter(is_mine).collect();
                if let Some(block) = self.rng.pick(&own) {
                    // The first stays: a block without a word is another test's.
                    let words = block.words(body).into_iter().filter(|word| *word != block.id);
                    let words: Vec<String> = words.collect();
                    if let Some(word) = self.rng.pick(&words).cloned() {
                        return Wrote::Strike { id: block.id.clone(), word };
                    }
                }
            }
            4..=7 => {
                if let Some(id) = self.rng.pick(&open).map(id) {
                    let mark = self.rng.pick(&[None, None, Some("b"), Some("i")]).copied();
                    return Wrote::Word { id, word: self.word(), mark: mark.flatten(), at };
                }
            }
            _ => {}
        }
        let (own, word) = (self.rng.chance(400_000), self.word());
        Wrote::Block { id: if own { format!("{OWN}{word}") } else { word }, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(body: &str) -> Vec<(String, Vec<String>)> {
        blocks(body).iter().map(|block| (block.id.clone(), block.words(body))).collect()
    }

    #[test]
    fn blocks_and_words_are_read_as_they_are() {
        let body = "<p id=\"a\" class=\"x\">one <b>two</b></p>\n<ul id=l><li id=b>three</li></ul>";
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let want = [("a".to_owned(), words(&["one", "two"])), ("b".to_owned(), words(&["three"]))];
        assert_eq!(says(body), want);
        assert!(is_well_formed(body));
        for torn in ["<p>", "<p><b></p></b>", "</p>", "<p id=a>x<p id=b>y</p>"] {
            assert!(!is_well_formed(torn), "{torn}");
        }
    }

    #[test]
    fn changes_are_what_they_say() {
        let to = |wrote: Wrote, body: &str| wrote.changed(body.to_owned());
        let [id, word] = ["n", "w"].map(str::to_owned);
        let body = to(Wrote::Block { id: id.clone(), at: 1 }, BLOCKS);
        assert_eq!(body.find("<li id=\"n\">n</li><li id=\"item\">"), BLOCKS.find("<li"));
        let said = Wrote::Word { id: id.clone(), word: word.clone(), mark: Some("b"), at: 1 };
        let body = to(said, &body);
        assert!(body.contains("<li id=\"n\">n <b>w</b></li>"), "{body}");
        let carried = to(Wrote::Carry { id: id.clone(), at: 1 }, &body);
        assert!(carried.contains("</li><li id=\"n\">") || carried == body, "{carried}");
        assert_eq!(says(&carried).len(), 3);
        let body = to(Wrote::Strike { id: id.clone(), word }, &body);
        assert!(body.contains("<li id=\"n\">n <b></b></li>"), "{body}");
        assert_eq!(to(Wrote::Unblock { id }, &body), BLOCKS);
        assert_eq!(without("xw w2 <i>w</i> w", "w"), "xw w2 <i></i> w");
    }
}
