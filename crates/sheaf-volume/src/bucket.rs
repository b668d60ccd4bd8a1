//! A bucket as the far side of a volume: the log itself, page by page and commit by commit.
//!
//! Invariants: every commit read is checked against its own hash, its key and the chain, every
//! page against the hash of its frame; nothing but a hint is ever overwritten. What is read at the end of a
//! chain, and what is appended, counts only once the boundary was looked at afterwards. A second
//! idle look is one request. Commits up to where a branch left its parent are read from the
//! parent's log; a commit that names any other volume is refused. Layout in `docs/format.md`.
//! Leaves out leases.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError};

use quick_cache::sync::Cache;

use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard};
use crate::teeth::{Tooth, bites};
use crate::{
    Append, Changes, Commit, CommitHash, Error, ErrorKind, FetchedPage, Lineage, Lsn, Objects,
    ObjectsError, PageCount, PageSize, Remote, RemoteHead, RemoteLog, Result, SegmentId,
    SegmentPieces, TimelineId, VolumeId, Want, limits,
};

mod boundary;
mod branch;
mod catalog;
mod checkpoint;
mod fetch;
#[doc(hidden)]
pub(crate) mod fuzz;
mod gc;
mod keys;
mod known;
mod latest;
mod pack;
mod pull;
#[cfg(test)]
mod tests;
mod verify;
mod walk;

pub use branch::{At, Pin, create_branch, pins};
pub use catalog::{SiteRecord, check_site_name, create_site, find_site, list_sites};
pub use checkpoint::Leads;
pub use gc::{Doomed, GcReport, GcStep, GcWatch, Retention, Why};
pub use verify::{LogCheck, Rewritten, rewrite_segment, verify_log};

use checkpoint::Checkpoints;
use keys::{log_key, log_prefix, lsn_in, refused, segment_key};
use known::{Known, Weight, new_cache};
use walk::Walk;

/// A volume's log and pages in a space of objects.
pub struct BucketRemote {
    objects: Arc<dyn Objects>,
    lineage: Lineage,
    page_size: PageSize,
    /// The newest commit seen; where the next look-up of the head begins.
    newest: Mutex<Option<RemoteHead>>,
    /// Commits by position. They never change, so they are never wrong, only forgotten.
    commits: Cache<Lsn, Arc<Known>, Weight>,
    /// Unfinished walks back from states that somebody reads, least recently used first.
    walks: Mutex<Vec<Walk>>,
    /// Packs that were listed, by their last position.
    packs: Mutex<BTreeSet<Lsn>>,
    /// The store has refused a pack: it is not asked to take another.
    packs_refused: AtomicBool,
    /// Where the last pull that found nothing began, plus one.
    idle_at: AtomicU64,
    checkpoints: Checkpoints,
    /// What tells which pages the checkpoints made here carry in front.
    leads: Option<Leads>,
    /// Number and boundary of the newest boundary mark seen; `None` before the first look.
    mark: Mutex<Option<(u64, Lsn)>>,
}

impl BucketRemote {
    /// The log of a volume in `objects`; a [`Lineage`] for a branch. Makes no request.
    #[must_use]
    pub fn new(
        objects: Arc<dyn Objects>,
        lineage: impl Into<Lineage>,
        page_size: PageSize,
    ) -> Self {
        Self {
            objects,
            lineage: lineage.into(),
            page_size,
            newest: Mutex::new(None),
            commits: new_cache(),
            walks: Mutex::new(Vec::new()),
            packs: Mutex::default(),
            packs_refused: AtomicBool::new(false),
            idle_at: AtomicU64::new(0),
            checkpoints: Checkpoints::new(),
            leads: None,
            mark: Mutex::new(None),
        }
    }

    /// The same, for who makes checkpoints and knows which of the pages readers need first.
    #[must_use]
    pub fn with_leads(self, leads: Leads) -> Self {
        Self { leads: Some(leads), ..self }
    }

