//! The store against a model: full copies of every state, with none of the store's machinery.
//!
//! `page_store_conformance` draws steps, folds, reopenings (as after `kill -9`) and power cuts, and
//! compares every page of every state that is still pinned.

#![expect(clippy::cast_possible_truncation, reason = "small numbers drawn for a test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::page_sum;
use super::{
    Incoming, Intent, Locate, PendingMutation, State, Step, StepBody, Store, StoreOptions,
};
use crate::{
    CommitHash, Dir, Env, ErrorKind, LocalLsn, Lsn, ManualEnv, MemDir, Page, PageCount, PageIdx,
    PageSet, PageSize, VolumeId,
};

const SIZE: PageSize = match PageSize::new(512) {
    Some(size) => size,
    None => unreachable!(),
};

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Zero,
    Pending(Lsn),
    Tag(u64),
}

#[derive(Clone, Debug, Default)]
struct World {
    cells: BTreeMap<u32, Cell>,
    count: u32,
}

impl World {
    fn resize(&mut self, count: u32) {
        self.cells.retain(|page, _| *page <= count);
        self.count = count;
    }

    fn cell(&self, page: u32) -> Cell {
        self.cells.get(&page).cloned().unwrap_or(Cell::Zero)
    }
}

/// Everything the store should know, as plain copies.
#[derive(Clone, Debug, Default)]
struct Model {
    worlds: BTreeMap<LocalLsn, World>,
    head: LocalLsn,
    base: LocalLsn,
    base_lsn: Lsn,
    seqs: Vec<u64>,
    intent: bool,
}

impl Model {
    fn new() -> Self {
        let worlds = BTreeMap::from([(LocalLsn::ZERO, World::default())]);
        Self { worlds, ..Self::default() }
    }

    fn world(&self, at: LocalLsn) -> &World {
        &self.worlds[&at]
    }
}

struct Rng(ManualEnv);

impl Rng {
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill_random(&mut bytes);
        u64::from_le_bytes(bytes) % bound
    }
}

fn idx(page: u32) -> PageIdx {
    PageIdx::new(page).unwrap()
}

fn page(tag: u64) -> Page {
    let mut bytes = vec![0; SIZE.bytes()];
    bytes[..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8] = 1;
    bytes.into()
}

fn open(dir: &MemDir) -> Store {
    let create = Some((VolumeId::from_bytes([7; 16]), SIZE));
    // A cache of few pages, so that reads really come from the files.
    let options = StoreOptions { create, cache_pages: 16, salvage: false };
    Store::open(dir, Arc::new(ManualEnv::new(1)), options).unwrap()
}

fn draw_pages(rng: &Rng, count: u32) -> Vec<u32> {
    let mut pages: Vec<u32> =
        (0..1 + rng.below(4)).map(|_| 1 + rng.below(u64::from(count)) as u32).collect();
    pages.sort_unstable();
    pages.dedup();
    pages
}

fn new_count(rng: &Rng, count: u32) -> u32 {
    match rng.below(8) {
        0 => (count / 2).max(1),
        1..4 => count + 1 + rng.below(6) as u32,
        _ => count.max(1),
    }
}

/// A local commit.
fn commit(rng: &Rng, store: &Store, model: &mut Model, next_tag: &mut u64) {
    let mut world = model.world(model.head).clone();
    let count = new_count(rng, world.count);
    world.resize(count);
    let pages = draw_pages(rng, count);
    let mut contents = Vec::new();
    for number in &pages {
        *next_tag += 1;
        world.cells.insert(*number, Cell::Tag(*next_tag));
        contents.push(page(*next_tag));
    }
    let seq = model.seqs.last().copied().unwrap_or(0) + 1;
    let mutation = PendingMutation {
        seq,
        base: model.base_lsn,
        time_ms: seq,
        bytes: vec![seq as u8; 5].into(),
    };
    let body = StepBody::Commit {
        page_count: PageCount(count),
        pages: pages.into_iter().map(idx).collect(),
        mutation: Some(mutation.into()),
    };
    store.append(&Step { body, attrs: Vec::new() }, &contents).unwrap();
    model.head = model.head.next();
    model.worlds.insert(model.head, world);
    model.seqs.push(seq);
}

