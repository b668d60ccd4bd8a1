//! What scripts may rely on: the README's and the contract, command by command.
//!
//! Invariant: what is asserted here is a promise; a change here is a breaking change.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Stdio,
};

use serde_json::Value;

use crate::bed::{Bed, Device, Done, Node, assert_equal, dump, files, write};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n COUNTER_INT); \
    INSERT INTO t VALUES (1, 'one', 10), (2, NULL, 0)";

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

fn json(done: Done) -> Value {
    serde_json::from_str(&done.ok()).unwrap()
}

#[cfg(unix)]
#[test]
fn serve_prints_its_url_first_and_shows_its_token_once() {
    let bed = Bed::new();
    let node = bed.node();
    assert!(node.url.starts_with("http://127.0.0.1:"), "{}", node.url);
    assert!(node.token.len() >= 16, "{}", node.token);
    let a = Device { token: node.token.clone(), ..bed.device("a", &node.url) };
    a.run(&["sql", "s", SETUP]).ok();
    let (code, said) = node.end("-INT");
    assert_eq!(code, Some(0), "{said}");
    // Neither the directory nor a second start gives the token away.
    let token = a.token.as_bytes();
    for (path, bytes) in files(&bed.path("node")) {
        let shows = bytes.windows(token.len()).any(|window| window == token);
        assert!(!shows, "the token is in {}", path.display());
    }
    let node = Node::start_again(&bed.path("node"));
    let again = Device { server: node.url.clone(), ..a };
    assert_eq!(again.run(&["sql", "s", "SELECT name FROM t WHERE id = 1"]).ok(), "one\n");
    bed.device("stranger", &node.url).run(&["clone", "s"]).fails(1, "token");
    let (code, said) = node.end("-INT");
    assert_eq!(code, Some(0));
    assert!(!said.contains("token:"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_node_ends_although_somebody_is_connected() {
    let bed = Bed::new();
    let node = Node::start(&bed.path("node"), &["--no-auth"]);
    let a = bed.device("a", &node.url);
    let mut shell = a
        .command(&["shell", "s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"CREATE TABLE t(a);\n.push\n").unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("pushed 1 change"), "{line}");
    assert_eq!(node.end("-INT").0, Some(0));
    // The device goes on alone, and says so at the end.
    input.write_all(b"INSERT INTO t VALUES (1);\n").unwrap();
    drop(input);
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(3), 1), "{said}");
    assert!(said.contains("sheaf push s"), "{said}");
    let node = Node::start(&bed.path("node"), &["--no-auth"]);
    let a = Device { server: node.url.clone(), ..a };
    a.run(&["push", "s"]).ok();
    assert_eq!(bed.device("b", &node.url).run(&["sql", "s", "SELECT a FROM t"]).ok(), "1\n");
}

#[test]
fn rows_are_printed_as_sqlite3_prints_them() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let values = "SELECT 1, 1.0, 0.1, 1e100, NULL, 'a|b', '', x'4142', -9223372036854775808";
    let expected = "1|1.0|0.1|1.0e+100||a|b||AB|-9223372036854775808\n";
    assert_eq!(a.run(&["sql", "s", values]).ok(), expected);
    let objects = json(a.run(&["--json", "sql", "s", "SELECT 1 AS a, NULL AS b, 'x\"y' AS c"]));
    assert_eq!(objects, serde_json::json!([{ "a": 1, "b": null, "c": "x\"y" }]));
    let done = a.run(&["sql", "s", "CREATE TABLE t(a)", "INSERT INTO t VALUES (7)", "TABLE t"]);
    done.fails(1, "syntax error");
    assert_eq!(a.run(&["sql", "s", "SELECT a FROM t", "SELECT a + 1 FROM t"]).ok(), "7\n8\n");
}

/// One story, told by the same commands whoever the server is.
fn collaborate(bed: &Bed, server: &str, token: &str) {
    let device = |name| Device { token: token.to_owned(), ..bed.device(name, server) };
    let (a, b) = (device("a"), device("b"));
    assert_eq!(a.run(&["sql", "team/s", SETUP]).ok(), "");
    b.run(&["clone", "team/s"]).ok();
    b.run(&["clone", "team/s"]).fails(1, "sheaf pull team/s");
    for (device, sql) in [
        (&a, "UPDATE t SET name = 'uno', n = n + 5 WHERE id = 1; INSERT INTO t VALUES (3, 'a', 0)"),
        (&b, "UPDATE t SET n = n + 7 WHERE id = 1; INSERT INTO t VALUES (4, 'b', 0)"),
    ] {
        device.run(&["sql", "--offline", "team/s", sql]).ok();
        let global = device.run(&["sql", "--offline", "--view", "global", "team/s", "TABLE_"]);
        global.fails(1, "syntax error");
        let seen = ["sql", "--offline", "team/s", "SELECT n FROM t WHERE id = 1", "--view"];
        assert_eq!(device.run(&[&seen[..], &["global"]].concat()).ok(), "10\n");
        assert_eq!(device.run(&[&seen[..], &["@1"]].concat()).ok(), "10\n");
    }
    let pending = json(a.run(&["status", "team/s", "--json"]));
    assert_eq!(pending["pending"].as_array().unwrap().len(), 2, "{pending}");
    assert_eq!((&pending["site"], &pending["server"]), (&"team/s".into(), &server.into()));
    let pushed = json(a.run(&["push", "team/s", "--json"]));
    assert_eq!((&pushed["pushed"], &pushed["base"]), (&2.into(), &2.into()), "{pushed}");
    let pulled = json(b.run(&["pull", "team/s", "--json"]));
    assert_eq!((&pulled["pulled"], &pulled["base"]), (&1.into(), &2.into()), "{pulled}");
    let pushed = json(b.run(&["push", "team/s", "--json"]));
    assert_eq!((&pushed["pushed"], &pushed["rejected"]), (&2.into(), &Value::Array(vec![])));
    json(a.run(&["pull", "team/s", "--json"]));
    let rows = "1|uno|22\n2||0\n3|a|0\n4|b|0\n";
    for device in [&a, &b] {
        let seen = device.run(&["sql", "--offline", "team/s", "SELECT * FROM t"]).ok();
        assert_eq!(seen, rows);
        let status = json(device.run(&["status", "team/s", "--json"]));
        assert_eq!((&status["pending"], &status["base"]), (&Value::Array(vec![]), &3.into()));
    }
    views(&a);
}

/// The past is found by position and by time, also by a device that was not there.
fn views(a: &Device) {
    let log = json(a.run(&["log", "team/s", "--json"]));
    let entries = log.as_array().unwrap();
    let lsns: Vec<_> = entries.iter().map(|entry| entry["lsn"].as_u64().unwrap()).collect();
    assert_eq!(lsns, [3, 2, 1], "{log}");
    assert_eq!(entries[0]["tables"], serde_json::json!(["t"]));
    let limited = json(a.run(&["log", "team/s", "--json", "-n", "1"]));
    assert_eq!(limited.as_array().unwrap().len(), 1);
    for (view, sum) in [("@1", "10"), ("@2", "15"), ("@3", "22")] {
        let seen = a.run(&["sql", "team/s", "--view", view, "SELECT n FROM t WHERE id = 1"]);
        assert_eq!(seen.ok().trim(), sum, "{view}");
    }
    // Commits may share a millisecond: the last one of a time counts.
    let time = entries[2]["time_ms"].as_u64().unwrap();
    let last = entries.iter().find(|entry| entry["time_ms"].as_u64() == Some(time)).unwrap();
    let at = |view: String| {
        a.run(&["sql", "team/s", "--view", &view, "SELECT n FROM t WHERE id = 1"]).ok()
    };
    assert_eq!(at(format!("@{time}")), at(format!("@{}", last["lsn"])));
    assert_eq!(at("@2200-01-01".to_owned()), "22\n");
    // Before the first commit there was nothing.
    let none = "SELECT count(*) FROM sqlite_schema";
    assert_eq!(a.run(&["sql", "team/s", "--view", "@2001-01-01", none]).ok(), "0\n");
    a.run(&["sql", "team/s", "--view", "@4", none]).fails(1, "sheaf log team/s");
}

#[test]
fn a_node_and_a_bucket_take_the_same_commands() {
    let bed = Bed::new();
    let node = bed.node();
    collaborate(&bed, &node.url, &node.token);
    let bed = Bed::new();
    collaborate(&bed, &format!("file://{}", bed.path("bucket").display()), "");
}

#[test]
fn flags_win_over_the_environment_and_a_site_remembers_its_server() {
    let bed = Bed::new();
    let node = bed.node();
    let wrong =
        Device { dir: bed.path("wrong"), server: NOBODY.to_owned(), token: "wrong".to_owned() };
    let dir = bed.path("right");
    let flags = ["--dir", dir.to_str().unwrap(), "--server", &node.url, "--token", &node.token];
    wrong.run(&[&flags[..], &["sql", "s", SETUP]].concat()).ok();
    assert!(!wrong.dir.exists());
    let right = Device { token: node.token.clone(), ..bed.device("right", "") };
    let done = right.run(&["push", "s"]).ok();
    assert!(done.starts_with("pushed 0 changes"), "{done}");
}

#[test]
fn without_its_server_work_is_kept_with_status_three() {
    let bed = Bed::new();
    let bucket = format!("file://{}", bed.path("bucket").display());
    let away = bed.device("a", NOBODY);
    away.run(&["sql", "s", SETUP]).fails(3, "sheaf push s");
    away.run(&["sql", "s", "--offline", "UPDATE t SET n = 1 WHERE id = 2"]).ok();
    for command in ["push", "pull"] {
        away.run(&[command, "s"]).fails(3, "what was changed here is kept");
    }
    away.run(&["clone", "other"]).fails(3, "could not be reached");
    assert!(!away.has_site("other"));
    let a = Device { server: bucket.clone(), ..away };
    a.run(&["push", "s"]).ok();
    let b = bed.device("b", &bucket);
    assert_eq!(b.run(&["sql", "s", "SELECT n FROM t ORDER BY id"]).ok(), "10\n1\n");
}

#[test]
fn a_rejection_is_told_by_whatever_command_meets_it() {
    let bed = Bed::new();
    let server = format!("file://{}", bed.path("bucket").display());
    let (a, b) = (bed.device("a", &server), bed.device("b", &server));
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["clone", "s"]).ok();
    a.run(&["sql", "s", "INSERT INTO t VALUES (5, 'same', 0)"]).ok();
    b.run(&["sql", "s", "--offline", "INSERT INTO t VALUES (6, 'same', 0)"]).ok();
    // It was made by an earlier command, so this one is not the one that failed.
    let done = b.run(&["sql", "s", "SELECT count(*) FROM t"]);
    assert_eq!((done.code, done.out.as_str(), done.err.lines().count()), (Some(0), "3\n", 1));
    assert!(done.err.contains("UNIQUE constraint failed: t.name"), "{}", done.err);
    let status = json(b.run(&["status", "s", "--json"]));
    let reason = status["rejected"][0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("UNIQUE constraint failed: t.name"), "{reason}");
    b.run(&["sql", "s", "--offline", "INSERT INTO t VALUES (7, 'same', 0)"]).fails(1, "UNIQUE");
}

fn database(file: &Path, pragmas: &str) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(file).unwrap();
    db.execute_batch(pragmas).unwrap();
    db.execute_batch(
        "CREATE TABLE plain(a, b TEXT DEFAULT 'x', c REAL CHECK (c IS NULL OR c < 1e9));
         CREATE TABLE keyed(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID;
         CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, p REFERENCES keyed(k));
         CREATE INDEX by_b ON plain(b) WHERE c > 0;
         CREATE VIEW v AS SELECT b, count(*) FROM plain GROUP BY b;
         CREATE TRIGGER tr AFTER INSERT ON counted BEGIN UPDATE plain SET b = 'seen'; END;
         INSERT INTO plain VALUES (1, 'one', 1.5), (NULL, NULL, NULL), (x'00ff', 'two', -0.25);
         INSERT INTO keyed VALUES ('k', zeroblob(20000)), ('l', 'text');
         INSERT INTO counted(p) VALUES ('k'), ('l');",
    )
    .unwrap();
    db
}

