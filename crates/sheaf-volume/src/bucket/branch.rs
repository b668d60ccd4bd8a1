//! Branches: a site whose history goes on from a position of another one's, without copying a page.
//!
//! Invariants: a branch is pinned below every volume it reads from before its record exists, and
//! the position is looked at once more after that, so that no reclaimer takes away what a branch
//! needs; a pin is created once and never changes. Order (each step is a crash point): pins, the
//! look, the record. A crash in between leaves pins that nobody needs and that keep some history.

use std::sync::Arc;

use serde_json::{Value, json};

use super::catalog::{SiteRecord, create_site, find_site};
use super::keys::{damaged, pin_key, pin_prefix, pinned_child, refused};
use super::{BucketRemote, lock};
use crate::limits::LSN_MAX;
use crate::{Error, ErrorKind, Lineage, Lsn, Objects, ObjectsError, Remote as _, Result, VolumeId};

const FORMAT: u64 = 1;

/// A position in a log, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The newest one.
    Head,
    /// This one.
    Lsn(Lsn),
    /// The newest one made at or before a time, milliseconds since 1970, by its writer's clock.
    Time(u64),
}

/// What keeps a position of a volume from being reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The branch that needs it.
    pub child: VolumeId,
    /// The newest position that it needs: the state there is kept, whatever the boundary.
    pub lsn: Lsn,
}

/// Creates `branch` as a branch of the site `source` at a position, under ids that nobody has: its
/// record's parents are set here. Gives the record that the bucket has now. Repeating it with the
/// same ids changes nothing.
///
/// # Errors
/// `NotFound` without that site or position, `Conflict` when the name is taken, `Invalid` for a bad
/// name or a site without commits, `Limit` for too many branches of branches, or as the store fails.
pub fn create_branch(
    objects: &Arc<dyn Objects>,
    source: &str,
    at: At,
    name: &str,
    branch: &SiteRecord,
) -> Result<SiteRecord> {
    let store = objects.as_ref();
    let taken = || {
        let text = format!("branch: there is a site `{name}` already; choose another name");
        Err(Error::new(ErrorKind::Conflict, text))
    };
    match find_site(store, name)? {
        Some(there) if there.volume() == branch.volume() => return Ok(there),
        Some(_) => return taken(),
        None => {}
    }
    let from = find_site(store, source)?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no site `{source}` here")))?;
    let log = BucketRemote::new(Arc::clone(objects), from.lineage.clone(), from.page_size);
    let lsn = log.position(at)?;
    let lineage = from.lineage.branch(branch.volume(), lsn)?;
    pin(store, &lineage)?;
    // ORDER: only now is it certain that what is there stays there.
    log.require_kept(lsn)?;
    let record = SiteRecord { lineage, page_size: from.page_size, ..branch.clone() };
    let there = create_site(store, name, &record)?;
    if there.volume() != record.volume() { taken() } else { Ok(there) }
}

/// The branches that keep positions of a volume from being reclaimed.
///
/// # Errors
/// `Corrupt` or `Unsupported` when one cannot be read: then nothing may be reclaimed.
pub fn pins(objects: &dyn Objects, volume: VolumeId) -> Result<Vec<Pin>> {
    let prefix = pin_prefix(volume);
    let keys = objects.list(&prefix, None).map_err(|e| refused("list branches", e))?;
    let named: Vec<(VolumeId, String)> = keys
        .into_iter()
        .filter_map(|key| pinned_child(&prefix, &key).map(|child| (child, key)))
        .collect();
    let keys: Vec<String> = named.iter().map(|(_, key)| key.clone()).collect();
    let mut pins = Vec::with_capacity(named.len());
    for ((child, key), bytes) in named.into_iter().zip(objects.get_many(&keys)) {
        let bytes = bytes.map_err(|e| refused("read branch", e))?;
        let lsn = parse(volume, child, &bytes).map_err(|e| damaged(&key, e))?;
        pins.push(Pin { child, lsn });
    }
    Ok(pins)
}

