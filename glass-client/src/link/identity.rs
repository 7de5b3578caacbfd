//! Who these glasses are: a device key made once, and what the server said when they were enrolled.
//!
//! Owns: `device.key` (0600) and `device.json` in the data folder (0700), and `state.json`: the case in hand.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ed25519_dalek::SigningKey;
use lotse_operations::disk::sync_folder;
use lotse_protocol::{
    envelope,
    id::{CaseId, PublicKey, SessionId},
};
use serde::{Deserialize, Serialize};

use crate::error::GlassError;

/// The device's long-term key and its folder.
pub struct Identity {
    dir: PathBuf,
    key: SigningKey,
    /// What enrolment gave, until the disk has it.
    unsaved: Mutex<Option<Enrolled>>,
}

/// What enrolment gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub device: String,
    pub server_key: PublicKey,
    /// The authority of the server's certificate, where the pairing code named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
}

/// The case in hand, for the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InHand {
    pub case: CaseId,
    pub session: Option<SessionId>,
}

impl Identity {
    /// Opens or makes the key.
    pub fn open(dir: &Path) -> Result<Self, GlassError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| GlassError::file(dir, e))?;
        let path = dir.join("device.key");
        let key = match fs::read(&path) {
            Ok(bytes) => {
                let mode = fs::metadata(&path).map_err(|e| GlassError::file(&path, e))?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(GlassError::file(
                        &path,
                        "other users may read it; chmod 600 it, or delete it and pair again",
                    ));
                }
                let bytes: [u8; 32] = bytes
                    .try_into()
                    .map_err(|_| GlassError::file(&path, "it is not a device key; delete it and pair again"))?;
                SigningKey::from_bytes(&bytes)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = SigningKey::from_bytes(&rand::random());
                write(&path, &key.to_bytes())?;
                key
            }
            Err(e) => return Err(GlassError::file(&path, e)),
        };
        Ok(Self { dir: dir.to_owned(), key, unsaved: Mutex::default() })
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    pub fn public_key(&self) -> PublicKey {
        envelope::public_key(&self.key)
    }

    pub fn enrolled(&self) -> Option<Enrolled> {
        self.unsaved().clone().or_else(|| read(&self.dir.join("device.json")))
    }

    /// Counts at once, whether the disk takes it or not: the pairing code is spent, and another would have to be fetched.
    pub fn enrol(&self, enrolled: Enrolled) {
        *self.unsaved() = Some(enrolled);
        self.save();
    }

    /// Keeps for the next start what the disk has not taken yet.
    pub fn save(&self) {
        let mut unsaved = self.unsaved();
        let Some(text) = unsaved.as_ref().and_then(|e| serde_json::to_vec(e).ok()) else { return };
        match write(&self.dir.join("device.json"), &text) {
            Ok(()) => *unsaved = None,
            Err(e) => tracing::error!("after a restart these glasses would need a new pairing code: {e}"),
        }
    }

    fn unsaved(&self) -> MutexGuard<'_, Option<Enrolled>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn in_hand(&self) -> Option<InHand> {
        read(&self.dir.join("state.json"))
    }

    pub fn remember(&self, in_hand: Option<InHand>) -> Result<(), GlassError> {
        let path = self.dir.join("state.json");
        match in_hand {
            Some(state) => {
                let text = serde_json::to_vec(&state).map_err(|e| GlassError::Ours(e.to_string()))?;
                write(&path, &text)
            }
            None => match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(GlassError::file(&path, e)),
                _ => Ok(()),
            },
        }
    }
}

/// A file that is not there or not readable says nothing.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Whole or not at all, and there after a power cut: written beside, then moved.
fn write(path: &Path, bytes: &[u8]) -> Result<(), GlassError> {
    let beside = path.with_extension("new");
    let broken = |e| GlassError::file(path, e);
    let mut file =
        fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside).map_err(broken)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(broken)?;
    fs::rename(&beside, path).map_err(broken)?;
    path.parent().map_or(Ok(()), sync_folder).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_from_others() {
        let dir = tempfile::tempdir().expect("dir");
        let inside = dir.path().join("data");
        let first = Identity::open(&inside).expect("made").public_key();
        let mode = |p: &Path| fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&inside), mode(&inside.join("device.key"))), (0o700, 0o600));
        assert_eq!(Identity::open(&inside).expect("kept").public_key(), first);
        fs::set_permissions(inside.join("device.key"), fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Identity::open(&inside).err().expect("refused").to_string().contains("chmod 600"));
    }

    #[test]
    fn an_enrolment_counts_though_the_disk_refuses_it_and_is_kept_once_it_takes_it() {
        let dir = tempfile::tempdir().expect("dir");
        let identity = Identity::open(dir.path()).expect("made");
        // A folder in its place: the file cannot be moved there.
        fs::create_dir_all(dir.path().join("device.json/full")).expect("folder");
        let enrolled = Enrolled { device: "d".into(), server_key: identity.public_key(), pin: None };
        identity.enrol(enrolled.clone());
        assert_eq!(identity.enrolled(), Some(enrolled.clone()));
        fs::remove_dir_all(dir.path().join("device.json")).expect("removed");
        identity.save();
        assert_eq!(Identity::open(dir.path()).expect("again").enrolled(), Some(enrolled));
    }

    #[test]
    fn the_case_in_hand_is_kept_and_forgotten() {
        let dir = tempfile::tempdir().expect("dir");
        let identity = Identity::open(dir.path()).expect("made");
        let state = InHand { case: CaseId(uuid::Uuid::now_v7()), session: None };
        identity.remember(Some(state)).expect("kept");
        assert_eq!(identity.in_hand(), Some(state));
        identity.remember(None).expect("forgotten");
        identity.remember(None).expect("again");
        assert_eq!(identity.in_hand(), None);
        fs::write(dir.path().join("state.json"), b"{").expect("rubbish");
        assert_eq!(identity.in_hand(), None);
    }
}
