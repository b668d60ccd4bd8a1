//! The positions that branches of a volume need.
//!
//! Invariant: a pin that cannot be read stops the reclaimer, which must not guess what it keeps.

use serde_json::Value;

use crate::bucket::keys::{damaged, pin_prefix, refused};
use crate::limits::LSN_MAX;
use crate::teeth::{Tooth, bites};
use crate::{Error, ErrorKind, Lsn, Objects, ObjectsError, Result, VolumeId};

const FORMAT: u64 = 1;

/// Every pin of a volume, as the store says now.
pub(super) fn pins(objects: &dyn Objects, volume: VolumeId) -> Result<Vec<Lsn>> {
    if bites(Tooth::IgnorePins) {
        return Ok(Vec::new());
    }
    let prefix = pin_prefix(volume);
    let keys = objects.list(&prefix, None).map_err(|e| refused("list branches", e))?;
    let mut pins = Vec::with_capacity(keys.len());
    for (key, bytes) in keys.iter().zip(objects.get_many(&keys)) {
        match bytes {
            Ok(bytes) => pins.push(parse(&bytes).map_err(|e| damaged(key, e))?),
            // The branch was deleted since it was listed.
            Err(ObjectsError::NotFound(_)) => {}
            Err(e) => return Err(refused("read branch", e)),
        }
    }
    Ok(pins)
}

fn parse(bytes: &[u8]) -> Result<Lsn> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::with_source(ErrorKind::Corrupt, "branch pin", e))?;
    let number = |field: &str| {
        let number = value.get(field).and_then(Value::as_u64);
        number.ok_or_else(|| Error::corrupt(format!("branch pin: bad field=`{field}`")))
    };
    let format = number("format")?;
    if format != FORMAT {
        let text = "branch made by a newer version of Sheaf; upgrade";
        return Err(Error::new(ErrorKind::Unsupported, format!("{text}: format=`{format}`")));
    }
    let lsn = number("lsn")?;
    if !(1..=LSN_MAX).contains(&lsn) {
        return Err(Error::corrupt("branch pin: position out of range"));
    }
    Ok(Lsn(lsn))
}
