//! Making a branch of a site, at a node or in a bucket, and a replica of it here.
//!
//! Invariant: a branch is made where its site is kept, under ids that nobody has, and costs no
//! page there; nothing is made on this device before the server has made the branch. A branch needs
//! the server: a device alone cannot keep the history it begins with from being reclaimed.

use std::time::Duration;

use sheaf_site::{Error, ErrorKind, Result, history::check_not_record};
use sheaf_sync::branch::BranchRequest;
use sheaf_volume::{
    At, Env as _, PageSize, SiteId, SiteRecord, SystemEnv, VolumeId, create_branch,
};

use crate::{
    client::{Client, Shared},
    server::Server,
    site::Site,
};

impl Client {
    /// Makes `name` a branch of the site `source` at a position of its log, and a replica of it
    /// here that has no pages yet. The server is the one that `source` remembers here, or the
    /// client's own.
    ///
    /// # Errors
    /// `Invalid` without a server; `NotFound` without that site or position there; `Conflict` when
    /// there is a site `name`, here or there; `Unavailable` when the server cannot be reached.
    pub fn branch(&self, source: &str, at: At, name: &str, timeout: Duration) -> Result<Site> {
        self.require_free(name)?;
        let server = self.remembered_server(source)?.ok_or_else(|| {
            Error::invalid(format!("site `{source}` has no server to branch it at: name one"))
        })?;
        let ids = (SiteId::mint(&SystemEnv), VolumeId::mint(&SystemEnv));
        self.shared().branch_at(&server, source, at, name, ids)?;
        self.clone_from(name, Some(&server), timeout)
    }

    /// Refuses the name of a site that is here already.
    pub(crate) fn require_free(&self, name: &str) -> Result<()> {
        check_not_record(name)?;
        if !self.site_exists(name) {
            return Ok(());
        }
        let text = format!("there is a site `{name}` on this device; choose another name");
        Err(Error::new(ErrorKind::Conflict, text))
    }

    /// The server that a replica here remembers, or the client's own.
    fn remembered_server(&self, name: &str) -> Result<Option<Server>> {
        let known = match self.site_exists(name) {
            true => self.site(name)?.status().server,
            false => None,
        };
        match known {
            Some(url) => Server::parse(&url).map(Some),
            None => Ok(self.shared().server().cloned()),
        }
    }
}

impl Shared {
    /// Has the branch made, under these ids. Asking again with the same ones changes nothing.
    pub(crate) fn branch_at(
        &self,
        server: &Server,
        source: &str,
        at: At,
        name: &str,
        (site, volume): (SiteId, VolumeId),
    ) -> Result<()> {
        match server {
            Server::Node(url) => {
                let (source, name) = (source.to_owned(), name.to_owned());
                let request = BranchRequest { source, at, name, site, volume };
                self.link(url)?.branch(&request).map(drop)
            }
            Server::Bucket(url) => {
                let record = SiteRecord {
                    site,
                    lineage: volume.into(),
                    // Becomes that of the source.
                    page_size: PageSize::DEFAULT,
                    created_ms: SystemEnv.now_ms(),
                };
                create_branch(&self.objects(url)?, source, at, name, &record).map(drop)
            }
        }
    }
}
