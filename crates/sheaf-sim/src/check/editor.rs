//! an editor keeps its text: what it shows changes by its own edits, by what it is told and by what
//! it asks for, and it is told nothing while an edit of its own waits.

use std::collections::BTreeSet;

use sheaf_site::{EditState, Value, WatchEvent};

use super::{Checked, Violation};

/// This claim is broken.
pub(crate) fn violated(what: String) -> Violation {
    Violation { claim: "an editor keeps its text", what }
}

/// How an editor was left.
#[derive(Debug)]
pub(crate) struct Left {
    /// What it showed.
    pub(crate) shown: Option<Value>,
    /// It has to be told how it ends.
    pub(crate) is_open: bool,
    /// Its own edits that were not decided then.
    pub(crate) edits: BTreeSet<u64>,
}

/// Between two acts nothing changes what is shown.
pub(crate) fn stands(who: &str, left: &Left, shown: Option<&Value>) -> Checked {
    if left.shown.as_ref() == shown {
        return Ok(());
    }
    Err(violated(format!("the text of {who} jumps from {:?} to {shown:?}", left.shown)))
}

/// What an act comes to, as the editor said or was told it, is what it shows afterwards.
pub(crate) fn shows(who: &str, expected: Option<&Value>, shown: Option<&Value>) -> Checked {
    if expected == shown {
        return Ok(());
    }
    Err(violated(format!("{who} shows {shown:?}, where {expected:?} is due")))
}

/// What an editor is told, with what waits on its device, what it showed, and what the device shows
/// of the cell.
pub(crate) fn told(
    who: &str,
    left: &Left,
    event: &WatchEvent<Option<Value>>,
    waiting: &[u64],
    (shown, local): (Option<&Value>, Option<&Value>),
) -> Checked {
    if let WatchEvent::Rejected { .. } = event {
        return stands(who, left, shown);
    }
    let undecided = left.edits.iter().find(|seq| waiting.contains(seq));
    if let Some(seq) = undecided {
        return Err(violated(format!("{who} is told {event:?} while its edit {seq} waits")));
    }
    match event {
        WatchEvent::Converged if !left.is_open => {
            Err(violated(format!("{who} is told once more that all is agreed on")))
        }
        WatchEvent::Converged => stands(who, left, shown),
        _ if left.shown.as_ref() == local => {
            Err(violated(format!("{who} is told {event:?}, which it shows")))
        }
        _ => shows(who, local, shown),
    }
}

/// At rest: everybody shows what is agreed on, with nothing outstanding, and who waited for the
/// outcome was told once.
pub(crate) fn rests(
    who: &str,
    left: &Left,
    told: usize,
    (shown, agreed): (Option<&Value>, Option<&Value>),
    state: EditState,
) -> Checked {
    shows(who, agreed, shown)?;
    if state != EditState::Clean {
        return Err(violated(format!("{who} is {state:?} where nothing waits")));
    }
    if told > 1 || left.is_open && told == 0 {
        return Err(violated(format!("{who} is told {told} times how its edits ended")));
    }
    Ok(())
}
