//! `kill -9` of the real program at every fault point that a command comes through.
//!
//! Invariant: after each kill the replica opens and verifies clean, the command that was killed
//! can be given again, everybody converges, and each change that a process acknowledged is there
//! exactly once: a ledger has its mark, and a counter agrees with the ledger. The list of points is
//! that of `docs/testing.md`, and the source has no other ones. `SHEAF_TEST_LONG=1` kills at more
//! of the times that a command comes by; builds without assertions cannot be killed this way.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::bed::{Bed, Device, assert_equal, dump};

const SETUP: &str = "CREATE TABLE ledger(mark TEXT PRIMARY KEY NOT NULL, pad TEXT); \
    CREATE TABLE tally(id INTEGER PRIMARY KEY, n COUNTER_INT NOT NULL); \
    INSERT INTO tally VALUES (1, 0)";

/// Whether the counter agrees with the ledger, and how long the ledger is.
const COUNTED: &str = "SELECT n = (SELECT count(*) FROM ledger), n FROM tally";

const WRITES: [&str; 2] = ["store: before log write", "store: before log flush"];
const PUSHES: [&str; 2] = ["push: before append", "push: after append"];
const FOLDS: [&str; 3] =
    ["store: fold before base flush", "store: fold before meta", "store: fold before meta flush"];
const PASSES: [&str; 3] = ["gc: before mark", "gc: after mark", "gc: before delete"];
const FORKS: [&str; 3] = ["fork: before branch", "fork: before hand over", "fork: before give up"];

/// Which times a command comes by a point it is killed at, at most.
fn times() -> u64 {
    if std::env::var("SHEAF_TEST_LONG").is_ok_and(|value| value == "1") { 12 } else { 2 }
}

/// Two devices and a bucket, and what they were told was done.
struct Scene {
    bed: Bed,
    a: Device,
    b: Device,
    url: String,
    acknowledged: u64,
    reached: BTreeSet<&'static str>,
}

impl Scene {
    fn new() -> Self {
        let bed = Bed::new();
        let url = bed.bucket_dir();
        let (a, b) = (bed.device("a", &url), bed.device("b", &url));
        a.run(&["sql", "s", SETUP]).ok();
        b.run(&["clone", "s"]).ok();
        Self { bed, a, b, url, acknowledged: 0, reached: BTreeSet::new() }
    }

    /// A change with a mark of its own, as SQL.
    fn change(&mut self, pad: u32) -> String {
        self.acknowledged += 1;
        format!(
            "BEGIN; INSERT INTO ledger VALUES ('m{}', hex(zeroblob({pad}))); \
             UPDATE tally SET n = n + 1 WHERE id = 1; COMMIT",
            self.acknowledged
        )
    }

