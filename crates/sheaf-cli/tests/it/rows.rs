//! What became of a row, whose its columns are, and taking a change back, with the real program.

use serde_json::Value;

use crate::bed::{Bed, Device, Node};

/// One change.
const SETUP: &str = "BEGIN; \
    CREATE TABLE t(id INTEGER PRIMARY KEY, name MERGE_TEXT, n COUNTER_INT); \
    INSERT INTO t VALUES (1, 'one two', 1), (2, 'two', 2); COMMIT";

/// Two devices, at a node and at a bucket.
fn everywhere(test: impl Fn(&Device, &Device)) {
    let bed = Bed::new();
    let node = bed.node();
    let at = |name: &str| Device { token: node.token.clone(), ..bed.device(name, &node.url) };
    test(&at("a"), &at("b"));
    let bed = Bed::new();
    let url = bed.bucket_dir();
    test(&bed.device("a", &url), &bed.device("b", &url));
}

/// Lines without the time and the ids of timelines, which differ from run to run.
fn plain(text: &str) -> Vec<String> {
    let word = |word: &str| match (word.as_bytes().get(10), word.split_once(':')) {
        (Some(b'T'), _) => None,
        (_, Some((id, rest))) if id.len() == 26 => Some(format!("ID:{rest}")),
        _ => Some(word.to_owned()),
    };
    let line = |line: &str| line.split(' ').filter_map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect()
}

#[test]
fn a_row_has_a_history_and_its_columns_have_authors() {
    everywhere(|a, b| {
        a.run(&["sql", "s", SETUP]).ok();
        b.run(&["sql", "s", "UPDATE t SET n = 5 WHERE id = 1"]).ok();
        a.run(&["sql", "s", "UPDATE t SET name = 'uno' WHERE id = 2"]).ok();
        a.run(&["sql", "s", "--offline", "UPDATE t SET name = 'one' WHERE id = 1"]).ok();
        assert_eq!(
            plain(&a.run(&["history", "s", "t", "1"]).ok()),
            [
                "pending by ID:3 (this device): ~ name 'one two' -> 'one'",
                "@2 by ID:1: ~ n 1 -> 5",
                "@1 by ID:1 (this device): + id=1, name='one two', n=1",
            ]
        );
        assert_eq!(
            plain(&a.run(&["blame", "s", "t", "1"]).ok()),
            [
                "@1 by ID:1 (this device): id=1",
                "pending by ID:3 (this device): name='one'",
                "@2 by ID:1: n=5",
            ]
        );
        a.run(&["push", "s"]).ok();
        a.run(&["sql", "s", "DELETE FROM t WHERE id = 1"]).ok();
        let short = a.run(&["history", "s", "t", "1", "--limit", "1"]);
        assert_eq!(plain(&short.out), ["@5 by ID:4 (this device): - id=1, name='one', n=5"]);
        assert_eq!(
            (short.code, short.err.trim()),
            (Some(0), "there may be more: give a larger --limit")
        );
        assert_eq!(a.run(&["history", "s", "t", "1", "--since", "@3"]).ok().lines().count(), 2);
        assert_eq!(a.run(&["history", "s", "t", "1", "--since", "2999-01-01"]).ok(), "");
        let json: Value =
            serde_json::from_str(&a.run(&["--json", "history", "s", "t", "1"]).ok()).unwrap();
        assert_eq!((&json["key"]["id"], &json["end"]), (&1.into(), &"no_table".into()));
        let changes = json["changes"].as_array().unwrap();
        let told: Vec<_> = changes.iter().map(|c| (c["lsn"].as_u64(), c["op"].as_str())).collect();
        let lsn = |lsn: u64, op| (Some(lsn), Some(op));
        assert_eq!(told, [lsn(5, "-"), lsn(4, "~"), lsn(2, "~"), lsn(1, "+")]);
        assert_eq!(changes[2]["new"]["n"], 5);
        assert_eq!(
            (&changes[2]["exact"], &changes[2]["authors"][0]["own"]),
            (&true.into(), &false.into())
        );
        let blame = a.run(&["--json", "blame", "s", "t", "2"]).ok();
        let blame: Value = serde_json::from_str(&blame).unwrap();
        assert_eq!((&blame[1]["column"], &blame[1]["lsn"]), (&"name".into(), &3.into()));
        let all = a.run(&["--json", "blame", "s", "t"]).ok();
        let all: Value = serde_json::from_str(&all).unwrap();
        assert_eq!((&all["rows"][0]["key"]["id"], &all["more"]), (&2.into(), &false.into()));
        assert_eq!(all["rows"][0]["columns"], blame);
        b.run(&["pull", "s"]).ok();
        b.run(&["sql", "s", "--offline", "INSERT INTO t VALUES (1, 'new', 0)"]).ok();
        let lines = [
            "row id=1",
            "  pending by ID:2 (this device): id=1",
            "  pending by ID:2 (this device): name='new'",
            "  pending by ID:2 (this device): n=0",
        ];
        let short = b.run(&["blame", "s", "t", "--limit", "1"]);
        assert_eq!(plain(&short.out), lines);
        assert_eq!(short.err.trim(), "there are more rows: give a larger --limit");
    });
}

