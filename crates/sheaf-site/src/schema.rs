//! What the main schema of a connection holds: tables, columns, row identity, foreign keys.
//!
//! Invariant: a [`Schema`] is read in one go and never changes; two schemas with equal
//! [`Schema::objects`] describe the same tables. Every replica derives the same identity and the
//! same rank for a table from the same schema text. Leaves out other attached schemas, and what
//! indexes, views and triggers mean: they are only compared as text.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
pub(crate) use sheaf_merge::Affinity;
use sheaf_volume::{Error, ErrorKind, Result};

mod read;
#[cfg(test)]
mod tests;

use read::{read_heads, read_objects, read_table};

/// An identifier, quoted for SQL.
#[must_use]
pub(crate) fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Puts an SQLite error into the crate's error, with what was being done as verb and noun.
pub(crate) fn sql_error(doing: &str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| {
        use rusqlite::ErrorCode as Code;
        let kind = match source.sqlite_error_code() {
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => ErrorKind::Busy,
            Some(Code::SystemIoFailure | Code::DiskFull | Code::CannotOpen) => ErrorKind::Io,
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => ErrorKind::Corrupt,
            Some(Code::TooBig | Code::OutOfMemory) => ErrorKind::Limit,
            _ => ErrorKind::Internal,
        };
        Error::with_source(kind, format!("{doing} failed"), source)
    }
}

/// What SQLite converts the values of a column of this type to. ANY, which converts nothing in a
/// STRICT table, means numeric elsewhere; the difference is never asked for here.
fn affinity(decltype: &str) -> Affinity {
    if decltype.eq_ignore_ascii_case("ANY") { Affinity::Blob } else { Affinity::of_type(decltype) }
}

/// One column. Its place in [`TableInfo::columns`] is SQLite's column number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// Its declared type, perhaps empty.
    pub(crate) decltype: String,
    /// What the declared type makes of values.
    pub(crate) affinity: Affinity,
    /// Whether it is computed from others (virtual or stored).
    pub(crate) generated: bool,
    /// Whether it is a hidden column of a virtual table.
    pub(crate) hidden: bool,
    /// Its place in the primary key, from 1; 0 if it is not part of it.
    pub(crate) pk: u32,
}

impl Column {
    /// Whether a row of the table holds a value of its own for it.
    #[must_use]
    pub(crate) fn is_stored(&self) -> bool {
        !self.generated && !self.hidden
    }
}

/// What tells the rows of a table apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// No declared key: the key is the row id, which is no column.
    Rowid,
    /// `INTEGER PRIMARY KEY`: the key is that column, which is the row id.
    Integer,
    /// Any other declared key: its columns in key order.
    Declared,
}

/// What a name in the schema stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// An ordinary table.
    Table,
    /// A virtual table.
    Virtual {
        /// Its module, in lower case.
        module: String,
        /// Where an FTS5 table has its text.
        content: FtsContent,
    },
    /// A table in which a virtual table keeps its data.
    Shadow {
        /// The virtual table.
        owner: String,
    },
    /// A view.
    View,
}

/// Where an FTS5 table has its text; `None` for every other module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FtsContent {
    /// Not an FTS5 table.
    None,
    /// In its own shadow table.
    Own,
    /// In another table (`content='t'`).
    External,
    /// Nowhere (`content=''`).
    Contentless,
}

/// A foreign key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    /// The table it refers to, as written in the schema.
    pub(crate) parent: String,
    /// Pairs of (column here, column there); there is `None` where the parent's key is implied.
    pub(crate) columns: Vec<(String, Option<String>)>,
    /// `NO ACTION`, `CASCADE`, ...
    pub(crate) on_delete: String,
    /// `NO ACTION`, `CASCADE`, ...
    pub(crate) on_update: String,
}

/// One table, view or virtual table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableInfo {
    /// Its name, as stored in the schema.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: TableKind,
    /// All columns, generated and hidden ones too.
    pub(crate) columns: Vec<Column>,
    /// What tells its rows apart.
    pub(crate) identity: Identity,
    /// Whether it was made `WITHOUT ROWID`.
    pub(crate) without_rowid: bool,
    /// Whether it is `STRICT`.
    pub(crate) strict: bool,
    /// Its foreign keys, in the order of their numbers.
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// How to read its rows.
    pub(crate) sql: ReadSql,
}

