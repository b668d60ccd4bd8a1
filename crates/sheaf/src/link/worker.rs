//! The thread of a link: owns the driver, waits for inputs, wishes and deadlines.
//!
//! Invariant: decides nothing. It is no thread of the runtime, which therefore always moves while
//! the driver works.

use std::{sync::Arc, time::Duration};

use sheaf_sync::Identity;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    time::timeout,
};

use super::{
    Driver, Wishes,
    socket::{Input, Sockets},
};
use crate::{
    clock::{self, Monotonic},
    http::Http,
    limits,
};

#[derive(Debug)]
pub(super) struct Worker {
    driver: Driver<Sockets>,
    inputs: mpsc::Receiver<Input>,
    wake: Arc<Notify>,
    runtime: Handle,
}

impl Worker {
    pub(super) fn new(
        wishes: &Arc<Wishes>,
        http: &Arc<Http>,
        identity: Identity,
        runtime: Handle,
        wake: Arc<Notify>,
    ) -> Self {
        let (input, inputs) = mpsc::channel(limits::INPUTS_MAX);
        let sockets = Sockets::new(Arc::clone(http), input, runtime.clone(), Arc::clone(&wake));
        let driver = Driver::new(Arc::clone(wishes), identity, Arc::new(Monotonic), sockets);
        Self { driver, inputs, wake, runtime }
    }

    /// Works until the link is dropped.
    pub(super) fn run(mut self) {
        while !self.driver.wishes().is_stopped() {
            let deadline = self.driver.step();
            match self.wait(deadline) {
                Some(Input::Connected(number)) => self.driver.connected(number),
                Some(Input::Frame(number, frame)) => self.driver.frame(number, frame),
                Some(Input::Closed(number, error)) => self.driver.closed(number, error),
                None => {}
            }
        }
    }

    fn wait(&mut self, deadline: Option<u64>) -> Option<Input> {
        // A full hour stands for "until woken"; waking early does no harm.
        let pause = deadline.map_or(3_600_000, |at| at.saturating_sub(clock::now_ms()));
        let (inputs, wake) = (&mut self.inputs, &self.wake);
        self.runtime.block_on(async {
            let next = async {
                tokio::select! {
                    input = inputs.recv() => input,
                    () = wake.notified() => None,
                }
            };
            timeout(Duration::from_millis(pause), next).await.unwrap_or_default()
        })
    }
}
