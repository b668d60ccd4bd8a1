//! Seeds of what travels: frames of the connection, bodies of requests and answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use sheaf_sync::message::{self, Body};
use sheaf_sync::wire::{self, CreateIds, OpStands, OpenedSite, PushAnswer};
use sheaf_sync::{changes_message, commits_message, pages, pull};
use sheaf_volume::{
    BucketRemote, Commit, CommitDelta, FetchedPage, HeldPage, Lsn, Page, PageIdx, Remote as _,
    RemoteHead, Verdict, VolumeId, Want,
};

use super::{SIZE, Seed, add};
use crate::input::put_section;
use crate::site::IDS;
use crate::wire::{DEVICE, NAME, NODE, SITE, TIMELINE, VOLUME, batch, unavailable};

/// Requests and streams that need no log, and one whole talk from the device's side.
pub(super) fn add_all(seeds: &mut Vec<Seed>) {
    let hello = message::Hello {
        protocol_min: message::PROTOCOL_MIN,
        protocol_max: message::PROTOCOL_MAX,
        agent: "fuzz/1".to_owned(),
        device: wire::id_bytes(DEVICE.as_bytes()),
        token: "secret".to_owned(),
    };
    let ids = CreateIds { site: SITE, volume: VOLUME, page_size: SIZE };
    let open = message::Open {
        request: 1,
        name: NAME.to_owned(),
        create: Some(wire::create_to_wire(&ids)),
    };
    let volume = wire::id_bytes(VOLUME.as_bytes());
    let talk = [
        Body::Hello(hello),
        Body::Open(open),
        Body::Watch(message::Watch { volume: volume.clone(), after_lsn: 0, deltas: true }),
        Body::Pull(message::Pull {
            request: 2,
            volume: volume.clone(),
            after_lsn: 0,
            head_only: false,
            merge_for: volume.clone(),
        }),
        Body::Push(wire::push_to_wire(3, VOLUME, &batch())),
        Body::Ping(message::Ping { nonce: 7 }),
        Body::Unwatch(message::Unwatch { volume }),
        Body::Error(wire::error_to_wire(0, &unavailable(), true)),
    ];
    add(seeds, "wire", "server-talk", frames(0, &talk));
    for (at, body) in talk.into_iter().enumerate() {
        add(seeds, "wire", &format!("server-{at}"), frames(0, &[body]));
    }
    page_stream(seeds);
    add(seeds, "pull", "request", pull::encode_request(VOLUME, Lsn(3), true));
    add(seeds, "pull", "error", pull::encode_error(&unavailable()));
    let record = format!(
        "{{\"format\":1,\"site\":\"{}\",\"volume\":\"{}\",\"page_size\":512,\"created_ms\":7}}",
        IDS.site, IDS.volume
    );
    add(seeds, "site", "record", record.into_bytes());
}

