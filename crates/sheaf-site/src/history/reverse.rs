//! What turns a row back into what it was before a change.
//!
//! Invariants: [`RowUpdate::apply`] of what [`RowUpdate::between`] made gives the older row, except
//! for values that were too large to keep, which are named as such; updates of one interval become
//! one by [`join`], and nothing is left where nothing changed. Any bytes are read as an update or
//! refused, and any update applies to any row. docs/format.md has the byte table.

use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, Result};

use crate::limits::{
    COLUMNS_MAX, HISTORY_INTERVAL_MS, HISTORY_ROW_BYTES_MAX, HISTORY_VALUE_BYTES_MAX,
    NAME_BYTES_MAX,
};

/// Version of the encoding.
const VERSION: u8 = 1;

/// A value, or how long it was where it was not kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kept {
    Value(Value),
    Lost(u64),
}

impl Kept {
    /// Bytes that it takes, about.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Value(value) => bytes_of(value),
            Self::Lost(_) => 8,
        }
    }
}

/// A row as far as it is known: its stored columns by name.
pub(super) type OldRow = Vec<(String, Kept)>;

/// How one column was before.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reverse {
    /// The table did not have it.
    Missing,
    Full(Value),
    /// The present value with its middle replaced; in bytes, of text on character boundaries.
    Cut {
        prefix: u64,
        suffix: u64,
        insert: Vec<u8>,
    },
    /// A value of so many bytes, which was too many.
    Lost(u64),
}

/// How a row was before.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RowUpdate {
    /// There was none.
    Absent,
    /// There was one, of these columns alone.
    Whole(Vec<(String, Reverse)>),
    /// These columns were different.
    Columns(Vec<(String, Reverse)>),
    /// Of no row: before, there was no table of that name, and it came with the rows that it had.
    NoTable,
    /// Of no row: before, the rows of the table had another key.
    OtherKey,
}

/// The changes of one row in an interval, as one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step<A> {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) first_time_ms: u64,
    pub(super) time_ms: u64,
    /// Who.
    pub(super) authors: A,
    pub(super) update: RowUpdate,
}

/// Whether two times lie in one interval.
pub(super) fn is_same_interval(a_ms: u64, b_ms: u64) -> bool {
    a_ms / HISTORY_INTERVAL_MS == b_ms / HISTORY_INTERVAL_MS
}

/// Two steps of one row that follow each other as one; `now` is the row after the newer one.
/// `None` where the row is what it was.
pub(super) fn join<A>(
    older: Step<A>,
    newer: Step<A>,
    now: Option<&OldRow>,
    authors: impl FnOnce(A, A) -> A,
) -> Option<Step<A>> {
    let between = newer.update.apply(now);
    let before = older.update.apply(between.as_ref());
    let update = RowUpdate::between(before.as_ref(), now)?;
    Some(Step {
        first: older.first,
        last: newer.last,
        first_time_ms: older.first_time_ms,
        time_ms: newer.time_ms,
        authors: authors(older.authors, newer.authors),
        update,
    })
}

impl Reverse {
    /// What turns `new` into `old`.
    pub(super) fn between(old: &Kept, new: Option<&Kept>) -> Self {
        let old = match old {
            Kept::Lost(len) => return Self::Lost(*len),
            Kept::Value(value) => value,
        };
        let cut = match (old, new) {
            (Value::Text(old), Some(Kept::Value(Value::Text(new)))) => Some(cut_text(old, new)),
            (Value::Blob(old), Some(Kept::Value(Value::Blob(new)))) => Some(cut(old, new)),
            _ => None,
        };
        let made = match cut {
            Some((prefix, suffix, insert)) if prefix + suffix > 0 => {
                Self::Cut { prefix: prefix as u64, suffix: suffix as u64, insert: insert.to_vec() }
            }
            _ => Self::Full(old.clone()),
        };
        if made.len() > HISTORY_VALUE_BYTES_MAX { Self::Lost(bytes_of(old) as u64) } else { made }
    }

    fn len(&self) -> usize {
        match self {
            Self::Full(value) => bytes_of(value),
            Self::Cut { insert, .. } => insert.len(),
            Self::Missing | Self::Lost(_) => 0,
        }
    }

    /// Bytes of the older value.
    fn full_len(&self) -> u64 {
        match self {
            Self::Cut { prefix, suffix, insert } => {
                prefix.saturating_add(*suffix).saturating_add(insert.len() as u64)
            }
            Self::Lost(len) => *len,
            Self::Full(_) | Self::Missing => self.len() as u64,
        }
    }

