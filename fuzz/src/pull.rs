//! Bodies of the HTTP requests for commits and of their answers.
//!
//! Asserts: a request round-trips; an answer gives commits of the volume asked for, in order,
//! without gaps, from the position asked for, or changes that begin there or before, or an error.

use bytes::Bytes;
use prost::Message as _;
use sheaf_sync::{message, pull};
use sheaf_volume::{Commit, Lsn, VolumeId};

use crate::{commit::seal, input::assert_refusal, wire::check_changes};

/// The bytes as a request, an error, an answer, and an answer whose commits are sealed.
pub fn target(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    match pull::decode_request(body.clone()) {
        Ok(request) => {
            let again = pull::encode(&request);
            let back = pull::decode_request(again).expect("BUG: an encoding that does not decode");
            assert_eq!(back, request);
        }
        Err(error) => assert_refusal(&error),
    }
    if let Some(error) = pull::decode_error(body.clone()) {
        let back = pull::decode_error(pull::encode_error(&error));
        assert_eq!(back.map(|e| e.kind()), Some(error.kind()));
    }
    answer(body);
    answer(sealed(data));
}

fn answer(body: Bytes) {
    // Asked for what it begins with, so that the order is what is left to check.
    let first = message::Commits::decode(body.clone()).ok();
    let first = first.and_then(|answer| Commit::decode(answer.commits.first()?.clone()).ok());
    let (volume, lsn) = first
        .as_ref()
        .map_or((VolumeId::from_bytes([0; 16]), Lsn(1)), |commit| (commit.volume, commit.lsn));
    let after = Lsn(lsn.0 - 1);
    match pull::decode_answer(&volume.into(), after, body.clone()) {
        Ok(pulled) => {
            for (lsn, commit) in (lsn.0..).zip(&pulled.commits) {
                assert_eq!((commit.volume, commit.lsn), (volume, Lsn(lsn)));
            }
            if let Some(changes) = &pulled.changes {
                assert!(changes.volume == volume && changes.after <= after);
                assert!(pulled.commits.is_empty() && pulled.head == changes.head);
                check_changes(changes);
            }
            let elsewhere = pull::decode_answer(&volume.into(), Lsn(after.0 + 1), body);
            assert_eq!(elsewhere.is_ok(), pulled.commits.is_empty(), "the position is checked");
        }
        Err(error) => assert_refusal(&error),
    }
}

/// The same answer, each commit with a right trailer.
pub(crate) fn sealed(body: &[u8]) -> Bytes {
    let Ok(mut answer) = message::Commits::decode(body) else { return Bytes::new() };
    for object in &mut answer.commits {
        *object = seal(object.get(..object.len().saturating_sub(32)).unwrap_or_default()).into();
    }
    answer.encode_to_vec().into()
}
