//! Appending a rebase draft to the log as one commit.
//!
//! Order (each step is a crash point): upload the segment, make the intent durable here, create
//! the log object, record the outcome. After a crash in between, [`Volume::recover_push`] asks the
//! log whose commit stands there before anything else is tried. Nothing is visible here before
//! the outcome is known: the draft becomes part of the base it is published with.

use std::{iter, slice};

use bytes::Bytes;

use super::{Draft, Volume, WriterGuard};
use crate::frame::FrameBuilder;
use crate::store::{Intent, Step, StepBody};
use crate::teeth::{Tooth, bites};
use crate::{
    Append, Applied, Commit, CommitHash, Error, ErrorKind, FrameRef, Lsn, PageIdx, PageSet,
    RemoteLog, Result, SegmentId, limits,
};

/// What the layer above says about a push.
#[derive(Clone, Debug)]
pub struct PushMeta {
    /// The device or node that pushes.
    pub writer: [u8; 16],
    /// Generation of its lease; zero without one.
    pub epoch: u64,
    /// Names of the tables touched, sorted.
    pub tables: Vec<String>,
    /// Whose mutations made the state.
    pub applied: Vec<Applied>,
}

/// The pages of a draft on their way into frames, some at a time: however large the commit, only
/// one piece of its segment is in memory here.
struct Packing<'a> {
    draft: &'a mut Draft,
    pages: slice::Iter<'a, PageIdx>,
    builder: FrameBuilder,
}

impl Packing<'_> {
    /// The frames that come next: more than `enough` bytes of them, unless there are no more.
    fn piece(&mut self, enough: usize) -> Result<Bytes> {
        while self.builder.len() <= enough {
            let Some(idx) = self.pages.next() else {
                self.builder.seal()?;
                break;
            };
            self.builder.push(*idx, &self.draft.page(*idx)?)?;
        }
        Ok(self.builder.take().into())
    }

    /// The table of all frames, whose bytes were all taken.
    fn finish(self) -> Result<Vec<FrameRef>> {
        let is_drained = self.pages.len() == 0;
        let (frames, bytes) = self.builder.finish()?;
        if !is_drained || !bytes.is_empty() {
            return Err(Error::new(ErrorKind::Internal, "BUG: a segment was not written whole"));
        }
        Ok(frames)
    }
}

impl Iterator for Packing<'_> {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.piece(limits::SEGMENT_PIECE_BYTES);
        Some(piece).filter(|piece| piece.as_ref().map_or(true, |piece| !piece.is_empty()))
    }
}

impl Volume {
    /// Appends what a rebase draft has written, after which the draft lies on its own commit and
    /// can be written further and published. `None` when another commit took the position.
    ///
    /// # Errors
    /// `Ambiguous` or `Unavailable` when the outcome is not known: the intent stays, and
    /// [`Volume::recover_push`] finds out.
    pub fn push(
        &self,
        draft: &mut Draft,
        log: &dyn RemoteLog,
        meta: PushMeta,
    ) -> Result<Option<Commit>> {
        let commit = self.plan_commit(draft, log, meta)?;
        let intent = Intent { lsn: commit.lsn, nonce: commit.nonce };
        let step = |body| Step { body, attrs: Vec::new() };
        self.0.store.append(&step(StepBody::Push(intent)), &[])?;
        // ORDER: the intent, and every mutation it covers, is durable before anybody can see it.
        if !bites(Tooth::SendUnflushed) {
            self.flush()?;
        }
        self.0.env.fault("push: before append").map_err(|e| Error::io("append commit", e))?;
        let outcome = log.append(&commit)?;
        self.0.env.fault("push: after append").map_err(|e| Error::io("append commit", e))?;
        self.0.store.append(&step(StepBody::Pushed), &[])?;
        if outcome == Append::Lost {
            return Ok(None);
        }
        draft.committed(&commit)?;
        Ok(Some(commit))
    }

    fn plan_commit(
        &self,
        draft: &mut Draft,
        log: &dyn RemoteLog,
        meta: PushMeta,
    ) -> Result<Commit> {
        let (lsn, parent, time_ms) = draft
            .parent()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "only a rebase draft can be pushed"))?;
        let pages = draft.written_pages();
        let page_count = draft.page_count();
        let builder = FrameBuilder::new(self.id(), self.page_size())?;
        let mut packing = Packing { draft, pages: pages.iter(), builder };
        let first = packing.piece(limits::INLINE_BYTES_MAX)?;
        let (segment, inline) = if first.len() > limits::INLINE_BYTES_MAX {
            let id = SegmentId::mint(&*self.0.env);
            log.put_segment(id, &mut iter::once(Ok(first)).chain(&mut packing))?;
            (Some(id), Bytes::new())
        } else {
            (None, first)
        };
        let frames = packing.finish()?;
        let mut nonce = [0; 16];
        self.0.env.fill_random(&mut nonce);
        Ok(Commit {
            volume: self.id(),
            lsn: lsn.next(),
            parent: if bites(Tooth::ForgetParent) { CommitHash::default() } else { parent },
            epoch: meta.epoch,
            writer: meta.writer,
            nonce,
            // Never decreases along the log, whatever this clock says.
            time_ms: self.0.env.now_ms().max(if bites(Tooth::TrustClock) { 0 } else { time_ms }),
            page_size: self.page_size(),
            page_count,
            bulk_seen: Lsn::ZERO,
            pages: pages.into_iter().collect::<PageSet>(),
            frames,
            segment,
            inline,
            tables: meta.tables,
            applied: meta.applied,
        })
    }

    /// Whether a push was interrupted before its outcome was recorded.
    #[must_use]
    pub fn push_interrupted(&self) -> bool {
        self.0.store.read().intent.is_some()
    }

    /// Finds out what became of an interrupted push and forgets the intent. True if it had
    /// succeeded: its commit then comes with the next pull, like anybody's.
    ///
    /// # Errors
    /// `Unavailable` when the log cannot be asked now.
    pub fn recover_push(&self, writer: &WriterGuard, log: &dyn RemoteLog) -> Result<bool> {
        writer.check(self)?;
        let Some(intent) = self.0.store.read().intent else { return Ok(false) };
        let committed = log.recover(intent.lsn, intent.nonce)? == Append::Committed;
        self.0.store.append(&Step { body: StepBody::Pushed, attrs: Vec::new() }, &[])?;
        Ok(committed)
    }
}
