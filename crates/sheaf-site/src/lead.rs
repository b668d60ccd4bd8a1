//! Being the authority: order mutations, replay them, append the result to the log.
//!
//! Invariants: a batch is applied exactly once, because the row that says how far its timeline has
//! come commits with its effects; a bad mutation is recorded and skipped and takes no other with
//! it; nobody is answered before the append is known to be in the log. A node does this for its
//! devices, a device that has only a bucket does it for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use sheaf_volume::{
    Applied, Commit, Draft, Error, ErrorKind, Lsn, PushMeta, Reject, RemoteLog, Result, TimelineId,
    Verdict, VerdictRun,
};

use sheaf_volume::teeth::{Tooth, bites};

use crate::error::from_sqlite;
use crate::limits;
use crate::opbits::{MergedOps, OpBits};
use crate::rebase::{OwnNews, Pass};
use crate::replay::Outcome;
use crate::site::Site;
use crate::timeline::{Answer, Batch, Decided, MutationRecord, RunningHash};

/// How far each timeline is applied. Made by whoever appends first; every replica gets it with the
/// pages.
pub(crate) const CREATE: &str = "CREATE TABLE IF NOT EXISTS __sheaf_timelines(\
    timeline BLOB PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID";

/// What leading a group of batches did.
#[derive(Clone, Debug, PartialEq)]
pub struct Led {
    /// The commit, unless every batch was a duplicate or refused.
    pub commit: Option<Box<Commit>>,
    /// Commits of others that were found on the way and not jumped over, oldest first.
    pub found: Vec<Commit>,
    /// One answer per batch, in order.
    pub answers: Vec<Answer>,
    /// Own pending mutations that were merged with what was found.
    pub merged: BTreeSet<u64>,
    /// Of each mutation of the batches that was merged, which operations came out as they were
    /// sent.
    pub stands: BTreeMap<(TimelineId, u64), OpBits>,
}

/// What exchanging with a bucket did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Commits of others taken.
    pub pulled: usize,
    /// Own mutations appended.
    pub pushed: usize,
    /// How many of them were merged with concurrent changes.
    pub merged: usize,
    /// What the first merge left of the operations of each of these.
    pub stands: BTreeMap<u64, MergedOps>,
    /// How many attempts lost the race for a position.
    pub lost: usize,
    /// The new base.
    pub base: Lsn,
    /// Own mutations that were rejected, and why.
    pub rejected: Vec<(u64, String)>,
}

/// An attempt that did not lose its position.
struct Attempt {
    commit: Option<Box<Commit>>,
    answers: Vec<Answer>,
    stands: BTreeMap<(TimelineId, u64), OpBits>,
}

/// How a run of appends ended.
enum Run {
    /// All of the timeline is in the log, up to what asks its author.
    Complete,
    /// Another writer was first, after this many commits of our own.
    Lost { appended: usize },
    /// The timeline has new numbers.
    Restarted,
}

/// What one pass over the batches gathers.
#[derive(Default)]
struct Gathered {
    answers: Vec<Answer>,
    applied: Vec<Applied>,
    tables: BTreeSet<String>,
    stands: BTreeMap<(TimelineId, u64), OpBits>,
}

impl Site {
    /// Replays batches on the newest state of the log and appends the result, trying again when
    /// another writer was first.
    ///
    /// # Errors
    /// `Conflict` when every attempt lost, `Ambiguous` or `Unavailable` when the outcome cannot be
    /// known now: call again with the same batches, they are recognised.
    pub fn lead(&self, batches: &[Batch], log: &dyn RemoteLog, attempts_max: u32) -> Result<Led> {
        let (mut found, mut merged) = (Vec::new(), BTreeMap::new());
        for _ in 0..attempts_max {
            self.recover(log)?;
            found.extend(self.pull_from(log, &mut merged)?);
            let writer = self.0.volume.writer();
            let draft = self.0.volume.rebase(writer, &[])?;
            if let Some(attempt) = self.attempt(draft, batches, log)? {
                let Attempt { commit, answers, stands } = attempt;
                let merged = merged.into_keys().collect();
                return Ok(Led { commit, found, answers, merged, stands });
            }
        }
        Err(Error::new(ErrorKind::Conflict, "other writers were faster every time; try again"))
    }

