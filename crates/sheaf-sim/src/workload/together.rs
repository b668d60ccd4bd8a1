//! Documents that several people change at once: a text, a set, an object, and a cell that keeps
//! what was written apart.
//!
//! Invariant: the model keeps what people mean, a word or member or key that comes or goes and the
//! values somebody had seen, and never what a cell becomes of it; so it merges nothing, and the
//! outcome must say the same in every order. Words, members, keys and values are never used twice.
//! Leaves out where words stand: only that each is there once, or is not.
//!
//! A text has no identities: where two put words at one place, a third who deletes one of them may
//! have seen it on the other side of its neighbour, and then a merge of words keeps it where it was
//! put, as `git merge-file` does. So each text has a corner for every device, behind a word that
//! nobody deletes, where only that device adds words: what is deleted there is gone. Elsewhere all
//! add words, and one that somebody deletes may be there or not.

use std::fmt::Write as _;

use rusqlite::{Connection, params};
use serde_json::Value;

use super::{Author, Step, Transaction, has_table};
use crate::rng::Rng;

/// Documents.
pub(crate) const DOCS: u64 = 3;
/// What every text begins with: words that everybody moves among, and the corners.
const WORDS: &str = "once upon a time there was by0 by1 by2 by3 by4 by5 by6 by7";
/// What the word begins with behind which a corner is, and its device's number follows.
const CORNER: &str = "by";
/// What words begin with that stand in a corner.
const OWN: &str = "own";
/// What the cell that keeps several values begins with.
const NOTHING: &str = "nothing";
/// What a value of the model begins with that may be there or not.
const MAYBE: &str = "?";
/// Where half of the keys are.
const WITHIN: &str = "in";

const DOCS_OF_PEOPLE: &str = "CREATE TABLE doc(id TEXT PRIMARY KEY NOT NULL, body MERGE_TEXT,
    tags SET_TEXT, data JSON_TEXT, pick MVR_TEXT)";
const DOCS_OF_MODEL: &str = "
CREATE TABLE meant(doc TEXT NOT NULL, kind TEXT NOT NULL, what TEXT NOT NULL, value TEXT,
    PRIMARY KEY(doc, kind, what));
CREATE TABLE put(at INTEGER PRIMARY KEY, doc TEXT NOT NULL, id TEXT NOT NULL,
    value TEXT NOT NULL, is_there INTEGER NOT NULL DEFAULT 1);
";

/// What somebody means to do with a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meant {
    /// A new word, about there, in its author's corner or elsewhere.
    Word { word: String, at: u64 },
    /// A word is struck out.
    Strike { word: String },
    /// A new member.
    Join { member: String },
    /// A member goes.
    Leave { member: String },
    /// A new key.
    Key { key: String, value: String },
    /// A known key gets another value.
    Value { key: String, value: String },
    /// A key goes.
    Unkey { key: String },
    /// A value takes the place of all that its author has seen.
    Put { value: String, saw: Vec<String> },
    /// The newest of several values is chosen, which is a write of its own: who had seen the value
    /// has not seen that it was chosen.
    Choose { id: String, value: String, saw: Vec<String> },
}

/// The tables, as people or as the model have them.
pub(super) fn found(conn: &Connection, model: bool) -> rusqlite::Result<()> {
    conn.execute_batch(if model { DOCS_OF_MODEL } else { DOCS_OF_PEOPLE })?;
    for doc in (0..DOCS).map(name) {
        if model {
            for word in WORDS.split(' ') {
                conn.execute("INSERT INTO meant VALUES (?1, 'body', ?2, NULL)", [&*doc, word])?;
            }
            conn.execute("INSERT INTO put(doc, id, value) VALUES (?1, ?2, ?2)", [&*doc, NOTHING])?;
        } else {
            let data = format!("{{\"{WITHIN}\":{{}}}}");
            let sql = "INSERT INTO doc VALUES (?1, ?2, '[]', ?3, ?4)";
            conn.execute(sql, [&*doc, WORDS, &*data, NOTHING])?;
        }
    }
    Ok(())
}

/// The name of a document.
pub(crate) fn name(doc: u64) -> String {
    format!("p{doc}")
}

