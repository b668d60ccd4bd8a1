//! The options by name: to print them, to set one, to switch one off.
//!
//! Invariant: every option but the seed is in the table, so a command line can say all of them.
//! Leaves out what a value means.

use super::{Faults, Keeping, Options, Workload};

/// One option.
#[derive(Debug)]
pub(crate) enum Field<'a> {
    /// A rate or a weight.
    U32(&'a mut u32),
    /// A time.
    U64(&'a mut u64),
    /// A number of things.
    Usize(&'a mut usize),
}

impl Field<'_> {
    /// Its value.
    pub(crate) fn get(&self) -> u64 {
        match self {
            Self::U32(value) => u64::from(**value),
            Self::U64(value) => **value,
            Self::Usize(value) => **value as u64,
        }
    }

    /// Sets it; whether the value fits.
    pub(crate) fn set(&mut self, to: u64) -> bool {
        match self {
            Self::U32(value) => u32::try_from(to).map(|to| **value = to).is_ok(),
            Self::U64(value) => {
                **value = to;
                true
            }
            Self::Usize(value) => usize::try_from(to).map(|to| **value = to).is_ok(),
        }
    }
}

macro_rules! fields {
    ($options:ident: $($kind:ident $name:literal $($path:ident).+;)*) => {
        [$(($name, Field::$kind(&mut $options.$($path).+))),*]
    };
}

/// One option and its name.
pub(crate) type Named<'a> = (&'static str, Field<'a>);

fn of_faults(o: &mut Faults) -> impl Iterator<Item = Named<'_>> {
    let all = fields! { o:
        U64 "network.delay-ms" network.delay_ms;
        U32 "network.loss" network.loss;
        U32 "network.duplicate" network.duplicate;
        U32 "network.reorder" network.reorder;
        U32 "network.cut" network.cut;
        U32 "network.half-open" network.half_open;
        U64 "network.partition-every-ms" network.partition_every_ms;
        U64 "network.partition-ms" network.partition_ms;
        U64 "bucket.latency-ms" bucket.latency_ms;
        U32 "bucket.unavailable" bucket.unavailable;
        U32 "bucket.fails-before" bucket.fails_before;
        U32 "bucket.fails-after" bucket.fails_after;
        U32 "bucket.fails-late" bucket.fails_late;
        U32 "bucket.short" bucket.short;
        U32 "bucket.flip" bucket.flip;
        U32 "bucket.missing" bucket.missing;
        U32 "bucket.stale-list" bucket.stale_list;
        U64 "bucket.outage-every-ms" bucket.outage_every_ms;
        U64 "bucket.outage-ms" bucket.outage_ms;
        U32 "disk.io-error" disk.io_error;
        U32 "disk.full" disk.full;
        U32 "disk.short" disk.short;
        U32 "disk.flush-fails" disk.flush_fails;
        U32 "disk.rot" disk.rot;
        U64 "process.crash-every-ms" process.crash_every_ms;
        U32 "process.power-cut" process.power_cut;
        U32 "process.at-point" process.at_point;
        U32 "process.at-disk" process.at_disk;
        U64 "process.pause-every-ms" process.pause_every_ms;
        U64 "process.pause-ms" process.pause_ms;
        U64 "clock.offset-ms" clock.offset_ms;
        U64 "clock.drift-per-million" clock.drift_per_million;
        U64 "clock.jump-every-ms" clock.jump_every_ms;
    };
    all.into_iter()
}

fn of_workload(o: &mut Workload) -> impl Iterator<Item = Named<'_>> {
    let all = fields! { o:
        U32 "do.transfer" transfer;
        U32 "do.count" count;
        U32 "do.append" append;
        U32 "do.claim" claim;
        U32 "do.edit" edit;
        U32 "do.number" number;
        U32 "do.schema" schema;
        U32 "do.failing" failing;
        U32 "do.large" large;
        U32 "do.several" several;
        U32 "do.forged" forged;
        U32 "do.merge" merge;
        U32 "do.values" values;
        U32 "do.lock" lock;
        U32 "do.pages" pages;
        U64 "do.editor-pause-ms" editor_pause_ms;
        U32 "do.marks" marks;
        U32 "do.undo" undo;
        U32 "do.history" history;
    };
    all.into_iter()
}

fn of_keeping(o: &mut Keeping) -> impl Iterator<Item = Named<'_>> {
    let all = fields! { o:
        Usize "keep.keepers" keepers;
        U64 "keep.pause-ms" pause_ms;
        U64 "keep.commits" commits;
        U64 "keep.for-ms" for_ms;
        U32 "keep.exact" exact;
        U32 "keep.branches" branches;
        U32 "keep.evictions" evictions;
    };
    all.into_iter()
}

impl Options {
    /// Every option by its name.
    pub(crate) fn fields(&mut self) -> Vec<Named<'_>> {
        let o = self;
        let sizes = fields! { o:
            Usize "devices" devices;
            Usize "nodes" nodes;
            Usize "sites" sites;
            Usize "buckets" buckets;
            U64 "direct-percent" direct_percent;
            U32 "page-size" page_size;
            Usize "cache-pages" cache_pages;
            Usize "sector" sector;
            U64 "safety-ms" safety_ms;
            U64 "liveness-ms" liveness_ms;
            U64 "write-pause-ms" write_pause_ms;
            U64 "exchange-pause-ms" exchange_pause_ms;
            U32 "flushed" flushed;
        };
        let all = sizes.into_iter().chain(of_faults(&mut o.faults));
        let all = all.chain(of_workload(&mut o.workload)).chain(of_keeping(&mut o.keeping));
        all.collect()
    }

    /// Sets one option by its name.
    ///
    /// # Errors
    /// A line for people, when there is no such option or the value does not fit.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
        let mut fields = self.fields();
        let Some((_, field)) = fields.iter_mut().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no option `{name}`; there are: {}", names.join(", ")));
        };
        if field.set(value) { Ok(()) } else { Err(format!("`{value}` is too large for `{name}`")) }
    }

    /// Every option that differs from those that the seed draws, as `name=value`.
    #[must_use]
    pub fn differences(&self) -> Vec<String> {
        let (mut drawn, mut mine) = (Self::draw(self.seed), self.clone());
        let (drawn, mine) = (drawn.fields(), mine.fields());
        let pairs =
            drawn.iter().zip(&mine).filter(|((_, drawn), (_, mine))| drawn.get() != mine.get());
        pairs.map(|(_, (name, mine))| format!("{name}={}", mine.get())).collect()
    }

    /// The command that runs exactly this again.
    #[must_use]
    pub fn command(&self) -> String {
        let mut command = format!("cargo xtask sim --seed {}", self.seed);
        for difference in self.differences() {
            command.push_str(" --set ");
            command.push_str(&difference);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_said() {
        let mut options = Options::draw(1);
        assert_eq!(options.command(), "cargo xtask sim --seed 1");
        options.set("devices", 9).unwrap();
        assert_eq!(options.devices, 9);
        assert_eq!(options.command(), "cargo xtask sim --seed 1 --set devices=9");
        assert!(options.set("page-size", 1 << 40).is_err());
        assert!(options.set("nothing", 1).unwrap_err().contains("bucket.flip"));
    }

    #[test]
    fn half_of_the_runs_are_without_a_fault() {
        let quiet = (0..400).filter(|seed| Options::draw(*seed).faults.disk.io_error == 0).count();
        assert!((120..280).contains(&quiet), "{quiet} of 400");
    }
}
