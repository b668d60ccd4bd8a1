//! Columns by which people order rows: which there are, and reading the lists that they make.
//!
//! Invariant: a list is the rows with equal values in the parent columns whose position is a text,
//! ordered by it byte by byte, then by key; all reading here agrees on that. A column whose parents
//! are not there, or of a virtual table, orders nothing. Leaves out where a row comes to stand.

use std::{ops::RangeInclusive, rc::Rc};

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params_from_iter};
use sheaf_merge::{Value, limits::LIST_LEN_MAX};

use crate::{
    schema::quote_ident,
    value::{Bind, from_ref},
};

/// A column whose rule is `list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListColumn {
    /// Its table, as declared.
    pub(crate) table: String,
    /// Its name, as declared.
    pub(crate) name: String,
    /// The columns that name a row.
    pub(crate) key: Rc<[String]>,
    /// The columns that rows of one list have in common, as declared.
    pub(crate) parents: Vec<String>,
}

/// A row as its list has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    /// The text by which it stands where it stands, a position or not.
    pub(crate) position: String,
    /// What names it.
    pub(crate) key: Vec<Value>,
}

/// A row, and the list that it is in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Own {
    /// Its position; anything, if it is in no list.
    pub(crate) position: Value,
    /// What its list has in common.
    pub(crate) parents: Vec<Value>,
}

/// Which rows up to a position are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Those in front of a row: at its position, those with smaller keys.
    Row,
    /// All but the row itself.
    Position,
}

impl ListColumn {
    /// What a row has in this column and in those of its parents; `None` without the row.
    pub(crate) fn own(&self, conn: &Connection, key: &[Value]) -> rusqlite::Result<Option<Own>> {
        let sql = format!(
            "SELECT {} FROM main.{} WHERE {}",
            self.row(),
            quote_ident(&self.table),
            same(&self.key, 1)
        );
        let read = |row: &Row<'_>| self.read_own(row);
        conn.prepare_cached(&sql)?.query_row(binds(&[key]), read).optional()
    }

    /// The last row of a list up to a position.
    pub(crate) fn last(
        &self,
        conn: &Connection,
        parents: &[Value],
        (position, key): (&str, &[Value]),
        until: Until,
    ) -> rusqlite::Result<Option<Member>> {
        let sql = self.until(parents.len(), key.len(), until);
        let position = Value::Text(position.to_owned());
        let binds = binds(&[parents, std::slice::from_ref(&position), key]);
        conn.prepare_cached(&sql)?.query_row(binds, |row| self.read_member(row)).optional()
    }

    /// The first row of a list behind another that is none of the mutation's own.
    pub(crate) fn next(
        &self,
        conn: &Connection,
        parents: &[Value],
        (position, key): (&str, &[Value]),
        is_own: &dyn Fn(&[Value]) -> bool,
    ) -> rusqlite::Result<Option<Vec<Value>>> {
        let sql = self.behind(parents.len(), key.len());
        let position = Value::Text(position.to_owned());
        let mut statement = conn.prepare_cached(&sql)?;
        let mut rows = statement.query(binds(&[parents, std::slice::from_ref(&position), key]))?;
        while let Some(row) = rows.next()? {
            let member = self.read_member(row)?;
            if !is_own(&member.key) {
                return Ok(Some(member.key));
            }
        }
        Ok(None)
    }

    /// The rows of a list in their order: all, or one more than a list may have.
    pub(crate) fn load(
        &self,
        conn: &Connection,
        parents: &[Value],
    ) -> rusqlite::Result<Vec<Member>> {
        let sql = format!("{} {} LIMIT {}", self.members(), self.order("ASC"), LIST_LEN_MAX + 1);
        let mut statement = conn.prepare_cached(&sql)?;
        let rows = statement.query_map(binds(&[parents]), |row| self.read_member(row))?;
        rows.collect()
    }

