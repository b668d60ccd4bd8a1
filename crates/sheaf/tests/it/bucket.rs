//! Two devices and a directory, no node.

use super::*;

fn bucket(root: &Path) -> String {
    format!("file://{}", root.join("bucket").display())
}

#[test]
fn two_devices_and_a_directory_converge() {
    let root = tempfile::tempdir().unwrap();
    let url = bucket(root.path());
    let one = client(&root.path().join("a"), Some(&url), None);
    let two_ = client(&root.path().join("b"), Some(&url), None);
    let (a, b) = two(&one, &two_);
    exec(&a, "UPDATE todo SET what='oat milk' WHERE id=1");
    exec(&b, "UPDATE todo SET done=1 WHERE id=1");
    assert_eq!(a.exchange(TIMEOUT).unwrap().pushed, 1);
    let second = b.push(TIMEOUT).unwrap();
    assert_eq!((second.pulled, second.pushed), (1, 1), "{second:?}");
    assert_eq!(a.pull(TIMEOUT).unwrap().pulled, 1);
    let expected = ["1:oat milk:1", "2:bread:0", "3:eggs:0"];
    assert_eq!(rows(&a, View::Global), expected);
    assert_eq!(rows(&b, View::Global), expected);
    assert_eq!(a.status().base, b.status().base);
    assert_eq!(a.log(1, None).unwrap()[0].lsn, a.status().base);
}

#[test]
fn online_devices_find_each_others_work() {
    let root = tempfile::tempdir().unwrap();
    let url = bucket(root.path());
    let one = client(&root.path().join("a"), Some(&url), None);
    let two_ = client(&root.path().join("b"), Some(&url), None);
    let (a, b) = two(&one, &two_);
    a.go_online().unwrap();
    b.go_online().unwrap();
    let base = b.status().base;
    exec(&a, "UPDATE todo SET done=1");
    expect(&two_, "changed", |e| matches!(e, Event::Changed { lsn, .. } if *lsn > base));
    assert_eq!(rows(&b, View::Global), ["1:milk:1", "2:bread:1", "3:eggs:1"]);
}

#[test]
fn offline_stays_offline_until_somebody_says_otherwise() {
    let root = tempfile::tempdir().unwrap();
    let url = bucket(root.path());
    let one = client(&root.path().join("a"), Some(&url), None);
    let two_ = client(&root.path().join("b"), Some(&url), None);
    let (a, b) = two(&one, &two_);
    assert!(!a.is_online());
    a.go_online().unwrap();
    let base = a.status().base;
    exec(&a, "UPDATE todo SET done=1");
    expect(&one, "confirmed", |e| matches!(e, Event::Changed { lsn, .. } if *lsn > base));
    assert!(a.is_online());
    a.go_offline();
    assert!(!a.is_online());
    exec(&a, "UPDATE todo SET done=2");
    for asked in [a.exchange(TIMEOUT), a.pull(TIMEOUT), a.push(TIMEOUT)] {
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("go online first"), "{error}");
    }
    assert_eq!(a.status().unpushed(), 1, "nothing has left");
    a.go_manual().unwrap();
    assert!(!a.is_online());
    assert_eq!(a.push(TIMEOUT).unwrap().confirmed, 1);
    b.pull(TIMEOUT).unwrap();
    assert_eq!(rows(&b, View::Global), ["1:milk:2", "2:bread:2", "3:eggs:2"]);
}

#[test]
fn who_looks_now_does_not_wait_for_the_next_turn() {
    let root = tempfile::tempdir().unwrap();
    let url = bucket(root.path());
    let one = client(&root.path().join("a"), Some(&url), None);
    let two_ = client(&root.path().join("b"), Some(&url), None);
    let (a, b) = two(&one, &two_);
    b.look_now();
    b.go_online().unwrap();
    let base = b.status().base;
    exec(&a, "UPDATE todo SET done=1");
    a.push(TIMEOUT).unwrap();
    b.look_now();
    expect(&two_, "changed", |e| matches!(e, Event::Changed { lsn, .. } if *lsn > base));
    assert_eq!(rows(&b, View::Global), ["1:milk:1", "2:bread:1", "3:eggs:1"]);
}

#[test]
fn a_rejection_is_dismissed_alone_or_with_those_before() {
    let root = tempfile::tempdir().unwrap();
    let url = bucket(root.path());
    let one = client(&root.path().join("a"), Some(&url), None);
    let two_ = client(&root.path().join("b"), Some(&url), None);
    let (a, b) = two(&one, &two_);
    exec(&a, "CREATE UNIQUE INDEX only ON todo(what)");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    exec(&a, "INSERT INTO todo(id, what) VALUES (7, 'tea')");
    for id in 10..13 {
        exec(&b, &format!("INSERT INTO todo(id, what) VALUES ({id}, 't{id}')"));
    }
    exec(&a, "INSERT INTO todo(id, what) VALUES (8, 't10'), (9, 't11'), (6, 't12')");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    let left = || b.status().rejected.iter().map(|rejected| rejected.seq).collect::<Vec<_>>();
    let [first, second, third] = left()[..] else { panic!("{:?}", b.status().rejected) };
    assert!(b.dismiss_rejected(second).unwrap());
    assert!(!b.dismiss_rejected(second).unwrap());
    assert_eq!(left(), [first, third]);
    assert_eq!(b.dismiss_rejected_through(third).unwrap(), 2);
    assert!(left().is_empty());
}

#[test]
fn a_cell_with_several_values_is_settled_by_any_of_them() {
    let root = tempfile::tempdir().unwrap();
    let url = bucket(root.path());
    let one = client(&root.path().join("a"), Some(&url), None);
    let two_ = client(&root.path().join("b"), Some(&url), None);
    let (a, b) = (one.site("s").unwrap(), two_.site("s").unwrap());
    exec(&a, "CREATE TABLE t(id INTEGER PRIMARY KEY, v MVR_INT)");
    exec(&a, "INSERT INTO t VALUES (1, 0), (2, 0)");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    exec(&a, "UPDATE t SET v = 1");
    exec(&b, "UPDATE t SET v = 2");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    assert_eq!(b.conflicts().unwrap().len(), 2);
    // The one that is shown already, and the other one.
    for (row, value) in [(1, 2), (2, 1)] {
        let key = [sheaf::Value::Int(row)];
        let value = sheaf::Value::Int(value);
        assert!(b.resolve_cell("t", &key, "v", &value).unwrap().is_some());
        assert_eq!(b.resolve_cell("t", &key, "v", &value).unwrap(), None, "nothing is left to do");
        let waits = b.waiting_cell("t", &key, "v").unwrap();
        assert_ne!(waits, sheaf::Waiting::Unknown);
    }
    assert!(b.conflicts().unwrap().is_empty());
    let nobody = b.resolve_cell("t", &[sheaf::Value::Int(9)], "v", &sheaf::Value::Null);
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::NotFound);
    b.exchange(TIMEOUT).unwrap();
    a.exchange(TIMEOUT).unwrap();
    assert!(a.conflicts().unwrap().is_empty());
}

#[test]
fn a_site_the_bucket_has_not_cannot_be_cloned() {
    let root = tempfile::tempdir().unwrap();
    let one = client(&root.path().join("a"), Some(&bucket(root.path())), None);
    assert_eq!(one.clone_site("x", TIMEOUT).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!one.site_exists("x"));
}