    /// Gives a command until it comes through alive, killed at a point later each time. `before`
    /// is done before each, `after` mends and judges after each kill.
    fn kill(
        &mut self,
        points: &[&'static str],
        mut before: impl FnMut(&mut Self),
        command: &[&str],
        mut after: impl FnMut(&mut Self, &str),
    ) {
        for point in points {
            for time in 1..=times() {
                before(self);
                let wish = format!("{point}@{time}");
                let done = self.a.run_until(&wish, command);
                if done.code.is_some() {
                    // What it says of its progress on stderr is no matter.
                    assert_eq!(done.code, Some(0), "{wish}: {done:?}");
                    after(self, "alive");
                    break;
                }
                self.reached.insert(point);
                let sound = self.a.run(&["verify", "s"]);
                assert_eq!(sound.code, Some(0), "{wish}: {sound:?}");
                after(self, &wish);
            }
        }
        let missed: Vec<_> = points.iter().filter(|at| !self.reached.contains(**at)).collect();
        assert!(missed.is_empty(), "{command:?} did not come to {missed:?}");
    }

    /// Everybody talks to everybody, and has all that was acknowledged.
    fn converge(&mut self, wish: &str) {
        self.a.run(&["push", "s"]).ok();
        self.b.run(&["pull", "s"]).ok();
        let expected = format!("1|{}\n", self.acknowledged);
        for device in [&self.a, &self.b] {
            let counted = device.run(&["sql", "s", COUNTED]).ok();
            assert_eq!(counted, expected, "{wish}");
        }
        assert!(self.a.run(&["status", "s"]).ok().contains("pending   0\nrejected  0\n"), "{wish}");
    }

    /// The databases of all devices are equal in the end, of one that is new too.
    fn end(&self) {
        let fresh = self.bed.device("fresh", &self.url);
        fresh.run(&["clone", "s", "--full"]).ok();
        let dumps = [&self.a, &self.b, &fresh].map(|device| {
            let sound = device.run(&["verify", "s", "--full"]);
            assert_eq!(sound.code, Some(0), "{sound:?}");
            let file = device.dir.with_extension("db");
            device.run(&["export", "s", file.to_str().unwrap()]).ok();
            dump(&file)
        });
        assert_equal(&dumps[0], &dumps[1], "a and b");
        assert_equal(&dumps[0], &dumps[2], "a and a new device");
    }
}

#[test]
fn pushes_killed_at_every_fault_point_lose_nothing_and_repeat_nothing() {
    let mut scene = Scene::new();
    let points = [&WRITES[..], &PUSHES[..]].concat();
    let before = |scene: &mut Scene| {
        // Large enough for a segment of its own, and the other device is first.
        let (mine, theirs) = (scene.change(100_000), scene.change(10));
        scene.a.run(&["sql", "s", "--offline", &mine]).ok();
        scene.b.run(&["sql", "s", &theirs]).ok();
    };
    scene.kill(&points, before, &["push", "s"], Scene::converge);
    scene.end();
}

#[test]
fn page_fills_killed_at_every_fault_point_give_the_right_pages_later() {
    let mut scene = Scene::new();
    for _ in 0..8 {
        let change = scene.change(30_000);
        scene.a.run(&["sql", "s", &change]).ok();
    }
    let before = |scene: &mut Scene| {
        scene.a.run(&["evict", "s"]).ok();
        let change = scene.change(10);
        scene.b.run(&["sql", "s", &change]).ok();
    };
    // The first brings what is missing of a small site, the second what it reads.
    scene.kill(&WRITES, before, &["pull", "s"], Scene::converge);
    let read = "SELECT sum(length(pad || 'x')) > 0 FROM ledger";
    scene.reached.clear();
    scene.kill(&WRITES[..1], before, &["sql", "s", read], Scene::converge);
    scene.end();
}

#[test]
fn folds_and_evictions_killed_at_every_fault_point_lose_nothing() {
    let mut scene = Scene::new();
    // Enough for a fold when everything is in the log.
    let large = |scene: &mut Scene| {
        let change = scene.change(600_000);
        scene.a.run(&["sql", "s", "--offline", &change]).ok();
    };
    scene.kill(&FOLDS, large, &["push", "s"], Scene::converge);
    let full = |scene: &mut Scene| {
        scene.a.run(&["sql", "s", "SELECT sum(length(pad || 'x')) FROM ledger"]).ok();
        let change = scene.change(10);
        scene.a.run(&["sql", "s", "--offline", &change]).ok();
    };
    scene.reached.clear();
    scene.kill(&FOLDS, full, &["evict", "s", "--to", "100K"], Scene::converge);
    scene.end();
}

#[test]
fn gc_killed_at_every_fault_point_deletes_nothing_that_is_needed() {
    let mut scene = Scene::new();
    let before = |scene: &mut Scene| {
        for _ in 0..2 {
            let change = scene.change(70_000);
            scene.a.run(&["sql", "s", &change]).ok();
        }
        let change = scene.change(10);
        scene.a.run(&["sql", "s", "--offline", &change]).ok();
    };
    let after = |scene: &mut Scene, wish: &str| {
        scene.converge(wish);
        let sound = scene.b.run(&["verify", "s", "--full"]);
        assert_eq!(sound.code, Some(0), "{wish}: {sound:?}");
    };
    let pass = ["gc", "s", "--keep-for", "0s", "--keep", "1"];
    scene.kill(&PASSES, before, &pass, after);
    assert_eq!(scene.a.run(&pass).code, Some(0));
    scene.end();
}

#[test]
fn forks_killed_at_every_fault_point_keep_every_change_on_one_side() {
    let mut scene = Scene::new();
    let points = [&FORKS[..], &WRITES[..], &PUSHES[..]].concat();
    let before = |scene: &mut Scene| {
        let theirs = scene.change(10);
        scene.b.run(&["sql", "s", &theirs]).ok();
        let mine = "INSERT INTO ledger VALUES ('mine', 'pad'), ('too', NULL)";
        let more = "UPDATE tally SET n = n + 2";
        scene.a.run(&["sql", "s", "--offline", mine, more]).ok();
    };
    let forked = std::cell::Cell::new(0);
    let after = |scene: &mut Scene, wish: &str| {
        // Given again it goes on, or finds everything done.
        scene.a.run(&["reset", "s", "--fork", "mine"]).ok();
        let branch = scene.b.run(&["sql", "mine", COUNTED]).ok();
        let shared = "SELECT count(*) FROM ledger WHERE mark GLOB 'm[0-9]*'";
        let base: u64 = scene.b.run(&["sql", "mine", shared]).ok().trim().parse().unwrap();
        assert_eq!(branch, format!("1|{}\n", base + 2), "{wish}");
        scene.converge(wish);
        // Another name would do as well; this way the command stays the same.
        for device in [&scene.a, &scene.b] {
            remove(&device.dir.join("sites/mine"));
        }
        remove(&scene.bed.path("bucket/sites/mine"));
        forked.set(forked.get() + 1);
    };
    scene.kill(&points, before, &["reset", "s", "--fork", "mine"], after);
    assert!(forked.get() >= points.len());
    scene.end();
}

fn remove(path: &Path) {
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn the_list_of_fault_points_is_that_of_the_source_and_all_are_killed_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/testing.md")).unwrap();
    let section = text.split("## Fault points").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();
    let mut named = BTreeSet::new();
    for area in ["sheaf-volume", "sheaf-site", "sheaf-sync", "sheaf", "sheaf-node", "sheaf-cli"] {
        collect(&root.join("crates").join(area).join("src"), &mut named);
    }
    assert_eq!(listed, named, "docs/testing.md against the source");
    let killed = [&WRITES[..], &PUSHES, &FOLDS, &PASSES, &FORKS].concat();
    let killed: BTreeSet<String> = killed.into_iter().map(str::to_owned).collect();
    assert_eq!(listed, killed, "docs/testing.md against the points of these tests");
}

/// The names of the fault points in the sources below a directory.
fn collect(dir: &Path, named: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        if path.is_dir() {
            collect(&path, named);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for call in ["fault(\"", "reach(\""] {
                let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                named.extend(names.map(str::to_owned));
            }
        }
    }
}
