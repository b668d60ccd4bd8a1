//! The way through: two devices, a node or a bucket, and everything a script does with them.

use std::{io::Read, process::Stdio};

use crate::bed::{Bed, Device, Node};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INT); \
    INSERT INTO t VALUES (1, 'one', 1.5)";

fn two(bed: &Bed, node: &Node) -> (Device, Device) {
    let device = |name| Device { token: node.token.clone(), ..bed.device(name, &node.url) };
    (device("a"), device("b"))
}

#[test]
fn without_a_server_everything_is_local() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    assert_eq!(a.run(&["sql", "s", SETUP, "SELECT * FROM t"]).ok(), "1|one|1.5\n");
    assert_eq!(
        a.run(&["--json", "sql", "s", "SELECT id, name FROM t"]).ok(),
        "[{\"id\":1,\"name\":\"one\"}]\n"
    );
    assert_eq!(a.run(&["sql", "s", "--json", "DELETE FROM t"]).ok(), "[]\n");
    assert_eq!(a.run(&["sites"]).ok(), "s\n");
    a.run(&["push", "s"]).fails(1, "--server URL");
}

#[test]
fn two_devices_converge_through_a_node() {
    let bed = Bed::new();
    let node = bed.node();
    let (a, b) = two(&bed, &node);
    a.run(&["sql", "team/s", SETUP]).ok();
    assert_eq!(b.run(&["sql", "team/s", "SELECT name FROM t"]).ok(), "one\n");
    a.run(&["sql", "team/s", "--offline", "UPDATE t SET name = 'uno' WHERE id = 1"]).ok();
    b.run(&["sql", "team/s", "--offline", "UPDATE t SET n = 7 WHERE id = 1"]).ok();
    assert!(a.run(&["status", "team/s"]).ok().contains("pending   1\n"));
    a.run(&["push", "team/s"]).ok();
    assert!(b.run(&["push", "team/s"]).ok().starts_with("pushed 1 change, pulled 2 commits"));
    a.run(&["pull", "team/s"]).ok();
    for device in [&a, &b] {
        let rows = device.run(&["sql", "--offline", "team/s", "SELECT * FROM t"]).ok();
        assert_eq!(rows, "1|uno|7\n");
    }
    assert_eq!(a.run(&["sql", "team/s", "--view", "@1", "SELECT * FROM t"]).ok(), "1|one|1.5\n");
    assert_eq!(a.run(&["log", "team/s", "-n", "2"]).ok().lines().count(), 2);
}

#[test]
fn two_devices_converge_through_a_bucket() {
    let bed = Bed::new();
    let url = bed.bucket();
    let (a, b) = (bed.device("a", &url), bed.device("b", &url));
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["sql", "s", "INSERT INTO t(name) VALUES ('two')"]).ok();
    // From here on the site remembers its server.
    let a = Device { server: String::new(), ..a };
    assert_eq!(a.run(&["sql", "s", "SELECT name FROM t ORDER BY id"]).ok(), "one\ntwo\n");
    let said = b.run(&["verify", "s", "--full"]).ok();
    assert!(said.contains("every page compared with the log"), "{said}");
}

#[test]
fn a_node_and_devices_without_one_share_a_bucket() {
    let bed = Bed::new();
    let url = bed.bucket();
    let node = Node::start(&bed.path("node"), &["--store", &url]);
    let (a, b) = two(&bed, &node);
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["sql", "s", "INSERT INTO t(name) VALUES ('two')"]).ok();
    // Enough for a segment.
    let many = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100) \
        INSERT INTO t(name, n) SELECT 'n' || i || hex(randomblob(1000)), i FROM c";
    a.run(&["sql", "s", many]).ok();
    let bare = bed.device("c", &url);
    let sum = "SELECT count(*), sum(n) FROM t";
    let sums = [&a, &b, &bare].map(|device| device.run(&["sql", "s", sum]).ok());
    assert!(sums.iter().all(|found| *found == sums[0] && found.starts_with("102|")), "{sums:?}");
    bare.run(&["sql", "s", "UPDATE t SET n = 1 WHERE name = 'two'"]).ok();
    // The node may not have looked yet; its own append shows it what it missed.
    b.run(&["sql", "s", "UPDATE t SET n = 3 WHERE name = 'one'"]).ok();
    let found = b.run(&["sql", "s", "SELECT n FROM t WHERE id < 3 ORDER BY id"]).ok();
    assert_eq!(found, "3\n1\n");
    drop(node);
    assert!(bare.run(&["verify", "s", "--full"]).ok().contains("log       5 commits"));
}

