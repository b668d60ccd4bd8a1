//! The note below the outline: its fields and its text, or the text as it is edited.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};
use sheaf::{ConflictKind, EditState};

use super::{ALARM, DIM, MARK, STRONG, lists};
use crate::{
    markup::{self, Block},
    outline::Note,
    screen::{Edit, Screen, What},
};

/// Draws the selected note.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, screen: &Screen, is_active: bool) {
    let Some(entry) = screen.current() else { return };
    let edit = screen.edit().filter(|edit| edit.id == entry.note.id);
    let (what, shown) = match edit {
        Some(edit) => (edit.what, edit),
        None => {
            let mut lines = fields(&entry.note, screen);
            lines.extend(text(&entry.note.body, has(screen, "body")));
            return frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
        }
    };
    let state = match shown.state {
        EditState::Clean => "as everybody has it",
        EditState::Dirty => "* written here, nobody else has it yet",
        EditState::Sent => "> written, on its way",
    };
    let heading = match what {
        What::Title => "Editing the title, above: ",
        What::Body => "Editing the text: ",
        What::Tags => "Editing the tags: ",
    };
    let typing = if shown.typed_ms.is_some() { "typing..." } else { state };
    let line = Line::from(vec![Span::styled(heading, STRONG), Span::styled(typing, MARK)]);
    frame.render_widget(Paragraph::new(line), Rect { height: area.height.min(1), ..area });
    let rest =
        Rect { y: area.y + area.height.min(1), height: area.height.saturating_sub(1), ..area };
    match what {
        What::Title => {
            let lines = text(&entry.note.body, has(screen, "body"));
            frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), rest);
        }
        What::Body | What::Tags => field(frame, rest, shown, is_active),
    }
}

/// The fields of a note, with marks beside those that are only here.
pub(super) fn fields(note: &Note, screen: &Screen) -> Vec<Line<'static>> {
    let mut first = vec![Span::styled("tags ", DIM)];
    let tags = if note.tags.is_empty() { "-".to_owned() } else { note.tags.join(", ") };
    first.push(Span::styled(tags, Style::new().fg(Color::Cyan)));
    first.push(waits(has(screen, "tags")));
    first.push(Span::styled("   priority ", DIM));
    let several = screen.conflicts.iter().find(|conflict| {
        conflict.kind == ConflictKind::Siblings
            && lists::note_of(conflict) == Some(note.id.as_str())
            && conflict.column.as_deref() == Some("priority")
    });
    match several {
        Some(conflict) => {
            let values: Vec<String> = conflict.siblings.iter().map(lists::plain).collect();
            let text = format!("{} (F4: choose)", values.join(" or "));
            first.push(Span::styled(text, ALARM));
        }
        None => first.push(Span::raw(note.priority.to_string())),
    }
    first.push(waits(has(screen, "priority")));
    let done = if note.is_done { "   done" } else { "   open" };
    first.push(Span::styled(done, DIM));
    first.push(waits(has(screen, "done")));
    if has(screen, "title") {
        first.push(Span::styled("   title", DIM));
        first.push(waits(true));
    }
    vec![Line::from(first)]
}

fn has(screen: &Screen, column: &str) -> bool {
    screen.waiting_cells.contains(&column)
}

fn waits(is_waiting: bool) -> Span<'static> {
    Span::styled(if is_waiting { "*" } else { "" }, MARK)
}

/// A text with its marks as the terminal's own.
pub(super) fn text(html: &str, is_waiting: bool) -> Vec<Line<'static>> {
    let blocks = markup::from_html(html);
    let mut lines = Vec::new();
    if blocks.is_empty() {
        lines.push(Line::from(vec![Span::styled("no text: e writes one", DIM), waits(is_waiting)]));
    }
    let mut mark = is_waiting;
    for block in &blocks {
        let mut line = paragraph(block);
        if std::mem::take(&mut mark) {
            line.spans.insert(0, Span::styled("* ", MARK));
        }
        lines.push(line);
    }
    lines
}

fn paragraph(block: &Block) -> Line<'static> {
    let spans = block.spans.iter().map(|span| {
        let mut style = Style::new();
        if span.style.bold || block.is_heading {
            style = style.add_modifier(Modifier::BOLD);
        }
        if span.style.italic {
            style = style.add_modifier(Modifier::ITALIC);
        }
        if span.style.code {
            style = style.fg(Color::Green);
        }
        if block.is_heading {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        Span::styled(span.text.clone(), style)
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// A text as it is typed, broken where the room ends, with the cursor in sight.
fn field(frame: &mut Frame<'_>, area: Rect, edit: &Edit, is_active: bool) {
    let width = usize::from(area.width).max(1);
    let lines = broken(edit.field.text(), width);
    // What stands before the cursor breaks as the whole does, and the cursor is at its end.
    let before = broken(edit.field.before(), width);
    let row = before.len().saturating_sub(1);
    let column = before.last().map_or(0, |line| Span::raw(line.as_str()).width());
    let first = row.saturating_sub(usize::from(area.height).saturating_sub(1));
    let shown = lines.into_iter().skip(first).take(usize::from(area.height));
    frame.render_widget(Paragraph::new(shown.map(Line::raw).collect::<Vec<_>>()), area);
    if is_active {
        let offset = |by: usize| u16::try_from(by).unwrap_or(u16::MAX);
        let x = area.x.saturating_add(offset(column)).min(area.right().saturating_sub(1));
        let y = area.y.saturating_add(offset(row - first)).min(area.bottom().saturating_sub(1));
        frame.set_cursor_position((x, y));
    }
}

/// Breaks after so many characters, and where a line ends.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for whole in text.split('\n') {
        let mut line = String::new();
        let mut count = 0;
        for char in whole.chars() {
            if count == width {
                lines.push(std::mem::take(&mut line));
                count = 0;
            }
            line.push(char);
            count += 1;
        }
        lines.push(line);
    }
    lines
}
