//! Small workloads of the local store.
//!
//! Invariant: each does one thing that the store promises to do whole or not at all, with what can
//! go wrong around it. Leaves out long histories: most crash bugs need three operations.

use sheaf_volume::{Durability, Result};

use super::flaky::Answer;
use super::volume::{VolumeBench, Work};

/// Name, page size, work.
pub(super) const ALL: &[(&str, u32, Work)] = &[
    ("volume: create", 512, |b| b.open()),
    ("volume: create, write and reopen", 512, |b| {
        b.open()?;
        b.memory(&[1])?;
        b.reopen()
    }),
    ("volume: one page", 4_096, |b| {
        b.open()?;
        b.local(&[1])?;
        b.local(&[1])
    }),
    ("volume: many pages in one commit", 4_096, |b| {
        b.open()?;
        b.local(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])?;
        b.memory(&[3, 9])
    }),
    ("volume: the largest pages", 65_536, |b| {
        b.open()?;
        b.local(&[1])?;
        b.memory(&[1, 2])
    }),
    ("volume: overwrites without a flush", 512, |b| {
        b.open()?;
        (0..4).try_for_each(|_| b.memory(&[1, 2]))?;
        b.flush()?;
        b.memory(&[2])
    }),
    ("volume: records of one size without a flush", 512, |b| {
        b.open()?;
        (0..3).try_for_each(|_| b.memory(&[1]))
    }),
    ("volume: truncate and grow again", 512, |b| {
        b.open()?;
        b.local(&[1, 2, 3, 4, 5])?;
        b.commit(Some(2), &[1], Durability::Memory)?;
        b.commit(None, &[5], Durability::Local)?;
        b.commit(Some(1), &[], Durability::Local)
    }),
    ("volume: vacuum to nothing", 512, |b| {
        b.open()?;
        b.local(&[1, 2, 3])?;
        b.fold()?;
        b.commit(Some(0), &[], Durability::Local)?;
        b.fold()
    }),
    ("volume: attributes", 512, |b| {
        b.open()?;
        b.attrs("a", Some(1))?;
        b.attrs("b", Some(2))?;
        b.memory(&[1])?;
        b.attrs("a", None)?;
        b.fold()?;
        b.attrs("b", Some(3))
    }),
    ("volume: each durability", 512, |b| {
        b.open()?;
        b.commit(None, &[1], Durability::Normal)?;
        b.commit(None, &[2], Durability::Memory)?;
        b.commit(None, &[1], Durability::Local)?;
        b.commit(None, &[2], Durability::Normal)?;
        b.flush()
    }),
    ("volume: fold", 512, |b| {
        base(b)?;
        b.memory(&[2])?;
        b.fold()?;
        b.local(&[3])
    }),
    ("volume: fold an empty store", 512, |b| {
        b.open()?;
        b.fold()?;
        b.local(&[1])
    }),
    ("volume: fold twice", 512, |b| {
        base(b)?;
        b.fold()?;
        b.others(None, &[1, 2, 3])?;
        b.integrate(&[])?;
        b.local(&[2])?;
        b.fold()?;
        b.memory(&[1])
    }),
    ("volume: fold after fold after fold", 512, |b| {
        base(b)?;
        for _ in 0..4 {
            b.others(None, &[1, 4])?;
            b.integrate(&[2])?;
            b.local(&[3])?;
            b.fold()?;
        }
        Ok(())
    }),
    ("volume: fold with a snapshot held", 512, |b| {
        base(b)?;
        let _pin = b.pin()?;
        b.others(None, &[1, 2])?;
        b.integrate(&[])?;
        b.local(&[3])?;
        b.fold()?;
        b.memory(&[1])?;
        b.fold()
    }),
    ("volume: fold with a longer snapshot held", 512, |b| {
        base(b)?;
        let _pin = b.pin()?;
        b.others(Some(2), &[1])?;
        b.integrate(&[])?;
        b.fold()?;
        b.local(&[1])
    }),
    ("volume: fold large pages over each other", 4_096, |b| {
        base(b)?;
        b.fold()?;
        b.others(None, &[1, 2, 3, 4])?;
        b.integrate(&[1, 2])?;
        b.fold()?;
        b.integrate(&[])
    }),
    ("volume: fold with pending pages", 4_096, |b| {
        pending(b)?;
        b.fold()?;
        b.read_all()?;
        b.fold()
    }),
    ("volume: evict and read again", 512, |b| {
        base(b)?;
        b.evict()?;
        b.read_all()?;
        b.local(&[2])
    }),
    ("volume: evict below drafts and a snapshot", 4_096, |b| {
        base(b)?;
        let _pin = b.pin()?;
        b.memory(&[2])?;
        b.others(None, &[1, 3])?;
        b.integrate(&[2])?;
        b.read_all()?;
        b.evict()?;
        b.memory(&[1])?;
        b.fold()
    }),
    ("volume: evict and evict again", 512, |b| {
        base(b)?;
        b.evict()?;
        b.read_all()?;
        b.evict()?;
        b.fold()
    }),
    ("volume: fills", 4_096, |b| {
        pending(b)?;
        b.read_all()?;
        b.local(&[3])
    }),
    ("volume: fills below drafts", 4_096, |b| {
        pending(b)?;
        b.memory(&[2, 25])?;
        b.read_all()?;
        b.flush()?;
        b.others(None, &[2])?;
        b.integrate(&[25])
    }),
    ("volume: integrate", 512, |b| {
        base(b)?;
        b.others(None, &[2])?;
        b.integrate(&[])?;
        b.flush()
    }),
    ("volume: integrate several commits", 512, |b| {
        base(b)?;
        b.others(None, &[2])?;
        b.others(Some(2), &[1])?;
        b.others(None, &[1, 5])?;
        b.integrate(&[])
    }),
    ("volume: integrate below drafts", 512, |b| {
        base(b)?;
        b.local(&[1, 2])?;
        b.memory(&[3])?;
        b.others(None, &[2, 4])?;
        b.integrate(&[1, 3])?;
        b.memory(&[3])?;
        b.flush()
    }),
    ("volume: redo on the same base", 512, |b| {
        base(b)?;
        b.local(&[1, 2])?;
        b.integrate(&[2])?;
        b.integrate(&[1])?;
        b.flush()
    }),
    ("volume: adopt", 512, |b| {
        b.others(None, &[1, 2, 3])?;
        b.open_as_stranger()?;
        b.adopt(&[])?;
        b.flush()?;
        b.read_all()
    }),
    ("volume: adopt below drafts", 512, |b| {
        b.others(None, &[1, 2, 3])?;
        b.open_as_stranger()?;
        b.local(&[1])?;
        b.memory(&[2])?;
        b.adopt(&[1])?;
        b.fold()?;
        b.memory(&[1])
    }),
    ("volume: push", 512, |b| {
        base(b)?;
        b.local(&[1])?;
        b.push(&[1], Answer::Plain, false)?;
        b.memory(&[2])?;
        b.push(&[2, 4], Answer::Plain, false)
    }),
    ("volume: push a segment", 4_096, |b| {
        base(b)?;
        b.push(&many(20), Answer::Plain, false)?;
        b.fold()
    }),
    ("volume: push and lose the race", 512, |b| {
        base(b)?;
        b.local(&[1])?;
        b.push(&[1], Answer::Plain, true)?;
        b.integrate(&[1])?;
        b.push(&[1], Answer::Plain, false)
    }),
    ("volume: push without an answer, landed", 512, |b| {
        base(b)?;
        b.memory(&[1])?;
        b.push(&[1, 2], Answer::Lost, false)?;
        resolve(b)?;
        b.flush()
    }),
    ("volume: push without an answer, not landed", 512, |b| {
        base(b)?;
        b.memory(&[1])?;
        b.push(&[1, 2], Answer::Refused, false)?;
        resolve(b)?;
        b.push(&[1], Answer::Plain, false)
    }),
    ("volume: fold with a push in flight", 512, |b| {
        base(b)?;
        b.memory(&[1])?;
        b.push(&[1, 2], Answer::Lost, false)?;
        b.fold()?;
        resolve(b)?;
        b.local(&[3])
    }),
    ("volume: reopen again and again", 512, |b| {
        base(b)?;
        b.memory(&[1])?;
        b.reopen()?;
        b.fold()?;
        b.memory(&[2])?;
        b.reopen()?;
        b.reopen()
    }),
    ("volume: close a long log", 65_536, |b| {
        b.open()?;
        b.others(None, &many(18))?;
        b.integrate(&[])?;
        b.read_all()?;
        b.reopen()?;
        b.memory(&[1])
    }),
];

fn many(count: usize) -> Vec<usize> {
    (1..=count).collect()
}

/// Opens a replica with a few pages of a base.
fn base(bench: &mut VolumeBench) -> Result<()> {
    bench.others(None, &[1, 2, 3])?;
    bench.open()?;
    bench.integrate(&[])?;
    bench.flush()
}

/// Opens a replica whose newest commit is in a segment, so that its pages are pending.
fn pending(bench: &mut VolumeBench) -> Result<()> {
    base(bench)?;
    bench.others(None, &many(20))?;
    bench.integrate(&[])?;
    bench.flush()
}

fn resolve(bench: &mut VolumeBench) -> Result<()> {
    bench.recover().map_err(Into::into)
}
