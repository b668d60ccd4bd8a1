//! Commits over HTTP: the bodies of `/v1/pull`, and the body of any answer that is an error.
//!
//! Invariant: what [`decode_answer`] gives are commits of the history asked for, from the position
//! asked for, without gaps; and a body that is not ours (a proxy's page) is never shown to people.

use bytes::Bytes;
use prost::Message as _;
use sheaf_volume::{Commit, Error, ErrorKind, Lineage, Lsn, RemoteHead, Result, VolumeId};

use crate::{message, wire};

/// The answer to a pull.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    /// The commits after the position asked for, in order.
    pub commits: Vec<Commit>,
    /// The newest state of the log.
    pub head: RemoteHead,
    /// Whether there are further commits after these.
    pub more: bool,
}

/// The body of a request for commits.
#[must_use]
pub fn encode_request(volume: VolumeId, after: Lsn, head_only: bool) -> Bytes {
    let volume = wire::id_bytes(volume.as_bytes());
    message::Pull { request: 0, volume, after_lsn: after.0, head_only }.encode_to_vec().into()
}

/// Reads the body of a request for commits.
///
/// # Errors
/// `Invalid` when it is not one.
pub fn decode_request(body: Bytes) -> Result<(VolumeId, Lsn, bool)> {
    let pull = message::Pull::decode(body)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "body is not a pull", e))?;
    Ok((wire::volume_from_wire(&pull.volume)?, Lsn(pull.after_lsn), pull.head_only))
}

/// Reads the answer.
///
/// # Errors
/// `Invalid` when it is not one, `Corrupt` when its commits are not those asked for.
pub fn decode_answer(lineage: &Lineage, after: Lsn, body: Bytes) -> Result<Pulled> {
    let answer = message::Commits::decode(body)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "the answer is not commits", e))?;
    let commits = wire::commits_from_wire(lineage, &answer.commits)?;
    if commits.first().is_some_and(|first| first.lsn != after.next()) {
        return Err(Error::corrupt(format!("commits do not follow on lsn=`{after}`")));
    }
    let head = wire::head_from_wire(answer.head.as_ref())?;
    Ok(Pulled { commits, head, more: answer.more })
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
