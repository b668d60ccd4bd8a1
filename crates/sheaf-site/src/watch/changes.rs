//! Telling that a site's state has changed, and in which tables.
//!
//! Invariant: every step that shows connections another state is told after it can be seen; a
//! table that is not named has not changed. Listeners are bounded, are called on the thread that
//! made the change, and hold nothing up: they only note it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};

use sheaf_volume::{CommitNews, Error, ErrorKind, PageIdx, Result};

use super::{Hub, Touch};
use crate::limits;
use crate::mutation::{Body, Mutation, Op};
use crate::schema::fold;
use crate::site::{Inner, Site, lock};
use crate::vfs::{SCHEMA_COOKIE, read_u32};

/// The state that connections see has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The tables, in lower case, whose rows may read differently now; `None` if it may be any.
    pub tables: Option<BTreeSet<String>>,
}

impl Changed {
    /// Whether rows of this table may read differently.
    #[must_use]
    pub fn touches(&self, table: &str) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.contains(&fold(table)))
    }
}

/// Names of tables in lower case; `None` if it may be any.
pub(crate) type Tables = Option<BTreeSet<String>>;

type Listener = Arc<dyn Fn(&Changed) + Send + Sync>;

/// Who is to be told.
#[derive(Default)]
pub(super) struct Listeners {
    next: u64,
    by_id: BTreeMap<u64, Listener>,
    /// The schema cookie after the last rebase; `None` before the first.
    cookie: Option<u32>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").field("count", &self.by_id.len()).finish_non_exhaustive()
    }
}

/// A listener that is called until this is dropped.
#[derive(Debug)]
pub struct Listening {
    site: Weak<Inner>,
    id: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(site) = self.site.upgrade() {
            let gone = lock(&site.watch.listeners).by_id.remove(&self.id);
            // What it holds may hold the site: not to be dropped under the lock.
            drop(gone);
        }
    }
}

impl Site {
    /// Calls `f` after every step that shows connections another state: a local commit, a rebase.
    /// It runs on the thread that made the change and must return at once.
    ///
    /// # Errors
    /// `Limit` beyond [`limits::LISTENERS_MAX`].
    pub fn on_change(&self, f: impl Fn(&Changed) + Send + Sync + 'static) -> Result<Listening> {
        let mut listeners = lock(&self.0.watch.listeners);
        if listeners.by_id.len() >= limits::LISTENERS_MAX {
            let text = format!("a site tells at most {} listeners", limits::LISTENERS_MAX);
            return Err(Error::new(ErrorKind::Limit, text));
        }
        listeners.next += 1;
        let id = listeners.next;
        listeners.by_id.insert(id, Arc::new(f));
        Ok(Listening { site: self.downgrade(), id })
    }

    /// The tables that a pull of these commits may change; `None` for any, and where nobody asks.
    pub(crate) fn pull_tables(&self, commits: &[CommitNews]) -> Tables {
        if !self.0.watch.is_heard() {
            return None;
        }
        let tables = commits.iter().flat_map(|commit| match commit {
            CommitNews::Whole(commit) => &commit.tables,
            CommitNews::Delta(delta) => &delta.tables,
        });
        let mut tables: BTreeSet<String> = tables.map(|table| fold(table)).collect();
        let waiting = self.with_index(|index| index.tables().map(|all| tables.extend(all)));
        let is_known = matches!(waiting, Ok(Some(())));
        is_known.then_some(tables)
    }

    /// The tables, in lower case, of which rows wait for the log's decision; `None` if it may be
    /// any.
    ///
    /// # Errors
    /// As [`Site::waiting`].
    pub fn pending_tables(&self) -> Result<Option<BTreeSet<String>>> {
        self.with_index(|index| index.tables().map(Iterator::collect))
    }

    /// The timeline was redone and published, which changed these tables and those of what waits
    /// now; any if it dropped a schema change.
    pub(crate) fn pulled(&self, tables: Tables, is_same_schema: bool) {
        let hub = &self.0.watch;
        if !hub.is_heard() {
            return;
        }
        // A page that is not here is not fetched for this.
        let first = self.volume().head().page_if_here(PageIdx::FIRST).ok().flatten();
        let cookie = first.map(|page| read_u32(&page, SCHEMA_COOKIE));
        let before = std::mem::replace(&mut lock(&hub.listeners).cookie, cookie);
        let is_same_schema = is_same_schema && cookie.is_some() && cookie == before;
        let Some(mut tables) = tables.filter(|_| is_same_schema) else {
            return hub.tell(Changed { tables: None });
        };
        let waiting = self.with_index(|index| index.tables().map(|all| tables.extend(all)));
        let is_known = matches!(waiting, Ok(Some(())));
        hub.tell(Changed { tables: is_known.then_some(tables) });
    }
}

impl Hub {
    pub(crate) fn is_heard(&self) -> bool {
        !lock(&self.listeners).by_id.is_empty()
    }

    /// The tables that a local commit of this mutation changes; `called` is what it changed if it
    /// is a call.
    pub(crate) fn commit_tables(&self, mutation: &Mutation, called: Option<&[Touch]>) -> Tables {
        if !self.is_heard() {
            return None;
        }
        match &mutation.body {
            Body::Rows(ops) if !ops.iter().any(|op| matches!(op, Op::Ddl { .. })) => {
                Some(ops.iter().filter_map(Op::table).map(fold).collect())
            }
            Body::Rows(_) => None,
            Body::Call { .. } => called.map(|rows| rows.iter().map(|r| r.table.clone()).collect()),
        }
    }

    /// A local commit can be seen.
    pub(crate) fn committed(&self, tables: Tables) {
        self.tell(Changed { tables });
    }

    fn tell(&self, change: Changed) {
        let listeners: Vec<Listener> = lock(&self.listeners).by_id.values().cloned().collect();
        for listener in listeners {
            listener(&change);
        }
    }
}
