//! Records of the op stream: `op:u8, len:LEB128, value[len]`, and typed values inside them.
//!
//! ```text
//! n            null
//! i<decimal>   integer, canonical: no plus sign, no leading zeros
//! r<d.ddde-n>  real, shortest digits that read back to the same bits, as 1.5e0; rinf, r-inf
//! t<bytes>     UTF-8 text
//! x<bytes>     blob
//! ```
//!
//! Invariant: reading never panics and never allocates more than the input holds. What records
//! mean is the business of `mutation.rs`; docs/format.md has the byte table.

use std::io::Write as _;

use sheaf_merge::Value;
use sheaf_volume::{Error, ErrorKind, Result};

use crate::limits;

/// Version byte in front of a stream that puts rows of a list in their places.
pub(crate) const VERSION_PLACES: u8 = 4;
/// Version byte in front of one that puts none there and takes locks.
pub(crate) const VERSION_LOCKS: u8 = 3;
/// Version byte in front of one that does neither and lists row ids.
pub(crate) const VERSION_IDS: u8 = 2;
/// Version byte in front of every other stream.
pub(crate) const VERSION_PLAIN: u8 = 1;

/// The op bytes this version writes.
pub(crate) mod op {
    pub(crate) const TABLE: u8 = b't';
    pub(crate) const KEY: u8 = b'k';
    pub(crate) const COL: u8 = b'c';
    pub(crate) const BASE: u8 = b'~';
    pub(crate) const INSERT: u8 = b'+';
    pub(crate) const DELETE: u8 = b'-';
    pub(crate) const REPLACE: u8 = b'=';
    pub(crate) const END: u8 = b'.';
    pub(crate) const DDL: u8 = b'$';
    pub(crate) const FLAGS: u8 = b'f';
    pub(crate) const ROW_ID: u8 = b'o';
    pub(crate) const CALL: u8 = b'@';
    pub(crate) const SEED: u8 = b's';
    pub(crate) const TIME: u8 = b'm';
    pub(crate) const ARG: u8 = b'a';
    pub(crate) const LOCK: u8 = b'!';
    pub(crate) const BEHIND: u8 = b'b';
    /// Specified, but not understood here: node id, position, read.
    pub(crate) const RESERVED: [u8; 3] = [b'i', b'p', b'^'];
}

/// A malformed stream.
pub(crate) fn malformed(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("malformed mutation: {what}"))
}

/// Writes records.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// Where a value is put together, kept to save an allocation per value.
    value: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(version: u8) -> Self {
        Self { bytes: vec![version], value: Vec::new() }
    }

    pub(crate) fn record(&mut self, op: u8, value: &[u8]) {
        self.bytes.push(op);
        self.length(value.len());
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn typed(&mut self, op: u8, value: &Value) {
        let mut typed = std::mem::take(&mut self.value);
        typed.clear();
        value.put_typed(&mut typed);
        self.record(op, &typed);
        self.value = typed;
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn length(&mut self, mut len: usize) {
        loop {
            let low = u8::try_from(len & 0x7f).expect("BUG: seven bits fit in a byte");
            len >>= 7;
            if len == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }
}

/// Reads records.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    version: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the version byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > limits::MUTATION_BYTES_MAX {
            return Err(limit("bytes of one mutation", limits::MUTATION_BYTES_MAX));
        }
        match bytes.split_first() {
            Some((&version @ VERSION_PLAIN..=VERSION_PLACES, rest)) => Ok(Self { version, rest }),
            Some((version, _)) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("mutation format {version} is newer than this version of sheaf"),
            )),
            None => Err(malformed("empty")),
        }
    }

    /// The version of the stream.
    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    /// The next record, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u8, &'a [u8])>> {
        let Some((op, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let len = self.length()?;
        let (value, rest) =
            self.rest.split_at_checked(len).ok_or_else(|| malformed("a record is cut short"))?;
        self.rest = rest;
        Ok(Some((*op, value)))
    }

    fn length(&mut self) -> Result<usize> {
        let mut len = 0u32;
        for shift in [0u32, 7, 14, 21, 28] {
            let (byte, rest) =
                self.rest.split_first().ok_or_else(|| malformed("a length is cut short"))?;
            self.rest = rest;
            let low = u32::from(byte & 0x7f);
            // The fifth byte has room for four bits, and zeros on top are a second spelling.
            if (shift == 28 && low > 0x0f) || (shift > 0 && *byte == 0) {
                break;
            }
            len |= low << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(len).map_err(|_| malformed("bad length"));
            }
        }
        Err(malformed("bad length"))
    }
}

/// A named bound was reached.
pub(crate) fn limit(what: &str, max: usize) -> Error {
    Error::new(ErrorKind::Limit, format!("a mutation may hold at most {max} {what}"))
}

/// Reads the typed form of a value.
pub(crate) fn decode_value(bytes: &[u8]) -> Result<Value> {
    if let Some(b'd' | b'p') = bytes.first() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this version of sheaf does not know values by reference",
        ));
    }
    Value::from_typed(bytes).map_err(malformed)
}

/// Reads a canonical decimal number.
pub(crate) fn decimal<T: std::str::FromStr + ToString>(bytes: &[u8]) -> Result<T> {
    let text = text(bytes)?;
    match text.parse::<T>() {
        Ok(number) if number.to_string() == text => Ok(number),
        _ => Err(malformed("a decimal number")),
    }
}

/// Reads UTF-8.
pub(crate) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| malformed("text is not UTF-8"))
}

/// A key: one netstring `len:typed` per column.
pub(crate) fn encode_key(key: &[Value]) -> Vec<u8> {
    let (mut out, mut typed) = (Vec::new(), Vec::new());
    for value in key {
        typed.clear();
        value.put_typed(&mut typed);
        write!(out, "{}:", typed.len()).expect("BUG: writing to memory cannot fail");
        out.extend_from_slice(&typed);
    }
    out
}

/// Reads a key.
pub(crate) fn decode_key(mut bytes: &[u8]) -> Result<Vec<Value>> {
    let mut key = Vec::new();
    while !bytes.is_empty() {
        let colon = bytes
            .iter()
            .position(|b| *b == b':')
            .ok_or_else(|| malformed("a key without a length"))?;
        let (len, rest) = bytes.split_at(colon);
        let len: usize = decimal(len)?;
        let rest = rest.get(1..).unwrap_or_default();
        let (typed, rest) =
            rest.split_at_checked(len).ok_or_else(|| malformed("a key is cut short"))?;
        if key.len() == limits::COLUMNS_MAX {
            return Err(limit("columns of a key", limits::COLUMNS_MAX));
        }
        key.push(decode_value(typed)?);
        bytes = rest;
    }
    if key.is_empty() {
        return Err(malformed("an empty key"));
    }
    Ok(key)
}
