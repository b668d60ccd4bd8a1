//! Packs: one by itself, and one in the bucket of a log of 258 commits, as it is and sealed.
//!
//! Asserts: what decodes decodes to the same again, and holds no more bytes than it has; a pack
//! decides nothing: whatever it says, a pull gives the commits of the log.

use std::sync::OnceLock;

use bytes::Bytes;
use sheaf_volume::{Commit, Lsn, Remote as _, fuzz};

use crate::commit::seal;
use crate::input::{Input, assert_refusal};
use crate::world::{self, LONG};

/// The last position of the pack, and bytes of the hash at its end.
pub(crate) const LAST: u64 = 256;
const TRAILER: usize = 32;
/// Changes made to the real pack.
const EDITS_MAX: usize = 8;

/// The bytes as a pack; then changes to the real one: three bytes of place, and a section.
pub fn target(data: &[u8]) {
    for bytes in [data.to_vec(), sealed(data)] {
        decode(&bytes.into());
    }
    let mut pack = genuine().to_vec();
    let mut input = Input(data);
    for _ in 0..EDITS_MAX {
        let at = u32::from_le_bytes([input.byte(), input.byte(), input.byte(), 0]) as usize;
        let edit = input.section();
        let at = at % pack.len();
        let end = pack.len().min(at + edit.len());
        pack[at..end].copy_from_slice(&edit[..end - at]);
        if input.is_empty() {
            break;
        }
    }
    for bytes in [sealed(&pack), pack] {
        decode(&Bytes::copy_from_slice(&bytes));
        pull(bytes.into());
    }
}

fn sealed(data: &[u8]) -> Vec<u8> {
    seal(data.get(..data.len().saturating_sub(TRAILER)).unwrap_or_default())
}

fn genuine() -> Bytes {
    world::object(world::long(), &world::key("packs", LAST))
}

fn decode(bytes: &Bytes) {
    match fuzz::pack(bytes) {
        Ok(pack) => {
            let sum: usize = pack.commits.iter().map(Bytes::len).sum();
            assert!(sum <= bytes.len() && (1..=256).contains(&pack.commits.len()));
            let back = fuzz::pack(&pack.again).expect("BUG: an encoding that does not decode");
            assert!((back.volume, back.first) == (pack.volume, pack.first));
            assert!(back.commits == pack.commits, "an encoding of other commits");
        }
        Err(error) => assert_refusal(&error),
    }
}

fn pull(bytes: Bytes) {
    static COMMITS: OnceLock<Vec<Commit>> = OnceLock::new();
    let expected = COMMITS.get_or_init(|| world::commits(world::long()));
    assert_eq!(expected.len() as u64, LONG);
    let (_, reader) = world::with(world::long(), &world::key("packs", LAST), bytes);
    let mut pulled = Vec::new();
    while let Some(after) = Some(Lsn(pulled.len() as u64)).filter(|after| after.0 < LONG) {
        let commits = reader.pull(after).expect("BUG: a pack keeps the log from being read");
        assert!(!commits.is_empty(), "a pack ends the log");
        pulled.extend(commits);
    }
    assert!(pulled == *expected, "a pack decides what is in the log");
}
