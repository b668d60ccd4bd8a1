//! A node behind a script: whole answers, answers that break off, refusals.

use std::sync::Mutex;

use sheaf_volume::{Page, PageIdx, PageSet, VolumeId};

use super::*;

const VOLUME: VolumeId = VolumeId::from_bytes([2; 16]);

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Whole,
    /// Ends early without an error, as a node does that fails half-way.
    Short,
    Broken,
    Denied,
}

/// Answers every page request with pages full of their own number, a few bytes at a time.
#[derive(Debug)]
struct Script(Mutex<Vec<Fate>>);

impl Post for Script {
    fn post(
        &self,
        path: &str,
        body: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault> {
        assert_eq!(path, message::PAGES_PATH);
        let fate = self.0.lock().unwrap().remove(0);
        let (volume, wants) = pages::decode_request(body)?;
        let mut answer = Vec::new();
        for want in &wants {
            for idx in want.pages.iter() {
                answer.extend_from_slice(
                    &pages::BlockWriter::new(volume).block(&page(idx, want.lsn), None),
                );
            }
        }
        let cut = Error::new(ErrorKind::Unavailable, "cut");
        match fate {
            Fate::Denied => return Err(Error::new(ErrorKind::Denied, "no").into()),
            Fate::Short | Fate::Broken => answer.truncate(answer.len() / 2),
            Fate::Whole => {}
        }
        for piece in answer.chunks(3) {
            take(Bytes::copy_from_slice(piece))?;
        }
        if matches!(fate, Fate::Broken) { Err(Fault::BrokeOff(cut)) } else { Ok(()) }
    }
}

fn page(idx: PageIdx, lsn: Lsn) -> FetchedPage {
    let byte = u8::try_from(idx.get()).unwrap();
    FetchedPage { idx, lsn, page: Page::from(vec![byte; PageSize::DEFAULT.bytes()]) }
}

fn fetch(script: &[Fate]) -> (Result<Vec<FetchedPage>>, usize) {
    let script = Arc::new(Script(Mutex::new(script.to_vec())));
    let remote = NodeRemote::new(script.clone(), VOLUME, PageSize::DEFAULT);
    let pages = PageSet::range(PageIdx::FIRST, PageIdx::new(5).unwrap());
    let found = remote.fetch(&[Want { lsn: Lsn(3), pages }]);
    let left = script.0.lock().unwrap().len();
    (found, left)
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again_and_pages_come_once() {
    let expected: Vec<_> = (1..=5).map(|n| page(PageIdx::new(n).unwrap(), Lsn(3))).collect();
    for script in [&[Fate::Whole][..], &[Fate::Short, Fate::Broken, Fate::Whole]] {
        let (found, left) = fetch(script);
        assert_eq!((found.unwrap(), left), (expected.clone(), 0));
    }
}

#[test]
fn attempts_are_bounded_and_a_refusal_is_not_tried_again() {
    let (found, left) = fetch(&[Fate::Broken; limits::REQUEST_ATTEMPTS as usize + 1]);
    assert_eq!((found.unwrap_err().kind(), left), (ErrorKind::Unavailable, 1));
    let (found, left) = fetch(&[Fate::Denied, Fate::Whole]);
    assert_eq!((found.unwrap_err().kind(), left), (ErrorKind::Denied, 1));
}

/// Answers with the page after version `base`, as a delta if the asker says to hold something.
#[derive(Debug)]
struct Deltas {
    base: u32,
    asked: Mutex<Vec<bool>>,
}

impl Post for Deltas {
    fn post(
        &self,
        _: &str,
        body: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault> {
        let request = pages::decode_request_holding(body)?;
        let holds = !request.held.is_empty();
        self.asked.lock().unwrap().push(holds);
        let page = FetchedPage { idx: PageIdx::FIRST, lsn: Lsn(3), page: after(self.base) };
        let old = holds.then(|| noise(self.base));
        take(pages::BlockWriter::new(request.volume).block(&page, old.as_ref()))?;
        Ok(())
    }
}

/// A page that only a delta makes short.
fn noise(seed: u32) -> Page {
    let mut state = seed;
    let mut draw = || {
        // The usual linear congruential generator, its best bits.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..PageSize::DEFAULT.bytes()).map(|_| draw()).collect::<Vec<u8>>().into()
}

fn after(seed: u32) -> Page {
    Page::edited(&noise(seed), |bytes| bytes[7] ^= 1)
}

#[test]
fn deltas_that_make_another_page_are_asked_for_whole_once() {
    let want = Want { lsn: Lsn(3), pages: PageSet::range(PageIdx::FIRST, PageIdx::FIRST) };
    let held = [HeldPage { idx: PageIdx::FIRST, lsn: Lsn(2), page: noise(1) }];
    for (base, asked) in [(1, &[true][..]), (2, &[true, false])] {
        let node = Arc::new(Deltas { base, asked: Mutex::default() });
        let remote = NodeRemote::new(node.clone(), VOLUME, PageSize::DEFAULT);
        let found = remote.fetch_holding(std::slice::from_ref(&want), &held).unwrap();
        assert_eq!(found[0].page, after(base));
        assert_eq!(*node.asked.lock().unwrap(), asked);
    }
}

/// Answers anything with zeros without end.
#[derive(Debug)]
struct Flood;

impl Post for Flood {
    fn post(
        &self,
        _: &str,
        _: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault> {
        loop {
            take(Bytes::from_static(&[0; 65_536]))?;
        }
    }
}

#[test]
fn an_answer_without_end_is_refused() {
    let remote = NodeRemote::new(Arc::new(Flood), VOLUME, PageSize::DEFAULT);
    assert_eq!(remote.pull(Lsn(1)).unwrap_err().kind(), ErrorKind::Limit);
    let want = Want { lsn: Lsn(3), pages: PageSet::range(PageIdx::FIRST, PageIdx::FIRST) };
    assert_eq!(remote.fetch(&[want]).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A node with three commits, which knows of merged changes or not, and counts its requests.
#[derive(Debug)]
struct Node {
    merges: bool,
    requests: Mutex<usize>,
}

fn commits() -> Vec<Commit> {
    let mut commits: Vec<Commit> = Vec::new();
    for lsn in 1..=3 {
        commits.push(Commit {
            volume: VOLUME,
            lsn: Lsn(lsn),
            parent: commits.last().map(Commit::hash).unwrap_or_default(),
            epoch: 0,
            writer: [1; 16],
            nonce: [2; 16],
            time_ms: lsn,
            page_size: PageSize::DEFAULT,
            page_count: sheaf_volume::PageCount(4 - u32::try_from(lsn).unwrap()),
            bulk_seen: Lsn::ZERO,
            pages: PageSet::new(),
            frames: Vec::new(),
            segment: None,
            inline: Bytes::new(),
            tables: Vec::new(),
            applied: Vec::new(),
        });
    }
    commits
}

const TIMELINE: TimelineId = TimelineId::from_bytes([5; 16]);

fn merged() -> Changes {
    let mut changes = None;
    Changes::extend(&mut changes, commits().split_off(1), TIMELINE).unwrap();
    changes.unwrap()
}

impl Post for Node {
    fn post(
        &self,
        path: &str,
        body: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault> {
        assert_eq!(path, message::PULL_PATH);
        *self.requests.lock().unwrap() += 1;
        let pull = pull::decode_request(body)?;
        let answer = if self.merges && pull.merge_for == Some(TIMELINE) {
            sheaf_sync::changes_message(0, &merged())?
        } else {
            let after = usize::try_from(pull.after.0).unwrap();
            let one: Vec<Bytes> = commits()[after..].iter().take(1).map(Commit::encode).collect();
            sheaf_sync::commits_message(0, VOLUME, &one, &merged().head, after < 2)?
        };
        Ok(take(pull::encode_answer(&answer))?)
    }
}

#[test]
fn merged_changes_are_one_request_and_the_same_from_a_node_that_knows_none() {
    for (merges, requests) in [(true, 1), (false, 2)] {
        let node = Arc::new(Node { merges, requests: Mutex::new(0) });
        let remote = NodeRemote::new(node.clone(), VOLUME, PageSize::DEFAULT);
        assert_eq!(remote.changes(Lsn(1), TIMELINE).unwrap(), Some(merged()));
        assert_eq!(*node.requests.lock().unwrap(), requests + usize::from(!merges));
    }
}
