//! A bucket and no node: the device pulls, rebases and appends for itself.
//!
//! Invariant: one exchange of a site at a time; the poller is asleep unless its site is online,
//! and is joined when dropped. Time limits are those of the object store's own client.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use sheaf_site::{Error, ErrorKind, Result, Site, SiteIds};
use sheaf_volume::{
    BucketRemote, Env as _, Objects, Remote as _, SiteRecord, SystemEnv, create_site, find_site,
};

use crate::{
    event::{Event, Events},
    limits,
    link::{Ask, Tally},
};

/// One site's way to its bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    site: Site,
    objects: Arc<dyn Objects>,
    /// What was done; held for as long as an exchange runs.
    work: Mutex<Work>,
    wish: Mutex<Wish>,
    changed: Condvar,
    events: Events,
}

#[derive(Debug, Default)]
struct Work {
    log: Option<Arc<BucketRemote>>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Wish {
    stop: bool,
    online: bool,
    /// Look now: there is a local commit.
    dirty: bool,
    reachable: bool,
}

/// For the commit listener of a site.
#[derive(Clone, Debug)]
pub(crate) struct Nudge(std::sync::Weak<Shared>);

impl Nudge {
    pub(crate) fn note_commit(&self) {
        if let Some(shared) = self.0.upgrade() {
            let mut wish = shared.wish();
            wish.dirty = true;
            if wish.online {
                shared.changed.notify_all();
            }
        }
    }
}

impl Bucket {
    pub(crate) fn new(url: &str, site: Site, objects: Arc<dyn Objects>, events: Events) -> Self {
        // What this replica knows already is enough to read from; whether the bucket agrees is
        // found out at the first exchange.
        let ids = site.ids();
        let log = Arc::new(BucketRemote::new(Arc::clone(&objects), ids.volume, ids.page_size));
        site.set_remote(Some(log));
        let shared = Shared {
            url: url.to_owned(),
            site,
            objects,
            work: Mutex::default(),
            wish: Mutex::default(),
            changed: Condvar::new(),
            events,
        };
        Self { shared: Arc::new(shared), thread: Mutex::default() }
    }

    pub(crate) fn nudge(&self) -> Nudge {
        Nudge(Arc::downgrade(&self.shared))
    }

    pub(crate) fn exchange(&self, ask: Ask) -> Result<Tally> {
        self.shared.exchange(ask)
    }

    /// The log, for reading.
    pub(crate) fn remote(&self) -> Arc<BucketRemote> {
        let ids = self.shared.site.ids();
        Arc::new(BucketRemote::new(Arc::clone(&self.shared.objects), ids.volume, ids.page_size))
    }

    pub(crate) fn is_online(&self) -> (bool, bool) {
        let wish = self.shared.wish();
        (wish.online, wish.reachable)
    }

    /// Keeps the site exchanged in the background, or stops that.
    pub(crate) fn set_online(&self, online: bool) -> Result<()> {
        self.shared.wish().online = online;
        self.shared.changed.notify_all();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if online && thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("sheaf-poll".to_owned());
            let started = started.spawn(move || shared.poll());
            *thread = Some(started.map_err(|e| Error::io("start poller", e))?);
        }
        Ok(())
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.shared.wish().stop = true;
        self.shared.changed.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("poller panicked");
        }
    }
}

impl Shared {
    fn wish(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exchange(&self, ask: Ask) -> Result<Tally> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = work.tally.clone();
        let outcome = self.exchange_with(&mut work, ask);
        self.wish().reachable = outcome.is_ok();
        outcome.map(|()| work.tally.since(&earlier))
    }

