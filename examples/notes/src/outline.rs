//! The notes in the order and depth in which they are shown.
//!
//! Invariant: every note is shown once, whatever people did to the tree while apart: one whose
//! parent is gone, or that was moved below itself by two moves at once, stands at the top level.

use std::collections::{BTreeMap, BTreeSet};

/// One note as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) pos: String,
    pub(crate) title: String,
    /// Html.
    pub(crate) body: String,
    pub(crate) tags: Vec<String>,
    pub(crate) is_done: bool,
    pub(crate) priority: i64,
}

/// A note in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) note: Note,
    pub(crate) depth: usize,
    /// Whether it was meant to stand below a note that is not above it.
    pub(crate) is_stray: bool,
}

/// Puts notes, which come by position and id, in their places.
pub(crate) fn arrange(notes: Vec<Note>) -> Vec<Entry> {
    let ids: BTreeSet<String> = notes.iter().map(|note| note.id.clone()).collect();
    let mut kids: BTreeMap<Option<String>, Vec<Note>> = BTreeMap::new();
    let order: Vec<(String, Option<String>)> =
        notes.iter().map(|note| (note.id.clone(), note.parent.clone())).collect();
    for note in notes {
        let place = note.parent.clone().filter(|parent| ids.contains(parent));
        kids.entry(place).or_default().push(note);
    }
    let mut entries = Vec::new();
    place(&mut kids, None, &mut entries);
    // What is left stands in a circle, or below one: the first of it breaks it.
    for (id, parent) in order {
        let circle = kids.get_mut(&parent);
        let found = circle.and_then(|all| {
            let at = all.iter().position(|note| note.id == id)?;
            Some(all.remove(at))
        });
        if let Some(note) = found {
            entries.push(Entry { note, depth: 0, is_stray: true });
            place(&mut kids, Some(id), &mut entries);
        }
    }
    entries
}

/// Takes what stands below `top` out of `kids`, depth first and without recursion.
fn place(
    kids: &mut BTreeMap<Option<String>, Vec<Note>>,
    top: Option<String>,
    entries: &mut Vec<Entry>,
) {
    let first = usize::from(top.is_some());
    let mut stack: Vec<(Note, usize)> = Vec::new();
    let below = kids.remove(&top).unwrap_or_default();
    stack.extend(below.into_iter().rev().map(|note| (note, first)));
    while let Some((note, depth)) = stack.pop() {
        let below = kids.remove(&Some(note.id.clone())).unwrap_or_default();
        let is_stray = depth == 0 && note.parent.is_some();
        entries.push(Entry { note, depth, is_stray });
        stack.extend(below.into_iter().rev().map(|note| (note, depth + 1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(notes: &[(&str, &str)]) -> String {
        let note = |(id, parent): &(&str, &str)| Note {
            id: (*id).to_owned(),
            parent: (!parent.is_empty()).then(|| (*parent).to_owned()),
            ..Note::default()
        };
        let entries = arrange(notes.iter().map(note).collect());
        let line = |entry: &Entry| {
            let mark = if entry.is_stray { "?" } else { "" };
            format!("{}{}{mark}", ".".repeat(entry.depth), entry.note.id)
        };
        entries.iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn notes_stand_below_their_parents() {
        assert_eq!(shown(&[("a", ""), ("b", ""), ("c", "a"), ("d", "c")]), "a .c ..d b");
    }

    #[test]
    fn every_note_is_shown_once_whatever_the_tree() {
        assert_eq!(shown(&[("a", "gone"), ("b", "a")]), "a? .b");
        assert_eq!(shown(&[("a", "b"), ("b", "a"), ("c", "b"), ("d", "")]), "d a? .b ..c");
        assert_eq!(shown(&[("a", "a")]), "a?");
    }
}
