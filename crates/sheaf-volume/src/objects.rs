//! Objects by key: what a bucket, a directory or memory offers.
//!
//! Invariant: [`Objects::create`] has exactly one winner per key among any number of callers; a
//! store that accepts the condition and ignores it is found by [`probe`] and refused.

use std::{fmt, ops::Range};

use bytes::{Bytes, BytesMut};

mod conformance;
mod mem;
mod meter;
mod probe;
#[cfg(test)]
mod space;
#[cfg(feature = "native")]
mod store;
#[cfg(feature = "native")]
mod verify;

pub use conformance::objects_conformance;
pub use mem::MemObjects;
pub use meter::{Cost, Meter};
pub use probe::probe;
#[cfg(test)]
pub(crate) use space::space_for_test;
#[cfg(feature = "native")]
pub use store::{StoreObjects, open_url};
#[cfg(feature = "native")]
pub use verify::{Promise, Races, StoreTrial, StoreVerdict, Tried, verify_store};

/// Why an object operation failed, by what the caller can do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectsError {
    /// There is no such object.
    #[error("object not found key=`{0}`")]
    NotFound(String),
    /// The key is taken.
    #[error("object exists already key=`{0}`")]
    AlreadyExists(String),
    /// The request may or may not have been carried out.
    #[error("outcome unknown key=`{key}`: {cause}")]
    Ambiguous {
        /// The key.
        key: String,
        /// What the store said.
        cause: String,
    },
    /// The store cannot be reached or asks to come back later.
    #[error("store not reachable: {0}")]
    Unavailable(String),
    /// The store refuses these credentials.
    #[error("store denies access: {0}")]
    Denied(String),
    /// The store failed in a way that trying again will not mend.
    #[error("store failed: {0}")]
    Failed(String),
}

/// The bytes of an object in the making, piece by piece; whoever takes them stops at an error.
pub type Pieces<'a> = dyn Iterator<Item = Result<Bytes, ObjectsError>> + 'a;

/// Parts of objects, in the order in which they were asked for, or why one is not there.
pub type Parts = Vec<Result<Bytes, ObjectsError>>;

/// A flat space of immutable objects. Synchronous: implementations that talk to a network block
/// the calling thread and run the members of a batch at the same time.
pub trait Objects: fmt::Debug + Send + Sync {
    /// The whole object.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError>;

    /// Parts of objects, all requested at once; answers in the order of the requests. A range that
    /// reaches past the end is an error.
    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Parts;

    /// [`Objects::get_ranges`] and [`Objects::list`], requested at once. As it stands here it asks
    /// one after the other, which is right for a store that is near.
    ///
    /// # Errors
    /// As [`Objects::list`].
    fn get_ranges_and_list(
        &self,
        wants: &[(String, Range<u64>)],
        prefix: &str,
        after: Option<&str>,
    ) -> Result<(Parts, Vec<String>), ObjectsError> {
        Ok((self.get_ranges(wants), self.list(prefix, after)?))
    }

    /// Whole objects, all requested at once; answers in the order of the keys.
    fn get_many(&self, keys: &[String]) -> Vec<Result<Bytes, ObjectsError>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Writes an object, replacing any other under this key. Durable when it returns.
    ///
    /// # Errors
    /// `Unavailable`, `Denied` or `Failed`.
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError>;

    /// As [`Objects::put`], for bytes that come in pieces, in order, and may be too many for
    /// memory. The object appears whole or not at all: when a piece is an error, or the store
    /// fails, what was sent before it is never seen. As it stands here it gathers all pieces,
    /// which is right for a store that keeps its objects in memory anyway.
    ///
    /// # Errors
    /// As [`Objects::put`], and the error among the pieces.
    fn put_stream(&self, key: &str, pieces: &mut Pieces<'_>) -> Result<(), ObjectsError> {
        let mut whole = BytesMut::new();
        for piece in pieces {
            whole.extend_from_slice(&piece?);
        }
        self.put(key, whole.freeze())
    }

    /// Writes an object if the key is free. Durable when it returns.
    ///
    /// # Errors
    /// `AlreadyExists` when it was taken, `Ambiguous` when that cannot be known.
    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError>;

    /// Keys that begin with `prefix` and sort after `after` (when given), ascending.
    ///
    /// # Errors
    /// `Unavailable`, `Denied` or `Failed`.
    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError>;

    /// Deletes an object; a missing one is no error.
    ///
    /// # Errors
    /// `Unavailable`, `Denied` or `Failed`.
    fn delete(&self, key: &str) -> Result<(), ObjectsError>;

    /// Deletes objects, all requested at once; answers in the order of the keys.
    fn delete_many(&self, keys: &[String]) -> Vec<Result<(), ObjectsError>> {
        keys.iter().map(|key| self.delete(key)).collect()
    }
}