    /// Whose log this is.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.lineage.volume()
    }

    /// Whose log this is, and whose it goes on from.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The name of the commit at a position, in whichever log it is.
    fn commit_key(&self, lsn: Lsn) -> String {
        log_key(self.lineage.owner(lsn), lsn)
    }

    /// The head of a log without a commit.
    fn nothing(&self) -> RemoteHead {
        RemoteHead {
            lsn: Lsn::ZERO,
            hash: CommitHash::default(),
            page_count: PageCount(0),
            page_size: self.page_size,
            time_ms: 0,
        }
    }

    fn newest(&self) -> Option<RemoteHead> {
        *lock(&self.newest)
    }

    /// Knows of a commit that is in the history.
    fn see(&self, head: RemoteHead) {
        let mut newest = lock(&self.newest);
        if newest.is_none_or(|newest| newest.lsn < head.lsn) {
            *newest = Some(head);
        }
    }

    /// What the log holds at a position; `None` if nothing.
    fn read_back(&self, lsn: Lsn) -> Result<Option<Arc<Known>>> {
        let key = self.commit_key(lsn);
        match self.objects.get(&key) {
            Ok(bytes) => self.admit(lsn, &bytes).map(Some),
            Err(ObjectsError::NotFound(_)) => Ok(None),
            Err(e) => Err(refused("read commit", e)),
        }
    }

    /// Whether the commit whose creation had this outcome is in the log after all.
    fn settle(&self, commit: &Commit, hash: CommitHash, outcome: ObjectsError) -> Result<Append> {
        if bites(Tooth::GuessCommitted) && matches!(outcome, ObjectsError::Ambiguous { .. }) {
            return Ok(Append::Committed);
        }
        // ORDER: nothing else is tried before this answer; a second try could append twice.
        let there = match self.read_back(commit.lsn) {
            Ok(there) => there,
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                return Err(e);
            }
            Err(_) => None,
        };
        let Some(there) = there else {
            if self.boundary().is_ok_and(|boundary| boundary > commit.lsn) {
                return Ok(Append::Lost);
            }
            let text = format!("append commit: outcome unknown lsn=`{}`", commit.lsn);
            return Err(Error::with_source(ErrorKind::Ambiguous, text, outcome));
        };
        if there.commit.nonce != commit.nonce {
            return Ok(Append::Lost);
        }
        if there.hash != hash {
            let text = format!("two commits share a nonce lsn=`{}`", commit.lsn);
            return Err(Error::new(ErrorKind::Internal, text));
        }
        self.appended(&there)
    }

    /// The outcome of an append whose object is in the store: the name may have been free only
    /// because its first holder was reclaimed. A commit that won and was itself reclaimed before
    /// this look is told as lost too: nothing can tell the two apart any more, and whoever sent
    /// its mutations finds them applied.
    fn appended(&self, known: &Known) -> Result<Append> {
        match self.confirm(known) {
            Ok(()) => {
                self.see(known.head());
                Ok(Append::Committed)
            }
            Err(e) if e.kind() == ErrorKind::Expired => {
                self.commits.remove(&known.commit.lsn);
                Ok(Append::Lost)
            }
            Err(e) => {
                let text = format!("append commit: outcome unknown lsn=`{}`", known.commit.lsn);
                Err(Error::with_source(ErrorKind::Ambiguous, text, e))
            }
        }
    }
}

impl BucketRemote {
    fn look_for_head(&self) -> Result<RemoteHead> {
        let prefix = log_prefix(self.volume());
        let hinted = if self.newest().is_none() { self.follow_hint() } else { None };
        let (newest, keys) = match hinted {
            Some(hinted) => (Some(hinted.head), hinted.later),
            None => {
                let newest = match self.newest() {
                    None => self.newest_checkpoint()?.map(|opened| opened.head.state()),
                    newest => newest,
                };
                let after = newest.map(|head| log_key(self.volume(), head.lsn));
                let keys = self.objects.list(&prefix, after.as_deref());
                (newest, keys.map_err(|e| refused("list log", e))?)
            }
        };
        let last = keys.iter().rev().find_map(|key| lsn_in(&prefix, key));
        let last = match (last, newest) {
            (Some(last), _) => last,
            (None, Some(newest)) if newest.lsn >= self.lineage.fork() => {
                self.see(newest);
                return Ok(newest);
            }
            // An empty branch is the state it left its parent at.
            (None, _) if self.lineage.fork() > Lsn::ZERO => self.lineage.fork(),
            (None, _) => return Ok(self.nothing()),
        };
        let known = self.commit(last)?;
        self.see(known.head());
        Ok(known.head())
    }
}

