//! A device that knows nothing but a site's name: what opening it from a bare bucket and one
//! query cost, in requests and bytes of the bucket.

use std::sync::Arc;

use sheaf_site::SiteIds;
use sheaf_volume::{
    BucketRemote, Cost, GcStep, ManualEnv, Meter, Objects, Remote, Retention, SiteRecord,
    create_site, find_site,
};

use crate::lazy::site;
use crate::support::{Device, World, is_long};

const NAME: &str = "team/cold";

/// Gives the site a name, as its first exchange would.
fn claim(world: &World) {
    let SiteIds { site, volume, page_size } = world.ids;
    let record = SiteRecord { site, lineage: volume.into(), page_size, created_ms: 1 };
    create_site(world.objects.as_ref(), NAME, &record).unwrap();
}

/// A device that has opened the site, by the steps of a clone, and what each of them cost.
fn open(world: &World) -> (Device, Arc<Meter>, [Cost; 2]) {
    let device = world.device();
    let inner: Arc<dyn Objects> = world.objects.clone();
    let meter = Arc::new(Meter::over(inner));
    let objects: Arc<dyn Objects> = meter.clone();
    let record = find_site(objects.as_ref(), NAME).unwrap().unwrap();
    let named = meter.take();
    let log = Arc::new(BucketRemote::new(objects, record.lineage, record.page_size));
    device.site.set_remote(Some(log.clone()));
    device.site.adopt(world.ids, log.head().unwrap()).unwrap();
    let adopted = meter.take();
    (device, meter, [named, adopted])
}

fn line(what: &str, cost: Cost) {
    let Cost { rounds, requests, bytes_down, .. } = cost;
    println!("  {what:24} {rounds:4} rounds {requests:5} requests {bytes_down:9} bytes");
}

/// One row by its key.
fn look(device: &Device, meter: &Meter, id: usize) -> Cost {
    let sql = format!("SELECT v FROM t WHERE id = {id}");
    assert_eq!(device.local(&sql), format!("row {id}"));
    meter.take()
}

/// What the opening costs, the name included, and the first row.
fn cold_query(world: &World, count: usize, what: &str) -> [Cost; 2] {
    let (device, meter, steps) = open(world);
    println!("{} pages, {what}", device.site.status().page_count);
    let opening = steps[0] + steps[1];
    for (step, cost) in ["by name", "head"].into_iter().zip(steps) {
        line(step, cost);
    }
    let first = look(&device, &meter, count * 2 / 3);
    line("first row", first);
    line("another row", look(&device, &meter, count / 5));
    line("opened, first row", opening + first);
    [opening, first]
}

#[test]
fn a_bucket_answers_a_device_that_knows_a_name() {
    let sizes: &[usize] =
        if is_long() { &[10_000_000, 100_000_000, 1_000_000_000] } else { &[10_000_000] };
    for &bytes in sizes {
        let (world, a, count) = site(bytes);
        claim(&world);
        // The commits themselves say where pages lie: all of them back to the one that has it.
        let rounds_max = if bytes > 100_000_000 { 14 } else { 11 };
        let [opening, first] = cold_query(&world, count, "commits only");
        assert!((opening + first).rounds <= rounds_max, "{opening:?} {first:?}");
        let keep = Retention { keep_commits: 1, keep_for_ms: 0, exact: true };
        a.log.gc(&ManualEnv::new(7), &keep, false, &mut |_: GcStep| Ok(())).unwrap();
        drop(a);
        let [opening, first] = cold_query(&world, count, "after gc");
        // The name; the hint; what it leads to.
        assert_eq!(opening.rounds, 3);
        // The frame above the leaf; the chunk that says where the leaf is; its frame.
        assert!(first.rounds <= 3 && first.bytes_down <= 64 * 1_024, "{first:?}");
        let both = opening + first;
        assert!(both.rounds <= 6 && both.bytes_down <= 96 * 1_024, "{both:?}");
    }
}
