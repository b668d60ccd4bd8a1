//! A door for `sheaf-fuzz` to the decoders of local files, which nothing else can call alone.
//!
//! Invariant: nothing here changes anything; no other crate may use it. Leaves out opening a
//! store from such bytes: [`crate::Volume::open`] does that.

use super::state::{Step, StepBody};
use super::{meta, record};
use crate::{PageIdx, PageSize, Result};

/// A meta file that decoded.
#[derive(Debug)]
pub struct Meta {
    /// Which log file it names.
    pub generation: u64,
    /// Bytes per page.
    pub page_size: PageSize,
    /// The same content, encoded anew.
    pub again: Vec<u8>,
}

/// Decodes a meta file that speaks of no page above `pages_max`: the page map takes memory for
/// every page a store has, whatever its bytes.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub fn meta(bytes: &[u8], pages_max: u32) -> Result<Meta> {
    let (generation, identity, state) = meta::decode_within(bytes, pages_max)?;
    let again = meta::encode(generation, identity, &state).to_vec();
    Ok(Meta { generation, page_size: identity.page_size, again })
}

/// Decodes the metadata of a log record: the same, encoded anew, and the highest page it makes
/// the page map hold.
///
/// # Errors
/// `Corrupt`.
pub fn record(metadata: &[u8], page_count: u32) -> Result<(Vec<u8>, u32)> {
    let record::Decoded { step, sums, staged } = record::decode(metadata, page_count, 0)?;
    let again = record::encode_metadata(&step, &sums, &staged);
    Ok((again.to_vec(), highest(&step)))
}

fn highest(step: &Step) -> u32 {
    let last = |pages: &[PageIdx]| pages.iter().max().map_or(0, |idx| idx.get());
    match &step.body {
        StepBody::Commit { pages, .. } => last(pages),
        StepBody::Advance { adopt, page_count, incoming, filled, replayed, .. } => {
            let adopted = if *adopt { page_count.0 } else { 0 };
            let named = incoming.iter().filter_map(|commit| commit.pages.last()).max();
            let drafts = replayed.as_ref().map_or(0, |(_, pages)| last(pages));
            adopted.max(named.map_or(0, PageIdx::get)).max(last(filled)).max(drafts)
        }
        StepBody::Fill { pages } => pages.iter().map(|(idx, _)| idx.get()).max().unwrap_or(0),
        StepBody::Push(_) | StepBody::Pushed | StepBody::Attrs | StepBody::Stage { .. } => 0,
    }
}
