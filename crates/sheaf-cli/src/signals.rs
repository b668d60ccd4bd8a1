//! SIGINT and SIGTERM, as something to wait for.
//!
//! Invariant: from the moment `listen` returns, a signal is remembered until it is waited for, and
//! no longer ends the process by itself. Where there are no Unix signals, only Ctrl-C is known.

use tokio::runtime::{Builder, Runtime};

use crate::exit::Failure;

/// Which signals to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-C, and the wish of a service manager.
    InterruptOrTerminate,
}

/// Signals that have been asked for.
#[derive(Debug)]
pub(crate) struct Signals {
    runtime: Runtime,
    #[cfg(unix)]
    streams: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn listen(wanted: Wanted) -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = match wanted {
            Wanted::Interrupt => vec![SignalKind::interrupt()],
            Wanted::InterruptOrTerminate => vec![SignalKind::interrupt(), SignalKind::terminate()],
        };
        let runtime = runtime()?;
        let streams = {
            let _entered = runtime.enter();
            kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()
        };
        let streams = streams.map_err(|error| Failure::io("listen for signals", &error))?;
        Ok(Self { runtime, streams })
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub(crate) fn next(&mut self) {
        use std::task::Poll;
        let streams = &mut self.streams;
        self.runtime.block_on(std::future::poll_fn(|context| {
            // Every stream is asked every time, so that every one wakes this up.
            let mut came = false;
            for stream in streams.iter_mut() {
                came |= stream.poll_recv(context).is_ready();
            }
            if came { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    #[cfg(not(unix))]
    pub(crate) fn listen(_wanted: Wanted) -> Result<Self, Failure> {
        Ok(Self { runtime: runtime()? })
    }

    /// Waits for the next one.
    #[cfg(not(unix))]
    pub(crate) fn next(&mut self) {
        // An error means that none can ever arrive: then the process runs until it is killed.
        if self.runtime.block_on(tokio::signal::ctrl_c()).is_err() {
            self.runtime.block_on(std::future::pending::<()>());
        }
    }
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::io("listen for signals", &error))
}
