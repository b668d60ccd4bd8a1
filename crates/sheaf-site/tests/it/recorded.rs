//! What became of rows whose commits were reclaimed: against a model, with recorders that are
//! stopped, that meet, and that come too late.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_site::history::{
    End, HistoryRetention, OpenRecord, RecordPlace, Recorder, RowChange, RowEvent, record_name,
};
use sheaf_site::{ErrorKind, Site, SiteIds, SiteOptions, Value, View};
use sheaf_volume::{
    BucketRemote, DeviceId, Dir, Env, Error, GcStep, Lsn, ManualEnv, MemDir, Objects, Remote,
    Result, Retention, SystemEnv, VolumeId, find_site,
};

use crate::support::{Device, Rng, World, is_long};

mod odd;

fn objects(world: &World) -> Arc<dyn Objects> {
    world.objects.clone()
}

fn recorder(world: &World, number: u8) -> Recorder {
    let env: Arc<dyn Env> = Arc::new(ManualEnv::new(u64::from(number)));
    recorder_in(world, number, &env)
}

fn recorder_in(world: &World, number: u8, env: &Arc<dyn Env>) -> Recorder {
    let (objects, log) = (objects(world), world.log());
    let device = DeviceId::from_bytes([number; 16]);
    let place = RecordPlace { objects: &objects, env, device, log: &log };
    Recorder::open(&place, &|_| Ok(Box::new(MemDir::new()) as Box<dyn Dir>)).unwrap()
}

/// A replica of the record, as a device opens it.
fn open_record(world: &World, volume: VolumeId) -> Result<Option<Site>> {
    let Some(made) = find_site(world.objects.as_ref(), &record_name(volume))? else {
        return Ok(None);
    };
    let ids = SiteIds { site: made.site, volume: made.volume(), page_size: made.page_size };
    let log = Arc::new(BucketRemote::new(objects(world), made.lineage, made.page_size));
    let options =
        SiteOptions { create: Some(ids), ..SiteOptions::new("r", DeviceId::from_bytes([77; 16])) };
    let site = Site::open(&MemDir::new(), Arc::new(ManualEnv::new(7)), options)?;
    site.set_remote(Some(log.clone() as Arc<dyn Remote>));
    site.follow(log.as_ref(), &mut |_| Ok(()))?;
    Ok(Some(site))
}

/// Reclaims all but the newest commits, recording first, with who comes in between.
fn gc(world: &World, keep_commits: u64, mut before: impl FnMut(Lsn) -> Result<()>) -> Result<()> {
    let keep = Retention { keep_commits, keep_for_ms: 0, exact: true };
    let env = ManualEnv::new(5);
    env.advance_ms(1 << 50);
    let mut watch = |step| match step {
        GcStep::Boundary(to) => before(to),
        _ => Ok(()),
    };
    while world.log().gc(&env, &keep, false, &mut watch)?.more {}
    Ok(())
}

fn gc_recording(world: &World, keep_commits: u64, recorder: &mut Recorder) {
    let boundary = world.log().boundary().unwrap();
    gc(world, keep_commits, |to| recorder.record(boundary, to, &mut || Ok(())).map(|_| ()))
        .unwrap();
}

/// A device whose clock the test moves.
fn timed(world: &World, number: u64) -> (Device, Arc<ManualEnv>) {
    let clock = Arc::new(ManualEnv::new(number * 1_000));
    let env: Arc<dyn Env> = clock.clone();
    (world.try_reopen(MemDir::new(), number, env).unwrap(), clock)
}

fn fresh(world: &World, device: &Device) {
    device.site.set_remote(Some(world.log() as Arc<dyn Remote>));
}

fn sql(device: &Device, sql: &str) -> u64 {
    device.sql(&format!("BEGIN; {sql}; COMMIT"));
    device.exchange();
    device.site.base().0.0
}

