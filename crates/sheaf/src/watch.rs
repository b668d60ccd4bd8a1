//! Two values through the client: what waits here, what gave way, and handles for editors that can
//! be waited for.
//!
//! Invariant: waiting costs nothing while the site does not change. A handle keeps its site open.
//! Leaves out what is shown when: see `sheaf_site`'s handles.

use std::{
    ops::Deref,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sheaf_site::{
    CellWatch, Conflict, Listening, PendingChange, Result, Row, RowWatch, Value, Waiting,
    WatchEvent,
};

use crate::{Site, clock};

/// Rings when a site has changed.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.lock() += 1;
        self.rung.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until there is an answer, again after each ring; `None` when the time is over.
    pub(crate) fn ask<T>(
        &self,
        timeout: Duration,
        mut ask: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let end =
            clock::now_ms().saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        loop {
            let before = *self.lock();
            if let Some(answer) = ask()? {
                return Ok(Some(answer));
            }
            let left = end.saturating_sub(clock::now_ms());
            if left == 0 {
                return Ok(None);
            }
            let (rings, left) = (self.lock(), Duration::from_millis(left));
            let waited = self.rung.wait_timeout_while(rings, left, |rings| *rings == before);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// An editor's handle on a cell or a row, which can be waited for. Derefs to the handle itself.
#[derive(Debug)]
pub struct Watch<W> {
    watch: W,
    bell: Arc<Bell>,
    _listening: Listening,
    /// Last: everything above uses it.
    _site: Site,
}

impl<W> Deref for Watch<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.watch
    }
}

impl Watch<CellWatch> {
    /// What there is to tell, waiting for it.
    ///
    /// # Errors
    /// As [`CellWatch::poll`].
    pub fn next_within(&self, timeout: Duration) -> Result<Option<WatchEvent<Option<Value>>>> {
        self.bell.ask(timeout, || self.watch.poll())
    }
}

impl Watch<RowWatch> {
    /// What there is to tell, waiting for it.
    ///
    /// # Errors
    /// As [`RowWatch::poll`].
    pub fn next_within(&self, timeout: Duration) -> Result<Option<WatchEvent<Option<Row>>>> {
        self.bell.ask(timeout, || self.watch.poll())
    }
}

impl Site {
    /// Watches one cell for an editor: its text never jumps while edits are outstanding, and it is
    /// told once when what it shows is agreed on. The key is the primary key as stored, in order,
    /// or the row id where none is declared.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sheaf::{Value, WatchEvent};
    ///
    /// # let root = std::env::temp_dir().join(format!("sheaf-watch-{}", std::process::id()));
    /// # let server = format!("file://{}", root.join("bucket").display());
    /// # let options = |name: &str| sheaf::ClientOptions {
    /// #     dir: root.join(name), server: Some(server.clone()), token: None };
    /// # let client = sheaf::Client::open(options("a"))?;
    /// # let site = client.site("notes")?;
    /// # site.write(|tx| tx.execute_batch("CREATE TABLE note(id INTEGER PRIMARY KEY, body MERGE_TEXT);
    /// #     INSERT INTO note VALUES (1, 'milk')").map_err(sheaf::from_sqlite))?;
    /// # site.exchange(Duration::from_secs(10))?;
    /// let cell = site.watch_cell("note", &[Value::Int(1)], "body")?;
    /// cell.edit("milk and bread")?;
    /// assert_eq!(cell.agreed(), Some("milk".into()));
    /// site.exchange(Duration::from_secs(10))?;
    /// let told = cell.next_within(Duration::from_secs(10))?;
    /// assert_eq!(told, Some(WatchEvent::Converged));
    /// # drop((cell, site, client));
    /// # std::fs::remove_dir_all(&root).ok();
    /// # Ok::<(), sheaf::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`sheaf_site::Site::watch_cell`].
    pub fn watch_cell(&self, table: &str, key: &[Value], column: &str) -> Result<Watch<CellWatch>> {
        self.watched(|site| site.watch_cell(table, key, column))
    }

    /// As [`Site::watch_cell`], for a whole row.
    ///
    /// # Errors
    /// As [`Site::watch_cell`].
    pub fn watch_row(&self, table: &str, key: &[Value]) -> Result<Watch<RowWatch>> {
        self.watched(|site| site.watch_row(table, key))
    }

    fn watched<W>(&self, watch: impl FnOnce(&sheaf_site::Site) -> Result<W>) -> Result<Watch<W>> {
        // The handle first: whoever is woken finds that it has noticed.
        let watch = watch(self.engine())?;
        let bell: Arc<Bell> = Arc::default();
        let rung = Arc::clone(&bell);
        let listening = self.engine().on_change(move |_| rung.ring())?;
        Ok(Watch { watch, bell, _listening: listening, _site: self.clone() })
    }

    /// The changes of this device that the log has not decided, oldest first, with their rows.
    ///
    /// # Errors
    /// `Io` or `Corrupt` when what waits cannot be read.
    pub fn pending(&self) -> Result<Vec<PendingChange>> {
        self.engine().pending()
    }

    /// Whether a change that waits touches a row.
    ///
    /// # Errors
    /// As [`Site::pending`].
    pub fn waiting(&self, table: &str, key: &[Value]) -> Result<Waiting> {
        self.engine().waiting(table, key)
    }

    /// As [`Site::waiting`], for one column of the row. A row that is made or deleted waits in
    /// all of its columns.
    ///
    /// # Errors
    /// As [`Site::pending`].
    pub fn waiting_cell(&self, table: &str, key: &[Value], column: &str) -> Result<Waiting> {
        self.engine().waiting_cell(table, key, column)
    }

    /// Calls `f` after every step that shows connections another state: a local commit, or what
    /// others did. It runs on the thread that made the change and must return at once. Until what
    /// is returned is dropped.
    ///
    /// # Errors
    /// `Limit` beyond [`sheaf_site::limits::LISTENERS_MAX`].
    pub fn on_change(
        &self,
        f: impl Fn(&sheaf_site::Changed) + Send + Sync + 'static,
    ) -> Result<Listening> {
        self.engine().on_change(f)
    }

    /// What should be looked at: values that gave way, rejected mutations, cells with several
    /// values.
    ///
    /// # Errors
    /// As [`Site::read`].
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.engine().conflicts()
    }

    /// Forgets a value that gave way; whether it was there.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_conflict(&self, id: u64) -> Result<bool> {
        self.engine().dismiss_conflict(id)
    }

    /// Forgets all values that gave way and whose mutations the log has decided; whether there
    /// were any.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_conflicts(&self) -> Result<bool> {
        self.engine().dismiss_conflicts()
    }

    /// Settles a cell that has several values ([`crate::ConflictKind::Siblings`]), or any other:
    /// this one takes the place of all, also where it is the one shown. Gives the number of the
    /// mutation; `None` where it was the only one.
    ///
    /// # Errors
    /// `NotFound` if there is no such row, `Invalid` for a table or column that cannot be, and as
    /// [`Site::write`].
    pub fn resolve_cell(
        &self,
        table: &str,
        key: &[Value],
        column: &str,
        value: &Value,
    ) -> Result<Option<u64>> {
        self.engine().resolve_cell(table, key, column, value)
    }
}
