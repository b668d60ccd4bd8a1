//! The one task that looks at the buckets of all sites of a client.
//!
//! Invariant: nothing of a site is in use here once its place was given up, so that its directory
//! can be opened again at once; the thread is joined when the poller is dropped. A site that an
//! exchange of somebody else holds is passed over: nobody waits for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use sheaf_site::{Error, Result};

use super::schedule::{Next, Schedule, Seat};
use crate::{clock, limits};

/// What is looked at.
pub(super) trait Look: Send + Sync {
    /// Looks once; how long to wait for the next time.
    fn look(&self) -> Duration;
}

/// See the file. Cheap to make: its thread begins with the first site that comes online.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Default)]
struct Plan {
    stop: bool,
    schedule: Schedule,
    sites: BTreeMap<Seat, Weak<dyn Look>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A site's place, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    poller: Arc<Poller>,
    seat: Seat,
}

/// For the commit listener of a site.
#[derive(Clone, Debug)]
pub(crate) struct Nudge {
    shared: Weak<Shared>,
    seat: Seat,
}

impl Nudge {
    /// There is something to push.
    pub(crate) fn note_commit(&self) {
        if let Some(shared) = self.shared.upgrade()
            && shared.lock().schedule.note_commit(self.seat)
        {
            shared.changed.notify_all();
        }
    }
}

impl Poller {
    /// Gives a site a place. It is looked at from when it is set online.
    pub(super) fn enter(self: &Arc<Self>, site: Weak<dyn Look>) -> Place {
        let mut plan = self.shared.lock();
        let seat = plan.schedule.enter();
        plan.sites.insert(seat, site);
        Place { poller: Arc::clone(self), seat }
    }

    fn start(&self) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("sheaf-poll".to_owned());
            let started = started.spawn(move || shared.run());
            *thread = Some(started.map_err(|e| Error::io("start poller", e))?);
        }
        Ok(())
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("poller panicked");
        }
    }
}

impl Place {
    /// Keeps the site exchanged in the background, or stops that.
    pub(super) fn set_online(&self, online: bool) -> Result<()> {
        self.poller.shared.lock().schedule.set_online(self.seat, online);
        self.poller.shared.changed.notify_all();
        if online { self.poller.start() } else { Ok(()) }
    }

    pub(super) fn is_online(&self) -> bool {
        self.poller.shared.lock().schedule.is_online(self.seat)
    }

    pub(super) fn nudge(&self) -> Nudge {
        Nudge { shared: Arc::downgrade(&self.poller.shared), seat: self.seat }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.poller.shared;
        let mut plan = shared.lock();
        plan.schedule.set_online(self.seat, false);
        while plan.schedule.is_busy(self.seat) {
            plan = shared.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        plan.schedule.leave(self.seat);
        plan.sites.remove(&self.seat);
    }
}

/// Says that a look is over, also when it panicked: whoever gives up the place waits for that.
struct Looked<'a> {
    shared: &'a Shared,
    seat: Seat,
    pause: Duration,
}

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        self.shared.lock().schedule.done(self.seat, clock::now_ms(), self.pause);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some((seat, site)) = self.wait() {
            let mut looked = Looked { shared: self, seat, pause: limits::POLL_MAX };
            if let Some(site) = site {
                // ORDER: let go of the site before its place can be given up.
                looked.pause = site.look();
            }
            drop(looked);
        }
    }

    /// The next site to look at; `None` at the end.
    fn wait(&self) -> Option<(Seat, Option<Arc<dyn Look>>)> {
        let mut plan = self.lock();
        loop {
            if plan.stop {
                return None;
            }
            match plan.schedule.next(clock::now_ms()) {
                Next::Look(seat) => {
                    let site = plan.sites.get(&seat).and_then(Weak::upgrade);
                    return Some((seat, site));
                }
                Next::Wait(Some(pause)) => {
                    let waited = self.changed.wait_timeout(plan, pause);
                    plan = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Wait(None) => {
                    plan = self.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}
