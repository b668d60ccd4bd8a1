//! `kill -9` of devices and of the node at random moments.
//!
//! Invariant: whatever a process printed as committed is in the site exactly once after everybody
//! has talked to everybody, and a counter that each transaction increments equals the number of
//! rows that those transactions inserted: none was lost, halved or applied twice. Power cuts are
//! left out: the model tests of the local store have those.
//!
//! The moments are drawn from a seed that a failure prints; `SHEAF_TEST_SEED` repeats the draws,
//! though not what the system's scheduler makes of them. `SHEAF_TEST_LONG=1` kills 200 times.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::bed::{Bed, Device, assert_equal, dump, sheaf, spawn_piped};

/// After this long something hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Transactions that one process is given to do, at most.
const LIFE_MAX: u64 = 40;

const SETUP: &str = "CREATE TABLE ledger(id INTEGER PRIMARY KEY, mark TEXT NOT NULL, pad TEXT); \
    CREATE INDEX marks ON ledger(mark); \
    CREATE TABLE tally(id INTEGER PRIMARY KEY, n COUNTER_INT NOT NULL); \
    INSERT INTO tally VALUES (1, 0)";

/// How many processes are killed: each device and the node.
struct Plan {
    seed: u64,
    device: usize,
    node: usize,
}

impl Plan {
    fn new(short: (usize, usize), long: (usize, usize)) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let (device, node) = if number("SHEAF_TEST_LONG") == Some(1) { long } else { short };
        let seed = number("SHEAF_TEST_SEED").unwrap_or_else(some_number);
        Self { seed, device, node }
    }
}

/// The standard library's maps are seeded by the system; nothing else here needs randomness.
fn some_number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// The generator `SplitMix64`.
struct Draw(u64);

impl Draw {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Works for up to so many microseconds, so that what follows comes at no chosen moment.
    fn dally(&mut self, micros: u64) {
        let end = now() + Duration::from_micros(self.below(micros + 1));
        while now() < end {
            std::hint::spin_loop();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "chooses moments to kill at; nothing waits for it")]
fn now() -> Instant {
    Instant::now()
}

/// What the threads of one test share.
struct Field {
    /// Lines that devices have printed.
    lines: Mutex<u64>,
    more: Condvar,
    /// The node has been killed often enough, or its thread has failed.
    node_is_done: AtomicBool,
    device_has_failed: AtomicBool,
    seed: u64,
}

impl Field {
    fn new(seed: u64) -> Self {
        Self {
            lines: Mutex::default(),
            more: Condvar::new(),
            node_is_done: AtomicBool::new(false),
            device_has_failed: AtomicBool::new(false),
            seed,
        }
    }

    fn note_line(&self) {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.more.notify_all();
    }

    /// Waits until the devices have printed so many more lines.
    fn wait_for_lines(&self, count: u64) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = *lines + count;
        let short =
            |lines: &mut u64| *lines < enough && !self.device_has_failed.load(Ordering::SeqCst);
        let waited = self.more.wait_timeout_while(lines, PATIENCE, short);
        let timed = waited.unwrap_or_else(PoisonError::into_inner).1;
        assert!(!timed.timed_out(), "no device makes progress, seed {}", self.seed);
    }
}

/// Sets a flag when dropped, by a failure too.
struct Flag<'f>(&'f Field, &'f AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
        self.0.more.notify_all();
    }
}

/// A node that is killed and started again on the same directory and port.
struct Mortal {
    child: Child,
    data: PathBuf,
    url: String,
}

impl Mortal {
    fn start(data: &Path) -> Self {
        let (child, url) = Self::spawn(data, "127.0.0.1:0").expect("a free port is free");
        Self { child, data: data.to_owned(), url }
    }

