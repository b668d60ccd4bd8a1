//! What is damaged, missing, full or cut short: the right rows or one clear error, never a panic,
//! never a wrong row.

mod disk;
mod kill;
mod local;
mod objects;

use sheaf_site::{Error, ErrorKind};

/// Kinds that tell a person that bytes are not what they should be.
const DAMAGE: &[ErrorKind] =
    &[ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::NotFound, ErrorKind::Expired];

fn is_clear(error: &Error) -> bool {
    let text = error.to_string();
    DAMAGE.contains(&error.kind()) && text.len() > 20 && !text.contains("disk I/O error")
}
