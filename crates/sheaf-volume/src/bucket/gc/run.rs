//! A pass of the reclaimer: look, make checkpoints, raise the boundary, look again, delete.
//!
//! Invariant: the order of these steps, on which the reasons in the parent module rest. Segments
//! are listed before the head is asked for that a mark names with them; pins, and checkpoints that
//! others made, are listed after the boundary was raised. Each step is a crash point.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Deletes, Doomed, Entry, GcReport, GcStep, GcWatch, Goal, Held, Holdings, Pinned, Retention,
    Standing, Why, plan_deletes, plan_goal,
};
use crate::bucket::BucketRemote;
use crate::bucket::boundary::Mark;
use crate::bucket::branch::pins;
use crate::bucket::keys::{
    checkpoint_key, damaged, log_key, log_prefix, lsn_in, pack_key, pack_prefix, refused,
    segment_key, segment_prefix,
};
use crate::limits::{DELETE_BATCH_MAX, GC_COMMITS_MAX, LOG_BATCH_MAX, SUSPECTS_MAX};
use crate::teeth::{Tooth, bites};
use crate::{Commit, Env, Error, ErrorKind, Lsn, ObjectsError, Remote as _, Result, SegmentId};

/// What a pass has found out.
struct Pass<'a> {
    remote: &'a BucketRemote,
    env: &'a dyn Env,
    segments: BTreeSet<SegmentId>,
    held: BTreeMap<Lsn, Held>,
    /// Commits below the boundary that have been read.
    log: BTreeMap<Lsn, Entry>,
    report: GcReport,
}

impl BucketRemote {
    /// One pass of reclaiming: checkpoints, boundary, deletion. A dry run only says what it would
    /// do. Any number may run at once, beside readers and writers.
    ///
    /// # Errors
    /// `Conflict` when another pass was faster, `Corrupt` when something that must be kept cannot
    /// be read: then nothing is deleted. Or as the store fails, or as `watch` does: the next pass
    /// goes on.
    pub fn gc(
        &self,
        env: &dyn Env,
        retention: &Retention,
        dry_run: bool,
        watch: &mut GcWatch<'_>,
    ) -> Result<GcReport> {
        let before = self.boundary()?;
        let done = self.pass(env, retention, dry_run, watch);
        done.map_err(|e| match (e.kind(), self.boundary()) {
            // What this pass was reading has been reclaimed by another.
            (ErrorKind::Expired | ErrorKind::NotFound, Ok(boundary)) if boundary > before => {
                let text = "another reclaimer was faster; nothing is left to do here";
                Error::with_source(ErrorKind::Conflict, text, e)
            }
            _ => e,
        })
    }

    fn pass(
        &self,
        env: &dyn Env,
        retention: &Retention,
        dry_run: bool,
        watch: &mut GcWatch<'_>,
    ) -> Result<GcReport> {
        // ORDER: the other way round, other reclaimers could raise the boundary above this head.
        let boundary = self.boundary()?;
        let head = self.head()?.lsn;
        let report = GcReport { head, boundary_before: boundary, boundary, ..GcReport::default() };
        let fork = self.lineage.fork();
        if head <= fork {
            // Nothing yet, or nothing of its own.
            return Ok(report);
        }
        let checkpoints = self.own_checkpoints()?;
        let from = boundary.max(fork.next());
        let old = env.now_ms().saturating_sub(retention.keep_for_ms);
        let aged = self.at_time(old, from.max(Lsn(1)), head)?;
        let standing = Standing { head, boundary, checkpoints, aged };
        let mut goal = plan_goal(&standing, retention);
        // What a branch has from a parent is the parent's to reclaim.
        goal.make.retain(|lsn| *lsn > fork);
        if goal.boundary <= fork {
            goal.boundary = boundary;
        }
        let (held, log) = (BTreeMap::new(), BTreeMap::new());
        let segments = self.list_segments()?;
        let mut pass = Pass { remote: self, env, segments, held, log, report };
        pass.open(&standing.checkpoints, true)?;
        if dry_run {
            pass.rehearse(&goal)?;
        } else {
            pass.checkpoints(&goal, watch)?;
            pass.raise(&goal, watch)?;
            pass.hint()?;
        }
        let deletes = pass.choose(dry_run)?;
        pass.list_doomed(&deletes);
        if !dry_run {
            pass.delete(watch)?;
        }
        Ok(pass.report)
    }

    /// The positions of its own that have a checkpoint.
    fn own_checkpoints(&self) -> Result<Vec<Lsn>> {
        let mut lsns = self.list_checkpoints()?;
        lsns.retain(|lsn| *lsn > self.lineage.fork());
        Ok(lsns)
    }

    fn list_segments(&self) -> Result<BTreeSet<SegmentId>> {
        let prefix = segment_prefix(self.volume());
        let keys = self.objects.list(&prefix, None).map_err(|e| refused("list segments", e))?;
        let id = |key: &String| {
            let id: SegmentId = key.strip_prefix(&prefix)?.parse().ok()?;
            (segment_key(self.volume(), id) == *key).then_some(id)
        };
        Ok(keys.iter().filter_map(id).collect())
    }
}

