//! A site's record in a bucket, its attributes and its timeline in a replica.
//!
//! Asserts: a record that is read is what a writer of it would have written; whatever attributes
//! and pending mutation a replica holds, it opens, shows its status, and an exchange with an empty
//! bucket decides the mutation or fails without a trace in the log.

use std::sync::Arc;

use sheaf_site::{Site, SiteIds, SiteOptions};
use sheaf_volume::{
    BucketRemote, DeviceId, Durability, Env, Lsn, ManualEnv, MemDir, MemObjects, Objects as _,
    PageSize, PendingMutation, SiteId, Volume, VolumeId, VolumeOptions, create_site, find_site,
};

use crate::input::{Input, assert_refusal};

pub(crate) const DEVICE: DeviceId = DeviceId::from_bytes([1; 16]);
pub(crate) const IDS: SiteIds = SiteIds {
    site: SiteId::from_bytes([4; 16]),
    volume: VolumeId::from_bytes([2; 16]),
    page_size: PageSize::new(512).expect("BUG: a page size"),
};
/// Pages that a replica keeps in memory.
const CACHE_PAGES: usize = 16;
/// Attributes of one input.
const ATTRS_MAX: usize = 8;

/// The bytes as a record; then as a mutation and pairs of name and value.
pub fn target(data: &[u8]) {
    record(data);
    let mut input = Input(data);
    let mutation = input.section();
    let mut attrs = Vec::new();
    while !input.is_empty() && attrs.len() < ATTRS_MAX {
        let name = String::from_utf8_lossy(input.section()).into_owned();
        attrs.push((name, Some(input.section().to_vec().into())));
    }
    attributes(mutation, attrs);
}

pub(crate) fn record(data: &[u8]) {
    let objects = MemObjects::new();
    objects.put("sites/s/site.json", data.to_vec().into()).expect("BUG: objects in memory");
    match find_site(&objects, "s") {
        Ok(found) => {
            let found = found.expect("BUG: the record is there");
            let elsewhere = MemObjects::new();
            let made = create_site(&elsewhere, "s", &found).expect("BUG: objects in memory");
            assert_eq!(made, found);
            assert_eq!(find_site(&elsewhere, "s").expect("BUG: our own record"), Some(found));
        }
        Err(error) => assert_refusal(&error),
    }
}

/// A replica of a site in a directory.
pub(crate) fn replica(dir: &MemDir, env: Arc<dyn Env>, ids: SiteIds) -> Site {
    let mut options = SiteOptions::new("s", DEVICE);
    (options.create, options.cache_pages) = (Some(ids), CACHE_PAGES);
    Site::open(dir, env, options).expect("BUG: a replica")
}

fn attributes(mutation: &[u8], attrs: Vec<(String, Option<bytes::Bytes>)>) {
    let (dir, env): (_, Arc<dyn Env>) = (MemDir::new(), Arc::new(ManualEnv::new(1)));
    let create = Some((IDS.volume, IDS.page_size));
    let options = VolumeOptions { create, cache_pages: CACHE_PAGES, ..VolumeOptions::default() };
    let volume = Volume::open(&dir, Arc::clone(&env), options).expect("BUG: a new volume");
    if !mutation.is_empty() {
        let bytes = mutation.to_vec().into();
        let pending = PendingMutation { seq: 1, base: Lsn::ZERO, time_ms: 1, bytes };
        let draft = volume.draft(volume.writer());
        draft.save(Some(pending), Vec::new(), Durability::Memory).expect("BUG: a commit in memory");
    }
    volume.set_attrs(attrs).expect("BUG: attributes in memory");
    drop(volume);
    let site = replica(&dir, env, IDS);
    let status = site.status();
    assert_eq!(status.pending.len(), usize::from(!mutation.is_empty()));
    for rejected in site.rejected() {
        site.dismiss_rejected(rejected.seq).expect("BUG: attributes in memory");
    }
    let log = BucketRemote::new(Arc::new(MemObjects::new()), site.ids().volume, IDS.page_size);
    if site.exchange_with_log(&log).is_ok() {
        assert!(site.status().pending.is_empty(), "an exchange decides everything");
    }
}
