//! Forward to a newer base: drop the drafts, take what the log says, redo the timeline on top.
//!
//! Invariants: readers see the state before or the state after; mutations the log has decided are
//! dropped first, so nothing is applied twice; a redo re-captures, so a later merge starts
//! from what this one met; a prediction that fails is skipped in the local view and kept on the
//! timeline until the log decides, and what was made on top of it stays as it was (`missed.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use sheaf_volume::{
    Applied, Commit, CommitNews, DeviceId, Draft, Error, ErrorKind, HeldMutation, Lineage, Lsn,
    PageIdx, Parent, PendingMutation, RemoteHead, Result, TimelineId, Verdict,
};

use sheaf_volume::teeth::{Tooth, bites};

use crate::capture::Capture;
use crate::clock;
use crate::error::from_sqlite;
use crate::limits;
use crate::locks::{self, Asking, Resolution};
use crate::opbits::MergedOps;
use crate::replay::{Outcome, Remap, ReplayContext, Replayed, replay};
use crate::rowids::RowIds;
use crate::site::{ATTR_DECIDED, ATTR_ROW_IDS, ATTR_TIMELINE, Site, SiteIds, lock};
use crate::status::rejected_attr;
use crate::timeline::{Decided, MutationRecord, RunningHash};
use crate::vfs::{DraftSlot, Failure, FileView, SCHEMA_COOKIE, read_u32};
use crate::watch::{Noted, Notes, Tables};

mod missed;

use missed::{Came, Kept, Missed};

/// How far the schema cookie shown to connections jumps when a schema change was dropped: more
/// than any one history changes its schema.
const SCHEMA_BIAS_STEP: u32 = 1 << 16;

/// The connection that redoes mutations; kept between rebases.
pub(crate) struct RebaseConnection {
    conn: Connection,
    slot: Arc<DraftSlot>,
    capture: Capture,
    failure: Arc<Failure>,
    /// Schema cookie and bias that the capture has noted.
    noted: Option<(u32, u32)>,
}

/// One write transaction on a draft, with what replaying needs.
pub(crate) struct Pass<'a> {
    pub(crate) site: &'a Site,
    pub(crate) conn: &'a Connection,
    capture: &'a Capture,
    remap: Remap,
    /// The position the draft becomes when it is appended next.
    pub(crate) target: Lsn,
    authority: bool,
    slot: &'a DraftSlot,
}

/// What a pull did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Integrated {
    /// The new base.
    pub base: Lsn,
    /// Own mutations that the log decided, with its position and verdict.
    pub confirmed: Vec<(u64, Lsn, Verdict)>,
    /// Those of them that were rejected, and why.
    pub rejected: Vec<(u64, String)>,
    /// Mutations redone on the new base.
    pub replayed: usize,
    /// Those of them that fail there for now.
    pub unpredicted: usize,
    /// Those of them that were merged with what others did.
    pub merged: Vec<u64>,
    /// Which operations of each of these came out as they were: as the mutation was before this.
    pub stands: BTreeMap<u64, MergedOps>,
    /// Own mutations that the log decided in a part of it that was not read: in effect, merged
    /// or refused, nobody knows.
    pub untold: Vec<u64>,
}

impl Integrated {
    /// Adds what came after.
    pub(crate) fn add(&mut self, later: Self) {
        self.base = later.base;
        self.confirmed.extend(later.confirmed);
        self.rejected.extend(later.rejected);
        self.replayed = later.replayed;
        self.unpredicted = later.unpredicted;
        self.merged.extend(later.merged);
        for (seq, stands) in later.stands {
            // A mutation that is merged again has other operations by then.
            self.stands.entry(seq).or_insert(stands);
        }
        self.untold.extend(later.untold);
    }
}

/// Kept with a mutation whose verdict is not known.
const UNTOLD: &str = "decided in a part of the log that is gone from the server: whether it was \
    applied, merged or refused is not known; look whether it is there, then dismiss this or make \
    the change again";

