//! Through a node.

use super::*;

#[test]
fn two_devices_edit_apart_and_converge() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    exec(
        &a,
        "UPDATE todo SET what='oat milk' WHERE id=1; INSERT INTO todo(id,what) VALUES(10,'a')",
    );
    exec(&a, "UPDATE todo SET done=7 WHERE id=2");
    exec(&b, "UPDATE todo SET done=1 WHERE id=1; INSERT INTO todo(id,what) VALUES(20,'b')");
    exec(&b, "UPDATE todo SET done=8 WHERE id=2");
    assert_eq!(a.status().unpushed(), 2, "{:?}", a.status().pending);
    let first = a.exchange(TIMEOUT).unwrap();
    assert_eq!((first.pushed, first.confirmed, first.merged), (2, 2, 0), "{first:?}");
    assert!(first.bytes_up > 0 && first.bytes_down > 0 && first.round_trips > 0);
    let second = b.exchange(TIMEOUT).unwrap();
    assert_eq!((second.pushed, second.confirmed, second.merged), (2, 2, 1), "{second:?}");
    let of_two = |ops: &sheaf::MergedOps| ops.altered.iter().any(|op| op.key == [2.into()]);
    assert!(second.merges.iter().any(|(_, ops)| of_two(ops)), "{second:?}");
    expect(&two_, "merged", |event| matches!(event, Event::Merged { ops, .. } if of_two(ops)));
    let third = a.exchange(TIMEOUT).unwrap();
    assert_eq!((third.pulled, third.pushed), (1, 0), "{third:?}");
    let expected = ["1:oat milk:1", "2:bread:8", "3:eggs:0", "10:a:0", "20:b:0"];
    for site in [&a, &b] {
        assert_eq!(rows(site, View::Local), expected);
        assert_eq!(rows(site, View::Global), expected);
        assert_eq!(site.status().unpushed(), 0);
        assert_eq!(site.status().base, third.base);
    }
}

#[test]
fn a_rejected_mutation_is_told_with_its_reason() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    exec(&a, "CREATE UNIQUE INDEX only ON todo(what)");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    exec(&a, "UPDATE todo SET what='tea' WHERE id=1");
    exec(&b, "UPDATE todo SET what='tea' WHERE id=2");
    exec(&b, "UPDATE todo SET done=1 WHERE id=3");
    a.exchange(TIMEOUT).unwrap();
    let done = b.exchange(TIMEOUT).unwrap();
    assert_eq!((done.pushed, done.rejected.len()), (2, 1), "{done:?}");
    assert!(done.rejected[0].1.to_lowercase().contains("unique"), "{done:?}");
    a.exchange(TIMEOUT).unwrap();
    let expected = ["1:tea:0", "2:bread:0", "3:eggs:1"];
    assert_eq!(rows(&a, View::Local), expected);
    assert_eq!(rows(&b, View::Local), expected);
    assert_eq!(b.status().rejected.len(), 1);
}

#[test]
fn online_devices_see_each_other_without_asking() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    a.go_online().unwrap();
    b.go_online().unwrap();
    expect(&two_, "online", |event| matches!(event, Event::Online { .. }));
    let base = b.status().base;
    exec(&a, "INSERT INTO todo(id, what) VALUES (9,'live')");
    expect(&two_, "changed", |e| matches!(e, Event::Changed { lsn, .. } if *lsn > base));
    assert!(rows(&b, View::Global).contains(&"9:live:0".to_owned()));
    assert!(b.status().online);
    b.go_offline();
    assert!(!b.status().online);
}

