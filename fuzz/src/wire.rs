//! Frames of the connection, into a node's session and into a device's.
//!
//! Asserts: a frame that decodes round-trips; a node's session names nothing to its role before
//! the role has accepted the device, and no volume that was not opened; a device's session gives
//! commits in order without gaps, and verdicts only of what it pushed; neither queues more than
//! its bound.

use std::collections::BTreeSet;

use bytes::Bytes;
use sheaf_site::OpBits;
use sheaf_sync::{
    ClientEvent, ClientSession, Identity, ServerRequest, ServerSession, limits,
    wire::{self, CreateIds, OpStands, OpenedSite, PushAnswer, PushBatch, PushMutation},
};
use sheaf_volume::{
    Changes, CommitHash, DeviceId, Error, ErrorKind, Lsn, PageCount, PageSize, RemoteHead, SiteId,
    TimelineId, Verdict, VolumeId,
};

use crate::input::{Input, assert_refusal};

/// Ids that the seeds use too, so that answers meet their requests.
pub(crate) const NODE: DeviceId = DeviceId::from_bytes([9; 16]);
pub(crate) const DEVICE: DeviceId = DeviceId::from_bytes([1; 16]);
pub(crate) const VOLUME: VolumeId = VolumeId::from_bytes([2; 16]);
pub(crate) const TIMELINE: TimelineId = TimelineId::from_bytes([3; 16]);
pub(crate) const SITE: SiteId = SiteId::from_bytes([4; 16]);
pub(crate) const NAME: &str = "todo";
/// How far an empty section moves the clock: past a ping, not past a timeout.
const STEP_MS: u64 = 25_000;

/// Which end, then a frame per section; an empty section lets time pass.
pub fn target(data: &[u8]) {
    let mut input = Input(data);
    let server = input.byte().is_multiple_of(2);
    let mut frames = Vec::new();
    while !input.is_empty() {
        let frame = Bytes::copy_from_slice(input.section());
        codec(&frame);
        frames.push(frame);
    }
    if server { serve(frames) } else { talk(frames) }
}

fn codec(frame: &Bytes) {
    match wire::decode(frame.clone()) {
        Ok(body) => {
            let back = wire::decode(wire::encode(body.clone()));
            assert_eq!(back.expect("BUG: an encoding that does not decode"), body);
        }
        Err(error) => assert_refusal(&error),
    }
}

fn serve(frames: Vec<Bytes>) {
    let mut session = ServerSession::new(NODE, 0);
    let (mut now, mut accepted, mut opened) = (0, false, BTreeSet::new());
    for frame in frames {
        if frame.is_empty() {
            now += STEP_MS;
            session.tick(now);
        } else {
            session.frame(frame, now);
        }
        while let Some(request) = session.poll_request() {
            let greeting = matches!(request, ServerRequest::Authenticate { .. });
            assert!(accepted || greeting, "{request:?} before the device was accepted");
            accepted = true;
            answer(&mut session, request, &mut opened);
        }
        let mut count = 0;
        while session.poll_frame().is_some() {
            count += 1;
        }
        assert!(count <= limits::OUT_FRAMES_MAX);
    }
}

fn answer(session: &mut ServerSession, request: ServerRequest, opened: &mut BTreeSet<VolumeId>) {
    match request {
        ServerRequest::Authenticate { device, .. } => session.accept(device),
        ServerRequest::Open { request, name, create } => {
            wire::check_name(&name).expect("BUG: a name that was not checked");
            let volume = create.map_or(VOLUME, |ids| ids.volume);
            opened.insert(volume);
            let (head, parents) = (head(1), Vec::new());
            session.opened(request, &OpenedSite { name, site: SITE, volume, head, parents });
        }
        ServerRequest::Watch { volume, after } => {
            assert!(opened.contains(&volume));
            // What the deltas hold is nothing to a session.
            let newest = (Lsn(after.0.saturating_add(1)), 0);
            session.changed(volume, newest, &[], &[Bytes::from_static(b"delta")]);
        }
        ServerRequest::Unwatch { volume } => _ = opened.remove(&volume),
        ServerRequest::Pull { request, pull } => {
            let volume = pull.volume;
            assert!(opened.contains(&volume));
            session.commits(request, volume, &[], &head(1), false);
        }
        ServerRequest::Push { request, volume, batch } => {
            assert!(opened.contains(&volume));
            wire::check_push(&batch).expect("BUG: a push that was not checked");
            let verdicts =
                batch.mutations.iter().map(|_| (Verdict::Merged, String::new())).collect();
            let first_seq = batch.first_seq;
            let told = OpStands { ops: 33, packed: vec![1; 8].into() };
            let stands = batch.mutations.iter().map(|sent| (sent.seq, told.clone())).collect();
            let answer = PushAnswer::Verdicts { first_seq, verdicts, stands, lsn: Lsn(1) };
            session.verdicts(request, volume, batch.timeline, &answer);
        }
    }
}

