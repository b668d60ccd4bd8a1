//! The one who changes a site: it gathers batches into groups and leads each group to a durable
//! append.
//!
//! Invariant: a batch is answered only after its group is in the log (or has failed), in queue
//! order; notifications follow the answers. The actor never waits for a device: answers go to
//! waiting tasks, notifications to bounded queues. It decides, step by step; waiting between the
//! steps is its crew's. Leaves out replaying the next group while one is in flight.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sheaf_site::{Answer, Batch, Led, OpBits};
use sheaf_volume::{Commit, Deltas, Error, ErrorKind, Lsn, Result, TimelineId, Verdict, VolumeId};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    clock::Clock,
    error, limits,
    metrics::Metrics,
    open::{Answered, Job, OpenSite},
    sites::locked,
};

/// Where the registry keeps an open site; the actor takes itself out of it.
pub(crate) type Slot = Arc<Mutex<Option<Arc<OpenSite>>>>;

/// What it knows between two steps.
#[derive(Debug)]
pub(crate) struct Actor {
    open: Arc<OpenSite>,
    slot: Slot,
    jobs: mpsc::Receiver<Job>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// What the watchers have been told.
    announced: Lsn,
    /// Between two looks at a watched log that brought nothing.
    pause: Duration,
    last_use: Duration,
    wake_at: Duration,
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.metrics.sites_active.fall();
    }
}

type Waiting = oneshot::Sender<Result<Answered>>;

/// Batches that share one append.
#[derive(Debug, Default)]
struct Group {
    batches: Vec<Batch>,
    waiting: Vec<Waiting>,
    bytes: usize,
    stop: bool,
}

impl Group {
    fn take(&mut self, job: Job) {
        match job {
            Job::Push { batch, reply } => {
                self.bytes += batch.mutations.iter().map(|m| m.bytes.len()).sum::<usize>();
                self.batches.push(batch);
                self.waiting.push(reply);
            }
            Job::Look => {}
            Job::Stop => self.stop = true,
        }
    }

    fn is_full(&self) -> bool {
        self.stop
            || self.batches.len() >= limits::GROUP_BATCHES_MAX
            || self.bytes >= limits::GROUP_BYTES_MAX
    }
}

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Woken {
    /// Somebody asked for something.
    Job(Job),
    /// It is [`Actor::wake_at`].
    Time,
    /// Nobody can ask any more.
    Closed,
}

impl Actor {
    /// An actor of a site that was just opened.
    pub(crate) fn new(
        open: Arc<OpenSite>,
        slot: Slot,
        jobs: mpsc::Receiver<Job>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        // It counts itself out when it is dropped, also when nobody can run it.
        metrics.sites_active.rise();
        let announced = open.known_head().lsn;
        let now = clock.now();
        let (pause, wake_at) = (limits::POLL_FIRST, now.saturating_add(limits::SITE_IDLE));
        Self { open, slot, jobs, metrics, clock, announced, pause, last_use: now, wake_at }
    }

    /// Which volume it is about.
    pub(crate) fn volume(&self) -> VolumeId {
        self.open.ids.volume
    }

    /// When it has something to do although nobody asks.
    pub(crate) const fn wake_at(&self) -> Duration {
        self.wake_at
    }

    /// Waits for something to do, with the timers of a runtime.
    pub(crate) async fn woken(&mut self) -> Woken {
        let wait = self.wake_at.saturating_sub(self.clock.now());
        match timeout(wait, self.jobs.recv()).await {
            Ok(Some(job)) => Woken::Job(job),
            Ok(None) => Woken::Closed,
            Err(_) => Woken::Time,
        }
    }

    /// What there is to do now, if anything.
    pub(crate) fn poll(&mut self) -> Option<Woken> {
        match self.jobs.try_recv() {
            Ok(job) => Some(Woken::Job(job)),
            Err(mpsc::error::TryRecvError::Disconnected) => Some(Woken::Closed),
            Err(mpsc::error::TryRecvError::Empty) => {
                (self.clock.now() >= self.wake_at).then_some(Woken::Time)
            }
        }
    }

