//! A volume under test, beside a model that knows every state it has had.
//!
//! Invariant: a page's content follows from its tag, and a tag is written once, so a page that
//! equals the model's is the right version. Leaves out SQLite: see `site.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sheaf_volume::{
    BucketRemote, Dir, Draft, Durability, Env, Error, ErrorKind, ManualEnv, MemDir, MemObjects,
    Objects, Page, PageCount, PageIdx, PageSize, PendingMutation, PushMeta, Remote, Result,
    Snapshot, Volume, VolumeId, VolumeOptions,
};

use super::flaky::{Answer, Flaky};
use super::recorder::{Recorder, copy_objects};
use super::{Bench, Setup, Trouble, wrong};
use crate::disk::SimDisk;

const ID: VolumeId = VolumeId::from_bytes([9; 16]);
const PROVISIONAL: VolumeId = VolumeId::from_bytes([8; 16]);

/// What a reader of the volume can see.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    head: u64,
    pages: Vec<u64>,
    global: Vec<u64>,
    timeline: Vec<u64>,
    attrs: BTreeMap<String, u64>,
    base: u64,
    is_pushing: bool,
}

pub(super) type Work = fn(&mut VolumeBench) -> Result<()>;

pub(super) struct VolumeBench {
    recorder: Arc<Recorder>,
    disk: SimDisk,
    setup: Setup,
    work: Work,
    objects: Arc<MemObjects>,
    volume: Option<Volume>,
    remote: Arc<BucketRemote>,
    /// Another writer of the same log.
    other: Option<Volume>,
    /// Tags of the pages at every position of the log.
    log: Vec<Vec<u64>>,
    states: Vec<State>,
    size: PageSize,
    next: u64,
    next_seq: u64,
}

fn remote(objects: &Arc<MemObjects>, size: PageSize) -> Arc<BucketRemote> {
    Arc::new(BucketRemote::new(Arc::clone(objects) as Arc<dyn Objects>, ID, size))
}

fn idx(number: usize) -> PageIdx {
    PageIdx::new(u32::try_from(number).unwrap_or(u32::MAX)).unwrap_or(PageIdx::FIRST)
}

fn content(tag: u64, size: PageSize) -> Page {
    let mut word = tag;
    let next = |_| {
        word = word.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(31) ^ tag;
        word.to_le_bytes()
    };
    let bytes: Vec<u8> = (0..size.bytes() / 8).flat_map(next).collect();
    bytes.into()
}

/// All of one length: a record must not end where no other could, or stale ones stay unreachable.
/// With pages of 4,096 bytes nearly every page and mutation is staged, with others none.
fn memory(size: PageSize) -> usize {
    if size == PageSize::DEFAULT { 64 } else { VolumeOptions::default().memory_bytes }
}

fn mutation_bytes(seq: u64) -> Bytes {
    Bytes::from(format!("mutation {seq:020}"))
}

impl VolumeBench {
    pub(super) fn new(size: u32, work: Work, setup: Setup) -> Self {
        let size = PageSize::new(size).unwrap_or(PageSize::DEFAULT);
        let objects = Arc::new(MemObjects::new());
        let disk = SimDisk::new(setup.sector);
        Self {
            recorder: Recorder::new(disk.clone(), Arc::clone(&objects), setup.seed),
            disk,
            setup,
            work,
            volume: None,
            remote: remote(&objects, size),
            objects,
            other: None,
            log: vec![Vec::new()],
            states: vec![State::default()],
            size,
            next: 1,
            next_seq: 1,
        }
    }

    fn now(&self) -> State {
        self.states.last().cloned().unwrap_or_default()
    }

    fn volume(&self) -> Result<Volume> {
        self.volume.clone().ok_or_else(|| Error::new(ErrorKind::Closed, "not open"))
    }