/// What the commits of a pull say about one's own timeline.
#[derive(Default)]
pub(crate) struct OwnNews {
    pub(crate) decided: Decided,
    pub(crate) confirmed: Vec<(u64, Lsn, Verdict)>,
    pub(crate) rejected: BTreeMap<u64, String>,
    /// The log has other mutations under this timeline's numbers: this replica was restored from
    /// a backup, or copied.
    pub(crate) forked: bool,
    /// What an own mutation's author has said when it asked.
    pub(crate) resolution: Option<Resolution>,
    /// Not all commits were read: what the base has applied beyond is decided, nobody knows how.
    pub(crate) partial: bool,
    /// The tables of the commits and of what waited before; `None` if it may be any.
    pub(crate) tables: Tables,
}

/// What redoing a timeline did.
#[derive(Default)]
pub(crate) struct Redone {
    replayed: usize,
    unpredicted: usize,
    merged: Vec<u64>,
    stands: BTreeMap<u64, MergedOps>,
    /// Operations named in these.
    altered: usize,
    untold: Vec<u64>,
    /// What those that fail would have changed.
    missed: Missed,
    /// The first that asks its author.
    asking: Option<Asking>,
    /// Locks that an author has looked at again.
    looked_at: BTreeSet<String>,
}

impl Site {
    /// Takes commits that follow the base, in order, and redoes the timeline on top, as one step.
    /// Commits at or below the base are skipped.
    ///
    /// # Errors
    /// `Corrupt` when the commits do not continue this replica's log; `Unavailable` when a page
    /// that a redo needs cannot be fetched. Nothing is changed then.
    pub fn integrate(&self, commits: Vec<Commit>) -> Result<Integrated> {
        self.integrate_news(commits.into_iter().map(CommitNews::Whole).collect())
    }

    /// As [`Site::integrate`], for commits that came whole or as deltas.
    ///
    /// # Errors
    /// As [`Site::integrate`].
    pub fn integrate_news(&self, mut commits: Vec<CommitNews>) -> Result<Integrated> {
        let Some(at) = self.first_merged(&commits) else { return self.take(commits) };
        // The redo on what comes before shows what is merged there, which the verdict does not
        // tell. Where it cannot be done, nothing rests on it.
        let before = commits.iter().take(at).cloned().collect();
        let Ok(mut outcome) = self.take(before) else { return self.take(commits) };
        outcome.add(self.take(commits.split_off(at))?);
        Ok(outcome)
    }

    /// Where the first commit is that merged a mutation of this device, if others come before.
    fn first_merged(&self, commits: &[CommitNews]) -> Option<usize> {
        if self.0.volume.is_timeline_empty() {
            return None;
        }
        let (timeline, decided, base) = (self.timeline(), self.decided().seq, self.base().0);
        let is_merged = |applied: &Applied| {
            let is_new = |(seq, verdict)| verdict == Verdict::Merged && seq > decided;
            applied.timeline == timeline && applied.verdicts().any(is_new)
        };
        let at = commits.iter().position(|commit| commit.applied().iter().any(is_merged))?;
        let others = commits.iter().take(at).any(|commit| commit.lsn() > base);
        others.then_some(at)
    }

    fn take(&self, mut commits: Vec<CommitNews>) -> Result<Integrated> {
        let writer = self.0.volume.writer();
        let base = self.base().0;
        commits.retain(|commit| commit.lsn() > base);
        if commits.is_empty() {
            return Ok(Integrated { base, ..Integrated::default() });
        }
        let mut news = self.own_news(commits.iter().map(|commit| (commit.lsn(), commit.applied())));
        news.tables = self.pull_tables(&commits);
        let draft = self.0.volume.rebase_news(writer, &commits)?;
        self.publish_rebase(draft, &news, Vec::new())
    }

    /// First contact with a site that is elsewhere already: takes its ids and newest state, every
    /// page pending, and redoes the timeline on top. Does nothing when this replica has a base.
    ///
    /// # Errors
    /// `Invalid` when this replica belongs to another site.
    pub fn adopt(&self, ids: SiteIds, head: RemoteHead) -> Result<()> {
        self.adopt_branch(ids, Vec::new(), head)
    }

