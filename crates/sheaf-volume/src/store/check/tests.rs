//! Every file of a replica, damaged in every way there is: named, and mended where that can be.

use super::*;
use crate::{
    BucketRemote, Draft, Durability, ManualEnv, MemDir, MemObjects, Objects, Page, PendingMutation,
    PushMeta, Remote, Volume, VolumeOptions,
};

const ID: VolumeId = VolumeId::from_bytes([9; 16]);

fn idx(number: u32) -> PageIdx {
    PageIdx::new(number).unwrap()
}

fn page(fill: u8) -> Page {
    vec![fill; PageSize::DEFAULT.bytes()].into()
}

fn open(dir: &MemDir, objects: &Arc<MemObjects>) -> Result<(Volume, Arc<BucketRemote>)> {
    open_with(dir, objects, Arc::new(ManualEnv::new(1)))
}

fn open_with(
    dir: &MemDir,
    objects: &Arc<MemObjects>,
    env: Arc<dyn Env>,
) -> Result<(Volume, Arc<BucketRemote>)> {
    let create = Some((ID, PageSize::DEFAULT));
    let options = VolumeOptions { create, ..VolumeOptions::default() };
    let volume = Volume::open(dir, env, options)?;
    let objects = Arc::clone(objects) as Arc<dyn Objects>;
    let log = Arc::new(BucketRemote::new(objects, ID, PageSize::DEFAULT));
    volume.set_remote(Some(Arc::clone(&log) as Arc<dyn Remote>));
    Ok((volume, log))
}

fn append(volume: &Volume, log: &BucketRemote, write: impl Fn(&mut Draft)) {
    let mut draft = volume.rebase(volume.writer(), &[]).unwrap();
    write(&mut draft);
    let meta = PushMeta { writer: [1; 16], epoch: 0, tables: Vec::new(), applied: Vec::new() };
    assert!(volume.push(&mut draft, log, meta).unwrap().is_some());
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
    volume.flush().unwrap();
}

/// A folded base file, agreed pages in the log on top, and two drafts with their mutations.
fn replica(seed: u8) -> (MemDir, Arc<MemObjects>) {
    let (dir, objects) = (MemDir::new(), Arc::new(MemObjects::new()));
    let (volume, log) = open(&dir, &objects).unwrap();
    append(&volume, &log, |draft| (1..=6).for_each(|n| draft.write(idx(n), page(seed))));
    volume.checkpoint(&volume.writer()).unwrap();
    append(&volume, &log, |draft| draft.write(idx(2), page(seed + 1)));
    for seq in 1..=2 {
        let mut draft = volume.draft(volume.writer());
        draft.write(idx(3), page(seed + 2));
        draft.write(idx(7), page(seed + 3));
        let bytes = Bytes::from_static(b"a mutation");
        let mutation = PendingMutation { seq, base: Lsn(2), time_ms: 1, bytes };
        drop(draft.save(Some(mutation), Vec::new(), Durability::Local).unwrap());
    }
    (dir.fork(), objects)
}

/// The newest state, page by page, and how many mutations wait.
fn content(volume: &Volume) -> (Vec<Page>, usize) {
    let head = volume.head();
    let pages = (1..=head.page_count().0).map(|n| head.page(idx(n)).unwrap()).collect();
    (pages, volume.held().len())
}

fn bytes_of(dir: &MemDir, name: &str) -> Vec<u8> {
    read_all(&*dir.open(name).unwrap()).unwrap()
}

fn put(dir: &MemDir, name: &str, bytes: &[u8]) {
    let file = dir.open(name).unwrap();
    file.truncate(0).unwrap();
    file.write_at(bytes, 0).unwrap();
}

#[test]
fn a_sound_replica_has_no_findings_and_is_left_as_it_is() {
    let (dir, _) = replica(10);
    let before: Vec<Vec<u8>> = FILES.iter().map(|name| bytes_of(&dir, name)).collect();
    let check = verify_replica(&dir).unwrap();
    assert_eq!(check.findings, []);
    assert!(check.can_open());
    assert_eq!((check.mutations, check.pending), (2, 0));
    assert!(check.pages >= 6 && check.records >= 4, "{check:?}");
    let info = check.replica.unwrap();
    assert_eq!((info.volume, info.base.0), (ID, Lsn(2)));
    let after: Vec<Vec<u8>> = FILES.iter().map(|name| bytes_of(&dir, name)).collect();
    assert!(before == after, "looking changed something");
    assert_eq!(verify_replica(&MemDir::new()).unwrap_err().kind(), ErrorKind::NotFound);
    let _open = open(&dir, &Arc::default()).unwrap();
    assert_eq!(verify_replica(&dir).unwrap_err().kind(), ErrorKind::Busy);
}

