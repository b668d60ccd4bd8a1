//! Taking an input apart: a few choices from the front, then sections.
//!
//! Invariant: every byte string is an input; what is missing reads as zero or empty.

use sheaf_volume::{Error, ErrorKind, PageSize};

/// What is left of an input.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// Two bytes of length, little-endian, and as much of that as there is.
    pub(crate) fn section(&mut self) -> &'a [u8] {
        let len = u16::from_le_bytes([self.byte(), self.byte()]);
        self.take(usize::from(len))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A small page size: what a decoder does with pages does not depend on more.
pub(crate) fn page_size(choice: u8) -> PageSize {
    PageSize::new(512 << (choice % 4)).expect("BUG: 512 to 4,096 are page sizes")
}

/// Appends a section as [`Input::section`] reads it.
pub(crate) fn put_section(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("BUG: a seed beyond its section");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A decoder may say that bytes are wrong, new or too much, and nothing else.
#[track_caller]
pub(crate) fn assert_refusal(error: &Error) {
    let fits = matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Limit | ErrorKind::Unsupported
    );
    assert!(fits, "a decoder failed with {:?}: {error}", error.kind());
}
