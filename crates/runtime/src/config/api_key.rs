//! API keys: how one is made, and what is kept of it.
//!
//! A key is `precis_` and 32 bytes from the system's source of randomness in base64url. The configuration
//! holds only its SHA-256. That is enough where it would not be for a password: nobody can try
//! 2²⁵⁶ keys, so that a slow hash adds nothing but work to every request. The prefix lets people and
//! scanners recognize a key that has leaked.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What every key begins with.
pub const KEY_PREFIX: &str = "precis_";
/// What every hash begins with, so that another kind can be added.
const HASH_PREFIX: &str = "sha256:";

/// A new key.
pub fn generate_key() -> String {
    format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()))
}

/// A new secret for webhooks, in the form of Standard Webhooks.
pub fn generate_webhook_secret() -> String {
    format!("whsec_{}", STANDARD.encode(random::<32>()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // A generator for cryptography, seeded by the operating system.
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// The SHA-256 of a key; as text `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key as its holder sends it.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Whether the hashes are the same, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        constant_time_eq::constant_time_eq_32(&self.0, &other.0)
    }
}

/// A text that is not the hash of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the hash of a key is `sha256:` and 64 hexadecimal digits, as `precis key` prints it")]
pub struct NotAHash;

impl FromStr for KeyHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(NotAHash)?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAHash);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * index..2 * index + 2).ok_or(NotAHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for KeyHash {
    type Error = NotAHash;

    fn try_from(text: String) -> Result<Self, NotAHash> {
        text.parse()
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_standard_and_survives_a_round_trip() {
        // FIPS 180-2, SHA-256 of "abc".
        let hash = KeyHash::of("abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        let read: KeyHash = text.parse().unwrap();
        assert!(read.matches(&hash) && !read.matches(&KeyHash::of("abd")));
        for bad in ["", "sha256:", "abc", &text[..70], &text.replace("ba", "bä")] {
            assert!(bad.parse::<KeyHash>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_long_and_new_every_time() {
        let (one, other) = (generate_key(), generate_key());
        assert_ne!(one, other);
        assert_eq!(one.len(), KEY_PREFIX.len() + 43);
    }
}
