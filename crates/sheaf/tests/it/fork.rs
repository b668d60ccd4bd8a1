//! Keeping what is pending as a branch.

use super::*;

#[test]
fn a_fork_moves_what_is_pending_and_tells_what_the_branch_refuses() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    exec(&a, "CREATE UNIQUE INDEX one_of_each ON todo(what)");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    exec(&b, "INSERT INTO todo(id, what) VALUES (4, 'tea')");
    b.exchange(TIMEOUT).unwrap();
    exec(&a, "UPDATE todo SET done = 1 WHERE id = 1");
    exec(&a, "INSERT INTO todo(id, what) VALUES (9, 'tea')");
    // From here on the second is not shown, and the branch begins with what refuses it.
    a.pull(TIMEOUT).unwrap();
    a.go_online().unwrap();
    a.go_offline();
    let forked = one.fork("team/todo", "mine", TIMEOUT).unwrap();
    assert_eq!((forked.moved, forked.at), (2, a.status().base));
    let [(seq, reason)] = &forked.rejected[..] else { panic!("{forked:?}") };
    assert!(reason.contains("UNIQUE"), "{reason}");
    let branch = forked.branch.unwrap();
    assert_eq!(branch.status().rejected[0].seq, *seq, "kept for its author to look at");
    assert_eq!(rows(&branch, View::Global)[0], "1:milk:1");
    assert_eq!((a.status().unpushed(), branch.status().unpushed()), (0, 0));
    assert_eq!(rows(&a, View::Local), rows(&b, View::Local));
    // Both go on, each on a timeline of its own.
    exec(&a, "UPDATE todo SET done = 2 WHERE id = 2");
    exec(&branch, "UPDATE todo SET done = 3 WHERE id = 3");
    assert_eq!(a.push(TIMEOUT).unwrap().confirmed, 1);
    assert_eq!(branch.push(TIMEOUT).unwrap().confirmed, 1);
    let elsewhere = two_.clone_site("mine", TIMEOUT).unwrap();
    assert_eq!(rows(&elsewhere, View::Local), ["1:milk:1", "2:bread:0", "3:eggs:3", "4:tea:0"]);
    let nothing = one.fork("team/todo", "other", TIMEOUT).unwrap();
    assert!(nothing.branch.is_none() && nothing.moved == 0);
    assert_eq!(one.fork("nobody", "other", TIMEOUT).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!one.site_exists("other") && !one.site_exists("nobody"));
}
