//! Programs that take turns: a host's program runs until it waits, and nothing else runs meanwhile.
//!
//! Each program has a thread of its own, but a thread runs only while it holds the baton, which
//! the scheduler hands to one at a time: the order of everything follows from the scheduler alone.
//! Threads and not coroutines on one stack, because the engine keeps what `now` means while a
//! mutator runs in a thread-local, and because nobody can unwind through SQLite's C frames.
//!
//! Invariant: at most one program or the scheduler runs at any moment. Leaves out virtual time:
//! see [`crate::world`].

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

/// Real time after which a program that neither waits nor ends is taken for stuck: no turn of a
/// healthy program takes a hundredth of it.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The program waits.
    Waits,
    /// The program is over.
    Ended,
    /// The program panicked, with this message.
    Panicked(String),
    /// The program hangs: a deadlock or an endless loop.
    Stuck,
}

/// The scheduler's end of a program.
#[derive(Debug)]
pub(crate) struct Fiber {
    resume: SyncSender<()>,
    turns: Receiver<Turn>,
    thread: Option<JoinHandle<()>>,
}

/// The program's end.
#[derive(Debug)]
pub(crate) struct Baton {
    resumed: Mutex<Receiver<()>>,
    turns: SyncSender<Turn>,
}

impl Baton {
    /// Gives the baton back and waits for the next turn.
    pub(crate) fn wait(&self) {
        // Neither end disappears before the program is over: the scheduler runs every program to
        // its end.
        let _ = self.turns.send(Turn::Waits).is_ok();
        self.take();
    }

    fn take(&self) {
        let resumed = self.resumed.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = resumed.recv().is_ok();
    }
}

impl Fiber {
    /// A program that begins with its first [`Self::resume`]. `make` gets the baton and gives the
    /// program.
    pub(crate) fn new<P: FnOnce() + Send + 'static>(
        name: &str,
        make: impl FnOnce(Arc<Baton>) -> P,
    ) -> Self {
        let (resume, resumed) = sync_channel(1);
        let (turn, turns) = sync_channel(1);
        let baton = Arc::new(Baton { resumed: Mutex::new(resumed), turns: turn });
        let program = make(Arc::clone(&baton));
        let run = move || {
            baton.take();
            let ended = match catch_unwind(AssertUnwindSafe(program)) {
                Ok(()) => Turn::Ended,
                Err(panic) => Turn::Panicked(message(&*panic)),
            };
            let _ = baton.turns.send(ended).is_ok();
        };
        let thread = Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.expect("BUG: a simulator needs a thread per host");
        Self { resume, turns, thread: Some(thread) }
    }

    /// Lets the program run until it waits or has ended.
    pub(crate) fn resume(&mut self) -> Turn {
        let _ = self.resume.send(()).is_ok();
        let turn = match self.turns.recv_timeout(STUCK_AFTER) {
            Ok(turn) => turn,
            Err(RecvTimeoutError::Timeout) => return Turn::Stuck,
            Err(RecvTimeoutError::Disconnected) => Turn::Ended,
        };
        if turn != Turn::Waits
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join().is_ok();
        }
        turn
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_take_turns_and_their_ends_are_told() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let program = |name: &'static str, rounds: u32| {
            let said = Arc::clone(&said);
            Fiber::new(name, move |baton| {
                move || {
                    for round in 0..rounds {
                        said.lock().unwrap().push((name, round));
                        baton.wait();
                    }
                    assert!(rounds < 2, "{name} is tired");
                }
            })
        };
        let (mut a, mut b) = (program("a", 2), program("b", 1));
        assert!(said.lock().unwrap().is_empty(), "nothing runs before its first turn");
        assert_eq!((a.resume(), b.resume(), a.resume()), (Turn::Waits, Turn::Waits, Turn::Waits));
        assert_eq!(*said.lock().unwrap(), [("a", 0), ("b", 0), ("a", 1)]);
        assert_eq!(b.resume(), Turn::Ended);
        assert_eq!(a.resume(), Turn::Panicked("a is tired".to_owned()));
    }
}
