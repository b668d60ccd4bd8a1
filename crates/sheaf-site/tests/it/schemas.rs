//! Schema changes that lose a race or cannot be appended: SQLite must never take a schema that it
//! has kept in memory for another one that has the same number.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sheaf_volume::{BucketRemote, ErrorKind, MemObjects, Objects, ObjectsError};

use crate::support::{Device, World, assert_converged};

/// What happens right before a log object is created.
type Before = Box<dyn FnOnce() -> Result<(), ObjectsError> + Send>;

/// A bucket in which something happens right before the next append.
#[derive(Clone)]
struct Interrupted {
    objects: Arc<MemObjects>,
    before: Arc<Mutex<Option<Before>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Objects for Interrupted {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.objects.get(key)
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        self.objects.get_ranges(wants)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.objects.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let before = self.before.lock().unwrap().take_if(|_| key.contains("/log/"));
        before.map_or(Ok(()), |before| before())?;
        self.objects.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.objects.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.objects.delete(key)
    }
}

/// A log for `device` before whose next append `before` happens.
fn interrupted(world: &World, before: Before) -> BucketRemote {
    let objects = Interrupted {
        objects: Arc::clone(&world.objects),
        before: Arc::new(Mutex::new(Some(before))),
    };
    BucketRemote::new(Arc::new(objects), world.ids.volume, world.ids.page_size)
}

fn two_devices(world: &World) -> (Device, Device) {
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    a.exchange();
    b.exchange();
    a.sql("CREATE TABLE x(id INTEGER PRIMARY KEY, v); INSERT INTO x VALUES (1, 'x')");
    b.sql("CREATE TABLE y(w TEXT, id INT PRIMARY KEY); INSERT INTO y VALUES ('y', 1), ('y', 2)");
    (a, b)
}

fn both_hold_both(a: &Device, b: &Device) {
    b.exchange();
    a.exchange();
    for device in [a, b] {
        assert_eq!(device.local("SELECT * FROM x"), "1|x");
        assert_eq!(device.local("SELECT * FROM y"), "y|1;y|2");
        device.sql("INSERT INTO x(v) VALUES ('more'); INSERT INTO y VALUES ('more', 9)");
        device.sql("DELETE FROM x WHERE v = 'more'; DELETE FROM y WHERE id = 9");
        device.exchange();
    }
    a.exchange();
    assert_converged(&[a, b]);
}

#[test]
fn a_lost_race_with_two_schema_changes() {
    let world = World::new();
    let (a, b) = two_devices(&world);
    let b_site = b.site.clone();
    let b_log = Arc::clone(&b.log);
    let log = interrupted(
        &world,
        Box::new(move || {
            b_site.exchange_with_log(&*b_log).unwrap();
            Ok(())
        }),
    );
    let done = a.site.exchange_with_log(&log).unwrap();
    assert_eq!((done.pulled, done.rejected.len()), (1, 0), "{done:?}");
    both_hold_both(&a, &b);
}

#[test]
fn an_append_that_failed_and_a_schema_change_of_another_device() {
    let world = World::new();
    let (a, b) = two_devices(&world);
    let gone = || Err(ObjectsError::Unavailable("the network is gone".into()));
    let log = interrupted(&world, Box::new(gone));
    let error = a.site.exchange_with_log(&log).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(a.local("SELECT * FROM x"), "1|x");
    b.exchange();
    let done = a.exchange();
    assert!(done.rejected.is_empty(), "{done:?}");
    both_hold_both(&a, &b);
}

#[test]
fn a_commit_that_was_refused_and_another_with_the_same_schema_number() {
    let world = World::new();
    let a = world.device();
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE u(v)");
    let conn = a.site.connection(sheaf_site::View::Local).unwrap();
    a.dir.set_capacity(Some(a.dir.used()));
    conn.execute_batch("CREATE TABLE x(big)").unwrap_err();
    a.dir.set_capacity(None);
    conn.execute_batch("DROP TABLE u").unwrap();
    conn.execute_batch("INSERT INTO t VALUES (1, 1)").unwrap();
    a.exchange();
    assert_converged(&[&a]);
    assert_eq!(a.local("SELECT name FROM sqlite_schema WHERE name IN ('t', 'u', 'x')"), "t");
}

/// Sheaf's own tables are nobody else's: the log refuses, and so does the device before it.
#[test]
fn what_the_log_would_refuse_is_refused_at_once() {
    let [a, b] = World::new().devices("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
    a.sql("INSERT INTO t VALUES (1, 'a')");
    for sql in [
        "CREATE TRIGGER z BEFORE UPDATE ON __sheaf_timelines BEGIN SELECT RAISE(ABORT, 'x'); END",
        "CREATE TRIGGER z AFTER INSERT ON t BEGIN UPDATE __sheaf_timelines SET seq = 9; END",
        "CREATE UNIQUE INDEX u ON __sheaf_timelines(1)",
        "CREATE TABLE __sheaf_remap(a)",
        "DROP TABLE __sheaf_timelines",
    ] {
        let pending = a.site.status().pending.len();
        let error = a.try_sql(sql).unwrap_err();
        assert!(error.contains("tables of sheaf itself cannot be changed"), "{sql}: {error}");
        assert_eq!(a.site.status().pending.len(), pending, "{sql}");
    }
    // What Sheaf makes itself, and what only reads it, goes through.
    a.sql("SELECT sheaf_merge_rule('t', 'v', 'mvr'); SELECT sheaf_lock('q')");
    a.sql("CREATE VIEW declared AS SELECT * FROM __sheaf_rules");
    a.sql("BEGIN; SELECT sheaf_lock('q'); UPDATE t SET v = 'x'; COMMIT");
    b.sql("INSERT INTO t VALUES (2, 'b')");
    assert_eq!(a.exchange().rejected, []);
    assert_eq!(b.exchange().rejected, []);
    a.exchange();
    assert_eq!(b.local("SELECT count(*) FROM declared"), "1");
    assert_converged(&[&a, &b]);
}
