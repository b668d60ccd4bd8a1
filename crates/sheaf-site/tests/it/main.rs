//! Sites over a shared bucket, without a network: two devices, views, rebase, merge, views.

mod bucket;
mod sqlite;
mod support;
