//! What people answer when a transaction of theirs asks, and whether they were told of what the log
//! refused.
//!
//! Invariant: the ledger hears of every answer that returned; what a crash or a failing disk has
//! left of one is read from the replica, once. Leaves out why it asks: see `workload/lock.rs`.

use std::sync::Arc;

use sheaf_site::Mutation;
use sheaf_volume::TimelineId;

use super::replica::Replica;
use crate::{
    check::told,
    oracle::{SiteOracle, model::Model},
    rng::Rng,
    workload::lock::Kind,
    world::Host,
};

/// Bytes of a mutation's identity, before its operations.
const IDENTITY: usize = 8;

impl Replica {
    /// Somebody looks whether a transaction asks, and goes on with it or takes it back; not always
    /// at once while there are faults.
    pub(super) fn answer(&mut self, host: &Arc<Host>, rng: &mut Rng) {
        let Some(asking) = self.site.asking() else { return };
        host.count("asked");
        if host.world.is_faulty() && rng.chance(500_000) {
            return;
        }
        let goes_on = rng.chance(600_000);
        let seq = asking.seq;
        let done = if goes_on { self.site.go_on(seq) } else { self.site.withdraw(seq) };
        host.trace(format_args!("s{} answers {seq}, on: {goes_on}: {done:?}", self.number));
        self.answered(seq);
        if host.is_dead() {
            return;
        }
        let timeline = self.site.timeline();
        match done {
            Ok(()) if goes_on => {
                host.count("went on");
                let (base, pending) = (self.site.base().0.0, self.pending());
                host.oracle(self.number, |oracle| {
                    looked_again(oracle, timeline, base, &pending, seq);
                });
            }
            Ok(()) => {
                host.count("withdrew");
                host.oracle(self.number, |oracle| {
                    let entry = oracle.ledger.entry_mut(timeline, seq);
                    if let Some(taken) = entry.and_then(|entry| entry.transaction.asks()) {
                        taken.withdrawn = true;
                    }
                });
            }
            Err(_) => self.read_answers(host),
        }
    }

    /// What waits, by its numbers.
    pub(super) fn pending(&self) -> Vec<u64> {
        self.site.status().pending.iter().map(|info| info.seq).collect()
    }

    /// Takes the answers that are there for those that the ledger knows.
    pub(super) fn read_answers(&self, host: &Host) {
        let timeline = self.site.timeline();
        for seq in self.pending() {
            let Ok(Some(pending)) = self.site.volume().mutation(seq) else { continue };
            let Some(Ok(mutation)) = pending.bytes.get(IDENTITY..).map(Mutation::decode) else {
                continue;
            };
            host.oracle(self.number, |oracle| {
                let entry = oracle.ledger.entry_mut(timeline, seq);
                let Some(taken) = entry.and_then(|entry| entry.transaction.asks()) else { return };
                let lock = mutation.locks.iter().find(|lock| lock.name == Kind::Ask.name());
                taken.withdrawn = lock.is_none();
                if let Some(lock) = lock {
                    (taken.total, taken.own) = (lock.seen, lock.own);
                }
            });
        }
    }

    /// At rest: whoever was refused was told.
    pub(super) fn was_told(&self, host: &Host, who: &str) {
        let timeline = self.site.timeline();
        let told = self.site.rejected();
        if told.iter().any(|rejected| rejected.reason.contains("lock `")) {
            host.count("a lock was lost");
        }
        host.oracle(self.number, |oracle| {
            host.expect(told::of_all(who, &oracle.ledger, timeline, &told));
        });
    }
}

/// Who went on has looked, at this place of its timeline, for this one and those behind it.
fn looked_again(
    oracle: &mut SiteOracle,
    timeline: TimelineId,
    base: u64,
    pending: &[u64],
    seq: u64,
) {
    let Some(image) = oracle.position(base).map(|position| Arc::clone(&position.image)) else {
        return;
    };
    let state = Model::at(&image);
    let mut own_before = 0;
    for at in pending {
        let entry = oracle.ledger.entry_mut(timeline, *at);
        let Some(taken) = entry.and_then(|entry| entry.transaction.asks()) else { continue };
        if taken.withdrawn {
            continue;
        }
        if *at >= seq {
            let (total, own) = state.counted(Kind::Ask, taken.author());
            (taken.total, taken.own) = (total + own_before, own + own_before);
        }
        own_before += 1;
    }
}
