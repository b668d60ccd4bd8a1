//! Which sites exist and which are open here.
//!
//! Invariant: a volume has at most one open replica and one actor in this process: opening and
//! closing happen under the lock of the volume's slot. Names are found in the bucket, never made
//! up here; everything in this file may block and runs on blocking threads.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
};

use sheaf_site::{Site, SiteIds, SiteOptions};
use sheaf_sync::wire::{CreateIds, OpenedSite};
use sheaf_volume::{
    BucketRemote, DeviceId, Env, Error, ErrorKind, Lsn, Objects, Remote, Result, StdDir, VolumeId,
};
use tokio::{runtime::Handle, sync::mpsc, time::Instant};

use crate::{
    actor::{Actor, Slot},
    limits,
    metrics::Metrics,
    open::OpenSite,
};

/// Locks a mutex. A panic elsewhere leaves our small maps whole, so its poison says nothing.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All sites of the bucket, as this node knows them.
#[derive(Debug)]
pub(crate) struct Sites {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) device: DeviceId,
    pub(crate) data: PathBuf,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) runtime: Handle,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<VolumeId, Known>,
    slots: BTreeMap<VolumeId, Slot>,
    threads: Vec<JoinHandle<()>>,
    stopping: bool,
    listed: Option<Instant>,
}

/// A site found in the bucket. It never changes there.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) ids: SiteIds,
}

impl Sites {
    /// No site is open yet.
    pub(crate) fn new(
        objects: Arc<dyn Objects>,
        env: Arc<dyn Env>,
        device: DeviceId,
        data: PathBuf,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Self {
        let state = Mutex::default();
        Self { objects, env, device, data, metrics, runtime, state }
    }

    /// Finds a site by name, creating it when ids are given and there is none, and opens it.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for a name that cannot be, `Limit`, and those of store and replica.
    pub(crate) fn open(
        &self,
        name: &str,
        create: Option<CreateIds>,
    ) -> Result<(Arc<OpenSite>, OpenedSite)> {
        let known = self.find(name, create)?;
        let ids = known.ids;
        let open = self.open_known(known)?;
        let head = open.refresh()?;
        let opened = OpenedSite { name: name.to_owned(), site: ids.site, volume: ids.volume, head };
        Ok((open, opened))
    }

    /// The open site of a volume, opening it when it is known.
    ///
    /// # Errors
    /// `NotFound` for a volume of no site that was opened here, and those of store and replica.
    pub(crate) fn by_volume(&self, volume: VolumeId) -> Result<Arc<OpenSite>> {
        let known = self.known(volume);
        let known = known.map_or_else(|| self.find_volume(volume), Ok)?;
        self.open_known(known)
    }

    /// Keeps a site for look-ups by volume.
    pub(crate) fn remember(&self, known: &Known) {
        let mut state = locked(&self.state);
        if state.known.len() >= limits::KNOWN_MAX {
            // Forgetting costs a look-up later, no more.
            state.known.clear();
        }
        state.known.insert(known.ids.volume, known.clone());
    }

    /// What is remembered of a volume.
    pub(crate) fn known(&self, volume: VolumeId) -> Option<Known> {
        locked(&self.state).known.get(&volume).cloned()
    }

    /// Whether the whole catalogue may be read now. It may be long, and anybody with a token can
    /// ask for volumes that do not exist: hence at most once per [`limits::LIST_PAUSE`].
    pub(crate) fn may_list(&self) -> bool {
        let mut state = locked(&self.state);
        let may = state.listed.is_none_or(|when| when.elapsed() >= limits::LIST_PAUSE);
        if may {
            state.listed = Some(Instant::now());
        }
        may
    }

    /// Closes every site after the work it was given.
    pub(crate) fn stop(&self) {
        let (slots, threads) = {
            let mut state = locked(&self.state);
            state.stopping = true;
            (std::mem::take(&mut state.slots), std::mem::take(&mut state.threads))
        };
        for slot in slots.values() {
            let open = locked(slot).clone();
            if let Some(open) = open {
                open.ask_to_stop();
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a site's thread ended by a bug: please report it");
            }
        }
    }

    fn open_known(&self, known: Known) -> Result<Arc<OpenSite>> {
        let slot = self.slot(known.ids.volume)?;
        let mut guard = locked(&slot);
        if let Some(open) = guard.as_ref().filter(|open| !open.is_dead()) {
            return Ok(Arc::clone(open));
        }
        *guard = None;
        let open = self.start(known, &slot)?;
        *guard = Some(Arc::clone(&open));
        Ok(open)
    }

    fn slot(&self, volume: VolumeId) -> Result<Slot> {
        let mut state = locked(&self.state);
        if state.stopping {
            return Err(Error::new(ErrorKind::Unavailable, "the node is stopping: try again"));
        }
        if !state.slots.contains_key(&volume) && state.slots.len() >= limits::SITES_ACTIVE_MAX {
            // A count of one: nobody is about to open it.
            let used = |slot: &Slot| {
                Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |open| open.is_some())
            };
            state.slots.retain(|_, slot| used(slot));
            state.threads.retain(|thread| !thread.is_finished());
            if state.slots.len() >= limits::SITES_ACTIVE_MAX {
                self.metrics.limits_hit.one("sites");
                let text = format!("{} sites are open on this node: try later", state.slots.len());
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
        }
        Ok(Arc::clone(state.slots.entry(volume).or_default()))
    }

    /// Opens the replica and starts the actor. The caller holds the slot's lock.
    fn start(&self, known: Known, slot: &Slot) -> Result<Arc<OpenSite>> {
        let Known { name, ids } = known;
        let log = Arc::new(self.log(ids));
        let head = log.head()?;
        let site = self.replica(&name, ids, &log)?;
        // ORDER: before anything is appended, and before anybody is told that all is well.
        site.check_log(&head)?;
        if head.lsn > Lsn::ZERO && site.base().0 == Lsn::ZERO {
            // A replica of what others made: it knows the newest state and fetches when asked.
            site.adopt(ids, head)?;
        }
        let (queue, jobs) = mpsc::channel(limits::SITE_QUEUE_MAX);
        let open = Arc::new(OpenSite::new(ids, site, log, head, queue));
        let actor = Actor {
            open: Arc::clone(&open),
            slot: Arc::clone(slot),
            jobs,
            metrics: Arc::clone(&self.metrics),
            runtime: self.runtime.clone(),
            announced: head.lsn,
        };
        // The actor counts itself out when it is dropped, also when its thread cannot start.
        self.metrics.sites_active.rise();
        let thread = std::thread::Builder::new().name("sheaf-site".to_owned());
        let thread = thread
            .spawn(move || actor.run())
            .map_err(|e| Error::with_source(ErrorKind::Unavailable, "start a site's thread", e))?;
        let mut state = locked(&self.state);
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(thread);
        Ok(open)
    }

    fn replica(&self, name: &str, ids: SiteIds, log: &Arc<BucketRemote>) -> Result<Site> {
        let path = self.data.join("sites").join(ids.volume.to_string());
        let dir = StdDir::open(path).map_err(|e| Error::io("open replica directory", e))?;
        let options = SiteOptions { create: Some(ids), ..SiteOptions::new(name, self.device) };
        let site = Site::open(&dir, Arc::clone(&self.env), options)?;
        let remote: Arc<dyn Remote> = Arc::clone(log) as Arc<dyn Remote>;
        site.set_remote(Some(remote));
        Ok(site)
    }
}

/// A remembered way to an open site that does not keep it open.
pub(crate) type Handhold = Weak<OpenSite>;
