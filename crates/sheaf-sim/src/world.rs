//! The scheduler: virtual time, hosts that take turns, and the faults that strike them.
//!
//! Invariant: events happen in the order of their time, and of their making when times are equal;
//! every draw comes from a generator that follows from the seed. Leaves out what hosts do: see
//! [`crate::device`], [`crate::node`] and [`crate::keeper`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    bucket::Bucket,
    check::{Checked, Violation, bounds},
    device::Memory,
    disk::SimDisk,
    env::Clock,
    fiber::{Fiber, Turn},
    net::{Body, Network, Packet, Weather},
    options::Options,
    oracle::SiteOracle,
    rng::Rng,
    trace::Trace,
};

mod faults;
mod host;

pub(crate) use host::Host;

/// Events of one run, at most: some twenty times what a busy one has.
const EVENTS_MAX: u64 = 1_000_000;

/// Which host: devices first, then nodes, then keepers.
pub(crate) type HostId = usize;

/// Something that happens at a time.
#[derive(Debug)]
enum Event {
    /// A host's program goes on, unless it went on for another reason.
    Wake { host: HostId, turn: u64 },
    /// A machine starts its program.
    Start { host: HostId },
    /// A packet arrives.
    Deliver(Packet),
    /// A write that was thought lost is done; without bytes, a deletion.
    Late { bucket: Arc<Bucket>, key: String, bytes: Option<Bytes> },
    /// A fault of the schedule.
    Fault(faults::Scheduled),
    /// The oracle looks whether all have come to rest.
    Look,
}

/// A machine: what outlives its processes.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) clock: Clock,
    /// What its disks hold, by site, while no process runs.
    pub(crate) disks: BTreeMap<String, SimDisk>,
    /// Whether power was cut since a replica was last open, by site.
    pub(crate) power_cut: BTreeMap<String, bool>,
    pub(crate) starts: u64,
    running: Option<(Arc<Host>, Fiber)>,
    turn: u64,
    paused_until: u64,
    /// Who cannot be sent to, who cannot be heard.
    pub(crate) deaf: bool,
    pub(crate) mute: bool,
    /// Whether its program has come to rest, as it says itself.
    pub(crate) rests: bool,
}

/// Everything about a run that is not a host's own.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) buckets: Vec<Arc<Bucket>>,
    pub(crate) oracles: Vec<Mutex<SiteOracle>>,
    pub(crate) memories: Vec<Mutex<Memory>>,
    state: Mutex<State>,
}