    /// As [`Site::adopt`], for a site that branched from others: their logs hold its history.
    ///
    /// # Errors
    /// As [`Site::adopt`]; `Corrupt` for parents that cannot be.
    pub fn adopt_branch(&self, ids: SiteIds, parents: Vec<Parent>, head: RemoteHead) -> Result<()> {
        let lineage = Lineage::new(ids.volume, parents)?;
        let same = self.ids().volume == ids.volume;
        if same && (self.base().0 != Lsn::ZERO || head.lsn == Lsn::ZERO) {
            return Ok(());
        }
        if head.page_size != self.ids().page_size {
            *lock(&self.0.refused_size) = Some(head.page_size);
        }
        let writer = self.0.volume.writer();
        let draft = self.0.volume.adopt(writer, lineage, head)?;
        let news = OwnNews { decided: self.decided(), ..OwnNews::default() };
        self.publish_rebase(draft, &news, vec![Self::site_attr(ids.site)]).map(|_| ())
    }

    /// Whether a log that ends at `head` can be the one that this replica follows. Only for a log
    /// that is read itself: a node may know less of it than this replica does.
    ///
    /// # Errors
    /// `Corrupt` when the log has lost commits or was replaced. Appending to it would leave a hole,
    /// and nobody could read on beyond that.
    pub fn check_log(&self, head: &RemoteHead) -> Result<()> {
        let (lsn, hash) = self.base();
        if head.lsn > lsn || (head.lsn == lsn && (head.hash == hash || lsn == Lsn::ZERO)) {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "the store has lost commits or was replaced by another copy: its log ends at @{} and \
             has not the @{lsn} that this replica has seen; restore the store, or check the \
             server's address",
            head.lsn
        )))
    }

    /// Drops the pages of pending mutations and makes them again from the mutations, on the same
    /// base. For a repair: the mutations themselves stay as they are.
    ///
    /// # Errors
    /// `Unavailable` when a page that a redo needs cannot be fetched. Nothing is changed then.
    pub fn redo(&self) -> Result<Integrated> {
        let writer = self.0.volume.writer();
        let draft = self.0.volume.rebase(writer, &[])?;
        let news = OwnNews { decided: self.decided(), ..OwnNews::default() };
        self.publish_rebase(draft, &news, Vec::new())
    }

    /// Gives the pending mutations new numbers on a new timeline, because the old one's numbers
    /// were used before under other mutations (this replica was restored from a backup).
    ///
    /// # Errors
    /// As [`Site::integrate`].
    pub fn restart_timeline(&self) -> Result<()> {
        let writer = self.0.volume.writer();
        let draft = self.0.volume.rebase(writer, &[])?;
        self.publish_renumbered(draft, self.0.volume.held(), Vec::new()).map(|_| ())
    }

    /// Redoes `pending` under new numbers on a new timeline.
    pub(crate) fn publish_renumbered(
        &self,
        draft: Draft,
        mut pending: Vec<HeldMutation>,
        mut attrs: Vec<(String, Option<Bytes>)>,
    ) -> Result<Redone> {
        self.renumber(&mut pending, &mut attrs);
        // The new timeline is not in any base, so nothing of it can have been applied.
        let decided = Decided { seq: u64::MAX, ..Decided::default() };
        let news = OwnNews { decided, ..OwnNews::default() };
        self.publish_pending(draft, pending, &news, attrs)
    }

    /// Gives mutations numbers from 1 on a new timeline, which takes the old one's place with the
    /// step that these attributes belong to.
    fn renumber(
        &self,
        pending: &mut [HeldMutation],
        attrs: &mut Vec<(String, Option<Bytes>)>,
    ) -> TimelineId {
        let id = TimelineId::mint(&*self.0.env);
        attrs.push((ATTR_TIMELINE.to_owned(), Some(id.as_bytes().to_vec().into())));
        attrs.push((ATTR_DECIDED.to_owned(), Some(Decided::default().encode())));
        for (seq, held) in (1..).zip(pending) {
            held.seq = seq;
        }
        id
    }

    /// What commits, as (position, what they applied), say about one's own timeline.
    pub(crate) fn own_news<'a>(
        &self,
        commits: impl IntoIterator<Item = (Lsn, &'a [Applied])>,
    ) -> OwnNews {
        let mut news = OwnNews { decided: self.decided(), ..OwnNews::default() };
        self.add_news(&mut news, commits, &self.0.volume.held());
        news
    }

    /// What further commits say. `pending` is the timeline as it was before all of them.
    pub(crate) fn add_news<'a>(
        &self,
        news: &mut OwnNews,
        commits: impl IntoIterator<Item = (Lsn, &'a [Applied])>,
        pending: &[HeldMutation],
    ) {
        let timeline = self.timeline();
        for (lsn, applied) in commits {
            let own =
                |applied: &&Applied| applied.timeline == timeline && !bites(Tooth::ForgetDecided);
            for applied in applied.iter().filter(own) {
                let decided =
                    Decided { seq: applied.end_seq() - 1, hash: RunningHash(applied.running_hash) };
                if decided.seq <= news.decided.seq {
                    continue;
                }
                if !continues(news.decided, decided, pending) {
                    news.forked = true;
                    return;
                }
                let verdicts = applied.verdicts();
                news.confirmed.extend(verdicts.map(|(seq, verdict)| (seq, lsn, verdict)));
                let rejects = applied.rejects.iter().map(|r| (r.seq, r.reason.clone()));
                news.rejected.extend(rejects);
                news.decided = decided;
            }
        }
    }

    pub(crate) fn publish_rebase(
        &self,
        draft: Draft,
        news: &OwnNews,
        extra: Vec<(String, Option<Bytes>)>,
    ) -> Result<Integrated> {
        let (decided, remaining): (Vec<_>, Vec<_>) =
            self.0.volume.held().into_iter().partition(|held| held.seq <= news.decided.seq);
        let mut attrs = vec![(ATTR_DECIDED.to_owned(), Some(news.decided.encode()))];
        let timeline = self.timeline();
        for held in &decided {
            if let Some(reason) = news.rejected.get(&held.seq) {
                attrs.push(rejected_attr(timeline, &draft.mutation(held)?.into(), reason));
                attrs.extend(self.conflicts_gone([held]));
            }
        }
        let as_they_are = news.confirmed.iter().filter(|(.., verdict)| *verdict == Verdict::Ok);
        let as_they_are: BTreeSet<u64> = as_they_are.map(|(seq, ..)| *seq).collect();
        let is_one = |held: &&HeldMutation| as_they_are.contains(&held.seq);
        attrs.extend(self.conflicts_beyond(decided.iter().filter(is_one)));
        attrs.extend(extra);
        let told = |seq: u64| news.confirmed.iter().any(|(confirmed, ..)| *confirmed == seq);
        let mut untold = Vec::new();
        for held in decided.iter().filter(|held| news.partial && !told(held.seq)) {
            attrs.push(rejected_attr(timeline, &draft.mutation(held)?.into(), UNTOLD));
            untold.push(held.seq);
        }
        let base = draft.base_lsn();
        let deeds = self.deeds_of(&draft, &decided, news);
        let mut redone = if news.forked {
            self.publish_renumbered(draft, remaining, attrs)?
        } else {
            self.publish_pending(draft, remaining, news, attrs)?
        };
        // Only now: what was not taken is not to be remembered.
        lock(&self.0.deeds).add(&deeds);
        redone.untold.extend(untold);
        redone.untold.sort_unstable();
        Ok(Integrated {
            base,
            confirmed: news.confirmed.clone(),
            rejected: news.rejected.iter().map(|(seq, why)| (*seq, why.clone())).collect(),
            replayed: redone.replayed,
            unpredicted: redone.unpredicted,
            merged: redone.merged,
            stands: redone.stands,
            untold: redone.untold,
        })
    }

    /// Redoes `pending` as a prediction and publishes; how many were redone, how many fail.
    pub(crate) fn publish_pending(
        &self,
        draft: Draft,
        mut pending: Vec<HeldMutation>,
        news: &OwnNews,
        mut attrs: Vec<(String, Option<Bytes>)>,
    ) -> Result<Redone> {
        let decided = news.decided;
        let before = self.cookies()?;
        attrs.extend(self.no_moves_attrs());
        if pending.is_empty() {
            attrs.extend(self.asking_attr(None));
            attrs.extend(self.row_ids_attr(&RowIds::default()));
            drop(draft.publish(Vec::new(), attrs)?);
            self.after_publish(before, Notes::default(), news);
            return Ok(Redone::default());
        }
        attrs.extend(self.conflicts_beyond(&pending));
        let (mut shown, mut notes, mut told) = (RowIds::default(), Notes::default(), Vec::new());
        let lsn = draft.base_lsn();
        let (mut redone, draft) = self.with_draft(draft, false, |pass| {
            // First contact skips the commits that would have told: the base itself knows.
            let mut timeline = self.timeline();
            let known = pass.applied_until(timeline)?;
            let mut redone = Redone::default();
            if known.seq > decided.seq && !bites(Tooth::ForgetDecided) {
                if continues(decided, known, &pending) {
                    let here = pending.partition_point(|held| held.seq <= known.seq);
                    for held in pending.drain(..here).filter(|_| news.partial) {
                        let record = pass.draft(|draft| draft.mutation(&held))?.into();
                        attrs.push(rejected_attr(timeline, &record, UNTOLD));
                        redone.untold.push(record.seq);
                    }
                    attrs.push((ATTR_DECIDED.to_owned(), Some(known.encode())));
                } else {
                    timeline = self.renumber(&mut pending, &mut attrs);
                }
            }
            for held in &pending {
                // One at a time: a long timeline is on disk, before and after.
                let (record, mut noted) =
                    pass.redo(timeline, held, news.resolution, &mut redone)?;
                let merges = std::mem::take(&mut noted.told);
                notes.add(record.uid(), noted);
                if !merges.is_empty() {
                    told.push((record, merges));
                }
            }
            shown = std::mem::take(&mut pass.remap.shown);
            Ok(redone)
        })?;
        attrs.extend(self.row_ids_attr(&shown));
        attrs.extend(self.asking_attr(redone.asking.as_ref()));
        let gone = attrs.iter().filter(|(_, value)| value.is_none());
        let gone = gone.map(|(name, _)| name.clone()).collect();
        attrs.extend(self.conflict_attrs(lsn, told, &gone));
        redone.replayed = pending.len();
        drop(draft.publish(Vec::new(), attrs)?);
        self.after_publish(before, notes, news);
        Ok(redone)
    }

    /// The attribute that keeps which numbers are a guess, if it changes.
    pub(crate) fn row_ids_attr(&self, shown: &RowIds) -> Option<(String, Option<Bytes>)> {
        let bytes = (!shown.is_empty()).then(|| shown.encode());
        let changes = bytes != self.0.volume.attr(ATTR_ROW_IDS);
        changes.then(|| (ATTR_ROW_IDS.to_owned(), bytes))
    }

    /// Schema cookies of the base and the head; two that differ when one of them is not here. It is
    /// not fetched for this: where the base stands it may be gone for good.
    fn cookies(&self) -> Result<(u32, u32)> {
        let volume = &self.0.volume;
        let cookie = |page: sheaf_volume::Page| read_u32(&page, SCHEMA_COOKIE);
        if volume.is_timeline_empty() {
            // No drafts: both are the same.
            return Ok((0, 0));
        }
        let base = volume.global().page_if_here(PageIdx::FIRST)?.map(cookie);
        let head = volume.head().page_if_here(PageIdx::FIRST)?.map(cookie);
        Ok(base.zip(head).unwrap_or((0, 1)))
    }

    /// When drafts had changed the schema, the redone history may have another schema under the
    /// same cookie; SQLite must not take its old one for valid.
    fn after_publish(&self, (base, head): (u32, u32), notes: Notes, news: &OwnNews) {
        self.0.watch.redone(notes);
        if base != head {
            self.0.schema_bias.fetch_add(SCHEMA_BIAS_STEP, Ordering::AcqRel);
        }
        self.pulled(news.tables.clone(), base == head);
    }

    /// Runs `f` in a write transaction on a rebase draft; gives the draft back with its changes.
    pub(crate) fn with_draft<T>(
        &self,
        mut draft: Draft,
        authority: bool,
        f: impl FnOnce(&mut Pass<'_>) -> Result<T>,
    ) -> Result<(T, Draft)> {
        let mut kept = lock(&self.0.rebase);
        let target = draft.base_lsn().next();
        let cookie = read_u32(&draft.page(PageIdx::FIRST)?, SCHEMA_COOKIE);
        let schema = (cookie, self.0.schema_bias.load(Ordering::Acquire));
        let lost = bites(Tooth::KeepLostSchema);
        let mut rebase = match kept.take() {
            Some(rebase) => {
                *rebase.slot.lock() = Some(draft);
                rebase
            }
            None => self.open_rebase(draft)?,
        };
        let site = self;
        let result = (|| {
            rebase.conn.execute_batch("BEGIN IMMEDIATE").map_err(from_sqlite)?;
            if rebase.noted != Some(schema) {
                rebase.capture.note_schema(&rebase.conn)?;
            }
            rebase.capture.clear();
            let (conn, capture) = (&rebase.conn, &rebase.capture);
            let mut remap = Remap::new(site.merges());
            remap.own = authority.then(|| site.timeline());
            let slot = &*rebase.slot;
            let value = f(&mut Pass { site, conn, capture, remap, target, authority, slot })?;
            rebase.conn.execute_batch("COMMIT").map_err(from_sqlite)?;
            Ok(value)
        })();
        let detail = rebase.failure.take();
        let draft = rebase.slot.lock().take();
        rebase.capture.clear();
        match (result, draft) {
            (Ok(value), Some(mut draft)) => {
                // A draft that changed the schema may never become the log's: the connection has
                // the schema cached under a number that the log can give to another one.
                let after = read_u32(&draft.page(PageIdx::FIRST)?, SCHEMA_COOKIE);
                if after == schema.0 || lost {
                    rebase.noted = Some(schema);
                    *kept = Some(rebase);
                }
                draft.drop_if_unchanged(PageIdx::FIRST)?;
                Ok((value, draft))
            }
            (Ok(_), None) => Err(Error::new(ErrorKind::Internal, "the draft was lost")),
            // The connection is dropped with its transaction, and the draft with it.
            (Err(e), _) => Err(detail.unwrap_or(e)),
        }
    }

    /// Opens on the draft, never without one: SQLite would read the schema of the head, which
    /// may have the same number as the draft's.
    fn open_rebase(&self, draft: Draft) -> Result<RebaseConnection> {
        let slot: Arc<DraftSlot> = Arc::default();
        *slot.lock() = Some(draft);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let (mut conn, failure) = self.open_file(FileView::Rebase(Arc::clone(&slot)), flags)?;
        let capture = Capture::install(&mut conn)?;
        locks::register(&conn, &capture, locks::NoneWaiting).map_err(from_sqlite)?;
        Ok(RebaseConnection { conn, slot, capture, failure, noted: None })
    }
}

