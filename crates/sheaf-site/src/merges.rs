//! The functions behind custom merge rules: SQL expressions that are stored in the site, and
//! closures that the host registers.
//!
//! Invariant: an expression sees its three values and nothing else: it runs in a database of its
//! own, as a generated column, for which SQLite refuses whatever is not a function of the row
//! (queries, time, randomness). What is stored is checked again before it runs, for it may come
//! from anywhere. A function that is missing or fails refuses the mutation, never falls back.

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc, sync::Arc, sync::Mutex};

use rusqlite::{
    Connection, OptionalExtension as _, functions::FunctionFlags, limits::Limit, params,
};
use sheaf_merge::{Closures, Custom, CustomName, CustomRules, Merged, Note, Rule, Sides, Value};
use sheaf_volume::{Error, Result};

use crate::{
    limits, mutator,
    nested::{in_savepoint, user_error, with_connection},
    replay::{failure::Failure, sqltext::tokens, table::exists},
    site::{Site, lock},
    value::{Bind, from_ref},
};

/// The table of expressions.
pub(crate) const TABLE: &str = "__sheaf_merges";

pub(crate) const CREATE: &str = "CREATE TABLE IF NOT EXISTS main.__sheaf_merges(
    name TEXT PRIMARY KEY, sql TEXT NOT NULL) WITHOUT ROWID";

/// What a site's host has registered.
pub(crate) type Registered = Arc<Mutex<Closures>>;

impl Site {
    /// The merge functions of one transaction.
    pub(crate) fn merges(&self) -> Merges {
        Merges::new(Arc::clone(&self.0.merges))
    }

    /// Defines the function of the merge rule `custom:NAME`: an SQL expression over `:base`,
    /// `:left` and `:right`, which are what the author saw, what it wrote, and what was ordered in
    /// between. It travels like any row, so every replica and node of the site has it. `None`
    /// takes it back.
    ///
    /// # Errors
    /// `Invalid` for a name or an expression that cannot be, `Limit` beyond a bound.
    pub fn define_merge(&self, name: &str, sql: Option<&str>) -> Result<()> {
        self.write(|tx| define(tx, name, sql)).map(|_| ())
    }

    /// Registers a function for the merge rule `custom:NAME` in this process. To be called before
    /// the first exchange: a mutation that needs a function which is not there is rejected. An
    /// expression that the site defines under that name comes first, since all replicas have it.
    ///
    /// The function must be pure, must not panic and must not use the site: whoever orders
    /// mutations calls it, and devices call it to predict.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be: 1 to 31 of `a-z`, `0-9` and `_`, the first no digit.
    pub fn register_merge(
        &self,
        name: &str,
        function: impl Fn(Sides<'_>) -> Custom + Send + Sync + 'static,
    ) -> Result<()> {
        let name = custom_name(name)?;
        lock(&self.0.merges).register(name, function);
        Ok(())
    }
}

/// Registers `sheaf_define_merge(name, sql)`, for connections that write.
///
/// # Errors
/// What SQLite reports.
pub(crate) fn register(conn: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    conn.create_scalar_function("sheaf_define_merge", 2, flags, |context| {
        if mutator::is_running() {
            return Err(user_error(&Error::invalid("sheaf_define_merge is not for mutators")));
        }
        let (name, sql): (String, Option<String>) = (context.get(0)?, context.get(1)?);
        with_connection(context, |conn| in_savepoint(conn, || define(conn, &name, sql.as_deref())))
            .map(|()| name)
    })
}

fn custom_name(name: &str) -> Result<CustomName> {
    let text = "the name of a merge function is 1 to 31 of a-z, 0-9 and _, the first no digit";
    CustomName::new(name).ok_or_else(|| Error::invalid(text))
}

/// Checks an expression and stores it: an ordinary write, which is captured and travels.
fn define(conn: &Connection, name: &str, sql: Option<&str>) -> Result<()> {
    let name = custom_name(name)?;
    let store = || {
        if let Some(sql) = sql {
            conn.execute_batch(CREATE)?;
            let insert = "INSERT INTO main.__sheaf_merges(name, sql) VALUES(?1, ?2)
                 ON CONFLICT(name) DO UPDATE SET sql = excluded.sql";
            conn.execute(insert, [name.as_str(), sql]).map(|_| ())
        } else if exists(conn, TABLE)? {
            let delete = "DELETE FROM main.__sheaf_merges WHERE name = ?1";
            conn.execute(delete, [name.as_str()]).map(|_| ())
        } else {
            Ok(())
        }
    };
    if let Some(sql) = sql {
        let null = || Sides { base: None, left: &Value::Null, right: &Value::Null };
        let checked = Expression::compile(sql).and_then(|expression| expression.run(null()));
        checked.map_err(Failure::into_error)?;
    }
    store().map_err(|error| Failure::from(error).into_error())
}

/// Whether a function of this name is stored in the site.
pub(crate) fn is_stored(conn: &Connection, name: CustomName) -> rusqlite::Result<bool> {
    if !exists(conn, TABLE)? {
        return Ok(false);
    }
    let find = "SELECT EXISTS(SELECT 1 FROM main.__sheaf_merges WHERE name = ?1)";
    conn.query_row(find, [name.as_str()], |row| row.get(0))
}

/// The functions that a replay may call, and those it has compiled.
#[derive(Default)]
pub(crate) struct Merges {
    registered: Registered,
    compiled: RefCell<BTreeMap<CustomName, Option<Rc<Expression>>>>,
}

impl fmt::Debug for Merges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merges").finish_non_exhaustive()
    }
}