/// The node's side of a talk, and answers, with the commits of a log.
pub(super) fn pulled(seeds: &mut Vec<Seed>, log: &BucketRemote, head: &RemoteHead) {
    let commits = log.pull(Lsn::ZERO).expect("BUG: a bucket in memory");
    let objects: Vec<_> = commits.iter().map(Commit::encode).collect();
    let volume = log.volume();
    let few = objects.get(..2).unwrap_or(&objects);
    let answer = |request, objects: &[_], more| {
        commits_message(request, volume, objects, head, more).expect("BUG: small commits")
    };
    add(seeds, "pull", "answer", answer(0, few, true).encode_to_vec());
    add(seeds, "pull", "answer-empty", answer(0, &[], false).encode_to_vec());
    let site =
        OpenedSite { name: NAME.to_owned(), site: SITE, volume, head: *head, parents: Vec::new() };
    let ok = PushAnswer::Verdicts {
        first_seq: 1,
        verdicts: vec![(Verdict::Rejected, "no such table".to_owned())],
        stands: BTreeMap::new(),
        lsn: head.lsn,
    };
    let stands = |packed: Vec<u8>| PushAnswer::Verdicts {
        first_seq: 1,
        verdicts: vec![(Verdict::Merged, String::new())],
        stands: [(1, OpStands { ops: 33, packed: packed.into() })].into(),
        lsn: head.lsn,
    };
    let welcome = message::Welcome {
        protocol: message::PROTOCOL_MAX,
        node: wire::id_bytes(NODE.as_bytes()),
        device_confirmed: wire::id_bytes(DEVICE.as_bytes()),
        limits: Some(message::Limits { push_bytes_max: 1_000, ..message::Limits::default() }),
    };
    let changed = |objects: &[_]| message::Changed {
        volume: wire::id_bytes(volume.as_bytes()),
        lsn: head.lsn.0,
        time_ms: 1,
        commits: objects.to_vec(),
        deltas: Vec::new(),
    };
    let told = message::Changed { deltas: few.iter().map(delta).collect(), ..changed(&[]) };
    let verdicts =
        |answer: &PushAnswer| Body::Verdicts(wire::answer_to_wire(2, volume, TIMELINE, answer));
    let talk = [
        Body::Welcome(welcome.clone()),
        Body::Opened(wire::opened_to_wire(1, &site)),
        Body::Changed(changed(few)),
        verdicts(&ok),
        Body::Commits(answer(3, &objects, false)),
        Body::Error(wire::error_to_wire(2, &unavailable(), false)),
    ];
    add(seeds, "wire", "client-talk", frames(1, &talk));
    let [welcome, opened, ..] = talk;
    let changes = sheaf_volume::Changes::read(log, None, Lsn::ZERO, TIMELINE);
    let changes = changes.expect("BUG: a bucket in memory").expect("BUG: the log has commits");
    let merged = |request| changes_message(request, &changes).expect("BUG: few pages");
    add(seeds, "pull", "answer-changes", merged(0).encode_to_vec());
    for (name, answer) in
        [("stands", stands(vec![5, 0, 0, 0x80, 1, 0, 0, 0])), ("stands-all", stands(Vec::new()))]
    {
        let talk = [welcome.clone(), opened.clone(), verdicts(&answer)];
        add(seeds, "wire", &format!("client-{name}"), frames(1, &talk));
    }
    let gap = verdicts(&PushAnswer::Gap { next: 9 });
    let commits = Body::Commits(answer(2, few, true));
    add(seeds, "wire", "client-gap", frames(1, &[welcome.clone(), opened.clone(), gap]));
    add(seeds, "wire", "client-pull", frames(1, &[welcome.clone(), opened.clone(), commits]));
    let jump = Body::Commits(merged(2));
    add(seeds, "wire", "client-merged", frames(1, &[welcome.clone(), opened.clone(), jump]));
    add(seeds, "wire", "client-told", frames(1, &[welcome, opened, Body::Changed(told)]));
}

/// A commit as a delta, without its pages.
fn delta(object: &Bytes) -> Bytes {
    let commit = Commit::decode(object.clone()).expect("BUG: our own commit");
    CommitDelta::new(&commit, &[]).encode()
}

fn page_stream(seeds: &mut Vec<Seed>) {
    let at = |number| PageIdx::new(number).expect("BUG: from one");
    let want = Want { lsn: Lsn(1), pages: [at(1), at(2), at(8)].into_iter().collect() };
    let request = pages::encode_request(VOLUME, std::slice::from_ref(&want));
    add(seeds, "pages", "request", request.expect("BUG: a small request"));
    // The same, by somebody who holds the first of them, as the target's reader does.
    let old = Page::from(vec![0xa5; 512]);
    let held = HeldPage { idx: at(1), lsn: Lsn(1), page: old.clone() };
    let request = pages::encode_request_holding(VOLUME, std::slice::from_ref(&want), &[held]);
    add(seeds, "pages", "request-held", request.expect("BUG: a small request"));
    // Page size 512; page 1 of the first position; in pieces of 100 bytes.
    let page = Page::edited(&old, |bytes| bytes[100..104].copy_from_slice(b"milk"));
    let page = FetchedPage { idx: at(1), lsn: want.lsn, page };
    let block = pages::BlockWriter::new(VolumeId::from_bytes([7; 16])).block(&page, Some(&old));
    add(seeds, "pages", "stream-delta", [&[0, 1, 0, 100][..], &block].concat());
    // Page size 512; pages 1, 2 and 8 of the first position; in pieces of 100 bytes.
    let mut bytes = vec![0, 0b1000_0011, 0, 100];
    let volume = VolumeId::from_bytes([7; 16]);
    for (idx, fill) in want.pages.iter().zip([0u8, 0xa5, 7]) {
        let content: Vec<u8> = match fill {
            // One that does not compress.
            7 => (0..512u32).map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[0]).collect(),
            fill => vec![fill; 512],
        };
        let page = FetchedPage { idx, lsn: want.lsn, page: Page::from(content) };
        bytes.extend_from_slice(&pages::BlockWriter::new(volume).block(&page, None));
    }
    add(seeds, "pages", "stream", bytes);
}

fn frames(end: u8, bodies: &[Body]) -> Vec<u8> {
    let mut bytes = vec![end];
    for body in bodies {
        put_section(&mut bytes, &wire::encode(body.clone()));
    }
    put_section(&mut bytes, b"");
    bytes
}
