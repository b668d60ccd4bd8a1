//! From wire messages to domain types and back, with every check at this one edge.
//!
//! Invariant: whatever comes out of a `*_from_wire` function has ids of the right length, counts
//! within [`crate::limits`], commits of one volume without gaps, and sequence numbers without
//! gaps. Commits travel as the very log objects, so their hash chain survives the journey.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use sheaf_volume::{
    Changes, Commit, CommitDelta, CommitHash, DeviceId, Error, ErrorKind, Lineage, Lsn, PageCount,
    PageSet, PageSize, Parent, RemoteHead, Result, SiteId, TimelineId, Verdict, VolumeId,
};

use crate::{
    limits,
    message::{self, Body, Envelope, ErrorCode, VerdictKind},
    pull,
};

/// Ids of a site that a device made up while offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateIds {
    /// The site.
    pub site: SiteId,
    /// Its main volume.
    pub volume: VolumeId,
    /// Bytes per page of that volume.
    pub page_size: PageSize,
}

/// A site as the node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedSite {
    /// Its name.
    pub name: String,
    /// Its id.
    pub site: SiteId,
    /// Its main volume.
    pub volume: VolumeId,
    /// The newest state of that volume's log.
    pub head: RemoteHead,
    /// The volumes it branched from, nearest first.
    pub parents: Vec<Parent>,
}

/// Consecutive mutations of one timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushBatch {
    /// Whose.
    pub timeline: TimelineId,
    /// Sequence number of the first.
    pub first_seq: u64,
    /// Running hash of the timeline before the first.
    pub prev_hash: [u8; 16],
    /// Never empty; sequence numbers ascend from `first_seq` without gaps.
    pub mutations: Vec<PushMutation>,
    /// Whether the answer is to tell which operations of merged mutations stand.
    pub tell_stands: bool,
}

impl PushBatch {
    /// Sequence number after the last mutation.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.mutations.last().map_or(self.first_seq, |last| last.seq + 1)
    }
}

/// One mutation on its way; its bytes are opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushMutation {
    /// Its sequence number.
    pub seq: u64,
    /// The global position its author had.
    pub base: Lsn,
    /// Its own time, milliseconds since 1970.
    pub time_ms: u64,
    /// The encoded mutation.
    pub bytes: Bytes,
}

/// Which operations of a mutation came out as they were sent; what an operation is, is opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpStands {
    /// How many operations it has, from 1 to [`limits::VERDICT_OPS_MAX`].
    pub ops: u32,
    /// A bit for each, in little-endian words of 32; empty when all of them did.
    pub packed: Bytes,
}

impl OpStands {
    /// Whether there are as many bytes as the operations take, or none.
    fn is_whole(&self) -> bool {
        let ops = usize::try_from(self.ops).unwrap_or(usize::MAX);
        let bytes = ops.div_ceil(32).saturating_mul(4);
        (1..=limits::VERDICT_OPS_MAX).contains(&ops)
            && (self.packed.is_empty() || self.packed.len() == bytes)
    }
}

/// What the node says about a [`PushBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushAnswer {
    /// Every mutation has its verdict, and all are in effect at `lsn`.
    Verdicts {
        /// What the first verdict is about.
        first_seq: u64,
        /// Verdict and reason (empty unless rejected), in sequence order.
        verdicts: Vec<(Verdict, String)>,
        /// Which operations stand, of merged mutations for which it was asked and is known, by
        /// sequence number.
        stands: BTreeMap<u64, OpStands>,
        /// Where they are in effect.
        lsn: Lsn,
    },
    /// Nothing was applied: send from `next` on.
    Gap {
        /// The sequence number expected.
        next: u64,
    },
    /// Nothing was applied: the node knows this timeline with other bytes.
    Fork {
        /// The sequence number expected.
        next: u64,
    },
    /// Nothing was applied: the batch cannot be read.
    Malformed(String),
}

