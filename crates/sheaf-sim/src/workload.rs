//! What people do: transactions made of steps, each with one meaning in plain SQL.
//!
//! Invariant: a step says the same to a device (which captures, merges and rebases it) and to the
//! model (plain SQLite, in log order); only where Sheaf promises more than SQL does, the two
//! statements differ, and [`Step::run`] says why. Names are never used twice, so that a step means
//! the same in every order. Leaves out rows whose outcome depends on what a query saw.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{options::Workload, rng::Rng};

mod forge;
mod known;
pub(crate) mod lock;
pub(crate) mod outline;
pub(crate) mod page;
pub(crate) mod together;

pub(crate) use lock::Taken;
pub(crate) use outline::Placed;
pub(crate) use page::Wrote;
pub(crate) use together::Meant;

/// Accounts of the bank; their sum never changes.
pub(crate) const ACCOUNTS: u64 = 6;
/// What each begins with.
const BALANCE: i64 = 1_000;
/// Counters.
pub(crate) const COUNTERS: u64 = 3;
/// Texts that are edited.
pub(crate) const NOTES: u64 = 4;
/// Names that people race for.
const NAMES: u64 = 40;
/// Columns and tables that schema changes may add.
const ADDITIONS: u64 = 6;
/// Bytes of a large value.
const LARGE: u64 = 300_000;

/// The first transaction of every site.
const SCHEMA: &str = "
CREATE TABLE acc(id TEXT PRIMARY KEY NOT NULL, v INTEGER NOT NULL CHECK (v >= 0)) WITHOUT ROWID;
CREATE TABLE ctr(id TEXT PRIMARY KEY NOT NULL, n COUNTER_INT NOT NULL);
CREATE TABLE list(id TEXT PRIMARY KEY NOT NULL, who TEXT NOT NULL, body BLOB);
CREATE TABLE uniq(id TEXT PRIMARY KEY NOT NULL, name TEXT UNIQUE NOT NULL);
CREATE TABLE note(id TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT);
CREATE TABLE ref(id TEXT PRIMARY KEY NOT NULL, list TEXT NOT NULL REFERENCES list(id));
CREATE TABLE num(id INTEGER PRIMARY KEY, tag TEXT NOT NULL);
CREATE TABLE kid(id INTEGER PRIMARY KEY, tag TEXT NOT NULL, num INTEGER NOT NULL REFERENCES num(id));
CREATE TABLE mark(id TEXT PRIMARY KEY NOT NULL);
";

/// Mutators of every site: name and script.
pub(crate) const MUTATORS: &[(&str, &str)] = &[
    (
        "transfer",
        "SELECT sheaf_reject('not enough') WHERE (SELECT v FROM acc WHERE id = :src) < :n;
         UPDATE acc SET v = v - :n WHERE id = :src;
         UPDATE acc SET v = v + :n WHERE id = :dst;",
    ),
    // Fails wherever it runs again, but not where it is made.
    (
        "fails_there",
        "INSERT INTO mark(id) VALUES (:id);
         SELECT sheaf_reject('not here') WHERE sheaf_authority();",
    ),
];

/// One statement or two, with one meaning.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Makes the tables and their first rows.
    Found,
    /// Defines a mutator, by its place in [`MUTATORS`].
    Define(usize),
    /// Calls the mutator `transfer`.
    Transfer { src: u64, dst: u64, n: i64 },
    /// Calls the mutator `fails_there`.
    FailsThere { id: String },
    /// Adds to a counter.
    Count { counter: u64, by: i64 },
    /// Adds a member to the list.
    Append { id: String, who: String, bytes: u64 },
    /// Removes one.
    Remove { id: String },
    /// Takes a name, if it is free.
    Claim { id: String, name: u64 },
    /// Gives a name up.
    Release { name: String },
    /// Writes a column of a text.
    Edit { note: u64, column: String, text: String },
    /// Adds a row under a number that SQLite chooses, and rows that refer to it.
    Number { tag: String, kids: u64 },
    /// Adds a row that refers to an agreed one.
    Kid { tag: String, parent: String },
    /// Refers to a member of the list.
    Refer { id: String, member: String },
    /// Adds a column to the texts.
    Column(u64),
    /// Adds a table.
    Table(u64),
    /// Adds a row to an added table.
    Extra { table: u64, id: String },
    /// Adds an index.
    Index(u64),
    /// Sends what no device of ours would make.
    Forge(u64),
    /// Makes the documents.
    Documents,
    /// Changes a document that others change at the same time.
    Together { doc: String, meant: Meant },
    /// Makes the pages and the lists.
    Pages,
    /// Writes a page.
    Page { page: String, wrote: Wrote },
    /// Puts a row into a list, moves it there or takes it away.
    Place { list: String, placed: Placed },
    /// Makes the tables of those who take locks.
    Desk,
    /// Takes a lock.
    Lock(Taken),
}

