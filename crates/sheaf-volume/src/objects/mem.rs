//! Objects in memory, for tests and `memory:` URLs.
//!
//! Invariant: `create` decides its winner under one lock. Nothing survives the process.

use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
    sync::{Arc, PoisonError},
};

use bytes::Bytes;

use super::{Objects, ObjectsError};
use crate::sync::{Mutex, MutexGuard};

/// Objects in memory. A clone is another handle of the same objects.
#[derive(Clone, Debug, Default)]
pub struct MemObjects {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl MemObjects {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        // Every change is one map call, so a panic elsewhere leaves the map whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects for MemObjects {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.objects().get(key).cloned().ok_or_else(|| ObjectsError::NotFound(key.to_owned()))
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        let part = |(key, range): &(String, Range<u64>)| {
            let bytes = self.get(key)?;
            let start = usize::try_from(range.start).ok();
            let end = usize::try_from(range.end).ok();
            match (start, end) {
                (Some(start), Some(end)) if start <= end && end <= bytes.len() => {
                    Ok(bytes.slice(start..end))
                }
                _ => Err(past_the_end(key, range, bytes.len())),
            }
        };
        wants.iter().map(part).collect()
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.objects().insert(key.to_owned(), bytes);
        Ok(())
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Err(ObjectsError::AlreadyExists(key.to_owned()));
        }
        objects.insert(key.to_owned(), bytes);
        Ok(())
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let objects = self.objects();
        let keys = objects.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key);
        Ok(keys.take_while(|key| key.starts_with(prefix)).cloned().collect())
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.objects().remove(key);
        Ok(())
    }
}

pub(super) fn past_the_end(key: &str, range: &Range<u64>, len: usize) -> ObjectsError {
    let (start, end) = (range.start, range.end);
    ObjectsError::Failed(format!("range past the end key=`{key}` range={start}..{end} len={len}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        crate::objects_conformance(&MemObjects::new());
    }
}
