//! What every program needs to be run for years: figures, log lines that cannot flood, backups that prove themselves, disk space, doctors.
//!
//! Owns: the metrics listener, the limit on log lines, the form of a backup folder, the version mark of a data folder, what
//! all doctors share.
//! Never: knows what a case, a person or a packet is; what is counted and copied is said by the programs.
//! Elsewhere: what a backup of the server holds (`lotse-server`, `store::backup`), of the archive (`lotse-archivist`, `backup`).

// In a test an unwrap that fails is a failed test.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backup;
pub mod disk;
pub mod doctor;
pub mod format;
pub mod log;
pub mod metrics;

/// What an operator must mend, and how.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}. {remedy}")]
pub struct Error {
    pub what: String,
    pub remedy: String,
}

impl Error {
    pub fn new(what: impl ToString, remedy: impl ToString) -> Self {
        Self { what: what.to_string(), remedy: remedy.to_string() }
    }

    /// A file operation that failed.
    pub fn file(path: &std::path::Path, e: &std::io::Error) -> Self {
        let remedy = match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "Free space there, or choose another place."
            }
            std::io::ErrorKind::NotFound => "Name an existing file or folder.",
            _ => "Give this user the right to read and write there.",
        };
        Self::new(format!("{}: {e}", path.display()), remedy)
    }
}
