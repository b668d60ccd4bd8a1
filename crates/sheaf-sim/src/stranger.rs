//! Somebody at the door of a node who has no token, or not the right one.
//!
//! Invariant: a stranger says what a device could say, to the same engine and between the words of
//! devices, and everything that comes back is looked at by the checker. Leaves out HTTP: routes,
//! headers and origins are the node's own tests'.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_node::engine::{ConnId, Engine};
use sheaf_sync::{
    message::{self, Body},
    pages, pull, wire,
};
use sheaf_volume::{DeviceId, Lsn, PageIdx, PageSize, SiteId, VolumeId, Want};

use crate::{
    check::auth,
    rng::Rng,
    world::{Host, locked},
};

/// What devices show at the door.
pub(crate) const TOKEN: &str = "sheaf_simulated_devices_are_let_in";
/// What strangers have instead: nothing, a guess, and what is nearly right.
const TOKENS: [&str; 4] =
    ["", "sheaf_guess", "sheaf_simulated_devices_are_let_i", "SHEAF_SIMULATED_DEVICES_ARE_LET_IN"];
/// Things a node does for one connection, at most, before the stranger has seen enough.
const ANSWERS_MAX: usize = 64;

/// One attempt.
pub(crate) fn knocks(host: &Arc<Host>, engine: &mut Engine, rng: &mut Rng) {
    host.count("people: a stranger at the door");
    let site = rng.index(host.world.options.sites);
    let known = host.world.oracles.get(site).and_then(|oracle| locked(oracle).volume());
    let mut id = [0; 16];
    rng.fill(&mut id);
    let volume = known.unwrap_or_else(|| VolumeId::from_bytes(id));
    let token = rng.pick(&TOKENS).copied().unwrap_or_default();
    match rng.below(3) {
        0 => asks(host, engine, volume, token),
        way => dials(host, engine, &words(rng, site, volume, (way == 1).then_some(token))),
    }
}

/// Asks as a device asks for commits and pages.
fn asks(host: &Host, engine: &Engine, volume: VolumeId, token: &str) {
    let token = Some(token).filter(|token| !token.is_empty());
    let head = pull::encode_request(volume, Lsn::ZERO, false);
    host.expect(auth::refused("a pull", &engine.pull(token, head)));
    let want = Want { lsn: Lsn(1), pages: [PageIdx::FIRST].into_iter().collect() };
    if let Ok(body) = pages::encode_request(volume, &[want]) {
        host.expect(auth::refused("a request for pages", &engine.pages(token, body)));
    }
}

/// Says all of it on a connection, whatever is answered.
fn dials(host: &Host, engine: &mut Engine, words: &[Bytes]) {
    let conn = engine.connect();
    for word in words {
        engine.frame(conn, word.clone());
        listens(host, engine, conn);
    }
    engine.disconnect(conn);
}

fn listens(host: &Host, engine: &mut Engine, conn: ConnId) {
    for _ in 0..ANSWERS_MAX {
        let did = engine.serve(conn);
        while let Some(frame) = engine.poll_frame(conn) {
            host.expect(auth::says_nothing(frame));
        }
        if !did {
            return;
        }
    }
}

/// A greeting with this token, or none, and then what only a guest may ask for.
fn words(rng: &mut Rng, site: usize, volume: VolumeId, token: Option<&str>) -> Vec<Bytes> {
    let mut ids = [[0; 16]; 3];
    ids.iter_mut().for_each(|id| rng.fill(id));
    let [device, site_id, new] = ids;
    let bytes = wire::id_bytes(volume.as_bytes());
    let create = wire::CreateIds {
        site: SiteId::from_bytes(site_id),
        volume: VolumeId::from_bytes(new),
        page_size: PageSize::DEFAULT,
    };
    let name = if rng.chance(500_000) { format!("s{site}") } else { "theirs".to_owned() };
    let create = rng.chance(500_000).then(|| wire::create_to_wire(&create));
    let hello = token.map(|token| {
        Body::Hello(message::Hello {
            protocol_min: message::PROTOCOL_MIN,
            protocol_max: message::PROTOCOL_MAX,
            agent: "stranger".to_owned(),
            device: wire::id_bytes(DeviceId::from_bytes(device).as_bytes()),
            token: token.to_owned(),
        })
    });
    let open = Body::Open(message::Open { request: 1, name, create });
    let pull = message::Pull { request: 2, volume: bytes, ..message::Pull::default() };
    [hello, Some(open), Some(Body::Pull(pull))].into_iter().flatten().map(wire::encode).collect()
}
