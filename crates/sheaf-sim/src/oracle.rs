//! What must be true: the log's order replayed in plain SQLite, and a ledger of every transaction
//! that any device ever committed.
//!
//! Invariant: the oracle reads the stored objects themselves, past every fault, and what the
//! simulator itself was told; it never asks the replica under test what is right. Leaves out the
//! claims themselves: each has a module of its own in [`crate::check`].

use std::sync::Arc;

use bytes::Bytes;
use sheaf_site::{Site, SiteIds, SiteOptions, View};
use sheaf_volume::{
    BucketRemote, Commit, CommitHash, DeviceId, ManualEnv, MemDir, Objects, Remote as _,
    SiteRecord, TimelineId, VolumeId, find_site, verify_log,
};

use crate::{
    bucket::Bucket,
    check::{self, Checked, Violation},
    workload::{Runs, Transaction},
};

pub(crate) mod kept;
pub(crate) mod ledger;
pub(crate) mod model;

use kept::Branch;
use ledger::Ledger;
use model::{Image, Model};

/// Positions whose objects are compared with what they were, at every look.
const LOOKED_BACK: usize = 4;

/// One position of a log.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) hash: CommitHash,
    pub(crate) bytes: Bytes,
    pub(crate) time_ms: u64,
    /// The model's state there.
    pub(crate) image: Image,
    /// What that state says: an observer's words, which the model confirms.
    pub(crate) says: Arc<str>,
    /// Hash of every page of the state there, as the observer has it.
    pub(crate) content: [u8; 32],
}

/// Everything that must be true of one site.
#[derive(Debug)]
pub(crate) struct SiteOracle {
    pub(crate) name: String,
    bucket: Arc<Bucket>,
    found: Option<Found>,
    /// Positions 1, 2, 3, ... of the log.
    pub(crate) log: Vec<Position>,
    pub(crate) ledger: Ledger,
    model: Model,
    /// How often the bucket had changed when it was last looked at.
    seen: u64,
    /// The oldest position that must still be there, zero for all.
    pub(crate) boundary: u64,
    /// Branches that somebody was told of.
    pub(crate) branches: Vec<Branch>,
}

/// The site in the bucket, and a replica of it that no fault touches.
#[derive(Debug)]
struct Found {
    record: SiteRecord,
    log: Arc<BucketRemote>,
    observer: Site,
}

impl SiteOracle {
    pub(crate) fn new(name: &str, bucket: Arc<Bucket>) -> Self {
        Self {
            name: name.to_owned(),
            bucket,
            found: None,
            log: Vec::new(),
            ledger: Ledger::default(),
            model: Model::new(),
            seen: 0,
            boundary: 0,
            branches: Vec::new(),
        }
    }

    /// The newest position.
    pub(crate) fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// The model's state at a position, if there is one; zero is the empty site.
    pub(crate) fn position(&self, lsn: u64) -> Option<&Position> {
        self.log.get(usize::try_from(lsn.checked_sub(1)?).ok()?)
    }

    /// What the model says of a position.
    pub(crate) fn says(&self, lsn: u64) -> Option<Arc<str>> {
        if lsn == 0 {
            return Some(Arc::from(""));
        }
        self.position(lsn).map(|position| Arc::clone(&position.says))
    }

    /// What a column of a text holds at a position.
    pub(crate) fn note_at(&self, lsn: u64, note: u64, column: &str) -> Option<String> {
        Model::at(&self.position(lsn)?.image).note(note, column)
    }

    /// Adds to a transaction what its author has seen at a position.
    pub(crate) fn sees(&self, lsn: u64, transaction: &mut Transaction) -> Option<()> {
        Model::at(&self.position(lsn)?.image).shows_to(transaction)
    }

    /// What a device must see at a position with these of its transactions pending on top.
    pub(crate) fn predicts(
        &self,
        lsn: u64,
        timeline: TimelineId,
        pending: &[u64],
    ) -> Result<String, Violation> {
        let empty = Image::from([]);
        let image = if lsn == 0 { Some(&empty) } else { self.position(lsn).map(|p| &p.image) };
        let image = image.ok_or_else(|| {
            check::log::violated(format!(
                "a replica is at @{lsn}, the log ends at @{}",
                self.head()
            ))
        })?;
        let model = Model::at(image);
        for seq in pending {
            let transaction = self.ledger.transaction(timeline, *seq)?;
            // One that fails on this base is skipped until the log decides.
            let _ = model.apply(&transaction, Runs::Prediction).is_ok();
        }
        Ok(model.dump())
    }

    /// The site's volume, once its record was seen.
    pub(crate) fn volume(&self) -> Option<VolumeId> {
        self.found.as_ref().map(|found| found.record.volume())
    }