    /// The older value; `None` where there was no such column. What cannot come of this value is
    /// told as lost.
    fn apply(&self, new: Option<&Kept>) -> Option<Kept> {
        let (prefix, suffix, insert) = match self {
            Self::Missing => return None,
            Self::Full(value) => return Some(Kept::Value(value.clone())),
            Self::Lost(len) => return Some(Kept::Lost(*len)),
            Self::Cut { prefix, suffix, insert } => (*prefix, *suffix, insert),
        };
        let len = self.full_len();
        let old = match new {
            Some(Kept::Value(Value::Text(new))) => {
                let bytes = paste(new.as_bytes(), prefix, suffix, insert);
                bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Value::Text)
            }
            Some(Kept::Value(Value::Blob(new))) => {
                paste(new, prefix, suffix, insert).map(Value::Blob)
            }
            _ => None,
        };
        Some(old.map_or(Kept::Lost(len), Kept::Value))
    }
}

/// Bytes of a value, about, as they are stored.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
        Value::Null | Value::Int(_) | Value::Real(_) => 8,
    }
}

/// The bytes that both begin with, those that both end with, and what `old` has between them.
fn cut<'a>(old: &'a [u8], new: &[u8]) -> (usize, usize, &'a [u8]) {
    let same = |(a, b): &(&u8, &u8)| a == b;
    let prefix = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) =
        (old.get(prefix..).unwrap_or_default(), new.get(prefix..).unwrap_or_default());
    let suffix = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(same).count();
    (prefix, suffix, old_rest.get(..old_rest.len() - suffix).unwrap_or_default())
}

/// As [`cut`], on character boundaries.
fn cut_text<'a>(old: &'a str, new: &str) -> (usize, usize, &'a [u8]) {
    let (prefix, suffix, _) = cut(old.as_bytes(), new.as_bytes());
    let prefix = old.floor_char_boundary(prefix);
    // Both texts have the same bytes from there on, so the same boundaries.
    let end = old.ceil_char_boundary(old.len() - suffix).max(prefix);
    (prefix, old.len() - end, old.as_bytes().get(prefix..end).unwrap_or_default())
}

fn paste(new: &[u8], prefix: u64, suffix: u64, insert: &[u8]) -> Option<Vec<u8>> {
    let (prefix, suffix) = (usize::try_from(prefix).ok()?, usize::try_from(suffix).ok()?);
    let end = new.len().checked_sub(suffix)?;
    let (head, tail) = (new.get(..prefix)?, new.get(end..)?);
    (prefix <= end).then(|| [head, insert, tail].concat())
}

