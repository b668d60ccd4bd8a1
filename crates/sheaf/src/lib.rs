//! Offline-first, collaborative SQLite: the client library.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! let options = sheaf::ClientOptions {
//!     dir: "replicas".into(),
//!     server: Some("http://127.0.0.1:7070".into()),
//!     token: None,
//! };
//! let client = sheaf::Client::open(options)?;
//! let site = client.site("team/todos")?;
//! site.write(|tx| {
//!     tx.execute_batch("CREATE TABLE IF NOT EXISTS todo(id INTEGER PRIMARY KEY, what TEXT)")
//!         .map_err(sheaf::from_sqlite)
//! })?;
//! site.exchange(Duration::from_secs(10))?;
//! # Ok::<(), sheaf::Error>(())
//! ```
//!
//! A [`Client`] is a directory of replicas on this device; a [`Site`] is one of them, a real SQLite
//! database that is read and written at once, with or without a network. Calls block; none needs
//! an async runtime, and all work from within one. This crate owns the threads: a flusher per
//! site, a link per node or bucket once something is exchanged, and one that answers subscribed
//! queries. Hosts without threads find the
//! parts in [`driver`].

#![forbid(unsafe_code)]

mod branch;
mod bucket;
mod check;
mod client;
mod clock;
pub mod driver;
mod durability;
mod event;
mod exchange;
mod flush;
mod fork;
mod gc;
pub mod history;
mod http;
pub mod limits;
mod link;
mod log;
mod net;
mod node;
mod repair;
mod server;
mod site;
mod subscribe;
mod traffic;
mod trial;
mod watch;

pub use check::{CheckProgress, Verified};
pub use client::{Client, ClientOptions};
pub use durability::{Durability, Written};
pub use event::{Event, Events};
pub use exchange::Exchange;
pub use fork::Forked;
pub use log::{AppliedRun, LogEntry};
pub use repair::Repaired;
pub use sheaf_site::history::HistoryRetention;
pub use sheaf_site::{
    AlteredOp, Asking, CellWatch, Changed, Conflict, ConflictKind, Declared, EditState, Error,
    ErrorKind, FailedRow, Imported, Listening, MergedOps, OpBits, PendingChange, PendingInfo,
    PendingRow, RejectedInfo, Result, Row, RowWatch, RuleInfo, Standing, View, Waiting, WatchEvent,
    from_sqlite, rusqlite,
};
pub use sheaf_site::{Custom, Restored, Sides, Value, canonical_html, diff};
pub use sheaf_volume::{
    At, DeviceId, Evicted, Finding, LogCheck, Lsn, PageIdx, PageSize, Promise, Races, Remedy,
    ReplicaCheck, SiteId, StoreTrial, StoreVerdict, TimelineId, Tried, VolumeId,
};
pub use sheaf_volume::{Doomed, GcReport, GcStep, GcWatch, Retention, Why};
pub use site::{Site, Status};
pub use subscribe::{Agreement, Answer, Subscription};
pub use trial::verify_store;
pub use watch::Watch;
