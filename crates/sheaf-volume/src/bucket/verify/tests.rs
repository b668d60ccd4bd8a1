//! Every kind of object, damaged in every way there is: each time it must be named.

use super::*;
use crate::bucket::tests::{Log, SIZE, content, idx, volume};
use crate::{ErrorKind, MemObjects, PageIdx, PageSet};

/// Commits that carry their frames and commits with segments, some of several frames.
fn log() -> Log {
    let mut log = Log::new();
    log.write(3, &[1, 2, 3], false);
    log.write(40, &(1..=40).collect::<Vec<_>>(), true);
    log.write(40, &[2, 7], false);
    log.write(60, &(30..=60).collect::<Vec<_>>(), true);
    log.write(60, &[], false);
    log.write(61, &[1, 61], false);
    log
}

fn verify(objects: &dyn Objects, known: Option<(Lsn, CommitHash)>) -> LogCheck {
    verify_log(objects, &volume().into(), SIZE, known, &mut |_, _| {}).unwrap()
}

fn keys(objects: &dyn Objects) -> Vec<String> {
    objects.list("", None).unwrap()
}

/// The position whose commit is, or names, this object.
fn lsn_of(objects: &dyn Objects, key: &str) -> Lsn {
    let lsns = (1..=6).map(Lsn);
    lsns.into_iter()
        .find(|&lsn| {
            let bytes = objects.get(&log_key(volume(), lsn)).unwrap();
            let commit = Commit::decode_hashed(&bytes).unwrap().0;
            let segment = commit.segment.map(|id| crate::bucket::keys::segment_key(volume(), id));
            log_key(volume(), lsn) == key || segment.as_deref() == Some(key)
        })
        .unwrap()
}

fn is_long() -> bool {
    std::env::var_os("SHEAF_TEST_LONG").is_some_and(|value| value == "1")
}

#[test]
fn a_sound_log_has_no_findings() {
    let log = log();
    let known = Some((log.head.lsn, log.head.hash));
    let check = verify(&*log.objects, known);
    assert_eq!(check.findings, []);
    // 3 pages, 40, 2, 31, none, 2: in frames of up to 8.
    assert_eq!((check.commits, check.frames, check.head), (6, 1 + 5 + 1 + 4 + 1, Lsn(6)));
    let mut told = Vec::new();
    verify_log(&*log.objects, &volume().into(), SIZE, None, &mut |done, all| {
        told.push((done, all))
    })
    .unwrap();
    assert_eq!(told, [(6, 6)]);
    assert_eq!(verify(&MemObjects::new(), None), LogCheck::default());
}

#[test]
fn what_no_commit_names_is_counted_and_is_no_damage() {
    let log = log();
    let orphan = crate::SegmentId::from_bytes([9; 16]);
    let segment = crate::bucket::keys::segment_key(volume(), orphan);
    log.objects.put(&segment, "left behind".into()).unwrap();
    log.objects.put(&format!("volumes/{}/later/x", volume()), "?".into()).unwrap();
    log.objects.put("volumes/another/log/x", "?".into()).unwrap();
    let check = verify(&*log.objects, None);
    assert_eq!((check.findings, check.unreferenced, check.unknown), (vec![], 1, 1));
}

