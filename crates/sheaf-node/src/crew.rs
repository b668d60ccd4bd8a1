//! Who runs the actors of the open sites.
//!
//! Invariant: an actor that was started is run until it ends, by one thread at a time. Leaves out
//! asking it to end: the registry does.

use std::{fmt, sync::Mutex, thread::JoinHandle};

use sheaf_volume::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::{actor::Actor, sites::locked};

/// Runs actors.
pub(crate) trait Crew: fmt::Debug + Send + Sync {
    /// Runs this one, until it ends, beside the others.
    ///
    /// # Errors
    /// `Unavailable` when it cannot; the actor is dropped then.
    fn start(&self, actor: Actor) -> Result<()>;

    /// Returns when all have ended. They have been asked to, and no other is started meanwhile.
    fn finish(&self);
}

/// A thread for each.
#[derive(Debug)]
pub(crate) struct Threads {
    runtime: Handle,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// None yet; they wait with the timers of this runtime.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, threads: Mutex::default() }
    }
}

impl Crew for Threads {
    fn start(&self, actor: Actor) -> Result<()> {
        let runtime = self.runtime.clone();
        let thread = std::thread::Builder::new().name("sheaf-site".to_owned());
        let thread = thread
            .spawn(move || run(actor, &runtime))
            .map_err(|e| Error::with_source(ErrorKind::Unavailable, "start a site's thread", e))?;
        let mut threads = locked(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    fn finish(&self) {
        let threads = std::mem::take(&mut *locked(&self.threads));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a site's thread ended by a bug: please report it");
            }
        }
    }
}

fn run(mut actor: Actor, runtime: &Handle) {
    loop {
        let woken = runtime.block_on(actor.woken());
        match actor.step(woken) {
            Some(working) => actor = working,
            None => return,
        }
    }
}
