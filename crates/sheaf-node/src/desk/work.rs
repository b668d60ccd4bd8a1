//! What a desk hands out, and what comes back.
//!
//! Invariant: everything handed out comes back as one [`Outcome`], also when it could not even be
//! begun. Leaves out who does it and where.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use sheaf_site::{Answer, Batch, MutationRecord, OpBits};
use sheaf_sync::{
    pull,
    wire::{OpStands, OpenedSite, PushAnswer, PushBatch},
};
use sheaf_volume::{DeviceId, Error, Lsn, Result, TimelineId, VolumeId};
use tokio::sync::oneshot;

use crate::{
    open::{Answered, Job, Notice, OpenSite, Pulled, closing},
    sites::Handhold,
};

/// What a desk wants next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing, until something else happens.
    Idle,
    /// Do this beside everything else.
    Beside(Work),
    /// Do this before asking again: what it is for must not be overtaken.
    First(Work),
    /// Give a site this push before asking again; its answer then comes beside everything else.
    Queue(Handover),
}

/// Something that may block.
pub(crate) struct Work {
    /// What it is for when it fails.
    pub(crate) bad: Bad,
    /// The work itself.
    pub(crate) read: Box<dyn FnOnce() -> Result<Good> + Send>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({:?})", self.bad)
    }
}

impl Work {
    pub(super) fn new(bad: Bad, read: impl FnOnce() -> Result<Good> + Send + 'static) -> Self {
        Self { bad, read: Box::new(read) }
    }

    /// Does it, here and now.
    pub(crate) fn run(self) -> Outcome {
        (self.read)().map_err(|error| (self.bad, error))
    }
}

/// A push on its way to the queue of its site.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) open: Arc<OpenSite>,
    pub(crate) job: Job,
    pub(crate) answer: Awaited,
}

/// A push in the queue of its site.
#[derive(Debug)]
pub(crate) struct Awaited {
    pub(super) request: u64,
    pub(super) volume: VolumeId,
    pub(super) timeline: TimelineId,
    /// Whether the peer wants to know which operations stand.
    pub(super) tell_stands: bool,
    pub(super) answer: oneshot::Receiver<Result<Answered>>,
}

impl Awaited {
    /// Waits for what became of it.
    pub(crate) async fn wait(mut self) -> Outcome {
        let answer = (&mut self.answer).await.unwrap_or_else(|_| Err(closing()));
        self.outcome(answer)
    }

    /// What became of it, if that is known; not to be asked again then.
    pub(crate) fn poll(&mut self) -> Option<Outcome> {
        match self.answer.try_recv() {
            Ok(answer) => Some(self.outcome(answer)),
            Err(oneshot::error::TryRecvError::Closed) => Some(self.outcome(Err(closing()))),
            Err(oneshot::error::TryRecvError::Empty) => None,
        }
    }

    /// The push did not get into the queue.
    pub(crate) fn refused(self, error: Error) -> Outcome {
        self.outcome(Err(error))
    }

    fn outcome(&self, answer: Result<Answered>) -> Outcome {
        let Self { request, volume, timeline, tell_stands, .. } = *self;
        match answer {
            Ok(Answered { answer, stands }) => {
                let stands = if tell_stands { stands } else { BTreeMap::new() };
                let answer = to_wire(answer, stands);
                Ok(Good::Pushed { request, volume, timeline, answer })
            }
            Err(error) => Err((Bad::Push { request }, error)),
        }
    }
}

/// What became of something that was handed out.
pub(crate) type Outcome = std::result::Result<Good, (Bad, Error)>;

/// What was found or done for the peer.
#[derive(Debug)]
pub(crate) enum Good {
    Found(Arc<OpenSite>),
    Opened { request: u64, hold: Handhold, site: OpenedSite },
    Pulled { request: u64, volume: VolumeId, pulled: Pulled },
    Pushed { request: u64, volume: VolumeId, timeline: TimelineId, answer: PushAnswer },
    Seen(Notice),
}

/// What could not be done.
#[derive(Debug)]
pub(crate) enum Bad {
    Find,
    Request { request: u64, doing: &'static str },
    Push { request: u64 },
    Watch,
}

/// A request to an open site.
#[derive(Debug)]
pub(crate) enum Wish {
    Watch { after: Lsn },
    Pull { request: u64, pull: pull::Request },
    Push { request: u64, batch: PushBatch },
}

pub(super) fn to_site(batch: PushBatch, device: DeviceId) -> Batch {
    let PushBatch { timeline, first_seq, prev_hash, mutations, tell_stands: _ } = batch;
    let mutations = mutations.into_iter().map(|m| MutationRecord {
        seq: m.seq,
        base: m.base,
        time_ms: m.time_ms,
        bytes: m.bytes,
    });
    Batch { timeline, first_seq, prev_hash, mutations: mutations.collect(), device }
}

fn to_wire(answer: Answer, stands: BTreeMap<u64, OpBits>) -> PushAnswer {
    match answer {
        Answer::Verdicts { first_seq, verdicts, lsn } => {
            let stands = stands.into_iter().map(|(seq, bits)| (seq, pack(&bits))).collect();
            PushAnswer::Verdicts { first_seq, verdicts, stands, lsn }
        }
        Answer::Gap { next } => PushAnswer::Gap { next },
        Answer::Fork { next } => PushAnswer::Fork { next },
        Answer::Malformed(why) => PushAnswer::Malformed(why),
    }
}

fn pack(bits: &OpBits) -> OpStands {
    // A mutation has fewer operations than that, or is refused.
    let ops = u32::try_from(bits.len()).unwrap_or(u32::MAX);
    let packed = if bits.is_all() { Bytes::new() } else { bits.to_bytes() };
    OpStands { ops, packed }
}
