//! Cells that keep all concurrent values: at whoever orders, in predictions, through rebases.

use sheaf_site::{Batch, View};

use crate::support::{Device, Rng, World, agree, is_long};

const NOTE: &str = "CREATE TABLE note(id INTEGER PRIMARY KEY, body MVR_BLOB, n INT);
    INSERT INTO note VALUES (1, 'base', 0)";
const SEE: &str = "SELECT body, sheaf_siblings('note', 'body', 1) FROM note";

fn write(device: &Device, value: &str) {
    device.sql(&format!("UPDATE note SET body = '{value}' WHERE id = 1"));
}

fn sees(device: &Device, expected: &str) {
    assert_eq!(device.local(SEE), expected);
}

fn kept(device: &Device) -> String {
    device.rows(View::Global, "SELECT count(*) FROM __sheaf_mvr")
}

#[test]
fn concurrent_values_stand_until_somebody_who_saw_them_writes() {
    let world = World::new();
    let [a, b, c] = world.devices(NOTE);
    write(&a, "of a");
    write(&b, "of b");
    write(&c, "of c");
    a.exchange();
    assert_eq!(b.exchange().merged, 1);
    c.exchange();
    agree(&[&a, &b, &c]);
    for device in [&a, &b, &c] {
        sees(device, r#"of c|["of a","of b","of c"]"#);
        let global = device.rows(View::Global, "SELECT sheaf_siblings('note', 'body', 1)");
        assert_eq!(global, r#"["of a","of b","of c"]"#);
    }
    write(&b, "all three");
    sees(&b, r#"all three|["all three"]"#);
    agree(&[&b, &a, &c]);
    sees(&a, r#"all three|["all three"]"#);
    assert_eq!(kept(&a), "0", "what is resolved takes no place");
}

#[test]
fn a_prediction_shows_both_and_a_rebase_forgets_neither() {
    let world = World::new();
    let [a, b, c] = world.devices(NOTE);
    write(&b, "of b");
    b.sql("UPDATE note SET n = 7 WHERE id = 1");
    write(&a, "of a");
    a.exchange();
    b.pull();
    sees(&b, r#"of b|["of a","of b"]"#);
    // B's change now has a base at which `of a` is there; B has not chosen it away, though.
    c.exchange();
    write(&c, "of c");
    c.exchange();
    for _ in 0..2 {
        b.pull();
        sees(&b, r#"of b|["of c","of b"]"#);
    }
    c.sql("UPDATE note SET n = n + 1");
    c.exchange();
    b.pull();
    sees(&b, r#"of b|["of c","of b"]"#);
    agree(&[&b, &a, &c]);
    for device in [&a, &b, &c] {
        sees(device, r#"of b|["of c","of b"]"#);
        assert_eq!(device.local("SELECT n FROM note"), "7");
    }
}

#[test]
fn who_writes_after_a_prediction_has_seen_what_it_showed() {
    let world = World::new();
    let [a, b] = world.devices(NOTE);
    write(&b, "of b");
    write(&a, "of a");
    a.exchange();
    b.pull();
    write(&b, "both");
    sees(&b, r#"both|["both"]"#);
    agree(&[&b, &a]);
    sees(&a, r#"both|["both"]"#);
    // And who wrote it twice while apart has always read itself.
    write(&a, "one");
    write(&a, "two");
    write(&b, "three");
    b.exchange();
    agree(&[&a, &b]);
    sees(&b, r#"two|["three","two"]"#);
}

#[test]
fn what_somebody_saw_among_several_goes_and_the_rest_stays() {
    let world = World::new();
    let [a, b, c] = world.devices(NOTE);
    write(&a, "of a");
    write(&b, "of b");
    a.exchange();
    c.exchange();
    // C saw `of a` only, and resolves what it saw.
    write(&c, "of c, after a");
    b.exchange();
    agree(&[&c, &a, &b]);
    sees(&a, r#"of c, after a|["of b","of c, after a"]"#);
}

#[test]
fn the_shown_value_can_be_chosen() {
    let world = World::new();
    let [a, b, c] = world.devices(NOTE);
    assert_eq!(a.local("SELECT sheaf_resolve('note', 'body', 1)"), "0");
    write(&a, "of a");
    write(&b, "of b");
    a.exchange();
    agree(&[&b, &a, &c]);
    let before = c.site.last_seq();
    assert_eq!(c.local("SELECT sheaf_resolve('NOTE', 'Body', '1')"), "1");
    assert_eq!(c.site.last_seq(), before + 1);
    sees(&c, r#"of b|["of b"]"#);
    // Meanwhile somebody else, who saw both as well, writes.
    write(&a, "of a again");
    a.exchange();
    c.pull();
    sees(&c, r#"of b|["of a again","of b"]"#);
    c.pull();
    agree(&[&c, &a, &b]);
    sees(&a, r#"of b|["of a again","of b"]"#);
    a.local("SELECT sheaf_resolve('note', 'body', 1)");
    agree(&[&a, &b, &c]);
    sees(&b, r#"of b|["of b"]"#);
    assert_eq!(kept(&b), "0");
}

#[test]
fn equal_values_are_one_and_the_ninth_pushes_out_the_oldest() {
    let world = World::new();
    let devices: [Device; 10] = world.devices(NOTE);
    write(&devices[0], "same");
    write(&devices[1], "same");
    for (at, device) in devices.iter().enumerate().skip(2) {
        write(device, &format!("v{at}"));
    }
    for device in &devices {
        device.exchange();
    }
    let all: Vec<&Device> = devices.iter().collect();
    agree(&all);
    let expected = (2..10).map(|at| format!("\"v{at}\"")).collect::<Vec<_>>().join(",");
    sees(&devices[0], &format!("v9|[{expected}]"));
}

#[test]
fn two_inserts_under_one_key_are_concurrent_values() {
    let world = World::new();
    let schema = "CREATE TABLE doc(a TEXT, b INT, body ANY, c TEXT, PRIMARY KEY(b, a)) STRICT, WITHOUT ROWID;
        SELECT sheaf_merge_rule('doc', 'body', 'mvr')";
    let [a, b, c] = world.devices(schema);
    a.sql("INSERT INTO doc VALUES ('x', 1, 'of a', 'c'), ('y', 1, NULL, 'c'), ('z', 1, 'z', NULL)");
    b.sql("INSERT INTO doc VALUES ('x', 1, 7.5, 'c'), ('y', 1, x'00', 'c'), ('z', 1, NULL, NULL)");
    a.exchange();
    b.pull();
    let see = "SELECT a, sheaf_siblings('doc', 'body', 1, a) FROM doc ORDER BY a";
    let expected = r#"x|["of a",7.5];y|[{"$hex":"00"}];z|["z"]"#;
    assert_eq!(b.local(see), expected);
    b.pull();
    agree(&[&b, &a, &c]);
    assert_eq!(c.local(see), expected);
    c.sql("UPDATE doc SET body = 'one' WHERE a = 'x'");
    agree(&[&c, &a, &b]);
    assert_eq!(a.local(see), r#"x|["one"];y|[{"$hex":"00"}];z|["z"]"#);
}

#[test]
fn tables_without_a_declared_key_have_row_ids() {
    let world = World::new();
    let [a, b] =
        world.devices("CREATE TABLE t(v MVR_TEXT, g AS (v || '!')); INSERT INTO t VALUES ('old')");
    a.sql("UPDATE t SET v = 'a'");
    b.sql("UPDATE t SET v = 'b'; INSERT INTO t VALUES ('new')");
    a.exchange();
    agree(&[&b, &a]);
    let see = "SELECT rowid, g, sheaf_siblings('t', 'v', rowid) FROM t";
    assert_eq!(a.local(see), r#"1|b!|["a","b"];2|new!|["new"]"#);
}

#[test]
fn values_go_with_their_row_and_are_no_other_rows() {
    let world = World::new();
    let [a, b] = world.devices(NOTE);
    write(&a, "of a");
    write(&b, "of b");
    a.exchange();
    agree(&[&b, &a]);
    a.sql("DELETE FROM note");
    agree(&[&a, &b]);
    assert_eq!(kept(&a), "0");
    b.sql("INSERT INTO note VALUES (1, 'of b', 0)");
    sees(&b, r#"of b|["of b"]"#);
    agree(&[&b, &a]);
    sees(&a, r#"of b|["of b"]"#);
    assert_eq!(a.local("SELECT sheaf_siblings('note', 'body', 2)"), "NULL");
}

#[test]
fn a_call_writes_what_it_writes_and_resolves() {
    let world = World::new();
    let [a, b] = world.devices(NOTE);
    a.site.define_mutator("put", "UPDATE note SET body = :v WHERE id = 1").unwrap();
    write(&a, "of a");
    write(&b, "of b");
    a.exchange();
    agree(&[&b, &a]);
    let args = |v: &str| serde_json::from_str(&format!("{{\"v\": \"{v}\"}}")).unwrap();
    a.site.mutate("put", &args("called")).unwrap();
    sees(&a, r#"called|["called"]"#);
    agree(&[&a, &b]);
    assert_eq!(kept(&a), "0");
    b.site.mutate("put", &args("of b")).unwrap();
    agree(&[&b, &a]);
    sees(&a, r#"of b|["of b"]"#);
}

#[test]
fn a_conflict_elsewhere_in_the_row_is_merged_by_its_own_rule() {
    let world = World::new();
    let [a, b] = world.devices(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v MVR_TEXT, n COUNTER_INT, k KEEP_INT);
        INSERT INTO t VALUES (1, 'v', 0, 0)",
    );
    a.sql("UPDATE t SET v = 'a', n = n + 1");
    b.sql("UPDATE t SET v = 'b', n = n + 2");
    a.exchange();
    b.pull();
    b.pull();
    agree(&[&b, &a]);
    let see = "SELECT v, n, k, sheaf_siblings('t', 'v', id) FROM t";
    assert_eq!(a.local(see), r#"b|3|0|["a","b"]"#);
    // Refused whole: the values stay what they were.
    a.sql("UPDATE t SET v = 'a2', k = 1");
    b.sql("UPDATE t SET v = 'b2', k = 2");
    a.exchange();
    assert_eq!(b.exchange().rejected.len(), 1);
    agree(&[&a, &b]);
    assert_eq!(b.local(see), r#"a2|3|1|["a2"]"#);
}

#[test]
fn the_functions_say_what_is_wrong_and_nobody_writes_siblings() {
    let world = World::new();
    let [a, b] = world.devices(NOTE);
    let fails = |sql: &str, why: &str| {
        let error = a.try_sql(sql).unwrap_err();
        assert!(error.contains(why), "{sql}: {error}");
    };
    fails("SELECT sheaf_siblings('note', 'body')", "give a table, a column and the key of a row");
    fails("SELECT sheaf_siblings('nope', 'body', 1)", "no such table: nope");
    fails("SELECT sheaf_siblings('note', 'nope', 1)", "table note has no column nope");
    fails("SELECT sheaf_siblings('note', 'body', 1, 2)", "a row of note is named by its id");
    assert_eq!(a.local("SELECT sheaf_siblings('note', 'n', 1)"), "[0]");
    write(&a, "of a");
    write(&b, "of b");
    a.exchange();
    agree(&[&b, &a]);
    // Of another type than any of ours they count for nothing, too.
    a.sql("UPDATE __sheaf_mvr SET siblings = 'text'");
    assert_eq!(a.local("SELECT count(*) FROM sheaf_conflicts"), "0");
    assert_eq!(a.local("SELECT sheaf_siblings('note', 'body', 1)"), r#"["of b"]"#);
    a.sql("INSERT INTO __sheaf_mvr VALUES ('note', 'text', 'body', 'text')");
    write(&a, "on top");
    a.sql("UPDATE __sheaf_mvr SET siblings = x'00'");
    a.sql("INSERT INTO __sheaf_mvr VALUES ('note', x'00', 'body', x'00')");
    let done = a.exchange();
    assert_eq!(done.rejected.len(), 4, "{done:?}");
    assert!(done.rejected.iter().all(|(_, why)| why.contains("internal")), "{done:?}");
    agree(&[&a, &b]);
    sees(&b, r#"on top|["on top"]"#);
}

/// One value that was written: what its author saw at that moment is what it replaces.
struct Written {
    value: String,
    seen: Vec<String>,
}

fn values(device: &Device) -> Vec<String> {
    let json = device.local("SELECT sheaf_siblings('note', 'body', 1) FROM note");
    serde_json::from_str(&json).unwrap()
}

/// Does something at random on one of the devices, at random online.
fn step(rng: &mut Rng, devices: &[&Device], written: &mut Vec<Written>, at: usize) {
    let device = devices[rng.below(devices.len())];
    match rng.below(10) {
        0..4 => {
            let value = format!("v{at}");
            written.push(Written { value: value.clone(), seen: values(device) });
            write(device, &value);
        }
        4 => device.sql("UPDATE note SET n = n + 1"),
        5..7 => device.pull().merged.clear(),
        _ => {
            device.exchange();
        }
    }
}

/// What stands: what nobody saw who wrote later.
fn maximal(written: &[Written]) -> Vec<String> {
    let is_seen = |at: usize, value: &String| {
        written.iter().enumerate().any(|(other, one)| other != at && one.seen.contains(value))
    };
    let mut standing: Vec<String> = written
        .iter()
        .enumerate()
        .filter(|(at, one)| !is_seen(*at, &one.value))
        .map(|(_, one)| one.value.clone())
        .collect();
    standing.sort();
    standing.dedup();
    standing
}

#[test]
fn what_stands_is_what_nobody_has_replaced_who_saw_it() {
    for seed in 0..if is_long() { 3_000 } else { 70 } {
        let mut rng = Rng::new(seed);
        let world = World::new();
        let devices: [Device; 4] = world.devices(NOTE);
        let devices: Vec<&Device> = devices.iter().collect();
        let mut written = vec![Written { value: "base".to_owned(), seen: Vec::new() }];
        for at in 0..16 {
            step(&mut rng, &devices, &mut written, at);
        }
        agree(&devices);
        let mut found = values(devices[0]);
        found.sort();
        assert_eq!(found, maximal(&written), "seed {seed}");
    }
}

#[test]
fn a_choice_that_somebody_else_has_made_too_is_still_meant() {
    let world = World::new();
    let [a, b, c] = world.devices(NOTE);
    write(&a, "of a");
    write(&b, "of b");
    agree(&[&a, &b, &c]);
    sees(&c, r#"of b|["of a","of b"]"#);
    // C writes without having seen the choices.
    write(&c, "of c");
    a.local("SELECT sheaf_resolve('note', 'body', 1)");
    b.local("SELECT sheaf_resolve('note', 'body', 1)");
    a.exchange();
    // Nothing is left to choose for B, for now.
    b.pull();
    sees(&b, r#"of b|["of b"]"#);
    c.exchange();
    b.pull();
    sees(&b, r#"of b|["of c","of b"]"#);
    agree(&[&b, &a, &c]);
    for device in [&a, &b, &c] {
        sees(device, r#"of b|["of c","of b"]"#);
    }
}

/// Of four devices, B has seen what C wrote, and has written twice on top; A is in the way of the
/// first of both.
fn in_the_way() -> [Device; 4] {
    let devices = World::new().devices(&format!("{NOTE}; CREATE TABLE name(name TEXT UNIQUE)"));
    let [a, b, c, _] = &devices;
    write(c, "of c");
    c.exchange();
    b.pull();
    b.sql(
        "BEGIN; UPDATE note SET body = 'one' WHERE id = 1; INSERT INTO name VALUES ('taken'); \
         COMMIT",
    );
    write(b, "two");
    a.sql("INSERT INTO name VALUES ('taken')");
    a.exchange();
    devices
}

#[test]
fn what_was_agreed_under_an_own_write_has_been_seen_whatever_becomes_of_that() {
    let [a, b, c, d] = in_the_way();
    // D has not seen what C wrote, B has.
    write(&d, "of d");
    d.exchange();
    a.pull();
    sees(&a, r#"of d|["of c","of d"]"#);
    let rejected = b.exchange().rejected;
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    sees(&b, r#"two|["of d","two"]"#);
    agree(&[&a, &b, &c, &d]);
    sees(&a, r#"two|["of d","two"]"#);
}

fn outbox(device: &Device, after: u64) -> Batch {
    device.site.outbox(after, 1 << 20).unwrap().unwrap()
}

/// What B has written is under way to the node when B learns what A has written meanwhile.
fn crossing(value: &str) -> ([Device; 3], Batch) {
    let devices = World::new().devices(NOTE);
    let [_, a, b] = &devices;
    write(a, "of a");
    write(b, value);
    let under_way = outbox(b, 0);
    a.exchange();
    b.pull();
    sees(b, &format!(r#"{value}|["of a","{value}"]"#));
    (devices, under_way)
}

/// Another commit, so that the node cannot know when A's value was written; then what B has made.
fn later(a: &Device, b: &Device) -> Batch {
    a.sql("UPDATE note SET n = n + 1");
    a.exchange();
    outbox(b, 1)
}

#[test]
fn what_was_agreed_under_an_own_write_has_been_seen_while_that_was_under_way() {
    let ([node, a, b], under_way) = crossing("one");
    write(&b, "two");
    sees(&b, r#"two|["two"]"#);
    let next = later(&a, &b);
    node.site.lead(&[under_way], &*node.log, 4).unwrap();
    sees(&node, r#"one|["of a","one"]"#);
    node.site.lead(&[next], &*node.log, 4).unwrap();
    sees(&node, r#"two|["two"]"#);
    agree(&[&b, &a, &node]);
    sees(&a, r#"two|["two"]"#);
}

#[test]
fn who_chooses_an_own_value_that_is_under_way_has_seen_what_it_stands_beside() {
    let ([node, a, b], under_way) = crossing("of b");
    assert_eq!(b.local("SELECT sheaf_resolve('note', 'body', 1)"), "1");
    let next = later(&a, &b);
    node.site.lead(&[under_way], &*node.log, 4).unwrap();
    node.site.lead(&[next], &*node.log, 4).unwrap();
    sees(&node, r#"of b|["of b"]"#);
    agree(&[&b, &a, &node]);
}

#[test]
fn nobody_has_read_what_came_in_one_commit_with_another() {
    let world = World::new();
    let [node, a, b, c] = world.devices(NOTE);
    write(&a, "of a");
    write(&b, "of b");
    c.sql("UPDATE note SET n = n + 1");
    c.exchange();
    write(&c, "of c");
    let both = [&a, &b].map(|device| outbox(device, 0));
    node.site.lead(&both, &*node.log, 4).unwrap();
    sees(&node, r#"of b|["of a","of b"]"#);
    c.exchange();
    sees(&c, r#"of c|["of a","of b","of c"]"#);
    agree(&[&a, &b, &c, &node]);
}

#[test]
fn what_was_agreed_under_an_own_write_that_is_refused_goes_also_where_it_stands_alone() {
    let [a, b, c, d] = in_the_way();
    assert_eq!(b.exchange().rejected.len(), 1);
    sees(&b, r#"two|["two"]"#);
    agree(&[&a, &b, &c, &d]);
    sees(&a, r#"two|["two"]"#);
}

#[test]
fn what_was_seen_of_a_column_that_is_only_here_is_nothing() {
    let world = World::new();
    let [a, b] = world.devices(NOTE);
    a.sql("ALTER TABLE note ADD COLUMN pick MVR_TEXT");
    a.sql("UPDATE note SET pick = 'one'");
    a.sql("UPDATE note SET pick = 'two'");
    let pending = outbox(&a, 0);
    for record in &pending.mutations[1..] {
        assert!(!String::from_utf8_lossy(&record.bytes).contains("__sheaf_mvr"));
    }
    agree(&[&a, &b]);
}

#[test]
fn a_rejected_change_of_one_cell_is_told_with_its_row() {
    let world = World::new();
    let [a, b] = world.devices(
        "CREATE TABLE note(id INTEGER PRIMARY KEY, body MVR_TEXT CHECK (body <> 'bad' || n), n INT);
         INSERT INTO note VALUES (1, 'base', 0)",
    );
    write(&b, "one");
    write(&b, "bad1");
    assert_eq!(b.site.pending().unwrap()[1].info.summary, "update note 1 (body)");
    a.sql("UPDATE note SET n = 1");
    a.exchange();
    assert_eq!(b.exchange().rejected.len(), 1);
    let conflicts = b.site.conflicts().unwrap();
    let rejected = conflicts.iter().find(|conflict| conflict.reason.is_some()).unwrap();
    assert_eq!(rejected.table.as_deref(), Some("note"));
}

#[test]
fn a_pending_change_is_undone_unless_it_stands_beside_others() {
    let world = World::new();
    let [a, b] = world.devices(NOTE);
    write(&a, "of a");
    write(&b, "of b");
    let undo = || b.site.undo(&b.site.last_seq().to_string().parse().unwrap(), false);
    a.exchange();
    b.pull();
    // What B saw before is not what stands there without B's change.
    let error = undo().unwrap_err();
    assert_eq!(error.kind(), sheaf_site::ErrorKind::Unsupported, "{error}");
    sees(&b, r#"of b|["of a","of b"]"#);
    write(&b, "both");
    write(&b, "more");
    let undone = undo().unwrap();
    assert_eq!(undone.left.len(), 0, "{undone:?}");
    sees(&b, r#"both|["both"]"#);
    agree(&[&b, &a]);
}
