//! One instance: a client with its site, and everything this program does to it.
//!
//! Invariant: nothing here waits for a network but [`Desk::open`]; what has to, the worker does.
//! Leaves out what is shown of it: see `app.rs`.

use std::{path::Path, time::Duration};

use sheaf::{
    Client, ClientOptions, Conflict, Error, ErrorKind, Events, Result, Site, Subscription, Value,
    View, from_sqlite,
    rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params},
};

use crate::{
    limits,
    outline::{Entry, Note, arrange},
};

mod history;
mod tree;
mod worker;

pub(crate) use worker::{Told, Wish, Worker};

/// The table of this program. The types say how concurrent changes of a column are merged.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS note(
    id TEXT PRIMARY KEY NOT NULL,
    parent TEXT,
    pos LIST_TEXT NOT NULL,
    title MERGE_TEXT NOT NULL DEFAULT '',
    body HTML_TEXT NOT NULL DEFAULT '',
    tags SET_TEXT NOT NULL DEFAULT '[]',
    done INTEGER NOT NULL DEFAULT 0,
    priority MVR_INT NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS note_order ON note(parent, pos);
    SELECT sheaf_merge_rule('note', 'pos', 'list(parent)')";
/// All notes; ties of a position are broken alike everywhere.
const ALL: &str =
    "SELECT id, parent, pos, title, body, tags, done, priority FROM note ORDER BY pos, id";
/// Columns whose marks are shown, in the order in which they are.
const COLUMNS: [&str; 6] = ["title", "body", "tags", "done", "priority", "pos"];

/// How to open an instance.
pub(crate) struct DeskOptions<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) server: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) site: &'a str,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) site: Site,
    pub(crate) events: Events,
    /// Tells when the outline reads differently, or is agreed on.
    pub(crate) outline: Subscription,
    worker: Worker,
    pub(crate) device: String,
}

impl Desk {
    /// Opens the site, taking what the server has if this device has nothing yet.
    ///
    /// # Errors
    /// As [`Client::open`] and [`Client::site`].
    pub(crate) fn open(options: DeskOptions<'_>) -> Result<Self> {
        let DeskOptions { dir, server, token, site: name } = options;
        let has_server = server.is_some();
        let client = Client::open(ClientOptions { dir: dir.to_owned(), server, token })?;
        let site = if has_server && !client.site_exists(name) {
            match client.clone_site(name, limits::EXCHANGE_TIMEOUT) {
                Ok(site) => {
                    // Offline there is no way to pages that are not here.
                    site.hydrate(&mut |_, _| {})?;
                    site
                }
                // Nobody has made it, or nobody can be asked: it begins here.
                Err(error) => match error.kind() {
                    ErrorKind::NotFound | ErrorKind::Unavailable => client.site(name)?,
                    _ => return Err(error),
                },
            }
        } else {
            client.site(name)?
        };
        if !site.read(View::Local, has_table)? {
            site.write(|tx| tx.execute_batch(SCHEMA).map_err(from_sqlite))?;
        }
        let outline = site.subscribe(ALL, &[])?;
        let device = client.device().to_string();
        let worker = Worker::start(site.clone())?;
        Ok(Self { site, events: client.events(), outline, worker, device })
    }

