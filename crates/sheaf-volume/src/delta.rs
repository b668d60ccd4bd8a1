//! Page deltas: a page as what it takes to make it from an older version. Byte table in
//! `docs/format.md`.
//!
//! Invariant: any bytes are a page of the old version's size or an error, in memory bounded by
//! that size. A delta proves nothing by itself: whoever applies one compares the page with the
//! hash that came with it, because another old version may give another page without an error.
//! Leaves out where old versions are found and who may send what.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, find_frame_compressed_size, get_error_name};

use crate::{Error, ErrorKind, Lsn, Page, PageIdx, Result, VolumeId};

/// The page as it is: nothing of the old version is in it.
const RAW: u8 = 0;
/// A zstd frame without its magic number, with the old version as its prefix.
const PREFIXED: u8 = 1;
/// Every zstd frame begins with these bytes, so they need not travel.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// As for frames; a page is too small for a higher level to find much more.
const ZSTD_LEVEL: i32 = 3;
const HASH_DOMAIN: &[u8] = b"sheaf page v1";

/// What it takes to make `new` from `old`, never more than the page and one byte.
#[must_use]
pub fn encode_delta(old: &[u8], new: &[u8]) -> Vec<u8> {
    // A page that cannot be compressed is a page sent as it is: compression never fails a sender.
    let packed = compress(old, new).and_then(|frame| {
        let body = frame.strip_prefix(&ZSTD_MAGIC)?;
        (body.len() < new.len()).then(|| [&[PREFIXED], body].concat())
    });
    packed.unwrap_or_else(|| [&[RAW], new].concat())
}

/// The page that a delta makes of `old`, of the same size.
///
/// # Errors
/// `Corrupt` when the bytes are no delta of such a page, `Unsupported` when a newer version made
/// them.
pub fn apply_delta(old: &[u8], delta: &[u8]) -> Result<Page> {
    let corrupt = |why: &str| Error::corrupt(format!("page delta: {why}"));
    match delta.split_first() {
        Some((&RAW, page)) if page.len() == old.len() => Ok(Page::from(page)),
        Some((&RAW, _)) => Err(corrupt("another size")),
        Some((&PREFIXED, body)) if body.len() < old.len() => {
            let frame = [&ZSTD_MAGIC, body].concat();
            // One frame: others behind it, empty ones too, would be a second form of one delta.
            if find_frame_compressed_size(&frame) != Ok(frame.len()) {
                return Err(corrupt("not one frame"));
            }
            let page = decompress(old, &frame)?;
            if page.len() == old.len() { Ok(page.into()) } else { Err(corrupt("another size")) }
        }
        Some((&PREFIXED, _)) => Err(corrupt("longer than its page")),
        Some((kind, _)) => {
            let text =
                format!("page delta made by a newer version of Sheaf; upgrade: kind=`{kind}`");
            Err(Error::new(ErrorKind::Unsupported, text))
        }
        None => Err(corrupt("empty")),
    }
}

/// The hash that binds a page's bytes to its place.
#[must_use]
pub fn page_hash(volume: VolumeId, lsn: Lsn, idx: PageIdx, raw: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(HASH_DOMAIN);
    hasher.update(volume.as_bytes());
    hasher.update(&lsn.0.to_le_bytes());
    hasher.update(&idx.get().to_le_bytes());
    hasher.update(raw);
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    hash
}

fn compress(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).ok()?;
    context.ref_prefix(old).ok()?;
    let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(new.len()));
    context.compress2(&mut frame, new).ok()?;
    Some(frame)
}