/// Pins a branch below every volume it reads from.
fn pin(objects: &dyn Objects, lineage: &Lineage) -> Result<()> {
    let child = lineage.volume();
    for parent in lineage.parents() {
        let key = pin_key(parent.volume, child);
        let text = json!({
            "format": FORMAT,
            "lsn": parent.lsn.0,
            "check": checksum(parent.volume, child, parent.lsn),
        });
        match objects.create(&key, text.to_string().into_bytes().into()) {
            Ok(()) => {}
            Err(e @ (ObjectsError::AlreadyExists(_) | ObjectsError::Ambiguous { .. })) => {
                let there = match objects.get(&key) {
                    Ok(bytes) => parse(parent.volume, child, &bytes),
                    Err(_) => return Err(refused("pin branch", e)),
                };
                if there.map_err(|e| damaged(&key, e))? != parent.lsn {
                    let text = "branch: these ids were used for another position; try again";
                    return Err(Error::new(ErrorKind::Conflict, text));
                }
            }
            Err(e) => return Err(refused("pin branch", e)),
        }
    }
    Ok(())
}

fn parse(parent: VolumeId, child: VolumeId, bytes: &[u8]) -> Result<Lsn> {
    let bad = |field: &str| Error::corrupt(format!("branch pin: bad field=`{field}`"));
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::with_source(ErrorKind::Corrupt, "branch pin", e))?;
    let number = |field: &str| value.get(field).and_then(Value::as_u64).ok_or_else(|| bad(field));
    let format = number("format")?;
    if format != FORMAT {
        let text = "branch made by a newer version of Sheaf; upgrade";
        return Err(Error::new(ErrorKind::Unsupported, format!("{text}: format=`{format}`")));
    }
    let lsn = Lsn(number("lsn")?);
    let check = value.get("check").and_then(Value::as_str).ok_or_else(|| bad("check"))?;
    if !(1..LSN_MAX).contains(&lsn.0) || check != checksum(parent, child, lsn) {
        return Err(bad("check"));
    }
    Ok(lsn)
}

/// The first 16 bytes of BLAKE3 over both volumes and the position, in hexadecimal.
pub(super) fn checksum(parent: VolumeId, child: VolumeId, lsn: Lsn) -> String {
    let text = format!("{parent}\n{child}\n{}", lsn.0);
    blake3::hash(text.as_bytes()).to_hex().chars().take(32).collect()
}

impl BucketRemote {
    /// The position that is meant.
    fn position(&self, at: At) -> Result<Lsn> {
        let head = self.head()?.lsn;
        match at {
            At::Head => Ok(head),
            At::Lsn(lsn) if lsn <= head => Ok(lsn),
            At::Lsn(lsn) => {
                let text =
                    format!("there is no commit with lsn=`{lsn}` yet; the log ends at @{head}");
                Err(Error::new(ErrorKind::NotFound, text))
            }
            At::Time(time_ms) => self.at_time(time_ms, Lsn::ZERO, head),
        }
    }

    /// The newest position at or before a time, not below `from`. Times never decrease along a log,
    /// so this halves.
    pub(super) fn at_time(&self, time_ms: u64, from: Lsn, head: Lsn) -> Result<Lsn> {
        let (mut at, mut above) = (from, head.next());
        while at.next() < above {
            let middle = Lsn(at.0 + (above.0 - at.0) / 2);
            let is_before = self.commit(middle)?.commit.time_ms <= time_ms;
            *(if is_before { &mut at } else { &mut above }) = middle;
        }
        Ok(at)
    }

    /// Refuses a position that is not there any more, whatever is remembered of it.
    fn require_kept(&self, lsn: Lsn) -> Result<()> {
        // ORDER: the read first; a name that is there while the boundary is above it may be taken
        // away, or given again, at any time.
        let there = self.read_back(lsn)?.is_some();
        if there && self.boundary_over(lsn)? <= lsn {
            return Ok(());
        }
        // Nothing that was read while it was still there may be used after this.
        *lock(&self.newest) = None;
        let text = format!("the state at lsn=`{lsn}` has been reclaimed; choose a newer one");
        Err(Error::new(ErrorKind::Expired, text))
    }
}

#[cfg(test)]
mod tests;
