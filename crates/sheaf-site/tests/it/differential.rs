//! Generated SQL, statement by statement, on a site and on plain SQLite of the same library.
//!
//! Every statement must give the same rows or the same error on both, and both databases must
//! hold the same rows at all times. The second form also exchanges with a bucket: what a second
//! device makes of the captured mutations must be the plain database too. What the capture
//! refuses by design is recognised by its text and then not done on the plain side either; there
//! must be little of it. Leaves out concurrent writers: see `bucket.rs`.

use rusqlite::Connection;
use sheaf_site::View;

use crate::support::{Device, Rng, World, is_long};

mod catalog;
mod generate;

use catalog::{Catalog, dump};
use generate::Generator;

/// What a statement answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Rows(Vec<String>),
    /// Result code and SQLite's text.
    Failed(i32, String),
}

/// Words of the refusals that are by design. Everything else must be as in SQLite.
const REFUSALS: &[&str] = &["run each in its own transaction", "has NULL in its primary key"];

/// How a run is made.
struct Run {
    seed: u64,
    statements: usize,
    /// Statements between two exchanges; none without a bucket.
    batch: Option<usize>,
}

#[derive(Debug, Default)]
struct Tally {
    statements: usize,
    failed: usize,
    refused: Vec<String>,
    exchanges: usize,
    mutations: usize,
}

/// A site and the plain database that it must equal.
struct Pair {
    device: Device,
    site: Connection,
    plain: Connection,
    tally: Tally,
    /// Statements since the last comparison that was equal, for the report.
    recent: Vec<String>,
}

const SETUP: &str = "PRAGMA foreign_keys = ON; PRAGMA cache_size = 12";

impl Pair {
    fn new(world: &World) -> Self {
        let device = world.device();
        let site = device.site.connection(View::Local).unwrap();
        let plain = Connection::open_in_memory().unwrap();
        site.execute_batch(SETUP).unwrap();
        plain.execute_batch(SETUP).unwrap();
        Self { device, site, plain, tally: Tally::default(), recent: Vec::new() }
    }

    /// Runs one statement on both; whether it may have changed the schema or was undone.
    fn run(&mut self, sql: &str) {
        self.tally.statements += 1;
        self.recent.push(sql.to_owned());
        let was_idle = self.plain.is_autocommit();
        let ours = answer(&self.site, sql);
        if let Answer::Failed(code, _) = &ours
            && let Some(why) = self.refusal(*code)
        {
            self.tally.refused.push(format!("{sql}: {why}"));
            if !was_idle {
                self.plain.execute_batch("ROLLBACK").unwrap();
            }
            assert!(self.site.is_autocommit(), "a refused commit ends the transaction: {sql}");
            return;
        }
        let theirs = answer(&self.plain, sql);
        self.tally.failed += usize::from(matches!(theirs, Answer::Failed(..)));
        assert!(ours == theirs, "{}\nsite:  {ours:?}\nplain: {theirs:?}", self.report());
        let idle = (self.site.is_autocommit(), self.plain.is_autocommit());
        assert!(idle.0 == idle.1, "{}\nin a transaction: {idle:?}", self.report());
    }

    /// The reason of an error that comes from the capture, not from SQLite.
    fn refusal(&self, code: i32) -> Option<String> {
        if code != rusqlite::ffi::SQLITE_CONSTRAINT {
            return None;
        }
        let why: Option<String> =
            self.site.query_row("SELECT sheaf_failure()", [], |row| row.get(0)).unwrap();
        why.filter(|why| REFUSALS.iter().any(|words| why.contains(words)))
    }

    fn compare(&mut self) {
        let (ours, theirs) = (dump(&self.site, true), dump(&self.plain, true));
        self.must_equal("the site's own connection", &ours, &theirs);
        for (name, conn) in [("site", &self.site), ("plain", &self.plain)] {
            let check = answer(conn, "PRAGMA integrity_check");
            assert!(check == Answer::Rows(vec!["ok".into()]), "{name}: {check:?}");
        }
        self.recent.clear();
    }

    fn must_equal(&self, whose: &str, ours: &[String], theirs: &[String]) {
        if ours == theirs {
            return;
        }
        let extra: Vec<_> = ours.iter().filter(|row| !theirs.contains(row)).take(8).collect();
        let missing: Vec<_> = theirs.iter().filter(|row| !ours.contains(row)).take(8).collect();
        panic!("{}\n{whose}: extra {extra:#?}\nmissing {missing:#?}", self.report());
    }

