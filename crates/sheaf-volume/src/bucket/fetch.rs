//! Pages from the bucket: walk to their commits or to the checkpoint before them, read their
//! frames, check, unpack.
//!
//! Invariants: a page is returned for a position only if its commit is known to be the newest at
//! or before it; all segment ranges of a call go out at once, adjacent frames as one. What a
//! reclaimer took away in the meantime is looked for once more where it is now.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use super::boundary::expired;
use super::checkpoint::Opened;
use super::keys::{damaged, log_key, refused, segment_key};
use super::known::Known;
use super::walk::Walk;
use super::{BucketRemote, lock};
use crate::commit::FrameAt;
use crate::frame::decode_frame;
use crate::{
    Error, ErrorKind, FetchedPage, FrameRef, Lsn, ObjectsError, Page, PageIdx, PageSet, Result,
    VolumeId, Want, limits,
};

/// A frame by the object that holds it and where it begins there.
type FrameId = (String, u64);

/// A frame that must be read.
#[derive(Clone, Debug)]
struct Source {
    /// To whom its hash is bound.
    owner: VolumeId,
    frame: FrameRef,
    members: Vec<PageIdx>,
    /// Its bytes, where they came with the commit.
    inline: Option<Bytes>,
}

/// Notes a frame that must be read. Two that begin at one place are one and the same, whoever names
/// them: otherwise the pages of one of them would be missing in the answer.
fn note(sources: &mut BTreeMap<FrameId, Source>, id: FrameId, source: Source) -> Result<()> {
    let parts = |source: &Source| (source.owner, source.frame, source.members.clone());
    if sources.get(&id).is_some_and(|there| parts(there) != parts(&source)) {
        return Err(damaged(&id.0, Error::corrupt("two frames begin at one place")));
    }
    sources.insert(id, source);
    Ok(())
}

impl Source {
    fn of_commit(known: &Known, at: FrameAt) -> Option<(FrameId, Self)> {
        let Known { commit, .. } = known;
        let (key, inline) = match commit.segment {
            Some(segment) => (segment_key(commit.volume, segment), None),
            None => (log_key(commit.volume, commit.lsn), Some(part(&commit.inline, &at.range)?)),
        };
        let frame = *commit.frames.get(at.index)?;
        Some((
            (key, at.range.start),
            Self { owner: commit.volume, frame, members: at.members, inline },
        ))
    }

    fn of_checkpoint(opened: &Opened, frame: super::checkpoint::Frame) -> Option<(FrameId, Self)> {
        let segment = opened.head.segments.get(frame.segment as usize)?;
        let pages = u32::try_from(frame.members.len()).ok()?;
        Some((
            (segment_key(segment.volume, segment.id), frame.offset),
            Self {
                owner: segment.volume,
                frame: FrameRef { pages, len: frame.len, hash: frame.hash },
                members: frame.members,
                inline: None,
            },
        ))
    }
}

pub(super) fn fetch(remote: &BucketRemote, wants: &[Want]) -> Result<Vec<FetchedPage>> {
    match fetch_once(remote, wants) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Expired) => {
            for want in wants {
                let boundary = remote.boundary_over(want.lsn)?;
                if want.lsn < boundary {
                    return Err(expired(want.lsn, boundary));
                }
            }
            // These states are kept, so they are somewhere: in a checkpoint made meanwhile.
            lock(&remote.walks).clear();
            remote.checkpoints.forget();
            fetch_once(remote, wants)
        }
        answer => answer,
    }
}

fn fetch_once(remote: &BucketRemote, wants: &[Want]) -> Result<Vec<FetchedPage>> {
    let mut walks = Vec::with_capacity(wants.len());
    for want in wants {
        walks.push(remote.take_walk(want.lsn)?);
    }
    walk_all(remote, wants, &mut walks)?;
    let answer = gather(remote, wants, &walks);
    for walk in walks {
        remote.keep_walk(walk);
    }
    answer
}

/// Goes back in the log until nothing is open about any wanted page.
fn walk_all(remote: &BucketRemote, wants: &[Want], walks: &mut [Walk]) -> Result<()> {
    loop {
        let open = wants.iter().zip(&mut *walks).filter(|(want, walk)| walk.is_open(&want.pages));
        let open: Vec<&mut Walk> = open.map(|(_, walk)| walk).collect();
        if open.is_empty() {
            let mut all = wants.iter().zip(&*walks);
            return all.try_for_each(|(want, walk)| walk.require_inside(&want.pages));
        }
        go_back(remote, open)?;
    }
}

/// The next commits of each of these walks, all read at once.
fn go_back(remote: &BucketRemote, walks: Vec<&mut Walk>) -> Result<()> {
    let lsns: BTreeSet<Lsn> = walks.iter().flat_map(|walk| walk.upcoming()).collect();
    let commits = remote.commits(&lsns)?;
    // The chain vouches for all but the first one of each walk.
    let first = walks.iter().filter(|walk| walk.is_fresh());
    let first: Vec<&Known> = first.filter_map(|walk| Some(&**commits.get(&walk.at)?)).collect();
    remote.confirm_all(&first)?;
    for walk in walks {
        for lsn in walk.upcoming() {
            let known = commits.get(&lsn).ok_or_else(|| unread(lsn))?;
            walk.visit(known).map_err(|e| damaged(&remote.commit_key(lsn), e))?;
        }
        walk.hurry();
    }
    Ok(())
}

