//! Keeping the logs of open sites short: a thread that makes checkpoints and reclaims.
//!
//! Invariant: never in the way of a push or a read. One site at a time, on a thread of its own, at
//! a moment when the site's log is not growing, or after it has waited for such a moment for long.
//! A pass that is cut short by a stop leaves nothing that the next one does not find. Where changes
//! are to be recorded, nothing is reclaimed before they are. Leaves out sites that nobody opens
//! here: they do not grow here either.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use sheaf_site::history::{HistoryRetention, RecordPlace, Recorder};
use sheaf_volume::{
    BucketRemote, Env, Error, ErrorKind, GcReport, GcStep, Lsn, Result, Retention, VolumeId,
};

use crate::{
    error, limits,
    metrics::Metrics,
    sites::{Dirs, Sites},
};

/// Decides whose turn it is, and does it.
#[derive(Debug)]
pub(crate) struct Reclaimer {
    sites: Arc<Sites>,
    env: Arc<dyn Env>,
    metrics: Arc<Metrics>,
    retention: Retention,
    /// For how long changes are recorded, and where replicas of the records lie.
    history: Option<(HistoryRetention, Dirs)>,
    /// Set when the node stops.
    stop: Arc<AtomicBool>,
    seen: BTreeMap<VolumeId, Seen>,
}

/// Ends the reclaimer when it is dropped.
#[derive(Debug)]
pub(crate) struct Reclaiming {
    stop: Arc<AtomicBool>,
    /// Nothing is sent: that it is gone says it.
    _stopped: mpsc::Sender<()>,
}

impl Drop for Reclaiming {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// What is remembered of a site that is open.
#[derive(Clone, Copy, Debug)]
struct Seen {
    head: Lsn,
    /// The last pass, or the first look.
    since: Duration,
    was_reclaimed: bool,
}

impl Reclaimer {
    pub(crate) fn new(
        sites: Arc<Sites>,
        env: Arc<dyn Env>,
        metrics: Arc<Metrics>,
        retention: Retention,
        history: Option<(HistoryRetention, Dirs)>,
    ) -> Self {
        let stop = Arc::default();
        Self { sites, env, metrics, retention, history, stop, seen: BTreeMap::new() }
    }

    /// Looks again and again, on a thread of its own, until the answer is dropped.
    ///
    /// # Errors
    /// `Unavailable` when there is no thread to be had.
    pub(crate) fn start(mut self) -> Result<Reclaiming> {
        let stop = Arc::clone(&self.stop);
        let (stopped, told) = mpsc::channel();
        let work = move || {
            while told.recv_timeout(limits::RECLAIM_LOOK) == Err(RecvTimeoutError::Timeout) {
                self.look();
            }
        };
        let thread = thread::Builder::new().name("sheaf-gc".to_owned()).spawn(work);
        let failed =
            |e| Error::with_source(ErrorKind::Unavailable, "start the reclaimer's thread", e);
        // Not waited for at the end: a pass may be stopped anywhere, also by the process ending.
        thread.map_err(failed)?;
        Ok(Reclaiming { stop, _stopped: stopped })
    }

    /// Looks once at every open site, and reclaims those whose turn it is.
    pub(crate) fn look(&mut self) {
        let open = self.sites.open_logs();
        self.seen.retain(|volume, _| open.iter().any(|(there, _, _)| there == volume));
        for (volume, log, head) in open {
            let now = self.sites.clock.now();
            let fresh = Seen { head, since: now, was_reclaimed: false };
            let seen = self.seen.insert(volume, fresh);
            let Some(seen) = seen else { continue };
            let is_due = is_due(&seen, head, now);
            let since = if is_due { now } else { seen.since };
            let was_reclaimed = is_due || seen.was_reclaimed;
            self.seen.insert(volume, Seen { head, since, was_reclaimed });
            if is_due && !self.stop.load(Ordering::Acquire) {
                self.reclaim(volume, &log);
            }
        }
    }