#[test]
fn a_change_is_taken_back_and_what_others_did_stays() {
    everywhere(|a, b| {
        a.run(&["sql", "s", SETUP]).ok();
        a.run(&["sql", "s", "UPDATE t SET name = 'one and two', n = n + 10 WHERE id = 1"]).ok();
        b.run(&["sql", "s", "UPDATE t SET name = 'one and two!', n = n + 100 WHERE id = 1"]).ok();
        let row = "SELECT name, n FROM t WHERE id = 1";
        let line = "table t\n~ id=1: name 'one and two!' -> 'one two!', n 111 -> 101\n";
        assert_eq!(b.run(&["undo", "s", "@2", "--dry-run"]).ok(), line);
        assert_eq!(b.run(&["sql", "s", row]).ok(), "one and two!|111\n");
        // By the name that its history gives it.
        let history = b.run(&["history", "s", "t", "1", "--since", "@1"]).ok();
        let named = history.lines().last().unwrap().split(' ').nth(3).unwrap().to_owned();
        assert_eq!(b.run(&["undo", "s", named.trim_end_matches(':')]).ok(), line);
        assert_eq!(a.run(&["sql", "s", row]).ok(), "one two!|101\n");
        assert_eq!(a.run(&["log", "s"]).ok().lines().count(), 4);
        // An own one, before anybody has heard of it.
        a.run(&["sql", "s", "--offline", "DELETE FROM t"]).ok();
        let shown = a.run(&["--json", "undo", "s", "3", "--offline"]).ok();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["seq"], shown["rows"].as_array().unwrap().len()), (&4.into(), 2));
        assert_eq!(a.run(&["sql", "s", "--offline", "SELECT count(*) FROM t"]).ok(), "2\n");
    });
}

#[test]
fn one_of_several_that_were_pushed_together_is_taken_back_where_it_was_made() {
    everywhere(|a, b| {
        a.run(&["sql", "s", SETUP]).ok();
        let offline = |sql: &str| drop(a.run(&["sql", "s", "--offline", sql]).ok());
        offline("UPDATE t SET name = 'one or two', n = n + 10 WHERE id = 1");
        offline("UPDATE t SET n = n + 100 WHERE id = 1");
        offline("DELETE FROM t WHERE id = 2");
        a.run(&["push", "s"]).ok();
        b.run(&["sql", "s", "UPDATE t SET name = 'one or two!', n = n + 1000 WHERE id = 1"]).ok();
        a.run(&["pull", "s"]).ok();
        let told = [
            "@3 by ID:1: ~ name 'one or two' -> 'one or two!', n 111 -> 1111",
            "@2 by ID:3 (this device): ~ n 11 -> 111",
            "@2 by ID:2 (this device): ~ name 'one two' -> 'one or two', n 1 -> 11",
            "@1 by ID:1 (this device): + id=1, name='one two', n=1",
        ];
        assert_eq!(plain(&a.run(&["history", "s", "t", "1"]).ok()), told);
        let line = "table t\n~ id=1: name 'one or two!' -> 'one two!', n 1111 -> 1101\n";
        assert_eq!(a.run(&["undo", "s", "2"]).ok(), line);
        assert_eq!(a.run(&["undo", "s", "4"]).ok(), "table t\n+ id=2: name='two', n=2\n");
        let rows = b.run(&["sql", "s", "SELECT name, n FROM t ORDER BY id"]).ok();
        assert_eq!(rows, "one two!|1101\ntwo|2\n");
        // What the others see is what the log says.
        let history = b.run(&["history", "s", "t", "1"]).ok();
        let line = history.lines().find(|line| line.starts_with("@2")).unwrap();
        assert!(line.contains("n 1 -> 111"), "{line}");
        let word = line.split(' ').find(|word| word.contains(':') && word.len() > 26).unwrap();
        let id = word.split_once(':').unwrap().0;
        b.run(&["undo", "s", &format!("{id}:2")]).fails(1, "does not remember");
    });
}

