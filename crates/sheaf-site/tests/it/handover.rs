//! Pending mutations that are handed over to a branch: each is there once, whatever is repeated.

use std::sync::Arc;

use sheaf_site::{ErrorKind, SiteIds};
use sheaf_volume::{
    At, BucketRemote, ManualEnv, MemDir, Objects, Remote, SiteId, SiteRecord, VolumeId,
    create_branch, create_site,
};

use crate::support::{Device, World, assert_converged};

/// A device whose site branches, with three changes agreed and what others did since.
fn begun(world: &World) -> Device {
    let SiteIds { site, volume, page_size } = world.ids;
    let record = SiteRecord { site, lineage: volume.into(), page_size, created_ms: 0 };
    create_site(&*world.objects, "main", &record).unwrap();
    let (a, b) = (world.device(), world.device());
    a.sql("CREATE TABLE t(id INTEGER PRIMARY KEY, n COUNTER_INT); INSERT INTO t VALUES (1, 0)");
    a.exchange();
    b.exchange();
    // A row that the log shows under another number than its author does.
    a.sql("INSERT INTO t VALUES (2, 20)");
    b.sql("INSERT INTO t VALUES (2, 30)");
    a.exchange();
    b.exchange();
    b.sql("UPDATE t SET n = n + 1 WHERE id = 3");
    b.sql("UPDATE t SET n = n + 1 WHERE id = 1");
    a.sql("UPDATE t SET n = 100 WHERE id = 1");
    a.exchange();
    b
}

/// Makes a branch at the device's base.
fn branch(world: &World, from: &Device, name: &str) -> SiteRecord {
    let env = ManualEnv::new(name.len() as u64);
    let (site, volume) = (SiteId::mint(&env), VolumeId::mint(&env));
    let page_size = world.ids.page_size;
    let record = SiteRecord { site, lineage: volume.into(), page_size, created_ms: 0 };
    let objects: Arc<dyn Objects> = world.objects.clone();
    create_branch(&objects, "main", At::Lsn(from.site.base().0), name, &record).unwrap()
}

/// A replica of a branch.
fn replica(world: &World, record: &SiteRecord, dir: MemDir, seed: u64) -> Device {
    let env = Arc::new(ManualEnv::new(seed));
    let mut device = world.try_reopen(dir, 9, env).unwrap();
    let (objects, lineage) = (world.objects.clone(), record.lineage.clone());
    device.log = Arc::new(BucketRemote::new(objects, lineage, record.page_size));
    device.site.set_remote(Some(device.log.clone() as Arc<dyn Remote>));
    let (site, volume) = (record.site, record.volume());
    let ids = SiteIds { site, volume, page_size: record.page_size };
    let parents = record.lineage.parents().to_vec();
    device.site.adopt_branch(ids, parents, device.log.head().unwrap()).unwrap();
    device
}

#[test]
fn what_is_handed_over_is_in_the_branch_once_and_gone_here() {
    let world = World::new();
    let b = begun(&world);
    let record = branch(&world, &b, "x");
    let dir = MemDir::new();
    let x = replica(&world, &record, dir.clone(), 1);
    assert_eq!(b.site.give_up_handed_over(&x.site, Vec::new()).unwrap(), None, "not there yet");
    assert!(b.site.hand_over(&x.site).unwrap());
    assert_eq!(x.local("SELECT * FROM t"), b.local("SELECT * FROM t"));
    assert_eq!(b.site.give_up_handed_over(&x.site, Vec::new()).unwrap(), None, "not in its log");
    assert_eq!(b.site.hand_over(&x.site).unwrap_err().kind(), ErrorKind::Busy);
    // The process dies with the push half done, and the replica forgets that it was decided.
    drop(x);
    let before = dir.fork();
    let x = replica(&world, &record, dir, 2);
    assert_eq!(x.exchange().pushed, 2);
    let x = {
        drop(x);
        replica(&world, &record, before, 3)
    };
    assert_eq!(x.exchange().pushed, 0, "the log knows them");
    assert!(!b.site.hand_over(&x.site).unwrap());
    // What is written meanwhile goes too.
    b.sql("INSERT INTO t VALUES (4, 40)");
    assert_eq!(b.site.give_up_handed_over(&x.site, Vec::new()).unwrap(), None);
    assert!(b.site.hand_over(&x.site).unwrap());
    x.exchange();
    assert_eq!(b.site.give_up_handed_over(&x.site, Vec::new()).unwrap(), Some(3));
    assert_eq!(x.local("SELECT id, n FROM t"), "1|1;2|20;3|31;4|40");
    assert_eq!(b.local("SELECT id, n FROM t"), "1|0;2|20;3|30");
    b.exchange();
    assert_eq!(b.local("SELECT id, n FROM t"), "1|100;2|20;3|30");
    // Both go on.
    x.sql("UPDATE t SET n = n + 1 WHERE id = 1");
    b.sql("UPDATE t SET n = n + 1 WHERE id = 1");
    assert_eq!((x.exchange().pushed, b.exchange().pushed), (1, 1));
    let fresh = replica(&world, &record, MemDir::new(), 4);
    assert_converged(&[&x, &fresh]);
    assert_eq!(fresh.local("SELECT id, n FROM t"), "1|2;2|20;3|31;4|40");
}

#[test]
fn a_branch_with_other_changes_takes_nothing_and_nothing_is_given_up() {
    let world = World::new();
    let b = begun(&world);
    let record = branch(&world, &b, "x");
    let x = replica(&world, &record, MemDir::new(), 1);
    x.sql("DELETE FROM t WHERE id = 1");
    x.exchange();
    assert_eq!(b.site.hand_over(&x.site).unwrap_err().kind(), ErrorKind::Conflict);
    // Its replica went on under the numbers that were handed over, and so did the site.
    let record = branch(&world, &b, "longer");
    let y = replica(&world, &record, MemDir::new(), 2);
    b.site.hand_over(&y.site).unwrap();
    y.exchange();
    y.sql("UPDATE t SET n = 7 WHERE id = 2");
    y.exchange();
    b.sql("UPDATE t SET n = 8 WHERE id = 2");
    for refused in [
        b.site.hand_over(&y.site).unwrap_err(),
        b.site.give_up_handed_over(&y.site, Vec::new()).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Conflict);
    }
    assert_eq!(b.site.status().pending.len(), 3);
}
