//! Whether the files of a replica hold what they should, and what of them a repair can save.
//!
//! Invariants: looking changes no byte, not even of a torn end that opening would cut off; a
//! repair forgets only what a remote has or what follows from pending mutations, and never a
//! mutation. Leaves out fetching and redoing: the layers above do that, with what this reports.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::local::{Store, StoreOptions, is_whole, log_file, read_all, read_log_header, scan};
use super::map::{Loc, Version};
use super::meta::{self, Identity};
use super::state::State;
use crate::finding::{Finding, Findings, Remedy};
use crate::{
    CommitHash, Dir, Env, Error, ErrorKind, File, LocalLsn, Lsn, PageIdx, PageSet, PageSize,
    Result, VolumeId,
};

/// The files of a replica, besides its lock.
const FILES: [&str; 5] = ["main.db", "log-0", "log-1", "meta-0", "meta-1"];
/// The attribute that replaces a provisional volume id after first contact.
const ATTR_VOLUME: &str = "volume/id";

/// What a look at a replica's files found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaCheck {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Findings beyond [`crate::limits::FINDINGS_MAX`].
    pub more: u64,
    /// Places of pages that were read and are whole.
    pub pages: u64,
    /// Pages of the newest state that are not on this device.
    pub pending: u64,
    /// Whole records of the log file.
    pub records: u64,
    /// Mutations that the log of the site has not decided.
    pub mutations: u64,
    /// What the replica says about itself; `None` when its page map cannot be read.
    pub replica: Option<ReplicaInfo>,
}

/// What a replica says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaInfo {
    /// Its volume.
    pub volume: VolumeId,
    /// Bytes per page.
    pub page_size: PageSize,
    /// The global position it is based on, and the hash of the commit there.
    pub base: (Lsn, CommitHash),
    /// Its attributes.
    pub attrs: Vec<(String, Bytes)>,
}

impl ReplicaCheck {
    /// Whether a repair can bring the replica back, as far as its own files matter.
    #[must_use]
    pub fn can_open(&self) -> bool {
        let fatal = |f: &Finding| matches!(f.remedy, Remedy::CloneAfresh | Remedy::Upgrade);
        self.replica.is_some() && !self.findings.iter().any(fatal)
    }
}

/// What a repair of a replica's files did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaMended {
    /// Agreed pages that are to be fetched again.
    pub forgotten: PageSet,
    /// Pages of pending changes that are damaged: the changes are to be redone.
    pub drafts: PageSet,
}

/// The files, opened without making any.
struct Files {
    base: Box<dyn File>,
    logs: [Box<dyn File>; 2],
    metas: [Box<dyn File>; 2],
}

/// Looks at the files of a replica that nobody has open.
///
/// # Errors
/// `NotFound` when there is no replica here, `Busy` when somebody has it open, `Io` when the disk
/// fails. Damage is no error: the answer says what it is.
pub fn verify_replica(dir: &dyn Dir) -> Result<ReplicaCheck> {
    let names = dir.list().map_err(|e| Error::io("list replica", e))?;
    if !names.iter().any(|name| FILES.contains(&name.as_str())) {
        return Err(Error::new(ErrorKind::NotFound, "there is no replica here"));
    }
    let _lock = dir.lock().map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Error::new(
            ErrorKind::Busy,
            format!("this replica is in use: {e}; close the other program first"),
        ),
        _ => Error::io("lock replica", e),
    })?;
    let mut findings = Findings::default();
    for missing in FILES.iter().filter(|file| !names.iter().any(|name| name == *file)) {
        findings.push(Finding::new(*missing, "this file is missing", Remedy::Repair));
    }
    let open = |name: &str| dir.open(name).map_err(|e| Error::io("open replica file", e));
    let files = Files {
        base: open("main.db")?,
        logs: [open("log-0")?, open("log-1")?],
        metas: [open("meta-0")?, open("meta-1")?],
    };
    let mut check = ReplicaCheck::default();
    if let Some((identity, state)) = files.state(&mut check, &mut findings)? {
        files.pages(identity.page_size, &state, &mut check, &mut findings)?;
        describe(identity, &state, &mut check, &mut findings);
    }
    check.findings = findings.list;
    check.more = findings.more;
    Ok(check)
}

