//! A device: people who write and read on its replicas, and the exchange with the rest.
//!
//! Invariant: what the replica answers goes to the checkers as it is; the program itself decides
//! nothing by it but when to try again. Leaves out threads: on a real device people, flushes and
//! exchanges run at once, here they take turns (how they share a store is examined by
//! `sheaf-volume/tests/shuttle.rs`).

use std::{collections::BTreeMap, sync::Arc};

use sheaf_volume::TimelineId;

use crate::{
    rng::Rng,
    workload::{Author, Transaction},
    world::Host,
};

mod answer;
mod editor;
mod look;
mod marks;
mod past;
mod replica;

use replica::Replica;

/// Mean pause between two looks at what a replica shows.
const LOOK_PAUSE_MS: u64 = 2_000;
/// A commit is flushed this long after it, as the client library does.
const FLUSH_AFTER_MS: u64 = 20;

/// What the simulator knows of a device across its restarts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Who writes, by site.
    pub(crate) authors: BTreeMap<usize, Author>,
    /// The commit that was under way when the process ended, by site.
    pub(crate) in_flight: BTreeMap<usize, (TimelineId, u64, Transaction)>,
    /// Whether the site's first transactions are made, by site: how many of them.
    pub(crate) founded: BTreeMap<usize, usize>,
}

/// Lives until it dies, or until its disk fails.
pub(crate) fn run(host: &Arc<Host>) {
    let mut replicas = Vec::new();
    for site in 0..host.world.options.sites {
        match Replica::open(host, site) {
            Some(replica) => replicas.push(replica),
            None => return,
        }
    }
    let rng = host.rng("device");
    // Who is never asked draws nothing.
    let does = &host.world.options.workload;
    let of = |is_wanted: bool, label: &str| is_wanted.then(|| host.rng(label));
    let own = Own {
        answers: of(does.lock > 0, "answers"),
        editors: of(does.editor_pause_ms > 0, "editors"),
        marks: of(does.marks > 0, "marks"),
        undo: of(does.undo > 0, "undo"),
        history: of(does.history > 0, "history"),
    };
    let mut life = Life { host, rng, own, replicas, plan: BTreeMap::new() };
    life.live();
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Write,
    Flush,
    Exchange,
    Look,
    Edit,
}

/// Generators of their own, for what not everybody does: what is off moves nothing else.
struct Own {
    /// What people answer, where they are asked.
    answers: Option<Rng>,
    editors: Option<Rng>,
    marks: Option<Rng>,
    undo: Option<Rng>,
    history: Option<Rng>,
}

struct Life<'a> {
    host: &'a Arc<Host>,
    rng: Rng,
    own: Own,
    replicas: Vec<Replica>,
    /// When what happens to which replica.
    plan: BTreeMap<(u64, usize, Next), ()>,
}

impl Life<'_> {
    fn live(&mut self) {
        for site in 0..self.replicas.len() {
            for next in [Next::Write, Next::Exchange, Next::Look] {
                let at = self.host.now() + self.rng.between(0, 1_000);
                self.plan.insert((at, site, next), ());
            }
            if let Some(rng) = &mut self.own.editors {
                let at = self.host.now() + rng.between(0, 1_000);
                self.plan.insert((at, site, Next::Edit), ());
            }
        }
        while !self.host.is_dead() {
            let Some((&key, ())) = self.plan.first_key_value() else { return };
            let (at, site, next) = key;
            let wake = self.replicas.iter().filter_map(Replica::deadline).fold(at, u64::min);
            self.host.listen_until(wake);
            if self.host.is_dead() {
                return;
            }
            self.take_packets();
            if at <= self.host.now() {
                self.plan.remove(&key);
                self.act(site, next);
            }
            if self.replicas.iter().any(Replica::is_broken) {
                self.host.trace(format_args!("a replica is closed by its disk; starts anew"));
                return;
            }
            let past = &mut self.own.history;
            let rests = self.replicas.iter_mut().all(|replica| replica.rests(self.host, past));
            self.host.rest(rests);
        }
    }

    fn take_packets(&mut self) {
        while let Some(packet) = self.host.take_packet() {
            let mut packet = Some(packet);
            for replica in &mut self.replicas {
                packet = packet.and_then(|packet| replica.take_packet(packet));
            }
        }
        for replica in &mut self.replicas {
            replica.step(self.host);
        }
    }

    fn act(&mut self, site: usize, next: Next) {
        let options = self.host.world.options.clone();
        let now = self.host.now();
        let Some(replica) = self.replicas.get_mut(site) else { return };
        let again = match next {
            Next::Write => {
                if self.host.world.is_faulty() {
                    replica.write(self.host, &mut self.rng);
                    if let Some(rng) = &mut self.own.undo
                        && rng.chance(options.workload.undo)
                    {
                        replica.undo(self.host, rng);
                    }
                    self.plan.entry((now + FLUSH_AFTER_MS, site, Next::Flush)).or_default();
                }
                2 * options.write_pause_ms
            }
            Next::Flush => {
                replica.flush(self.host);
                return;
            }
            Next::Exchange => {
                if let Some(rng) = &mut self.own.answers {
                    replica.answer(self.host, rng);
                }
                replica.exchange(self.host);
                // After the faults everybody is in a hurry.
                if self.host.world.is_faulty() { 2 * options.exchange_pause_ms } else { 1_000 }
            }
            Next::Look => {
                replica.look(self.host, &mut self.rng);
                if let Some(rng) = &mut self.own.marks
                    && rng.chance(options.workload.marks)
                {
                    replica.look_at_marks(self.host);
                }
                // Who waits long for what he sees looks less often. Here the looks of a device and
                // its talk to the node take turns, which they do not have to elsewhere.
                2 * LOOK_PAUSE_MS + 8 * (self.host.now() - now)
            }
            Next::Edit => {
                if let Some(rng) = &mut self.own.editors {
                    replica.edit(self.host, rng);
                    let pause = rng.between(1, 2 * options.workload.editor_pause_ms);
                    self.plan.insert((self.host.now() + pause, site, next), ());
                }
                return;
            }
        };
        let at = self.host.now() + self.rng.between(1, again);
        self.plan.insert((at, site, next), ());
    }
}