impl Merges {
    pub(crate) fn new(registered: Registered) -> Self {
        Self { registered, compiled: RefCell::default() }
    }

    /// Forgets what was compiled: the stored expressions may have changed.
    pub(crate) fn forget(&self) {
        self.compiled.borrow_mut().clear();
    }

    /// Merges a cell by a rule of this version.
    ///
    /// # Errors
    /// As a rejection where a stored function fails, with why; as an abort where the machine does.
    pub(crate) fn merge(
        &self,
        conn: &Connection,
        rule: Rule,
        base: Option<&Value>,
        left: &Value,
        right: &Value,
    ) -> Result<Merged, Failure> {
        let called = Called { merges: self, conn, failure: RefCell::new(None) };
        let merged = sheaf_merge::merge_cell_with(rule, &called, base, left, right);
        match (called.failure.into_inner(), merged.note, rule) {
            (Some(failure), ..) => Err(failure),
            (None, Some(Note::NoFunction), Rule::Custom(name)) => Err(Failure::reject(format!(
                "there is no merge function {name} here, or it failed: define it in the site, or \
                 register it with whoever orders mutations"
            ))),
            _ => Ok(merged),
        }
    }

    fn stored(
        &self,
        conn: &Connection,
        name: CustomName,
    ) -> Result<Option<Rc<Expression>>, Failure> {
        if let Some(known) = self.compiled.borrow().get(&name) {
            return Ok(known.clone());
        }
        let mut found = None;
        if exists(conn, TABLE)? {
            found = conn
                .prepare_cached("SELECT sql FROM main.__sheaf_merges WHERE name = ?1")?
                .query_row([name.as_str()], |row| row.get::<_, String>(0))
                .optional()?;
        }
        let expression = found.map(|sql| Expression::compile(&sql)).transpose()?.map(Rc::new);
        self.compiled.borrow_mut().insert(name, expression.clone());
        Ok(expression)
    }
}

/// One merge, which may fail for reasons that the rules do not know.
struct Called<'m> {
    merges: &'m Merges,
    conn: &'m Connection,
    failure: RefCell<Option<Failure>>,
}

impl CustomRules for Called<'_> {
    fn call(&self, name: CustomName, sides: Sides<'_>) -> Custom {
        let stored = self.merges.stored(self.conn, name);
        let result = stored.and_then(|found| found.map(|found| found.run(sides)).transpose());
        match result {
            Ok(Some(value)) => Custom::Value(value),
            Ok(None) => lock(&self.merges.registered).call(name, sides),
            Err(failure) => {
                *self.failure.borrow_mut() = Some(match failure {
                    Failure::Reject { reason, .. } => {
                        Failure::reject(format!("merge function {name}: {reason}"))
                    }
                    abort @ Failure::Abort(_) => abort,
                });
                Custom::Missing
            }
        }
    }
}

/// A compiled expression, in a database of its own.
struct Expression(Connection);

