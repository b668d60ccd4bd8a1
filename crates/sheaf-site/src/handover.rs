//! Handing pending mutations over to a branch of the site, instead of redoing or dropping them.
//!
//! Invariants: the branch takes them under this replica's own timeline and numbers, so that its
//! log applies each once, however often a hand-over is begun again, and what the log has noted of
//! that timeline (row ids that it moved) holds there too. Here they stay until the branch's log
//! has decided every one of them. Leaves out making the branch and talking to its server: the
//! caller's, who pushes the branch between two steps.

use bytes::Bytes;
use sheaf_volume::{Error, ErrorKind, PendingMutation, Result};

use crate::limits;
use crate::rebase::OwnNews;
use crate::site::{ATTR_DECIDED, ATTR_TIMELINE, Site};
use crate::timeline::{Batch, Decided, RunningHash};

impl Site {
    /// Hands the next pending mutations to a branch, which takes them as pending work of its own;
    /// `false` when it had all of them already. Between two steps the branch is to be pushed.
    ///
    /// # Errors
    /// `Conflict` when the branch has mutations of its own, or one asks its author here; `Busy` when it has something pending;
    /// `Unavailable` when a page of the branch that they need cannot be fetched; `Io`. This
    /// replica stays as it is.
    pub fn hand_over(&self, branch: &Self) -> Result<bool> {
        if let Some(asking) = self.asking() {
            let text = format!("change {} waits for an answer: {}", asking.seq, asking.reason);
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        let known = self.handed_over(branch)?;
        if !branch.volume().is_timeline_empty() {
            let text = "the branch has changes that are not pushed; push it first";
            return Err(Error::new(ErrorKind::Busy, text));
        }
        let Some(batch) = self.outbox(known.seq, limits::LEAD_BYTES_MAX)? else { return Ok(false) };
        branch.take_over(batch, known)?;
        branch.volume().flush()?;
        Ok(true)
    }

    /// Gives up every pending mutation once the log of the branch has decided all of them, with
    /// these attributes in the same record; `None`, and nothing is done, if there are more by now.
    ///
    /// # Errors
    /// As [`Site::hand_over`].
    pub fn give_up_handed_over(
        &self,
        branch: &Self,
        mut attrs: Vec<(String, Option<Bytes>)>,
    ) -> Result<Option<usize>> {
        let writer = self.volume().writer();
        let known = self.handed_over(branch)?;
        let held = self.volume().held();
        let pending = branch.volume().last_pending_seq().is_some();
        if pending || held.last().is_some_and(|held| held.seq > known.seq) {
            return Ok(None);
        }
        let draft = self.volume().rebase(writer, &[])?;
        attrs.extend(self.conflicts_gone(&held));
        self.publish_renumbered(draft, Vec::new(), attrs)?;
        Ok(Some(held.len()))
    }

    /// How far the branch has this replica's timeline, pending there or decided.
    fn handed_over(&self, branch: &Self) -> Result<Decided> {
        let mut here = self.decided();
        if branch.last_seq() == 0 {
            return Ok(here);
        }
        let known = branch.known();
        let ours = branch.timeline() == self.timeline();
        let held = self.volume().held();
        for held in held.iter().take_while(|held| held.seq <= known.seq) {
            here = Decided { seq: held.seq, hash: here.hash.after_held(held) };
        }
        if ours && here == known {
            return Ok(known);
        }
        let text = "the branch has changes that are not of this replica; choose another name";
        Err(Error::new(ErrorKind::Conflict, text))
    }

    /// How far this replica's timeline goes, with what is pending.
    fn known(&self) -> Decided {
        let held = self.volume().held();
        held.iter().fold(self.decided(), |before, held| Decided {
            seq: held.seq,
            hash: before.hash.after_held(held),
        })
    }

    /// Goes on with the timeline that a batch belongs to, and takes the batch as pending.
    fn take_over(&self, batch: Batch, before: Decided) -> Result<()> {
        let writer = self.volume().writer();
        let decided = Decided { seq: batch.first_seq - 1, hash: RunningHash(batch.prev_hash) };
        if before != decided || !self.volume().is_timeline_empty() {
            let text = "the branch was written meanwhile; try again";
            return Err(Error::new(ErrorKind::Busy, text));
        }
        if self.timeline() != batch.timeline {
            // On its own first, because replaying asks whose mutations they are. A branch that is
            // left so has nothing pending, and goes on where the site stood.
            self.volume().set_attrs(vec![
                (ATTR_TIMELINE.to_owned(), Some(batch.timeline.as_bytes().to_vec().into())),
                (ATTR_DECIDED.to_owned(), Some(decided.encode())),
            ])?;
        }
        let draft = self.volume().rebase(writer, &[])?;
        let pending = batch.mutations.into_iter().map(|r| PendingMutation::from(r).into());
        let news = OwnNews { decided, ..OwnNews::default() };
        self.publish_pending(draft, pending.collect(), &news, Vec::new()).map(drop)
    }
}
