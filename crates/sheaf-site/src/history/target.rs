//! Which mutation is meant, and where the log has it.
//!
//! Invariant: a name means one mutation or is refused: a short name that fits two timelines, and a
//! commit of several mutations of which this device does not remember the one meant, are errors
//! that say so.

use std::str::FromStr;

use sheaf_merge::Value;
use sheaf_volume::{Applied, Error, ErrorKind, Lsn, Result, TimelineId, Verdict};

use super::chain::Own;
use super::log::{Backwards, Entry};
use super::types::Authors;
use crate::error::from_sqlite;
use crate::mutation::Mutation;
use crate::site::{Site, View};
use crate::timeline::MutationRecord;
use crate::value::from_ref;

/// A mutation, as people name one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutationName {
    /// `@17`: the one mutation of the commit at this position.
    At(Lsn),
    /// `3f2a:12`: a number on the timeline whose id begins so; `12` alone: on this device's.
    Seq {
        /// The first letters of the timeline's id; `None` for this device's.
        timeline: Option<String>,
        /// The number.
        seq: u64,
    },
}

impl FromStr for MutationName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        let name = match (text.strip_prefix('@'), text.split_once(':')) {
            (Some(lsn), _) => number(lsn).map(|lsn| Self::At(Lsn(lsn))),
            (None, Some((timeline, seq))) => {
                let is_id = timeline.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let timeline = Some(timeline.to_ascii_lowercase());
                let seq = number(seq).filter(|_| is_id && timeline.as_deref() != Some(""));
                seq.map(|seq| Self::Seq { timeline, seq })
            }
            (None, None) => number(text).map(|seq| Self::Seq { timeline: None, seq }),
        };
        name.ok_or_else(|| {
            Error::invalid("give TIMELINE:SEQ, the number of a change of this device, or @LSN")
        })
    }
}

/// Where a mutation is.
pub(super) enum Place {
    /// In the log, alone in its commit.
    Commit(Entry),
    /// In the log, in a commit of several: what those of its timeline did that this device
    /// remembers, and its number.
    Among(Entry, Own, u64),
    /// On this device, not decided.
    Pending(Mutation),
}