impl Files {
    /// The state as opening would find it, or `None` when it cannot be known.
    fn state(
        &self,
        check: &mut ReplicaCheck,
        findings: &mut Findings,
    ) -> Result<Option<(Identity, State)>> {
        let mut newest: Option<(u64, Identity, State)> = None;
        let (mut bad, mut whole) = (Vec::new(), 0);
        for (name, file) in ["meta-0", "meta-1"].into_iter().zip(&self.metas) {
            let bytes = read_all(&**file)?;
            match meta::decode(&bytes) {
                _ if bytes.is_empty() => {}
                Ok(found) => {
                    whole += 1;
                    if newest.as_ref().is_none_or(|n| n.0 < found.0) {
                        newest = Some(found);
                    }
                }
                Err(e) => bad.push((name, e)),
            }
        }
        let newest_is_alone = bad.is_empty() && whole == 1;
        let log = newest.as_ref().map(|(generation, ..)| log_file(&self.logs, *generation));
        let start = match (&newest, log) {
            (Some((generation, ..)), Some(log)) => Some(read_log_header(log, *generation)),
            _ => None,
        };
        // With a log that belongs to it, a page map is the newest: the other one is a leftover.
        let remedy = match start {
            Some(Ok(_)) => Remedy::Repair,
            _ => Remedy::CloneAfresh,
        };
        if newest.is_none() && bad.is_empty() {
            findings.push(Finding::new("meta-0", "there is no page map", Remedy::CloneAfresh));
        }
        for (name, e) in bad {
            findings.push(Finding::of(name, &e, remedy));
        }
        let Some((generation, identity, mut state)) = newest else {
            return Ok(None);
        };
        let log_name = log_name(generation);
        let start = match start {
            Some(Ok(start)) => start,
            Some(Err(e)) if e.kind() == ErrorKind::Io => return Err(e),
            Some(Err(e)) => {
                findings.push(Finding::of(log_name, &e, Remedy::CloneAfresh));
                let other = if generation.is_multiple_of(2) { "meta-1" } else { "meta-0" };
                if newest_is_alone {
                    let what = "this page map is empty, and the log does not belong to the other";
                    findings.push(Finding::new(other, what, Remedy::CloneAfresh));
                }
                return Ok(None);
            }
            None => return Ok(None),
        };
        let place = (generation, start);
        let is_read = self.records(place, identity.page_size, &mut state, check, findings)?;
        Ok(is_read.then_some((identity, state)))
    }

    /// Applies the records of the log file; false if the state cannot be known.
    fn records(
        &self,
        (generation, start): (u64, u64),
        size: PageSize,
        state: &mut State,
        check: &mut ReplicaCheck,
        findings: &mut Findings,
    ) -> Result<bool> {
        let log = log_file(&self.logs, generation);
        let log_name = log_name(generation);
        let scanned = match scan(log, (generation, start), size, state, true) {
            Ok(scanned) => scanned,
            Err(e) if e.kind() == ErrorKind::Io => return Err(e),
            Err(e) => {
                findings.push(Finding::of(log_name, &e, Remedy::CloneAfresh));
                return Ok(false);
            }
        };
        check.records = scanned.records;
        for at in &scanned.damaged {
            let what = format!("pages of the record at byte {at} are damaged");
            findings.push(Finding::new(log_name, what, Remedy::Repair));
        }
        let lost = scanned.len - scanned.end;
        if scanned.was_flushed {
            let what =
                format!("the record at byte {} is damaged, and later ones rest on it", scanned.end);
            findings.push(Finding::new(log_name, what, Remedy::CloneAfresh));
        } else if lost > 0 {
            let what = format!(
                "the last {lost} bytes are no whole record: a write that was cut short, or a \
                 damaged last change, which nothing says was ever flushed"
            );
            findings.push(Finding::new(log_name, what, Remedy::Repair));
        }
        Ok(true)
    }

