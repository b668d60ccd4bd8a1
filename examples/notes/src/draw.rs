//! Screens as characters.
//!
//! Invariant: pure: screens in, cells of a buffer out. Meaning is never in colour alone.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Block, Paragraph, Wrap},
};
use sheaf::{ConflictKind, EditState, Waiting};

use crate::{
    keys, limits,
    outline::Entry,
    screen::{Mode, Screen, What},
};

mod lists;
mod note;

/// Rows that the keys and the notice take.
const FOOT_ROWS: u16 = 3;
/// Rows of a side below its list: the note, and the line about what happened.
const NOTE_PERCENT: u16 = 42;

pub(crate) const DIM: Style = Style::new().fg(Color::DarkGray);
pub(crate) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
pub(crate) const MARK: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);

/// Draws all sides, or the active one where there is no room for all.
pub(crate) fn draw(frame: &mut Frame<'_>, screens: &[&Screen], active: usize) {
    let [body, foot] =
        Layout::vertical([Constraint::Min(6), Constraint::Length(FOOT_ROWS)]).areas(frame.area());
    let count = u16::try_from(screens.len()).unwrap_or(u16::MAX);
    if let Some(Screen { mode: Mode::Help, .. }) = screens.get(active) {
        let help = Paragraph::new(keys::HELP).wrap(Wrap { trim: false });
        frame.render_widget(help.block(Block::bordered().title(" notes ")), body);
        return frame.render_widget(Paragraph::new(keys::hint(&Mode::Help)), foot);
    }
    let has_room = body.width >= limits::SIDE_COLUMNS.saturating_mul(count);
    if has_room {
        let areas = Layout::horizontal(vec![Constraint::Fill(1); screens.len()]).split(body);
        for (at, (screen, area)) in screens.iter().zip(areas.iter()).enumerate() {
            side(frame, *area, screen, at == active);
        }
    } else if let Some(screen) = screens.get(active) {
        side(frame, body, screen, true);
    }
    if let Some(screen) = screens.get(active) {
        keys_line(frame, foot, screen, screens.len());
    }
}

fn keys_line(frame: &mut Frame<'_>, area: Rect, screen: &Screen, sides: usize) {
    let everywhere = match sides {
        1 => keys::HINT_EVERYWHERE.trim_start_matches("F2 other side  "),
        _ => keys::HINT_EVERYWHERE,
    };
    let text = Text::from(vec![Line::raw(keys::hint(&screen.mode)), Line::styled(everywhere, DIM)]);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

fn side(frame: &mut Frame<'_>, area: Rect, screen: &Screen, is_active: bool) {
    let border = if is_active { STRONG } else { DIM };
    let block = Block::bordered().border_style(border).title(title(screen, is_active));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [state, list, rule, below, notice] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Percentage(NOTE_PERCENT),
        Constraint::Length(2),
    ])
    .areas(inner);
    frame.render_widget(Paragraph::new(state_line(screen)), state);
    let what = match &screen.mode {
        Mode::Conflicts(at) => {
            lists::conflicts(frame, list, below, screen, *at);
            " what can be done about it "
        }
        Mode::History(history) => {
            lists::history(frame, list, below, screen, history);
            " the note as it was "
        }
        Mode::Outline | Mode::Deleting | Mode::Edit(_) | Mode::Help => {
            outline(frame, list, screen, is_active);
            note::draw(frame, below, screen, is_active);
            " the selected note "
        }
    };
    frame.render_widget(Block::new().borders(ratatui::widgets::Borders::TOP).title(what), rule);
    notice_lines(frame, notice, screen);
}

fn title(screen: &Screen, is_active: bool) -> Line<'static> {
    let here = if is_active { "> " } else { "" };
    Line::styled(format!(" {here}{} - {} ", screen.name, screen.site), STRONG)
}

/// Where this instance stands, in one line.
fn state_line(screen: &Screen) -> Line<'static> {
    let (way, style) = match (screen.has_server, screen.is_online, screen.answers) {
        (false, ..) => ("NO SERVER", DIM),
        (true, false, _) => ("OFFLINE", ALARM),
        (true, true, true) => ("ONLINE", Style::new().fg(Color::Green)),
        (true, true, false) => ("CONNECTING", MARK),
    };
    let (waiting, sent) = screen.pending;
    let mut parts = vec![Span::styled(way, style)];
    // People count notes; what waits without one to show it is a note that was deleted.
    parts.push(Span::raw(match (waiting, screen.waiting.len()) {
        (0, _) => "  all agreed".to_owned(),
        (1, 0) => "  1 change only here".to_owned(),
        (n, 0) => format!("  {n} changes only here"),
        (_, 1) => "  1 note changed only here".to_owned(),
        (_, n) => format!("  {n} notes changed only here"),
    }));
    if sent > 0 && sent >= waiting {
        parts.push(Span::raw(", on the way"));
    }
    if !screen.conflicts.is_empty() {
        parts.push(Span::styled(format!("  ! {} to look at: F4", screen.conflicts.len()), ALARM));
    }
    Line::from(parts)
}