impl RowUpdate {
    /// What turns `new` into `old`; `None` where they are the same.
    pub(super) fn between(old: Option<&OldRow>, new: Option<&OldRow>) -> Option<Self> {
        let full = |(name, kept): &(String, Kept)| (name.clone(), Reverse::between(kept, None));
        let (old, new) = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => return Some(Self::Absent),
            (Some(old), None) => return Some(Self::Whole(bounded(old.iter().map(full).collect()))),
            (Some(old), Some(new)) => (old, new),
        };
        let mut columns = Vec::new();
        for (name, kept) in old {
            let now = find(new, name);
            if !now.is_some_and(|now| same(kept, now)) {
                columns.push((name.clone(), Reverse::between(kept, now)));
            }
        }
        let came = new.iter().filter(|(name, _)| find(old, name).is_none());
        columns.extend(came.map(|(name, _)| (name.clone(), Reverse::Missing)));
        (!columns.is_empty()).then(|| Self::Columns(bounded(columns)))
    }

    /// The older row.
    pub(super) fn apply(&self, new: Option<&OldRow>) -> Option<OldRow> {
        let older = |columns: &[(String, Reverse)], new: &OldRow| -> OldRow {
            let each = columns.iter().filter_map(|(name, reverse)| {
                Some((name.clone(), reverse.apply(find(new, name))?))
            });
            each.collect()
        };
        match self {
            Self::Absent => None,
            Self::NoTable | Self::OtherKey => new.cloned(),
            Self::Whole(columns) => Some(older(columns, &OldRow::new())),
            Self::Columns(columns) => {
                let now = new.cloned().unwrap_or_default();
                let changed = older(columns, &now);
                let mut row = OldRow::new();
                for (name, kept) in now {
                    match columns.iter().any(|(changed, _)| changed.eq_ignore_ascii_case(&name)) {
                        true => row.extend(
                            find(&changed, &name).map(|older| (name.clone(), older.clone())),
                        ),
                        false => row.push((name, kept)),
                    }
                }
                let gone: Vec<_> =
                    changed.into_iter().filter(|(name, _)| find(&row, name).is_none()).collect();
                row.extend(gone);
                Some(row)
            }
        }
    }

    /// Whether it can be read again: two updates of other columns may come to more than one has.
    pub(super) fn fits(&self) -> bool {
        match self {
            Self::Whole(columns) | Self::Columns(columns) => columns.len() <= COLUMNS_MAX,
            Self::Absent | Self::NoTable | Self::OtherKey => true,
        }
    }

    /// Whether it is of a table as a whole.
    pub(super) fn is_of_table(&self) -> bool {
        matches!(self, Self::NoTable | Self::OtherKey)
    }

    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, columns): (u8, &[(String, Reverse)]) = match self {
            Self::Absent => (0, &[]),
            Self::Whole(columns) => (1, columns),
            Self::Columns(columns) => (2, columns),
            Self::NoTable => (3, &[]),
            Self::OtherKey => (4, &[]),
        };
        let mut out = vec![VERSION, kind];
        for (name, reverse) in columns {
            put_bytes(&mut out, name.as_bytes());
            match reverse {
                Reverse::Missing => out.push(0),
                Reverse::Full(value) => {
                    let mut typed = Vec::new();
                    value.put_typed(&mut typed);
                    out.push(1);
                    put_bytes(&mut out, &typed);
                }
                Reverse::Cut { prefix, suffix, insert } => {
                    out.push(2);
                    put_number(&mut out, *prefix);
                    put_number(&mut out, *suffix);
                    put_bytes(&mut out, insert);
                }
                Reverse::Lost(len) => {
                    out.push(3);
                    put_number(&mut out, *len);
                }
            }
        }
        out
    }

    /// Reads what [`RowUpdate::encode`] wrote.
    ///
    /// # Errors
    /// `Corrupt` for anything else, `Unsupported` for a newer version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Bytes(bytes);
        if reader.byte()? != VERSION {
            let text = "a row's history was written by a newer version of Sheaf; upgrade";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let kind = reader.byte()?;
        let mut columns = Vec::new();
        while !reader.is_done() {
            if columns.len() >= COLUMNS_MAX {
                return Err(damaged("too many columns"));
            }
            columns.push(reader.column()?);
        }
        match (kind, columns.is_empty()) {
            (0, true) => Ok(Self::Absent),
            (1, _) => Ok(Self::Whole(columns)),
            (2, false) => Ok(Self::Columns(columns)),
            (3, true) => Ok(Self::NoTable),
            (4, true) => Ok(Self::OtherKey),
            _ => Err(damaged("unknown kind")),
        }
    }
}

/// As much as one transaction of the record can take beside others; of the rest the lengths.
fn bounded(mut columns: Vec<(String, Reverse)>) -> Vec<(String, Reverse)> {
    let mut room = HISTORY_ROW_BYTES_MAX;
    for (_, reverse) in &mut columns {
        match room.checked_sub(reverse.len()) {
            Some(left) => room = left,
            None => *reverse = Reverse::Lost(reverse.full_len()),
        }
    }
    columns
}

/// A column's value; its name may be in any case.
pub(super) fn find<'a>(row: &'a OldRow, name: &str) -> Option<&'a Kept> {
    row.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, kept)| kept)
}

fn same(a: &Kept, b: &Kept) -> bool {
    match (a, b) {
        (Kept::Value(a), Kept::Value(b)) => a.same(b),
        // Two that were not kept may be the same; that is not known.
        _ => false,
    }
}

pub(super) fn damaged(what: &str) -> Error {
    Error::corrupt(format!("damaged row history: {what}"))
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes values from the front of a byte string.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.0.split_first().ok_or_else(|| damaged("cut short"))?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| damaged("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            // One spelling each: no zeros on top, and nothing beyond 64 bits.
            if (shift == 63 && low > 1) || (shift > 0 && byte == 0) {
                break;
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("bad number"))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.number()?).map_err(|_| damaged("bad length"))?;
        self.take(len)
    }

    fn column(&mut self) -> Result<(String, Reverse)> {
        let name = self.bytes()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(damaged("a long name"));
        }
        let name = std::str::from_utf8(name).map_err(|_| damaged("a name is not UTF-8"))?;
        let reverse = match self.byte()? {
            0 => Reverse::Missing,
            1 => Reverse::Full(Value::from_typed(self.bytes()?).map_err(damaged)?),
            2 => {
                let (prefix, suffix) = (self.number()?, self.number()?);
                Reverse::Cut { prefix, suffix, insert: self.bytes()?.to_vec() }
            }
            3 => Reverse::Lost(self.number()?),
            _ => return Err(damaged("unknown kind of column")),
        };
        Ok((name.to_owned(), reverse))
    }
}

#[cfg(test)]
mod tests;