    fn pages(
        &self,
        size: PageSize,
        state: &State,
        check: &mut ReplicaCheck,
        findings: &mut Findings,
    ) -> Result<()> {
        let is_whole = |idx: PageIdx, version: Version| {
            self.is_whole(size, idx, version).inspect(|is_whole| {
                check.pages += u64::from(*is_whole);
            })
        };
        let damage = Damage::find(state, is_whole)?;
        for (file, what, pages) in damage.by_file() {
            findings.push(Finding::new(file, what, Remedy::Repair).on(pages.clone()));
        }
        let pages = (1..=state.head_pages.0).filter_map(PageIdx::new);
        check.pending = pages.filter(|idx| state.is_pending(*idx, state.head)).count() as u64;
        Ok(())
    }

    fn is_whole(&self, size: PageSize, idx: PageIdx, version: Version) -> Result<bool> {
        let (file, offset, sum) = match version.loc {
            Loc::Zero | Loc::Pending(_) => return Ok(true),
            Loc::Log { file, offset, sum } => (log_file(&self.logs, u64::from(file)), offset, sum),
            Loc::Base { sum } => (&*self.base, idx.offset(size), sum),
        };
        is_whole(file, offset, size, sum)
    }
}

fn describe(identity: Identity, state: &State, check: &mut ReplicaCheck, findings: &mut Findings) {
    let mut seqs = state.timeline.iter().map(|mutation| mutation.seq);
    check.mutations = state.timeline.len() as u64;
    if let Some(first) = seqs.next()
        && !(first + 1..).zip(seqs).all(|(wanted, seq)| wanted == seq)
    {
        let what = "the pending changes are not numbered without gaps";
        findings.push(Finding::new("timeline", what, Remedy::CloneAfresh));
    }
    let adopted = state.attrs.get(ATTR_VOLUME);
    let adopted = adopted.and_then(|bytes| VolumeId::try_from(&**bytes).ok());
    check.replica = Some(ReplicaInfo {
        volume: adopted.unwrap_or(identity.volume),
        page_size: identity.page_size,
        base: (state.base.lsn, state.base.hash),
        attrs: state.attrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    });
}

/// Damaged pages, by what can be done about them, and the file each is in.
#[derive(Debug, Default)]
struct Damage {
    /// Of an agreed state: a remote has them.
    agreed: [PageSet; 3],
    /// Of this device's pending changes.
    drafts: [PageSet; 3],
    /// Of states that nobody sees any more.
    old: [PageSet; 3],
    /// States at which agreed pages are damaged.
    forget: Vec<(PageIdx, LocalLsn)>,
}

impl Damage {
    /// Looks at every place that the page map names, once.
    fn find(
        state: &State,
        mut is_whole: impl FnMut(PageIdx, Version) -> Result<bool>,
    ) -> Result<Self> {
        let mut damage = Self::default();
        let mut seen = BTreeSet::new();
        let slots = (1..).zip(state.map.slots());
        let slots = slots.filter_map(|(number, slot)| Some((PageIdx::new(number)?, slot?)));
        let versions = state.map.versions();
        let versions = versions.flat_map(|(idx, list)| list.iter().map(move |v| (idx, *v)));
        for (idx, version) in slots.chain(versions) {
            let Some(file) = file_of(version.loc) else { continue };
            let is_bad = if seen.insert((idx, place_of(version.loc))) {
                !is_whole(idx, version)? && !is_folded_over(state, idx, version, &mut is_whole)?
            } else {
                // A dropped draft points at the place of the version before it.
                damage.has(idx, file)
            };
            if is_bad {
                damage.sort_in(state, idx, version, file);
            }
        }
        Ok(damage)
    }

    fn has(&self, idx: PageIdx, file: usize) -> bool {
        let sets = [&self.agreed, &self.drafts, &self.old];
        sets.iter().any(|set| set.get(file).is_some_and(|pages| pages.contains(idx)))
    }