/// A pull of one or two commits, perhaps with page bytes inside, and perhaps a replay on top.
fn advance(rng: &Rng, store: &Store, model: &mut Model, next_tag: &mut u64) {
    let mut world = model.world(model.base).clone();
    let mut lsn = model.base_lsn;
    let mut incoming = Vec::new();
    let mut touched = BTreeMap::new();
    for _ in 0..=rng.below(2) {
        lsn = lsn.next();
        let count = new_count(rng, world.count);
        world.resize(count);
        touched.retain(|page, _| *page <= count);
        let pages = draw_pages(rng, count);
        for number in &pages {
            world.cells.insert(*number, Cell::Pending(lsn));
            touched.insert(*number, lsn);
        }
        let pages: PageSet = pages.into_iter().map(idx).collect();
        incoming.push(Incoming { lsn, page_count: PageCount(count), pages });
    }
    let mut contents = Vec::new();
    let mut filled = Vec::new();
    for number in touched.keys().filter(|_| rng.below(2) == 0) {
        *next_tag += 1;
        world.cells.insert(*number, Cell::Tag(*next_tag));
        filled.push(idx(*number));
        contents.push(page(*next_tag));
    }
    let base_count = world.count;
    model.head = model.head.next();
    model.base = model.head;
    model.base_lsn = lsn;
    model.worlds.insert(model.head, world.clone());
    let mut replayed = None;
    let mut timeline = Vec::new();
    model.seqs.clear();
    if rng.below(2) == 0 {
        let count = new_count(rng, base_count);
        world.resize(count);
        let pages = draw_pages(rng, count);
        for number in &pages {
            *next_tag += 1;
            world.cells.insert(*number, Cell::Tag(*next_tag));
            contents.push(page(*next_tag));
        }
        replayed = Some((PageCount(count), pages.into_iter().map(idx).collect()));
        model.head = model.head.next();
        model.worlds.insert(model.head, world);
        model.seqs.push(*next_tag);
        let (seq, bytes) = (*next_tag, vec![1].into());
        timeline.push(PendingMutation { seq, base: lsn, time_ms: 0, bytes }.into());
    }
    let body = StepBody::Advance {
        adopt: false,
        lsn,
        hash: CommitHash([lsn.0 as u8; 32]),
        time_ms: lsn.0,
        page_count: PageCount(base_count),
        incoming,
        filled,
        replayed,
        timeline,
    };
    store.append(&Step { body, attrs: Vec::new() }, &contents).unwrap();
    model.intent = false;
}

/// Fills every pending page of one state; other states that share the mark get it too.
fn fill(store: &Store, model: &mut Model, at: LocalLsn, next_tag: &mut u64) {
    let count = model.world(at).count;
    for number in 1..=count {
        let Some((lsn, mark)) = store.read().pending(idx(number), at) else { continue };
        assert_eq!(model.world(at).cell(number), Cell::Pending(lsn));
        *next_tag += 1;
        let body = StepBody::Fill { pages: vec![(idx(number), mark)] };
        store.append(&Step { body, attrs: Vec::new() }, &[page(*next_tag)]).unwrap();
        for (state, world) in &mut model.worlds {
            let sees_it = store.read().map.find(idx(number), *state).mark == mark;
            if sees_it && world.cell(number) == Cell::Pending(lsn) {
                world.cells.insert(number, Cell::Tag(*next_tag));
            }
        }
    }
}

fn check(store: &Store, model: &Model, pins: &[LocalLsn]) {
    let state = store.read();
    assert_eq!(state.head, model.head);
    assert_eq!(state.base.local, model.base);
    assert_eq!(state.base.lsn, model.base_lsn);
    assert_eq!(state.timeline.iter().map(|m| m.seq).collect::<Vec<_>>(), model.seqs);
    assert_eq!(state.intent.is_some(), model.intent);
    drop(state);
    for at in pins.iter().copied().chain([model.base, model.head]) {
        let world = model.world(at);
        for number in 1..=world.count {
            let expected = world.cell(number);
            let found = match store.page(idx(number), at).unwrap() {
                Locate::Pending { lsn, .. } => Cell::Pending(lsn),
                Locate::Page(page) if page[8] == 0 => Cell::Zero,
                Locate::Page(page) => Cell::Tag(u64::from_le_bytes(page[..8].try_into().unwrap())),
            };
            assert_eq!(found, expected, "page {number} at state {at}");
        }
    }
}

