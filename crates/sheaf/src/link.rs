//! The link of a client to one node: the driver, on a thread of its own with a socket.
//!
//! Invariant: nothing here decides; [`Wishes`] takes what callers want, the [`Driver`] fulfils it.
//! Dropping the link ends and joins the thread.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use sheaf_site::{Error, ErrorKind, Result, Site};
use sheaf_sync::{Identity, branch::BranchRequest, wire::OpenedSite};
use sheaf_volume::{Lineage, PageSize, Remote};
use tokio::{runtime::Handle, sync::Notify};

use crate::{
    event::Events,
    exchange::{Ask, Tally},
    http::Http,
    limits,
    node::NodeRemote,
    traffic::Traffic,
};

mod driver;
mod socket;
mod state;
mod wishes;
mod worker;

pub use driver::{Driver, Transport};
pub use wishes::{Asked, Wishes};

/// A client's link to one node.
#[derive(Debug)]
pub(crate) struct Link {
    wishes: Arc<Wishes>,
    http: Arc<Http>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Starts the worker. It dials only when a site wishes it.
    ///
    /// # Errors
    /// `Io` when the system gives no thread, `Internal` when TLS cannot be set up.
    pub(crate) fn start(
        server: &str,
        identity: Identity,
        runtime: &Handle,
        events: Events,
    ) -> Result<Self> {
        let wake = Arc::new(Notify::new());
        let notify = Arc::clone(&wake);
        let wishes = Wishes::new(server, events, move || notify.notify_one());
        let token = Some(identity.token.clone()).filter(|token| !token.is_empty());
        let traffic = Arc::clone(wishes.traffic());
        let http = Arc::new(Http::new(server, token, runtime.clone(), traffic)?);
        let worker = worker::Worker::new(&wishes, &http, identity, runtime.clone(), wake);
        let thread = thread::Builder::new().name("sheaf-link".to_owned());
        let thread = thread.spawn(move || worker.run()).map_err(|e| Error::io("start link", e))?;
        Ok(Self { wishes, http, thread: Mutex::new(Some(thread)) })
    }

    /// Asks the node for a branch.
    ///
    /// # Errors
    /// As [`crate::node::branch`].
    pub(crate) fn branch(&self, request: &BranchRequest) -> Result<OpenedSite> {
        crate::node::branch(self.http.as_ref(), request)
    }

    /// A history whose pages the node has.
    pub(crate) fn remote(&self, lineage: Lineage, size: PageSize) -> Arc<dyn Remote> {
        Arc::new(NodeRemote::new(self.http.clone(), lineage, size))
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        self.wishes.traffic()
    }

    /// For the commit listener of a site, which must not keep the link alive.
    pub(crate) fn downgrade(&self) -> Weak<Wishes> {
        Arc::downgrade(&self.wishes)
    }

    /// Makes a site known to the worker, which does nothing for it yet.
    pub(crate) fn attach(&self, name: &str, site: Site) {
        self.wishes.attach(name, site);
    }

    /// Takes a site away from the worker and waits until it has let go.
    pub(crate) fn detach(&self, name: &str) {
        if !self.wishes.detach(name) {
            self.wishes.wait_until_free(name, limits::DETACH_TIMEOUT);
        }
    }

    /// Keeps a site exchanged in the background, or stops that.
    pub(crate) fn set_online(&self, name: &str, online: bool) {
        self.wishes.set_online(name, online);
    }

    /// Looks at the node now for a site that is kept exchanged.
    pub(crate) fn look_now(&self, name: &str) {
        self.wishes.look_now(name);
    }

    /// Whether a site is kept exchanged, and whether the node answers right now.
    pub(crate) fn is_online(&self, name: &str) -> (bool, bool) {
        (self.wishes.is_online(name), self.wishes.is_connected())
    }

    /// Does what is asked, and returns what it brought about.
    ///
    /// # Errors
    /// `Unavailable` when the node cannot be reached or does not answer in time, `Denied` when it
    /// refuses the token, or whatever it says about the site.
    pub(crate) fn exchange(&self, name: &str, ask: Ask, timeout: Duration) -> Result<Tally> {
        let asked = self.wishes.ask(name, ask)?;
        asked.outcome_within(timeout).unwrap_or_else(|| {
            let text = format!(
                "the node at {} did not answer within {} s",
                self.wishes.server(),
                timeout.as_secs_f32()
            );
            Err(Error::new(ErrorKind::Unavailable, text))
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.wishes.stop();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("link panicked");
        }
    }
}
