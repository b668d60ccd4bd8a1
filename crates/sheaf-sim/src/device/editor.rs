//! Somebody who has a document open in an editor, on every replica, beside those who write SQL.
//!
//! Invariant: the checker hears of every act and of what the handle shows after it; what is typed
//! are words as in `workload/together.rs`, so the model knows what is meant. Leaves out rows that
//! go or get another number while they are watched: documents have names and stay.

use std::{collections::BTreeSet, sync::Arc};

use sheaf_site::{CellWatch, EditState, Error, Value, View, WatchEvent};
use sheaf_volume::TimelineId;

use super::replica::Replica;
use crate::{
    check::editor::{self as check, Left},
    rng::Rng,
    workload::{Step, Transaction, together},
    world::Host,
};

/// What an editor may be told when everything rests, at most.
const POLLS_MAX: usize = 1_000;

/// An editor that is open.
pub(super) struct Editor {
    watch: CellWatch,
    doc: String,
    timeline: TimelineId,
    left: Left,
}

impl Editor {
    /// After an act: what is shown now is what stands until the next.
    fn leave(&mut self, is_open: bool, waiting: &[u64]) {
        self.left.shown = self.watch.shown();
        self.left.is_open = is_open || self.watch.state() != EditState::Clean;
        self.left.edits.retain(|seq| waiting.contains(seq));
    }
}

impl Replica {
    /// The person at the editor does something: looks, types, or asks for the newest.
    pub(super) fn edit(&mut self, host: &Arc<Host>, rng: &mut Rng) {
        let who = format!("{} s{}'s editor", host.name, self.number);
        let timeline = self.site.timeline();
        let Some(mut editor) = self.editor.take().filter(|editor| editor.timeline == timeline)
        else {
            self.editor = self.open_editor(host, &who, rng);
            return;
        };
        let shown = editor.watch.shown();
        host.expect(check::stands(&who, &editor.left, shown.as_ref()));
        let done = match rng.below(10) {
            0..=3 if host.world.is_faulty() => self.types(host, &who, &mut editor, rng),
            4 => self.pulls(host, &who, &mut editor),
            _ => self.polls(host, &who, &mut editor).map(drop),
        };
        if let Err(error) = done {
            host.trace(format_args!("{who} fails: {error}"));
        }
        if !host.is_dead() {
            self.editor = Some(editor);
        }
    }

    fn open_editor(&self, host: &Arc<Host>, who: &str, rng: &mut Rng) -> Option<Editor> {
        let doc = together::name(rng.below(together::DOCS));
        // There may be no documents yet.
        let watch = self.site.watch_cell("doc", &[Value::Text(doc.clone())], "body").ok()?;
        let local = self.body(View::Local, &doc).ok()?;
        if host.is_dead() {
            return None;
        }
        let shown = watch.shown();
        host.expect(check::shows(who, local.as_ref(), shown.as_ref()));
        let left = Left { shown, is_open: false, edits: BTreeSet::new() };
        let mut editor = Editor { watch, doc, timeline: self.site.timeline(), left };
        editor.leave(false, &[]);
        Some(editor)
    }

    fn body(&self, view: View, doc: &str) -> Result<Option<Value>, Error> {
        self.site.read(view, |conn| {
            let body = together::cell(conn, doc, "body").map(Value::Text);
            body.map(Some).map_err(|error| sheaf_site::explain(conn, error))
        })
    }

    fn types(
        &mut self,
        host: &Arc<Host>,
        who: &str,
        editor: &mut Editor,
        rng: &mut Rng,
    ) -> Result<(), Error> {
        let Some(Value::Text(body)) = editor.watch.shown() else { return Ok(()) };
        let (meant, text) = self.author(host, |author| author.types(rng, &body));
        let transaction =
            Transaction { steps: vec![Step::Together { doc: editor.doc.clone(), meant }] };
        let begun = self.begins(host, &transaction);
        let text = Value::Text(text);
        let done = editor.watch.edit(text.clone());
        if host.is_dead() || self.is_broken() {
            return Ok(());
        }
        let shown = editor.watch.shown();
        match &done {
            Ok(_) => host.expect(check::shows(who, Some(&text), shown.as_ref())),
            Err(_) => host.expect(check::stands(who, &editor.left, shown.as_ref())),
        }
        let is_open = done.is_ok() || editor.left.is_open;
        if let Some(seq) = self.ends(host, begun, transaction, done) {
            host.count("editor: typed");
            editor.left.edits.insert(seq);
        }
        editor.leave(is_open, &self.pending());
        Ok(())
    }

