//! The process's stdout and stderr.
//!
//! Invariant: a reader that went away (`sheaf sql ... | head`) is not an error: what is written
//! afterwards is dropped, so that a command still finishes the exchange it began. Nothing here
//! panics, unlike `println!`.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

use serde_json::{Value, json};

use crate::{
    exit::{Failure, one_line},
    sql::RowSink,
};

/// Where a command prints.
#[derive(Debug)]
pub(crate) struct Console {
    out: BufWriter<Stdout>,
    json: bool,
    gone: bool,
    has_failed: bool,
}

impl Console {
    pub(crate) fn new(json: bool) -> Self {
        Self { out: BufWriter::new(io::stdout()), json, gone: false, has_failed: false }
    }

    /// Whether results and errors are JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether output was lost for another reason than that nobody wanted it.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether a person reads stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        self.out.get_ref().is_terminal()
    }

    /// Prints text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        self.put(text.as_bytes());
    }

    /// Prints one line.
    pub(crate) fn line(&mut self, line: &str) {
        self.put(line.as_bytes());
        self.put(b"\n");
    }

    /// Prints one JSON value on a line of its own.
    pub(crate) fn value(&mut self, value: &Value) {
        self.line(&value.to_string());
    }

    /// Hands everything to the reader now.
    pub(crate) fn flush(&mut self) {
        let flushed = self.out.flush();
        self.note(flushed);
    }

    /// Reports a failure on stderr, in one line.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.report("error", failure.kind, &failure.message);
    }

    /// Reports something that did not stop the command, in one line on stderr.
    pub(crate) fn warn(&mut self, kind: &str, message: &str) {
        self.report("warning", kind, message);
    }

    /// Tells a person something on stderr; scripts that ask for JSON are spared.
    pub(crate) fn tell(&mut self, message: &str) {
        if !self.json {
            self.stderr(&one_line(message));
        }
    }

    /// Tells on stderr what nobody may miss, in one line; with JSON as an object.
    pub(crate) fn must_tell(&mut self, message: &str) {
        if self.json {
            self.report("note", "note", message);
        } else {
            self.stderr(&one_line(message));
        }
    }

    fn report(&mut self, level: &str, kind: &str, message: &str) {
        let message = one_line(message);
        if self.json {
            self.stderr(&json!({ level: message, "kind": kind }).to_string());
        } else {
            self.stderr(&format!("{level}: {message}"));
        }
    }

    /// Rows that were already produced come first, so that both streams read in order.
    fn stderr(&mut self, line: &str) {
        self.flush();
        let mut stderr = io::stderr().lock();
        // A closed stderr leaves nobody to tell.
        drop(writeln!(stderr, "{line}"));
    }

    fn put(&mut self, bytes: &[u8]) {
        if !self.gone {
            let written = self.out.write_all(bytes);
            self.note(written);
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            if error.kind() != ErrorKind::BrokenPipe && !self.gone {
                self.has_failed = true;
                drop(writeln!(io::stderr().lock(), "error: write to stdout failed: {error}"));
            }
            self.gone = true;
        }
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::flush(self);
        Ok(())
    }
}

impl RowSink for Console {
    fn reader_is_gone(&self) -> bool {
        self.gone
    }
}
