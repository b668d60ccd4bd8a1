//! Named mutators: SQL scripts in the table `__sheaf_mutators`, and what they may ask.
//!
//! Invariant: a call gives the same effects on every replica that starts from the same state:
//! time is the mutation's own, randomness comes from its seed, and everything that reaches
//! outside the database is refused. Leaves out savepoints and switches: see `replay.rs`.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use rusqlite::{Connection, OptionalExtension as _, functions::FunctionFlags};
use sheaf_merge::Value;
use sheaf_volume::{Env, Error, ErrorKind, Result, TimelineId};

use crate::{
    clock, limits,
    replay::{
        ReplayContext,
        failure::Failure,
        sqltext::{statements, tokens},
    },
    value::Bind,
};

pub(crate) const CREATE: &str = "CREATE TABLE IF NOT EXISTS main.__sheaf_mutators(
    name TEXT PRIMARY KEY, sql TEXT NOT NULL) WITHOUT ROWID";

/// A call, borrowed from its mutation.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    pub(crate) args: &'a [(String, Value)],
    pub(crate) seed: &'a [u8; 32],
    pub(crate) time_ms: u64,
}

/// What the context functions answer while a mutator runs on this thread.
struct Running {
    random: ChaCha20Rng,
    ctx: ReplayContext,
    time_ms: u64,
}

thread_local! {
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// Whether a mutator runs on this thread.
pub(crate) fn is_running() -> bool {
    RUNNING.with_borrow(Option::is_some)
}

/// Ends a run on this thread, also when it unwinds.
struct RunGuard(Option<Running>);

impl RunGuard {
    fn start(running: Running) -> Self {
        Self(RUNNING.replace(Some(running)))
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        RUNNING.replace(self.0.take());
    }
}

/// Runs a mutator's script.
pub(crate) fn run(conn: &Connection, ctx: &ReplayContext, call: &Call<'_>) -> Result<(), Failure> {
    let script = load(conn, call.name)?;
    let script = check_script(&script).map_err(|error| named(call.name, &error.to_string()))?;
    refuse_rollback(conn)?;
    let _running = RunGuard::start(Running {
        random: ChaCha20Rng::from_seed(*call.seed),
        ctx: *ctx,
        time_ms: call.time_ms,
    });
    clock::with_time(call.time_ms, || execute(conn, call, &script))
}

/// Checks a mutator's script and gives its statements.
///
/// # Errors
/// `Invalid` for anything but SELECT, INSERT, UPDATE, DELETE and REPLACE, for `OR ROLLBACK` and
/// for tables of sheaf itself; `Limit` beyond a bound.
pub(crate) fn check_script(sql: &str) -> Result<Vec<&str>> {
    if sql.len() > limits::SQL_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("a mutator may have at most {} bytes of SQL", limits::SQL_BYTES_MAX),
        ));
    }
    let script = statements(sql);
    if script.len() > limits::SCRIPT_STATEMENTS_MAX {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("a mutator may have at most {} statements", limits::SCRIPT_STATEMENTS_MAX),
        ));
    }
    for statement in &script {
        check_statement(statement)?;
    }
    Ok(script)
}

/// The first word tells what a statement is, and no text can hide it. So the check comes before
/// SQLite sees the statement: some pragmas act while they are compiled.
fn check_statement(statement: &str) -> Result<()> {
    const ALLOWED: [&str; 7] =
        ["SELECT", "VALUES", "WITH", "INSERT", "REPLACE", "UPDATE", "DELETE"];
    let words = tokens(statement);
    let Some(first) = words.first() else {
        return Ok(());
    };
    if !ALLOWED.iter().any(|word| first.is(word)) {
        return Err(Error::invalid(format!("{} is not allowed in a mutator", first.text)));
    }
    for word in &words {
        let name = word.name().to_ascii_lowercase();
        // Quoted words count too: SQLite takes a string for a name where it needs one.
        if name.starts_with("__sheaf_") || name.starts_with("pragma_") {
            return Err(Error::invalid(format!("{name} is not for mutators")));
        }
        if name == "rollback" && word.text.len() == name.len() {
            return Err(Error::invalid("ROLLBACK would undo the work of others: use ABORT"));
        }
    }
    Ok(())
}

