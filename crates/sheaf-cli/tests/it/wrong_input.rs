//! Wrong input: one clear line that says what to do, a status other than 0, nothing changed.

use crate::bed::{Bed, Device, write};

#[test]
fn wrong_usage_is_status_two() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let cases: [(&[&str], &str); 8] = [
        (&[], "--help"),
        (&["sqll"], "--help"),
        (&["sql", "s"], "see `sheaf sql --help`"),
        (&["sql", "s", "SELECT 1", "--view", "@yesterday"], "@LSN"),
        (&["--server", "localhost:7070", "sql", "s", "SELECT 1"], "http://HOST:PORT"),
        (&["--server", "ftp://h", "sites"], "s3://BUCKET"),
        (&["clone", "s"], "--server URL"),
        (&["mutate", "s", "f", "[1]"], "JSON object"),
    ];
    for (args, part) in cases {
        let done = a.run(args).fails(2, part);
        assert_eq!(done.out, "");
    }
    assert!(!a.has_site("s"));
}

#[test]
fn sql_that_fails_changes_nothing() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    a.run(&["sql", "new", "SELEC 1"]).fails(1, "syntax error");
    assert!(!a.has_site("new"));
    a.run(&["sql", "s", "CREATE TABLE t(a)"]).ok();
    a.run(&["sql", "s", "BEGIN; INSERT INTO t VALUES (1)"]).fails(1, "add COMMIT");
    a.run(&["sql", "s", "BEGIN; INSERT INTO t VALUES (1); nonsense"]).fails(1, "rolled back");
    a.run(&["sql", "s", "--view", "global", "CREATE TABLE u(a)"]).fails(1, "local view");
    assert_eq!(a.run(&["sql", "s", "SELECT count(*) FROM t"]).ok(), "0\n");
    a.run(&["sql", "s", "INSERT INTO t VALUES (1); nonsense"]).fails(1, "stays done");
    assert_eq!(a.run(&["sql", "s", "SELECT count(*) FROM t"]).ok(), "1\n");
}

#[test]
fn a_bad_token_changes_nothing_anywhere() {
    let bed = Bed::new();
    let node = bed.node();
    let a = Device { token: node.token.clone(), ..bed.device("a", &node.url) };
    a.run(&["sql", "s", "CREATE TABLE t(a)"]).ok();
    let stranger = Device { token: "wrong".to_owned(), ..a.clone() };
    stranger.run(&["sql", "s", "INSERT INTO t VALUES (1)"]).fails(1, "nothing was changed");
    stranger.run(&["sql", "new", "CREATE TABLE t(a)"]).fails(1, "nothing was changed");
    stranger.run(&["push", "s"]).fails(1, "token");
    assert!(!a.has_site("new"));
    assert_eq!(a.run(&["sql", "s", "SELECT count(*) FROM t"]).ok(), "0\n");
}

#[test]
fn unknown_names_say_where_to_look() {
    let bed = Bed::new();
    let node = bed.node();
    let a = Device { token: node.token.clone(), ..bed.device("a", &node.url) };
    for command in ["status", "log", "pull", "push", "mutators"] {
        a.run(&[command, "nope"]).fails(1, "sheaf sites");
    }
    a.run(&["clone", "nope"]).fails(1, "no site `nope`");
    assert!(!a.has_site("nope"));
    a.run(&["sql", "s", "SELECT 1"]).ok();
    a.run(&["sql", "s", "--view", "@999", "SELECT 1"]).fails(1, "sheaf log s");
    a.run(&["sql", "a b", "SELECT 1"]).fails(1, "letters");
}

#[test]
fn only_databases_are_imported() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    let text = bed.path("text.db");
    write(&text, "this is no database, however long it is. ".repeat(99));
    a.run(&["import", text.to_str().unwrap(), "s"]).fails(1, "not a SQLite database");
    a.run(&["import", "/no/such/file.db", "s"]).fails(1, "there is no file");
    assert!(!a.has_site("s"));
}

#[test]
fn a_damaged_or_newer_store_is_refused() {
    let bed = Bed::new();
    let bucket = bed.path("bucket");
    std::fs::create_dir(&bucket).unwrap();
    let url = format!("file://{}", bucket.display());
    bed.device("a", &url).run(&["sql", "s", "CREATE TABLE t(a)"]).ok();
    let entry = bucket.join("sites/s/site.json");
    let good = std::fs::read_to_string(&entry).unwrap();
    let b = bed.device("b", &url);
    write(&entry, good.replace("\"format\":1", "\"format\":99"));
    b.run(&["sql", "s", "SELECT 1"]).fails(1, "upgrade");
    write(&entry, &good[..good.len() / 2]);
    b.run(&["sql", "s", "SELECT 1"]).fails(1, "error: ");
    assert!(!b.has_site("s"));
    write(&entry, &good);
    assert_eq!(b.run(&["sql", "s", "SELECT count(*) FROM t"]).ok(), "0\n");
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let bed = Bed::new();
    let node = bed.node();
    let port = node.url.trim_start_matches("http://").to_owned();
    let a = bed.device("a", "");
    let (first, second) = (bed.path("node"), bed.path("second"));
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    let serve = |args: &[&str], code, part: &str| {
        let done = a.run(&[&["serve"], args].concat()).fails(code, part);
        assert_eq!(done.out, "");
    };
    serve(&["--data", first, "--listen", "127.0.0.1:0"], 1, "another node");
    serve(&["--data", second, "--listen", &port], 1, "in use");
    serve(&["--data", second, "--listen", "0.0.0.0:0", "--no-auth"], 1, "loopback");
    serve(&["--data", second, "--listen", "7070"], 2, "IP:PORT");
    serve(&["--data", second, "--listen", "127.0.0.1:0", "--store", "ftp://x"], 1, "s3://");
}

#[test]
fn errors_are_json_when_asked_for() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    for (args, code, kind) in [
        (&["--json", "status", "nope"][..], 1, "not_found"),
        (&["sqll", "--json"], 2, "usage"),
        (&["sql", "s", "nonsense", "--json"], 1, "sql"),
    ] {
        let done = a.run(args).fails(code, "");
        let error: serde_json::Value = serde_json::from_str(&done.err).unwrap();
        assert_eq!(error["kind"], kind);
        assert!(error["error"].is_string());
    }
}

#[test]
fn a_second_process_on_one_site_is_told_who_is_first() {
    let bed = Bed::new();
    let a = bed.device("a", "");
    a.run(&["sql", "s", "CREATE TABLE t(a)"]).ok();
    // The shell holds the site while it reads; its answer shows that it has it open.
    let mut shell = a
        .command(&["shell", "s"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = shell.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b".status\n").unwrap();
    let mut first = String::new();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut first).unwrap();
    a.run(&["sql", "s", "SELECT 1"]).fails(1, "in use");
    drop(input);
    assert!(shell.wait().unwrap().success());
    a.run(&["sql", "s", "SELECT 1"]).ok();
}
