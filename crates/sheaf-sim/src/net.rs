//! The network between hosts: connections that carry frames in order until they break, and single
//! questions with single answers.
//!
//! Invariant: a connection never has a hole: after a frame was lost nothing more of it arrives in
//! that direction, as with TCP, and its ends may hear of it, or one of them, or none. Questions
//! and answers may be lost, doubled and reordered. Leaves out bandwidth.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{options::NetworkFaults, rng::Rng, world::HostId};

/// Something on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: HostId,
    pub(crate) to: HostId,
    pub(crate) body: Body,
}

/// What is on its way. Numbers of connections and questions are the asking device's own.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Wishes a connection.
    Dial { conn: u64 },
    /// There is one now.
    Accept { conn: u64 },
    /// A frame of a connection.
    Frame { conn: u64, bytes: Bytes },
    /// There is none any more.
    Hangup { conn: u64 },
    /// A question: where, and what.
    Ask { id: u64, path: &'static str, token: &'static str, bytes: Bytes },
    /// Its answer, or why there is none.
    Answer { id: u64, answer: Result<Bytes, sheaf_volume::Error> },
}

impl Body {
    /// The connection that it belongs to, if it belongs to one.
    pub(crate) fn conn(&self) -> Option<u64> {
        match self {
            Self::Dial { conn }
            | Self::Accept { conn }
            | Self::Frame { conn, .. }
            | Self::Hangup { conn } => Some(*conn),
            Self::Ask { .. } | Self::Answer { .. } => None,
        }
    }
}

/// One direction of one connection; the device's end numbers it.
type Lane = (HostId, HostId, u64);

/// What the network remembers.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// When the newest frame of a direction arrives: the next may not overtake it.
    newest: BTreeMap<Lane, u64>,
    /// Directions in which a frame was lost.
    broken: BTreeSet<Lane>,
}

/// What happens to a packet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// When what arrives.
    pub(crate) packets: Vec<(u64, Packet)>,
    /// Which faults struck.
    pub(crate) counts: Vec<&'static str>,
}

/// How things stand when a packet is sent.
#[derive(Debug)]
pub(crate) struct Weather<'a> {
    pub(crate) faults: &'a NetworkFaults,
    pub(crate) faulty: bool,
    /// Nothing gets through from this sender to this receiver.
    pub(crate) cut: bool,
    pub(crate) now: u64,
}

impl Network {
    /// Decides what becomes of a packet.
    pub(crate) fn send(
        &mut self,
        packet: Packet,
        weather: &Weather<'_>,
        rng: &mut Rng,
    ) -> Arrivals {
        match packet.body.conn() {
            Some(conn) => self.frame(packet, conn, weather, rng),
            None => single(packet, weather, rng),
        }
    }

    fn frame(
        &mut self,
        packet: Packet,
        conn: u64,
        weather: &Weather<'_>,
        rng: &mut Rng,
    ) -> Arrivals {
        let mut out = Arrivals::default();
        let lane = (packet.from, packet.to, conn);
        if self.broken.contains(&lane) {
            return out;
        }
        let cut = weather.cut || (weather.faulty && rng.chance(weather.faults.cut));
        if cut {
            out.counts.push("network: connection broken");
            self.broken.insert(lane);
            // Whoever is not told finds out by itself, when nothing more comes.
            let half_open = weather.faulty && rng.chance(weather.faults.half_open);
            if half_open {
                out.counts.push("network: half-open connection");
            }
            let (from, to) = (packet.from, packet.to);
            let after = weather.now + rng.between(1, 5_000);
            out.packets.push((after, Packet { from: to, to: from, body: Body::Hangup { conn } }));
            if !half_open {
                out.packets.push((after, Packet { from, to, body: Body::Hangup { conn } }));
            }
            return out;
        }
        let at = weather.now + delay(weather, rng);
        let newest = self.newest.entry(lane).or_default();
        *newest = at.max(*newest);
        out.packets.push((*newest, packet));
        out
    }
}

fn single(packet: Packet, weather: &Weather<'_>, rng: &mut Rng) -> Arrivals {
    let mut out = Arrivals::default();
    if weather.cut || (weather.faulty && rng.chance(weather.faults.loss)) {
        out.counts.push("network: lost");
        return out;
    }
    let mut at = weather.now + delay(weather, rng);
    if weather.faulty && rng.chance(weather.faults.reorder) {
        out.counts.push("network: reordered");
        at += rng.between(1, 1_000);
    }
    if weather.faulty && rng.chance(weather.faults.duplicate) {
        out.counts.push("network: doubled");
        let again = at + delay(weather, rng);
        out.packets.push((again, packet.clone()));
    }
    out.packets.push((at, packet));
    out
}

/// How long a packet travels, milliseconds. One in a hundred is late.
fn delay(weather: &Weather<'_>, rng: &mut Rng) -> u64 {
    let usual = rng.between(0, weather.faults.delay_ms);
    if weather.faulty && rng.chance(10_000) { (usual * 50).min(5_000) } else { usual }
}
