//! One mutation: the op stream that devices send and nodes replay.
//!
//! Asserts: what decodes encodes to bytes that decode to the same, and to the same bytes again;
//! it passes `check`, so no replica accepts what another would refuse.

use sheaf_site::Mutation;

use crate::input::assert_refusal;

/// The bytes as they are: nothing in front of an op stream guards it.
pub fn target(data: &[u8]) {
    let mutation = match Mutation::decode(data) {
        Ok(mutation) => mutation,
        Err(error) => return assert_refusal(&error),
    };
    let bytes = mutation.encode();
    let back = Mutation::decode(&bytes).expect("BUG: an encoding that does not decode");
    assert_eq!(back, mutation);
    assert_eq!(back.encode(), bytes, "one mutation, one byte form");
    mutation.check().expect("BUG: decoded what check refuses");
    assert!(["call", "ddl", "rows"].contains(&mutation.kind()));
    assert!(!mutation.summary().is_empty());
}
