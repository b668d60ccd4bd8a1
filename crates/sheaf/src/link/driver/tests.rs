//! A driver and the node's end of the talk in one thread, on a clock that moves only when told.
//! The node is a replica over a bucket in memory; no runtime, no socket.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use sheaf_site::{
    Answer, Batch, ErrorKind, MutationRecord, OpBits, Result, Site, SiteIds, SiteOptions, View,
    from_sqlite,
};
use sheaf_sync::{
    ServerRequest, ServerSession,
    message::{self, Body},
    pages,
    wire::{self, OpenedSite, PushAnswer, PushBatch, PushMutation},
};
use sheaf_volume::{
    BucketRemote, DeviceId, FetchedPage, ManualEnv, MemDir, MemObjects, Remote as _, VolumeId,
};

use super::*;
use crate::{
    event::Events,
    exchange::Ask,
    link::Asked,
    node::{Fault, NodeRemote, Post},
};

const NODE: DeviceId = DeviceId::from_bytes([9; 16]);
const DEVICE: DeviceId = DeviceId::from_bytes([1; 16]);
const NAME: &str = "todo";

/// Frames that wait for the test to move them.
#[derive(Debug)]
struct Line {
    dialled: Option<u64>,
    dials: usize,
    hung_up: usize,
    frames: VecDeque<Bytes>,
    room: usize,
    pages: Arc<BucketPages>,
}

impl Transport for Line {
    fn dial(&mut self, number: u64) {
        self.dials += 1;
        self.dialled = Some(number);
        self.frames.clear();
    }

    fn send(&mut self, _: u64, frame: Bytes) -> Result<(), Bytes> {
        if self.frames.len() >= self.room {
            return Err(frame);
        }
        self.frames.push_back(frame);
        Ok(())
    }

    fn hang_up(&mut self) {
        self.hung_up += 1;
        self.frames.clear();
    }

    fn remote(&self, lineage: Lineage, size: PageSize) -> Arc<dyn Remote> {
        Arc::new(NodeRemote::new(self.pages.clone(), lineage, size))
    }
}

/// Answers page requests from the bucket.
#[derive(Debug)]
struct BucketPages(Arc<MemObjects>);

impl Post for BucketPages {
    fn post(
        &self,
        path: &str,
        body: Bytes,
        take: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Fault> {
        assert_eq!(path, message::PAGES_PATH);
        let (volume, wants) = pages::decode_request(body)?;
        let log = BucketRemote::new(self.0.clone(), volume, PageSize::DEFAULT);
        let wanted = |page: &FetchedPage| {
            wants.iter().any(|want| want.lsn == page.lsn && want.pages.contains(page.idx))
        };
        // A bucket gives what lies beside a page too; a node does not.
        for page in log.fetch(&wants)?.into_iter().filter(wanted) {
            take(pages::BlockWriter::new(volume).block(&page, None))?;
        }
        Ok(())
    }
}

/// What becomes of a push on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The connection is cut before the node has it, or before the device has the answer.
    RequestLost,
    AnswerLost,
}

/// A node over a bucket.
struct Node {
    objects: Arc<MemObjects>,
    env: Arc<ManualEnv>,
    sites: BTreeMap<String, (Site, BucketRemote)>,
    fate: Fate,
}

