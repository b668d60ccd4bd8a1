//! Reclaiming in a bucket: what `sheaf gc` does without a node.
//!
//! Invariant: only the bucket is touched, no replica of the site, and nothing is reclaimed whose
//! changes are to be recorded and could not be. Leaves out when it is done: a node does it by
//! itself, a bucket without one when somebody says so.

use std::sync::Arc;

use sheaf_site::{
    Error, ErrorKind, Result,
    history::{HistoryRetention, RecordPlace, Recorder, is_record_name, record_name},
    leads,
};
use sheaf_volume::{
    BucketRemote, Dir, Env, GcReport, GcStep, GcWatch, Objects, Retention, StdDir, SystemEnv,
    VolumeId, find_site, list_sites,
};

use crate::{Client, server::Server};

/// Directory with replicas of the records of changes that this device writes.
const RECORDS: &str = "records";

impl Client {
    /// The sites of the bucket that this client was opened with, by name.
    ///
    /// # Errors
    /// `Invalid` without a bucket, or as the store fails.
    pub fn bucket_sites(&self) -> Result<Vec<String>> {
        let sites = list_sites(self.bucket()?.as_ref())?;
        let names = sites.into_iter().map(|(name, _)| name);
        Ok(names.filter(|name| !is_record_name(name)).collect())
    }

    /// Reclaims what of a site in the bucket nobody can reach any more, pass by pass until nothing
    /// is left to do. Before a boundary moves, what became of each row up to there is recorded in a
    /// site of its own, and what is recorded of longer ago than `history` says is deleted; `None`
    /// records nothing. `watch` hears of every step; an error of it stops the work there, safely.
    ///
    /// # Errors
    /// `NotFound` without such a site, those of [`BucketRemote::gc`], and of [`Recorder`]: nothing
    /// is reclaimed then that was not recorded.
    pub fn gc(
        &self,
        name: &str,
        retention: &Retention,
        history: Option<HistoryRetention>,
        dry_run: bool,
        watch: &mut GcWatch<'_>,
    ) -> Result<GcReport> {
        let objects = self.bucket()?;
        let record = find_site(objects.as_ref(), name)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the bucket has no site `{name}`"))
        })?;
        let size = record.page_size;
        let log = BucketRemote::new(Arc::clone(&objects), record.lineage, size).with_leads(leads);
        let history = history.filter(|_| !is_record_name(name) && !dry_run);
        let mut recorder = None;
        let mut step = |step| {
            watch(step)?;
            let (GcStep::Boundary(to), Some(_)) = (step, history) else { return Ok(()) };
            let recorder = match &mut recorder {
                Some(recorder) => recorder,
                none => none.insert(self.recorder(&objects, &log)?),
            };
            recorder.record(log.boundary()?, to, &mut || Ok(())).map(drop)
        };
        let mut done = log.gc(&SystemEnv, retention, dry_run, &mut step)?;
        while done.more && !dry_run {
            let next = log.gc(&SystemEnv, retention, dry_run, &mut step)?;
            done.boundary = next.boundary;
            done.checkpoints.extend(next.checkpoints);
            done.written += next.written;
            done.doomed.extend(next.doomed);
            done.more = next.more;
        }
        let Some(history) = history else { return Ok(done) };
        let recorder = match recorder {
            Some(recorder) => recorder,
            // Nothing was recorded; what is there grows old all the same.
            None if find_site(objects.as_ref(), &record_name(log.volume()))?.is_some() => {
                self.recorder(&objects, &log)?
            }
            None => return Ok(done),
        };
        recorder.tidy(history, retention.exact)?;
        Ok(done)
    }

    fn recorder(&self, objects: &Arc<dyn Objects>, log: &BucketRemote) -> Result<Recorder> {
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let place = RecordPlace { objects, env: &env, device: self.device(), log };
        let open = |volume: VolumeId| {
            let path = self.dir().join(RECORDS).join(volume.to_string());
            let dir = StdDir::open(path).map_err(|e| Error::io("open record directory", e))?;
            Ok(Box::new(dir) as Box<dyn Dir>)
        };
        Recorder::open(&place, &open)
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
