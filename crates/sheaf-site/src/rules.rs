//! Which merge rules the columns of a site have: listing them, and declaring them by name.
//!
//! Invariant: what is stored by [`declare`] names a table and a column that are there, and a rule
//! that this version knows and whose values the column keeps as they are. Leaves out what a rule
//! does, and reading rules for a replay: see `replay/table.rs`.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, functions::FunctionFlags, params};
use sheaf_merge::{CustomName, Declaration, RowPolicy, Rule, list::Parents};
use sheaf_volume::{Error, ErrorKind, Result};

use crate::{
    error::from_sqlite,
    merges, mutator,
    nested::{in_savepoint, user_error, with_connection},
    replay::table,
    schema::{Schema, TableInfo, TableKind, is_internal, is_own},
    site::{Site, View, lock},
};

/// The table of rules.
pub(crate) const TABLE: &str = "__sheaf_rules";

pub(crate) const CREATE: &str = "CREATE TABLE IF NOT EXISTS main.__sheaf_rules(
    tbl TEXT NOT NULL, col TEXT NOT NULL, rule TEXT NOT NULL, PRIMARY KEY(tbl, col)) WITHOUT ROWID";

/// Whether it is worth it to look for columns of the table under this rule.
///
/// # Errors
/// What reading the stored rules reports.
pub(crate) fn may_have(
    rule: Rule,
    info: &TableInfo,
    schema: &Schema,
    reader: &Connection,
) -> rusqlite::Result<bool> {
    if info.kind != TableKind::Table || info.name.starts_with("__sheaf_") {
        return Ok(false);
    }
    if info.columns.iter().any(|column| Rule::from_decltype(&column.decltype) == Some(rule)) {
        return Ok(true);
    }
    if schema.table(TABLE).is_none() {
        return Ok(false);
    }
    let stored = "SELECT EXISTS(SELECT 1 FROM main.__sheaf_rules
        WHERE tbl = ?1 COLLATE NOCASE AND rule LIKE '%' || ?2 || '%')";
    reader.prepare_cached(stored)?.query_row((&info.name, rule.name()), |row| row.get(0))
}

/// The merge rule of a column, or the row policy of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// The table.
    pub table: String,
    /// The column; `*` stands for the table's rows.
    pub column: String,
    /// The column's declared type; empty for `*`.
    pub decltype: String,
    /// The rule or row policy by name; as it is stored where this version does not know it, and
    /// `None` for a column that names the row and is never merged.
    pub rule: Option<String>,
    /// Where it comes from.
    pub declared: Declared,
    /// What is wrong with the declaration, if anything.
    pub problem: Option<String>,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Nothing was declared.
    Default,
    /// The column's declared type.
    Type,
    /// `sheaf_merge_rule`, or the table of rules.
    Stored,
    /// The column is part of what names a row.
    Key,
}

impl Declared {
    /// For people: `default`, `type`, `stored`, `key`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Type => "type",
            Self::Stored => "stored",
            Self::Key => "key",
        }
    }
}

impl Site {
    /// The merge rules of a table as this device sees it, or of all tables.
    ///
    /// # Errors
    /// `NotFound` if there is no such table, and as [`Site::read`].
    pub fn rules(&self, table: Option<&str>) -> Result<Vec<RuleInfo>> {
        let registered: Vec<CustomName> = lock(&self.0.merges).names().collect();
        self.read(View::Local, |conn| {
            let mut rules = list(conn, table).map_err(from_sqlite)?;
            for info in &mut rules {
                note_missing(conn, &registered, info).map_err(from_sqlite)?;
            }
            match table {
                Some(name) if rules.is_empty() => Err(no_table(name)),
                _ => Ok(rules),
            }
        })
    }

    /// Declares the merge rule of a column by its name, or with column `*` the row policy of a
    /// table; `None` takes a declaration back. It travels like any row. Gives what is stored.
    ///
    /// # Errors
    /// `NotFound` if there is no such table or column, `Invalid` for a rule that there is not, or
    /// that does not go with the column's type, and as [`Site::write`].
    pub fn merge_rule(
        &self,
        table: &str,
        column: &str,
        rule: Option<&str>,
    ) -> Result<Option<String>> {
        self.write(|tx| declare(tx, table, column, rule)).map(|(stored, _)| stored)
    }
}

