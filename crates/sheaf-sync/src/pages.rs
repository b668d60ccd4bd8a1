//! Pages over HTTP: the request that names them and the stream of blocks that answers.
//!
//! Invariant: a page leaves [`BlockReader`] only if it was asked for, has exactly the page size
//! and matches its hash, and [`BlockReader::finish`] succeeds only if every page asked for came.
//! The hash binds the bytes to volume, position and number, so that no cache or bug on the way
//! can hand over the right bytes of the wrong page. A delta is only a way to write a page: the
//! page that it makes passes under the same hash or not at all.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message as _;
pub use sheaf_volume::page_hash;
use sheaf_volume::{
    Error, ErrorKind, FetchedPage, HeldPage, Lsn, Page, PageIdx, PageSet, PageSize, Result,
    VolumeId, Want, apply_delta, encode_delta,
};
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    limits,
    message::{self, FetchPages, PageBlock, WantPages},
    wire,
};

const RAW: u32 = 0;
const ZSTD: u32 = 1;
const DELTA: u32 = 2;
/// Level 1 is within a few per cent of level 3 on 4 KiB pages and twice as fast.
const LEVEL: i32 = 1;

/// What a request for pages says.
#[derive(Clone, Debug, PartialEq)]
pub struct PageRequest {
    /// Whose pages.
    pub volume: VolumeId,
    /// Which.
    pub wants: Vec<Want>,
    /// What of them the asker has in an older version.
    pub held: Held,
}

/// Which older versions an asker has: per page a position and the page's hash there.
pub type Held = BTreeMap<PageIdx, (Lsn, [u8; 16])>;

/// The body of a request for pages by somebody who has nothing.
///
/// # Errors
/// `Limit` when it asks for more than one request may.
pub fn encode_request(volume: VolumeId, wants: &[Want]) -> Result<Bytes> {
    encode_request_holding(volume, wants, &[])
}

/// The body of a request for pages, saying which of `held` are older versions of them.
///
/// # Errors
/// `Limit` when it asks for more than one request may.
pub fn encode_request_holding(
    volume: VolumeId,
    wants: &[Want],
    held: &[HeldPage],
) -> Result<Bytes> {
    let wanted = |held: &&HeldPage| wants.iter().any(|want| want.pages.contains(held.idx));
    let held = held.iter().filter(wanted).take(limits::HELD_PAGES_MAX).map(|held| {
        let hash = page_hash(volume, held.lsn, held.idx, &held.page);
        let hash = Bytes::copy_from_slice(&hash);
        message::HeldPage { idx: held.idx.get(), lsn: held.lsn.0, hash }
    });
    let request = FetchPages {
        held: held.collect(),
        volume: wire::id_bytes(volume.as_bytes()),
        wants: wants
            .iter()
            .map(|w| WantPages { lsn: w.lsn.0, pages: w.pages.to_bytes().into() })
            .collect(),
    };
    let body = Bytes::from(request.encode_to_vec());
    check_wants(wants)?;
    check_body(body.len())?;
    Ok(body)
}

/// Reads the body of a request for pages, whatever its asker has.
///
/// # Errors
/// As [`decode_request_holding`].
pub fn decode_request(body: Bytes) -> Result<(VolumeId, Vec<Want>)> {
    decode_request_holding(body).map(|request| (request.volume, request.wants))
}

/// Reads the body of a request for pages.
///
/// # Errors
/// `Limit` when it asks for too much, `Invalid` when it cannot be read.
pub fn decode_request_holding(body: Bytes) -> Result<PageRequest> {
    check_body(body.len())?;
    let request = FetchPages::decode(body)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "body is not a page request", e))?;
    if request.wants.len() > limits::WANTS_MAX || request.held.len() > limits::HELD_PAGES_MAX {
        return Err(too_much());
    }
    let volume = wire::volume_from_wire(&request.volume)?;
    let mut wants = Vec::with_capacity(request.wants.len());
    for want in &request.wants {
        let pages = PageSet::from_bytes(&want.pages)
            .map_err(|e| Error::with_source(ErrorKind::Invalid, "page set of a want", e))?;
        wants.push(Want { lsn: Lsn(want.lsn), pages });
    }
    check_wants(&wants)?;
    let held = request.held.iter().map(held_from_wire).collect::<Result<Held>>()?;
    Ok(PageRequest { volume, wants, held })
}

