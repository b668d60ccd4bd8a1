//! Branches over HTTP: the bodies of `/v1/branch`.
//!
//! Invariant: what [`decode_request`] gives names one position, and sites by names that can be.
//! Asking again with the same ids changes nothing. Leaves out who may ask.

use bytes::Bytes;
use prost::Message as _;
use sheaf_volume::{At, Error, ErrorKind, Lsn, Result, SiteId, VolumeId};

use crate::{
    message,
    wire::{self, OpenedSite},
};

/// A branch that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRequest {
    /// Name of the site to branch from.
    pub source: String,
    /// Where.
    pub at: At,
    /// Name of the branch.
    pub name: String,
    /// Its site id: new, so that a repeated request is known as such.
    pub site: SiteId,
    /// Its volume id, new too.
    pub volume: VolumeId,
}

/// The body of a request for a branch.
#[must_use]
pub fn encode_request(request: &BranchRequest) -> Bytes {
    let (lsn, time_ms) = match request.at {
        At::Head => (None, None),
        At::Lsn(lsn) => (Some(lsn.0), None),
        At::Time(time_ms) => (None, Some(time_ms)),
    };
    let message = message::Branch {
        source: request.source.clone(),
        name: request.name.clone(),
        site: wire::id_bytes(request.site.as_bytes()),
        volume: wire::id_bytes(request.volume.as_bytes()),
        lsn,
        time_ms,
    };
    message.encode_to_vec().into()
}

/// Reads the body of a request for a branch.
///
/// # Errors
/// `Invalid` when it is not one.
pub fn decode_request(body: Bytes) -> Result<BranchRequest> {
    let branch = message::Branch::decode(body)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "body is not a branch", e))?;
    wire::check_name(&branch.source)?;
    wire::check_name(&branch.name)?;
    let at = match (branch.lsn, branch.time_ms) {
        (None, None) => At::Head,
        (Some(lsn), None) => At::Lsn(Lsn(lsn)),
        (None, Some(time_ms)) => At::Time(time_ms),
        (Some(_), Some(_)) => return Err(Error::invalid("branch: both a position and a time")),
    };
    Ok(BranchRequest {
        source: branch.source,
        at,
        name: branch.name,
        site: SiteId::try_from(branch.site.as_ref())?,
        volume: wire::volume_from_wire(&branch.volume)?,
    })
}

/// The answer: the branch as it can be opened from now on.
#[must_use]
pub fn encode_answer(opened: &OpenedSite) -> Bytes {
    wire::opened_to_wire(0, opened).encode_to_vec().into()
}

/// Reads the answer.
///
/// # Errors
/// `Invalid` when it is not one.
pub fn decode_answer(body: Bytes) -> Result<OpenedSite> {
    let opened = message::Opened::decode(body)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "the answer is not a site", e))?;
    wire::opened_from_wire(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_and_names_one_position() {
        let request = |at| BranchRequest {
            source: "team/main".to_owned(),
            at,
            name: "draft".to_owned(),
            site: SiteId::from_bytes([1; 16]),
            volume: VolumeId::from_bytes([2; 16]),
        };
        for at in [At::Head, At::Lsn(Lsn(0)), At::Lsn(Lsn(7)), At::Time(0), At::Time(9)] {
            assert_eq!(decode_request(encode_request(&request(at))).unwrap(), request(at));
        }
        let good = message::Branch::decode(encode_request(&request(At::Lsn(Lsn(7))))).unwrap();
        for bad in [
            message::Branch { time_ms: Some(1), ..good.clone() },
            message::Branch { name: String::new(), ..good.clone() },
            message::Branch { source: "a\nb".to_owned(), ..good.clone() },
            message::Branch { site: Bytes::from_static(b"short"), ..good.clone() },
            message::Branch { volume: Bytes::new(), ..good.clone() },
        ] {
            let error = decode_request(bad.encode_to_vec().into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        assert!(decode_request(Bytes::from_static(b"\xff")).is_err());
    }
}