/// The frame that carries a message.
#[must_use]
pub fn encode(body: Body) -> Bytes {
    Envelope { body: Some(body) }.encode_to_vec().into()
}

/// Reads one frame.
///
/// # Errors
/// `Limit` when it is too long, `Invalid` when it is not protobuf, `Unsupported` when the message
/// is not known to this build.
pub fn decode(frame: Bytes) -> Result<Body> {
    if frame.len() > limits::FRAME_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "frame of {} bytes is over the limit of {} bytes",
                frame.len(),
                limits::FRAME_BYTES_MAX
            ),
        ));
    }
    let envelope = Envelope::decode(frame)
        .map_err(|e| Error::with_source(ErrorKind::Invalid, "frame is not a Sheaf message", e))?;
    envelope.body.ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "unknown message: this side speaks protocol {} to {}, upgrade it",
                message::PROTOCOL_MIN,
                message::PROTOCOL_MAX
            ),
        )
    })
}

/// The bytes of an id.
#[must_use]
pub fn id_bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

/// Reads a volume id.
///
/// # Errors
/// `Invalid` when it is not 16 bytes long.
pub fn volume_from_wire(bytes: &[u8]) -> Result<VolumeId> {
    VolumeId::try_from(bytes)
}

/// Reads a device id.
///
/// # Errors
/// `Invalid` when it is not 16 bytes long.
pub fn device_from_wire(bytes: &[u8]) -> Result<DeviceId> {
    DeviceId::try_from(bytes)
}

/// Checks a site's name: 1 to 255 bytes, no control characters.
///
/// # Errors
/// `Invalid` when it is not such a name.
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a site's name has 1 to {} bytes, this one has {}",
            limits::NAME_BYTES_MAX,
            name.len()
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid("a site's name has no control characters"));
    }
    Ok(())
}

/// The wire form of a head.
#[must_use]
pub fn head_to_wire(head: &RemoteHead) -> message::Head {
    message::Head {
        lsn: head.lsn.0,
        hash: Bytes::copy_from_slice(&head.hash.0),
        page_count: head.page_count.0,
        page_size: head.page_size.get(),
        time_ms: head.time_ms,
    }
}

fn hash_from_wire(bytes: &Bytes) -> Result<CommitHash> {
    let hash = <[u8; 32]>::try_from(bytes.as_ref());
    hash.map(CommitHash).map_err(|_| Error::invalid("commit hash needs 32 bytes"))
}

/// Reads a head.
///
/// # Errors
/// `Invalid` when it is missing or contradicts itself.
pub fn head_from_wire(head: Option<&message::Head>) -> Result<RemoteHead> {
    let head = head.ok_or_else(|| Error::invalid("message has no head"))?;
    let hash = hash_from_wire(&head.hash)?;
    if head.lsn == 0 && (hash != CommitHash::default() || head.page_count != 0) {
        return Err(Error::invalid("head of an empty log is not empty"));
    }
    Ok(RemoteHead {
        lsn: Lsn(head.lsn),
        hash,
        page_count: PageCount(head.page_count),
        page_size: page_size(head.page_size)?,
        time_ms: head.time_ms,
    })
}

/// Reads the ids of an `Open` that may create.
///
/// # Errors
/// `Invalid` for ids or a page size that cannot be.
pub fn create_from_wire(create: &message::CreateSite) -> Result<CreateIds> {
    Ok(CreateIds {
        site: SiteId::try_from(create.site.as_ref())?,
        volume: VolumeId::try_from(create.volume.as_ref())?,
        page_size: page_size(create.page_size)?,
    })
}

/// The wire form of ids to create a site under.
#[must_use]
pub fn create_to_wire(ids: &CreateIds) -> message::CreateSite {
    message::CreateSite {
        site: id_bytes(ids.site.as_bytes()),
        volume: id_bytes(ids.volume.as_bytes()),
        page_size: ids.page_size.get(),
    }
}