impl Meant {
    /// What the model keeps of it.
    pub(super) fn mean(&self, conn: &Connection, doc: &str) -> rusqlite::Result<()> {
        let one = |sql: &str, args: &[&dyn rusqlite::ToSql]| conn.execute(sql, args).map(drop);
        let comes = "INSERT INTO meant VALUES (?1, ?2, ?3, ?4)";
        let goes = "DELETE FROM meant WHERE doc = ?1 AND kind = ?2 AND what = ?3";
        match self {
            Self::Word { word, .. } => one(comes, &[&doc, &"body", word, &None::<String>]),
            Self::Strike { word } if word.starts_with(OWN) => one(goes, &[&doc, &"body", word]),
            Self::Strike { word } => one(
                "UPDATE meant SET value = ?3 WHERE doc = ?1 AND kind = 'body' AND what = ?2",
                &[&doc, word, &MAYBE],
            ),
            Self::Join { member } => one(comes, &[&doc, &"tags", member, &None::<String>]),
            Self::Leave { member } => one(goes, &[&doc, &"tags", member]),
            Self::Key { key, value } => one(comes, &[&doc, &"data", key, value]),
            // Who changes a key that somebody took away has not brought it back.
            Self::Value { key, value } => one(
                "UPDATE meant SET value = ?3 WHERE doc = ?1 AND kind = 'data' AND what = ?2",
                &[&doc, key, value],
            ),
            Self::Unkey { key } => one(goes, &[&doc, &"data", key]),
            Self::Put { value, saw } => replace(conn, doc, (value, value), saw),
            Self::Choose { id, value, saw } => replace(conn, doc, (id, value), saw),
        }
    }

    /// Does it, as an application that knows nothing of merging.
    pub(super) fn write(&self, conn: &Connection, doc: &str) -> rusqlite::Result<()> {
        let one = |sql: &str, args: &[&dyn rusqlite::ToSql]| conn.execute(sql, args).map(drop);
        match self {
            Self::Word { word, at } => words(conn, doc, |words| {
                words.insert(place(words, word, *at), word.clone());
            }),
            Self::Strike { word } => words(conn, doc, |words| words.retain(|known| known != word)),
            Self::Join { member } => one(
                "UPDATE doc SET tags = json_insert(tags, '$[#]', ?2) WHERE id = ?1",
                &[&doc, member],
            ),
            Self::Leave { member } => {
                let mut tags = members(&cell(conn, doc, "tags")?);
                tags.retain(|known| known != member);
                let tags = Value::from(tags).to_string();
                one("UPDATE doc SET tags = ?2 WHERE id = ?1", &[&doc, &tags])
            }
            Self::Key { key, value } => one(
                "UPDATE doc SET data = json_set(data, ?2, ?3) WHERE id = ?1",
                &[&doc, &path(key), value],
            ),
            Self::Value { key, value } => one(
                "UPDATE doc SET data = json_replace(data, ?2, ?3) WHERE id = ?1",
                &[&doc, &path(key), value],
            ),
            Self::Unkey { key } => one(
                "UPDATE doc SET data = json_remove(data, ?2) WHERE id = ?1",
                &[&doc, &path(key)],
            ),
            Self::Put { value, .. } => {
                one("UPDATE doc SET pick = ?2 WHERE id = ?1", &[&doc, value])
            }
            Self::Choose { .. } => {
                let sql = "SELECT sheaf_resolve('doc', 'pick', ?1)";
                conn.query_row(sql, [doc], |row| row.get::<_, i64>(0)).map(drop)
            }
        }
    }
}

/// In the model, a write takes the place of those that its author had seen. Of a value that it had
/// seen and that somebody else has chosen since, both may be said: the value was seen, the choice
/// was not.
fn replace(
    conn: &Connection,
    doc: &str,
    (id, value): (&str, &str),
    saw: &[String],
) -> rusqlite::Result<()> {
    for seen in saw {
        let sql = "UPDATE put SET is_there = 0 WHERE doc = ?1 AND id = ?2";
        conn.execute(sql, [doc, seen])?;
    }
    for seen in saw {
        let sql = "UPDATE put SET is_there = 2 WHERE doc = ?1 AND is_there
            AND value = (SELECT value FROM put WHERE doc = ?1 AND id = ?2)";
        conn.execute(sql, [doc, seen])?;
    }
    // Equal values are one.
    conn.execute("UPDATE put SET is_there = 0 WHERE doc = ?1 AND value = ?2", [doc, value])?;
    conn.execute("INSERT INTO put(doc, id, value) VALUES (?1, ?2, ?3)", [doc, id, value]).map(drop)
}

/// A cell of a document.
pub(crate) fn cell(conn: &Connection, doc: &str, column: &str) -> rusqlite::Result<String> {
    let sql = format!("SELECT {column} FROM doc WHERE id = ?1");
    conn.query_row(&sql, [doc], |row| row.get(0))
}

