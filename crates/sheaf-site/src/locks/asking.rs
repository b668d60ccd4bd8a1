//! A mutation that waits because its lock has failed and its author is to look again.
//!
//! Invariant: while one asks, it and all that is later on its timeline stay here. Which one asks is
//! found by every redo, from what it meets, so it is the same that an authority on the same base
//! would stop at; it asks no more once its author has said what shall become of it. Others on the
//! same log do not wait.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use sheaf_volume::teeth::{Tooth, bites};
use sheaf_volume::{Error, ErrorKind, Result, TimelineId};

use super::{Counter, OnFailure, table};
use crate::error::from_sqlite;
use crate::mutation::{Body, Mutation};
use crate::rebase::{OwnNews, Pass};
use crate::site::Site;
use crate::status::rejected_attr;
use crate::timeline::MutationRecord;

const ATTR_ASKING: &str = "timeline/asking";

/// An own mutation that asks its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// Its number.
    pub seq: u64,
    /// Which lock failed, and how far it has moved.
    pub reason: String,
}

impl Asking {
    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(8 + self.reason.len());
        bytes.put_u64_le(self.seq);
        bytes.put_slice(self.reason.as_bytes());
        bytes.freeze()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (seq, reason) = bytes.split_first_chunk::<8>()?;
        let reason = String::from_utf8_lossy(reason).into_owned();
        Some(Self { seq: u64::from_le_bytes(*seq), reason })
    }
}

/// What an author says about a mutation that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// It has looked: the mutation stands on what is there now.
    GoOn(u64),
    /// It does not want it any more.
    Withdraw(u64),
}

impl Resolution {
    pub(crate) fn seq(self) -> u64 {
        let (Self::GoOn(seq) | Self::Withdraw(seq)) = self;
        seq
    }
}

impl Site {
    /// The own mutation that waits for its author, because a lock with the mode `ask` has failed:
    /// the local view is without it, and nothing from it on is sent.
    #[must_use]
    pub fn asking(&self) -> Option<Asking> {
        self.volume().attr(ATTR_ASKING).and_then(|bytes| Asking::decode(&bytes))
    }

    /// Says that the author of the mutation that asks has seen what is there now and wants it all
    /// the same, and those after it that take the same locks. They are redone and merged, and ask
    /// again if a lock moves before they arrive.
    ///
    /// # Errors
    /// `Conflict` if that mutation does not ask (any more); as [`Site::integrate`].
    pub fn go_on(&self, seq: u64) -> Result<()> {
        self.resolve(Resolution::GoOn(seq))
    }

    /// Gives up the mutation that asks. It is kept among the rejected ones, for its author to make
    /// it again or dismiss it; those after it go on.
    ///
    /// # Errors
    /// As [`Site::go_on`].
    pub fn withdraw(&self, seq: u64) -> Result<()> {
        self.resolve(Resolution::Withdraw(seq))
    }

    fn resolve(&self, resolution: Resolution) -> Result<()> {
        let seq = resolution.seq();
        // Nothing is redone, and no other mutation asks, while this is held.
        let writer = self.volume().writer();
        let Some(asking) = self.asking().filter(|asking| asking.seq == seq) else {
            let text = format!("change {seq} does not wait for an answer");
            return Err(Error::new(ErrorKind::Conflict, text));
        };
        let mut extra = Vec::new();
        if let (Resolution::Withdraw(_), Some(pending)) = (resolution, self.volume().mutation(seq)?)
            && !bites(Tooth::ForgetWithdrawn)
        {
            let reason = format!("withdrawn by its author: {}", asking.reason);
            extra.push(rejected_attr(self.timeline(), &pending.into(), &reason));
        }
        let draft = self.volume().rebase(writer, &[])?;
        let resolution = Some(resolution);
        let news = OwnNews { decided: self.decided(), resolution, ..OwnNews::default() };
        self.publish_rebase(draft, &news, extra)?;
        // There is something to send.
        self.notify();
        Ok(())
    }

    /// The attribute that says who asks, if it changes.
    pub(crate) fn asking_attr(&self, asking: Option<&Asking>) -> Option<(String, Option<Bytes>)> {
        let changes = self.asking().as_ref() != asking;
        changes.then(|| (ATTR_ASKING.to_owned(), asking.map(Asking::encode)))
    }
}

impl Pass<'_> {
    /// The mutation as its author wants it, if that changes it. What was withdrawn keeps its number
    /// and does nothing, because numbers have no gaps. Who has looked at the locks of the one that
    /// asked has looked at them for those that were made on top of it, too.
    pub(crate) fn resolve(
        &self,
        timeline: TimelineId,
        record: &MutationRecord,
        resolution: Resolution,
        looked_at: &mut BTreeSet<String>,
    ) -> Result<Option<MutationRecord>> {
        let asked = match resolution {
            Resolution::Withdraw(seq) if seq == record.seq => {
                let nothing = Mutation::new(Body::Rows(Vec::new()), false);
                return Ok(Some(record.recaptured(record.base, &nothing)));
            }
            Resolution::GoOn(seq) if seq <= record.seq => seq,
            Resolution::Withdraw(_) | Resolution::GoOn(_) => return Ok(None),
        };
        // What cannot be read is decided as such.
        let Ok(mut mutation) = record.mutation() else { return Ok(None) };
        if record.seq == asked {
            looked_at.extend(mutation.locks.iter().map(|lock| lock.name.clone()));
        }
        for mut lock in std::mem::take(&mut mutation.locks) {
            let looked = looked_at.contains(&lock.name) && !bites(Tooth::AskForEver);
            if lock.on_failure == OnFailure::Ask && looked {
                let counter = table::counter(self.conn, &lock.name, timeline);
                let Counter { moves, own } = counter.map_err(from_sqlite)?;
                (lock.seen, lock.own) = (moves, own);
            }
            mutation.locks.insert(lock);
        }
        Ok(Some(record.recaptured(record.base, &mutation)))
    }
}