/// Registers `sheaf_merge_rule(table, column, rule)`, for connections that write.
///
/// # Errors
/// What SQLite reports.
pub(crate) fn register(conn: &Connection) -> rusqlite::Result<()> {
    // A view or a trigger of somebody else's schema must not declare rules.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function("sheaf_merge_rule", 3, flags, |context| {
        if mutator::is_running() {
            return Err(user_error(&Error::invalid("sheaf_merge_rule is not for mutators")));
        }
        let (table, column): (String, String) = (context.get(0)?, context.get(1)?);
        let rule: Option<String> = context.get(2)?;
        with_connection(context, |conn| {
            in_savepoint(conn, || declare(conn, &table, &column, rule.as_deref()))
        })
    })
}

/// A column as its table declares it.
struct Column {
    name: String,
    decltype: String,
    is_key: bool,
    is_generated: bool,
}

impl Column {
    /// The type that decides what values are stored as.
    fn stored_type(&self, is_strict: bool) -> &str {
        // In a STRICT table ANY keeps every value as it is; elsewhere it is a word like others.
        if is_strict && self.decltype.eq_ignore_ascii_case("ANY") { "BLOB" } else { &self.decltype }
    }
}

/// A table, and whether it is STRICT.
type Head = (String, bool);

/// Checks a declaration and stores it: an ordinary write, which is captured and travels.
fn declare(
    conn: &Connection,
    table: &str,
    column: &str,
    rule: Option<&str>,
) -> Result<Option<String>> {
    let rule = rule.filter(|rule| !rule.trim().eq_ignore_ascii_case("default"));
    let named = name(conn, table, column);
    let Some(rule) = rule else {
        // What was declared for a table or column that has gone since may be taken back too.
        let (table, column) = match &named {
            Ok((table, column, _)) => (table.as_str(), column.as_str()),
            Err(_) => (table, column),
        };
        let removed = remove(conn, table, column).map_err(from_sqlite)?;
        return if removed { Ok(None) } else { named.map(|_| None) };
    };
    let (table, column, decltype) = named?;
    let declaration = Declaration::of_call(&column, &decltype, rule);
    let stored = match declaration.map_err(|error| Error::invalid(error.to_string()))? {
        Declaration::List(parents) => {
            let columns = columns(conn, &table).map_err(from_sqlite)?;
            let found = find_parents(&columns, &column, &parents);
            found.map_err(Error::invalid)?.to_string()
        }
        declaration => declaration.to_string(),
    };
    store(conn, &table, &column, &stored).map_err(from_sqlite)?;
    Ok(Some(stored))
}

/// The names of a table and a column as they were declared, and the type that decides what values
/// are stored as.
fn name(conn: &Connection, table: &str, column: &str) -> Result<(String, String, String)> {
    let (table, is_strict) = find_table(conn, table)?;
    if column == "*" {
        return Ok((table, column.to_owned(), String::new()));
    }
    let columns = columns(conn, &table).map_err(from_sqlite)?;
    let found = columns.into_iter().find(|known| known.name.eq_ignore_ascii_case(column));
    let Some(found) = found else {
        let text = format!("table {table} has no column {column}");
        return Err(Error::new(ErrorKind::NotFound, text));
    };
    if let Some(problem) = never_merged(&found) {
        return Err(Error::invalid(format!("column {}: {problem}", found.name)));
    }
    let decltype = found.stored_type(is_strict).to_owned();
    Ok((table, found.name, decltype))
}

