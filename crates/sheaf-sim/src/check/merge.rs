//! merge rules total and convergent: the log's states and verdicts are those of plain SQL in the log's order.

use sheaf_volume::{Reject, Verdict};

use crate::{
    oracle::model::difference,
    workload::{Transaction, together::agrees},
};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "merge rules total and convergent", what }
}

/// A verdict of the log, against the model's.
pub(crate) fn verdict(
    lsn: u64,
    seq: u64,
    transaction: &Transaction,
    verdict: Verdict,
    reason: Option<&Reject>,
    model: &Result<(), String>,
) -> Checked {
    match (verdict, model) {
        (Verdict::Rejected, Err(_)) | (Verdict::Ok | Verdict::Merged, Ok(())) => Ok(()),
        (Verdict::Rejected, Ok(())) => Err(violated(format!(
            "@{lsn} rejects mutation {seq}, {transaction:?}: {}",
            reason.map_or("no reason", |reject| &reject.reason)
        ))),
        (_, Err(why)) => {
            Err(violated(format!("@{lsn} applies mutation {seq}, {transaction:?}: {why}")))
        }
    }
}

/// A state of the log, against the model's.
pub(crate) fn equals_model(place: &str, model: &str, seen: &str) -> Checked {
    if agrees(model, seen) {
        return Ok(());
    }
    Err(violated(format!("{place}: {}", difference(model, seen))))
}
