//! How a value that gave way is written down: in an attribute of the replica.
//!
//! Invariant: what is read back is what was written, but for values that were too long; bytes that
//! are none are passed over. Other devices never see them, so their form is nobody else's concern.

use bytes::Bytes;
use sheaf_merge::Value;

use super::conflicts::{Conflict, ConflictKind, Order, PREFIX};
use super::told::{Came, Told};
use crate::limits;
use crate::opstream::{decode_key, encode_key};
use crate::value::{decode_hex, encode_hex};

/// The beginning of the names of what one mutation told.
pub(super) fn of_mutation(uid: &[u8]) -> String {
    format!("{PREFIX}{}/", encode_hex(uid))
}

impl Told {
    /// Numbers the cell, so that it is told once for each mutation.
    pub(super) fn number(&self, uid: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new();
        let column = self.column.clone().map_or(Value::Null, Value::Text);
        let cell = [Value::Text(self.table.clone()), column];
        hasher.update(uid).update(&encode_key(&cell)).update(&encode_key(&self.key));
        let hash = hasher.finalize();
        let first = hash.as_bytes().split_first_chunk();
        // 63 bits, so that it is an integer in SQL.
        first.map_or(0, |(first, _)| u64::from_le_bytes(*first) >> 1)
    }
}

const CAME: [Came; 3] = [Came::Overridden, Came::Lost, Came::Partly];

/// A list of values, as keys are written: numbers, then the cell, then a value or nothing in
/// twos, since a value may be NULL.
pub(super) fn encode(order: Order, time_ms: u64, told: &Told) -> Bytes {
    let int = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let came = CAME.iter().position(|came| *came == told.came).unwrap_or_default();
    let mut is_cut = false;
    let mut fields = vec![int(order.0), int(order.1), int(order.2), int(time_ms), int(came as u64)];
    fields.push(Value::Text(told.table.clone()));
    fields.push(Value::Blob(encode_key(&told.key)));
    fields.push(told.column.clone().map_or(Value::Null, Value::Text));
    for value in [&told.base, &told.ours, &told.theirs, &told.stands] {
        fields.push(int(u64::from(value.is_some())));
        fields.push(value.as_ref().map_or(Value::Null, |value| cut(value, &mut is_cut)));
    }
    fields.push(int(u64::from(is_cut)));
    encode_key(&fields).into()
}

/// The beginning of a value that is too long to be kept.
fn cut(value: &Value, is_cut: &mut bool) -> Value {
    let max = limits::CONFLICT_VALUE_BYTES_MAX;
    match value {
        Value::Text(text) if text.len() > max => {
            *is_cut = true;
            Value::Text(text.get(..text.floor_char_boundary(max)).unwrap_or_default().to_owned())
        }
        Value::Blob(blob) if blob.len() > max => {
            *is_cut = true;
            Value::Blob(blob.get(..max).unwrap_or_default().to_vec())
        }
        value => value.clone(),
    }
}

pub(super) fn decode(name: &str, bytes: &[u8]) -> Option<(Vec<u8>, Order, Conflict)> {
    let (uid, id) = name.strip_prefix(PREFIX)?.split_once('/')?;
    let mut fields = decode_key(bytes).ok()?.into_iter();
    let mut next = || fields.next();
    let int = |value: Option<Value>| match value? {
        Value::Int(int) => u64::try_from(int).ok(),
        _ => None,
    };
    let text = |value: Option<Value>| match value {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    let order = (int(next())?, int(next())?, int(next())?);
    let time_ms = int(next());
    let kind = match CAME.get(usize::try_from(int(next())?).ok()?)? {
        Came::Overridden => ConflictKind::Overridden,
        Came::Lost => ConflictKind::Lost,
        Came::Partly => ConflictKind::Partly,
    };
    let table = text(next());
    let Some(Value::Blob(key)) = next() else { return None };
    let column = text(next());
    let mut value = || {
        let is_there = int(next())? == 1;
        let value = next()?;
        is_there.then_some(value)
    };
    let (base, ours, theirs, stands) = (value(), value(), value(), value());
    let is_cut = int(next())? == 1;
    let conflict = Conflict {
        id: u64::from_str_radix(id, 16).ok(),
        seq: Some(order.1),
        time_ms,
        table,
        key: decode_key(&key).ok()?,
        column,
        base,
        ours,
        theirs,
        stands,
        is_cut,
        ..Conflict::of(kind)
    };
    Some((decode_hex(uid)?, order, conflict))
}
