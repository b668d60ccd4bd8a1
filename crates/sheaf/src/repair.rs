//! Repairing a site on this device, and segments of its log that this device can give back.
//!
//! Invariant: no pending mutation is dropped, and nothing is written to a store but bytes that
//! match the hash in their commit. Leaves out what only a copy of the store or a fresh clone can
//! mend: the findings that stay say so.

use std::sync::Arc;

use sheaf_site::Result;
use sheaf_volume::{
    Finding, PageSet, Remedy, ReplicaMended, Rewritten, SystemEnv, mend_replica, rewrite_segment,
};

use crate::{
    check::{CheckProgress, Verified},
    client::Client,
    server::Server,
    site::Site,
};

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repaired {
    /// What was found before it.
    pub before: Verified,
    /// What is found after it; as before when nothing was to be done.
    pub after: Verified,
    /// Agreed pages that were thrown away and fetched again.
    pub fetched: PageSet,
    /// Pending changes whose pages were made again.
    pub redone: u64,
    /// Objects of the store that were written again.
    pub rewritten: Vec<String>,
    /// What could not be mended, and why.
    pub failed: Vec<String>,
}

impl Client {
    /// Mends what can be mended of a site that nobody has open, and verifies it again.
    ///
    /// # Errors
    /// As [`Client::verify_site`]; `Unavailable` when pages that are needed cannot be fetched: what
    /// was mended until then stays, and a repair later goes on.
    pub fn repair_site(
        &self,
        name: &str,
        full: bool,
        progress: &mut CheckProgress<'_>,
    ) -> Result<Repaired> {
        let before = self.verify_site(name, full, progress)?;
        let mut repaired = Repaired { after: before.clone(), before, ..Repaired::default() };
        if repaired.before.findings.is_empty() || !repaired.before.local.can_open() {
            return Ok(repaired);
        }
        let has = |remedy| repaired.before.findings.iter().any(|f| f.remedy == remedy);
        let (local, remote) = (has(Remedy::Repair), has(Remedy::Rewrite));
        if local {
            let suspects = repaired.before.differing.clone();
            let dir = self.replica_dir(name)?;
            let mended = mend_replica(&dir, Arc::new(SystemEnv), &suspects)?;
            let site = self.site(name)?;
            repaired.local(&site, mended, progress)?;
        }
        if remote {
            let site = self.site(name)?;
            self.rewrite(&site, &mut repaired)?;
        }
        if local || remote {
            repaired.after = self.verify_site(name, full, progress)?;
        }
        Ok(repaired)
    }

    /// Writes damaged segments again, from pages that are here.
    fn rewrite(&self, site: &Site, repaired: &mut Repaired) -> Result<()> {
        let info = repaired.before.local.replica.clone();
        let Some(info) = info else { return Ok(()) };
        let Some(Server::Bucket(url)) = self.server_of(&info)? else { return Ok(()) };
        let objects = self.objects(&url)?;
        let agreed = site.engine().volume().global();
        let is_segment = |f: &&Finding| f.remedy == Remedy::Rewrite;
        for finding in repaired.before.findings.iter().filter(is_segment) {
            let Some(lsn) = finding.lsn else { continue };
            // A page that changed since has other bytes, and the hash says so.
            let page = &mut |idx| agreed.page_if_here(idx);
            match rewrite_segment(&*objects, info.volume, lsn, page)? {
                Rewritten::Done => repaired.rewritten.push(finding.place.clone()),
                Rewritten::Whole => {}
                Rewritten::Lacks(pages) => repaired.failed.push(format!(
                    "{}: {} of its pages are not on this device as they were at @{lsn}; repair it \
                     on another device, or restore it from a copy of the store",
                    finding.place,
                    pages.len()
                )),
            }
        }
        Ok(())
    }
}

impl Repaired {
    /// Makes pending changes again, and fetches what was thrown away.
    fn local(
        &mut self,
        site: &Site,
        mended: ReplicaMended,
        progress: &mut CheckProgress<'_>,
    ) -> Result<()> {
        let volume = site.engine().volume();
        let progress = &mut |done, all| progress("pages fetched", done, all);
        let of_database = |f: &Finding| f.place == "database";
        let odd = self.before.findings.iter().any(of_database);
        if !volume.is_timeline_empty() && (odd || !mended.drafts.is_empty()) {
            self.redone = site.engine().redo()?.replayed as u64;
            // What was damaged is nobody's state now; folding leaves it out.
            volume.checkpoint(&volume.writer())?;
        }
        volume.fetch_pages(&mended.forgotten, progress)?;
        self.fetched = mended.forgotten;
        Ok(())
    }
}
