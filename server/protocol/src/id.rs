//! Names of things: ids, digests, keys and the identity of one picture.
//!
//! Ids are UUIDs written as lower-case text; digests, keys and signatures are fixed byte strings written as
//! lower-case hex (digest) or standard base64 with padding (keys, signatures).

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use ts_rs::TS;
use uuid::Uuid;

use crate::ProtocolError;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
        #[serde(transparent)]
        #[ts(export, export_to = "ids.ts", type = "string")]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ProtocolError;
            fn from_str(text: &str) -> Result<Self, ProtocolError> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|e| ProtocolError::Malformed { what: stringify!($name), why: e.to_string() })
            }
        }
    )*};
}

uuid_id! {
    /// One case: the container of everything.
    CaseId,
    /// One live meeting of a case. A case can have many.
    SessionId,
    /// One event, chosen by its author, so that sending it twice is harmless. UUIDv7; UUIDv4 for receipts, whose exact
    /// time must not stand outside.
    EventId,
    /// One published track; new at every publisher start, codec change or re-base.
    TrackId,
    /// A person or program inside one case. Says nothing about the account behind it.
    Pseudonym,
    /// One device of an author inside one case; its case key signs.
    DeviceId,
}

macro_rules! byte_string {
    ($($(#[$doc:meta])* $name:ident, $len:literal, $encode:expr, $decode:expr);* $(;)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
        #[serde(try_from = "String", into = "String")]
        #[ts(export, export_to = "ids.ts", type = "string")]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Reads exactly this many bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, ProtocolError> {
                bytes.try_into().map(Self).map_err(|_| ProtocolError::Malformed {
                    what: stringify!($name),
                    why: format!("{} bytes instead of {}", bytes.len(), $len),
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = ProtocolError;
            fn try_from(text: String) -> Result<Self, ProtocolError> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = ProtocolError;
            fn from_str(text: &str) -> Result<Self, ProtocolError> {
                let bytes: Vec<u8> = $decode(text)
                    .ok_or_else(|| ProtocolError::Malformed { what: stringify!($name), why: "wrong alphabet".into() })?;
                Self::from_slice(&bytes)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                $encode(&value.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$encode(&self.0))
            }
        }
    )*};
}

byte_string! {
    /// SHA-256, written as 64 lower-case hex digits.
    Digest, 32, |b: &[u8]| hex(b), from_hex;
    /// Ed25519 public key, base64.
    PublicKey, 32, |b: &[u8]| STANDARD.encode(b), |t: &str| STANDARD.decode(t).ok();
    /// Ed25519 signature, base64.
    Signature, 64, |b: &[u8]| STANDARD.encode(b), |t: &str| STANDARD.decode(t).ok();
    /// AES-256-GCM key of one item, base64. Used for one item, once.
    ItemKey, 32, |b: &[u8]| STANDARD.encode(b), |t: &str| STANDARD.decode(t).ok();
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", &hex(&self.0)[..12])
    }
}
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}
impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}
/// A key never shows itself in a log.
impl fmt::Debug for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ItemKey(…)")
    }
}

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self(Sha256::digest(bytes).into())
    }
}

/// One picture: which track, and its unwrapped RTP time (90 kHz ticks; starts at the track's `rtp_base`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[ts(export, export_to = "ids.ts")]
pub struct FrameId {
    pub track: TrackId,
    /// Fits a JavaScript number: 2^53 ticks are 3,000 years.
    #[ts(type = "number")]
    pub rtp: u64,
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect()
}