    fn exchange_with(&self, work: &mut Work, ask: Ask) -> Result<()> {
        let log = match &work.log {
            Some(log) => Arc::clone(log),
            None => {
                let log = self.open(ask.create)?;
                work.log = Some(Arc::clone(&log));
                log
            }
        };
        if ask.push {
            let done = self.site.exchange_with_log(log.as_ref())?;
            work.tally.pulled += done.pulled as u64;
            work.tally.pushed += done.pushed as u64;
            work.tally.merged += done.merged as u64;
            work.tally.confirmed += done.pushed as u64;
            for (seq, reason) in done.rejected {
                work.tally.reject(seq, reason);
            }
            return Ok(());
        }
        loop {
            let commits = log.pull(self.site.base().0)?;
            if commits.is_empty() {
                return Ok(());
            }
            let count = commits.len() as u64;
            let outcome = self.site.integrate(commits)?;
            work.tally.integrated(count, &outcome);
        }
    }

    /// Finds the site in the bucket, or creates it there, and adopts it.
    fn open(&self, create: bool) -> Result<Arc<BucketRemote>> {
        let name = self.site.name();
        let objects = self.objects.as_ref();
        let record = match find_site(objects, &name)? {
            Some(record) => record,
            None if create => {
                let SiteIds { site, volume, page_size } = self.site.ids();
                let created_ms = SystemEnv.now_ms();
                create_site(objects, &name, &SiteRecord { site, volume, page_size, created_ms })?
            }
            None => {
                let text = format!("no site `{name}` in {}", self.url);
                return Err(Error::new(ErrorKind::NotFound, text));
            }
        };
        let objects = Arc::clone(&self.objects);
        let log = Arc::new(BucketRemote::new(objects, record.volume, record.page_size));
        let before = self.site.ids();
        // ORDER: adopting replays the timeline, which may need pages of the new base.
        self.site.set_remote(Some(log.clone()));
        let SiteRecord { site, volume, page_size, .. } = record;
        let adopted = log.head().and_then(|head| {
            if volume == before.volume {
                self.site.check_log(&head)?;
            }
            self.site.adopt(SiteIds { site, volume, page_size }, head)
        });
        if let Err(error) = adopted {
            let objects = Arc::clone(&self.objects);
            let back = BucketRemote::new(objects, before.volume, before.page_size);
            self.site.set_remote(Some(Arc::new(back)));
            return Err(error);
        }
        Ok(log)
    }

    /// The background: exchanges at once after a local commit, and looks for others' with a pause
    /// that grows while nothing happens.
    fn poll(&self) {
        let mut pause = limits::POLL_MIN;
        while self.wait(pause) {
            let base = self.site.base().0;
            let ask = Ask { pull: true, push: true, create: true };
            match self.exchange(ask) {
                Ok(tally) => {
                    let moved = self.site.base().0 > base;
                    pause = if moved { limits::POLL_MIN } else { longer(pause) };
                    if moved {
                        self.tell(&tally);
                    }
                }
                Err(error) => {
                    pause = longer(pause);
                    tracing::debug!(%error, "exchange failed");
                    let server = self.url.clone();
                    self.events.push(Event::Offline { server, reason: error });
                }
            }
        }
    }

    fn tell(&self, tally: &Tally) {
        let site = self.site.name();
        for (seq, reason) in &tally.rejected {
            let (seq, reason) = (*seq, reason.clone());
            self.events.push(Event::Rejected { site: site.clone(), seq, reason });
        }
        let (commits, confirmed) = (tally.pulled, tally.confirmed);
        self.events.push(Event::Changed { site, lsn: self.site.base().0, commits, confirmed });
    }

    /// Waits until it is time to look; false at the end.
    fn wait(&self, pause: Duration) -> bool {
        let mut wish = self.wish();
        loop {
            if wish.stop {
                return false;
            }
            if wish.online && std::mem::take(&mut wish.dirty) {
                return true;
            }
            if !wish.online {
                wish = self.changed.wait(wish).unwrap_or_else(PoisonError::into_inner);
                // Coming online looks at once.
                wish.dirty |= wish.online;
                continue;
            }
            let quiet = |wish: &mut Wish| !wish.stop && wish.online && !wish.dirty;
            let waited = self.changed.wait_timeout_while(wish, pause, quiet);
            let (back, timed) = waited.unwrap_or_else(PoisonError::into_inner);
            if timed.timed_out() {
                return true;
            }
            wish = back;
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 3 / 2).min(limits::POLL_MAX)
}