#[test]
fn every_damaged_file_is_named_and_mended_where_that_can_be() {
    let (whole, objects) = replica(10);
    let (stranger, _) = replica(30);
    let expected = content(&open(&whole.fork(), &objects).unwrap().0);
    let (mut mended, mut fatal, mut cut_off) = (0, 0, 0);
    for name in FILES {
        let bytes = bytes_of(&whole, name);
        if bytes.is_empty() {
            continue;
        }
        let mut forms = vec![("swapped".to_owned(), bytes_of(&stranger, name))];
        for at in (0..bytes.len()).step_by(if bytes.len() > 1_000 { 211 } else { 7 }) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            forms.push((format!("flipped at {at}"), flipped));
            forms.push((format!("cut at {at}"), bytes[..at].to_vec()));
        }
        for (how, bytes) in forms {
            // The log of another replica with equal ids is as good: its pages say who they are.
            if how == "swapped" && name != "main.db" {
                continue;
            }
            let dir = whole.fork();
            put(&dir, name, &bytes);
            let check = verify_replica(&dir).unwrap();
            // A cut at a record's end is how the log was before that record.
            let shorter = name.starts_with("log") && how.starts_with("cut");
            let named = check.findings.iter().any(|f| f.place == name);
            // The page map before the last fold is not needed, nor is it there at first.
            let spare = name == "meta-0" && bytes.is_empty();
            assert!(named || shorter || spare, "{name} {how}: {:?}", check.findings);
            if !check.can_open() {
                fatal += 1;
                let refused = mend_replica(&dir, Arc::new(ManualEnv::new(2)), &PageSet::new());
                assert!(refused.is_err(), "{name} {how}: {:?}", check.findings);
                continue;
            }
            let made = mend_replica(&dir, Arc::new(ManualEnv::new(2)), &PageSet::new());
            let made = made.unwrap_or_else(|e| panic!("{name} {how}: {e} {:?}", check.findings));
            let left = verify_replica(&dir).unwrap();
            let (volume, _) = open(&dir, &objects).unwrap();
            let torn = shorter || check.findings.iter().any(|f| f.what.contains("no whole record"));
            if torn {
                cut_off += 1;
            } else if made.drafts.is_empty() {
                assert_eq!(left.findings, [], "{name} {how}");
                assert!(content(&volume) == expected, "{name} {how}: other content");
                mended += 1;
            } else {
                // The layer above makes them again; nothing else may be wrong.
                assert_eq!(volume.held().len(), expected.1, "{name} {how}");
                assert!(left.findings.iter().all(|f| f.what.contains("unsent")), "{name} {how}");
                mended += 1;
            }
        }
    }
    assert!(mended > 100 && fatal > 20 && cut_off > 20, "{mended} {fatal} {cut_off}");
}

#[test]
fn missing_files_are_named() {
    for name in ["main.db", "log-1", "meta-1"] {
        let (dir, objects) = replica(10);
        dir.remove(name).unwrap();
        let check = verify_replica(&dir).unwrap();
        assert!(check.findings.iter().any(|f| f.place == name), "{name}: {:?}", check.findings);
        if name == "main.db" {
            mend_replica(&dir, Arc::new(ManualEnv::new(2)), &PageSet::new()).unwrap();
            assert_eq!(verify_replica(&dir).unwrap().findings, []);
            let (whole, _) = replica(10);
            let whole = content(&open(&whole, &objects).unwrap().0);
            assert!(content(&open(&dir, &objects).unwrap().0) == whole);
        }
    }
}

#[test]
fn pages_that_somebody_suspects_are_fetched_again() {
    let (dir, objects) = replica(10);
    let suspects: PageSet = [1, 2, 7].map(idx).into_iter().collect();
    let mended = mend_replica(&dir, Arc::new(ManualEnv::new(2)), &suspects).unwrap();
    // The seventh is this device's own, and nobody else has it.
    assert_eq!(mended.forgotten, [1, 2].map(idx).into_iter().collect());
    let (volume, _) = open(&dir, &objects).unwrap();
    assert_eq!(volume.status().pages_pending, 2);
    let mut told = Vec::new();
    volume.fetch_pages(&mended.forgotten, &mut |done, all| told.push((done, all))).unwrap();
    assert_eq!((volume.status().pages_pending, told.last()), (0, Some(&(2, 2))));
    assert_eq!(volume.head().page(idx(2)).unwrap(), page(11));
}

/// Ends whatever comes to this fault point.
#[derive(Debug)]
struct DiesAt(ManualEnv, &'static str);

impl Env for DiesAt {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.0.fill_random(bytes);
    }

    fn fault(&self, point: &'static str) -> std::io::Result<()> {
        if point == self.1 { Err(std::io::Error::other("killed here")) } else { Ok(()) }
    }
}

#[test]
fn what_a_fold_that_was_cut_short_leaves_behind_is_no_damage() {
    for point in [
        "store: fold before base flush",
        "store: fold before meta",
        "store: fold before meta flush",
    ] {
        let (dir, objects) = replica(10);
        let expected = content(&open(&dir.fork(), &objects).unwrap().0);
        let (volume, _) =
            open_with(&dir, &objects, Arc::new(DiesAt(ManualEnv::new(3), point))).unwrap();
        volume.checkpoint(&volume.writer()).unwrap_err();
        drop(volume);
        assert_eq!(verify_replica(&dir).unwrap().findings, [], "{point}");
        assert!(content(&open(&dir, &objects).unwrap().0) == expected, "{point}");
    }
}
