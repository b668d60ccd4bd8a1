//! What happens to a site while a person types: as grey lines above the prompt.
//!
//! Invariant: one thread per shell, ended with it; losing a notice harms nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustyline::ExternalPrinter;

use crate::backend::Notices;

/// How long the end of a shell may have to wait for its thread.
const INTERVAL: Duration = Duration::from_millis(200);

/// Prints notices until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins; `None` if the system has no thread to spare, and then there are no notices.
    pub(super) fn start(
        notices: Notices,
        mut printer: impl ExternalPrinter + Send + 'static,
    ) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watch = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(notice) = notices.next_within(INTERVAL) {
                    // A terminal that cannot be written to has nobody in front of it.
                    drop(printer.print(format!("{}\n", grey(&notice))));
                }
            }
        };
        let thread = std::thread::Builder::new().name("sheaf-notices".into()).spawn(watch).ok()?;
        Some(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Grey on a terminal that wants colours.
fn grey(text: &str) -> String {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        text.to_owned()
    } else {
        format!("\u{1b}[90m{text}\u{1b}[0m")
    }
}
