//! The bodies of pulls, pages and branches: what `POST /v1/pull`, `/v1/pages` and `/v1/branch`
//! answer with.
//!
//! Invariant: pages are read a chunk at a time, and a chunk has all its pages or is an error.
//! Everything here may block and runs where that is allowed. Leaves out the transport.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use sheaf_sync::{branch, changes_message, commits_message, pages, pull};
use sheaf_volume::{Error, ErrorKind, PageSet, Result, Want};

use crate::{
    limits,
    metrics::Metrics,
    open::{OpenSite, Pulled},
    sites::Sites,
};

/// The encoded answer to a pull.
///
/// # Errors
/// Those of [`Sites::by_volume`] and [`OpenSite::pull`].
pub(crate) fn pull(sites: &Sites, request: &pull::Request) -> Result<Bytes> {
    let volume = request.volume;
    let answer = match sites.by_volume(volume)?.pull(request)? {
        Pulled::Commits { commits, head, more } => {
            commits_message(0, volume, &commits, &head, more)?
        }
        Pulled::Merged(changes) => changes_message(0, &changes)?,
    };
    sites.metrics.commits_served.add(answer.commits.len() as u64);
    Ok(pull::encode_answer(&answer))
}

/// The encoded answer to a request for a branch.
///
/// # Errors
/// `Invalid` for a body that is none, and those of [`Sites::branch`].
pub(crate) fn branch(sites: &Sites, body: Bytes) -> Result<Bytes> {
    let request = branch::decode_request(body)?;
    sites.branch(&request).map(|opened| branch::encode_answer(&opened))
}

/// Cuts wants into pieces of at most [`limits::PAGES_CHUNK`] pages.
pub(crate) fn chunks(wants: &[Want]) -> VecDeque<Want> {
    let mut chunks = VecDeque::new();
    for want in wants {
        let mut pages = PageSet::new();
        for idx in want.pages.iter() {
            pages.insert(idx);
            if pages.len() >= limits::PAGES_CHUNK {
                chunks.push_back(Want { lsn: want.lsn, pages: std::mem::take(&mut pages) });
            }
        }
        if !pages.is_empty() {
            chunks.push_back(Want { lsn: want.lsn, pages });
        }
    }
    chunks
}

/// The encoded blocks of one chunk; deltas where the asker holds what is still here too.
///
/// # Errors
/// `NotFound` when not all of its pages are there, and those of [`OpenSite::pages`].
pub(crate) fn chunk(
    open: &OpenSite,
    want: &Want,
    held: &pages::Held,
    metrics: &Metrics,
) -> Result<Bytes> {
    let pages = open.pages(want)?;
    if pages.len() as u64 != want.pages.len() {
        return Err(Error::new(ErrorKind::NotFound, "the site has not all of these pages"));
    }
    let mut blocks = BytesMut::new();
    let mut writer = pages::BlockWriter::new(open.ids.volume);
    let mut recent = open.site.volume().recent_pages();
    for page in &pages {
        let old = held.get(&page.idx).and_then(|(lsn, hash)| recent.find(page.idx, *lsn, *hash));
        blocks.extend_from_slice(&writer.block(page, old.as_ref()));
    }
    metrics.pages_served.add(want.pages.len());
    metrics.bytes.add("out", blocks.len() as u64);
    Ok(blocks.freeze())
}

#[cfg(test)]
mod tests {
    use sheaf_volume::{Lsn, PageIdx};

    use super::*;

    #[test]
    fn wants_are_cut_into_chunks_without_loss() {
        let page = |n| PageIdx::new(n).unwrap();
        let wants = [
            Want { lsn: Lsn(3), pages: PageSet::range(page(1), page(600)) },
            Want { lsn: Lsn(4), pages: PageSet::range(page(7), page(7)) },
            Want { lsn: Lsn(5), pages: PageSet::new() },
        ];
        let chunks = chunks(&wants);
        let sizes: Vec<_> = chunks.iter().map(|chunk| (chunk.lsn.0, chunk.pages.len())).collect();
        assert_eq!(sizes, [(3, 256), (3, 256), (3, 88), (4, 1)]);
        let mut all = PageSet::new();
        chunks.iter().filter(|chunk| chunk.lsn == Lsn(3)).for_each(|c| all.union_with(&c.pages));
        assert_eq!(all, wants[0].pages);
    }
}