    fn reclaim(&self, volume: VolumeId, log: &BucketRemote) {
        match self.pass(log) {
            Ok(done) => {
                self.metrics.reclaim_passes.one("done");
                self.metrics.reclaimed_objects.add(done.doomed.len() as u64);
                let (boundary, objects) = (done.boundary.0, done.doomed.len());
                tracing::info!(%volume, boundary, objects, written = done.written, "reclaimed");
            }
            // Another node, or somebody's `sheaf gc`, or the end.
            Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Closed) => {
                self.metrics.reclaim_passes.one("cut_short");
            }
            Err(e) => {
                self.metrics.reclaim_passes.one("failed");
                error::note(&self.metrics, "reclaim", &e);
            }
        }
    }
}

impl Reclaimer {
    /// One pass, and what of it is to be recorded first.
    fn pass(&self, log: &BucketRemote) -> Result<GcReport> {
        let mut go_on = || match self.stop.load(Ordering::Acquire) {
            true => Err(Error::new(ErrorKind::Closed, "the node is stopping")),
            false => Ok(()),
        };
        let mut recorder = None;
        let mut watch = |step| {
            go_on()?;
            let (GcStep::Boundary(to), Some((_, dirs))) = (step, &self.history) else {
                return Ok(());
            };
            let (objects, env) = (&self.sites.objects, &self.env);
            let place = RecordPlace { objects, env, device: self.sites.device, log };
            let recorder = recorder.insert(Recorder::open(&place, &dirs.0)?);
            let done = recorder.record(log.boundary()?, to, &mut go_on)?;
            let (steps, changes) = (done.steps, done.changes);
            tracing::info!(volume = %log.volume(), steps, changes, "recorded");
            Ok(())
        };
        let done = log.gc(self.env.as_ref(), &self.retention, false, &mut watch)?;
        if let (Some(recorder), Some((history, _))) = (recorder, &self.history) {
            recorder.tidy(*history, self.retention.exact)?;
        }
        Ok(done)
    }
}

