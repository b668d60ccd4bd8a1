//! One process on one machine: what its program may ask of the world.
//!
//! Invariant: once a process is dead, nothing it does has an effect: its disks refuse, its packets
//! are dropped, its waits end at once. So a crash can strike in the middle of anything, and the
//! program still unwinds by itself, through SQLite's frames too. Leaves out the program.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use super::{HostId, World, locked};
use crate::{
    bucket::Bucket,
    check::{Checked, Violation},
    device::Memory,
    disk::{DiskFault, DiskHook, DiskOp, SimDisk},
    fiber::Baton,
    net::{Body, Packet},
    oracle::SiteOracle,
    rng::Rng,
};

/// A process.
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) name: String,
    pub(crate) world: Arc<World>,
    baton: Arc<Baton>,
    dead: AtomicBool,
    rng: Mutex<Rng>,
    disks: Mutex<BTreeMap<String, SimDisk>>,
    inbox: Mutex<VecDeque<Packet>>,
    /// Whether a packet may end the present wait.
    listening: AtomicBool,
    /// A fault has struck a disk of this process.
    disk_failed: AtomicBool,
    /// A flush failed: the operating system may have dropped what it could not write.
    flush_failed: AtomicBool,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.name).finish()
    }
}

impl Host {
    pub(super) fn new(
        id: HostId,
        name: &str,
        world: Arc<World>,
        baton: Arc<Baton>,
        rng: Rng,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            name: name.to_owned(),
            world,
            baton,
            dead: AtomicBool::new(false),
            rng: Mutex::new(rng),
            disks: Mutex::default(),
            inbox: Mutex::default(),
            listening: AtomicBool::new(false),
            disk_failed: AtomicBool::new(false),
            flush_failed: AtomicBool::new(false),
        })
    }

    /// A generator of this process for one purpose.
    pub(crate) fn rng(&self, label: &str) -> Rng {
        locked(&self.rng).fork(label)
    }

    pub(crate) fn now(&self) -> u64 {
        self.world.now()
    }

    /// What this machine's clock shows.
    pub(crate) fn clock(&self) -> u64 {
        let now = self.now();
        self.world.with_machine(self.id, |machine| machine.clock).unwrap_or_default().shows(now)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Whether faults strike now.
    pub(crate) fn faulty(&self) -> bool {
        !self.is_dead() && self.world.is_faulty()
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.world.is_cut_off(self.id)
    }

    pub(crate) fn count(&self, what: &'static str) {
        if !self.is_dead() {
            self.world.count(what);
        }
    }

    pub(crate) fn trace(&self, what: fmt::Arguments<'_>) {
        if !self.is_dead() {
            self.world.trace(&self.name, what);
        }
    }

    /// Reports a claim that does not hold. What a dead process sees proves nothing.
    pub(crate) fn expect(&self, checked: Checked) {
        if let Err(violation) = checked {
            self.violated(violation);
        }
    }

    pub(crate) fn violated(&self, violation: Violation) {
        if !self.is_dead() {
            self.world.violated(violation);
        }
    }

    /// Lets time pass. Whatever arrives meanwhile waits.
    pub(crate) fn sleep(&self, ms: u64) {
        if self.is_dead() || ms == 0 {
            return;
        }
        let until = self.now() + ms;
        while !self.is_dead() && self.now() < until {
            self.world.wake_at(self.id, until);
            self.baton.wait();
        }
    }

    /// Lets time pass until then, or until something arrives.
    pub(crate) fn listen_until(&self, until: u64) {
        if self.is_dead() || until <= self.now() || !locked(&self.inbox).is_empty() {
            return;
        }
        self.listening.store(true, Ordering::Relaxed);
        self.world.wake_at(self.id, until);
        self.baton.wait();
        self.listening.store(false, Ordering::Relaxed);
    }

    /// What arrived, oldest first.
    pub(crate) fn take_packet(&self) -> Option<Packet> {
        locked(&self.inbox).pop_front()
    }

    /// The first packet that arrived and answers this.
    fn take_answer(&self, wanted: impl Fn(&Body) -> bool) -> Option<Packet> {
        let mut inbox = locked(&self.inbox);
        let at = inbox.iter().position(|packet| wanted(&packet.body))?;
        inbox.remove(at)
    }

    /// Waits until then for a packet that is wanted; whatever else arrives stays for later.
    pub(crate) fn wait_for(&self, until: u64, wanted: impl Fn(&Body) -> bool) -> Option<Packet> {
        loop {
            let answer = self.take_answer(&wanted);
            if answer.is_some() || self.is_dead() || self.now() >= until {
                return answer.filter(|_| !self.is_dead());
            }
            self.listening.store(true, Ordering::Relaxed);
            self.world.wake_at(self.id, until);
            self.baton.wait();
            self.listening.store(false, Ordering::Relaxed);
        }
    }

    /// Whether a fault of this rate strikes now.
    pub(crate) fn chance(&self, per_million: u32) -> bool {
        self.faulty() && locked(&self.rng).chance(per_million)
    }

    /// A number that nobody else was given, for connections and questions.
    pub(crate) fn number(&self) -> u64 {
        self.world.number()
    }

    /// Takes a packet in; whether the program is to be woken.
    pub(super) fn receive(&self, packet: Packet) -> bool {
        locked(&self.inbox).push_back(packet);
        self.listening.load(Ordering::Relaxed)
    }

    pub(crate) fn send(&self, to: HostId, body: Body) {
        if !self.is_dead() {
            self.world.send(Packet { from: self.id, to, body });
        }
    }

    /// Has a write done when nobody waits for it any more; without bytes, a deletion.
    pub(crate) fn write_later(
        &self,
        bucket: &Arc<Bucket>,
        key: &str,
        bytes: Option<&Bytes>,
        after: u64,
    ) {
        self.world.late(bucket, key, bytes, after);
    }

    /// The disk of a name, as the last process left it, with this process's faults.
    pub(crate) fn disk(self: &Arc<Self>, name: &str) -> SimDisk {
        // A replica that was closed and is opened again by the same process.
        if let Some(disk) = locked(&self.disks).get(name) {
            return disk.clone();
        }
        let sector = self.world.options.sector;
        if self.is_dead() {
            // What the machine holds waits for its next start: nobody would give it back.
            let none = SimDisk::new(sector);
            none.kill_switch();
            return none;
        }
        let left = self.world.with_machine(self.id, |machine| machine.disks.remove(name)).flatten();
        let disk = left.unwrap_or_else(|| SimDisk::new(sector));
        let mut rng = self.rng("disk");
        let rot = self.world.options.faults.disk.rot;
        if rot > 0 && self.faulty() && rng.chance(rot) && disk.rot("main.db", &mut rng) {
            self.count("disk: rot");
            self.trace(format_args!("a bit has flipped on the disk of {name}"));
        }
        let rng = Mutex::new(rng);
        disk.set_hook(Some(Arc::new(Hook { host: Arc::downgrade(self), rng })));
        locked(&self.disks).insert(name.to_owned(), disk.clone());
        disk
    }

    /// A named point of the engine.
    pub(crate) fn at_point(&self, point: &'static str) -> io::Result<()> {
        if self.is_dead() {
            return Err(down());
        }
        self.world.count(point);
        let faults = &self.world.options.faults.process;
        if self.faulty() && locked(&self.rng).chance(faults.at_point) {
            self.world.count("process: crash at a point");
            self.trace(format_args!("dies at `{point}`"));
            self.crash();
            return Err(down());
        }
        Ok(())
    }

    /// Dies in the middle of what it does.
    fn crash(&self) {
        let power_cut = locked(&self.rng).chance(self.world.options.faults.process.power_cut);
        self.die(power_cut);
    }

    /// Nothing that this process does has an effect from here on. Its disks keep what a crash
    /// of this kind leaves.
    pub(super) fn die(&self, power_cut: bool) {
        if self.is_dead() {
            return;
        }
        self.world.count(if power_cut { "process: power cut" } else { "process: killed" });
        self.trace(format_args!("{}", if power_cut { "loses power" } else { "is killed" }));
        self.dead.store(true, Ordering::Relaxed);
        self.keep_disks(power_cut || self.flush_failed.load(Ordering::Relaxed));
    }

    /// The program has ended, by itself or after it died.
    pub(super) fn leave(&self) {
        if !self.is_dead() {
            self.trace(format_args!("ends"));
            self.dead.store(true, Ordering::Relaxed);
            // After a failed flush only a restart of the machine shows what is on the disk.
            self.keep_disks(self.flush_failed.load(Ordering::Relaxed));
        }
    }

    /// Whether a fault has struck a disk of this process.
    pub(crate) fn disk_failed(&self) -> bool {
        self.is_dead() || self.disk_failed.load(Ordering::Relaxed)
    }

    /// Whether a flush of this process has failed.
    pub(crate) fn flush_failed(&self) -> bool {
        self.flush_failed.load(Ordering::Relaxed)
    }

    /// What the simulator knows of this device across its restarts.
    pub(crate) fn memory<T>(&self, f: impl FnOnce(&mut Memory) -> T) -> T {
        let memory = self.world.memories.get(self.id);
        f(&mut locked(memory.expect("BUG: only devices have a memory")))
    }

    fn keep_disks(&self, power_cut: bool) {
        let disks = std::mem::take(&mut *locked(&self.disks));
        let mut rng = self.rng("crash");
        for (name, disk) in disks {
            let left = if power_cut { disk.power_cut(&mut rng) } else { disk.killed() };
            disk.kill_switch();
            self.world.with_machine(self.id, |machine| {
                *machine.power_cut.entry(name.clone()).or_default() |= power_cut;
                machine.disks.insert(name, left)
            });
        }
    }

    /// Asks the oracle of a site, which has looked at its bucket just now.
    pub(crate) fn oracle<T>(&self, site: usize, f: impl FnOnce(&mut SiteOracle) -> T) -> Option<T> {
        let mut oracle = locked(self.world.oracles.get(site)?);
        self.expect(oracle.observe());
        Some(f(&mut oracle))
    }

    /// Says whether this program has nothing left to do.
    pub(crate) fn rest(&self, rests: bool) {
        if !self.is_dead() {
            self.world.with_machine(self.id, |machine| machine.rests = rests);
        }
    }
}

