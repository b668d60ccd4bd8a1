//! What replay needs to know of a table: its identity, columns, rules and references.
//!
//! Invariant: a name that is in no list here never reaches SQL text as an identifier, because
//! SQLite would take an unknown quoted name for a string. The cache is dropped whenever the
//! schema or the declared rules may have changed.

use std::{collections::BTreeMap, rc::Rc};

use rusqlite::{Connection, OptionalExtension as _, params};
use sheaf_merge::{Declaration, Merged, RowPolicy, Rule, Value};
use sheaf_volume::{Error, ErrorKind};

use super::failure::Failure;
use crate::lists::ListColumn;
use crate::merges::Merges;

/// How a row of a table is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// `INTEGER PRIMARY KEY`: this column is the rowid.
    Alias(String),
    /// No declared key: the rowid, under a name that no column hides.
    Rowid(&'static str),
    /// Any other declared key.
    Key(Vec<String>),
}

impl Identity {
    /// The columns that name a row.
    pub(crate) fn columns(&self) -> Vec<&str> {
        match self {
            Self::Alias(col) => vec![col],
            Self::Rowid(name) => vec![name],
            Self::Key(cols) => cols.iter().map(String::as_str).collect(),
        }
    }

    /// Whether rows are named by an integer that their author did not choose.
    pub(crate) fn is_rowid(&self) -> bool {
        !matches!(self, Self::Key(_))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) rule: Rule,
    /// Why the stored rule cannot be followed here, if it cannot: `rule` says nothing then.
    pub(crate) newer: Option<Newer>,
    pub(crate) is_generated: bool,
    /// The columns by which its rule `list` divides the table.
    parents: Vec<String>,
    /// The table whose `INTEGER PRIMARY KEY` this column refers to.
    pub(crate) refers_to: Option<String>,
}

impl Column {
    /// Whether concurrent values of a cell are kept beside it.
    pub(crate) fn keeps_siblings(&self) -> bool {
        self.rule == Rule::Mvr && self.newer.is_none()
    }

    /// Merges a cell; `base` is `None` where its author saw no row.
    ///
    /// # Errors
    /// As [`Newer::stops`], if both sides changed the cell: where only one did, every rule there
    /// is or will be gives what that side wrote.
    pub(crate) fn merge(
        &self,
        (conn, merges): (&Connection, &Merges),
        base: Option<&Value>,
        left: &Value,
        right: &Value,
    ) -> Result<Merged, Failure> {
        let is_one_sided = base.is_some_and(|base| right.same(base) || left.same(base));
        match &self.newer {
            Some(newer) if !is_one_sided => Err(newer.stops()),
            _ => merges.merge(conn, self.rule, base, left, right),
        }
    }
}

/// Something stored among the rules that this version does not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newer(String);

impl Newer {
    /// Nothing is decided, since a newer version can: not this mutation, and none after it.
    pub(crate) fn stops(&self) -> Failure {
        Failure::Abort(Error::new(ErrorKind::Unsupported, self.0.clone()))
    }
}

/// One declared foreign key of a child table.
#[derive(Clone, Debug)]
pub(crate) struct ForeignKey {
    pub(crate) parent: String,
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
    pub(crate) on_delete: String,
}

#[derive(Debug)]
pub(crate) struct Table {
    /// As declared.
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) columns: Vec<Column>,
    /// The columns whose rule is `list`.
    pub(crate) lists: Vec<ListColumn>,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    pub(crate) policy: RowPolicy,
    /// Why the stored row policy cannot be followed here, if it cannot.
    pub(crate) newer_policy: Option<Newer>,
    pub(crate) is_autoincrement: bool,
    /// A virtual table: the pre-update hook never tells about it.
    pub(crate) is_virtual: bool,
    /// An FTS5 index over another table: rebuilt, never written row by row.
    pub(crate) is_derived: bool,
}

impl Table {
    /// The tables to which a row refers in other ways once these columns have changed.
    pub(crate) fn parents_left<'c>(&self, columns: impl Iterator<Item = &'c str>) -> Vec<String> {
        let columns: Vec<&str> = columns.collect();
        let is_changed = |from: &String| columns.iter().any(|col| from.eq_ignore_ascii_case(col));
        let changed = self.foreign_keys.iter().filter(|key| key.from.iter().any(is_changed));
        changed.map(|key| key.parent.clone()).collect()
    }

    /// Whether a column keeps concurrent values.
    pub(crate) fn has_siblings(&self) -> bool {
        self.columns.iter().any(Column::keeps_siblings)
    }

    pub(crate) fn column(&self, name: &str) -> Result<&Column, Failure> {
        let found = self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        match found {
            Some(column) if column.is_generated => {
                Err(Failure::reject(format!("column {name} of table {} is generated", self.name)))
            }
            Some(column) => Ok(column),
            None => Err(Failure::reject(format!("table {} has no column {name}", self.name))),
        }
    }
}

