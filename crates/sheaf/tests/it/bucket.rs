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
    exec(&a, "UPDATE todo SET done=1");
    expect(&two_, "changed", |event| matches!(event, Event::Changed { .. }));
    assert_eq!(rows(&b, View::Global), ["1:milk:1", "2:bread:1", "3:eggs:1"]);
}

#[test]
fn a_site_the_bucket_has_not_cannot_be_cloned() {
    let root = tempfile::tempdir().unwrap();
    let one = client(&root.path().join("a"), Some(&bucket(root.path())), None);
    assert_eq!(one.clone_site("x", TIMEOUT).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!one.site_exists("x"));
}