impl Node {
    /// False when the connection is to be cut.
    fn serve(&mut self, session: &mut ServerSession, wanted: ServerRequest) -> bool {
        match wanted {
            ServerRequest::Authenticate { device, token, .. } if token == "secret" => {
                session.accept(device);
            }
            ServerRequest::Authenticate { .. } => {
                session.refuse(&Error::new(ErrorKind::Denied, "token is not known"));
            }
            ServerRequest::Open { request, name, create } => {
                if let Some(ids) = create.filter(|_| !self.sites.contains_key(&name)) {
                    self.create(&name, &ids);
                }
                match self.sites.get(&name) {
                    Some((site, log)) => session.opened(request, &opened(&name, site, log)),
                    None => session.error(request, &Error::new(ErrorKind::NotFound, "no site")),
                }
            }
            ServerRequest::Watch { .. } | ServerRequest::Unwatch { .. } => {}
            ServerRequest::Pull { request, pull } => {
                let (volume, after) = (pull.volume, pull.after);
                let (_, log) = self.site(volume);
                let commits = log.pull(after).unwrap();
                let commits: Vec<Bytes> = commits.iter().map(|commit| commit.encode()).collect();
                session.commits(request, volume, &commits, &log.head().unwrap(), false);
            }
            ServerRequest::Push { .. } if self.fate == Fate::RequestLost => return false,
            ServerRequest::Push { request, volume, batch } => {
                let timeline = batch.timeline;
                let answer = self.push(session, volume, batch);
                if self.fate == Fate::AnswerLost {
                    return false;
                }
                session.verdicts(request, volume, timeline, &answer);
            }
        }
        true
    }

    fn create(&mut self, name: &str, ids: &CreateIds) {
        let ids = SiteIds { site: ids.site, volume: ids.volume, page_size: ids.page_size };
        let mut options = SiteOptions::new(name, NODE);
        options.create = Some(ids);
        let site = Site::open(&MemDir::new(), self.env.clone(), options).unwrap();
        let log = BucketRemote::new(self.objects.clone(), ids.volume, ids.page_size);
        self.sites.insert(name.to_owned(), (site, log));
    }

    fn site(&self, volume: VolumeId) -> &(Site, BucketRemote) {
        self.sites.values().find(|(site, _)| site.ids().volume == volume).unwrap()
    }

    fn push(&self, session: &mut ServerSession, volume: VolumeId, batch: PushBatch) -> PushAnswer {
        let (site, log) = self.site(volume);
        let record = |m: PushMutation| MutationRecord {
            seq: m.seq,
            base: m.base,
            time_ms: m.time_ms,
            bytes: m.bytes,
        };
        let batch = Batch {
            timeline: batch.timeline,
            device: DEVICE,
            first_seq: batch.first_seq,
            prev_hash: batch.prev_hash,
            mutations: batch.mutations.into_iter().map(record).collect(),
        };
        let batch_timeline = batch.timeline;
        let mut led = site.lead(&[batch], log, 3).unwrap();
        if let Some(commit) = led.commit {
            session.changed(commit.volume, (commit.lsn, commit.time_ms), &[commit.encode()], &[]);
        }
        let base = site.base().0;
        match led.answers.remove(0) {
            Answer::Verdicts { first_seq, verdicts, lsn } => {
                let timeline = batch_timeline;
                let stands = led.stands.into_iter().filter(|((of, _), _)| *of == timeline);
                let pack = |bits: OpBits| wire::OpStands {
                    ops: u32::try_from(bits.len()).unwrap(),
                    packed: bits.to_bytes(),
                };
                let stands = stands.map(|((_, seq), bits)| (seq, pack(bits))).collect();
                PushAnswer::Verdicts { first_seq, verdicts, stands, lsn: lsn.min(base) }
            }
            other => panic!("{other:?}"),
        }
    }

    fn head(&self) -> Lsn {
        self.sites.get(NAME).map_or(Lsn::ZERO, |(_, log)| log.head().unwrap().lsn)
    }
}

fn opened(name: &str, site: &Site, log: &BucketRemote) -> OpenedSite {
    let ids = site.ids();
    let head = log.head().unwrap();
    OpenedSite {
        name: name.to_owned(),
        site: ids.site,
        volume: ids.volume,
        head,
        parents: Vec::new(),
    }
}

/// One device, one node and what is between them.
struct World {
    env: Arc<ManualEnv>,
    site: Site,
    driver: Driver<Line>,
    node: Node,
    up: bool,
    session: Option<(u64, ServerSession)>,
    /// Every push that left the device, without its request's number.
    pushes: Vec<Bytes>,
    wakes: Arc<AtomicUsize>,
}

