//! A node: the production engine, its replicas on a simulated disk, its bucket behind faults.
//!
//! Invariant: the program moves packets, lets a stranger knock now and then, and gives the engine
//! its turns, nothing else. Leaves out the routes: bodies of questions are taken whole.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use sheaf_node::engine::{Clock, ConnId, Engine};
use sheaf_sync::message;
use sheaf_volume::{DeviceId, Dir, Objects, probe};

use crate::{
    bucket::{Careless, Reach},
    check,
    env::HostEnv,
    net::{Body, Packet},
    rng::Rng,
    stranger,
    world::{Host, HostId},
};

/// Turns after which a node looks at its packets again.
const TURNS_MAX: u32 = 1_000;

/// Of a million times that a node looks at its packets, how often a stranger comes before it.
const STRANGERS: u32 = 50_000;

/// A clock that nobody can set.
struct Steady(Arc<Host>);

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steady")
    }
}

impl Clock for Steady {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now())
    }
}

/// Lives until it dies.
pub(crate) fn run(host: &Arc<Host>) {
    host.rest(true);
    let bucket = host.id - host.world.options.devices;
    let objects: Arc<dyn Objects> = Arc::new(Reach::of(host, bucket));
    let env = Arc::new(HostEnv::new(Arc::clone(host), host.rng("env")));
    let careless = Careless(Reach::of(host, bucket));
    host.count("bucket: condition ignored");
    if probe(&careless, &*env).is_ok() && !host.is_dead() {
        let what = format!("{} trusts a store that ignores the condition of a create", host.name);
        host.violated(check::log::violated(what));
    }
    // As the server does when it starts; the store may be away just then.
    if let Err(error) = probe(&*objects, &*env) {
        host.trace(format_args!("does not start: {error}"));
        return;
    }
    let mut device = [0; 16];
    device.iter_mut().zip(host.name.bytes()).for_each(|(to, from)| *to = from);
    let disks = Arc::clone(host);
    let open = move |volume: sheaf_volume::VolumeId| {
        Ok(Box::new(disks.disk(&volume.to_string())) as Box<dyn Dir>)
    };
    let clock = Arc::new(Steady(Arc::clone(host)));
    let engine = Engine::new(objects, env, clock, DeviceId::from_bytes(device), Box::new(open))
        .with_tokens(&[stranger::TOKEN]);
    let mut node = Node { host, engine, conns: BTreeMap::new(), rng: host.rng("strangers") };
    node.live();
}

struct Node<'a> {
    host: &'a Arc<Host>,
    engine: Engine,
    /// Connections by their device's number.
    conns: BTreeMap<u64, (HostId, ConnId)>,
    rng: Rng,
}

impl Node<'_> {
    fn live(&mut self) {
        while !self.host.is_dead() {
            while let Some(packet) = self.host.take_packet() {
                self.take(packet);
            }
            if self.host.faulty() && self.rng.chance(STRANGERS) {
                stranger::knocks(self.host, &mut self.engine, &mut self.rng);
            }
            let mut turns = 0;
            while turns < TURNS_MAX && !self.host.is_dead() && self.engine.turn() {
                self.send();
                turns += 1;
            }
            self.send();
            if self.host.flush_failed() {
                // The engine would open the replica again, from what the operating system shows;
                // whoever runs a node restarts the machine.
                self.host.trace(format_args!("ends after a failed flush"));
                return;
            }
            let now = self.host.now();
            let due = self.engine.next_deadline().unwrap_or(u64::MAX);
            self.host.listen_until(due.clamp(now + 1, now + 60_000));
        }
    }

    fn take(&mut self, packet: Packet) {
        let from = packet.from;
        match packet.body {
            Body::Dial { conn } => {
                self.conns.insert(conn, (from, self.engine.connect()));
                self.host.send(from, Body::Accept { conn });
            }
            Body::Frame { conn, bytes } => match self.conns.get(&conn) {
                Some((_, id)) => self.engine.frame(*id, bytes),
                // This node knows nothing of it: it was started again meanwhile.
                None => self.host.send(from, Body::Hangup { conn }),
            },
            Body::Hangup { conn } => {
                if let Some((_, id)) = self.conns.remove(&conn) {
                    self.engine.disconnect(id);
                }
            }
            Body::Ask { id, path, token, bytes } => {
                let answer = if path == message::PULL_PATH {
                    self.engine.pull(Some(token), bytes)
                } else {
                    self.engine.pages(Some(token), bytes)
                };
                self.host.count("node: answered a question");
                self.host.send(from, Body::Answer { id, answer });
            }
            Body::Accept { .. } | Body::Answer { .. } => {}
        }
    }

    /// Sends what the engine has for its connections, and ends those that it has ended.
    fn send(&mut self) {
        let mut ended = Vec::new();
        for (conn, (to, id)) in &self.conns {
            while let Some(bytes) = self.engine.poll_frame(*id) {
                self.host.send(*to, Body::Frame { conn: *conn, bytes });
            }
            if self.engine.is_closing(*id) {
                ended.push(*conn);
            }
        }
        for conn in ended {
            if let Some((to, id)) = self.conns.remove(&conn) {
                self.engine.disconnect(id);
                self.host.send(to, Body::Hangup { conn });
            }
        }
    }
}
