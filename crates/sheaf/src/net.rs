//! The tokio runtime of a client, and how a thread waits for what runs there.
//!
//! Invariant: started at first use and never entered by a caller's thread, so that waiting works
//! from any thread, also from one of somebody else's runtime. Dropping it blocks nobody: whoever
//! owns tasks has ended them before.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use sheaf_site::{Error, ErrorKind};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Semaphore,
};

use crate::limits;

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
    pub(crate) fn handle(&self) -> sheaf_site::Result<Handle> {
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

/// What comes from a future that runs there.
#[derive(Debug)]
enum Step<E> {
    Piece(Bytes),
    End(Result<(), E>),
}

/// Where a future puts the pieces that a waiting thread takes.
#[derive(Debug)]
pub(crate) struct Outlet<E> {
    steps: mpsc::Sender<Step<E>>,
    room: Arc<Semaphore>,
}

impl<E> Outlet<E> {
    /// Hands over a piece as soon as there is room; false when nobody takes it any more.
    pub(crate) async fn put(&self, piece: Bytes) -> bool {
        let Ok(room) = self.room.acquire().await else { return false };
        room.forget();
        self.steps.send(Step::Piece(piece)).is_ok()
    }
}

/// Runs a future there and blocks the calling thread until it is done; what the future puts into
/// its outlet is taken on the calling thread meanwhile.
///
/// # Errors
/// Those of the future and of `take`, whichever is first; `Closed` when the client was dropped
/// meanwhile.
pub(crate) fn stream<E, F>(
    handle: &Handle,
    future: impl FnOnce(Outlet<E>) -> F,
    take: &mut dyn FnMut(Bytes) -> sheaf_site::Result<()>,
) -> Result<(), E>
where
    E: From<Error> + Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    // The channel itself has no bound, because waiting for room must be asynchronous on one side
    // and receiving must not be on the other.
    let (steps, receive) = mpsc::channel();
    let room = Arc::new(Semaphore::new(limits::PIECES_MAX));
    let future = future(Outlet { steps: steps.clone(), room: Arc::clone(&room) });
    let task = handle.spawn(async move {
        // The receiver is only gone when the waiting thread is.
        let _ = steps.send(Step::End(future.await)).is_ok();
    });
    let outcome = loop {
        match receive.recv() {
            Ok(Step::Piece(piece)) => {
                room.add_permits(1);
                if let Err(error) = take(piece) {
                    break Err(error.into());
                }
            }
            Ok(Step::End(outcome)) => break outcome,
            Err(_) => break Err(Error::new(ErrorKind::Closed, "the client was closed").into()),
        }
    };
    // It may still have pieces that nobody wants.
    task.abort();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_and_an_error_of_the_reader_ends_the_writer() {
        let net = Net::default();
        let handle = net.handle().unwrap();
        let many = limits::PIECES_MAX * 3;
        let write = move |outlet: Outlet<Error>| async move {
            for n in 0..many {
                if !outlet.put(Bytes::from(n.to_string())).await {
                    return Err(Error::invalid("nobody reads"));
                }
            }
            Ok(())
        };
        let mut got = Vec::new();
        stream(&handle, write, &mut |piece| {
            got.push(piece);
            Ok(())
        })
        .unwrap();
        assert_eq!(got, (0..many).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>());

        let mut taken = 0;
        let failed = stream(&handle, write, &mut |_| {
            taken += 1;
            if taken < 3 { Ok(()) } else { Err(Error::corrupt("enough")) }
        });
        assert_eq!((taken, failed.unwrap_err().kind()), (3, ErrorKind::Corrupt));
    }
}
