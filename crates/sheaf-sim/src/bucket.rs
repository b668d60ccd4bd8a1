//! An object store that answers late, fails before or after doing what it was asked, gives fewer
//! bytes, other bytes or old lists, and is away for a while.
//!
//! Invariant: a create has one winner, also when its answer is lost or comes late; what is stored
//! is what was sent; what is deleted is gone for everybody, and remembered for the oracle alone.
//! Leaves out a store that ignores the condition: [`Careless`] is that one, and the probe has to
//! refuse it.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sheaf_volume::{Objects, ObjectsError, Parts};

use crate::{options::BucketFaults, rng::Rng, world::Host};

/// How many times as often a read of a part has a flipped bit.
const RANGE_FLIPS: u32 = 10;
/// Older lists that a stale answer may come from.
const LISTS_KEPT: usize = 8;

/// What a store holds.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// What was first stored under keys that were deleted since.
    gone: BTreeMap<String, Bytes>,
    /// How often anything changed.
    changes: u64,
    /// Numbers of writes so far, and how many objects there were: an old list is one of fewer.
    order: Vec<String>,
    away: bool,
}

impl Bucket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is stored under a key, past every fault.
    pub(crate) fn stored(&self, key: &str) -> Option<Bytes> {
        self.state().objects.get(key).cloned()
    }

    /// What was stored under a key when it was first stored, also if it has been deleted.
    pub(crate) fn first_stored(&self, key: &str) -> Option<Bytes> {
        let state = self.state();
        state.gone.get(key).or_else(|| state.objects.get(key)).cloned()
    }

    /// Grows with every write and every deletion.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Whether nobody is answered.
    pub(crate) fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// Stores an object if the key is free; whether it was.
    pub(crate) fn create(&self, key: &str, bytes: Bytes) -> bool {
        let mut state = self.state();
        if state.objects.contains_key(key) {
            return false;
        }
        state.objects.insert(key.to_owned(), bytes);
        state.order.push(key.to_owned());
        state.changes += 1;
        true
    }

    /// Deletes an object; whether it was there.
    pub(crate) fn delete(&self, key: &str) -> bool {
        let mut state = self.state();
        let Some(bytes) = state.objects.remove(key) else { return false };
        state.gone.entry(key.to_owned()).or_insert(bytes);
        state.changes += 1;
        true
    }

    fn put(&self, key: &str, bytes: Bytes) {
        let mut state = self.state();
        state.changes += 1;
        if state.objects.insert(key.to_owned(), bytes).is_none() {
            state.order.push(key.to_owned());
        }
    }

    fn list(&self, prefix: &str, after: Option<&str>, stale: usize) -> Vec<String> {
        let state = self.state();
        let fresh = state.order.len().saturating_sub(stale);
        let unseen = state.order.get(fresh..).unwrap_or_default();
        let keys = state.objects.range(prefix.to_owned()..).map(|(key, _)| key);
        let keys = keys.take_while(|key| key.starts_with(prefix));
        let keys = keys.filter(|key| after.is_none_or(|after| key.as_str() > after));
        keys.filter(|key| !unseen.contains(key)).cloned().collect()
    }

    /// The store itself, as nobody but the oracle sees it.
    pub(crate) fn truth(self: &Arc<Self>) -> Arc<dyn Objects> {
        Arc::new(Truth(Arc::clone(self)))
    }
}

/// A bucket as the oracle reads it.
#[derive(Debug)]
struct Truth(Arc<Bucket>);

impl Objects for Truth {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.0.stored(key).ok_or_else(|| ObjectsError::NotFound(key.to_owned()))
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        wants.iter().map(|(key, range)| cut(key, &self.get(key)?, range)).collect()
    }

    fn put(&self, key: &str, _: Bytes) -> Result<(), ObjectsError> {
        Err(ObjectsError::Denied(key.to_owned()))
    }

    fn create(&self, key: &str, _: Bytes) -> Result<(), ObjectsError> {
        Err(ObjectsError::Denied(key.to_owned()))
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        Ok(self.0.list(prefix, after, 0))
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        Err(ObjectsError::Denied(key.to_owned()))
    }
}

fn missing(key: &str) -> ObjectsError {
    ObjectsError::NotFound(key.to_owned())
}

fn cut(key: &str, bytes: &Bytes, range: &Range<u64>) -> Result<Bytes, ObjectsError> {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let (start, end) = (place(range.start), place(range.end));
    if start > end || end > bytes.len() {
        return Err(ObjectsError::Failed(format!("range beyond the end key=`{key}`")));
    }
    Ok(bytes.slice(start..end))
}

/// A bucket as one process of one host reaches it.
#[derive(Debug)]
pub(crate) struct Reach {
    bucket: Arc<Bucket>,
    host: Arc<Host>,
    rng: Mutex<Rng>,
    faults: BucketFaults,
}

