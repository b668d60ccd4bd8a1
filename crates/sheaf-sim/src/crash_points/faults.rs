//! Every call to the disk and every fault point of a workload made to fail, once and for ever.
//!
//! Invariant: after an error the store is in the state before or after what failed, or closed;
//! nothing that was acknowledged is lost, now or after a crash. Leaves out crashes: see the images.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sheaf_volume::{ErrorKind, MemObjects};

use super::recorder::{Kind, Plan};
use super::{Bench, Checked, Run, Setup, Trouble, check, image, wrong};
use crate::disk::SimDisk;

impl Run<'_> {
    pub(super) fn fail_each<B: Bench>(
        &mut self,
        name: &'static str,
        make: &dyn Fn(Setup) -> B,
        setup: Setup,
        calls: &[&'static [Kind]],
        points: &BTreeMap<&'static str, u64>,
    ) {
        let (mut plans, mut chosen) = (Vec::new(), Vec::new());
        for (at, ways) in (1..).zip(calls) {
            for &kind in *ways {
                plans.extend([false, true].map(|forever| Plan::Disk { at, kind, forever }));
            }
        }
        let of_points = points.iter().flat_map(|(&name, &count)| {
            (1..=count.min(4)).map(move |nth| Plan::Point { name, nth })
        });
        for mut some in [plans, of_points.collect()] {
            while some.len() > self.options.faults {
                let at = self.rng.index(some.len());
                some.swap_remove(at);
            }
            chosen.extend(some);
        }
        for plan in chosen {
            self.report.faults += 1;
            let mut bench = make(Setup { seed: setup.seed, ..setup });
            let tried = catch_unwind(AssertUnwindSafe(|| self.fail_one(&mut bench, plan)));
            if let Err(trouble) = tried.unwrap_or_else(|_| wrong("panic")) {
                self.fail(name, &format!("{plan:?}"), setup.seed, trouble.describe());
            }
            bench.close();
        }
    }

    fn fail_one<B: Bench>(&mut self, bench: &mut B, plan: Plan) -> Checked<()> {
        bench.prepare()?;
        let recorder = bench.recorder().clone();
        recorder.start(false, plan);
        let done = bench.work();
        if !recorder.is_hit() {
            return done.map_err(Trouble::from);
        }
        let (low, high) = recorder.bounds();
        self.crash(bench, bench.disk(), bench.objects(), (low, high))?;
        if done.is_ok() && low == high {
            return Ok(());
        }
        // The program goes on without a restart: all is well, or the store is closed.
        recorder.start(true, Plan::Nothing);
        let went_on = bench.find(low, high).and_then(|_| bench.aftermath());
        match went_on {
            Ok(()) => {}
            Err(Trouble::Error(e)) if matches!(e.kind(), ErrorKind::Closed) => {}
            Err(trouble) => {
                let why = done.err().map(|e| e.to_string());
                return wrong(format!("after error {why:?}: {}", trouble.describe()));
            }
        }
        let mut moments = recorder.finish();
        let last = moments.pop();
        let some = (0..self.options.faults.min(3)).filter_map(|_| self.rng.pick(&moments).cloned());
        for moment in some.collect::<Vec<_>>().into_iter().chain(last) {
            let bounds = (moment.low, moment.high);
            let crashed = self.crash(bench, &moment.disk, &moment.objects, bounds);
            crashed.or_else(|t| wrong(format!("{}, {}", moment.before, t.describe())))?;
        }
        Ok(())
    }

    /// Some crashes at one moment.
    fn crash<B: Bench>(
        &mut self,
        bench: &B,
        disk: &SimDisk,
        objects: &MemObjects,
        (low, high): (usize, usize),
    ) -> Checked<()> {
        // A kill, the power cut that loses all, and one by lot.
        for at in [0, 2, 6] {
            let seed = self.seed();
            let mut copy = bench.on_image(image(disk, at, seed), objects, seed);
            let found = check(&mut copy, low, high);
            copy.close();
            if let Err(trouble) = found {
                return wrong(format!("crash {at} with seed {seed}: {}", trouble.describe()));
            }
        }
        Ok(())
    }
}
