//! no cross-volume contamination: what one site holds never shows up in another.

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "no cross-volume contamination", what }
}

/// Every name that a state says was made for this site.
pub(crate) fn only_own(who: &str, site: &str, seen: &str) -> Checked {
    // Names that people make begin with their device and site: `d1.s0-17`.
    let foreign = seen.split_whitespace().find(|word| {
        let made = word.split_once('.').and_then(|(_, rest)| rest.split_once('-'));
        made.is_some_and(|(of, _)| of != site)
    });
    match foreign {
        None => Ok(()),
        Some(word) => Err(violated(format!("{who} shows `{word}` in site {site}"))),
    }
}
