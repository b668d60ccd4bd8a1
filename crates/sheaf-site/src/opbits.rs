//! One boolean per operation of a mutation, packed.
//!
//! Invariant: bit *n* is bit *n* mod 32 of word *n* / 32, least significant first; bits beyond the
//! last are zero.

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

    /// The words; written as little-endian bytes, this is how they travel.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
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
            let bytes = bits.words().iter().flat_map(|word| word.to_le_bytes());
            bytes.map(|byte| format!("{byte:02x}")).collect()
        };
        let long: Vec<bool> = (0..33).map(|at| at > 30).collect();
        for (bits, hex) in
            [(&[true, true, false, true][..], "0b000000"), (&long, "0000008001000000"), (&[], "")]
        {
            let of: OpBits = bits.iter().copied().collect();
            assert_eq!(packed(&of), hex);
            assert_eq!(of.iter().collect::<Vec<_>>(), bits);
            assert_eq!(
                (of.len(), of.is_empty(), of.get(bits.len())),
                (bits.len(), hex.is_empty(), None)
            );
        }
    }
}