/// After a reclaimer: checkpoints and boundary marks count, and what is gone is no damage.
#[test]
fn a_reclaimed_log_is_sound_and_its_damage_is_named() {
    let mut log = log();
    let env = crate::ManualEnv::new(3);
    for _ in 0..3 {
        (0..8).for_each(|_| drop(log.write(61, &[1, 61], false)));
        let retention = crate::Retention { keep_for_ms: 0, keep_commits: 3, exact: true };
        log.reader().gc(&env, &retention, false, &mut |_| Ok(())).unwrap();
    }
    let known = Some((log.head.lsn, log.head.hash));
    let check = verify(&*log.objects, known);
    assert_eq!((check.findings, check.unknown), (vec![], 0));
    let mut kinds = [0, 0, 0];
    for key in keys(&*log.objects) {
        let whole = log.objects.get(&key).unwrap();
        let of = ["/checkpoints/", "/boundary/", "/segments/"].map(|kind| key.contains(kind));
        kinds.iter_mut().zip(of).for_each(|(count, is)| *count += u32::from(is));
        let step = (whole.len() / 97).max(1);
        let is_padding = |at: usize| key.contains("/checkpoints/") && whole[at] == 0;
        for at in (0..whole.len()).step_by(step).filter(|at| !is_padding(*at)) {
            let mut bad = whole.to_vec();
            bad[at] ^= 0x10;
            log.objects.put(&key, bad.into()).unwrap();
            let check = verify(&*log.objects, known);
            assert!(check.findings.iter().any(|found| found.place == key), "{key} at {at}");
        }
        log.objects.put(&key, whole).unwrap();
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
}

#[test]
fn what_a_stopped_reclaimer_leaves_is_no_damage() {
    let retention = crate::Retention { keep_for_ms: 0, keep_commits: 1, exact: true };
    let mut steps = 0;
    for stop_at in 0.. {
        let mut log = log();
        let env = crate::ManualEnv::new(3);
        log.reader().gc(&env, &retention, false, &mut |_| Ok(())).unwrap();
        // Overwrites everything, so that a segment and the checkpoint that names it go.
        (0..3).for_each(|_| drop(log.write(60, &(1..=60).collect::<Vec<_>>(), true)));
        let mut step = 0;
        let mut watch = |_| {
            step += 1;
            match step > stop_at {
                true => Err(crate::Error::new(ErrorKind::Closed, "stopped")),
                false => Ok(()),
            }
        };
        let done = log.reader().gc(&env, &retention, false, &mut watch);
        let check = verify(&*log.objects, Some((log.head.lsn, log.head.hash)));
        assert_eq!(check.findings, vec![], "stopped at step {stop_at}");
        if done.is_ok() {
            break;
        }
        steps = stop_at;
    }
    assert!(steps >= 4, "{steps}");
}

#[test]
fn every_damaged_object_is_named() {
    let log = log();
    let stranger = {
        // The same pages in the same places of another volume.
        let bytes = |key: &str| log.objects.get(key).unwrap();
        let mut other = bytes(&log_key(volume(), Lsn(2))).to_vec();
        let at = other.windows(16).position(|w| w == volume().as_bytes()).unwrap();
        other[at] ^= 0xff;
        let body = other.len() - 32;
        let hash = blake3::hash(&other[..body]);
        other[body..].copy_from_slice(hash.as_bytes());
        Bytes::from(other)
    };
    let all = keys(&*log.objects);
    let step = if is_long() { 1 } else { 61 };
    let mut tried = 0;
    for (at, key) in all.iter().enumerate() {
        let whole = log.objects.get(key).unwrap();
        let lsn = lsn_of(&*log.objects, key);
        let mut forms: Vec<(String, Option<Bytes>)> = vec![
            ("missing".into(), None),
            ("empty".into(), Some(Bytes::new())),
            ("another's".into(), Some(log.objects.get(&all[(at + 1) % all.len()]).unwrap())),
            ("of another volume".into(), Some(stranger.clone())),
            ("longer".into(), Some([&whole[..], b"x"].concat().into())),
        ];
        for at in (0..whole.len()).step_by(step) {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << (at % 8);
            forms.push((format!("flipped at {at}"), Some(flipped.into())));
            forms.push((format!("cut at {at}"), Some(whole.slice(..at))));
        }
        for (how, bytes) in forms {
            // Nobody can know of a commit behind the end but those who have seen it.
            let known = (how == "missing").then_some((log.head.lsn, log.head.hash));
            match bytes {
                Some(bytes) => log.objects.put(key, bytes).unwrap(),
                None => log.objects.delete(key).unwrap(),
            }
            let findings = verify(&*log.objects, known).findings;
            let named = findings.iter().find(|f| f.place == *key && f.lsn == Some(lsn));
            let named = named.unwrap_or_else(|| panic!("{key} {how}: {findings:?}"));
            let remedy = if key.contains("/log/") { Remedy::RestoreStore } else { Remedy::Rewrite };
            assert_eq!(named.remedy, remedy, "{how}: {named}");
            assert_eq!(findings.len(), 1, "{key} {how}: {findings:?}");
            tried += 1;
            log.objects.put(key, whole.clone()).unwrap();
        }
    }
    assert!(tried > 100, "{tried}");
    assert_eq!(verify(&*log.objects, None).findings, []);
}

#[test]
fn a_commit_of_another_history_is_found_by_its_neighbour_or_by_who_saw_the_first() {
    let log = log();
    let mut other = Log::new();
    for lsn in 1..=6 {
        other.write(3, &[1 + lsn % 3], false);
    }
    for lsn in [1, 3, 6].map(Lsn) {
        let key = log_key(volume(), lsn);
        let whole = log.objects.get(&key).unwrap();
        log.objects.put(&key, other.objects.get(&key).unwrap()).unwrap();
        let findings = verify(&*log.objects, Some((log.head.lsn, log.head.hash))).findings;
        assert!(!findings.is_empty() && findings.len() <= 3, "{findings:?}");
        assert!(findings.iter().all(|f| f.what.contains("replaced")), "{findings:?}");
        assert!(findings.iter().any(|f| f.lsn == Some(lsn) || f.lsn == Some(lsn.next())));
        log.objects.put(&key, whole).unwrap();
    }
}

#[test]
fn a_newer_version_is_not_called_damage() {
    let log = log();
    let key = log_key(volume(), Lsn(6));
    let mut bytes = log.objects.get(&key).unwrap().to_vec();
    bytes[4] += 1;
    let body = bytes.len() - 32;
    let hash = blake3::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(hash.as_bytes());
    log.objects.put(&key, bytes.into()).unwrap();
    let findings = verify(&*log.objects, None).findings;
    assert_eq!(findings.iter().map(|f| f.remedy).collect::<Vec<_>>(), [Remedy::Upgrade]);
}

#[test]
fn a_segment_is_written_again_from_pages_that_match() {
    let log = log();
    let key = keys(&*log.objects).into_iter().find(|key| key.contains("/segments/")).unwrap();
    assert_eq!(lsn_of(&*log.objects, &key), Lsn(2));
    let whole = log.objects.get(&key).unwrap();
    let rewrite = |page: &mut dyn FnMut(PageIdx) -> Result<Option<crate::Page>>| {
        rewrite_segment(&*log.objects, volume(), Lsn(2), page).unwrap()
    };
    assert_eq!(rewrite(&mut |_| panic!("nothing is needed")), Rewritten::Whole);
    let mut flipped = whole.to_vec();
    flipped[3] ^= 1;
    for bad in
        [None, Some(Bytes::new()), Some(whole.slice(..whole.len() / 2)), Some(flipped.into())]
    {
        match &bad {
            Some(bytes) => log.objects.put(&key, bytes.clone()).unwrap(),
            None => log.objects.delete(&key).unwrap(),
        }
        // Pages of another state do not match, and nothing is written.
        let lacks = rewrite(&mut |idx| Ok(Some(content(9, idx.get()))));
        assert!(matches!(lacks, Rewritten::Lacks(_)), "{lacks:?}");
        assert_eq!(log.objects.get(&key).ok(), bad);
        assert_eq!(rewrite(&mut |idx| Ok(Some(content(2, idx.get())))), Rewritten::Done);
        assert_eq!(log.objects.get(&key).unwrap(), whole);
    }
    // Only what is damaged has to be known.
    let mut flipped = whole.to_vec();
    flipped[3] ^= 1;
    log.objects.put(&key, flipped.into()).unwrap();
    let first = |n: PageIdx| Ok((n.get() <= 8).then(|| content(2, n.get())));
    assert_eq!(rewrite(&mut { first }), Rewritten::Done);
    log.objects.delete(&key).unwrap();
    let rest: PageSet = (9..=40).map(idx).collect();
    assert_eq!(rewrite(&mut { first }), Rewritten::Lacks(rest));
    let inline = rewrite_segment(&*log.objects, volume(), Lsn(1), &mut |_| Ok(None));
    assert_eq!(inline.unwrap_err().kind(), ErrorKind::Invalid);
}
