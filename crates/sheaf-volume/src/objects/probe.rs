//! Finds out whether a store can carry Sheaf, before anything is entrusted to it.
//!
//! Invariant: a store that accepts the condition of create-if-absent and ignores it is refused;
//! on such a store two writers would both win the same log position. Leaves a key under `probe/`
//! behind only if the store fails in the middle.

use bytes::Bytes;

use super::{Objects, ObjectsError};
use crate::{Env, Error, ErrorKind, Result, SegmentId};

/// Writes, reads and deletes one small object.
///
/// # Errors
/// `Unsupported` when the store does not keep what it promised; `Unavailable`, `Denied` or `Io`
/// when it could not be asked.
pub fn probe(objects: &dyn Objects, env: &dyn Env) -> Result<()> {
    // A segment id is as good a random name as any, and keys must never repeat.
    let key = format!("probe/{}", SegmentId::mint(env));
    let first = Bytes::from_static(b"sheaf probe: first");
    objects.create(&key, first.clone()).map_err(|error| failed("create", error))?;
    let verdict = second_create(objects, &key, &first);
    let deleted = objects.delete(&key).map_err(|error| failed("delete", error));
    verdict.and(deleted)
}

fn second_create(objects: &dyn Objects, key: &str, first: &Bytes) -> Result<()> {
    match objects.create(key, Bytes::from_static(b"sheaf probe: second")) {
        Err(ObjectsError::AlreadyExists(_)) => {}
        Ok(()) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this store accepts create-if-absent and ignores it; Sheaf cannot use it",
            ));
        }
        Err(error) => return Err(failed("second create", error)),
    }
    let found = objects.get(key).map_err(|error| failed("read back", error))?;
    if found != first {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this store gave back other bytes than were written; Sheaf cannot use it",
        ));
    }
    Ok(())
}

pub(super) fn failed(doing: &str, error: ObjectsError) -> Error {
    let kind = match &error {
        ObjectsError::Ambiguous { .. } | ObjectsError::Unavailable(_) => ErrorKind::Unavailable,
        ObjectsError::Denied(_) => ErrorKind::Denied,
        ObjectsError::Failed(_) => ErrorKind::Io,
        // A store that loses or invents this key keeps no promise at all.
        ObjectsError::NotFound(_) | ObjectsError::AlreadyExists(_) => ErrorKind::Unsupported,
    };
    Error::with_source(kind, format!("probe of the store failed at {doing}"), error)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::{ManualEnv, MemObjects};

    /// A store that is wrong in one chosen way.
    #[derive(Debug)]
    struct Faulty {
        below: MemObjects,
        ignores_condition: bool,
        answer: Option<ObjectsError>,
    }

    impl Objects for Faulty {
        fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
            self.below.get(key)
        }

        fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
            self.below.get_ranges(wants)
        }

        fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
            self.below.put(key, bytes)
        }

        fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
            match &self.answer {
                Some(error) => Err(error.clone()),
                None if self.ignores_condition => self.below.put(key, bytes),
                None => self.below.create(key, bytes),
            }
        }

        fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
            self.below.list(prefix, after)
        }

        fn delete(&self, key: &str) -> Result<(), ObjectsError> {
            self.below.delete(key)
        }
    }

    fn faulty() -> Faulty {
        Faulty { below: MemObjects::new(), ignores_condition: false, answer: None }
    }

    #[test]
    fn a_sound_store_passes_and_keeps_nothing() {
        let store = faulty();
        probe(&store, &ManualEnv::new(1)).unwrap();
        probe(&store, &ManualEnv::new(1)).unwrap();
        assert!(store.list("", None).unwrap().is_empty());
    }

    #[test]
    fn a_store_that_ignores_the_condition_is_refused() {
        let store = Faulty { ignores_condition: true, ..faulty() };
        let error = probe(&store, &ManualEnv::new(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("ignores it"), "{error}");
        assert!(store.list("", None).unwrap().is_empty());
    }

    #[test]
    fn a_store_out_of_reach_is_not_called_unsupported() {
        let denied = ObjectsError::Denied("no key".to_owned());
        let store = Faulty { answer: Some(denied), ..faulty() };
        assert_eq!(probe(&store, &ManualEnv::new(1)).unwrap_err().kind(), ErrorKind::Denied);
        let away = ObjectsError::Unavailable("offline".to_owned());
        let store = Faulty { answer: Some(away), ..faulty() };
        assert_eq!(probe(&store, &ManualEnv::new(1)).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