    /// `None` if it ended instead of serving.
    fn spawn(data: &Path, listen: &str) -> Option<(Child, String)> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.with_extension("log"))
            .unwrap();
        let mut child = sheaf()
            .args(["serve", "--no-auth", "--listen", listen, "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        if url.is_empty() {
            child.wait().unwrap();
            return None;
        }
        Some((child, url.trim().to_owned()))
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again. Somebody's outgoing connection may have the port for a moment.
    fn revive(&mut self) {
        let listen = self.url.trim_start_matches("http://").to_owned();
        let end = now() + PATIENCE;
        while now() < end {
            if let Some((child, url)) = Self::spawn(&self.data, &listen) {
                assert_eq!(url, self.url);
                self.child = child;
                return;
            }
        }
        panic!("the node does not start again: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap()
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One device: a row of processes, each killed.
struct Writer<'f> {
    device: Device,
    name: &'static str,
    draw: Draw,
    field: &'f Field,
    /// Number of the next mark.
    next: u64,
    /// Marks that a process has printed as committed.
    acknowledged: BTreeSet<String>,
}

impl<'f> Writer<'f> {
    fn new(device: Device, name: &'static str, field: &'f Field) -> Self {
        let salt = u64::from(*name.as_bytes().first().unwrap());
        let draw = Draw(field.seed ^ (salt << 32));
        Self { device, name, draw, field, next: 0, acknowledged: BTreeSet::new() }
    }

    /// One transaction and the line that acknowledges it, on one line.
    fn transaction(&mut self) -> String {
        let mark = format!("{}-{}", self.name, self.next);
        self.next += 1;
        // Most fit beside others on a page; some need pages of their own.
        let pad = if self.draw.below(8) == 0 { 9_000 } else { self.draw.below(200) };
        format!(
            "BEGIN; INSERT INTO ledger(mark, pad) VALUES ('{mark}', hex(zeroblob({pad}))); \
             UPDATE tally SET n = n + 1 WHERE id = 1; COMMIT; \
             SELECT '{mark} ' || count(*) FROM ledger WHERE mark = '{mark}';"
        )
    }

    /// Lives and dies `kills` times, and on until the node has died often enough and there is
    /// something to lose.
    fn run(&mut self, kills: usize) {
        let mut done = 0;
        while done < kills
            || self.acknowledged.is_empty()
            || !self.field.node_is_done.load(Ordering::SeqCst)
        {
            let was_killed =
                if self.draw.below(4) == 0 { self.live_briefly() } else { self.live() };
            done += usize::from(was_killed);
        }
    }

    /// A shell that is killed after some of its lines.
    fn live(&mut self) -> bool {
        let transactions = 1 + self.draw.below(LIFE_MAX);
        let mut script = String::new();
        let mut until_talk = 0;
        for _ in 0..transactions {
            script.push_str(&self.transaction());
            script.push('\n');
            if until_talk == 0 {
                until_talk = self.draw.below(6);
                script.push_str(match self.draw.below(3) {
                    0 => ".push\n",
                    1 => ".pull\n",
                    _ => ".offline off\n",
                });
            } else {
                until_talk -= 1;
            }
        }
        let mut process = Process::spawn(&self.device, &["shell", "s"]);
        let mut input = process.input.take().unwrap();
        // One that could not open the site has ended, and says why on stderr.
        drop(input.write_all(script.as_bytes()));
        let last = self.draw.below(transactions + 1);
        let mut seen = 0;
        while seen < last {
            match process.line() {
                Some(line) => seen += u64::from(self.take(&line)),
                None => break,
            }
        }
        self.draw.dally(if last == 0 { 60_000 } else { 4_000 });
        self.bury(process)
    }

    /// One command that is killed some time after its start.
    fn live_briefly(&mut self) -> bool {
        let sql: Vec<String> = (0..=self.draw.below(3)).map(|_| self.transaction()).collect();
        let mut process = Process::spawn(&self.device, &["sql", "s", &sql.concat()]);
        if self.draw.below(2) == 0
            && let Some(line) = process.line()
        {
            self.take(&line);
        }
        self.draw.dally(60_000);
        self.bury(process)
    }

    /// Kills a process and reads what it had printed; whether it had not ended by itself before.
    fn bury(&mut self, mut process: Process) -> bool {
        process.child.kill().unwrap();
        while let Some(line) = process.line() {
            self.take(&line);
        }
        let (said, was_killed) = process.end();
        // The last line may have been cut short by the kill.
        for line in said.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let expected = line.contains("could not be reached");
            assert!(expected, "seed {}: {} said {line}", self.field.seed, self.name);
        }
        was_killed
    }

    /// Whether a line acknowledges a transaction.
    fn take(&mut self, line: &str) -> bool {
        self.field.note_line();
        // What an exchange prints has a comma or a semicolon in it.
        let Some((mark, count)) = line.split_once(' ').filter(|(mark, _)| mark.contains('-'))
        else {
            return false;
        };
        assert_eq!(count, "1", "seed {}: {mark} is not there once", self.field.seed);
        assert!(self.acknowledged.insert(mark.to_owned()));
        true
    }
}

/// A process whose lines are read as they come.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    reader: thread::JoinHandle<()>,
}

