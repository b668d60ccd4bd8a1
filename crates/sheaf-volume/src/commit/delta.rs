//! A commit as a live replica is told of it: what the commit says, with its pages as deltas
//! against the state before it. Byte table in `docs/format.md`.
//!
//! Invariant: the bytes hold only for their volume and are found damaged before anything in them
//! is used; a page that a delta makes is taken only under its hash. That the commit's own hash
//! belongs to what is said here is the teller's word: it goes over the frames, which are not here.
//! Leaves out how a page is made ([`crate::apply_delta`]) and what a replica does with it.

use bytes::Bytes;

use super::check::check_claims;
use super::codec::{
    APPLIED_LEN_MIN, newer, read_applied, read_list, read_pages, write_applied, write_pages,
};
use super::{Applied, Commit, CommitHash};
use crate::limits::COMMIT_BYTES_MAX;
use crate::wire::{Reader, Writer};
use crate::{
    Error, Lsn, Page, PageCount, PageIdx, PageSet, Result, VolumeId, encode_delta, page_hash,
};

const VERSION: u8 = 1;
const CHECK_LEN: usize = 16;
const CHECK_DOMAIN: &[u8] = b"sheaf commit delta v1";

/// What a commit says, and its pages as deltas against the state before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitDelta {
    /// Whose log the commit belongs to.
    pub volume: VolumeId,
    /// Its position.
    pub lsn: Lsn,
    /// Hash of the commit before it.
    pub parent: CommitHash,
    /// Its own hash, by which the next commit names it.
    pub hash: CommitHash,
    /// When it was made, milliseconds since 1970, by its writer's clock.
    pub time_ms: u64,
    /// Pages in the new state.
    pub page_count: PageCount,
    /// Position of the site's bulk volume that its writer had seen.
    pub bulk_seen: Lsn,
    /// Names of the tables touched, sorted.
    pub tables: Vec<String>,
    /// Whose mutations made the new state, in the order they ran.
    pub applied: Vec<Applied>,
    /// The pages it changed, ascending.
    pub pages: Vec<PageDelta>,
}

/// A page of a [`CommitDelta`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageDelta {
    /// Which page.
    pub idx: PageIdx,
    /// [`page_hash`] of its new content at the commit's position.
    pub hash: [u8; 16],
    /// What makes it of the content before, which is zeros for a page that was beyond the end.
    pub delta: Bytes,
}

/// A commit of the log as it reached this replica.
#[derive(Clone, Debug, PartialEq)]
pub enum CommitNews {
    /// The commit itself.
    Whole(Commit),
    /// What it says, and its pages as deltas.
    Delta(CommitDelta),
}

impl CommitNews {
    /// The commit's position.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        match self {
            Self::Whole(commit) => commit.lsn,
            Self::Delta(delta) => delta.lsn,
        }
    }

    /// Whose mutations it applied.
    #[must_use]
    pub fn applied(&self) -> &[Applied] {
        match self {
            Self::Whole(commit) => &commit.applied,
            Self::Delta(delta) => &delta.applied,
        }
    }
}

impl From<Commit> for CommitNews {
    fn from(commit: Commit) -> Self {
        Self::Whole(commit)
    }
}

impl From<CommitDelta> for CommitNews {
    fn from(delta: CommitDelta) -> Self {
        Self::Delta(delta)
    }
}

impl CommitDelta {
    /// The delta form of a commit whose pages, ascending, come as (page, before, after).
    #[must_use]
    pub fn new(commit: &Commit, pages: &[(PageIdx, Page, Page)]) -> Self {
        let page = |(idx, before, after): &(PageIdx, Page, Page)| PageDelta {
            idx: *idx,
            hash: page_hash(commit.volume, commit.lsn, *idx, after),
            delta: encode_delta(before, after).into(),
        };
        Self {
            volume: commit.volume,
            lsn: commit.lsn,
            parent: commit.parent,
            hash: commit.hash(),
            time_ms: commit.time_ms,
            page_count: commit.page_count,
            bulk_seen: commit.bulk_seen,
            tables: commit.tables.clone(),
            applied: commit.applied.clone(),
            pages: pages.iter().map(page).collect(),
        }
    }

