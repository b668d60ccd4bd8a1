//! A door for `sheaf-fuzz` to the decoders of a bucket's objects, which nothing else can call
//! alone.
//!
//! Invariant: nothing here changes anything; no other crate may use it. Leaves out reading such
//! objects from a bucket: [`super::BucketRemote`] does that.

use bytes::Bytes;

use super::boundary::Mark;
use super::checkpoint::Opened;
use super::latest::Latest;
use super::pack::Pack;
use crate::{Lineage, Lsn, PageCount, PageIdx, PageSize, Result, VolumeId};

/// A checkpoint that decoded.
#[derive(Debug)]
pub struct CheckpointParts {
    /// The state.
    pub lsn: Lsn,
    /// Bytes per page.
    pub page_size: PageSize,
    /// Pages in the state.
    pub page_count: PageCount,
    /// Length of each segment that it refers to, in bytes.
    pub segments: Vec<u64>,
    /// Pages that came with the directory.
    pub lead_pages: Vec<PageIdx>,
    /// Every frame.
    pub frames: Vec<CheckpointFrame>,
    /// The same content, encoded anew.
    pub again: Bytes,
}

/// A frame of a checkpoint.
#[derive(Debug)]
pub struct CheckpointFrame {
    /// Its segment's place.
    pub segment: usize,
    /// Where it begins there, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Its pages.
    pub members: Vec<PageIdx>,
    /// Those that are alive, and where each last changed.
    pub live: Vec<(PageIdx, Lsn)>,
}

/// Decodes a whole checkpoint.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub fn checkpoint(bytes: &Bytes) -> Result<CheckpointParts> {
    let (opened, frames) = Opened::decode_all(bytes)?;
    let again = opened.encode_again(&frames)?;
    let head = &opened.head;
    let frames = frames.into_iter().map(|frame| CheckpointFrame {
        segment: frame.segment as usize,
        offset: frame.offset,
        len: frame.len,
        members: frame.members,
        live: frame.live,
    });
    Ok(CheckpointParts {
        lsn: head.lsn,
        page_size: head.page_size,
        page_count: head.page_count,
        segments: head.segments.iter().map(|segment| segment.bytes).collect(),
        lead_pages: opened.lead().into_iter().flat_map(|lead| lead.pages.keys().copied()).collect(),
        frames: frames.collect(),
        again,
    })
}

/// A boundary mark that decoded.
#[derive(Debug)]
pub struct MarkParts {
    /// Whose boundary it moves.
    pub volume: VolumeId,
    /// Its number.
    pub number: u64,
    /// The oldest position that is kept.
    pub boundary: Lsn,
    /// A position that the log had reached.
    pub head: Lsn,
    /// The same content, encoded anew.
    pub again: Bytes,
}

/// Decodes a boundary mark.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub fn mark(bytes: &[u8]) -> Result<MarkParts> {
    let mark = Mark::decode(bytes)?;
    let again = mark.encode();
    let Mark { volume, number, boundary, head, .. } = mark;
    Ok(MarkParts { volume, number, boundary, head, again })
}

/// Decodes a hint; and the same, encoded anew.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub fn hint(bytes: &[u8]) -> Result<Bytes> {
    Ok(Latest::decode(bytes)?.encode())
}

/// A pack that decoded.
#[derive(Debug)]
pub struct PackParts {
    /// Whose commits.
    pub volume: VolumeId,
    /// Position of the first of them.
    pub first: Lsn,
    /// The commits.
    pub commits: Vec<Bytes>,
    /// The same content, encoded anew.
    pub again: Bytes,
}

/// Decodes a pack.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub fn pack(bytes: &Bytes) -> Result<PackParts> {
    let pack = Pack::decode(bytes)?;
    let again = pack.encode();
    let Pack { volume, first, commits } = pack;
    Ok(PackParts { volume, first, commits, again })
}

/// Decodes the parents of a volume as a device keeps them; and the same, encoded anew.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub fn parents(volume: VolumeId, bytes: &[u8]) -> Result<(Lineage, Bytes)> {
    let lineage = Lineage::decode(volume, bytes)?;
    let again = lineage.encode();
    Ok((lineage, again))
}