/// Whether it is a site's turn: its log is quiet, or has not been for very long.
fn is_due(seen: &Seen, head: Lsn, now: Duration) -> bool {
    let waited = now.saturating_sub(seen.since);
    let is_quiet = seen.head == head;
    let pause = if seen.was_reclaimed { limits::RECLAIM_PAUSE } else { Duration::ZERO };
    head > Lsn::ZERO && (is_quiet && waited >= pause || waited >= limits::RECLAIM_PAUSE * 2)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use sheaf_site::history::record_name;
    use sheaf_sync::wire::CreateIds;
    use sheaf_volume::{
        Append, Commit, DeviceId, ManualEnv, MemDir, MemObjects, Objects, PageCount, PageSet,
        PageSize, Remote as _, RemoteHead, RemoteLog as _, SiteId,
    };

    use super::*;
    use crate::{actor::Actor, crew::Crew, sites::locked};

    /// Actors that are there and do nothing.
    #[derive(Debug, Default)]
    struct Asleep(Mutex<Vec<Actor>>);

    impl Crew for Asleep {
        fn start(&self, actor: Actor) -> Result<()> {
            locked(&self.0).push(actor);
            Ok(())
        }

        fn finish(&self) {}
    }

    fn empty_commit(volume: VolumeId, head: RemoteHead) -> Commit {
        Commit {
            volume,
            lsn: head.lsn.next(),
            parent: head.hash,
            epoch: 0,
            writer: [1; 16],
            nonce: u128::from(head.lsn.0).to_be_bytes(),
            time_ms: 1,
            page_size: head.page_size,
            page_count: PageCount(0),
            bulk_seen: Lsn::ZERO,
            pages: PageSet::new(),
            frames: Vec::new(),
            segment: None,
            inline: bytes::Bytes::new(),
            tables: Vec::new(),
            applied: Vec::new(),
        }
    }

    #[test]
    fn the_log_of_an_open_site_is_reclaimed_when_it_is_quiet() {
        let env = Arc::new(ManualEnv::new(1));
        let objects = Arc::new(MemObjects::new());
        let metrics = Arc::new(Metrics::new());
        let (clock, seam) = (Arc::clone(&env), Arc::clone(&objects) as Arc<dyn Objects>);
        let dirs = Dirs(Box::new(|_| Ok(Box::new(MemDir::new()))));
        let device = DeviceId::mint(env.as_ref());
        let counted = Arc::clone(&metrics);
        let crew = Arc::new(Asleep::default());
        let sites = Sites::new(seam, Arc::clone(&env) as _, device, clock, counted, dirs, crew);
        let ids = CreateIds {
            site: SiteId::mint(env.as_ref()),
            volume: VolumeId::mint(env.as_ref()),
            page_size: PageSize::DEFAULT,
        };
        let (open, opened) = sites.open("s", Some(ids)).unwrap();
        for _ in 0..1_100 {
            let commit = empty_commit(opened.volume, open.log.head().unwrap());
            assert_eq!(open.log.append(&commit).unwrap(), Append::Committed);
        }
        let logs = format!("volumes/{}/log/", opened.volume);
        let left = || objects.list(&logs, None).unwrap().len();
        let retention = Retention { keep_for_ms: 0, keep_commits: 1, exact: false };
        let sites = Arc::new(sites);
        let records = Dirs(Box::new(|_| Ok(Box::new(MemDir::new()))));
        let history = Some((HistoryRetention::default(), records));
        let mut reclaimer =
            Reclaimer::new(Arc::clone(&sites), env.clone(), metrics, retention, history);
        // The node does not know of them yet; then it does, and they are news.
        reclaimer.look();
        open.refresh_now().unwrap();
        reclaimer.look();
        assert_eq!(left(), 1_100);
        env.advance_ms(60_000);
        reclaimer.look();
        assert_eq!(left(), 1);
        // What became of rows was recorded first, in a site that is not reclaimed as others are.
        let record = record_name(opened.volume);
        let (_, record) = sites.open(&record, None).unwrap();
        assert!(record.head.lsn > Lsn::ZERO, "{record:?}");
        assert_eq!(sites.open_logs().len(), 1);
        let theirs = sites.open(".history/mine", Some(ids)).unwrap_err();
        assert_eq!(theirs.kind(), ErrorKind::Invalid, "{theirs}");
        // A node that stops goes no further.
        reclaimer.stop.store(true, Ordering::Release);
        env.advance_ms(u64::try_from(limits::RECLAIM_PAUSE.as_millis()).unwrap());
        for _ in 0..1_100 {
            let commit = empty_commit(opened.volume, open.log.head().unwrap());
            open.log.append(&commit).unwrap();
        }
        open.refresh_now().unwrap();
        (0..3).for_each(|_| reclaimer.look());
        assert_eq!(left(), 1_101);
    }

    #[test]
    fn a_site_has_its_turn_when_it_is_quiet_and_at_last_when_it_never_is() {
        let pause = limits::RECLAIM_PAUSE;
        let minute = limits::RECLAIM_LOOK;
        let seen = |was_reclaimed| Seen { head: Lsn(5), since: minute, was_reclaimed };
        for (was_reclaimed, head, now, expected) in [
            (false, 5, minute * 2, true),
            (false, 6, minute * 2, false),
            (true, 5, minute * 2, false),
            (true, 5, minute + pause, true),
            (true, 6, minute + pause, false),
            (true, 6, minute + pause * 2, true),
            (false, 6, minute + pause * 2, true),
        ] {
            let due = is_due(&seen(was_reclaimed), Lsn(head), now);
            assert_eq!(due, expected, "{was_reclaimed} {head} {now:?}");
        }
        let empty = Seen { head: Lsn(0), since: minute, was_reclaimed: false };
        assert!(!is_due(&empty, Lsn(0), pause * 9));
    }
}