/// Position or interval, mark, and what changed.
fn line(event: &RowEvent) -> String {
    let last = event.origin.at.map_or(0, |lsn| lsn.0);
    let first = event.interval.as_ref().map_or(last, |interval| interval.first.0);
    let at = if first == last { format!("{last}") } else { format!("{first}-{last}") };
    let text = |value: &Option<Value>| {
        value.as_ref().map_or_else(|| "none".to_owned(), sheaf_site::diff::literal)
    };
    match &event.change {
        RowChange::Inserted(row) => format!("{at} + {}", row.len()),
        RowChange::Deleted(row) => format!("{at} - {}", row.len()),
        RowChange::Updated(changes) => {
            let each = changes.iter();
            let each = each.map(|c| format!("{} {} -> {}", c.name, text(&c.old), text(&c.new)));
            format!("{at} ~ {}", each.collect::<Vec<_>>().join(", "))
        }
    }
}

fn lines(world: &World, device: &Device, key: i64) -> (Vec<String>, End) {
    let open = |volume| open_record(world, volume);
    let open: &OpenRecord<'_> = &open;
    let found = device.site.history_with("t", &[key.into()], (1_000, None), Some(open)).unwrap();
    (found.events.iter().map(line).collect(), found.end)
}

#[test]
fn a_history_goes_on_where_the_log_was_reclaimed() {
    let world = World::new();
    let (device, clock) = timed(&world, 1);
    sql(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w); INSERT INTO t VALUES (1, 0, 'a')");
    for n in 1..=5 {
        clock.advance_ms(700_000);
        sql(&device, &format!("UPDATE t SET v = {n}"));
    }
    // Two within one interval.
    clock.advance_ms(700_000);
    sql(&device, "UPDATE t SET v = 6");
    sql(&device, "UPDATE t SET w = 'b'");
    clock.advance_ms(700_000);
    sql(&device, "DELETE FROM t");
    sql(&device, "INSERT INTO t VALUES (1, 9, 'c')");
    let before = lines(&world, &device, 1);
    gc_recording(&world, 1, &mut recorder(&world, 50));
    fresh(&world, &device);
    let expected = [
        "9-10 ~ v 6 -> 9, w 'b' -> 'c'",
        "7-8 ~ v 5 -> 6, w 'a' -> 'b'",
        "6 ~ v 4 -> 5",
        "5 ~ v 3 -> 4",
        "4 ~ v 2 -> 3",
        "3 ~ v 1 -> 2",
        "2 ~ v 0 -> 1",
        "1 + 3",
    ];
    let (found, end) = lines(&world, &device, 1);
    assert_eq!(found, expected);
    assert_eq!((end, before.1), (End::NoTable { lsn: Lsn(1) }, End::NoTable { lsn: Lsn(1) }));
    let none = device.site.history("t", &[1.into()], 10, None).unwrap();
    assert_eq!((none.events.len(), none.end), (0, End::Expired { lsn: Lsn(10) }));
    let open = |volume| open_record(&world, volume);
    let blame = device.site.blame_with("t", &[1.into()], Some(&open)).unwrap();
    assert!(blame.columns[1..].iter().all(|c| c.origin.as_ref().unwrap().at == Some(Lsn(10))));
    assert_eq!(blame.columns[0].origin.as_ref().unwrap().at, Some(Lsn(1)));
}

