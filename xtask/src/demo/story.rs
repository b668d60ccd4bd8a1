//! Who does what while apart, on a small board or on somebody's own file.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sheaf::View;
use sheaf::rusqlite::Connection;

use super::Person;
use super::show::{command, note, say};

/// What is edited, and what is shown of it.
pub(super) struct Story {
    pub(super) queries: Vec<String>,
    pub(super) acts: Vec<Act>,
}

/// One thing somebody does while offline.
pub(super) struct Act {
    pub(super) by_ada: bool,
    what: What,
}

enum What {
    Sql(String),
    Call(&'static str, serde_json::Value),
}

const SCHEMA: &str = "
CREATE TABLE project(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE task(
  id INTEGER PRIMARY KEY, project INTEGER NOT NULL REFERENCES project(id),
  title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0, votes COUNTER_INT NOT NULL DEFAULT 0);
CREATE TABLE comment(
  id TEXT PRIMARY KEY, task INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,
  body TEXT NOT NULL, at TEXT NOT NULL);
INSERT INTO project VALUES (1, 'house'), (2, 'garden');
INSERT INTO task VALUES (1, 1, 'paint the door', 0, 2), (2, 1, 'mend the roof', 0, 5),
  (3, 2, 'plant a tree', 0, 1);";

const MUTATORS: [(&str, &str); 2] = [
    ("add_comment", "INSERT INTO comment VALUES (sheaf_uuid(), :task, :body, datetime('now'));"),
    ("vote", "UPDATE task SET votes = votes + :by WHERE id = :task;"),
];

/// The small board: projects, tasks, comments.
pub(super) fn board(ada: &Person) -> Result<Story> {
    ada.site.connection(View::Local)?.execute_batch(SCHEMA)?;
    for (name, sql) in MUTATORS {
        ada.site.define_mutator(name, sql)?;
    }
    say("ada makes projects, tasks and comments, and two named mutations: add_comment, vote");
    let sql = |by_ada, text: &str| Act { by_ada, what: What::Sql(text.to_owned()) };
    let call = |by_ada, name, args| Act { by_ada, what: What::Call(name, args) };
    let acts = vec![
        sql(true, "UPDATE task SET title = 'paint the door red' WHERE id = 1"),
        sql(false, "UPDATE task SET done = 1 WHERE id = 1"),
        call(true, "vote", serde_json::json!({"task": 2, "by": 3})),
        call(false, "vote", serde_json::json!({"task": 2, "by": 1})),
        sql(true, "DELETE FROM task WHERE id = 3"),
        sql(false, "UPDATE task SET title = 'plant two trees' WHERE id = 3"),
        sql(true, "INSERT INTO task(id, project, title) VALUES (4, 1, 'from ada')"),
        sql(false, "INSERT INTO task(id, project, title) VALUES (4, 2, 'from bob')"),
        call(false, "add_comment", serde_json::json!({"task": 1, "body": "looks good"})),
        sql(true, "INSERT INTO project(id, name) VALUES (3, 'cellar')"),
        sql(false, "INSERT INTO project(id, name) VALUES (7, 'cellar')"),
    ];
    let queries = vec![
        "SELECT id, title, done, votes FROM task ORDER BY id".to_owned(),
        "SELECT id, name FROM project ORDER BY id".to_owned(),
        "SELECT task, body FROM comment ORDER BY body".to_owned(),
    ];
    Ok(Story { queries, acts })
}

/// Somebody's own tables: one row is edited by both, in different columns where there are two.
pub(super) fn imported(ada: &Person, file: &Path) -> Result<Story> {
    let done = ada.site.import(file, &mut |_| {})?;
    say(&format!("ada imports {}: {} tables, {} rows", file.display(), done.tables, done.rows));
    let connection = ada.site.connection(View::Local)?;
    let (table, columns) = editable(&connection)?;
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let shown = quote(&table);
    let mine = columns.first().context("a table with a column to edit")?;
    let theirs = columns.get(1).unwrap_or(mine);
    note(&format!("Both will edit the first row of {shown}."));
    let edit = |column: &str, word: &str| {
        let column = quote(column);
        format!(
            "UPDATE {shown} SET {column} = coalesce({column}, '') || ' ({word})' \
             WHERE rowid = (SELECT min(rowid) FROM {shown})"
        )
    };
    let acts = vec![
        Act { by_ada: true, what: What::Sql(edit(mine, "ada")) },
        Act { by_ada: false, what: What::Sql(edit(theirs, "bob")) },
    ];
    let list =
        if mine == theirs { quote(mine) } else { format!("{}, {}", quote(mine), quote(theirs)) };
    let queries = vec![format!("SELECT rowid, {list} FROM {shown} ORDER BY rowid LIMIT 3")];
    Ok(Story { queries, acts })
}

/// A table with rows and text columns outside its key.
fn editable(connection: &Connection) -> Result<(String, Vec<String>)> {
    let mut statement = connection.prepare(
        "SELECT l.name, c.name FROM pragma_table_list l, pragma_table_xinfo(l.name) c \
         WHERE l.schema = 'main' AND l.type = 'table' AND l.wr = 0 AND c.pk = 0 AND c.hidden = 0 \
         AND l.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND l.name NOT LIKE '\\_\\_sheaf%' ESCAPE '\\' \
         AND (upper(c.type) LIKE '%CHAR%' OR upper(c.type) LIKE '%TEXT%') ORDER BY l.name, c.cid",
    )?;
    let found: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (table, _) in &found {
        let quoted = table.replace('"', "\"\"");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM \"{quoted}\")");
        if connection.query_row(&sql, [], |row| row.get(0))? {
            let columns = found.iter().filter(|(name, _)| name == table);
            return Ok((table.clone(), columns.map(|(_, column)| column.clone()).collect()));
        }
    }
    ensure!(false, "the file has no table with rows and a text column to edit");
    Ok((String::new(), Vec::new()))
}

impl Act {
    pub(super) fn perform(&self, person: &Person) -> Result<()> {
        match &self.what {
            What::Sql(sql) => {
                command(person.name, sql);
                person.site.connection(View::Local)?.execute_batch(sql)?;
            }
            What::Call(name, args) => {
                command(person.name, &format!(".mutate {name} {args}"));
                person.site.mutate(name, args)?;
            }
        }
        Ok(())
    }
}
