//! What happens in the background, for whoever wants to show it.
//!
//! Invariant: bounded; when nobody listens or the listener is slow the oldest events are dropped
//! and [`Events::dropped`] counts them. Nothing rests on events: they can be ignored.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sheaf_site::{Error, MergedOps};
use sheaf_volume::Lsn;

use crate::limits;

/// Something that happened in the background.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The server answers.
    Online {
        /// Its address.
        server: String,
    },
    /// The connection is gone; it is made again by itself.
    Offline {
        /// Its address.
        server: String,
        /// Why.
        reason: Error,
    },
    /// The server will not have this device; nothing is tried again until somebody asks.
    Refused {
        /// Its address.
        server: String,
        /// Why.
        reason: Error,
    },
    /// The replica has moved to a newer agreed state.
    Changed {
        /// The site.
        site: String,
        /// The position.
        lsn: Lsn,
        /// Commits integrated.
        commits: u64,
        /// Own mutations that are now in the log.
        confirmed: u64,
    },
    /// An own mutation was recorded and skipped.
    Rejected {
        /// The site.
        site: String,
        /// Its sequence number.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// An own mutation was merged with what others did: here, before it is decided, or by
    /// whoever decided it. Told again for the same one only if something else comes out; it then
    /// may have other operations, those that the merge before left.
    Merged {
        /// The site.
        site: String,
        /// Its sequence number.
        seq: u64,
        /// Which of its operations came out as they were, and which did not. A call has none.
        ops: MergedOps,
    },
    /// An own mutation asks its author, because a lock of it has failed: it and what comes after
    /// it wait for [`crate::Site::go_on`] or [`crate::Site::withdraw`]. Told once each time
    /// another mutation asks or it asks for another reason.
    Asks {
        /// The site.
        site: String,
        /// Its sequence number.
        seq: u64,
        /// Which lock failed.
        reason: String,
    },
    /// Something about a site failed; it is tried again by itself.
    Failed {
        /// The site.
        site: String,
        /// Why.
        error: Error,
    },
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The events of one client. Clones share one queue: each event is seen once.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Shared>);

impl Events {
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.0.lock();
        if queue.events.len() >= limits::EVENTS_MAX {
            queue.events.pop_front();
            queue.dropped += 1;
        }
        queue.events.push_back(event);
        self.0.arrived.notify_one();
    }

    /// The oldest event not seen yet.
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        self.0.lock().events.pop_front()
    }

    /// The oldest event not seen yet, waiting for one.
    #[must_use]
    pub fn next_within(&self, timeout: Duration) -> Option<Event> {
        let queue = self.0.lock();
        let waited = self.0.arrived.wait_timeout_while(queue, timeout, |q| q.events.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.events.pop_front()
    }

    /// How many events were dropped because nobody took them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}
