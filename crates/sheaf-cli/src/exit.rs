//! How a command ends: the exit status, and the one line that says why and what to do next.
//!
//! Invariant: a `Failure` prints as exactly one line, whatever text went into it. Scripts rely on
//! the four codes; a fifth needs a decision record.

use std::any::Any;

/// The exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for was done.
    Done,
    /// Refused or failed, a mutation rejected by the authority included.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Done on this device, but the server could not be reached.
    Unreachable,
    /// The status a shell script chose with `.exit N`.
    Chosen(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Chosen(code) => code,
        }
    }
}

/// Why a command did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// A stable word for scripts, such as `denied` or `sql`.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

impl Failure {
    /// Refused or failed: exit status 1.
    pub(crate) fn new(kind: &'static str, message: impl AsRef<str>) -> Self {
        Self { exit: Exit::Failed, kind, message: one_line(message.as_ref()) }
    }

    /// Wrong usage: exit status 2.
    pub(crate) fn usage(message: impl AsRef<str>) -> Self {
        Self { exit: Exit::Usage, kind: "usage", message: one_line(message.as_ref()) }
    }

    /// A bug of ours.
    pub(crate) fn internal(message: impl AsRef<str>) -> Self {
        let text = message.as_ref();
        Self::new("internal", format!("this is a bug in sheaf, please report it: {text}"))
    }

    /// Says what was being done; `doing` is a phrase such as `read stdin`.
    pub(crate) fn io(doing: &str, source: &std::io::Error) -> Self {
        Self::new("io", format!("{doing} failed: {source}"))
    }

    /// Adds what the caller should know besides.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        self.message = one_line(&format!("{}; {note}", self.message));
        self
    }
}

/// Folds any text into one line, so that one failure is always one line on stderr.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What a panic said, as far as it said anything.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::new("sql", "near \"x\":\n  syntax error\n\n\tat \u{7} 3\n");
        assert_eq!(failure.message, "near \"x\": syntax error at   3");
    }

    #[test]
    fn codes_are_the_contract() {
        let codes = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unreachable, Exit::Chosen(9)];
        assert_eq!(codes.map(Exit::code), [0, 1, 2, 3, 9]);
    }
}