/// How an answer is spoilt.
enum Spoilt {
    No,
    Short,
    Flipped,
    Missing,
}

impl Reach {
    pub(crate) fn new(
        bucket: Arc<Bucket>,
        host: Arc<Host>,
        rng: Rng,
        faults: BucketFaults,
    ) -> Self {
        Self { bucket, host, rng: Mutex::new(rng), faults }
    }

    /// The bucket of a site, as a host reaches it.
    pub(crate) fn of(host: &Arc<Host>, site: usize) -> Self {
        let buckets = &host.world.buckets;
        let bucket = buckets.get(site % buckets.len().max(1)).cloned().unwrap_or_default();
        let faults = host.world.options.faults.bucket.clone();
        Self::new(bucket, Arc::clone(host), host.rng("bucket"), faults)
    }

    fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a fault strikes now.
    fn strikes(&self, name: &'static str, per_million: u32) -> bool {
        let strikes = self.host.faulty() && self.rng().chance(per_million);
        if strikes {
            self.host.count(name);
        }
        strikes
    }

    fn latency(&self) -> u64 {
        let mut rng = self.rng();
        let usual = rng.between(0, self.faults.latency_ms);
        if self.host.faulty() && rng.chance(10_000) { usual * 20 } else { usual }
    }

    /// The way there: time passes, and the store may not answer.
    fn go(&self) -> Result<(), ObjectsError> {
        let wait = self.latency();
        self.host.sleep(wait);
        if self.host.is_dead() {
            return Err(ObjectsError::Unavailable("this host is down".to_owned()));
        }
        let away = self.bucket.state().away;
        if away || self.host.is_cut_off() {
            self.host.count("bucket: away");
            self.host.sleep(1_000);
            return Err(ObjectsError::Unavailable("no answer (injected)".to_owned()));
        }
        if self.strikes("bucket: unavailable", self.faults.unavailable) {
            return Err(ObjectsError::Unavailable("503 (injected)".to_owned()));
        }
        Ok(())
    }

    /// The way back; the process may have died on it.
    fn back<T>(&self, answer: T) -> Result<T, ObjectsError> {
        let wait = self.latency();
        self.host.sleep(wait);
        if self.host.is_dead() {
            return Err(ObjectsError::Unavailable("this host is down".to_owned()));
        }
        Ok(answer)
    }

    /// Asks for all of it at once: the time passes once, and all is answered or nothing.
    fn at_once<A, T>(
        &self,
        asked: &[A],
        answer: impl Fn(&A) -> Result<T, ObjectsError>,
    ) -> Vec<Result<T, ObjectsError>> {
        let nothing = |error: ObjectsError| asked.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = self.go() {
            return nothing(error);
        }
        let answers = asked.iter().map(answer).collect();
        match self.back(()) {
            Ok(()) => answers,
            Err(error) => nothing(error),
        }
    }

    /// What becomes of a read, with this rate of flipped bits.
    fn spoil(&self, flip: u32) -> Spoilt {
        if self.strikes("bucket: short read", self.faults.short) {
            Spoilt::Short
        } else if self.strikes("bucket: flipped bit", flip) {
            Spoilt::Flipped
        } else if self.strikes("bucket: missing object", self.faults.missing) {
            Spoilt::Missing
        } else {
            Spoilt::No
        }
    }

    fn read(&self, key: &str) -> Result<Bytes, ObjectsError> {
        let bytes = self.bucket.stored(key).ok_or_else(|| missing(key))?;
        match self.spoil(self.faults.flip) {
            Spoilt::No => Ok(bytes),
            Spoilt::Missing => Err(missing(key)),
            Spoilt::Short => Ok(bytes.slice(..self.rng().index(bytes.len()))),
            Spoilt::Flipped => Ok(self.flipped(&bytes)),
        }
    }

    /// A part of an object; what is spoilt lies in that part. There are few such reads beside those
    /// of whole objects, so that they are flipped more often.
    fn read_range(&self, key: &str, range: &Range<u64>) -> Result<Bytes, ObjectsError> {
        let whole = self.bucket.stored(key).ok_or_else(|| missing(key))?;
        let bytes = cut(key, &whole, range)?;
        match self.spoil(self.faults.flip.saturating_mul(RANGE_FLIPS)) {
            Spoilt::No => Ok(bytes),
            Spoilt::Missing => Err(missing(key)),
            Spoilt::Short => cut(key, &whole.slice(..self.rng().index(whole.len())), range),
            Spoilt::Flipped if bytes.is_empty() => Ok(bytes),
            Spoilt::Flipped => Ok(self.flipped(&bytes)),
        }
    }