#[test]
fn a_reset_keeps_a_copy_or_is_told_to_keep_none() {
    let bed = Bed::new();
    let node = bed.node();
    let (a, _) = two(&bed, &node);
    a.run(&["sql", "s", SETUP]).ok();
    let mine = ["sql", "s", "--offline", "UPDATE t SET name = 'mine'"];
    a.run(&mine).ok();
    a.run(&["reset", "s"]).fails(2, "1 change of this device would be lost");
    let file = bed.path("mine.db").display().to_string();
    assert_eq!(
        a.run(&["reset", "s", "--export", &file]).ok(),
        format!("gave up 1 change; kept in `{file}`\n")
    );
    assert_eq!(a.run(&["sql", "s", "--offline", "SELECT name FROM t"]).ok(), "one\n");
    let kept = rusqlite::Connection::open(&file).unwrap();
    let name: String = kept.query_row("SELECT name FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(name, "mine");
    a.run(&["reset", "s", "--export", &file]).fails(1, "exists");
    a.run(&mine).ok();
    let status = a.run(&["status", "s", "--json"]).ok();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let of = |key: &str| status[key].as_u64().unwrap();
    assert!(of("head_local") > of("base_local"), "{status}");
    assert_eq!((of("remote"), of("acknowledged")), (of("base"), 0), "a new timeline");
    assert_eq!(a.run(&["reset", "s", "--discard"]).ok(), "gave up 1 change\n");
    assert_eq!(a.run(&["reset", "s"]).ok(), "gave up 0 changes\n");
}

/// Every page size, made by a flag or by a file, through a node and through a bucket.
#[test]
fn a_site_keeps_the_page_size_it_was_made_with() {
    let bed = Bed::new();
    let node = bed.node();
    let bucket = format!("file://{}", bed.path("bucket").display());
    let size_on = |device: &Device, site: &str| {
        device.run(&["sql", site, "PRAGMA page_size"]).ok().trim().to_owned()
    };
    for (a, b) in [two(&bed, &node), (bed.device("c", &bucket), bed.device("d", &bucket))] {
        for size in [512, 1_024, 65_536] {
            let (size, flag, file) =
                (size.to_string(), format!("flag{size}"), format!("file{size}"));
            let sql = "CREATE TABLE t(v); INSERT INTO t VALUES ('here')";
            a.run(&["sql", &flag, sql, "--page-size", &size]).ok();
            let path = bed.path(&format!("{file}.db"));
            drop(std::fs::remove_file(&path));
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch(&format!("PRAGMA page_size = {size}; {sql}")).unwrap();
            drop(db);
            a.run(&["import", path.to_str().unwrap(), &file]).ok();
            for site in [&flag, &file] {
                b.run(&["clone", site]).ok();
                assert_eq!(b.run(&["sql", site, "SELECT v FROM t"]).ok(), "here\n");
                assert_eq!((size_on(&a, site), size_on(&b, site)), (size.clone(), size.clone()));
            }
        }
        b.run(&["sql", "flag512", "SELECT 1", "--page-size", "4096"])
            .fails(1, "pages of 512 bytes");
        a.run(&["sql", "x", "SELECT 1", "--page-size", "1000"]).fails(2, "a power of two");
    }
}

#[test]
fn a_rejected_change_fails_with_its_reason() {
    let bed = Bed::new();
    let node = bed.node();
    let (a, b) = two(&bed, &node);
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["clone", "s", "--full"]).ok();
    b.run(&["sql", "--offline", "s", "INSERT INTO t VALUES (20, 'same', 2)"]).ok();
    a.run(&["sql", "s", "INSERT INTO t VALUES (10, 'same', 1)"]).ok();
    b.run(&["push", "s"]).fails(1, "UNIQUE constraint failed: t.name");
    assert!(b.run(&["status", "s"]).ok().contains("rejected  1\n"));
    let left = b.run(&["sql", "s", "SELECT count(*) FROM t"]).ok();
    assert_eq!(left, "2\n");
}

