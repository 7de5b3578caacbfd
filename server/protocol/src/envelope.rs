//! The envelope of an event: what its author signed, what the server added, and their hash.
//!
//! Both halves are JSON text that is stored, hashed and signed as it came: it is parsed to be read and never
//! written again. `AuthorFields::to_bytes` and `ServerFields::to_bytes` are the only writers.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use ts_rs::TS;

use crate::{
    ProtocolError,
    id::{CaseId, DeviceId, Digest, EventId, Pseudonym, PublicKey, SessionId, Signature},
    policy::Role,
};

/// The envelope version this code writes.
pub const VERSION: u64 = 1;
/// Author bytes are refused above this. They carry ids and digests only; content goes into items.
pub const MAX_AUTHOR_BYTES: usize = 16 * 1024;
/// Clear times of receipts are cut to this, ms.
pub const COARSE_MS: i64 = 60_000;

/// What the author signs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct AuthorFields {
    /// Envelope version, 1.
    #[ts(type = "number")]
    pub v: u64,
    pub case: CaseId,
    pub id: EventId,
    /// One of [`crate::kind`]; unknown kinds are kept.
    pub kind: String,
    /// The session this belongs to, where it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub session: Option<SessionId>,
    pub author: Pseudonym,
    pub device: DeviceId,
    /// Strictly rising per device and case; a lower or equal one is a replay.
    #[ts(type = "number")]
    pub device_seq: u64,
    /// Device UTC plus the measured server offset, ms since 1970. Whole minutes for receipts.
    #[ts(type = "number")]
    pub captured_at_ms: i64,
    /// Digest of the sealed payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub item: Option<Digest>,
    /// Digests of further sealed items: file, snapshot, media fragment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<Digest>>")]
    pub attachments: Vec<Digest>,
    /// What the server must read, by kind; absent for most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub clear: Option<Value>,
}

/// What the server adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct ServerFields {
    #[ts(type = "number")]
    pub v: u64,
    pub case: CaseId,
    /// 1 for the first event of a case, then without a hole.
    #[ts(type = "number")]
    pub seq: u64,
    /// Hash of the event before; [`genesis`] for the first.
    pub prev: Digest,
    /// Server UTC, ms since 1970. Whole minutes for receipts.
    #[ts(type = "number")]
    pub received_at_ms: i64,
}

/// One event as it is stored and sent: bytes, not fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct StoredEvent {
    /// [`ServerFields`] as JSON text.
    pub server: String,
    /// [`AuthorFields`] as JSON text.
    pub author: String,
    /// Over the author bytes, by the author's case key.
    pub sig: Signature,
}

/// Clear fields of `opened`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct Opened {
    /// Shown to people, e.g. "2026-0007".
    pub number: String,
    /// Register ids; their words are in the case card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub asset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub customer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub site: Option<String>,
    /// "de" or "en".
    pub language: String,
    /// Public key of the server, which signs heads and its own events.
    pub server_key: PublicKey,
}

/// Clear fields of `joined`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct Joined {
    pub role: Role,
    /// Signs this author's events in this case, this one included.
    pub case_key: PublicKey,
}

/// Clear fields of `session.left`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct Left {
    pub who: Pseudonym,
    pub why: LeftWhy,
}

/// Clear fields of `gateway.joined`. The name stands in the clear: an administrator gave it to a machine, and the server, who
/// writes the event, seals nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "envelope.ts")]
pub struct GatewayJoined {
    pub who: Pseudonym,
    pub way: GatewayWay,
    pub name: String,
}

/// Which way a gateway's media flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "envelope.ts")]
pub enum GatewayWay {
    /// It brings a picture or a voice.
    Publish,
    /// It sees and hears.
    Watch,
}

/// Why somebody is no longer in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "envelope.ts")]
pub enum LeftWhy {
    /// Said so.
    Left,
    /// Nothing heard for 20 s.
    Lost,
}

impl AuthorFields {
    /// The bytes to sign and send.
    pub fn to_bytes(&self) -> String {
        write(self)
    }

    /// Reads author bytes; the text itself stays what is stored.
    pub fn read(text: &str) -> Result<Self, ProtocolError> {
        let limit = MAX_AUTHOR_BYTES;
        if text.len() > limit {
            return Err(ProtocolError::TooLarge { what: "author bytes", size: text.len(), limit });
        }
        let fields: Self = read(text, "author bytes")?;
        check_version(fields.v)?;
        Ok(fields)
    }

    /// Reads the clear fields of this kind.
    pub fn clear<T: DeserializeOwned>(&self) -> Result<T, ProtocolError> {
        let value = self.clear.clone().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|e| ProtocolError::Malformed { what: "clear", why: e.to_string() })
    }

    /// Every item this event names: the payload first, then the attachments.
    pub fn items(&self) -> impl Iterator<Item = &Digest> {
        self.item.iter().chain(&self.attachments)
    }
}

impl ServerFields {
    pub fn to_bytes(&self) -> String {
        write(self)
    }

    pub fn read(text: &str) -> Result<Self, ProtocolError> {
        let fields: Self = read(text, "server bytes")?;
        check_version(fields.v)?;
        Ok(fields)
    }
}

impl StoredEvent {
    /// SHA-256 over server bytes, author bytes and signature; each text is preceded by its length (u32, big endian).
    pub fn hash(&self) -> Digest {
        use sha2::{Digest as _, Sha256};
        let mut h = Sha256::new();
        for text in [&self.server, &self.author] {
            h.update((text.len() as u32).to_be_bytes());
            h.update(text.as_bytes());
        }
        h.update(self.sig.0);
        Digest(h.finalize().into())
    }
}

/// `prev` of a case's first event: SHA-256 of "lotse-case-v1 " and the case id as text.
pub fn genesis(case: CaseId) -> Digest {
    Digest::of(format!("lotse-case-v1 {case}").as_bytes())
}

/// Signs author bytes, head bytes, or any other text of ours.
pub fn sign(key: &SigningKey, text: &str) -> Signature {
    Signature(key.sign(text.as_bytes()).to_bytes())
}

/// Checks a signature strictly (no malleable encodings).
pub fn verify(key: &PublicKey, text: &str, sig: &Signature) -> Result<(), ProtocolError> {
    let key = VerifyingKey::from_bytes(&key.0).map_err(|_| ProtocolError::BadSignature)?;
    let sig = ed25519_dalek::Signature::from_bytes(&sig.0);
    key.verify_strict(text.as_bytes(), &sig).map_err(|_| ProtocolError::BadSignature)
}

/// The public half, as it travels.
pub fn public_key(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// What people compare to know a server: SHA-256 of its public key's 32 bytes, in hex.
pub fn fingerprint(key: &PublicKey) -> Digest {
    Digest::of(&key.0)
}

/// Whole minutes, towards the past.
pub fn coarse(ms: i64) -> i64 {
    ms.div_euclid(COARSE_MS) * COARSE_MS
}

fn write<T: Serialize>(fields: &T) -> String {
    // Plain structs of strings, numbers and maps with string keys: serialising them cannot fail.
    serde_json::to_string(fields).unwrap_or_default()
}

fn read<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T, ProtocolError> {
    serde_json::from_str(text).map_err(|e| ProtocolError::Malformed { what, why: e.to_string() })
}

pub(crate) fn check_version(found: u64) -> Result<(), ProtocolError> {
    if found == VERSION { Ok(()) } else { Err(ProtocolError::NewerVersion { found }) }
}
