//! Which sites exist and which are open here.
//!
//! Invariant: a volume has at most one open replica and one actor in this process: opening and
//! closing happen under the lock of the volume's slot. Names are found in the bucket, never made
//! up here; everything in this file may block and runs on blocking threads.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sheaf_site::{Site, SiteIds, SiteOptions, history::is_record_name};
use sheaf_sync::wire::{CreateIds, OpenedSite};
use sheaf_volume::{
    BucketRemote, DeviceId, Dir, Env, Error, ErrorKind, Lineage, Lsn, Objects, Remote, Result,
    VolumeId,
};
use tokio::sync::mpsc;

use crate::{
    actor::{Actor, Slot},
    clock::Clock,
    crew::Crew,
    limits,
    metrics::Metrics,
    open::OpenSite,
};

/// Locks a mutex. A panic elsewhere leaves our small maps whole, so its poison says nothing.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the directory of a volume's replica, making it when there is none.
pub type OpenDir = dyn Fn(VolumeId) -> Result<Box<dyn Dir>> + Send + Sync;

/// Where replicas lie.
pub(crate) struct Dirs(pub(crate) Box<OpenDir>);

impl fmt::Debug for Dirs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dirs")
    }
}

/// All sites of the bucket, as this node knows them.
#[derive(Debug)]
pub(crate) struct Sites {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) env: Arc<dyn Env>,
    /// The node's own id.
    pub(crate) device: DeviceId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    dirs: Dirs,
    crew: Arc<dyn Crew>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<VolumeId, Known>,
    slots: BTreeMap<VolumeId, Slot>,
    stopping: bool,
    listed: Option<Duration>,
}

/// A site found in the bucket. It never changes there.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) ids: SiteIds,
    pub(crate) lineage: Lineage,
}

impl Sites {
    /// No site is open yet.
    pub(crate) fn new(
        objects: Arc<dyn Objects>,
        env: Arc<dyn Env>,
        device: DeviceId,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        dirs: Dirs,
        crew: Arc<dyn Crew>,
    ) -> Self {
        let state = Mutex::default();
        Self { objects, env, device, clock, metrics, dirs, crew, state }
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
        let (ids, parents) = (known.ids, known.lineage.parents().to_vec());
        let open = self.open_known(known)?;
        let head = open.refresh()?;
        let opened =
            OpenedSite { name: name.to_owned(), site: ids.site, volume: ids.volume, head, parents };
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
        let now = self.clock.now();
        let mut state = locked(&self.state);
        let may = state.listed.is_none_or(|when| now.saturating_sub(when) >= limits::LIST_PAUSE);
        if may {
            state.listed = Some(now);
        }
        may
    }

    /// The logs of the sites that are open now, and where they stand; not those of recorded
    /// changes, which whoever records reclaims.
    pub(crate) fn open_logs(&self) -> Vec<(VolumeId, Arc<BucketRemote>, Lsn)> {
        let slots: Vec<Slot> = locked(&self.state).slots.values().cloned().collect();
        // A slot that is locked is being opened or closed; the next look sees it.
        let open = slots.iter().filter_map(|slot| slot.try_lock().ok()?.clone());
        open.filter(|open| !open.is_dead() && !is_record_name(&open.site.name()))
            .map(|open| (open.ids.volume, Arc::clone(&open.log), open.known_head().lsn))
            .collect()
    }

    /// Closes every site after the work it was given.
    pub(crate) fn stop(&self) {
        let slots = {
            let mut state = locked(&self.state);
            state.stopping = true;
            std::mem::take(&mut state.slots)
        };
        for slot in slots.values() {
            let open = locked(slot).clone();
            if let Some(open) = open {
                open.ask_to_stop();
            }
        }
        self.crew.finish();
    }

    fn open_known(&self, known: Known) -> Result<Arc<OpenSite>> {
        let slot = self.slot(known.ids.volume)?;
        self.open_in(&slot, known)
    }

