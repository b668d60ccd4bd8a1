//! A node as the remote of a volume: commits and pages, whatever carries the requests.
//!
//! Invariant: bytes are checked against their hashes before anybody sees them; an answer that
//! breaks off is asked for again, a bounded number of times, and nothing else is.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use sheaf_site::{Error, ErrorKind, Result};
use sheaf_sync::{
    branch::{self, BranchRequest},
    message, pages, pull,
    wire::OpenedSite,
};
use sheaf_volume::{
    Changes, Commit, FetchedPage, HeldPage, Lineage, Lsn, PageSize, Remote, RemoteHead, TimelineId,
    Want,
};

use crate::limits;

/// What carries one request to a node and its answer back.
pub trait Post: fmt::Debug + Send + Sync {
    /// Sends `body` to `path` ([`message::PULL_PATH`] or [`message::PAGES_PATH`]) and hands the
    /// body of the answer to `take`, in pieces of any size, in order. Blocks until it is over.
    ///
    /// # Errors
    /// [`Fault::BrokeOff`] when the answer began and did not end, [`Fault::Final`] with what the
    /// node says, `Unavailable` when it cannot be reached, or the error of `take`.
    fn post(
        &self,
        path: &str,
        body: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault>;
}

/// Why one attempt failed, by whether another may do better.
#[derive(Debug)]
pub enum Fault {
    /// The answer ended early. A node that cannot be reached at all, or that says "not now", is
    /// the caller's business instead.
    BrokeOff(Error),
    /// Trying again at once would not help.
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// A volume whose commits and pages a node has.
#[derive(Debug)]
pub struct NodeRemote {
    post: Arc<dyn Post>,
    lineage: Lineage,
    size: PageSize,
}

impl NodeRemote {
    /// The volume, through whatever reaches the node. Reaches for nobody yet.
    #[must_use]
    pub fn new(post: Arc<dyn Post>, lineage: impl Into<Lineage>, size: PageSize) -> Self {
        Self { post, lineage: lineage.into(), size }
    }

    fn pull_once(&self, after: Lsn, head_only: bool) -> Result<pull::Pulled> {
        let volume = self.lineage.volume();
        self.ask(&pull::Request { volume, after, head_only, merge_for: None })
    }

    fn ask(&self, request: &pull::Request) -> Result<pull::Pulled> {
        let body = pull::encode(request);
        let answer = repeated(|| whole(self.post.as_ref(), message::PULL_PATH, body.clone()))?;
        pull::decode_answer(&self.lineage, request.after, answer)
    }

    fn fetch_once(&self, wants: &[Want], held: &[HeldPage]) -> Result<Vec<FetchedPage>, Fault> {
        let volume = self.lineage.volume();
        let body = pages::encode_request_holding(volume, wants, held)?;
        let mut reader = pages::BlockReader::new(volume, self.size, wants).holding(held);
        let mut found = Vec::new();
        self.post.post(message::PAGES_PATH, body, &mut |piece| {
            found.extend(reader.feed(&piece)?);
            Ok(())
        })?;
        // Ending early without an error on the wire is how a node says that it failed half-way.
        reader.finish().map_err(Fault::BrokeOff)?;
        Ok(found)
    }
}

/// Asks a node for a branch. Repeated with the same ids when the answer broke off.
///
/// # Errors
/// Whatever the node says, or `Unavailable` when it cannot be reached.
pub(crate) fn branch(post: &dyn Post, request: &BranchRequest) -> Result<OpenedSite> {
    let body = branch::encode_request(request);
    let answer = repeated(|| whole(post, message::BRANCH_PATH, body.clone()))?;
    branch::decode_answer(answer)
}

fn whole(post: &dyn Post, path: &str, body: Bytes) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    post.post(path, body, &mut |piece| {
        let max = limits::ANSWER_BYTES_MAX;
        if whole.len() + piece.len() > max {
            let text = format!("the node's answer is over {max} bytes");
            return Err(Error::new(ErrorKind::Limit, text));
        }
        whole.extend_from_slice(&piece);
        Ok(())
    })?;
    Ok(whole.freeze())
}

impl Remote for NodeRemote {
    fn head(&self) -> Result<RemoteHead> {
        self.pull_once(Lsn::ZERO, true).map(|answer| answer.head)
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        self.pull_once(after, false).map(|answer| answer.commits)
    }

    /// One request. A node that sends commits instead is asked for the rest of them.
    fn changes(&self, after: Lsn, timeline: TimelineId) -> Result<Option<Changes>> {
        let merge_for = Some(timeline);
        let request =
            pull::Request { volume: self.lineage.volume(), after, head_only: false, merge_for };
        let answer = self.ask(&request)?;
        if let Some(changes) = answer.changes {
            return Ok(Some(changes));
        }
        let mut changes = None;
        Changes::extend(&mut changes, answer.commits, timeline)?;
        if answer.more { Changes::read(self, changes, after, timeline) } else { Ok(changes) }
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.fetch_holding(wants, &[])
    }

    /// In as many requests as the limits need.
    fn fetch_holding(&self, wants: &[Want], held: &[HeldPage]) -> Result<Vec<FetchedPage>> {
        let mut found = Vec::new();
        for wants in pages::split_wants(wants) {
            let pages = match repeated(|| self.fetch_once(&wants, held)) {
                // A delta may be at fault: the whole pages are asked for, once.
                Err(error) if error.kind() == ErrorKind::Corrupt && !held.is_empty() => {
                    tracing::debug!(%error, "asking again for whole pages");
                    repeated(|| self.fetch_once(&wants, &[]))
                }
                pages => pages,
            };
            found.extend(pages?);
        }
        Ok(found)
    }
}

fn repeated<T>(mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T> {
    let mut left = limits::REQUEST_ATTEMPTS;
    loop {
        left -= 1;
        match attempt() {
            Ok(answer) => return Ok(answer),
            Err(Fault::BrokeOff(_)) if left > 0 => {}
            Err(Fault::BrokeOff(error) | Fault::Final(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
