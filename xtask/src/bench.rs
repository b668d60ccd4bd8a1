//! `cargo xtask bench`: Sheaf beside plain SQLite in WAL mode, in one run, as ratios.
//!
//! Both engines run the same statements through the same library on the same disk, in turns, with
//! equal durability (`synchronous = NORMAL`). CPU time is of this process, kernel included, and is
//! the steadier figure. The rows about the network use a real node on loopback.

#![expect(clippy::disallowed_methods, reason = "measuring is reading a clock")]
#![expect(clippy::print_stdout, reason = "the table is what this command is for")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sheaf::rusqlite::{Connection, params};
use sheaf::{Client, ClientOptions, Site, View};

use crate::s3;

mod commits;
mod merges;
mod network;
mod pages;

const ACCOUNTS: i64 = 100_000;
const SITE: &str = "bench";
const TIMEOUT: Duration = Duration::from_secs(60);
/// A transaction that a site takes whole: its rows must fit one push.
const ROWS_PER_TRANSACTION: i64 = 50_000;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds of each measurement; the median is reported
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows of the bulk load
    #[arg(long, default_value_t = 1_000_000)]
    rows: i64,
    /// Only measurements whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Measures commits on an S3 server too, which is installed below `target/` when it is not
    #[arg(long)]
    s3: bool,
    /// Directory on the disk to measure; a new one inside it is used and removed
    #[arg(long, value_name = "DIR", default_value = "target")]
    dir: std::path::PathBuf,
}

/// One measured quantity of one engine.
#[derive(Clone, Copy, Default)]
struct Sample {
    per_second: f64,
    cpu_us: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) || (args.s3 && std::env::var_os(commits::STORE).is_none()) {
        return rerun_released(args);
    }
    std::fs::create_dir_all(&args.dir)?;
    let dir = tempfile::tempdir_in(&args.dir)?;
    println!("load {}; {} rounds, median", load(), args.rounds);
    println!("| measurement | SQLite WAL | Sheaf | ratio |");
    println!("|---|---:|---:|---:|");
    engines(args, dir.path())?;
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if wanted("merges") {
        merges::run()?;
    }
    if wanted("network") {
        network::run(dir.path())?;
    }
    if wanted("pages fetched") {
        pages::run(&dir.path().join("pages"))?;
    }
    if wanted("commits in the log") {
        commits::run(&dir.path().join("commits"))?;
    }
    println!("load {} at the end", load());
    Ok(())
}

/// Sheaf and plain SQLite, the same statements in turns.
fn engines(args: &Args, dir: &Path) -> Result<()> {
    let pair = Pair::new(dir)?;
    report(args, "TPC-B transactions", &pair, &mut |conn| transactions(conn, 5_000))?;
    report(args, "point reads", &pair, &mut |conn| point_reads(conn, 200_000))?;
    report(args, "full scans of 100,000 rows", &pair, &mut |conn| scans(conn, 10))?;
    if args.only.is_none() {
        sizes("disk after these, MB", &pair)?;
    }
    drop(pair);
    let bulk = tempfile::tempdir_in(&args.dir)?;
    let pair = Pair::empty(bulk.path())?;
    let rows = args.rows;
    report_rounds(1, args, "rows inserted, 50,000 a transaction", &pair, &mut |conn| {
        bulk_insert(conn, rows)
    })?;
    if args.only.is_none() {
        sizes("disk after the bulk insert, MB", &pair)?;
    }
    Ok(())
}

/// The same again as a release build, beside an S3 server if one is asked for.
fn rerun_released(args: &Args) -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--release", "--package", "xtask", "--"]).args(words);
    let server = if args.s3 {
        Some(s3::start()?.context("there is no S3 server here; see above for what is missing")?)
    } else {
        None
    };
    if let Some(server) = &server {
        server.configure(&mut command).env(commits::STORE, server.store());
    }
    let status = command.status().context("run the release build")?;
    ensure!(status.success(), "the benchmark failed");
    Ok(())
}

/// The same database in both engines.
struct Pair {
    plain: Connection,
    sheaf: Connection,
    site: Site,
    dir: std::path::PathBuf,
}

impl Pair {
    fn empty(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir.join("plain"))?;
        let plain = Connection::open(dir.join("plain/bench.db"))?;
        plain.pragma_update(None, "journal_mode", "wal")?;
        plain.pragma_update(None, "synchronous", "normal")?;
        let site = client(&dir.join("sheaf"), None)?.site(SITE)?;
        let sheaf = site.connection(View::Local)?;
        Ok(Self { plain, sheaf, site, dir: dir.to_owned() })
    }

    fn new(dir: &Path) -> Result<Self> {
        let pair = Self::empty(dir)?;
        for conn in [&pair.plain, &pair.sheaf] {
            fill(conn)?;
        }
        Ok(pair)
    }
}

fn client(dir: &Path, server: Option<(String, String)>) -> Result<Client> {
    let (server, token) = server.unzip();
    Ok(Client::open(ClientOptions { dir: dir.to_owned(), server, token })?)
}

fn fill(conn: &Connection) -> Result<()> {
    conn.execute_batch(&format!(
        "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INT, filler TEXT);
         CREATE TABLE tellers(id INTEGER PRIMARY KEY, balance INT, filler TEXT);
         CREATE TABLE branches(id INTEGER PRIMARY KEY, balance INT, filler TEXT);
         CREATE TABLE history(id INTEGER PRIMARY KEY, account INT, teller INT, branch INT, delta INT);
         BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ACCOUNTS})
           INSERT INTO accounts SELECT i, 0, hex(zeroblob(40)) FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
           INSERT INTO tellers SELECT i, 0, hex(zeroblob(40)) FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
           INSERT INTO branches SELECT i, 0, hex(zeroblob(40)) FROM n;
         COMMIT;"
    ))?;
    Ok(())
}

