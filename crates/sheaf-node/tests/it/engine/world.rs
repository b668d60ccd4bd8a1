//! Engines that share a bucket, and devices at them, on a clock that is told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use sheaf_node::engine::{ConnId, Engine};
use sheaf_site::{MutationRecord, Site, SiteIds, SiteOptions, View};
use sheaf_sync::{
    ClientEvent, ClientSession, Identity,
    pages::{self, BlockReader},
    pull,
    wire::{CreateIds, OpenedSite, PushAnswer, PushBatch, PushMutation},
};
use sheaf_volume::{
    Commit, DeviceId, Dir, Env, FetchedPage, HeldPage, Lsn, ManualEnv, MemDir, MemObjects, Objects,
    Remote, RemoteHead, Result, Verdict, VolumeId, Want,
};

pub(super) const NAME: &str = "team/todos";

pub(super) type Shared = Arc<Mutex<Engine>>;

/// The disk of a node: a directory per volume.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<BTreeMap<VolumeId, MemDir>>>);

/// A node on this bucket and this disk.
pub(super) fn engine(env: &Arc<ManualEnv>, objects: &MemObjects, disk: &Disk) -> Engine {
    engine_on(env, Arc::new(objects.clone()), disk)
}

/// As [`engine`], on any kind of bucket.
pub(super) fn engine_on(env: &Arc<ManualEnv>, objects: Arc<dyn Objects>, disk: &Disk) -> Engine {
    let disk = disk.clone();
    let node = DeviceId::mint(env.as_ref());
    let dirs = move |volume| {
        let dir = disk.0.lock().unwrap().entry(volume).or_default().clone();
        Ok(Box::new(dir) as Box<dyn Dir>)
    };
    Engine::new(
        objects,
        Arc::clone(env) as Arc<dyn Env>,
        Arc::clone(env) as _,
        node,
        Box::new(dirs),
    )
}

/// An engine, as a replica asks it for commits and pages.
#[derive(Debug)]
struct Far {
    engine: Shared,
    ids: SiteIds,
    bytes: Arc<AtomicU64>,
}

impl Far {
    fn ask(&self, after: Lsn, head_only: bool) -> Result<pull::Pulled> {
        let body = pull::encode_request(self.ids.volume, after, head_only);
        let answer = self.engine.lock().unwrap().pull(None, body)?;
        pull::decode_answer(&self.ids.volume.into(), after, answer)
    }
}

impl Remote for Far {
    fn head(&self) -> Result<RemoteHead> {
        Ok(self.ask(Lsn::ZERO, true)?.head)
    }

    fn pull(&self, after: Lsn) -> Result<Vec<Commit>> {
        Ok(self.ask(after, false)?.commits)
    }

    fn fetch(&self, wants: &[Want]) -> Result<Vec<FetchedPage>> {
        self.fetch_holding(wants, &[])
    }

    fn fetch_holding(&self, wants: &[Want], held: &[HeldPage]) -> Result<Vec<FetchedPage>> {
        let body = pages::encode_request_holding(self.ids.volume, wants, held)?;
        let answer = self.engine.lock().unwrap().pages(None, body)?;
        self.bytes.fetch_add(answer.len() as u64, Ordering::Relaxed);
        let reader = BlockReader::new(self.ids.volume, self.ids.page_size, wants);
        let mut reader = reader.holding(held);
        let pages = reader.feed(&answer)?;
        reader.finish()?;
        Ok(pages)
    }
}

pub(super) struct Device {
    pub(super) site: Site,
    pub(super) session: ClientSession,
    pub(super) conn: Option<ConnId>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) acknowledged: u64,
    /// How often merged changes came.
    pub(super) jumps: usize,
    /// Every frame that came.
    pub(super) heard: Vec<Bytes>,
    pub(super) engine: Shared,
    env: Arc<ManualEnv>,
    /// Bytes of the answers to requests for pages.
    bytes: Arc<AtomicU64>,
}

impl Device {
    pub(super) fn new(seed: u64, env: &Arc<ManualEnv>, engine: &Shared) -> Self {
        let own: Arc<dyn Env> = Arc::new(ManualEnv::new(seed));
        let device = DeviceId::mint(own.as_ref());
        let site = Site::open(&MemDir::new(), own, SiteOptions::new(NAME, device)).unwrap();
        let identity = Identity { device, token: String::new(), agent: "test".to_owned() };
        let mut session = ClientSession::new(identity, env.now_ms());
        let SiteIds { site: id, volume, page_size } = site.ids();
        session.open_site(NAME, Some(CreateIds { site: id, volume, page_size })).unwrap();
        Self {
            site,
            session,
            conn: None,
            verdicts: Vec::new(),
            acknowledged: 0,
            jumps: 0,
            heard: Vec::new(),
            engine: Arc::clone(engine),
            env: Arc::clone(env),
            bytes: Arc::default(),
        }
    }