#[test]
fn a_merge_and_a_rejection_name_their_rows_in_json() {
    let bed = Bed::new();
    let url = bed.bucket();
    let (a, b) = (bed.device("a", &url), bed.device("b", &url));
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["clone", "s", "--full"]).ok();
    a.run(&["sql", "s", "UPDATE t SET n = 5; INSERT INTO t VALUES (10, 'same', 1)"]).ok();
    b.run(&[
        "sql",
        "--offline",
        "s",
        "BEGIN; UPDATE t SET n = 6; INSERT INTO t VALUES (9, 'b', 1); COMMIT",
    ])
    .ok();
    b.run(&["sql", "--offline", "s", "INSERT INTO t VALUES (20, 'same', 2)"]).ok();
    let json = |args: &[&str]| -> serde_json::Value {
        let done = b.run(args);
        serde_json::from_str(done.out.lines().next().unwrap()).unwrap()
    };
    let pushed = json(&["push", "s", "--json"]);
    let altered = serde_json::json!([{ "at": 0, "change": "update t 1 (n)" }]);
    assert_eq!(pushed["merges"][0]["altered"], altered, "{pushed}");
    assert_eq!(pushed["merges"][0]["stands"], serde_json::json!([false, true]));
    let status = json(&["status", "s", "--json"]);
    let row = serde_json::json!({ "table": "t", "key": "20", "columns": ["name"] });
    assert_eq!(status["rejected"][0]["row"], row, "{status}");
    let log = json(&["log", "s", "--json"]);
    assert_eq!(log[0]["authors"].as_array().map(Vec::len), Some(1), "{log}");
}

#[test]
fn a_change_that_asks_waits_for_an_answer() {
    let bed = Bed::new();
    let node = bed.node();
    let bucket = format!("file://{}", bed.path("bucket").display());
    for (a, b) in [two(&bed, &node), (bed.device("c", &bucket), bed.device("d", &bucket))] {
        a.run(&["sql", "s", SETUP]).ok();
        b.run(&["clone", "s", "--full"]).ok();
        let take = |id: u32| {
            format!(
                "BEGIN; SELECT sheaf_lock('t', 0, 'ask'); INSERT INTO t VALUES ({id}, '{id}', 1); \
                 COMMIT"
            )
        };
        for id in [20, 21] {
            b.run(&["sql", "s", "--offline", &take(id)]).ok();
        }
        a.run(&["sql", "s", &take(10)]).ok();
        b.run(&["push", "s"]).fails(1, "`sheaf push s --go-on 1` or `--withdraw 1`");
        assert!(b.run(&["status", "s"]).ok().contains("(asks: lock `t` failed"));
        b.run(&["push", "s", "--go-on", "2"]).fails(1, "does not wait");
        b.run(&["push", "s", "--withdraw", "1"]).fails(1, "`sheaf push s --go-on 2`");
        b.run(&["push", "s", "--go-on", "2"]).ok();
        a.run(&["pull", "s"]).ok();
        let ids = a.run(&["sql", "s", "SELECT id FROM t WHERE id > 9 ORDER BY id"]).ok();
        assert_eq!(ids, "10\n21\n");
    }
}

#[test]
fn a_silent_server_is_status_three_and_loses_nothing() {
    let bed = Bed::new();
    let node = bed.node();
    let (a, b) = two(&bed, &node);
    a.run(&["sql", "s", SETUP]).ok();
    let away = Device { server: NOBODY.to_owned(), ..a.clone() };
    let done = away.run(&["sql", "s", "INSERT INTO t(name) VALUES ('two') RETURNING name"]);
    assert_eq!(done.fails(3, "sheaf push s").out, "two\n");
    away.run(&["push", "s"]).fails(3, "could not be reached");
    a.run(&["push", "s"]).ok();
    assert_eq!(b.run(&["sql", "s", "SELECT count(*) FROM t"]).ok(), "2\n");
}

#[test]
fn named_mutations_travel() {
    let bed = Bed::new();
    let node = bed.node();
    let (a, b) = two(&bed, &node);
    a.run(&["sql", "s", SETUP]).ok();
    let script = bed.path("add.sql");
    crate::bed::write(&script, "INSERT INTO t(name) VALUES (:name);");
    a.run(&["define", "s", "add", script.to_str().unwrap()]).ok();
    b.run(&["clone", "s"]).ok();
    assert_eq!(b.run(&["mutators", "s"]).ok(), "add\n");
    b.run(&["mutate", "s", "add", "{\"name\": \"by call\"}"]).ok();
    let found = a.run(&["sql", "s", "SELECT name FROM t WHERE name = 'by call'"]).ok();
    assert_eq!(found, "by call\n");
    b.run(&["mutate", "s", "nope"]).fails(1, "nope");
}

