//! Devices that were away for long: how many round trips they take to know what changed.

use std::sync::{Arc, Mutex};

use sheaf_site::{Site, SiteIds, SiteOptions, View};
use sheaf_sync::pull;
use sheaf_volume::{BucketRemote, DeviceId, ManualEnv, MemDir, MemObjects, Objects, Remote};

use super::world::{Device, Disk, NAME, Shared, engine, settle};

/// A node, and a device that has shared three rows through it.
struct Scene {
    env: Arc<ManualEnv>,
    objects: MemObjects,
    node: Shared,
    device: Device,
}

impl Scene {
    fn new() -> Self {
        let env = Arc::new(ManualEnv::new(1));
        let objects = MemObjects::new();
        let node = Arc::new(Mutex::new(engine(&env, &objects, &Disk::default())));
        let mut device = Device::new(10, &env, &node);
        device.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)");
        device.execute("INSERT INTO todo VALUES (1, 'x'), (2, 'x'), (3, 'x')");
        settle(&mut [&mut device]);
        Self { env, objects, node, device }
    }
}

/// Somebody who appends to the bucket without a node.
pub(super) struct Writer {
    site: Site,
    log: Arc<BucketRemote>,
}

impl Writer {
    pub(super) fn new(objects: &MemObjects, ids: SiteIds) -> Self {
        let objects: Arc<dyn Objects> = Arc::new(objects.clone());
        let log = Arc::new(BucketRemote::new(objects, ids.volume, ids.page_size));
        let options = SiteOptions {
            create: Some(ids),
            ..SiteOptions::new(NAME, DeviceId::from_bytes([77; 16]))
        };
        let site = Site::open(&MemDir::new(), Arc::new(ManualEnv::new(77)), options).unwrap();
        site.set_remote(Some(Arc::clone(&log) as Arc<dyn Remote>));
        site.follow(log.as_ref(), &mut |_| Ok(())).unwrap();
        Self { site, log }
    }

    /// What this does, as commits of the bucket.
    pub(super) fn commit(&self, sql: &str) {
        self.site.connection(View::Local).unwrap().execute_batch(sql).unwrap();
        self.site.exchange_with_log(self.log.as_ref()).unwrap();
    }

    fn append(&self, commits: usize) {
        for n in 0..commits {
            self.commit(&format!("UPDATE todo SET name = '{n}' WHERE id = {}", n % 3 + 1));
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures, for whoever asks for them with --nocapture")]
fn a_device_far_behind_takes_few_round_trips() {
    println!("behind  round trips  bytes  jumps");
    let all = [(1, 0), (10, 0), (100, 0), (1_000, 0), (1_100, 1), (10_000, 1)];
    let long = std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1");
    for (behind, jumps) in all.into_iter().take(if long { 6 } else { 5 }) {
        let Scene { env, objects, node, mut device } = Scene::new();
        device.cut();
        let base = device.site.base().0;
        let writer = Writer::new(&objects, device.site.ids());
        writer.append(behind);
        // Away with something to say.
        device.execute("INSERT INTO todo VALUES (4, 'mine')");
        env.advance_ms(120_000);
        node.lock().unwrap().turn();
        device.heard.clear();
        let trips = device.session.round_trips();
        while device.site.base().0.0 < base.0 + behind as u64 {
            settle(&mut [&mut device]);
            env.advance_ms(1_000);
        }
        // To greet, to open and to pull; the push of its own goes with the last of them.
        let trips = device.session.round_trips() - trips - 1;
        let bytes: usize = device.heard.iter().map(bytes::Bytes::len).sum();
        println!("{behind:6}  {trips:11}  {bytes:6}  {}", device.jumps);
        assert!(trips <= 3, "{trips} round trips for {behind} commits");
        assert_eq!(device.jumps, jumps, "{behind}");
        settle(&mut [&mut device]);
        let followed = writer.site.follow(writer.log.as_ref(), &mut |_| Ok(())).unwrap();
        assert_eq!(followed.commits, 1);
        settle(&mut [&mut device]);
        assert_eq!(device.site.base(), writer.site.base());
        let hash = |site: &Site| site.volume().global().content_hash().unwrap();
        assert_eq!(hash(&device.site), hash(&writer.site));
        assert!(device.site.status().pending.is_empty());
    }
}

#[test]
fn who_does_not_take_merged_changes_gets_commits() {
    let Scene { env, objects, node, device } = Scene::new();
    let ids = device.site.ids();
    let writer = Writer::new(&objects, ids);
    writer.append(1_030);
    env.advance_ms(120_000);
    let after = device.site.base().0;
    let mut request =
        pull::Request { volume: ids.volume, after, head_only: false, merge_for: None };
    let ask = |request: &pull::Request| {
        let answer = node.lock().unwrap().pull(None, pull::encode(request)).unwrap();
        pull::decode_answer(&ids.volume.into(), after, answer).unwrap()
    };
    let plain = ask(&request);
    assert_eq!((plain.commits.len(), plain.more, plain.changes), (1_024, true, None));
    request.merge_for = Some(writer.site.timeline());
    let merged = ask(&request);
    let changes = merged.changes.expect("merged changes");
    assert_eq!((merged.commits.len(), merged.more), (0, false));
    assert_eq!(changes.head, merged.head);
    assert_eq!(changes.told.len(), 1_024, "the newest of those with news of the timeline");
    assert_eq!(changes.parent, Some(device.site.base().1));
}