fn words(
    conn: &Connection,
    doc: &str,
    change: impl FnOnce(&mut Vec<String>),
) -> rusqlite::Result<()> {
    let body = cell(conn, doc, "body")?;
    let mut words: Vec<String> = body.split_whitespace().map(str::to_owned).collect();
    change(&mut words);
    conn.execute("UPDATE doc SET body = ?2 WHERE id = ?1", params![doc, words.join(" ")]).map(drop)
}

/// Where a word goes: somewhere in its author's corner, or somewhere before all corners.
fn place<W: AsRef<str>>(words: &[W], word: &str, at: u64) -> usize {
    let corner = |word: &str| word.starts_with(CORNER);
    let mut from = 0;
    if let Some(author) = word.strip_prefix(OWN) {
        let number = |c: char| c.is_ascii_digit();
        let number = author.chars().find(|c| number(*c)).unwrap_or('0');
        let name = format!("{CORNER}{number}");
        from = words.iter().position(|word| word.as_ref() == name).map_or(words.len(), |at| at + 1);
    }
    let len = words.iter().skip(from).take_while(|word| !corner(word.as_ref())).count();
    from + usize::try_from(at % (len as u64 + 1)).unwrap_or(0)
}

/// The words of a text that may be deleted.
fn deletable(body: &str) -> Vec<&str> {
    body.split_whitespace().filter(|word| !word.starts_with(CORNER)).collect()
}

