//! Locks, condition variables and atomics: the one place where they come from.
//!
//! Invariant: all of this crate that threads share is guarded by what is named here, so that
//! feature `shuttle` can put a scheduler in its place that tries many interleavings of the same
//! code (`tests/shuttle.rs`). Each call of [`crate::MemDir`], [`crate::MemObjects`] and
//! [`crate::ManualEnv`] takes such a lock and is therefore a point where threads may change.
//!
//! What that scheduler does not see: the shards of `quick_cache`, which lock for themselves (one
//! call of a cache is one indivisible step here, and none of them calls back into this crate);
//! reference counts of `Arc`; memory orderings, for every atomic is sequentially consistent under
//! it; and all that feature `native` brings, whose threads are the runtime's own.
//!
//! With feature `shuttle` nothing of this crate works outside such a scheduler, so the feature is
//! for that one test binary and refuses to be part of a release.

#[cfg(all(feature = "shuttle", not(debug_assertions)))]
compile_error!("feature `shuttle` replaces every lock by a test's; it cannot be in a release");

#[cfg(feature = "shuttle")]
use shuttle::sync as imp;
#[cfg(not(feature = "shuttle"))]
use std::sync as imp;

pub(crate) use imp::atomic::{AtomicBool, AtomicU64};
pub(crate) use imp::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
