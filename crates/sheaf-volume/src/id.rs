//! Identifiers: 16 bytes, of which the first 6 are the minting time in milliseconds.
//!
//! Invariant: the text form is 26 lower-case Crockford base-32 characters, sorts like the bytes,
//! and is safe in file names and object keys. Ids are names, never authority.

use std::{fmt, str::FromStr};

use crate::{Env, Error, ErrorKind};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

fn mint(env: &dyn Env) -> [u8; 16] {
    let mut bytes = [0; 16];
    env.fill_random(&mut bytes);
    let time = env.now_ms().to_be_bytes();
    bytes[..6].copy_from_slice(&time[2..]);
    bytes
}

#[expect(clippy::indexing_slicing, reason = "five bits always index 32 letters")]
fn to_text(bytes: [u8; 16]) -> String {
    let value = u128::from_be_bytes(bytes);
    (0..TEXT_LEN)
        .rev()
        .map(|digit| ALPHABET[((value >> (digit * 5)) & 31) as usize] as char)
        .collect()
}

fn from_text(text: &str) -> Option<[u8; 16]> {
    // 26 digits hold 130 bits: the first may only use three of its five.
    if text.len() != TEXT_LEN || text.as_bytes().first()? > &b'7' {
        return None;
    }
    let mut value = 0u128;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|&a| a == byte)?;
        value = (value << 5) | digit as u128;
    }
    Some(value.to_be_bytes())
}

macro_rules! id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new id from this environment's clock and randomness.
            pub fn mint(env: &dyn Env) -> Self {
                Self(mint(env))
            }

            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes, as stored in formats and protocols.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_text(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), to_text(self.0))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                from_text(text).map(Self).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Invalid,
                        format!(concat!("not a ", stringify!($name), ": `{}`"), text),
                    )
                })
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Error;

            fn try_from(bytes: &[u8]) -> Result<Self, Error> {
                bytes.try_into().map(Self).map_err(|_| {
                    Error::new(
                        ErrorKind::Invalid,
                        concat!(stringify!($name), " needs 16 bytes").to_owned(),
                    )
                })
            }
        }
    };
}

id!(SiteId, "Names a site: a shared database.");
id!(VolumeId, "Names a volume: a page-addressed file with a log.");
id!(SegmentId, "Names a segment: an immutable object with page frames.");
id!(DeviceId, "Names one installation of a client, or one node.");
id!(TimelineId, "Names one device's ordered queue of mutations for one site.");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualEnv;

    #[test]
    fn text_round_trips_and_sorts_like_bytes() {
        let env = ManualEnv::new(7);
        let mut ids: Vec<VolumeId> = (0..200)
            .map(|_| {
                env.advance_ms(1);
                VolumeId::mint(&env)
            })
            .collect();
        for id in &ids {
            assert_eq!(id.to_string().parse::<VolumeId>().unwrap(), *id);
        }
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert!(texts.is_sorted());
        ids.dedup();
        assert_eq!(ids.len(), 200);
    }

    #[test]
    fn foreign_text_is_refused() {
        let good = SiteId::from_bytes([0x5a; 16]).to_string();
        good.parse::<SiteId>().unwrap();
        let upper = good.to_uppercase();
        let long = format!("{good}0");
        for text in [
            "",
            "..",
            &good[1..],
            &long,
            &upper,
            // 131 bits.
            "8zzzzzzzzzzzzzzzzzzzzzzzzz",
            // A letter that Crockford leaves out, and bytes that are no letters.
            "0000000000000000000000000u",
            "00000000000000000000000 00",
            "000000000000000000000000\u{e9}",
        ] {
            let error = text.parse::<SiteId>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        }
    }

    #[test]
    fn an_id_begins_with_the_time_and_the_text_is_fixed() {
        let env = ManualEnv::new(1);
        let id = SegmentId::mint(&env);
        assert_eq!(id.as_bytes()[..6], 1_700_000_000_000_u64.to_be_bytes()[2..]);
        assert_eq!(SegmentId::try_from(&id.as_bytes()[..]).unwrap(), id);
        assert!(SegmentId::try_from(&id.as_bytes()[1..]).is_err());
        assert_eq!(DeviceId::from_bytes([0; 16]).to_string(), "00000000000000000000000000");
        assert_eq!(DeviceId::from_bytes([255; 16]).to_string(), "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }

    proptest::proptest! {
        #[test]
        fn every_id_has_one_text(bytes: [u8; 16]) {
            let id = TimelineId::from_bytes(bytes);
            proptest::prop_assert_eq!(id.to_string().parse::<TimelineId>().unwrap(), id);
        }
    }
}
