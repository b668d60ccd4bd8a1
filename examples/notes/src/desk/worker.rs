//! What waits for a network, on a thread of its own, so that no key does.
//!
//! Invariant: wishes are done one after another; at most [`limits::WISHES_MAX`] wait. The thread
//! has ended when this is dropped.

use std::{
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use sheaf::{Error, ErrorKind, Exchange, Result, Site};

use super::history;
use crate::{limits, screen::Version};

/// Something that may need the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Pull and push now.
    Exchange,
    /// Fetch the pages that are not here, so that all can be read offline.
    Fetch,
    /// The past of a note.
    History(String),
}

/// What came of a wish.
#[derive(Debug)]
pub(crate) enum Told {
    Exchanged(Result<Exchange>),
    Fetched(Result<()>),
    History(String, Result<Vec<Version>>),
}

#[derive(Debug)]
pub(crate) struct Worker {
    wishes: Option<SyncSender<Wish>>,
    told: Receiver<Told>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(site: Site) -> Result<Self> {
        let (wishes, wished) = sync_channel(limits::WISHES_MAX);
        let (tell, told) = channel();
        let builder = std::thread::Builder::new().name("notes-worker".to_owned());
        let spawned = builder.spawn(move || work(&site, &wished, &tell));
        let thread = spawned.map_err(|error| {
            Error::new(ErrorKind::Io, format!("the system gives no thread: {error}"))
        })?;
        Ok(Self { wishes: Some(wishes), told, thread: Some(thread) })
    }

    pub(crate) fn wish(&self, wish: Wish) -> Result<()> {
        let sent = self.wishes.as_ref().map(|wishes| wishes.try_send(wish));
        if let Some(Ok(())) = sent {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, "the server has not answered yet"))
    }

    pub(crate) fn told(&self, wait: Duration) -> Option<Told> {
        self.told.recv_timeout(wait).ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.wishes.take());
        if let Some(thread) = self.thread.take() {
            // It panicked if this fails, which was told where it happened.
            drop(thread.join());
        }
    }
}

fn work(site: &Site, wished: &Receiver<Wish>, tell: &Sender<Told>) {
    while let Ok(wish) = wished.recv() {
        let told = match wish {
            Wish::Exchange => Told::Exchanged(site.exchange(limits::EXCHANGE_TIMEOUT)),
            Wish::Fetch => Told::Fetched(site.hydrate(&mut |_, _| {})),
            Wish::History(id) => {
                let versions = history::read(site, &id);
                Told::History(id, versions)
            }
        };
        if tell.send(told).is_err() {
            return;
        }
    }
}
