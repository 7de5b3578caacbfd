//! The archivist's keys: one secret seed in a file of mode 0600, and all that follows from it.
//!
//! Owns: the device key (Ed25519), per case a case key and device id (the same after every restart), and the wrap for
//! item keys in the index. Never: writes an item key in clear. Elsewhere: how the server learns the device key (`enrol`).

use std::{
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Nonce},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use lotse_protocol::id::{CaseId, DeviceId, ItemKey, PublicKey};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::error::{ArchivistError, Result};

const SEED_FILE: &str = "archivist.key";
const ENROLMENT_FILE: &str = "enrolment.json";
/// In the folder of keys.
pub const FILES: [&str; 2] = [SEED_FILE, ENROLMENT_FILE];

/// What the server said when this archivist was paired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    pub device: String,
    /// Signs grants and heads.
    pub server_key: PublicKey,
}

#[derive(Clone)]
pub struct Keys {
    seed: [u8; 32],
    dir: PathBuf,
}

impl Keys {
    /// Reads the seed, or makes one on first start.
    pub fn open(dir: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(ArchivistError::disk("the key folder", dir))?;
        let path = dir.join(SEED_FILE);
        let seed = match std::fs::read(&path) {
            Ok(bytes) => {
                let mode =
                    std::fs::metadata(&path).map_err(ArchivistError::disk("the key file", &path))?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(ArchivistError::NotEnrolled(format!(
                        "{} can be read by others (mode {:o}). Run: chmod 600 {}",
                        path.display(),
                        mode & 0o777,
                        path.display()
                    )));
                }
                bytes.try_into().map_err(|_| {
                    ArchivistError::NotEnrolled(format!(
                        "{} is not a key of 32 bytes. Restore it from a backup; without it open fragments are lost.",
                        path.display()
                    ))
                })?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let seed = random::<32>();
                write_secret(&path, &seed)?;
                seed
            }
            Err(e) => return Err(ArchivistError::disk("the key file", &path)(e)),
        };
        Ok(Self { seed, dir: dir.to_owned() })
    }

    pub fn enrolment(&self) -> Result<Option<Enrolment>> {
        let path = self.dir.join(ENROLMENT_FILE);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
                ArchivistError::NotEnrolled(format!(
                    "{} is not readable: {e}. Remove it and pair again with a new code.",
                    path.display()
                ))
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ArchivistError::disk("the enrolment file", &path)(e)),
        }
    }

    pub fn save_enrolment(&self, enrolment: &Enrolment) -> Result<()> {
        // A plain struct of two strings: serialising it cannot fail.
        let text = serde_json::to_vec_pretty(enrolment).unwrap_or_default();
        write_secret(&self.dir.join(ENROLMENT_FILE), &text)
    }

    /// Long-term key: enrolment, tokens, bundle signatures.
    pub fn device_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.derive("lotse-archivist-device-v1"))
    }

    /// Signs the archivist's events in one case.
    pub fn case_key(&self, case: CaseId) -> SigningKey {
        SigningKey::from_bytes(&self.derive(&format!("lotse-archivist-case-v1 {case}")))
    }

    /// The same id after each restart, so device numbers go on above the last one.
    pub fn case_device(&self, case: CaseId) -> DeviceId {
        let bytes: [u8; 32] = self.derive(&format!("lotse-archivist-case-device-v1 {case}"));
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[..16]);
        DeviceId(uuid::Builder::from_custom_bytes(id).into_uuid())
    }

    /// Seals an item key for the index.
    pub fn wrap(&self, key: &ItemKey) -> String {
        let nonce = random::<12>();
        let sealed = self.wrapper().encrypt(&Nonce::<Aes256Gcm>::from(nonce), key.0.as_slice()).unwrap_or_default();
        STANDARD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// `None` when it was wrapped by another archivist or changed.
    pub fn unwrap(&self, wrapped: &str) -> Option<ItemKey> {
        let bytes = STANDARD.decode(wrapped).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>()?;
        let plain = self.wrapper().decrypt(&Nonce::<Aes256Gcm>::from(*nonce), sealed).ok()?;
        ItemKey::from_slice(&plain).ok()
    }

    fn wrapper(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.derive("lotse-archivist-wrap-v1").into())
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut out = [0; 32];
        // 32 bytes are far below HKDF's limit of 255 blocks.
        let _ = Hkdf::<Sha256>::new(None, &self.seed).expand(purpose.as_bytes(), &mut out);
        out
    }
}

/// A fresh item key.
pub fn item_key() -> ItemKey {
    ItemKey(random())
}

/// Bytes from the operating system. Without them no key is safe, so the program ends.
fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    if let Err(e) = getrandom::fill(&mut out) {
        tracing::error!("the system gives no random numbers ({e}): stopping");
        std::process::abort();
    }
    out
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    };
    write().map_err(ArchivistError::disk("the key file", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_gives_the_same_keys_and_another_does_not() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let case = CaseId(uuid::Uuid::now_v7());
        let first = Keys::open(a.path()).unwrap();
        let again = Keys::open(a.path()).unwrap();
        let other = Keys::open(b.path()).unwrap();
        assert_eq!(first.case_key(case).to_bytes(), again.case_key(case).to_bytes());
        assert_eq!(first.case_device(case), again.case_device(case));
        assert_ne!(first.device_key().to_bytes(), first.case_key(case).to_bytes());
        let key = item_key();
        let wrapped = first.wrap(&key);
        assert_eq!(again.unwrap(&wrapped), Some(key));
        assert_eq!(other.unwrap(&wrapped), None);
        assert_ne!(first.wrap(&key), wrapped);
    }

    #[test]
    fn a_key_file_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        Keys::open(dir.path()).unwrap();
        let path = dir.path().join(SEED_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Keys::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