/// What strikes a disk's operations.
struct Hook {
    host: std::sync::Weak<Host>,
    rng: Mutex<Rng>,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl DiskHook for Hook {
    fn before(&self, op: &DiskOp<'_>) -> DiskFault {
        let Some(host) = self.host.upgrade() else { return DiskFault::None };
        if !host.faulty() {
            return DiskFault::None;
        }
        let disk = host.world.options.faults.disk.clone();
        let mut rng = locked(&self.rng);
        let changes = !matches!(op, DiskOp::Read { .. } | DiskOp::List | DiskOp::Lock);
        if changes && rng.chance(host.world.options.faults.process.at_disk) {
            drop(rng);
            host.count("process: crash at a disk operation");
            host.crash();
            return DiskFault::Fail(io::ErrorKind::Other);
        }
        let fault = |name: &'static str, fault: DiskFault| {
            host.count(name);
            host.trace(format_args!("{name} {op:?}"));
            host.disk_failed.store(true, Ordering::Relaxed);
            fault
        };
        match op {
            DiskOp::Write { .. } | DiskOp::Truncate { .. } if rng.chance(disk.full) => {
                fault("disk: full", DiskFault::Fail(io::ErrorKind::StorageFull))
            }
            DiskOp::Write { len, .. } if rng.chance(disk.short) => {
                let keep = rng.index(*len);
                fault("disk: short write", DiskFault::Short { keep })
            }
            DiskOp::Flush { .. } if rng.chance(disk.flush_fails) => {
                host.flush_failed.store(true, Ordering::Relaxed);
                fault("disk: failed flush", DiskFault::FlushFails)
            }
            _ if rng.chance(disk.io_error) => {
                fault("disk: I/O error", DiskFault::Fail(io::ErrorKind::Other))
            }
            _ => DiskFault::None,
        }
    }
}

