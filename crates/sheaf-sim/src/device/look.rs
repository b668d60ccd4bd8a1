//! What people see on a device, for the checkers.
//!
//! Invariant: a read that fails because something is not here shows nothing and proves nothing; a
//! read that succeeds must be right. Leaves out writing.

use std::sync::Arc;

use rusqlite::Connection;
use sheaf_site::{Error, ErrorKind, View};
use sheaf_volume::Lsn;

use super::replica::Replica;
use crate::{
    check::{convergence, exactly_once, integrity, isolation, lazy, snapshots},
    oracle::model::{dump, says},
    rng::Rng,
    world::Host,
};

/// Readers that stay open on one replica, at most.
const READERS_MAX: usize = 3;

/// Whether a line of a state is a cell with more than one value.
fn keeps_several(line: &str) -> bool {
    let values = line.strip_prefix("doc ").and_then(|line| line.split_once(" of "));
    values.is_some_and(|(_, values)| values.contains(' '))
}

/// Somebody who has begun to read and not ended.
pub(super) struct Reader {
    conn: Connection,
    saw: String,
}

impl Replica {
    /// One look, of a drawn kind.
    pub(super) fn look(&mut self, host: &Arc<Host>, rng: &mut Rng) {
        let who = format!("{} s{}", host.name, self.number);
        match rng.below(8) {
            0 => self.look_at_agreed(host, &who),
            1 | 2 => self.look_at_local(host, &who),
            3 => {
                let lsn = rng.between(0, self.site.base().0.0);
                self.look_at_past(host, &who, lsn);
            }
            4 | 5 => self.begin_to_read(host),
            6 => self.fold(host, rng),
            _ => self.end_reading(host, &who, rng),
        }
    }

    fn read(&self, host: &Host, view: View) -> Option<String> {
        match says(&self.site, view) {
            Ok(_) if host.is_dead() => None,
            Ok(seen) => {
                host.count("looked");
                if seen.lines().any(keeps_several) {
                    host.count("saw several values");
                }
                Some(seen)
            }
            Err(error) => {
                self.unread(host, view, &error);
                None
            }
        }
    }

    /// A read that failed. Only what is away, damaged or closed may fail.
    fn unread(&self, host: &Host, view: View, error: &Error) {
        host.trace(format_args!("s{} {view:?} cannot be read: {error}", self.number));
        host.count("could not look");
        let expected = matches!(
            error.kind(),
            ErrorKind::Unavailable
                | ErrorKind::Corrupt
                | ErrorKind::Io
                | ErrorKind::Closed
                | ErrorKind::NotFound
                | ErrorKind::Expired
        );
        // What SQLite itself finds malformed was given to it as good.
        if !expected || error.to_string().contains("malformed") {
            host.violated(lazy::violated(format!("{} {view:?}: {error}", host.name)));
        }
    }

    fn look_at_agreed(&self, host: &Host, who: &str) {
        let base = self.site.base().0.0;
        let Some(seen) = self.read(host, View::Global) else { return };
        host.oracle(self.number, |oracle| {
            host.expect(convergence::agreed(who, oracle, base, &seen))
        });
        host.expect(isolation::only_own(who, &format!("s{}", self.number), &seen));
    }

    fn look_at_local(&self, host: &Host, who: &str) {
        let (base, timeline) = (self.site.base().0.0, self.site.timeline());
        let pending: Vec<u64> = self.site.status().pending.iter().map(|info| info.seq).collect();
        host.oracle(self.number, |oracle| {
            let ledger = &oracle.ledger;
            host.expect(exactly_once::not_both(who, ledger, timeline, base, &pending));
        });
        let Some(seen) = self.read(host, View::Local) else { return };
        host.oracle(self.number, |oracle| match oracle.predicts(base, timeline, &pending) {
            Ok(model) => host.expect(snapshots::local(who, &model, &seen)),
            Err(violation) => host.violated(violation),
        });
    }

