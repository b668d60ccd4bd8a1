//! Frames: runs of pages, compressed together, each with a hash that binds it to its place.
//!
//! Invariant: bytes are checked against their hash before they are decompressed, and the output
//! has exactly the size that the page numbers imply. The hash covers volume and page numbers, so
//! a frame of another volume or of other pages never passes. Byte table in `docs/format.md`.

use zstd::bulk::{Compressor, Decompressor};

use crate::limits::FRAME_PAGES_MAX;
use crate::teeth::{Tooth, bites};
use crate::{Error, ErrorKind, FrameRef, Page, PageIdx, PageSize, Result, VolumeId};

const RAW: u8 = 0;
const ZSTD: u8 = 1;
const ZSTD_LEVEL: i32 = 3;
const HASH_CONTEXT: &[u8] = b"sheaf frame v1";

/// Packs pages in ascending order into consecutive frames.
pub(crate) struct FrameBuilder {
    volume: VolumeId,
    size: PageSize,
    compressor: Compressor<'static>,
    /// Pages of the frame in the making.
    members: Vec<PageIdx>,
    plain: Vec<u8>,
    /// Finished frames.
    frames: Vec<FrameRef>,
    bytes: Vec<u8>,
}

impl FrameBuilder {
    /// A builder with no pages yet.
    ///
    /// # Errors
    /// `Internal` when the compressor cannot be set up.
    pub(crate) fn new(volume: VolumeId, size: PageSize) -> Result<Self> {
        let compressor = Compressor::new(ZSTD_LEVEL).map_err(|e| zstd_failed("set up", e))?;
        let (members, plain) = (Vec::new(), Vec::new());
        Ok(Self { volume, size, compressor, members, plain, frames: Vec::new(), bytes: Vec::new() })
    }

    /// Adds the next page.
    ///
    /// # Errors
    /// `Invalid` when it does not come after the one before or has another size.
    pub(crate) fn push(&mut self, idx: PageIdx, page: &Page) -> Result<()> {
        if page.len() != self.size.bytes() {
            return Err(Error::invalid(format!("page of wrong size bytes=`{}`", page.len())));
        }
        // Sealing empties the frame, so the order is checked before.
        if self.members.last().is_some_and(|&last| last >= idx) {
            return Err(Error::invalid(format!("pages do not ascend page=`{idx}`")));
        }
        if self.members.len() as u64 == u64::from(FRAME_PAGES_MAX) {
            self.seal()?;
        }
        self.members.push(idx);
        self.plain.extend_from_slice(page);
        Ok(())
    }

    /// Bytes of finished frames that were not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the bytes of finished frames.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The frames, and their concatenated bytes as far as they were not taken.
    ///
    /// # Errors
    /// `Internal` when compression fails.
    pub(crate) fn finish(mut self) -> Result<(Vec<FrameRef>, Vec<u8>)> {
        self.seal()?;
        Ok((self.frames, self.bytes))
    }

    /// Finishes the frame in the making.
    ///
    /// # Errors
    /// `Internal` when compression fails.
    pub(crate) fn seal(&mut self) -> Result<()> {
        if self.members.is_empty() {
            return Ok(());
        }
        let packed = self.compressor.compress(&self.plain).map_err(|e| zstd_failed("pack", e))?;
        let helps = packed.len() < self.plain.len();
        let (encoding, body) = if helps { (ZSTD, &packed) } else { (RAW, &self.plain) };
        let start = self.bytes.len();
        self.bytes.push(encoding);
        self.bytes.extend_from_slice(body);
        let frame = self.bytes.get(start..).unwrap_or_default();
        let too_large = |_| Error::new(ErrorKind::Limit, "frame too large");
        self.frames.push(FrameRef {
            pages: u32::try_from(self.members.len()).map_err(too_large)?,
            len: u32::try_from(frame.len()).map_err(too_large)?,
            hash: frame_hash(self.volume, &self.members, frame),
        });
        self.members.clear();
        self.plain.clear();
        Ok(())
    }
}

impl std::fmt::Debug for FrameBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let frames = self.frames.len();
        f.debug_struct("FrameBuilder").field("frames", &frames).finish_non_exhaustive()
    }
}

