//! auth isolation: who does not show a token gets nothing, and nothing is done for them.

use bytes::Bytes;
use sheaf_sync::{message::Body, wire};
use sheaf_volume::{Error, ErrorKind};

use super::{Checked, Violation};

/// This claim is broken.
fn violated(what: String) -> Violation {
    Violation { claim: "auth isolation", what }
}

/// A question without the right token is answered with "denied", whether or not there is anything
/// to answer.
pub(crate) fn refused(what: &str, answer: &Result<Bytes, Error>) -> Checked {
    match answer {
        Err(error) if error.kind() == ErrorKind::Denied => Ok(()),
        Err(error) => Err(violated(format!("{what} of a stranger was looked into: {error}"))),
        Ok(bytes) => Err(violated(format!("{what} of a stranger got {} bytes", bytes.len()))),
    }
}

/// What a connection says to a stranger tells nothing but that there is a door.
pub(crate) fn says_nothing(frame: Bytes) -> Checked {
    match wire::decode(frame) {
        Ok(Body::Error(error)) => {
            let error = wire::error_from_wire(&error);
            match error.kind() {
                // Not even a greeting came first.
                ErrorKind::Denied | ErrorKind::Invalid => Ok(()),
                _ => Err(violated(format!("a stranger was told: {error}"))),
            }
        }
        Ok(body) => Err(violated(format!("a stranger was answered: {body:?}"))),
        Err(error) => Err(violated(format!("a stranger was sent what cannot be read: {error}"))),
    }
}