/// Goes back to the end, whatever is known on the way.
pub(super) fn walk_to_end(remote: &BucketRemote, walk: &mut Walk) -> Result<()> {
    while !walk.is_done() {
        go_back(remote, vec![&mut *walk])?;
    }
    Ok(())
}

/// Reads the frames that hold the wanted pages.
pub(super) fn gather(
    remote: &BucketRemote,
    wants: &[Want],
    walks: &[Walk],
) -> Result<Vec<FetchedPage>> {
    let mut sources: BTreeMap<FrameId, Source> = BTreeMap::new();
    let mut plans = Vec::with_capacity(wants.len());
    for (want, walk) in wants.iter().zip(walks) {
        plans.push(plan(remote, walk, &want.pages, &mut sources)?);
    }
    let pages = read_frames(remote, &sources)?;
    let mut answer = Vec::new();
    for (want, plan) in wants.iter().zip(plans) {
        let fetched = |idx, page| FetchedPage { idx, lsn: want.lsn, page };
        for (id, current) in &plan.frames {
            let content = pages.get(id).into_iter().flatten();
            // Neighbours in the frame come along where they are the newest version too.
            let newest = content.filter(|(idx, _)| current.contains(idx));
            answer.extend(newest.map(|(idx, page)| fetched(*idx, page.clone())));
        }
        answer.extend(plan.here.into_iter().map(|(idx, page)| fetched(idx, page)));
        let zeros = plan.nobody.iter().map(|idx| fetched(idx, Page::zeros(remote.page_size)));
        answer.extend(zeros);
    }
    Ok(answer)
}

/// What one want is answered with.
struct Plan {
    /// Frames, and the pages in them that hold at the wanted position.
    frames: Vec<(FrameId, Vec<PageIdx>)>,
    /// Pages that came with the directory of the checkpoint.
    here: Vec<(PageIdx, Page)>,
    /// Pages that nobody wrote.
    nobody: PageSet,
}

fn plan(
    remote: &BucketRemote,
    walk: &Walk,
    pages: &PageSet,
    sources: &mut BTreeMap<FrameId, Source>,
) -> Result<Plan> {
    let (places, mut rest) = walk.locate(pages);
    let lsns = places.iter().map(|(lsn, _)| *lsn).collect();
    let commits = remote.commits(&lsns)?;
    let mut frames = Vec::new();
    for (lsn, pages) in &places {
        let known = commits.get(lsn).ok_or_else(|| unread(*lsn))?;
        for at in frames_of(known, pages) {
            let newest = |idx: &PageIdx| walk.is_newest(*lsn, *idx);
            let current = at.members.iter().copied().filter(newest).collect();
            let (id, source) = Source::of_commit(known, at).ok_or_else(|| unread(*lsn))?;
            frames.push((id.clone(), current));
            note(sources, id, source)?;
        }
    }
    let mut from_anchor = rest.iter().filter(|&idx| walk.is_from_anchor(idx)).collect::<PageSet>();
    let here = match &walk.anchor {
        Some(opened) => of_lead(opened, walk, &from_anchor),
        None => Vec::new(),
    };
    for (idx, _) in &here {
        rest.remove(*idx);
        from_anchor.remove(*idx);
    }
    if let Some(opened) = walk.anchor.as_ref().filter(|_| !from_anchor.is_empty()) {
        for frame in remote.frames_at(opened, &from_anchor)? {
            let alive = frame.live.iter().map(|(idx, _)| *idx);
            // Each page once: who asked may count them.
            let is_here = |idx: PageIdx| here.iter().any(|(here, _)| *here == idx);
            let current = alive.filter(|&idx| walk.is_from_anchor(idx) && !is_here(idx));
            let current: Vec<PageIdx> = current.collect();
            for &idx in &current {
                rest.remove(idx);
            }
            let found = Source::of_checkpoint(opened, frame);
            let (id, source) = found.ok_or_else(|| unread(opened.head.lsn))?;
            frames.push((id.clone(), current));
            note(sources, id, source)?;
        }
    }
    Ok(Plan { frames, here, nobody: rest })
}

/// The pages of a checkpoint's lead that hold at a position, if one of them is wanted: the others
/// will be, and are here.
fn of_lead(opened: &Opened, walk: &Walk, pages: &PageSet) -> Vec<(PageIdx, Page)> {
    let lead = opened.lead().filter(|lead| pages.iter().any(|idx| lead.pages.contains_key(&idx)));
    let held = lead.into_iter().flat_map(|lead| &lead.pages);
    let current = held.filter(|(idx, _)| walk.is_from_anchor(**idx));
    current.map(|(idx, page)| (*idx, page.clone())).collect()
}

