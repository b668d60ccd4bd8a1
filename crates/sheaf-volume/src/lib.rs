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
mod changes;
mod commit;
mod delta;
mod env;
mod error;
mod file;
mod finding;
mod frame;
/// Doors for `sheaf-fuzz` to decoders that nothing else can call alone.
#[doc(hidden)]
pub mod fuzz {
    pub use crate::bucket::fuzz::*;
    pub use crate::store::fuzz::*;
}
mod id;
pub mod limits;
mod lineage;
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
    At, BucketRemote, Doomed, GcReport, GcStep, GcWatch, Leads, LogCheck, Pin, Retention,
    Rewritten, SiteRecord, Why, check_site_name, create_branch, create_site, find_site, list_sites,
    pins, rewrite_segment, verify_log,
};
pub use changes::Changes;
pub use commit::{
    Applied, Commit, CommitDelta, CommitHash, CommitNews, FrameRef, PageDelta, Reject, Verdict,
    VerdictRun,
};
pub use delta::{apply_delta, encode_delta, page_hash};
#[cfg(feature = "native")]
pub use env::SystemEnv;
pub use env::{Env, ManualEnv};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "native")]
pub use file::StdDir;
pub use file::{Dir, DirLock, File, MemDir, file_conformance};
pub use finding::{Finding, Remedy};
pub use id::{DeviceId, SegmentId, SiteId, TimelineId, VolumeId};
pub use lineage::{Lineage, Parent};
pub use objects::{
    Cost, MemObjects, Meter, Objects, ObjectsError, Parts, Pieces, objects_conformance, probe,
};
#[cfg(feature = "native")]
pub use objects::{
    Promise, Races, StoreObjects, StoreTrial, StoreVerdict, Tried, open_url, verify_store,
};
pub use pageset::PageSet;
pub use prefetch::Children;
pub use remote::{
    Append, FetchedPage, HeldPage, Remote, RemoteHead, RemoteLog, SegmentPieces, Want,
};
pub use store::{ReplicaCheck, ReplicaInfo, ReplicaMended, mend_replica, verify_replica};
pub use types::{LocalLsn, Lsn, Page, PageCount, PageIdx, PageSize};
pub use volume::*;
