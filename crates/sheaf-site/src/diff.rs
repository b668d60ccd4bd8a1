//! What differs between two states: schema, then rows, reading only pages that differ.
//!
//! Invariant: which pages differ is known from the log and from what this device changed, without
//! reading one ([`Snapshot::differing_pages`]); where nothing is known (two files, two sites
//! without a common history), every row is read. Sheaf's own tables are left out, and so are
//! virtual tables of other kinds than fts5 with its own text: they are named, not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};
use sheaf_volume::{Error, ErrorKind, PageIdx, PageSet, Result, Snapshot};

use crate::error::{explain, from_sqlite};
use crate::schema::{FtsContent, Schema, SchemaObject, TableInfo, TableKind, fold, is_own};
use crate::site::{Site, View};
use crate::vfs::{FileView, Watch};

pub(crate) mod btree;
#[doc(hidden)]
pub mod fuzz;
mod named;
mod patch;
mod restore;
mod rows;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use named::{NamedChange, NamedRow, Relation};
pub use patch::{Statement, literal};
pub use restore::Restored;
pub use rows::{Change, Row, TableShape};

use rows::{Source, Table};
use walk::{Pages, Roots, Rows};

/// One of the two states.
#[derive(Debug)]
pub struct Side {
    conn: Connection,
    schema: Schema,
    roots: BTreeMap<String, u32>,
    snapshot: Option<Snapshot>,
    /// The pages themselves, where there are reasons to look at them.
    pages: Option<Pages>,
}

/// An object of the schema that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The statement that made it in the first state, if it is there.
    pub old: Option<String>,
    /// The same in the second state.
    pub new: Option<String>,
}

/// Two states, ready to be compared.
#[derive(Debug)]
pub struct Diff {
    a: Side,
    b: Side,
    /// Where rows may differ, by table; a table that is not named is read whole.
    plan: BTreeMap<String, Rows>,
    /// How many pages differ, if that is known.
    pages: Option<u64>,
}

