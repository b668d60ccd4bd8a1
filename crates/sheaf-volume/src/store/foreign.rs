//! Files whose checksums are right and whose content is not: made by another program, or by a bug.
//!
//! Invariant: opening them is an error or gives a store that works; it takes no memory for pages
//! that nobody wrote. `sheaf-fuzz` looks for more of the same.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::map::Loc;
use super::meta::{self, Identity};
use super::record;
use super::state::{State, Step, StepBody};
use super::{Store, StoreOptions};
use crate::{
    Dir as _, Error, ErrorKind, LocalLsn, Lsn, ManualEnv, MemDir, PageCount, PageIdx, PageSize,
    Result, VolumeId,
};

const IDENTITY: Identity =
    Identity { volume: VolumeId::from_bytes([1; 16]), page_size: PageSize::DEFAULT };

fn write(dir: &MemDir, name: &str, bytes: &[u8], at: u64) {
    dir.open(name).unwrap().write_at(bytes, at).unwrap();
}

fn open(dir: &MemDir) -> Result<Store> {
    let create = Some((IDENTITY.volume, IDENTITY.page_size));
    Store::open(
        dir,
        Arc::new(ManualEnv::new(1)),
        StoreOptions { create, cache_pages: 16, salvage: false },
    )
}

fn refused(dir: &MemDir) -> Error {
    let error = open(dir).expect_err("a store that cannot be");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    error
}

#[test]
fn a_state_without_a_next_one_is_refused() {
    let bad: [fn(&mut State); 3] = [
        |state| state.head = LocalLsn(u64::MAX),
        |state| state.base.lsn = Lsn(u64::MAX),
        |state| _ = state.bases.insert(LocalLsn(u64::MAX), Lsn::ZERO),
    ];
    for spoil in bad {
        let dir = MemDir::new();
        drop(open(&dir).unwrap());
        let mut state = State::default();
        spoil(&mut state);
        write(&dir, "meta-0", &meta::encode(0, IDENTITY, &state), 0);
        refused(&dir);
    }
}

#[test]
fn a_record_that_was_durable_before_it_was_written_is_refused() {
    let dir = MemDir::new();
    drop(open(&dir).unwrap());
    let end = dir.open("log-0").unwrap().len().unwrap();
    let step = Step { body: StepBody::Attrs, attrs: Vec::new() };
    let mut bytes = Vec::new();
    record::encode(&mut bytes, &step, &[], (0, 1 << 40), (0, end));
    write(&dir, "log-0", &bytes, end);
    refused(&dir);
}

#[test]
fn a_log_that_begins_behind_its_end_is_refused() {
    let dir = MemDir::new();
    drop(open(&dir).unwrap());
    let file = dir.open("log-0").unwrap();
    let mut header = [0; super::local::LOG_HEADER_LEN];
    file.read_at(&mut header, 0).unwrap();
    header[13..21].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let sum = xxh3_64(&header[..21]);
    header[21..].copy_from_slice(&sum.to_le_bytes());
    write(&dir, "log-0", &header, 0);
    refused(&dir);
}

#[test]
fn cutting_off_pages_that_nobody_wrote_costs_nothing() {
    let mut state = State::default();
    let commit = |count, pages: &[u32]| {
        let pages = pages.iter().filter_map(|number| PageIdx::new(*number)).collect();
        let body = StepBody::Commit { page_count: PageCount(count), pages, mutation: None };
        Step { body, attrs: Vec::new() }
    };
    let loc = Loc::Base { sum: 1 };
    state.apply(&commit(1 << 24, &[1, 7, 1 << 24]), &[loc; 3]);
    state.apply(&commit(2, &[]), &[]);
    assert_eq!(state.map.listed(), 3);
    let at = |number| state.map.find(PageIdx::new(number).unwrap(), state.head).loc;
    assert_eq!([1, 7, 9, 1 << 24].map(at), [loc, Loc::Zero, Loc::Zero, Loc::Zero]);
}