/// Tables met in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    known: BTreeMap<String, Rc<Table>>,
    indexes: Option<Rc<BTreeMap<String, Vec<String>>>>,
}

impl Tables {
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn get(&mut self, conn: &Connection, name: &str) -> Result<Rc<Table>, Failure> {
        if let Some(table) = self.known.get(name) {
            return Ok(Rc::clone(table));
        }
        let indexes = self.text_indexes(conn)?;
        let mut table = load(conn, name)?;
        table.is_derived = indexes.values().flatten().any(|index| *index == table.name);
        let table = Rc::new(table);
        self.known.insert(name.to_owned(), Rc::clone(&table));
        Ok(table)
    }

    /// FTS5 indexes with external content, by the lower-case name of their content table.
    pub(crate) fn text_indexes(
        &mut self,
        conn: &Connection,
    ) -> Result<Rc<BTreeMap<String, Vec<String>>>, Failure> {
        if let Some(indexes) = &self.indexes {
            return Ok(Rc::clone(indexes));
        }
        let indexes = Rc::new(super::fts::external_content(conn)?);
        self.indexes = Some(Rc::clone(&indexes));
        Ok(indexes)
    }
}

fn load(conn: &Connection, asked: &str) -> Result<Table, Failure> {
    let kind = conn
        .prepare_cached(
            "SELECT l.name, l.type, l.wr, s.sql FROM pragma_table_list(?1) AS l
             LEFT JOIN main.sqlite_schema AS s ON s.name = l.name AND s.type = 'table'
             WHERE l.schema = 'main'",
        )?
        .query_row([asked], |row| {
            let text = |i| row.get::<_, Option<String>>(i).map(Option::unwrap_or_default);
            Ok((text(0)?, text(1)?, row.get::<_, bool>(2)?, text(3)?))
        })
        .optional()?;
    let (name, is_virtual, is_without_rowid, sql) = match kind {
        Some((name, kind, wr, sql)) if kind == "table" || kind == "virtual" => {
            (name, kind == "virtual", wr, sql)
        }
        Some((name, kind, ..)) => {
            return Err(Failure::reject(format!("{name} is a {kind}, not a table")));
        }
        None => return Err(Failure::reject(format!("no such table: {asked}"))),
    };
    let (mut columns, key) = load_columns(conn, &name)?;
    let identity = match alias(conn, &name)? {
        Some(alias) if !is_without_rowid => Identity::Alias(alias),
        _ if !key.is_empty() => Identity::Key(key),
        _ => Identity::Rowid(free_rowid_name(&name, &columns)?),
    };
    let foreign_keys = load_foreign_keys(conn, &name)?;
    for foreign in &foreign_keys {
        let ([from], [to]) = (foreign.from.as_slice(), foreign.to.as_slice()) else {
            continue;
        };
        let is_alias = alias(conn, &foreign.parent)?.is_some_and(|a| a.eq_ignore_ascii_case(to));
        if let Some(column) =
            columns.iter_mut().find(|c| is_alias && c.name.eq_ignore_ascii_case(from))
        {
            column.refers_to = Some(foreign.parent.clone());
        }
    }
    let (policy, newer_policy) = apply_rules(conn, &name, &mut columns)?;
    if is_virtual {
        // Nothing can be kept beside a row that its module may renumber.
        let kept = columns.iter_mut().filter(|column| column.rule == Rule::Mvr);
        kept.for_each(|column| column.rule = Rule::Lww);
    }
    let lists = if is_virtual { Vec::new() } else { lists(&name, &identity, &columns) };
    let is_autoincrement =
        super::sqltext::tokens(&sql).iter().any(|token| token.is("AUTOINCREMENT"));
    Ok(Table {
        name,
        identity,
        columns,
        lists,
        foreign_keys,
        policy,
        newer_policy,
        is_autoincrement,
        is_virtual,
        is_derived: false,
    })
}

/// The columns by which rows are ordered, with their parents as declared.
fn lists(table: &str, identity: &Identity, columns: &[Column]) -> Vec<ListColumn> {
    let key: Rc<[String]> = identity.columns().into_iter().map(str::to_owned).collect();
    let list = |column: &Column| {
        let parent = |name: &String| {
            let mut others = columns.iter().filter(|c| !c.is_generated && c.name != column.name);
            others.find(|other| other.name.eq_ignore_ascii_case(name)).map(|c| c.name.clone())
        };
        let parents = column.parents.iter().map(parent).collect::<Option<_>>()?;
        let (table, name) = (table.to_owned(), column.name.clone());
        Some(ListColumn { table, name, key: Rc::clone(&key), parents })
    };
    let ordered = columns.iter().filter(|column| column.rule == Rule::List && !column.is_generated);
    ordered.filter_map(list).collect()
}

