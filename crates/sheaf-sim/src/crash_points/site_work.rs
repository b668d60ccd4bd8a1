//! Small workloads of a site and its exchange with a log.
//!
//! Invariant and limits as in `volume_work.rs`.

use sheaf_volume::Result;

use super::flaky::Answer;
use super::site::{SiteBench, Work};

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
                    INSERT INTO t(v, b) SELECT i, zeroblob(900) FROM n";

/// Name, whether the site is there and up to date before, work.
pub(super) const ALL: &[(&str, bool, Work)] = &[
    ("site: first contact", false, |b| {
        b.open()?;
        b.exchange()?;
        b.op("INSERT INTO t(v) VALUES (1)")
    }),
    ("site: adopt", false, |b| {
        b.open_as_stranger()?;
        b.adopt()?;
        b.exchange()?;
        b.synced("INSERT INTO t(v) VALUES (1)")
    }),
    ("site: small transactions", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.op("UPDATE t SET v = 2")?;
        b.synced("INSERT INTO t(v) VALUES (3)")?;
        b.op("DELETE FROM t WHERE v = 2")?;
        b.flush()
    }),
    ("site: a large transaction", true, |b| {
        b.op(MANY)?;
        b.synced("UPDATE t SET v = v + 1")
    }),
    ("site: a transaction rolled back", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.local("BEGIN; INSERT INTO t(v) VALUES (9); ROLLBACK")?;
        b.synced("INSERT INTO t(v) VALUES (2)")
    }),
    ("site: delete and vacuum", true, |b| {
        b.synced(MANY)?;
        b.op("DELETE FROM t WHERE v > 5")?;
        b.local("VACUUM")?;
        b.synced("INSERT INTO t(v) VALUES (1)")
    }),
    ("site: a schema change and rows", true, |b| {
        b.op("CREATE TABLE u(id INTEGER PRIMARY KEY, w); INSERT INTO u(w) VALUES (1)")?;
        b.op("ALTER TABLE t ADD COLUMN x")?;
        b.op("CREATE INDEX t_v ON t(v); INSERT INTO t(v, x) VALUES (1, 2)")?;
        b.exchange()
    }),
    ("site: a mutator", true, |b| {
        b.call()?;
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.call()?;
        b.flush()?;
        b.exchange()
    }),
    ("site: an import, table by table", true, |b| {
        b.op("CREATE TABLE i(id INTEGER PRIMARY KEY, v)")?;
        for part in 0..3 {
            b.op(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
                 INSERT INTO i SELECT {part} * 100 + i, hex(zeroblob(100)) FROM n"
            ))?;
        }
        b.op("CREATE INDEX i_v ON i(v)")?;
        b.flush()
    }),
    ("site: push", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.exchange()?;
        b.op("UPDATE t SET v = 3")?;
        b.exchange()
    }),
    ("site: pull", true, |b| {
        b.others("INSERT INTO t(v) VALUES (7)")?;
        b.exchange()?;
        b.others("UPDATE t SET v = 8")?;
        b.exchange()?;
        b.synced("INSERT INTO t(v) VALUES (1)")
    }),
    ("site: pull below pending work", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.op("UPDATE t SET v = v + 1")?;
        b.others("INSERT INTO t(v) VALUES (7)")?;
        b.exchange()
    }),
    ("site: push and lose the race", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.exchange_late("INSERT INTO t(v) VALUES (7)")?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.exchange()
    }),
    ("site: push without an answer, landed", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.exchange_in_vain(Answer::Lost)?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.exchange()
    }),
    ("site: push without an answer, not landed", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.exchange_in_vain(Answer::Refused)?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.exchange()
    }),
    ("site: no answer, and another device goes on", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.exchange_in_vain(Answer::Lost)?;
        b.others("INSERT INTO t(v) VALUES (7)")?;
        b.op("UPDATE t SET v = v + 1")?;
        b.fold()?;
        b.exchange()
    }),
    ("site: numbers that were handed out", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.hand_out()?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.op("INSERT INTO t(v) VALUES (3)")?;
        b.hand_out()?;
        b.op("INSERT INTO t(v) VALUES (4)")?;
        b.exchange()
    }),
    ("site: a new timeline", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.site()?.restart_timeline()?;
        b.op("INSERT INTO t(v) VALUES (3)")?;
        b.hand_out()?;
        b.exchange()
    }),
    ("site: folds between", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.fold()?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.exchange()?;
        b.fold()?;
        b.synced("UPDATE t SET v = 5")?;
        b.fold()
    }),
    ("site: a fold below an open reader", true, |b| {
        let reader = b.site()?.connection(sheaf_site::View::Global)?;
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").map_err(sheaf_site::from_sqlite)?;
        b.op(MANY)?;
        b.exchange()?;
        b.fold()?;
        b.synced("DELETE FROM t WHERE v < 30")
    }),
    ("site: close and open again", true, |b| {
        b.op("INSERT INTO t(v) VALUES (1)")?;
        b.reopen()?;
        b.op("INSERT INTO t(v) VALUES (2)")?;
        b.exchange()?;
        b.reopen()?;
        b.synced("INSERT INTO t(v) VALUES (3)")
    }),
    ("site: a segment", true, |b| {
        b.op("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
              INSERT INTO t(id, v) SELECT i, (i * 7919) || hex(i * 104729) FROM n")?;
        b.exchange()?;
        both(b)
    }),
];

/// Work on both sides of one exchange.
fn both(bench: &mut SiteBench) -> Result<()> {
    bench.op("UPDATE t SET b = 'ours' WHERE id = 3")?;
    bench.others("UPDATE t SET v = 'theirs' WHERE id = 3")?;
    bench.exchange()
}
