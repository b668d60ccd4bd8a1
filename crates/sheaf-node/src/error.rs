//! How errors leave the node over HTTP: status, media type and one line for people.
//!
//! Invariant: every answer of a `/v1/` route whose status is not 200 carries an encoded
//! [`message::Error`]; the other routes answer in plain text. Causes that only concern the
//! operator are counted and logged here, once.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use prost::Message as _;
use sheaf_sync::{message, wire};
use sheaf_volume::{Error, ErrorKind};

use crate::metrics::Metrics;

/// The status that tells an HTTP client what to do about an error of this kind.
pub(crate) const fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid | ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
        ErrorKind::Denied => StatusCode::UNAUTHORIZED,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Expired => StatusCode::GONE,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Limit => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Busy
        | ErrorKind::Closed
        | ErrorKind::Unavailable
        | ErrorKind::Ambiguous
        | ErrorKind::Io => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a request under `path` that failed.
pub(crate) fn answer(path: &str, status: StatusCode, error: &Error) -> Response {
    let (media, body) = if path.starts_with("/v1/") {
        (message::MEDIA_TYPE, wire::error_to_wire(0, error, false).encode_to_vec())
    } else {
        ("text/plain; charset=utf-8", format!("{error}\n").into_bytes())
    };
    let mut response = (status, [(header::CONTENT_TYPE, media)], body).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Counts and logs a failure that an operator may have to look at; callers' mistakes are not.
pub(crate) fn note(metrics: &Metrics, doing: &'static str, error: &Error) {
    let kind = match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Busy | ErrorKind::Closed => "unavailable",
        ErrorKind::Ambiguous => "ambiguous",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Io => "io",
        ErrorKind::Denied => "denied",
        ErrorKind::Internal => "internal",
        _ => return,
    };
    metrics.store_failures.one(kind);
    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Internal | ErrorKind::Io) {
        tracing::error!(doing, kind, %error, "operation failed");
    } else {
        tracing::warn!(doing, kind, %error, "operation failed");
    }
}

/// What a caller is told about an error: trouble with the node's own store or disk is
/// `Unavailable` to a device, which can do nothing about it but come back.
pub(crate) fn for_caller(error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Denied => Error::new(
            ErrorKind::Unavailable,
            "the node's store denies it access: ask the node's operator",
        ),
        _ => error.clone(),
    }
}