/// The suite: any page store that keeps these promises may serve a volume.
fn page_store_conformance(seed: u64, steps: usize) {
    let rng = Rng(ManualEnv::new(seed));
    let mut dir = MemDir::new();
    let mut store = open(&dir);
    let mut model = Model::new();
    let mut durable = model.clone();
    let mut pins: Vec<LocalLsn> = Vec::new();
    let mut tag = 0;
    for _ in 0..steps {
        match rng.below(20) {
            0..6 => commit(&rng, &store, &mut model, &mut tag),
            6..10 => advance(&rng, &store, &mut model, &mut tag),
            10 => {
                let at = model.base;
                fill(&store, &mut model, at, &mut tag);
            }
            11 => {
                let at = pins.first().copied().unwrap_or(model.head);
                fill(&store, &mut model, at, &mut tag);
            }
            12 => pins.push(if rng.below(2) == 0 { model.head } else { model.base }),
            13 if !pins.is_empty() => {
                pins.swap_remove(rng.below(pins.len() as u64) as usize);
            }
            14 | 15 => {
                pins.sort_unstable();
                store.fold(&pins).unwrap();
                durable = model.clone();
            }
            16 => {
                store.flush().unwrap();
                durable = model.clone();
            }
            17 => {
                let intent = Intent { lsn: model.base_lsn.next(), nonce: [3; 16] };
                let step = Step { body: StepBody::Push(intent), attrs: Vec::new() };
                store.append(&step, &[]).unwrap();
                model.intent = true;
            }
            18 => {
                // kill -9: what was written is there; pins die with the process.
                let image = dir.fork();
                pins.clear();
                drop(std::mem::replace(&mut store, open(&MemDir::new())));
                dir = image;
                store = open(&dir);
                durable = model.clone();
            }
            _ => {
                // Power cut: exactly what was flushed is there.
                let image = dir.crash();
                pins.clear();
                drop(std::mem::replace(&mut store, open(&MemDir::new())));
                dir = image;
                store = open(&dir);
                model = durable.clone();
            }
        }
        check(&store, &model, &pins);
    }
}

#[test]
fn conformance_of_the_local_store() {
    for seed in 0..60 {
        page_store_conformance(seed, 120);
    }
}

#[test]
fn the_base_file_of_an_idle_replica_is_the_plain_database() {
    let dir = MemDir::new();
    let store = open(&dir);
    let mut model = Model::new();
    let rng = Rng(ManualEnv::new(5));
    let mut tag = 0;
    for _ in 0..10 {
        advance(&rng, &store, &mut model, &mut tag);
    }
    let at = model.base;
    fill(&store, &mut model, at, &mut tag);
    store.fold(&[]).unwrap();
    let base = dir.open("main.db").unwrap();
    let world = model.world(model.base);
    assert_eq!(base.len().unwrap(), u64::from(world.count) * SIZE.bytes() as u64);
    let mut bytes = vec![0; SIZE.bytes()];
    for number in 1..=world.count {
        base.read_at(&mut bytes, idx(number).offset(SIZE)).unwrap();
        let Cell::Tag(expected) = world.cell(number) else { continue };
        assert_eq!(page_sum(&bytes), page_sum(&page(expected)), "page {number}");
    }
}

/// A store with a flushed record, then two more; and where each record begins.
fn three_records() -> (MemDir, Vec<u64>) {
    let dir = MemDir::new();
    let store = open(&dir);
    let mut model = Model::new();
    let rng = Rng(ManualEnv::new(9));
    let mut tag = 0;
    let mut starts = Vec::new();
    for _ in 0..3 {
        starts.push(store.tail().end);
        commit(&rng, &store, &mut model, &mut tag);
        store.flush().unwrap();
    }
    (dir.fork(), starts)
}