    /// Resolves a push that was cut short, before anything else is tried.
    fn recover(&self, log: &dyn RemoteLog) -> Result<()> {
        if self.0.volume.push_interrupted() {
            self.0.volume.recover_push(&self.0.volume.writer(), log)?;
        }
        Ok(())
    }

    /// Takes everything the log has beyond the base.
    fn pull_from(
        &self,
        log: &dyn RemoteLog,
        merged: &mut BTreeMap<u64, MergedOps>,
    ) -> Result<Vec<Commit>> {
        let mut found = Vec::new();
        let followed = self.follow(log, &mut |commits| {
            found.extend_from_slice(commits);
            Ok(())
        })?;
        for (seq, stands) in followed.outcome.stands {
            merged.entry(seq).or_insert(stands);
        }
        Ok(found)
    }

    fn attempt(
        &self,
        draft: Draft,
        batches: &[Batch],
        log: &dyn RemoteLog,
    ) -> Result<Option<Attempt>> {
        let (gathered, mut draft) = self.with_draft(draft, true, |pass| gather(pass, batches))?;
        let Gathered { answers, applied, tables, stands } = gathered;
        if applied.is_empty() {
            drop(draft.discard());
            return Ok(Some(Attempt { commit: None, answers, stands }));
        }
        let meta = self.push_meta(tables, applied);
        let Some(commit) = self.0.volume.push(&mut draft, log, meta)? else { return Ok(None) };
        // From here on it is like anybody's commit: what is still pending is redone on top.
        let news = self.own_news([(commit.lsn, &*commit.applied)]);
        self.publish_rebase(draft, &news, Vec::new())?;
        Ok(Some(Attempt { commit: Some(Box::new(commit)), answers, stands }))
    }

