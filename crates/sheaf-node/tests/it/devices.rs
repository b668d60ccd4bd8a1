//! Two replicas and one node, through the real engine: what one writes the other reads.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use sheaf_node::{Node, Running};
use sheaf_site::{Batch, Site, SiteIds, SiteOptions, View};
use sheaf_sync::{
    message::{self, Body, PAGES_PATH, PULL_PATH},
    pages::{BlockReader, encode_request},
    wire::{self, CreateIds, OpenedSite, PushAnswer, PushBatch, PushMutation},
};
use sheaf_volume::{
    Commit, DeviceId, Env, FetchedPage, Lsn, ManualEnv, MemDir, Remote, RemoteHead, Result,
    Verdict, VolumeId, Want,
};

use crate::harness::{Socket, TestNode, http, options, run};

/// The node over HTTP, as a replica sees it.
#[derive(Debug)]
struct Http {
    addr: SocketAddr,
    bearer: String,
    ids: SiteIds,
}

impl Http {
    fn post(&self, path: &str, body: &[u8]) -> Vec<u8> {
        let answer = http(self.addr, "POST", path, &[&self.bearer], body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.error().message);
        answer.body
    }

    fn commits(&self, after: Lsn, head_only: bool) -> message::Commits {
        let volume = wire::id_bytes(self.ids.volume.as_bytes());
        let pull = message::Pull {
            request: 0,
            volume,
            after_lsn: after.0,
            head_only,
            ..Default::default()
        };
        let body = self.post(PULL_PATH, &prost::Message::encode_to_vec(&pull));
        prost::Message::decode(body.as_slice()).unwrap()
    }
}

impl Remote for Http {
    fn head(&self) -> Result<RemoteHead> {
        wire::head_from_wire(self.commits(Lsn::ZERO, true).head.as_ref())
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        wire::commits_from_wire(&self.ids.volume.into(), &self.commits(after, false).commits)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        let body = self.post(PAGES_PATH, &encode_request(self.ids.volume, wants)?);
        let mut reader = BlockReader::new(self.ids.volume, self.ids.page_size, wants);
        let pages = reader.feed(&body)?;
        reader.finish()?;
        Ok(pages)
    }
}

pub(crate) struct Device {
    pub(crate) site: Site,
    socket: Socket,
    volume: VolumeId,
    request: u64,
    /// Whether it wants to know which operations stand.
    asks: bool,
}

impl Device {
    /// A replica that has met the node.
    pub(crate) async fn meet(node: &TestNode, running: &Running, seed: u64) -> Self {
        let env: Arc<dyn Env> = Arc::new(ManualEnv::new(seed));
        let device = DeviceId::mint(env.as_ref());
        let site = Site::open(&MemDir::new(), env, SiteOptions::new("team/todos", device)).unwrap();
        let mut socket = Socket::connect(running.addr()).await;
        socket.say(crate::harness::hello(&node.token)).await;
        assert!(matches!(socket.hear().await, Some(Body::Welcome(_))));
        let SiteIds { site: id, volume, page_size } = site.ids();
        let create = wire::create_to_wire(&CreateIds { site: id, volume, page_size });
        let name = "team/todos".to_owned();
        socket.say(Body::Open(message::Open { request: 1, name, create: Some(create) })).await;
        let answer = socket.hear().await;
        let Some(Body::Opened(opened)) = answer else { panic!("not opened: {answer:?}") };
        let opened: OpenedSite = wire::opened_from_wire(opened).unwrap();
        let page_size = opened.head.page_size;
        let ids = SiteIds { site: opened.site, volume: opened.volume, page_size };
        site.set_remote(Some(Arc::new(Http { addr: running.addr(), bearer: node.bearer(), ids })));
        site.adopt(ids, opened.head).unwrap();
        Self { site, socket, volume: opened.volume, request: 1, asks: false }
    }

    pub(crate) fn execute(&self, sql: &str) {
        let conn = self.site.connection(View::Local).unwrap();
        if let Err(error) = conn.execute_batch(sql) {
            let why = conn.query_row("SELECT sheaf_failure()", [], |row| row.get(0));
            panic!("{sql}: {error}: {:?}", why.unwrap_or(None::<String>));
        }
    }

