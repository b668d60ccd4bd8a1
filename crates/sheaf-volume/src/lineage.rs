//! Whose log holds which position of a volume's history: its own, or that of a volume it branched
//! from.
//!
//! Invariants: every position belongs to exactly one log; going back, a history changes volume at
//! each fork and never comes back to a volume it has left. Pure. Leaves out where parents are
//! recorded (the site's record in the bucket, an attribute on a device, a message).

use bytes::Bytes;

use crate::limits::{LSN_MAX, PARENTS_MAX};
use crate::wire::{Reader, Writer};
use crate::{Error, ErrorKind, Lsn, Result, VolumeId};

/// Version of the attribute that holds the parents.
const VERSION: u8 = 1;

/// A volume that a branch goes on from, and the position it leaves it at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The volume.
    pub volume: VolumeId,
    /// The newest of its positions that belongs to the branch.
    pub lsn: Lsn,
}

/// A volume with those it branched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    volume: VolumeId,
    parents: Vec<Parent>,
}

impl From<VolumeId> for Lineage {
    /// A volume that is no branch.
    fn from(volume: VolumeId) -> Self {
        Self { volume, parents: Vec::new() }
    }
}

impl Lineage {
    /// A volume and its parents, nearest first.
    ///
    /// # Errors
    /// `Corrupt` when no history can have these parents.
    pub fn new(volume: VolumeId, parents: Vec<Parent>) -> Result<Self> {
        let wrong = |why: &str| Err(Error::corrupt(format!("branch volume=`{volume}`: {why}")));
        if parents.len() > PARENTS_MAX {
            return wrong("too many parents");
        }
        if !parents.iter().all(|parent| (1..LSN_MAX).contains(&parent.lsn.0)) {
            return wrong("a parent's position is out of range");
        }
        if !parents.is_sorted_by(|near, far| near.lsn > far.lsn) {
            return wrong("parents are out of order");
        }
        let mut seen = vec![volume];
        for parent in &parents {
            if seen.contains(&parent.volume) {
                return wrong("a volume is its own ancestor");
            }
            seen.push(parent.volume);
        }
        Ok(Self { volume, parents })
    }

    /// The volume.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The volumes it branched from, nearest first.
    #[must_use]
    pub fn parents(&self) -> &[Parent] {
        &self.parents
    }

    /// The position before the volume's own first commit; zero for one that is no branch.
    #[must_use]
    pub fn fork(&self) -> Lsn {
        self.parents.first().map_or(Lsn::ZERO, |parent| parent.lsn)
    }

    /// The volume whose log holds a position.
    #[must_use]
    pub fn owner(&self, lsn: Lsn) -> VolumeId {
        let holder = self.parents.iter().rev().find(|parent| lsn <= parent.lsn);
        holder.map_or(self.volume, |parent| parent.volume)
    }

    /// A branch of this volume that begins after a position, with the parents it needs: those that
    /// lie wholly above the position are none of them.
    ///
    /// # Errors
    /// `Invalid` before the first commit, `Limit` for a branch of too many branches.
    pub fn branch(&self, child: VolumeId, at: Lsn) -> Result<Self> {
        if at == Lsn::ZERO {
            return Err(Error::invalid("branch: the site has no commit there to go on from"));
        }
        let nearest = Parent { volume: self.owner(at), lsn: at };
        let farther = self.parents.iter().filter(|parent| parent.lsn < at);
        let parents: Vec<Parent> = std::iter::once(nearest).chain(farther.copied()).collect();
        if parents.len() > PARENTS_MAX {
            let text = format!(
                "branch: at most {PARENTS_MAX} branches of branches; export this one and import \
                 it as a new site"
            );
            return Err(Error::new(ErrorKind::Limit, text));
        }
        Self::new(child, parents)
    }

