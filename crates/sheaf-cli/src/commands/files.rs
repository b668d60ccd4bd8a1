//! `sheaf import` and `sheaf export`: ordinary SQLite files in and out.
//!
//! Invariant: a file that is not a database makes no site; an export appears whole or not at all,
//! and replaces nothing unless told to.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::{
    args::{ExportArgs, GlobalArgs, ImportArgs},
    backend::{Device, Site},
    commands::{after, enter, transfer::count},
    console::Console,
    exit::{Exit, Failure},
    progress::{self, Meter, Unit},
    sql,
    view::ViewArg,
};

pub(super) fn import(
    args: &ImportArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let own_size = check_database(&args.file)?;
    let page_size = args.page_size.or(Some(own_size));
    let device = Device::open(global)?;
    let (site, contact) = enter(&device, &args.site, page_size, args.exchange, console)?;
    site.check_page_size(args.page_size)?;
    if has_tables(&site)? {
        let name = &args.site;
        let message = format!("site `{name}` has tables already; import under another name");
        return Err(Failure::new("exists", message));
    }
    let meter = Meter::default();
    let import = || site.import(&args.file, &meter);
    let (tables, rows) =
        progress::during(console, "import", Unit::Rows, || meter.sample(), import)?;
    if console.json() {
        console.value(&json!({ "site": args.site, "tables": tables, "rows": rows }));
    } else {
        let tables = count(u64::try_from(tables).unwrap_or(u64::MAX), "table");
        console.line(&format!("imported {tables}, {}", count(rows, "row")));
    }
    console.flush();
    after(&site, contact, args.exchange, console)
}

pub(super) fn export(
    args: &ExportArgs,
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let file = &args.file;
    if file.exists() && !args.force {
        let message =
            format!("`{}` exists; choose another name, or replace it with --force", file.display());
        return Err(Failure::new("exists", message));
    }
    let device = Device::open(global)?;
    let site = device.existing(&args.site)?;
    let all = site.page_count() * site.page_size();
    let written = || {
        // The library writes beside the place too, under one name or, to replace a file, another.
        let len = |path: PathBuf| path.metadata().map_or(0, |meta| meta.len());
        let part = |end: &str| file.with_file_name(name_and(file, end));
        (len(part(".partial")).max(len(part(".sheaf-part.partial"))), all)
    };
    progress::during(console, "export", Unit::Bytes, written, || match file.exists() {
        true => replace(&site, args),
        false => site.export(args.view, file),
    })?;
    if console.json() {
        console.value(&json!({ "site": args.site, "file": file.display().to_string() }));
    }
    Ok(Exit::Done)
}

/// Exports beside a file and then takes its place, so that one of the two is always whole.
fn replace(site: &Site, args: &ExportArgs) -> Result<(), Failure> {
    let file = &args.file;
    let failed = |doing: &str, path: &Path, error: &std::io::Error| {
        Failure::io(&format!("{doing} `{}`", path.display()), error)
    };
    let part = part_of(file)?;
    if part.exists() {
        // Left behind by an export that was killed; nothing else has such a name.
        std::fs::remove_file(&part).map_err(|error| failed("remove", &part, &error))?;
    }
    let written = site.export(args.view, &part).and_then(|()| {
        std::fs::rename(&part, file).map_err(|error| failed("replace", file, &error))
    });
    if written.is_err() {
        // It may not even exist; the error that matters is already in hand.
        drop(std::fs::remove_file(&part));
    }
    written
}

fn name_and(file: &Path, end: &str) -> std::ffi::OsString {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(end);
    name
}

/// The name under which an export is written until it is whole.
fn part_of(file: &Path) -> Result<PathBuf, Failure> {
    let name = file.file_name().ok_or_else(|| {
        Failure::usage(format!("`{}` is not a file name; give one", file.display()))
    })?;
    let mut part = name.to_os_string();
    part.push(".sheaf-part");
    Ok(file.with_file_name(part))
}

/// Refuses what SQLite cannot read, before anything is made; gives its page size.
fn check_database(file: &Path) -> Result<u32, Failure> {
    let shown = file.display();
    if !file.is_file() {
        return Err(Failure::new(
            "not_found",
            format!("there is no file `{shown}`; check the path"),
        ));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let refused = |error: rusqlite::Error| {
        let said = sql::message(&error);
        Failure::new("invalid", format!("`{shown}` is not a SQLite database: {said}; give one"))
    };
    let db = Connection::open_with_flags(file, flags).map_err(refused)?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(refused)?;
    let found: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(refused)?;
    if found == "ok" {
        return db.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(refused);
    }
    let message = format!("`{shown}` is damaged: {found}; repair it with sqlite3's .recover first");
    Err(Failure::new("corrupt", message))
}

/// Whether a site holds anything besides Sheaf's own tables.
fn has_tables(site: &Site) -> Result<bool, Failure> {
    let db = site.connection(ViewArg::Local)?;
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema \
        WHERE name NOT GLOB '__sheaf_*' AND name NOT GLOB 'sqlite_*')";
    db.query_row(sql, [], |row| row.get(0)).map_err(|error| sql::failure(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_databases_are_imported() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.db");
        assert_eq!(check_database(&missing).unwrap_err().kind, "not_found");
        let text = dir.path().join("text.db");
        std::io::Write::write_all(
            &mut std::fs::OpenOptions::new().create(true).append(true).open(&text).unwrap(),
            "not a database, but longer than a header of one hundred bytes ".repeat(9).as_bytes(),
        )
        .unwrap();
        let failure = check_database(&text).unwrap_err();
        assert!(failure.message.contains("is not a SQLite database"), "{}", failure.message);
        let good = dir.path().join("good.db");
        Connection::open(&good).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
        assert_eq!(check_database(&good), Ok(4_096));
    }

    #[test]
    fn an_export_is_written_beside_its_place() {
        assert_eq!(part_of(Path::new("a/b.db")), Ok(PathBuf::from("a/b.db.sheaf-part")));
        assert!(part_of(Path::new("..")).is_err());
    }
}