    fn end_transaction(&mut self) {
        if !self.plain.is_autocommit() {
            self.run("COMMIT");
        }
        if !self.plain.is_autocommit() {
            self.run("ROLLBACK");
        }
    }

    fn exchange(&mut self, other: &Device) {
        self.end_transaction();
        self.compare_without_rowids("before the exchange");
        let recent = self.recent.clone();
        let done = self.device.exchange();
        assert!(done.rejected.is_empty(), "{}\n{:#?}", recent.join(";\n"), done.rejected);
        other.exchange();
        self.tally.exchanges += 1;
        self.tally.mutations += done.pushed;
        self.compare_without_rowids("after the exchange");
        let theirs = dump(&self.plain, false);
        let conn = other.site.connection(View::Local).unwrap();
        self.must_equal("the other device", &dump(&conn, false), &theirs);
        let check = answer(&conn, "PRAGMA integrity_check");
        assert!(check == Answer::Rows(vec!["ok".into()]), "{}\n{check:?}", self.report());
        assert_eq!(other.site.base(), self.device.site.base());
        self.recent.clear();
    }

    fn compare_without_rowids(&self, when: &str) {
        let (ours, theirs) = (dump(&self.site, false), dump(&self.plain, false));
        self.must_equal(when, &ours, &theirs);
    }

    fn report(&self) -> String {
        let skip = self.recent.len().saturating_sub(400);
        self.recent[skip..].join(";\n")
    }
}

fn answer(conn: &Connection, sql: &str) -> Answer {
    let run = || -> rusqlite::Result<Vec<String>> {
        let mut statement = conn.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let cells: Vec<_> =
                (0..columns).map(|at| format!("{:?}", row.get_ref_unwrap(at))).collect();
            lines.push(cells.join("|"));
        }
        Ok(lines)
    };
    match run() {
        Ok(rows) if rows == ["Text([111, 107])"] => Answer::Rows(vec!["ok".into()]),
        Ok(rows) => Answer::Rows(rows),
        Err(rusqlite::Error::SqliteFailure(e, text)) => {
            Answer::Failed(e.extended_code & 0xff, text.unwrap_or_default())
        }
        Err(rusqlite::Error::SqlInputError { error, msg, .. }) => {
            Answer::Failed(error.extended_code & 0xff, msg)
        }
        Err(other) => panic!("{sql}: {other}"),
    }
}

fn run(run: &Run) -> Tally {
    let world = World::new();
    let mut pair = Pair::new(&world);
    let other = world.device();
    let mut generator = Generator::new(Rng::new(run.seed), run.batch.is_some());
    for sql in generate::FIXTURES {
        pair.run(sql);
    }
    let mut catalog = Catalog::read(&pair.plain);
    for at in 1..=run.statements {
        let sql = generator.statement(&catalog, !pair.plain.is_autocommit());
        pair.run(&sql);
        if generate::may_change_schema(&sql) {
            catalog = Catalog::read(&pair.plain);
        }
        match run.batch {
            Some(batch) if at % batch == 0 => {
                pair.exchange(&other);
                catalog = Catalog::read(&pair.plain);
            }
            None if at % 250 == 0 => pair.compare(),
            _ => {}
        }
    }
    pair.end_transaction();
    if run.batch.is_none() {
        pair.compare();
        let again = world.open(pair.device.dir.fork(), 1);
        let conn = again.site.connection(View::Local).unwrap();
        pair.must_equal("the reopened site", &dump(&conn, true), &dump(&pair.plain, true));
    }
    pair.tally
}

fn run_all(seeds: std::ops::Range<u64>, statements: usize, batch: Option<usize>) {
    let mut refused = 0;
    for seed in seeds.clone() {
        let tally = run(&Run { seed, statements, batch });
        println!("seed {seed}: {tally:#?}");
        refused += tally.refused.len();
        assert!(tally.failed * 2 < tally.statements, "most statements must do something");
    }
    let all = usize::try_from(seeds.end - seeds.start).unwrap() * statements;
    assert!(refused * 50 < all, "{refused} of {all} statements were refused: far too many");
}

#[test]
fn generated_sql_does_what_plain_sqlite_does() {
    match is_long() {
        true => run_all(100..112, 2_000, None),
        false => run_all(0..2, 1_300, None),
    }
}

#[test]
fn generated_sql_reaches_another_device_unchanged() {
    match is_long() {
        true => run_all(200..212, 1_000, Some(25)),
        false => run_all(10..12, 700, Some(25)),
    }
}
