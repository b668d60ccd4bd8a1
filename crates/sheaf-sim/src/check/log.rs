//! atomic gapless log: positions follow each other, are written once, and name their parents.

use sheaf_volume::Commit;

use super::clocks;
use crate::{bucket::Bucket, oracle::Position};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "atomic gapless log", what }
}

/// A commit follows the last one, and its volume is that of its site.
pub(crate) fn continues(
    last: Option<&Position>,
    head: u64,
    commit: &Commit,
    bucket: &Bucket,
    site: &str,
) -> Checked {
    let parent = last.map(|position| position.hash).unwrap_or_default();
    if commit.lsn.0 != head + 1 {
        return Err(violated(format!("{site}: @{} stands at position {}", commit.lsn, head + 1)));
    }
    if commit.parent != parent {
        return Err(violated(format!("{site}: @{} does not name its parent", commit.lsn)));
    }
    clocks::time_goes_on(commit.lsn.0, last.map_or(0, |p| p.time_ms), commit.time_ms)?;
    if let Some(segment) = commit.segment {
        let key = format!("volumes/{}/segments/{segment}", commit.volume);
        if bucket.stored(&key).is_none() {
            return Err(violated(format!("{site}: @{} names a missing {key}", commit.lsn)));
        }
    }
    Ok(())
}

/// What was written at a position is still there, as it was.
pub(crate) fn unchanged(site: &str, lsn: u64, then: &[u8], now: Option<&[u8]>) -> Checked {
    if now == Some(then) {
        return Ok(());
    }
    Err(violated(format!("{site}: @{lsn} was rewritten or removed")))
}