fn down() -> io::Error {
    io::Error::other("this host is down")
}

#[cfg(test)]
mod tests {
    use sheaf_volume::Dir as _;

    use super::*;
    use crate::{fiber::Fiber, options::Options, trace::Trace};

    #[test]
    fn a_dead_process_takes_no_disk_out_of_its_machine() {
        let world = World::new(Options::draw(0), Trace::new(0, false));
        let start = || {
            let mut made = None;
            let fiber = Fiber::new("d0", |baton| {
                let world = Arc::clone(&world);
                made = Some(Host::new(0, "d0", world, baton, Rng::new(0)));
                || {}
            });
            (made.unwrap(), fiber)
        };
        let list = |disk: SimDisk| {
            disk.set_hook(None);
            disk.list()
        };
        let (host, mut fiber) = start();
        for name in ["s0", "s1"] {
            let disk = host.disk(name);
            disk.set_hook(None);
            drop(disk.open("main.db").unwrap());
        }
        host.die(false);
        fiber.resume();
        // It dies between its disks, and does not notice before it has taken the second.
        let (host, mut fiber) = start();
        assert_eq!(list(host.disk("s0")).unwrap(), ["main.db"]);
        host.die(false);
        list(host.disk("s1")).unwrap_err();
        fiber.resume();
        let (host, mut fiber) = start();
        for name in ["s0", "s1"] {
            assert_eq!(list(host.disk(name)).unwrap(), ["main.db"], "{name}");
        }
        fiber.resume();
    }
}
