//! The flusher of a site: makes commits survive a power cut within milliseconds, many at once.
//!
//! Invariant: sleeps while there is nothing to flush; every commit noted before the drop is
//! flushed by it. A failed flush is not tried again: the volume is poisoned and says so itself.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use sheaf_site::{Error, Result};
use sheaf_volume::Volume;

use crate::limits;

#[derive(Debug, Default)]
struct State {
    dirty: bool,
    stop: bool,
}

/// What commits are noted in. Cheap to hand to a commit listener.
#[derive(Debug, Default)]
pub(crate) struct Dirt {
    state: Mutex<State>,
    changed: Condvar,
}

impl Dirt {
    /// There is a commit to flush.
    pub(crate) fn note(&self) {
        let mut state = self.lock();
        if !state.dirty {
            state.dirty = true;
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a commit, then for others to join it; false when it is time to end.
    fn wait(&self) -> bool {
        let mut state = self.lock();
        while !state.dirty && !state.stop {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.stop {
            let gathering =
                self.changed.wait_timeout_while(state, limits::FLUSH_AFTER, |s| !s.stop);
            state = gathering.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.dirty = false;
        !state.stop
    }
}

/// The thread that flushes; ended and joined when dropped.
#[derive(Debug)]
pub(crate) struct Flusher {
    dirt: Arc<Dirt>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Io` when the system gives none.
    pub(crate) fn start(volume: Volume) -> Result<Self> {
        let dirt = Arc::new(Dirt::default());
        let noted = Arc::clone(&dirt);
        let run = move || {
            loop {
                let go_on = noted.wait();
                if volume.is_dirty()
                    && let Err(error) = volume.flush()
                {
                    tracing::error!(%error, "flush failed, the replica is closed");
                    return;
                }
                if !go_on {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("sheaf-flush".to_owned()).spawn(run);
        let thread = Some(thread.map_err(|e| Error::io("start flusher", e))?);
        Ok(Self { dirt, thread })
    }

    /// Where commits are to be noted.
    pub(crate) fn dirt(&self) -> Arc<Dirt> {
        Arc::clone(&self.dirt)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.dirt.lock().stop = true;
        self.dirt.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("flusher panicked");
        }
    }
}
