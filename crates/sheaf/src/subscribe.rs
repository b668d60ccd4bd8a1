//! Queries that are answered again when what they read has changed.
//!
//! Invariants: one thread per client runs them, and it sleeps while nothing changes; a query runs
//! again only if a table that it read (through views too) may read differently; an answer that
//! equals the last one is not delivered twice; nobody who is slow holds up others: the newest
//! answer replaces one that was not taken. Nothing of a site is in use here once the subscription
//! was dropped. Failures are answers too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::InterruptHandle;
use sheaf_site::{Changed, Error, ErrorKind, Listening, Result, Value};

use crate::{Site, limits, watch::Bell};

mod query;

use query::Query;

/// Whether an answer is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It shows changes of this device that may still be decided otherwise.
    Local,
    /// The agreed state gives the same answer.
    Confirmed,
}

/// The answer of a query at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Names of the columns.
    pub columns: Arc<[String]>,
    /// The rows, in the query's order.
    pub rows: Arc<[Vec<Value>]>,
    /// Whether it is agreed on.
    pub agreement: Agreement,
}

/// What a query read, by which it is known whether to run it again.
type Tables = Option<BTreeSet<String>>;

/// A query that is answered until this is dropped. Keeps its site open.
#[derive(Debug)]
pub struct Subscription {
    asked: Arc<Asked>,
    id: u64,
    shared: Arc<Shared>,
    listening: Option<Listening>,
    /// Last: everything above uses it.
    _site: Site,
}

/// One query, and its newest answer until somebody takes it.
struct Asked {
    query: Mutex<Query>,
    answer: Mutex<Option<Result<Answer>>>,
    bell: Bell,
    /// Ends a run of which nobody wants the answer any more.
    interrupts: [InterruptHandle; 2],
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("query", &self.query).finish_non_exhaustive()
    }
}

/// The task that runs the queries of a client. Its thread begins with the first one.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    stop: bool,
    next: u64,
    by_id: BTreeMap<u64, Seat>,
    /// Those to run in the next round.
    due: BTreeSet<u64>,
    /// Those still to run in this one: each once, so that nobody waits for one that is due again
    /// and again.
    round: BTreeSet<u64>,
    /// The one that runs.
    busy: Option<u64>,
}

#[derive(Debug)]
struct Seat {
    asked: Arc<Asked>,
    tables: Tables,
}

impl Subscription {
    /// The newest answer that nobody has taken yet. A failure is delivered like an answer, and the
    /// query runs again at the next change.
    #[must_use]
    pub fn try_next(&self) -> Option<Result<Answer>> {
        lock(&self.asked.answer).take()
    }

    /// The newest answer that nobody has taken yet, waiting for one.
    #[must_use]
    pub fn next_within(&self, timeout: Duration) -> Option<Result<Answer>> {
        self.asked.bell.ask(timeout, || Ok(self.try_next())).ok().flatten()
    }