    fn sort_in(&mut self, state: &State, idx: PageIdx, version: Version, file: usize) {
        let is_seen_at = |at| state.map.find(idx, at) == version;
        let is_agreed = version.mark <= state.base.local;
        let set = if is_agreed && (is_seen_at(state.base.local) || is_seen_at(state.head)) {
            self.forget.push((idx, version.mark));
            &mut self.agreed
        } else if is_seen_at(state.head) {
            &mut self.drafts
        } else {
            &mut self.old
        };
        if let Some(pages) = set.get_mut(file) {
            _ = pages.insert(idx);
        }
    }

    fn by_file(&self) -> impl Iterator<Item = (&'static str, &'static str, &PageSet)> {
        let kinds = [
            (&self.agreed, "pages fail their checksum; the server has them"),
            (&self.drafts, "pages of unsent changes fail their checksum; redoing makes them again"),
            (&self.old, "pages that nothing needs any more fail their checksum"),
        ];
        kinds
            .into_iter()
            .flat_map(|(sets, what)| {
                ["log-0", "log-1", "main.db"].into_iter().zip(sets).map(move |(f, p)| (f, what, p))
            })
            .filter(|(_, _, pages)| !pages.is_empty())
    }
}

/// Whether a place in the base file has what the log file has for it by now: a fold that was cut
/// short copied it there, and the next one does so again.
fn is_folded_over(
    state: &State,
    idx: PageIdx,
    slot: Version,
    mut is_whole: impl FnMut(PageIdx, Version) -> Result<bool>,
) -> Result<bool> {
    if !slot.loc.is_base() {
        return Ok(false);
    }
    let newer = state.map.versions_of(idx).iter();
    for version in newer.filter(|v| v.mark > slot.mark && v.mark <= state.base.local) {
        let is_there = match version.loc {
            // Zeros, or cut off with the end of the file.
            Loc::Zero => true,
            Loc::Log { sum, .. } => is_whole(idx, Version { loc: Loc::Base { sum }, ..*version })?,
            Loc::Pending(_) | Loc::Base { .. } => false,
        };
        if is_there {
            return Ok(true);
        }
    }
    Ok(false)
}

fn log_name(generation: u64) -> &'static str {
    if generation.is_multiple_of(2) { "log-0" } else { "log-1" }
}

/// Which file a place is in, as an index into `log-0`, `log-1`, `main.db`.
fn file_of(loc: Loc) -> Option<usize> {
    match loc {
        Loc::Zero | Loc::Pending(_) => None,
        Loc::Log { file, .. } => Some(usize::from(file % 2)),
        Loc::Base { .. } => Some(2),
    }
}

fn place_of(loc: Loc) -> Option<(u8, u64)> {
    match loc {
        Loc::Log { file, offset, .. } => Some((file, offset)),
        _ => None,
    }
}

/// Mends the files of a replica without a network: forgets agreed pages that are damaged, and
/// those in `suspects`, so that they are fetched again; cuts off what is no record; throws away
/// what nobody needs. Every mutation stays.
///
/// # Errors
/// As opening a replica; `Corrupt` when its page map or a record that others rest on is damaged.
pub fn mend_replica(dir: &dyn Dir, env: Arc<dyn Env>, suspects: &PageSet) -> Result<ReplicaMended> {
    let options = StoreOptions { create: None, cache_pages: 16, salvage: true };
    let store = Store::open(dir, env, options)?;
    let damage = {
        let state = store.read();
        Damage::find(&state, |idx, version| store.is_whole(idx, version))?
    };
    let mut mended = ReplicaMended::default();
    for (idx, mark) in damage.forget {
        if store.forget(idx, mark) {
            _ = mended.forgotten.insert(idx);
        }
    }
    let base = store.read().base.local;
    for idx in suspects.iter() {
        let is_here = file_of(store.read().map.find(idx, base).loc).is_some();
        if is_here && store.forget(idx, base) {
            _ = mended.forgotten.insert(idx);
        }
    }
    damage.drafts.iter().for_each(|pages| mended.drafts.union_with(pages));
    // A fold writes down what was forgotten, and leaves out what nobody sees.
    store.fold(&[])?;
    Ok(mended)
}

#[cfg(test)]
mod tests;
