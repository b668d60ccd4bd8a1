//! Devices that share a bucket in memory.

use std::sync::Arc;

use sheaf_site::{Batch, Site, SiteIds, SiteOptions, View};
use sheaf_volume::{
    BucketRemote, DeviceId, Env, ManualEnv, MemDir, MemObjects, Objects, PageSize, Remote, Result,
    SiteId, VolumeId,
};

pub(crate) struct Device {
    pub(crate) site: Site,
    pub(crate) log: Arc<BucketRemote>,
    pub(crate) dir: MemDir,
}

pub(crate) struct World {
    pub(crate) objects: Arc<MemObjects>,
    pub(crate) ids: SiteIds,
    pub(crate) next: std::cell::Cell<u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        let env = ManualEnv::new(99);
        let ids = SiteIds {
            site: SiteId::mint(&env),
            volume: VolumeId::mint(&env),
            page_size: PageSize::DEFAULT,
        };
        let objects = Arc::new(MemObjects::new());
        Self { objects, ids, next: std::cell::Cell::new(1) }
    }

    pub(crate) fn log(&self) -> Arc<BucketRemote> {
        let objects: Arc<dyn Objects> = self.objects.clone();
        let log = BucketRemote::new(objects, self.ids.volume, self.ids.page_size);
        Arc::new(log.with_leads(sheaf_site::leads))
    }

    pub(crate) fn device(&self) -> Device {
        let number = self.next.replace(self.next.get() + 1);
        self.open(MemDir::new(), number)
    }

    /// Devices that agree on what this SQL made.
    pub(crate) fn devices<const N: usize>(&self, sql: &str) -> [Device; N] {
        let devices = [(); N].map(|()| self.device());
        devices[0].sql(sql);
        for device in &devices {
            device.exchange();
        }
        devices
    }

    /// A device that keeps less of its own work in memory than devices do.
    pub(crate) fn device_with_memory(&self, memory_bytes: usize) -> Device {
        let number = self.next.replace(self.next.get() + 1);
        self.open_with(MemDir::new(), number, memory_bytes)
    }

    pub(crate) fn open(&self, dir: MemDir, number: u64) -> Device {
        self.open_with(dir, number, sheaf_volume::limits::MEMORY_BYTES)
    }

    fn open_with(&self, dir: MemDir, number: u64, memory_bytes: usize) -> Device {
        let env = Arc::new(ManualEnv::new(number * 1_000));
        let options = SiteOptions {
            create: Some(self.ids),
            memory_bytes,
            ..SiteOptions::new("test", DeviceId::from_bytes([number as u8; 16]))
        };
        let site = Site::open(&dir, env, options).unwrap();
        let log = self.log();
        site.set_remote(Some(log.clone() as Arc<dyn Remote>));
        Device { site, log, dir }
    }
}

impl Device {
    pub(crate) fn sql(&self, sql: &str) {
        let conn = self.site.connection(View::Local).unwrap();
        conn.execute_batch(sql)
            .unwrap_or_else(|e| panic!("{sql}: {:?}", sheaf_site::explain(&conn, e)));
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<(), String> {
        let conn = self.site.connection(View::Local).unwrap();
        conn.execute_batch(sql).map_err(|e| sheaf_site::explain(&conn, e).to_string())
    }

    /// Rows as text, columns by `|`, rows by `;`.
    pub(crate) fn rows(&self, view: View, sql: &str) -> String {
        rows(&self.site.connection(view).unwrap(), sql)
    }

    pub(crate) fn local(&self, sql: &str) -> String {
        self.rows(View::Local, sql)
    }

    /// Takes what is new, and keeps what waits.
    pub(crate) fn pull(&self) -> sheaf_site::Integrated {
        self.site.integrate(self.log.pull(self.site.base().0).unwrap()).unwrap()
    }

    /// What waits for the log, as it is sent.
    pub(crate) fn outbox(&self) -> Batch {
        self.site.outbox(self.site.status().acknowledged, usize::MAX).unwrap().unwrap()
    }

    pub(crate) fn exchange(&self) -> sheaf_site::Exchanged {
        self.site.exchange_with_log(&*self.log).unwrap()
    }
}

pub(crate) fn rows(conn: &rusqlite::Connection, sql: &str) -> String {
    let mut statement = conn.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut lines = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cells = (0..columns).map(|at| match row.get_ref(at).unwrap() {
            rusqlite::types::ValueRef::Null => "NULL".to_owned(),
            rusqlite::types::ValueRef::Integer(i) => i.to_string(),
            rusqlite::types::ValueRef::Real(r) => r.to_string(),
            rusqlite::types::ValueRef::Text(t) => String::from_utf8_lossy(t).into(),
            rusqlite::types::ValueRef::Blob(b) => format!("{b:02x?}"),
        });
        lines.push(cells.collect::<Vec<_>>().join("|"));
    }
    lines.join(";")
}