/// Reads an `Opened`.
///
/// # Errors
/// `Invalid` for ids, name or head that cannot be.
pub fn opened_from_wire(opened: message::Opened) -> Result<OpenedSite> {
    check_name(&opened.name)?;
    let parents = opened.parents.iter().map(|parent| {
        Ok(Parent { volume: volume_from_wire(&parent.volume)?, lsn: Lsn(parent.lsn) })
    });
    Ok(OpenedSite {
        parents: parents.collect::<Result<_>>()?,
        site: SiteId::try_from(opened.site.as_ref())?,
        volume: volume_from_wire(&opened.volume)?,
        head: head_from_wire(opened.head.as_ref())?,
        name: opened.name,
    })
}

/// The wire form of an opened site.
#[must_use]
pub fn opened_to_wire(request: u64, opened: &OpenedSite) -> message::Opened {
    message::Opened {
        request,
        name: opened.name.clone(),
        site: id_bytes(opened.site.as_bytes()),
        volume: id_bytes(opened.volume.as_bytes()),
        head: Some(head_to_wire(&opened.head)),
        parents: opened.parents.iter().map(parent_to_wire).collect(),
    }
}

fn parent_to_wire(parent: &Parent) -> message::Parent {
    message::Parent { volume: id_bytes(parent.volume.as_bytes()), lsn: parent.lsn.0 }
}

/// Reads commits: each of the volume that holds its position, ascending without gaps. That each names the one before as its
/// parent is checked by the volume that takes them, down to its own base.
///
/// # Errors
/// `Limit` for too many, `Corrupt` when they contradict each other or cannot be read.
pub fn commits_from_wire(lineage: &Lineage, objects: &[Bytes]) -> Result<Vec<Commit>> {
    if objects.len() > limits::COMMITS_MAX {
        return Err(over("commits in one message", objects.len(), limits::COMMITS_MAX));
    }
    let mut commits: Vec<Commit> = Vec::with_capacity(objects.len());
    for object in objects {
        let commit = Commit::decode(object.clone())?;
        let volume = lineage.owner(commit.lsn);
        if commit.volume != volume {
            return Err(Error::corrupt(format!("commit of another volume volume=`{volume}`")));
        }
        if commits.last().is_some_and(|last| last.lsn.next() != commit.lsn) {
            return Err(Error::corrupt(format!("gap between commits lsn=`{}`", commit.lsn)));
        }
        commits.push(commit);
    }
    Ok(commits)
}

/// Reads commits that came as deltas, as [`commits_from_wire`] reads whole ones.
///
/// # Errors
/// As [`commits_from_wire`].
pub fn deltas_from_wire(volume: VolumeId, deltas: &[Bytes]) -> Result<Vec<CommitDelta>> {
    if deltas.len() > limits::COMMITS_MAX {
        return Err(over("commits in one message", deltas.len(), limits::COMMITS_MAX));
    }
    let mut commits: Vec<CommitDelta> = Vec::with_capacity(deltas.len());
    for bytes in deltas {
        let commit = CommitDelta::decode(volume, bytes)?;
        if commits.last().is_some_and(|last| last.lsn.next() != commit.lsn) {
            return Err(Error::corrupt(format!("gap between commits lsn=`{}`", commit.lsn)));
        }
        commits.push(commit);
    }
    Ok(commits)
}

/// The wire form of a pull.
#[must_use]
pub fn pull_to_wire(request: u64, pull: &pull::Request) -> message::Pull {
    message::Pull {
        request,
        volume: id_bytes(pull.volume.as_bytes()),
        after_lsn: pull.after.0,
        head_only: pull.head_only,
        merge_for: pull.merge_for.map(|id| id_bytes(id.as_bytes())).unwrap_or_default(),
    }
}