impl World {
    fn new(token: &str) -> Self {
        let env = Arc::new(ManualEnv::new(7));
        let objects = Arc::new(MemObjects::new());
        let wakes = Arc::new(AtomicUsize::new(0));
        let woken = Arc::clone(&wakes);
        let wishes = Wishes::new("the node", Events::default(), move || {
            woken.fetch_add(1, Ordering::Relaxed);
        });
        let options = SiteOptions::new(NAME, DEVICE);
        let site = Site::open(&MemDir::new(), env.clone(), options).unwrap();
        wishes.attach(NAME, site.clone());
        let weak = Arc::downgrade(&wishes);
        site.on_commit(move || weak.upgrade().unwrap().note_commit(NAME));
        let identity =
            Identity { device: DEVICE, token: token.to_owned(), agent: "test/1".to_owned() };
        let line = Line {
            dialled: None,
            dials: 0,
            hung_up: 0,
            frames: VecDeque::new(),
            room: usize::MAX,
            pages: Arc::new(BucketPages(objects.clone())),
        };
        let driver = Driver::new(wishes, identity, env.clone(), line);
        let node = Node { objects, env: env.clone(), sites: BTreeMap::new(), fate: Fate::Answered };
        let pushes = Vec::new();
        Self { env, site, driver, node, up: true, session: None, pushes, wakes }
    }

    fn exec(&self, sql: &str) {
        self.site.write(|tx| tx.execute_batch(sql).map_err(from_sqlite)).unwrap();
    }

    fn rows(&self, view: View) -> Vec<String> {
        let read = |conn: &rusqlite::Connection| {
            let mut rows =
                conn.prepare("SELECT what FROM todo ORDER BY id").map_err(from_sqlite)?;
            let rows = rows.query_map([], |row| row.get(0)).map_err(from_sqlite)?;
            rows.collect::<Result<_, _>>().map_err(from_sqlite)
        };
        self.site.read(view, read).unwrap()
    }

    fn ask(&self) -> Asked {
        self.driver.wishes().ask(NAME, Ask::EVERYTHING).unwrap()
    }

    fn step(&mut self) -> Option<u64> {
        self.driver.step()
    }

    fn wait_ms(&mut self, deadline: Option<u64>) {
        self.env.advance_ms(deadline.unwrap() - self.env.now_ms());
    }

    fn cut(&mut self) {
        let (number, _) = self.session.take().unwrap();
        self.driver.closed(number, Error::new(ErrorKind::Unavailable, "cut"));
    }

    /// Steps and moves frames until nothing moves; the deadline then.
    fn run(&mut self) -> Option<u64> {
        loop {
            let deadline = self.driver.step();
            if !(self.dial() || self.move_to_node() || self.move_to_device()) {
                return deadline;
            }
        }
    }

    fn dial(&mut self) -> bool {
        let Some(number) = self.driver.transport().dialled.take() else { return false };
        if self.up {
            self.session = Some((number, ServerSession::new(NODE, self.env.now_ms())));
            self.driver.connected(number);
        } else {
            self.driver.closed(number, Error::new(ErrorKind::Unavailable, "nobody there"));
        }
        true
    }

    fn move_to_node(&mut self) -> bool {
        let Some((_, session)) = &mut self.session else { return false };
        let Some(frame) = self.driver.transport().frames.pop_front() else { return false };
        if let Body::Push(mut push) = wire::decode(frame.clone()).unwrap() {
            push.request = 0;
            self.pushes.push(wire::encode(Body::Push(push)));
        }
        session.frame(frame, self.env.now_ms());
        while let Some(wanted) = session.poll_request() {
            if !self.node.serve(session, wanted) {
                self.cut();
                return true;
            }
        }
        true
    }

