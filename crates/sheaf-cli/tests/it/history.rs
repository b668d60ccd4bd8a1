//! Branches, old states, differences and the way back, with the real program.

use crate::bed::{Bed, Device};

const SETUP: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INT); \
    INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2)";
const CHANGE: &str = "UPDATE t SET n = 10 WHERE id = 1; DELETE FROM t WHERE id = 2; \
    INSERT INTO t VALUES (3, 'it''s', NULL)";

/// Two devices, at a node and at a bucket.
fn everywhere(test: impl Fn(&Bed, &Device, &Device)) {
    let bed = Bed::new();
    let node = bed.node();
    let at = |name: &str| Device { token: node.token.clone(), ..bed.device(name, &node.url) };
    test(&bed, &at("a"), &at("b"));
    let bed = Bed::new();
    let url = bed.bucket_dir();
    test(&bed, &bed.device("a", &url), &bed.device("b", &url));
}

#[test]
fn a_branch_goes_on_alone() {
    everywhere(|_, a, b| {
        a.run(&["sql", "main", SETUP]).ok();
        a.run(&["sql", "main", CHANGE]).ok();
        assert_eq!(
            a.run(&["branch", "main@1", "team/old"]).ok(),
            "branched team/old from main@1\n"
        );
        let made = a.run(&["--json", "branch", "main", "new"]).ok();
        assert_eq!(made, "{\"site\":\"new\",\"from\":\"main\",\"lsn\":2}\n");
        a.run(&["sql", "team/old", "INSERT INTO t VALUES (9, 'branch', 9)"]).ok();
        a.run(&["sql", "main", "INSERT INTO t VALUES (8, 'main', 8)"]).ok();
        // Somebody else, who was told the names.
        b.run(&["clone", "team/old"]).ok();
        let names = "SELECT group_concat(name, ' ') FROM (SELECT name FROM t ORDER BY id)";
        assert_eq!(b.run(&["sql", "team/old", names]).ok(), "one two branch\n");
        assert_eq!(b.run(&["sql", "main", names]).ok(), "one it's main\n");
        assert_eq!(b.run(&["sql", "new", names]).ok(), "one it's\n");
        // Before the fork too, and a branch of a branch.
        assert_eq!(b.run(&["sql", "team/old@1", names]).ok(), "one two\n");
        assert_eq!(b.run(&["log", "team/old"]).ok().lines().count(), 2);
        b.run(&["branch", "team/old@2", "leaf"]).ok();
        b.run(&["sql", "leaf", "DELETE FROM t WHERE id = 1"]).ok();
        assert_eq!(a.run(&["sql", "leaf", names]).ok(), "two branch\n");
        assert_eq!(a.run(&["sql", "leaf@1", names]).ok(), "one two\n");
        assert_eq!(a.run(&["sql", "team/old", names]).ok(), "one two branch\n");
    });
}

#[test]
fn a_branch_needs_a_free_name_a_state_and_a_server() {
    everywhere(|bed, a, b| {
        a.run(&["sql", "main", SETUP]).ok();
        a.run(&["branch", "main@7", "x"]).fails(1, "there is no commit with lsn=`7` yet");
        a.run(&["branch", "main@x", "x"]).fails(2, "give local, global, @LSN");
        a.run(&["branch", "main", "main"]).fails(1, "choose another name");
        a.run(&["branch", "nobody", "x"]).fails(1, "no site `nobody`");
        b.run(&["sql", "taken", SETUP]).ok();
        a.run(&["branch", "main", "taken"]).fails(1, "choose another name");
        assert!(!a.has_site("x") && !a.has_site("taken"));
        let alone = bed.device("alone", "");
        alone.run(&["sql", "s", SETUP]).ok();
        alone.run(&["branch", "s", "x"]).fails(1, "--server URL");
        alone.run(&["branch", "s@1", "x"]).fails(1, "no server");
    });
}

#[test]
fn a_site_names_its_state_wherever_one_is_read() {
    everywhere(|bed, a, _| {
        a.run(&["sql", "s", SETUP]).ok();
        a.run(&["sql", "s", CHANGE]).ok();
        let count = "SELECT sum(n) FROM t";
        assert_eq!(a.run(&["sql", "s@1", count]).ok(), "3\n");
        assert_eq!(a.run(&["sql", "s", "--view", "@1", count]).ok(), "3\n");
        assert_eq!(a.run_with(&["shell", "s@1"], &format!("{count};\n")).ok(), "3\n");
        assert_eq!(a.run(&["sql", "s@2030-01-01", count]).ok(), "10\n");
        a.run(&["sql", "s@1", "--view", "@2", count]).fails(2, "two states are named");
        a.run(&["sql", "s@", count]).fails(2, "give local");
        a.run(&["sql", "s@1", "DELETE FROM t"]).fails(1, "readonly");
        let file = bed.path("old.db");
        a.run(&["export", "s@1", file.to_str().unwrap()]).ok();
        let db = rusqlite::Connection::open(&file).unwrap();
        assert_eq!(db.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 3);
    });
}

