//! What one instance shows: everything that drawing needs, and nothing that does something.
//!
//! Invariant: data only. What is shown of the site is as of the last look at it.

use std::collections::BTreeMap;

use sheaf::{Conflict, EditState, Waiting};

use crate::{field::Field, markup::Block, outline::Entry};

/// A column of a note that is edited as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Title,
    Body,
    Tags,
}

impl What {
    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Body => "body",
            Self::Tags => "tags",
        }
    }
}

/// A text being edited.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) what: What,
    pub(crate) id: String,
    pub(crate) field: Field,
    /// The paragraphs as they were written last, whose ids the next ones carry on.
    pub(crate) blocks: Vec<Block>,
    /// Whether something was typed that has not been written, and when the last of it was.
    pub(crate) typed_ms: Option<u64>,
    /// What the editor's handle says.
    pub(crate) state: EditState,
}

/// A note as it was at a position of the log.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) lsn: u64,
    /// Date and time, UTC.
    pub(crate) when: String,
    /// The device that made the commit.
    pub(crate) who: String,
    /// The commit in one line.
    pub(crate) summary: String,
    /// The note; `None` where it was not there.
    pub(crate) entry: Option<Entry>,
    /// What differs from the version before.
    pub(crate) changed: Vec<&'static str>,
}

/// The past of one note.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) id: String,
    /// Newest first; `None` until they have been read.
    pub(crate) versions: Option<Vec<Version>>,
    pub(crate) at: usize,
}

/// What the keys mean.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    Outline,
    /// The outline, and the next key says whether to delete.
    Deleting,
    Edit(Edit),
    Conflicts(usize),
    History(History),
    Help,
}

/// A line about what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) is_error: bool,
}

/// One instance.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    /// Who it is.
    pub(crate) name: String,
    /// The site's name.
    pub(crate) site: String,
    /// Whether it has a server at all.
    pub(crate) has_server: bool,
    /// Whether it is to be exchanged.
    pub(crate) is_online: bool,
    /// Whether the server answered at the last look.
    pub(crate) answers: bool,
    pub(crate) entries: Vec<Entry>,
    /// Notes with changes that wait. What is not here has none.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// Columns of the selected note with changes that wait.
    pub(crate) waiting_cells: Vec<&'static str>,
    /// Changes that wait, and how many of them are on their way.
    pub(crate) pending: (usize, usize),
    pub(crate) conflicts: Vec<Conflict>,
    pub(crate) selected: usize,
    pub(crate) mode: Mode,
    pub(crate) notice: Option<Notice>,
}

impl Screen {
    pub(crate) fn new(name: &str, site: &str, has_server: bool) -> Self {
        Self {
            name: name.to_owned(),
            site: site.to_owned(),
            has_server,
            is_online: has_server,
            answers: false,
            entries: Vec::new(),
            waiting: BTreeMap::new(),
            waiting_cells: Vec::new(),
            pending: (0, 0),
            conflicts: Vec::new(),
            selected: 0,
            mode: Mode::Outline,
            notice: None,
        }
    }

    pub(crate) fn current(&self) -> Option<&Entry> {
        self.entries.get(self.selected)
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.note.id == id)
    }

    /// Takes over what is in the outline now. The same note stays selected; if it is gone, the one
    /// that took its place.
    pub(crate) fn show(&mut self, entries: Vec<Entry>) {
        let id = self.current().map(|entry| entry.note.id.clone());
        self.entries = entries;
        match id.and_then(|id| self.entries.iter().position(|entry| entry.note.id == id)) {
            Some(at) => self.selected = at,
            None => self.selected = self.selected.min(self.entries.len().saturating_sub(1)),
        }
    }

    pub(crate) fn select(&mut self, id: &str) {
        if let Some(at) = self.entries.iter().position(|entry| entry.note.id == id) {
            self.selected = at;
        }
    }

    /// Moves what is selected in the list that is shown.
    pub(crate) fn step(&mut self, by: isize) {
        let (at, len) = match &mut self.mode {
            Mode::Conflicts(at) => (at, self.conflicts.len()),
            Mode::History(history) => {
                (&mut history.at, history.versions.as_ref().map_or(0, Vec::len))
            }
            Mode::Outline | Mode::Deleting | Mode::Edit(_) | Mode::Help => {
                (&mut self.selected, self.entries.len())
            }
        };
        *at = at.saturating_add_signed(by).min(len.saturating_sub(1));
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), is_error: false });
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), is_error: true });
    }

    pub(crate) fn edit(&self) -> Option<&Edit> {
        match &self.mode {
            Mode::Edit(edit) => Some(edit),
            _ => None,
        }
    }

    pub(crate) fn edit_mut(&mut self) -> Option<&mut Edit> {
        match &mut self.mode {
            Mode::Edit(edit) => Some(edit),
            _ => None,
        }
    }

    /// The conflict that is selected, where they are shown.
    pub(crate) fn conflict(&self) -> Option<&Conflict> {
        match self.mode {
            Mode::Conflicts(at) => self.conflicts.get(at),
            _ => None,
        }
    }

    /// The version that is selected, where they are shown.
    pub(crate) fn version(&self) -> Option<&Version> {
        match &self.mode {
            Mode::History(history) => history.versions.as_ref()?.get(history.at),
            _ => None,
        }
    }
}