/// Reads a pull.
///
/// # Errors
/// `Invalid` for ids that cannot be.
pub fn pull_from_wire(pull: &message::Pull) -> Result<pull::Request> {
    let merge_for = match pull.merge_for.len() {
        0 => None,
        _ => Some(TimelineId::try_from(pull.merge_for.as_ref())?),
    };
    Ok(pull::Request {
        volume: volume_from_wire(&pull.volume)?,
        after: Lsn(pull.after_lsn),
        head_only: pull.head_only,
        merge_for,
    })
}

/// Reads merged changes; `None` when the answer has commits instead.
///
/// # Errors
/// `Invalid` or `Limit` for what cannot be, `Corrupt` when its parts contradict each other.
pub fn changes_from_wire(volume: VolumeId, answer: &message::Commits) -> Result<Option<Changes>> {
    let Some(theirs) = &answer.changes else { return Ok(None) };
    if answer.commits.len() > limits::COMMITS_MAX {
        return Err(over("commits in one message", answer.commits.len(), limits::COMMITS_MAX));
    }
    let head = head_from_wire(answer.head.as_ref())?;
    let pages = PageSet::from_bytes(&theirs.pages)?;
    let mut changes = Changes::of_state(volume, Lsn(theirs.after_lsn), head, pages);
    changes.floor = PageCount(theirs.floor);
    changes.parent = match theirs.parent.len() {
        0 => None,
        _ => Some(hash_from_wire(&theirs.parent)?),
    };
    let told = answer.commits.iter().map(|object| Commit::decode(object.clone()));
    changes.told = told.collect::<Result<_>>()?;
    changes.checked().map(Some)
}

/// Reads a push.
///
/// # Errors
/// `Limit` when it is too large, `Invalid` when its ids or sequence numbers cannot be.
pub fn push_from_wire(push: message::Push) -> Result<(VolumeId, PushBatch)> {
    let volume = volume_from_wire(&push.volume)?;
    let batch = PushBatch {
        timeline: TimelineId::try_from(push.timeline.as_ref())?,
        first_seq: push.first_seq,
        prev_hash: <[u8; 16]>::try_from(push.prev_hash.as_ref())
            .map_err(|_| Error::invalid("running hash needs 16 bytes"))?,
        mutations: push
            .mutations
            .into_iter()
            .map(|m| PushMutation {
                seq: m.seq,
                base: Lsn(m.base_lsn),
                time_ms: m.time_ms,
                bytes: m.bytes,
            })
            .collect(),
        tell_stands: push.tell_stands,
    };
    check_push(&batch)?;
    Ok((volume, batch))
}

/// The wire form of a push.
#[must_use]
pub fn push_to_wire(request: u64, volume: VolumeId, batch: &PushBatch) -> message::Push {
    let mutation = |m: &PushMutation| message::Mutation {
        seq: m.seq,
        base_lsn: m.base.0,
        time_ms: m.time_ms,
        bytes: m.bytes.clone(),
    };
    message::Push {
        request,
        volume: id_bytes(volume.as_bytes()),
        timeline: id_bytes(batch.timeline.as_bytes()),
        generation: 0,
        first_seq: batch.first_seq,
        prev_hash: Bytes::copy_from_slice(&batch.prev_hash),
        mutations: batch.mutations.iter().map(mutation).collect(),
        tell_stands: batch.tell_stands,
    }
}

