//! Two devices and a bucket in memory, in one thread.

use std::ops::Range;

use bytes::Bytes;
use sheaf_site::{SiteOptions, View, from_sqlite};
use sheaf_volume::{DeviceId, ManualEnv, MemDir, MemObjects, Meter, ObjectsError};

use super::*;

struct Device {
    site: Site,
    env: Arc<ManualEnv>,
    events: Events,
    driver: BucketDriver,
}

fn device<O: Objects + 'static>(n: u8, objects: &Arc<O>) -> Device {
    let env = Arc::new(ManualEnv::new(n.into()));
    let options = SiteOptions::new("todo", DeviceId::from_bytes([n; 16]));
    let site = Site::open(&MemDir::new(), env.clone(), options).unwrap();
    let events = Events::default();
    let objects: Arc<dyn Objects> = objects.clone();
    let driver = BucketDriver::new("memory:", site.clone(), objects, env.clone(), events.clone());
    Device { site, env, events, driver }
}

impl Device {
    fn exec(&self, sql: &str) {
        self.site.write(|tx| tx.execute_batch(sql).map_err(from_sqlite)).unwrap();
    }

    fn count(&self) -> i64 {
        let count = "SELECT count(*) FROM todo";
        let read = |conn: &rusqlite::Connection| {
            conn.query_row(count, [], |row| row.get(0)).map_err(from_sqlite)
        };
        self.site.read(View::Global, read).unwrap()
    }
}

#[test]
fn turns_of_two_devices_converge_and_tell_what_came() {
    let objects = Arc::new(MemObjects::new());
    let (mut a, mut b) = (device(1, &objects), device(2, &objects));
    a.env.advance_ms(5);
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY, what TEXT)");
    a.exec("INSERT INTO todo(id, what) VALUES (1, 'milk')");
    assert_soon(a.driver.turn());
    let record = find_site(objects.as_ref(), "todo").unwrap().unwrap();
    assert_eq!(record.created_ms, a.env.now_ms(), "the time is the environment's");
    b.driver.turn();
    b.exec("INSERT INTO todo(id, what) VALUES (2, 'bread')");
    b.driver.turn();
    a.driver.turn();
    assert_eq!((a.count(), b.count(), a.site.base()), (2, 2, b.site.base()));
    let told = |device: &Device| {
        let mut events = std::iter::from_fn(|| device.events.try_next());
        assert!(matches!(events.next(), Some(Event::Online { .. })), "told first, and once");
        let changed = events.map(|event| match event {
            Event::Changed { commits, confirmed, .. } => (commits, confirmed),
            other => panic!("{other:?}"),
        });
        changed.collect::<Vec<_>>()
    };
    assert_eq!(told(&a), [(0, 2), (1, 0)]);
    assert!(told(&b).contains(&(0, 1)));
}

#[test]
fn an_exchange_that_was_asked_for_tells_what_it_changed_too() {
    let objects = Arc::new(MemObjects::new());
    let (mut a, mut b) = (device(1, &objects), device(2, &objects));
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY, v, w)");
    a.exec("INSERT INTO todo VALUES (1, 0, 0), (2, 0, 0)");
    a.driver.exchange(Ask::EVERYTHING).unwrap();
    b.driver.exchange(Ask::EVERYTHING).unwrap();
    let events = |device: &Device| -> Vec<Event> {
        std::iter::from_fn(|| device.events.try_next()).collect()
    };
    let of_a = events(&a);
    assert!(
        matches!(&of_a[..], [Event::Online { .. }, Event::Changed { confirmed: 2, .. }]),
        "{of_a:?}"
    );
    events(&b);
    a.exec("UPDATE todo SET v = 1 WHERE id = 1");
    b.exec("UPDATE todo SET v = 2, w = 2");
    a.driver.exchange(Ask::EVERYTHING).unwrap();
    let tally = b.driver.exchange(Ask::EVERYTHING).unwrap();
    let [(1, ops)] = &tally.merges[..] else { panic!("{tally:?}") };
    assert_eq!(ops.stands.iter().collect::<Vec<_>>(), [false, true]);
    assert_eq!(ops.altered[0].summary, "update todo 1 (v, w)");
    let of_b = events(&b);
    let [Event::Merged { seq: 1, ops: told, .. }, Event::Changed { commits: 1, .. }] = &of_b[..]
    else {
        panic!("{of_b:?}")
    };
    assert_eq!(told, ops);
}

/// A store that can be switched off.
#[derive(Debug)]
struct Switched {
    objects: MemObjects,
    is_off: std::sync::atomic::AtomicBool,
}

impl Switched {
    fn reached(&self) -> Result<&MemObjects, ObjectsError> {
        match self.is_off.load(std::sync::atomic::Ordering::Relaxed) {
            true => Err(ObjectsError::Unavailable("switched off".into())),
            false => Ok(&self.objects),
        }
    }
}

impl Objects for Switched {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.reached()?.get(key)
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        self.objects.get_ranges(wants)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.reached()?.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.reached()?.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.reached()?.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.reached()?.delete(key)
    }
}

