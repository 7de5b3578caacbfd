//! What can go wrong in the archivist, grouped by who must act; each sentence ends with a remedy.

use std::path::PathBuf;

use lotse_protocol::ProtocolError;

#[derive(Debug, thiserror::Error)]
pub enum ArchivistError {
    /// The operator: a setting.
    #[error("{file}: [{section}] {key} = {value}: {why}. {remedy}")]
    Setting { file: String, section: &'static str, key: &'static str, value: String, why: String, remedy: &'static str },
    /// The operator: a folder, file or port.
    #[error("{what} {path}: {source}. {remedy}")]
    Disk { what: &'static str, path: PathBuf, source: std::io::Error, remedy: &'static str },
    #[error("cannot listen on {address}: {source}. Choose a free port with [http] listen or LOTSE_HTTP_LISTEN.")]
    Listen { address: String, source: std::io::Error },
    /// The operator: not enrolled, or no longer.
    #[error("{0}")]
    NotEnrolled(String),
    /// The network or the server; tried again by itself.
    #[error("the server at {url} does not answer as expected: {why}. Check [server] url and that lotse-server runs.")]
    Server { url: String, why: String },
    #[error("media: {0}. The leg is built anew by itself.")]
    Media(String),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The operator: backup, restore, metrics, the data folder's form.
    #[error(transparent)]
    Operations(#[from] lotse_operations::Error),
    /// Us.
    #[error("the case bundle could not be made: {0}. Try again; if it stays, see the archivist's log.")]
    Bundle(String),
}

impl ArchivistError {
    /// For `map_err` on file operations.
    pub fn disk(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk {
            what,
            path,
            source,
            remedy: "Give the folder's owner and free space to the user lotse-archivist runs as.",
        }
    }
}

pub type Result<T> = std::result::Result<T, ArchivistError>;
