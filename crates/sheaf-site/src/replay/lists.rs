//! Where the rows that a mutation puts into lists come to stand.
//!
//! Invariant: a row stands directly behind the one that its author put it behind, before what
//! others put there earlier, so that the run of one mutation stays whole; no two rows of a list
//! that was written here have one position. Rows are placed after all other effects, in their
//! author's order: each finds the one in front of it in its place. Where others were given new
//! positions, to make room, that is no part of the mutation: whoever replays it does it again.
//! Leaves out the order itself: see `sheaf_merge::list`.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use sheaf_merge::{
    Value,
    limits::LIST_LEN_MAX,
    list::{After, Element, List, ListOp, Position},
};
use sheaf_volume::teeth::{Tooth, bites};

use super::{failure::Failure, remap::Place as RowPlace, rows::Rows, table::Table};
use crate::{
    limits,
    lists::{ListColumn, Member, Own, Until},
    mutation::{Body, Change, Mutation, Op},
    opstream::encode_key,
    places::Place,
};

/// A row that the mutation puts somewhere in a list.
#[derive(Debug)]
pub(super) struct Placed {
    table: Rc<Table>,
    /// Which of the table's lists.
    list: usize,
    key: Vec<Value>,
    /// What its author put it behind, if that is known.
    place: Option<Place>,
    /// Where its author put it.
    wanted: Position,
    /// Of a row that was there, the value that it met.
    met: Option<Value>,
    /// The number of the operation.
    op: usize,
}

/// A cell: table and encoded key, and the column.
type Cell = (String, Vec<u8>, String);

/// Cells that were given new positions to make room.
pub(super) type Aside = BTreeSet<Cell>;

/// A move that came to nothing, as it is redone.
#[derive(Debug)]
pub(super) struct Idle {
    table: String,
    key: Vec<Value>,
    /// From the position at which the row stands to the same.
    change: Change,
    place: Place,
}

/// The rows that a mutation puts into one list.
struct Group {
    table: Rc<Table>,
    list: usize,
    parents: Vec<Value>,
    rows: Vec<Row>,
}

/// One of them, by what is here.
struct Row {
    placed: Placed,
    /// What its column holds so far.
    present: Value,
}

/// What a list calls an element that it does not have.
const UNKNOWN: usize = usize::MAX;