#[test]
fn differences_are_shown_in_every_form() {
    everywhere(|bed, a, _| {
        a.run(&["sql", "s", SETUP]).ok();
        a.run(&["sql", "s", CHANGE]).ok();
        let shown = a.run(&["diff", "s@1", "s"]).ok();
        assert_eq!(
            shown,
            "table t\n~ id=1: n 1 -> 10\n- id=2: name='two', n=2\n+ id=3: name='it''s', n=NULL\n"
        );
        assert_eq!(a.run(&["diff", "s@1", "s", "--summary"]).ok(), "t: +1 -1 ~1\n");
        assert_eq!(a.run(&["diff", "s@2", "s", "t"]).ok(), "");
        let json = a.run(&["--json", "diff", "s@1", "s@2"]).ok();
        let first = "{\"table\":\"t\",\"op\":\"~\",\"key\":{\"id\":1},\"old\":{\"n\":1},\"new\":{\"n\":10}}";
        assert_eq!(json.lines().next(), Some(first));
        assert_eq!(json.lines().count(), 3);
        a.run(&["diff", "s@1", "s", "nope"]).fails(1, "nope");
        a.run(&["diff", "s@9", "s"]).fails(1, "sheaf log s");
        a.run(&["diff", "s", "missing.db"]).fails(1, "missing.db");
        // A branch against its site, and a plain file against both.
        a.run(&["branch", "s@1", "b"]).ok();
        a.run(&["sql", "b", "UPDATE t SET name = 'uno' WHERE id = 1"]).ok();
        assert_eq!(a.run(&["diff", "s@1", "b"]).ok(), "table t\n~ id=1: name 'one' -> 'uno'\n");
        assert_eq!(a.run(&["diff", "b", "s", "--summary"]).ok(), "t: +1 -1 ~1\n");
        let (from, to) = (bed.path("from.db"), bed.path("to.db"));
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        a.run(&["export", "b", from]).ok();
        a.run(&["export", "s", to]).ok();
        assert_eq!(a.run(&["diff", from, "b"]).ok(), "");
        assert_eq!(a.run(&["diff", from, to, "--summary"]).ok(), "t: +1 -1 ~1\n");
        let script = a.run(&["diff", "b", "s", "--sql"]).ok();
        let db = rusqlite::Connection::open(from).unwrap();
        db.execute_batch(&script).unwrap();
        drop(db);
        assert_eq!(a.run(&["diff", from, to]).ok(), "");
    });
}

#[test]
fn a_restore_is_a_change_like_any_other() {
    everywhere(|_, a, b| {
        a.run(&["sql", "s", SETUP]).ok();
        a.run(&["sql", "s", CHANGE]).ok();
        let line = "3 rows (1 put back, 1 removed, 1 given other values)\n";
        let would = a.run(&["restore", "s@1", "--dry-run"]).ok();
        assert_eq!(would, format!("restored s: would change {line}"));
        assert_eq!(a.run(&["diff", "s@1", "s", "--summary"]).ok(), "t: +1 -1 ~1\n");
        assert_eq!(a.run(&["restore", "s@1"]).ok(), format!("restored s: changed {line}"));
        assert_eq!(a.run(&["diff", "s@1", "s"]).ok(), "");
        // Others see it, and nothing was taken out of history.
        assert_eq!(b.run(&["sql", "s", "SELECT * FROM t"]).ok(), "1|one|1\n2|two|2\n");
        assert_eq!(b.run(&["sql", "s@2", "SELECT count(*), sum(n) FROM t"]).ok(), "2|10\n");
        assert_eq!(b.run(&["log", "s"]).ok().lines().count(), 3);
        assert_eq!(a.run(&["restore", "s@1"]).ok(), "s is in that state already\n");
        let json = a.run(&["--json", "restore", "s@2", "--dry-run"]).ok();
        assert!(json.contains("\"inserted\":1") && json.contains("\"dry_run\":true"), "{json}");
        a.run(&["restore", "s"]).fails(2, "name the state");
        a.run(&["restore", "s@99"]).fails(1, "sheaf log s");
    });
}

/// Two devices that share a site; one has two changes that the other knows nothing of.
fn apart(a: &Device, b: &Device) {
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["clone", "s"]).ok();
    b.run(&["sql", "s", "UPDATE t SET n = 20 WHERE id = 2"]).ok();
    a.run(&["sql", "s", "--offline", "UPDATE t SET n = 7 WHERE id = 2"]).ok();
    a.run(&["sql", "s", "--offline", "INSERT INTO t VALUES (3, 'mine', 3)"]).ok();
}

