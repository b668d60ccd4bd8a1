//! Sites over a shared bucket, without a network: two devices, views, rebase, merge, views.

mod bucket;
mod damage;
mod differential;
mod lazy;
mod lockpage;
mod schemas;
mod sqlite;
mod support;
