//! A log whose answers get lost.
//!
//! Invariant: everything else is the log's own. Leaves out errors of reading.

use std::sync::Arc;

use sheaf_volume::{
    Append, BucketRemote, Commit, Error, ErrorKind, FetchedPage, Lsn, Remote, RemoteHead,
    RemoteLog, Result, SegmentId, SegmentPieces, Want,
};

/// How the log answers an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Plain,
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done, and there is no answer.
    Refused,
}

/// A log whose answers get lost.
#[derive(Debug)]
pub(super) struct Flaky {
    pub(super) log: Arc<BucketRemote>,
    pub(super) answer: Answer,
}

impl Remote for Flaky {
    fn head(&self) -> Result<RemoteHead> {
        self.log.head()
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.log.pull(after)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.log.fetch(wants)
    }
}

impl RemoteLog for Flaky {
    fn put_segment(&self, id: SegmentId, pieces: &mut SegmentPieces<'_>) -> Result<()> {
        self.log.put_segment(id, pieces)
    }

    fn append(&self, commit: &Commit) -> Result<Append> {
        if self.answer != Answer::Refused {
            let done = self.log.append(commit)?;
            if self.answer == Answer::Plain {
                return Ok(done);
            }
        }
        Err(Error::new(ErrorKind::Ambiguous, "no answer"))
    }

    fn recover(&self, lsn: Lsn, nonce: [u8; 16]) -> Result<Append> {
        self.log.recover(lsn, nonce)
    }
}
