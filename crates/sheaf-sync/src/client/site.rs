//! What a client session remembers of one site.
//!
//! Invariant: `delivered` is the last position handed to the role on this connection, and never
//! runs ahead of `known`. A push in flight outlives the connection, nothing else does.

use sheaf_volume::teeth::{Tooth, bites};
use sheaf_volume::{Lsn, TimelineId, VolumeId};

use crate::wire::{CreateIds, PushBatch};

#[derive(Debug)]
pub(super) struct SiteState {
    /// Ids to create the site under if the node does not know its name.
    pub(super) create: Option<CreateIds>,
    pub(super) volume: Option<VolumeId>,
    /// The timeline to hear of when merged changes come in place of commits.
    pub(super) timeline: Option<TimelineId>,
    pub(super) stage: Stage,
    /// Last position handed to the role.
    pub(super) delivered: Lsn,
    /// Newest position heard of.
    pub(super) known: Lsn,
    /// A pull is under way.
    pub(super) pulling: bool,
    /// Serial of the newest refresh wished, of the one the pulls under way answer, of the one done.
    pub(super) refresh_wanted: u64,
    pub(super) refresh_sent: u64,
    pub(super) refresh_done: u64,
    /// The newest refresh that was wished before `Open` was sent: its answer is fresh enough.
    pub(super) fresh_serial: u64,
    pub(super) push: Option<PushState>,
    /// Leave commits with the node for as long as a push is under way.
    pub(super) hold_commits: bool,
    /// The node asked for patience: send nothing for this site before.
    pub(super) hold_until: u64,
    /// Whether it is left alone because it was not found, or there was no room for it: whoever
    /// wishes it open need not wait.
    pub(super) missing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not open on this connection.
    Closed,
    /// `Open` is sent.
    Opening,
    /// Open; the role has not said yet where its replica is.
    Opened,
    /// `Watch` is sent.
    Watching,
    /// The node will not open it.
    Failed,
}

#[derive(Debug)]
pub(super) struct PushState {
    pub(super) batch: PushBatch,
    /// Sent on this connection.
    pub(super) sent: bool,
}

impl SiteState {
    pub(super) fn new(create: Option<CreateIds>) -> Self {
        Self {
            create,
            volume: None,
            timeline: None,
            stage: Stage::Closed,
            delivered: Lsn::ZERO,
            known: Lsn::ZERO,
            pulling: false,
            refresh_wanted: 0,
            refresh_sent: 0,
            refresh_done: 0,
            fresh_serial: 0,
            push: None,
            hold_commits: false,
            hold_until: 0,
            missing: false,
        }
    }

    /// The connection is gone.
    pub(super) fn disconnect(&mut self) {
        if self.stage != Stage::Failed {
            self.stage = Stage::Closed;
        }
        self.pulling = false;
        self.refresh_sent = self.refresh_done;
        self.hold_until = 0;
        if let Some(push) = &mut self.push
            && !bites(Tooth::ForgetPush)
        {
            push.sent = false;
        }
    }

    pub(super) fn wants_pull(&self) -> bool {
        !self.is_holding()
            && (self.known > self.delivered || self.refresh_wanted > self.refresh_done)
    }

    pub(super) fn is_holding(&self) -> bool {
        self.hold_commits && self.push.is_some()
    }
}