/// Where the table's columns begin in what [`ReadSql`] selects: after the row id, which is NULL
/// where it cannot be asked for. Generated and hidden columns are NULL, so that numbers fit.
pub(crate) const COLUMNS_FROM: usize = 1;

/// Statements that read whole rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadSql {
    /// Every row.
    pub(crate) all: String,
    /// The rows of a range of row ids, by row id; `None` if these cannot be asked for.
    pub(crate) by_rowid: Option<String>,
    /// Rows by declared key.
    pub(crate) by_key: String,
}

impl ReadSql {
    fn new(info: &TableInfo) -> Self {
        let rowid = info.rowid_name().map(|name| match info.identity {
            Identity::Integer => quote_ident(name),
            // In quotes, it could be taken for a string.
            _ => name.to_owned(),
        });
        let columns = info.columns.iter().map(|column| match column.is_stored() {
            true => quote_ident(&column.name),
            false => "NULL".to_owned(),
        });
        let first = rowid.clone().unwrap_or_else(|| "NULL".to_owned());
        let selected: Vec<String> = std::iter::once(first).chain(columns).collect();
        let table = quote_ident(&info.name);
        let all = format!("SELECT {} FROM main.{table}", selected.join(", "));
        let wanted = info.key_columns().into_iter().zip(1..);
        let wanted: Vec<String> = wanted
            .map(|((_, column), n)| format!("{} = ?{n}", quote_ident(&column.name)))
            .collect();
        let range = |name| format!("{all} WHERE {name} BETWEEN ?1 AND ?2 ORDER BY {name}");
        Self {
            by_rowid: rowid.map(range),
            by_key: format!("{all} WHERE {}", wanted.join(" AND ")),
            all,
        }
    }
}

impl TableInfo {
    /// The columns that hold values of their own, with their numbers.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.is_stored())
    }

    /// The declared primary key, in key order.
    #[must_use]
    pub(crate) fn key_columns(&self) -> Vec<(usize, &Column)> {
        let mut key: Vec<_> =
            self.columns.iter().enumerate().filter(|(_, column)| column.pk > 0).collect();
        key.sort_by_key(|(_, column)| column.pk);
        key
    }

    /// Whether rows of both tables are told apart by the same columns.
    #[must_use]
    pub(crate) fn has_key_of(&self, other: &Self) -> bool {
        let names = |info: &Self| -> Vec<String> {
            info.key_columns().into_iter().map(|(_, column)| fold(&column.name)).collect()
        };
        self.identity == other.identity && names(self) == names(other)
    }

    /// The name by which SQL can ask for the row id; `None` if columns took all of them, or if
    /// there is none.
    #[must_use]
    pub(crate) fn rowid_name(&self) -> Option<&str> {
        if self.without_rowid {
            return None;
        }
        if self.identity == Identity::Integer {
            return self.columns.iter().find(|c| c.pk > 0).map(|c| c.name.as_str());
        }
        let taken = |name: &str| self.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        ["rowid", "_rowid_", "oid"].into_iter().find(|name| !taken(name))
    }
}

/// One row of the schema table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SchemaObject {
    /// `table`, `index`, `view` or `trigger`.
    pub(crate) kind: String,
    /// Its name.
    pub(crate) name: String,
    /// The table it belongs to.
    pub(crate) table: String,
    /// The statement that makes it; `None` for indexes that SQLite makes itself.
    pub(crate) sql: Option<String>,
}

/// The main schema of a connection at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    version: i64,
    objects: Vec<SchemaObject>,
    tables: BTreeMap<String, TableInfo>,
    ranks: BTreeMap<String, usize>,
}