    fn open_in(&self, slot: &Slot, known: Known) -> Result<Arc<OpenSite>> {
        let mut guard = locked(slot);
        if let Some(open) = guard.as_ref().filter(|open| !open.is_dead()) {
            return Ok(Arc::clone(open));
        }
        // ORDER: asked under the slot's lock. Whoever stops the sites takes it after the mark was
        // set, so an actor is either asked to end or never started.
        if locked(&self.state).stopping {
            return Err(stopping());
        }
        *guard = None;
        let open = self.start(known, slot)?;
        *guard = Some(Arc::clone(&open));
        Ok(open)
    }

    fn slot(&self, volume: VolumeId) -> Result<Slot> {
        let mut state = locked(&self.state);
        if state.stopping {
            return Err(stopping());
        }
        if !state.slots.contains_key(&volume) && state.slots.len() >= limits::SITES_ACTIVE_MAX {
            // A count of one: nobody is about to open it.
            let used = |slot: &Slot| {
                Arc::strong_count(slot) > 1 || slot.try_lock().map_or(true, |open| open.is_some())
            };
            state.slots.retain(|_, slot| used(slot));
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
        let log = Arc::new(self.log(&known));
        let Known { name, ids, lineage } = known;
        let head = log.head()?;
        let site = self.replica(&name, ids, &log)?;
        // ORDER: before anything is appended, and before anybody is told that all is well.
        site.check_log(&head)?;
        if head.lsn > Lsn::ZERO && site.base().0 == Lsn::ZERO {
            // A replica of what others made: it knows the newest state and fetches when asked.
            site.adopt_branch(ids, lineage.parents().to_vec(), head)?;
        }
        let (queue, jobs) = mpsc::channel(limits::SITE_QUEUE_MAX);
        let clock = Arc::clone(&self.clock);
        let open = Arc::new(OpenSite::new(ids, site, log, head, queue, Arc::clone(&clock)));
        let (metrics, slot) = (Arc::clone(&self.metrics), Arc::clone(slot));
        self.crew.start(Actor::new(Arc::clone(&open), slot, jobs, metrics, clock))?;
        Ok(open)
    }

    fn replica(&self, name: &str, ids: SiteIds, log: &Arc<BucketRemote>) -> Result<Site> {
        let dir = (self.dirs.0)(ids.volume)?;
        let options = SiteOptions { create: Some(ids), ..SiteOptions::new(name, self.device) };
        let site = Site::open(dir.as_ref(), Arc::clone(&self.env), options)?;
        let remote: Arc<dyn Remote> = Arc::clone(log) as Arc<dyn Remote>;
        site.set_remote(Some(remote));
        Ok(site)
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, "the node is stopping: try again")
}

/// A remembered way to an open site that does not keep it open.
pub(crate) type Handhold = Weak<OpenSite>;

#[cfg(test)]
mod tests {
    use sheaf_volume::{ManualEnv, MemDir, MemObjects, PageSize, SiteId};

    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Crew for Nobody {
        fn start(&self, _actor: Actor) -> Result<()> {
            panic!("an actor that nobody will ask to end")
        }

        fn finish(&self) {}
    }

    #[test]
    fn a_site_is_not_opened_behind_the_back_of_a_stop() {
        let env = Arc::new(ManualEnv::new(1));
        let device = DeviceId::mint(env.as_ref());
        let dirs = Dirs(Box::new(|_| Ok(Box::new(MemDir::new()))));
        let metrics = Arc::new(Metrics::new());
        let (clock, objects) = (Arc::clone(&env), Arc::new(MemObjects::new()));
        let sites = Sites::new(objects, env, device, clock, metrics, dirs, Arc::new(Nobody));
        let ids = SiteIds {
            site: SiteId::from_bytes([1; 16]),
            volume: VolumeId::from_bytes([2; 16]),
            page_size: PageSize::DEFAULT,
        };
        let slot = sites.slot(ids.volume).unwrap();
        sites.stop();
        let error = sites
            .open_in(&slot, Known { name: "s".to_owned(), ids, lineage: ids.volume.into() })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
