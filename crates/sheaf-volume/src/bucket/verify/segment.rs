//! The frames of commits: inline ones, and those in segments; and segments written again.
//!
//! Invariant: a segment is whole if it is exactly as long as its frames and each matches its hash.
//! One is written again only when every byte of it is known to be what its commit says.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::Checker;
use crate::bucket::keys::{log_key, refused, segment_key};
use crate::commit::{FrameAt, FrameIndex};
use crate::finding::{Finding, Remedy};
use crate::frame::{build_frames, decode_frame};
use crate::{Commit, Error, Lsn, Objects, ObjectsError, Page, PageIdx, PageSet, Result, limits};

/// One request: consecutive frames of one segment.
struct Stretch<'a> {
    commit: &'a Commit,
    key: String,
    range: Range<u64>,
    frames: Vec<FrameAt>,
    /// Whether it ends the segment.
    is_last: bool,
}

/// What was found of one segment.
#[derive(Default)]
struct Damage {
    pages: PageSet,
    frames: usize,
    why: Option<String>,
}

impl Checker<'_> {
    /// Checks the frames of commits that follow each other.
    pub(super) fn frames(&mut self, commits: &[Commit]) -> Result<()> {
        for commit in commits.iter().filter(|commit| commit.segment.is_none()) {
            match commit.inline_pages() {
                Ok(_) => self.count(commit.frames.len(), commit.inline.len() as u64),
                Err(e) => {
                    let key = log_key(self.volume, commit.lsn);
                    let finding = Finding::of(key, &e, Remedy::RestoreStore).at(commit.lsn);
                    self.findings.push(finding.on(commit.pages.clone()));
                }
            }
        }
        for commit in commits {
            let Some(segment) = commit.segment else { continue };
            let key = segment_key(self.volume, segment);
            self.named.insert(key.clone());
            let damage = self.segment(commit, &key)?;
            if let Some(why) = damage.why {
                let what = match damage.frames {
                    0 => why,
                    bad => format!("{bad} of {} frames are damaged: {why}", commit.frames.len()),
                };
                let finding = Finding::new(key, what, Remedy::Rewrite).at(commit.lsn);
                self.findings.push(finding.on(damage.pages));
            }
        }
        Ok(())
    }

    fn count(&mut self, frames: usize, bytes: u64) {
        self.check.frames += frames as u64;
        self.check.bytes += bytes;
    }

    fn segment(&mut self, commit: &Commit, key: &str) -> Result<Damage> {
        let stretches = stretches(commit, key);
        let mut damage = Damage::default();
        for stretch in stretches {
            let mut asked = vec![(stretch.key.clone(), stretch.range.clone())];
            let end = stretch.range.end;
            if stretch.is_last {
                // Must not be there.
                asked.push((stretch.key.clone(), end..end + 1));
            }
            let mut answers = self.objects.get_ranges(&asked).into_iter();
            let bytes = match answers.next() {
                Some(Err(ObjectsError::NotFound(_))) | None => {
                    let why = Some("the segment is missing".to_owned());
                    return Ok(Damage { pages: commit.pages.clone(), frames: 0, why });
                }
                Some(Ok(bytes)) => bytes,
                // Stores do not say alike that a range is not there; the object itself does.
                Some(Err(ObjectsError::Failed(_))) => rest(self.objects, &stretch)?,
                Some(Err(e)) => return Err(refused("read segment", e)),
            };
            self.stretch(&stretch, &bytes, &mut damage);
            if matches!(answers.next(), Some(Ok(more)) if !more.is_empty()) {
                let longer = "the segment is longer than its frames".to_owned();
                damage.why.get_or_insert(longer);
            }
        }
        Ok(damage)
    }

    fn stretch(&mut self, stretch: &Stretch<'_>, bytes: &Bytes, damage: &mut Damage) {
        for at in &stretch.frames {
            match frame(stretch, at, bytes) {
                Ok(_) => self.count(1, at.range.end - at.range.start),
                Err(e) => {
                    damage.frames += 1;
                    damage.pages.union_with(&at.members.iter().copied().collect());
                    damage.why.get_or_insert_with(|| e.to_string());
                }
            }
        }
    }
}

/// The frames of a commit with a segment, in requests of bounded size.
fn stretches<'a>(commit: &'a Commit, key: &str) -> Vec<Stretch<'a>> {
    let index = FrameIndex::new(commit);
    let mut stretches: Vec<Stretch<'a>> = Vec::new();
    for frame in index.frames(commit) {
        match stretches.last_mut() {
            Some(last) if frame.range.end - last.range.start <= limits::RANGE_BYTES_MAX => {
                last.range.end = frame.range.end;
                last.frames.push(frame);
            }
            _ => stretches.push(Stretch {
                commit,
                key: key.to_owned(),
                range: frame.range.clone(),
                frames: vec![frame],
                is_last: false,
            }),
        }
    }
    if let Some(last) = stretches.last_mut() {
        last.is_last = true;
    }
    stretches
}