#[test]
fn a_node_that_restarts_is_found_again() {
    let mut world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    a.go_online().unwrap();
    expect(&one, "online", |event| matches!(event, Event::Online { .. }));
    world.stop_node();
    expect(&one, "offline", |event| matches!(event, Event::Offline { .. }));
    let error = b.exchange(TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    exec(&a, "INSERT INTO todo(id, what) VALUES (9,'while it was away')");
    exec(&b, "INSERT INTO todo(id, what) VALUES (8,'so was I')");
    world.start_node();
    expect(&one, "confirmed", |e| matches!(e, Event::Changed { confirmed: 1, .. }));
    b.exchange(TIMEOUT).unwrap();
    a.exchange(TIMEOUT).unwrap();
    assert_eq!(rows(&a, View::Global), rows(&b, View::Global));
    assert_eq!(rows(&a, View::Global).len(), 5);
}

#[test]
fn a_replica_reopens_where_it_was_and_remembers_its_server() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    exec(&a, "UPDATE todo SET done=1");
    drop((a, one));
    let one = client(&world.root.path().join("a"), None, None);
    assert_eq!(one.sites().unwrap(), ["team/todo"]);
    let a = one.site("team/todo").unwrap();
    assert_eq!(a.status().server.as_deref(), Some(world.url.as_str()));
    assert_eq!(a.exchange(TIMEOUT).unwrap().pushed, 1);
    b.pull(TIMEOUT).unwrap();
    assert_eq!(rows(&b, View::Local), ["1:milk:1", "2:bread:1", "3:eggs:1"]);
    // The last handle lets go of the directory, although the client lives on.
    drop(a);
    let again = client(&world.root.path().join("a"), None, None);
    assert_eq!(rows(&again.site("team/todo").unwrap(), View::Local).len(), 3);
}

#[test]
fn a_fresh_replica_fetches_only_what_it_reads() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let a = one.site("big").unwrap();
    schema(&a);
    exec(
        &a,
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<20000)
         INSERT INTO todo SELECT i, hex(randomblob(60)), 0 FROM n",
    );
    a.exchange(TIMEOUT).unwrap();
    let b = two_.clone_site("big", TIMEOUT).unwrap();
    let one_row = "SELECT length(what) FROM todo WHERE id=12345";
    let read = |sql: &str| {
        b.read(View::Local, |db| {
            db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(sheaf::from_sqlite)
        })
    };
    assert_eq!(read(one_row).unwrap(), 120);
    let status = b.status();
    assert!(status.pages_pending > u64::from(status.page_count) / 2, "{status:?}");
    b.go_offline();
    assert_eq!(read(one_row).unwrap(), 120, "what was read is here");
    assert!(read("SELECT sum(length(what)) FROM todo").is_err(), "never a wrong row");
    assert_eq!(b.exchange(TIMEOUT).unwrap_err().kind(), ErrorKind::Unavailable);
    b.go_manual().unwrap();
    b.exchange(TIMEOUT).unwrap();
    b.hydrate(&mut |_, _| {}).unwrap();
    assert_eq!(b.status().pages_pending, 0);
    assert_eq!(read("SELECT sum(length(what)) FROM todo").unwrap(), 2_400_000);
}

#[test]
fn cloning_what_is_not_there_leaves_nothing() {
    let world = World::new();
    let one = world.device("a");
    let error = one.clone_site("nothing", TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!one.site_exists("nothing"));
}

#[test]
fn a_site_made_on_two_devices_becomes_one() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = (one.site("x").unwrap(), two_.site("x").unwrap());
    schema(&a);
    exec(&a, "INSERT INTO todo(id, what) VALUES (1,'a')");
    exec(&b, "CREATE TABLE IF NOT EXISTS other(k TEXT PRIMARY KEY, v TEXT)");
    exec(&b, "INSERT INTO other VALUES ('k','v')");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    a.exchange(TIMEOUT).unwrap();
    assert_eq!(a.status().site, b.status().site);
    assert_eq!(rows(&b, View::Global), ["1:a:0"]);
    let found = a.read(View::Global, |db| {
        db.query_row("SELECT v FROM other", [], |row| row.get::<_, String>(0))
            .map_err(sheaf::from_sqlite)
    });
    assert_eq!(found.unwrap(), "v");
}

#[test]
fn the_log_is_told_newest_first() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, _b) = two(&one, &two_);
    exec(&a, "UPDATE todo SET done=1");
    a.exchange(TIMEOUT).unwrap();
    let log = a.log(10, None).unwrap();
    assert!(log.len() >= 2 && log[0].lsn == a.status().base, "{log:?}");
    assert!(log.windows(2).all(|pair| pair[0].lsn > pair[1].lsn));
    assert_eq!(log[0].tables, ["todo"]);
    assert_eq!(log[0].applied[0].ok, 1);
    let older = a.log(1, Some(log[0].lsn)).unwrap();
    assert_eq!(older, log[1..2]);
}