fn notice_lines(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let Some(notice) = &screen.notice else { return };
    let style = if notice.is_error { ALARM } else { Style::new() };
    let text = Paragraph::new(Span::styled(notice.text.clone(), style));
    frame.render_widget(text.wrap(Wrap { trim: true }), area);
}

fn outline(frame: &mut Frame<'_>, area: Rect, screen: &Screen, is_active: bool) {
    if screen.entries.is_empty() {
        frame.render_widget(Paragraph::new("No notes yet: n makes one."), area);
        return;
    }
    let rows = usize::from(area.height);
    let first = screen.selected.saturating_sub(rows.saturating_sub(1));
    let shown = screen.entries.iter().enumerate().skip(first).take(rows);
    let mut lines = Vec::new();
    for (row, (at, entry)) in (area.y..).zip(shown) {
        let edited = screen.edit().filter(|edit| {
            edit.what == What::Title && edit.id == entry.note.id && at == screen.selected
        });
        let mut line = entry_line(screen, entry, edited.map(|edit| edit.field.text()));
        if at == screen.selected && edited.is_none() {
            line = line.style(CHOSEN);
        }
        if let Some(edit) = edited.filter(|_| is_active) {
            let ahead = head(screen, entry).width() + Span::raw(edit.field.before()).width();
            let x = area.x.saturating_add(u16::try_from(ahead).unwrap_or(u16::MAX));
            frame.set_cursor_position((x.min(area.right().saturating_sub(1)), row));
        }
        lines.push(line);
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// What stands before a note's title.
fn head(screen: &Screen, entry: &Entry) -> Line<'static> {
    let note = &entry.note;
    let mut spans = vec![Span::styled(mark(screen, &note.id), MARK)];
    let stray = if entry.is_stray { "?" } else { " " };
    let clash = if has_conflict(screen, &note.id) { "!" } else { " " };
    spans.push(Span::styled(format!("{clash}{stray}"), ALARM));
    let done = if note.is_done { "[x] " } else { "[ ] " };
    spans.push(Span::raw(format!("{}{done}", "  ".repeat(entry.depth))));
    let priority = usize::try_from(note.priority).unwrap_or(0).min(3);
    if priority > 0 {
        spans.push(Span::styled(format!("P{priority} "), MARK));
    }
    Line::from(spans)
}

fn entry_line(screen: &Screen, entry: &Entry, edited: Option<&str>) -> Line<'static> {
    let note = &entry.note;
    let mut line = head(screen, entry);
    let style = match (edited, note.is_done) {
        (Some(_), _) => Style::new().add_modifier(Modifier::UNDERLINED),
        (None, true) => DIM,
        (None, false) => Style::new(),
    };
    let title = match edited.unwrap_or(&note.title) {
        "" if edited.is_none() => "(no title)",
        title => title,
    };
    line.push_span(Span::styled(title.to_owned(), style));
    if edited.is_none() {
        for tag in &note.tags {
            line.push_span(Span::styled(format!(" #{tag}"), Style::new().fg(Color::Cyan)));
        }
    }
    line
}

/// The mark of a note with changes that wait.
fn mark(screen: &Screen, id: &str) -> &'static str {
    let (waiting, sent) = screen.pending;
    let edited = screen.edit().filter(|edit| edit.id == id).map(|edit| edit.state);
    match (edited, screen.waiting.get(id)) {
        (Some(EditState::Sent), _) => ">",
        (_, Some(Waiting::Yes | Waiting::Unknown)) if sent >= waiting => ">",
        (Some(EditState::Dirty), _) | (_, Some(_)) => "*",
        (_, None) => " ",
    }
}

fn has_conflict(screen: &Screen, id: &str) -> bool {
    screen.conflicts.iter().any(|conflict| lists::note_of(conflict) == Some(id))
}

/// What a kind of conflict means, for people.
pub(crate) fn kind_text(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::Overridden => "yours stands, another's gave way",
        ConflictKind::Lost => "yours gave way",
        ConflictKind::Partly => "merged, but not everything of both is there",
        ConflictKind::Rejected => "your change was refused",
        ConflictKind::Siblings => "several values",
        _ => kind.name(),
    }
}
