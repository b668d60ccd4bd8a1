//! What a person or a program wants to know about a site, as values.

use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use sheaf_volume::{DeviceId, HeldMutation, LocalLsn, Lsn, Result, SiteId, TimelineId, VolumeId};

use crate::failed::FailedRow;
use crate::limits;
use crate::site::Site;
use crate::timeline::MutationRecord;
use crate::value::{decode_hex, encode_hex};

const REJECTED: &str = "rejected/";

/// Where a site stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its id.
    pub site: SiteId,
    /// Its main volume.
    pub volume: VolumeId,
    /// This device.
    pub device: DeviceId,
    /// This device's timeline.
    pub timeline: TimelineId,
    /// The global position this replica is based on.
    pub base: Lsn,
    /// When that commit was made, milliseconds since 1970.
    pub base_time_ms: u64,
    /// The newest local state.
    pub head: LocalLsn,
    /// The newest local state that equals a global one: the one at `base`.
    pub base_local: LocalLsn,
    /// Number of the newest own mutation that the log has decided.
    pub acknowledged: u64,
    /// The newest position of the log that this device has heard of.
    pub remote: Lsn,
    /// Pages at the head.
    pub page_count: u32,
    /// Pages of the head whose content is here.
    pub pages_present: u64,
    /// Pages of the head whose content is not here.
    pub pages_pending: u64,
    /// Mutations the log has not decided, oldest first.
    pub pending: Vec<PendingInfo>,
    /// Mutations the log has rejected and nobody has dismissed.
    pub rejected: Vec<RejectedInfo>,
    /// Whether a push is in flight or was interrupted.
    pub pushing: bool,
    /// Whether an earlier disk error closed this replica.
    pub poisoned: bool,
}

/// A mutation that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingInfo {
    /// Its number.
    pub seq: u64,
    /// `rows`, `call` or `ddl`; `rows` too if it was not looked at because there are so many.
    pub kind: &'static str,
    /// One line for people.
    pub summary: String,
    /// When it was made, milliseconds since 1970.
    pub time_ms: u64,
    /// Encoded size.
    pub bytes: u64,
}

/// A mutation that was rejected, kept until somebody dismisses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedInfo {
    /// Its number.
    pub seq: u64,
    /// One line for people.
    pub summary: String,
    /// Why.
    pub reason: String,
    /// The row that it failed at, where the reason names one.
    pub row: Option<FailedRow>,
    /// When it was made, milliseconds since 1970.
    pub time_ms: u64,
    /// Whose number it is, this device's timeline then; unknown where an earlier version kept it.
    pub timeline: Option<TimelineId>,
}

/// A mutation that was rejected, as it is kept.
pub(crate) struct RejectedRecord {
    /// The attribute's.
    name: String,
    pub(crate) record: MutationRecord,
    pub(crate) reason: String,
    /// Whose number it is; unknown where an earlier version has kept it.
    pub(crate) timeline: Option<TimelineId>,
}

/// The attribute that keeps a rejected mutation: time, reason, and its bytes for export. A timeline
/// that starts anew counts from 1 again, and must not take the place of what is kept.
pub(crate) fn rejected_attr(
    timeline: TimelineId,
    record: &MutationRecord,
    reason: &str,
) -> (String, Option<Bytes>) {
    let reason = limits::clip(reason);
    let mut value = BytesMut::new();
    value.put_u64_le(record.time_ms);
    value.put_u32_le(u32::try_from(reason.len()).unwrap_or(0));
    value.put_slice(reason.as_bytes());
    value.put_slice(&record.bytes);
    let name = format!("{REJECTED}{:020}/{}", record.seq, encode_hex(timeline.as_bytes()));
    (name, Some(value.freeze()))
}

fn read_rejected(name: String, value: &Bytes) -> Option<RejectedRecord> {
    let number = name.strip_prefix(REJECTED)?;
    let (seq, timeline) = match number.split_once('/') {
        Some((seq, hex)) => (seq, Some(TimelineId::try_from(&*decode_hex(hex)?).ok()?)),
        None => (number, None),
    };
    let seq = seq.parse().ok()?;
    let (time, rest) = value.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (reason, bytes) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let time_ms = u64::from_le_bytes(*time);
    let bytes = Bytes::copy_from_slice(bytes);
    let record = MutationRecord { seq, base: Lsn::ZERO, time_ms, bytes };
    let reason = String::from_utf8_lossy(reason).into();
    Some(RejectedRecord { name, record, reason, timeline })
}