/// What came and went within an interval is not recorded: who stands in its middle is told nothing
/// that never was.
#[test]
fn who_stands_within_what_came_to_nothing_is_told_what_was_before() {
    let world = World::new();
    let (device, clock) = timed(&world, 1);
    let (reader, _) = timed(&world, 2);
    sql(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'abc')");
    for (v, is_new_interval) in [("axc", true), ("axcd", true), ("axc", false), ("end", true)] {
        clock.advance_ms(if is_new_interval { 700_000 } else { 1_000 });
        sql(&device, &format!("UPDATE t SET v = '{v}'"));
        if v == "axcd" {
            sql(&device, "INSERT INTO t VALUES (2, 'came')");
            reader.exchange();
            sql(&device, "DELETE FROM t WHERE id = 2");
        }
    }
    gc_recording(&world, 1, &mut recorder(&world, 50));
    fresh(&world, &reader);
    assert_eq!(reader.local("SELECT v FROM t WHERE id = 1"), "axcd");
    let (told, end) = lines(&world, &reader, 1);
    assert_eq!(told, ["2 ~ v 'abc' -> 'axc'", "1 + 2"]);
    assert_eq!(end, End::NoTable { lsn: Lsn(1) });
    assert_eq!(lines(&world, &reader, 2).0, [""; 0]);
    let open = |volume| open_record(&world, volume);
    let at = |key: i64, time_ms| {
        let told = reader.site.row_at("t", &[key.into()], time_ms, Some(&open)).unwrap();
        told.row.map(|row| row[1].value.clone())
    };
    let now = reader.site.status().base_time_ms;
    assert_eq!(at(1, now), Some("axcd".into()));
    assert_eq!(at(1, now - 300_000), Some("axc".into()));
    assert_eq!(at(2, now - 300_000), None);
    // Of a table that went, no rows are recorded that would lead back.
    let went = world.copy();
    let (other, _) = timed(&went, 3);
    other.exchange();
    sql(&other, "DROP TABLE t");
    gc_recording(&went, 1, &mut recorder(&went, 51));
    fresh(&went, &reader);
    assert_eq!(lines(&went, &reader, 1), (vec![], End::Expired { lsn: Lsn(4) }));
    let open_went = |volume| open_record(&went, volume);
    let told = reader.site.row_at("t", &[1.into()], now - 300_000, Some(&open_went));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Expired);
    let told = reader.site.row_at("t", &[1.into()], now, Some(&open_went)).unwrap();
    assert_eq!(told.row.unwrap()[1].value, "axcd".into());
    // The log has gone on, and nothing that the record begins with can be had.
    sql(&device, "UPDATE t SET v = 'later'");
    gc(&world, 1, |_| Ok(())).unwrap();
    fresh(&world, &reader);
    let (told, end) = lines(&world, &reader, 1);
    assert_eq!((told, end), (vec![], End::Expired { lsn: Lsn(4) }));
}

/// The rows of a table at a position, and when that was.
#[derive(Clone, Default)]
struct State {
    lsn: u64,
    time_ms: u64,
    rows: BTreeMap<i64, Vec<(String, Value)>>,
}

fn read_state(device: &Device) -> BTreeMap<i64, Vec<(String, Value)>> {
    let conn = device.site.connection(View::Global).unwrap();
    let mut statement = conn.prepare("SELECT * FROM t").unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([]).unwrap();
    let mut all = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let value = |at: usize| match row.get_ref(at).unwrap() {
            rusqlite::types::ValueRef::Null => Value::Null,
            rusqlite::types::ValueRef::Integer(i) => Value::Int(i),
            rusqlite::types::ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned().into(),
            other => panic!("{other:?}"),
        };
        let cells = names.iter().enumerate().map(|(at, name)| (name.clone(), value(at)));
        all.insert(row.get(0).unwrap(), cells.collect());
    }
    all
}

fn random_change(rng: &mut Rng, at: usize) -> String {
    let (id, n) = (rng.below(6), rng.below(1_000));
    let text = format!("text {} of {n}", "and more ".repeat(rng.below(30)));
    match rng.below(8) {
        0 => format!("DELETE FROM t WHERE id = {id}"),
        1 => format!("UPDATE t SET v = {n}"),
        2 if at > 20 => format!("INSERT OR REPLACE INTO t(id, v, w) VALUES ({id}, {n}, NULL)"),
        3 => format!("INSERT OR IGNORE INTO t(id, v, w) VALUES ({id}, {n}, '{text}')"),
        4 => format!("UPDATE t SET w = '{text}' WHERE id = {id}"),
        5 => format!("UPDATE t SET v = 1 - coalesce(v, 0) WHERE id = {id}"),
        _ => format!("INSERT OR IGNORE INTO t(id, v, w) VALUES ({id}, {n}, 'x')"),
    }
}

#[test]
fn rows_at_any_time_are_those_of_the_model() {
    for seed in 1..=if is_long() { 20 } else { 3 } {
        at_any_time(seed, if is_long() { 200 } else { 80 });
    }
}

