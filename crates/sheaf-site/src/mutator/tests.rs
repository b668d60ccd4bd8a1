use sheaf_volume::{DeviceId, Lsn, ManualEnv};

use super::*;
use crate::{
    capture::Capture,
    mutation::{Body, Mutation},
    replay::{Outcome, Remap, replay},
};

const SITE: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, v, w);
    CREATE TABLE __sheaf_mutators(name TEXT PRIMARY KEY, sql TEXT NOT NULL) WITHOUT ROWID;";

fn open(script: &str) -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SITE).unwrap();
    conn.execute("INSERT INTO __sheaf_mutators VALUES('m', ?1)", [script]).unwrap();
    register_functions(&conn, Arc::new(ManualEnv::new(1))).unwrap();
    conn
}

fn call(conn: &Connection, seed: u8, args: &[(&str, Value)]) -> Outcome {
    let ctx = ReplayContext {
        timeline: TimelineId::from_bytes([1; 16]),
        seq: 7,
        base: Lsn(1),
        target: Lsn(2),
        authority: true,
        device: DeviceId::from_bytes([2; 16]),
        time_ms: 5,
    };
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let body = Body::Call { name: "m".into(), args, seed: [seed; 32], time_ms: 1_234_567 };
    conn.execute_batch("BEGIN").unwrap();
    let mutation = Mutation::new(body, true);
    let mut own = Connection::open_in_memory().unwrap();
    // Calls are not re-captured, so any capture does.
    let capture = Capture::install(&mut own).unwrap();
    let mut remap = Remap::default();
    let replayed = replay(conn, &capture, &ctx, &mut remap, &mutation).unwrap();
    assert_eq!(replayed.recaptured, None);
    conn.execute_batch("COMMIT").unwrap();
    replayed.outcome
}

fn rejected(script: &str, args: &[(&str, Value)], expected: &str) {
    let conn = open(script);
    match call(&conn, 0, args) {
        Outcome::Rejected { reason } => assert!(reason.contains(expected), "{script}: {reason}"),
        other => panic!("{script}: {other:?}"),
    }
    assert_eq!(show(&conn), Vec::<String>::new(), "{script}");
}

