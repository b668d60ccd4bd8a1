//! Sites over a shared bucket, without a network: two devices, views, rebase, merge, views.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test that meets the unexpected fails where it stands"
)]

mod bucket;
mod cold;
mod conflicts;
mod damage;
mod deeds;
mod differential;
mod failing;
mod handover;
mod history;
mod journal;
mod jump;
mod lazy;
mod lists;
mod lockpage;
mod locks;
mod merges;
mod merging;
mod pending;
mod recorded;
mod rejected;
mod rowids;
mod rules;
mod schemas;
mod siblings;
mod space;
mod sqlite;
mod stands;
mod support;
mod swaps;
mod watch;