/// Packs pages, which must ascend, into frames: the table for the commit and the frames' bytes,
/// one after the other, for its inline payload or its segment.
///
/// # Errors
/// `Invalid` when pages do not ascend or have another size.
pub(crate) fn build_frames(
    volume: VolumeId,
    size: PageSize,
    pages: impl IntoIterator<Item = (PageIdx, Page)>,
) -> Result<(Vec<FrameRef>, Vec<u8>)> {
    let mut builder = FrameBuilder::new(volume, size)?;
    for (idx, page) in pages {
        builder.push(idx, &page)?;
    }
    builder.finish()
}

/// Checks and unpacks one frame: the pages of `members`, in their order.
///
/// # Errors
/// `Corrupt` when the bytes are not this frame.
pub(crate) fn decode_frame(
    volume: VolumeId,
    size: PageSize,
    frame: &FrameRef,
    members: &[PageIdx],
    bytes: &[u8],
) -> Result<Vec<Page>> {
    let corrupt = |why: &str| Error::corrupt(format!("frame: {why}"));
    if bytes.len() as u64 != u64::from(frame.len)
        || members.len() as u64 != u64::from(frame.pages)
        || frame.pages > FRAME_PAGES_MAX
    {
        return Err(corrupt("length does not match its commit"));
    }
    if frame_hash(volume, members, bytes) != frame.hash && !bites(Tooth::SkipFrameHash) {
        return Err(corrupt("bytes do not match their hash"));
    }
    let plain_len = members.len() * size.bytes();
    let plain = match bytes.split_first() {
        Some((&RAW, body)) => body.to_vec(),
        // The hash only says that the writer meant these bytes, so the bound is kept here too.
        Some((&ZSTD, body)) => Decompressor::new()
            .and_then(|mut unpack| unpack.decompress(body, plain_len))
            .map_err(|e| Error::with_source(ErrorKind::Corrupt, "frame: unpack", e))?,
        Some((encoding, _)) => {
            let text = "frame made by a newer version of Sheaf; upgrade";
            let text = format!("{text}: encoding=`{encoding}`");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        None => return Err(corrupt("empty")),
    };
    if plain.len() != plain_len {
        return Err(corrupt("unpacks to another size"));
    }
    Ok(plain.chunks_exact(size.bytes()).map(Page::from).collect())
}

pub(crate) fn frame_hash(volume: VolumeId, members: &[PageIdx], bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(HASH_CONTEXT);
    hasher.update(volume.as_bytes());
    // INVARIANT: at most FRAME_PAGES_MAX members, so the count fits.
    hasher.update(&u32::try_from(members.len()).unwrap_or(u32::MAX).to_le_bytes());
    for member in members {
        hasher.update(&member.get().to_le_bytes());
    }
    hasher.update(bytes);
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    hash
}

fn zstd_failed(doing: &str, source: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Internal, format!("{doing} compressor"), source)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: PageSize = match PageSize::new(512) {
        Some(size) => size,
        None => panic!("512 is a page size"),
    };

    fn volume() -> VolumeId {
        VolumeId::from_bytes([1; 16])
    }

    fn idx(number: u32) -> PageIdx {
        PageIdx::new(number).unwrap()
    }

    /// Pages 1, 2, ... of which the odd ones do not compress.
    fn pages(count: u32) -> Vec<(PageIdx, Page)> {
        let content = |number: u32| {
            let mut bytes = vec![7; SIZE.bytes()];
            if number % 2 == 1 {
                blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
            }
            Page::from(bytes)
        };
        (1..=count).map(|number| (idx(number), content(number))).collect()
    }

    fn one_frame(count: u32) -> (FrameRef, Vec<PageIdx>, Vec<u8>) {
        let pages = pages(count);
        let members = pages.iter().map(|(idx, _)| *idx).collect();
        let (frames, bytes) = build_frames(volume(), SIZE, pages).unwrap();
        assert_eq!(frames.len(), 1);
        (frames[0], members, bytes)
    }

    #[test]
    fn pages_round_trip_in_frames_of_bounded_size() {
        for count in [0, 1, 2, 7, 8, 9, 16, 17, 100] {
            let pages = pages(count);
            let (frames, bytes) = build_frames(volume(), SIZE, pages.clone()).unwrap();
            assert_eq!(frames.len(), count.div_ceil(FRAME_PAGES_MAX) as usize);
            let mut rest = &bytes[..];
            for (frame, held) in frames.iter().zip(pages.chunks(FRAME_PAGES_MAX as usize)) {
                let (here, after) = rest.split_at(frame.len as usize);
                let members: Vec<PageIdx> = held.iter().map(|(idx, _)| *idx).collect();
                let read = decode_frame(volume(), SIZE, frame, &members, here).unwrap();
                assert!(read.iter().eq(held.iter().map(|(_, page)| page)));
                rest = after;
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_does_not_compress_is_stored_as_it_is() {
        let (frame, _, bytes) = one_frame(1);
        assert_eq!((bytes[0], frame.len), (RAW, SIZE.get() + 1));
        let (frame, _, bytes) = one_frame(8);
        assert_eq!(bytes[0], ZSTD);
        assert!(frame.len < SIZE.get() * 5);
    }

    #[test]
    fn every_flip_and_truncation_is_found() {
        for count in [1, 2, 8] {
            let (frame, members, bytes) = one_frame(count);
            let refused = |bytes: &[u8]| {
                let error = decode_frame(volume(), SIZE, &frame, &members, bytes).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            };
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x40;
                refused(&bad);
                refused(&bytes[..at]);
            }
            refused(&[&bytes[..], &[0]].concat());
        }
    }

    #[test]
    fn a_frame_holds_only_for_its_place() {
        let (frame, members, bytes) = one_frame(3);
        decode_frame(volume(), SIZE, &frame, &members, &bytes).unwrap();
        let elsewhere = VolumeId::from_bytes([2; 16]);
        assert!(decode_frame(elsewhere, SIZE, &frame, &members, &bytes).is_err());
        let moved = [idx(1), idx(2), idx(4)];
        assert!(decode_frame(volume(), SIZE, &frame, &moved, &bytes).is_err());
        assert!(decode_frame(volume(), SIZE, &frame, &members[..2], &bytes).is_err());
        assert!(decode_frame(volume(), PageSize::DEFAULT, &frame, &members, &bytes).is_err());
    }

    #[test]
    fn a_bomb_under_a_right_hash_unpacks_to_nothing() {
        let packed = zstd::bulk::compress(&vec![0; 64 * 1024 * 1024], 3).unwrap();
        let members = [idx(1)];
        let short = zstd::bulk::compress(&[0; 100], 3).unwrap();
        for (encoding, body) in [(ZSTD, packed), (ZSTD, short), (ZSTD, vec![]), (RAW, vec![1; 511])]
        {
            let bytes = [vec![encoding], body].concat();
            let len = u32::try_from(bytes.len()).unwrap();
            let frame = FrameRef { pages: 1, len, hash: frame_hash(volume(), &members, &bytes) };
            let error = decode_frame(volume(), SIZE, &frame, &members, &bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
        let frame = FrameRef { pages: 1, len: 2, hash: frame_hash(volume(), &members, &[9, 9]) };
        let error = decode_frame(volume(), SIZE, &frame, &members, &[9, 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn pages_out_of_order_or_of_another_size_are_refused() {
        let of = |numbers: &[u32]| {
            let pages = numbers.iter().map(|&number| (idx(number), Page::zeros(SIZE)));
            build_frames(volume(), SIZE, pages.collect::<Vec<_>>())
        };
        of(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        for bad in [&[2, 1][..], &[3, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 8]] {
            assert_eq!(of(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
        let large = [(idx(1), Page::zeros(PageSize::DEFAULT))];
        assert_eq!(build_frames(volume(), SIZE, large).unwrap_err().kind(), ErrorKind::Invalid);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_an_error_not_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            count in 0..9u32,
        ) {
            let members: Vec<PageIdx> = (1..=count).map(idx).collect();
            let len = u32::try_from(bytes.len()).unwrap();
            let hash = frame_hash(volume(), &members, &bytes);
            let frame = FrameRef { pages: count, len, hash };
            if let Ok(pages) = decode_frame(volume(), SIZE, &frame, &members, &bytes) {
                prop_assert_eq!(pages.len(), members.len());
            }
        }
    }
}
