//! A bucket and no node: the device pulls, rebases and appends for itself.
//!
//! Invariant: one exchange of a site at a time; the poller looks at a site only while it is online,
//! and has let go of it when it is dropped. Time limits are those of the object store's own client.

use std::{
    sync::atomic::Ordering,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak, atomic::AtomicBool},
    time::Duration,
};

use sheaf_site::{Result, Site};
use sheaf_volume::{BucketRemote, Objects, SystemEnv};

use crate::{
    event::Events,
    exchange::{Ask, Tally},
    limits,
};

mod driver;
mod poller;
mod schedule;

pub use driver::BucketDriver;
pub(crate) use poller::{Nudge, Poller};

use poller::{Look, Place};

/// One site's way to its bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Given up before the rest goes.
    place: Place,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    site: Site,
    objects: Arc<dyn Objects>,
    /// Held for as long as an exchange runs.
    driver: Mutex<BucketDriver>,
    reachable: AtomicBool,
}

impl Bucket {
    pub(crate) fn new(
        url: &str,
        site: Site,
        objects: Arc<dyn Objects>,
        events: Events,
        poller: &Arc<Poller>,
    ) -> Self {
        let env = Arc::new(SystemEnv);
        let driver = BucketDriver::new(url, site.clone(), Arc::clone(&objects), env, events);
        let driver = Mutex::new(driver);
        let shared = Arc::new(Shared { site, objects, driver, reachable: AtomicBool::new(false) });
        let weak = Arc::downgrade(&shared);
        let weak: Weak<dyn Look> = weak;
        Self { place: poller.enter(weak), shared }
    }

    pub(crate) fn nudge(&self) -> Nudge {
        self.place.nudge()
    }

    pub(crate) fn exchange(&self, ask: Ask) -> Result<Tally> {
        let driver = self.shared.driver.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.with(driver, |driver| driver.exchange(ask))
    }

    /// The log, for reading.
    pub(crate) fn remote(&self) -> Arc<BucketRemote> {
        let (lineage, size) =
            (self.shared.site.volume().lineage(), self.shared.site.ids().page_size);
        Arc::new(BucketRemote::new(Arc::clone(&self.shared.objects), lineage, size))
    }

    pub(crate) fn is_online(&self) -> (bool, bool) {
        (self.place.is_online(), self.shared.reachable.load(Ordering::Relaxed))
    }

    /// Keeps the site exchanged in the background, or stops that.
    pub(crate) fn set_online(&self, online: bool) -> Result<()> {
        self.place.set_online(online)
    }
}

impl Shared {
    fn with<T>(
        &self,
        mut driver: MutexGuard<'_, BucketDriver>,
        work: impl FnOnce(&mut BucketDriver) -> T,
    ) -> T {
        let outcome = work(&mut driver);
        self.reachable.store(driver.is_reachable(), Ordering::Relaxed);
        outcome
    }
}

impl Look for Shared {
    fn look(&self) -> Duration {
        match self.driver.try_lock() {
            Ok(driver) => self.with(driver, BucketDriver::turn),
            Err(TryLockError::Poisoned(poisoned)) => {
                self.with(poisoned.into_inner(), BucketDriver::turn)
            }
            // Somebody exchanges it right now; what was committed meanwhile goes soon after.
            Err(TryLockError::WouldBlock) => limits::POLL_MIN,
        }
    }
}
