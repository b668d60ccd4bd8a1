//! How much memory the program takes for a large site: import, push, clone, reading it, and one
//! transaction that rewrites a quarter of it, over a bucket and over a node.
//!
//! Invariant: no process takes more than [`ABOVE_IDLE`] beyond one that does next to nothing,
//! whatever the size of the site; only a transaction takes more, by what it changes. A binary of
//! its own, because the system counts the memory of all children of a process together.
//! `SHEAF_TEST_LONG=1` takes 2 GiB of rows (and 24 GiB of disk); the short form is as much as fits
//! into the bound and only keeps the steps alive. Linux only.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unsafe_code, reason = "what children took is told by a C function")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const MIB: u64 = 1 << 20;
/// Bytes of memory that any step may take beyond an idle process.
const ABOVE_IDLE: u64 = 128 * MIB;
/// Bytes that a transaction takes for each row that it changes: capture and replay hold what the
/// row lost.
const CHANGED_ROW: u64 = 2_048;
/// Rows of a page each.
const ROWS: u64 = 8_192;
const ROWS_LONG: u64 = 524_288;
/// The most that a command waits for its server.
const PATIENCE: &str = "3600";

fn sheaf(dir: &Path, server: &str, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sheaf"));
    command.args(args).arg("--dir").arg(dir).args(["--server", server]);
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The most that any child took that has ended so far, in bytes.
fn taken() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the place is one for this structure, which may be all zeros, and outlives the call.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    u64::try_from(usage.ru_maxrss).unwrap() * 1024
}

/// A node, killed when dropped.
struct Node {
    child: Child,
    url: String,
}

impl Node {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sheaf"));
        command.args(["serve", "--no-auth", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }

    /// The most that it took so far, in bytes.
    fn taken(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn make_database(path: &Path, rows: u64) {
    let conn = rusqlite::Connection::open(path).unwrap();
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
         CREATE TABLE t(id INTEGER PRIMARY KEY, x INTEGER NOT NULL, body BLOB);
         INSERT INTO t
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         SELECT i, 0, randomblob(3600) FROM n;"
    ))
    .unwrap();
}

/// Runs each step, and says what the largest process of all so far took.
fn run(server: &str, steps: &[(&Path, &[&str])]) {
    for (dir, args) in steps {
        sheaf(dir, server, args);
        eprintln!("{:>6} MiB at most after {}", taken() / MIB, args.join(" "));
    }
}

/// A site and the two devices that share it over one server.
struct Pair {
    here: PathBuf,
    there: PathBuf,
    server: String,
}

impl Pair {
    fn new(root: &Path, server: &str) -> Self {
        Self { here: root.join("here"), there: root.join("there"), server: server.to_owned() }
    }

    /// The whole site, from a file to the other device.
    fn travel(&self, database: &Path) {
        run(
            &self.server,
            &[
                (&self.here, &["import", database.to_str().unwrap(), "big", "--offline"]),
                (&self.here, &["push", "big", "--timeout", PATIENCE]),
                (&self.there, &["clone", "big", "--full", "--timeout", PATIENCE]),
                (&self.there, &["sql", "big", "SELECT sum(length(body)) FROM t", "--offline"]),
            ],
        );
    }

    /// One transaction that changes the page of each of these rows.
    fn rewrite(&self, rows: u64) {
        let update = format!("UPDATE t SET x = x + 1 WHERE id <= {rows}");
        run(
            &self.server,
            &[
                (&self.here, &["sql", "big", &update, "--timeout", PATIENCE]),
                (&self.here, &["push", "big", "--timeout", PATIENCE]),
                (&self.there, &["pull", "big", "--timeout", PATIENCE]),
                (&self.there, &["sql", "big", "SELECT sum(x) FROM t", "--timeout", PATIENCE]),
            ],
        );
    }
}

#[test]
fn no_process_takes_more_memory_for_a_larger_site() {
    let is_long = std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1");
    let rows = if is_long { ROWS_LONG } else { ROWS };
    let root = tempfile::tempdir().unwrap();
    let database = root.path().join("big.db");
    make_database(&database, rows);
    let bucket = format!("file://{}", root.path().join("bucket").display());
    let node = Node::start(&root.path().join("node"));
    let idle_node = node.taken();
    let pairs = [
        Pair::new(&root.path().join("bucket-devices"), &bucket),
        Pair::new(&root.path().join("node-devices"), &node.url),
    ];
    run(&bucket, &[(&pairs[0].here, &["sql", "small", "CREATE TABLE t(a)"])]);
    let idle = taken();
    let check = |max: u64| {
        let above = (taken() - idle, node.taken() - idle_node);
        eprintln!("above idle: a device {} MiB, the node {} MiB", above.0 / MIB, above.1 / MIB);
        assert!(above.0 < max && above.1 < max, "bytes above idle: {above:?}, at most {max}");
    };
    pairs.iter().for_each(|pair| pair.travel(&database));
    check(ABOVE_IDLE);
    pairs.iter().for_each(|pair| pair.rewrite(rows / 4));
    check(ABOVE_IDLE + rows / 4 * CHANGED_ROW);
}
