//! Ctrl-C while a statement runs.
//!
//! Invariant: it ends the statement, not the shell; with no statement running it ends the process,
//! as it would without this file.

use std::{
    process,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, InterruptHandle};

use crate::signals::{Signals, Wanted};

/// What a shell reports when it was ended by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Knows which statement runs.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    running: Arc<Mutex<Option<InterruptHandle>>>,
}

impl Interrupts {
    /// Begins to listen; where that is impossible, Ctrl-C ends the process as usual.
    pub(super) fn listen() -> Self {
        let interrupts = Self::default();
        let running = Arc::clone(&interrupts.running);
        // Here and not in the thread: the line editor saves and restores the handler that it
        // finds, which must already be this one.
        let Ok(mut signals) = Signals::listen(Wanted::Interrupt) else {
            return interrupts;
        };
        let serve = move || {
            loop {
                signals.next();
                match &*running.lock().unwrap_or_else(PoisonError::into_inner) {
                    Some(statement) => statement.interrupt(),
                    None => process::exit(EXIT_INTERRUPTED),
                }
            }
        };
        drop(std::thread::Builder::new().name("sheaf-interrupts".into()).spawn(serve));
        interrupts
    }

    /// Runs `work`, which uses `db` and may be interrupted.
    pub(super) fn during<T>(&self, db: &Connection, work: impl FnOnce() -> T) -> T {
        self.set(Some(db.get_interrupt_handle()));
        let result = work();
        self.set(None);
        result
    }

    fn set(&self, handle: Option<InterruptHandle>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }
}