impl Expression {
    fn compile(sql: &str) -> Result<Self, Failure> {
        if sql.len() > limits::SQL_BYTES_MAX {
            let text = format!("a merge has at most {} bytes of SQL", limits::SQL_BYTES_MAX);
            return Err(Failure::reject(text));
        }
        let body = columns_for_parameters(sql).map_err(Failure::reject)?;
        let conn = Connection::open_in_memory()?;
        let bytes_max = i32::try_from(limits::MERGE_BYTES_MAX).unwrap_or(i32::MAX);
        conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, bytes_max)?;
        // A comment at the end must not hide what follows.
        let table = format!(
            "CREATE TABLE m(\"base\", \"left\", \"right\", result AS (\n{body}\n) VIRTUAL)"
        );
        conn.execute_batch(&table)?;
        Ok(Self(conn))
    }

    fn run(&self, sides: Sides<'_>) -> Result<Value, Failure> {
        let base = sides.base.unwrap_or(&Value::Null);
        let Self(conn) = self;
        conn.execute_batch("DELETE FROM m")?;
        conn.prepare_cached("INSERT INTO m(\"base\", \"left\", \"right\") VALUES(?1, ?2, ?3)")?
            .execute(params![Bind(base), Bind(sides.left), Bind(sides.right)])?;
        let value = conn
            .prepare_cached("SELECT result FROM m")?
            .query_row([], |row| Ok(from_ref(row.get_ref(0)?)))?;
        value.map_err(|error| Failure::reject(error.to_string()))
    }
}

/// The expression with columns in place of its parameters.
fn columns_for_parameters(sql: &str) -> Result<String, &'static str> {
    const ONE: &str = "a merge is one expression over :base, :left and :right";
    let words = tokens(sql);
    let (mut out, mut done, mut depth) = (String::with_capacity(sql.len() + 16), 0, 0_i64);
    for (i, word) in words.iter().enumerate() {
        match word.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            ";" | "?" | "@" => return Err(ONE),
            ":" => {
                let name = words.get(i + 1).filter(|name| name.at == word.at + 1);
                let name = name.ok_or(ONE)?.text.to_ascii_lowercase();
                if !["base", "left", "right"].contains(&name.as_str()) {
                    return Err(ONE);
                }
                out.push_str(sql.get(done..word.at).unwrap_or_default());
                out.push_str(&format!("\"{name}\""));
                done = word.at + 1 + name.len();
            }
            _ => {}
        }
        if depth < 0 {
            return Err(ONE);
        }
    }
    if depth != 0 || words.is_empty() {
        return Err(ONE);
    }
    out.push_str(sql.get(done..).unwrap_or_default());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sql: &str, base: i64, left: i64, right: i64) -> Result<Value, String> {
        let (base, left, right) = (Value::Int(base), Value::Int(left), Value::Int(right));
        let sides = Sides { base: Some(&base), left: &left, right: &right };
        let done = Expression::compile(sql).and_then(|expression| expression.run(sides));
        done.map_err(|failure| failure.into_error().to_string())
    }

    #[test]
    fn an_expression_over_three_values() {
        let check =
            |sql: &str, expected: Value| assert_eq!(run(sql, 1, 2, 3), Ok(expected), "{sql}");
        check(":left + :right - :base", Value::Int(4));
        check("max(:LEFT, :Right) -- the larger", Value::Int(3));
        check("CASE WHEN :left > :right THEN ':left' ELSE ':right' END", ":right".into());
        check("json_array(:base, (:left))", "[1,2]".into());
        check("date(0, 'unixepoch')", "1970-01-01".into());
        check("NULL", Value::Null);
    }

    #[test]
    fn what_is_no_function_of_the_three_is_refused() {
        let check = |sql: &str, why: &str| {
            let error = run(sql, 1, 2, 3).unwrap_err();
            assert!(error.contains(why), "{sql}: {error}");
        };
        let one = "a merge is one expression";
        for sql in ["", " -- nothing", ":left; :right", ":other", ": left", "?", "@left", "1)+(2"] {
            check(sql, one);
        }
        check("1), more AS (2", one);
        check(":left +", "syntax error");
        check("$left", "parameters prohibited");
        check("(SELECT 1)", "subqueries prohibited");
        check("random()", "non-deterministic functions prohibited");
        check("sum(:left)", "misuse of aggregate");
        check("date('now')", "non-deterministic use of date()");
        check("sheaf_uuid()", "no such function");
        check("missing", "no such column");
        check("zeroblob(1000000000)", "too big");
        check("abs(-9223372036854775807 - :base)", "integer overflow");
    }
}
