//! What can go wrong on the glasses, grouped by who must act, each with the next step.
//!
//! Owns: the one error type of this crate. Never: an error without a remedy in its sentence.

use lotse_protocol::ProtocolError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum GlassError {
    /// The operator: settings.
    #[error("{place}: {key} = {value}: {why}. {remedy}")]
    Setting { place: String, key: String, value: String, why: String, remedy: &'static str },
    #[error("{path}: {why}. Check that the file exists and may be read and written by this user.")]
    File { path: String, why: String },
    /// The operator: the device.
    #[error("camera {source_name}: {why}. {remedy}")]
    Camera { source_name: String, why: String, remedy: &'static str },
    #[error("sound {device}: {why}. {remedy}")]
    Sound { device: String, why: String, remedy: &'static str },
    #[error("encoder: {why}. Install gstreamer1.0-plugins-good (VP8), or name another encoder in the device profile.")]
    Encoder { why: String },
    #[error("the display {what} cannot be opened: {why}. Choose another address or folder in [hud] displays.")]
    Display { what: String, why: String },
    #[error("input {what}: {why}. Choose another path in [input] sources.")]
    Input { what: String, why: String },
    /// The operator: the way to the server.
    #[error("the server at {url} does not answer: {why}. Check [server] url and the network; trying again.")]
    Unreachable { url: String, why: String },
    #[error("the server at {url} is not believed: {why}.")]
    Distrusted { url: String, why: String },
    #[error("the server refused: {message} ({code}, {request_id})")]
    Refused { code: String, message: String, request_id: String },
    #[error("these glasses are not enrolled. Ask an administrator for a pairing code and set [server] pairing_code.")]
    NotPaired,
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The media connection; it is built anew.
    #[error("media connection: {0}. Joining again.")]
    Media(String),
    /// Us.
    #[error("something broke on our side: {0}. Please report it with the log.")]
    Ours(String),
}

impl GlassError {
    pub fn file(path: &std::path::Path, why: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), why: why.to_string() }
    }
}
