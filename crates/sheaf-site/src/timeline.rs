//! A device's ordered queue of intents for one site, and how it travels.
//!
//! Invariants: sequence numbers are gapless from 1; each mutation carries 8 random bytes from the
//! moment it is made, which a rebase does not change, and a running hash over `(seq, those bytes)`
//! identifies the timeline's past. A device restored from a backup reuses numbers under other
//! bytes, and is found out by that hash.

use bytes::{BufMut, Bytes, BytesMut};
use sheaf_volume::{
    DeviceId, Error, HeldMutation, Lsn, PendingMutation, Result, TimelineId, Verdict,
};

use crate::Mutation;

/// Bytes of the identity in front of an encoded mutation.
const UID_LEN: usize = 8;

/// Identity of a timeline's past: see [`RunningHash::after`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningHash(pub [u8; 16]);

impl RunningHash {
    /// The hash after one more mutation: the first half of BLAKE3 over the hash before, the
    /// number and the mutation's identity.
    #[must_use]
    pub fn after(self, record: &MutationRecord) -> Self {
        self.after_uid(record.seq, record.bytes.get(..UID_LEN).unwrap_or(&record.bytes))
    }

    /// The same for one whose bytes may be on disk.
    pub(crate) fn after_held(self, held: &HeldMutation) -> Self {
        self.after_uid(held.seq, held.head())
    }

    fn after_uid(self, seq: u64, uid: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&seq.to_le_bytes());
        hasher.update(uid);
        let mut half = [0; 16];
        half.copy_from_slice(hasher.finalize().as_bytes().get(..16).unwrap_or(&[0; 16]));
        Self(half)
    }
}

/// One mutation on its way to the log. The bytes are its identity and its op stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutationRecord {
    /// Its number on the timeline.
    pub seq: u64,
    /// The global position its old values were seen at.
    pub base: Lsn,
    /// When it was made, milliseconds since 1970.
    pub time_ms: u64,
    /// Identity and op stream.
    pub bytes: Bytes,
}

impl MutationRecord {
    pub(crate) fn new(seq: u64, base: Lsn, time_ms: u64, uid: [u8; 8], body: &Mutation) -> Self {
        let encoded = body.encode();
        let mut bytes = BytesMut::with_capacity(UID_LEN + encoded.len());
        bytes.put_slice(&uid);
        bytes.put_slice(&encoded);
        Self { seq, base, time_ms, bytes: bytes.freeze() }
    }

    /// The mutation itself.
    ///
    /// # Errors
    /// `Invalid` for bytes that are not one.
    pub fn mutation(&self) -> Result<Mutation> {
        let body = self.bytes.get(UID_LEN..).ok_or_else(|| Error::invalid("mutation too short"))?;
        Mutation::decode(body)
    }

    /// Its op stream.
    pub(crate) fn stream(&self) -> Option<Bytes> {
        (self.bytes.len() >= UID_LEN).then(|| self.bytes.slice(UID_LEN..))
    }

    /// What tells it from every other mutation, and no redo changes.
    pub(crate) fn uid(&self) -> [u8; UID_LEN] {
        let mut uid = [0; UID_LEN];
        uid.iter_mut().zip(&*self.bytes).for_each(|(to, from)| *to = *from);
        uid
    }

    /// The same intent, seen from another base.
    pub(crate) fn recaptured(&self, base: Lsn, body: &Mutation) -> Self {
        Self::new(self.seq, base, self.time_ms, self.uid(), body)
    }
}

impl From<PendingMutation> for MutationRecord {
    fn from(pending: PendingMutation) -> Self {
        let PendingMutation { seq, base, time_ms, bytes } = pending;
        Self { seq, base, time_ms, bytes }
    }
}

impl From<MutationRecord> for PendingMutation {
    fn from(record: MutationRecord) -> Self {
        let MutationRecord { seq, base, time_ms, bytes } = record;
        Self { seq, base, time_ms, bytes }
    }
}

/// Consecutive mutations of one timeline, offered to whoever appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Whose.
    pub timeline: TimelineId,
    /// The device that made them.
    pub device: DeviceId,
    /// Number of the first one.
    pub first_seq: u64,
    /// Running hash before the first one.
    pub prev_hash: [u8; 16],
    /// At least one mutation, numbered without gaps.
    pub mutations: Vec<MutationRecord>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Decided: all of it, or what stands before a mutation that asks its author
    /// ([`Answer::asks`]) or that only a newer version can decide. One that had been applied
    /// before counts as `Ok`.
    Verdicts {
        /// Number of the first mutation.
        first_seq: u64,
        /// One verdict per decided mutation, with the reason of a rejection.
        verdicts: Vec<(Verdict, String)>,
        /// The position that holds the effects.
        lsn: Lsn,
    },
    /// Something is missing before the batch: send from `next`.
    Gap {
        /// The number expected.
        next: u64,
    },
    /// The same numbers were used before with other mutations: start a new timeline.
    Fork {
        /// The number expected.
        next: u64,
    },
    /// The batch contradicts itself, or holds what only a newer version can read.
    Malformed(String),
}

impl Answer {
    /// Whether the batch was decided only up to a mutation whose author has to look again first.
    /// That author finds it by itself, on any base from the answer's on.
    #[must_use]
    pub fn asks(&self, batch: &Batch) -> bool {
        matches!(self, Self::Verdicts { verdicts, .. } if verdicts.len() < batch.mutations.len())
    }
}

/// How far the log has decided a timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) seq: u64,
    pub(crate) hash: RunningHash,
}

impl Decided {
    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(24);
        bytes.put_u64_le(self.seq);
        bytes.put_slice(&self.hash.0);
        bytes.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (seq, hash) = bytes.split_first_chunk::<8>()?;
        let hash = hash.try_into().ok()?;
        Some(Self { seq: u64::from_le_bytes(*seq), hash: RunningHash(hash) })
    }
}
