//! The physical layer of Sheaf: a page-addressed volume whose history is a log of commits.
//!
//! A [`Volume`] keeps page versions on this device, reads missing pages from a [`Remote`] when
//! somebody asks for them, and appends commits to a [`RemoteLog`] by conditional create. It knows
//! nothing of SQLite; mutations are opaque bytes that travel in the same atomic record as the
//! pages they produced.
//!
//! Everything is synchronous. Effects go through the seams [`Env`], [`File`]/[`Dir`] and
//! [`Objects`]/[`Remote`]; nothing here spawns a thread or reads a clock on its own.

#![forbid(unsafe_code)]

mod bucket;
mod cache;
mod commit;
mod env;
mod error;
mod file;
mod frame;
mod id;
pub mod limits;
mod objects;
mod pageset;
mod prefetch;
mod remote;
mod store;
mod sync;
#[doc(hidden)]
pub mod teeth;
mod types;
mod volume;
mod wire;

pub use bucket::{
    BucketRemote, Doomed, GcReport, GcStep, GcWatch, Retention, SiteRecord, Why, check_site_name,
    create_site, find_site, list_sites,
};
pub use commit::{Applied, Commit, CommitHash, FrameRef, Reject, Verdict, VerdictRun};
#[cfg(feature = "native")]
pub use env::SystemEnv;
pub use env::{Env, ManualEnv};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "native")]
pub use file::StdDir;
pub use file::{Dir, DirLock, File, MemDir, file_conformance};
pub use id::{DeviceId, SegmentId, SiteId, TimelineId, VolumeId};
pub use objects::{MemObjects, Objects, ObjectsError, objects_conformance, probe};
#[cfg(feature = "native")]
pub use objects::{StoreObjects, open_url};
pub use pageset::PageSet;
pub use remote::{Append, FetchedPage, Remote, RemoteHead, RemoteLog, Want};
#[doc(hidden)]
pub use store::fuzz;
pub use types::{LocalLsn, Lsn, Page, PageCount, PageIdx, PageSize};
pub use volume::*;