fn talk(frames: Vec<Bytes>) {
    let agent = "fuzz/1".to_owned();
    let identity = Identity { device: DEVICE, token: "secret".to_owned(), agent };
    let mut session = ClientSession::new(identity, 0);
    let create = CreateIds { site: SITE, volume: VOLUME, page_size: PageSize::DEFAULT };
    session.open_site(NAME, Some(create)).expect("BUG: a good name");
    let (mut now, mut base) = (0, Lsn::ZERO);
    assert!(session.poll_connect(now));
    session.connected(now);
    for frame in frames {
        if frame.is_empty() {
            now += STEP_MS;
            session.tick(now);
        } else {
            session.frame(frame, now);
        }
        react(&mut session, &mut base, now);
        let mut count = 0;
        while session.poll_frame().is_some() {
            count += 1;
        }
        assert!(count <= limits::OUT_FRAMES_MAX);
        if session.poll_connect(now) {
            session.connected(now);
        }
    }
}

/// What a device does with events: adopt, integrate, push, close.
fn react(session: &mut ClientSession, base: &mut Lsn, now: u64) {
    while let Some(event) = session.poll_event() {
        match event {
            ClientEvent::SiteOpened(site) => {
                session.take_merged(&site.name, TIMELINE);
                session.watch_from(&site.name, *base);
                session.refresh(&site.name);
                if session.can_offer(&site.name) {
                    session.offer(&site.name, batch()).ok();
                }
            }
            ClientEvent::CommitsArrived { commits, .. } => {
                assert!(!commits.is_empty());
                for commit in commits {
                    assert_eq!(commit.lsn(), base.next(), "commits come in order");
                    *base = commit.lsn();
                }
            }
            ClientEvent::ChangesArrived { changes, .. } => {
                check_changes(&changes);
                assert!(changes.after <= *base && changes.head.lsn > *base, "nothing is left out");
                *base = changes.head.lsn;
            }
            ClientEvent::Verdicts { batch, answer, .. } => check_answer(&batch, &answer),
            ClientEvent::Disconnect { .. } | ClientEvent::Refused { .. } => session.closed(now, 3),
            _ => {}
        }
    }
}

/// Verdicts are those of the push, and what is told of operations has the bytes it takes.
fn check_answer(batch: &PushBatch, answer: &PushAnswer) {
    assert_eq!(batch.timeline, TIMELINE);
    let PushAnswer::Verdicts { first_seq, verdicts, stands, .. } = answer else { return };
    assert!(*first_seq == batch.first_seq && verdicts.len() <= batch.mutations.len());
    for (seq, told) in stands {
        assert!((batch.first_seq..batch.end_seq()).contains(seq));
        let bytes = (told.ops as usize).div_ceil(32) * 4;
        assert!(told.packed.is_empty() || told.packed.len() == bytes);
        let bits = OpBits::from_bytes(told.ops as usize, &told.packed);
        if let Ok(bits) = bits {
            assert_eq!((bits.len(), bits.to_bytes()), (told.ops as usize, told.packed.clone()));
        }
    }
}

/// What has been read of merged changes agrees with itself.
pub(crate) fn check_changes(changes: &Changes) {
    let head = &changes.head;
    assert!(changes.after < head.lsn && changes.floor <= head.page_count);
    assert!(changes.pages.last().is_none_or(|last| head.page_count.contains(last)));
    assert!(changes.told.is_sorted_by(|a, b| a.lsn < b.lsn));
    assert!(changes.told.iter().all(|commit| commit.lsn > changes.after));
}

fn head(lsn: u64) -> RemoteHead {
    RemoteHead {
        lsn: Lsn(lsn),
        hash: CommitHash([5; 32]),
        page_count: PageCount(1),
        page_size: PageSize::DEFAULT,
        time_ms: 0,
    }
}

pub(crate) fn batch() -> PushBatch {
    let mutation = PushMutation { seq: 1, base: Lsn(0), time_ms: 1, bytes: vec![7; 9].into() };
    PushBatch {
        timeline: TIMELINE,
        first_seq: 1,
        prev_hash: [0; 16],
        mutations: vec![mutation],
        tell_stands: true,
    }
}

/// An error as a node would send it, for the seeds.
pub(crate) fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "bucket is away")
}