impl Process {
    fn spawn(device: &Device, args: &[&str]) -> Self {
        let mut child = spawn_piped(&mut device.command(args));
        let (input, out) = (child.stdin.take(), child.stdout.take().unwrap());
        let (send, lines) = channel();
        let read = move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        };
        let reader = thread::Builder::new().spawn(read).unwrap();
        Self { child, input, lines, reader }
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                drop(self.child.kill());
                panic!("a process hangs");
            }
        }
    }

    /// What it wrote to stderr, and whether a signal ended it.
    fn end(mut self) -> (String, bool) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        (said, status.code().is_none())
    }
}

/// Lets two devices write, killing them and the node, then compares what is left with the ledger.
fn endure(bed: &Bed, server: &str, mut node: Option<&mut Mortal>, plan: &Plan) {
    let field = Field::new(plan.seed);
    let device = |name| bed.device(name, server);
    device("a").run(&["sql", "s", SETUP]).ok();
    device("b").run(&["clone", "s"]).ok();
    let mut writers =
        [("a", &field), ("b", &field)].map(|(name, field)| Writer::new(device(name), name, field));
    thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| {
                let failed = Flag(&field, &field.device_has_failed);
                writer.run(plan.device);
                // Only a failure sets it.
                std::mem::forget(failed);
            });
        }
        let done = Flag(&field, &field.node_is_done);
        let mut draw = Draw(plan.seed);
        for _ in 0..plan.node {
            let node = node.as_mut().expect("there is a node to kill");
            field.wait_for_lines(1 + draw.below(30));
            draw.dally(5_000);
            node.kill();
            // Devices go on without it for a while.
            draw.dally(30_000);
            node.revive();
        }
        drop(done);
    });
    let said = node.map_or_else(String::new, |node| node.log());
    assert!(!said.contains("panic"), "seed {}: {said}", plan.seed);
    check(bed, server, &writers, plan.seed);
}

/// Everybody talks to everybody; then all must agree with each other and with the ledger.
fn check(bed: &Bed, server: &str, writers: &[Writer<'_>], seed: u64) {
    for command in ["push", "push", "pull"] {
        for writer in writers {
            let done = writer.device.run(&[command, "s"]);
            assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "seed {seed}: {done:?}");
        }
    }
    let fresh = bed.device("fresh", server);
    fresh.run(&["clone", "s", "--full"]).ok();
    let devices = writers.iter().map(|writer| &writer.device).chain([&fresh]);
    let dumps: Vec<String> = devices
        .enumerate()
        .map(|(number, device)| {
            let status = device.run(&["status", "s"]).ok();
            assert!(status.contains("pending   0\nrejected  0\n"), "seed {seed}: {status}");
            let sound = device.run(&["sql", "--offline", "s", "PRAGMA integrity_check"]).ok();
            assert_eq!(sound, "ok\n", "seed {seed}");
            let file = bed.path(&format!("{seed}-{number}.db"));
            device.run(&["export", "s", file.to_str().unwrap()]).ok();
            dump(&file)
        })
        .collect();
    for pair in dumps.windows(2) {
        assert_equal(&pair[0], &pair[1], &format!("seed {seed}"));
    }
    let read = |sql: &str| fresh.run(&["sql", "--offline", "s", sql]).ok();
    let rows: Vec<String> = read("SELECT mark FROM ledger").lines().map(str::to_owned).collect();
    let marks: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), marks.len(), "seed {seed}: a transaction is there twice");
    for writer in writers {
        let lost: Vec<_> = writer.acknowledged.difference(&marks).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?} were acknowledged and are lost");
    }
    let counted = read("SELECT n FROM tally");
    assert_eq!(counted.trim(), rows.len().to_string(), "seed {seed}: the counter is wrong");
}

#[test]
fn killed_devices_and_nodes_lose_nothing_and_repeat_nothing() {
    let bed = Bed::new();
    let plan = Plan::new((4, 3), (70, 60));
    let mut node = Mortal::start(&bed.path("node"));
    let url = node.url.clone();
    endure(&bed, &url, Some(&mut node), &plan);
}

#[test]
fn killed_devices_that_share_a_bucket_lose_nothing_and_repeat_nothing() {
    let bed = Bed::new();
    let plan = Plan::new((3, 0), (40, 0));
    let url = bed.bucket_dir();
    endure(&bed, &url, None, &plan);
}