#[test]
fn a_fork_keeps_what_is_pending_as_a_branch_and_follows_the_log() {
    everywhere(|_, a, b| {
        apart(a, b);
        a.run(&["reset", "s"]).fails(2, "--fork NEW");
        a.run(&["reset", "s", "--fork", "mine", "--discard"]).fails(2, "cannot be used with");
        let done = a.run(&["reset", "s", "--fork", "team/mine"]).ok();
        assert_eq!(done, "moved 2 changes to team/mine, branched from s@1\n");
        let all = "SELECT id, n FROM t ORDER BY id";
        assert_eq!(a.run(&["sql", "s", "--offline", all]).ok(), "1|1\n2|20\n");
        assert_eq!(a.run(&["sql", "team/mine", "--offline", all]).ok(), "1|1\n2|7\n3|3\n");
        for site in ["s", "team/mine"] {
            let status = a.run(&["status", site]).ok();
            assert!(status.contains("pending   0\nrejected  0\n"), "{status}");
        }
        // Others have it from the server, and both sites go on.
        assert_eq!(b.run(&["sql", "team/mine", all]).ok(), "1|1\n2|7\n3|3\n");
        a.run(&["sql", "team/mine", "DELETE FROM t WHERE id = 1"]).ok();
        a.run(&["sql", "s", "UPDATE t SET n = 100 WHERE id = 1"]).ok();
        assert_eq!(b.run(&["sql", "team/mine", all]).ok(), "2|7\n3|3\n");
        assert_eq!(b.run(&["sql", "s", all]).ok(), "1|100\n2|20\n");
        a.run(&["verify", "team/mine", "--full"]).ok();
        let none = a.run(&["--json", "reset", "s", "--fork", "x"]).ok();
        assert_eq!(none, "{\"site\":\"s\",\"given_up\":0,\"fork\":null,\"lsn\":null}\n");
        assert!(!a.has_site("x"));
    });
}

#[test]
fn a_fork_that_cannot_be_leaves_every_change_where_it_is() {
    everywhere(|bed, a, b| {
        apart(a, b);
        b.run(&["sql", "taken", SETUP]).ok();
        a.run(&["reset", "s", "--fork", "s"]).fails(1, "choose another name");
        a.run(&["reset", "s", "--fork", "taken"]).fails(1, "choose another name");
        a.run(&["reset", "s", "--fork", "a b"]).fails(1, "bad site name");
        a.run(&["reset", "nobody", "--fork", "x"]).fails(1, "sheaf sites");
        let away = Device { server: "http://127.0.0.1:1".to_owned(), ..a.clone() };
        away.run(&["reset", "s", "--fork", "x"]).fails(3, "what was changed here is kept");
        let alone = bed.device("alone", "");
        alone.run(&["sql", "s", SETUP]).ok();
        alone.run(&["reset", "s", "--fork", "x"]).fails(1, "no server");
        // A site of its own, which has no state in common with the server's.
        let other = Device { dir: bed.path("other"), ..a.clone() };
        other.run(&["sql", "new", "--offline", SETUP]).ok();
        let refused = other.run(&["reset", "new", "--fork", "x"]);
        refused.fails(1, "`sheaf export new FILE` and `sheaf import FILE x`");
        assert!(a.run(&["status", "s"]).ok().contains("pending   2\n"));
        // The name that failed for the server's silence is free.
        let done = a.run(&["reset", "s", "--fork", "x"]).ok();
        assert_eq!(done, "moved 2 changes to x, branched from s@1\n");
    });
}

#[test]
fn a_log_that_was_replaced_is_told_with_the_commands_that_help() {
    let bed = Bed::new();
    let url = bed.bucket_dir();
    let (a, b) = (bed.device("a", &url), bed.device("b", &url));
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["clone", "s"]).ok();
    a.run(&["sql", "s", "UPDATE t SET n = 5 WHERE id = 1"]).ok();
    a.run(&["sql", "s", "--offline", "UPDATE t SET n = 6 WHERE id = 1"]).ok();
    // The store loses a commit, and somebody who had not seen it goes on.
    let volume = std::fs::read_dir(bed.path("bucket/volumes")).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(volume.path().join(format!("log/{:020}", 2))).unwrap();
    a.run(&["push", "s"]).fails(1, "`sheaf export s FILE` keeps what is here");
    b.run(&["sql", "s", "UPDATE t SET n = 8 WHERE id = 2"]).ok();
    a.run(&["push", "s"]).fails(1, "`sheaf clone s` in another --dir");
    a.run(&["reset", "s", "--fork", "mine"]).fails(1, "`sheaf export s FILE`");
    assert!(!a.has_site("mine"));
    assert!(a.run(&["status", "s"]).ok().contains("pending   1\n"));
    let file = bed.path("mine.db").display().to_string();
    a.run(&["export", "s", &file]).ok();
    let db = rusqlite::Connection::open(&file).unwrap();
    let n: i64 = db.query_row("SELECT n FROM t WHERE id = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(n, 6);
}
