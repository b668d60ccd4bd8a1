//! Two instances driven by keys, and what is on the screen.
//!
//! Leaves out the background's own pace: what is to travel is exchanged by the test.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Modifier};
use sheaf::{Value, View};

use crate::{draw, limits, screen::Mode, two::Two};

mod apart;
mod views;

const TIMEOUT: Duration = Duration::from_secs(20);
const ANN: usize = 0;
const BOB: usize = 1;

struct Pair {
    two: Two,
    now_ms: u64,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self { two: Two::open("notes").unwrap(), now_ms: 0 };
        pair.exchange();
        pair
    }

    fn key(&mut self, code: KeyCode) {
        self.now_ms += 10;
        self.two.app.key(KeyEvent::from(code), self.now_ms);
        self.two.app.tick(self.now_ms);
    }

    fn keys(&mut self, text: &str) {
        text.chars().for_each(|char| self.key(KeyCode::Char(char)));
    }

    /// Makes a side the one that keys go to.
    fn at(&mut self, side: usize) -> &mut Self {
        if self.two.app.active != side {
            self.key(KeyCode::F(2));
        }
        assert_eq!(self.two.app.active, side);
        self
    }

    /// Takes both sides offline, or back.
    fn toggle_both(&mut self) {
        for side in [ANN, BOB] {
            self.at(side).key(KeyCode::F(3));
        }
    }

    /// Time passes, enough for what was typed to be written.
    fn pause(&mut self) {
        self.now_ms += limits::PAUSE_MS;
        self.two.app.tick(self.now_ms);
    }

    /// Until both sides have what either had.
    fn exchange(&mut self) {
        for _ in 0..2 {
            for side in &mut self.two.app.sides {
                side.desk.site.exchange(TIMEOUT).unwrap();
                side.desk.site.hydrate(&mut |_, _| {}).unwrap();
                // The answers of queries come when they come.
                side.is_stale = true;
            }
            self.two.app.tick(self.now_ms);
        }
        let pending: Vec<usize> = self.two.app.sides.iter().map(|s| s.screen.pending.0).collect();
        assert_eq!(pending, [0, 0]);
    }

    /// Selects the note whose title holds these words.
    fn select(&mut self, words: &str) -> &mut Self {
        let screen = &mut self.two.app.sides[self.two.app.active].screen;
        let found = screen.entries.iter().position(|entry| entry.note.title.contains(words));
        screen.selected = found.unwrap_or_else(|| panic!("no note: {words}"));
        self
    }

    fn titles(&self, side: usize) -> Vec<String> {
        let entries = self.two.app.sides[side].screen.entries.iter();
        let line = |depth: usize, title: &str| format!("{}{title}", ".".repeat(depth));
        entries.map(|entry| line(entry.depth, &entry.note.title)).collect()
    }

    /// The agreed value of a column of the selected note.
    fn agreed(&self, side: usize, column: &str) -> String {
        let side = &self.two.app.sides[side];
        let id = side.screen.current().unwrap().note.id.clone();
        let read = side.desk.site.read(View::Global, |conn| {
            let sql = format!("SELECT CAST({column} AS TEXT) FROM note WHERE id = ?1");
            conn.query_row(&sql, [id], |row| row.get(0)).map_err(sheaf::from_sqlite)
        });
        read.unwrap()
    }

    fn buffer(&self, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let app = &self.two.app;
        terminal.draw(|frame| draw::draw(frame, &app.screens(), app.active)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn screen(&self) -> String {
        text(&self.buffer(120, 32))
    }

    /// What one side of the screen shows.
    fn half(&self, side: usize) -> String {
        let half = |line: &str| {
            let chars = line.chars().skip(side * 60).take(60);
            chars.collect::<String>()
        };
        self.screen().lines().map(half).collect::<Vec<_>>().join("\n")
    }

    fn notice(&self, side: usize) -> String {
        let notice = self.two.app.sides[side].screen.notice.as_ref();
        notice.map(|notice| notice.text.clone()).unwrap_or_default()
    }

    fn typed(&self, side: usize) -> String {
        let edit = self.two.app.sides[side].screen.edit().expect("a text is edited");
        let after = edit.field.text().strip_prefix(edit.field.before()).unwrap();
        format!("{}|{after}", edit.field.before())
    }
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width);
    let line = |cells: &[ratatui::buffer::Cell]| {
        cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>()
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}

fn has(shown: &str, part: &str) {
    assert!(shown.contains(part), "`{part}` is not in\n{shown}");
}

fn has_not(shown: &str, part: &str) {
    assert!(!shown.contains(part), "`{part}` is in\n{shown}");
}
