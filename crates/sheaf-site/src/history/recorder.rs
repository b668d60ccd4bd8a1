//! Recording the changes of rows before the commits that made them are reclaimed.
//!
//! Invariants: when [`Recorder::record`] returns, every change up to exactly the position that it
//! was given is in the record, once, whoever else records at the same time and wherever an earlier
//! attempt was stopped; states are compared, so nothing is recorded that nobody can have seen. What
//! is held at a time is bounded, however much changed. Leaves out when it is done: whoever reclaims
//! does it, before the boundary moves.

use std::sync::Arc;

use sheaf_volume::{
    BucketRemote, DeviceId, Dir, Env, Error, ErrorKind, GcStep, Lsn, MemDir, Objects, PageCount,
    PageSize, Remote as _, Result, Retention, SiteId, SiteRecord, VolumeId, create_site, find_site,
};

use super::changes::{Batch, Change, each_change, small};
use super::record::{self, Entry, Span, put_folded};
use super::reverse::RowUpdate;
use super::steps::{Forward, Run};
use crate::diff::{Diff, Side};
use crate::limits::{
    HISTORY_ATTEMPTS_MAX, HISTORY_BATCH_BYTES, HISTORY_BATCH_ROWS, HISTORY_BATCH_STEPS,
    HISTORY_CACHE_BYTES, HISTORY_FOLD_BYTES, HISTORY_LOG_KEEP_MS,
};
use crate::site::{Site, SiteIds, SiteOptions};
use crate::vfs::{Carried, Watch};

/// Opens the directory of a replica of a volume, making it when there is none.
pub type OpenDir<'a> = dyn Fn(VolumeId) -> Result<Box<dyn Dir>> + 'a;

/// How long recorded changes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRetention {
    /// Changes as old as this, in milliseconds, are kept.
    pub keep_for_ms: u64,
}

impl HistoryRetention {
    /// A year.
    pub const DEFAULT_KEEP_FOR_MS: u64 = 365 * 24 * 60 * 60 * 1_000;
}

impl Default for HistoryRetention {
    fn default() -> Self {
        Self { keep_for_ms: Self::DEFAULT_KEEP_FOR_MS }
    }
}

/// What recording did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Pairs of states that were compared.
    pub steps: u64,
    /// Changes of rows that were found.
    pub changes: u64,
    /// Transactions that others were faster with.
    pub lost: u64,
}

/// Records the changes of one volume.
#[derive(Debug)]
pub struct Recorder {
    /// Where states are looked at. It keeps nothing.
    source: Site,
    fork: Lsn,
    /// The site with the record, and its log.
    record: Site,
    log: Arc<BucketRemote>,
    env: Arc<dyn Env>,
    done: Recorded,
}

/// What a step changed.
struct Compared {
    run: Run,
    changes: Vec<Change>,
}

/// A state that the next one is compared with.
struct Standing {
    side: Side,
    watch: Arc<Watch>,
    page_count: PageCount,
}

/// Where the record of a volume lies.
#[derive(Clone, Debug)]
pub struct RecordPlace<'a> {
    /// The bucket of both.
    pub objects: &'a Arc<dyn Objects>,
    /// Time and chance.
    pub env: &'a Arc<dyn Env>,
    /// Who records.
    pub device: DeviceId,
    /// The log of the volume whose rows are recorded.
    pub log: &'a BucketRemote,
}

impl Recorder {
    /// Finds the record of a volume, making it if there is none, and opens a replica of it.
    ///
    /// # Errors
    /// Those of the store and of the replica's directory.
    pub fn open(place: &RecordPlace<'_>, dir: &OpenDir<'_>) -> Result<Self> {
        let RecordPlace { objects, env, device, log: of } = place;
        let (lineage, page_size) = (of.lineage(), of.head()?.page_size);
        let name = record::record_name(lineage.volume());
        let found = find_site(objects.as_ref(), &name)?;
        let made = found.map_or_else(|| make(place, &name), Ok)?;
        let ids = SiteIds { site: made.site, volume: made.volume(), page_size: made.page_size };
        let log = BucketRemote::new(Arc::clone(objects), made.lineage, made.page_size);
        let log = Arc::new(log.with_leads(crate::vfs::leads));
        let options = SiteOptions { create: Some(ids), ..SiteOptions::new(name, *device) };
        let record = Site::open(dir(ids.volume)?.as_ref(), Arc::clone(env), options)?;
        record.set_remote(Some(Arc::clone(&log) as _));
        let head = log.head()?;
        record.check_log(&head)?;
        record.adopt(ids, head)?;

        let site = SiteId::from_bytes([0; 16]);
        let ids = SiteIds { site, volume: lineage.volume(), page_size };
        let options = SiteOptions { create: Some(ids), ..SiteOptions::new("source", *device) };
        let source = Site::open(&MemDir::new(), Arc::clone(env), options)?;
        let remote = BucketRemote::new(Arc::clone(objects), lineage.clone(), page_size);
        source.set_remote(Some(Arc::new(remote.with_leads(crate::vfs::leads))));
        let (fork, env) = (lineage.fork(), Arc::clone(env));
        Ok(Self { source, fork, record, log, env, done: Recorded::default() })
    }

