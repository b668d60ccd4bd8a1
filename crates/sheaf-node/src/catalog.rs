//! Finding sites by name, and volumes by id.
//!
//! Invariant: a site that was found once never changes, so what is remembered here stays true.

use std::sync::Arc;

use sheaf_site::{SiteIds, history::check_not_record};
use sheaf_sync::{
    branch::BranchRequest,
    wire::{CreateIds, OpenedSite},
};
use sheaf_volume::{
    BucketRemote, Error, ErrorKind, PageSize, Result, SiteRecord, VolumeId, check_site_name,
    create_branch, create_site, find_site, list_sites,
};

use crate::sites::{Known, Sites};

impl Sites {
    /// A site by name, created under the given ids when there is none.
    pub(crate) fn find(&self, name: &str, create: Option<CreateIds>) -> Result<Known> {
        check_site_name(name)?;
        let record = match find_site(self.objects.as_ref(), name)? {
            Some(record) => record,
            None => self.create(name, create)?,
        };
        let known = known_as(name, record);
        self.remember(&known);
        Ok(known)
    }

    fn create(&self, name: &str, create: Option<CreateIds>) -> Result<SiteRecord> {
        let Some(ids) = create else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "no site `{name}` here; create it with: sheaf sql '{name}' 'CREATE TABLE ...'"
                ),
            ));
        };
        check_not_record(name)?;
        let record = SiteRecord {
            site: ids.site,
            lineage: ids.volume.into(),
            page_size: ids.page_size,
            created_ms: self.env.now_ms(),
        };
        create_site(self.objects.as_ref(), name, &record)
    }

    /// The site of a volume that nobody has opened by name since this node started.
    pub(crate) fn find_volume(&self, volume: VolumeId) -> Result<Known> {
        if self.may_list() {
            for (name, record) in list_sites(self.objects.as_ref())? {
                self.remember(&known_as(&name, record));
            }
        }
        self.known(volume).ok_or_else(|| {
            let text = format!("no volume `{volume}` here: open its site by name first");
            Error::new(ErrorKind::NotFound, text)
        })
    }

    /// The log of a site.
    pub(crate) fn log(&self, known: &Known) -> BucketRemote {
        let lineage = known.lineage.clone();
        let log = BucketRemote::new(Arc::clone(&self.objects), lineage, known.ids.page_size);
        log.with_leads(sheaf_site::leads)
    }

    /// Creates a branch, and opens it.
    ///
    /// # Errors
    /// As [`create_branch`], and as for opening.
    pub(crate) fn branch(&self, request: &BranchRequest) -> Result<OpenedSite> {
        let record = SiteRecord {
            site: request.site,
            lineage: request.volume.into(),
            page_size: PageSize::DEFAULT,
            created_ms: self.env.now_ms(),
        };
        check_not_record(&request.name)?;
        create_branch(&self.objects, &request.source, request.at, &request.name, &record)?;
        self.open(&request.name, None).map(|(_, opened)| opened)
    }
}

fn known_as(name: &str, record: SiteRecord) -> Known {
    let SiteRecord { site, lineage, page_size, .. } = record;
    let ids = SiteIds { site, volume: lineage.volume(), page_size };
    Known { name: name.to_owned(), ids, lineage }
}