    fn move_to_device(&mut self) -> bool {
        let Some((number, session)) = &mut self.session else { return false };
        match session.poll_frame() {
            Some(frame) => self.driver.frame(*number, frame),
            None if session.is_closing() => self.cut(),
            None => return false,
        }
        true
    }

    /// Somebody else, who appends to the bucket without a word to the node.
    fn other(&self) -> Other {
        let ids = self.node.sites[NAME].0.ids();
        let mut options = SiteOptions::new(NAME, DeviceId::from_bytes([5; 16]));
        options.create = Some(ids);
        let site = Site::open(&MemDir::new(), self.env.clone(), options).unwrap();
        let log = BucketRemote::new(self.node.objects.clone(), ids.volume, ids.page_size);
        let log = Arc::new(log);
        site.set_remote(Some(log.clone()));
        site.exchange_with_log(log.as_ref()).unwrap();
        Other { site, log }
    }

    fn events(&self) -> Vec<Event> {
        std::iter::from_fn(|| self.driver.wishes().events().try_next()).collect()
    }
}

struct Other {
    site: Site,
    log: Arc<BucketRemote>,
}

impl Other {
    /// Appends a change.
    fn sql(&self, sql: &str) {
        self.site.write(|tx| tx.execute_batch(sql).map_err(from_sqlite)).unwrap();
        self.site.exchange_with_log(self.log.as_ref()).unwrap();
    }
}

/// A world whose site has one row to push.
fn world() -> World {
    let world = World::new("secret");
    world.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY, what TEXT)");
    world.exec("INSERT INTO todo(what) VALUES ('milk')");
    world
}