    /// Takes what the log has beyond what was seen, and checks it.
    pub(crate) fn observe(&mut self) -> Checked {
        let changes = self.bucket.changes();
        if self.seen == changes || self.found.is_none() && !self.find() {
            return Ok(());
        }
        self.seen = changes;
        self.look_back()?;
        while let Some(bytes) = self.next_object() {
            let commit = Commit::decode(bytes.clone()).map_err(|error| {
                check::log::violated(format!("@{} cannot be read: {error}", self.head() + 1))
            })?;
            check::log::continues(self.log.last(), self.head(), &commit, &self.bucket, &self.name)?;
            self.take(&commit, bytes)?;
        }
        Ok(())
    }

    /// The newest positions are as they were written, but for those that were reclaimed.
    fn look_back(&mut self) -> Checked {
        let Some(found) = &self.found else { return Ok(()) };
        self.boundary = found.log.boundary().map_or(self.boundary, |boundary| boundary.0);
        let newest = (1..=self.head()).rev().zip(self.log.iter().rev());
        let newest = newest.take_while(|(lsn, _)| *lsn >= self.boundary);
        for (lsn, position) in newest.take(LOOKED_BACK) {
            let now = self.bucket.stored(&log_key(&found.record, lsn));
            check::log::unchanged(&self.name, lsn, &position.bytes, now.as_deref())?;
        }
        Ok(())
    }

    fn find(&mut self) -> bool {
        let objects: Arc<dyn Objects> = self.bucket.truth();
        let Ok(Some(record)) = find_site(&*objects, &self.name) else { return false };
        let ids =
            SiteIds { site: record.site, volume: record.volume(), page_size: record.page_size };
        let log = Arc::new(BucketRemote::new(objects, ids.volume, ids.page_size));
        let options = SiteOptions {
            create: Some(ids),
            ..SiteOptions::new(&*self.name, DeviceId::from_bytes([255; 16]))
        };
        let observer = Site::open(&MemDir::new(), Arc::new(ManualEnv::new(1)), options);
        let observer = observer.expect("BUG: an observer opens on an empty directory");
        observer.set_remote(Some(log.clone()));
        self.found = Some(Found { record, log, observer });
        true
    }

    /// What was first stored at the position after the newest: a name that becomes free may be
    /// taken again, by who does not know yet that it was reclaimed, and that is nobody's history.
    fn next_object(&self) -> Option<Bytes> {
        self.bucket.first_stored(&log_key(&self.found.as_ref()?.record, self.head() + 1))
    }

    fn take(&mut self, commit: &Commit, bytes: Bytes) -> Checked {
        let lsn = commit.lsn.0;
        for applied in &commit.applied {
            check::exactly_once::in_order(&self.ledger, &self.name, lsn, applied)?;
            for (seq, verdict) in applied.verdicts() {
                let transaction = self.ledger.transaction(applied.timeline, seq)?;
                let said = self.model.apply(&transaction, Runs::Log);
                let reason = applied.rejects.iter().find(|reject| reject.seq == seq);
                check::merge::verdict(lsn, seq, &transaction, verdict, reason, &said)?;
                self.ledger.decide(applied.timeline, seq, lsn, verdict);
            }
        }
        let (says, content) = self.witness(lsn, self.model.dump())?;
        let (hash, time_ms, image) = (commit.hash(), commit.time_ms, self.model.image());
        self.log.push(Position { hash, bytes, time_ms, image, says, content });
        Ok(())
    }

    /// Reads the position as a replica that nothing troubles reads it: what it says, where the
    /// model leaves a choice, and its bytes.
    fn witness(&self, lsn: u64, says: String) -> Result<(Arc<str>, [u8; 32]), Violation> {
        let Some(found) = &self.found else { return Ok((says.into(), [0; 32])) };
        let failed = |what: &str, error: sheaf_volume::Error| {
            check::log::violated(format!("an observer cannot {what} @{lsn}: {error}"))
        };
        let commits = found.log.pull(found.observer.base().0).map_err(|e| failed("pull", e))?;
        let newest: Vec<Commit> = commits.into_iter().filter(|c| c.lsn.0 <= lsn).collect();
        found.observer.integrate(newest).map_err(|e| failed("take", e))?;
        let seen = model::says(&found.observer, View::Global).map_err(|e| failed("read", e))?;
        check::merge::equals_model(&format!("@{lsn}"), &says, &seen)?;
        let content = found.observer.volume().global().content_hash();
        Ok((seen.into(), content.map_err(|e| failed("hash", e))?))
    }

    /// Reads the newest state with SQLite's own checks, and everything in the bucket with ours.
    pub(crate) fn audit(&self) -> Checked {
        let Some(found) = &self.found else { return Ok(()) };
        let who = format!("observer of {}", self.name);
        check::integrity::of(&who, &found.observer, View::Global)?;
        let (objects, record) = (self.bucket.truth(), &found.record);
        let verified =
            verify_log(&*objects, &record.lineage, record.page_size, None, &mut |_, _| ());
        check::gc::sound(&self.name, verified)
    }
}

fn log_key(record: &SiteRecord, lsn: u64) -> String {
    format!("volumes/{}/log/{lsn:020}", record.volume())
}
