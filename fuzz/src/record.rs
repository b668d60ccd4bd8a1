//! The metadata of one record of a store's log file, and its meta file.
//!
//! Asserts: what decodes, encoded anew, decodes to the same bytes again.

use sheaf_volume::fuzz;

use crate::{commit::seal, input::Input};

/// Highest page a meta file may speak of here; see [`fuzz::meta`].
pub(crate) const PAGES_MAX: u32 = 1 << 14;

/// A number of pages and a record's metadata; the same bytes as a meta file, sealed.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let page_count = u32::from(input.byte() % 16);
    let metadata = input.0;
    if let Ok((again, _)) = fuzz::record(metadata, page_count) {
        let (third, _) = fuzz::record(&again, page_count).expect("BUG: does not read back");
        assert_eq!(again, third, "one record, one byte form");
    }
    let body = metadata.get(..metadata.len().saturating_sub(32)).unwrap_or_default();
    for bytes in [metadata, &seal(body)] {
        if let Ok(meta) = fuzz::meta(bytes, PAGES_MAX) {
            let back = fuzz::meta(&meta.again, PAGES_MAX).expect("BUG: does not read back");
            assert_eq!(back.again, meta.again, "one page map, one byte form");
            assert_eq!((back.generation, back.page_size), (meta.generation, meta.page_size));
        }
    }
}