/// What one device does as one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transaction {
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
}

/// Who runs a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// The device that makes it.
    Author,
    /// The model of what a device predicts.
    Prediction,
    /// The model of the log.
    Log,
}

impl Transaction {
    /// The first transaction of a site: its tables.
    pub(crate) fn founding(workload: &Workload) -> Self {
        let steps = [
            Some(Step::Found),
            (workload.merge > 0).then_some(Step::Documents),
            (workload.lock > 0).then_some(Step::Desk),
            (workload.pages > 0).then_some(Step::Pages),
        ];
        Self { steps: steps.into_iter().flatten().collect() }
    }

    /// The bytes of the mutation that stand in this transaction's place, if it is forged.
    pub(crate) fn forged(&self) -> Option<bytes::Bytes> {
        match self.steps.as_slice() {
            [Step::Forge(number)] => Some(forge::forged(*number)),
            _ => None,
        }
    }

    /// The call that this transaction consists of, if it is one: name and arguments.
    pub(crate) fn call(&self) -> Option<(&'static str, serde_json::Value)> {
        match self.steps.as_slice() {
            [Step::Transfer { src, dst, n }] => {
                let args = serde_json::json!({"src": account(*src), "dst": account(*dst), "n": n});
                Some(("transfer", args))
            }
            [Step::FailsThere { id }] => Some(("fails_there", serde_json::json!({ "id": id }))),
            _ => None,
        }
    }

    /// Runs every step; the caller has begun a transaction or a savepoint.
    pub(crate) fn run(&self, conn: &Connection, runs: Runs) -> rusqlite::Result<()> {
        self.steps.iter().try_for_each(|step| step.run(conn, runs))
    }
}

impl Step {
    fn run(&self, conn: &Connection, runs: Runs) -> rusqlite::Result<()> {
        let one = |sql: &str, args: &[&dyn rusqlite::ToSql]| conn.execute(sql, args).map(drop);
        match self {
            Self::Found => found(conn),
            // The table of mutators is the engine's; the model knows the scripts.
            Self::Define(_) => Ok(()),
            Self::Transfer { src, dst, n } => transfer(conn, *src, *dst, *n),
            Self::FailsThere { id } => {
                one("INSERT INTO mark(id) VALUES (?1)", &[id])?;
                if runs == Runs::Log { Err(refused("not here")) } else { Ok(()) }
            }
            Self::Count { counter, by } => {
                one("UPDATE ctr SET n = n + ?2 WHERE id = ?1", &[&format!("c{counter}"), by])
            }
            Self::Append { id, who, bytes } => one(
                "INSERT INTO list(id, who, body) VALUES (?1, ?2, ?3)",
                &[id, who, &body(id, *bytes)],
            ),
            Self::Remove { id } => one("DELETE FROM list WHERE id = ?1", &[id]),
            Self::Claim { id, name } => {
                one("INSERT INTO uniq(id, name) VALUES (?1, ?2)", &[id, &format!("n{name}")])
            }
            Self::Release { name } => one("DELETE FROM uniq WHERE id = ?1", &[name]),
            Self::Edit { note, column, text } => {
                let sql = format!("UPDATE note SET {column} = ?2 WHERE id = ?1");
                one(&sql, &[&format!("t{note}"), text])
            }
            Self::Number { tag, kids } => number(conn, tag, *kids),
            Self::Kid { tag, parent } => {
                let id: Option<i64> = conn
                    .query_row("SELECT id FROM num WHERE tag = ?1", [parent], |row| row.get(0))
                    .optional()?;
                let id = id.ok_or_else(|| refused("the parent is gone"))?;
                one("INSERT INTO kid(tag, num) VALUES (?1, ?2)", &[tag, &id])
            }
            Self::Refer { id, member } => {
                one("INSERT INTO ref(id, list) VALUES (?1, ?2)", &[id, member])
            }
            Self::Column(k) => add_column(conn, *k, runs),
            Self::Table(k) => {
                // A schema change that was made already in the same words is no conflict.
                let only_new = if runs == Runs::Author { "" } else { "IF NOT EXISTS" };
                conn.execute_batch(&format!(
                    "CREATE TABLE {only_new} extra{k}(id TEXT PRIMARY KEY NOT NULL)"
                ))
            }
            Self::Extra { table, id } => {
                one(&format!("INSERT INTO extra{table}(id) VALUES (?1)"), &[id])
            }
            Self::Forge(_) => Err(refused("forged")),
            Self::Documents => together::found(conn, runs != Runs::Author),
            Self::Together { doc, meant } if runs == Runs::Author => meant.write(conn, doc),
            Self::Together { doc, meant } => meant.mean(conn, doc),
            Self::Pages => {
                page::found(conn, runs != Runs::Author)?;
                outline::found(conn, runs != Runs::Author)
            }
            Self::Page { page, wrote } if runs == Runs::Author => wrote.write(conn, page),
            Self::Page { page, wrote } => wrote.mean(conn, page),
            Self::Place { list, placed } if runs == Runs::Author => placed.write(conn, list),
            Self::Place { list, placed } => placed.mean(conn, list),
            Self::Desk => lock::found(conn),
            Self::Lock(taken) => taken.run(conn, runs),
            Self::Index(k) => {
                let only_new = if runs == Runs::Author { "" } else { "IF NOT EXISTS" };
                let column = if *k % 2 == 0 { "title" } else { "body" };
                conn.execute_batch(&format!("CREATE INDEX {only_new} by{k} ON note({column})"))
            }
        }
    }
}

