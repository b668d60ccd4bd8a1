//! One open site: its replica, its log, who watches it, and the reads that need no turn.
//!
//! Invariant: what is read here is in the log already (pulls and pages never wait for a group in
//! flight), and everything that changes the replica goes through the queue to the actor.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use sheaf_site::{Answer, Batch, OpBits, Site, SiteIds};
use sheaf_sync::{limits as talk, pull};
use sheaf_volume::{
    BucketRemote, Changes, Commit, CommitDelta, Error, ErrorKind, FetchedPage, Lsn, Remote as _,
    RemoteHead, Result, VolumeId, Want,
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{clock::Clock, limits, recent::Recent, sites::locked};

/// What became of a pushed batch.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    /// Which operations stand, of its mutations that were merged, by number.
    pub(crate) stands: BTreeMap<u64, OpBits>,
}

/// What the actor of a site is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Replay a batch and append the result.
    Push {
        /// The mutations.
        batch: Batch,
        /// Told what became of them, after the append is durable.
        reply: oneshot::Sender<Result<Answered>>,
    },
    /// Look at the log now: somebody came who waits for news.
    Look,
    /// Finish what came before and end.
    Stop,
}

/// The log of a watched volume is longer.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    /// Which volume.
    pub(crate) volume: VolumeId,
    /// Its newest position.
    pub(crate) lsn: Lsn,
    /// When that commit was made.
    pub(crate) time_ms: u64,
    /// The newest commits when they are small, the last at `lsn`.
    pub(crate) commits: Arc<[Bytes]>,
    /// The same as commit deltas, if all of them have that form.
    pub(crate) deltas: Arc<[Bytes]>,
}

/// What answers a pull.
#[derive(Debug)]
pub(crate) enum Pulled {
    /// Encoded commits, in order, and whether there are more behind them.
    Commits {
        /// From the position asked for.
        commits: Vec<Bytes>,
        /// The newest state.
        head: RemoteHead,
        /// Whether these do not reach it.
        more: bool,
    },
    /// What all of them changed.
    Merged(Box<Changes>),
}

impl Pulled {
    fn commits(after: Lsn, commits: Vec<Bytes>, head: RemoteHead, all: bool) -> Self {
        let last = Lsn(after.0.saturating_add(commits.len() as u64));
        Self::Commits { more: all && last < head.lsn, commits, head }
    }

    /// How many commits the asker gets.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Commits { commits, .. } => commits.len() as u64,
            Self::Merged(changes) => changes.told.len() as u64,
        }
    }
}

/// One connection's end of the notifications.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    /// Bounded by [`limits::NOTICES_MAX`].
    pub(crate) notices: mpsc::Sender<Notice>,
    /// Ends a connection that does not read.
    pub(crate) cut: Arc<Notify>,
}

/// A site that is open here.
#[derive(Debug)]
pub(crate) struct OpenSite {
    /// Its ids.
    pub(crate) ids: SiteIds,
    pub(crate) site: Site,
    pub(crate) log: Arc<BucketRemote>,
    queue: mpsc::Sender<Job>,
    recent: Mutex<Recent>,
    watchers: Mutex<BTreeMap<u64, Watcher>>,
    dead: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl OpenSite {
    /// Puts the parts together; the caller starts the actor.
    pub(crate) fn new(
        ids: SiteIds,
        site: Site,
        log: Arc<BucketRemote>,
        head: RemoteHead,
        queue: mpsc::Sender<Job>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            ids,
            site,
            log,
            queue,
            recent: Mutex::new(Recent::new(head, clock.now())),
            watchers: Mutex::default(),
            dead: AtomicBool::new(false),
            clock,
        }
    }

    /// Gives the actor a job, waiting for room.
    ///
    /// # Errors
    /// `Unavailable` when the site is being closed.
    pub(crate) async fn hand(&self, job: Job) -> Result<()> {
        self.queue.send(job).await.map_err(|_| closing())
    }

