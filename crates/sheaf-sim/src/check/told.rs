//! nothing is dropped silently: whoever made what the log refused, or took it back, has it among
//! the rejected ones.

use sheaf_site::RejectedInfo;
use sheaf_volume::{TimelineId, Verdict};

use crate::{oracle::ledger::Ledger, workload::Step};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "nothing is dropped silently", what }
}

/// At rest, with everything decided: what the author was told of, against the log.
pub(crate) fn of_all(
    who: &str,
    ledger: &Ledger,
    timeline: TimelineId,
    told: &[RejectedInfo],
) -> Checked {
    for (seq, entry) in ledger.of(timeline) {
        let refused = matches!(entry.decided, Some((_, Verdict::Rejected)));
        let withdrawn = |step: &Step| matches!(step, Step::Lock(taken) if taken.withdrawn);
        let gone = refused || entry.transaction.steps.iter().any(withdrawn);
        let is_its = |info: &&RejectedInfo| info.timeline.is_none_or(|of| of == timeline);
        let was = told.iter().filter(is_its).find(|info| info.seq == seq);
        if gone && was.is_none() {
            let what = format!("{who} was not told that mutation {seq} is gone: {entry:?}");
            return Err(violated(what));
        }
        // Of what was decided in a reclaimed part of the log nobody knows how.
        if !gone && was.is_some_and(|info| !info.reason.contains("is not known")) {
            let what = format!("{who} was told that mutation {seq} is gone: {entry:?}");
            return Err(violated(what));
        }
    }
    Ok(())
}
