//! Mutations on the timeline, and page bytes, that lie in the log and not in memory.
//!
//! Invariant: what is *staged* is written to the log by a record that changes nothing, before the
//! record that refers to it, so the one is never there without the other. Staged bytes that no
//! record refers to are garbage until the next fold. Leaves out when to stage: the draft decides.

use bytes::Bytes;

use super::local::Store;
use super::record::{self, page_sum};
use super::state::{Step, StepBody};
use crate::{Error, Lsn, Page, Result};

/// A mutation of this device that the log has not decided yet. The bytes are opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMutation {
    /// Its number on the timeline.
    pub seq: u64,
    /// The global position its effects were last computed on.
    pub base: Lsn,
    /// When it was made, milliseconds since 1970.
    pub time_ms: u64,
    /// Its encoded form.
    pub bytes: Bytes,
}

/// First bytes of a mutation, by which the layer above knows it.
pub(crate) type Head = [u8; 8];

/// A [`PendingMutation`] whose bytes may be on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMutation {
    /// Its number on the timeline.
    pub seq: u64,
    /// The global position its effects were last computed on.
    pub base: Lsn,
    /// When it was made, milliseconds since 1970.
    pub time_ms: u64,
    pub(crate) body: Body,
}

/// Where the bytes of a mutation are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Here(Bytes),
    Log(Place),
}

/// A place in the log file with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u8,
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) sum: u32,
    pub(crate) head: Head,
}

/// The content of a page that travels with a step.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Here(Page),
    Staged(StagedPage),
}

/// A page that was staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StagedPage {
    pub(crate) offset: u64,
    pub(crate) sum: u32,
}

impl Content {
    pub(crate) fn here(&self) -> Option<&Page> {
        match self {
            Self::Here(page) => Some(page),
            Self::Staged(_) => None,
        }
    }

    pub(super) fn staged(&self) -> Option<StagedPage> {
        match self {
            Self::Here(_) => None,
            Self::Staged(staged) => Some(*staged),
        }
    }
}

impl HeldMutation {
    /// Encoded size.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a mutation is never empty")]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Here(bytes) => bytes.len(),
            Body::Log(place) => place.len as usize,
        }
    }

    /// Its first eight bytes, or all of a shorter one.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        match &self.body {
            Body::Here(bytes) => bytes.get(..size_of::<Head>()).unwrap_or(bytes),
            Body::Log(place) => place.head.get(..place.len as usize).unwrap_or(&place.head),
        }
    }

    /// Whether its bytes are in memory.
    #[must_use]
    pub fn is_here(&self) -> bool {
        matches!(self.body, Body::Here(_))
    }

    pub(crate) fn with(&self, bytes: Bytes) -> PendingMutation {
        PendingMutation { seq: self.seq, base: self.base, time_ms: self.time_ms, bytes }
    }
}

impl From<PendingMutation> for HeldMutation {
    fn from(pending: PendingMutation) -> Self {
        let PendingMutation { seq, base, time_ms, bytes } = pending;
        Self { seq, base, time_ms, body: Body::Here(bytes) }
    }
}

/// Bytes of the bodies that are in memory.
pub(crate) fn bytes_here(timeline: &[HeldMutation]) -> usize {
    timeline.iter().filter(|held| held.is_here()).map(HeldMutation::len).sum()
}

impl Store {
    /// Writes pages to the log for a later step to refer to.
    pub(crate) fn stage_pages(&self, pages: &[Page]) -> Result<Vec<StagedPage>> {
        let step = Step { body: StepBody::Stage { bodies: Vec::new() }, attrs: Vec::new() };
        let (_, locs) = self.append_located(&step, pages)?;
        let staged = |loc| match loc {
            super::map::Loc::Log { offset, sum, .. } => Some(StagedPage { offset, sum }),
            _ => None,
        };
        Ok(locs.into_iter().filter_map(staged).collect())
    }

    /// Writes the body of a mutation to the log for a later step to refer to.
    pub(crate) fn stage_mutation(&self, held: &mut HeldMutation) -> Result<()> {
        let Body::Here(bytes) = &held.body else { return Ok(()) };
        let len = u32::try_from(bytes.len()).map_err(|_| Error::invalid("mutation too large"))?;
        let mut head = Head::default();
        head.iter_mut().zip(&**bytes).for_each(|(to, from)| *to = *from);
        let sum = page_sum(bytes);
        let body = StepBody::Stage { bodies: vec![bytes.clone()] };
        let (at, _) = self.append_located(&Step { body, attrs: Vec::new() }, &[])?;
        let offset = at.1 + record::staged_body_offset(bytes.len());
        held.body = Body::Log(Place { file: at.0, offset, len, sum, head });
        Ok(())
    }

    /// The bytes of a mutation. Whoever calls sees to it that no fold has come in between: by
    /// holding the state or the volume's writer.
    pub(crate) fn body(&self, body: &Body) -> Result<Bytes> {
        let place = match body {
            Body::Here(bytes) => return Ok(bytes.clone()),
            Body::Log(place) => place,
        };
        let mut bytes = vec![0; place.len as usize];
        let log = self.log_of(u64::from(place.file));
        let read = log.read_at(&mut bytes, place.offset);
        let read = read.map_err(|e| Error::io("read mutation", e))?;
        if read < bytes.len() || page_sum(&bytes) != place.sum {
            return Err(Error::corrupt("a mutation in the local log fails its checksum"));
        }
        Ok(bytes.into())
    }

    /// A staged page, with the same proviso as [`Store::body`].
    pub(crate) fn staged_page(&self, staged: StagedPage) -> Result<Page> {
        let log = self.log_of(self.tail().generation);
        Page::filled(self.page_size(), |bytes| {
            let read = log.read_at(bytes, staged.offset);
            let read = read.map_err(|e| Error::io("read staged page", e))?;
            if read == bytes.len() && page_sum(bytes) == staged.sum {
                return Ok(());
            }
            Err(Error::corrupt("a staged page in the local log fails its checksum"))
        })
    }
}
