//! What a verification finds: what is wrong, where, and what mends it.
//!
//! Invariant: a finding names one place (an object, a file, or a page of it) and one remedy. Leaves
//! out the words of a command line: a face makes those.

use std::fmt;

use crate::{Error, ErrorKind, Lsn, PageSet, limits};

/// What mends a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// A repair of this replica: what the remote has is fetched again, what follows from pending
    /// mutations is made again, what nobody needs is thrown away.
    Repair,
    /// A segment whose pages some replica holds: a repair there writes it again.
    Rewrite,
    /// A pass of the reclaimer, which writes it anew; until then reading takes a little longer.
    Reclaim,
    /// A copy of the store: nothing else has these bytes.
    RestoreStore,
    /// A new clone, or a backup of the replica: its own files do not say any more what it held.
    CloneAfresh,
    /// A newer version of Sheaf.
    Upgrade,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The object's key, or the local file's name.
    pub place: String,
    /// The position in the log, where that is known.
    pub lsn: Option<Lsn>,
    /// The pages that are affected; empty when it is not about pages.
    pub pages: PageSet,
    /// What is wrong.
    pub what: String,
    /// What mends it.
    pub remedy: Remedy,
}

impl Finding {
    /// A finding that is not about single pages.
    pub fn new(place: impl Into<String>, what: impl Into<String>, remedy: Remedy) -> Self {
        let (place, what) = (place.into(), what.into());
        Self { place, lsn: None, pages: PageSet::new(), what, remedy }
    }

    /// What an error says about bytes: what a newer version wrote is not damage.
    pub(crate) fn of(place: impl Into<String>, error: &Error, remedy: Remedy) -> Self {
        let newer = error.kind() == ErrorKind::Unsupported;
        Self::new(place, error.to_string(), if newer { Remedy::Upgrade } else { remedy })
    }

    pub(crate) fn at(mut self, lsn: Lsn) -> Self {
        self.lsn = Some(lsn);
        self
    }

    pub(crate) fn on(mut self, pages: PageSet) -> Self {
        self.pages = pages;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some(lsn) = self.lsn {
            write!(f, " @{lsn}")?;
        }
        write!(f, ": {}", self.what)?;
        if !self.pages.is_empty() {
            write!(f, " (pages {})", shown(&self.pages))?;
        }
        Ok(())
    }
}

/// Page numbers for people: `1-8, 12`, and how many more.
fn shown(pages: &PageSet) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in pages.iter().map(crate::PageIdx::get) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |&(from, to): &(u32, u32)| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    };
    let mut text: Vec<String> = runs.iter().take(limits::FINDING_RUNS_MAX).map(run).collect();
    if runs.len() > text.len() {
        text.push(format!("... {} in all", pages.len()));
    }
    text.join(", ")
}

/// Findings up to a bound: a store that is wholly bad must not fill the memory with complaints.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) list: Vec<Finding>,
    /// Findings that had no room.
    pub(crate) more: u64,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        if self.list.len() < limits::FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PageIdx;

    #[test]
    fn a_finding_is_one_line() {
        let pages = [1, 2, 3, 9].map(|number| PageIdx::new(number).unwrap()).into_iter().collect();
        let finding = Finding::new("log-0", "bad", Remedy::Repair).at(Lsn(4)).on(pages);
        assert_eq!(finding.to_string(), "log-0 @4: bad (pages 1-3, 9)");
        let many = (1..1000).step_by(2).map(|number| PageIdx::new(number).unwrap()).collect();
        assert!(shown(&many).ends_with("... 500 in all"), "{}", shown(&many));
    }

    #[test]
    fn what_a_newer_version_wrote_is_not_damage() {
        let newer = Error::new(ErrorKind::Unsupported, "newer");
        assert_eq!(Finding::of("x", &newer, Remedy::Repair).remedy, Remedy::Upgrade);
        assert_eq!(Finding::of("x", &Error::corrupt("bad"), Remedy::Repair).remedy, Remedy::Repair);
    }
}
