//! Names of objects, and what their failures mean.
//!
//! Invariant: log keys sort like positions, so a listing after a key is a listing after a commit.

use crate::limits::LSN_MAX;
use crate::teeth::{Tooth, bites};
use crate::{Error, ErrorKind, Lsn, ObjectsError, SegmentId, VolumeId};

pub(super) fn log_prefix(volume: VolumeId) -> String {
    if bites(Tooth::ShareLogKeys) {
        return "volumes/shared/log/".to_owned();
    }
    format!("volumes/{volume}/log/")
}

pub(super) fn log_key(volume: VolumeId, lsn: Lsn) -> String {
    format!("{}{:020}", log_prefix(volume), lsn.0)
}

pub(super) fn segment_key(volume: VolumeId, segment: SegmentId) -> String {
    format!("{}{segment}", segment_prefix(volume))
}

pub(super) fn segment_prefix(volume: VolumeId) -> String {
    format!("volumes/{volume}/segments/")
}

pub(super) fn pin_prefix(parent: VolumeId) -> String {
    format!("volumes/{parent}/branches/")
}

pub(super) fn pin_key(parent: VolumeId, child: VolumeId) -> String {
    format!("{}{child}", pin_prefix(parent))
}

/// The branch a key pins; `None` for what we never write there.
pub(super) fn pinned_child(prefix: &str, key: &str) -> Option<VolumeId> {
    let child: VolumeId = key.strip_prefix(prefix)?.parse().ok()?;
    (key.strip_prefix(prefix)? == child.to_string()).then_some(child)
}

pub(super) fn checkpoint_prefix(volume: VolumeId) -> String {
    format!("volumes/{volume}/checkpoints/")
}

pub(super) fn checkpoint_key(volume: VolumeId, lsn: Lsn) -> String {
    format!("{}{:020}", checkpoint_prefix(volume), lsn.0)
}

/// The hint to the newest checkpoint.
pub(super) fn latest_key(volume: VolumeId) -> String {
    format!("volumes/{volume}/latest")
}

pub(super) fn mark_prefix(volume: VolumeId) -> String {
    format!("volumes/{volume}/boundary/")
}

pub(super) fn mark_key(volume: VolumeId, number: u64) -> String {
    format!("{}{number:020}", mark_prefix(volume))
}

pub(super) fn pack_prefix(volume: VolumeId) -> String {
    format!("volumes/{volume}/packs/")
}

/// The pack whose last commit is at this position.
pub(super) fn pack_key(volume: VolumeId, last: Lsn) -> String {
    format!("{}{:020}", pack_prefix(volume), last.0)
}

/// The position a key below `prefix` stands for; `None` for what we never write there.
pub(super) fn lsn_in(prefix: &str, key: &str) -> Option<Lsn> {
    let digits = key.strip_prefix(prefix)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|lsn| (1..=LSN_MAX).contains(lsn)).map(Lsn)
}

/// An object operation failed; `doing` is verb and noun.
pub(super) fn refused(doing: &str, cause: ObjectsError) -> Error {
    let (kind, advice) = match &cause {
        ObjectsError::NotFound(_) => (ErrorKind::NotFound, "; restore it from a copy of the store"),
        ObjectsError::AlreadyExists(_) => (ErrorKind::Conflict, ""),
        ObjectsError::Ambiguous { .. } => (ErrorKind::Ambiguous, ""),
        ObjectsError::Unavailable(_) => (ErrorKind::Unavailable, ""),
        ObjectsError::Denied(_) => (ErrorKind::Denied, ""),
        ObjectsError::Failed(_) => (ErrorKind::Io, ""),
    };
    Error::with_source(kind, format!("{doing}{advice}"), cause)
}

/// An object does not hold what it should.
pub(super) fn damaged(key: &str, cause: Error) -> Error {
    let kind = cause.kind();
    let advice =
        if kind == ErrorKind::Corrupt { "; restore it from a copy of the store" } else { "" };
    Error::with_source(kind, format!("bad object key=`{key}`{advice}"), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_positions_and_read_back() {
        let volume = VolumeId::from_bytes([7; 16]);
        let prefix = log_prefix(volume);
        let lsns = [1, 9, 10, 99, 1_000_000, LSN_MAX].map(Lsn);
        let keys = lsns.map(|lsn| log_key(volume, lsn));
        assert!(keys.is_sorted());
        assert_eq!(keys.each_ref().map(|key| lsn_in(&prefix, key)), lsns.map(Some));
    }

    #[test]
    fn foreign_names_are_no_positions() {
        let prefix = log_prefix(VolumeId::from_bytes([7; 16]));
        for name in [
            "",
            "1",
            "00000000000000000000",
            "18446744073709551615",
            "0000000000000000001x",
            "+0000000000000000001",
        ] {
            assert_eq!(lsn_in(&prefix, &format!("{prefix}{name}")), None, "{name}");
        }
        assert_eq!(lsn_in(&prefix, "00000000000000000001"), None);
    }
}