#[test]
fn a_script_runs_as_in_sqlite3() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let script = "CREATE TABLE t(a);\nINSERT INTO t\nVALUES (1);\n.headers on\nSELECT a\nFROM t;\n\
        SELECT * FROM nope;\nSELECT 2 AS b;\n";
    let done = a.run_with(&["shell", "s"], script);
    assert_eq!(done.fails(1, "near line 7: no such table: nope").out, "a\n1\nb\n2\n");
    let done = a.run_with(&["shell", "s", "--bail"], "SELEC;\nSELECT 2;\n");
    assert_eq!(done.fails(1, "near line 1").out, "");
    assert_eq!(a.run_with(&["shell", "s"], ".exit 7\n").code, Some(7));
    a.run_with(&["shell", "s"], "BEGIN;\nDELETE FROM t;\n").fails(1, "rolled back");
    assert_eq!(a.run_with(&["sql", "s", "-"], "SELECT count(*) FROM t").ok(), "1\n");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    a.run(&["sql", "s", "CREATE TABLE t(a)"]).ok();
    let endless = "INSERT INTO t VALUES (1); WITH RECURSIVE c(x) AS \
        (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c";
    let mut child = a
        .command(&["sql", "s", endless])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((first, output.status.code()), (*b"1\n", Some(0)));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(a.run(&["sql", "s", "SELECT count(*) FROM t"]).ok(), "1\n");
}

#[cfg(unix)]
#[test]
fn a_node_ends_when_asked_and_comes_back_with_its_sites() {
    let bed = Bed::new();
    let node = bed.node();
    let (a, _) = two(&bed, &node);
    a.run(&["sql", "s", SETUP]).ok();
    assert_eq!(node.terminate(), Some(0));
    let node = Node::start(&bed.path("node"), &["--no-auth"]);
    let c = bed.device("c", &node.url);
    assert_eq!(c.run(&["sql", "s", "SELECT name FROM t"]).ok(), "one\n");
}

#[test]
fn a_database_goes_in_and_comes_out() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let (source, target) = (bed.path("source.db"), bed.path("target.db"));
    let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());
    let db = rusqlite::Connection::open(source).unwrap();
    db.execute_batch(
        "CREATE TABLE t(a, b); CREATE INDEX i ON t(b); INSERT INTO t VALUES (1, x'00')",
    )
    .unwrap();
    assert_eq!(a.run(&["import", source, "s"]).ok(), "imported 1 table, 1 row\n");
    a.run(&["import", source, "s"]).fails(1, "another name");
    a.run(&["export", "s", target]).ok();
    let read = || {
        let db = rusqlite::Connection::open(target).unwrap();
        db.query_row("SELECT a || hex(b) FROM t INDEXED BY i", [], |row| row.get::<_, String>(0))
    };
    assert_eq!(read().unwrap(), "100");
    a.run(&["sql", "s", "UPDATE t SET a = 2"]).ok();
    a.run(&["export", "s", target]).fails(1, "--force");
    assert_eq!(read().unwrap(), "100");
    a.run(&["export", "s", target, "--force"]).ok();
    assert_eq!(read().unwrap(), "200");
}

#[test]
fn a_bucket_is_reclaimed_and_a_dry_run_only_says_so() {
    let bed = Bed::new();
    let url = bed.bucket_dir();
    let (a, b) = (bed.device("a", &url), bed.device("b", &url));
    a.run(&["sql", "team/s", SETUP]).ok();
    for n in 0..5 {
        a.run(&["sql", "team/s", &format!("UPDATE t SET n = {n}")]).ok();
    }
    let objects = || crate::bed::files(&bed.path("bucket"));
    let before = objects();
    assert!(a.run(&["gc"]).ok().starts_with("team/s: all of @1 to @6 is kept; 0 objects deleted"));
    assert_eq!(objects(), before, "30 days have not passed");
    let dry = a.run(&["gc", "--dry-run", "--keep-for", "0s", "--keep", "2"]).ok();
    assert!(dry.contains("would make a checkpoint at @5\n"), "{dry}");
    assert_eq!(dry.matches("(commit below the boundary").count(), 4, "{dry}");
    assert_eq!(objects(), before, "a dry run did something");
    let done = a.run(&["--json", "gc", "team/s", "--keep-for", "0s", "--keep", "2"]).ok();
    let done: serde_json::Value = serde_json::from_str(&done).unwrap();
    assert_eq!((&done[0]["boundary"], &done[0]["head"]), (&5.into(), &6.into()), "{done}");
    assert_eq!(done[0]["deleted"].as_array().unwrap().len(), 4, "{done}");
    // Somebody who comes now needs nothing of what has gone.
    assert_eq!(b.run(&["sql", "team/s", "SELECT n FROM t WHERE id = 1"]).ok(), "4\n");
    b.run(&["sql", "team/s", "UPDATE t SET n = 9"]).ok();
    assert_eq!(a.run(&["sql", "team/s", "SELECT n FROM t WHERE id = 1"]).ok(), "9\n");
    a.run(&["gc", "nobody"]).fails(1, "no site `nobody`");
    a.run(&["gc", "--keep-for", "30"]).fails(2, "as in 30d");
    a.run(&["--server", NOBODY, "gc"]).fails(2, "name the bucket");
    bed.device("c", "").run(&["gc"]).fails(2, "--server file://DIR");
}