#[test]
fn one_thread_connects_opens_pushes_and_takes_the_verdicts() {
    let mut world = world();
    let asked = world.ask();
    assert!(asked.outcome().is_none() && !world.driver.wishes().is_connected());
    world.run();
    let tally = asked.outcome().unwrap().unwrap();
    assert_eq!((tally.pushed, tally.confirmed, tally.pulled), (2, 2, 1), "{tally:?}");
    assert!(world.driver.wishes().is_connected() && !world.driver.wishes().is_online(NAME));
    assert_eq!(world.site.base().0, world.node.head());
    assert_eq!(world.rows(View::Global), ["milk"]);
    let events = world.events();
    let [Event::Online { server }, Event::Changed { site, confirmed: 2, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!((server.as_str(), site.as_str()), ("the node", NAME));
    // With nothing new, nothing is pushed and nothing is learnt.
    let again = world.ask();
    world.run();
    assert_eq!(again.outcome().unwrap().unwrap(), crate::exchange::Tally::default());
    assert_eq!(world.pushes.len(), 1);
}

#[test]
fn a_push_cut_half_way_is_repeated_byte_for_byte_and_applied_once() {
    for fate in [Fate::RequestLost, Fate::AnswerLost] {
        let mut world = world();
        let asked = world.ask();
        world.run();
        assert_eq!((asked.outcome().unwrap().unwrap().pushed, world.events().len()), (2, 2));
        drop(asked);

        world.exec("INSERT INTO todo(what) VALUES ('bread')");
        world.node.fate = fate;
        let asked = world.ask();
        let deadline = world.run();
        assert!(asked.outcome().is_none(), "who waits is not told of a connection that broke");
        assert_eq!(world.node.head(), Lsn(1 + u64::from(fate == Fate::AnswerLost)));
        assert!(!world.driver.wishes().is_connected());

        // Work that is done meanwhile waits for the next batch.
        world.exec("INSERT INTO todo(what) VALUES ('eggs')");
        world.node.fate = Fate::Answered;
        world.wait_ms(deadline);
        world.run();
        let tally = asked.outcome().unwrap().unwrap();
        assert_eq!((tally.pushed, tally.confirmed), (2, 2), "{fate:?} {tally:?}");
        let [_, first, second, _] = &world.pushes[..] else { panic!("{}", world.pushes.len()) };
        assert_eq!(first, second, "{fate:?}");
        assert_eq!(world.node.head(), Lsn(3), "{fate:?}");
        assert_eq!(world.rows(View::Global), ["milk", "bread", "eggs"]);
        let events = world.events();
        let offline = events.iter().filter(|e| matches!(e, Event::Offline { .. })).count();
        assert_eq!(offline, 1, "{events:?}");
    }
}

#[test]
fn frames_without_room_wait_and_keep_their_order() {
    let mut world = world();
    world.driver.transport().room = 0;
    let asked = world.ask();
    world.run();
    world.run();
    assert!(world.driver.transport().frames.is_empty() && asked.outcome().is_none());
    world.driver.transport().room = 1;
    world.run();
    assert_eq!(asked.outcome().unwrap().unwrap().pushed, 2);
}

#[test]
fn a_node_that_is_not_there_is_tried_again_at_the_deadline_and_no_sooner() {
    let mut world = world();
    world.up = false;
    world.driver.wishes().set_online(NAME, true);
    let asked = world.ask();
    let deadline = world.run();
    assert_eq!(asked.outcome().unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    drop(asked);
    assert!(deadline.unwrap() > world.env.now_ms());
    assert_eq!(world.run(), deadline);
    assert_eq!(world.driver.transport().dials, 1);
    world.wait_ms(deadline);
    let deadline = world.run();
    assert_eq!(world.driver.transport().dials, 2);
    assert_eq!(world.events().len(), 1, "told once that nobody answers");
    world.up = true;
    world.wait_ms(deadline);
    world.run();
    assert!(world.driver.wishes().is_connected());
    assert_eq!(world.site.base().0, Lsn(1), "what is online is pushed without being asked");
    let wakes = world.wakes.load(Ordering::Relaxed);
    world.exec("INSERT INTO todo(what) VALUES ('bread')");
    assert_eq!(world.wakes.load(Ordering::Relaxed), wakes + 1);
    world.run();
    assert_eq!(world.node.head(), Lsn(2));
}

#[test]
fn who_looks_now_does_not_wait_for_the_deadline() {
    let mut world = world();
    world.up = false;
    let wishes = Arc::clone(world.driver.wishes());
    wishes.look_now(NAME);
    assert_eq!(world.run(), None, "nothing for a site that is not online");
    wishes.set_online(NAME, true);
    world.run();
    assert_eq!(world.driver.transport().dials, 1);
    world.up = true;
    wishes.look_now(NAME);
    world.run();
    assert_eq!((world.driver.transport().dials, world.site.base().0), (2, Lsn(1)));
    // What nobody has announced is found.
    let other = world.other();
    other.sql("INSERT INTO todo(what) VALUES ('tea')");
    world.run();
    assert_eq!(world.site.base().0, Lsn(1));
    wishes.look_now(NAME);
    world.run();
    assert_eq!(world.site.base().0, Lsn(2));
}

/// The verdict arrives before the commit that the node merged it with.
#[test]
fn a_verdict_tells_which_operations_came_out_as_they_were_sent() {
    let mut world = world();
    drop(world.ask());
    world.driver.wishes().set_online(NAME, true);
    world.run();
    world.other().sql("UPDATE todo SET what = 'oat milk' WHERE id = 1");
    world.events();
    world.exec(
        "UPDATE todo SET what = 'rice milk' WHERE id = 1; INSERT INTO todo VALUES (9, 'tea')",
    );
    let asked = world.ask();
    world.run();
    let tally = asked.outcome().unwrap().unwrap();
    let [(3, ops)] = &tally.merges[..] else { panic!("{tally:?}") };
    assert_eq!(ops.stands.iter().collect::<Vec<_>>(), [false, true]);
    let [altered] = &ops.altered[..] else { panic!("{ops:?}") };
    assert_eq!((altered.at, &*altered.summary), (0, "update todo 1 (what)"));
    let told = world.events().into_iter().filter_map(|event| match event {
        Event::Merged { seq: 3, ops, .. } => Some(ops),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), std::slice::from_ref(ops));
    assert_eq!(world.rows(View::Global), ["rice milk", "tea"]);
}

#[test]
fn a_mutation_that_asks_is_told_once() {
    let mut world = world();
    world.driver.wishes().set_online(NAME, true);
    world.run();
    let other = world.other();
    other.sql("SELECT sheaf_lock('door', 0, 'reject'); INSERT INTO todo VALUES (7, 'theirs')");
    world.events();
    world.exec("SELECT sheaf_lock('door', 0, 'ask'); INSERT INTO todo VALUES (8, 'ours')");
    world.run();
    other.sql("INSERT INTO todo VALUES (9, 'more of theirs')");
    world.driver.wishes().look_now(NAME);
    world.run();
    let asks: Vec<u64> = world
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Asks { seq, .. } => Some(seq),
            _ => None,
        })
        .collect();
    assert_eq!((asks, world.site.asking().map(|asking| asking.seq)), (vec![3], Some(3)));
}

#[test]
fn a_refused_device_dials_again_only_when_asked() {
    let mut world = World::new("wrong");
    let asked = world.ask();
    assert_eq!(world.run(), None);
    assert_eq!(asked.outcome().unwrap().unwrap_err().kind(), ErrorKind::Denied);
    world.env.advance_ms(3_600_000);
    world.run();
    assert_eq!(world.driver.transport().dials, 1);
    let again = world.ask();
    assert!(again.outcome().is_none(), "an old refusal is no answer to a new wish");
    world.run();
    assert_eq!(world.driver.transport().dials, 2);
    assert_eq!(again.outcome().unwrap().unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_connection_that_nobody_uses_is_hung_up() {
    let mut world = world();
    let asked = world.ask();
    world.run();
    let now = world.env.now_ms();
    drop(asked);
    let deadline = world.run();
    assert_eq!(deadline, Some(now + millis(limits::LINGER)));
    assert_eq!(world.driver.transport().hung_up, 0);
    world.wait_ms(deadline);
    assert_eq!(world.step(), None);
    assert_eq!(world.driver.transport().hung_up, 1);
    assert!(!world.driver.wishes().is_connected());
    // Words of the connection that was given up count for nothing.
    world.cut();
    assert_eq!(world.step(), None);
    assert_eq!(world.driver.transport().dials, 1);
}

#[test]
fn a_site_that_was_taken_away_and_a_driver_that_is_gone_answer_closed() {
    let mut world = world();
    let asked = world.ask();
    world.step();
    assert!(world.driver.wishes().detach(NAME));
    world.run();
    assert_eq!(asked.outcome().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    let wishes = Arc::clone(world.driver.wishes());
    assert_eq!(wishes.ask(NAME, Ask::EVERYTHING).unwrap_err().kind(), ErrorKind::Closed);
    wishes.attach(NAME, world.site.clone());
    let asked = world.ask();
    drop(world.driver);
    assert_eq!(asked.outcome().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn pushes_too_large_to_wait_together_end_the_connection_at_once_and_arrive_after_it() {
    // A push offers one of these, and those of four sites are more than a session keeps for its
    // transport.
    let large = sheaf_sync::limits::OUT_BYTES_MAX / 4 + 1;
    let mut world = world();
    let wishes = Arc::clone(world.driver.wishes());
    let mut sites = vec![(NAME, world.site.clone())];
    for name in ["second", "third", "fourth"] {
        let options = SiteOptions::new(name, DEVICE);
        let site = Site::open(&MemDir::new(), world.env.clone(), options).unwrap();
        wishes.attach(name, site.clone());
        wishes.set_online(name, true);
        sites.push((name, site));
    }
    wishes.set_online(NAME, true);
    world.run();
    for (name, site) in &sites {
        // The table travels alone, so that every offer is as large as can be.
        let create =
            |tx: &rusqlite::Transaction<'_>| tx.execute_batch("CREATE TABLE large(bytes BLOB)");
        site.write(|tx| create(tx).map_err(from_sqlite)).unwrap();
        wishes.note_commit(name);
    }
    world.run();
    for (name, site) in &sites {
        let insert = format!("INSERT INTO large VALUES (zeroblob({large}))");
        site.write(|tx| tx.execute_batch(&insert).map_err(from_sqlite)).unwrap();
        wishes.note_commit(name);
    }
    let deadline = world.step();
    assert_eq!(world.driver.transport().hung_up, 1);
    assert!(!wishes.is_connected());
    // The node's end of the connection that was given up has nothing more to say.
    world.session = None;
    world.wait_ms(deadline);
    world.run();
    assert!(sites.iter().all(|(_, site)| site.status().pending.is_empty()));
}

/// Each commit taken redoes all that is still pending, so a long timeline is pushed first.
#[test]
fn commits_are_left_with_the_node_while_there_is_much_to_push() {
    let mut world = World::new("secret");
    world.exec("CREATE TABLE todo(id INTEGER PRIMARY KEY, what TEXT)");
    for _ in 0..30 {
        world.exec("INSERT INTO todo(what) VALUES (hex(randomblob(500000)))");
    }
    let _asked = world.ask();
    let mut bases = std::collections::BTreeSet::new();
    loop {
        world.step();
        bases.insert(world.site.base().0);
        if !(world.dial() || world.move_to_node() || world.move_to_device()) {
            break;
        }
    }
    assert!(world.pushes.len() >= 7, "{} pushes of 30 MB", world.pushes.len());
    assert_eq!(world.site.base().0, world.node.head());
    assert!(world.site.volume().is_timeline_empty());
    assert_eq!(world.rows(View::Global).len(), 30);
    assert!(bases.len() <= 5, "30 MB were redone again and again: {bases:?}");
}

/// The node decides up to the one that asks, and the device sends it again only when its user has
/// answered: not at once, and not for ever.
#[test]
fn what_asks_its_user_is_sent_again_when_it_is_answered() {
    let mut world = world();
    let _first = world.ask();
    world.run();
    let (node, log) = &world.node.sites[NAME];
    let take = |mode: &str, what: &str| {
        format!("SELECT sheaf_lock('list', 0, '{mode}'); INSERT INTO todo(what) VALUES ('{what}')")
    };
    let theirs = take("merge", "of the node");
    node.write(|tx| tx.execute_batch(&theirs).map_err(from_sqlite)).unwrap();
    node.exchange_with_log(log).unwrap();

    world.exec("INSERT INTO todo(what) VALUES ('bread')");
    world.exec(&take("ask", "eggs"));
    world.exec("INSERT INTO todo(what) VALUES ('salt')");
    let asked = world.ask();
    world.run();
    assert_eq!(asked.outcome().unwrap().unwrap().pushed, 1);
    assert_eq!(world.pushes.len(), 2);
    assert_eq!(world.rows(View::Global), ["milk", "of the node", "bread"]);
    assert_eq!(world.rows(View::Local), ["milk", "of the node", "bread", "salt"]);
    let asking = world.site.asking().unwrap();
    assert_eq!(asking.seq, 4, "{asking:?}");
    let asked = world.ask();
    world.run();
    assert_eq!((asked.outcome().unwrap().unwrap().pushed, world.pushes.len()), (0, 2));

    world.site.go_on(asking.seq).unwrap();
    let asked = world.ask();
    world.run();
    assert_eq!((asked.outcome().unwrap().unwrap().pushed, world.pushes.len()), (2, 3));
    assert_eq!(world.rows(View::Global), ["milk", "of the node", "bread", "eggs", "salt"]);
    assert!(world.site.volume().is_timeline_empty() && world.site.asking().is_none());
}