impl Side {
    /// A view of a site. It does not change any more, whatever happens to the site.
    ///
    /// # Errors
    /// As [`Site::connection`].
    pub fn of_site(site: &Site, view: View) -> Result<Self> {
        let volume = site.volume();
        let snapshot = match view {
            View::Local => volume.head(),
            View::Global => volume.global(),
            View::At(lsn) => volume.at(lsn)?,
            View::AtTime(time_ms) => volume.at(volume.lsn_at_time(time_ms)?)?,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let (conn, _) = site.open_file(FileView::At(snapshot.clone()), flags)?;
        Self::new(conn, Some(snapshot))
    }

    /// A state of which some pages are at hand.
    ///
    /// # Errors
    /// As [`Site::connection`].
    pub(crate) fn watched(site: &Site, watch: &Arc<Watch>) -> Result<Self> {
        let view = FileView::Watched(Arc::clone(watch));
        let (conn, _) = site.open_file(view, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut side = Self::new(conn, None)?;
        side.pages = match watch.snapshot().page_count().0 {
            // An empty database has no page to read.
            0 => None,
            _ => Pages::of(Box::new(Arc::clone(watch)))?,
        };
        Ok(side)
    }

    /// A plain SQLite file.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Invalid` when it is not a database.
    pub fn of_file(path: &Path) -> Result<Self> {
        let shown = path.display();
        if !path.is_file() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no file `{shown}`")));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags).map_err(from_sqlite)?;
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(|e| {
            let text = format!("`{shown}` is not a SQLite database");
            Error::with_source(ErrorKind::Invalid, text, e)
        })?;
        Self::new(conn, None)
    }

    fn new(conn: Connection, snapshot: Option<Snapshot>) -> Result<Self> {
        conn.execute_batch("BEGIN").map_err(|e| explain(&conn, e))?;
        let schema = Schema::read(&conn)?;
        let roots = read_roots(&conn).map_err(|e| explain(&conn, e))?;
        Ok(Self { conn, schema, roots, snapshot, pages: None })
    }

    /// A table whose rows can be compared.
    fn table(&self, name: &str) -> Option<Table<'_>> {
        let info = self.schema.table(name).filter(|info| is_compared(info))?;
        Some(Table { side: self, info })
    }

    fn root(&self, name: &str) -> Option<PageIdx> {
        self.roots.get(&fold(name)).and_then(|root| PageIdx::new(*root))
    }
}

fn read_roots(conn: &Connection) -> rusqlite::Result<BTreeMap<String, u32>> {
    let sql = "SELECT name, rootpage FROM main.sqlite_schema WHERE type = 'table'";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    rows.map(|row| row.map(|(name, root)| (fold(&name), root))).collect()
}

fn is_compared(info: &TableInfo) -> bool {
    let kind = match &info.kind {
        TableKind::Table => true,
        TableKind::Virtual { content, .. } => *content == FtsContent::Own,
        TableKind::Shadow { .. } | TableKind::View => false,
    };
    kind && !is_own(&info.name)
}

/// Whether rows of both can be compared column by column.
fn are_alike(a: &TableInfo, b: &TableInfo) -> bool {
    let columns = |info: &TableInfo| -> Vec<_> {
        let column = |c: &crate::schema::Column| (c.name.clone(), c.generated, c.hidden, c.pk);
        info.columns.iter().map(column).collect()
    };
    a.identity == b.identity
        && a.without_rowid == b.without_rowid
        && a.kind == b.kind
        && columns(a) == columns(b)
}

impl Diff {
    /// Makes two states ready: finds out which pages differ, and which of them hold rows.
    ///
    /// # Errors
    /// `Unavailable` when pages or commits are needed and cannot be fetched, `Corrupt`.
    pub fn new(a: Side, b: Side) -> Result<Self> {
        let mut diff = Self { a, b, plan: BTreeMap::new(), pages: None };
        let (Some(before), Some(after)) = (&diff.a.snapshot, &diff.b.snapshot) else {
            return Ok(diff);
        };
        let Some(differ) = before.differing_pages(after)? else { return Ok(diff) };
        // An empty database has no page to read.
        if before.page_count().0 == 0 || after.page_count().0 == 0 {
            return Ok(diff);
        }
        let pages = |snapshot: &Snapshot| Pages::of(Box::new(snapshot.clone()));
        let (before, after) = (pages(before)?, pages(after)?);
        (diff.a.pages, diff.b.pages) = (before, after);
        diff.look(&differ)?;
        Ok(diff)
    }

    /// As [`Diff::new`], of states whose pages are at hand, where it is known which of them differ.
    ///
    /// # Errors
    /// As [`Diff::new`].
    pub(crate) fn of_pages(a: Side, b: Side, differ: &PageSet) -> Result<Self> {
        let mut diff = Self { a, b, plan: BTreeMap::new(), pages: None };
        diff.look(differ)?;
        Ok(diff)
    }

    /// The second state, to be the first of another comparison.
    pub(crate) fn into_after(self) -> Side {
        self.b
    }

    /// Finds out which of the pages that differ hold rows.
    fn look(&mut self, differ: &PageSet) -> Result<()> {
        let tables = self.common_trees();
        if let (Some(before), Some(after)) = (&self.a.pages, &self.b.pages) {
            self.plan = walk::plan(before, after, differ, &tables)?;
            self.pages = Some(differ.len());
        }
        Ok(())
    }

    /// Tables with trees of their own that can be compared page by page.
    fn common_trees(&self) -> Vec<Roots> {
        let tables = self.a.schema.tables().filter(|info| info.kind == TableKind::Table);
        let roots = tables.filter_map(|info| {
            let there = self.b.table(&info.name).filter(|there| are_alike(info, there.info))?;
            let by_page = info.without_rowid || info.sql.by_rowid.is_some();
            Some(Roots {
                name: fold(&info.name),
                has_rowids: !info.without_rowid,
                a: self.a.root(&info.name).filter(|_| by_page && is_compared(info))?,
                b: self.b.root(&there.info.name)?,
            })
        });
        roots.collect()
    }