impl Rows<'_> {
    /// Notes that a row, which its author called `authors`, was written in the order of a list;
    /// of each column its name, the author's value and, where the row was there, what its author
    /// saw there before and what it met.
    pub(super) fn put<'v>(
        &mut self,
        table: &Rc<Table>,
        authors: &[Value],
        key: &[Value],
        written: impl Iterator<Item = (&'v str, &'v Value, Option<[&'v Value; 2]>)> + Clone,
    ) -> Result<(), Failure> {
        if bites(Tooth::ForgetPlaces) {
            return Ok(());
        }
        let places = self.places.of_row(&table.name, encode_key_if(self.places, authors));
        for col in places.into_iter().flat_map(BTreeMap::keys) {
            if let Some(newer) = &table.column(col)?.newer {
                return Err(newer.stops());
            }
        }
        for (list, column) in table.lists.iter().enumerate() {
            let value = written.clone().find(|(col, ..)| col.eq_ignore_ascii_case(&column.name));
            let Some((_, value, was)) = value else { continue };
            let place = places.and_then(|places| places.get(&column.name)).cloned();
            let met = was.map(|[_, met]| met);
            let value = match was {
                // An undo of what did not move the row: that stands where it is.
                Some([base, met]) if place.is_none() && base.same(value) => met,
                _ => value,
            };
            let Some(wanted) = position(value) else { continue };
            let (table, key, op) = (Rc::clone(table), key.to_vec(), self.at());
            self.placed.push(Placed { table, list, key, place, wanted, met: met.cloned(), op });
        }
        Ok(())
    }

    /// The places of an operation that had no effect, for its redo.
    pub(super) fn keep_places(&mut self, table: &Table, authors: &[Value], key: &[Value]) {
        let places = self.places.of_row(&table.name, encode_key_if(self.places, authors));
        for (col, place) in places.into_iter().flatten() {
            let place = self.mapped_place(table, place);
            self.kept_places.set(&table.name, key, col, place);
        }
    }

    fn mapped_place(&self, table: &Table, place: &Place) -> Place {
        match place {
            Place::First => Place::First,
            Place::Behind { position, key, before } => Place::Behind {
                position: position.clone(),
                key: self.kept_neighbour(table, key),
                before: before.as_ref().map(|key| self.kept_neighbour(table, key)),
            },
        }
    }

    /// What a redo calls a neighbour. One that was refused gets a name that no row has: the next
    /// redo finds that it is gone, not that there was none, and not another row of its number.
    fn kept_neighbour(&self, table: &Table, key: &[Value]) -> Vec<Value> {
        self.mapped_neighbour(table, key).unwrap_or_else(|| vec![Value::Null; key.len()])
    }

    /// Places the rows that were noted.
    pub(super) fn place(&mut self) -> Result<(), Failure> {
        let mut groups: BTreeMap<(String, usize, Vec<u8>), Group> = BTreeMap::new();
        for mut placed in std::mem::take(&mut self.placed) {
            let (table, list) = (Rc::clone(&placed.table), placed.list);
            let Some(column) = table.lists.get(list) else { continue };
            let Some(own) = column.own(self.conn, &placed.key)? else { continue };
            placed.place = placed.place.map(|place| self.mapped_place(&table, &place));
            let at = (table.name.clone(), list, encode_key(&own.parents));
            let new = || Group { table, list, parents: own.parents, rows: Vec::new() };
            let row = Row { placed, present: own.position };
            groups.entry(at).or_insert_with(new).rows.push(row);
        }
        groups.into_values().try_for_each(|mut group| {
            group.rows.sort_by(Row::order);
            let table = Rc::clone(&group.table);
            let Some(column) = table.lists.get(group.list) else { return Ok(()) };
            if !self.stand(column, &group)? {
                self.merge_list(column, &group)?;
            }
            group.rows.iter().try_for_each(|row| self.keep_move(column, row))
        })
    }

    /// A move that leaves its row at the position that it met is meant all the same: the log may
    /// come to a state in which somebody else's row stands in between.
    fn keep_move(&mut self, column: &ListColumn, row: &Row) -> Result<(), Failure> {
        let Placed { table, key, place: Some(place), met: Some(met), .. } = &row.placed else {
            return Ok(());
        };
        let is_same = |own: Own| own.position.same(met);
        if column.own(self.conn, key)?.is_some_and(is_same) {
            let place = place.clone();
            let (base, left) = (met.clone(), met.clone());
            let change = Change { col: column.name.clone(), base, left };
            self.idle.push(Idle { table: table.name.clone(), key: key.clone(), change, place });
        }
        Ok(())
    }

    /// The row that its author called so; `None` if the author's row was refused.
    fn mapped_neighbour(&self, table: &Table, key: &[Value]) -> Option<Vec<Value>> {
        if let (true, [id]) = (table.identity.is_rowid(), key) {
            match self.in_log(&table.name, id) {
                None => {}
                Some(RowPlace::At(id)) => return Some(vec![Value::Int(id)]),
                Some(RowPlace::Refused) => return None,
            }
        }
        self.referring_key(table, key).ok()
    }

    /// Whether all rows stand where their author put them, as far as a few questions tell.
    fn stand(&self, column: &ListColumn, group: &Group) -> Result<bool, Failure> {
        if group.rows.len() > limits::LIST_QUERIES_MAX && !column.has_index(self.conn)? {
            return Ok(false);
        }
        for row in &group.rows {
            if !self.stands(column, &group.parents, row)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn stands(&self, column: &ListColumn, parents: &[Value], row: &Row) -> Result<bool, Failure> {
        let wanted = row.placed.wanted.as_str();
        if position(&row.present).as_ref() != Some(&row.placed.wanted) {
            return Ok(false);
        }
        let last = column.last(self.conn, parents, (wanted, &row.placed.key), Until::Position)?;
        if last.as_ref().is_some_and(|last| last.position == wanted) {
            return Ok(false);
        }
        Ok(match &row.placed.place {
            None => true,
            Some(Place::First) => last.is_none(),
            Some(Place::Behind { key, .. }) => last.is_some_and(|last| last.key == *key),
        })
    }

    /// Reads the list, puts the rows into it, and writes what that changes.
    fn merge_list(&mut self, column: &ListColumn, group: &Group) -> Result<(), Failure> {
        let members = column.load(self.conn, &group.parents)?;
        let Some(list) = merge(&members, &group.rows) else {
            // Too long: the rows stay where their author put them.
            group.rows.iter().for_each(|row| self.unlike(row.placed.op));
            return Ok(());
        };
        let own: BTreeMap<Vec<u8>, &Row> =
            group.rows.iter().map(|row| (encode_key(&row.placed.key), row)).collect();
        let mut writes = Vec::new();
        for (at, element) in list.changes().filter(|(_, element)| element.is_alive) {
            let Some(member) = members.get(*at) else { continue };
            let name = encode_key(&member.key);
            match own.get(&name) {
                Some(row) if row.placed.wanted != element.position => self.unlike(row.placed.op),
                Some(_) => {}
                None => {
                    _ = self.aside.insert((group.table.name.clone(), name, column.name.clone()))
                }
            }
            if member.position != element.position.as_str() {
                writes.push((member.key.clone(), element.position.clone()));
            }
        }
        let last = members.iter().filter_map(|member| Position::parse(&member.position).ok());
        let last = last.chain(writes.iter().map(|(_, position)| position.clone())).max();
        self.rewrite(&group.table, column, writes, last)
    }

    /// Writes new positions, of which some may be unique and still taken by others of them: these
    /// rows step aside first, behind `last`.
    fn rewrite(
        &mut self,
        table: &Table,
        column: &ListColumn,
        writes: Vec<(Vec<Value>, Position)>,
        mut last: Option<Position>,
    ) -> Result<(), Failure> {
        let mut taken = Vec::new();
        for (key, position) in writes {
            match self.write_position(table, column, &key, &position) {
                Err(Failure::Reject { is_unique: true, .. }) => taken.push((key, position)),
                done => done?,
            }
        }
        for (key, _) in &taken {
            let free = Position::between(last.as_ref(), None);
            let free = free.ok_or_else(|| Failure::reject("a list has no room at its end"))?;
            self.write_position(table, column, key, &free)?;
            last = Some(free);
        }
        taken
            .iter()
            .try_for_each(|(key, position)| self.write_position(table, column, key, position))
    }

    fn write_position(
        &mut self,
        table: &Table,
        column: &ListColumn,
        key: &[Value],
        position: &Position,
    ) -> Result<(), Failure> {
        let value = Value::Text(position.to_string());
        let done = self.write(table, key.to_vec(), &[(column.name.as_str(), value)]);
        done.map_err(|failure| failure.at(&table.name, key))
    }

    /// An operation came out otherwise than its author saw it.
    fn unlike(&mut self, op: usize) {
        self.is_merged = true;
        self.stands.get_mut(op).into_iter().for_each(|stands| *stands = false);
    }
}

impl Row {
    /// As their author saw them.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let (a, b) = (&self.placed, &other.placed);
        let keys = || {
            let mut orders = a.key.iter().zip(&b.key).map(|(a, b)| a.sqlite_order(b));
            orders.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        };
        a.wanted.cmp(&b.wanted).then_with(keys)
    }
}

/// The list with the rows in it; `None` if it is too long. Those that are still to be placed take
/// up their positions and nothing else.
fn merge(members: &[Member], rows: &[Row]) -> Option<List<usize>> {
    let names: BTreeMap<Vec<u8>, usize> =
        members.iter().enumerate().map(|(at, member)| (encode_key(&member.key), at)).collect();
    let find = |key: &[Value]| names.get(&encode_key(key)).copied();
    let placed: BTreeSet<usize> = rows.iter().filter_map(|row| find(&row.placed.key)).collect();
    if members.len() > LIST_LEN_MAX {
        return None;
    }
    let element = |(at, member): (usize, &Member)| {
        let position = Position::parse(&member.position).ok()?;
        Some((at, Element { position, is_alive: !placed.contains(&at) }))
    };
    let mut list = List::load(members.iter().enumerate().filter_map(element)).ok()?;
    for row in rows {
        let Some(at) = find(&row.placed.key) else { continue };
        let after = match &row.placed.place {
            None => After::Element(UNKNOWN, Some(row.placed.wanted.clone())),
            Some(Place::First) => After::Head,
            Some(Place::Behind { position, key, before }) => {
                let behind = find(key).filter(|at| list.has(at));
                let next = before.as_deref().and_then(find).filter(|at| list.has(at));
                match (behind, next, before) {
                    (Some(behind), ..) => After::Element(behind, None),
                    // What it was put behind is gone: before what it was put before, so that
                    // nothing that somebody put where that was is taken apart.
                    (None, Some(next), _) => list.before(&next),
                    (None, None, None) => list.end(),
                    (None, None, Some(_)) => After::Element(UNKNOWN, Some(position.clone())),
                }
            }
        };
        if !list.keep(&after, &at, &row.placed.wanted) {
            list.apply(ListOp::Insert(after, at));
        }
    }
    Some(list)
}

/// Adds moves that came to nothing to a mutation as it was captured, beside what else is done to
/// their rows, unless that says where they stand.
pub(super) fn join(captured: &mut Mutation, idle: Vec<Idle>) {
    let Mutation { body: Body::Rows(ops), places, .. } = captured else { return };
    if idle.is_empty() || bites(Tooth::ForgetIdle) {
        return;
    }
    let name = |op: &Op| op.row().map(|(table, key)| (table.to_owned(), key));
    let mut rows: BTreeMap<(String, Vec<u8>), usize> =
        ops.iter().enumerate().filter_map(|(at, op)| Some((name(op)?, at))).collect();
    for Idle { table, key, change, place } in idle {
        let has = |known: &Change| known.col.eq_ignore_ascii_case(&change.col);
        let row = (table.clone(), encode_key(&key));
        match rows.get(&row).and_then(|at| ops.get_mut(*at)) {
            Some(Op::Update { changes, .. }) if !changes.iter().any(has) => {
                places.set(&table, &key, &change.col, place);
                changes.push(change);
            }
            Some(_) => {}
            None => {
                rows.insert(row, ops.len());
                places.set(&table, &key, &change.col, place);
                ops.push(Op::Update { table, key, changes: vec![change] });
            }
        }
    }
}

/// Takes out of a captured mutation what was done to make room.
pub(super) fn strip(captured: &mut Mutation, aside: &Aside) {
    let Body::Rows(ops) = &mut captured.body else { return };
    if aside.is_empty() {
        return;
    }
    ops.retain_mut(|op| {
        let Some((table, key)) = op.row().map(|(table, key)| (table.to_owned(), key)) else {
            return true;
        };
        let Op::Update { changes, .. } = op else { return true };
        changes.retain(|change| !aside.contains(&(table.clone(), key.clone(), change.col.clone())));
        !changes.is_empty()
    });
    captured.places.remove(aside);
}

pub(super) fn position(value: &Value) -> Option<Position> {
    match value {
        Value::Text(text) => Position::parse(text).ok(),
        _ => None,
    }
}

/// Most mutations have no places, and need no key for them.
fn encode_key_if(places: &crate::places::Places, key: &[Value]) -> Vec<u8> {
    if places.is_empty() { Vec::new() } else { encode_key(key) }
}
