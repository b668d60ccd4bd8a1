//! A device that knows nothing but a site's name: what opening it at a node and one query cost.

use std::sync::{Arc, Mutex};

use sheaf_site::View;
use sheaf_volume::{ManualEnv, MemObjects};

use super::far::Writer;
use super::world::{Device, Disk, engine, settle};

const ROW_BYTES: usize = 400;
const ROWS_AT_ONCE: usize = 20_000;

/// Whether the long form of a test was asked for.
fn is_long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

/// Rows that do not compress, about so many bytes of them, straight into the bucket: the node has
/// none of their pages. How many there are.
fn fill(writer: &Writer, bytes: usize) -> usize {
    let count = bytes / (ROW_BYTES + 40);
    for first in (0..count).step_by(ROWS_AT_ONCE) {
        let last = count.min(first + ROWS_AT_ONCE);
        writer.commit(&format!(
            "WITH RECURSIVE n(i) AS (SELECT {first} + 1 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
             INSERT INTO todo SELECT i, 'row ' || i, randomblob({ROW_BYTES}) FROM n"
        ));
    }
    count
}

#[test]
#[expect(clippy::print_stdout, reason = "figures, for whoever asks for them with --nocapture")]
fn a_node_answers_a_device_that_knows_a_name() {
    println!("   pages  opening: requests bytes  first row: requests pages bytes");
    let sizes: &[usize] =
        if is_long() { &[10_000_000, 100_000_000, 1_000_000_000] } else { &[10_000_000] };
    for &size in sizes {
        let env = Arc::new(ManualEnv::new(1));
        let objects = MemObjects::new();
        let node = Arc::new(Mutex::new(engine(&env, &objects, &Disk::default())));
        let mut first = Device::new(10, &env, &node);
        first.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT, body BLOB)");
        settle(&mut [&mut first]);
        let writer = Writer::new(&objects, first.site.ids());
        let count = fill(&writer, size);
        drop(writer);
        env.advance_ms(120_000);
        settle(&mut [&mut first]);

        let mut cold = Device::new(11, &env, &node);
        settle(&mut [&mut cold]);
        let opening = cold.session.round_trips();
        let heard: usize = cold.heard.iter().map(bytes::Bytes::len).sum();
        let id = count * 2 / 3;
        let conn = cold.site.connection(View::Local).unwrap();
        let sql = format!("SELECT name FROM todo WHERE id = {id}");
        let row: String = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(row, format!("row {id}"));
        let status = cold.site.volume().status();
        let (requests, bytes) = (status.fetch_requests, cold.fetched_bytes());
        println!(
            "{:8}  {opening:17} {heard:5}  {requests:19} {:5} {bytes:5}",
            status.page_count, status.fetched_pages
        );
        // One after the other. What is on its way to be opened counts too.
        assert!(opening + requests <= 6, "{opening} + {requests} requests");
        assert!(heard as u64 + bytes <= 96 * 1_024, "{heard} + {bytes} bytes");
        if size <= 100_000_000 {
            assert!(requests <= 5 && bytes <= 64 * 1_024, "{requests} requests, {bytes} bytes");
        }
    }
}
