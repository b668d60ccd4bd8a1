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

/// A site, and perhaps one of its states: `team/todos@17`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SiteAt {
    pub(crate) name: String,
    pub(crate) view: Option<ViewArg>,
}

impl SiteAt {
    /// The state, which is the one on this device unless another one was named.
    pub(crate) fn view(&self) -> ViewArg {
        self.view.unwrap_or_default()
    }
}

/// Parses `SITE`, `SITE@LSN`, `SITE@TIME`, `SITE@local` or `SITE@global`. No site's name has an `@`.
pub(crate) fn parse_site(text: &str) -> Result<SiteAt, String> {
    let (name, point) = match text.split_once('@') {
        None => (text, None),
        Some((name, point)) => (name, Some(point)),
    };
    if name.is_empty() {
        return Err("give SITE, SITE@LSN or SITE@TIME".to_owned());
    }
    let view = match point {
        None => None,
        Some("local" | "global") => point.map(parse).transpose()?,
        Some(point) => Some(parse(&format!("@{point}"))?),
    };
    Ok(SiteAt { name: name.to_owned(), view })
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
    fn a_site_may_name_its_state() {
        let parsed = |text: &str| parse_site(text).map(|at| (at.name, at.view));
        let site = |view| Ok(("a/b".to_owned(), view));
        assert_eq!(parsed("a/b"), site(None));
        assert_eq!(parsed("a/b@7"), site(Some(ViewArg::At(7))));
        assert_eq!(parsed("a/b@global"), site(Some(ViewArg::Global)));
        assert_eq!(parsed("a/b@1970-01-02"), site(Some(ViewArg::AtTime(86_400_000))));
        for text in ["", "@7", "a@", "a@x", "a@1@2"] {
            assert!(parse_site(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "@", "@x", "17", "Local", "@-3", "@2024-02-30", "@99999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
