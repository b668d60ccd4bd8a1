//! A bucket and no node: the device pulls, rebases and appends for itself.
//!
//! Invariant: one exchange of a site at a time; the poller is asleep unless its site is online,
//! and is joined when dropped. Time limits are those of the object store's own client.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use sheaf_site::{Error, Result, Site};
use sheaf_volume::{BucketRemote, Objects, SystemEnv};

use crate::{
    event::Events,
    exchange::{Ask, Tally},
    limits,
};

mod driver;

pub use driver::BucketDriver;

/// One site's way to its bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    site: Site,
    objects: Arc<dyn Objects>,
    /// Held for as long as an exchange runs.
    driver: Mutex<BucketDriver>,
    wish: Mutex<Wish>,
    changed: Condvar,
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
        let env = Arc::new(SystemEnv);
        let driver = BucketDriver::new(url, site.clone(), Arc::clone(&objects), env, events);
        let shared = Shared {
            site,
            objects,
            driver: Mutex::new(driver),
            wish: Mutex::default(),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), thread: Mutex::default() }
    }

    pub(crate) fn nudge(&self) -> Nudge {
        Nudge(Arc::downgrade(&self.shared))
    }

    pub(crate) fn exchange(&self, ask: Ask) -> Result<Tally> {
        self.shared.with_driver(|driver| driver.exchange(ask))
    }

    /// The log, for reading.
    pub(crate) fn remote(&self) -> Arc<BucketRemote> {
        let (lineage, size) =
            (self.shared.site.volume().lineage(), self.shared.site.ids().page_size);
        Arc::new(BucketRemote::new(Arc::clone(&self.shared.objects), lineage, size))
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

    fn with_driver<T>(&self, work: impl FnOnce(&mut BucketDriver) -> T) -> T {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = work(&mut driver);
        self.wish().reachable = driver.is_reachable();
        outcome
    }

    /// The background: exchanges at once after a local commit, and looks for others' with the
    /// pause that the driver says.
    fn poll(&self) {
        let mut pause = limits::POLL_MIN;
        while self.wait(pause) {
            pause = self.with_driver(BucketDriver::turn);
        }
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