    /// Runs the query again although nothing has changed: after a failure that may be over. What
    /// comes of it is delivered if it differs from the last answer.
    pub fn again(&self) {
        self.shared.plan().due.insert(self.id);
        self.shared.changed.notify_all();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        drop(self.listening.take());
        let mut plan = self.shared.plan();
        let seat = plan.by_id.remove(&self.id);
        plan.due.remove(&self.id);
        plan.round.remove(&self.id);
        while plan.busy == Some(self.id) {
            self.asked.interrupts.iter().for_each(InterruptHandle::interrupt);
            plan = self.shared.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        drop(plan);
        drop(seat);
    }
}

impl Site {
    /// Answers a query now, and again whenever the tables that it reads have changed and the
    /// answer is another one. The first answer is there when this returns.
    ///
    /// Each answer says whether it is agreed on; when it becomes so with the same rows, it is
    /// delivered once more. Several changes in a row are answered once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # let root = std::env::temp_dir().join(format!("sheaf-subscribe-{}", std::process::id()));
    /// # let client = sheaf::Client::open(sheaf::ClientOptions {
    /// #     dir: root.join("a"), server: None, token: None })?;
    /// # let site = client.site("todos")?;
    /// let write = |sql| site.write(|tx| tx.execute_batch(sql).map_err(sheaf::from_sqlite));
    /// write("CREATE TABLE todo(what TEXT, done INT)")?;
    /// let open = site.subscribe("SELECT count(*) FROM todo WHERE done = ?1", &[0.into()])?;
    /// let first = open.try_next().expect("the first answer")?;
    /// assert_eq!(first.rows[0], [0.into()]);
    /// write("INSERT INTO todo VALUES ('buy milk', 0)")?;
    /// let next = open.next_within(Duration::from_secs(10)).expect("an answer")?;
    /// assert_eq!(next.rows[0], [1.into()]);
    /// # drop((open, site, client));
    /// # std::fs::remove_dir_all(&root).ok();
    /// # Ok::<(), sheaf::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a statement that does not parse, does more than read, or has other
    /// parameters; `Limit` beyond [`limits::SUBSCRIPTIONS_MAX`] or
    /// [`limits::ANSWER_ROWS_MAX`]; and what reading reports.
    pub fn subscribe(&self, sql: &str, params: &[Value]) -> Result<Subscription> {
        let crew = self.crew();
        crew.start()?;
        let query = Query::new(self.engine(), sql, params)?;
        let bell = Bell::default();
        let interrupts = query.interrupts();
        let (query, answer) = (Mutex::new(query), Mutex::default());
        let asked = Asked { query, answer, bell, interrupts };
        let asked = Arc::new(asked);
        let shared = Arc::clone(&crew.shared);
        let id = shared.enter(&asked)?;
        let mut subscription =
            Subscription { asked, id, shared, listening: None, _site: self.clone() };
        // Listening before reading: a change in between is run for once more.
        let (weak, heard) = (Arc::downgrade(&subscription.shared), id);
        let listening = self.engine().on_change(move |change| note(&weak, heard, change))?;
        subscription.listening = Some(listening);
        let (answer, tables) = lock(&subscription.asked.query).run();
        subscription.shared.note_tables(id, tables);
        *lock(&subscription.asked.answer) = answer.transpose()?.map(Ok);
        Ok(subscription)
    }
}

/// A site has changed.
fn note(shared: &Weak<Shared>, id: u64, change: &Changed) {
    let Some(shared) = shared.upgrade() else { return };
    let mut plan = shared.plan();
    let Some(seat) = plan.by_id.get(&id) else { return };
    let is_due = seat.tables.as_ref().is_none_or(|all| all.iter().any(|t| change.touches(t)));
    if is_due && !plan.round.contains(&id) && plan.due.insert(id) {
        shared.changed.notify_all();
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        lock(&self.plan)
    }

    fn enter(&self, asked: &Arc<Asked>) -> Result<u64> {
        let mut plan = self.plan();
        if plan.by_id.len() >= limits::SUBSCRIPTIONS_MAX {
            let text = format!("a client runs at most {} queries", limits::SUBSCRIPTIONS_MAX);
            return Err(Error::new(ErrorKind::Limit, text));
        }
        plan.next += 1;
        let id = plan.next;
        plan.by_id.insert(id, Seat { asked: Arc::clone(asked), tables: None });
        Ok(id)
    }

    fn note_tables(&self, id: u64, tables: Tables) {
        if let Some(seat) = self.plan().by_id.get_mut(&id) {
            seat.tables = tables;
        }
    }

    fn run(&self) {
        while let Some((id, asked)) = self.wait() {
            let running = Running { shared: self, id };
            // Until it is known what it reads now, any change counts.
            self.note_tables(id, None);
            let (answer, tables) = lock(&asked.query).run();
            self.note_tables(id, tables);
            if let Some(answer) = answer {
                *lock(&asked.answer) = Some(answer);
                asked.bell.ring();
            }
            // ORDER: let go of the query before its seat can be given up.
            drop(asked);
            drop(running);
        }
    }

    /// The next query to run; a round begins once changes in a row have had a moment to come
    /// together. `None` at the end.
    fn wait(&self) -> Option<(u64, Arc<Asked>)> {
        let mut plan = self.plan();
        loop {
            if plan.round.is_empty() {
                let idle = |plan: &mut Plan| plan.due.is_empty() && !plan.stop;
                plan = self.changed.wait_while(plan, idle).unwrap_or_else(PoisonError::into_inner);
                let gathering =
                    self.changed.wait_timeout_while(plan, limits::ANSWER_AFTER, |plan| !plan.stop);
                plan = gathering.unwrap_or_else(PoisonError::into_inner).0;
                plan.round = std::mem::take(&mut plan.due);
            }
            if plan.stop {
                return None;
            }
            let Some(id) = plan.round.pop_first() else { continue };
            if let Some(seat) = plan.by_id.get(&id) {
                let asked = Arc::clone(&seat.asked);
                plan.busy = Some(id);
                return Some((id, asked));
            }
        }
    }
}

/// Says that a run is over, also when it panicked.
struct Running<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut plan = self.shared.plan();
        if plan.busy == Some(self.id) {
            plan.busy = None;
        }
        self.shared.changed.notify_all();
    }
}

impl Crew {
    fn start(&self) -> Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("sheaf-answer".to_owned());
            let started = started.spawn(move || shared.run());
            *thread = Some(started.map_err(|e| Error::io("start answering", e))?);
        }
        Ok(())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.plan().stop = true;
        self.shared.changed.notify_all();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("answering panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