    /// The numbers of its pages.
    #[must_use]
    pub fn page_set(&self) -> PageSet {
        self.pages.iter().map(|page| page.idx).collect()
    }

    /// The byte form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = self.encode_body();
        let check = check_of(self.volume, &writer.0);
        writer.raw(&check);
        writer.finish()
    }

    /// Reads the byte form of a commit of this volume.
    ///
    /// # Errors
    /// `Corrupt` when the bytes are not one whole commit delta of it, `Unsupported` when they come
    /// from a newer version.
    pub fn decode(volume: VolumeId, bytes: &Bytes) -> Result<Self> {
        let corrupt = |why: &str| Error::corrupt(format!("commit delta: {why}"));
        if bytes.len() > COMMIT_BYTES_MAX {
            return Err(corrupt("too large"));
        }
        let (body, check) =
            bytes.split_last_chunk::<CHECK_LEN>().ok_or_else(|| corrupt("too short"))?;
        if *check != check_of(volume, body) {
            return Err(corrupt("bytes do not match their hash"));
        }
        let mut reader = Reader::new(body, "commit delta");
        let version = reader.u8()?;
        if version != VERSION {
            return Err(newer("delta version", u64::from(version)));
        }
        let delta = read_fields(&mut reader, volume, bytes)?;
        reader.end()?;
        check_claims(
            (delta.lsn, delta.parent),
            (&delta.page_set(), delta.page_count),
            &delta.tables,
            &delta.applied,
        )?;
        if delta.encode_body().0 != body {
            return Err(reader.fail("not in canonical form"));
        }
        Ok(delta)
    }

    fn encode_body(&self) -> Writer {
        let deltas: usize = self.pages.iter().map(|page| page.delta.len() + 24).sum();
        let mut writer = Writer::with_capacity(256 + deltas);
        writer.u8(VERSION);
        writer.varint(self.lsn.0);
        writer.raw(&self.parent.0);
        writer.raw(&self.hash.0);
        writer.varint(self.time_ms);
        writer.varint(u64::from(self.page_count.0));
        writer.varint(self.bulk_seen.0);
        writer.varint(self.tables.len() as u64);
        for table in &self.tables {
            writer.bytes(table.as_bytes());
        }
        writer.varint(self.applied.len() as u64);
        for applied in &self.applied {
            write_applied(&mut writer, applied);
        }
        write_pages(&mut writer, &self.page_set());
        for page in &self.pages {
            writer.raw(&page.hash);
            writer.bytes(&page.delta);
        }
        writer
    }
}

fn read_fields(reader: &mut Reader<'_>, volume: VolumeId, whole: &Bytes) -> Result<CommitDelta> {
    Ok(CommitDelta {
        volume,
        lsn: Lsn(reader.varint()?),
        parent: CommitHash(reader.array()?),
        hash: CommitHash(reader.array()?),
        time_ms: reader.varint()?,
        page_count: PageCount(reader.varint_u32()?),
        bulk_seen: Lsn(reader.varint()?),
        tables: read_list(reader, 1, Reader::text)?,
        applied: read_list(reader, APPLIED_LEN_MIN, read_applied)?,
        pages: {
            let pages = read_pages(reader)?;
            let mut deltas = Vec::new();
            // A short set may name many pages; the bytes end before they cost anything.
            for idx in pages.iter() {
                let (hash, delta) = (reader.array()?, whole.slice_ref(reader.bytes()?));
                deltas.push(PageDelta { idx, hash, delta });
            }
            deltas
        },
    })
}

fn check_of(volume: VolumeId, body: &[u8]) -> [u8; CHECK_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CHECK_DOMAIN).update(volume.as_bytes()).update(body);
    let mut check = [0; CHECK_LEN];
    hasher.finalize_xof().fill(&mut check);
    check
}