/// The frames of a commit that hold these pages, each once.
pub(super) fn frames_of(known: &Known, pages: &PageSet) -> Vec<FrameAt> {
    let mut frames: Vec<FrameAt> = Vec::new();
    for idx in pages.iter() {
        // Both ascend, so only the last frame can hold the next page.
        if frames.last().is_none_or(|frame| !frame.members.contains(&idx)) {
            frames.extend(known.frames.frame_of(&known.commit, idx));
        }
    }
    frames
}

fn read_frames(
    remote: &BucketRemote,
    sources: &BTreeMap<FrameId, Source>,
) -> Result<BTreeMap<FrameId, Vec<(PageIdx, Page)>>> {
    let bytes = frame_bytes(remote, sources)?;
    let mut pages = BTreeMap::new();
    for (id, source) in sources {
        let Source { owner, frame, members, .. } = source;
        let bytes = bytes.get(id).ok_or_else(lost_track)?;
        let content = decode_frame(*owner, remote.page_size, frame, members, bytes);
        let content = content.map_err(|e| damaged(&id.0, e))?;
        pages.insert(id.clone(), members.iter().copied().zip(content).collect());
    }
    Ok(pages)
}

/// Several adjacent frames of one segment, read as one.
struct Stretch {
    key: String,
    range: Range<u64>,
    frames: Vec<(FrameId, Range<u64>)>,
}

fn frame_bytes(
    remote: &BucketRemote,
    sources: &BTreeMap<FrameId, Source>,
) -> Result<BTreeMap<FrameId, Bytes>> {
    let mut found = BTreeMap::new();
    let mut stretches: Vec<Stretch> = Vec::new();
    for (id, source) in sources {
        if let Some(bytes) = &source.inline {
            found.insert(id.clone(), bytes.clone());
            continue;
        }
        let (key, range) = (&id.0, id.1..id.1 + u64::from(source.frame.len));
        match stretches.last_mut() {
            Some(last)
                if last.key == *key
                    && last.range.end == range.start
                    && range.end - last.range.start <= limits::RANGE_BYTES_MAX =>
            {
                last.range.end = range.end;
                last.frames.push((id.clone(), range));
            }
            _ => {
                let frames = vec![(id.clone(), range.clone())];
                stretches.push(Stretch { key: key.clone(), range, frames });
            }
        }
    }
    if stretches.is_empty() {
        return Ok(found);
    }
    let asked: Vec<_> = stretches.iter().map(|s| (s.key.clone(), s.range.clone())).collect();
    for (stretch, answer) in stretches.into_iter().zip(remote.objects.get_ranges(&asked)) {
        let bytes = whole_stretch(remote, &stretch, answer)?;
        for (id, range) in &stretch.frames {
            let start = range.start - stretch.range.start;
            let here = start..start + (range.end - range.start);
            found.insert(id.clone(), part(&bytes, &here).ok_or_else(lost_track)?);
        }
    }
    Ok(found)
}

/// The bytes of a stretch, or what kept them from being all there.
fn whole_stretch(
    remote: &BucketRemote,
    stretch: &Stretch,
    answer: Result<Bytes, ObjectsError>,
) -> Result<Bytes> {
    let Stretch { key, range, .. } = stretch;
    let short = |len: usize| {
        let Range { start, end } = *range;
        damaged(key, Error::corrupt(format!("too short bytes=`{len}` range=`{start}..{end}`")))
    };
    match answer {
        Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
        Ok(bytes) => Err(short(bytes.len())),
        // Stores do not say alike that a range is not there; the object itself does.
        Err(e @ ObjectsError::Failed(_)) => match remote.objects.get(key) {
            Ok(whole) => part(&whole, range).ok_or_else(|| short(whole.len())),
            Err(_) => Err(refused("read segment", e)),
        },
        Err(e) => Err(refused("read segment", e)),
    }
}

fn part(bytes: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
}

fn unread(lsn: Lsn) -> Error {
    Error::new(ErrorKind::Internal, format!("BUG: commit or frame not read lsn=`{lsn}`"))
}

fn lost_track() -> Error {
    Error::new(ErrorKind::Internal, "BUG: frame not read")
}

impl BucketRemote {
    /// The remembered walk from this state, or a new one. Whoever takes it has it alone.
    fn take_walk(&self, at: Lsn) -> Result<Walk> {
        {
            let mut walks = lock(&self.walks);
            if let Some(n) = walks.iter().position(|walk| walk.at == at) {
                return Ok(walks.remove(n));
            }
        }
        Ok(Walk::new(at, self.anchor(at)?))
    }

    fn keep_walk(&self, walk: Walk) {
        if !walk.is_long() {
            return;
        }
        let mut walks = lock(&self.walks);
        if let Some(n) = walks.iter().position(|other| other.at == walk.at) {
            // Two went at the same time: keep the one that came further.
            let other = walks.remove(n);
            let further = if other.next < walk.next { other } else { walk };
            walks.push(further);
            return;
        }
        if walks.len() >= limits::WALKS_MAX {
            walks.remove(0);
        }
        walks.push(walk);
    }
}
