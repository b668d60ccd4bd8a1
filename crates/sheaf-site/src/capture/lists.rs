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
    schema::{Schema, TableInfo, TableKind, sql_error},
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
        if !may_have_lists(info, schema, reader).map_err(sql_error("read rules"))? {
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

/// Whether looking for lists in the table is worth it.
fn may_have_lists(
    info: &TableInfo,
    schema: &Schema,
    reader: &Connection,
) -> rusqlite::Result<bool> {
    if info.kind != TableKind::Table || info.name.starts_with("__sheaf_") {
        return Ok(false);
    }
    let is_list = |decltype: &str| Rule::from_decltype(decltype) == Some(Rule::List);
    if info.columns.iter().any(|column| is_list(&column.decltype)) {
        return Ok(true);
    }
    if schema.table(rules::TABLE).is_none() {
        return Ok(false);
    }
    let stored = "SELECT EXISTS(SELECT 1 FROM main.__sheaf_rules
        WHERE tbl = ?1 COLLATE NOCASE AND rule LIKE '%list%')";
    reader.prepare_cached(stored)?.query_row([&info.name], |row| row.get(0))
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
    let own: BTreeSet<Vec<u8>> = ops.iter().filter_map(|op| op.row()).map(|(_, key)| key).collect();
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

/// Where a row stands.
#[derive(Clone)]
struct Found {
    /// Its own position.
    position: String,
    /// The row in front of it.
    behind: Option<Member>,
    /// The next row that is none of the mutation's own, unless the one in front is.
    before: Option<Vec<Value>>,
}

/// `None` for a row that stands in no list.
fn neighbours(
    column: &ListColumn,
    key: &[Value],
    all: &BTreeSet<Vec<u8>>,
    reader: &Connection,
) -> rusqlite::Result<Option<Found>> {
    let Some(own) = column.own(reader, key)? else { return Ok(None) };
    let Some(position) = position(&own.position) else { return Ok(None) };
    let behind = column.last(reader, &own.parents, (position, key), Until::Row)?;
    let is_own = |key: &[Value]| all.contains(&encode_key(key));
    let before = match &behind {
        Some(behind) if !is_own(&behind.key) => {
            column.next(reader, &own.parents, (position, key), &is_own)?
        }
        _ => None,
    };
    Ok(Some(Found { position: position.to_owned(), behind, before }))
}

/// As [`neighbours`] for all rows of the mutation, in one walk along all lists.
fn walk(
    column: &ListColumn,
    all: &BTreeSet<Vec<u8>>,
    reader: &Connection,
) -> rusqlite::Result<BTreeMap<Vec<u8>, Found>> {
    // Of each list, the last row so far, and the one of the mutation that waits for its next.
    let mut last: BTreeMap<Vec<u8>, (Member, Option<Vec<u8>>)> = BTreeMap::new();
    let mut found: BTreeMap<Vec<u8>, Found> = BTreeMap::new();
    let mut statement = column.walk(reader)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (own, key) = (column.read_own(row)?, column.read_key(row)?);
        let Value::Text(text) = &own.position else { continue };
        let (list, name) = (encode_key(&own.parents), encode_key(&key));
        let member = Member { position: text.clone(), key };
        let (behind, mut waits) = last.remove(&list).unzip();
        if !all.contains(&name) {
            let waiting = waits.flatten().and_then(|name| found.get_mut(&name));
            waiting.into_iter().for_each(|found| found.before = Some(member.key.clone()));
            last.insert(list, (member, None));
            continue;
        }
        let is_own = |behind: &Member| all.contains(&encode_key(&behind.key));
        if behind.as_ref().is_some_and(|behind| !is_own(behind)) {
            waits = Some(Some(name.clone()));
        }
        last.insert(list, (member, waits.flatten()));
        if position(&own.position).is_some() {
            found.insert(name, Found { position: text.clone(), behind, before: None });
        }
    }
    Ok(found)
}

fn position(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Position::parse(text).is_ok().then_some(text),
        _ => None,
    }
}
