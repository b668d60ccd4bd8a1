//! Empty spaces of objects for tests: in memory, or below a fresh prefix of a real store.
//!
//! Invariant: no two spaces share an object. `SHEAF_TEST_STORE` names the store by URL; the test
//! command sets it for a second run of the same tests (`docs/testing.md`).

use std::sync::Arc;

use super::{MemObjects, Objects};
use crate::{SegmentId, SystemEnv, open_url};

/// An empty space.
pub(crate) fn space_for_test() -> Arc<dyn Objects> {
    match std::env::var("SHEAF_TEST_STORE") {
        Ok(store) => open_url(&format!("{store}/{}", SegmentId::mint(&SystemEnv))).unwrap(),
        Err(_) => Arc::new(MemObjects::new()),
    }
}

#[test]
fn the_store_of_this_run_conforms() {
    crate::objects_conformance(&*space_for_test());
    crate::probe(&*space_for_test(), &SystemEnv).unwrap();
}
