//! Tries a store for what Sheaf relies on, under load: the long form of [`super::probe`].
//!
//! Invariant: everything it writes is below one fresh prefix under `probe/`, and is deleted at the
//! end, whatever was found. A store that fails a check is a finding, one that cannot be asked is
//! an error. Leaves out durability, which no client can see.

use std::fmt;

use bytes::Bytes;

use super::{Objects, ObjectsError, probe::failed};
use crate::{Env, Error, Result, SegmentId, limits};

mod race;

pub use race::Races;

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTrial {
    /// Callers that create one key at the same moment.
    pub creators: usize,
    /// Keys they race for, one after the other.
    pub rounds: u64,
}

impl Default for StoreTrial {
    fn default() -> Self {
        Self { creators: 64, rounds: 200 }
    }
}

/// What a store is asked to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Created once: among any number of callers one wins.
    CreateOnce,
    /// What was written is read back at once, byte for byte.
    ReadAfterWrite,
    /// What was written is listed at once, in order, and what was deleted is not.
    ListAfterWrite,
    /// A part of an object is that part; a part beyond its end is an error.
    Ranges,
    /// What was deleted is gone, and its key is free again.
    Delete,
}

impl Promise {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 5] =
        [Self::CreateOnce, Self::ReadAfterWrite, Self::ListAfterWrite, Self::Ranges, Self::Delete];

    /// A stable word for scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateOnce => "create-once",
            Self::ReadAfterWrite => "read-after-write",
            Self::ListAfterWrite => "list-after-write",
            Self::Ranges => "ranges",
            Self::Delete => "delete",
        }
    }

    /// What happens to data on a store that breaks it.
    #[must_use]
    pub fn at_stake(self) -> &'static str {
        match self {
            Self::CreateOnce => "two devices would both win one log position and lose changes",
            Self::ReadAfterWrite => "a lost answer to an append could not be told from a lost race",
            Self::ListAfterWrite => "reclaiming would delete what a new branch needs",
            Self::Ranges => "pages would be read from the wrong place",
            Self::Delete => "what was reclaimed would come back",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of one promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub promise: Promise,
    /// What the store did instead; `None` if it kept it.
    pub broken: Option<String>,
}

/// What a trial found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreVerdict {
    /// Every promise, in order.
    pub tried: Vec<Tried>,
    /// The races for one key.
    pub races: Races,
}

impl StoreVerdict {
    /// Whether Sheaf can use the store.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.tried.iter().all(|tried| tried.broken.is_none())
    }
}

