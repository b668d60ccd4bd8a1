//! What happened in a run, line by line, and a hash of it.
//!
//! Invariant: two runs of one seed have the same hash, or something in them did not follow from
//! the seed. Leaves out pages and SQL: a line names them by position and number.

use std::fmt;

/// Lines of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    lines: u64,
    /// The newest lines, for a report; all of them when asked for.
    kept: std::collections::VecDeque<String>,
    keep: usize,
    print: bool,
}

impl Trace {
    /// Keeps the newest `keep` lines; prints each one as it comes if asked to.
    pub(crate) fn new(keep: usize, print: bool) -> Self {
        let kept = std::collections::VecDeque::new();
        Self { hasher: blake3::Hasher::new(), lines: 0, kept, keep, print }
    }

    /// Adds a line: when, who, what.
    pub(crate) fn line(&mut self, now_ms: u64, who: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        let line = format!("{:>10} {who:<6} {what}", Seconds(now_ms));
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        self.lines += 1;
        if self.print {
            print(&line);
        }
        if self.kept.len() == self.keep {
            self.kept.pop_front();
        }
        if self.keep > 0 {
            self.kept.push_back(line);
        }
    }

    /// The hash of every line so far, in hexadecimal.
    #[must_use]
    pub(crate) fn hash(&self) -> String {
        self.hasher.finalize().to_hex().chars().take(16).collect()
    }

    /// How many lines there were.
    #[must_use]
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The newest lines.
    #[must_use]
    pub(crate) fn newest(&self) -> Vec<String> {
        self.kept.iter().cloned().collect()
    }
}

#[expect(clippy::print_stdout, reason = "a verbose replay is for somebody who reads along")]
fn print(line: &str) {
    println!("{line}");
}

/// Milliseconds, shown as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000))
    }
}