fn held_from_wire(held: &message::HeldPage) -> Result<(PageIdx, (Lsn, [u8; 16]))> {
    let idx = PageIdx::new(held.idx).ok_or_else(|| Error::invalid("there is no page 0"))?;
    let hash = <[u8; 16]>::try_from(held.hash.as_ref())
        .map_err(|_| Error::invalid("page hash needs 16 bytes"))?;
    Ok((idx, (Lsn(held.lsn), hash)))
}

/// Writes the blocks of an answer. One compressor serves all of them: setting one up costs more
/// than packing a page.
pub struct BlockWriter {
    volume: VolumeId,
    compressor: Option<Compressor<'static>>,
}

impl BlockWriter {
    /// A writer for pages of this volume.
    #[must_use]
    pub fn new(volume: VolumeId) -> Self {
        // Without a compressor pages are sent as they are: compression never fails a fetch.
        Self { volume, compressor: Compressor::new(LEVEL).ok() }
    }

    /// One block of the answer, its length in front; `old` is a version that the asker holds.
    #[must_use]
    pub fn block(&mut self, page: &FetchedPage, old: Option<&Page>) -> Bytes {
        let raw: &[u8] = &page.page;
        let packed = self.compressor.as_mut().and_then(|packer| packer.compress(raw).ok());
        let packed = packed.filter(|packed| packed.len() < raw.len());
        let (encoding, bytes) = packed.map_or_else(|| (RAW, raw.to_vec()), |packed| (ZSTD, packed));
        let delta = old.filter(|old| old.len() == raw.len()).map(|old| encode_delta(old, raw));
        let delta = delta.filter(|delta| delta.len() < bytes.len());
        let (encoding, bytes) = delta.map_or((encoding, bytes), |delta| (DELTA, delta));
        let block = PageBlock {
            idx: page.idx.get(),
            lsn: page.lsn.0,
            encoding,
            bytes: bytes.into(),
            hash: Bytes::copy_from_slice(&page_hash(self.volume, page.lsn, page.idx, raw)),
        };
        block.encode_length_delimited_to_vec().into()
    }
}

impl std::fmt::Debug for BlockWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockWriter").field("volume", &self.volume).finish_non_exhaustive()
    }
}

/// Reads the stream of blocks that answers one request, in pieces of any size.
pub struct BlockReader {
    volume: VolumeId,
    page_size: PageSize,
    missing: Vec<Want>,
    held: BTreeMap<PageIdx, Page>,
    buf: BytesMut,
    decompressor: Option<Decompressor<'static>>,
}

impl std::fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockReader")
            .field("volume", &self.volume)
            .field("missing", &self.missing)
            .field("buffered", &self.buf.len())
            .finish_non_exhaustive()
    }
}

impl BlockReader {
    /// A reader for the answer to `wants`.
    #[must_use]
    pub fn new(volume: VolumeId, page_size: PageSize, wants: &[Want]) -> Self {
        let (held, buf) = (BTreeMap::new(), BytesMut::new());
        let decompressor = None;
        Self { volume, page_size, missing: wants.to_vec(), held, buf, decompressor }
    }

    /// The request said that these are held.
    #[must_use]
    pub fn holding(mut self, held: &[HeldPage]) -> Self {
        self.held = held.iter().map(|held| (held.idx, held.page.clone())).collect();
        self
    }