impl Remote for BucketRemote {
    fn head(&self) -> Result<RemoteHead> {
        for _ in 0..limits::READ_ATTEMPTS_MAX {
            match self.look_for_head() {
                // It was the newest, and before it was read the boundary went past it.
                Err(e) if e.kind() == ErrorKind::Expired => {}
                head => return head,
            }
        }
        let text = "the log moves faster than it can be read here; try again";
        Err(Error::new(ErrorKind::Unavailable, text))
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        pull::pull(self, after)
    }

    /// Where the log no longer reaches back to `after`, the newest checkpoint tells what changed.
    fn changes(&self, after: Lsn, timeline: TimelineId) -> Result<Option<Changes>> {
        match Changes::read(self, None, after, timeline) {
            Err(e) if e.kind() == ErrorKind::Expired => {
                let Some((head, pages)) = self.changed_since_checkpoint(after)? else {
                    return Err(e);
                };
                let begun = Changes::of_state(self.volume(), after, head, pages);
                Changes::read(self, Some(begun), after, timeline)
            }
            changes => changes,
        }
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        fetch::fetch(self, wants)
    }
}

impl RemoteLog for BucketRemote {
    fn put_segment(&self, id: SegmentId, pieces: &mut SegmentPieces<'_>) -> Result<()> {
        let key = segment_key(self.volume(), id);
        // The store only learns that there are no more pieces; why, it would not pass on whole.
        let mut failed = None;
        let mut pieces = pieces.map(|piece| {
            piece.map_err(|error| {
                let stop = ObjectsError::Failed(error.to_string());
                failed = Some(error);
                stop
            })
        });
        let done = self.objects.put_stream(&key, &mut pieces);
        drop(pieces);
        match failed {
            Some(error) => Err(error),
            None => done.map_err(|e| refused("write segment", e)),
        }
    }

    fn append(&self, commit: &Commit) -> Result<Append> {
        if commit.volume != self.volume() || commit.page_size != self.page_size {
            return Err(Error::invalid("append commit: it belongs to another volume"));
        }
        commit.check().map_err(|e| Error::with_source(ErrorKind::Invalid, "append commit", e))?;
        let (bytes, hash) = commit.encode_hashed();
        let len = bytes.len();
        if len > limits::COMMIT_BYTES_MAX {
            let text = format!("append commit: too large bytes=`{len}`");
            return Err(Error::new(ErrorKind::Limit, text));
        }
        let fork = self.lineage.fork();
        if commit.lsn <= fork {
            let text = format!("append commit: it lies before the branch begins fork=`{fork}`");
            return Err(Error::invalid(text));
        }
        let key = self.commit_key(commit.lsn);
        let created = if bites(Tooth::OverwriteLog) {
            self.objects.put(&key, bytes)
        } else {
            self.objects.create(&key, bytes)
        };
        match created {
            Ok(()) => {
                let appended = self.appended(&self.remember(commit.clone(), hash, len))?;
                if appended == Append::Committed {
                    // After everything that decides the append, and no part of it.
                    self.write_pack(commit.lsn);
                }
                Ok(appended)
            }
            Err(outcome @ (ObjectsError::AlreadyExists(_) | ObjectsError::Ambiguous { .. })) => {
                self.settle(commit, hash, outcome)
            }
            Err(e) => Err(refused("append commit", e)),
        }
    }

    /// `Lost` also when nothing is at that position: the commit is not in the log, and will not
    /// come there unless somebody appends it. Below the boundary nobody can tell: the newest state
    /// says which mutations it holds, and what is not in it is sent again.
    fn recover(&self, lsn: Lsn, nonce: [u8; 16]) -> Result<Append> {
        let there = self.read_back(lsn)?;
        match there.filter(|there| there.commit.nonce == nonce) {
            None => Ok(Append::Lost),
            Some(ours) => self.appended(&ours),
        }
    }
}

impl fmt::Debug for BucketRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketRemote")
            .field("objects", &self.objects)
            .field("volume", &self.volume())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Everything behind these locks is a cache that is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