    /// Does it: a group, a look at the log, or closing. `None` when the actor has ended: it was
    /// told to, nobody needs the site, or its replica failed.
    pub(crate) fn step(mut self, woken: Woken) -> Option<Self> {
        match woken {
            Woken::Closed => return self.leave(),
            Woken::Job(job) => {
                self.last_use = self.clock.now();
                self.pause = limits::POLL_FIRST;
                let group = self.gather(job);
                let stop = group.stop;
                if group.batches.is_empty() {
                    self.look();
                } else {
                    self.lead(group);
                }
                if stop || self.open.is_dead() {
                    return self.leave();
                }
            }
            Woken::Time if self.open.is_watched() => {
                let longer = (self.pause * 3 / 2).min(limits::POLL_MAX);
                self.pause = if self.look() { limits::POLL_FIRST } else { longer };
            }
            Woken::Time if self.idle() >= limits::SITE_IDLE => self = self.close_if_unused()?,
            Woken::Time => {}
        }
        let wait = if self.open.is_watched() { self.pause } else { limits::SITE_IDLE };
        self.wake_at = self.clock.now().saturating_add(wait);
        Some(self)
    }

    fn idle(&self) -> Duration {
        self.clock.now().saturating_sub(self.last_use)
    }

    fn gather(&mut self, first: Job) -> Group {
        let mut group = Group::default();
        group.take(first);
        while !group.is_full() {
            match self.jobs.try_recv() {
                Ok(job) => group.take(job),
                Err(_) => break,
            }
        }
        group
    }

    fn lead(&mut self, group: Group) {
        let count = group.batches.len();
        let span = tracing::info_span!("commit", volume = %self.open.ids.volume, batches = count);
        let _entered = span.enter();
        self.metrics.group_batches.add(count as u64);
        let began = self.clock.now();
        let deltas = self.deltas();
        let led =
            self.open.site.lead(&group.batches, self.open.log.as_ref(), limits::LEAD_ATTEMPTS);
        self.metrics.commit_duration.observe(self.clock.now().saturating_sub(began));
        match led {
            Ok(led) => self.succeeded(led, deltas, group),
            Err(error) => self.failed(&error, group.waiting),
        }
    }

    /// What makes deltas of the commits after the base, for those who watch.
    fn deltas(&self) -> Option<Deltas> {
        self.open.is_watched().then(|| self.open.site.volume().deltas())
    }

    fn succeeded(&mut self, mut led: Led, deltas: Option<Deltas>, group: Group) {
        self.metrics.commits.one(if led.commit.is_some() { "committed" } else { "empty" });
        // ORDER: what was appended is recorded before anybody can ask for it, so that a device
        // that has its verdict finds the commit in its next pull.
        let news = led.found.iter().chain(led.commit.as_deref());
        if let Err(error) = record_all(&self.open, news, deltas) {
            error::note(&self.metrics, "read back the log", &error);
        }
        let base = self.open.site.base().0;
        let answers = group.batches.iter().zip(led.answers);
        for (reply, (batch, mut answer)) in group.waiting.into_iter().zip(answers) {
            if let Answer::Verdicts { lsn, .. } = &mut answer {
                // A group of duplicates appends nothing: their effects are at the base already,
                // and a device must not wait for a position that nobody will fill.
                *lsn = (*lsn).min(base);
            }
            count_answer(&self.metrics, &answer);
            // Nobody waits any more when the device has gone; it will ask again.
            let stands = stands_of(&mut led.stands, batch.timeline, &answer);
            let _ = reply.send(Ok(Answered { answer, stands })).is_ok();
        }
        self.announce();
    }

