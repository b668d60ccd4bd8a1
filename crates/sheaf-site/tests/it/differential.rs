//! Generated SQL, statement by statement, on a site and on plain SQLite of the same library.
//!
//! Every statement must give the same rows or the same error on both, and both databases must
//! hold the same rows at all times. The second form also exchanges with a bucket: what a second
//! device makes of the captured mutations must be the plain database too. What the capture
//! refuses by design is recognised by its text and then not done on the plain side either; there
//! must be little of it. A failing run is shrunk to a short script before it is reported. Leaves
//! out concurrent writers: see `bucket.rs`.

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
const REFUSALS: &[&str] = &[
    "run each in its own transaction",
    "in separate transactions",
    "has NULL in its primary key",
    "is not UTF-8",
];
/// Runs that shrinking a failed script may take.
const SHRINK_RUNS_MAX: usize = 300;

/// One thing done to both databases.
#[derive(Clone, Debug)]
enum Step {
    Sql(String),
    Compare,
    Exchange,
}

#[derive(Debug, Default)]
struct Tally {
    statements: usize,
    failed: usize,
    refused: Vec<String>,
    mutations: usize,
}

/// A site, the plain database that it must equal, and another device.
struct Pair {
    world: World,
    device: Device,
    other: Device,
    site: Connection,
    plain: Connection,
    /// Hidden row ids follow the log, not the author: no scan has to meet rows in one order.
    any_order: bool,
    tally: Tally,
}

/// With recursive triggers, REPLACE runs delete triggers: an index with external content relies on
/// them, and without them a site's is right where plain SQLite's is not.
const SETUP: &str =
    "PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA cache_size = 12";

impl Pair {
    fn new(any_order: bool) -> Self {
        let world = World::new();
        let device = world.device();
        let other = world.device();
        let site = device.site.connection(View::Local).unwrap();
        let plain = Connection::open_in_memory().unwrap();
        site.execute_batch(SETUP).unwrap();
        plain.execute_batch(SETUP).unwrap();
        Self { world, device, other, site, plain, any_order, tally: Tally::default() }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Sql(sql) => self.run(sql),
            Step::Compare => self.compare(),
            Step::Exchange => self.exchange(),
        }
    }

    fn run(&mut self, sql: &str) -> Result<(), String> {
        if sql.contains("last_insert_rowid") && !self.tally.refused.is_empty() {
            // What was refused here and not tried there counts on one side only.
            return Ok(());
        }
        self.tally.statements += 1;
        let was_idle = self.plain.is_autocommit();
        let ours = self.answer(&self.site, sql);
        let why = self.reason(&ours);
        if let Some(why) = why.as_ref().filter(|why| is_refusal(why)) {
            self.tally.refused.push(format!("{sql}: {why}"));
            return self.undo_refused(sql, was_idle, why);
        }
        let theirs = self.answer(&self.plain, sql);
        self.tally.failed += usize::from(matches!(theirs, Answer::Failed(..)));
        if ours != theirs {
            return Err(format!("site: {ours:?} {why:?}\nplain: {theirs:?}"));
        }
        let idle = (self.site.is_autocommit(), self.plain.is_autocommit());
        if idle.0 != idle.1 {
            return Err(format!("not in a transaction: {idle:?}"));
        }
        Ok(())
    }

    fn answer(&self, conn: &Connection, sql: &str) -> Answer {
        match answer(conn, sql) {
            Answer::Rows(mut rows) if self.any_order => {
                rows.sort();
                Answer::Rows(rows)
            }
            other => other,
        }
    }

    fn undo_refused(&self, sql: &str, was_idle: bool, why: &str) -> Result<(), String> {
        let is_row = ["INSERT", "UPDATE", "DELETE"].iter().any(|verb| sql.starts_with(verb));
        if was_idle && is_row && why.contains("transaction") {
            return Err(format!("a single statement cannot be split: {why}"));
        }
        if !was_idle {
            self.plain.execute_batch("ROLLBACK").unwrap();
        }
        if !self.site.is_autocommit() {
            // SQLite's own way: a RELEASE that cannot commit has undone everything and still
            // wants to be told so.
            if !sql.starts_with("RELEASE") {
                return Err("a refused commit did not end its transaction".into());
            }
            self.site.execute_batch("ROLLBACK").unwrap();
        }
        Ok(())
    }

    /// The site's own reason for an error, if it has one.
    fn reason(&self, answer: &Answer) -> Option<String> {
        match answer {
            Answer::Rows(_) => None,
            Answer::Failed(..) => {
                self.site.query_row("SELECT sheaf_failure()", [], |row| row.get(0)).unwrap()
            }
        }
    }

    fn compare(&self) -> Result<(), String> {
        must_equal("the site's own connection", &dump(&self.site, true), &dump(&self.plain, true))?;
        is_whole("site", &self.site)?;
        is_whole("plain", &self.plain)?;
        if !self.site.is_autocommit() {
            return Ok(());
        }
        let again = self.world.open(self.device.dir.fork(), 1);
        let conn = again.site.connection(View::Local).unwrap();
        must_equal("the reopened site", &dump(&conn, true), &dump(&self.plain, true))
    }

    fn end_transaction(&mut self) -> Result<(), String> {
        for sql in ["COMMIT", "ROLLBACK"] {
            if !self.plain.is_autocommit() {
                self.run(sql)?;
            }
        }
        Ok(())
    }

    fn exchange(&mut self) -> Result<(), String> {
        self.end_transaction()?;
        let theirs = dump(&self.plain, false);
        must_equal("the site before the exchange", &dump(&self.site, false), &theirs)?;
        let done = self.device.exchange();
        if !done.rejected.is_empty() {
            return Err(format!("{:#?}", done.rejected));
        }
        self.tally.mutations += done.pushed;
        must_equal("the site after the exchange", &dump(&self.site, false), &theirs)?;
        self.other.exchange();
        let conn = self.other.site.connection(View::Local).unwrap();
        must_equal("the other device", &dump(&conn, false), &theirs)?;
        is_whole("the other device", &conn)?;
        match self.other.site.base() == self.device.site.base() {
            true => Ok(()),
            false => Err("the bases differ".into()),
        }
    }
}