fn flip(dir: &MemDir, at: u64) {
    let log = dir.open("log-0").unwrap();
    let mut byte = [0];
    log.read_at(&mut byte, at).unwrap();
    log.write_at(&[byte[0] ^ 0x40], at).unwrap();
}

fn reopen(dir: &MemDir) -> crate::Result<Store> {
    let options = StoreOptions { create: None, cache_pages: 16, salvage: false };
    Store::open(dir, Arc::new(ManualEnv::new(1)), options)
}

#[test]
fn a_torn_tail_is_cut_and_damage_below_it_is_an_error() {
    let (dir, starts) = three_records();
    flip(&dir, starts[2] + 60);
    let store = reopen(&dir).unwrap();
    assert_eq!(store.read().head, LocalLsn(2), "the last record is torn and cut");
    drop(store);

    let (dir, starts) = three_records();
    flip(&dir, starts[1] + 60);
    let error = reopen(&dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// A commit of forty pages, each with its own content.
fn append_forty(store: &Store) -> crate::Result<()> {
    let body = StepBody::Commit {
        page_count: PageCount(40),
        pages: (1..=40).map(idx).collect(),
        mutation: None,
    };
    let contents: Vec<Page> = (1..=40).map(page).collect();
    store.append(&Step { body, attrs: Vec::new() }, &contents)
}

#[test]
fn a_failed_flush_closes_the_store() {
    let dir = MemDir::new();
    let store = open(&dir);
    let mut model = Model::new();
    let rng = Rng(ManualEnv::new(2));
    let mut tag = 0;
    commit(&rng, &store, &mut model, &mut tag);
    dir.fail_flush(true);
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Io);
    dir.fail_flush(false);
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Closed, "never retried");
}

/// An environment in which a fold ends right before it flushes the meta file.
#[derive(Debug)]
struct DiesInFold(ManualEnv);

impl Env for DiesInFold {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.0.fill_random(bytes);
    }

    fn fault(&self, point: &'static str) -> std::io::Result<()> {
        let here = point == "store: fold before meta flush";
        if here { Err(std::io::Error::other("killed here")) } else { Ok(()) }
    }
}

/// Found by the simulator (seed 47): the page map that a killed process had written but not
/// flushed was trusted, and what was flushed on top of it was lost with a power cut.
#[test]
fn what_a_killed_process_left_unflushed_is_flushed_before_anything_rests_on_it() {
    let dir = MemDir::new();
    let create = Some((VolumeId::from_bytes([7; 16]), SIZE));
    let options = StoreOptions { create, cache_pages: 16, salvage: false };
    let env = Arc::new(DiesInFold(ManualEnv::new(1)));
    let store = Store::open(&dir, env, options).unwrap();
    let (mut model, rng, mut tag) = (Model::new(), Rng(ManualEnv::new(3)), 0);
    commit(&rng, &store, &mut model, &mut tag);
    store.flush().unwrap();
    assert!(store.fold(&[]).is_err());
    drop(store);

    let killed = dir.fork();
    let store = reopen(&killed).unwrap();
    commit(&rng, &store, &mut model, &mut tag);
    store.flush().unwrap();
    check(&reopen(&killed.crash()).unwrap(), &model, &[]);
}

/// The same for the names of a replica that was killed while it was made.
#[test]
fn names_that_a_killed_process_left_unflushed_are_flushed_too() {
    let dir = MemDir::new();
    dir.fail_names(true);
    let create = Some((VolumeId::from_bytes([7; 16]), SIZE));
    let options = || StoreOptions { create, cache_pages: 16, salvage: false };
    let made = Store::open(&dir, Arc::new(ManualEnv::new(1)), options());
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Io);

    let killed = dir.fork();
    let store = Store::open(&killed, Arc::new(ManualEnv::new(2)), options()).unwrap();
    let (mut model, rng, mut tag) = (Model::new(), Rng(ManualEnv::new(3)), 0);
    commit(&rng, &store, &mut model, &mut tag);
    store.flush().unwrap();
    check(&reopen(&killed.crash()).unwrap(), &model, &[]);
}

