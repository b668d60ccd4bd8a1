//! One boolean per operation of a mutation, packed, and the operations that it is false for.
//!
//! Invariant: bit *n* is bit *n* mod 32 of word *n* / 32, least significant first; bits beyond the
//! last are zero, also in what is read. Leaves out what became of an operation that does not
//! stand: the row shows it.

use bytes::{BufMut as _, Bytes, BytesMut};
use sheaf_merge::Value;
use sheaf_volume::{Error, Result};

use crate::limits;
use crate::mutation::Op;
use crate::timeline::MutationRecord;

/// Which operations of a mutation stand as they were written. A call has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpBits {
    words: Vec<u32>,
    len: usize,
}

impl OpBits {
    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether an operation stands, counted from 0; `None` beyond the last.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<bool> {
        let word = self.words.get(at / 32).filter(|_| at < self.len)?;
        Some(word >> (at % 32) & 1 == 1)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = bool> + '_ {
        (0..self.len).filter_map(|at| self.get(at))
    }

    /// Whether every operation stands.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.iter().all(|stands| stands)
    }

    /// The packed form, as it travels: the words as little-endian bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.words.len() * 4);
        self.words.iter().for_each(|word| bytes.put_u32_le(*word));
        bytes.freeze()
    }

    /// Reads the packed form of the bits of `len` operations.
    ///
    /// # Errors
    /// `Invalid` for another number of bytes, or for bits beyond the last operation.
    pub fn from_bytes(len: usize, bytes: &[u8]) -> Result<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let fits = rest.is_empty() && words.len() == len.div_ceil(32);
        let read = Self { words, len };
        // Made again bit by bit, it has none beyond the last.
        if !fits || read != read.iter().collect() {
            return Err(Error::invalid(format!("not the bits of {len} operations")));
        }
        Ok(read)
    }
}

/// An operation of a mutation that did not come out as it was before a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredOp {
    /// Its place among the mutation's operations, from 0.
    pub at: usize,
    /// One line for people.
    pub summary: String,
    /// Its table; `None` for a schema change.
    pub table: Option<String>,
    /// What names its row there: the primary key, or the row id where none is declared.
    pub key: Vec<Value>,
}

/// What a merge left of a mutation's operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergedOps {
    /// Which of them came out as they were. A call has none.
    pub stands: OpBits,
    /// The others, the first [`limits::ALTERED_OPS_MAX`] of them.
    pub altered: Vec<AlteredOp>,
}

impl MergedOps {
    /// Looks up which operations the bits are false for.
    pub(crate) fn new(stands: OpBits, ops: &[Op]) -> Self {
        let altered = ops.iter().enumerate().zip(stands.iter()).filter(|(_, stands)| !stands);
        let altered = altered.map(|((at, op), _)| AlteredOp {
            at,
            summary: op.summary(),
            table: op.table().map(str::to_owned),
            key: op.key().to_vec(),
        });
        let altered = altered.take(limits::ALTERED_OPS_MAX).collect();
        Self { stands, altered }
    }

    /// The same, for a mutation as it was sent.
    ///
    /// # Errors
    /// `Invalid` for a mutation that cannot be read, or has another number of operations.
    pub fn of(sent: &MutationRecord, stands: OpBits) -> Result<Self> {
        let mutation = sent.mutation()?;
        let (told, ops) = (stands.len(), mutation.ops());
        if told != ops.len() {
            let text = format!("mutation {} has {} operations, not {told}", sent.seq, ops.len());
            return Err(Error::invalid(text));
        }
        Ok(Self::new(stands, ops))
    }
}

impl FromIterator<bool> for OpBits {
    fn from_iter<T: IntoIterator<Item = bool>>(bits: T) -> Self {
        let (mut words, mut len) = (Vec::new(), 0);
        for bit in bits {
            if len % 32 == 0 {
                words.push(0);
            }
            if let Some(word) = words.last_mut() {
                *word |= u32::from(bit) << (len % 32);
            }
            len += 1;
        }
        Self { words, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_specification() {
        let packed = |bits: &OpBits| -> String {
            bits.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let long: Vec<bool> = (0..33).map(|at| at > 30).collect();
        for (bits, hex) in
            [(&[true, true, false, true][..], "0b000000"), (&long, "0000008001000000"), (&[], "")]
        {
            let of: OpBits = bits.iter().copied().collect();
            assert_eq!(packed(&of), hex);
            assert_eq!(of.iter().collect::<Vec<_>>(), bits);
            assert_eq!(OpBits::from_bytes(bits.len(), &of.to_bytes()).unwrap(), of);
            assert_eq!(of.is_all(), bits.iter().all(|bit| *bit));
            assert_eq!(
                (of.len(), of.is_empty(), of.get(bits.len())),
                (bits.len(), hex.is_empty(), None)
            );
        }
    }

    #[test]
    fn what_is_read_has_one_form() {
        for (len, bytes) in [
            (0, &[0, 0, 0, 0][..]),
            (1, &[]),
            (1, &[1]),
            (4, &[0x1b, 0, 0, 0]),
            (32, &[0; 8]),
            (33, &[0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0]),
        ] {
            assert!(OpBits::from_bytes(len, bytes).is_err(), "{len} {bytes:?}");
        }
        assert!(OpBits::from_bytes(32, &[0xff; 4]).unwrap().is_all());
    }
}
