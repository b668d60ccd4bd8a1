//! GC deletes nothing reachable: what retention and branches keep can be read, by who comes anew.

use sheaf_volume::{Commit, Error, LogCheck};

use crate::{
    oracle::{Position, model::difference},
    workload::together::agrees,
};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "GC deletes nothing reachable", what }
}

/// Something that must be kept cannot be read.
pub(crate) fn unreadable(who: &str, what: &str, error: &Error) -> Violation {
    violated(format!("{what} of {who} cannot be read any more: {error}"))
}

/// The boundary leaves as many states as people were promised.
pub(crate) fn keeps_enough(site: &str, boundary: u64, head: u64, commits: u64) -> Checked {
    if boundary <= (head + 1).saturating_sub(commits).max(1) {
        return Ok(());
    }
    Err(violated(format!(
        "{site} ends at @{head} and begins at @{boundary}, {commits} states were to be kept"
    )))
}

/// A commit that is kept is the one that was appended.
pub(crate) fn same_commit(site: &str, commit: &Commit, then: Option<&Position>) -> Checked {
    if then.is_some_and(|then| then.hash == commit.hash()) {
        return Ok(());
    }
    Err(violated(format!("@{} of {site} is another commit than it was", commit.lsn)))
}

/// A state that is kept says what it said.
pub(crate) fn shows(site: &str, lsn: u64, then: &str, now: &str) -> Checked {
    if then == now {
        return Ok(());
    }
    Err(violated(format!("@{lsn} of {site} shows another state: {}", difference(then, now))))
}

/// A state that is kept has the bytes that it had.
pub(crate) fn same_bytes(site: &str, then: Option<&Position>, now: [u8; 32]) -> Checked {
    if then.is_some_and(|then| then.content == now) {
        return Ok(());
    }
    Err(violated(format!("the newest state of {site} has other bytes than it had")))
}

/// A branch shows one of the states that it can be in.
pub(crate) fn branch_shows(branch: &str, at: u64, states: &[String], now: &str) -> Checked {
    if states.iter().any(|state| agrees(state, now)) {
        return Ok(());
    }
    let how = states.first().map(|state| difference(state, now)).unwrap_or_default();
    Err(violated(format!("{branch}, made at @{at}, shows another state: {how}")))
}

/// What `sheaf verify` says of a log that nothing has damaged.
pub(crate) fn sound(site: &str, verified: Result<LogCheck, Error>) -> Checked {
    match verified {
        Ok(check) if check.findings.is_empty() => Ok(()),
        Ok(check) => Err(violated(format!("{site} is not sound: {:?}", check.findings))),
        Err(error) => Err(unreadable(site, "the log", &error)),
    }
}