/// The columns that divide a table into lists, as they are declared.
///
/// # Errors
/// What is wrong with one of them.
fn find_parents(columns: &[Column], column: &str, parents: &Parents) -> Result<Parents, String> {
    let find = |name: &String| {
        let found = columns.iter().find(|known| known.name.eq_ignore_ascii_case(name));
        match found {
            None => Err(format!("rule {parents}: there is no column {name}")),
            Some(found) if found.is_generated || found.name.eq_ignore_ascii_case(column) => {
                Err(format!("rule {parents}: {name} cannot tell lists apart"))
            }
            Some(found) => Ok(found.name.clone()),
        }
    };
    let found = parents.columns().iter().map(find).collect::<Result<_, _>>()?;
    Ok(Parents::new(found).unwrap_or_else(|| parents.clone()))
}

fn store(conn: &Connection, table: &str, column: &str, rule: &str) -> rusqlite::Result<()> {
    // Whoever made the table may have left out its key.
    remove(conn, table, column)?;
    conn.execute_batch(CREATE)?;
    let insert = "INSERT INTO main.__sheaf_rules(tbl, col, rule) VALUES(?1, ?2, ?3)";
    conn.execute(insert, [table, column, rule]).map(|_| ())
}

/// Whether there was anything to remove.
fn remove(conn: &Connection, table: &str, column: &str) -> rusqlite::Result<bool> {
    if !table::exists(conn, TABLE)? {
        return Ok(false);
    }
    let removed = conn.execute(
        "DELETE FROM main.__sheaf_rules
         WHERE tbl = ?1 COLLATE NOCASE AND col = ?2 COLLATE NOCASE",
        [table, column],
    )?;
    Ok(removed > 0)
}

/// Why no rule of the column could ever count.
fn never_merged(column: &Column) -> Option<&'static str> {
    if column.is_generated {
        Some("it is generated, so there is nothing to merge")
    } else if column.is_key {
        Some("it names the row, so it is never merged")
    } else {
        None
    }
}

fn find_table(conn: &Connection, name: &str) -> Result<Head> {
    let found = conn
        .query_row(
            "SELECT name, type, strict FROM pragma_table_list(?1) WHERE schema = 'main'",
            [name],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)),
        )
        .optional()
        .map_err(from_sqlite)?;
    match found {
        Some((name, kind, is_strict)) if is_listed(&name, &kind) => Ok((name, is_strict)),
        Some((name, ..)) => {
            Err(Error::invalid(format!("{name} is no table whose rows are merged")))
        }
        None => Err(no_table(name)),
    }
}

fn no_table(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no table {name}"))
}

fn is_listed(name: &str, kind: &str) -> bool {
    (kind == "table" || kind == "virtual") && !is_internal(name) && !is_own(name)
}

fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = conn.prepare(
        "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1",
    )?;
    let columns = statement.query_map([table], |row| {
        Ok(Column {
            name: row.get(0)?,
            decltype: row.get(1)?,
            is_key: row.get::<_, i64>(2)? > 0,
            is_generated: row.get::<_, i64>(3)? > 1,
        })
    })?;
    columns.collect()
}

/// Stored declarations by table and column, in lower case, with the names as they are stored.
type Stored = BTreeMap<(String, String), (String, String, String)>;

fn stored(conn: &Connection) -> rusqlite::Result<Stored> {
    if !table::exists(conn, TABLE)? {
        return Ok(Stored::new());
    }
    // As the replay reads them.
    let mut statement = conn.prepare(
        "SELECT tbl, col, rule FROM main.__sheaf_rules
         WHERE typeof(tbl) = 'text' AND typeof(col) = 'text' AND typeof(rule) = 'text'",
    )?;
    let rows = statement.query_map([], |row| {
        let (tbl, col, rule): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(((tbl.to_ascii_lowercase(), col.to_ascii_lowercase()), (tbl, col, rule)))
    })?;
    rows.collect()
}