/// Every page of the agreed state, and the answer of SQLite's own check.
pub(crate) fn base_state(device: &Device) -> (u64, Vec<Vec<u8>>) {
    let snapshot = device.site.volume().global();
    let pages = (1..=snapshot.page_count().0)
        .map(|n| snapshot.page(sheaf_volume::PageIdx::new(n).unwrap()).unwrap().to_vec())
        .collect();
    (device.site.base().0.0, pages)
}

pub(crate) fn assert_converged(devices: &[&Device]) {
    let first = base_state(devices[0]);
    for device in devices {
        assert!(base_state(device) == first, "bases differ at lsn {}", first.0);
        assert_eq!(device.rows(View::Global, "PRAGMA integrity_check"), "ok");
        assert_eq!(device.local("PRAGMA integrity_check"), "ok");
        assert!(device.site.volume().is_timeline_empty());
    }
}

/// Everybody sends and learns, until all have what all had; gives what was rejected on the way.
pub(crate) fn exchange_all(devices: &[&Device]) -> Vec<String> {
    let mut rejected = Vec::new();
    for _ in 0..2 {
        for device in devices {
            rejected.extend(device.exchange().rejected.into_iter().map(|(_, why)| why));
        }
    }
    assert_converged(devices);
    rejected
}

/// As [`exchange_all`], where nothing is rejected.
pub(crate) fn agree(devices: &[&Device]) {
    assert_eq!(exchange_all(devices), [""; 0]);
}

/// Whether the long form of a test was asked for.
pub(crate) fn is_long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

/// A seeded generator (SplitMix64): a failing run is repeated by its seed.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

impl World {
    /// Opens a device whose directory was used before: the same device, but randomness that it
    /// has not used yet.
    pub(crate) fn try_reopen(&self, dir: MemDir, number: u64, env: Arc<dyn Env>) -> Result<Device> {
        let options = SiteOptions {
            create: Some(self.ids),
            ..SiteOptions::new("test", DeviceId::from_bytes([number as u8; 16]))
        };
        let site = Site::open(&dir, env, options)?;
        let log = self.log();
        site.set_remote(Some(log.clone() as Arc<dyn Remote>));
        Ok(Device { site, log, dir })
    }

    /// A world with a copy of this one's bucket.
    pub(crate) fn copy(&self) -> Self {
        let objects = Arc::new(MemObjects::new());
        for key in self.objects.list("", None).unwrap() {
            objects.put(&key, self.objects.get(&key).unwrap()).unwrap();
        }
        Self { objects, ids: self.ids, next: std::cell::Cell::new(100) }
    }
}

/// Rows as text, or the error as a person would be told it.
pub(crate) fn try_rows(device: &Device, view: View, sql: &str) -> Result<Vec<String>> {
    let conn = device.site.connection(view)?;
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut statement = conn.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = (0..columns).map(|at| format!("{:?}", row.get_ref_unwrap(at)));
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
        Ok(lines)
    };
    read().map_err(|e| sheaf_site::explain(&conn, e))
}
