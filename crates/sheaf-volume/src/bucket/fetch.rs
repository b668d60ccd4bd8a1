//! Pages from the bucket: walk to their commits, read their frames, check, unpack.
//!
//! Invariants: a page is returned for a position only if its commit is known to be the newest at
//! or before it; all segment ranges of a call go out at once, adjacent frames as one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::keys::{damaged, refused, segment_key};
use super::known::Known;
use super::walk::Walk;
use super::{BucketRemote, lock};
use crate::commit::FrameAt;
use crate::frame::decode_frame;
use crate::{
    Error, ErrorKind, FetchedPage, Lsn, ObjectsError, Page, PageIdx, PageSet, Result, Want, limits,
};

/// A frame by its commit and its place in the commit's table.
type FrameId = (Lsn, usize);

pub(super) fn fetch(remote: &BucketRemote, wants: &[Want]) -> Result<Vec<FetchedPage>> {
    let mut walks: Vec<Walk> = wants.iter().map(|want| remote.take_walk(want.lsn)).collect();
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
        let lsns: BTreeSet<Lsn> = open.iter().flat_map(|walk| walk.upcoming()).collect();
        let commits = remote.commits(&lsns)?;
        for walk in open {
            for lsn in walk.upcoming() {
                let known = commits.get(&lsn).ok_or_else(|| unread(lsn))?;
                walk.visit(known).map_err(|e| damaged(&remote.commit_key(lsn), e))?;
            }
            walk.hurry();
        }
    }
}

/// Reads the frames that hold the wanted pages.
fn gather(remote: &BucketRemote, wants: &[Want], walks: &[Walk]) -> Result<Vec<FetchedPage>> {
    let places: Vec<_> =
        wants.iter().zip(walks).map(|(want, walk)| walk.locate(&want.pages)).collect();
    let lsns = places.iter().flat_map(|(here, _)| here.iter().map(|(lsn, _)| *lsn)).collect();
    let commits = remote.commits(&lsns)?;
    let mut frames: BTreeMap<FrameId, FrameAt> = BTreeMap::new();
    let mut per_want: Vec<BTreeSet<FrameId>> = Vec::new();
    for (places, _) in &places {
        let mut ids = BTreeSet::new();
        for (lsn, pages) in places {
            let known = commits.get(lsn).ok_or_else(|| unread(*lsn))?;
            for frame in frames_of(known, pages) {
                ids.insert((*lsn, frame.index));
                frames.insert((*lsn, frame.index), frame);
            }
        }
        per_want.push(ids);
    }
    let pages = read_frames(remote, &commits, &frames)?;
    let mut answer = Vec::new();
    for (((want, walk), ids), (_, nobody)) in wants.iter().zip(walks).zip(per_want).zip(&places) {
        for idx in nobody.iter() {
            let page = Page::zeros(remote.page_size);
            answer.push(FetchedPage { idx, lsn: want.lsn, page });
        }
        for id in ids {
            let content = pages.get(&id).into_iter().flatten();
            // Neighbours in the frame come along where this commit is their newest version too.
            let newest = content.filter(|(idx, _)| walk.is_newest(id.0, *idx));
            answer.extend(newest.map(|(idx, page)| FetchedPage {
                idx: *idx,
                lsn: want.lsn,
                page: page.clone(),
            }));
        }
    }
    Ok(answer)
}

/// The frames of a commit that hold these pages, each once.
fn frames_of(known: &Known, pages: &PageSet) -> Vec<FrameAt> {
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
    commits: &BTreeMap<Lsn, Arc<Known>>,
    frames: &BTreeMap<FrameId, FrameAt>,
) -> Result<BTreeMap<FrameId, Vec<(PageIdx, Page)>>> {
    let bytes = frame_bytes(remote, commits, frames)?;
    let mut pages = BTreeMap::new();
    for (id, at) in frames {
        let known = commits.get(&id.0).ok_or_else(|| unread(id.0))?;
        let frame = known.commit.frames.get(id.1).ok_or_else(|| unread(id.0))?;
        let bytes = bytes.get(id).ok_or_else(|| unread(id.0))?;
        let content =
            decode_frame(known.commit.volume, remote.page_size, frame, &at.members, bytes);
        let content = content.map_err(|e| damaged(&payload_key(remote, known), e))?;
        pages.insert(*id, at.members.iter().copied().zip(content).collect());
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
    commits: &BTreeMap<Lsn, Arc<Known>>,
    frames: &BTreeMap<FrameId, FrameAt>,
) -> Result<BTreeMap<FrameId, Bytes>> {
    let mut found = BTreeMap::new();
    let mut stretches: Vec<Stretch> = Vec::new();
    for (id, at) in frames {
        let known = commits.get(&id.0).ok_or_else(|| unread(id.0))?;
        let Some(segment) = known.commit.segment else {
            let bytes = part(&known.commit.inline, &at.range);
            found.insert(*id, bytes.ok_or_else(|| unread(id.0))?);
            continue;
        };
        let key = segment_key(known.commit.volume, segment);
        match stretches.last_mut() {
            Some(last)
                if last.key == key
                    && last.range.end == at.range.start
                    && at.range.end - last.range.start <= limits::RANGE_BYTES_MAX =>
            {
                last.range.end = at.range.end;
                last.frames.push((*id, at.range.clone()));
            }
            _ => {
                let frames = vec![(*id, at.range.clone())];
                stretches.push(Stretch { key, range: at.range.clone(), frames });
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
            found.insert(*id, part(&bytes, &here).ok_or_else(|| unread(id.0))?);
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

fn payload_key(remote: &BucketRemote, known: &Known) -> String {
    match known.commit.segment {
        Some(segment) => segment_key(known.commit.volume, segment),
        None => remote.commit_key(known.commit.lsn),
    }
}

fn unread(lsn: Lsn) -> Error {
    Error::new(ErrorKind::Internal, format!("BUG: commit or frame not read lsn=`{lsn}`"))
}

impl BucketRemote {
    /// The remembered walk from this state, or a new one. Whoever takes it has it alone.
    fn take_walk(&self, at: Lsn) -> Walk {
        let mut walks = lock(&self.walks);
        let known = walks.iter().position(|walk| walk.at == at);
        known.map_or_else(|| Walk::new(at), |n| walks.remove(n))
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