#[test]
fn a_bucket_that_comes_and_goes_is_told_once_each_time() {
    let is_off = std::sync::atomic::AtomicBool::new(false);
    let objects = Arc::new(Switched { objects: MemObjects::new(), is_off });
    let mut a = device(1, &objects);
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY)");
    let mut told = Vec::new();
    for off in [false, true, false] {
        objects.is_off.store(off, std::sync::atomic::Ordering::Relaxed);
        for _ in 0..3 {
            a.driver.turn();
        }
        told.extend(std::iter::from_fn(|| a.events.try_next()).filter_map(|event| match event {
            Event::Online { .. } => Some("online"),
            Event::Offline { .. } => Some("offline"),
            _ => None,
        }));
    }
    assert_eq!(told, ["online", "offline", "online"]);
}

#[test]
fn a_question_is_told_once() {
    let objects = Arc::new(MemObjects::new());
    let (mut a, mut b) = (device(1, &objects), device(2, &objects));
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY)");
    a.driver.turn();
    b.driver.turn();
    a.exec("SELECT sheaf_lock('door', 0, 'reject'); INSERT INTO todo VALUES (1)");
    b.exec("SELECT sheaf_lock('door', 0, 'ask'); INSERT INTO todo VALUES (2)");
    a.driver.turn();
    for _ in 0..3 {
        b.driver.turn();
    }
    let asks: Vec<u64> = std::iter::from_fn(|| b.events.try_next())
        .filter_map(|event| match event {
            Event::Asks { seq, reason, .. } => {
                assert!(reason.contains("door"), "{reason}");
                Some(seq)
            }
            _ => None,
        })
        .collect();
    assert_eq!(asks, [1]);
}

#[test]
fn the_pause_grows_while_nothing_happens_and_falls_back_when_something_does() {
    let objects = Arc::new(MemObjects::new());
    let mut a = device(1, &objects);
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY)");
    assert_soon(a.driver.turn());
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let jittered = a.driver.turn();
        let pause = a.driver.pause;
        assert!((pause / 2..=pause).contains(&jittered), "{jittered:?} of {pause:?}");
        pauses.push(pause);
    }
    assert_eq!(pauses[0], limits::POLL_MIN * 3 / 2);
    assert!(pauses.is_sorted() && pauses[11] == limits::POLL_MAX, "{pauses:?}");
    a.exec("INSERT INTO todo(id) VALUES (1)");
    assert_soon(a.driver.turn());
}

fn assert_soon(pause: Duration) {
    assert!((limits::POLL_MIN / 2..=limits::POLL_MIN).contains(&pause), "{pause:?}");
}

fn counted() -> Arc<Meter> {
    Arc::new(Meter::over(Arc::new(MemObjects::new())))
}

/// A store whose listings lack what was stored last.
#[derive(Debug)]
struct OldLists(Arc<MemObjects>);

impl Objects for OldLists {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.0.get(key)
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        self.0.get_ranges(wants)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.0.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.0.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        let mut keys = self.0.list(prefix, after)?;
        keys.pop();
        Ok(keys)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.0.delete(key)
    }
}

/// Whoever comes anew looks for news after the opening, which rests on listings.
#[test]
fn an_old_list_opens_no_old_state() {
    let objects = Arc::new(MemObjects::new());
    let mut a = device(1, &objects);
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY, what TEXT)");
    a.driver.turn();
    a.exec("INSERT INTO todo(what) VALUES ('milk')");
    a.driver.turn();
    let mut b = device(2, &Arc::new(OldLists(objects)));
    b.driver.exchange(Ask { pull: true, push: false, create: false }).unwrap();
    assert_eq!((b.site.base(), b.count()), (a.site.base(), 1));
}

#[test]
fn an_idle_turn_is_one_request_also_after_a_change() {
    let objects = counted();
    let (mut a, mut b) = (device(1, &objects), device(2, &objects));
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY, what TEXT)");
    a.driver.turn();
    b.driver.turn();
    for _ in 0..3 {
        for n in 0..10 {
            objects.take();
            b.driver.turn();
            assert_eq!(objects.take().requests, 1, "idle turn {n}");
        }
        a.exec("INSERT INTO todo(what) VALUES ('bread')");
        a.driver.turn();
        objects.take();
        b.driver.turn();
        let requests = objects.take().requests;
        // Two to look, one to read, one for the boundary.
        assert!(requests <= 4, "{requests} requests for one commit");
        assert_eq!(a.site.base(), b.site.base());
    }
}

#[test]
fn a_site_that_may_not_be_created_is_not_found() {
    let objects = Arc::new(MemObjects::new());
    let mut a = device(1, &objects);
    let pull = Ask { pull: true, push: false, create: false };
    assert_eq!(a.driver.exchange(pull).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!a.driver.is_reachable());
    a.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY)");
    let tally = a.driver.exchange(Ask::EVERYTHING).unwrap();
    assert_eq!((tally.pushed, tally.confirmed), (1, 1));
    assert!(a.driver.is_reachable());
    assert_eq!(a.driver.exchange(pull).unwrap(), Tally::default());
}
