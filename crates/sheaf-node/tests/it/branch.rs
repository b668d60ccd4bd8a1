//! Branches over HTTP: who may ask, what is answered, and what history a branch has.

use bytes::Bytes;
use sheaf_sync::{
    branch::{BranchRequest, decode_answer, encode_request},
    message::{BRANCH_PATH, ErrorCode, PULL_PATH},
    pull,
};
use sheaf_volume::{At, ErrorKind, Lineage, Lsn, Parent, SiteId, VolumeId};

use crate::{
    devices::Device,
    harness::{TestNode, run},
};

fn request(at: At, name: &str, seed: u8) -> BranchRequest {
    BranchRequest {
        source: "team/todos".to_owned(),
        at,
        name: name.to_owned(),
        site: SiteId::from_bytes([seed; 16]),
        volume: VolumeId::from_bytes([seed + 1; 16]),
    }
}

/// A node whose site has this many commits; its volume.
fn grown(node: &TestNode, commits: u64) -> VolumeId {
    run(async {
        let mut device = Device::meet(node, &node.running, 1).await;
        for n in 0..commits {
            match n {
                0 => device.execute("CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT)"),
                _ => device.execute("INSERT INTO todo(name) VALUES ('x')"),
            }
            device.push().await;
            device.pull().await;
        }
        device.site.ids().volume
    })
}

#[test]
fn a_branch_is_made_once_and_has_its_parents_history() {
    let node = TestNode::start();
    let parent = grown(&node, 3);
    let wish = request(At::Lsn(Lsn(2)), "team/branch", 7);
    let ask = || {
        let answer = node.post(BRANCH_PATH, &encode_request(&wish));
        assert_eq!(answer.status, 200);
        decode_answer(answer.body.into()).unwrap()
    };
    let made = ask();
    assert_eq!((made.site, made.volume, made.head.lsn), (wish.site, wish.volume, Lsn(2)));
    assert_eq!(made.parents, [Parent { volume: parent, lsn: Lsn(2) }]);
    assert_eq!(ask(), made, "the answer was lost, and the request comes again");
    let body = pull::encode_request(made.volume, Lsn::ZERO, false);
    let pulled: Bytes = node.post(PULL_PATH, &body).body.into();
    let lineage = Lineage::new(made.volume, made.parents).unwrap();
    let commits = pull::decode_answer(&lineage, Lsn::ZERO, pulled.clone()).unwrap().commits;
    assert_eq!(commits.len(), 2);
    // Whoever was not told of the parents takes no commit of theirs.
    let error = pull::decode_answer(&made.volume.into(), Lsn::ZERO, pulled).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_branch_that_cannot_be_is_refused() {
    let node = TestNode::start();
    grown(&node, 1);
    let refused = |wish: &BranchRequest| {
        let answer = node.post(BRANCH_PATH, &encode_request(wish));
        (answer.status, answer.error().code())
    };
    assert_eq!(refused(&request(At::Head, "team/todos", 7)), (409, ErrorCode::Conflict));
    assert_eq!(refused(&request(At::Lsn(Lsn(9)), "b", 7)), (404, ErrorCode::NotFound));
    assert_eq!(refused(&request(At::Time(0), "b", 7)), (400, ErrorCode::Invalid));
    assert_eq!(refused(&request(At::Head, "a b", 7)), (400, ErrorCode::Invalid));
    let nobody = BranchRequest { source: "nobody".to_owned(), ..request(At::Head, "b", 7) };
    assert_eq!(refused(&nobody), (404, ErrorCode::NotFound));
    assert_eq!(node.post(BRANCH_PATH, b"\xff").status, 400);
    let answer = node.post(BRANCH_PATH, &encode_request(&request(At::Head, "b", 7)));
    assert_eq!(answer.status, 200);
    assert_eq!(refused(&request(At::Head, "b", 9)), (409, ErrorCode::Conflict));
}