/// Random commits at known times, reclaimed now and then; then every row at every time.
fn at_any_time(seed: u64, commits: usize) {
    let mut rng = Rng::new(seed);
    let world = World::new();
    let (device, clock) = timed(&world, seed);
    clock.advance_ms(1_000_000_000);
    sql(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w)");
    let mut states = vec![State::default()];
    for at in 0..commits {
        clock.advance_ms(if rng.chance(6) { 2_000_000 } else { rng.below(200_000) as u64 });
        let change = match at == commits / 2 {
            true => "ALTER TABLE t ADD COLUMN x DEFAULT 5; INSERT INTO t(v) VALUES (0)".to_owned(),
            false => random_change(&mut rng, at),
        };
        let lsn = sql(&device, &change);
        let status = device.site.status();
        states.push(State { lsn, time_ms: status.base_time_ms, rows: read_state(&device) });
        if rng.chance(15) {
            gc_recording(&world, 1 + rng.below(9) as u64, &mut recorder(&world, 60 + at as u8));
        }
    }
    gc_recording(&world, 4, &mut recorder(&world, 50));
    let (reader, _) = timed(&world, 99);
    reader.site.adopt(world.ids, world.log().head().unwrap()).unwrap();
    let record = open_record(&world, world.ids.volume).unwrap();
    let open = |_| Ok(record.clone());
    let mut times: Vec<u64> = states.iter().flat_map(|s| [s.time_ms, s.time_ms + 1]).collect();
    times.push(u64::MAX / 4);
    let boundary = world.log().boundary().unwrap();
    let boundary_ms = states.iter().rfind(|state| state.lsn <= boundary.0).unwrap().time_ms;
    let mut folded = 0;
    for (id, time) in (0..6).flat_map(|id| times.iter().map(move |time| (id, *time))) {
        if !rng.chance(if is_long() { 1 } else { 4 }) {
            continue;
        }
        let told = reader.site.row_at("t", &[id.into()], time, Some(&open)).unwrap();
        let row = told.row.map(|row| row.into_iter().map(|c| (c.name, c.value)).collect());
        let newest = |lsn: u64| states.iter().rfind(|state| state.lsn <= lsn).unwrap();
        let shown = format!("seed {seed} row {id} at {time}");
        match told.within {
            None => {
                let state = states.iter().rfind(|state| state.time_ms <= time).unwrap();
                // Changes that cancelled out within an interval were not recorded: inside, the row
                // is what it was when that began.
                let started = time / 600_000 * 600_000;
                let before = states.iter().rfind(|state| state.time_ms < started);
                let cancelled = changes_after(&states, id, time)
                    && time < boundary_ms
                    && row.as_ref() == before.and_then(|state| state.rows.get(&id));
                folded += usize::from(cancelled);
                assert!(cancelled || row.as_ref() == state.rows.get(&id), "{shown}: {row:?}");
            }
            Some(event) => {
                let interval = event.interval.unwrap();
                let (first, last) = (interval.first_time_ms, event.origin.time_ms);
                assert!(first <= time && time < last && first / 600_000 == last / 600_000);
                let before = newest(interval.first.0 - 1);
                assert_eq!(row.as_ref(), before.rows.get(&id), "{shown}, before {first}");
            }
        }
    }
    // Recorded again, nothing is added.
    assert!(folded < times.len(), "{folded}");
    let mut again = recorder(&world, 51);
    assert_eq!(again.record(Lsn(0), boundary, &mut || Ok(())).unwrap().steps, 0);
}

/// Whether a row changes after a time in the same interval.
fn changes_after(states: &[State], id: i64, time: u64) -> bool {
    let is_later =
        |state: &State| state.time_ms > time && state.time_ms / 600_000 == time / 600_000;
    let mut pairs = states.windows(2);
    pairs.any(|pair| is_later(&pair[1]) && pair[0].rows.get(&id) != pair[1].rows.get(&id))
}

/// A table, and one commit that changes every row of it.
fn changed_at_once(world: &World, rows: usize) -> Device {
    let (device, clock) = timed(world, 1);
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ";
    sql(
        &device,
        &format!(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w);
            INSERT INTO t {many}{rows}) SELECT i, 0, 'w' FROM n"
        ),
    );
    clock.advance_ms(700_000);
    sql(&device, "UPDATE t SET v = 1");
    clock.advance_ms(700_000);
    sql(&device, "UPDATE t SET v = 2 WHERE id = 1");
    device
}