/// Checks a push against the limits and its own sequence numbers.
///
/// # Errors
/// `Limit` or `Invalid`.
pub fn check_push(batch: &PushBatch) -> Result<()> {
    if batch.mutations.is_empty() || batch.first_seq == 0 {
        return Err(Error::invalid("push has no mutations or begins at sequence number 0"));
    }
    if batch.mutations.len() > limits::PUSH_MUTATIONS_MAX {
        return Err(over(
            "mutations in one push",
            batch.mutations.len(),
            limits::PUSH_MUTATIONS_MAX,
        ));
    }
    let bytes: usize = batch.mutations.iter().map(|m| m.bytes.len()).sum();
    if bytes > limits::PUSH_BYTES_MAX {
        return Err(over("bytes in one push", bytes, limits::PUSH_BYTES_MAX));
    }
    let mut expected = batch.first_seq;
    for mutation in &batch.mutations {
        if mutation.seq != expected {
            return Err(Error::invalid(format!(
                "push has a gap in its sequence numbers seq=`{}`",
                mutation.seq
            )));
        }
        expected = expected
            .checked_add(1)
            .ok_or_else(|| Error::invalid("push has a sequence number without successor"))?;
    }
    Ok(())
}

/// Reads what a node says about a push. A kind from the future is an error, never a guess.
///
/// # Errors
/// `Invalid` when the answer contradicts itself, `Unsupported` for an unknown kind.
pub fn answer_from_wire(answer: message::Verdicts) -> Result<(VolumeId, TimelineId, PushAnswer)> {
    let volume = volume_from_wire(&answer.volume)?;
    let timeline = TimelineId::try_from(answer.timeline.as_ref())?;
    let next = answer.next_seq;
    let mut verdicts = Vec::with_capacity(answer.verdicts.len().min(limits::PUSH_MUTATIONS_MAX));
    let mut stands = BTreeMap::new();
    let whole = answer.verdicts.len() == 1;
    for (at, entry) in (0..).zip(answer.verdicts) {
        let verdict = match VerdictKind::try_from(entry.kind) {
            Ok(VerdictKind::Ok) => Verdict::Ok,
            Ok(VerdictKind::Merged) => Verdict::Merged,
            Ok(VerdictKind::Rejected) => Verdict::Rejected,
            Ok(VerdictKind::Gap) if whole => {
                return Ok((volume, timeline, PushAnswer::Gap { next }));
            }
            Ok(VerdictKind::Fork) if whole => {
                return Ok((volume, timeline, PushAnswer::Fork { next }));
            }
            Ok(VerdictKind::Malformed) if whole => {
                return Ok((volume, timeline, PushAnswer::Malformed(entry.reason)));
            }
            Ok(VerdictKind::Gap | VerdictKind::Fork | VerdictKind::Malformed) => {
                return Err(Error::invalid("verdict about a batch stands among others"));
            }
            Ok(VerdictKind::Unspecified) | Err(_) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("unknown kind of verdict kind=`{}`, upgrade this side", entry.kind),
                ));
            }
        };
        if verdict == Verdict::Merged && entry.ops > 0 {
            let told = OpStands { ops: entry.ops, packed: entry.stands };
            if !told.is_whole() {
                let text = format!("not the bits of operations ops=`{}`", told.ops);
                return Err(Error::invalid(text));
            }
            stands.insert(answer.first_seq.saturating_add(at), told);
        }
        verdicts.push((verdict, entry.reason));
    }
    let (first_seq, lsn) = (answer.first_seq, Lsn(answer.lsn));
    Ok((volume, timeline, PushAnswer::Verdicts { first_seq, verdicts, stands, lsn }))
}