fn list(conn: &Connection, only: Option<&str>) -> rusqlite::Result<Vec<RuleInfo>> {
    let mut stored = stored(conn)?;
    let heads: Vec<(String, String, bool)> = conn
        .prepare(
            "SELECT name, type, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name",
        )?
        .query_map(params![], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let is_asked = |name: &str| only.is_none_or(|only| only.eq_ignore_ascii_case(name));
    let mut rules = Vec::new();
    for (table, kind, is_strict) in heads {
        if !is_listed(&table, &kind) {
            continue;
        }
        let mut take =
            |col: &str| stored.remove(&(table.to_ascii_lowercase(), col.to_ascii_lowercase()));
        let mut found = vec![rows_info(&table, take("*"))];
        let columns = columns(conn, &table)?;
        for column in &columns {
            let stored = take(&column.name);
            // Nobody wonders about a rule for what is computed, unless one was declared.
            if column.is_generated && stored.is_none() {
                continue;
            }
            let mut info = column_info(&table, column, is_strict, stored);
            note_parents(&columns, &mut info);
            found.push(info);
        }
        if is_asked(&table) {
            rules.extend(found);
        }
    }
    let lost = stored.into_values().filter(|(table, ..)| is_asked(table));
    rules.extend(lost.map(|(table, column, rule)| RuleInfo {
        table,
        column,
        decltype: String::new(),
        rule: Some(rule),
        declared: Declared::Stored,
        problem: Some("there is no such table or column".to_owned()),
    }));
    Ok(rules)
}

/// A list is not told apart by columns that are gone.
fn note_parents(columns: &[Column], info: &mut RuleInfo) {
    let parents = info.rule.as_deref().and_then(Parents::of_rule);
    if let (Some(parents), None) = (parents, &info.problem) {
        info.problem = find_parents(columns, &info.column, &parents).err();
    }
}

/// A custom rule is nothing without its function.
fn note_missing(
    conn: &Connection,
    registered: &[CustomName],
    info: &mut RuleInfo,
) -> rusqlite::Result<()> {
    let rule = info.rule.as_deref().and_then(Rule::from_name);
    if let (Some(Rule::Custom(name)), None) = (rule, &info.problem)
        && !registered.contains(&name)
        && !merges::is_stored(conn, name)?
    {
        info.problem = Some(format!("there is no merge function {name}; define it first"));
    }
    Ok(())
}

fn rows_info(table: &str, stored: Option<(String, String, String)>) -> RuleInfo {
    let mut info = RuleInfo {
        table: table.to_owned(),
        column: "*".to_owned(),
        decltype: String::new(),
        rule: Some(RowPolicy::default().to_string()),
        declared: Declared::Default,
        problem: None,
    };
    if let Some((.., rule)) = stored {
        read_stored(&mut info, &rule, "");
    }
    info
}

fn column_info(
    table: &str,
    column: &Column,
    is_strict: bool,
    stored: Option<(String, String, String)>,
) -> RuleInfo {
    let mut info = RuleInfo {
        table: table.to_owned(),
        column: column.name.clone(),
        decltype: column.decltype.clone(),
        rule: Some(Rule::default().to_string()),
        declared: Declared::Default,
        problem: None,
    };
    match Declaration::of_type(&column.decltype) {
        Ok(None) => {}
        Ok(Some(rule)) => {
            info.rule = Some(rule.to_string());
            info.declared = Declared::Type;
        }
        Err(error) => info.problem = Some(error.to_string()),
    }
    let is_declared = stored.is_some();
    if let Some((.., rule)) = stored {
        read_stored(&mut info, &rule, column.stored_type(is_strict));
    }
    if column.is_key && !is_declared {
        (info.rule, info.declared) = (None, Declared::Key);
    } else if let Some(problem) = never_merged(column) {
        info.problem = Some(problem.to_owned());
    }
    info
}

/// What is stored is stronger than what a type says. One that is unknown stops what needs it.
fn read_stored(info: &mut RuleInfo, rule: &str, decltype: &str) {
    info.declared = Declared::Stored;
    info.problem = None;
    match Declaration::of_stored(&info.column, rule) {
        Ok(declaration) => {
            info.rule = Some(declaration.to_string());
            let fits = Declaration::of_call(&info.column, decltype, rule);
            info.problem = fits.err().filter(|_| info.column != "*").map(|error| error.to_string());
        }
        Err(error) => {
            info.rule = Some(rule.to_owned());
            info.problem = Some(error.to_string());
        }
    }
}