/// Numbers that are the same for both engines.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        1 + i64::try_from(self.0 >> 33).unwrap_or(0) % bound
    }
}

fn transactions(conn: &Connection, count: u64) -> Result<u64> {
    let mut begin = conn.prepare_cached("BEGIN IMMEDIATE")?;
    let mut commit = conn.prepare_cached("COMMIT")?;
    let update = |table: &str| format!("UPDATE {table} SET balance = balance + ?1 WHERE id = ?2");
    let mut account = conn.prepare_cached(&update("accounts"))?;
    let mut teller = conn.prepare_cached(&update("tellers"))?;
    let mut branch = conn.prepare_cached(&update("branches"))?;
    let mut select = conn.prepare_cached("SELECT balance FROM accounts WHERE id = ?1")?;
    let mut history = conn.prepare_cached(
        "INSERT INTO history(account, teller, branch, delta) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut random = Lcg(7);
    for _ in 0..count {
        let (a, t, b) = (random.below(ACCOUNTS), random.below(100), random.below(10));
        let delta = random.below(1_000) - 500;
        begin.execute([])?;
        account.execute(params![delta, a])?;
        let _balance: i64 = select.query_row([a], |row| row.get(0))?;
        teller.execute(params![delta, t])?;
        branch.execute(params![delta, b])?;
        history.execute(params![a, t, b, delta])?;
        commit.execute([])?;
    }
    Ok(count)
}

fn point_reads(conn: &Connection, count: u64) -> Result<u64> {
    let mut select = conn.prepare_cached("SELECT balance FROM accounts WHERE id = ?1")?;
    let mut random = Lcg(11);
    let mut sum = 0;
    for _ in 0..count {
        sum += select.query_row([random.below(ACCOUNTS)], |row| row.get::<_, i64>(0))?;
    }
    std::hint::black_box(sum);
    Ok(count)
}

fn scans(conn: &Connection, count: u64) -> Result<u64> {
    for _ in 0..count {
        let sql = "SELECT sum(balance), max(length(filler)) FROM accounts";
        let _sum: i64 = conn.query_row(sql, [], |row| row.get(0))?;
    }
    Ok(count)
}

fn bulk_insert(conn: &Connection, rows: i64) -> Result<u64> {
    conn.execute_batch("CREATE TABLE bulk(id INTEGER PRIMARY KEY, a INT, b TEXT); BEGIN")?;
    let mut insert = conn.prepare("INSERT INTO bulk VALUES (?1, ?2, ?3)")?;
    for row in 0..rows {
        insert.execute(params![row, row * 7, "a text of some forty characters, as rows have"])?;
        if (row + 1) % ROWS_PER_TRANSACTION == 0 {
            conn.execute_batch("COMMIT; BEGIN")?;
        }
    }
    conn.execute_batch("COMMIT")?;
    Ok(u64::try_from(rows)?)
}

fn report(
    args: &Args,
    name: &str,
    pair: &Pair,
    work: &mut dyn FnMut(&Connection) -> Result<u64>,
) -> Result<()> {
    report_rounds(args.rounds.max(1), args, name, pair, work)
}

fn report_rounds(
    rounds: usize,
    args: &Args,
    name: &str,
    pair: &Pair,
    work: &mut dyn FnMut(&Connection) -> Result<u64>,
) -> Result<()> {
    if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
        return Ok(());
    }
    let (mut plain, mut sheaf) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(measure(&pair.plain, work)?);
        sheaf.push(measure(&pair.sheaf, work)?);
    }
    let (plain, sheaf) = (median(plain), median(sheaf));
    let (p, s) = (plain.per_second, sheaf.per_second);
    println!("| {name}, per second | {p:.0} | {s:.0} | {:.2} |", s / p);
    let (p, s) = (plain.cpu_us, sheaf.cpu_us);
    println!("| {name}, CPU microseconds each | {p:.2} | {s:.2} | {:.2} |", s / p);
    Ok(())
}

fn measure(conn: &Connection, work: &mut dyn FnMut(&Connection) -> Result<u64>) -> Result<Sample> {
    timed(|| work(conn))
}

/// Time of some work, by the count that it gives.
fn timed(work: impl FnOnce() -> Result<u64>) -> Result<Sample> {
    let (cpu, start) = (cpu_time(), Instant::now());
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let count = work()? as f64;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    Ok(Sample { per_second: count / wall, cpu_us: cpu * 1e6 / count })
}

fn median(mut samples: Vec<Sample>) -> Sample {
    samples.sort_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us));
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// CPU time of this process, user and kernel.
fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct it is given; a zeroed one is valid if it fails.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| {
        let secs = u64::try_from(t.tv_sec).unwrap_or(0);
        Duration::from_secs(secs) + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn sizes(name: &str, pair: &Pair) -> Result<()> {
    // The flusher and the checkpoint have done what they will do before disks are compared.
    pair.plain.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")?;
    pair.site.engine().volume().flush()?;
    let (plain, sheaf) = (size(&pair.dir.join("plain"))?, size(&pair.dir.join("sheaf"))?);
    println!("| {name} | {plain:.1} | {sheaf:.1} | {:.2} |", sheaf / plain);
    Ok(())
}

/// Megabytes of all files below a directory, as allocated on disk.
fn size(dir: &Path) -> Result<f64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0.0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            total += size(&entry.path())?;
        } else {
            #[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
            let bytes = (meta.blocks() * 512) as f64;
            total += bytes / 1e6;
        }
    }
    Ok(total)
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