impl Pass<'_> {
    /// Looks at checkpoints. Those listed before the segments were must be whole.
    fn open(&mut self, lsns: &[Lsn], before_segments: bool) -> Result<()> {
        let remote = self.remote;
        for &lsn in lsns {
            if self.held.contains_key(&lsn) {
                continue;
            }
            let opened = match remote.open_checkpoint(lsn) {
                Ok(opened) => opened,
                // Another reclaimer is at work.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let own = opened.head.segments.iter().filter(|one| one.volume == remote.volume());
            let segments: Vec<SegmentId> = own.map(|one| one.id).collect();
            let whole = !before_segments || segments.iter().all(|id| self.segments.contains(id));
            if !whole && lsn >= remote.boundary()? {
                let text = "a segment that this checkpoint refers to is missing";
                return Err(damaged(&checkpoint_key(remote.volume(), lsn), Error::corrupt(text)));
            }
            self.held.insert(lsn, Held { lsn, anchor: opened.head.anchor, segments, whole });
        }
        Ok(())
    }

    /// What [`Pass::checkpoints`] and [`Pass::raise`] would do.
    fn rehearse(&mut self, goal: &Goal) -> Result<()> {
        for &lsn in &goal.make {
            let survey = self.remote.survey(lsn)?;
            self.report.written += survey.rewritten_bytes(self.remote.page_size);
            let (anchor, segments) = (survey.anchor(), survey.refers_to(self.remote.volume()));
            self.held.insert(lsn, Held { lsn, anchor, segments, whole: true });
        }
        self.report.checkpoints.clone_from(&goal.make);
        self.report.boundary = goal.boundary;
        Ok(())
    }

    fn checkpoints(&mut self, goal: &Goal, watch: &mut GcWatch<'_>) -> Result<()> {
        for &lsn in &goal.make {
            watch(GcStep::Checkpoint(lsn))?;
            self.report.written += self.remote.checkpoint(self.env, lsn)?;
        }
        self.open(&goal.make, false)?;
        self.report.checkpoints.clone_from(&goal.make);
        Ok(())
    }

    fn raise(&mut self, goal: &Goal, watch: &mut GcWatch<'_>) -> Result<()> {
        if goal.boundary > self.report.boundary_before {
            watch(GcStep::Boundary(goal.boundary))?;
            let pins = pinned(self.remote)?;
            self.read_log(goal.boundary, &pins)?;
            self.fault("gc: before mark")?;
            // ORDER: after the segments were listed, and after the checkpoints were made.
            let head = self.remote.head()?.lsn;
            let mark = Mark {
                volume: self.remote.volume(),
                number: 0,
                boundary: goal.boundary,
                head,
                time_ms: self.env.now_ms(),
                suspects: self.suspects(),
            };
            if !bites(Tooth::SkipMark) {
                self.remote.raise_boundary(&mark)?;
            }
            self.fault("gc: after mark")?;
        }
        // Somebody else may have moved it further.
        self.report.boundary = self.remote.boundary()?;
        if bites(Tooth::SkipMark) {
            self.report.boundary = goal.boundary;
        }
        Ok(())
    }

    /// Tells readers of the newest checkpoint, before what older hints led to is deleted.
    fn hint(&self) -> Result<()> {
        let newest = self.held.keys().next_back().filter(|lsn| **lsn >= self.report.boundary);
        match newest {
            Some(lsn) => self.remote.write_hint(&*self.remote.open_checkpoint(*lsn)?),
            None => Ok(()),
        }
    }

    /// Segments that no checkpoint and no reclaimed commit names, oldest first.
    fn suspects(&self) -> Vec<SegmentId> {
        let mut named: BTreeSet<SegmentId> =
            self.held.values().flat_map(|one| one.segments.iter().copied()).collect();
        named.extend(self.log.values().filter_map(|one| one.segment));
        self.segments.difference(&named).copied().take(SUSPECTS_MAX).collect()
    }

    fn choose(&mut self, dry_run: bool) -> Result<Deletes> {
        let remote = self.remote;
        let boundary = self.report.boundary;
        // ORDER: after the boundary was raised; who pins looks at it after that.
        let pins = pinned(remote)?;
        if !dry_run {
            let lsns = remote.own_checkpoints()?;
            self.open(&lsns, false)?;
        }
        self.read_log(boundary, &pins)?;
        let ripe = remote.ripe_mark(boundary)?.map(|mark| mark.suspects).unwrap_or_default();
        let prefix = pack_prefix(remote.volume());
        let packs = remote.objects.list(&prefix, None).map_err(|e| refused("list packs", e))?;
        Ok(plan_deletes(&Holdings {
            boundary,
            checkpoints: self.held.values().cloned().collect(),
            pins,
            log: self.log.values().copied().collect(),
            packs: packs.iter().filter_map(|key| lsn_in(&prefix, key)).collect(),
            segments: self.segments.clone(),
            ripe: ripe.into_iter().collect(),
        }))
    }

    /// Reads commits below a boundary: all that pins need, and of the others as many as one pass
    /// takes.
    fn read_log(&mut self, boundary: Lsn, pins: &[Lsn]) -> Result<()> {
        let remote = self.remote;
        let prefix = log_prefix(remote.volume());
        let keys = remote.objects.list(&prefix, None).map_err(|e| refused("list log", e))?;
        let lsns = keys.iter().filter_map(|key| lsn_in(&prefix, key));
        let whole: Vec<Lsn> =
            self.held.values().filter(|one| one.whole).map(|one| one.lsn).collect();
        let needed = Pinned::new(boundary, pins, &whole);
        let (pinned, old): (Vec<Lsn>, Vec<Lsn>) =
            lsns.filter(|&lsn| lsn < boundary).partition(|&lsn| needed.needs(lsn));
        self.report.more = old.len() > GC_COMMITS_MAX;
        let wanted = pinned.into_iter().chain(old.into_iter().take(GC_COMMITS_MAX));
        let unread: Vec<Lsn> = wanted.filter(|lsn| !self.log.contains_key(lsn)).collect();
        for batch in unread.chunks(LOG_BATCH_MAX) {
            let keys: Vec<String> =
                batch.iter().map(|&lsn| log_key(remote.volume(), lsn)).collect();
            for (&lsn, bytes) in batch.iter().zip(remote.objects.get_many(&keys)) {
                match bytes {
                    Ok(bytes) => drop(self.log.insert(lsn, entry(lsn, &bytes, needed.needs(lsn))?)),
                    // Another reclaimer is at work.
                    Err(ObjectsError::NotFound(_)) => {}
                    Err(e) => return Err(refused("read commit", e)),
                }
            }
        }
        Ok(())
    }

    fn list_doomed(&mut self, deletes: &Deletes) {
        let volume = self.remote.volume();
        let sized = self.log.values().filter_map(|one| Some((one.segment?, one.segment_bytes)));
        let sizes: BTreeMap<SegmentId, u64> = sized.collect();
        let segment = |why: Why| {
            let sizes = &sizes;
            move |id: &SegmentId| {
                let bytes = sizes.get(id).copied();
                Doomed { key: segment_key(volume, *id), why, bytes }
            }
        };
        let mut doomed: Vec<Doomed> = Vec::new();
        doomed.extend(deletes.superseded.iter().map(segment(Why::Superseded)));
        doomed.extend(deletes.unnamed.iter().map(segment(Why::Unnamed)));
        let of = |key, why, bytes| Doomed { key, why, bytes };
        let packs = deletes.packs.iter();
        doomed.extend(packs.map(|&lsn| of(pack_key(volume, lsn), Why::OldPack, None)));
        doomed.extend(deletes.commits.iter().map(|&lsn| {
            let bytes = self.log.get(&lsn).map(|one| one.bytes);
            of(log_key(volume, lsn), Why::OldCommit, bytes)
        }));
        // Last: until then they name their segments to whoever has to go on here.
        let old = deletes.checkpoints.iter();
        doomed.extend(old.map(|&lsn| of(checkpoint_key(volume, lsn), Why::OldCheckpoint, None)));
        self.report.doomed = doomed;
    }

    fn delete(&self, watch: &mut GcWatch<'_>) -> Result<()> {
        let doomed = &self.report.doomed;
        let mut done = 0;
        for batch in
            doomed.chunk_by(|a, b| a.why == b.why).flat_map(|kind| kind.chunks(DELETE_BATCH_MAX))
        {
            watch(GcStep::Delete(done, doomed.len()))?;
            self.fault("gc: before delete")?;
            let keys: Vec<String> = batch.iter().map(|one| one.key.clone()).collect();
            // ORDER: the next kind goes only when all of this one have gone.
            let outcomes = self.remote.objects.delete_many(&keys);
            outcomes.into_iter().collect::<Result<(), _>>().map_err(|e| refused("delete", e))?;
            done += batch.len();
        }
        if done > 0 {
            watch(GcStep::Delete(done, doomed.len()))?;
        }
        Ok(())
    }

    fn fault(&self, point: &'static str) -> Result<()> {
        self.env.fault(point).map_err(|e| Error::io("reclaim", e))
    }
}

/// The positions that branches need, as the store says now.
fn pinned(remote: &BucketRemote) -> Result<Vec<Lsn>> {
    if bites(Tooth::IgnorePins) {
        return Ok(Vec::new());
    }
    Ok(pins(&*remote.objects, remote.volume())?.iter().map(|pin| pin.lsn).collect())
}

/// What matters of a commit. One that nobody needs may also be unreadable.
fn entry(lsn: Lsn, bytes: &bytes::Bytes, needed: bool) -> Result<Entry> {
    let size = bytes.len() as u64;
    match Commit::decode(bytes.clone()) {
        Ok(commit) => {
            let segment_bytes = commit.frames.iter().map(|frame| u64::from(frame.len)).sum();
            Ok(Entry { lsn, segment: commit.segment, segment_bytes, bytes: size })
        }
        Err(e) if needed || e.kind() == ErrorKind::Unsupported => Err(e),
        Err(_) => Ok(Entry { lsn, segment: None, segment_bytes: 0, bytes: size }),
    }
}
