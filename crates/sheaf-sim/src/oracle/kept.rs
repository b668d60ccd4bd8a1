//! What must be left when reclaimers have been at work: read anew, from the objects that are there.
//!
//! Invariant: a newcomer reads, with the production client and past every fault, the log from the
//! boundary on, states from the boundary to the head, and every branch that somebody was told of.
//! Leaves out states below the boundary that no branch needs: they may be there or not.

use std::sync::Arc;

use sheaf::{
    Events,
    driver::{Ask, BucketDriver},
};
use sheaf_site::{Error, Result, Site, SiteIds, SiteOptions, View};
use sheaf_volume::{
    BucketRemote, DeviceId, Env, Lsn, ManualEnv, MemDir, Objects, PageSize, Remote as _, SiteId,
    VolumeId,
};

use super::{
    SiteOracle,
    model::{Image, Model, says},
};
use crate::{
    check::{Checked, gc},
    options::Options,
    rng::Rng,
    workload::{Runs, Transaction, together::agrees},
    world::HostId,
};

/// States between boundary and head that one look reads, besides these two.
const BETWEEN: usize = 2;

/// A branch of a site, written to by the keeper who made it.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub(crate) name: String,
    /// Who made it.
    pub(crate) keeper: HostId,
    /// The position at which it was made.
    pub(crate) at: u64,
    /// The states it may be in or come to: more than one after a push whose outcome is unknown,
    /// until a later one is there.
    pub(crate) may_be: Vec<Image>,
}

/// A replica of a site or branch that has nothing yet, with what it reaches.
pub(crate) fn newcomer(
    name: &str,
    page_size: PageSize,
    objects: Arc<dyn Objects>,
    env: Arc<dyn Env>,
) -> Result<(Site, BucketDriver)> {
    let mut device = [0; 16];
    env.fill_random(&mut device);
    let (site, volume) = (SiteId::mint(&*env), VolumeId::mint(&*env));
    let options = SiteOptions {
        create: Some(SiteIds { site, volume, page_size }),
        ..SiteOptions::new(name, DeviceId::from_bytes(device))
    };
    let site = Site::open(&MemDir::new(), Arc::clone(&env), options)?;
    let mut driver = BucketDriver::new("bucket", site.clone(), objects, env, Events::default());
    driver.exchange(Ask { pull: true, push: false, create: false })?;
    Ok((site, driver))
}

impl SiteOracle {
    /// Reads what must be left.
    pub(crate) fn keeps(&self, options: &Options, rng: &mut Rng) -> Checked {
        let head = self.head();
        if head == 0 {
            return Ok(());
        }
        gc::keeps_enough(&self.name, self.boundary, head, options.keeping.commits)?;
        let cannot = |what: &str, error: Error| gc::unreadable(&self.name, what, &error);
        self.reads_log(&|error| cannot("the log", error))?;
        let (site, _) = self.arrive(&self.name).map_err(|error| cannot("the site", error))?;
        let oldest = self.boundary.max(1);
        let between = (0..BETWEEN).map(|_| rng.between(oldest, head));
        for lsn in [oldest, head].into_iter().chain(between.collect::<Vec<_>>()) {
            let seen = says(&site, View::At(Lsn(lsn)));
            let seen = seen.map_err(|error| cannot(&format!("@{lsn}"), error))?;
            gc::shows(&self.name, lsn, &self.says(lsn).unwrap_or_default(), &seen)?;
        }
        let content = site.volume().at(Lsn(head)).and_then(|head| head.content_hash());
        let content = content.map_err(|error| cannot("the pages of the head", error))?;
        gc::same_bytes(&self.name, self.position(head), content)?;
        self.branches.iter().try_for_each(|branch| {
            let cannot = |error| gc::unreadable(&branch.name, "the branch", &error);
            let (site, _) = self.arrive(&branch.name).map_err(cannot)?;
            let seen = says(&site, View::Global).map_err(cannot)?;
            branch.is(&seen)
        })
    }

    fn arrive(&self, name: &str) -> Result<(Site, BucketDriver)> {
        let size = self.found.as_ref().map_or(PageSize::DEFAULT, |found| found.record.page_size);
        newcomer(name, size, self.bucket.truth(), Arc::new(ManualEnv::new(1)))
    }

    /// Every commit from the boundary on, by the log's own chain.
    fn reads_log(&self, cannot: &dyn Fn(Error) -> crate::Violation) -> Checked {
        let Some(found) = &self.found else { return Ok(()) };
        let record = &found.record;
        let log = BucketRemote::new(self.bucket.truth(), record.lineage.clone(), record.page_size);
        let mut at = self.boundary.saturating_sub(1);
        loop {
            let commits = log.pull(Lsn(at)).map_err(cannot)?;
            let Some(last) = commits.last() else { break };
            at = last.lsn.0;
            commits.iter().try_for_each(|commit| {
                gc::same_commit(&self.name, commit, self.position(commit.lsn.0))
            })?;
        }
        Ok(())
    }
}

impl Branch {
    /// A branch as it was made.
    pub(crate) fn new(name: String, keeper: HostId, at: u64, image: Image) -> Self {
        Self { name, keeper, at, may_be: vec![image] }
    }

    /// A transaction is on its way there.
    pub(crate) fn may_get(&mut self, transaction: &Transaction) {
        let with = |image: &Image| {
            let mut model = Model::at(image);
            // What the log decides is what plain SQL does.
            let _ = model.apply(transaction, Runs::Log).is_ok();
            model.image()
        };
        let more: Vec<Image> = self.may_be.iter().map(with).collect();
        self.may_be.extend(more);
    }

    /// Whether this is a state that the branch may be in.
    pub(crate) fn is(&self, seen: &str) -> Checked {
        let states = self.may_be.iter().map(|image| Model::at(image).dump());
        gc::branch_shows(&self.name, self.at, &states.collect::<Vec<_>>(), seen)
    }

    /// What was seen after a push is what it is: nothing older can come in before it any more.
    pub(crate) fn settles(&mut self, seen: &str) {
        self.may_be.retain(|image| agrees(&Model::at(image).dump(), seen));
    }
}
