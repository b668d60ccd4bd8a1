//! CPU time of a page that is fetched, from a bucket in a directory and from a node on loopback,
//! beside plain SQLite that reads the same pages from its file.
//!
//! Invariant: every way moves the same pages of the same site to a replica that has none. What a
//! node spends counts, for it runs in this process; what a disk or a network takes does not.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use sheaf::rusqlite::Connection;
use sheaf::{Site, View};
use sheaf_node::{Node, NodeOptions};

use super::{SITE, Sample, TIMEOUT, client, timed};

/// Rows that do not compress: 20,000 pages.
const ROWS: i64 = 180_000;
const ROWS_AT_ONCE: i64 = 20_000;
const SCAN: &str = "SELECT sum(length(body)) FROM rows";

pub(super) fn run(dir: &Path) -> Result<()> {
    let bucket = dir.join("bucket");
    std::fs::create_dir_all(&bucket)?;
    let url = format!("file://{}", bucket.canonicalize()?.display());
    let writer = client(&dir.join("author"), Some((url.clone(), String::new())))?.site(SITE)?;
    fill(&writer)?;
    let plain = dir.join("plain.db");
    writer.export(View::Local, &plain)?;
    drop(writer);
    let mut options = NodeOptions::new(dir.join("node"), "127.0.0.1:0".parse()?);
    options.store = Some(url.clone());
    let node = Node::start(options)?;
    let token = node.first_token().context("a new node makes a token")?;

    println!();
    println!(
        "| reading pages that are not here | pages | CPU microseconds a page | pages a second |"
    );
    println!("|---|---:|---:|---:|");
    report("plain SQLite, full scan of its file", scan_plain(&plain)?);
    let servers = [("bucket in a directory", url, String::new()), ("node", node.url(), token)];
    for (name, url, token) in servers {
        for scans in [false, true] {
            let what = if scans { "full scan" } else { "all of them at once" };
            let here = dir.join(format!("{name} {what}"));
            let site = client(&here, Some((url.clone(), token.clone())))?.site(SITE)?;
            site.pull(TIMEOUT)?;
            report(&format!("{name}, {what}"), fetch(&site, scans)?);
        }
    }
    node.stop()?;
    Ok(())
}

fn fill(site: &Site) -> Result<()> {
    let conn = site.connection(View::Local)?;
    conn.execute_batch("CREATE TABLE rows(id INTEGER PRIMARY KEY, body BLOB)")?;
    for first in (0..ROWS).step_by(usize::try_from(ROWS_AT_ONCE)?) {
        let last = first + ROWS_AT_ONCE;
        conn.execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {first} + 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO rows SELECT i, randomblob(400) FROM n"
        ))?;
        site.exchange(TIMEOUT)?;
    }
    Ok(())
}

fn scan_plain(path: &Path) -> Result<(u64, Sample)> {
    let conn = Connection::open(path)?;
    let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let pages = u64::try_from(pages)?;
    let sample = timed(|| {
        let _sum: i64 = conn.query_row(SCAN, [], |row| row.get(0))?;
        Ok(pages)
    })?;
    Ok((pages, sample))
}

/// Everything, as a scan comes to it or because it is wished for.
fn fetch(site: &Site, scans: bool) -> Result<(u64, Sample)> {
    let before = site.status();
    ensure!(before.pages_pending > 0, "the replica has pages already");
    let sample = timed(|| {
        if scans {
            let conn = site.connection(View::Local)?;
            let _sum: i64 = conn.query_row(SCAN, [], |row| row.get(0))?;
        } else {
            site.hydrate(&mut |_, _| {})?;
        }
        Ok(site.status().pages_present - before.pages_present)
    })?;
    Ok((site.status().pages_present - before.pages_present, sample))
}

fn report(name: &str, (pages, sample): (u64, Sample)) {
    let Sample { cpu_us, per_second } = sample;
    println!("| {name} | {pages} | {cpu_us:.1} | {per_second:.0} |");
}
