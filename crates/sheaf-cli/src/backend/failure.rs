//! What to do about an error of the library, in words.
//!
//! Invariant: every kind has advice; whether the server could not be reached (go on locally) or
//! refused (stop) is decided here and nowhere else.

use sheaf::{Error, ErrorKind};

use crate::exit::{Exit, Failure};

/// Why an exchange did not happen.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The server did not answer, or its answer was lost: the work stays here and is sent later.
    Unreachable(String),
    /// The server answered no, or something is wrong that waiting does not mend.
    Refused(Failure),
}

impl Refusal {
    /// As the end of a command that was about the exchange itself.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Refused(failure) => failure,
            Self::Unreachable(reason) => {
                let message = format!(
                    "the server could not be reached ({reason}): see that it runs and that the \
                     URL is right, then try again; what was changed here is kept"
                );
                Failure { exit: Exit::Unreachable, ..Failure::new("unavailable", message) }
            }
        }
    }
}

/// Sorts an error of an exchange.
pub(crate) fn refusal(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Ambiguous => Refusal::Unreachable(error.to_string()),
        _ => Refusal::Refused(of(error)),
    }
}

/// Sorts an error of a site's exchange: a conflict that no rebase settles names the commands that
/// do.
pub(crate) fn of_exchange(site: &str, error: &Error) -> Refusal {
    match way_out(site, error) {
        None => refusal(error),
        Some(note) => {
            let failure = Failure::new(name(error.kind()), error.to_string());
            Refusal::Refused(failure.with_note(&note))
        }
    }
}

/// The commands that settle a conflict, if an error is one.
fn way_out(site: &str, error: &Error) -> Option<String> {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Conflict => Some(format!(
            "`sheaf push {site}` tries again, `sheaf reset {site} --fork NEW` keeps what was \
             changed here as a branch"
        )),
        // The log is another one, has gone on without this replica, or is damaged.
        ErrorKind::Corrupt | ErrorKind::Expired => Some(format!(
            "`sheaf verify {site}` says what is wrong; `sheaf export {site} FILE` keeps what is \
             here, and `sheaf clone {site}` in another --dir takes what the server has"
        )),
        ErrorKind::Invalid if OTHER_SITE.iter().any(|words| text.contains(words)) => Some(format!(
            "`sheaf export {site} FILE` and `sheaf import FILE NEW` keep what is here under \
             another name"
        )),
        _ => None,
    }
}

/// What the refusal of a site that is not this replica's says.
const OTHER_SITE: [&str; 2] = ["belongs to another site", "was made with pages of"];

/// The failure that an error of the library is.
pub(crate) fn of(error: &Error) -> Failure {
    let failure = Failure::new(name(error.kind()), error.to_string());
    match advice(error.kind()) {
        Some(advice) if !says_what_to_do(&failure.message) => failure.with_note(advice),
        _ => failure,
    }
}

/// Whether an error of the library says itself what to do; twice is once too often.
pub(crate) fn says_what_to_do(message: &str) -> bool {
    ADVISING.iter().any(|words| message.contains(words))
}

/// The failure of a node that could not start or go on; the node's words say what to do,
/// except about what the system said.
pub(crate) fn node_failure(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::Io => of(error),
        kind => Failure::new(name(kind), error.to_string()),
    }
}

/// What an error says that says what to do.
const ADVISING: [&str; 12] = [
    "ask its operator",
    "restore it",
    "try again",
    "upgrade",
    "close the other",
    "check the",
    "open it again",
    "name one",
    "go online",
    "free some space",
    "restore it from a backup",
    "restore the store",
];

/// A stable word for scripts.
fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Conflict => "conflict",
        ErrorKind::Busy => "busy",
        ErrorKind::Closed => "closed",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Ambiguous => "ambiguous",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Denied => "denied",
        ErrorKind::Limit => "limit",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Expired => "expired",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Io => "io",
        _ => "internal",
    }
}

fn advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Conflict => "others keep writing: try again",
        ErrorKind::Busy => "another process uses this site: end it, or give another --dir",
        ErrorKind::Closed => "start again; what was acknowledged is kept",
        ErrorKind::Unavailable => "see that the server runs and that its URL is right",
        ErrorKind::Ambiguous => "try again: the outcome is looked up first",
        ErrorKind::Denied => "give a token that is let in with --token or SHEAF_TOKEN",
        ErrorKind::Limit => "make it smaller or split it",
        ErrorKind::Expired => "that state is no longer kept: take a newer one",
        ErrorKind::Corrupt => {
            "stop writing, keep a copy of the directory, and clone the site afresh"
        }
        ErrorKind::Unsupported => "install a newer sheaf",
        ErrorKind::Io => "see that the directory can be written and the disk has room",
        // What is wrong or missing is said by the error; who called knows where to look.
        ErrorKind::Invalid | ErrorKind::NotFound => return None,
        _ => "this is a bug in sheaf, please report it",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_of_the_server_lets_work_go_on() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Ambiguous] {
            assert!(matches!(refusal(&Error::new(kind, "x")), Refusal::Unreachable(_)));
        }
        for kind in [ErrorKind::Denied, ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::Io] {
            assert!(matches!(refusal(&Error::new(kind, "x")), Refusal::Refused(_)), "{kind:?}");
        }
    }

    #[test]
    fn conflicts_name_the_commands_that_settle_them() {
        let told = |kind, text: &str| {
            let Refusal::Refused(failure) = of_exchange("team/s", &Error::new(kind, text)) else {
                panic!("{kind:?} lets work go on");
            };
            (failure.kind, failure.message)
        };
        for (kind, text, command) in [
            (ErrorKind::Conflict, "others were faster", "`sheaf reset team/s --fork NEW`"),
            (ErrorKind::Corrupt, "the log was replaced", "`sheaf export team/s FILE`"),
            (ErrorKind::Expired, "reclaimed", "`sheaf clone team/s` in another --dir"),
            (ErrorKind::Invalid, "this replica already belongs to another site", "sheaf import"),
        ] {
            let (known, message) = told(kind, text);
            assert_eq!(known, name(kind));
            assert!(message.starts_with(text) && message.contains(command), "{message}");
        }
        assert_eq!(told(ErrorKind::Invalid, "no").1, "no");
        let silent = of_exchange("s", &Error::new(ErrorKind::Unavailable, "x"));
        assert!(matches!(silent, Refusal::Unreachable(_)));
    }

    #[test]
    fn advice_follows_the_reason_on_one_line() {
        let failure = of(&Error::new(ErrorKind::Denied, "token\nis unknown"));
        assert_eq!(failure.kind, "denied");
        assert_eq!(
            failure.message,
            "token is unknown; give a token that is let in with --token or SHEAF_TOKEN"
        );
    }

    #[test]
    fn advice_is_not_given_twice() {
        let text = "this replica is in use; close the other program first";
        assert_eq!(of(&Error::new(ErrorKind::Busy, text)).message, text);
        assert_eq!(of(&Error::new(ErrorKind::Invalid, "no")).message, "no");
    }
}
