//! How far a long command has come: one line on stderr that is written over itself.
//!
//! Invariant: only a person at a terminal sees it, after a second, a few times per second, and it
//! is gone before anything else is printed; with `--json` there is none. What is shown is a pure
//! function of samples. Leaves out measuring: time is counted in looks.

use std::{
    io::{IsTerminal, Write as _, stderr},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::{commands::bytes, console::Console};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);
/// Looks before the first line: a short command shows none.
const QUIET_LOOKS: u64 = 4;
/// Looks that one second has.
const LOOKS_PER_SECOND: u64 = 4;

/// What is done and what there is, told by whoever works.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    done: AtomicU64,
    all: AtomicU64,
}

impl Meter {
    /// Sets what is done, and what there is in all (0: not known).
    pub(crate) fn set(&self, done: u64, all: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.all.store(all, Ordering::Relaxed);
    }

    pub(crate) fn sample(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed))
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Pages of this many bytes.
    Pages(u64),
    Bytes,
    Rows,
}

/// Does `work` and shows meanwhile what `sample` gives: done, and in all (0: not known).
pub(crate) fn during<T>(
    console: &mut Console,
    doing: &str,
    unit: Unit,
    sample: impl Fn() -> (u64, u64) + Send + Sync,
    work: impl FnOnce() -> T,
) -> T {
    if console.json() || !stderr().is_terminal() {
        return work();
    }
    console.flush();
    std::thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        let show = move || {
            let (mut looks, mut shown) = (0, false);
            let first = sample().0;
            // Dropping the sender ends it, also when the work panics.
            while end.recv_timeout(PERIOD) == Err(mpsc::RecvTimeoutError::Timeout) {
                looks += 1;
                if looks >= QUIET_LOOKS {
                    let line = line(doing, unit, first, sample(), looks);
                    // Nobody to tell is no error.
                    drop(write!(stderr().lock(), "\r{line}\x1b[K"));
                    shown = true;
                }
            }
            if shown {
                drop(write!(stderr().lock(), "\r\x1b[K"));
            }
        };
        // Without a thread the work is done all the same.
        let shown = std::thread::Builder::new().name("sheaf-progress".into());
        let shown = shown.spawn_scoped(scope, show);
        let done = work();
        drop(ended);
        drop(shown.map(|thread| drop(thread.join())));
        done
    })
}

fn line(doing: &str, unit: Unit, first: u64, (done, all): (u64, u64), looks: u64) -> String {
    let of = if all > 0 { format!(" of {}", amount(unit, all)) } else { String::new() };
    let mut parts = vec![format!("{doing}: {}{of}", amount(unit, done))];
    if let Unit::Pages(size) = unit {
        parts.push(bytes(done.saturating_mul(size)));
    }
    let fresh = done.saturating_sub(first);
    let rate = fresh.saturating_mul(LOOKS_PER_SECOND) / looks.max(1);
    if rate > 0 {
        let shown = match unit {
            Unit::Pages(size) => bytes(rate.saturating_mul(size)),
            _ => amount(unit, rate),
        };
        parts.push(format!("{shown}/s"));
        if all > done {
            parts.push(format!("{} left", duration((all - done) / rate)));
        }
    }
    parts.join(", ")
}

fn amount(unit: Unit, number: u64) -> String {
    match unit {
        Unit::Pages(_) => format!("{number} pages"),
        Unit::Bytes => bytes(number),
        Unit::Rows => format!("{number} rows"),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_pages_bytes_rate_and_what_is_left() {
        let pages = Unit::Pages(4096);
        assert_eq!(
            line("clone", pages, 0, (2_560, 25_600), 8),
            "clone: 2560 pages of 25600 pages, 10.0 MiB, 5.0 MiB/s, 18 s left"
        );
        assert_eq!(line("import", Unit::Rows, 0, (900, 0), 4), "import: 900 rows, 900 rows/s");
        // What was done before does not make it look fast; nothing done yet has no rate.
        assert_eq!(
            line("push", Unit::Bytes, 1024, (2048, 4096), 4),
            "push: 2.0 KiB of 4.0 KiB, 1.0 KiB/s, 2 s left"
        );
        assert_eq!(line("push", Unit::Bytes, 0, (0, 4096), 4), "push: 0 B of 4.0 KiB");
        assert_eq!([duration(59), duration(61), duration(3_661)], ["59 s", "1:01 min", "1:01 h"]);
    }
}
