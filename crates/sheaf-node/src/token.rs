//! Bearer tokens: making them, storing their hashes, comparing.
//!
//! Invariant: nothing is admitted unless its hash is listed, and only hashes reach the disk. A
//! token is `sheaf_`, 43 characters of base 64 (32 random bytes) and 6 characters of checksum, so
//! that a truncated or mistyped one is told apart from an unknown one. Comparison takes the same
//! time whether or not a hash matches. Leaves out scopes per site: a token admits to all sites.

use sheaf_volume::{
    Env, Error, Result,
    teeth::{Tooth, bites},
};

use crate::limits::{TOKEN_LEN_MAX, TOKEN_LEN_MIN, TOKENS_MAX};

const PREFIX: &str = "sheaf_";
const BODY_LEN: usize = 43;
const CHECK_LEN: usize = 6;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Why a caller is not let in; the text is for the caller, the label for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No token was given.
    Missing,
    /// The token's own checksum is wrong.
    Damaged,
    /// The token is not listed.
    Unknown,
}

impl Denied {
    /// Label in `sheaf_auth_denied_total`.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
        }
    }

    /// What the caller is told.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Missing => "this node needs a token: pass --token or set SHEAF_TOKEN",
            Self::Damaged => "the token is not whole (its checksum is wrong): copy it again",
            Self::Unknown => "this node does not know the token: ask its operator for one",
        }
    }
}

/// Who is let in.
#[derive(Debug)]
pub(crate) enum Access {
    /// Everybody: `--no-auth`, on loopback only.
    Open,
    /// Holders of a token with one of these hashes.
    Tokens(Vec<blake3::Hash>),
}

impl Access {
    /// Lets a caller in or says why not.
    pub(crate) fn admit(&self, token: Option<&str>) -> Result<(), Denied> {
        let hashes = match self {
            Self::Open => return Ok(()),
            Self::Tokens(hashes) => hashes,
        };
        let token = token.filter(|text| !text.is_empty()).ok_or(Denied::Missing);
        if token.is_err() && bites(Tooth::AdmitNobody) {
            return Ok(());
        }
        let token = token?;
        if token.len() > TOKEN_LEN_MAX {
            return Err(Denied::Unknown);
        }
        let presented = hash(token);
        // `blake3::Hash` compares in constant time, and no match ends the loop early.
        let known = hashes.iter().fold(false, |found, listed| found | (*listed == presented));
        match (known, is_damaged(token)) {
            (true, _) => Ok(()),
            _ if bites(Tooth::AdmitUnknown) => Ok(()),
            (false, true) => Err(Denied::Damaged),
            (false, false) => Err(Denied::Unknown),
        }
    }

    /// Whether everybody is let in.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

/// A new token.
pub(crate) fn mint(env: &dyn Env) -> String {
    let mut secret = [0; 32];
    env.fill_random(&mut secret);
    let mut body = encode(&secret);
    body.truncate(BODY_LEN);
    let check = checksum(&body);
    format!("{PREFIX}{body}{check}")
}

/// What is stored instead of a token.
pub(crate) fn hash(token: &str) -> blake3::Hash {
    // A token holds 256 random bits, so neither salt nor a slow hash adds anything.
    blake3::hash(token.as_bytes())
}

/// Reads the node's own list: `hash made-at` per line.
///
/// # Errors
/// `Corrupt` for a line that is not that; `Invalid` for an empty list.
pub(crate) fn parse_hashes(text: &str) -> Result<Vec<blake3::Hash>> {
    let mut hashes = Vec::new();
    for (number, line) in lines(text) {
        let hex = line.split_whitespace().next().unwrap_or_default();
        let hash = blake3::Hash::from_hex(hex).map_err(|_| {
            Error::corrupt(format!("line {number} of the token list is not a token hash"))
        })?;
        hashes.push(hash);
    }
    bounded(hashes, "the token list")
}

/// Reads an operator's list: one plain token per line, `#` begins a comment.
///
/// # Errors
/// `Invalid` for a line that cannot be a token, and for an empty list.
pub(crate) fn parse_tokens(text: &str) -> Result<Vec<blake3::Hash>> {
    let mut hashes = Vec::new();
    for (number, line) in lines(text) {
        let wrong =
            |why: &str| Err(Error::invalid(format!("line {number} of the token file {why}")));
        if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("has spaces or other characters that a token cannot have");
        }
        if line.len() < TOKEN_LEN_MIN || line.len() > TOKEN_LEN_MAX {
            return wrong("is too short or too long for a token (16 to 256 characters)");
        }
        if is_damaged(line) {
            return wrong("is not a whole token (its checksum is wrong)");
        }
        hashes.push(hash(line));
    }
    bounded(hashes, "the token file")
}