struct State {
    now: u64,
    made: u64,
    numbers: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: BTreeMap<(u64, u64), Event>,
    machines: Vec<Machine>,
    trace: Trace,
    counts: BTreeMap<&'static str, u64>,
    faulty: bool,
    stopping: bool,
    violation: Option<Violation>,
    rng: Rng,
    network: Network,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.options.seed).finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The claim that does not hold, if one was found.
    pub violation: Option<Violation>,
    /// Hash of everything that happened.
    pub trace: String,
    /// How many lines that was.
    pub lines: u64,
    /// The newest of them.
    pub newest: Vec<String>,
    /// Virtual milliseconds.
    pub simulated_ms: u64,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// A world in which nothing has happened.
    pub(crate) fn new(options: Options, trace: Trace) -> Arc<Self> {
        let buckets: Vec<_> = (0..options.buckets).map(|_| Arc::new(Bucket::default())).collect();
        let oracle = |k: usize| {
            let bucket = buckets.get(k % buckets.len().max(1)).cloned().unwrap_or_default();
            Mutex::new(SiteOracle::new(&format!("s{k}"), bucket))
        };
        let oracles = (0..options.sites).map(oracle).collect();
        let mut rng = Rng::new(options.seed).fork("world");
        let names = (0..options.devices).map(|k| format!("d{k}"));
        let names = names.chain((0..options.nodes).map(|k| format!("n{k}")));
        let names = names.chain((0..options.keeping.keepers).map(|k| format!("k{k}")));
        let machines = names.map(|name| Machine::new(name, &options, &mut rng)).collect();
        let state = State {
            now: 0,
            made: 0,
            numbers: 0,
            events: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            machines,
            trace,
            counts: BTreeMap::new(),
            faulty: true,
            stopping: false,
            violation: None,
            rng,
            network: Network::default(),
        };
        let memories = (0..options.devices).map(|_| Mutex::default()).collect();
        Arc::new(Self { options, buckets, oracles, memories, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Runs to the end.
    pub(crate) fn run(self: &Arc<Self>) -> Outcome {
        self.begin();
        let mut happened = 0;
        while let Some(event) = self.next() {
            happened += 1;
            if happened > EVENTS_MAX {
                self.violated(bounds::still_waiting("the world", "too many events"));
            }
            self.happen(event);
            let found = self.observe();
            if let Err(violation) = found {
                self.violated(violation);
            }
            if self.state().violation.is_some() || self.state().stopping {
                break;
            }
        }
        self.finish();
        let state = self.state();
        Outcome {
            violation: state.violation.clone(),
            trace: state.trace.hash(),
            lines: state.trace.lines(),
            newest: state.trace.newest(),
            simulated_ms: state.now,
            counts: state.counts.clone(),
        }
    }

    fn begin(&self) {
        let hosts = self.state().machines.len();
        for host in 0..hosts {
            // A device does not wait for the others to be switched on.
            let at = self.state().rng.between(0, 2_000);
            self.at(at, Event::Start { host });
        }
        self.schedule_faults(hosts);
        let end = self.options.safety_ms;
        self.at(end, Event::Fault(faults::Scheduled::End));
    }

    fn next(&self) -> Option<Event> {
        let mut state = self.state();
        let Reverse(key) = state.events.pop()?;
        state.now = key.0;
        state.waiting.remove(&key)
    }

    /// Makes an event.
    fn at(&self, time_ms: u64, event: Event) {
        let mut state = self.state();
        state.made += 1;
        let key = (time_ms.max(state.now), state.made);
        state.events.push(Reverse(key));
        state.waiting.insert(key, event);
    }

    fn happen(self: &Arc<Self>, event: Event) {
        match event {
            Event::Wake { host, turn } => {
                let paused = self
                    .state()
                    .machine(host)
                    .and_then(|machine| (machine.turn == turn).then_some(machine.paused_until));
                match paused {
                    Some(until) if until > self.now() => self.at(until, Event::Wake { host, turn }),
                    Some(_) => self.go_on(host),
                    None => {}
                }
            }
            Event::Start { host } => self.start(host),
            Event::Deliver(packet) => self.deliver(packet),
            Event::Late { bucket, key, bytes } => {
                let (what, done) = match bytes {
                    Some(bytes) => ("create", bucket.create(&key, bytes)),
                    None => ("deletion", bucket.delete(&key)),
                };
                self.trace(&"bucket", format_args!("late {what} of {key}: {done}"));
            }
            Event::Fault(fault) => self.strike(fault),
            Event::Look => self.look(),
        }
    }

    /// Starts a machine's program on what its disks hold.
    fn start(self: &Arc<Self>, id: HostId) {
        let mut state = self.state();
        let rng = state.rng.fork("host");
        let Some(machine) = state.machine(id) else { return };
        if machine.running.is_some() {
            return;
        }
        machine.starts += 1;
        machine.rests = false;
        let name = machine.name.clone();
        let starts = machine.starts;
        drop(state);
        self.trace(&name, format_args!("starts ({starts})"));
        let program = match id {
            device if device < self.options.devices => crate::device::run,
            node if node < self.options.devices + self.options.nodes => crate::node::run,
            _ => crate::keeper::run,
        };
        let world = Arc::clone(self);
        let mut made = None;
        let fiber = Fiber::new(&name, |baton| {
            let host = Host::new(id, &name, world, baton, rng);
            made = Some(Arc::clone(&host));
            move || program(&host)
        });
        let Some(host) = made else { return };
        if let Some(machine) = self.state().machine(id) {
            machine.running = Some((host, fiber));
        }
        self.go_on(id);
    }

    /// Gives a host its turn, until it waits.
    fn go_on(&self, id: HostId) {
        let running = self.state().machine(id).and_then(|machine| {
            machine.turn += 1;
            machine.running.take()
        });
        let Some((host, mut fiber)) = running else { return };
        match fiber.resume() {
            Turn::Waits => {
                if let Some(machine) = self.state().machine(id) {
                    machine.running = Some((host, fiber));
                }
            }
            Turn::Ended => self.ended(id, &host),
            Turn::Panicked(message) => {
                self.violated(Violation {
                    claim: "no panic",
                    what: format!("{}: {message}", host.name),
                });
            }
            Turn::Stuck => {
                self.violated(bounds::stuck(&host.name));
                // Its thread is lost; the process ends with the report.
                std::mem::forget(fiber);
            }
        }
    }

    /// A program is over: its machine starts it again after a while.
    fn ended(&self, id: HostId, host: &Host) {
        host.leave();
        let mut state = self.state();
        if state.stopping {
            return;
        }
        let pause = state.rng.between(10, 5_000);
        let at = state.now + pause;
        drop(state);
        self.at(at, Event::Start { host: id });
    }

    /// Ends a machine's process where it stands.
    fn crash(&self, id: HostId, power_cut: bool) {
        let running = self.state().machine(id).and_then(|machine| {
            machine.turn += 1;
            machine.running.take()
        });
        let Some((host, mut fiber)) = running else { return };
        host.die(power_cut);
        // The program unwinds by itself: nothing it does has an effect any more.
        let mut turns = 0;
        loop {
            match fiber.resume() {
                Turn::Waits if turns < 100_000 => turns += 1,
                Turn::Waits | Turn::Stuck => {
                    self.violated(bounds::stuck(&host.name));
                    std::mem::forget(fiber);
                    return;
                }
                Turn::Ended => break,
                Turn::Panicked(message) => {
                    let what = format!("{} after a crash: {message}", host.name);
                    self.violated(Violation { claim: "no panic", what });
                    return;
                }
            }
        }
        self.ended(id, &host);
    }

    fn deliver(&self, packet: Packet) {
        let to = packet.to;
        let now = self.now();
        let mut state = self.state();
        let Some(machine) = state.machine(to) else { return };
        let turn = machine.turn;
        let Some((host, _)) = &machine.running else {
            // The machine is up and its process is not: connections are refused.
            let (conn, from) = (packet.body.conn(), packet.from);
            drop(state);
            if let Some(conn) = conn.filter(|_| !matches!(packet.body, Body::Hangup { .. })) {
                self.send(Packet { from: to, to: from, body: Body::Hangup { conn } });
            }
            return;
        };
        let host = Arc::clone(host);
        drop(state);
        if host.receive(packet) {
            self.at(now, Event::Wake { host: to, turn });
        }
    }

    /// Ends every program, and runs the last checks of a run that found nothing.
    fn finish(&self) {
        let hosts = self.state().machines.len();
        self.state().stopping = true;
        for id in 0..hosts {
            self.crash(id, false);
        }
        if self.state().violation.is_some() {
            return;
        }
        let mut rng = Rng::new(self.options.seed).fork("audit");
        for oracle in &self.oracles {
            let oracle = locked(oracle);
            let audit = oracle.audit().and_then(|()| oracle.keeps(&self.options, &mut rng));
            drop(oracle);
            if let Err(violation) = audit {
                self.violated(violation);
            }
        }
    }

    fn observe(&self) -> Checked {
        self.oracles.iter().try_for_each(|oracle| locked(oracle).observe())
    }

    /// After the faults: whether all have come to rest, and whether they took too long.
    fn look(&self) {
        let mut state = self.state();
        let all_rest = state.machines.iter().all(|machine| machine.rests);
        let limit = self.options.safety_ms + self.options.liveness_ms;
        if all_rest {
            state.stopping = true;
            return;
        }
        let now = state.now;
        let waits = state.machines.iter().find(|machine| !machine.rests).map(|m| m.name.clone());
        drop(state);
        if now >= limit {
            let who = waits.unwrap_or_default();
            self.violated(bounds::still_waiting(&who, "no rest within the bound"));
            return;
        }
        self.at(now + 250, Event::Look);
    }

    // What hosts use.

    pub(crate) fn now(&self) -> u64 {
        self.state().now
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.state().faulty
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.state().counts.entry(what).or_default() += 1;
    }

    pub(crate) fn trace(&self, who: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        let mut state = self.state();
        let now = state.now;
        state.trace.line(now, who, what);
    }

    /// A claim does not hold: the run ends with this turn.
    pub(crate) fn violated(&self, violation: Violation) {
        let mut state = self.state();
        let now = state.now;
        state.trace.line(now, &"FOUND", format_args!("{violation}"));
        state.violation.get_or_insert(violation);
    }

    /// A number that was never given out in this run.
    pub(crate) fn number(&self) -> u64 {
        let mut state = self.state();
        state.numbers += 1;
        state.numbers
    }

    /// The node that a device uses for a site, unless it uses the bucket.
    pub(crate) fn node_for(&self, device: HostId, site: usize) -> Option<HostId> {
        let options = &self.options;
        let bucket = site % options.buckets.max(1);
        let serves = |node: &usize| node % options.buckets.max(1) == bucket;
        let nodes: Vec<usize> = (0..options.nodes).filter(serves).collect();
        let direct = (device as u64 * 37 + options.seed) % 100 < options.direct_percent;
        let node = nodes.get(device.checked_rem(nodes.len())?)?;
        (!direct).then_some(options.devices + node)
    }

    pub(crate) fn wake_at(&self, host: HostId, at: u64) {
        let turn = self.state().machine(host).map(|machine| machine.turn);
        if let Some(turn) = turn {
            self.at(at, Event::Wake { host, turn });
        }
    }

    pub(crate) fn with_machine<T>(
        &self,
        id: HostId,
        f: impl FnOnce(&mut Machine) -> T,
    ) -> Option<T> {
        self.state().machine(id).map(f)
    }

    pub(crate) fn late(&self, bucket: &Arc<Bucket>, key: &str, bytes: Option<&Bytes>, after: u64) {
        let at = self.now() + after;
        let (bucket, key, bytes) = (Arc::clone(bucket), key.to_owned(), bytes.cloned());
        self.at(at, Event::Late { bucket, key, bytes });
    }

    /// Sends a packet on its way, by what the network does to it.
    pub(crate) fn send(&self, packet: Packet) {
        let mut guard = self.state();
        let state = &mut *guard;
        let weather = Weather {
            faults: &self.options.faults.network,
            faulty: state.faulty,
            cut: state.is_cut(packet.from, packet.to),
            now: state.now,
        };
        let arrivals = state.network.send(packet, &weather, &mut state.rng);
        for name in arrivals.counts {
            *state.counts.entry(name).or_default() += 1;
        }
        drop(guard);
        for (at, packet) in arrivals.packets {
            self.at(at, Event::Deliver(packet));
        }
    }

    /// Whether a host hears nothing or is not heard.
    pub(crate) fn is_cut_off(&self, id: HostId) -> bool {
        self.state().machine(id).is_some_and(|machine| machine.deaf || machine.mute)
    }
}

impl State {
    fn machine(&mut self, id: HostId) -> Option<&mut Machine> {
        self.machines.get_mut(id)
    }

    fn is_cut(&self, from: HostId, to: HostId) -> bool {
        let mute = self.machines.get(from).is_some_and(|machine| machine.mute);
        mute || self.machines.get(to).is_some_and(|machine| machine.deaf)
    }
}

impl Machine {
    fn new(name: String, options: &Options, rng: &mut Rng) -> Self {
        Self {
            name,
            clock: faults::clock(&options.faults.clock, rng),
            disks: BTreeMap::new(),
            power_cut: BTreeMap::new(),
            starts: 0,
            running: None,
            turn: 0,
            paused_until: 0,
            deaf: false,
            mute: false,
            rests: false,
        }
    }
}
