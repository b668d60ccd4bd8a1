//! `sheaf sql`: run statements on a site and print what they return.
//!
//! Invariant: a transaction that is still open at the end is rolled back and the command fails;
//! SQL that cannot be parsed creates no site.

use std::io::{self, Read};

use rusqlite::Connection;

use crate::{
    args::{GlobalArgs, SqlArgs},
    backend::Device,
    commands::{after, enter},
    console::Console,
    exit::{Exit, Failure},
    render::{Format, Mode},
    sql,
};

pub(super) fn run(
    args: &SqlArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let texts = args.sql.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
    let format = Format::from_args(&args.format, global.json, Mode::List);
    let device = Device::open(global)?;
    if !device.has_site(&args.site) {
        texts.first().map_or(Ok(()), |text| sql::check_grammar(text))?;
    }
    let (site, contact) =
        enter(&device, &args.site, args.create.page_size, args.exchange, console)?;
    site.check_page_size(args.create.page_size)?;
    let db = site.connection(args.view)?;
    let results = run_all(&db, &texts, &format, console)?;
    drop(db);
    if format.mode == Mode::Json && results == 0 {
        // A script that asked for JSON always gets an array.
        console.line("[]");
    }
    // What was asked for is shown before the server is waited for.
    console.flush();
    after(&site, contact, args.exchange, console)
}

/// Runs the arguments in order; returns how many results were printed.
fn run_all(
    db: &Connection,
    texts: &[String],
    format: &Format,
    console: &mut Console,
) -> Result<usize, Failure> {
    let mut results = 0;
    for text in texts {
        match sql::run(db, text, format, console) {
            Ok(ran) => results += ran.results,
            Err(failure) => return Err(explain_what_stays(db, failure)),
        }
    }
    if db.is_autocommit() {
        return Ok(results);
    }
    Err(Failure::new("sql", "the SQL ends inside a transaction, which was rolled back; add COMMIT"))
}

fn explain_what_stays(db: &Connection, failure: Failure) -> Failure {
    if !db.is_autocommit() {
        failure.with_note("the open transaction was rolled back")
    } else if db.total_changes() > 0 {
        failure.with_note("what came before it stays done")
    } else {
        failure
    }
}

/// The SQL itself, or what stdin holds for `-`.
fn read(text: &str) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut sql = String::new();
    let read = io::stdin().read_to_string(&mut sql);
    read.map_err(|error| Failure::io("read SQL from stdin", &error))?;
    Ok(sql)
}
