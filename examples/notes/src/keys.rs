//! Which key means what, in which mode.
//!
//! Invariant: pure. What a key does, `app.rs` knows; the help is written beside the keys.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    field::Go,
    screen::{Mode, What},
};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    OtherSide,
    ToggleOnline,
    Exchange,
    Conflicts,
    History,
    Help,
    /// Back to the outline, or out of a text.
    Back,
    Step(isize),
    Edit(What),
    /// A new note behind this one, or below it.
    New {
        below: bool,
    },
    ToggleDone,
    Priority(i64),
    Indent,
    Outdent,
    /// Earlier (-1) or later (1) among its siblings.
    Shift(isize),
    AskDelete,
    Delete,
    Type(char),
    Backspace,
    DeleteForward,
    Go(Go),
    /// Take in what others wrote although something is outstanding.
    Pull,
    /// Choose the n-th of several values, counted from 1.
    Choose(usize),
    TakeOurs,
    TakeTheirs,
    Dismiss,
    Restore,
}

/// What a key means; `None` if nothing.
pub(crate) fn action(mode: &Mode, key: KeyEvent) -> Option<Action> {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if is_control => return Some(Action::Quit),
        KeyCode::F(1) => return Some(Action::Help),
        KeyCode::F(2) => return Some(Action::OtherSide),
        KeyCode::F(3) => return Some(Action::ToggleOnline),
        KeyCode::F(4) => return Some(Action::Conflicts),
        KeyCode::F(5) => return Some(Action::History),
        KeyCode::F(6) => return Some(Action::Exchange),
        _ => {}
    }
    match mode {
        Mode::Edit(edit) => editing(edit.what, key, is_control),
        Mode::Outline => outline(key),
        Mode::Deleting => Some(match key.code {
            KeyCode::Char('x') | KeyCode::Delete => Action::Delete,
            _ => Action::Back,
        }),
        Mode::Conflicts(_) => conflicts(key.code),
        Mode::History(_) => match key.code {
            KeyCode::Char('r') => Some(Action::Restore),
            code => list(code),
        },
        Mode::Help => Some(Action::Back),
    }
}

fn outline(key: KeyEvent) -> Option<Action> {
    let is_moved = key.modifiers.intersects(KeyModifiers::SHIFT | KeyModifiers::ALT);
    Some(match key.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char('?') => Action::Help,
        KeyCode::Up if is_moved => Action::Shift(-1),
        KeyCode::Down if is_moved => Action::Shift(1),
        KeyCode::Char('K') => Action::Shift(-1),
        KeyCode::Char('J') => Action::Shift(1),
        KeyCode::Up => Action::Step(-1),
        KeyCode::Down => Action::Step(1),
        KeyCode::PageUp => Action::Step(-10),
        KeyCode::PageDown => Action::Step(10),
        KeyCode::Enter => Action::Edit(What::Title),
        KeyCode::Char('e') => Action::Edit(What::Body),
        KeyCode::Char('t') => Action::Edit(What::Tags),
        KeyCode::Char('n') => Action::New { below: false },
        KeyCode::Char('c') => Action::New { below: true },
        KeyCode::Char(' ') => Action::ToggleDone,
        KeyCode::Char(digit @ '0'..='3') => Action::Priority(i64::from(digit.to_digit(10)?)),
        KeyCode::Tab => Action::Indent,
        KeyCode::BackTab => Action::Outdent,
        KeyCode::Char('x') | KeyCode::Delete => Action::AskDelete,
        _ => return None,
    })
}

fn editing(what: What, key: KeyEvent, is_control: bool) -> Option<Action> {
    Some(match key.code {
        KeyCode::Esc => Action::Back,
        KeyCode::Enter if what == What::Body => Action::Type('\n'),
        KeyCode::Enter => Action::Back,
        KeyCode::Char('r') if is_control => Action::Pull,
        KeyCode::Char(_) if is_control => return None,
        KeyCode::Char(char) => Action::Type(char),
        KeyCode::Backspace => Action::Backspace,
        KeyCode::Delete => Action::DeleteForward,
        KeyCode::Left => Action::Go(Go::Left),
        KeyCode::Right => Action::Go(Go::Right),
        KeyCode::Up => Action::Go(Go::Up),
        KeyCode::Down => Action::Go(Go::Down),
        KeyCode::Home => Action::Go(Go::Home),
        KeyCode::End => Action::Go(Go::End),
        _ => return None,
    })
}