#[test]
fn what_is_no_row_or_no_single_change_is_refused_in_one_line() {
    let bed = Bed::new();
    let a = bed.device("a", &bed.bucket_dir());
    a.run(&["sql", "s", SETUP]).ok();
    a.run(&["sql", "s", "--offline", "UPDATE t SET n = 3 WHERE id = 1"]).ok();
    a.run(&["sql", "s", "--offline", "UPDATE t SET n = 4 WHERE id = 1"]).ok();
    a.run(&["push", "s"]).ok();
    a.run(&["history", "s", "t"]).fails(2, "--help");
    a.run(&["blame", "s", "nope"]).fails(1, "there is no table `nope`");
    a.run(&["blame", "s"]).fails(2, "--help");
    for command in ["history", "blame"] {
        a.run(&[command, "s", "t", "x"]).fails(1, "the key of table `t` is a number");
        a.run(&[command, "s", "t", "1", "2"]).fails(1, "not 2 values");
        a.run(&[command, "s", "nope", "1"]).fails(1, "sheaf sql s@LSN");
        a.run(&[command, "nobody", "t", "1"]).fails(1, "sheaf sites");
    }
    a.run(&["history", "s", "t", "1", "--since", "soon"]).fails(2, "@LSN or @TIME");
    a.run(&["blame", "s", "t", "9"]).fails(1, "no such row");
    let none = a.run(&["history", "s", "t", "9"]);
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""));
    assert!(none.err.contains("nothing is known"), "{none:?}");
    for name in ["@", "x", "0", ":1", "a:"] {
        a.run(&["undo", "s", name]).fails(2, "TIMELINE:SEQ");
    }
    a.run(&["undo", "s"]).fails(2, "--help");
    a.run(&["undo", "nobody", "1"]).fails(1, "sheaf sites");
    a.run(&["undo", "s", "@1"]).fails(1, "schema");
    a.run(&["undo", "s", "@2"]).fails(1, "holds 2 mutations");
    a.run(&["undo", "s", "@2", "--dry-run"]).fails(1, "sheaf diff");
    a.run(&["undo", "s", "9"]).fails(1, "sheaf history s TABLE KEY");
    assert_eq!(a.run(&["sql", "s", "SELECT n FROM t WHERE id = 1"]).ok(), "4\n");
    assert_eq!(a.run(&["log", "s"]).ok().lines().count(), 2);
}

/// Reclaims everything that a bucket keeps of the past.
const PASS: [&str; 6] = ["gc", "s", "--keep", "1", "--keep-for", "0s"];

#[test]
fn a_row_has_a_history_beyond_what_the_log_keeps() {
    let bed = Bed::new();
    let url = bed.bucket_dir();
    let (a, b) = (bed.device("a", &url), bed.device("b", &url));
    a.run(&["sql", "s", SETUP]).ok();
    b.run(&["sql", "s", "UPDATE t SET n = 5 WHERE id = 1"]).ok();
    a.run(&["sql", "s", "UPDATE t SET name = 'uno' WHERE id = 2"]).ok();
    assert_eq!(a.run(&PASS).code, Some(0));
    let node = Node::start(&bed.path("node"), &["--store", &url]);
    let c = Device { token: node.token.clone(), ..bed.device("c", &node.url) };
    c.run(&["clone", "s"]).ok();
    b.run(&["pull", "s"]).ok();
    for (device, own) in [(&b, " (this device)"), (&c, "")] {
        goes_on(device, own);
    }
    assert_eq!(a.run(&["gc", "--dry-run"]).ok().lines().count(), 1, "only what people made");
    // Somebody reclaims without recording.
    a.run(&["sql", "s", "UPDATE t SET n = 6 WHERE id = 1"]).ok();
    assert_eq!(a.run(&[&PASS[..], &["--no-history"]].concat()).code, Some(0));
    b.run(&["pull", "s"]).ok();
    let gone = b.run(&["history", "s", "t", "1"]);
    assert!(gone.out.is_empty() && gone.err.contains("before @4 is no longer kept"), "{gone:?}");
}

fn goes_on(device: &Device, own: &str) {
    assert_eq!(
        plain(&device.run(&["history", "s", "t", "1"]).ok()),
        [
            format!("@2 by ID:1{own}: ~ n 1 -> 5"),
            "@1 by ID:1: + id=1, name='one two', n=1".to_owned()
        ]
    );
    let blame = device.run(&["blame", "s", "t", "2"]).ok();
    assert_eq!(plain(&blame)[1], "@3 by ID:2: name='uno'");
    let json = device.run(&["--json", "history", "s", "t", "2"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["end"], &json["changes"][0]["first_lsn"]), (&"no_table".into(), &3.into()));
    let at = |time| device.run(&["history", "s", "t", "2", "--at", time]);
    assert_eq!(at("2999-01-01").ok(), "id=2, name='uno', n=2\n");
    let before = at("2001-01-01");
    assert_eq!((before.out.as_str(), before.err.trim()), ("", "there was no such row"));
    at("@3").fails(2, "give a time");
    // The record is nobody's site.
    assert_eq!(device.run(&["sites"]).ok().lines().count(), 1);
    device.run(&["sql", ".history/x", "SELECT 1"]).fails(1, "kept for recorded changes");
}
