//! The `--view` flag: which of a site's states a command reads.
//!
//! Invariant: parsing never guesses. `@` with a number of at most 10^11 is a position in the log,
//! any greater number is milliseconds since 1970, everything else is a time.

use crate::time;

/// From this number on, `@N` is a time: 10^11 ms is in 1973, and no log is that long.
const LEAST_TIME_MS: u64 = 100_000_000_000;

/// A state of a site as named on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ViewArg {
    /// What this device sees, its own unconfirmed changes included.
    #[default]
    Local,
    /// What everybody has agreed on, as far as this device knows.
    Global,
    /// The state at a position in the log.
    At(u64),
    /// The last state that was agreed on at a time, in milliseconds since 1970.
    AtTime(u64),
}

/// Parses the value of `--view`.
pub(crate) fn parse(text: &str) -> Result<ViewArg, String> {
    match text {
        "local" => return Ok(ViewArg::Local),
        "global" => return Ok(ViewArg::Global),
        _ => {}
    }
    let point = text.strip_prefix('@').filter(|point| !point.is_empty());
    let parsed = point.and_then(|point| match point.parse::<u64>() {
        Ok(number) if number > LEAST_TIME_MS => Some(ViewArg::AtTime(number)),
        Ok(number) => Some(ViewArg::At(number)),
        Err(_) => time::parse(point).map(ViewArg::AtTime),
    });
    parsed.ok_or_else(|| {
        "give local, global, @LSN, or @TIME (as in @2026-01-31T12:00:00Z or milliseconds)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_positions_and_times() {
        assert_eq!(parse("local"), Ok(ViewArg::Local));
        assert_eq!(parse("global"), Ok(ViewArg::Global));
        assert_eq!(parse("@17"), Ok(ViewArg::At(17)));
        assert_eq!(parse("@100000000000"), Ok(ViewArg::At(100_000_000_000)));
        assert_eq!(parse("@100000000001"), Ok(ViewArg::AtTime(100_000_000_001)));
        assert_eq!(parse("@2001-09-09 01:46:40"), Ok(ViewArg::AtTime(1_000_000_000_000)));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "@", "@x", "17", "Local", "@-3", "@2024-02-30", "@99999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