fn found(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(SCHEMA)?;
    for k in 0..ACCOUNTS {
        conn.execute("INSERT INTO acc VALUES (?1, ?2)", params![account(k), BALANCE])?;
    }
    for k in 0..COUNTERS {
        conn.execute("INSERT INTO ctr VALUES (?1, 0)", [format!("c{k}")])?;
    }
    for k in 0..NOTES {
        let (title, body) = (format!("title {k}"), "once upon a time");
        conn.execute(
            "INSERT INTO note VALUES (?1, ?2, ?3)",
            params![format!("t{k}"), title, body],
        )?;
    }
    Ok(())
}

fn transfer(conn: &Connection, src: u64, dst: u64, n: i64) -> rusqlite::Result<()> {
    let there: i64 =
        conn.query_row("SELECT v FROM acc WHERE id = ?1", [account(src)], |row| row.get(0))?;
    if there < n {
        return Err(refused("not enough"));
    }
    conn.execute("UPDATE acc SET v = v - ?2 WHERE id = ?1", params![account(src), n])?;
    conn.execute("UPDATE acc SET v = v + ?2 WHERE id = ?1", params![account(dst), n])?;
    Ok(())
}

fn number(conn: &Connection, tag: &str, kids: u64) -> rusqlite::Result<()> {
    conn.execute("INSERT INTO num(tag) VALUES (?1)", [tag])?;
    let id = conn.last_insert_rowid();
    for kid in 0..kids {
        let tag = format!("{tag}/{kid}");
        conn.execute("INSERT INTO kid(tag, num) VALUES (?1, ?2)", params![tag, id])?;
    }
    Ok(())
}

fn add_column(conn: &Connection, k: u64, runs: Runs) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM pragma_table_info('note') WHERE name = ?1";
    let there: i64 = conn.query_row(sql, [format!("x{k}")], |row| row.get(0))?;
    // A schema change that was made already in the same words is no conflict.
    if runs != Runs::Author && there > 0 {
        return Ok(());
    }
    conn.execute_batch(&format!("ALTER TABLE note ADD COLUMN x{k} TEXT"))
}

/// Whether there is a table of this name.
pub(crate) fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    conn.query_row(sql, [name], |row| row.get(0))
}

fn account(k: u64) -> String {
    format!("a{k}")
}

/// A body that belongs to this member and no other.
fn body(id: &str, bytes: u64) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.as_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// A refusal of a step's own, as SQLite would report it.
fn refused(why: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(19), Some(why.to_owned()))
}

/// What one device thinks up next.
#[derive(Debug)]
pub(crate) struct Author {
    rng: Rng,
    name: String,
    /// Grows over restarts, so that no name is used twice.
    next: u64,
}

impl Author {
    pub(crate) fn new(rng: Rng, name: &str) -> Self {
        Self { rng, name: name.to_owned(), next: 0 }
    }

    /// A number from 1 to a bound.
    fn small(&mut self, bound: i64) -> i64 {
        let drawn = self.rng.below(u64::try_from(bound).unwrap_or(0));
        i64::try_from(drawn).unwrap_or(0) + 1
    }

    fn fresh(&mut self) -> String {
        self.next += 1;
        format!("{}-{}", self.name, self.next)
    }

    /// The next transaction, by what this device sees.
    pub(crate) fn next(&mut self, workload: &Workload, conn: &Connection) -> Transaction {
        if self.rng.chance(workload.lock)
            && let Some(transaction) = self.lock(workload, conn)
        {
            return transaction;
        }
        if self.rng.chance(workload.merge)
            && let Some(transaction) = self.together(workload.values > 0, conn)
        {
            return transaction;
        }
        if self.rng.chance(workload.pages)
            && let Ok(transaction) = self.lays_out(conn)
        {
            return transaction;
        }
        let several = self.rng.chance(workload.several);
        let count = if several { self.rng.between(2, 5) } else { 1 };
        let mut steps = Vec::new();
        while (steps.len() as u64) < count {
            let step = self.step(workload, conn);
            // Calls travel alone, and a schema change together with rows is another test's.
            let alone = matches!(
                step,
                Step::Transfer { .. }
                    | Step::FailsThere { .. }
                    | Step::Column(_)
                    | Step::Table(_)
                    | Step::Index(_)
                    | Step::Forge(_)
            );
            if alone && steps.is_empty() {
                return Transaction { steps: vec![step] };
            }
            if !alone {
                steps.push(step);
            }
        }
        Transaction { steps }
    }

