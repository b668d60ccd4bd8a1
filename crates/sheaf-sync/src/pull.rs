//! Commits over HTTP: the bodies of `/v1/pull`, and the body of any answer that is an error.
//!
//! Invariant: what [`decode_answer`] gives are commits of the history asked for, from the position
//! asked for, without gaps; and a body that is not ours (a proxy's page) is never shown to people.

use bytes::Bytes;
use prost::Message as _;
use sheaf_volume::{
    Changes, Commit, Error, ErrorKind, Lineage, Lsn, RemoteHead, Result, TimelineId, VolumeId,
};

use crate::{message, wire};

/// A request for commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose.
    pub volume: VolumeId,
    /// The newest position the asker has.
    pub after: Lsn,
    /// Whether only the head is asked for.
    pub head_only: bool,
    /// The timeline to hear of, of one who takes merged changes in place of many commits.
    pub merge_for: Option<TimelineId>,
}

/// The answer to a pull.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    /// The commits after the position asked for, in order.
    pub commits: Vec<Commit>,
    /// The newest state of the log.
    pub head: RemoteHead,
    /// Whether there are further commits after these.
    pub more: bool,
    /// In place of the commits, for one who takes them: what all of them changed.
    pub changes: Option<Changes>,
}

/// The body of a request for commits.
#[must_use]
pub fn encode_request(volume: VolumeId, after: Lsn, head_only: bool) -> Bytes {
    encode(&Request { volume, after, head_only, merge_for: None })
}

/// The body of any request.
#[must_use]
pub fn encode(request: &Request) -> Bytes {
    wire::pull_to_wire(0, request).encode_to_vec().into()
}

/// Reads the body of a request for commits.
///
/// # Errors
/// `Invalid` when it is not one.
pub fn decode_request(body: Bytes) -> Result<Request> {
    let pull = message::Pull::decode(body)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "body is not a pull", e))?;
    wire::pull_from_wire(&pull)
}

/// The body of the answer.
#[must_use]
pub fn encode_answer(answer: &message::Commits) -> Bytes {
    answer.encode_to_vec().into()
}

/// Reads the answer.
///
/// # Errors
/// `Invalid` when it is not one, `Corrupt` when its commits are not those asked for.
pub fn decode_answer(lineage: &Lineage, after: Lsn, body: Bytes) -> Result<Pulled> {
    let answer = message::Commits::decode(body)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "the answer is not commits", e))?;
    if let Some(changes) = wire::changes_from_wire(lineage.volume(), &answer)? {
        let (head, more) = (changes.head, answer.more);
        if changes.after > after {
            return Err(Error::corrupt(format!("changes do not follow on lsn=`{after}`")));
        }
        return Ok(Pulled { commits: Vec::new(), head, more, changes: Some(changes) });
    }
    let commits = wire::commits_from_wire(lineage, &answer.commits)?;
    if commits.first().is_some_and(|first| first.lsn != after.next()) {
        return Err(Error::corrupt(format!("commits do not follow on lsn=`{after}`")));
    }
    let head = wire::head_from_wire(answer.head.as_ref())?;
    Ok(Pulled { commits, head, more: answer.more, changes: None })
}

/// The body of an answer that is an error.
#[must_use]
pub fn encode_error(error: &Error) -> Bytes {
    wire::error_to_wire(0, error, false).encode_to_vec().into()
}

/// Reads the body of an answer that is an error; `None` when it is not one of ours.
#[must_use]
pub fn decode_error(body: Bytes) -> Option<Error> {
    let error = message::Error::decode(body).ok()?;
    (error.code != 0 && !error.message.is_empty()).then(|| wire::error_from_wire(&error))
}