/// The columns, and the names of those in the primary key, in key order.
fn load_columns(conn: &Connection, name: &str) -> Result<(Vec<Column>, Vec<String>), Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1",
    )?;
    let mut rows = statement.query([name])?;
    let mut columns = Vec::new();
    let mut key: Vec<(i64, String)> = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let decltype: String = row.get(1)?;
        let place: i64 = row.get(2)?;
        if place > 0 {
            key.push((place, name.clone()));
        }
        columns.push(Column {
            name,
            rule: Rule::from_decltype(&decltype).unwrap_or_default(),
            newer: None,
            is_generated: row.get::<_, i64>(3)? > 1,
            parents: Vec::new(),
            refers_to: None,
        });
    }
    key.sort();
    Ok((columns, key.into_iter().map(|(_, name)| name).collect()))
}

/// The column that is the rowid, if the table has one. `INTEGER PRIMARY KEY DESC` is none: it has
/// an index of its own.
fn alias(conn: &Connection, name: &str) -> Result<Option<String>, Failure> {
    let alias = conn
        .prepare_cached(
            "SELECT max(name) FROM pragma_table_xinfo(?1, 'main') WHERE pk > 0
             HAVING count(*) = 1 AND max(upper(type)) = 'INTEGER' AND NOT EXISTS
             (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk')",
        )?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(alias)
}

fn free_rowid_name(table: &str, columns: &[Column]) -> Result<&'static str, Failure> {
    ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|name| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(name)))
        .ok_or_else(|| Failure::reject(format!("table {table} hides its rowid")))
}

fn load_foreign_keys(conn: &Connection, name: &str) -> Result<Vec<ForeignKey>, Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT f.id, f.\"table\", f.\"from\", coalesce(f.\"to\",
           (SELECT name FROM pragma_table_xinfo(f.\"table\", 'main') WHERE pk = f.seq + 1)),
           f.on_delete
         FROM pragma_foreign_key_list(?1, 'main') AS f ORDER BY f.id, f.seq",
    )?;
    let mut rows = statement.query([name])?;
    let mut keys: Vec<ForeignKey> = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if last != Some(id) {
            let (parent, on_delete) = (row.get(1)?, row.get(4)?);
            keys.push(ForeignKey { parent, from: Vec::new(), to: Vec::new(), on_delete });
            last = Some(id);
        }
        // A parent that does not exist has no columns: SQLite reports that when it matters.
        if let (Some(key), Some(to)) = (keys.last_mut(), row.get::<_, Option<String>>(3)?) {
            key.from.push(row.get(2)?);
            key.to.push(to);
        }
    }
    Ok(keys)
}

/// Rules declared by `sheaf_merge_rule`, which are stronger than those of types; a rule for column
/// `*` is the table's row policy.
fn apply_rules(
    conn: &Connection,
    name: &str,
    columns: &mut [Column],
) -> Result<(RowPolicy, Option<Newer>), Failure> {
    let (mut policy, mut newer_policy) = (RowPolicy::default(), None);
    if !exists(conn, "__sheaf_rules")? {
        return Ok((policy, newer_policy));
    }
    let mut statement = conn.prepare_cached(
        "SELECT col, rule FROM main.__sheaf_rules
             WHERE tbl = ?1 COLLATE NOCASE AND typeof(col) = 'text' AND typeof(rule) = 'text'",
    )?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let (col, rule): (String, String) = (row.get(0)?, row.get(1)?);
        let column = columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(&col));
        match (Declaration::of_stored(&col, &rule), column) {
            (Ok(Declaration::Rows(stored)), _) => policy = stored,
            (Ok(Declaration::Column(stored)), Some(column)) => column.rule = stored,
            (Ok(Declaration::List(parents)), Some(column)) => {
                column.rule = Rule::List;
                column.parents = parents.columns().to_vec();
            }
            (Err(_), Some(column)) => {
                let why = format!(
                    "column {col} has merge rule `{rule}`, which this version of sheaf does not \
                     know; upgrade"
                );
                column.newer = Some(Newer(why));
            }
            (Err(_), None) if col == "*" => {
                let why = format!(
                    "table {name} has row policy `{rule}`, which this version of sheaf does not \
                     know; upgrade"
                );
                newer_policy = Some(Newer(why));
            }
            (_, None) => {}
        }
    }
    Ok((policy, newer_policy))
}

/// Whether the main database has a table of this name, in any case.
pub(crate) fn has(conn: &Connection, table: &str) -> Result<bool, rusqlite::Error> {
    conn.prepare_cached(
        "SELECT EXISTS(SELECT 1 FROM main.sqlite_schema
         WHERE type = 'table' AND name = ?1 COLLATE NOCASE)",
    )?
    .query_row(params![table], |row| row.get(0))
}

/// Whether the main database has a table of this name.
pub(crate) fn exists(conn: &Connection, table: &str) -> Result<bool, rusqlite::Error> {
    conn.prepare_cached(
        "SELECT EXISTS(SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?1)",
    )?
    .query_row(params![table], |row| row.get(0))
}
