//! What the rows of lists were put behind, in the state to be committed.
//!
//! Invariant: each row that the mutation inserts into a list, or moves in one or to one, gets the
//! row in front of it as its place, so that a run of new rows is a chain. Only lists are looked at:
//! a transaction that writes none reads nothing here. Leaves out rows that stand in no list because
//! what their column holds, or that of the row in front, is no position.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;
use sheaf_merge::{Rule, Value, list::Position};
use sheaf_volume::Result;

use crate::{
    limits,
    lists::{ListColumn, Member, Until},
    mutation::{Change, Op},
    opstream::encode_key,
    places::{Place, Places},
    replay::table::Tables,
    rules,
    schema::{Schema, sql_error},
};

/// The places of the rows that these operations insert and move. A row that only changes its list
/// gets its position among its changes, for the place to belong to.
///
/// # Errors
/// What reading reports.
pub(super) fn places(ops: &mut [Op], schema: &Schema, reader: &Connection) -> Result<Places> {
    let mut found = Places::default();
    let mut names: Vec<String> = ops.iter().filter_map(Op::table).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let Some(info) = schema.table(&name) else { continue };
        if !rules::may_have(Rule::List, info, schema, reader).map_err(sql_error("read rules"))? {
            continue;
        }
        let table = Tables::default().get(reader, &info.name);
        let table = table.map_err(|failure| failure.into_error())?;
        for column in &table.lists {
            let mut placed = Vec::new();
            for op in ops.iter_mut().filter(|op| op.table() == Some(&name)) {
                if touches(op, column) {
                    placed.push(op);
                }
            }
            place(column, &mut placed, reader, &mut found).map_err(sql_error("read list"))?;
        }
    }
    Ok(found)
}

/// Whether an operation puts its row into a list, or elsewhere in it.
fn touches(op: &Op, column: &ListColumn) -> bool {
    let is_of_list = |col: &str| col == column.name || column.parents.iter().any(|p| p == col);
    match op {
        Op::Insert { .. } => true,
        Op::Update { changes, .. } => changes.iter().any(|change| is_of_list(&change.col)),
        Op::Delete { .. } | Op::Ddl { .. } => false,
    }
}

fn place(
    column: &ListColumn,
    ops: &mut [&mut Op],
    reader: &Connection,
    found: &mut Places,
) -> rusqlite::Result<()> {
    let own = Own::new(ops);
    let is_many = ops.len() > limits::LIST_QUERIES_MAX && !column.has_index(reader)?;
    let known = if is_many { Some(walk(column, &own, reader)?) } else { None };
    for op in ops {
        let (Op::Insert { table, key, .. } | Op::Update { table, key, .. }) = &**op else {
            continue;
        };
        let (table, key) = (table.clone(), key.clone());
        let Some(Found { position, behind, before }) = (match &known {
            Some(known) => known.get(&encode_key(&key)).cloned(),
            None => neighbours(column, &key, &own, reader)?,
        }) else {
            continue;
        };
        let place = match behind {
            None => Place::First,
            Some(Member { position, key }) => match Position::parse(&position) {
                Ok(position) => Place::Behind { position, key, before },
                Err(_) => continue,
            },
        };
        if let Op::Update { changes, .. } = &mut **op
            && !changes.iter().any(|change| change.col == column.name)
        {
            let (base, left) = (Value::Text(position.clone()), Value::Text(position));
            changes.push(Change { col: column.name.clone(), base, left });
        }
        found.set(&table, &key, &column.name, place);
    }
    Ok(())
}

/// The rows that a mutation writes, by encoded key.
struct Own {
    all: BTreeSet<Vec<u8>>,
    /// Those that it inserts: nobody can take them away before they are there.
    new: BTreeSet<Vec<u8>>,
}

impl Own {
    fn new(ops: &[&mut Op]) -> Self {
        let mut own = Self { all: BTreeSet::new(), new: BTreeSet::new() };
        for op in ops {
            let Some((_, key)) = op.row() else { continue };
            if matches!(&**op, Op::Insert { .. }) {
                own.new.insert(key.clone());
            }
            own.all.insert(key);
        }
        own
    }
}

/// Where a row stands.
#[derive(Clone)]
struct Found {
    /// Its own position.
    position: String,
    /// The row in front of it.
    behind: Option<Member>,
    /// The next row that is none of the mutation's own, unless the one in front is new.
    before: Option<Vec<Value>>,
}

/// `None` for a row that stands in no list.
fn neighbours(
    column: &ListColumn,
    key: &[Value],
    own: &Own,
    reader: &Connection,
) -> rusqlite::Result<Option<Found>> {
    let Some(row) = column.own(reader, key)? else { return Ok(None) };
    let Some(position) = position(&row.position) else { return Ok(None) };
    let behind = column.last(reader, &row.parents, (position, key), Until::Row)?;
    let is_own = |key: &[Value]| own.all.contains(&encode_key(key));
    let before = match &behind {
        Some(behind) if !own.new.contains(&encode_key(&behind.key)) => {
            column.next(reader, &row.parents, (position, key), &is_own)?
        }
        _ => None,
    };
    Ok(Some(Found { position: position.to_owned(), behind, before }))
}

/// The end of a list, as far as it has been walked along.
#[derive(Default)]
struct End {
    last: Option<Member>,
    /// Rows of the mutation, by encoded key, that wait for the next one which is not.
    waiting: Vec<Vec<u8>>,
}

/// As [`neighbours`] for all rows of the mutation, in one walk along all lists.
fn walk(
    column: &ListColumn,
    own: &Own,
    reader: &Connection,
) -> rusqlite::Result<BTreeMap<Vec<u8>, Found>> {
    let mut ends: BTreeMap<Vec<u8>, End> = BTreeMap::new();
    let mut found: BTreeMap<Vec<u8>, Found> = BTreeMap::new();
    let mut statement = column.walk(reader)?;
    let mut rows = statement.query([])?;
    while let Some(read) = rows.next()? {
        let (row, key) = (column.read_own(read)?, column.read_key(read)?);
        let Value::Text(text) = &row.position else { continue };
        let name = encode_key(&key);
        let end = ends.entry(encode_key(&row.parents)).or_default();
        if !own.all.contains(&name) {
            for waiting in end.waiting.drain(..) {
                found.entry(waiting).and_modify(|found| found.before = Some(key.clone()));
            }
            end.last = Some(Member { position: text.clone(), key });
            continue;
        }
        let behind = end.last.replace(Member { position: text.clone(), key });
        if position(&row.position).is_none() {
            continue;
        }
        if behind.as_ref().is_some_and(|behind| !own.new.contains(&encode_key(&behind.key))) {
            end.waiting.push(name.clone());
        }
        found.insert(name, Found { position: text.clone(), behind, before: None });
    }
    Ok(found)
}

fn position(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Position::parse(text).is_ok().then_some(text),
        _ => None,
    }
}