fn conflicts(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Char('o') => Action::TakeOurs,
        KeyCode::Char('t') => Action::TakeTheirs,
        KeyCode::Char('d') => Action::Dismiss,
        KeyCode::Char(digit @ '1'..='9') => Action::Choose(digit.to_digit(10)? as usize),
        code => return list(code),
    })
}

fn list(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Esc | KeyCode::Char('q') => Action::Back,
        KeyCode::Char('?') => Action::Help,
        KeyCode::Up => Action::Step(-1),
        KeyCode::Down => Action::Step(1),
        KeyCode::PageUp => Action::Step(-10),
        KeyCode::PageDown => Action::Step(10),
        _ => return None,
    })
}

/// The keys of a mode, for the line at the bottom.
pub(crate) fn hint(mode: &Mode) -> &'static str {
    match mode {
        Mode::Outline => {
            "Enter title  e text  t tags  Space done  0-3 priority  n new  c below  \
             Tab indent  J/K move  x delete"
        }
        Mode::Deleting => "x delete it  any other key: keep it",
        Mode::Edit(edit) => match edit.what {
            What::Title => "type; Enter done  Ctrl-R show what others wrote",
            What::Body => {
                "type; **bold** *italic* `code` # heading; Esc done  \
                 Ctrl-R show what others wrote"
            }
            What::Tags => "tags with commas between them; Enter done",
        },
        Mode::Conflicts(_) => {
            "Up/Down  1-8 choose a value  o put mine back  t put theirs back  d dismiss  Esc back"
        }
        Mode::History(_) => "Up/Down  r put this version back  Esc back",
        Mode::Help => "any key: back",
    }
}

/// The keys that mean the same everywhere.
pub(crate) const HINT_EVERYWHERE: &str =
    "F2 other side  F3 offline/online  F4 conflicts  F5 history  F6 exchange  F1 help  ^C quit";

/// The help.
pub(crate) const HELP: &str = "\
An outline that several devices edit, also while they are apart.

Marks   *  changed here, and nobody else knows yet
        >  on its way
        !  something about it wants to be looked at: F4
        ?  stands here because what it stood below is gone

Outline   Up Down      select            Enter  title (words merge)
          n  c         new, new below    e      text (paragraphs merge)
          Tab S-Tab    indent, outdent   t      tags (a set)
          J K          later, earlier    Space  done (the later counts)
          x            delete            0-3    priority (keeps both)

Everywhere  F2  the other side           F5  history of the note
            F3  go offline, come back    F6  exchange now
            F4  conflicts                q  Ctrl-C  quit

Try: F3 on both sides, change one title here and there, F3 again.
Then the same with the priority, and F4.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_commands_only_outside_of_texts() {
        let q = KeyEvent::from(KeyCode::Char('q'));
        assert_eq!(action(&Mode::Outline, q), Some(Action::Quit));
        assert_eq!(action(&Mode::Conflicts(0), q), Some(Action::Back));
        assert_eq!(action(&Mode::Deleting, q), Some(Action::Back));
        assert_eq!(editing(What::Title, q, false), Some(Action::Type('q')));
        let ctrl = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(action(&Mode::Help, ctrl), Some(Action::Quit));
    }

    #[test]
    fn enter_ends_a_line_in_a_text_and_the_text_elsewhere() {
        let enter = KeyEvent::from(KeyCode::Enter);
        assert_eq!(editing(What::Body, enter, false), Some(Action::Type('\n')));
        assert_eq!(editing(What::Tags, enter, false), Some(Action::Back));
    }
}
