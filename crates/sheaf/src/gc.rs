//! Reclaiming in a bucket: what `sheaf gc` does without a node.
//!
//! Invariant: only the bucket is touched, no replica. Leaves out when it is done: a node does it
//! by itself, a bucket without one when somebody says so.

use std::sync::Arc;

use sheaf_site::{Error, ErrorKind, Result, leads};
use sheaf_volume::{
    BucketRemote, GcReport, GcWatch, Objects, Retention, SystemEnv, find_site, list_sites,
};

use crate::{Client, server::Server};

impl Client {
    /// The sites of the bucket that this client was opened with, by name.
    ///
    /// # Errors
    /// `Invalid` without a bucket, or as the store fails.
    pub fn bucket_sites(&self) -> Result<Vec<String>> {
        let sites = list_sites(self.bucket()?.as_ref())?;
        Ok(sites.into_iter().map(|(name, _)| name).collect())
    }

    /// Reclaims what of a site in the bucket nobody can reach any more, pass by pass until nothing
    /// is left to do. `watch` hears of every step; an error of it stops the work there, safely.
    ///
    /// # Errors
    /// `NotFound` without such a site, and those of [`BucketRemote::gc`].
    pub fn gc(
        &self,
        name: &str,
        retention: &Retention,
        dry_run: bool,
        watch: &mut GcWatch<'_>,
    ) -> Result<GcReport> {
        let objects = self.bucket()?;
        let record = find_site(objects.as_ref(), name)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the bucket has no site `{name}`"))
        })?;
        let log = BucketRemote::new(objects, record.lineage, record.page_size).with_leads(leads);
        let mut done = log.gc(&SystemEnv, retention, dry_run, watch)?;
        while done.more && !dry_run {
            let next = log.gc(&SystemEnv, retention, dry_run, watch)?;
            done.boundary = next.boundary;
            done.checkpoints.extend(next.checkpoints);
            done.written += next.written;
            done.doomed.extend(next.doomed);
            done.more = next.more;
        }
        Ok(done)
    }

    fn bucket(&self) -> Result<Arc<dyn Objects>> {
        match self.server() {
            Some(Server::Bucket(url)) => self.objects(url),
            Some(Server::Node(url)) => Err(Error::invalid(format!(
                "`{url}` is a node, which reclaims by itself; name the bucket: --server file://DIR"
            ))),
            None => Err(Error::invalid("no bucket is named: give --server file://DIR, s3://...")),
        }
    }
}