impl Site {
    pub(super) fn find_mutation(&self, name: &MutationName) -> Result<Place> {
        let (entry, named) = match name {
            MutationName::At(lsn) => (self.commit_at(*lsn)?, None),
            MutationName::Seq { timeline, seq } => {
                let timeline = match timeline {
                    None => self.timeline(),
                    Some(prefix) => self.timeline_of(prefix)?,
                };
                if timeline == self.timeline()
                    && let Some(waiting) = self.volume().mutation(*seq)?
                {
                    return Ok(Place::Pending(MutationRecord::from(waiting).mutation()?));
                }
                (self.commit_of(timeline, *seq)?, Some((timeline, *seq)))
            }
        };
        let lsn = entry.lsn;
        let many = match Authors::of(&entry.applied, self.timeline()).count() {
            1 => return Ok(Place::Commit(entry)),
            0 => return Err(Error::invalid(format!("the commit at @{lsn} changed nothing"))),
            many => many,
        };
        let why = match named {
            None => "say which of them by TIMELINE:SEQ, on the device that made it".to_owned(),
            Some((timeline, seq)) => {
                let own = Own::of(&self.all_deeds(), timeline, lsn);
                if own.ops(seq).is_some() {
                    return Ok(Place::Among(entry, own, seq));
                }
                let lost = self.unremembered().map(|why| format!(" (it cannot: {why})"));
                format!(
                    "the log does not tell what each of them changed, and this device does not \
                     remember it{}, so one alone cannot be undone here",
                    lost.unwrap_or_default()
                )
            }
        };
        let text = format!("the commit at @{lsn} holds {many} mutations: {why}");
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// The one timeline of this site whose id begins so.
    fn timeline_of(&self, prefix: &str) -> Result<TimelineId> {
        let mut fits: Vec<TimelineId> = self.read(View::Global, |conn| {
            let has =
                "SELECT EXISTS(SELECT 1 FROM main.sqlite_schema WHERE name = '__sheaf_timelines')";
            let has = conn.query_row(has, [], |row| row.get::<_, bool>(0)).map_err(from_sqlite)?;
            if !has {
                return Ok(Vec::new());
            }
            let sql = "SELECT timeline FROM main.__sheaf_timelines";
            let mut statement = conn.prepare(sql).map_err(from_sqlite)?;
            let mut rows = statement.query([]).map_err(from_sqlite)?;
            let mut ids = Vec::new();
            while let Some(row) = rows.next().map_err(from_sqlite)? {
                if let Value::Blob(id) = from_ref(row.get_ref(0).map_err(from_sqlite)?)? {
                    ids.extend(TimelineId::try_from(&*id));
                }
            }
            Ok(ids)
        })?;
        fits.push(self.timeline());
        fits.sort_unstable();
        fits.dedup();
        fits.retain(|id| id.to_string().starts_with(prefix));
        match fits.as_slice() {
            [one] => Ok(*one),
            [] => {
                let text = format!("no timeline of this site begins with `{prefix}`");
                Err(Error::new(ErrorKind::NotFound, text))
            }
            many => {
                let count = many.len();
                let text = format!("{count} timelines begin with `{prefix}`: give more of it");
                Err(Error::invalid(text))
            }
        }
    }

    fn commit_at(&self, lsn: Lsn) -> Result<Entry> {
        let unknown = || {
            let text = format!("there is no commit with lsn=`{lsn}` here");
            Error::new(ErrorKind::NotFound, text)
        };
        if lsn > self.base().0 {
            return Err(unknown());
        }
        let mut log = Backwards::new(self.volume());
        log.up_to(lsn)?.last().filter(|entry| entry.lsn == lsn).cloned().ok_or_else(unknown)
    }

    /// The commit that decided a mutation.
    fn commit_of(&self, timeline: TimelineId, seq: u64) -> Result<Entry> {
        let not_found = || {
            let text = format!("the log has no mutation {timeline}:{seq}");
            Err(Error::new(ErrorKind::NotFound, text))
        };
        let mut log = Backwards::new(self.volume());
        let mut at = self.base().0;
        while at > Lsn::ZERO {
            let held = log.up_to(at)?;
            for entry in held.iter().rev() {
                let own = entry.applied.iter().filter(|applied| applied.timeline == timeline);
                for applied in own {
                    match verdict(applied, seq) {
                        Some(Verdict::Rejected) => {
                            let text = format!(
                                "mutation {timeline}:{seq} was rejected: it changed nothing"
                            );
                            return Err(Error::invalid(text));
                        }
                        Some(_) => return Ok(entry.clone()),
                        // Numbers grow along the log.
                        None if applied.end_seq() <= seq => return not_found(),
                        None => {}
                    }
                }
            }
            match held {
                [first, _, ..] => at = first.lsn,
                [only] => {
                    let oldest = only.lsn;
                    let text = format!(
                        "mutation {timeline}:{seq} is not among what is still kept, which begins \
                         at @{oldest}"
                    );
                    return Err(Error::new(ErrorKind::Expired, text));
                }
                [] => break,
            }
        }
        not_found()
    }
}

fn verdict(applied: &Applied, seq: u64) -> Option<Verdict> {
    applied.verdicts().find(|(number, _)| *number == seq).map(|(_, verdict)| verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_mutations() {
        let seq = |timeline: Option<&str>, seq| {
            Some(MutationName::Seq { timeline: timeline.map(str::to_owned), seq })
        };
        let read = |text: &str| text.parse::<MutationName>().ok();
        assert_eq!(read("@17"), Some(MutationName::At(Lsn(17))));
        assert_eq!(read("12"), seq(None, 12));
        assert_eq!(read("3F2a:1"), seq(Some("3f2a"), 1));
        for text in ["", "@", "@0", "0", "x", ":1", "a:", "a:0", "a b:1", "@1:2", "-1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
