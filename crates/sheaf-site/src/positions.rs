//! Making positions of a list in SQL.
//!
//! Invariant: `sheaf_between` is a function of its arguments alone, so that it may stand in
//! triggers, mutators and indexes. Leaves out placing rows: a position is a value like others.

use std::cmp::Ordering;

use rusqlite::{Connection, functions::FunctionFlags, types::ValueRef};
use sheaf_merge::list::Position;
use sheaf_volume::Error;

use crate::nested::user_error;

/// Registers `sheaf_between(after, before)`: a text that sorts between two positions, NULL standing
/// for an end of the list. NULL where there is no room: between equal positions, or where it would
/// have more than 64 characters.
///
/// # Errors
/// What SQLite reports.
pub(crate) fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_INNOCUOUS
        | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("sheaf_between", 2, flags, |context| {
        let (after, before) = (position(context.get_raw(0))?, position(context.get_raw(1))?);
        if let (Some(after), Some(before)) = (&after, &before)
            && after.cmp(before) == Ordering::Greater
        {
            let text = format!("position {after} does not stand before {before}");
            return Err(user_error(&Error::invalid(text)));
        }
        Ok(Position::between(after.as_ref(), before.as_ref()).map(|found| found.to_string()))
    })
}

fn position(value: ValueRef<'_>) -> rusqlite::Result<Option<Position>> {
    let bad = || user_error(&Error::invalid(sheaf_merge::list::BadPosition.to_string()));
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| bad())?;
            Position::parse(text).map(Some).map_err(|_| bad())
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stand_between_what_they_are_put_between() {
        let conn = Connection::open_in_memory().unwrap();
        register(&conn).unwrap();
        let between = |args: &str| {
            conn.query_row(&format!("SELECT sheaf_between({args})"), [], |row| {
                row.get::<_, Option<String>>(0)
            })
            .map_err(|error| error.to_string())
        };
        let found = |args: &str| between(args).unwrap().unwrap();
        let first = found("NULL, NULL");
        let last = found(&format!("'{first}', NULL"));
        let middle = found(&format!("'{first}', '{last}'"));
        assert!(found(&format!("NULL, '{first}'")) < first && first < middle && middle < last);
        assert_eq!(between("'A', 'A'"), Ok(None), "two rows at one place leave no room");
        let (most, next) = ("A".repeat(63), format!("{}1", "A".repeat(63)));
        assert_eq!(between(&format!("'{most}', '{next}'")), Ok(None), "it would be too long");
        assert!(between(&format!("'{next}1', NULL")).is_err());
        assert!(between("'B', 'A'").unwrap_err().contains("position B does not stand before A"));
        for bad in ["'', NULL", "'A0', NULL", "'a b', NULL", "1, NULL", "NULL, x'41'"] {
            assert!(between(bad).unwrap_err().contains("a list position is"), "{bad}");
        }
    }
}
