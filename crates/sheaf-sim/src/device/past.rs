//! Looking back at rows, and taking back what one did oneself.
//!
//! Invariant: an undo is a transaction like any other, of which the model knows the meaning: the
//! opposite of what was meant. Leaves out taking back what others did, and what has no opposite.

use std::{collections::BTreeMap, sync::Arc};

use sheaf_site::{Error, Value, View, history::MutationName};

use super::replica::Replica;
use crate::{
    check::past as check,
    oracle::ledger::Entry,
    rng::Rng,
    workload::{COUNTERS, NOTES},
    world::Host,
};

impl Replica {
    /// Somebody takes back one of the newest own changes.
    pub(super) fn undo(&mut self, host: &Arc<Host>, rng: &mut Rng) {
        if host.is_dead() || self.is_broken() {
            // A commit that was cut short is still to be looked for.
            return;
        }
        let timeline = self.site.timeline();
        let stands = |entry: &Entry| {
            let decided = entry.decided;
            !decided.is_some_and(|(_, verdict)| verdict == sheaf_volume::Verdict::Rejected)
        };
        let known = host.oracle(self.number, |oracle| {
            let own = oracle.ledger.of(timeline).filter(|(_, entry)| stands(entry));
            own.filter_map(|(seq, entry)| Some((seq, entry.transaction.opposite()?))).collect()
        });
        let known: Vec<_> = known.unwrap_or_default();
        let Some((seq, opposite)) = rng.pick(&known).cloned() else { return };
        let begun = self.begins(host, &opposite);
        let undone = self.site.undo(&MutationName::Seq { timeline: None, seq }, false);
        if host.is_dead() || self.is_broken() {
            return;
        }
        if let Err(error) = &undone {
            host.count("could not undo");
            host.expect(check::may_refuse(&host.name, seq, &opposite, error));
        }
        let place = undone.as_ref().ok().and_then(|undone| undone.at);
        if self.ends(host, begun, opposite, undone.map(|undone| undone.seq)).is_some() {
            host.count(match place {
                Some(_) => "people: took back what was decided",
                None => "people: took back what waits",
            });
        }
    }

    /// Somebody looks back at a row, where everything rests.
    pub(super) fn look_back(&self, host: &Arc<Host>, rng: &mut Rng) {
        let (table, id) = match rng.chance(500_000) {
            true => ("ctr", format!("c{}", rng.below(COUNTERS))),
            false => ("note", format!("t{}", rng.below(NOTES))),
        };
        let limit = rng.pick(&[3, 12]).copied().unwrap_or(3);
        let base = self.site.base().0.0;
        let key = [Value::Text(id.clone())];
        let told = self.site.history(table, &key, limit, None);
        let now = self.row(table, &id);
        let (history, now) = match (told, now) {
            _ if host.is_dead() => return,
            (Ok(history), Ok(now)) => (history, now),
            // Nobody has made the tables, or the network takes its time.
            (Err(error), _) | (_, Err(error)) => {
                host.trace(format_args!("s{} cannot look back: {error}", self.number));
                return;
            }
        };
        host.count("looked back");
        if history.events.len() > 1 {
            host.count("looked back over changes");
        }
        let who = format!("{} s{}", host.name, self.number);
        host.oracle(self.number, |oracle| {
            host.expect(check::of_row(&who, oracle, base, (table, &id), (now, &history)));
        });
    }

    fn row(&self, table: &str, id: &str) -> Result<Option<BTreeMap<String, Value>>, Error> {
        self.site.read(View::Global, |conn| {
            let explain = |error| sheaf_site::explain(conn, error);
            let sql = format!("SELECT * FROM {table} WHERE id = ?1");
            let mut statement = conn.prepare(&sql).map_err(explain)?;
            let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
            let mut rows = statement.query([id]).map_err(explain)?;
            let Some(row) = rows.next().map_err(explain)? else { return Ok(None) };
            let values = names.into_iter().enumerate().map(|(at, name)| {
                let value = match row.get_ref(at).map_err(explain)? {
                    rusqlite::types::ValueRef::Integer(number) => Value::Int(number),
                    rusqlite::types::ValueRef::Text(text) => {
                        Value::Text(String::from_utf8_lossy(text).into_owned())
                    }
                    _ => Value::Null,
                };
                Ok((name, value))
            });
            values.collect::<Result<_, Error>>().map(Some)
        })
    }
}
