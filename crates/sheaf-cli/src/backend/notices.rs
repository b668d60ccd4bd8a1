//! What the library does in the background, in words for the person at the prompt.
//!
//! Invariant: own changes that simply arrive are not told; everything that surprises is.

use std::time::Duration;

use sheaf::Event;

/// The notices of one device.
pub(crate) struct Notices {
    events: sheaf::Events,
}

impl Notices {
    pub(super) fn new(events: sheaf::Events) -> Self {
        Self { events }
    }

    /// The next one, if there is one in time.
    pub(crate) fn next_within(&self, timeout: Duration) -> Option<String> {
        self.events.next_within(timeout).as_ref().and_then(describe)
    }
}

fn describe(event: &Event) -> Option<String> {
    match event {
        Event::Online { server } => Some(format!("online: {server} answers")),
        Event::Offline { reason, .. } => {
            Some(format!("offline, changes are kept on this device: {reason}"))
        }
        Event::Refused { reason, .. } => {
            Some(format!("the server refuses this device: {reason}; mend that, then .offline off"))
        }
        Event::Changed { lsn, commits, confirmed, .. } => {
            // One commit with own changes in it is the echo of what was just typed.
            let is_echo = *confirmed > 0 && *commits <= 1;
            (!is_echo).then(|| format!("others changed this site: now at @{}", lsn.0))
        }
        Event::Rejected { seq, reason, .. } => {
            Some(format!("change {seq} was rejected and is not in the site: {reason}"))
        }
        Event::Merged { seq, ops, .. } => {
            let first = ops.altered.first()?;
            let more = match ops.stands.iter().filter(|stands| !stands).count() {
                0 | 1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let what = &first.summary;
            Some(format!("change {seq} was merged: not as it was written: {what}{more}"))
        }
        Event::Asks { seq, reason, .. } => {
            Some(format!("change {seq} waits for you, and what comes after it: {reason}"))
        }
        Event::Failed { error, .. } => Some(format!("will be tried again: {error}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(commits: u64, confirmed: u64) -> Event {
        Event::Changed { site: "s".into(), lsn: sheaf::Lsn(7), commits, confirmed }
    }

    #[test]
    fn the_echo_of_own_changes_is_not_told() {
        assert_eq!(describe(&changed(1, 2)), None);
        let told = Some("others changed this site: now at @7".to_owned());
        assert_eq!(describe(&changed(1, 0)), told);
        assert_eq!(describe(&changed(2, 1)), told);
    }

    #[test]
    fn a_merge_is_told_if_it_altered_something() {
        let told = |altered: Vec<sheaf::AlteredOp>, stands: &[bool]| {
            let ops = sheaf::MergedOps { stands: stands.iter().copied().collect(), altered };
            describe(&Event::Merged { site: "s".into(), seq: 4, ops })
        };
        assert_eq!(told(Vec::new(), &[true]), None);
        let op = sheaf::AlteredOp {
            at: 0,
            summary: "update t 1 (v)".into(),
            table: Some("t".into()),
            key: vec![1.into()],
        };
        let line = "change 4 was merged: not as it was written: update t 1 (v) and 1 more";
        assert_eq!(told(vec![op], &[false, true, false]).as_deref(), Some(line));
    }

    #[test]
    fn a_rejection_says_which_and_why() {
        let event = Event::Rejected { site: "s".into(), seq: 4, reason: "CHECK failed".into() };
        let told = describe(&event).unwrap();
        assert!(told.contains("change 4") && told.contains("CHECK failed"), "{told}");
    }
}