fn decompress(old: &[u8], frame: &[u8]) -> Result<Vec<u8>> {
    let mut context =
        DCtx::try_create().ok_or_else(|| Error::new(ErrorKind::Internal, "set up decompressor"))?;
    let mut page = Vec::with_capacity(old.len());
    let done = context.ref_prefix(old).and_then(|_| context.decompress(&mut page, frame));
    done.map_err(|code| {
        Error::corrupt(format!("page delta: unpack why=`{}`", get_error_name(code)))
    })?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 4_096;

    /// Bytes that do not compress.
    fn noise(seed: u32) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_small_change_is_a_small_delta_and_no_page_grows() {
        let old = noise(1);
        let mut new = old.clone();
        new[100..104].copy_from_slice(b"milk");
        let delta = encode_delta(&old, &new);
        assert!(delta.len() < 40, "{}", delta.len());
        assert_eq!(&*apply_delta(&old, &delta).unwrap(), new);
        // Moved by two bytes, as an insertion moves the pointers of a b-tree page.
        new.copy_within(200..1_000, 202);
        assert!(encode_delta(&old, &new).len() < 60);
        // From two buffers: the compressor does not use a prefix that is its input.
        assert!(encode_delta(&old, &old.clone()).len() < 24);
        let other = noise(2);
        let delta = encode_delta(&old, &other);
        assert_eq!((delta[0], delta.len()), (RAW, SIZE + 1));
        assert_eq!(&*apply_delta(&old, &delta).unwrap(), other);
    }

    #[test]
    fn another_old_version_never_gives_the_page_under_its_hash() {
        let (old, wrong) = (noise(1), noise(3));
        let mut new = old.clone();
        new[9] ^= 1;
        let hash =
            |raw: &[u8]| page_hash(VolumeId::from_bytes([1; 16]), Lsn(2), PageIdx::FIRST, raw);
        let delta = encode_delta(&old, &new);
        assert!(apply_delta(&wrong, &delta).is_ok_and(|page| hash(&page) != hash(&new)));
        assert!(apply_delta(&wrong[..512], &delta).is_err());
    }

    #[test]
    fn what_is_not_one_delta_is_refused() {
        let old = noise(1);
        let good = encode_delta(&old, &vec![7; SIZE]);
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        let long = vec![PREFIXED; SIZE + 1];
        for bad in [
            &[][..],
            &[RAW],
            &[RAW, 1, 2],
            &[PREFIXED],
            &good[..good.len() - 1],
            &[&good[..], &skippable[..]].concat(),
            &[&good[..], &[0]].concat(),
            &long,
        ] {
            assert_eq!(apply_delta(&old, bad).unwrap_err().kind(), ErrorKind::Corrupt, "{bad:?}");
        }
        // Right in itself, of a larger page.
        let bomb =
            [&[PREFIXED], &zstd::bulk::compress(&vec![0; 1 << 26], 3).unwrap()[4..]].concat();
        assert_eq!(apply_delta(&old, &bomb).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(apply_delta(&old, &[9, 9]).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    fn page() -> impl Strategy<Value = Vec<u8>> {
        // Runs, so that two pages share some of their bytes, as versions of one page do.
        let run = (any::<u8>(), 1..64_usize).prop_map(|(byte, len)| vec![byte; len]);
        proptest::collection::vec(run, 1..64).prop_map(|runs| {
            let mut bytes = runs.concat();
            bytes.resize(512, 0);
            bytes
        })
    }

    proptest! {
        #[test]
        fn every_pair_round_trips(old in page(), new in page()) {
            let delta = encode_delta(&old, &new);
            prop_assert!(delta.len() <= new.len() + 1);
            prop_assert_eq!(&*apply_delta(&old, &delta).unwrap(), &new[..]);
        }

        #[test]
        fn any_bytes_are_a_page_or_an_error(
            old in page(),
            new in page(),
            at in any::<prop::sample::Index>(),
            bits in 1..=u8::MAX,
            junk in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut delta = encode_delta(&old, &new);
            let at = at.index(delta.len());
            delta[at] ^= bits;
            for bytes in [&delta, &junk, &[&[PREFIXED], &junk[..]].concat()] {
                if let Ok(page) = apply_delta(&old, bytes) {
                    prop_assert_eq!(page.len(), old.len());
                }
            }
        }
    }
}
