//! The stored form of a cell's siblings, version 1: docs/format.md, section 12.
//!
//! ```text
//! u8       bits 0-6 the version, 1; bit 7: there is a base
//! u8       the rule
//! varint   how many siblings, at most 8; for each:
//!   varint   read
//!   varint   write - read, at least 1
//!   varint   author, at most 128 bits
//!   bytes    the value in its typed form
//! with bit 7:
//!   varint   the base's position
//!   bytes    the base's value in its typed form
//! ```
//!
//! Invariant: equal siblings are equal bytes and the other way round; bytes from outside end in
//! an error, never in a panic, and nothing is allocated that they do not hold.

use super::{BadSiblings, Base, Sibling, Siblings, check};
use crate::{Rule, Value, limits::SIBLINGS_MAX};

const VERSION: u8 = 1;
const HAS_BASE: u8 = 0x80;

impl Siblings {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let flag = if self.base.is_some() { HAS_BASE } else { 0 };
        let mut out = vec![VERSION | flag, self.rule.id()];
        put_varint(&mut out, self.siblings.len() as u128);
        for sibling in &self.siblings {
            put_varint(&mut out, sibling.read.into());
            put_varint(&mut out, (sibling.write - sibling.read).into());
            put_varint(&mut out, sibling.author);
            put_value(&mut out, &sibling.value);
        }
        if let Some(base) = &self.base {
            put_varint(&mut out, base.lsn.into());
            put_value(&mut out, &base.value);
        }
        out
    }

    /// Whether these bytes say that a newer version has written them.
    #[must_use]
    pub fn is_newer(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|version| version & !HAS_BASE > VERSION)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`BadSiblings`] for anything that [`Self::encode`] does not write, or a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadSiblings> {
        let mut rest = Reader(bytes);
        let version = rest.byte()?;
        if version & !HAS_BASE != VERSION {
            return Err(BadSiblings("made by a newer version of Sheaf; upgrade"));
        }
        let rule = Rule::from_id(rest.byte()?).ok_or(BadSiblings("siblings of an unknown rule"))?;
        let count = rest.varint()?;
        if count > SIBLINGS_MAX as u128 {
            return Err(BadSiblings("too many siblings"));
        }
        let mut siblings: Vec<Sibling> = Vec::new();
        for _ in 0..count {
            let read = rest.position()?;
            let write = read.checked_add(rest.position()?).ok_or(BadSiblings("a bad number"))?;
            let sibling = Sibling { read, write, author: rest.varint()?, value: rest.value()? };
            check(siblings.last(), &sibling)?;
            let supersedes =
                |other: &Sibling| other.author == sibling.author || other.write <= sibling.read;
            if siblings.iter().any(supersedes) {
                return Err(BadSiblings("a value that a later one has read"));
            }
            siblings.push(sibling);
        }
        let mut base = None;
        if version & HAS_BASE != 0 {
            base = Some(Base { lsn: rest.position()?, value: rest.value()? });
        }
        if !rest.0.is_empty() {
            return Err(BadSiblings("bytes behind the siblings"));
        }
        let read = siblings.iter().map(|sibling| sibling.read).min();
        if base.as_ref().is_some_and(|base| count < 2 || Some(base.lsn) > read) {
            return Err(BadSiblings("a base that siblings have not read"));
        }
        Ok(Self { rule, siblings, base })
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut typed = Vec::new();
    value.put_typed(&mut typed);
    put_varint(out, typed.len() as u128);
    out.extend_from_slice(&typed);
}

fn put_varint(out: &mut Vec<u8>, mut number: u128) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("BUG: seven bits fit in a byte");
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, BadSiblings> {
        let (byte, rest) = self.0.split_first().ok_or(BadSiblings("siblings are cut short"))?;
        self.0 = rest;
        Ok(*byte)
    }

    fn varint(&mut self) -> Result<u128, BadSiblings> {
        const BAD: BadSiblings = BadSiblings("a bad number");
        let mut number = 0_u128;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            let low = u128::from(byte & 0x7f);
            // Zeros on top are a second spelling, and so would be bits that are shifted out.
            if (byte == 0 && shift > 0) || (low << shift) >> shift != low {
                return Err(BAD);
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BAD)
    }

    fn position(&mut self) -> Result<u64, BadSiblings> {
        u64::try_from(self.varint()?).map_err(|_| BadSiblings("a bad number"))
    }

    fn value(&mut self) -> Result<Value, BadSiblings> {
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let (typed, rest) =
            self.0.split_at_checked(len).ok_or(BadSiblings("siblings are cut short"))?;
        self.0 = rest;
        Value::from_typed(typed).map_err(|_| BadSiblings("a bad value"))
    }
}
