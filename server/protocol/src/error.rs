//! What can be wrong with bytes that arrive, and what the sender can do about it.

use ts_rs::TS;

/// Why bytes were not accepted. The caller must act: the message says how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("{what} is not valid: {why}. Send it as docs/PROTOCOL.md describes.")]
    Malformed { what: &'static str, why: String },
    #[error(
        "the signature does not match its author's key. Sign the exact author bytes with the key named in `joined`."
    )]
    BadSignature,
    #[error("the sealed item does not open with this key: chunk {chunk} was changed or the key is another item's.")]
    DoesNotOpen { chunk: u64 },
    #[error("the key is another item's. Ask for the key of this digest.")]
    WrongKey,
    #[error("the sealed bytes are not those of the digest asked for: they were changed. Fetch them again.")]
    OtherDigest,
    #[error("the sealed item ends inside chunk {chunk}. Fetch it again.")]
    Truncated { chunk: u64 },
    #[error("version {found} is newer than this program understands (1). Update it.")]
    NewerVersion { found: u64 },
    #[error("{what} is {size} bytes, more than the limit of {limit}. Send it in smaller parts.")]
    TooLarge { what: &'static str, size: usize, limit: usize },
}

/// The error every HTTP reply and live refusal carries: a code for machines, a sentence for people, an id for support.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, TS)]
#[ts(export, export_to = "ApiError.ts")]
pub struct ApiError {
    /// Stable, lower_snake_case; the list stands in docs/PROTOCOL.md.
    pub code: String,
    /// One sentence in the caller's language with the next step.
    pub message: String,
    /// Four hex digits, also in the server's log.
    pub request_id: String,
}

/// The body of every failed HTTP reply.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, TS)]
#[ts(export, export_to = "ApiError.ts")]
pub struct ErrorBody {
    pub error: ApiError,
}