    /// All lists at once, each in its order, for [`ListColumn::read_own`] with the key behind it.
    pub(crate) fn walk<'c>(&self, conn: &'c Connection) -> rusqlite::Result<CachedStatement<'c>> {
        let row = self.row();
        conn.prepare_cached(&format!(
            "SELECT {row}, {} FROM main.{} WHERE typeof({}) = 'text' {}",
            names(&self.key),
            quote_ident(&self.table),
            quote_ident(&self.name),
            self.order("ASC")
        ))
    }

    /// The last position of a list.
    pub(crate) fn end(
        &self,
        conn: &Connection,
        parents: &[Value],
    ) -> rusqlite::Result<Option<String>> {
        let sql = format!("{} {} LIMIT 1", self.members(), self.order("DESC"));
        let read = |row: &Row<'_>| self.read_member(row);
        let last = conn.prepare_cached(&sql)?.query_row(binds(&[parents]), read).optional()?;
        Ok(last.map(|last| last.position))
    }

    /// Whether an index leads to the rows of a list in their order.
    pub(crate) fn has_index(&self, conn: &Connection) -> rusqlite::Result<bool> {
        let names: Vec<String> = conn
            .prepare_cached("SELECT name FROM pragma_index_list(?1, 'main') WHERE partial = 0")?
            .query_map([&self.table], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let is_parent = |name: &String| self.parents.iter().any(|p| p.eq_ignore_ascii_case(name));
        for name in names {
            let columns: Vec<Option<String>> = conn
                .prepare_cached("SELECT name FROM pragma_index_info(?1, 'main') ORDER BY seqno")?
                .query_map([name], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut columns = columns.into_iter().map(Option::unwrap_or_default);
            let has_parents = columns.by_ref().take(self.parents.len()).all(|c| is_parent(&c));
            if has_parents && columns.next().is_some_and(|c| c.eq_ignore_ascii_case(&self.name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the position and the parents of a row.
    pub(crate) fn read_own(&self, row: &Row<'_>) -> rusqlite::Result<Own> {
        let parents =
            (1..=self.parents.len()).map(|at| value(row, at)).collect::<Result<_, _>>()?;
        Ok(Own { position: value(row, 0)?, parents })
    }

    /// Reads the key behind position and parents.
    pub(crate) fn read_key(&self, row: &Row<'_>) -> rusqlite::Result<Vec<Value>> {
        let first = 1 + self.parents.len();
        (first..first + self.key.len()).map(|at| value(row, at)).collect()
    }

    fn read_member(&self, row: &Row<'_>) -> rusqlite::Result<Member> {
        let key = (1..=self.key.len()).map(|at| value(row, at)).collect::<Result<_, _>>()?;
        Ok(Member { position: row.get(0)?, key })
    }

    fn row(&self) -> String {
        let parents = self.parents.iter().map(|name| format!(", {}", quote_ident(name)));
        std::iter::once(quote_ident(&self.name)).chain(parents).collect()
    }

    fn members(&self) -> String {
        let column = quote_ident(&self.name);
        let parents = same(&self.parents, 1);
        let and = if parents.is_empty() { "" } else { " AND " };
        format!(
            "SELECT {column}, {} FROM main.{} WHERE {parents}{and}typeof({column}) = 'text'",
            names(&self.key),
            quote_ident(&self.table)
        )
    }

    /// The last row up to a position, which comes behind so many parents and before a key.
    fn until(&self, parents: usize, key: usize, until: Until) -> String {
        let (at, pos) = (parents + 1, self.pos());
        let condition = match until {
            // The first half of these says nothing new: by it, an index leads there.
            Until::Row => format!("({pos}, {}) < ({})", names(&self.key), marks(at..=at + key)),
            Until::Position => format!("NOT ({})", same(&self.key, at + 1)),
        };
        let order = self.order("DESC");
        format!("{} AND {pos} <= ?{at} AND {condition} {order} LIMIT 1", self.members())
    }

    /// The rows behind another likewise.
    fn behind(&self, parents: usize, key: usize) -> String {
        let (at, pos) = (parents + 1, self.pos());
        let behind = format!("({pos}, {}) > ({})", names(&self.key), marks(at..=at + key));
        format!("{} AND {pos} >= ?{at} AND {behind} {}", self.members(), self.order("ASC"))
    }

    fn order(&self, direction: &str) -> String {
        let key = self.key.iter().map(|name| format!(", {} {direction}", quote_ident(name)));
        format!("ORDER BY {} {direction}{}", self.pos(), key.collect::<String>())
    }

    /// The position as it is compared, whatever collation the column has.
    fn pos(&self) -> String {
        format!("{} COLLATE BINARY", quote_ident(&self.name))
    }
}

/// `a IS ?1 AND b IS ?2`: parents may be NULL.
fn same(columns: &[String], first: usize) -> String {
    let same =
        columns.iter().zip(first..).map(|(name, i)| format!("{} IS ?{i}", quote_ident(name)));
    same.collect::<Vec<_>>().join(" AND ")
}

fn marks(numbers: RangeInclusive<usize>) -> String {
    numbers.map(|i| format!("?{i}")).collect::<Vec<_>>().join(", ")
}

fn names(columns: &[String]) -> String {
    columns.iter().map(|name| quote_ident(name)).collect::<Vec<_>>().join(", ")
}

fn binds<'v>(values: &[&'v [Value]]) -> impl rusqlite::Params + use<'v> {
    let all: Vec<Bind<'v>> = values.iter().flat_map(|values| values.iter().map(Bind)).collect();
    params_from_iter(all)
}

/// A value; one that is no value of a mutation, such as text that is not UTF-8, is in no list.
fn value(row: &Row<'_>, at: usize) -> rusqlite::Result<Value> {
    Ok(from_ref(row.get_ref(at)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_a_row_go_by_the_index() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE item(id TEXT, a INT, page TEXT, pos TEXT, PRIMARY KEY(id, a));
             CREATE INDEX by_id ON item(page, id, pos); CREATE INDEX by_pos ON item(page, pos)",
        )
        .unwrap();
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut column = ListColumn {
            table: "item".to_owned(),
            name: "pos".to_owned(),
            key: names(&["id", "a"]).into(),
            parents: names(&["Page"]),
        };
        assert!(column.has_index(&conn).unwrap());
        let (parents, key) = ([Value::Null], [Value::Text("k".to_owned()), Value::Int(1)]);
        let at = ("V", &key[..]);
        assert_eq!(column.last(&conn, &parents, at, Until::Row), Ok(None));
        assert_eq!(column.last(&conn, &parents, at, Until::Position), Ok(None));
        assert_eq!(column.next(&conn, &parents, at, &|_| false), Ok(None));
        let position = [Value::Text("V".to_owned())];
        let bound = || binds(&[&parents, &position, &key]);
        let questions = [
            column.until(1, 2, Until::Row),
            column.until(1, 2, Until::Position),
            column.behind(1, 2),
        ];
        for question in questions {
            let plan: String = conn
                .query_row(&format!("EXPLAIN QUERY PLAN {question}"), bound(), |row| row.get(3))
                .unwrap();
            assert!(plan.contains("by_pos (page=? AND pos"), "{question}: {plan}");
        }
        column.parents = names(&["id"]);
        assert!(!column.has_index(&conn).unwrap());
    }
}