impl Schema {
    /// Reads the schema that `conn` sees.
    ///
    /// # Errors
    /// What SQLite reports, and `Invalid` for names that are not UTF-8.
    pub(crate) fn read(conn: &Connection) -> Result<Self> {
        let version = version(conn)?;
        let objects = read_objects(conn).map_err(sql_error("read schema"))?;
        let mut tables = BTreeMap::new();
        for head in read_heads(conn).map_err(sql_error("read tables"))? {
            let info = read_table(conn, head, &objects).map_err(sql_error("read columns"))?;
            tables.insert(fold(&info.name), info);
        }
        let ranks = rank(&tables);
        Ok(Self { version, objects, tables, ranks })
    }

    /// SQLite's schema cookie when this was read.
    #[must_use]
    pub(crate) fn version(&self) -> i64 {
        self.version
    }

    /// The schema table in its own order, without SQLite's internal objects.
    #[must_use]
    pub(crate) fn objects(&self) -> &[SchemaObject] {
        &self.objects
    }

    /// A table, view or virtual table by name, in any case.
    #[must_use]
    pub(crate) fn table(&self, name: &str) -> Option<&TableInfo> {
        self.tables.get(&fold(name))
    }

    /// All of them by name.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &TableInfo> {
        self.tables.values()
    }

    /// The place of a table when parents go before children; unknown tables go last. Cycles are
    /// broken by name.
    #[must_use]
    pub(crate) fn rank(&self, name: &str) -> usize {
        self.ranks.get(&fold(name)).copied().unwrap_or(usize::MAX)
    }

    /// Whether both hold the same objects, in whatever order.
    #[must_use]
    pub(crate) fn same_objects(&self, other: &Self) -> bool {
        sorted(&self.objects) == sorted(&other.objects)
    }
}

/// The objects of a schema in an order that does not depend on how they came about.
pub(crate) fn sorted(objects: &[SchemaObject]) -> Vec<&SchemaObject> {
    let mut all: Vec<_> = objects.iter().collect();
    all.sort();
    all
}

/// The schema cookie that `conn` sees.
pub(crate) fn version(conn: &Connection) -> Result<i64> {
    pragma_int(conn, "PRAGMA main.schema_version")
}

/// An integer in the database header, by the pragma that asks for it.
pub(crate) fn pragma_int(conn: &Connection, pragma: &str) -> Result<i64> {
    conn.prepare_cached(pragma)
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(sql_error("read header"))
}

/// SQLite compares names without regard to ASCII case.
pub(crate) fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Whether a name belongs to SQLite itself.
pub(crate) fn is_internal(name: &str) -> bool {
    name.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("sqlite_"))
}

/// Whether a name is one of Sheaf's own tables, in any case of letters.
pub(crate) fn is_own(name: &str) -> bool {
    fold(name).starts_with("__sheaf_")
}

/// Numbers the tables so that parents come first. Among those whose parents are numbered, and
/// where a cycle leaves none, the first by name goes next.
fn rank(tables: &BTreeMap<String, TableInfo>) -> BTreeMap<String, usize> {
    order(tables.iter().map(|(name, info)| {
        let parents = info.foreign_keys.iter().map(|key| fold(&key.parent));
        let known = parents.filter(|parent| parent != name && tables.contains_key(parent));
        (name.clone(), known.collect())
    }))
}

/// Kahn's algorithm (1962), with the first by name wherever there is a choice.
fn order(parents: impl Iterator<Item = (String, BTreeSet<String>)>) -> BTreeMap<String, usize> {
    let (mut missing, mut children) = (BTreeMap::new(), BTreeMap::<_, Vec<String>>::new());
    for (name, parents) in parents {
        missing.insert(name.clone(), parents.len());
        for parent in parents {
            children.entry(parent).or_default().push(name.clone());
        }
    }
    let is_ready = |(name, missing): (&String, &usize)| (*missing == 0).then(|| name.clone());
    let mut ready: BTreeSet<String> = missing.iter().filter_map(is_ready).collect();
    let mut ranks = BTreeMap::new();
    while let Some(next) =
        ready.pop_first().or_else(|| missing.first_key_value().map(|(name, _)| name.clone()))
    {
        missing.remove(&next);
        for child in children.remove(&next).unwrap_or_default() {
            if let Some(missing) = missing.get_mut(&child) {
                *missing -= 1;
                if *missing == 0 {
                    ready.insert(child);
                }
            }
        }
        ranks.insert(next, ranks.len());
    }
    ranks
}