    fn names(&self) -> Vec<String> {
        let conn = self.site.connection(View::Local).unwrap();
        let mut statement = conn.prepare("SELECT name FROM todo ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(|row| row.unwrap()).collect()
    }

    async fn send(&mut self, batch: &Batch) {
        let push = PushBatch {
            timeline: batch.timeline,
            first_seq: batch.first_seq,
            prev_hash: batch.prev_hash,
            mutations: batch
                .mutations
                .iter()
                .map(|m| PushMutation {
                    seq: m.seq,
                    base: m.base,
                    time_ms: m.time_ms,
                    bytes: m.bytes.clone(),
                })
                .collect(),
            tell_stands: self.asks,
        };
        self.request += 1;
        let push = wire::push_to_wire(self.request, self.volume, &push);
        self.socket.say(Body::Push(push)).await;
    }

    async fn answer(&mut self) -> PushAnswer {
        let answer = self.socket.hear().await;
        let Some(Body::Verdicts(verdicts)) = answer else { panic!("no verdicts: {answer:?}") };
        wire::answer_from_wire(verdicts).unwrap().2
    }

    async fn verdicts(&mut self) -> (Vec<Verdict>, Lsn) {
        match self.answer().await {
            PushAnswer::Verdicts { verdicts, lsn, .. } => {
                (verdicts.into_iter().map(|(verdict, _)| verdict).collect(), lsn)
            }
            other => panic!("no verdicts: {other:?}"),
        }
    }

    pub(crate) async fn push(&mut self) -> (Vec<Verdict>, Lsn) {
        let batch = self.site.outbox(0, 1 << 20).unwrap().expect("something to push");
        self.send(&batch).await;
        self.verdicts().await
    }

    /// Pushes what the log has not decided.
    async fn push_after_pull(&mut self) {
        let after = self.site.status().acknowledged;
        let batch = self.site.outbox(after, 1 << 20).unwrap().expect("something to push");
        self.send(&batch).await;
        self.verdicts().await;
    }

    fn take(&self, commits: &[Bytes]) {
        let commits = wire::commits_from_wire(&self.volume.into(), commits).unwrap();
        self.site.integrate(commits).unwrap();
    }

    pub(crate) async fn pull(&mut self) {
        self.request += 1;
        let volume = wire::id_bytes(self.volume.as_bytes());
        let after_lsn = self.site.base().0.0;
        let pull = message::Pull { request: self.request, volume, after_lsn, ..Default::default() };
        self.socket.say(Body::Pull(pull)).await;
        let answer = self.socket.hear().await;
        let Some(Body::Commits(commits)) = answer else { panic!("no commits: {answer:?}") };
        self.take(&commits.commits);
    }
}

/// A mutation that both are merged by: its first operation gives way, its second stands.
#[test]
fn a_device_that_asks_is_told_which_operations_stand() {
    let node = TestNode::start();
    run(async {
        for (n, asks) in [(1, false), (3, true)] {
            let mut a = Device::meet(&node, &node.running, n).await;
            let mut b = Device::meet(&node, &node.running, n + 1).await;
            let table = format!("t{n}");
            a.execute(&format!("CREATE TABLE {table}(id INTEGER PRIMARY KEY, v, w)"));
            a.execute(&format!("INSERT INTO {table} VALUES (1, 0, 0), (2, 0, 0), (3, 0, 0)"));
            a.push().await;
            a.pull().await;
            b.pull().await;
            a.execute(&format!("UPDATE {table} SET v = 'a' WHERE id = 1"));
            a.push_after_pull().await;
            b.execute(&format!("UPDATE {table} SET v = 'b', w = 'b' WHERE id < 4"));
            b.asks = asks;
            let batch = b.site.outbox(0, 1 << 20).unwrap().expect("something to push");
            let seq = batch.first_seq;
            b.send(&batch).await;
            let PushAnswer::Verdicts { verdicts, stands, .. } = b.answer().await else {
                panic!("no verdicts")
            };
            assert_eq!(verdicts, [(Verdict::Merged, String::new())]);
            let told = stands.get(&seq).map(|told| (told.ops, told.packed.to_vec()));
            assert_eq!(told, asks.then(|| (3, vec![0b110, 0, 0, 0])));
        }
    });
}

const SCHEMA: &str = "CREATE TABLE todo(id INTEGER PRIMARY KEY, name TEXT, done INT)";

#[test]
fn what_one_device_writes_another_reads_through_the_node() {
    let node = TestNode::start();
    run(async {
        let mut a = Device::meet(&node, &node.running, 1).await;
        a.execute(&format!("{SCHEMA}; INSERT INTO todo VALUES (1, 'milk', 0)"));
        let (verdicts, lsn) = a.push().await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Ok), "{verdicts:?}");
        assert_eq!(lsn, Lsn(1));
        a.pull().await;

        // The second one meets a site that exists: it fetches what it reads over HTTP.
        let mut b = Device::meet(&node, &node.running, 2).await;
        assert_eq!(b.names(), ["milk"]);
        b.execute("INSERT INTO todo VALUES (2, 'bread', 0)");
        b.push().await;
        b.pull().await;
        a.pull().await;
        assert_eq!(a.names(), ["milk", "bread"]);
        assert_eq!(a.site.base(), b.site.base());
    });
    assert_eq!(node.metric("sheaf_commits_total{outcome=\"committed\"}"), 2);
    assert!(node.metric("sheaf_pages_served_total") > 0);
}