/// A trigger or constraint of the schema that rolls back would take the whole batch with it.
fn refuse_rollback(conn: &Connection) -> Result<(), Failure> {
    let mut statement = conn.prepare_cached(
        "SELECT name, sql FROM main.sqlite_schema
         WHERE type IN ('trigger', 'table') AND sql LIKE '%rollback%'",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, sql): (String, String) = (row.get(0)?, row.get(1)?);
        let words = tokens(&sql);
        let is_clause = words.windows(2).any(|pair| match pair {
            [before, word] => {
                word.is("ROLLBACK")
                    && (before.is("OR") || before.is("CONFLICT") || before.text == "(")
            }
            _ => false,
        });
        if is_clause {
            let reason =
                format!("{name} uses ROLLBACK, which would undo the work of others: use ABORT");
            return Err(Failure::reject(reason));
        }
    }
    Ok(())
}

fn named(mutator: &str, reason: &str) -> Failure {
    Failure::reject(format!("mutator {mutator}: {reason}"))
}

fn load(conn: &Connection, name: &str) -> Result<String, Failure> {
    let missing =
        || Failure::reject(format!("there is no mutator `{name}` in this site: define it first"));
    let has_table: bool = conn
        .prepare_cached(
            "SELECT EXISTS(SELECT 1 FROM main.sqlite_schema WHERE name = '__sheaf_mutators')",
        )?
        .query_row([], |row| row.get(0))?;
    if !has_table {
        return Err(missing());
    }
    conn.prepare_cached("SELECT sql FROM main.__sheaf_mutators WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?
        .ok_or_else(missing)
}

fn execute(conn: &Connection, call: &Call<'_>, script: &[&str]) -> Result<(), Failure> {
    check_args(conn, call, script)?;
    for sql in script {
        let mut statement = conn.prepare_cached(sql)?;
        for index in 1..=statement.parameter_count() {
            let name = statement.parameter_name(index).and_then(|name| name.get(1..));
            let value = call.args.iter().find(|(arg, _)| Some(arg.as_str()) == name);
            let (_, value) = value.ok_or_else(|| named(call.name, "a parameter is missing"))?;
            statement.raw_bind_parameter(index, Bind(value))?;
        }
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
    }
    Ok(())
}

/// Every parameter has an argument and every argument a parameter, before anything is done.
fn check_args(conn: &Connection, call: &Call<'_>, script: &[&str]) -> Result<(), Failure> {
    let mut used = BTreeSet::new();
    for sql in script {
        let statement = conn.prepare_cached(sql)?;
        for index in 1..=statement.parameter_count() {
            match statement.parameter_name(index) {
                Some(name) if !name.starts_with('?') => {
                    used.extend(name.get(1..).map(str::to_owned));
                }
                _ => return Err(named(call.name, "uses a parameter without a name")),
            }
        }
    }
    if let Some(name) = used.iter().find(|name| !call.args.iter().any(|(arg, _)| arg == *name)) {
        return Err(named(call.name, &format!("argument {name} is missing")));
    }
    if let Some((arg, _)) = call.args.iter().find(|(arg, _)| !used.contains(arg)) {
        return Err(named(call.name, &format!("there is no argument {arg}")));
    }
    Ok(())
}

/// Stores a mutator, replacing what had its name. An ordinary write: it is captured and travels.
///
/// # Errors
/// As [`check_script`], and what writing reports.
pub(crate) fn define(conn: &Connection, name: &str, sql: &str) -> Result<()> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the name of a mutator has 1 to {} bytes",
            limits::NAME_BYTES_MAX
        )));
    }
    check_script(sql)?;
    let store = || {
        conn.execute_batch(CREATE)?;
        conn.prepare_cached(
            "INSERT INTO main.__sheaf_mutators(name, sql) VALUES(?1, ?2)
             ON CONFLICT(name) DO UPDATE SET sql = excluded.sql",
        )?
        .execute([name, sql])
    };
    store().map(|_| ()).map_err(|error| Failure::from(error).into_error())
}