#[test]
fn a_full_disk_loses_nothing_and_writing_goes_on_when_there_is_space() {
    let dir = MemDir::new();
    let store = open(&dir);
    let mut model = Model::new();
    let rng = Rng(ManualEnv::new(2));
    let mut tag = 0;
    commit(&rng, &store, &mut model, &mut tag);
    dir.set_capacity(Some(dir.used()));
    let error = append_forty(&store).unwrap_err();
    assert!(error.to_string().contains("disk is full"), "{error}");
    check(&store, &model, &[]);
    dir.set_capacity(None);
    commit(&rng, &store, &mut model, &mut tag);
    check(&store, &model, &[]);
    drop(store);
    check(&reopen(&dir).unwrap(), &model, &[]);
}

#[test]
fn a_damaged_page_in_the_log_is_found_when_it_is_read() {
    let dir = MemDir::new();
    let store = open(&dir);
    append_forty(&store).unwrap();
    let end = store.tail().end;
    flip(&dir, end - 512 * 20);
    let damaged = (1..=40)
        .filter(|number| {
            let read = store.page(idx(*number), LocalLsn(1));
            read.is_err_and(|e| e.kind() == ErrorKind::Corrupt)
        })
        .count();
    assert_eq!(damaged, 1);
}

#[test]
fn a_meta_file_from_the_future_is_refused_and_its_fixture_is_read() {
    let mut state = State { head: LocalLsn(3), head_pages: PageCount(2), ..State::default() };
    state.bases.insert(LocalLsn(0), Lsn(0));
    let identity = super::meta::Identity { volume: VolumeId::from_bytes([7; 16]), page_size: SIZE };
    let bytes = super::meta::encode(4, identity, &state).to_vec();
    let (generation, found, read) = super::meta::decode(&bytes).unwrap();
    assert_eq!((generation, found, read.head), (4, identity, LocalLsn(3)));
    let mut future = bytes;
    future[4] = 99;
    let hash = future.len() - 32;
    let sealed = *blake3::hash(&future[..hash]).as_bytes();
    future[hash..].copy_from_slice(&sealed);
    let error = super::meta::decode(&future).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

const FIXTURE: [&str; 5] = ["log-0", "log-1", "main.db", "meta-0", "meta-1"];

/// Steps of every kind, a fold, and a record after it: the same bytes every time.
fn make_fixture() -> MemDir {
    let dir = MemDir::new();
    let store = open(&dir);
    let mut model = Model::new();
    let rng = Rng(ManualEnv::new(42));
    let mut tag = 0;
    for _ in 0..3 {
        commit(&rng, &store, &mut model, &mut tag);
        advance(&rng, &store, &mut model, &mut tag);
    }
    let at = model.base;
    fill(&store, &mut model, at, &mut tag);
    store.fold(&[]).unwrap();
    let attrs = vec![("name".to_owned(), Some(b"value".to_vec().into()))];
    store.append(&Step { body: StepBody::Attrs, attrs }, &[]).unwrap();
    commit(&rng, &store, &mut model, &mut tag);
    let intent = Intent { lsn: model.base_lsn.next(), nonce: [3; 16] };
    store.append(&Step { body: StepBody::Push(intent), attrs: Vec::new() }, &[]).unwrap();
    store.flush().unwrap();
    dir.fork()
}

fn bytes_of(dir: &MemDir, name: &str) -> Vec<u8> {
    let file = dir.open(name).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Version 1 of the local store: what is written today is what was released, and what was released
/// opens. A missing fixture is made with `UPDATE_EXPECT=1`; an existing one is never replaced.
#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files of the repository")]
fn a_replica_of_version_1_is_written_and_opened_as_ever() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/replica-v1");
    let made = make_fixture();
    let kept = MemDir::new();
    for name in FIXTURE {
        let path = root.join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(&path, bytes_of(&made, name)).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes, bytes_of(&made, name), "{name} is written differently");
        kept.open(name).unwrap().write_at(&bytes, 0).unwrap();
    }
    let store = reopen(&kept).unwrap();
    let state = store.read();
    assert_eq!((state.head, state.base.lsn), (LocalLsn(8), Lsn(5)));
    assert_eq!(state.attrs["name"].as_ref(), b"value");
    assert!(state.intent.is_some());
    assert_eq!(state.timeline.len(), 1);
}