/// Whether what the log has applied beyond `known` are this device's own mutations, as far as it
/// still has them.
fn continues(known: Decided, applied: Decided, pending: &[HeldMutation]) -> bool {
    let mut hash = known.hash;
    for held in pending.iter().filter(|held| held.seq > known.seq) {
        hash = hash.after_held(held);
        if held.seq == applied.seq {
            return hash == applied.hash;
        }
    }
    // The log knows more numbers than this replica: it has nothing of its own left to lose.
    pending.iter().all(|held| held.seq <= known.seq)
}

impl Pass<'_> {
    /// The draft that this pass writes.
    fn draft<T>(&self, f: impl FnOnce(&mut Draft) -> Result<T>) -> Result<T> {
        let mut slot = self.slot.lock();
        f(slot.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "the draft was lost"))?)
    }

    /// To be called after a schema change that is nobody's mutation.
    pub(crate) fn schema_changed(&self) -> Result<()> {
        self.capture.clear();
        self.capture.note_schema(self.conn)
    }

    /// Redoes a pending mutation as a prediction, and keeps it as it is then.
    fn redo(
        &mut self,
        timeline: TimelineId,
        held: &HeldMutation,
        resolution: Option<Resolution>,
        redone: &mut Redone,
    ) -> Result<(MutationRecord, Noted)> {
        let stored = MutationRecord::from(self.draft(|draft| draft.mutation(held))?);
        let resolved = match resolution {
            Some(answer) => self.resolve(timeline, &stored, answer, &mut redone.looked_at)?,
            None => None,
        };
        let record = resolved.as_ref().unwrap_or(&stored);
        let replayed = self.replay((timeline, self.site.device()), record)?;
        let mut noted = std::mem::take(&mut self.remap.noted);
        let is_applied = matches!(replayed.outcome, Outcome::Applied { .. });
        match replayed.outcome {
            Outcome::Applied { merged: true } => {
                redone.merged.push(record.seq);
                let (stands, mut altered) = (replayed.stands, replayed.altered);
                altered.truncate(limits::REDO_ALTERED_OPS_MAX.saturating_sub(redone.altered));
                redone.altered += altered.len();
                redone.stands.insert(record.seq, MergedOps { stands, altered });
            }
            Outcome::Applied { merged: false } => {}
            Outcome::Rejected { .. } => redone.unpredicted += 1,
            Outcome::Undecided { reason } => {
                redone.unpredicted += 1;
                noted.failing = Some(reason);
            }
            Outcome::Asks { reason } => {
                redone.unpredicted += 1;
                noted.failing = Some(reason.clone());
                redone.asking.get_or_insert(Asking { seq: record.seq, reason });
            }
        }
        let came = Came { is_applied, is_renumbered: replayed.is_renumbered };
        let recaptured = match redone.missed.kept(record, replayed.recaptured, came) {
            Kept::As(body) => Some(record.recaptured(Lsn(self.target.0 - 1), &body)),
            Kept::Before(body) => Some(record.recaptured(record.base, &body)),
            Kept::Unchanged => resolved.clone(),
        };
        let kept = recaptured.map_or_else(|| held.clone(), |r| PendingMutation::from(r).into());
        if !bites(Tooth::PublishHalf) {
            self.draft(|draft| draft.keep(kept))?;
        }
        Ok((resolved.unwrap_or(stored), noted))
    }

    /// Redoes one mutation of a timeline and its device in a savepoint.
    pub(crate) fn replay(
        &mut self,
        (timeline, device): (TimelineId, DeviceId),
        record: &MutationRecord,
    ) -> Result<Replayed> {
        let mutation = match record.mutation() {
            Ok(mutation) => mutation,
            // Decided like any other bad mutation, so that it does not block the timeline.
            Err(e) if e.kind() != ErrorKind::Unsupported => {
                let reason = format!("the mutation is malformed: {e}");
                let outcome = Outcome::Rejected { reason };
                return Ok(Replayed::without_effects(outcome));
            }
            Err(e) => return Err(e),
        };
        let context = ReplayContext {
            timeline,
            seq: record.seq,
            base: record.base,
            target: self.target,
            authority: self.authority,
            device,
            time_ms: record.time_ms,
        };
        let replayed = clock::with_time(record.time_ms, || {
            replay(self.conn, self.capture, &context, &mut self.remap, &mutation)
        })?;
        if self.remap.own == Some(timeline) {
            self.site.0.watch.note(record.uid(), std::mem::take(&mut self.remap.noted));
        }
        Ok(replayed)
    }

    /// How far the state below has applied a timeline.
    pub(crate) fn applied_until(&self, timeline: TimelineId) -> Result<Decided> {
        let has_table = self
            .conn
            .prepare_cached(
                "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '__sheaf_timelines'",
            )
            .and_then(|mut statement| statement.exists([]))
            .map_err(from_sqlite)?;
        if !has_table {
            return Ok(Decided::default());
        }
        let row: Option<(i64, Vec<u8>)> = self
            .conn
            .prepare_cached("SELECT seq, hash FROM __sheaf_timelines WHERE timeline = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([timeline.as_bytes().as_slice()], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()
            })
            .map_err(from_sqlite)?;
        let Some((seq, hash)) = row else { return Ok(Decided::default()) };
        let wrong = || Error::corrupt("the table of timelines holds a wrong row");
        let seq = u64::try_from(seq).map_err(|_| wrong())?;
        let hash = RunningHash(hash.try_into().map_err(|_| wrong())?);
        Ok(Decided { seq, hash })
    }
}
