//! Pages survive the journey in any pieces; anything that is not the page asked for is refused.

use super::*;

const VOLUME: VolumeId = VolumeId::from_bytes([2; 16]);

fn set(pages: impl IntoIterator<Item = u32>) -> PageSet {
    pages.into_iter().filter_map(PageIdx::new).collect()
}

fn page(idx: u32, lsn: u64, byte: u8) -> FetchedPage {
    FetchedPage {
        idx: PageIdx::new(idx).unwrap(),
        lsn: Lsn(lsn),
        page: Page::from(vec![byte; PageSize::DEFAULT.bytes()]),
    }
}

fn noise(idx: u32, lsn: u64) -> FetchedPage {
    let mut page = page(idx, lsn, 0);
    let mut bytes = vec![0; PageSize::DEFAULT.bytes()];
    blake3::Hasher::new().update(&[7]).finalize_xof().fill(&mut bytes);
    page.page = Page::from(bytes);
    page
}

fn read(wants: &[Want], body: &[u8], piece: usize) -> Result<Vec<FetchedPage>> {
    let mut reader = BlockReader::new(VOLUME, PageSize::DEFAULT, wants);
    let mut pages = Vec::new();
    for piece in body.chunks(piece) {
        pages.extend(reader.feed(piece)?);
    }
    reader.finish()?;
    Ok(pages)
}

fn encode_block(volume: VolumeId, page: &FetchedPage) -> Bytes {
    BlockWriter::new(volume).block(page, None)
}

#[test]
fn pages_arrive_in_pieces_of_any_size() {
    let wants = [Want { lsn: Lsn(5), pages: set([1, 9]) }, Want { lsn: Lsn(3), pages: set([1]) }];
    let pages = vec![page(1, 5, 7), noise(9, 5), page(1, 3, 1)];
    let body: Vec<u8> = pages.iter().flat_map(|page| encode_block(VOLUME, page)).collect();
    assert!(body.len() < PageSize::DEFAULT.bytes() + 512, "zeros are compressed");
    for piece in [1, 2, 3, 1_000, body.len()] {
        assert_eq!(read(&wants, &body, piece).unwrap(), pages);
    }
}

#[test]
fn the_request_round_trips_and_is_bounded() {
    let wants = vec![Want { lsn: Lsn(5), pages: set([1, 9, 4_000_000]) }];
    let body = encode_request(VOLUME, &wants).unwrap();
    assert_eq!(decode_request(body).unwrap(), (VOLUME, wants));
    let many = u32::try_from(limits::WANT_PAGES_MAX).unwrap() + 1;
    let wants = vec![Want { lsn: Lsn(5), pages: set(1..=many) }];
    assert_eq!(encode_request(VOLUME, &wants).unwrap_err().kind(), ErrorKind::Limit);
    let split = split_wants(&wants);
    assert_eq!(split.len(), 2);
    assert!(split.iter().all(|wants| encode_request(VOLUME, wants).is_ok()));
    let total: u64 = split.iter().flatten().map(|want| want.pages.len()).sum();
    assert_eq!(total, u64::from(many));
    assert!(decode_request(Bytes::from(vec![0; limits::REQUEST_BODY_MAX + 1])).is_err());
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let wants = [Want { lsn: Lsn(5), pages: set([1]) }];
    let good = encode_block(VOLUME, &page(1, 5, 7));
    assert!(read(&wants, &good, 100).is_ok());
    let twice = [good.clone(), good.clone()].concat();
    let other_volume = encode_block(VolumeId::from_bytes([0; 16]), &page(1, 5, 7));
    for body in [
        &twice[..],
        &other_volume,
        &encode_block(VOLUME, &page(2, 5, 7)),
        &encode_block(VOLUME, &page(1, 4, 7)),
        b"\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\x7f",
    ] {
        assert_eq!(read(&wants, body, 100).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    for body in [&good[..good.len() - 1], b""] {
        assert_eq!(read(&wants, body, 100).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

proptest::proptest! {
    /// Any flipped bit is noticed: as another page, as a broken block or as a failed hash.
    #[test]
    fn a_flipped_bit_never_gives_another_page(at in 0usize..4_200, bit in 0u8..8) {
        let wants = [Want { lsn: Lsn(5), pages: set([1]) }];
        let page = noise(1, 5);
        let mut body = encode_block(VOLUME, &page).to_vec();
        let at = at % body.len();
        body[at] ^= 1 << bit;
        if let Ok(pages) = read(&wants, &body, 333) {
            proptest::prop_assert_eq!(pages, vec![page]);
        }
    }
}

#[test]
fn a_held_version_is_answered_with_a_delta_that_makes_the_page() {
    let wants = [Want { lsn: Lsn(5), pages: set([1, 9]) }];
    let old = noise(9, 2).page;
    let held = [HeldPage { idx: PageIdx::new(9).unwrap(), lsn: Lsn(2), page: old.clone() }];
    let new = Page::edited(&old, |bytes| bytes[700..710].fill(3));
    let pages = [page(1, 5, 7), FetchedPage { idx: held[0].idx, lsn: Lsn(5), page: new }];

    let body = encode_request_holding(VOLUME, &wants, &held).unwrap();
    let request = decode_request_holding(body).unwrap();
    assert_eq!((request.volume, &request.wants[..]), (VOLUME, &wants[..]));
    let hash = page_hash(VOLUME, Lsn(2), held[0].idx, &old);
    assert_eq!(request.held, Held::from([(held[0].idx, (Lsn(2), hash))]));

    let first = encode_block(VOLUME, &pages[0]);
    let second = BlockWriter::new(VOLUME).block(&pages[1], Some(&old));
    assert!(second.len() < 80, "{}", second.len());
    let reader = || BlockReader::new(VOLUME, PageSize::DEFAULT, &wants);
    let answer = [first, second.clone()].concat();
    assert_eq!(reader().holding(&held).feed(&answer).unwrap(), pages);
    // Whoever holds nothing, or something else, takes no page for it.
    assert_eq!(reader().feed(&second).unwrap_err().kind(), ErrorKind::Corrupt);
    let other = [HeldPage { page: Page::zeros(PageSize::DEFAULT), ..held[0].clone() }];
    assert_eq!(reader().holding(&other).feed(&second).unwrap_err().kind(), ErrorKind::Corrupt);
    // Nothing is gained over the page itself: it goes out as it would have.
    let same = BlockWriter::new(VOLUME).block(&pages[0], Some(&old));
    assert!(same.len() <= encode_block(VOLUME, &pages[0]).len());
}

#[test]
fn what_a_request_says_to_hold_is_bounded_and_of_pages_it_wants() {
    let wants = [Want { lsn: Lsn(5), pages: set(1..=5_000) }];
    let held: Vec<HeldPage> = (2_000..=6_000)
        .map(|n| HeldPage { idx: PageIdx::new(n).unwrap(), lsn: Lsn(2), page: noise(n, 2).page })
        .collect();
    let request = encode_request_holding(VOLUME, &wants, &held[..]).unwrap();
    assert_eq!(decode_request_holding(request).unwrap().held.len(), limits::HELD_PAGES_MAX);
    let request = encode_request_holding(VOLUME, &wants, &held[3_500..]).unwrap();
    assert_eq!(decode_request_holding(request).unwrap().held.len(), 0);
    let wrong = FetchPages {
        volume: wire::id_bytes(VOLUME.as_bytes()),
        wants: Vec::new(),
        held: vec![message::HeldPage { idx: 1, lsn: 2, hash: Bytes::from_static(&[1; 15]) }],
    };
    let wrong = decode_request_holding(wrong.encode_to_vec().into()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
}
