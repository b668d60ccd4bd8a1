//! Branches: bodies of requests and answers, pins, records with parents, parents on a device.
//!
//! Asserts: what decodes encodes to the same; a pin that is read names a position; a lineage that
//! is read gives every position one owner. Checks are computed here from `docs/format.md`.

use bytes::Bytes;
use serde_json::Value;
use sheaf_sync::branch;
use sheaf_volume::{ErrorKind, Lineage, Lsn, MemObjects, Objects as _, VolumeId, fuzz, pins};

use crate::input::assert_refusal;
use crate::site;

const PARENT: VolumeId = VolumeId::from_bytes([6; 16]);
const CHILD: VolumeId = VolumeId::from_bytes([7; 16]);

/// The bytes as each of them; what is JSON also with a right check.
pub fn target(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    match branch::decode_request(body.clone()) {
        Ok(request) => {
            let again = branch::decode_request(branch::encode_request(&request));
            assert_eq!(again.expect("BUG: an encoding that does not decode"), request);
        }
        Err(error) => assert_refusal(&error),
    }
    match branch::decode_answer(body) {
        Ok(opened) => {
            let again = branch::decode_answer(branch::encode_answer(&opened));
            assert_eq!(again.expect("BUG: an encoding that does not decode"), opened);
        }
        Err(error) => assert_refusal(&error),
    }
    match fuzz::parents(CHILD, data) {
        Ok((lineage, again)) => {
            let (back, _) = fuzz::parents(CHILD, &again).expect("BUG: our own encoding");
            assert_eq!(back, lineage);
            owners(&lineage);
        }
        Err(error) => assert_refusal(&error),
    }
    pin(data);
    site::record(data);
    if let Some((as_pin, as_record)) = sealed(data) {
        pin(&as_pin);
        site::record(&as_record);
    }
}

fn owners(lineage: &Lineage) {
    assert!(lineage.parents().iter().all(|parent| lineage.owner(parent.lsn) == parent.volume));
    assert_eq!(lineage.owner(lineage.fork().next()), lineage.volume());
}

fn pin(bytes: &[u8]) {
    let objects = MemObjects::new();
    let key = format!("volumes/{PARENT}/branches/{CHILD}");
    objects.put(&key, Bytes::copy_from_slice(bytes)).expect("BUG: objects in memory");
    match pins(&objects, PARENT) {
        Ok(pins) => {
            let [pin] = pins.as_slice() else { panic!("a pin is passed over") };
            assert!(pin.child == CHILD && pin.lsn > Lsn::ZERO);
        }
        Err(error) => {
            let fits = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported);
            assert!(fits, "{error}");
        }
    }
}

/// The members with the check of a pin, and with that of a record named `s`.
fn sealed(data: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let value: Value = serde_json::from_slice(data).ok()?;
    let shown = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let pin = format!("{PARENT}\n{CHILD}\n{}", shown(&value, "lsn"));
    let members = ["site", "volume", "page_size", "created_ms"];
    let mut record = members.iter().fold("s".to_owned(), |t, m| t + "\n" + &shown(&value, m));
    for parent in value.get("parents").and_then(Value::as_array).into_iter().flatten() {
        record += &format!("\n{}\n{}", shown(parent, "volume"), shown(parent, "lsn"));
    }
    let with = |text: &str| {
        let mut value = value.clone();
        let check: String = blake3::hash(text.as_bytes()).to_hex().chars().take(32).collect();
        value.as_object_mut()?.insert("check".to_owned(), check.into());
        serde_json::to_vec(&value).ok()
    };
    Some((with(&pin)?, with(&record)?))
}
