//! Between two devices and a node on loopback: how soon, how many bytes, how many round trips.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sheaf::View;
use sheaf_node::{Node, NodeOptions};

use super::{SITE, TIMEOUT, client, fill};

const HAND_OVERS: i64 = 300;

pub(super) fn run(dir: &Path) -> Result<()> {
    let node = Node::start(NodeOptions::new(dir.join("node"), "127.0.0.1:0".parse()?))?;
    let token = node.first_token().context("a new node makes a token")?;
    let server = || Some((node.url(), token.clone()));
    let writer = client(&dir.join("writer"), server())?.site(SITE)?;
    fill(&writer.connection(View::Local)?)?;
    writer.exchange(TIMEOUT)?;

    let reader_client = client(&dir.join("reader"), server())?;
    let reader = reader_client.site(SITE)?;
    let opened = reader.exchange(TIMEOUT)?;
    let start = Instant::now();
    let before = reader.engine().volume().status();
    let sql = "SELECT balance FROM accounts WHERE id = 77777";
    let _first: i64 = reader.connection(View::Local)?.query_row(sql, [], |row| row.get(0))?;
    let after = reader.engine().volume().status();
    println!();
    println!("| fresh replica of {} pages | |", after.page_count);
    println!("|---|---:|");
    println!("| bytes received to open | {} |", opened.bytes_down);
    println!("| round trips to open | {} |", opened.round_trips);
    println!(
        "| pages fetched by the first query | {} |",
        after.fetched_pages - before.fetched_pages
    );
    println!("| requests of the first query | {} |", after.fetch_requests - before.fetch_requests);
    println!("| first query, ms | {:.2} |", start.elapsed().as_secs_f64() * 1e3);

    let update = |n: i64| format!("UPDATE accounts SET balance = {n} WHERE id = 5");
    writer.connection(View::Local)?.execute_batch(&update(1))?;
    let sent = writer.exchange(TIMEOUT)?;
    let got = reader.exchange(TIMEOUT)?;
    println!("| one-row update, bytes up from its author | {} |", sent.bytes_up);
    println!("| one-row update, bytes down to another device | {} |", got.bytes_down);
    hand_over(&writer, &reader, &reader_client)?;
    drop((writer, reader, reader_client));
    node.stop()?;
    Ok(())
}

/// Commit on one device until it is visible on the other, both online.
fn hand_over(
    writer: &sheaf::Site,
    reader: &sheaf::Site,
    reader_client: &sheaf::Client,
) -> Result<()> {
    writer.go_online()?;
    reader.go_online()?;
    let (write, read) = (writer.connection(View::Local)?, reader.connection(View::Local)?);
    let events = reader_client.events();
    let mut times = Vec::new();
    for n in 0..HAND_OVERS {
        let value = 1_000 + n;
        let start = Instant::now();
        write.execute("UPDATE accounts SET balance = ?1 WHERE id = 6", [value])?;
        loop {
            let seen: i64 =
                read.query_row("SELECT balance FROM accounts WHERE id = 6", [], |row| row.get(0))?;
            if seen == value {
                break;
            }
            let _event = events.next_within(Duration::from_millis(20));
            anyhow::ensure!(start.elapsed() < TIMEOUT, "a commit did not arrive");
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied();
    println!("| commit on A until visible on B, p50 ms | {:.2} |", at(50).unwrap_or(0.0));
    println!("| commit on A until visible on B, p99 ms | {:.2} |", at(99).unwrap_or(0.0));
    Ok(())
}
