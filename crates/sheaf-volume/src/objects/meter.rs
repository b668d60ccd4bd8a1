//! A space of objects that counts what is asked of it.
//!
//! Invariant: requests that are made at once are one round, as on a network; bytes are those of
//! the objects, of a listing its keys. Leaves out headers and time: it passes everything on.

use std::ops::{Add, Range};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Objects, ObjectsError, Parts};
use crate::sync::AtomicU64;

/// What was asked of a [`Meter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests one after the other; those made at once are one.
    pub rounds: u64,
    /// All requests.
    pub requests: u64,
    /// Bytes that came.
    pub bytes_down: u64,
    /// Bytes that went.
    pub bytes_up: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rounds: self.rounds + other.rounds,
            requests: self.requests + other.requests,
            bytes_down: self.bytes_down + other.bytes_down,
            bytes_up: self.bytes_up + other.bytes_up,
        }
    }
}

/// Counts the requests to another space, for tests and measurements.
#[derive(Debug)]
pub struct Meter {
    inner: Arc<dyn Objects>,
    rounds: AtomicU64,
    requests: AtomicU64,
    down: AtomicU64,
    up: AtomicU64,
}

impl Meter {
    /// Counts from zero what is asked of `inner` through this.
    #[must_use]
    pub fn over(inner: Arc<dyn Objects>) -> Self {
        let zero = || AtomicU64::new(0);
        Self { inner, rounds: zero(), requests: zero(), down: zero(), up: zero() }
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Cost {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Cost {
            rounds: take(&self.rounds),
            requests: take(&self.requests),
            bytes_down: take(&self.down),
            bytes_up: take(&self.up),
        }
    }

    fn round(&self, requests: usize, bytes: usize) {
        if requests > 0 {
            self.rounds.fetch_add(1, Ordering::Relaxed);
            self.requests.fetch_add(requests as u64, Ordering::Relaxed);
            self.up.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn came(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn all_came(&self, answers: Parts) -> Parts {
        self.came(answers.iter().flatten().map(Bytes::len).sum());
        answers
    }

    fn keys_came(&self, keys: Vec<String>) -> Vec<String> {
        self.came(keys.iter().map(String::len).sum());
        keys
    }
}

impl Objects for Meter {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.round(1, 0);
        self.inner.get(key).inspect(|bytes| self.came(bytes.len()))
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        self.round(wants.len(), 0);
        self.all_came(self.inner.get_ranges(wants))
    }

    fn get_ranges_and_list(
        &self,
        wants: &[(String, Range<u64>)],
        prefix: &str,
        after: Option<&str>,
    ) -> Result<(Parts, Vec<String>), ObjectsError> {
        self.round(wants.len() + 1, 0);
        let (parts, keys) = self.inner.get_ranges_and_list(wants, prefix, after)?;
        Ok((self.all_came(parts), self.keys_came(keys)))
    }

    fn get_many(&self, keys: &[String]) -> Vec<Result<Bytes, ObjectsError>> {
        self.round(keys.len(), 0);
        self.all_came(self.inner.get_many(keys))
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.round(1, bytes.len());
        self.inner.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.round(1, bytes.len());
        self.inner.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.round(1, 0);
        self.inner.list(prefix, after).map(|keys| self.keys_came(keys))
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.round(1, 0);
        self.inner.delete(key)
    }

    fn delete_many(&self, keys: &[String]) -> Vec<Result<(), ObjectsError>> {
        self.round(keys.len(), 0);
        self.inner.delete_many(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemObjects, objects_conformance};

    #[test]
    fn it_is_what_it_counts() {
        objects_conformance(&Meter::over(Arc::new(MemObjects::new())));
    }

    #[test]
    fn requests_made_at_once_are_one_round() {
        let meter = Meter::over(Arc::new(MemObjects::new()));
        meter.put("a", Bytes::from_static(b"123")).unwrap();
        meter.create("b", Bytes::from_static(b"12345")).unwrap();
        let cost = |rounds, requests, bytes_down, bytes_up| Cost {
            rounds,
            requests,
            bytes_down,
            bytes_up,
        };
        assert_eq!(meter.take(), cost(2, 2, 0, 8));
        let keys = ["a", "none", "b"].map(str::to_owned);
        meter.get_many(&keys);
        meter.get_ranges(&[("a".to_owned(), 0..1), ("b".to_owned(), 2..5)]);
        assert_eq!(meter.take(), cost(2, 5, 12, 0));
        meter.get_many(&[]);
        assert_eq!(meter.take(), Cost::default(), "nothing was asked for");
        meter.list("", None).unwrap();
        assert_eq!(meter.take(), cost(1, 1, 2, 0));
        let both = meter.get_ranges_and_list(&[("b".to_owned(), 2..5)], "", None);
        assert_eq!(both.map(|(parts, keys)| (parts.len(), keys.len())).unwrap(), (1, 2));
        assert_eq!(meter.take(), cost(1, 2, 5, 0));
    }
}
