//! Pages that are not here, of a log whose oldest part is gone: what did not change since is asked
//! for where it still is.

use std::sync::Arc;

use super::{append, bucket, idx, replica};
use crate::volume::Volume;
use crate::{
    BucketRemote, ErrorKind, ManualEnv, MemObjects, Page, PageCount, PageSize, Remote, Retention,
    TimelineId,
};

/// A page that does not compress: forty of them do not travel within a commit.
fn page(seed: u8) -> Page {
    let mut bytes = vec![0; PageSize::DEFAULT.bytes()];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// Everything but the newest state goes, and with it what this reader's remote remembers.
fn reclaim(log: &BucketRemote, reader: &Volume, objects: &Arc<MemObjects>) -> Arc<BucketRemote> {
    reclaim_but(1, log, reader, objects)
}

fn reclaim_but(
    keep_commits: u64,
    log: &BucketRemote,
    reader: &Volume,
    objects: &Arc<MemObjects>,
) -> Arc<BucketRemote> {
    let keep = Retention { keep_for_ms: 0, keep_commits, exact: true };
    // Randomness of its own: it names segments.
    let env = ManualEnv::new(1_000 + log.head().unwrap().lsn.0);
    log.gc(&env, &keep, false, &mut |_| Ok(())).unwrap();
    let far = bucket(objects);
    reader.set_remote(Some(far.clone()));
    far
}

fn follow(volume: &Volume, log: &BucketRemote) {
    let commits = log.pull(volume.base().0).unwrap();
    drop(
        volume.rebase(volume.writer(), &commits).unwrap().publish(Vec::new(), Vec::new()).unwrap(),
    );
}

fn jump(volume: &Volume, log: &BucketRemote) {
    let changes = log.changes(volume.base().0, TimelineId::from_bytes([0; 16])).unwrap().unwrap();
    let mut draft = volume.jump(volume.writer(), &changes).unwrap();
    // A redo reads what did not change, too.
    assert_eq!(draft.page(idx(30)).unwrap(), page(30));
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
}

/// A writer, and a replica that knows of 40 pages and has none of them.
fn two() -> (Volume, Arc<BucketRemote>, Volume, Arc<BucketRemote>, Arc<MemObjects>) {
    let objects = Arc::new(MemObjects::new());
    let (writer, log, _) = replica(&objects, 1);
    let (reader, far, _) = replica(&objects, 2);
    let full =
        |draft: &mut crate::Draft| (1..=40u8).for_each(|n| draft.write(idx(n.into()), page(n)));
    assert!(append(&writer, &log, full).unwrap());
    follow(&reader, &far);
    (writer, log, reader, far, objects)
}

fn change(writer: &Volume, log: &BucketRemote, fill: u8) {
    assert!(append(writer, log, |draft| draft.write(idx(1), page(fill))).unwrap());
}

#[test]
fn pages_that_did_not_change_since_a_reclaimed_commit_are_still_read() {
    let (writer, log, reader, far, objects) = two();
    change(&writer, &log, 100);
    follow(&reader, &far);
    let before = reader.head();
    change(&writer, &log, 101);
    follow(&reader, &far);
    assert!(reader.status().pages_pending > 0, "the test means nothing");
    reclaim(&log, &reader, &objects);
    assert_eq!(reader.head().page(idx(20)).unwrap(), page(20));
    // Also for a reader of an older state, what is still the same.
    assert_eq!(before.page(idx(21)).unwrap(), page(21));
    let requests = reader.status().fetch_requests;
    reader.hydrate(&mut |_, _| ()).unwrap();
    assert!(reader.status().fetch_requests - requests <= 1, "asked in vain again");
    assert_eq!(reader.head().content_hash().unwrap(), writer.head().content_hash().unwrap());
}

#[test]
fn a_jump_over_reclaimed_commits_reads_what_did_not_change() {
    let (writer, log, reader, _, objects) = two();
    let before = reader.head();
    let around = |draft: &mut crate::Draft| {
        draft.write(idx(29), page(200));
        draft.write(idx(31), page(201));
    };
    assert!(append(&writer, &log, around).unwrap());
    for fill in 100..110 {
        change(&writer, &log, fill);
    }
    let far = reclaim(&log, &reader, &objects);
    // Where this replica stands nothing is kept.
    assert_eq!(reader.head().page(idx(31)).unwrap_err().kind(), ErrorKind::Expired);
    jump(&reader, &far);
    // What has changed is not what it was, for whoever still reads the state before.
    assert_eq!(before.page(idx(29)).unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(before.page(idx(30)).unwrap(), page(30));
    assert_eq!(reader.head().page_count(), PageCount(40));
    assert_eq!(reader.head().content_hash().unwrap(), writer.head().content_hash().unwrap());
}

#[test]
fn commits_that_expire_while_they_are_taken_are_read_where_they_lead() {
    let (writer, log, reader, far, objects) = two();
    let many =
        |draft: &mut crate::Draft| (1..=40u8).for_each(|n| draft.write(idx(n.into()), page(n + 1)));
    assert!(append(&writer, &log, many).unwrap());
    change(&writer, &log, 100);
    let commits = far.pull(reader.base().0).unwrap();
    reclaim(&log, &reader, &objects);
    let mut draft = reader.rebase(reader.writer(), &commits).unwrap();
    assert_eq!(draft.page(idx(20)).unwrap(), page(21));
    drop(draft.publish(Vec::new(), Vec::new()).unwrap());
    assert_eq!(reader.head().content_hash().unwrap(), writer.head().content_hash().unwrap());
}

#[test]
fn a_reader_of_an_old_state_is_not_shown_what_came_between() {
    let (writer, log, reader, _, objects) = two();
    let before = reader.head();
    let change = |fill: u8| {
        let pages = |draft: &mut crate::Draft| draft.write(idx(20), page(fill));
        assert!(append(&writer, &log, pages).unwrap());
    };
    // Three bases, and folds between them that keep versions for the held state and the newest.
    for fill in 200..203 {
        change(fill);
        let far = bucket(&objects);
        follow(&reader, &far);
        reader.checkpoint(&reader.writer()).unwrap();
    }
    reclaim_but(2, &log, &reader, &objects);
    assert_eq!(before.page(idx(20)).unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(before.page(idx(21)).unwrap(), page(21));
    assert_eq!(reader.head().page(idx(20)).unwrap(), page(202));
}