    fn failed(&self, error: &Error, waiting: Vec<Waiting>) {
        self.metrics.commits.one(match error.kind() {
            ErrorKind::Conflict => "conflict",
            ErrorKind::Ambiguous => "ambiguous",
            _ => "failed",
        });
        error::note(&self.metrics, "lead a group", error);
        if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Io | ErrorKind::Corrupt) {
            // The replica is not to be trusted with another write before it was opened anew. That
            // may take long: whoever waits for its news has to come again to hear of them.
            self.open.bury();
            self.open.cut_watchers();
        }
        let told = match error.kind() {
            // The device's base is not at fault: the log was busy. The same push may come again.
            ErrorKind::Conflict => {
                Error::new(ErrorKind::Unavailable, "the log of this site is busy: try again")
            }
            _ => error::for_caller(error),
        };
        for reply in waiting {
            self.metrics.pushes.one("failed");
            let _ = reply.send(Err(told.clone())).is_ok();
        }
    }

    /// Takes over what others appended to the log; true if there was anything.
    fn look(&mut self) -> bool {
        match self.catch_up() {
            Ok(found) => {
                self.announce();
                found
            }
            Err(error) => {
                error::note(&self.metrics, "look at the log", &error);
                false
            }
        }
    }

    fn catch_up(&self) -> Result<bool> {
        let open = &self.open;
        let followed =
            open.site.follow(open.log.as_ref(), &mut |new| record_all(open, new, self.deltas()))?;
        if open.known_head().lsn < open.site.base().0 {
            // Some were jumped over, and nobody was told of them.
            open.refresh_now()?;
        }
        Ok(followed.commits > 0)
    }

    fn announce(&mut self) {
        let head = self.open.known_head();
        if head.lsn <= self.announced {
            return;
        }
        let notice = self.open.notice_after(self.announced);
        self.announced = notice.lsn;
        let cut = self.open.tell(&notice);
        self.metrics.limits_hit.add("out_queue", cut as u64);
    }

    /// Closes the site unless somebody holds it; gives the actor back if so.
    fn close_if_unused(self) -> Option<Self> {
        let slot = Arc::clone(&self.slot);
        let mut guard = locked(&slot);
        // The registry gives the site out under this lock only, so a count of two (the registry
        // and this thread) cannot grow while it is held.
        let unused = Arc::strong_count(&self.open) <= 2 && self.jobs.is_empty();
        if !unused || self.open.is_watched() {
            drop(guard);
            return Some(self);
        }
        tracing::debug!(volume = %self.open.ids.volume, "idle site closed");
        *guard = None;
        // ORDER: the replica must be closed, and its directory free, before the lock is: the next
        // opener would find it in use.
        drop(self);
        drop(guard);
        None
    }

    fn leave(self) -> Option<Self> {
        self.open.bury();
        let slot = Arc::clone(&self.slot);
        let mut guard = locked(&slot);
        if guard.as_ref().is_some_and(|open| Arc::ptr_eq(open, &self.open)) {
            *guard = None;
        }
        drop(self);
        drop(guard);
        None
    }
}

fn record_all<'a>(
    open: &OpenSite,
    commits: impl IntoIterator<Item = &'a Commit>,
    mut deltas: Option<Deltas>,
) -> Result<()> {
    commits.into_iter().try_for_each(|commit| {
        // A delta saves bytes and nothing rests on it: without one the commit goes out whole.
        let delta = deltas.as_mut().and_then(|deltas| deltas.next(commit).ok().flatten());
        open.record(commit, delta.as_ref())
    })
}

/// What is known of the operations of the mutations that this answer calls merged.
fn stands_of(
    led: &mut BTreeMap<(TimelineId, u64), OpBits>,
    timeline: TimelineId,
    answer: &Answer,
) -> BTreeMap<u64, OpBits> {
    let Answer::Verdicts { first_seq, verdicts, .. } = answer else { return BTreeMap::new() };
    let merged = verdicts.iter().zip(*first_seq..).filter(|((v, _), _)| *v == Verdict::Merged);
    merged.filter_map(|(_, seq)| Some((seq, led.remove(&(timeline, seq))?))).collect()
}

fn count_answer(metrics: &Metrics, answer: &Answer) {
    match answer {
        Answer::Verdicts { verdicts, .. } => {
            metrics.pushes.one("verdicts");
            for (verdict, _) in verdicts {
                metrics.mutations.one(match verdict {
                    Verdict::Ok => "applied",
                    Verdict::Merged => "merged",
                    Verdict::Rejected => "rejected",
                });
            }
        }
        Answer::Gap { .. } => metrics.pushes.one("gap"),
        Answer::Fork { .. } => metrics.pushes.one("fork"),
        Answer::Malformed(_) => metrics.pushes.one("malformed"),
    }
}

#[cfg(test)]
mod tests;