fn members(json: &str) -> Vec<String> {
    match serde_json::from_str(json) {
        Ok(Value::Array(members)) => members.into_iter().map(plain).collect(),
        // What is no list any more is in no model.
        _ => vec![format!("no list: {json}")],
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn path(key: &str) -> String {
    key.split('/').fold("$".to_owned(), |path, part| format!("{path}.\"{part}\""))
}

/// All keys of an object and of the one in it, with their values.
fn keys(json: &str) -> Vec<(String, String)> {
    let Ok(Value::Object(object)) = serde_json::from_str(json) else {
        return vec![(format!("no object: {json}"), String::new())];
    };
    let mut out = Vec::new();
    for (key, value) in object {
        match value {
            Value::Object(inner) if key == WITHIN => {
                let inner = inner.into_iter();
                out.extend(inner.map(|(key, value)| (format!("{WITHIN}/{key}"), plain(value))));
            }
            value => out.push((key, plain(value))),
        }
    }
    out
}

/// All values that a cell keeps, oldest first.
fn siblings(conn: &Connection, doc: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT sheaf_siblings('doc', 'pick', ?1)";
    let json: Option<String> = conn.query_row(sql, [doc], |row| row.get(0))?;
    Ok(members(json.as_deref().unwrap_or("[]")))
}

/// Every document and all values that its cell keeps; none where there are no documents.
pub(crate) fn all_siblings(conn: &Connection) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    let docs = if has_table(conn, "doc")? { DOCS } else { 0 };
    (0..docs).map(|doc| Ok((name(doc), siblings(conn, &name(doc))?))).collect()
}

/// What the documents say, to the model or to people.
pub(crate) fn dump(conn: &Connection, out: &mut String) -> rusqlite::Result<()> {
    let model = has_table(conn, "meant")?;
    if !model && !has_table(conn, "doc")? {
        return Ok(());
    }
    for doc in (0..DOCS).map(name) {
        let mut said = if model { meant(conn, &doc)? } else { shown(conn, &doc)? };
        for (kind, says) in ["body", "tags", "data"].into_iter().zip(&mut said.sorted) {
            says.sort_by(|a, b| sure(a).cmp(sure(b)));
            let _ = writeln!(out, "doc {doc} {kind} {}", says.join(" ")).is_ok();
        }
        let shown = said.shown.unwrap_or_default();
        let _ = writeln!(out, "doc {doc} pick {shown} of {}", said.values.join(" ")).is_ok();
    }
    Ok(())
}

/// Whether a state says what the model says.
pub(crate) fn agrees(model: &str, seen: &str) -> bool {
    let mut lines = model.lines().zip(seen.lines());
    model == seen
        || model.lines().count() == seen.lines().count()
            && lines.all(|(model, seen)| model == seen || agrees_maybe(model, seen))
}

/// A value of the model, whether it has to be there or not.
fn sure(value: &str) -> &str {
    value.strip_prefix(MAYBE).unwrap_or(value)
}

fn agrees_maybe(model: &str, seen: &str) -> bool {
    let parts = |line| [" of ", " body "].into_iter().find_map(|at| str::split_once(line, at));
    let (Some((cell, model)), Some((of, seen))) = (parts(model), parts(seen)) else {
        return false;
    };
    let mut seen = seen.split_whitespace().peekable();
    let mut all = model.split_whitespace().map(|value| match value.strip_prefix(MAYBE) {
        Some(value) => {
            seen.next_if_eq(&value);
            true
        }
        None => seen.next() == Some(value),
    });
    cell == of && cell.starts_with("doc ") && all.all(|is_right| is_right) && seen.next().is_none()
}

/// What one document says.
struct Said {
    /// Words, members, keys with their values, in any order.
    sorted: [Vec<String>; 3],
    /// Oldest first.
    values: Vec<String>,
    shown: Option<String>,
}

fn meant(conn: &Connection, doc: &str) -> rusqlite::Result<Said> {
    let list = |sql: &str, kind: &str| {
        let mut statement = conn.prepare_cached(sql)?;
        statement.query_map([doc, kind], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()
    };
    let what = "SELECT coalesce(value, '') || what FROM meant WHERE doc = ?1 AND kind = ?2";
    let pairs = "SELECT what || '=' || value FROM meant WHERE doc = ?1 AND kind = ?2";
    let sorted = [list(what, "body")?, list(what, "tags")?, list(pairs, "data")?];
    let values = "SELECT CASE is_there WHEN 1 THEN '' ELSE ?2 END || value FROM put
        WHERE doc = ?1 AND is_there ORDER BY at";
    let values = list(values, MAYBE)?;
    let shown = values.last().cloned();
    Ok(Said { sorted, values, shown })
}

fn shown(conn: &Connection, doc: &str) -> rusqlite::Result<Said> {
    let words = cell(conn, doc, "body")?.split_whitespace().map(str::to_owned).collect();
    let keys = keys(&cell(conn, doc, "data")?);
    let data = keys.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let sorted = [words, members(&cell(conn, doc, "tags")?), data];
    Ok(Said { sorted, values: siblings(conn, doc)?, shown: Some(cell(conn, doc, "pick")?) })
}

impl Step {
    /// Of a value that takes the place of others: the document, the write, and what was seen.
    fn put(&mut self) -> Option<(String, String, &mut Vec<String>)> {
        let Self::Together { doc, meant } = self else { return None };
        let (Meant::Put { value: id, saw } | Meant::Choose { id, saw, .. }) = meant else {
            return None;
        };
        Some((doc.clone(), id.clone(), saw))
    }

    /// Whether it replaces a value that may stand beside others.
    fn replaces(&self) -> bool {
        matches!(self, Self::Together { meant: Meant::Put { .. } | Meant::Choose { .. }, .. })
    }
}

impl Transaction {
    /// The author has seen what was agreed on where it stands, as the model has it.
    pub(crate) fn has_seen(&mut self, model: &Connection) -> rusqlite::Result<()> {
        for step in &mut self.steps {
            let Some((doc, _, saw)) = step.put() else { continue };
            let sql = "SELECT id FROM put WHERE doc = ?1 AND is_there ORDER BY at";
            let mut ids = model.prepare_cached(sql)?;
            let ids = ids.query_map([doc], |row| row.get(0))?;
            *saw = ids.collect::<rusqlite::Result<_>>()?;
        }
        Ok(())
    }

    /// And what it wrote itself and waits, with what it had seen then.
    pub(crate) fn comes_after(&mut self, other: &Self) {
        let mut other = other.clone();
        let known: Vec<_> = other.steps.iter_mut().filter_map(Step::put).collect();
        for step in &mut self.steps {
            let Some((doc, _, saw)) = step.put() else { continue };
            for (_, id, seen) in known.iter().filter(|(of, ..)| *of == doc) {
                saw.extend(seen.iter().chain([id]).cloned());
            }
            saw.sort();
            saw.dedup();
        }
    }

    /// Whether somebody replaces a value that may stand beside others.
    pub(crate) fn replaces(&self) -> bool {
        self.steps.iter().any(Step::replaces)
    }
}

impl Author {
    /// Changes of documents that travel together; none before there are documents.
    pub(super) fn together(&mut self, values: bool, conn: &Connection) -> Option<Transaction> {
        let count = if self.rng.chance(400_000) { self.rng.between(2, 4) } else { 1 };
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..count {
            let doc = name(self.rng.below(DOCS));
            let meant = self.means(values, conn, &doc).ok()?;
            let step = Step::Together { doc, meant };
            // Who replaces a value twice at once has not seen its own in between.
            if !step.replaces() || !steps.iter().any(Step::replaces) {
                steps.push(step);
            }
        }
        Some(Transaction { steps })
    }

    /// A name that is one word to whoever splits words.
    pub(super) fn word(&mut self) -> String {
        self.fresh().replace(['.', '-'], "x")
    }

    /// A name for a word of a text, in the author's corner or not.
    fn word_of_text(&mut self) -> String {
        let (corner, word) = (self.rng.chance(600_000), self.word());
        if corner { format!("{OWN}{word}") } else { word }
    }

    /// What somebody means who changes a text in an editor, and the text then.
    pub(crate) fn types(&mut self, rng: &mut Rng, body: &str) -> (Meant, String) {
        let mut words: Vec<&str> = body.split_whitespace().collect();
        let struck = rng.pick(&deletable(body)).copied().filter(|_| rng.chance(300_000));
        if let Some(word) = struck {
            words.retain(|known| *known != word);
            return (Meant::Strike { word: word.to_owned() }, words.join(" "));
        }
        let (word, at) = (self.word_of_text(), rng.below(1 << 16));
        words.insert(place(&words, &word, at), &word);
        let text = words.join(" ");
        (Meant::Word { word, at }, text)
    }

    fn means(&mut self, values: bool, conn: &Connection, doc: &str) -> rusqlite::Result<Meant> {
        let goes = self.rng.chance(350_000);
        Ok(match self.rng.below(10) {
            0..=3 => {
                let body = cell(conn, doc, "body")?;
                match self.rng.pick(&deletable(&body)).filter(|_| goes) {
                    Some(word) => Meant::Strike { word: (*word).to_owned() },
                    None => Meant::Word { word: self.word_of_text(), at: self.rng.below(1 << 16) },
                }
            }
            4 | 5 => {
                let tags = members(&cell(conn, doc, "tags")?);
                match self.rng.pick(&tags).filter(|_| goes) {
                    Some(member) => Meant::Leave { member: member.clone() },
                    None => Meant::Join { member: self.word() },
                }
            }
            6 | 7 => {
                let known = keys(&cell(conn, doc, "data")?);
                match self.rng.pick(&known).cloned() {
                    Some((key, _)) if goes => Meant::Unkey { key },
                    Some((key, _)) if self.rng.chance(500_000) => {
                        Meant::Value { key, value: self.word() }
                    }
                    _ => {
                        let within = self.rng.chance(500_000);
                        let key = self.word();
                        let key = if within { format!("{WITHIN}/{key}") } else { key };
                        Meant::Key { key, value: self.word() }
                    }
                }
            }
            _ if !values => Meant::Join { member: self.word() },
            _ => {
                let (there, saw) = (siblings(conn, doc)?, Vec::new());
                match there.last().cloned().filter(|_| goes && there.len() > 1) {
                    Some(value) => Meant::Choose { id: self.word(), value, saw },
                    None => Meant::Put { value: self.word(), saw },
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_there_is_there_or_not() {
        let says = |values: &str| format!("ctr c0 1\ndoc p0 pick c of {values}\n");
        let model = says("?a b c");
        assert!(agrees(&model, &says("a b c")));
        assert!(agrees(&model, &says("b c")));
        for wrong in ["a c", "c", "b a c", "a b c d"] {
            assert!(!agrees(&model, &says(wrong)), "{wrong}");
        }
        let body = |words: &str| format!("doc p0 body {words}\n");
        for (model, seen) in [("?a b", "b"), ("?a b", "a b"), ("?a", ""), ("?a", "a")] {
            assert!(agrees(&body(model), &body(seen)), "{seen}");
        }
        assert!(!agrees(&body("?a b"), &body("a")));
        assert!(!agrees(&body("?a b"), &body("a b c")));
    }

    #[test]
    fn words_of_ones_own_stand_in_ones_own_corner() {
        let words = ["once", "by0", "x", "by1", "by2", "y"];
        let at = |word: &str| (0..4).map(|at| place(&words, word, at)).collect::<Vec<_>>();
        assert_eq!(at("d1xs0x4"), [0, 1, 0, 1]);
        assert_eq!(at("ownd0xs0x4"), [2, 3, 2, 3]);
        assert_eq!(at("ownd1xs0x4"), [4, 4, 4, 4]);
        assert_eq!(at("ownd2xs0x4"), [5, 6, 5, 6]);
        assert_eq!(at("ownd7xs0x4"), [6; 4]);
    }
}
