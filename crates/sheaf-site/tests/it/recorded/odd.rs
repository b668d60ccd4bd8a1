//! Records that somebody else has written into, and changes that are large: looking back ends or
//! says what is wrong, recording goes on or stops with what is reclaimed.

use super::*;

/// Writes into the record as nobody does who only records.
fn forge(world: &World, sql: &str) {
    let volume = world.ids.volume;
    let record = open_record(world, volume).unwrap().unwrap();
    record.connection(View::Local).unwrap().execute_batch(sql).unwrap();
    let made = find_site(world.objects.as_ref(), &record_name(volume)).unwrap().unwrap();
    record
        .exchange_with_log(&BucketRemote::new(objects(world), made.lineage, made.page_size))
        .unwrap();
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    for (forgery, says) in [
        ("UPDATE history SET first = last + 1", "ends before it begins"),
        (
            "INSERT OR REPLACE INTO history VALUES ('t', x'', 1, 90, 0, 0,
                 (SELECT authors FROM history LIMIT 1), x'0100')",
            "ends before it begins",
        ),
        ("UPDATE history SET first = -7", "negative"),
        ("UPDATE span SET since = -7", "negative"),
        ("UPDATE history SET upd = x'0103' WHERE length(key) > 0", "in the place of a row's"),
        ("UPDATE history SET upd = x'0100' WHERE length(key) = 0", "a row's of a table's"),
    ] {
        let world = World::new();
        let (device, _) = timed(&world, 1);
        sql(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
        for change in ["INSERT INTO t VALUES (1, 0)", "UPDATE t SET v = 1", "UPDATE t SET v = 2"] {
            sql(&device, change);
        }
        gc_recording(&world, 1, &mut recorder(&world, 50));
        forge(&world, forgery);
        fresh(&world, &device);
        let open = |volume| open_record(&world, volume);
        let open: &OpenRecord<'_> = &open;
        // One of a row that is there, and of one that never was.
        let look = |key: i64| {
            device.site.history_with("t", &[key.into()], (1_000, None), Some(open)).map(|_| ())
        };
        let error = look(1).and_then(|()| look(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{forgery}: {error}");
        assert!(error.to_string().contains(says), "{forgery}: {error}");
    }
}

#[test]
fn a_row_that_is_gone_is_found_by_a_number_of_another_type() {
    let world = World::new();
    let (device, clock) = timed(&world, 1);
    sql(&device, "CREATE TABLE t(at REAL PRIMARY KEY NOT NULL, v)");
    for change in
        ["INSERT INTO t VALUES (17, 'x')", "DELETE FROM t", "INSERT INTO t VALUES (18, 'y')"]
    {
        clock.advance_ms(700_000);
        sql(&device, change);
    }
    gc_recording(&world, 1, &mut recorder(&world, 50));
    fresh(&world, &device);
    assert_eq!(lines(&world, &device, 17).0, ["3 - 2", "2 + 2"]);
}

/// Recording into a record that somebody has written into.
fn recording(world: &World, forgery: &str) -> Result<()> {
    let (device, _) = timed(world, 1);
    sql(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 0)");
    sql(&device, "UPDATE t SET v = 1");
    gc_recording(world, 1, &mut recorder(world, 50));
    forge(world, forgery);
    sql(&device, "UPDATE t SET v = 2");
    let (mut recorder, boundary) = (recorder(world, 51), world.log().boundary().unwrap());
    gc(world, 1, |to| recorder.record(boundary, to, &mut || Ok(())).map(|_| ()))
}

#[test]
fn nothing_is_reclaimed_that_a_forged_record_only_claims_to_hold() {
    for (forgery, says) in [
        ("INSERT INTO span VALUES (1 << 62, 1 << 62, 0, NULL)", "goes beyond the log"),
        ("UPDATE span SET last = 1 << 62", "goes beyond the log"),
        ("INSERT INTO span VALUES (1 << 62, 0, 0, NULL)", "ends before it begins"),
        ("UPDATE span SET doing = 1", "ends before it begins"),
        (
            "CREATE TRIGGER back AFTER UPDATE ON span BEGIN
                 UPDATE span SET last = OLD.last WHERE first = OLD.first; END",
            "does not keep",
        ),
    ] {
        let world = World::new();
        let error = recording(&world, forgery).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{forgery}: {error}");
        assert!(error.to_string().contains(says), "{forgery}: {error}");
        assert_eq!(world.log().boundary().unwrap(), Lsn(2), "{forgery}");
    }
    let world = World::new();
    recording(&world, "ALTER TABLE span RENAME TO other; ALTER TABLE other RENAME TO Span")
        .unwrap();
    assert_eq!(world.log().boundary().unwrap(), Lsn(3));
}

/// What a transaction takes is bounded, and the record of rows that are larger together goes on.
#[test]
fn large_rows_are_recorded_and_forgotten_in_several_transactions() {
    let world = World::new();
    let (device, clock) = timed(&world, 1);
    clock.advance_ms(10_000_000);
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
        INSERT INTO t SELECT i, randomblob(90000), 0 FROM n";
    sql(&device, &format!("CREATE TABLE t(id INTEGER PRIMARY KEY, v, n); {rows}"));
    clock.advance_ms(700_000);
    sql(&device, "UPDATE t SET v = NULL");
    // Within one interval: each would be made one change of two.
    sql(&device, "UPDATE t SET n = 1");
    clock.advance_ms(700_000);
    sql(&device, "UPDATE t SET n = 2 WHERE id = 1");
    gc_recording(&world, 1, &mut recorder(&world, 50));
    fresh(&world, &device);
    let (told, _) = lines(&world, &device, 7);
    let n = told.iter().filter(|line| line.contains("n 0 -> 1")).count();
    assert_eq!((n, told.last().map(String::as_str)), (1, Some("1 + 3")), "{told:?}");
    // Without folding 501, and with all of it 251.
    let recorded = recorded_rows(&world);
    assert!((252..501).contains(&recorded), "{recorded}");

    let env: Arc<dyn Env> = clock.clone();
    let tidy = recorder_in(&world, 52, &env);
    clock.advance_ms(10_000_000);
    tidy.tidy(HistoryRetention { keep_for_ms: 500_000 }, true).unwrap();
    assert_eq!(recorded_rows(&world), 0);
}