    /// The parents as bytes, for an attribute.
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u8(VERSION);
        writer.varint(self.parents.len() as u64);
        for parent in &self.parents {
            writer.raw(parent.volume.as_bytes());
            writer.varint(parent.lsn.0);
        }
        writer.finish()
    }

    /// Reads what [`Lineage::encode`] wrote.
    pub(crate) fn decode(volume: VolumeId, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "parents");
        if reader.u8()? != VERSION {
            let text = "parents written by a newer version of Sheaf; upgrade";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let mut parents = Vec::new();
        for _ in 0..reader.count(17)? {
            let volume = VolumeId::try_from(reader.raw(16)?)?;
            parents.push(Parent { volume, lsn: Lsn(reader.varint()?) });
        }
        reader.end()?;
        Self::new(volume, parents)
    }

    /// The newest position that two histories share; `None` when they have nothing in common.
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<Lsn> {
        // One step per log that either history runs through: where both run through the same log,
        // they agree up to where the first of the two leaves it.
        let runs = |lineage: &Self| {
            let own = Parent { volume: lineage.volume, lsn: Lsn(LSN_MAX) };
            std::iter::once(own).chain(lineage.parents.iter().copied()).collect::<Vec<_>>()
        };
        let theirs = runs(other);
        runs(self).into_iter().find_map(|run| {
            let same = theirs.iter().find(|their| their.volume == run.volume)?;
            Some(run.lsn.min(same.lsn))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> VolumeId {
        VolumeId::from_bytes([byte; 16])
    }

    fn parent(byte: u8, lsn: u64) -> Parent {
        Parent { volume: id(byte), lsn: Lsn(lsn) }
    }

    #[test]
    fn every_position_has_one_owner() {
        let lineage = Lineage::new(id(3), vec![parent(2, 9), parent(1, 4)]).unwrap();
        let owners = [1, 4, 5, 9, 10, LSN_MAX].map(|lsn| lineage.owner(Lsn(lsn)));
        assert_eq!(owners, [1, 1, 2, 2, 3, 3].map(id));
        assert_eq!(lineage.fork(), Lsn(9));
        assert_eq!(Lineage::from(id(1)).owner(Lsn(1)), id(1));
        let bytes = lineage.encode();
        assert_eq!(Lineage::decode(id(3), &bytes).unwrap(), lineage);
        for len in 0..bytes.len() {
            assert!(Lineage::decode(id(3), &bytes[..len]).is_err(), "{len}");
        }
        let newer = [&[2], &bytes[1..]].concat();
        assert_eq!(Lineage::decode(id(3), &newer).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_branch_of_a_branch_has_only_the_parents_it_reaches() {
        let lineage = Lineage::new(id(3), vec![parent(2, 9), parent(1, 4)]).unwrap();
        let parents = |at| lineage.branch(id(8), Lsn(at)).unwrap().parents().to_vec();
        assert_eq!(parents(12), [parent(3, 12), parent(2, 9), parent(1, 4)]);
        assert_eq!(parents(9), [parent(2, 9), parent(1, 4)]);
        assert_eq!(parents(4), [parent(1, 4)]);
        assert_eq!(lineage.branch(id(8), Lsn(0)).unwrap_err().kind(), ErrorKind::Invalid);
        let mut deep = Lineage::from(id(0));
        for n in 1..=PARENTS_MAX {
            deep = deep.branch(id(u8::try_from(n).unwrap()), Lsn(n as u64)).unwrap();
        }
        assert_eq!(deep.branch(id(200), Lsn(99)).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn histories_share_what_lies_before_the_first_fork() {
        let main = Lineage::from(id(1));
        let left = main.branch(id(2), Lsn(9)).unwrap();
        let right = main.branch(id(3), Lsn(4)).unwrap();
        let leaf = left.branch(id(4), Lsn(12)).unwrap();
        for (a, b, lsn) in [(&main, &left, 9), (&left, &right, 4), (&leaf, &left, 12)] {
            assert_eq!((a.common(b), b.common(a)), (Some(Lsn(lsn)), Some(Lsn(lsn))));
        }
        assert_eq!(leaf.common(&right), Some(Lsn(4)));
        assert_eq!(main.common(&Lineage::from(id(7))), None);
    }

    #[test]
    fn parents_that_cannot_be_are_refused() {
        for parents in [
            vec![parent(1, 0)],
            vec![parent(1, LSN_MAX)],
            vec![parent(1, 4), parent(2, 9)],
            vec![parent(1, 4), parent(2, 4)],
            vec![parent(3, 4)],
            vec![parent(1, 9), parent(1, 4)],
            (10..)
                .zip((1..90).rev())
                .take(PARENTS_MAX + 1)
                .map(|(n, lsn)| parent(n, lsn))
                .collect(),
        ] {
            let error = Lineage::new(id(3), parents.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{parents:?}");
        }
    }
}