    /// Records every change up to a position, from where recording last ended, or from the oldest
    /// position that is kept where something was reclaimed without. `stop` is asked now and then.
    ///
    /// # Errors
    /// What `stop` returns; `Conflict` when other recorders are faster every time; `Unavailable`,
    /// `Corrupt` and those of the replica. What was recorded stays, and the next call goes on.
    pub fn record(
        &mut self,
        boundary: Lsn,
        to: Lsn,
        stop: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Recorded> {
        self.done = Recorded::default();
        let (mut lost_in_a_row, mut reached) = (0, Lsn::ZERO);
        loop {
            stop()?;
            self.record.exchange_with_log(self.log.as_ref())?;
            self.forget_rejected()?;
            let start = boundary.max(self.fork);
            let span = self.span()?.filter(|span| span.last >= start);
            let span = span.map_or_else(|| self.begin_span(start), Ok)?;
            self.check(span, to, reached)?;
            if span.last >= to && span.doing.is_none() {
                return Ok(self.done);
            }
            match self.advance(span, to, stop) {
                Ok(at) => (lost_in_a_row, reached) = (0, at),
                Err(e)
                    if e.kind() == ErrorKind::Conflict && lost_in_a_row < HISTORY_ATTEMPTS_MAX =>
                {
                    lost_in_a_row += 1;
                    self.done.lost += 1;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Whoever may push may write into the record. What it says is believed only as far as the log
    /// goes, and only if it keeps what was recorded; nothing is reclaimed otherwise.
    fn check(&self, span: Span, to: Lsn, reached: Lsn) -> Result<()> {
        let text = if span.last < reached {
            "the record of rows' history does not keep what is written into it"
        } else if span.last > to && span.last > self.source.volume().remote()?.head()?.lsn {
            "the record of rows' history goes beyond the log that it is of"
        } else {
            return Ok(());
        };
        Err(Error::corrupt(format!(
            "{text} (last={}); it was written by something else",
            span.last
        )))
    }

    /// Deletes what was recorded of before a time, and reclaims what the record's own log no
    /// longer needs.
    ///
    /// # Errors
    /// Those of the store and of the replica. What was deleted stays deleted.
    pub fn tidy(&self, retention: HistoryRetention, exact: bool) -> Result<()> {
        let before_ms = self.env.now_ms().saturating_sub(retention.keep_for_ms);
        while self.forget(before_ms)? {}
        let retention = Retention { keep_for_ms: HISTORY_LOG_KEEP_MS, keep_commits: 1, exact };
        // Without the head, nothing was recorded yet.
        self.log.gc(self.env.as_ref(), &retention, false, &mut |_: GcStep| Ok(()))?;
        let volume = self.record.volume();
        volume.tidy()?;
        let writer = volume.writer();
        volume.evict(&writer, HISTORY_CACHE_BYTES).map(|_| ())
    }

    fn forget(&self, before_ms: u64) -> Result<bool> {
        let (more, seq) = self.record.write(|tx| {
            if !record::is_made(tx)? {
                return Ok(false);
            }
            record::begin(tx)?;
            record::forget(tx, before_ms)
        })?;
        if seq.is_some() {
            self.record.exchange_with_log(self.log.as_ref())?;
            // Another recorder came first, and does the same.
            return Ok(!self.forget_rejected()? && more);
        }
        Ok(false)
    }

    fn span(&self) -> Result<Option<Span>> {
        self.record.read(crate::View::Local, |conn| {
            if record::is_made(conn)? { record::newest_span(conn) } else { Ok(None) }
        })
    }

    /// A stretch that begins at a position.
    fn begin_span(&self, at: Lsn) -> Result<Span> {
        let since_ms = match at {
            Lsn::ZERO => 0,
            at => {
                let commits = self.source.volume().remote()?.pull(Lsn(at.0 - 1))?;
                commits.first().map_or(0, |commit| commit.time_ms)
            }
        };
        Ok(Span { first: at, last: at, since_ms, doing: None })
    }

    /// Whether any of this replica's own transactions came too late.
    fn forget_rejected(&self) -> Result<bool> {
        let Some(newest) = self.record.rejected().last().map(|rejected| rejected.seq) else {
            return Ok(false);
        };
        self.record.dismiss_rejected(newest)?;
        Ok(true)
    }

    /// Puts what one local transaction did into the log.
    ///
    /// # Errors
    /// `Conflict` when another recorder came first.
    fn publish(&self) -> Result<()> {
        self.record.exchange_with_log(self.log.as_ref())?;
        match self.forget_rejected()? {
            true => Err(Error::new(ErrorKind::Conflict, "another recorder is at work; try again")),
            false => Ok(()),
        }
    }

    /// One transaction of steps, or one large step; how far it came.
    fn advance(
        &mut self,
        span: Span,
        to: Lsn,
        stop: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Lsn> {
        let mut log = Forward::new(self.source.volume(), span.last);
        let mut standing = self.standing(span.last)?;
        if let Some(doing) = span.doing {
            let run = log.next(doing, true)?;
            return self.large(span, run, standing, stop);
        }
        let (mut steps, mut rows, mut bytes, mut at) = (Vec::new(), 0, 0, span.last);
        while at < to && steps.len() < HISTORY_BATCH_STEPS {
            stop()?;
            let run = log.next(to, false)?;
            let (diff, watch) = self.compare(&run, standing)?;
            let Some(batch) = small(&diff)? else {
                if steps.is_empty() {
                    return self.large(span, run, self.standing(span.last)?, stop);
                }
                break;
            };
            let authors = batch.changes.len() * run.who.encode().len();
            (rows, bytes) = (rows + batch.changes.len(), bytes + batch.bytes + authors);
            at = run.last;
            standing = Standing { side: diff.into_after(), watch, page_count: run.page_count };
            steps.push(Compared { run, changes: batch.changes });
            if rows >= HISTORY_BATCH_ROWS || bytes >= HISTORY_BATCH_BYTES {
                break;
            }
        }
        let (count, span) = (steps.len() as u64, Span { last: at, ..span });
        self.record.write(|tx| {
            record::begin(tx)?;
            record::put_span(tx, span)?;
            let mut room = HISTORY_FOLD_BYTES;
            steps.into_iter().try_for_each(|step| store(tx, step, (span, &mut room)))
        })?;
        self.publish()?;
        self.done.steps += count;
        self.done.changes += rows as u64;
        Ok(at)
    }

    /// The state at a position.
    fn standing(&self, lsn: Lsn) -> Result<Standing> {
        let snapshot = self.source.volume().at(lsn)?;
        let page_count = snapshot.page_count();
        let watch = Arc::new(Watch::new(snapshot, Carried::new()));
        Ok(Standing { side: Side::watched(&self.source, &watch)?, watch, page_count })
    }

    /// The difference that a step made.
    fn compare(&self, run: &Run, before: Standing) -> Result<(Diff, Arc<Watch>)> {
        let differ = run.differ(before.page_count);
        let snapshot = self.source.volume().at_known(run.last, run.page_count);
        let carried = before.watch.unchanged(&differ, run.page_count);
        let watch = Arc::new(Watch::new(snapshot, carried));
        let after = Side::watched(&self.source, &watch)?;
        Ok((Diff::of_pages(before.side, after, &differ)?, watch))
    }

    /// A step that changed more than a transaction takes: change by change, in several of them, of
    /// which the last one says that it is recorded.
    fn large(
        &mut self,
        span: Span,
        run: Run,
        before: Standing,
        stop: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Lsn> {
        let (diff, _) = self.compare(&run, before)?;
        let doing = Span { doing: Some(run.last), ..span };
        let (mut batch, mut count) = (Batch::default(), 0);
        let entry = |update| entry(&run, update);
        let authors = run.who.encode().len();
        let put = |changes: Vec<Change>, span: Span| {
            self.record.write(|tx| {
                record::begin(tx)?;
                record::put_span(tx, span)?;
                changes.iter().try_for_each(|change| {
                    record::put(tx, &change.tbl, &change.key, &entry(change.update.clone()))
                })
            })?;
            self.publish()
        };
        each_change(&diff, &mut |change, bytes| {
            count += 1;
            batch.bytes += bytes + authors;
            batch.changes.push(change);
            if batch.is_full() {
                stop()?;
                put(std::mem::take(&mut batch).changes, doing)?;
            }
            Ok(())
        })?;
        put(batch.changes, Span { last: run.last, doing: None, ..span })?;
        self.done.steps += 1;
        self.done.changes += count;
        Ok(run.last)
    }
}

/// Makes the record of a volume.
fn make(place: &RecordPlace<'_>, name: &str) -> Result<SiteRecord> {
    let env = place.env.as_ref();
    let record = SiteRecord {
        site: SiteId::mint(env),
        lineage: VolumeId::mint(env).into(),
        page_size: PageSize::DEFAULT,
        created_ms: env.now_ms(),
    };
    create_site(place.objects.as_ref(), name, &record)
}

fn entry(run: &Run, update: RowUpdate) -> Entry {
    Entry {
        first: run.first.0,
        last: run.last.0,
        first_time_ms: run.first_time_ms,
        time_ms: run.time_ms,
        authors: run.who.clone(),
        update,
    }
}

fn store(
    tx: &rusqlite::Connection,
    step: Compared,
    (span, room): (Span, &mut usize),
) -> Result<()> {
    let Compared { run, changes } = step;
    for Change { tbl, was, key, update, now } in changes {
        let newer = entry(&run, update);
        match key.is_empty() {
            true => record::put(tx, &tbl, &key, &newer)?,
            false => {
                let keys = (was.as_deref().unwrap_or(&key), &*key);
                put_folded(tx, &tbl, keys, newer, now.as_ref(), (span, room))?;
            }
        }
    }
    Ok(())
}
