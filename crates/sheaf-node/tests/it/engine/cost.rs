//! What a commit costs a node in requests to its bucket, however many mutations are in it.

use std::sync::{Arc, Mutex};

use sheaf_volume::{Cost, ManualEnv, MemObjects, Meter, Objects};

use super::world::{Device, Disk, engine_on, settle};

/// Batches one after the other, as many as tell the usual from the first.
const BATCHES: u64 = 10;

#[test]
#[expect(clippy::print_stdout, reason = "figures, for whoever asks for them with --nocapture")]
fn a_batch_of_mutations_is_one_commit_of_few_requests() {
    println!("of each commit:");
    println!("mutations  requests  rounds  bytes up");
    for mutations in [1, 10, 100] {
        let (commits, cost) = batches(mutations);
        let tenths = |all: u64| format!("{}.{}", all / commits, all * 10 / commits % 10);
        let Cost { rounds, requests, bytes_up, .. } = cost;
        let (shown, rounds, bytes) = (tenths(requests), tenths(rounds), bytes_up / commits);
        println!("{mutations:9}  {shown:8}  {rounds:6}  {bytes:8}");
        assert_eq!(commits, BATCHES);
        // A look for what others have appended, the commit, a look at the boundary.
        assert!(requests <= 5 * commits, "{requests} requests, {commits} commits");
        assert_eq!(cost.bytes_down, 0, "nothing of it has to be read");
    }
}

/// Commits that a device's batches of so many mutations became, and what all of them cost.
fn batches(mutations: u64) -> (u64, Cost) {
    let env = Arc::new(ManualEnv::new(1));
    let meter = Arc::new(Meter::over(Arc::new(MemObjects::new())));
    let objects: Arc<dyn Objects> = meter.clone();
    let node = Arc::new(Mutex::new(engine_on(&env, objects, &Disk::default())));
    let mut device = Device::new(10, &env, &node);
    device.execute(
        "CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO todo SELECT i, 'something to do' FROM n",
    );
    settle(&mut [&mut device]);
    device.site.volume().hydrate(&mut |_, _| {}).unwrap();
    let before = device.site.base().0;
    meter.take();
    for batch in 0..BATCHES {
        for id in 1..=mutations {
            device.execute(&format!("UPDATE todo SET name = 'done {batch}' WHERE id = {id}"));
        }
        settle(&mut [&mut device]);
    }
    (device.site.base().0.0 - before.0, meter.take())
}