fn show(conn: &Connection) -> Vec<String> {
    let mut statement = conn.prepare("SELECT v FROM t ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

const APPLIED: Outcome = Outcome::Applied { merged: false };

#[test]
fn a_script_runs_in_order_with_its_arguments() {
    let conn = open(
        "INSERT INTO t(v) VALUES(:text || '; -- not an end'); -- a comment; with an end
         UPDATE t SET v = v || @more WHERE id = last_insert_rowid();
         SELECT v FROM t;",
    );
    assert_eq!(call(&conn, 0, &[("more", "!".into()), ("text", "a".into())]), APPLIED);
    assert_eq!(show(&conn), ["a; -- not an end!"]);
}

#[test]
fn arguments_and_parameters_must_match() {
    let script = "INSERT INTO t(v) VALUES('early'); INSERT INTO t(v) VALUES(:a)";
    rejected(script, &[], "mutator m: argument a is missing");
    rejected(script, &[("a", Value::Null), ("b", Value::Null)], "there is no argument b");
    rejected("INSERT INTO t(v) VALUES(?1)", &[], "without a name");
    rejected("INSERT INTO t(v) VALUES(?)", &[], "without a name");
    let conn = open("");
    conn.execute("DELETE FROM __sheaf_mutators", []).unwrap();
    let reason = "there is no mutator `m` in this site: define it first".to_owned();
    assert_eq!(call(&conn, 0, &[]), Outcome::Rejected { reason });
}

#[test]
fn what_reaches_outside_is_refused() {
    for script in [
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT x",
        "RELEASE sheaf_replay",
        "PRAGMA user_version = 1",
        "/* hidden */ PRAGMA foreign_keys = off",
        "ATTACH ':memory:' AS x",
        "DETACH main",
        "CREATE TABLE x(a)",
        "DROP TABLE t",
        "VACUUM",
        "EXPLAIN SELECT 1",
    ] {
        let script = format!("INSERT INTO t(v) VALUES('x'); {script}");
        rejected(&script, &[], "is not allowed in a mutator");
    }
    for script in [
        "DELETE FROM __sheaf_mutators",
        "DELETE FROM main.\"__SHEAF_timelines\"",
        "UPDATE '__sheaf_timelines' SET seq = 1",
        "DELETE FROM \u{feff}__sheaf_timelines",
        "INSERT INTO t(v) SELECT file FROM pragma_database_list",
    ] {
        rejected(script, &[], "is not for mutators");
    }
    rejected("INSERT OR ROLLBACK INTO t(v) VALUES(1)", &[], "use ABORT");
    rejected("INSERT OR \u{feff}ROLLBACK INTO t(v) VALUES(1)", &[], "use ABORT");
}

#[test]
fn a_script_may_refuse() {
    rejected("INSERT INTO t(v) VALUES('x'); SELECT sheaf_reject('not today')", &[], "not today");
    let conn = open("INSERT INTO t(v) VALUES(:v)");
    conn.execute_batch(
        "CREATE TRIGGER g BEFORE INSERT ON t WHEN new.v = 'bad' BEGIN
         SELECT RAISE(ABORT, 'no bad things'); END",
    )
    .unwrap();
    let reason = "no bad things".to_owned();
    assert_eq!(call(&conn, 0, &[("v", "bad".into())]), Outcome::Rejected { reason });
    assert_eq!(call(&conn, 0, &[("v", "good".into())]), APPLIED);
    assert_eq!(show(&conn), ["good"]);
}

#[test]
fn a_trigger_that_would_undo_the_batch_is_refused_beforehand() {
    let conn = open("INSERT INTO t(v) VALUES('x')");
    conn.execute_batch(
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END",
    )
    .unwrap();
    match call(&conn, 0, &[]) {
        Outcome::Rejected { reason } => assert!(reason.contains("g uses ROLLBACK"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_seed_gives_one_randomness() {
    const DRAW: &str = "INSERT INTO t(v) VALUES(random() || hex(randomblob(8)) || sheaf_uuid())";
    let draw = |seed| {
        let conn = open(DRAW);
        // What the connection did before does not matter.
        conn.query_row("SELECT random()", [], |_| Ok(())).unwrap();
        assert_eq!(call(&conn, seed, &[]), APPLIED);
        show(&conn)
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn randomness_varies_within_a_run_and_outside() {
    let conn = open("INSERT INTO t(v) VALUES(sheaf_uuid()); INSERT INTO t(v) VALUES(sheaf_uuid())");
    assert_eq!(call(&conn, 1, &[]), APPLIED);
    let ids = show(&conn);
    assert_ne!(ids[0], ids[1]);
    // Time first (1,234,567 is 0x12d687), then version 7 and variant 2.
    assert!(ids[0].starts_with("00000012-d687-7"), "{}", ids[0]);
    assert!("89ab".contains(&ids[0][19..20]) && ids[0].len() == 36, "{}", ids[0]);
    let (a, b): (i64, i64) =
        conn.query_row("SELECT random(), random()", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert_ne!(a, b);
    // The bound is for mutators: ordinary SQL may ask for more.
    let sql = "SELECT length(randomblob(2000000))";
    assert_eq!(conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 2_000_000);
}

#[test]
fn the_context_is_the_mutations_own() {
    const TELL: &str = "concat_ws(' ', sheaf_now(), sheaf_device(), sheaf_timeline(),
        sheaf_seq(), sheaf_authority())";
    let conn = open(&format!("INSERT INTO t(v) VALUES({TELL})"));
    assert_eq!(call(&conn, 0, &[]), APPLIED);
    let device = DeviceId::from_bytes([2; 16]);
    let timeline = TimelineId::from_bytes([1; 16]);
    assert_eq!(show(&conn), [format!("1234567 {device} {timeline} 7 1")]);
    let outside: String = conn.query_row(&format!("SELECT {TELL}"), [], |row| row.get(0)).unwrap();
    assert_eq!(outside, "1700000000000");
}

#[test]
fn definitions_are_checked_and_replaced() {
    let conn = Connection::open_in_memory().unwrap();
    define(&conn, "m", "SELECT 1").unwrap();
    define(&conn, "m", "SELECT 2").unwrap();
    assert!(define(&conn, "m", "COMMIT").is_err());
    assert!(define(&conn, "", "SELECT 1").is_err());
    let sql: String = conn.query_row("SELECT sql FROM __sheaf_mutators", [], |r| r.get(0)).unwrap();
    assert_eq!(sql, "SELECT 2");
}