/// The wire form of an answer to a push.
#[must_use]
pub fn answer_to_wire(
    request: u64,
    volume: VolumeId,
    timeline: TimelineId,
    answer: &PushAnswer,
) -> message::Verdicts {
    let entry = |kind: VerdictKind, reason: &str| message::VerdictEntry {
        kind: kind.into(),
        reason: cut(reason).to_owned(),
        ops: 0,
        stands: Bytes::new(),
    };
    let (first_seq, verdicts, lsn, next_seq) = match answer {
        PushAnswer::Verdicts { first_seq, verdicts, stands, lsn } => {
            let mut room = limits::STANDS_BYTES_MAX;
            let entries = verdicts.iter().zip(*first_seq..).map(|((verdict, reason), seq)| {
                let kind = match verdict {
                    Verdict::Ok => VerdictKind::Ok,
                    Verdict::Merged => VerdictKind::Merged,
                    Verdict::Rejected => VerdictKind::Rejected,
                };
                let told = stands.get(&seq).filter(|told| {
                    let fits = told.is_whole() && told.packed.len() <= room;
                    room -= if fits { told.packed.len() } else { 0 };
                    fits
                });
                let (ops, stands) =
                    told.map_or_else(Default::default, |t| (t.ops, t.packed.clone()));
                message::VerdictEntry { ops, stands, ..entry(kind, reason) }
            });
            (*first_seq, entries.collect(), *lsn, first_seq + verdicts.len() as u64)
        }
        PushAnswer::Gap { next } => (*next, vec![entry(VerdictKind::Gap, "")], Lsn::ZERO, *next),
        PushAnswer::Fork { next } => (*next, vec![entry(VerdictKind::Fork, "")], Lsn::ZERO, *next),
        PushAnswer::Malformed(reason) => {
            (0, vec![entry(VerdictKind::Malformed, reason)], Lsn::ZERO, 0)
        }
    };
    message::Verdicts {
        request,
        volume: id_bytes(volume.as_bytes()),
        timeline: id_bytes(timeline.as_bytes()),
        first_seq,
        verdicts,
        lsn: lsn.0,
        next_seq,
    }
}

/// The wire form of an error.
#[must_use]
pub fn error_to_wire(request: u64, error: &Error, fatal: bool) -> message::Error {
    message::Error {
        request,
        code: code_of(error.kind()).into(),
        message: cut(&error.to_string()).to_owned(),
        fatal,
    }
}

/// Reads an error; a code from the future is an `Internal` with its message kept.
#[must_use]
pub fn error_from_wire(error: &message::Error) -> Error {
    let kind = match ErrorCode::try_from(error.code) {
        Ok(ErrorCode::Invalid) => ErrorKind::Invalid,
        Ok(ErrorCode::Denied) => ErrorKind::Denied,
        Ok(ErrorCode::NotFound) => ErrorKind::NotFound,
        Ok(ErrorCode::Unsupported) => ErrorKind::Unsupported,
        Ok(ErrorCode::Limit) => ErrorKind::Limit,
        Ok(ErrorCode::Unavailable) => ErrorKind::Unavailable,
        Ok(ErrorCode::Expired) => ErrorKind::Expired,
        Ok(ErrorCode::Corrupt) => ErrorKind::Corrupt,
        Ok(ErrorCode::Conflict) => ErrorKind::Conflict,
        Ok(ErrorCode::Internal | ErrorCode::Unspecified) | Err(_) => ErrorKind::Internal,
    };
    Error::new(kind, cut(&error.message))
}

fn code_of(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::Invalid => ErrorCode::Invalid,
        ErrorKind::Denied => ErrorCode::Denied,
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::Unsupported => ErrorCode::Unsupported,
        ErrorKind::Limit => ErrorCode::Limit,
        ErrorKind::Expired => ErrorCode::Expired,
        ErrorKind::Corrupt => ErrorCode::Corrupt,
        ErrorKind::Conflict => ErrorCode::Conflict,
        // What the node cannot do now it may do later, on this or another node.
        ErrorKind::Busy
        | ErrorKind::Closed
        | ErrorKind::Unavailable
        | ErrorKind::Ambiguous
        | ErrorKind::Io => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    }
}

fn page_size(bytes: u32) -> Result<PageSize> {
    PageSize::new(bytes)
        .ok_or_else(|| Error::invalid(format!("not a SQLite page size page_size=`{bytes}`")))
}

fn over(what: &str, count: usize, max: usize) -> Error {
    Error::new(ErrorKind::Limit, format!("{count} {what}, the limit is {max}"))
}

/// At most `TEXT_BYTES_MAX` bytes of a text, ending at a character.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(limits::TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