#[test]
fn databases_of_every_kind_go_in_and_come_out_equal() {
    let bed = Bed::new();
    let server = format!("file://{}", bed.path("bucket").display());
    let (a, b) = (bed.device("a", &server), bed.device("b", &server));
    for (name, pragmas) in [
        ("plain", ""),
        ("wal", "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0"),
        ("large-pages", "PRAGMA page_size = 8192"),
        ("small-pages", "PRAGMA page_size = 512; PRAGMA auto_vacuum = FULL"),
        ("utf16", "PRAGMA encoding = 'UTF-16le'"),
    ] {
        let (source, target) = (bed.path(&format!("{name}.db")), bed.path(&format!("{name}.out")));
        // Still open: what a WAL holds has not reached the file.
        let db = database(&source, pragmas);
        let done = json(a.run(&["--json", "import", source.to_str().unwrap(), name]));
        assert_eq!((&done["tables"], &done["rows"]), (&3.into(), &7.into()), "{name}: {done}");
        drop(db);
        // By the way of another device, which has only what was sent.
        assert_eq!(b.run(&["clone", name]).code, Some(0));
        b.run(&["export", name, target.to_str().unwrap()]).ok();
        assert_equal(&dump(&target), &dump(&source), name);
        let whole = rusqlite::Connection::open(&target).unwrap();
        let sound = whole.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
        assert_eq!(sound.unwrap(), "ok", "{name}");
        drop(whole);
        let before = files(&bed.path("bucket"));
        b.run(&["export", name, target.to_str().unwrap()]).fails(1, "--force");
        b.run(&["import", target.to_str().unwrap(), name]).fails(1, "another name");
        assert_eq!(files(&bed.path("bucket")), before);
    }
}

