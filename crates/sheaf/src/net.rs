//! The tokio runtime of a client, and how a thread waits for what runs there.
//!
//! Invariant: started at first use and never entered by a caller's thread, so that waiting works
//! from any thread, also from one of somebody else's runtime. Dropping it blocks nobody: whoever
//! owns tasks has ended them before.

use std::sync::{Mutex, PoisonError, mpsc};

use sheaf_site::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// Network threads: frames and pages are moved, not computed on.
const THREADS: usize = 2;

/// The runtime, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Net {
    runtime: Mutex<Option<Runtime>>,
}

impl Net {
    /// A handle to the runtime, which is started if it was not.
    ///
    /// # Errors
    /// `Io` when the system gives no threads.
    pub(crate) fn handle(&self) -> Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.as_ref() {
            return Ok(runtime.handle().clone());
        }
        let started = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("sheaf-net")
            .enable_all()
            .build()
            .map_err(|e| Error::io("start network threads", e))?;
        Ok(runtime.insert(started).handle().clone())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            // Dropping a runtime waits, which panics on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Runs a future there and blocks the calling thread until it is done.
///
/// # Errors
/// Those of the future; `Closed` when the client was dropped meanwhile.
pub(crate) fn wait<T: Send + 'static>(
    handle: &Handle,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (send, receive) = mpsc::sync_channel(1);
    let task = handle.spawn(async move {
        // The receiver is only gone when the waiting thread is.
        let _ = send.send(future.await).is_ok();
    });
    let outcome = receive.recv();
    drop(task);
    outcome.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the client was closed")))
}
