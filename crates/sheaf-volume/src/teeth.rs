//! Deliberate mistakes, to prove that the simulator would notice them.
//!
//! Invariant: without the feature `teeth` every question here is answered "no" when it is
//! compiled, and a release build with the feature does not compile. Leaves out which seeds notice
//! which mistake: see `sheaf-sim/tests/teeth.rs`.

#[cfg(all(feature = "teeth", not(debug_assertions)))]
compile_error!(
    "feature `teeth` puts mistakes into the engine; it is for simulators with debug assertions only"
);

/// A mistake that the engine can be told to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Tooth {
    /// None.
    None,
    /// A flush of the local log does nothing.
    SkipLogFlush,
    /// Opening a replica does not flush what a killed process left.
    SkipFlushAtOpen,
    /// The fold does not flush the new log before the page map that names it.
    SkipFoldFlush,
    /// A torn record at the end of the log counts as whole.
    AcceptTornRecord,
    /// Mutations leave the device, to a node or into the log, without having been flushed.
    SendUnflushed,
    /// An append overwrites whatever is at its position.
    OverwriteLog,
    /// A commit does not name its parent.
    ForgetParent,
    /// An append whose outcome is unknown counts as done.
    GuessCommitted,
    /// An exchange whose push has an unknown outcome counts as done.
    ReportAmbiguousAsDone,
    /// A snapshot shows the newest version of a page.
    ReadNewest,
    /// A fold forgets the versions that a snapshot can still see.
    ForgetPinned,
    /// A page that cannot be fetched is shown as zeros.
    ZerosForMissing,
    /// Pages are asked for as of one position earlier.
    FetchOlder,
    /// Bytes of a frame are not compared with their hash.
    SkipFrameHash,
    /// The authority does not write down how far a timeline has come.
    SkipProgress,
    /// The authority applies every mutation twice.
    ApplyTwice,
    /// A replica does not notice that the log has decided its mutations.
    ForgetDecided,
    /// A replica does not mark the last page of a commit as changed.
    MissOnePage,
    /// The connection that replays keeps the schema of an attempt that was lost.
    KeepLostSchema,
    /// A rebase is published without its timeline.
    PublishHalf,
    /// Every volume of a bucket keeps its log under one key.
    ShareLogKeys,
    /// Every volume of a bucket is found under one name.
    ShareNames,
    /// A commit has the time of its writer's clock.
    TrustClock,
    /// The authority refuses what was made before the newest commit, by its author's clock.
    RefuseEarlier,
    /// Counters are overwritten.
    OverwriteCounters,
    /// A redo forgets what finds nothing to do.
    ForgetIdle,
    /// Rows that take a number that is taken keep it, in place of the other.
    KeepTakenNumber,
    /// The number that a device shows for a row of its own is taken for the row's number.
    TrustShownIds,
    /// Nobody remembers which rows were refused.
    ForgetRefused,
    /// Every fiftieth page that a transaction writes is not written.
    LoseWrites,
    /// References are not checked when a replay ends.
    SkipReferences,
    /// Who shows no token is let in.
    AdmitNobody,
    /// Whatever token is shown, it is good.
    AdmitUnknown,
    /// A push whose connection broke is not sent again.
    ForgetPush,
    /// A watched site's news are not sent.
    ForgetNews,
    /// A reclaimer deletes without having raised the boundary.
    SkipMark,
    /// Nobody looks at the boundary after an append or a read.
    SkipBoundaryCheck,
    /// A reclaimer does not ask which positions branches need.
    IgnorePins,
    /// Texts, sets and objects are merged as if nothing had been there before.
    MergeWithoutBase,
    /// A redone change of a cell with several values has read what its new base holds.
    ForgetRead,
    /// A change of such a cell does not say what was agreed there below an own one that waits.
    ForgetAgreed,
    /// Rows of lists stay at the positions that their authors gave them.
    ForgetPlaces,
    /// A mutation that takes a lock does not move it.
    FreezeLocks,
    /// A lock that should ask is let through.
    NeverAsk,
    /// Who goes on is asked again about what was looked at.
    AskForEver,
    /// What was withdrawn is not among the rejected.
    ForgetWithdrawn,
    /// An editor is told of a value while an edit of its own waits.
    TellEarly,
    /// No row is marked as waiting.
    DenyPending,
    /// What gave way is not written down.
    ForgetConflicts,
    /// An undo writes what was there before over what others made of it since.
    UndoOverwrites,
    /// The history of a row is without the changes at every third position.
    SkipChange,
}

#[cfg(feature = "teeth")]
static BITES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Makes the whole process make this mistake from now on.
#[cfg(feature = "teeth")]
pub fn bite(tooth: Tooth) {
    BITES.store(tooth as usize, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this mistake is to be made here and now.
#[must_use]
#[inline]
pub fn bites(tooth: Tooth) -> bool {
    #[cfg(feature = "teeth")]
    return BITES.load(std::sync::atomic::Ordering::SeqCst) == tooth as usize;
    #[cfg(not(feature = "teeth"))]
    {
        let _ = tooth;
        false
    }
}