#[test]
fn named_mutations_are_called_with_json() {
    let bed = Bed::new();
    let a = bed.device("a", &format!("file://{}", bed.path("bucket").display()));
    a.run(&["sql", "s", SETUP]).ok();
    let script = bed.path("vote.sql");
    write(&script, "UPDATE t SET n = n + :by WHERE name = :name;");
    a.run(&["define", "s", "vote", script.to_str().unwrap()]).ok();
    let called = json(a.run(&["--json", "mutate", "s", "vote", "{\"by\": 5, \"name\": \"one\"}"]));
    assert!(called["seq"].as_u64().is_some(), "{called}");
    a.run(&["mutate", "s", "vote", "--offline", "{\"by\": 2, \"name\": \"one\"}"]).ok();
    a.run(&["push", "s"]).ok();
    assert_eq!(a.run(&["sql", "s", "SELECT n FROM t WHERE id = 1"]).ok(), "17\n");
    let before = json(a.run(&["status", "s", "--json"]))["base"].clone();
    a.run(&["mutate", "s", "vote", "{\"by\": 5}"]).fails(1, "name");
    a.run(&["mutate", "s", "nope"]).fails(1, "define it");
    a.run(&["mutate", "s", "vote", "{\"by\":"]).fails(2, "JSON");
    assert_eq!(json(a.run(&["status", "s", "--json"]))["base"], before);
}

#[test]
fn processes_on_one_directory_take_turns_or_say_so() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    a.run(&["sql", "s", "CREATE TABLE t(by INTEGER)"]).ok();
    let children: Vec<_> = (0..8)
        .map(|number| {
            let sql = format!("INSERT INTO t VALUES ({number})");
            let mut command = a.command(&["sql", "s", &sql]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut done = String::new();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => done.push_str(&format!("{number}\n")),
            code => drop(Done { code, out: String::new(), err }.fails(1, "in use")),
        }
    }
    assert!(!done.is_empty());
    assert_eq!(a.run(&["sql", "s", "SELECT by FROM t ORDER BY by"]).ok(), done);
}
