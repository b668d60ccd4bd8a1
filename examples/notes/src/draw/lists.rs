//! The lists of conflicts and of versions, each with what is known of the selected one below it.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};
use sheaf::{Conflict, ConflictKind, Value};

use super::{CHOSEN, DIM, STRONG, kind_text, note};
use crate::{
    markup,
    screen::{History, Screen},
};

/// Draws the conflicts.
pub(super) fn conflicts(
    frame: &mut Frame<'_>,
    list: Rect,
    below: Rect,
    screen: &Screen,
    at: usize,
) {
    if screen.conflicts.is_empty() {
        let text = "Nothing to look at: nothing gave way,\nnothing was refused. Esc goes back.";
        frame.render_widget(Paragraph::new(text), list);
        return;
    }
    let lines = screen.conflicts.iter().map(|conflict| {
        let title = note_of(conflict).and_then(|id| screen.find(id));
        let title = title.map_or("(a note that is gone)", |entry| entry.note.title.as_str());
        let column = conflict.column.as_deref().map(|column| format!("{column} of "));
        let kind = format!("{}: ", kind_text(conflict.kind));
        let place = format!("{}{title}", column.unwrap_or_default());
        Line::from(vec![Span::styled(kind, STRONG), Span::raw(place)])
    });
    selectable(frame, list, lines.collect(), at);
    if let Some(conflict) = screen.conflicts.get(at) {
        let text = Paragraph::new(about(conflict)).wrap(Wrap { trim: false });
        frame.render_widget(text, below);
    }
}

fn about(conflict: &Conflict) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut say = |key: &'static str, name: &'static str, value: &Option<Value>| {
        if let Some(value) = value {
            let name = Span::styled(format!("{key:2} {name:14} "), DIM);
            lines.push(Line::from(vec![name, Span::raw(plain(value))]));
        }
    };
    let is_about_values = conflict.kind != ConflictKind::Siblings;
    if is_about_values {
        say("", "it was", &conflict.base);
        say("o", "you wrote", &conflict.ours);
        say("t", "another wrote", &conflict.theirs);
        say("", "it is now", &conflict.stands);
    }
    for (number, value) in (1..).zip(&conflict.siblings) {
        let is_shown = number == conflict.siblings.len();
        let shown = if is_shown { "  (shown until somebody chooses)" } else { "" };
        let name = conflict.column.as_deref().unwrap_or("value");
        let key = Span::styled(format!("key {number} for {name} "), DIM);
        let value = Span::styled(plain(value), STRONG);
        lines.push(Line::from(vec![key, value, Span::raw(shown)]));
    }
    if let Some(reason) = &conflict.reason {
        lines.push(Line::raw(format!("   why: {reason}")));
    }
    if !conflict.is_decided {
        lines.push(Line::styled("   not decided yet: this is what would become of it", DIM));
    }
    let end = match conflict.kind {
        ConflictKind::Siblings => "Both were written while apart. A number chooses, for everybody.",
        ConflictKind::Rejected => "d dismisses it, and every refused change before it.",
        _ => "o and t write that value anew; d only takes it off this list.",
    };
    lines.push(Line::styled(end, DIM));
    lines
}

/// Draws the versions of a note.
pub(super) fn history(
    frame: &mut Frame<'_>,
    list: Rect,
    below: Rect,
    screen: &Screen,
    history: &History,
) {
    let title = screen.find(&history.id).map_or("(gone)", |entry| entry.note.title.as_str());
    let Some(versions) = &history.versions else {
        frame.render_widget(Paragraph::new(format!("Reading the history of `{title}`...")), list);
        return;
    };
    if versions.is_empty() {
        let text = "Nothing of this note is agreed on yet.\nWhat is only here has no history.";
        frame.render_widget(Paragraph::new(text), list);
        return;
    }
    let lines = versions.iter().map(|version| {
        // The year and the seconds stand below.
        let when = version.when.get(5..16).unwrap_or(&version.when);
        let what = format!("{}: {}", version.who, version.changed.join(", "));
        Line::from(vec![Span::styled(format!("{when}  "), DIM), Span::styled(what, STRONG)])
    });
    selectable(frame, list, lines.collect(), history.at);
    let Some(version) = versions.get(history.at) else { return };
    let commit = format!("{} UTC, commit {}: {}", version.when, version.lsn, version.summary);
    let mut lines = vec![Line::styled(commit, DIM)];
    match &version.entry {
        Some(entry) => {
            let done = if entry.note.is_done { "[x] " } else { "[ ] " };
            lines.push(Line::styled(format!("{done}{}", entry.note.title), STRONG));
            let (tags, priority) = (entry.note.tags.join(", "), entry.note.priority);
            lines.push(Line::styled(format!("tags {tags}   priority {priority}"), DIM));
            lines.extend(note::text(&entry.note.body, false));
        }
        None => lines.push(Line::raw("deleted")),
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), below);
}

fn selectable(frame: &mut Frame<'_>, area: Rect, mut lines: Vec<Line<'static>>, at: usize) {
    if let Some(line) = lines.get_mut(at) {
        *line = std::mem::take(line).style(CHOSEN);
    }
    let first = at.saturating_sub(usize::from(area.height).saturating_sub(1));
    let shown: Vec<Line<'static>> = lines.into_iter().skip(first).collect();
    frame.render_widget(Paragraph::new(shown), area);
}

/// The note that a conflict is about.
pub(super) fn note_of(conflict: &Conflict) -> Option<&str> {
    match (conflict.table.as_deref(), conflict.key.as_slice()) {
        (Some("note"), [Value::Text(id)]) => Some(id),
        _ => None,
    }
}

/// A value for people: of html its text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "(nothing)".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) if text.starts_with('<') => {
            markup::to_markup(&markup::from_html(text)).replace('\n', " / ")
        }
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => format!("({} bytes)", bytes.len()),
    }
}