    pub(super) fn fetched_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn execute(&self, sql: &str) {
        self.site.connection(View::Local).unwrap().execute_batch(sql).unwrap();
    }

    pub(super) fn names(&self) -> Vec<String> {
        let conn = self.site.connection(View::Local).unwrap();
        let mut statement = conn.prepare("SELECT name FROM todo ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(|row| row.unwrap()).collect()
    }

    /// Frames both ways and what follows from them here; true if anything moved.
    pub(super) fn exchange(&mut self) -> bool {
        let mut moved = self.send();
        while let Some(frame) = self.receive() {
            self.heard.push(frame.clone());
            self.session.frame(frame, self.env.now_ms());
            moved = true;
        }
        while let Some(event) = self.session.poll_event() {
            self.take(event);
            moved = true;
        }
        let closing = |conn| self.engine.lock().unwrap().is_closing(conn);
        if self.conn.is_some_and(closing) {
            self.cut();
            moved = true;
        }
        moved
    }

    /// Dials and sends, but reads nothing; true if anything was sent.
    pub(super) fn send(&mut self) -> bool {
        let now_ms = self.env.now_ms();
        let mut engine = self.engine.lock().unwrap();
        if self.session.poll_connect(now_ms) {
            self.conn = Some(engine.connect());
            self.session.connected(now_ms);
        }
        let Some(conn) = self.conn else { return false };
        if self.session.can_offer(NAME)
            && let Some(batch) = self.site.outbox(self.acknowledged, 1 << 20).unwrap()
        {
            let mutations = batch.mutations.into_iter().map(to_push).collect();
            let (timeline, first_seq, prev_hash) =
                (batch.timeline, batch.first_seq, batch.prev_hash);
            let batch = PushBatch { timeline, first_seq, prev_hash, mutations, tell_stands: true };
            self.session.offer(NAME, batch).unwrap();
        }
        let mut sent = false;
        while let Some(frame) = self.session.poll_frame() {
            engine.frame(conn, frame);
            sent = true;
        }
        sent
    }

    /// The wire breaks.
    pub(super) fn cut(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.engine.lock().unwrap().disconnect(conn);
            self.session.closed(self.env.now_ms(), 0);
        }
    }

    /// Dials without waiting.
    pub(super) fn dial_again(&mut self) {
        self.session.retry(self.env.now_ms());
    }

    fn receive(&self) -> Option<Bytes> {
        self.engine.lock().unwrap().poll_frame(self.conn?)
    }

    fn take(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::SiteOpened(opened) => self.opened(&opened),
            ClientEvent::CommitsArrived { commits, .. } => {
                self.site.integrate_news(commits).unwrap();
            }
            ClientEvent::ChangesArrived { changes, .. } => {
                self.site.jump(&changes).unwrap();
                self.jumps += 1;
            }
            ClientEvent::Verdicts { answer, .. } => match answer {
                PushAnswer::Verdicts { first_seq, verdicts, .. } => {
                    self.acknowledged = first_seq + verdicts.len() as u64 - 1;
                    self.verdicts.extend(verdicts.into_iter().map(|(verdict, _)| verdict));
                }
                other => panic!("no verdicts: {other:?}"),
            },
            ClientEvent::Disconnect { .. } => self.cut(),
            ClientEvent::Ready { .. } | ClientEvent::CaughtUp { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn opened(&mut self, opened: &OpenedSite) {
        let page_size = opened.head.page_size;
        let ids = SiteIds { site: opened.site, volume: opened.volume, page_size };
        let (engine, bytes) = (Arc::clone(&self.engine), Arc::clone(&self.bytes));
        self.site.set_remote(Some(Arc::new(Far { engine, ids, bytes })));
        self.site.adopt(ids, opened.head).unwrap();
        self.session.take_merged(NAME, self.site.timeline());
        self.session.watch_from(NAME, self.site.base().0);
    }
}

fn to_push(record: MutationRecord) -> PushMutation {
    let MutationRecord { seq, base, time_ms, bytes } = record;
    PushMutation { seq, base, time_ms, bytes }
}

/// Until nothing moves any more.
pub(super) fn settle(devices: &mut [&mut Device]) {
    loop {
        let mut moved = false;
        for device in devices.iter_mut() {
            moved |= device.exchange();
            moved |= device.engine.lock().unwrap().turn();
        }
        if !moved {
            return;
        }
    }
}

/// Moves the clock to the next moment at which an engine wants to be called.
pub(super) fn pass_time(env: &ManualEnv, engine: &Shared) {
    let deadline = engine.lock().unwrap().next_deadline().expect("something is open");
    let now = env.now_ms();
    assert!(deadline > now, "nothing is overdue after a settled turn: {deadline} {now}");
    env.advance_ms(deadline - now);
}