    fn pulls(&self, host: &Arc<Host>, who: &str, editor: &mut Editor) -> Result<(), Error> {
        let given = editor.watch.pull()?;
        let local = self.body(View::Local, &editor.doc);
        let local = local.inspect_err(|_| editor.leave(false, &self.pending()))?;
        if host.is_dead() {
            return Ok(());
        }
        host.count("editor: asked");
        let shown = editor.watch.shown();
        host.expect(check::shows(who, given.as_ref(), shown.as_ref()));
        host.expect(check::shows(who, local.as_ref(), shown.as_ref()));
        // It may have been told by the way.
        editor.leave(false, &self.pending());
        Ok(())
    }

    /// Whether the editor was told something.
    fn polls(
        &self,
        host: &Arc<Host>,
        who: &str,
        editor: &mut Editor,
    ) -> Result<Option<WatchEvent<Option<Value>>>, Error> {
        let event = editor.watch.poll()?;
        let goes_on = editor.left.is_open && !event.as_ref().is_some_and(ends);
        let local = self.body(View::Local, &editor.doc);
        let local = local.inspect_err(|_| editor.leave(goes_on, &self.pending()))?;
        if host.is_dead() {
            return Ok(None);
        }
        let (shown, waiting) = (editor.watch.shown(), self.pending());
        let Some(event) = event else {
            host.expect(check::stands(who, &editor.left, shown.as_ref()));
            editor.leave(editor.left.is_open, &waiting);
            return Ok(None);
        };
        host.trace(format_args!("{who} is told {event:?}"));
        let both = (shown.as_ref(), local.as_ref());
        host.expect(check::told(who, &editor.left, &event, &waiting, both));
        host.count(match event {
            WatchEvent::Value(_) => "editor: told a value",
            WatchEvent::Converged => "editor: told that all agree",
            WatchEvent::Rejected { .. } => "editor: told of a rejection",
        });
        editor.leave(goes_on, &waiting);
        Ok(Some(event))
    }

    /// At rest: the last that the editor is told; whether that could be seen.
    pub(super) fn editor_rests(&mut self, host: &Arc<Host>) -> bool {
        let Some(mut editor) = self.editor.take() else { return true };
        let who = format!("{} s{}'s editor", host.name, self.number);
        let seen = self.last_polls(host, &who, &mut editor);
        if let Err(error) = &seen {
            host.trace(format_args!("{who} cannot look: {error}"));
        }
        self.editor = Some(editor);
        seen.is_ok()
    }

    fn last_polls(&self, host: &Arc<Host>, who: &str, editor: &mut Editor) -> Result<(), Error> {
        if editor.timeline != self.site.timeline() {
            return Ok(());
        }
        let was_open = editor.left.is_open;
        let mut told = 0;
        for _ in 0..POLLS_MAX {
            match self.polls(host, who, editor)? {
                None => break,
                Some(WatchEvent::Rejected { .. }) => {}
                Some(_) => told += 1,
            }
        }
        let agreed = self.body(View::Global, &editor.doc)?;
        if host.is_dead() {
            return Ok(());
        }
        let (shown, state) = (editor.watch.shown(), editor.watch.state());
        let both = (shown.as_ref(), agreed.as_ref());
        editor.left.is_open = was_open;
        host.expect(check::rests(who, &editor.left, told, both, state));
        editor.leave(false, &[]);
        Ok(())
    }
}

/// Whether it says how the edits ended.
fn ends(event: &WatchEvent<Option<Value>>) -> bool {
    !matches!(event, WatchEvent::Rejected { .. })
}