    /// How many pages may differ, if that is known.
    #[must_use]
    pub fn pages(&self) -> Option<u64> {
        self.pages
    }

    /// Names of the tables that are compared, in either state.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        let both = self.a.schema.tables().chain(self.b.schema.tables());
        let mut names = BTreeMap::new();
        for info in both.filter(|info| is_compared(info)) {
            names.entry(fold(&info.name)).or_insert_with(|| info.name.clone());
        }
        names.into_values().collect()
    }

    /// Virtual tables that are not compared.
    #[must_use]
    pub fn not_compared(&self) -> Vec<String> {
        let both = self.a.schema.tables().chain(self.b.schema.tables());
        let is_other = |info: &&TableInfo| match &info.kind {
            TableKind::Virtual { content, .. } => {
                !matches!(content, FtsContent::Own | FtsContent::External)
            }
            _ => false,
        };
        let names: BTreeSet<String> = both.filter(is_other).map(|info| info.name.clone()).collect();
        names.into_iter().collect()
    }

    /// The objects of the schema that differ, in the order of the second state.
    #[must_use]
    pub fn schema_changes(&self) -> Vec<SchemaChange> {
        let (before, after) = (objects(&self.a.schema), objects(&self.b.schema));
        let find = |list: &[&SchemaObject], wanted: &SchemaObject| {
            let same = |o: &&&SchemaObject| {
                o.kind == wanted.kind && o.name.eq_ignore_ascii_case(&wanted.name)
            };
            list.iter().find(same).and_then(|object| object.sql.clone())
        };
        let change = |object: &&SchemaObject| SchemaChange {
            kind: object.kind.clone(),
            name: object.name.clone(),
            old: find(&before, object),
            new: find(&after, object),
        };
        let gone = before.iter().filter(|object| find(&after, object).is_none());
        let all = gone.chain(&after).map(change);
        all.filter(|change| change.old != change.new).collect()
    }

    /// Tells how the rows of a table differ.
    ///
    /// # Errors
    /// `NotFound` for a table that is not compared, what `f` returns, and as [`Diff::new`].
    pub fn rows(
        &self,
        table: &str,
        f: &mut dyn FnMut(&TableShape, Change) -> Result<()>,
    ) -> Result<()> {
        match (self.a.table(table), self.b.table(table)) {
            (Some(a), Some(b)) if are_alike(a.info, b.info) => {
                let sources = match self.plan.get(&fold(table)) {
                    Some(rows) => (Source::Pages(&rows.a), Source::Pages(&rows.b)),
                    None => (Source::Everywhere, Source::Everywhere),
                };
                rows::compare(&a, &b, sources, f)
            }
            (None, None) => {
                let text = format!("there is no table `{table}` to compare");
                Err(Error::new(ErrorKind::NotFound, text))
            }
            (a, b) => {
                let a = a.map_or(Ok(()), |a| rows::only(&a, Change::Deleted, f));
                a.and_then(|()| b.map_or(Ok(()), |b| rows::only(&b, Change::Inserted, f)))
            }
        }
    }
}

/// The objects that people made.
fn objects(schema: &Schema) -> Vec<&SchemaObject> {
    let is_shadow = |object: &SchemaObject| {
        object.kind == "table"
            && matches!(
                schema.table(&object.name).map(|info| &info.kind),
                Some(TableKind::Shadow { .. })
            )
    };
    let objects = schema.objects().iter().filter(|object| object.sql.is_some());
    objects.filter(|o| !is_own(&o.name) && !is_own(&o.table) && !is_shadow(o)).collect()
}