fn recorded_rows(world: &World) -> i64 {
    let record = open_record(world, world.ids.volume).unwrap().unwrap();
    let conn = record.reader(View::Global).unwrap();
    conn.query_row("SELECT count(*) FROM history WHERE key <> x''", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_recorder_that_is_stopped_leaves_what_the_next_one_completes() {
    let world = World::new();
    let device = changed_at_once(&world, 9_000);
    let mut looks = 0;
    for allowed in [2, 6] {
        let mut asked = 0;
        let mut stop = || {
            asked += 1;
            match asked > allowed {
                true => Err(Error::new(ErrorKind::Closed, "stopped")),
                false => Ok(()),
            }
        };
        let stopped = gc(&world, 1, |to| {
            looks += 1;
            recorder(&world, 50 + allowed as u8).record(Lsn(0), to, &mut stop).map(|_| ())
        });
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Closed);
        // What was not recorded is still there.
        assert_eq!(world.log().boundary().unwrap(), Lsn(0));
    }
    let partial = recorded_rows(&world);
    assert!(looks == 2 && 0 < partial && partial < 9_000, "{partial}");
    // Nobody reads what is not complete: the log is whole.
    fresh(&world, &device);
    assert_eq!(lines(&world, &device, 9_000).0, ["2 ~ v 0 -> 1", "1 + 3"]);
    gc_recording(&world, 1, &mut recorder(&world, 60));
    fresh(&world, &device);
    assert_eq!(recorded_rows(&world), 9_001);
    for id in [1, 2, 4_096, 4_097, 9_000] {
        let newest = if id == 1 { vec!["3 ~ v 1 -> 2"] } else { vec![] };
        let expected = [newest, vec!["2 ~ v 0 -> 1", "1 + 3"]].concat();
        assert_eq!(lines(&world, &device, id).0, expected, "{id}");
    }
}

#[test]
fn of_two_recorders_at_once_each_change_is_recorded_once() {
    let world = World::new();
    let device = changed_at_once(&world, 300);
    let (mut slow, mut fast) = (recorder(&world, 50), recorder(&world, 51));
    let mut asked = 0;
    let done = slow.record(Lsn(0), Lsn(3), &mut || {
        asked += 1;
        // Between its look and its transaction.
        if asked == 3 {
            fast.record(Lsn(0), Lsn(3), &mut || Ok(()))?;
        }
        Ok(())
    });
    assert_eq!(done.unwrap().lost, 1);
    assert_eq!(recorded_rows(&world), 301);
    gc_recording(&world, 1, &mut recorder(&world, 52));
    fresh(&world, &device);
    assert_eq!(lines(&world, &device, 1).0, ["3 ~ v 1 -> 2", "2 ~ v 0 -> 1", "1 + 3"]);
}

#[test]
fn what_was_reclaimed_without_is_a_gap_and_what_is_old_is_deleted() {
    let world = World::new();
    let (device, clock) = timed(&world, 1);
    clock.advance_ms(10_000_000);
    sql(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w); INSERT INTO t VALUES (1, 0, 'a')");
    let update = |n: u64| {
        clock.advance_ms(1_000_000);
        sql(&device, &format!("UPDATE t SET v = {n}"));
    };
    (1..=3).for_each(update);
    gc_recording(&world, 1, &mut recorder(&world, 50));
    (4..=6).for_each(update);
    gc(&world, 1, |_| Ok(())).unwrap();
    (7..=9).for_each(update);
    gc_recording(&world, 1, &mut recorder(&world, 51));
    fresh(&world, &device);
    let (found, end) = lines(&world, &device, 1);
    assert_eq!(found, ["10 ~ v 8 -> 9", "9 ~ v 7 -> 8", "8 ~ v 6 -> 7"]);
    assert_eq!(end, End::Expired { lsn: Lsn(7) });
    let open = |volume| open_record(&world, volume);
    let at = |time| device.site.row_at("t", &[1.into()], time, Some(&open));
    let since = device.site.status().base_time_ms;
    assert_eq!(at(since - 2_500_000).unwrap().row.unwrap()[1].value, 6.into());
    assert_eq!(at(since - 3_500_000).unwrap_err().kind(), ErrorKind::Expired);

    let env: Arc<dyn Env> = clock.clone();
    let tidy = recorder_in(&world, 52, &env);
    tidy.tidy(HistoryRetention { keep_for_ms: 500_000 }, true).unwrap();
    assert_eq!(recorded_rows(&world), 1);
    let (found, end) = lines(&world, &device, 1);
    assert_eq!((found, end), (vec!["10 ~ v 8 -> 9".to_owned()], End::Expired { lsn: Lsn(9) }));
    assert_eq!(at(since - 1_000_000).unwrap().row.unwrap()[1].value, 8.into());
    assert_eq!(at(since - 1_000_001).unwrap_err().kind(), ErrorKind::Expired);
}

/// Run with `SHEAF_TEST_LONG=1` and `--nocapture` for the figures of docs/performance.md.
#[test]
fn a_record_is_smaller_than_the_log_that_it_outlives() {
    let commits = if is_long() { 10_000 } else { 300 };
    for pause_ms in [1_000, 60_000] {
        let world = World::new();
        let (device, clock) = timed(&world, 1);
        let mut rng = Rng::new(1);
        sql(&device, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, w)");
        for n in 0..commits {
            clock.advance_ms(pause_ms);
            let id = rng.below(200);
            let text = format!("a line of text about {id}, as it was at {n}");
            sql(
                &device,
                &format!(
                    "INSERT INTO t VALUES ({id}, {n}, '{text}') ON CONFLICT DO UPDATE SET v = excluded.v, w = excluded.w"
                ),
            );
        }
        let bytes = |prefix: &str| -> u64 {
            let keys = world.objects.list(prefix, None).unwrap();
            keys.iter().map(|key| world.objects.get(key).unwrap().len() as u64).sum()
        };
        let log = bytes(&format!("volumes/{}/", world.ids.volume));
        let begun = SystemEnv.now_ms();
        let mut recorder = recorder(&world, 50);
        let head = world.log().head().unwrap().lsn;
        let done = recorder.record(Lsn(0), head, &mut || Ok(())).unwrap();
        let took = SystemEnv.now_ms() - begun;
        drop(recorder);
        let far = ManualEnv::new(8);
        far.advance_ms(1 << 40);
        let made = find_site(world.objects.as_ref(), &record_name(world.ids.volume)).unwrap();
        let made = made.unwrap();
        let own = BucketRemote::new(objects(&world), made.lineage.clone(), made.page_size);
        let keep = Retention { keep_commits: 1, keep_for_ms: 0, exact: true };
        own.gc(&far, &keep, false, &mut |_: GcStep| Ok(())).unwrap();
        let record = bytes(&format!("volumes/{}/", made.volume()));
        let rows = recorded_rows(&world);
        println!(
            "{commits} commits, one each {pause_ms} ms: log {log} bytes, record {record} bytes in \
             {rows} rows, {} steps in {took} ms",
            done.steps
        );
        assert!(record < log, "{record} {log}");
    }
}

#[test]
fn a_time_is_found_in_what_is_kept_of_a_log() {
    let world = World::new();
    let (device, clock) = timed(&world, 1);
    device.sql("CREATE TABLE t(v INT); INSERT INTO t VALUES (0)");
    device.exchange();
    let mut made = vec![(device.site.base().0, clock.now_ms())];
    for v in 1..=40 {
        // Several in one millisecond, and some far apart.
        clock.advance_ms([0, 1, 7_000][v % 3]);
        device.sql(&format!("UPDATE t SET v = {v}"));
        device.exchange();
        made.push((device.site.base().0, clock.now_ms()));
    }
    let volume = device.site.volume();
    let model = |time: u64, oldest: Lsn| {
        let found = made.iter().rfind(|(_, at)| *at <= time).map_or(Lsn::ZERO, |(lsn, _)| *lsn);
        (found >= oldest).then_some(found)
    };
    for keep in [None, Some(15), Some(1)] {
        if let Some(keep) = keep {
            gc(&world, keep, |_| Ok(())).unwrap();
        }
        let oldest = world.log().boundary().unwrap();
        assert_eq!(oldest > Lsn::ZERO, keep.is_some());
        for time in made.iter().flat_map(|(_, at)| [at - 1, *at, at + 1]) {
            match (volume.lsn_at_time(time), model(time, oldest)) {
                (Ok(found), Some(expected)) => assert_eq!(found, expected, "{time}"),
                (Err(e), None) => assert_eq!(e.kind(), ErrorKind::Expired, "{e}"),
                (found, expected) => panic!("{time}: {found:?}, not {expected:?}"),
            }
        }
    }
}
