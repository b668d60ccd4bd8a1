//! Fuzz targets: one module per decoder, each with `pub fn target(data: &[u8])`.
//!
//! Invariant: a target panics only for a bug. Bytes that a checksum would refuse at the door are
//! tried twice, as they are and sealed with the right checksum, because damage is found by the
//! checksum and malice is not. Every target is a function of its bytes: no clock, no randomness,
//! no file.
//!
//! The libFuzzer entry points are `fuzz_targets/*.rs`; `tests/corpus.rs` runs the same functions
//! over `corpus/` with the stable toolchain.

#![expect(clippy::indexing_slicing, reason = "a target is a test: where it panics, it found a bug")]

pub mod boundary;
pub mod branch;
pub mod btree;
pub mod checkpoint;
pub mod commit;
pub mod deeds;
pub mod delta;
pub mod frame;
pub mod history;
mod input;
pub mod mutation;
pub mod pack;
pub mod pages;
pub mod pull;
pub mod record;
pub mod seeds;
pub mod site;
pub mod sql;
pub mod store;
pub mod wire;
mod world;

/// A target's name, as in `fuzz_targets/` and `corpus/`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("boundary", boundary::target),
    ("branch", branch::target),
    ("btree", btree::target),
    ("checkpoint", checkpoint::target),
    ("commit", commit::target),
    ("deeds", deeds::target),
    ("delta", delta::target),
    ("frame", frame::target),
    ("history", history::target),
    ("mutation", mutation::target),
    ("pack", pack::target),
    ("pages", pages::target),
    ("pull", pull::target),
    ("record", record::target),
    ("site", site::target),
    ("sql", sql::target),
    ("store", store::target),
    ("wire", wire::target),
];