/// Tries every promise. `progress` is told rounds done and in all.
///
/// # Errors
/// `Invalid` for a trial of nothing, `Limit` for one that is too large; `Unavailable`, `Denied` or
/// `Io` when the store could not be asked.
pub fn verify_store(
    objects: &dyn Objects,
    env: &dyn Env,
    trial: StoreTrial,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreVerdict> {
    if trial.creators < 2 || trial.rounds == 0 {
        return Err(Error::invalid("a race needs at least two creators and one round"));
    }
    if trial.creators > limits::TRIAL_CREATORS_MAX || trial.rounds > limits::TRIAL_ROUNDS_MAX {
        let (creators, rounds) = (limits::TRIAL_CREATORS_MAX, limits::TRIAL_ROUNDS_MAX);
        let text = format!("at most {creators} creators and {rounds} rounds");
        return Err(Error::new(crate::ErrorKind::Limit, text));
    }
    // A segment id is as good a random name as any, and keys must never repeat.
    let prefix = format!("probe/{}/", SegmentId::mint(env));
    let tried = try_all(objects, &prefix, trial, progress);
    let cleaned = clean(objects, &prefix);
    let verdict = tried?;
    cleaned?;
    Ok(verdict)
}

fn try_all(
    objects: &dyn Objects,
    prefix: &str,
    trial: StoreTrial,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<StoreVerdict> {
    let races = race::run(objects, prefix, trial, progress)?;
    let mut tried = Vec::new();
    for promise in Promise::ALL {
        let broken = match promise {
            Promise::CreateOnce => match races.broken() {
                None => taken_key(objects, prefix)?,
                broken => broken,
            },
            Promise::ReadAfterWrite => read_after_write(objects, prefix)?,
            Promise::ListAfterWrite => list_after_write(objects, prefix)?,
            Promise::Ranges => ranges(objects, prefix)?,
            Promise::Delete => delete(objects, prefix)?,
        };
        tried.push(Tried { promise, broken });
    }
    Ok(StoreVerdict { tried, races })
}

/// A key that a plain write took is taken, and its holder stays what it was.
fn taken_key(objects: &dyn Objects, prefix: &str) -> Result<Option<String>> {
    let key = format!("{prefix}taken");
    put(objects, &key, b"first")?;
    let text = match objects.create(&key, Bytes::from_static(b"second")) {
        Err(ObjectsError::AlreadyExists(_)) => {
            return Ok(match read(objects, &key)?.as_deref() {
                Some(b"first") => None,
                _ => Some("a create that was refused changed the object".to_owned()),
            });
        }
        Ok(()) => "the store accepts create-if-absent and ignores it".to_owned(),
        Err(error) => return Err(failed("second create", error)),
    };
    Ok(Some(text))
}

fn read_after_write(objects: &dyn Objects, prefix: &str) -> Result<Option<String>> {
    let key = format!("{prefix}object");
    let large: Vec<u8> = (0..251).cycle().take(limits::TRIAL_OBJECT_BYTES).collect();
    for round in 0..limits::TRIAL_REPEATS {
        let mut bytes = large.clone();
        bytes.extend_from_slice(&round.to_le_bytes());
        put(objects, &key, &bytes)?;
        match read(objects, &key)? {
            None => return Ok(Some("an object just written was not found".to_owned())),
            Some(found) if found != bytes => {
                let text = "an object just written was read back with other bytes";
                return Ok(Some(text.to_owned()));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}

fn list_after_write(objects: &dyn Objects, prefix: &str) -> Result<Option<String>> {
    let below = format!("{prefix}list/");
    let mut keys = Vec::new();
    for number in 0..limits::TRIAL_REPEATS {
        let key = format!("{below}{number:020}");
        match objects.create(&key, Bytes::new()) {
            Ok(()) => keys.push(key),
            Err(error) => return Err(failed("create", error)),
        }
        let listed = list(objects, &below, None)?;
        if listed != keys {
            let (found, wanted) = (listed.len(), keys.len());
            return Ok(Some(format!("{wanted} objects were written, the list has {found}")));
        }
    }
    let middle = keys.len() / 2;
    if let (Some(after), Some(rest)) = (keys.get(middle), keys.get(middle + 1..))
        && list(objects, &below, Some(after))? != rest
    {
        return Ok(Some("a list after a key is not the rest of the list".to_owned()));
    }
    if let Some(gone) = keys.pop() {
        objects.delete(&gone).map_err(|error| failed("delete", error))?;
    }
    let is_exact = list(objects, &below, None)? == keys;
    Ok((!is_exact).then(|| "a deleted object is still listed".to_owned()))
}

fn ranges(objects: &dyn Objects, prefix: &str) -> Result<Option<String>> {
    let (key, none) = (format!("{prefix}range"), format!("{prefix}none"));
    put(objects, &key, b"0123456789")?;
    let inside = [(0, 10, &b"0123456789"[..]), (2, 5, b"234"), (8, 10, b"89")];
    let mut asked: Vec<_> = inside.iter().map(|&(from, to, _)| (key.clone(), from..to)).collect();
    asked.extend([(key.clone(), 8..11), (key.clone(), 40..41), (none, 0..1)]);
    let mut answers = objects.get_ranges(&asked).into_iter();
    for (from, to, wanted) in inside {
        match answers.next() {
            Some(Ok(found)) if found == wanted => {}
            Some(Err(error)) if !is_verdict(&error) => return Err(failed("read a range", error)),
            _ => return Ok(Some(format!("bytes {from}..{to} of an object are not what it holds"))),
        }
    }
    for what in ["across the end", "beyond the end"] {
        match answers.next() {
            Some(Err(ObjectsError::Failed(_))) => {}
            Some(Err(error)) if !is_verdict(&error) => return Err(failed("read a range", error)),
            _ => return Ok(Some(format!("a range {what} of an object was answered"))),
        }
    }
    match answers.next() {
        Some(Err(ObjectsError::NotFound(_))) => Ok(None),
        Some(Err(error)) if !is_verdict(&error) => Err(failed("read a range", error)),
        _ => Ok(Some("a range of an object that is not there was answered".to_owned())),
    }
}

fn delete(objects: &dyn Objects, prefix: &str) -> Result<Option<String>> {
    let key = format!("{prefix}gone");
    for round in 0..limits::TRIAL_REPEATS {
        match objects.create(&key, Bytes::copy_from_slice(&round.to_le_bytes())) {
            Ok(()) => {}
            Err(ObjectsError::AlreadyExists(_)) => {
                return Ok(Some("the key of a deleted object is not free again".to_owned()));
            }
            Err(error) => return Err(failed("create", error)),
        }
        objects.delete(&key).map_err(|error| failed("delete", error))?;
        if read(objects, &key)?.is_some() {
            return Ok(Some("a deleted object was read".to_owned()));
        }
    }
    match objects.delete(&key) {
        Ok(()) => Ok(None),
        Err(error) if !is_verdict(&error) => Err(failed("delete", error)),
        Err(error) => Ok(Some(format!("deleting what is not there is an error: {error}"))),
    }
}

/// Whether the store answered, so that the answer says something about it.
fn is_verdict(error: &ObjectsError) -> bool {
    !matches!(error, ObjectsError::Unavailable(_) | ObjectsError::Denied(_))
}

fn put(objects: &dyn Objects, key: &str, bytes: &[u8]) -> Result<()> {
    objects.put(key, Bytes::copy_from_slice(bytes)).map_err(|error| failed("write", error))
}

fn read(objects: &dyn Objects, key: &str) -> Result<Option<Bytes>> {
    match objects.get(key) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ObjectsError::NotFound(_)) => Ok(None),
        Err(error) => Err(failed("read back", error)),
    }
}

fn list(objects: &dyn Objects, prefix: &str, after: Option<&str>) -> Result<Vec<String>> {
    objects.list(prefix, after).map_err(|error| failed("list", error))
}

fn clean(objects: &dyn Objects, prefix: &str) -> Result<()> {
    for key in list(objects, prefix, None)? {
        objects.delete(&key).map_err(|error| failed("delete", error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