fn must_equal(whose: &str, ours: &[String], theirs: &[String]) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    let extra: Vec<_> = ours.iter().filter(|row| !theirs.contains(row)).take(8).collect();
    let missing: Vec<_> = theirs.iter().filter(|row| !ours.contains(row)).take(8).collect();
    Err(format!("{whose}: extra {extra:#?}\nmissing {missing:#?}"))
}

fn is_whole(name: &str, conn: &Connection) -> Result<(), String> {
    let check = answer(conn, "PRAGMA integrity_check");
    match check == Answer::Rows(vec!["'ok'".into()]) {
        true => Ok(()),
        false => Err(format!("{name}: {check:?}")),
    }
}

fn is_refusal(why: &str) -> bool {
    REFUSALS.iter().any(|words| why.contains(words))
}

fn answer(conn: &Connection, sql: &str) -> Answer {
    match catalog::rows(conn, sql) {
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

/// Generates and runs; with a batch, exchanges after each.
fn run(seed: u64, statements: usize, batch: Option<usize>) -> Tally {
    let mut pair = Pair::new(batch.is_some());
    let mut script: Vec<Step> = Vec::new();
    let mut generator = Generator::new(Rng::new(seed), batch.is_some());
    let mut catalog = Catalog::read(&pair.plain);
    let mut fixtures = generate::FIXTURES.iter();
    for at in 1..=statements {
        let sql = match fixtures.next() {
            Some(sql) => (*sql).to_owned(),
            None => generator.statement(&catalog, !pair.plain.is_autocommit()),
        };
        let may_change_schema = generate::may_change_schema(&sql);
        let mut steps = vec![Step::Sql(sql)];
        match batch {
            Some(batch) if at % batch == 0 || at == statements => steps.push(Step::Exchange),
            None if at % 250 == 0 || at == statements => steps.push(Step::Compare),
            _ => {}
        }
        for step in steps {
            script.push(step);
            if let Some(step) = script.last()
                && let Err(why) = pair.step(step)
            {
                report(seed, script, batch.is_some(), &why);
            }
        }
        if may_change_schema || at % 50 == 0 {
            catalog = Catalog::read(&pair.plain);
        }
    }
    pair.tally
}

/// Shrinks a script that fails, then fails with it.
fn report(seed: u64, mut script: Vec<Step>, any_order: bool, why: &str) -> ! {
    let play = |script: &[Step]| -> Option<String> {
        let mut pair = Pair::new(any_order);
        script.iter().find_map(|step| pair.step(step).err())
    };
    let (mut why, mut runs, mut chunk) = (why.to_owned(), 0, script.len() / 2);
    while chunk > 0 && runs < SHRINK_RUNS_MAX {
        let mut at = 0;
        while at < script.len() && runs < SHRINK_RUNS_MAX {
            let mut shorter = script.clone();
            shorter.drain(at..script.len().min(at + chunk));
            runs += 1;
            match play(&shorter) {
                Some(new) => (script, why) = (shorter, new),
                None => at += chunk,
            }
        }
        chunk /= 2;
    }
    let lines: Vec<_> = script
        .iter()
        .map(|step| match step {
            Step::Sql(sql) => format!("{sql};"),
            other => format!("-- {other:?}"),
        })
        .collect();
    panic!("seed {seed}:\n{}\n{why}", lines.join("\n"));
}

fn run_all(seeds: std::ops::Range<u64>, statements: usize, batch: Option<usize>) {
    let (mut all, mut refused) = (0, 0);
    for seed in seeds {
        let tally = run(seed, statements, batch);
        println!("seed {seed}: {tally:#?}");
        refused += tally.refused.len();
        all += tally.statements;
        assert!(tally.failed * 2 < tally.statements, "most statements must do something");
        assert!(batch.is_none() || tally.mutations > statements / 20, "{tally:?}");
    }
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