    /// Bucket mode: take what is new, append the own timeline, until nothing is left to do.
    ///
    /// # Errors
    /// As [`Site::lead`].
    pub fn exchange_with_log(&self, log: &dyn RemoteLog) -> Result<Exchanged> {
        let mut done = Exchanged::default();
        let mut merged = BTreeMap::new();
        let mut attempts = 0;
        // Commits of a run that lost in the end come back with the next pull.
        let mut own = 0;
        loop {
            self.recover(log)?;
            done.pulled += self.pull_from(log, &mut merged)?.len().saturating_sub(own);
            let before = done.pushed;
            match self.append_timeline(log, &mut done, &mut merged) {
                Ok(Run::Complete) => break,
                Ok(Run::Restarted) => own = 0,
                Ok(Run::Lost { appended }) => {
                    done.lost += 1;
                    own = appended;
                }
                Err(error)
                    if bites(Tooth::ReportAmbiguousAsDone)
                        && error.kind() == ErrorKind::Ambiguous =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
            attempts = if done.pushed > before { 0 } else { attempts + 1 };
            if attempts >= limits::LEAD_ATTEMPTS_MAX {
                let text = "other writers were faster every time; try again";
                return Err(Error::new(ErrorKind::Conflict, text));
            }
        }
        done.base = self.base().0;
        (done.merged, done.stands) = (merged.len(), merged);
        self.0.volume.tidy()?;
        Ok(done)
    }

    /// Appends the own timeline, batch by batch and each as one commit, and publishes when all of
    /// it is in the log: what is still pending would otherwise be redone after each of them.
    fn append_timeline(
        &self,
        log: &dyn RemoteLog,
        done: &mut Exchanged,
        merged: &mut BTreeMap<u64, MergedOps>,
    ) -> Result<Run> {
        if self.0.volume.is_timeline_empty() {
            return Ok(Run::Complete);
        }
        let mut draft = self.0.volume.rebase(self.0.volume.writer(), &[])?;
        let pending = self.0.volume.held();
        let mut news = OwnNews { decided: self.decided(), ..OwnNews::default() };
        let mut appended = 0;
        while let Some(batch) = self.outbox(news.decided.seq, limits::LEAD_BYTES_MAX)? {
            let batches = std::slice::from_ref(&batch);
            let (gathered, next) = self.with_draft(draft, true, |pass| gather(pass, batches))?;
            draft = next;
            let answer = gathered.answers.into_iter().next();
            if gathered.applied.is_empty() {
                let is_asked = answer.as_ref().is_some_and(|answer| answer.asks(&batch));
                // Nothing was applied, so the draft is what has been appended, if anything was.
                if appended > 0 {
                    self.publish_rebase(draft, &news, Vec::new())?;
                } else {
                    drop(draft.discard());
                    if is_asked {
                        // A redo on this base finds by itself that it asks.
                        self.redo()?;
                    }
                }
                return if is_asked { Ok(Run::Complete) } else { self.refused(answer) };
            }
            let meta = self.push_meta(gathered.tables, gathered.applied);
            let Some(commit) = self.0.volume.push(&mut draft, log, meta)? else {
                return Ok(Run::Lost { appended });
            };
            appended += 1;
            let before = news.decided.seq;
            self.add_news(&mut news, [(commit.lsn, &*commit.applied)], &pending);
            if news.decided.seq <= before && !bites(Tooth::ForgetDecided) {
                let text = "a commit of this replica does not decide its own mutations";
                return Err(Error::new(ErrorKind::Internal, text));
            }
            done.count(answer, &batch, gathered.stands, merged);
            if bites(Tooth::ForgetDecided) {
                break;
            }
        }
        self.publish_rebase(draft, &news, Vec::new())?;
        Ok(Run::Complete)
    }

    /// What to do about a batch of which nothing could be appended.
    fn refused(&self, answer: Option<Answer>) -> Result<Run> {
        match answer {
            Some(Answer::Fork { .. }) => {
                self.restart_timeline()?;
                Ok(Run::Restarted)
            }
            Some(Answer::Gap { next }) => Err(Error::corrupt(format!(
                "the log expects mutation {next}, which this device has not"
            ))),
            Some(Answer::Malformed(why)) => Err(Error::invalid(why)),
            // The log has decided the batch, so it should not be pending; sent again, it would be
            // sent for ever.
            Some(Answer::Verdicts { .. }) | None => {
                let text = "the log has decided mutations that this replica still keeps";
                Err(Error::new(ErrorKind::Internal, text))
            }
        }
    }

    fn push_meta(&self, tables: BTreeSet<String>, applied: Vec<Applied>) -> PushMeta {
        let (writer, tables) = (*self.device().as_bytes(), tables.into_iter().collect());
        PushMeta { writer, epoch: 0, tables, applied }
    }

    /// Bytes of mutations that [`Site::outbox`] has handed out since opening.
    #[must_use]
    pub fn offered_bytes(&self) -> u64 {
        self.0.offered_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the pending mutations after a number.
    #[must_use]
    pub fn pending_bytes(&self, after_seq: u64) -> u64 {
        let held = self.0.volume.held();
        held.iter().filter(|held| held.seq > after_seq).map(|held| held.len() as u64).sum()
    }

    /// The oldest pending mutations after `after_seq`, up to about `bytes_max`, made durable here
    /// before they are handed out. None from the one on that asks its author ([`Site::asking`]).
    ///
    /// # Errors
    /// `Io` when they cannot be made durable.
    pub fn outbox(&self, after_seq: u64, bytes_max: usize) -> Result<Option<Batch>> {
        let decided = self.decided();
        let (mut hash, asking) = (decided.hash, self.asking());
        let mut mutations: Vec<MutationRecord> = Vec::new();
        let mut bytes = 0;
        for held in self.0.volume.held() {
            if held.seq <= after_seq {
                hash = hash.after_held(&held);
                continue;
            }
            if asking.as_ref().is_some_and(|asking| held.seq >= asking.seq) {
                break;
            }
            bytes += held.len() + limits::RECORD_OVERHEAD;
            if !mutations.is_empty() && bytes > bytes_max {
                break;
            }
            let Some(pending) = self.0.volume.mutation(held.seq)? else { break };
            mutations.push(pending.into());
            if mutations.len() >= limits::BATCH_MUTATIONS_MAX {
                break;
            }
        }
        let Some(first_seq) = mutations.first().map(|record| record.seq) else { return Ok(None) };
        if !bites(Tooth::SendUnflushed) {
            self.0.volume.flush()?;
        }
        let offered: usize = mutations.iter().map(|record| record.bytes.len()).sum();
        self.0.offered_bytes.fetch_add(offered as u64, Ordering::Relaxed);
        let (timeline, device) = (self.timeline(), self.device());
        let last_seq = mutations.last().map_or(first_seq, |record| record.seq);
        self.0.watch.sent(timeline, last_seq);
        Ok(Some(Batch { timeline, device, first_seq, prev_hash: hash.0, mutations }))
    }
}

impl Exchanged {
    fn count(
        &mut self,
        answer: Option<Answer>,
        batch: &Batch,
        mut stands: BTreeMap<(TimelineId, u64), OpBits>,
        merged: &mut BTreeMap<u64, MergedOps>,
    ) {
        let Some(Answer::Verdicts { first_seq, verdicts, .. }) = answer else { return };
        self.pushed += verdicts.len();
        for (seq, (verdict, reason)) in (first_seq..).zip(verdicts) {
            match verdict {
                Verdict::Ok => {}
                Verdict::Merged => {
                    let bits = stands.remove(&(batch.timeline, seq)).unwrap_or_default();
                    let at = usize::try_from(seq - first_seq).unwrap_or(usize::MAX);
                    let sent = batch.mutations.get(at);
                    // Not to be had only of what cannot be read, which is never merged.
                    let ops = sent.and_then(|sent| MergedOps::of(sent, bits).ok());
                    merged.entry(seq).or_insert_with(|| ops.unwrap_or_default());
                }
                Verdict::Rejected => self.rejected.push((seq, reason)),
            }
        }
    }
}

fn gather(pass: &mut Pass<'_>, batches: &[Batch]) -> Result<Gathered> {
    pass.conn.execute_batch(CREATE).map_err(from_sqlite)?;
    pass.schema_changed()?;
    let mut gathered = Gathered::default();
    for batch in batches {
        let answer = pass.apply(batch, &mut gathered)?;
        gathered.answers.push(answer);
    }
    Ok(gathered)
}

impl Pass<'_> {
    fn apply(&mut self, batch: &Batch, gathered: &mut Gathered) -> Result<Answer> {
        let known = self.applied_until(batch.timeline)?;
        let fresh = match check(batch, known) {
            Ok(fresh) => fresh,
            Err(answer) => return Ok(answer),
        };
        // Not decided, since a newer version of the authority could; nor may it stop the batches
        // of others in the group.
        if let Some(answer) = fresh.iter().find_map(newer) {
            return Ok(answer);
        }
        let duplicates = batch.mutations.len() - fresh.len();
        let mut verdicts = vec![(Verdict::Ok, String::new()); duplicates];
        let mut decided = known;
        let mut rejects = Vec::new();
        for record in fresh {
            let after = Decided { seq: record.seq, hash: decided.hash.after(record) };
            if bites(Tooth::ApplyTwice) {
                self.replay((batch.timeline, batch.device), record)?;
            }
            if bites(Tooth::RefuseEarlier) && record.time_ms < self.site.status().base_time_ms {
                let reason = "made before the newest commit".to_owned();
                rejects.push(Reject { seq: record.seq, reason: reason.clone() });
                verdicts.push((Verdict::Rejected, reason));
                decided = after;
                continue;
            }
            let replayed = self.replay((batch.timeline, batch.device), record)?;
            let verdict = match replayed.outcome {
                Outcome::Applied { merged: false } => (Verdict::Ok, String::new()),
                Outcome::Applied { merged: true } => {
                    gathered.stands.insert((batch.timeline, record.seq), replayed.stands);
                    (Verdict::Merged, String::new())
                }
                Outcome::Rejected { reason } => {
                    let reason = limits::clip(&reason).to_owned();
                    rejects.push(Reject { seq: record.seq, reason: reason.clone() });
                    (Verdict::Rejected, reason)
                }
                // As above, but only its replay could tell.
                Outcome::Undecided { reason } if decided.seq == known.seq => {
                    return Ok(Answer::Malformed(format!("mutation {}: {reason}", record.seq)));
                }
                // The rest of the timeline waits with it, and nobody else's does.
                Outcome::Undecided { .. } | Outcome::Asks { .. } => break,
            };
            gathered.tables.extend(replayed.tables);
            verdicts.push(verdict);
            decided = after;
        }
        if decided.seq > known.seq {
            self.record_progress(batch.timeline, decided)?;
            let first_seq = known.seq + 1;
            let fresh_verdicts = verdicts.iter().skip(duplicates).map(|(verdict, _)| *verdict);
            gathered.applied.push(Applied {
                timeline: batch.timeline,
                first_seq,
                running_hash: decided.hash.0,
                runs: run_lengths(fresh_verdicts),
                rejects,
            });
        }
        // Nothing new: nothing is to be appended for this batch. The effects are in the base
        // already, unless it came twice in this group.
        let is_of_group = gathered.applied.iter().any(|run| run.timeline == batch.timeline);
        let lsn = if is_of_group { self.target } else { Lsn(self.target.0 - 1) };
        Ok(Answer::Verdicts { first_seq: batch.first_seq, verdicts, lsn })
    }

    fn record_progress(&self, timeline: TimelineId, decided: Decided) -> Result<()> {
        if bites(Tooth::SkipProgress) {
            return Ok(());
        }
        let seq =
            i64::try_from(decided.seq).map_err(|_| Error::invalid("sequence number too large"))?;
        self.conn
            .prepare_cached(
                "INSERT INTO __sheaf_timelines(timeline, seq, hash) VALUES (?1, ?2, ?3) \
                 ON CONFLICT(timeline) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            )
            .and_then(|mut statement| {
                statement.execute(rusqlite::params![
                    timeline.as_bytes().as_slice(),
                    seq,
                    decided.hash.0.as_slice()
                ])
            })
            .map_err(from_sqlite)?;
        Ok(())
    }
}

/// The part of a batch that is new, or the answer that refuses it.
fn check(batch: &Batch, known: Decided) -> std::result::Result<&[MutationRecord], Answer> {
    let next = known.seq + 1;
    let numbers = batch.mutations.iter().map(|record| record.seq);
    let expected = (batch.first_seq..).take(batch.mutations.len());
    if batch.first_seq == 0 || batch.mutations.is_empty() || !numbers.eq(expected) {
        return Err(Answer::Malformed("the mutations of a batch must be numbered in order".into()));
    }
    if batch.first_seq > next {
        return Err(Answer::Gap { next });
    }
    let mut hash = RunningHash(batch.prev_hash);
    if batch.first_seq == next && hash != known.hash {
        return Err(Answer::Fork { next });
    }
    for record in batch.mutations.iter().take_while(|record| record.seq <= known.seq) {
        hash = hash.after(record);
        if record.seq == known.seq && hash != known.hash {
            return Err(Answer::Fork { next });
        }
    }
    let duplicates = usize::try_from(next - batch.first_seq).unwrap_or(usize::MAX);
    Ok(batch.mutations.get(duplicates..).unwrap_or_default())
}

/// The answer to a mutation that only a newer version can read.
fn newer(record: &MutationRecord) -> Option<Answer> {
    let error = record.mutation().err()?;
    let is_newer = error.kind() == ErrorKind::Unsupported;
    is_newer.then(|| Answer::Malformed(format!("mutation {}: {error}", record.seq)))
}

fn run_lengths(verdicts: impl Iterator<Item = Verdict>) -> Vec<VerdictRun> {
    let mut runs: Vec<VerdictRun> = Vec::new();
    for verdict in verdicts {
        match runs.last_mut() {
            Some(run) if run.verdict == verdict => run.count += 1,
            _ => runs.push(VerdictRun { verdict, count: 1 }),
        }
    }
    runs
}