    /// Changes of pages, of a list, or of both, that travel together.
    fn lays_out(&mut self, conn: &Connection) -> rusqlite::Result<Transaction> {
        let drawn = self.rng.below(10);
        let mut steps = if drawn < 7 { self.writes(conn)? } else { Vec::new() };
        if drawn > 5 {
            steps.push(self.places(conn)?);
        }
        Ok(Transaction { steps })
    }

    fn step(&mut self, workload: &Workload, conn: &Connection) -> Step {
        let w = workload;
        if w.forged > 0 && self.rng.chance(w.forged) {
            return Step::Forge(self.rng.below(u64::MAX));
        }
        let weights =
            [w.transfer, w.count, w.append, w.claim, w.edit, w.number, w.schema, w.failing];
        let total: u32 = weights.iter().sum();
        let mut at = self.rng.below(u64::from(total));
        let mut kind = 0;
        for (index, weight) in weights.into_iter().enumerate() {
            if at < u64::from(weight) {
                kind = index;
                break;
            }
            at -= u64::from(weight);
        }
        match kind {
            0 => Step::Transfer {
                src: self.rng.below(ACCOUNTS),
                dst: self.rng.below(ACCOUNTS),
                n: self.small(BALANCE),
            },
            1 => Step::Count { counter: self.rng.below(COUNTERS), by: self.small(9) },
            2 => self.append_or_remove(workload, conn),
            3 => self.claim_or_release(conn),
            4 => self.edit(conn),
            5 => self.number(conn),
            6 => self.schema(conn),
            _ => Step::FailsThere { id: self.fresh() },
        }
    }

    fn append_or_remove(&mut self, workload: &Workload, conn: &Connection) -> Step {
        if self.rng.chance(350_000)
            && let Some(id) = self.some(conn, "SELECT id FROM list ORDER BY id")
        {
            return match self.rng.chance(600_000) {
                true => Step::Remove { id },
                false => Step::Refer { id: self.fresh(), member: id },
            };
        }
        let bytes = if self.rng.chance(workload.large) { LARGE } else { self.rng.between(0, 300) };
        Step::Append { id: self.fresh(), who: self.name.clone(), bytes }
    }

    fn claim_or_release(&mut self, conn: &Connection) -> Step {
        if self.rng.chance(200_000)
            && let Some(name) = self.some(conn, "SELECT id FROM uniq ORDER BY id")
        {
            return Step::Release { name };
        }
        Step::Claim { id: self.fresh(), name: self.rng.below(NAMES) }
    }

    fn edit(&mut self, conn: &Connection) -> Step {
        let sql = "SELECT name FROM pragma_table_info('note') WHERE name <> 'id' ORDER BY cid";
        let column = self.some(conn, sql).unwrap_or_else(|| "title".to_owned());
        Step::Edit { note: self.rng.below(NOTES), column, text: self.fresh() }
    }

    fn number(&mut self, conn: &Connection) -> Step {
        // Rows of anybody, agreed on or not. None is ever deleted: a freed number may be given
        // again (docs/consistency.md 5.4).
        if self.rng.chance(300_000)
            && let Some(parent) = self.some(conn, "SELECT tag FROM num ORDER BY tag")
        {
            return Step::Kid { tag: self.fresh(), parent };
        }
        Step::Number { tag: self.fresh(), kids: self.rng.below(3) }
    }

    fn schema(&mut self, conn: &Connection) -> Step {
        let k = self.rng.below(ADDITIONS);
        match self.rng.below(4) {
            0 => Step::Column(k),
            1 => Step::Table(k),
            2 => Step::Index(k),
            _ => {
                let sql = "SELECT name FROM sqlite_schema WHERE name LIKE 'extra%' ORDER BY name";
                let table = self.some(conn, sql);
                let table = table.and_then(|name| name.strip_prefix("extra")?.parse().ok());
                match table {
                    Some(table) => Step::Extra { table, id: self.fresh() },
                    None => Step::Table(k),
                }
            }
        }
    }

    /// One of the rows of a query.
    fn some(&mut self, conn: &Connection, sql: &str) -> Option<String> {
        let rows = conn.prepare_cached(sql).and_then(|mut statement| {
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
        });
        self.rng.pick(&rows.ok()?).cloned()
    }
}
