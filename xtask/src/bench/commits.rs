//! How many commits one volume takes: on a store in a directory and, with `--s3`, on an S3 server;
//! by one device alone and by many devices at a node, which groups them.
//!
//! Invariant: a transaction counts once its author has been told that it is in the log. The S3
//! server runs on this machine too, so its rate says what it costs, not what a cloud would take.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use sheaf::rusqlite::params;
use sheaf::{Durability, Site, View, from_sqlite};
use sheaf_node::{Node, NodeOptions};

use super::{SITE, TIMEOUT, client, cpu_time};

/// The URL of an S3 store that runs for as long as this does.
pub(crate) const STORE: &str = "SHEAF_BENCH_STORE";
const DEVICES: [usize; 2] = [1, 16];
/// Transactions of all devices together.
const TRANSACTIONS: usize = 800;
const ROWS: usize = 1_600;

pub(super) fn run(dir: &Path) -> Result<()> {
    println!();
    println!(
        "| one-row transactions, each told to be in the log | per second | commits per second | \
         transactions a commit | CPU microseconds each |"
    );
    println!("|---|---:|---:|---:|---:|");
    let here = dir.join("commits");
    std::fs::create_dir_all(&here)?;
    let url = format!("file://{}", here.canonicalize()?.display());
    store("directory", &url, &dir.join("of-directory"))?;
    if let Ok(url) = std::env::var(STORE) {
        let url = format!("{url}/bench-{}", std::process::id());
        store("S3 server", &url, &dir.join("of-s3"))?;
    }
    Ok(())
}

fn store(name: &str, url: &str, dir: &Path) -> Result<()> {
    let alone = client(&dir.join("alone"), Some((format!("{url}/alone"), String::new())));
    // A bucket in a directory must be there.
    if let Some(path) = url.strip_prefix("file://") {
        std::fs::create_dir_all(Path::new(path).join("alone"))?;
        std::fs::create_dir_all(Path::new(path).join("shared"))?;
    }
    let site = alone?.site(SITE)?;
    fill(&site)?;
    report(&format!("{name}, a device alone"), &[site])?;
    for count in DEVICES {
        let dir = dir.join(format!("node-{count}"));
        let mut options = NodeOptions::new(dir.join("node"), "127.0.0.1:0".parse()?);
        options.store = Some(format!("{url}/shared"));
        let node = Node::start(options)?;
        let token = node.first_token().context("a new node makes a token")?;
        let open = |n: usize| -> Result<Site> {
            let server = Some((node.url(), token.clone()));
            let site =
                client(&dir.join(n.to_string()), server)?.site(&format!("{SITE}-{count}"))?;
            if n == 0 {
                fill(&site)?;
            }
            site.exchange(TIMEOUT)?;
            site.hydrate(&mut |_, _| {})?;
            Ok(site)
        };
        let sites = (0..count).map(open).collect::<Result<Vec<_>>>()?;
        report(&format!("{name}, node with {count} devices"), &sites)?;
        drop(sites);
        node.stop()?;
    }
    Ok(())
}

fn fill(site: &Site) -> Result<()> {
    site.connection(View::Local)?.execute_batch(&format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, filler TEXT);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {ROWS})
         INSERT INTO t SELECT i, 0, hex(zeroblob(40)) FROM c"
    ))?;
    site.exchange(TIMEOUT)?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn report(name: &str, sites: &[Site]) -> Result<()> {
    let first = sites.first().context("no device")?;
    first.pull(TIMEOUT)?;
    let before = first.status().base.0;
    let (cpu, start) = (cpu_time(), Instant::now());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..)
            .zip(sites)
            .map(|(n, site)| scope.spawn(move || work(site, n, sites.len())))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow!("a device's thread has panicked"))?
        })
    })?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), (cpu_time() - cpu).as_secs_f64());
    first.pull(TIMEOUT)?;
    let commits = (first.status().base.0 - before) as f64;
    let done = (TRANSACTIONS / sites.len() * sites.len()) as f64;
    println!(
        "| {name} | {:.0} | {:.0} | {:.1} | {:.0} |",
        done / wall,
        commits / wall,
        done / commits,
        cpu * 1e6 / done
    );
    Ok(())
}

/// One device's share, on rows of its own.
fn work(site: &Site, number: usize, devices: usize) -> Result<()> {
    let share = ROWS / devices;
    for n in 0..TRANSACTIONS / devices {
        let row = i64::try_from(number * share + n % share + 1)?;
        let written = site.write_with(Durability::Remote(TIMEOUT), |tx| {
            let sql = "UPDATE t SET n = n + 1 WHERE id = ?1";
            tx.execute(sql, params![row]).map_err(from_sqlite)
        })?;
        ensure!(written.unknown.is_none(), "unknown: {:?}", written.unknown);
    }
    Ok(())
}