    /// Takes the next piece of the body and gives the pages that are whole now.
    ///
    /// # Errors
    /// `Corrupt` when a block is not a page that was asked for.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<FetchedPage>> {
        self.buf.extend_from_slice(piece);
        let mut pages = Vec::new();
        while let Some(block) = self.next_block()? {
            pages.push(self.open(&block)?);
        }
        Ok(pages)
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// `Unavailable` when it ended before every page had come.
    pub fn finish(self) -> Result<()> {
        let missing: u64 = self.missing.iter().map(|want| want.pages.len()).sum();
        if missing == 0 && self.buf.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("the node's answer broke off, pages missing count=`{missing}`"),
        ))
    }

    /// The next whole block in the buffer. The length is checked before the buffer may grow to it.
    fn next_block(&mut self) -> Result<Option<Bytes>> {
        let Some((len, prefix)) = read_len(&self.buf)? else {
            return Ok(None);
        };
        if len > self.page_size.bytes() + limits::BLOCK_OVERHEAD_MAX {
            return Err(Error::corrupt(format!("page block is too long bytes=`{len}`")));
        }
        if self.buf.len() < prefix + len {
            return Ok(None);
        }
        self.buf.advance(prefix);
        Ok(Some(self.buf.split_to(len).freeze()))
    }

    /// Set up with the first page that needs it, for all of the answer.
    fn decompressor(&mut self) -> Result<&mut Decompressor<'static>> {
        let failed = |e| Error::with_source(ErrorKind::Internal, "set up decompressor", e);
        match &mut self.decompressor {
            Some(decompressor) => Ok(decompressor),
            none => Ok(none.insert(Decompressor::new().map_err(failed)?)),
        }
    }

    fn open(&mut self, block: &Bytes) -> Result<FetchedPage> {
        let block = PageBlock::decode(block.clone())
            .map_err(|e| Error::with_source(ErrorKind::Corrupt, "read page block", e))?;
        let idx = PageIdx::new(block.idx).ok_or_else(|| Error::corrupt("page block for page 0"))?;
        let lsn = Lsn(block.lsn);
        let wanted = self.missing.iter_mut().any(|w| w.lsn == lsn && w.pages.remove(idx));
        if !wanted {
            return Err(Error::corrupt(format!("page not asked for idx=`{idx}` lsn=`{lsn}`")));
        }
        let bytes_max = self.page_size.bytes();
        let raw = match block.encoding {
            RAW => block.bytes.to_vec(),
            ZSTD => self
                .decompressor()?
                .decompress(&block.bytes, bytes_max)
                .map_err(|e| Error::with_source(ErrorKind::Corrupt, "decompress page", e))?,
            DELTA => {
                let old = self.held.get(&idx).ok_or_else(|| {
                    Error::corrupt(format!("delta of a page that is not held idx=`{idx}`"))
                })?;
                apply_delta(old, &block.bytes)?.to_vec()
            }
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("unknown page encoding encoding=`{other}`, upgrade this device"),
                ));
            }
        };
        if raw.len() != self.page_size.bytes() {
            return Err(Error::corrupt(format!("page has another size bytes=`{}`", raw.len())));
        }
        if block.hash.as_ref() != page_hash(self.volume, lsn, idx, &raw) {
            return Err(Error::corrupt(format!("page fails its hash idx=`{idx}` lsn=`{lsn}`")));
        }
        Ok(FetchedPage { idx, lsn, page: Page::from(raw) })
    }
}

/// Splits wants into requests that each stay below the limits; order is kept.
#[must_use]
pub fn split_wants(wants: &[Want]) -> Vec<Vec<Want>> {
    let mut requests = Vec::new();
    let mut request: Vec<Want> = Vec::new();
    let mut room = limits::WANT_PAGES_MAX;
    for want in wants {
        let mut piece = PageSet::new();
        for idx in want.pages.iter() {
            if room == 0 {
                if !piece.is_empty() {
                    request.push(Want { lsn: want.lsn, pages: std::mem::take(&mut piece) });
                }
                requests.push(std::mem::take(&mut request));
                room = limits::WANT_PAGES_MAX;
            }
            piece.insert(idx);
            room -= 1;
        }
        if !piece.is_empty() {
            request.push(Want { lsn: want.lsn, pages: piece });
        }
        if request.len() >= limits::WANTS_MAX {
            requests.push(std::mem::take(&mut request));
            room = limits::WANT_PAGES_MAX;
        }
    }
    if !request.is_empty() {
        requests.push(request);
    }
    requests
}

/// The varint at the front, and how many bytes it takes; `None` when it is not whole yet.
fn read_len(buf: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut len = 0usize;
    // Five groups of 7 bits hold any length we accept.
    for (at, byte) in buf.iter().take(5).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((len, at + 1)));
        }
    }
    if buf.len() < 5 { Ok(None) } else { Err(Error::corrupt("page block length is not a varint")) }
}

fn check_wants(wants: &[Want]) -> Result<()> {
    let pages: u64 = wants.iter().map(|want| want.pages.len()).sum();
    if wants.len() > limits::WANTS_MAX || pages > limits::WANT_PAGES_MAX {
        return Err(too_much());
    }
    Ok(())
}

fn check_body(len: usize) -> Result<()> {
    if len > limits::REQUEST_BODY_MAX {
        return Err(too_much());
    }
    Ok(())
}

fn too_much() -> Error {
    Error::new(
        ErrorKind::Limit,
        format!(
            "page request over the limits: {} wants, {} pages, {} bytes",
            limits::WANTS_MAX,
            limits::WANT_PAGES_MAX,
            limits::REQUEST_BODY_MAX
        ),
    )
}

#[cfg(test)]
mod tests;