#[test]
fn the_wrong_token_and_the_wrong_server_are_named() {
    let root = tempfile::tempdir().unwrap();
    let options = NodeOptions::new(root.path().join("node"), ([127, 0, 0, 1], 0).into());
    let node = Node::start(options).unwrap();
    let token = node.first_token().unwrap();
    let open = |dir: &str, server: &str, token: Option<&str>| {
        client(&root.path().join(dir), Some(server), token).site("s").unwrap()
    };
    let url = node.url();
    for (dir, token) in [("a", None), ("b", Some("sheaf_wrong_wrong_wrong_wrong"))] {
        let site = open(dir, &url, token);
        assert_eq!(site.exchange(TIMEOUT).unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(site.log(1, None).unwrap_err().kind(), ErrorKind::Denied);
    }
    open("c", &url, Some(&token)).exchange(TIMEOUT).unwrap();
    node.stop().unwrap();
    let error = open("d", &url, None).exchange(TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&url), "{error}");
    let alone = client(&root.path().join("e"), None, None).site("s").unwrap();
    assert_eq!(alone.exchange(TIMEOUT).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn every_write_arrives_once_while_the_node_comes_and_goes() {
    const WRITES: i64 = 60;
    let mut world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    exec(&a, "CREATE TABLE seen(who TEXT, n INTEGER, PRIMARY KEY(who, n))");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    a.go_online().unwrap();
    b.go_online().unwrap();
    std::thread::scope(|scope| {
        for (site, who) in [(&a, "a"), (&b, "b")] {
            scope.spawn(move || {
                let db = site.connection(View::Local).unwrap();
                db.busy_timeout(TIMEOUT).unwrap();
                for n in 0..WRITES {
                    db.execute("INSERT INTO seen VALUES (?1, ?2)", (who, n)).unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..3 {
                world.stop_node();
                world.start_node();
            }
        });
    });
    // Twice: what the other pushed after the first round is pulled in the second.
    for _ in 0..2 {
        a.exchange(TIMEOUT).unwrap();
        b.exchange(TIMEOUT).unwrap();
    }
    let count = |site: &Site| {
        site.read(View::Global, |db| {
            let sql = "SELECT count(*) FROM seen";
            db.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(sheaf::from_sqlite)
        })
        .unwrap()
    };
    assert_eq!((count(&a), count(&b)), (2 * WRITES, 2 * WRITES));
    assert!(a.status().rejected.is_empty() && b.status().rejected.is_empty());
}

#[test]
fn a_device_restored_from_a_backup_loses_nothing_and_repeats_nothing() {
    let world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    drop((a, one));
    let (dir, backup) = (world.root.path().join("a"), world.root.path().join("backup"));
    copy(&dir, &backup);
    let one = world.device("a");
    let a = one.site("team/todo").unwrap();
    exec(&a, "INSERT INTO todo(id, what) VALUES (4,'before the crash')");
    a.exchange(TIMEOUT).unwrap();
    drop((a, one));
    std::fs::remove_dir_all(&dir).unwrap();
    copy(&backup, &dir);
    let one = world.device("a");
    let a = one.site("team/todo").unwrap();
    exec(&a, "INSERT INTO todo(id, what) VALUES (5,'after the restore')");
    a.exchange(TIMEOUT).unwrap();
    b.exchange(TIMEOUT).unwrap();
    let expected =
        ["1:milk:0", "2:bread:0", "3:eggs:0", "4:before the crash:0", "5:after the restore:0"];
    assert_eq!(rows(&a, View::Global), expected);
    assert_eq!(rows(&b, View::Global), expected);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_site_can_be_opened_while_its_last_handle_goes() {
    let world = World::new();
    let one = world.device("a");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let site = one.site("s").unwrap();
                    site.exchange(TIMEOUT).unwrap();
                }
            });
        }
    });
}
