//! Editors on two devices: what they show, and when they are told.

use sheaf_site::{CellWatch, EditState, ErrorKind, Standing, Value, Waiting, WatchEvent};

use crate::support::{Device, Rng, World, assert_converged};

const NOTE: &str =
    "CREATE TABLE note(id INTEGER PRIMARY KEY, body MERGE_TEXT, title TEXT, n KEEP_INT);
    INSERT INTO note VALUES (1, 'a b', 'one', 0)";

fn body(device: &Device) -> CellWatch {
    device.site.watch_cell("note", &[Value::Int(1)], "body").unwrap()
}

fn value(text: &str) -> Option<WatchEvent<Option<Value>>> {
    Some(WatchEvent::Value(Some(text.into())))
}

fn shown(cell: &CellWatch) -> String {
    match cell.shown() {
        Some(Value::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clean_editor_follows_what_is_agreed() {
    let [a, b] = World::new().devices(NOTE);
    let cell = body(&b);
    assert_eq!((shown(&cell).as_str(), cell.state()), ("a b", EditState::Clean));
    assert_eq!(cell.poll().unwrap(), None);
    a.sql("UPDATE note SET body = 'z a b'");
    a.exchange();
    assert_eq!(cell.poll().unwrap(), None);
    b.exchange();
    assert_eq!(cell.poll().unwrap(), value("z a b"));
    assert_eq!(cell.poll().unwrap(), None);
    // Another column of the row is no news.
    a.sql("UPDATE note SET title = 'two'");
    a.exchange();
    b.exchange();
    assert_eq!(cell.poll().unwrap(), None);
}

/// Vector V03 of the specification, on two real devices.
#[test]
fn an_editor_stays_on_its_text_until_nothing_is_outstanding() {
    let [a, b] = World::new().devices(NOTE);
    let cell = body(&b);
    cell.edit("a b c").unwrap();
    assert_eq!((cell.poll().unwrap(), cell.state()), (None, EditState::Dirty));
    a.sql("UPDATE note SET body = 'z a b'");
    a.exchange();
    b.pull();
    assert_eq!(b.local("SELECT body FROM note"), "z a b c");
    assert_eq!((cell.poll().unwrap(), shown(&cell).as_str()), (None, "a b c"));
    assert_eq!(cell.agreed(), Some("z a b".into()));
    // It types on what it sees, and takes nothing of the other's away.
    cell.edit("a b c d").unwrap();
    assert_eq!(b.local("SELECT body FROM note"), "z a b c d");
    assert_eq!((cell.poll().unwrap(), shown(&cell).as_str()), (None, "a b c d"));
    b.site.outbox(0, usize::MAX).unwrap();
    assert_eq!(cell.state(), EditState::Sent);
    b.exchange();
    assert_eq!(cell.poll().unwrap(), value("z a b c d"));
    assert_eq!((cell.poll().unwrap(), cell.state()), (None, EditState::Clean));
    a.exchange();
    assert_converged(&[&a, &b]);
}

/// Others did the same meanwhile, so that a redo of the edit changes nothing: it waits all the same,
/// and its end is told although no table changes with it.
#[test]
fn an_edit_that_has_nothing_left_to_do_still_waits() {
    let ends = [("a", Some(WatchEvent::Converged)), ("z a", value("z a"))];
    for (theirs, told) in ends {
        let [a, b] = World::new().devices(NOTE);
        let cell = body(&b);
        cell.edit("a").unwrap();
        a.sql(&format!("UPDATE note SET body = '{theirs}'"));
        a.exchange();
        b.pull();
        assert_eq!(b.local("SELECT body FROM note"), theirs);
        assert_eq!((cell.poll().unwrap(), shown(&cell).as_str()), (None, "a"));
        assert_eq!(cell.state(), EditState::Dirty);
        b.exchange();
        assert_eq!(cell.poll().unwrap(), told);
        assert_eq!((cell.poll().unwrap(), cell.state()), (None, EditState::Clean));
    }
}

#[test]
fn without_others_it_is_told_once_that_all_is_agreed() {
    let [_a, b] = World::new().devices(NOTE);
    let cell = body(&b);
    cell.edit("a b c").unwrap();
    cell.edit("a b c d").unwrap();
    assert_eq!(cell.poll().unwrap(), None);
    b.exchange();
    assert_eq!(cell.poll().unwrap(), Some(WatchEvent::Converged));
    assert_eq!(cell.poll().unwrap(), None);
    assert_eq!(shown(&cell), "a b c d");
    // What changes nothing ends as well.
    assert_eq!(cell.edit("a b c d").unwrap(), None);
    assert_eq!(cell.poll().unwrap(), Some(WatchEvent::Converged));
}

#[test]
fn an_editor_pulls_when_it_wants_to() {
    let [a, b] = World::new().devices(NOTE);
    let cell = body(&b);
    cell.edit("a b c").unwrap();
    a.sql("UPDATE note SET body = 'z a b'");
    a.exchange();
    b.pull();
    assert_eq!(cell.poll().unwrap(), None);
    assert_eq!(cell.pull().unwrap(), Some("z a b c".into()));
    cell.edit("z a c").unwrap();
    b.exchange();
    assert_eq!(cell.poll().unwrap(), Some(WatchEvent::Converged));
    assert_eq!(b.local("SELECT body FROM note"), "z a c");
}

#[test]
fn what_a_waiting_schema_change_does_to_rows_is_not_agreed_on() {
    let [a, b] = World::new().devices(NOTE);
    b.sql("ALTER TABLE note ADD COLUMN tags TEXT DEFAULT 'none'; ALTER TABLE note RENAME TO page");
    let cell = b.site.watch_cell("page", &[Value::Int(1)], "tags").unwrap();
    assert_eq!((cell.shown(), cell.state()), (Some("none".into()), EditState::Dirty));
    cell.edit("one").unwrap();
    let waiting = |table: &str| b.site.waiting(table, &[Value::Int(1)]).unwrap();
    assert_eq!((waiting("page"), waiting("note")), (Waiting::Yes, Waiting::Unknown));
    b.sql("CREATE TABLE other(id INTEGER PRIMARY KEY)");
    assert_eq!(waiting("other"), Waiting::No);
    let rows: Vec<_> =
        b.site.pending().unwrap().into_iter().map(|one| one.rows.is_some()).collect();
    assert_eq!(rows, [false, false, true, true]);
    b.exchange();
    assert_eq!(cell.poll().unwrap(), Some(WatchEvent::Converged));
    assert_eq!(waiting("page"), Waiting::No);
    a.exchange();
    assert_eq!(a.local("SELECT tags FROM page"), "one");
}

#[test]
fn a_number_that_is_given_again_tells_nothing_of_who_had_it_first() {
    let [a, b] = World::new().devices(NOTE);
    let refused = |n: u64| {
        let seq = b.site.last_seq() + 1;
        b.sql(&format!("UPDATE note SET n = {n}"));
        a.sql(&format!("UPDATE note SET n = {}", n + 50));
        a.exchange();
        b.exchange();
        seq
    };
    let first = refused(1);
    b.site.restart_timeline().unwrap();
    let cell = body(&b);
    let mut seq = 0;
    while seq < first {
        seq = cell.edit(format!("edit {seq}")).unwrap().unwrap();
        b.exchange();
    }
    assert_eq!((seq, b.site.standing(seq)), (first, Standing::Confirmed));
    while let Some(event) = cell.poll().unwrap() {
        assert!(!matches!(event, WatchEvent::Rejected { .. }), "{event:?}");
    }
    b.site.restart_timeline().unwrap();
    while b.site.last_seq() + 1 < first {
        b.sql("UPDATE note SET title = title || 'x'");
        b.exchange();
    }
    assert_eq!(refused(2), first);
    assert!(matches!(b.site.standing(first), Standing::Rejected(_)));
    // Both are kept, and dismissed one after the other.
    let kept = || b.site.rejected().into_iter().map(|r| (r.seq, r.summary)).collect::<Vec<_>>();
    assert_eq!(kept().len(), 2, "{:?}", kept());
    assert!(kept().iter().all(|(seq, _)| *seq == first));
    assert!(b.site.dismiss_rejected(first).unwrap());
    assert_eq!(kept().len(), 1);
    assert!(b.site.dismiss_rejected(first).unwrap());
    assert!(!b.site.dismiss_rejected(first).unwrap());
}

#[test]
fn other_connections_of_the_device_are_seen_unless_that_would_disturb() {
    let [_a, b] = World::new().devices(NOTE);
    let cell = body(&b);
    b.sql("UPDATE note SET body = 'by sql'");
    assert_eq!(cell.poll().unwrap(), value("by sql"));
    assert_eq!((cell.state(), cell.agreed()), (EditState::Dirty, Some("a b".into())));
    cell.edit("by sql too").unwrap();
    b.sql("UPDATE note SET body = 'now ' || body");
    assert_eq!((cell.poll().unwrap(), shown(&cell).as_str()), (None, "by sql too"));
    b.exchange();
    assert_eq!(cell.poll().unwrap(), value("now by sql too"));
    assert_eq!(cell.poll().unwrap(), None);
}

#[test]
fn a_rejected_edit_is_told_and_the_agreed_value_comes_back() {
    let [a, b] = World::new().devices(NOTE);
    let cell = b.site.watch_cell("note", &[Value::Int(1)], "n").unwrap();
    let seq = cell.edit(5).unwrap().unwrap();
    a.sql("UPDATE note SET n = 7");
    a.exchange();
    b.pull();
    // The prediction fails; the editor keeps what it shows until the log decides.
    assert_eq!(b.local("SELECT n FROM note"), "7");
    assert_eq!((cell.poll().unwrap(), cell.shown()), (None, Some(Value::Int(5))));
    let error = cell.edit(6).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(cell.shown(), Some(Value::Int(5)));
    b.exchange();
    assert_eq!(cell.poll().unwrap(), Some(WatchEvent::Value(Some(Value::Int(7)))));
    match cell.poll().unwrap() {
        Some(WatchEvent::Rejected { seq: of, reason }) => {
            assert_eq!(of, seq);
            assert!(reason.contains("column n"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cell.poll().unwrap(), None);
}

#[test]
fn a_whole_row_is_edited_cell_by_cell() {
    let [a, b] = World::new().devices(NOTE);
    let row = b.site.watch_row("note", &[Value::Int(1)]).unwrap();
    let names: Vec<String> = row.shown().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["id", "body", "title", "n"]);
    row.edit(&[("body", "a b c".into()), ("Title", "mine".into())]).unwrap();
    assert!(row.edit(&[("other", "x".into())]).is_err());
    a.sql("UPDATE note SET body = 'z a b', n = 1");
    a.exchange();
    b.pull();
    assert_eq!(row.poll().unwrap(), None);
    row.edit(&[("body", "a b c d".into())]).unwrap();
    b.exchange();
    let agreed = vec![
        ("id".to_owned(), Value::Int(1)),
        ("body".to_owned(), "z a b c d".into()),
        ("title".to_owned(), "mine".into()),
        ("n".to_owned(), Value::Int(1)),
    ];
    assert_eq!(row.poll().unwrap(), Some(WatchEvent::Value(Some(agreed.clone()))));
    assert_eq!((row.shown(), row.agreed()), (Some(agreed.clone()), Some(agreed)));
}

#[test]
fn a_row_that_goes_away_is_told_and_cannot_be_edited() {
    let [a, b] = World::new().devices(NOTE);
    let cell = body(&b);
    a.sql("DELETE FROM note");
    a.exchange();
    b.exchange();
    assert_eq!(cell.poll().unwrap(), Some(WatchEvent::Value(None)));
    assert_eq!(cell.edit("x").unwrap_err().kind(), ErrorKind::NotFound);
    let missing = |table: &str, key: &[Value], column: &str| {
        b.site.watch_cell(table, key, column).unwrap_err().kind()
    };
    assert_eq!(missing("note", &[Value::Int(1)], "body"), ErrorKind::NotFound);
    assert_eq!(missing("nothing", &[Value::Int(1)], "body"), ErrorKind::NotFound);
    assert_eq!(missing("note", &[], "body"), ErrorKind::Invalid);
}

/// The number of a new row may turn out to be taken; the handle goes with the row.
#[test]
fn a_row_that_is_renumbered_is_followed() {
    let [a, b] = World::new().devices(NOTE);
    b.sql("INSERT INTO note VALUES (2, 'mine', 'b', 0)");
    let cell = b.site.watch_cell("note", &[Value::Int(2)], "body").unwrap();
    assert_eq!((shown(&cell).as_str(), cell.agreed()), ("mine", None));
    a.sql("INSERT INTO note VALUES (2, 'theirs', 'a', 0)");
    a.exchange();
    b.pull();
    assert_eq!(b.local("SELECT body FROM note WHERE id > 1 ORDER BY id"), "theirs;mine");
    assert_eq!((cell.poll().unwrap(), shown(&cell).as_str()), (None, "mine"));
    cell.edit("mine still").unwrap();
    assert_eq!(b.local("SELECT body FROM note WHERE id > 1 ORDER BY id"), "theirs;mine still");
    // Another device takes the guessed number as well.
    a.sql("INSERT INTO note VALUES (3, 'more', 'a', 0)");
    a.exchange();
    b.exchange();
    assert_eq!(cell.poll().unwrap(), Some(WatchEvent::Converged));
    assert_eq!((cell.state(), cell.agreed()), (EditState::Clean, Some("mine still".into())));
    a.exchange();
    a.sql("UPDATE note SET body = 'by a' WHERE body = 'mine still'");
    a.exchange();
    b.exchange();
    assert_eq!(cell.poll().unwrap(), value("by a"));
}

#[test]
fn a_timeline_with_new_numbers_disturbs_no_editor() {
    let [_a, b] = World::new().devices(NOTE);
    let cell = body(&b);
    cell.edit("a b c").unwrap();
    b.sql("UPDATE note SET body = 'x ' || body");
    assert_eq!(cell.poll().unwrap(), None);
    b.site.restart_timeline().unwrap();
    assert_eq!((cell.poll().unwrap(), shown(&cell).as_str()), (None, "a b c"));
    b.exchange();
    assert_eq!(cell.poll().unwrap(), value("x a b c"));
}

#[test]
fn handles_are_bounded_and_dropped_cleanly() {
    let [_a, b] = World::new().devices(NOTE);
    let max = sheaf_site::limits::LISTENERS_MAX;
    for _ in 0..2 {
        let cells: Vec<CellWatch> = (0..max).map(|_| body(&b)).collect();
        let error = b.site.watch_row("note", &[Value::Int(1)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        drop(cells);
    }
}

/// P20 and P21 on two devices: whatever is typed, pulled and pushed, an editor's text changes only
/// when it is told, it is told only when nothing is outstanding, and at the end both show the same.
#[test]
fn two_editors_converge_under_any_interleaving() {
    for seed in 0..if crate::support::is_long() { 300 } else { 12 } {
        let mut rng = Rng::new(seed);
        let [a, b] = World::new().devices(NOTE);
        let editors = [(&a, body(&a)), (&b, body(&b))];
        let mut words = 0;
        for _ in 0..25 {
            let (device, cell) = &editors[rng.below(2)];
            let before = cell.shown();
            match rng.below(6) {
                0 | 1 => {
                    words += 1;
                    let Some(Value::Text(text)) = before else { panic!("{before:?}") };
                    let text = match rng.chance(50) {
                        true => format!("{text} w{words}"),
                        false => format!("w{words} {text}"),
                    };
                    cell.edit(text.as_str()).unwrap();
                    assert_eq!(shown(cell), text);
                }
                2 => drop(device.pull()),
                3 => drop(device.exchange()),
                4 => {
                    cell.pull().unwrap();
                }
                _ => {
                    let told = cell.poll().unwrap();
                    match &told {
                        Some(WatchEvent::Value(value)) => assert_eq!(*value, cell.shown()),
                        _ => assert_eq!(cell.shown(), before, "seed {seed}"),
                    }
                    if told.is_some() {
                        assert_eq!(cell.state(), EditState::Clean, "seed {seed}");
                        assert_eq!(cell.shown(), cell.agreed(), "seed {seed}");
                    }
                }
            }
        }
        a.exchange();
        b.exchange();
        a.exchange();
        for (_, cell) in &editors {
            while cell.poll().unwrap().is_some() {}
        }
        assert_eq!(shown(&editors[0].1), shown(&editors[1].1), "seed {seed}");
        for word in 1..=words {
            let count =
                shown(&editors[0].1).split(' ').filter(|w| *w == format!("w{word}")).count();
            assert_eq!(count, 1, "seed {seed}: w{word} in {}", shown(&editors[0].1));
        }
        assert_converged(&[&a, &b]);
    }
}