    fn look_at_past(&self, host: &Host, who: &str, lsn: u64) {
        if lsn == 0 {
            return;
        }
        let Some(seen) = self.read(host, View::At(Lsn(lsn))) else { return };
        host.oracle(self.number, |oracle| host.expect(lazy::past(who, oracle, lsn, &seen)));
    }

    fn begin_to_read(&mut self, host: &Host) {
        if self.readers.len() >= READERS_MAX {
            return;
        }
        let begin = || -> Result<Reader, Error> {
            let conn = self.site.connection(View::Local)?;
            let explain = |error| sheaf_site::explain(&conn, error);
            // A cache of its own would hide what the volume shows it later.
            conn.pragma_update(None, "cache_size", 1).map_err(explain)?;
            conn.execute_batch("BEGIN").map_err(explain)?;
            let saw = dump(&conn).map_err(explain)?;
            Ok(Reader { conn, saw })
        };
        match begin() {
            Ok(reader) => self.readers.push(reader),
            Err(error) => self.unread(host, View::Local, &error),
        }
    }

    /// The local checkpoint, also while somebody reads what it would reclaim; sometimes pages that
    /// can be fetched again go with it.
    fn fold(&self, host: &Host, rng: &mut Rng) {
        let volume = self.site.volume();
        let Some(writer) = volume.try_writer() else { return };
        let evictions = host.world.options.keeping.evictions;
        if evictions > 0 && rng.chance(evictions) {
            let bytes = rng.below(8) * u64::from(host.world.options.page_size);
            match volume.evict(&writer, bytes) {
                Ok(evicted) if evicted.pages > 0 => host.count("evicted"),
                Ok(_) => {}
                Err(error) => host.trace(format_args!("s{} does not evict: {error}", self.number)),
            }
            return;
        }
        match volume.checkpoint(&writer) {
            Ok(()) => host.count("folded"),
            Err(error) => host.trace(format_args!("s{} does not fold: {error}", self.number)),
        }
    }

    fn end_reading(&mut self, host: &Host, who: &str, rng: &mut Rng) {
        if self.readers.is_empty() {
            return;
        }
        let reader = self.readers.swap_remove(rng.index(self.readers.len()));
        match dump(&reader.conn).map_err(|error| sheaf_site::explain(&reader.conn, error)) {
            Ok(_) if host.is_dead() => {}
            Ok(later) => host.expect(snapshots::stands_still(who, &reader.saw, &later)),
            Err(error) => self.unread(host, View::Local, &error),
        }
    }

    /// The last checks of a run, when the replica has come to rest; whether they could be made.
    pub(super) fn last_look(&mut self, host: &Arc<Host>, past: &mut Option<Rng>) -> bool {
        self.readers.clear();
        let who = format!("{} s{}", host.name, self.number);
        let base = self.site.base().0.0;
        if let Err(error) = self.site.volume().hydrate(&mut |_, _| ()) {
            host.trace(format_args!("s{} cannot be hydrated: {error}", self.number));
            return false;
        }
        let content = match self.site.volume().global().content_hash() {
            Ok(content) => content,
            // A page that the disk has spoilt, and nobody to fetch it from yet.
            Err(error) => {
                host.trace(format_args!("s{} cannot be read whole: {error}", self.number));
                return false;
            }
        };
        if base > 0 {
            host.oracle(self.number, |oracle| {
                host.expect(convergence::same_bytes(&who, oracle, base, content));
            });
        }
        self.look_at_agreed(host, &who);
        self.look_at_local(host, &who);
        self.was_told(host, &who);
        if !self.editor_rests(host) {
            return false;
        }
        let does = &host.world.options.workload;
        if does.marks > 0 {
            self.look_at_marks(host);
        }
        if let Some(rng) = past
            && rng.chance(does.history)
        {
            self.look_back(host, rng);
        }
        for view in [View::Global, View::Local] {
            host.expect(integrity::of(&who, &self.site, view));
        }
        true
    }
}
