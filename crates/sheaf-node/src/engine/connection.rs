//! One connection of an engine: a desk, and what a socket's task would keep beside it.
//!
//! Invariant: what the desk wants done first is done before it is asked again, and a peer that
//! does not take its messages stops its own connection only, as behind a socket.

use std::{collections::VecDeque, pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc};

use crate::{
    desk::{Awaited, Desk, Handover, Next, Work},
    limits,
    open::{Notice, Watcher},
    sites::Sites,
    token::Access,
};

/// See the file.
#[derive(Debug)]
pub(super) struct Connection {
    desk: Desk,
    inbox: VecDeque<Bytes>,
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// A push for which its site's queue has no room.
    stuck: Option<Handover>,
    work: VecDeque<Work>,
    pushed: Vec<Awaited>,
    notices: mpsc::Receiver<Notice>,
    cut: Arc<Notify>,
    cut_off: bool,
}

impl Connection {
    pub(super) fn new(id: u64, sites: Arc<Sites>, access: Arc<Access>) -> Self {
        let (sender, notices) = mpsc::channel(limits::NOTICES_MAX);
        let cut = Arc::new(Notify::new());
        let known = access.is_open();
        let watcher = Watcher { notices: sender, cut: Arc::clone(&cut) };
        Self {
            desk: Desk::new(id, sites, access, known, watcher),
            inbox: VecDeque::new(),
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            stuck: None,
            work: VecDeque::new(),
            pushed: Vec::new(),
            notices,
            cut,
            cut_off: false,
        }
    }

    pub(super) fn receive(&mut self, frame: Bytes) {
        self.inbox.push_back(frame);
    }

    pub(super) fn take_frame(&mut self) -> Option<Bytes> {
        let frame = self.unsent.pop_front()?;
        self.unsent_bytes -= frame.len();
        Some(frame)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.cut_off || self.desk.is_closing()
    }

    /// `None` while no silence of the peer counts.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        (!self.is_closing() && !self.is_waiting()).then(|| self.desk.deadline_ms())
    }

    pub(super) fn tick(&mut self) {
        if !self.is_closing() && !self.is_waiting() {
            self.desk.tick();
            self.collect();
        }
    }

    pub(super) fn stop_reading(&mut self) {
        self.inbox.clear();
    }

    pub(super) fn close_for_stop(&mut self) {
        self.desk.close_for_stop();
        self.collect();
    }

    /// Does one thing; false when there is none.
    pub(super) fn serve(&mut self) -> bool {
        if self.is_closing() {
            return false;
        }
        if pin!(self.cut.notified()).now_or_never().is_some() {
            self.cut_off = true;
            self.unsent.clear();
            self.unsent_bytes = 0;
            tracing::info!(connection = self.desk.id(), "cut off: its peer does not read");
            return true;
        }
        if self.unsent_bytes >= limits::ENGINE_UNSENT_BYTES {
            return false;
        }
        let did = match self.stuck.take() {
            Some(handover) => self.queue(handover),
            None => self.begin() || self.finish(),
        };
        self.collect() || did
    }

    /// Whether the connection has not come back from sending, or from a site's queue.
    fn is_waiting(&self) -> bool {
        self.stuck.is_some() || self.unsent_bytes >= limits::ENGINE_UNSENT_BYTES
    }

    /// Begins the next thing that the peer has asked for.
    fn begin(&mut self) -> bool {
        match self.desk.next() {
            Next::Idle => return false,
            Next::Beside(work) => self.work.push_back(work),
            Next::First(work) => self.desk.done(work.run()),
            Next::Queue(handover) => drop(self.queue(handover)),
        }
        true
    }

    /// Puts a push in its site's queue; false when that has no room yet.
    fn queue(&mut self, handover: Handover) -> bool {
        let Handover { open, job, answer } = handover;
        match open.try_hand(job) {
            Ok(None) => self.pushed.push(answer),
            Ok(Some(job)) => {
                self.stuck = Some(Handover { open, job, answer });
                return false;
            }
            Err(error) => self.desk.done(answer.refused(error)),
        }
        true
    }

    /// Takes the next thing that came from the peer, from work begun before, or from a site.
    fn finish(&mut self) -> bool {
        if self.desk.wants_frame()
            && let Some(frame) = self.inbox.pop_front()
        {
            self.desk.frame(frame);
            return true;
        }
        if let Some(work) = self.work.pop_front() {
            self.desk.done(work.run());
            return true;
        }
        let answered =
            self.pushed.iter_mut().enumerate().find_map(|(at, it)| Some((at, it.poll()?)));
        if let Some((at, outcome)) = answered {
            self.pushed.remove(at);
            self.desk.done(outcome);
            return true;
        }
        match self.notices.try_recv() {
            Ok(notice) => self.desk.notify(&notice),
            Err(_) => return false,
        }
        true
    }

    /// Moves the desk's messages to where the peer takes them; false when there were none.
    fn collect(&mut self) -> bool {
        let before = self.unsent.len();
        while let Some(frame) = self.desk.poll_frame() {
            self.unsent_bytes += frame.len();
            self.unsent.push_back(frame);
        }
        self.unsent.len() > before
    }
}
