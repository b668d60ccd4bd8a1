//! Following a log: commit by commit when it is a little ahead, by one jump when it is far ahead
//! or its oldest part is gone.
//!
//! Invariants: a jump is one rebase, so readers see the state before or the state after, and the
//! timeline is redone once. What the log has decided of this device's own mutations is read from
//! the commits that tell it, as far as they are there, and else from the new base itself: nothing
//! pending is lost or applied twice. A mutation whose verdict nobody can tell any more is kept
//! for its author to look at.

use sheaf_volume::{Changes, Commit, Error, ErrorKind, Remote, Result, limits};

use crate::rebase::Integrated;
use crate::site::Site;

/// What following a log did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// How far the log was ahead.
    pub commits: u64,
    /// What was taken, all in all.
    pub outcome: Integrated,
}

impl Site {
    /// Takes everything that the log has beyond the base. `seen` gets the commits that are taken
    /// one by one, in order, before they are; those that a jump passes over it does not get.
    ///
    /// # Errors
    /// As [`Remote::pull`] and [`Site::integrate`], and those of `seen`; what was taken before
    /// stays.
    pub fn follow(
        &self,
        log: &dyn Remote,
        seen: &mut dyn FnMut(&[Commit]) -> Result<()>,
    ) -> Result<Followed> {
        let mut done = Followed::default();
        loop {
            let base = self.base().0;
            let outcome = match log.pull(base) {
                Ok(commits) if commits.is_empty() => break,
                Ok(commits) if commits.len() < limits::PULL_COMMITS_MAX => {
                    seen(&commits)?;
                    self.integrate(commits)?
                }
                Ok(commits) => self.jump_over(log, commits)?,
                Err(error) if error.kind() == ErrorKind::Expired => {
                    match log.changes(base, self.timeline())? {
                        Some(changes) => self.jump(&changes)?,
                        None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            };
            if outcome.base <= base {
                let text = "a replica did not follow its log";
                return Err(Error::new(ErrorKind::Internal, text));
            }
            done.commits += outcome.base.0 - base.0;
            done.outcome.add(outcome);
        }
        done.outcome.base = self.base().0;
        Ok(done)
    }

    /// Reads on, merging, and takes all of it as one step. What was read before a failure is
    /// taken too: the next attempt goes on from there.
    fn jump_over(&self, log: &dyn Remote, mut commits: Vec<Commit>) -> Result<Integrated> {
        let timeline = self.timeline();
        let mut changes: Option<Changes> = None;
        let failed = loop {
            Changes::extend(&mut changes, commits, timeline)?;
            let Some(at) = changes.as_ref().map(|changes| changes.head.lsn) else { break None };
            commits = match log.pull(at) {
                Ok(more) if more.is_empty() => break None,
                Ok(more) => more,
                Err(error) => break Some(error),
            };
        };
        let Some(changes) = changes else { return Ok(Integrated::default()) };
        let outcome = self.jump(&changes)?;
        failed.map_or(Ok(outcome), Err)
    }

    /// Goes to the state that merged changes lead to, as one step.
    ///
    /// # Errors
    /// As [`Site::integrate`].
    pub fn jump(&self, changes: &Changes) -> Result<Integrated> {
        let writer = self.0.volume.writer();
        let base = self.base().0;
        if changes.head.lsn <= base {
            return Ok(Integrated { base, ..Integrated::default() });
        }
        let mut news = self.own_news(changes.told.iter().map(|told| (told.lsn, &*told.applied)));
        news.partial = true;
        let draft = self.0.volume.jump(writer, changes)?;
        self.publish_rebase(draft, &news, Vec::new())
    }
}