impl Site {
    /// Where the site stands. Walks the page map: meant for people.
    #[must_use]
    pub fn status(&self) -> Status {
        let ids = self.ids();
        let volume = self.volume().status();
        let page_count = volume.page_count.0;
        Status {
            name: self.name(),
            site: ids.site,
            volume: ids.volume,
            device: self.device(),
            timeline: self.timeline(),
            base: volume.base_lsn,
            base_time_ms: volume.base_time_ms,
            head: volume.head,
            base_local: volume.base,
            acknowledged: self.decided().seq,
            remote: Lsn(self.0.heard.load(Ordering::Relaxed)).max(volume.base_lsn),
            page_count,
            pages_present: u64::from(page_count).saturating_sub(volume.pages_pending),
            pages_pending: volume.pages_pending,
            pending: self.pending_infos(&self.volume().held()),
            rejected: self.rejected(),
            pushing: volume.pushing,
            poisoned: volume.poisoned,
        }
    }

    pub(crate) fn pending_infos(&self, held: &[HeldMutation]) -> Vec<PendingInfo> {
        let (mut looked_at, asking) = (0, self.asking());
        let infos = held.iter().map(|held| {
            let (seq, time_ms, bytes) = (held.seq, held.time_ms, held.len() as u64);
            looked_at += bytes;
            let (kind, summary) = if looked_at <= limits::STATUS_BYTES_MAX {
                self.look_at(seq)
            } else {
                ("rows", format!("{bytes} bytes, not looked at"))
            };
            let summary = match &asking {
                Some(asking) if asking.seq == seq => format!("{summary} (asks: {})", asking.reason),
                _ => summary,
            };
            PendingInfo { seq, kind, summary, time_ms, bytes }
        });
        infos.collect()
    }

    /// Kind and summary of a mutation that waits.
    fn look_at(&self, seq: u64) -> (&'static str, String) {
        let record = match self.volume().mutation(seq) {
            Ok(Some(pending)) => MutationRecord::from(pending),
            Ok(None) => return ("rows", "decided meanwhile".to_owned()),
            Err(e) => return ("rows", e.to_string()),
        };
        match record.mutation() {
            Ok(mutation) => (mutation.kind(), mutation.summary()),
            Err(e) => ("rows", e.to_string()),
        }
    }

    /// Mutations of this device that the log rejected, by their numbers.
    #[must_use]
    pub fn rejected(&self) -> Vec<RejectedInfo> {
        let info = |RejectedRecord { record, reason, timeline, .. }| {
            let mutation = record.mutation();
            let row = FailedRow::read(&reason, mutation.as_ref().ok());
            let summary = mutation.map_or_else(|e| e.to_string(), |m| m.summary());
            let MutationRecord { seq, time_ms, .. } = record;
            RejectedInfo { seq, summary, reason, row, time_ms, timeline }
        };
        self.rejected_records().into_iter().map(info).collect()
    }

    /// The same with what they were.
    pub(crate) fn rejected_records(&self) -> Vec<RejectedRecord> {
        let attrs = self.volume().attrs(REJECTED);
        let read = attrs.into_iter().filter_map(|(name, value)| read_rejected(name, &value));
        let mut all: Vec<_> = read.collect();
        all.sort_by_key(|kept| (kept.record.seq, kept.record.time_ms));
        all
    }

    /// Forgets one rejected mutation, once its author has seen it; whether it was there. Where a
    /// timeline has started anew, two may have one number: then the older one.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_rejected(&self, seq: u64) -> Result<bool> {
        self.dismiss(|rejected| rejected == seq, 1).map(|count| count > 0)
    }

    /// Forgets the rejected mutations up to this number; how many there were.
    ///
    /// # Errors
    /// `Io` when the disk fails.
    pub fn dismiss_rejected_through(&self, seq: u64) -> Result<usize> {
        self.dismiss(|rejected| rejected <= seq, usize::MAX)
    }

    fn dismiss(&self, is_seen: impl Fn(u64) -> bool, most: usize) -> Result<usize> {
        let seen = self.rejected_records().into_iter().filter(|kept| is_seen(kept.record.seq));
        let attrs: Vec<_> = seen.take(most).map(|kept| (kept.name, None)).collect();
        let count = attrs.len();
        if count > 0 {
            self.volume().set_attrs(attrs)?;
        }
        Ok(count)
    }
}