fn bounded(hashes: Vec<blake3::Hash>, what: &str) -> Result<Vec<blake3::Hash>> {
    if hashes.is_empty() {
        return Err(Error::invalid(format!("{what} has no token: nobody could connect")));
    }
    if hashes.len() > TOKENS_MAX {
        return Err(Error::invalid(format!("{what} has more than {TOKENS_MAX} tokens")));
    }
    Ok(hashes)
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().zip(1..).map(|(line, number)| (number, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Whether the text claims to be one of our tokens but fails its checksum.
fn is_damaged(token: &str) -> bool {
    let Some(rest) = token.strip_prefix(PREFIX) else { return false };
    match rest.split_at_checked(BODY_LEN) {
        Some((body, check)) => check.len() != CHECK_LEN || check != checksum(body),
        None => true,
    }
}

fn checksum(body: &str) -> String {
    let digest = blake3::derive_key("sheaf 2026 token checksum v1", body.as_bytes());
    let mut text = encode(&digest);
    text.truncate(CHECK_LEN);
    text
}

/// Base 64 without padding, `-` and `_` as the last two digits (RFC 4648 section 5).
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        for (slot, byte) in group.iter_mut().skip(1).zip(chunk) {
            *slot = *byte;
        }
        let value = u32::from_be_bytes(group);
        for digit in 0..=chunk.len() {
            let six = (value >> (18 - 6 * digit)) & 63;
            let at = usize::try_from(six).unwrap_or_default();
            text.push(char::from(ALPHABET.get(at).copied().unwrap_or_default()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use sheaf_volume::ManualEnv;

    use super::*;

    fn admits(hashes: Vec<blake3::Hash>, token: &str) -> Result<(), Denied> {
        Access::Tokens(hashes).admit(Some(token))
    }

    #[test]
    fn base_64_matches_the_vectors_of_rfc_4648() {
        for (plain, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")]
        {
            assert_eq!(encode(plain.as_bytes()), text);
        }
        assert_eq!(encode(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn a_minted_token_has_the_documented_shape_and_is_admitted() {
        let token = mint(&ManualEnv::new(1));
        assert_eq!(token.len(), 6 + 43 + 6);
        assert_eq!(admits(vec![hash(&token)], &token), Ok(()));
        assert_ne!(token, mint(&ManualEnv::new(2)));
    }

    #[test]
    fn damage_is_told_apart_from_ignorance() {
        let token = mint(&ManualEnv::new(1));
        let other = mint(&ManualEnv::new(2));
        let list = || vec![hash(&token)];
        assert_eq!(admits(list(), &other), Err(Denied::Unknown));
        assert_eq!(admits(list(), &token[..20]), Err(Denied::Damaged));
        assert_eq!(admits(list(), &format!("{token}x")), Err(Denied::Damaged));
        assert_eq!(admits(list(), ""), Err(Denied::Missing));
        assert_eq!(admits(list(), &"x".repeat(TOKEN_LEN_MAX + 1)), Err(Denied::Unknown));
        assert_eq!(Access::Tokens(list()).admit(None), Err(Denied::Missing));
        assert_eq!(admits(Vec::new(), &token), Err(Denied::Unknown));
        assert_eq!(Access::Open.admit(None), Ok(()));
        // A multi-byte character across the split must not panic.
        let odd = format!("sheaf_{}\u{e9}aaaaaa", "a".repeat(42));
        assert_eq!(admits(list(), &odd), Err(Denied::Damaged));
    }

    #[test]
    fn lists_are_read_strictly() {
        let token = mint(&ManualEnv::new(3));
        let text = format!("# team\n\n  {token}  \nplain-token-of-ours\n");
        assert_eq!(parse_tokens(&text).unwrap().len(), 2);
        assert!(parse_tokens("# nobody\n").is_err());
        assert!(parse_tokens("short").is_err());
        assert!(parse_tokens("two words in one line").is_err());
        assert!(parse_tokens(&token[..30]).is_err());
        let stored = format!("# c\n{} 17\n", hash(&token).to_hex());
        assert_eq!(parse_hashes(&stored).unwrap(), vec![hash(&token)]);
        assert!(parse_hashes("zz 1").is_err());
        assert!(parse_hashes("").is_err());
    }
}
