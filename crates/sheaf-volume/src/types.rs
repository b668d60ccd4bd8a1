//! Positions and pages: the small values every other module speaks in.
//!
//! Invariant: an [`Lsn`] of zero means "nothing committed yet"; real commits are 1, 2, 3 ... with
//! no gaps. A [`PageIdx`] is never zero. A [`Page`] is immutable once made.

use std::{fmt, num::NonZeroU32, sync::Arc};

/// Position in the one global log of a volume; zero is the empty volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The empty volume, before the first commit.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position in one replica's own history of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalLsn(pub u64);

impl LocalLsn {
    /// The state a store is created in.
    pub const ZERO: Self = Self(0);

    /// The state after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for LocalLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a page in its volume, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIdx(NonZeroU32);

impl PageIdx {
    /// The first page.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The page with this number, or `None` for zero.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// The page that holds the byte at `offset`; `None` beyond the last addressable page.
    #[must_use]
    pub fn containing(offset: u64, size: PageSize) -> Option<Self> {
        let number = (offset / size.bytes() as u64).checked_add(1)?;
        Self::new(u32::try_from(number).ok()?)
    }

    /// The number, from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Byte offset of the page in a plain SQLite file.
    #[must_use]
    pub fn offset(self, size: PageSize) -> u64 {
        u64::from(self.get() - 1) * size.bytes() as u64
    }
}

impl fmt::Display for PageIdx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// How many pages a state of a volume has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageCount(pub u32);

impl PageCount {
    /// Whether the page lies inside a state of this size.
    #[must_use]
    pub const fn contains(self, idx: PageIdx) -> bool {
        idx.get() <= self.0
    }
}

impl fmt::Display for PageCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes in one page of a volume: a power of two from 512 to 65,536, as SQLite has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// 4,096 bytes, SQLite's default and ours.
    pub const DEFAULT: Self = Self(4096);

    /// A page size, or `None` if SQLite would not accept it.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes >= 512 && bytes <= 65_536 && bytes.is_power_of_two() {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The size in bytes, as stored in headers.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The immutable content of one page, cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Page(Arc<[u8]>);

impl Page {
    /// A page of zeros.
    #[must_use]
    pub fn zeros(size: PageSize) -> Self {
        // One allocation, where a vector would be copied into a second one.
        Self(std::iter::repeat_n(0, size.bytes()).collect())
    }

    /// A page that starts as `bytes` and is then edited.
    pub fn edited(bytes: &[u8], edit: impl FnOnce(&mut [u8])) -> Self {
        let mut page: Arc<[u8]> = bytes.into();
        if let Some(bytes) = Arc::get_mut(&mut page) {
            edit(bytes);
        }
        Self(page)
    }

    /// A page that `fill` writes into, starting from zeros.
    ///
    /// # Errors
    /// Whatever `fill` returns.
    pub fn filled<E>(
        size: PageSize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut page = Self::zeros(size);
        match Arc::get_mut(&mut page.0) {
            Some(bytes) => fill(bytes)?,
            None => unreachable!("a page that nobody else has seen"),
        }
        Ok(page)
    }
}

impl From<&[u8]> for Page {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Page {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl std::ops::Deref for Page {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({} bytes, xxh3 {:016x})", self.len(), xxhash_rust::xxh3::xxh3_64(self))
    }
}