/// Registers the functions mutators rely on. To be called once for every connection that writes:
/// `random()`, `randomblob(n)` and `sheaf_uuid()` draw from the mutation's seed while one runs
/// and from `env` otherwise; `sheaf_now()` is the mutation's time or the clock's;
/// `sheaf_device()`, `sheaf_timeline()`, `sheaf_seq()` and `sheaf_authority()` tell about the
/// mutation and are NULL outside one; `sheaf_reject(reason)` fails.
///
/// # Errors
/// What SQLite reports.
pub(crate) fn register_functions(conn: &Connection, env: Arc<dyn Env>) -> rusqlite::Result<()> {
    // Innocuous, so that defaults and triggers may use them too.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    register_random(conn, flags, &env)?;
    conn.create_scalar_function("sheaf_now", 0, flags, move |_| {
        Ok(i64::try_from(now_ms(env.as_ref())).unwrap_or(i64::MAX))
    })?;
    conn.create_scalar_function("sheaf_device", 0, flags, |_| {
        Ok(asked(|running| running.ctx.device.to_string()))
    })?;
    conn.create_scalar_function("sheaf_timeline", 0, flags, |_| {
        Ok(asked(|running| running.ctx.timeline.to_string()))
    })?;
    conn.create_scalar_function("sheaf_seq", 0, flags, |_| {
        Ok(asked(|running| i64::try_from(running.ctx.seq).unwrap_or(i64::MAX)))
    })?;
    conn.create_scalar_function("sheaf_authority", 0, flags, |_| {
        Ok(asked(|running| running.ctx.authority))
    })?;
    conn.create_scalar_function("sheaf_reject", 1, flags, |context| -> rusqlite::Result<i64> {
        Err(refusal(context.get(0)?))
    })
}

fn register_random(
    conn: &Connection,
    flags: FunctionFlags,
    env: &Arc<dyn Env>,
) -> rusqlite::Result<()> {
    let source = Arc::clone(env);
    conn.create_scalar_function("random", 0, flags, move |_| {
        let mut bytes = [0; 8];
        fill_random(source.as_ref(), &mut bytes);
        // As SQLite's own: the one number whose absolute value does not exist never comes.
        Ok(i64::from_le_bytes(bytes).max(-i64::MAX))
    })?;
    let source = Arc::clone(env);
    conn.create_scalar_function("randomblob", 1, flags, move |context| {
        let len = usize::try_from(context.get::<i64>(0)?).unwrap_or(1).max(1);
        // Ordinary SQL has SQLite's own bound; a mutator runs on every replica.
        let max = asked(|_| limits::RANDOM_BYTES_MAX).unwrap_or(limits::VALUE_BYTES_MAX);
        if len > max {
            return Err(refusal(format!("randomblob is limited to {max} bytes here")));
        }
        let mut bytes = vec![0; len];
        fill_random(source.as_ref(), &mut bytes);
        Ok(bytes)
    })?;
    let source = Arc::clone(env);
    conn.create_scalar_function("sheaf_uuid", 0, flags, move |_| Ok(uuid(source.as_ref())))
}

fn refusal(reason: String) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(reason.into())
}

fn asked<T>(answer: impl FnOnce(&Running) -> T) -> Option<T> {
    RUNNING.with_borrow(|running| running.as_ref().map(answer))
}

/// The timeline of the mutation whose script runs on this thread.
pub(crate) fn timeline() -> Option<TimelineId> {
    asked(|running| running.ctx.timeline)
}

fn fill_random(env: &dyn Env, bytes: &mut [u8]) {
    RUNNING.with_borrow_mut(|running| match running {
        Some(running) => running.random.fill_bytes(bytes),
        None => env.fill_random(bytes),
    });
}

fn now_ms(env: &dyn Env) -> u64 {
    asked(|running| running.time_ms).unwrap_or_else(|| env.now_ms())
}

/// A version 7 UUID (RFC 9562): sorts by time, so keys of one device are neighbours.
fn uuid(env: &dyn Env) -> String {
    let mut random = [0; 16];
    fill_random(env, &mut random);
    let low = u128::from_be_bytes(random);
    let time = u128::from(now_ms(env)) & 0xffff_ffff_ffff;
    let bits = (time << 80) | (7 << 76) | (low & !(0xf << 76) & ((1 << 80) - 1));
    let bits = (bits & !(3 << 62)) | (2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests;