#[test]
fn a_watching_device_gets_the_commit_inside_the_notification() {
    let node = TestNode::start();
    run(async {
        let mut a = Device::meet(&node, &node.running, 1).await;
        a.execute(SCHEMA);
        a.push().await;
        let mut b = Device::meet(&node, &node.running, 2).await;
        let volume = wire::id_bytes(b.volume.as_bytes());
        b.socket
            .say(Body::Watch(message::Watch {
                volume,
                after_lsn: b.site.base().0.0,
                deltas: false,
            }))
            .await;
        // An answered ping: the watch before it has been taken.
        b.socket.say(Body::Ping(message::Ping { nonce: 1 })).await;
        assert!(matches!(b.socket.hear().await, Some(Body::Pong(_))));
        a.execute("INSERT INTO todo VALUES (1, 'milk', 0)");
        a.push().await;
        let heard = b.socket.hear().await;
        let Some(Body::Changed(changed)) = heard else { panic!("no notification: {heard:?}") };
        assert_eq!((changed.lsn, changed.commits.len()), (2, 1));
        b.take(&changed.commits);
        assert_eq!(b.names(), ["milk"]);
    });
}

#[test]
fn a_batch_sent_twice_is_applied_once() {
    let node = TestNode::start();
    run(async {
        let mut a = Device::meet(&node, &node.running, 1).await;
        a.execute(&format!("{SCHEMA}; INSERT INTO todo(name) VALUES ('milk')"));
        let batch = a.site.outbox(0, 1 << 20).unwrap().unwrap();
        // Both at once: the second may be in the same group as the first.
        a.send(&batch).await;
        a.send(&batch).await;
        let (first, second) = (a.verdicts().await, a.verdicts().await);
        assert_eq!(first.1, second.1);
        a.pull().await;
        assert_eq!(a.names(), ["milk"]);
    });
    assert_eq!(node.metric("sheaf_commits_total{outcome=\"committed\"}"), 1);
}

#[test]
fn acknowledged_commits_outlive_the_node() {
    let node = TestNode::start();
    run(async {
        let mut a = Device::meet(&node, &node.running, 1).await;
        a.execute(&format!("{SCHEMA}; INSERT INTO todo VALUES (1, 'milk', 0)"));
        a.push().await;
    });
    let TestNode { running, token, data } = node;
    running.stop().unwrap();
    // Another node, with another directory, on the same store.
    let store = format!("file://{}", data.path().canonicalize().unwrap().join("store").display());
    let elsewhere = tempfile::tempdir().unwrap();
    let mut options = options(elsewhere.path());
    options.store = Some(store);
    let running = Node::start(options).unwrap();
    let token = running.first_token().unwrap_or(token);
    let node = TestNode { running, token, data };
    run(async {
        let mut b = Device::meet(&node, &node.running, 2).await;
        assert_eq!(b.names(), ["milk"]);
        b.execute("UPDATE todo SET name = 'cream' WHERE id = 1");
        assert_eq!(b.push().await.1, Lsn(2));
        b.pull().await;
        assert_eq!(b.names(), ["cream"]);
    });
}

#[test]
fn a_full_group_of_devices_is_answered() {
    let node = TestNode::start();
    run(async {
        let mut first = Device::meet(&node, &node.running, 1).await;
        first.execute(SCHEMA);
        first.push().await;
        first.pull().await;
        let mut devices = Vec::new();
        for seed in 2..8 {
            devices.push(Device::meet(&node, &node.running, seed).await);
        }
        for (device, id) in devices.iter_mut().zip(10..) {
            device.execute(&format!("INSERT INTO todo VALUES ({id}, 'd{id}', 0)"));
            let batch = device.site.outbox(0, 1 << 20).unwrap().unwrap();
            device.send(&batch).await;
        }
        for device in &mut devices {
            assert_eq!(device.verdicts().await.0, [Verdict::Ok]);
        }
        first.pull().await;
        assert_eq!(first.names(), ["d10", "d11", "d12", "d13", "d14", "d15"]);
    });
    let batches = node.metric("sheaf_group_batches_total");
    assert_eq!(batches, 7);
    assert!(node.metric("sheaf_commits_total{outcome=\"committed\"}") <= batches);
}