    /// As [`Self::hand`], without waiting: `Some` gives the job back when there is no room.
    ///
    /// # Errors
    /// `Unavailable` when the site is being closed.
    pub(crate) fn try_hand(&self, job: Job) -> Result<Option<Job>> {
        match self.queue.try_send(job) {
            Ok(()) => Ok(None),
            Err(mpsc::error::TrySendError::Full(job)) => Ok(Some(job)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closing()),
        }
    }

    /// Asks the actor to end after what it was given before; blocks while its queue is full.
    pub(crate) fn ask_to_stop(&self) {
        // A closed queue means that it has ended already.
        if let Ok(Some(job)) = self.try_hand(Job::Stop) {
            let _ = self.queue.blocking_send(job).is_ok();
        }
    }

    /// The site can take no more batches: it is to be opened anew.
    pub(crate) fn bury(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Ends the connections that wait for notifications: none will come from here any more.
    pub(crate) fn cut_watchers(&self) {
        for watcher in std::mem::take(&mut *locked(&self.watchers)).into_values() {
            watcher.cut.notify_one();
        }
    }

    /// Whether the site must be opened anew.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire) || self.queue.is_closed()
    }

    /// Sends notifications to a connection from now on, in place of any earlier ones.
    pub(crate) fn watch(&self, connection: u64, watcher: Watcher) {
        locked(&self.watchers).insert(connection, watcher);
        // A full queue wakes the actor anyway.
        let _ = self.queue.try_send(Job::Look).is_ok();
    }

    /// Sends no more.
    pub(crate) fn unwatch(&self, connection: u64) {
        locked(&self.watchers).remove(&connection);
    }

    /// Whether anybody waits for notifications.
    pub(crate) fn is_watched(&self) -> bool {
        !locked(&self.watchers).is_empty()
    }

    /// Tells every watcher; one that has no room is cut off, because waiting for it would make
    /// everybody wait. Returns how many were.
    pub(crate) fn tell(&self, notice: &Notice) -> usize {
        let mut cut = 0;
        locked(&self.watchers).retain(|_, watcher| {
            let told = watcher.notices.try_send(notice.clone());
            if matches!(told, Err(mpsc::error::TrySendError::Full(_))) {
                watcher.cut.notify_one();
                cut += 1;
            }
            told.is_ok()
        });
        cut
    }

    /// The newest state known, without asking the log.
    pub(crate) fn known_head(&self) -> RemoteHead {
        locked(&self.recent).head()
    }

    /// Takes a commit that was just appended or pulled. A gap is filled from the log.
    ///
    /// # Errors
    /// Of the log.
    pub(crate) fn record(&self, commit: &Commit, delta: Option<&CommitDelta>) -> Result<()> {
        if commit.lsn <= self.known_head().lsn || locked(&self.recent).record(commit, delta) {
            return Ok(());
        }
        self.refresh_now().map(drop)
    }