    fn listed(&self, prefix: &str, after: Option<&str>) -> Vec<String> {
        // Pins are what the promise `list-after-write` is there for: no reclaimer can do without.
        let may_be_old = !prefix.contains("/branches/");
        let stale = if may_be_old && self.strikes("bucket: stale list", self.faults.stale_list) {
            self.rng().index(LISTS_KEPT) + 1
        } else {
            0
        };
        self.bucket.list(prefix, after, stale)
    }

    fn flipped(&self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        let bit = self.rng().index(bytes.len() * 8);
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        bytes.into()
    }

    /// A deletion with its fate. Deleting again does no harm, so an unknown outcome is a failure.
    fn remove(&self, key: &str) -> Result<(), ObjectsError> {
        let lost = |way: &str| Err(ObjectsError::Unavailable(format!("connection lost {way}")));
        if self.strikes("bucket: deletion failed before", self.faults.fails_before) {
            return lost("on the way there (injected)");
        }
        if self.strikes("bucket: deletion done late", self.faults.fails_late) {
            let later = self.rng().between(1, 20_000);
            self.host.write_later(&self.bucket, key, None, later);
            return lost("(injected)");
        }
        if self.bucket.delete(key) {
            self.host.trace(format_args!("deleted {key}"));
        }
        if self.strikes("bucket: deletion failed after", self.faults.fails_after) {
            return lost("on the way back (injected)");
        }
        Ok(())
    }

    /// A write with its fate. `done` says what the store answers.
    fn write(
        &self,
        key: &str,
        bytes: &Bytes,
        done: impl Fn() -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        self.go()?;
        let unknown = |cause: &str| {
            Err(ObjectsError::Ambiguous { key: key.to_owned(), cause: cause.to_owned() })
        };
        if self.strikes("bucket: write failed before", self.faults.fails_before) {
            return unknown("connection lost on the way there (injected)");
        }
        if self.strikes("bucket: write done late", self.faults.fails_late) {
            let later = self.rng().between(1, 20_000);
            self.host.write_later(&self.bucket, key, Some(bytes), later);
            return unknown("timeout (injected)");
        }
        let answer = done();
        if self.strikes("bucket: write failed after", self.faults.fails_after) {
            return unknown("connection lost on the way back (injected)");
        }
        match self.back(()) {
            Ok(()) => answer,
            Err(_) => unknown("this host is down"),
        }
    }
}

impl Objects for Reach {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.go()?;
        let answer = self.read(key);
        self.back(())?;
        answer
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        self.at_once(wants, |(key, range)| self.read_range(key, range))
    }

    fn get_ranges_and_list(
        &self,
        wants: &[(String, Range<u64>)],
        prefix: &str,
        after: Option<&str>,
    ) -> Result<(Parts, Vec<String>), ObjectsError> {
        self.go()?;
        let parts = wants.iter().map(|(key, range)| self.read_range(key, range)).collect();
        // What is asked at once is not answered at once: others are at work in between.
        let wait = self.latency();
        self.host.sleep(wait);
        let keys = self.listed(prefix, after);
        self.back((parts, keys))
    }

    fn get_many(&self, keys: &[String]) -> Vec<Result<Bytes, ObjectsError>> {
        self.at_once(keys, |key| self.read(key))
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let done = self.write(key, &bytes, || {
            self.bucket.put(key, bytes.clone());
            Ok(())
        });
        // Writing the same again does no harm, so an unknown outcome is only a failure.
        done.map_err(|error| match error {
            ObjectsError::Ambiguous { cause, .. } => ObjectsError::Unavailable(cause),
            other => other,
        })
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.write(key, &bytes, || {
            if self.bucket.create(key, bytes.clone()) {
                self.host.trace(format_args!("created {key}"));
                Ok(())
            } else {
                self.host.count("bucket: create lost");
                Err(ObjectsError::AlreadyExists(key.to_owned()))
            }
        })
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.go()?;
        self.back(self.listed(prefix, after))
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.go()?;
        let answer = self.remove(key);
        self.back(())?;
        answer
    }

    fn delete_many(&self, keys: &[String]) -> Vec<Result<(), ObjectsError>> {
        self.at_once(keys, |key| self.remove(key))
    }
}

/// A store that accepts the condition of a create and ignores it.
#[derive(Debug)]
pub(crate) struct Careless(pub(crate) Reach);

impl Objects for Careless {
    fn get(&self, key: &str) -> Result<Bytes, ObjectsError> {
        self.0.get(key)
    }

    fn get_ranges(&self, wants: &[(String, Range<u64>)]) -> Vec<Result<Bytes, ObjectsError>> {
        self.0.get_ranges(wants)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.0.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        self.0.put(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, ObjectsError> {
        self.0.list(prefix, after)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectsError> {
        self.0.delete(key)
    }
}
