//! One subscribed query: running it, what it read, and whether its answer is agreed on.
//!
//! Invariant: what it read is what SQLite itself asked leave for when it compiled the statement
//! (views are followed by SQLite); where that does not say what rows depend on (virtual tables,
//! functions of ours, tables of SQLite's) any change counts. The statement is compiled anew for
//! every run, so it follows the schema.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use rusqlite::{
    Connection, ErrorCode, InterruptHandle,
    hooks::{AuthAction, AuthContext, Authorization},
    types::{Value as Sql, ValueRef},
};
use sheaf_site::{Error, ErrorKind, Result, Value, View, explain};

use super::{Agreement, Answer, Tables, lock};
use crate::limits;

/// Virtual tables that show nothing but their arguments.
const PURE_TABLES: [&str; 2] = ["json_each", "json_tree"];

/// A query, its connections and its last answer.
#[derive(Debug)]
pub(super) struct Query {
    site: sheaf_site::Site,
    sql: String,
    params: Vec<Value>,
    local: Connection,
    agreed: Connection,
    asked_for: Arc<Mutex<AskedFor>>,
    last: Option<Result<Answer, (ErrorKind, String)>>,
}

/// What SQLite asked leave for.
#[derive(Debug, Default)]
struct AskedFor {
    is_noting: bool,
    tables: BTreeSet<String>,
    /// Something whose changes no table tells.
    is_any: bool,
}

impl AskedFor {
    fn note(&mut self, context: &AuthContext<'_>) -> Authorization {
        if !self.is_noting {
            return Authorization::Allow;
        }
        match context.action {
            AuthAction::Read { table_name, .. } => {
                self.tables.insert(table_name.to_ascii_lowercase());
            }
            AuthAction::Function { function_name } => {
                self.is_any |= function_name.to_ascii_lowercase().starts_with("sheaf_");
            }
            AuthAction::Select | AuthAction::Recursive => {}
            _ => return Authorization::Deny,
        }
        Authorization::Allow
    }
}

type Rows = (Arc<[String]>, Arc<[Vec<Value>]>);

impl Query {
    pub(super) fn new(site: &sheaf_site::Site, sql: &str, params: &[Value]) -> Result<Self> {
        let mut local = site.reader(View::Local)?;
        let asked_for: Arc<Mutex<AskedFor>> = Arc::default();
        let noted = Arc::clone(&asked_for);
        let hook = move |context: AuthContext<'_>| lock(&noted).note(&context);
        local.authorizer(Some(hook)).map_err(sheaf_site::from_sqlite)?;
        let agreed = site.reader(View::Global)?;
        let (site, sql, params) = (site.clone(), sql.to_owned(), params.to_vec());
        Ok(Self { site, sql, params, local, agreed, asked_for, last: None })
    }

    /// Runs it: the answer unless it is the last one, and what it depends on.
    pub(super) fn run(&mut self) -> (Option<Result<Answer>>, Tables) {
        let waiting = self.site.pending_tables();
        *lock(&self.asked_for) = AskedFor { is_noting: true, ..AskedFor::default() };
        let rows = read(&self.local, &self.sql, &self.params);
        let mut asked_for = std::mem::take(&mut *lock(&self.asked_for));
        let is_known = self.keep_tables(&mut asked_for.tables);
        let tables = (rows.is_ok() && is_known && !asked_for.is_any).then_some(asked_for.tables);
        let answer = rows.map(|(columns, rows)| {
            let is_agreed = self.is_untouched(&waiting, tables.as_ref())
                || self.agreed_rows().is_ok_and(|(_, agreed)| agreed == rows);
            let agreement = if is_agreed { Agreement::Confirmed } else { Agreement::Local };
            Answer { columns, rows, agreement }
        });
        let told = match &answer {
            Ok(answer) => Ok(answer.clone()),
            Err(error) => Err((error.kind(), error.to_string())),
        };
        let is_news = self.last.as_ref() != Some(&told);
        self.last = Some(told);
        (is_news.then_some(answer), tables)
    }

    /// Leaves only tables whose changes are told by name; false if there are others.
    fn keep_tables(&self, tables: &mut BTreeSet<String>) -> bool {
        let sql = "SELECT type FROM pragma_table_list(?1) WHERE schema = 'main'";
        let mut is_known = true;
        tables.retain(|name| {
            let kind = self.local.query_row(sql, [name], |row| row.get::<_, String>(0));
            match kind.as_deref() {
                Ok("table") if !name.starts_with("sqlite_") => true,
                Ok("view") => false,
                _ => {
                    is_known &= PURE_TABLES.contains(&name.as_str());
                    false
                }
            }
        });
        is_known
    }

    /// Whether nothing that waits touched what was read, before and after reading.
    fn is_untouched(&self, before: &Result<Tables>, read: Option<&BTreeSet<String>>) -> bool {
        let Some(read) = read else { return false };
        let is_apart = |waiting: &Result<Tables>| match waiting {
            Ok(Some(waiting)) => waiting.is_disjoint(read),
            Ok(None) | Err(_) => false,
        };
        is_apart(before) && is_apart(&self.site.pending_tables())
    }

    fn agreed_rows(&self) -> Result<Rows> {
        read(&self.agreed, &self.sql, &self.params)
    }

    /// End what runs, from another thread.
    pub(super) fn interrupts(&self) -> [InterruptHandle; 2] {
        [self.local.get_interrupt_handle(), self.agreed.get_interrupt_handle()]
    }
}

fn read(conn: &Connection, sql: &str, params: &[Value]) -> Result<Rows> {
    let only_reads = || Error::invalid("a query that is subscribed to may only read");
    let mut statement = conn.prepare(sql).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::AuthorizationForStatementDenied) => only_reads(),
        _ => explain(conn, error),
    })?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(only_reads());
    }
    let columns = statement.column_names().map(str::to_owned).collect();
    let params = rusqlite::params_from_iter(params.iter().map(bound));
    let mut found = statement.query(params).map_err(|e| explain(conn, e))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(|e| explain(conn, e))? {
        let width = row.as_ref().column_count();
        let mut values = Vec::with_capacity(width);
        for at in 0..width {
            let value = row.get_ref(at).map_err(|e| explain(conn, e))?;
            values.push(taken(value, &mut bytes)?);
        }
        rows.push(values);
        if rows.len() > limits::ANSWER_ROWS_MAX || bytes > limits::ANSWER_VALUES_MAX {
            let text = format!(
                "an answer has at most {} rows and {} bytes; use LIMIT",
                limits::ANSWER_ROWS_MAX,
                limits::ANSWER_VALUES_MAX
            );
            return Err(Error::new(ErrorKind::Limit, text));
        }
    }
    Ok((columns, rows.into()))
}

fn bound(value: &Value) -> Sql {
    match value.clone() {
        Value::Null => Sql::Null,
        Value::Int(int) => Sql::Integer(int),
        Value::Real(real) => Sql::Real(real),
        Value::Text(text) => Sql::Text(text),
        Value::Blob(blob) => Sql::Blob(blob),
    }
}

fn taken(value: ValueRef<'_>, bytes: &mut usize) -> Result<Value> {
    *bytes += match value {
        ValueRef::Text(content) | ValueRef::Blob(content) => content.len(),
        _ => size_of::<Value>(),
    };
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text);
            Value::Text(text.map_err(|_| Error::invalid("a text is not UTF-8"))?.to_owned())
        }
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    })
}
