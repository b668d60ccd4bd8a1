//! What a power cut leaves of a disk.
//!
//! Invariant: what was flushed is there. Of every other write each sector is there, is not, or is
//! garbage; every other truncation and every other change of a name happened or did not. Leaves
//! out damage beside the bytes that were being written: like SQLite, this disk has power-safe
//! overwrite.

use std::{collections::BTreeMap, sync::Arc};

use super::content::{Change, Content, Inode, Standing, What};
use super::{NameChange, Sector, SimDisk, State};
use crate::rng::Rng;

/// Which of the unsynced changes a power cut leaves, where they can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of them.
    AllKept,
    /// None of them.
    NoneKept,
    /// The first so many in the order they were made; see [`SimDisk::unsynced`].
    Prefix(usize),
    /// All, but of the last write only the first so many sectors.
    LastTorn(u64),
}

/// What became of a sector, a truncation or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    /// The length grew, the bytes did not come: zeros.
    Grown,
    Garbled,
}

/// Decides fates, in a fixed order of questions.
trait Judge {
    /// Of sector `part` of the change with this number; zero for what has no sectors.
    fn fate(&mut self, number: u64, part: u64) -> Fate;
    /// Makes garbage of the bytes that were being written.
    fn garble(&mut self, bytes: &mut [u8]);
}

impl SimDisk {
    /// A disk as a power cut now might leave it. This one stays as it is.
    #[must_use]
    pub fn power_cut(&self, rng: &mut Rng) -> Self {
        // A disk that loses nearly all and one that loses nearly nothing are both worth a try.
        let lost = rng.pick(&[50_000, 300_000, 500_000, 900_000]).copied().unwrap_or(0);
        let garbled = rng.pick(&[0, 0, 50_000, 400_000]).copied().unwrap_or(0);
        self.cut(&mut Chance { rng, lost, garbled })
    }

    /// A disk with one of the outcomes that can be listed.
    #[must_use]
    pub fn power_cut_with(&self, outcome: Outcome) -> Self {
        let numbers = self.state().unsynced_numbers();
        let first = |count: usize| numbers.get(count).copied().unwrap_or(u64::MAX);
        let (certain, last_sectors) = match outcome {
            Outcome::AllKept => (u64::MAX, 0),
            Outcome::NoneKept => (0, 0),
            Outcome::Prefix(count) => (first(count), 0),
            Outcome::LastTorn(sectors) => (first(numbers.len().saturating_sub(1)), sectors),
        };
        self.cut(&mut Listed { certain, last_sectors })
    }

    /// Changes that a power cut may undo.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.state().unsynced_numbers().len()
    }

    fn cut(&self, judge: &mut dyn Judge) -> Self {
        let state = self.state();
        let mut names = state.durable_names.clone();
        for change in &state.name_changes {
            if change.is_certain || judge.fate(change.number, 0) == Fate::Kept {
                change.apply(&mut names);
            }
        }
        let mut files = BTreeMap::new();
        for (number, inode) in &state.files {
            let content = survivors(inode, state.sector, judge);
            if names.values().any(|named| named == number) {
                files.insert(*number, Arc::new(Inode::settled(content)));
            }
        }
        Self::with_state(State {
            durable_names: names.clone(),
            names,
            files,
            sector: state.sector,
            inode_next: state.inode_next,
            change_next: state.change_next,
            capacity: state.capacity,
            ..State::new(state.sector)
        })
    }
}

impl State {
    fn unsynced_numbers(&self) -> Vec<u64> {
        let names = self.name_changes.iter().filter(|c| !c.is_certain).map(|c| c.number);
        let changes = self.files.values().flat_map(|inode| &inode.changes);
        let changes = changes.filter(|c| c.standing != Standing::Flushed).map(|c| c.number);
        let mut numbers: Vec<u64> = names.chain(changes).collect();
        numbers.sort_unstable();
        numbers
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self.inode {
            Some(inode) => names.insert(self.name.clone(), inode),
            None => names.remove(&self.name),
        };
    }
}

fn survivors(inode: &Inode, sector: Sector, judge: &mut dyn Judge) -> Content {
    let mut content = inode.durable.clone();
    for Change { number, what, standing } in &inode.changes {
        let is_certain = *standing == Standing::Flushed;
        match what {
            What::Write { offset, bytes } if is_certain => content.write_at(bytes, *offset),
            What::Truncate { len } => {
                if is_certain || judge.fate(*number, 0) == Fate::Kept {
                    content.truncate(*len);
                }
            }
            What::Write { offset, bytes } => {
                for (part, (at, piece)) in (0..).zip(sector.split(*offset, bytes)) {
                    let fate = judge.fate(*number, part);
                    keep(&mut content, at, piece, fate, judge);
                }
            }
        }
    }
    content
}

fn keep(content: &mut Content, at: u64, piece: &[u8], fate: Fate, judge: &mut dyn Judge) {
    let end = at + piece.len() as u64;
    match fate {
        Fate::Kept => content.write_at(piece, at),
        Fate::Dropped => {}
        Fate::Grown => {
            if content.len < end {
                content.truncate(end);
            }
        }
        Fate::Garbled => {
            let mut piece = piece.to_vec();
            judge.garble(&mut piece);
            content.write_at(&piece, at);
        }
    }
}

struct Chance<'a> {
    rng: &'a mut Rng,
    lost: u32,
    garbled: u32,
}

impl Judge for Chance<'_> {
    fn fate(&mut self, _number: u64, _part: u64) -> Fate {
        if self.rng.chance(self.garbled) {
            Fate::Garbled
        } else if !self.rng.chance(self.lost) {
            Fate::Kept
        } else if self.rng.chance(300_000) {
            Fate::Grown
        } else {
            Fate::Dropped
        }
    }

    fn garble(&mut self, bytes: &mut [u8]) {
        // From some byte on, so that also a sector that is right in front is tried.
        let from = if self.rng.chance(500_000) { 0 } else { self.rng.index(bytes.len()) };
        if let Some(bytes) = bytes.get_mut(from..) {
            self.rng.fill(bytes);
        }
    }
}

struct Listed {
    /// Changes with smaller numbers are kept.
    certain: u64,
    /// Sectors kept of the change with exactly that number.
    last_sectors: u64,
}

impl Judge for Listed {
    fn fate(&mut self, number: u64, part: u64) -> Fate {
        let is_kept = number < self.certain || (number == self.certain && part < self.last_sectors);
        if is_kept { Fate::Kept } else { Fate::Dropped }
    }

    fn garble(&mut self, _bytes: &mut [u8]) {}
}