/// What there is of a stretch in a segment that is too short for it.
fn rest(objects: &dyn Objects, stretch: &Stretch<'_>) -> Result<Bytes> {
    let whole = match objects.get(&stretch.key) {
        Ok(whole) => whole,
        Err(ObjectsError::NotFound(_)) => Bytes::new(),
        Err(e) => return Err(refused("read segment", e)),
    };
    let from = usize::try_from(stretch.range.start).unwrap_or(usize::MAX).min(whole.len());
    let to = usize::try_from(stretch.range.end).unwrap_or(usize::MAX).min(whole.len());
    Ok(whole.slice(from..to))
}

/// The pages of one frame, if its bytes are whole.
fn frame(stretch: &Stretch<'_>, at: &FrameAt, bytes: &Bytes) -> Result<(Bytes, Vec<Page>)> {
    let commit = stretch.commit;
    let place = |n: u64| usize::try_from(n - stretch.range.start).ok();
    let (from, to) = (place(at.range.start), place(at.range.end));
    let cut = from.zip(to).filter(|(_, to)| *to <= bytes.len());
    let cut = cut.map(|(from, to)| bytes.slice(from..to));
    let cut = cut.ok_or_else(|| Error::corrupt("the segment ends before its frames do"))?;
    let table = commit.frames.get(at.index);
    let table = table.ok_or_else(|| Error::corrupt("the commit has no such frame"))?;
    let pages = decode_frame(commit.volume, commit.page_size, table, &at.members, &cut)?;
    Ok((cut, pages))
}

/// What became of a segment that was to be written again.
#[derive(Clone, Debug, PartialEq)]
pub enum Rewritten {
    /// It is whole again.
    Done,
    /// It was whole.
    Whole,
    /// These pages of it are nowhere to be had.
    Lacks(PageSet),
}

/// Writes the segment of the commit at `lsn` again, from what is whole of it in the store and from
/// `page`, which gives the content that a page got with that commit, if it is known.
///
/// # Errors
/// `Corrupt` or `NotFound` when the commit itself cannot be read, or as the store fails.
pub fn rewrite_segment(
    objects: &dyn Objects,
    volume: crate::VolumeId,
    lsn: Lsn,
    page: &mut dyn FnMut(PageIdx) -> Result<Option<Page>>,
) -> Result<Rewritten> {
    let key = log_key(volume, lsn);
    let bytes = objects.get(&key).map_err(|e| refused("read commit", e))?;
    let (commit, _) = Commit::decode_hashed(&bytes)?;
    let Some(segment) = commit.segment.filter(|_| commit.volume == volume && commit.lsn == lsn)
    else {
        return Err(Error::invalid(format!("commit @{lsn} has no segment")));
    };
    let key = segment_key(volume, segment);
    let old = match objects.get(&key) {
        Ok(old) => old,
        Err(ObjectsError::NotFound(_)) => Bytes::new(),
        Err(e) => return Err(refused("read segment", e)),
    };
    let mut new = BytesMut::new();
    let mut lacks = PageSet::new();
    for at in FrameIndex::new(&commit).frames(&commit) {
        match kept_frame(&commit, &at, &old) {
            Some(bytes) => new.extend_from_slice(&bytes),
            None => match made_again(&commit, &at, page)? {
                Some(bytes) => new.extend_from_slice(&bytes),
                None => lacks.union_with(&at.members.iter().copied().collect()),
            },
        }
    }
    if !lacks.is_empty() {
        return Ok(Rewritten::Lacks(lacks));
    }
    if new == old {
        return Ok(Rewritten::Whole);
    }
    objects.put(&key, new.freeze()).map_err(|e| refused("write segment", e))?;
    Ok(Rewritten::Done)
}

/// A frame that is whole in the old segment.
fn kept_frame(commit: &Commit, at: &FrameAt, old: &Bytes) -> Option<Bytes> {
    let (from, to) = (usize::try_from(at.range.start).ok()?, usize::try_from(at.range.end).ok()?);
    let cut = (to <= old.len()).then(|| old.slice(from..to))?;
    let table = commit.frames.get(at.index)?;
    decode_frame(commit.volume, commit.page_size, table, &at.members, &cut).ok().map(|_| cut)
}

/// A frame packed anew. The same pages give the same bytes with the same compressor; the hash
/// decides whether they did.
fn made_again(
    commit: &Commit,
    at: &FrameAt,
    page: &mut dyn FnMut(PageIdx) -> Result<Option<Page>>,
) -> Result<Option<Vec<u8>>> {
    let mut pages = Vec::with_capacity(at.members.len());
    for &idx in &at.members {
        match page(idx)? {
            Some(content) => pages.push((idx, content)),
            None => return Ok(None),
        }
    }
    let (frames, bytes) = build_frames(commit.volume, commit.page_size, pages)?;
    let is_same =
        frames.as_slice() == commit.frames.get(at.index).map_or(&[][..], std::slice::from_ref);
    Ok(is_same.then_some(bytes))
}