    fn tag(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// States that what comes now may leave.
    fn expect(&mut self, states: impl IntoIterator<Item = State>) {
        self.states.extend(states);
        self.recorder.set_high(self.states.len() - 1);
    }

    fn durable(&self) {
        self.recorder.set_low(self.states.len() - 1);
    }

    pub(super) fn open(&mut self) -> Result<()> {
        self.open_as(ID)
    }

    pub(super) fn open_as_stranger(&mut self) -> Result<()> {
        self.open_as(PROVISIONAL)
    }

    fn open_as(&mut self, id: VolumeId) -> Result<()> {
        let create = Some((id, self.size));
        let dir: Arc<dyn Dir> = match self.setup.wrap {
            Some(wrap) => wrap(&self.disk),
            None => Arc::new(self.disk.clone()),
        };
        let memory_bytes = memory(self.size);
        let options = VolumeOptions { create, cache_pages: 16, memory_bytes, children: None };
        let env = Arc::clone(&self.recorder) as Arc<dyn Env>;
        let volume = Volume::open(&*dir, env, options)?;
        volume.set_remote(Some(Arc::clone(&self.remote) as Arc<dyn Remote>));
        self.volume = Some(volume);
        Ok(())
    }

    /// Gives the volume up as a program that ends.
    pub(super) fn reopen(&mut self) -> Result<()> {
        let volume = self.volume()?;
        volume.tidy()?;
        drop(volume);
        self.volume = None;
        self.open()?;
        self.durable();
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.volume()?.flush()?;
        self.durable();
        Ok(())
    }

    pub(super) fn attrs(&mut self, name: &str, value: Option<u64>) -> Result<()> {
        let mut state = self.now();
        match value {
            Some(value) => state.attrs.insert(format!("t/{name}"), value),
            None => state.attrs.remove(&format!("t/{name}")),
        };
        self.expect([state]);
        let value = value.map(|value| Bytes::copy_from_slice(&value.to_le_bytes()));
        self.volume()?.set_attrs(vec![(format!("t/{name}"), value)])?;
        self.durable();
        Ok(())
    }

    /// Writes pages into a draft and into a list of tags.
    fn write(&mut self, draft: &mut Draft, tags: &mut Vec<u64>, pages: &[usize]) {
        for &number in pages {
            let tag = self.tag();
            draft.write(idx(number), content(tag, self.size));
            tags.resize(tags.len().max(number), 0);
            if let Some(slot) = tags.get_mut(number - 1) {
                *slot = tag;
            }
        }
    }

    pub(super) fn commit(
        &mut self,
        cut: Option<usize>,
        pages: &[usize],
        durability: Durability,
    ) -> Result<()> {
        let volume = self.volume()?;
        let mut state = self.now();
        let mut draft = volume.draft(volume.writer());
        if let Some(cut) = cut {
            draft.truncate(PageCount(u32::try_from(cut).unwrap_or(0)));
            state.pages.truncate(cut);
            state.pages.resize(cut, 0);
        }
        let mut tags = std::mem::take(&mut state.pages);
        self.write(&mut draft, &mut tags, pages);
        state.pages = tags;
        let seq = self.next_seq;
        self.next_seq += 1;
        state.timeline.push(seq);
        state.head += 1;
        self.expect([state]);
        let mutation = PendingMutation {
            seq,
            base: volume.base().0,
            time_ms: 1_000 + seq,
            bytes: mutation_bytes(seq),
        };
        drop(draft.save(Some(mutation), Vec::new(), durability)?);
        if durability == Durability::Local {
            self.durable();
        }
        Ok(())
    }

    pub(super) fn local(&mut self, pages: &[usize]) -> Result<()> {
        self.commit(None, pages, Durability::Local)
    }

    pub(super) fn memory(&mut self, pages: &[usize]) -> Result<()> {
        self.commit(None, pages, Durability::Memory)
    }

    pub(super) fn fold(&mut self) -> Result<()> {
        let volume = self.volume()?;
        volume.checkpoint(&volume.writer())?;
        self.durable();
        Ok(())
    }

    /// Drops every page that can be fetched again.
    pub(super) fn evict(&mut self) -> Result<()> {
        let volume = self.volume()?;
        volume.evict(&volume.writer(), 0)?;
        self.durable();
        Ok(())
    }

    pub(super) fn pin(&self) -> Result<Snapshot> {
        Ok(self.volume()?.head())
    }

    /// Reads every page, which fetches the missing ones.
    pub(super) fn read_all(&self) -> Result<()> {
        let head = self.volume()?.head();
        (1..=head.page_count().0).filter_map(PageIdx::new).try_for_each(|idx| {
            head.page(idx)?;
            Ok(())
        })
    }

    /// Somebody else appends.
    pub(super) fn others(&mut self, cut: Option<usize>, pages: &[usize]) -> Result<()> {
        let other = match self.other.take() {
            Some(other) => other,
            None => {
                let options = VolumeOptions {
                    create: Some((ID, self.size)),
                    cache_pages: 16,
                    ..VolumeOptions::default()
                };
                let env = Arc::new(ManualEnv::new(self.setup.seed + 77));
                let other = Volume::open(&MemDir::new(), env, options)?;
                other.set_remote(Some(Arc::clone(&self.remote) as Arc<dyn Remote>));
                other
            }
        };
        let commits = self.remote.pull(other.base().0)?;
        let mut draft = other.rebase(other.writer(), &commits)?;
        let mut tags = self.log.last().cloned().unwrap_or_default();
        if let Some(cut) = cut {
            draft.truncate(PageCount(u32::try_from(cut).unwrap_or(0)));
            tags.truncate(cut);
        }
        self.write(&mut draft, &mut tags, pages);
        let meta = PushMeta { writer: [2; 16], epoch: 0, tables: Vec::new(), applied: Vec::new() };
        other.push(&mut draft, &*self.remote, meta)?;
        drop(draft.publish(Vec::new(), Vec::new())?);
        self.log.push(tags);
        self.other = Some(other);
        Ok(())
    }

    /// Takes what is new and redoes the timeline, if any, as a write of these pages.
    pub(super) fn integrate(&mut self, redo: &[usize]) -> Result<()> {
        let volume = self.volume()?;
        let commits = self.remote.pull(volume.base().0)?;
        let draft = volume.rebase(volume.writer(), &commits)?;
        self.publish(draft, redo)
    }

    /// First contact.
    pub(super) fn adopt(&mut self, redo: &[usize]) -> Result<()> {
        let volume = self.volume()?;
        let draft = volume.adopt(volume.writer(), ID, self.remote.head()?)?;
        self.publish(draft, redo)
    }

    fn publish(&mut self, mut draft: Draft, redo: &[usize]) -> Result<()> {
        let mut state = self.now();
        state.base = draft.base_lsn().0;
        state.global = self.at_log(state.base);
        state.pages = state.global.clone();
        state.is_pushing = false;
        state.head += 1;
        let mut tags = std::mem::take(&mut state.pages);
        if !state.timeline.is_empty() && !redo.is_empty() {
            self.write(&mut draft, &mut tags, redo);
            state.head += 1;
        }
        state.pages = tags;
        let timeline = self.volume()?.timeline()?;
        self.expect([state]);
        drop(draft.publish(timeline, Vec::new())?);
        Ok(())
    }

    fn at_log(&self, lsn: u64) -> Vec<u64> {
        let at = usize::try_from(lsn).unwrap_or(usize::MAX);
        self.log.get(at).cloned().unwrap_or_default()
    }

    /// Appends pages as an authority; the timeline counts as decided then.
    pub(super) fn push(&mut self, pages: &[usize], answer: Answer, first: bool) -> Result<()> {
        let volume = self.volume()?;
        let mut draft = volume.rebase(volume.writer(), &[])?;
        let before = self.now();
        let mut tags = before.global.clone();
        self.write(&mut draft, &mut tags, pages);
        if first {
            // Somebody else takes the position.
            self.others(None, &[1])?;
        }
        let is_landed = !first && answer != Answer::Refused;
        if is_landed {
            self.log.push(tags.clone());
        }
        let intended = State { is_pushing: true, ..before.clone() };
        self.expect([intended]);
        let intended_at = self.states.len() - 1;
        if answer == Answer::Plain {
            self.expect([before.clone()]);
        }
        let log = Flaky { log: Arc::clone(&self.remote), answer };
        let meta = PushMeta { writer: [1; 16], epoch: 0, tables: Vec::new(), applied: Vec::new() };
        let pushed = volume.push(&mut draft, &log, meta);
        let is_sabotaged = self.recorder.is_hit();
        if answer != Answer::Plain && !is_sabotaged {
            self.recorder.set_low(intended_at);
            return if pushed.is_err() { Ok(()) } else { Err(Error::invalid("no error")) };
        }
        let pushed = pushed?;
        self.recorder.set_low(intended_at);
        if pushed.is_none() {
            drop(draft.discard());
            return Ok(());
        }
        let state = State {
            base: before.base + 1,
            global: tags.clone(),
            pages: tags,
            head: before.head + 1,
            timeline: Vec::new(),
            ..before
        };
        self.expect([state]);
        drop(draft.publish(Vec::new(), Vec::new())?);
        Ok(())
    }

    /// Asks the log about an interrupted push.
    pub(super) fn recover(&mut self) -> std::result::Result<(), Trouble> {
        let volume = self.volume()?;
        if !self.now().is_pushing {
            return Ok(());
        }
        let state = State { is_pushing: false, ..self.now() };
        let base = volume.base().0;
        self.expect([state]);
        let committed = volume.recover_push(&volume.writer(), &*self.remote)?;
        let ours = self.remote.pull(base)?.first().is_some_and(|c| c.writer == [1; 16]);
        if committed == ours { Ok(()) } else { wrong("a push was resolved wrongly") }
    }

    /// Finds the state that the volume is in.
    fn identify(&mut self, low: usize, high: usize) -> std::result::Result<usize, Trouble> {
        let volume = self.volume()?;
        let status = volume.status();
        let (head, global) = (volume.head(), volume.global());
        let attrs = volume.attrs("t/").into_iter().map(|(name, value)| {
            (name, value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
        });
        let seen = State {
            head: status.head.0,
            base: status.base_lsn.0,
            is_pushing: status.pushing,
            attrs: attrs.collect(),
            timeline: volume.held().iter().map(|mutation| mutation.seq).collect(),
            ..State::default()
        };
        if volume.timeline()?.iter().any(|m| m.bytes != mutation_bytes(m.seq)) {
            return wrong("a mutation has other bytes");
        }
        let counts = (status.page_count.0 as usize, global.page_count().0 as usize);
        for at in (low..=high).rev() {
            let Some(state) = self.states.get(at) else { continue };
            let bare = State { pages: Vec::new(), global: Vec::new(), ..state.clone() };
            if bare != seen || counts != (state.pages.len(), state.global.len()) {
                continue;
            }
            if equals(&head, &state.pages, self.size)? && equals(&global, &state.global, self.size)?
            {
                return Ok(at);
            }
        }
        let ends = (self.states.get(low), self.states.get(high));
        wrong(format!(
            "not one of states {low}..={high}: {seen:?} with {counts:?} pages, expected {ends:?}"
        ))
    }
}

fn equals(snapshot: &Snapshot, tags: &[u64], size: PageSize) -> Result<bool> {
    for (number, tag) in (1..).zip(tags) {
        let page = snapshot.page(idx(number))?;
        let is_right = match tag {
            0 => page.iter().all(|byte| *byte == 0),
            tag => page == content(*tag, size),
        };
        if !is_right {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Bench for VolumeBench {
    fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn objects(&self) -> &Arc<MemObjects> {
        &self.objects
    }

    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn work(&mut self) -> Result<()> {
        (self.work)(self)
    }

    fn on_image(&self, disk: SimDisk, objects: &MemObjects, seed: u64) -> Self {
        let objects = copy_objects(objects);
        Self {
            recorder: Recorder::new(disk.clone(), Arc::clone(&objects), seed),
            disk,
            setup: Setup { seed, wrap: None, ..self.setup },
            work: self.work,
            volume: None,
            remote: remote(&objects, self.size),
            objects,
            other: None,
            log: self.log.clone(),
            states: self.states.clone(),
            size: self.size,
            next: seed << 32,
            next_seq: self.next_seq,
        }
    }

    fn open_and_find(&mut self, low: usize, high: usize) -> std::result::Result<usize, Trouble> {
        self.open()?;
        self.find(low, high)
    }

    fn find(&mut self, low: usize, high: usize) -> std::result::Result<usize, Trouble> {
        let at = self.identify(low, high)?;
        self.states.truncate(at + 1);
        self.recorder.set_high(at);
        Ok(at)
    }

    fn aftermath(&mut self) -> std::result::Result<(), Trouble> {
        // As large as what a crash may have torn, and not flushed: a second crash may lose it.
        self.memory(&[1])?;
        self.recover()?;
        let (head, base) = (self.remote.head()?.lsn, self.now().base);
        self.log.truncate(usize::try_from(head.0 + 1).unwrap_or(usize::MAX));
        if self.volume()?.id() != ID && head.0 > 0 {
            self.adopt(&[2])?;
        } else if head.0 > base {
            self.integrate(&[2])?;
        }
        self.local(&[1, 3])?;
        self.fold()?;
        let last = self.states.len() - 1;
        self.identify(last, last)?;
        self.reopen()?;
        self.identify(last, last).map(|_| ())
    }

    fn close(&mut self) {
        self.volume = None;
        self.recorder.release();
    }
}
