//! Kills and power cuts at every kind of moment.
//!
//! While a device works and exchanges, images of it are taken at the fault points inside its
//! commits, rebases, pushes and folds, each with the bucket as it was then. Every image must open,
//! hold every acknowledged operation once, and converge with the others: a counter and a ledger
//! with one row per operation must agree everywhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sheaf_site::View;
use sheaf_volume::{Env, ManualEnv, MemDir, MemObjects, Objects};

use crate::support::{Device, Rng, World, assert_converged, is_long, try_rows};

const DEVICE: u64 = 1;

/// A device and its bucket at one moment.
struct Image {
    point: &'static str,
    dir: MemDir,
    objects: Arc<MemObjects>,
    /// Operations acknowledged before it.
    acknowledged: u64,
    /// Operations begun before it.
    begun: u64,
}

/// An environment that takes images at its fault points.
#[derive(Debug)]
struct Camera {
    inner: ManualEnv,
    dir: MemDir,
    objects: Arc<MemObjects>,
    state: Mutex<(Rng, Vec<Image>)>,
    percent: usize,
    begun: AtomicU64,
    acknowledged: AtomicU64,
    /// Those of them that were flushed.
    durable: AtomicU64,
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.point)
    }
}

impl Camera {
    fn shoot(&self, point: &'static str) {
        let mut state = self.state.lock().unwrap();
        // Folds are rare.
        let percent = if point.contains("fold") { 60 } else { self.percent };
        if !state.0.chance(percent) {
            return;
        }
        let is_cut = state.0.chance(50);
        let objects = Arc::new(MemObjects::new());
        for key in self.objects.list("", None).unwrap() {
            objects.put(&key, self.objects.get(&key).unwrap()).unwrap();
        }
        let counted = if is_cut { &self.durable } else { &self.acknowledged };
        state.1.push(Image {
            point,
            dir: if is_cut { self.dir.crash() } else { self.dir.fork() },
            objects,
            acknowledged: counted.load(Ordering::Relaxed),
            begun: self.begun.load(Ordering::Relaxed),
        });
    }
}

impl Env for Camera {
    fn now_ms(&self) -> u64 {
        self.inner.now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.inner.fill_random(bytes);
    }

    fn fault(&self, point: &'static str) -> std::io::Result<()> {
        self.shoot(point);
        Ok(())
    }
}

/// One operation: counts itself, and leaves a row that names it.
fn operation(device: &Device, name: &str) {
    device.sql(&format!(
        "BEGIN; UPDATE ledger SET n = n + 1 WHERE id = 1; INSERT INTO done VALUES ('{name}'); COMMIT;"
    ));
}

fn work(seed: u64, rounds: usize, percent: usize) -> (World, Vec<Image>) {
    let world = World::new();
    let b = world.open(MemDir::new(), 2);
    b.sql(
        "CREATE TABLE ledger(id INTEGER PRIMARY KEY, n COUNTER_INT);
         CREATE TABLE done(name TEXT PRIMARY KEY NOT NULL); INSERT INTO ledger VALUES (1, 0);",
    );
    b.exchange();
    let dir = MemDir::new();
    let camera = Arc::new(Camera {
        inner: ManualEnv::new(seed),
        dir: dir.clone(),
        objects: Arc::clone(&world.objects),
        state: Mutex::new((Rng::new(seed), Vec::new())),
        percent,
        begun: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        durable: AtomicU64::new(0),
    });
    // Set up without images.
    let a = world.try_reopen(dir, DEVICE, Arc::clone(&camera) as Arc<dyn Env>).unwrap();
    a.exchange();
    a.site.volume().flush().unwrap();
    camera.state.lock().unwrap().1.clear();
    let camera = &camera;
    let mut rng = Rng::new(seed + 7);
    for round in 0..rounds {
        let begun = camera.begun.fetch_add(1, Ordering::Relaxed) + 1;
        operation(&a, &format!("a{begun:04}"));
        camera.acknowledged.store(begun, Ordering::Relaxed);
        if rng.chance(30) {
            a.site.volume().flush().unwrap();
            camera.durable.store(begun, Ordering::Relaxed);
        }
        if rng.chance(30) {
            operation(&b, &format!("b{round:04}"));
        }
        if rng.chance(30) {
            b.exchange();
        }
        if rng.chance(40) {
            a.exchange();
            camera.durable.store(begun, Ordering::Relaxed);
        }
        if rng.chance(5) {
            let writer = a.site.volume().writer();
            a.site.volume().checkpoint(&writer).unwrap();
            drop(writer);
            camera.durable.store(begun, Ordering::Relaxed);
        }
        if rng.chance(percent) {
            camera.shoot("between");
        }
    }
    a.exchange();
    b.exchange();
    a.exchange();
    agree(&[&a, &b]);
    let images = std::mem::take(&mut camera.state.lock().unwrap().1);
    (world, images)
}

/// The counter and the ledger agree, on every device alike.
fn agree(devices: &[&Device]) {
    for device in devices {
        let sums = device.local(
            "SELECT n = (SELECT count(*) FROM done), (SELECT count(*) FROM done) > 0 FROM ledger",
        );
        assert!(sums == "1|1" || sums == "1|0", "{sums}: {}", device.local("SELECT n FROM ledger"));
    }
    assert_converged(devices);
}

fn check(world: &World, image: Image, seed: u64) {
    let Image { point, dir, objects, acknowledged, begun } = image;
    let what = format!("seed {seed}, {point}, {acknowledged} of {begun} operations acknowledged");
    let world = World { objects, ..world.copy() };
    let env = Arc::new(ManualEnv::new(seed + 0x0100_0000));
    let image = world.try_reopen(dir, DEVICE, env).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let own = "SELECT name FROM done WHERE name LIKE 'a%' ORDER BY name";
    let holds = |device: &Device| {
        let found = try_rows(device, View::Local, own).unwrap_or_else(|e| panic!("{what}: {e:?}"));
        let expected: Vec<_> = (1..=found.len())
            .map(|at| format!("Text({:?})", format!("a{at:04}").as_bytes()))
            .collect();
        assert!(found == expected, "{what}: {found:?}");
        let count = found.len() as u64;
        assert!((acknowledged..=begun).contains(&count), "{what}: holds {count}");
        count
    };
    let count = holds(&image);
    operation(&image, "later");
    image.exchange();
    let b = world.device();
    b.exchange();
    assert_eq!(holds(&b), count, "{what}: exactly what the image held");
    assert_eq!(b.local("SELECT count(*) FROM done WHERE name = 'later'"), "1", "{what}");
    agree(&[&image, &b]);
}

#[test]
fn kills_and_power_cuts_lose_nothing_acknowledged_and_apply_nothing_twice() {
    let (seeds, wanted) = if is_long() { (0..12, 300) } else { (0..1, 25) };
    let (mut points, mut all) = (BTreeMap::<&str, usize>::new(), 0);
    for seed in seeds {
        let (world, images) = work(seed, 60, 10);
        let keep = if is_long() { 1 } else { images.len().div_ceil(30).max(1) };
        for (at, image) in images.into_iter().enumerate().filter(|(at, _)| at % keep == 0) {
            *points.entry(image.point).or_default() += 1;
            all += 1;
            check(&world, image, seed * 10_000 + at as u64);
        }
    }
    println!("{all} images: {points:#?}");
    assert!(all >= wanted, "only {all} images were taken");
}
