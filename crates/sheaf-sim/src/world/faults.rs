//! Faults that strike by the clock: crashes, pauses, partitions, outages, jumps.
//!
//! Invariant: nothing strikes after the end of the safety phase, and what has struck by then is
//! mended: the second phase must converge. Leaves out faults that strike an operation: those
//! belong to the disk, the bucket and the network.

use super::{Event, HostId, World};
use crate::{env::Clock, options::ClockFaults, rng::Rng};

/// A fault with its time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scheduled {
    Crash(HostId),
    Pause(HostId),
    Cut(HostId),
    Mend(HostId),
    Away(usize),
    Back(usize),
    Jump(HostId),
    End,
}

/// A clock as it is when a run begins.
pub(super) fn clock(faults: &ClockFaults, rng: &mut Rng) -> Clock {
    let mut either = |bound: u64| {
        let bound = i64::try_from(bound).unwrap_or(0);
        i64::try_from(rng.between(0, u64::try_from(2 * bound).unwrap_or(0))).unwrap_or(0) - bound
    };
    Clock { offset_ms: either(faults.offset_ms), drift: either(faults.drift_per_million) }
}

impl World {
    pub(super) fn schedule_faults(&self, hosts: usize) {
        let faults = &self.options.faults;
        for host in 0..hosts {
            self.again(faults.process.crash_every_ms, Scheduled::Crash(host));
            self.again(faults.process.pause_every_ms, Scheduled::Pause(host));
            self.again(faults.network.partition_every_ms, Scheduled::Cut(host));
            self.again(faults.clock.jump_every_ms, Scheduled::Jump(host));
        }
        for bucket in 0..self.buckets.len() {
            self.again(faults.bucket.outage_every_ms, Scheduled::Away(bucket));
        }
    }

    /// Schedules a fault about so far from now; never, if that is zero.
    fn again(&self, mean_ms: u64, fault: Scheduled) {
        if mean_ms == 0 {
            return;
        }
        let at = {
            let mut state = self.state();
            state.now + state.rng.between(1, 2 * mean_ms)
        };
        if at < self.options.safety_ms {
            self.at(at, Event::Fault(fault));
        }
    }

    pub(super) fn strike(&self, fault: Scheduled) {
        let faults = &self.options.faults;
        match fault {
            Scheduled::Crash(host) => {
                let power_cut = self.state().rng.chance(faults.process.power_cut);
                self.crash(host, power_cut);
                self.again(faults.process.crash_every_ms, fault);
            }
            Scheduled::Pause(host) => {
                self.pause(host);
                self.again(faults.process.pause_every_ms, fault);
            }
            Scheduled::Cut(host) => self.cut(host),
            Scheduled::Mend(host) => {
                self.mend(host);
                self.again(faults.network.partition_every_ms, Scheduled::Cut(host));
            }
            Scheduled::Away(bucket) => {
                self.away(bucket, true);
                let after = self.state().rng.between(1, faults.bucket.outage_ms);
                self.at(self.now() + after, Event::Fault(Scheduled::Back(bucket)));
            }
            Scheduled::Back(bucket) => {
                self.away(bucket, false);
                self.again(faults.bucket.outage_every_ms, Scheduled::Away(bucket));
            }
            Scheduled::Jump(host) => {
                self.jump(host);
                self.again(faults.clock.jump_every_ms, fault);
            }
            Scheduled::End => self.end_of_faults(),
        }
    }

    fn pause(&self, host: HostId) {
        let mut state = self.state();
        let until = state.now + state.rng.between(1, self.options.faults.process.pause_ms);
        let Some(machine) = state.machine(host) else { return };
        machine.paused_until = machine.paused_until.max(until);
        let name = machine.name.clone();
        drop(state);
        self.count("process: pause");
        self.trace(&name, format_args!("pauses until {until}"));
    }

    fn cut(&self, host: HostId) {
        let mut state = self.state();
        let ways = state.rng.below(4);
        let after = state.rng.between(1, self.options.faults.network.partition_ms);
        let at = state.now + after;
        let Some(machine) = state.machine(host) else { return };
        (machine.deaf, machine.mute) = (ways != 0, ways != 1);
        let name = machine.name.clone();
        drop(state);
        self.count(if ways < 2 { "network: one-way cut" } else { "network: partition" });
        self.trace(&name, format_args!("is cut off ({ways}) for {after} ms"));
        self.at(at, Event::Fault(Scheduled::Mend(host)));
    }

    fn mend(&self, host: HostId) {
        if let Some(machine) = self.state().machine(host) {
            (machine.deaf, machine.mute) = (false, false);
        }
    }

    fn away(&self, bucket: usize, away: bool) {
        if let Some(store) = self.buckets.get(bucket) {
            store.set_away(away);
        }
        if away {
            self.count("bucket: outage");
        }
        self.trace(&"bucket", format_args!("{bucket} is {}", if away { "away" } else { "back" }));
    }

    fn jump(&self, host: HostId) {
        let mut state = self.state();
        let by = i64::try_from(state.rng.between(0, 7_200_000)).unwrap_or(0) - 3_600_000;
        if let Some(machine) = state.machine(host) {
            machine.clock.offset_ms += by;
        }
        drop(state);
        self.count("clock: jump");
    }

    /// From here on nothing fails any more.
    fn end_of_faults(&self) {
        self.trace(&"world", format_args!("the faults end"));
        let hosts = self.state().machines.len();
        self.state().faulty = false;
        for host in 0..hosts {
            self.mend(host);
            let was_paused =
                self.with_machine(host, |machine| std::mem::take(&mut machine.paused_until));
            if was_paused.is_some_and(|until| until > self.now()) {
                self.wake_at(host, self.now());
            }
        }
        for bucket in 0..self.buckets.len() {
            self.away(bucket, false);
        }
        self.at(self.now() + 250, Event::Look);
    }
}
