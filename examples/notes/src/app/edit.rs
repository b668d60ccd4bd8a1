//! Editing a text through its handle.
//!
//! Invariant: what somebody types is never replaced under their hands: news are asked for only
//! when all that was typed has been written, and the handle tells none while that is outstanding.
//! A text that could not be written stays open.

use sheaf::{Result, Value, WatchEvent};

use super::Side;
use crate::{
    desk::{read_tags, tags_json},
    field::Field,
    keys::Action,
    limits, markup,
    screen::{Edit, Mode, What},
};

impl Side {
    /// Opens a text of the selected note.
    pub(super) fn begin(&mut self, what: What) -> Result<()> {
        let Some(id) = self.screen.current().map(|entry| entry.note.id.clone()) else {
            self.screen.say("there is no note yet: n makes one");
            return Ok(());
        };
        let key = [Value::from(id.as_str())];
        let cell = self.desk.site.watch_cell("note", &key, what.column())?;
        let stored = text_of(cell.shown());
        let (text, blocks) = typed_form(what, &stored);
        let field = Field::new(&text);
        let state = cell.state();
        self.screen.mode = Mode::Edit(Edit { what, id, field, blocks, typed_ms: None, state });
        self.cell = Some(cell);
        Ok(())
    }

    pub(super) fn type_in(&mut self, action: Action, now_ms: u64) -> Result<()> {
        if action == Action::Pull {
            return self.pull();
        }
        let Some(edit) = self.screen.edit_mut() else { return Ok(()) };
        let mut ends_word = false;
        let has_changed = match action {
            Action::Type(char) => {
                edit.field.insert(char);
                ends_word = char.is_whitespace();
                true
            }
            Action::Backspace => edit.field.backspace(),
            Action::DeleteForward => edit.field.delete(),
            Action::Go(go) => {
                edit.field.go(go);
                false
            }
            _ => false,
        };
        if has_changed {
            edit.typed_ms = Some(now_ms);
        }
        if ends_word && edit.what != What::Tags { self.flush() } else { Ok(()) }
    }

    /// Writes what was typed after a pause, then takes in what there is to tell.
    pub(super) fn look_after_edit(&mut self, now_ms: u64) -> Result<()> {
        let Some(edit) = self.screen.edit() else { return Ok(()) };
        match edit.typed_ms {
            // Half a list of tags is no list of tags.
            Some(_) if edit.what == What::Tags => return Ok(()),
            Some(typed_ms) if now_ms.saturating_sub(typed_ms) < limits::PAUSE_MS => return Ok(()),
            Some(_) => self.flush()?,
            None => {}
        }
        let event = self.cell.as_ref().map(|cell| cell.poll()).transpose()?.flatten();
        match event {
            Some(WatchEvent::Value(value)) => self.replace(value),
            Some(WatchEvent::Converged) | None => {}
            Some(WatchEvent::Rejected { reason, .. }) => {
                self.screen.warn(format!("your text was refused: {reason} - F4 shows it"));
            }
        }
        let state = self.cell.as_ref().map(|cell| cell.state());
        if let (Some(edit), Some(state)) = (self.screen.edit_mut(), state) {
            edit.state = state;
        }
        Ok(())
    }

    /// Writes what was typed, if anything.
    pub(super) fn flush(&mut self) -> Result<()> {
        let (Some(edit), Some(cell)) = (self.screen.edit_mut(), &self.cell) else { return Ok(()) };
        if edit.typed_ms.is_none() {
            return Ok(());
        }
        let text = edit.field.text();
        let mut blocks = Vec::new();
        let value = match edit.what {
            What::Title => text.to_owned(),
            What::Tags => {
                let tags = text.split(',').map(|tag| tag.trim().to_owned());
                tags_json(&tags.filter(|tag| !tag.is_empty()).collect::<Vec<_>>())
            }
            What::Body => {
                blocks = markup::from_markup(text);
                let mut ids = self.desk.fresh_ids(blocks.len())?.into_iter();
                markup::carry_ids(&edit.blocks, &mut blocks, || ids.next().unwrap_or_default());
                markup::to_html(&blocks)
            }
        };
        let typed_ms = edit.typed_ms.take();
        match cell.edit(value) {
            Ok(_) => {
                edit.blocks = blocks;
                edit.state = cell.state();
                self.is_stale = true;
                Ok(())
            }
            Err(error) => {
                edit.typed_ms = typed_ms;
                if error.kind() == sheaf::ErrorKind::NotFound {
                    self.close();
                }
                Err(error)
            }
        }
    }

    /// Writes what was typed and closes the text; it stays open if it could not be written.
    pub(super) fn leave(&mut self) {
        self.attempt(Self::flush);
        if self.screen.edit().is_none_or(|edit| edit.typed_ms.is_none()) {
            self.close();
        }
        self.attempt(Self::refresh);
    }

    fn close(&mut self) {
        self.cell = None;
        if self.screen.edit().is_some() {
            self.screen.mode = Mode::Outline;
        }
        self.is_stale = true;
    }

    fn pull(&mut self) -> Result<()> {
        self.flush()?;
        let Some(value) = self.cell.as_ref().map(|cell| cell.pull()).transpose()? else {
            return Ok(());
        };
        self.replace(value);
        Ok(())
    }

    /// Shows another text in place of the one that is edited.
    fn replace(&mut self, value: Option<Value>) {
        if value.is_none() {
            self.close();
            self.screen.warn("somebody has deleted this note: choose another one");
            return;
        }
        let Some(edit) = self.screen.edit_mut() else { return };
        let (text, blocks) = typed_form(edit.what, &text_of(value));
        edit.blocks = blocks;
        if edit.field.text() != text {
            edit.field.replace(&text);
        }
    }
}

fn text_of(value: Option<Value>) -> String {
    match value {
        Some(Value::Text(text)) => text,
        Some(Value::Int(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// What is stored as it is typed, and the paragraphs of a body.
fn typed_form(what: What, stored: &str) -> (String, Vec<markup::Block>) {
    match what {
        What::Title => (stored.to_owned(), Vec::new()),
        What::Tags => (read_tags(stored).join(", "), Vec::new()),
        What::Body => {
            let blocks = markup::from_html(stored);
            (markup::to_markup(&blocks), blocks)
        }
    }
}