    /// Asks the log for what is new; blocks.
    ///
    /// # Errors
    /// Of the log.
    pub(crate) fn refresh_now(&self) -> Result<RemoteHead> {
        loop {
            let after = self.known_head().lsn;
            // The lock is not held meanwhile: a slow store must not stop those who know enough.
            let commits = match self.log.pull(after) {
                Ok(commits) => commits,
                Err(error) if error.kind() == ErrorKind::Expired => {
                    // Nothing is left that would follow: begin anew at the head.
                    let head = self.log.head()?;
                    if head.lsn <= after {
                        return Err(error);
                    }
                    locked(&self.recent).restart(head);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut recent = locked(&self.recent);
            for commit in &commits {
                // Somebody else may have recorded it meanwhile.
                let _ = recent.record(commit, None);
            }
            if commits.is_empty() {
                recent.mark_checked(self.clock.now());
                return Ok(recent.head());
            }
        }
    }

    /// As [`Self::refresh_now`], unless the log was asked a moment ago.
    ///
    /// # Errors
    /// Of the log.
    pub(crate) fn refresh(&self) -> Result<RemoteHead> {
        {
            let recent = locked(&self.recent);
            if recent.is_fresh(self.clock.now(), limits::POLL_FIRST) {
                return Ok(recent.head());
            }
        }
        let before = self.known_head().lsn;
        let head = self.refresh_now()?;
        if head.lsn > before {
            // Watchers hear of it from the actor.
            let _ = self.queue.try_send(Job::Look).is_ok();
        }
        Ok(head)
    }

    /// The notification of everything after `after`; the commits themselves when they are small.
    pub(crate) fn notice_after(&self, after: Lsn) -> Notice {
        let recent = locked(&self.recent);
        let head = recent.head();
        let small = |commits: &Vec<Bytes>| {
            commits.iter().map(Bytes::len).sum::<usize>() <= limits::INLINE_COMMIT_MAX
        };
        let commits = recent.after(after).filter(small);
        let deltas = recent.deltas_after(after).filter(small);
        Notice {
            volume: self.ids.volume,
            lsn: head.lsn,
            time_ms: head.time_ms,
            commits: commits.unwrap_or_default().into(),
            deltas: deltas.unwrap_or_default().into(),
        }
    }

    /// What answers a pull; blocks.
    ///
    /// # Errors
    /// Of the log.
    pub(crate) fn pull(&self, pull: &pull::Request) -> Result<Pulled> {
        let after = pull.after;
        let head = self.refresh()?;
        if pull.head_only || after >= head.lsn {
            return Ok(Pulled::commits(after, Vec::new(), head, !pull.head_only));
        }
        if head.lsn.0 - after.0 > limits::MERGE_FROM
            && let Some(merged) = self.merged(pull)?
        {
            return Ok(merged);
        }
        let recent = {
            let recent = locked(&self.recent);
            recent.after(after).map(|commits| (commits, recent.head()))
        };
        let (commits, head) = match recent {
            Some(recent) => recent,
            None => match self.log.pull(after) {
                Ok(commits) => (commits.iter().map(Commit::encode).collect(), head),
                Err(error) if error.kind() == ErrorKind::Expired => {
                    return self.merged(pull)?.ok_or(error);
                }
                Err(error) => return Err(error),
            },
        };
        if commits.iter().map(Bytes::len).sum::<usize>() > talk::COMMITS_BYTES_MAX
            && let Some(merged) = self.merged(pull)?
        {
            return Ok(merged);
        }
        Ok(Pulled::commits(after, commits, head, true))
    }

    /// What changed since, for one who takes that.
    fn merged(&self, pull: &pull::Request) -> Result<Option<Pulled>> {
        let Some(timeline) = pull.merge_for else { return Ok(None) };
        let changes = self.log.changes(pull.after, timeline)?;
        Ok(changes.map(|changes| Pulled::Merged(Box::new(changes))))
    }

    /// Pages as they were at a position; blocks.
    ///
    /// # Errors
    /// Of the replica and the log; `NotFound` for a position that the log has not reached.
    pub(crate) fn pages(&self, want: &Want) -> Result<Vec<FetchedPage>> {
        if want.lsn > self.known_head().lsn && want.lsn > self.refresh_now()?.lsn {
            let text = format!("this site has no position `{}` yet", want.lsn);
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        if want.lsn <= self.site.base().0 {
            match self.site.volume().pages_at(want.lsn, &want.pages) {
                Ok(pages) => {
                    let page = |(idx, page)| FetchedPage { idx, lsn: want.lsn, page };
                    return Ok(pages.into_iter().map(page).collect());
                }
                // The replica keeps less history than the log.
                Err(e) if matches!(e.kind(), ErrorKind::Expired | ErrorKind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        let fetched = self.log.fetch(std::slice::from_ref(want))?;
        // A bucket reader may give more than was asked for; the asker would refuse it.
        let asked = |page: &FetchedPage| page.lsn == want.lsn && want.pages.contains(page.idx);
        Ok(fetched.into_iter().filter(asked).collect())
    }
}

/// The answer while a site closes: it can be opened again at once.
pub(crate) fn closing() -> Error {
    Error::new(ErrorKind::Unavailable, "the site is being closed here: try again")
}