    /// The outline as it is here.
    ///
    /// # Errors
    /// As [`Site::read`].
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        self.site.read(View::Local, notes).map(arrange)
    }

    /// Columns of a note with changes that wait.
    ///
    /// # Errors
    /// As [`Site::read`].
    pub(crate) fn waiting_cells(&self, id: &str) -> Result<Vec<&'static str>> {
        self.site.read(View::Local, |conn| {
            let mut waiting = Vec::new();
            for column in COLUMNS {
                let sql = "SELECT sheaf_pending_cell('note', ?1, ?2)";
                let is: Option<bool> =
                    conn.query_row(sql, [column, id], |row| row.get(0)).map_err(from_sqlite)?;
                // Nobody can tell: better marked than not.
                if is != Some(false) {
                    waiting.push(column);
                }
            }
            Ok(waiting)
        })
    }

    /// A new name for a paragraph.
    ///
    /// # Errors
    /// As [`Site::read`].
    pub(crate) fn fresh_ids(&self, count: usize) -> Result<Vec<String>> {
        self.site.read(View::Local, |conn| (0..count).map(|_| fresh_id(conn)).collect())
    }

    /// Hands a wish to the worker.
    ///
    /// # Errors
    /// `Busy` when it has enough to do.
    pub(crate) fn wish(&self, wish: Wish) -> Result<()> {
        self.worker.wish(wish)
    }

    /// What the worker has to tell, waiting for it so long.
    pub(crate) fn told(&self, wait: Duration) -> Option<Told> {
        self.worker.told(wait)
    }

    /// Sets a column of a note.
    ///
    /// # Errors
    /// As [`Site::write`]; `NotFound` where the note is gone.
    pub(crate) fn set(&self, id: &str, column: &str, value: &Value) -> Result<()> {
        let column = known(column)?;
        self.write(|tx| {
            let sql = format!("UPDATE note SET {column} = ?1 WHERE id = ?2");
            let done = tx.execute(&sql, params![sql_value(value), id]).map_err(from_sqlite)?;
            if done == 0 { Err(gone()) } else { Ok(()) }
        })
    }

    /// Chooses one of the values that stand for a cell.
    ///
    /// # Errors
    /// As [`Site::write`].
    pub(crate) fn choose(&self, conflict: &Conflict, value: &Value) -> Result<()> {
        let (id, column) = place(conflict)?;
        if conflict.stands.as_ref() != Some(value) {
            return self.set(&id, &column, value);
        }
        // No UPDATE changes the value that is shown already.
        self.write(|tx| {
            let sql = "SELECT sheaf_resolve('note', ?1, ?2)";
            tx.query_row(sql, [&column, &id], |_| Ok(())).map_err(from_sqlite)
        })
    }

    /// Puts a note back to what it was, but for its place.
    ///
    /// # Errors
    /// As [`Site::write`]; `NotFound` where the note is gone.
    pub(crate) fn restore(&self, was: &Note) -> Result<()> {
        self.write(|tx| {
            let sql = "UPDATE note SET title = ?2, body = ?3, tags = ?4, done = ?5, priority = ?6
                 WHERE id = ?1";
            let tags = tags_json(&was.tags);
            let values = params![was.id, was.title, was.body, tags, was.is_done, was.priority];
            let done = tx.execute(sql, values).map_err(from_sqlite)?;
            if done == 0 { Err(gone()) } else { Ok(()) }
        })
    }

    fn write<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        self.site.write(f).map(|(value, _)| value)
    }
}

/// The note and the column that a conflict is about.
///
/// # Errors
/// `Invalid` if it is about neither.
pub(crate) fn place(conflict: &Conflict) -> Result<(String, String)> {
    let about = (conflict.table.as_deref(), conflict.key.as_slice(), &conflict.column);
    match about {
        (Some("note"), [Value::Text(id)], Some(column)) => Ok((id.clone(), column.clone())),
        _ => Err(Error::new(ErrorKind::Invalid, "this is not about one value of a note")),
    }
}

fn known(column: &str) -> Result<&'static str> {
    let found = COLUMNS.into_iter().chain(["parent"]).find(|known| *known == column);
    found.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("no column={column}")))
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "somebody has deleted this note")
}

fn fresh_id(conn: &Connection) -> Result<String> {
    conn.query_row("SELECT sheaf_uuid()", [], |row| row.get(0)).map_err(from_sqlite)
}

fn has_table(conn: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'note'";
    let found = conn.query_row(sql, [], |_| Ok(())).optional().map_err(from_sqlite)?;
    Ok(found.is_some())
}

fn notes(conn: &Connection) -> Result<Vec<Note>> {
    let mut statement = conn.prepare(ALL).map_err(from_sqlite)?;
    let rows = statement.query_map([], note).map_err(from_sqlite)?;
    rows.collect::<std::result::Result<_, _>>().map_err(from_sqlite)
}

fn note(row: &Row<'_>) -> std::result::Result<Note, sheaf::rusqlite::Error> {
    // Somebody else's program may have written what is no text or no number.
    let text = |at: usize| row.get::<_, Option<String>>(at).ok().flatten().unwrap_or_default();
    Ok(Note {
        id: row.get(0)?,
        parent: row.get(1).ok().flatten(),
        pos: text(2),
        title: text(3),
        body: text(4),
        tags: read_tags(&text(5)),
        is_done: row.get(6).unwrap_or_default(),
        priority: row.get(7).unwrap_or_default(),
    })
}

fn sql_value(value: &Value) -> sheaf::rusqlite::types::Value {
    use sheaf::rusqlite::types::Value as Sql;
    match value {
        Value::Null => Sql::Null,
        Value::Int(number) => Sql::Integer(*number),
        Value::Real(number) => Sql::Real(*number),
        Value::Text(text) => Sql::Text(text.clone()),
        Value::Blob(bytes) => Sql::Blob(bytes.clone()),
    }
}

/// Tags as the rule `set` wants them.
pub(crate) fn tags_json(tags: &[String]) -> String {
    serde_json::Value::from(tags).to_string()
}

/// The tags in a JSON array; what is no text in it is left out.
pub(crate) fn read_tags(json: &str) -> Vec<String> {
    let parsed: Option<Vec<serde_json::Value>> = serde_json::from_str(json).ok();
    let tags = parsed.into_iter().flatten();
    tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
}
