//! Bodies of the HTTP requests for pages, and the stream of blocks that answers.
//!
//! Asserts: a request round-trips and stays within its limits; a block becomes a page only if it
//! was asked for, once, with its hash and size; the pieces a stream arrives in make no difference.

use bytes::Bytes;
use prost::Message as _;
use sheaf_sync::pages::{self, PageRequest};
use sheaf_sync::{limits, message::PageBlock};
use sheaf_volume::{
    ErrorKind, FetchedPage, HeldPage, Lsn, Page, PageIdx, PageSize, Result, VolumeId, Want,
    apply_delta,
};

use crate::input::{Input, assert_refusal, page_size};

const VOLUME: VolumeId = VolumeId::from_bytes([7; 16]);

/// The bytes as a request; then as page size, wants and blocks.
pub fn target(data: &[u8]) {
    request(data);
    let mut input = Input(data);
    let size = page_size(input.byte());
    let wants = wants(input.byte(), input.byte());
    let piece = usize::from(input.byte()).max(1);
    stream(size, &wants, piece, input.0);
    stream(size, &wants, piece, &sealed(size, input.0));
}

fn request(data: &[u8]) {
    match pages::decode_request_holding(Bytes::copy_from_slice(data)) {
        Ok(PageRequest { volume, wants, held }) => {
            assert!(held.len() <= limits::HELD_PAGES_MAX);
            let count: u64 = wants.iter().map(|want| want.pages.len()).sum();
            assert!(wants.len() <= limits::WANTS_MAX && count <= limits::WANT_PAGES_MAX);
            // Written anew it may be longer than it was: the other side has one form for a set.
            if let Ok(again) = pages::encode_request(volume, &wants) {
                let back = pages::decode_request(again).expect("BUG: does not read back");
                assert_eq!(back, (volume, wants.clone()));
            }
            let split = pages::split_wants(&wants);
            let parts: u64 = split.iter().flatten().map(|want| want.pages.len()).sum();
            assert_eq!(parts, count, "splitting loses nothing");
        }
        Err(error) => assert_refusal(&error),
    }
}

/// Two positions, a few pages at each.
fn wants(first: u8, second: u8) -> [Want; 2] {
    let pages = |bits: u8| {
        (0..8).filter(|bit| bits >> bit & 1 == 1).filter_map(|bit| PageIdx::new(bit + 1)).collect()
    };
    [Want { lsn: Lsn(1), pages: pages(first) }, Want { lsn: Lsn(2), pages: pages(second) }]
}

fn stream(size: PageSize, wants: &[Want], piece: usize, body: &[u8]) {
    let whole = read(size, wants, body.len().max(1), body);
    let parts = read(size, wants, piece, body);
    match (&whole, &parts) {
        (Ok(whole), Ok(parts)) => {
            assert_eq!(whole, parts, "the pieces make no difference");
            let asked: u64 = wants.iter().map(|want| want.pages.len()).sum();
            assert_eq!(whole.len() as u64, asked, "a finished answer is a whole one");
        }
        (Err(a), Err(b)) => {
            assert_eq!(a.kind(), b.kind());
            if a.kind() != ErrorKind::Unavailable {
                assert_refusal(a);
            }
        }
        _ => panic!("the pieces decide whether the answer is good"),
    }
}

fn read(size: PageSize, wants: &[Want], piece: usize, body: &[u8]) -> Result<Vec<FetchedPage>> {
    let reader = pages::BlockReader::new(VOLUME, size, wants);
    let mut reader = reader.holding(&held(size));
    let mut got: Vec<FetchedPage> = Vec::new();
    for piece in body.chunks(piece) {
        for page in reader.feed(piece)? {
            assert_eq!(page.page.len(), size.bytes());
            assert!(wants.iter().any(|w| w.lsn == page.lsn && w.pages.contains(page.idx)));
            assert!(got.iter().all(|old| (old.lsn, old.idx) != (page.lsn, page.idx)));
            got.push(page);
        }
    }
    reader.finish()?;
    Ok(got)
}

/// What the asker says to hold of every second page.
fn held(size: PageSize) -> Vec<HeldPage> {
    let page = |idx| HeldPage { idx, lsn: Lsn(1), page: old(size) };
    [1, 3, 5, 7].into_iter().filter_map(PageIdx::new).map(page).collect()
}

fn old(size: PageSize) -> Page {
    vec![0xa5; size.bytes()].into()
}

/// The same blocks, those stored as they are, or as deltas, with a right hash.
fn sealed(size: PageSize, mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Ok(mut block) = PageBlock::decode_length_delimited(&mut body) {
        let Some(idx) = PageIdx::new(block.idx) else { break };
        let mut raw = block.bytes.to_vec();
        match block.encoding {
            0 => {
                raw.resize(size.bytes(), 0);
                block.bytes = raw.clone().into();
            }
            2 => raw = apply_delta(&old(size), &raw).map_or(raw, |page| page.to_vec()),
            _ => {}
        }
        let hash = pages::page_hash(VOLUME, Lsn(block.lsn), idx, &raw);
        block.hash = Bytes::copy_from_slice(&hash);
        out.extend_from_slice(&block.encode_length_delimited_to_vec());
        if body.is_empty() {
            break;
        }
    }
    out
}
