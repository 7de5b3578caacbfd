//! The server's keys, and the wraps that item keys are kept under.
//!
//! Owns: `server.ed25519` (signs heads, grants and the server's own events) and `organisation.aes` (wraps case keys), both
//! 0600 files outside the data folder; wrapping and unwrapping. Never: opens an item, or writes an unwrapped key to disk.
//! A wrap is `nonce(12) | AES-256-GCM ciphertext and tag`, bound to what it belongs to by its associated data.

use std::{
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Nonce, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use lotse_protocol::{
    envelope,
    id::{CaseId, Digest, ItemKey, PublicKey},
};
use sqlx::{Row as _, SqliteConnection, SqlitePool};
use zeroize::Zeroizing;

use super::{random, stored};
use crate::{config::Config, error::Error};

/// In the folder of keys.
pub const KEY_FILES: [&str; 2] = ["server.ed25519", "organisation.aes"];

/// The keys that stand outside the data folder.
#[derive(Clone)]
pub struct ServerKeys {
    pub signing: Arc<SigningKey>,
    organisation: Arc<Zeroizing<[u8; 32]>>,
}

/// The key of one case, unwrapped for a moment.
pub struct CaseKey {
    case: CaseId,
    key: Zeroizing<[u8; 32]>,
}

impl ServerKeys {
    /// Reads the key files, or makes them for an empty data folder. Missing keys beside existing data are an error: new
    /// ones would open nothing.
    pub async fn open(config: &Config, pool: &SqlitePool) -> Result<Self, Error> {
        let dir = &config.data.keys;
        refuse_inside(dir, &config.data.dir)?;
        let known = known_key(pool).await?;
        if known.is_none() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| unusable(dir, &e))?;
        }
        let may_create = known.is_none();
        let signing = key_file(&dir.join(KEY_FILES[0]), may_create)?;
        let organisation = key_file(&dir.join(KEY_FILES[1]), may_create)?;
        let keys = Self { signing: Arc::new(SigningKey::from_bytes(&signing)), organisation: Arc::new(organisation) };
        let name = format!("{} {}", keys.public(), Digest::of(keys.organisation.as_slice()));
        match known {
            None => {
                sqlx::query("insert into meta (name, value) values ('keys', ?)").bind(name).execute(pool).await?;
            }
            Some(known) if known == name => {}
            Some(_) => {
                return Err(Error::operator(
                    format!("data.keys = {}: these keys belong to another data folder", dir.display()),
                    format!("Restore the keys that were made together with {}.", config.data.dir.display()),
                ));
            }
        }
        Ok(keys)
    }

    /// What others check the server's signatures with.
    pub fn public(&self) -> PublicKey {
        envelope::public_key(&self.signing)
    }

    /// Makes the key of a new case.
    pub async fn make_case_key(&self, tx: &mut SqliteConnection, case: CaseId) -> Result<(), Error> {
        let key = Zeroizing::new(random::<32>()?);
        let wrap = wrap(&self.organisation, key.as_slice(), &case_aad(case))?;
        sqlx::query("insert into case_keys (case_id, wrap) values (?, ?)")
            .bind(case.to_string())
            .bind(wrap)
            .execute(tx)
            .await?;
        Ok(())
    }

    /// The key of a case; `None` when it was destroyed.
    pub async fn case_key(&self, db: &mut SqliteConnection, case: CaseId) -> Result<Option<CaseKey>, Error> {
        let row = sqlx::query("select wrap from case_keys where case_id = ?")
            .bind(case.to_string())
            .fetch_optional(db)
            .await?;
        let Some(wrapped) = row.and_then(|r| r.get::<Option<Vec<u8>>, _>(0)) else { return Ok(None) };
        let key = unwrap(&self.organisation, &wrapped, &case_aad(case))?;
        Ok(Some(CaseKey { case, key }))
    }
}

impl CaseKey {
    /// Keeps an item key. A digest that has a wrap already, or had one that was destroyed, keeps what it has.
    pub async fn keep(&self, tx: &mut SqliteConnection, digest: &Digest, key: &ItemKey) -> Result<(), Error> {
        let wrap = wrap(&self.key, &key.0, &item_aad(self.case, digest))?;
        sqlx::query("insert or ignore into wraps (case_id, digest, wrap) values (?, ?, ?)")
            .bind(self.case.to_string())
            .bind(&digest.0[..])
            .bind(wrap)
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Opens one stored wrap.
    pub fn item_key(&self, digest: &Digest, wrapped: &[u8]) -> Result<ItemKey, Error> {
        Ok(ItemKey(*unwrap(&self.key, wrapped, &item_aad(self.case, digest))?))
    }
}

fn case_aad(case: CaseId) -> String {
    format!("lotse-case-key-v1 {case}")
}

fn item_aad(case: CaseId, digest: &Digest) -> String {
    format!("lotse-item-key-v1 {case} {digest}")
}

fn wrap(under: &[u8; 32], key: &[u8], aad: &str) -> Result<Vec<u8>, Error> {
    let nonce = random::<12>()?;
    let sealed = Aes256Gcm::new(under.into())
        .encrypt(&Nonce::<Aes256Gcm>::from(nonce), Payload { msg: key, aad: aad.as_bytes() })
        .map_err(|_| Error::Us("a key could not be wrapped".into()))?;
    Ok([&nonce[..], &sealed].concat())
}

fn unwrap(under: &[u8; 32], wrapped: &[u8], aad: &str) -> Result<Zeroizing<[u8; 32]>, Error> {
    let damaged = || Error::Us(format!("a stored key wrap does not open: {aad}"));
    let (nonce, sealed) = wrapped.split_first_chunk::<12>().ok_or_else(damaged)?;
    let plain = Aes256Gcm::new(under.into())
        .decrypt(&Nonce::<Aes256Gcm>::from(*nonce), Payload { msg: sealed, aad: aad.as_bytes() })
        .map(Zeroizing::new)
        .map_err(|_| damaged())?;
    plain.as_slice().try_into().map(Zeroizing::new).map_err(|_| damaged())
}

async fn known_key(pool: &SqlitePool) -> Result<Option<String>, Error> {
    let row = sqlx::query("select value from meta where name = 'keys'").fetch_optional(pool).await?;
    stored("key name", row.map(|r| r.try_get(0)).transpose())
}

/// 32 bytes as base64 in a file only its owner reads.
fn key_file(path: &Path, may_create: bool) -> Result<Zeroizing<[u8; 32]>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mode = std::fs::metadata(path).map_err(|e| unusable(path, &e))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(Error::operator(
                    format!("{}: others on this machine can read it (mode {:o})", path.display(), mode & 0o777),
                    format!("Run: chmod 600 {}", path.display()),
                ));
            }
            let text = Zeroizing::new(text);
            let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new).ok();
            bytes.and_then(|b| b.as_slice().try_into().ok()).map(Zeroizing::new).ok_or_else(|| {
                Error::operator(format!("{}: is not a key of 32 bytes in base64", path.display()), "Restore it.")
            })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && may_create => {
            let key = Zeroizing::new(random::<32>()?);
            let text = Zeroizing::new(STANDARD.encode(key.as_slice()));
            write_whole(path, text.as_bytes()).map_err(|e| unusable(path, &e))?;
            Ok(key)
        }
        Err(e) => Err(Error::operator(
            format!("{}: cannot be read: {e}", path.display()),
            "Restore it from its backup; without it nothing stored can be opened. data.keys names its folder.",
        )),
    }
}

/// Under its name there is the whole key or none: half a key would have to be told from a damaged one.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    lotse_operations::disk::sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn unusable(path: &Path, e: &std::io::Error) -> Error {
    Error::operator(
        format!("{}: cannot be written or read: {e}", path.display()),
        "Give this user the right, or set another folder in data.keys (LOTSE_DATA_KEYS).",
    )
}

/// A backup of the data folder must not carry the keys along.
pub fn refuse_inside(keys: &Path, data: &Path) -> Result<(), Error> {
    let absolute = |p: &Path| -> PathBuf {
        let full = std::path::absolute(p).unwrap_or_else(|_| p.to_owned());
        full.canonicalize().unwrap_or(full)
    };
    if absolute(keys).starts_with(absolute(data)) {
        return Err(Error::operator(
            format!("data.keys = {}: lies inside the data folder {}", keys.display(), data.display()),
            "Choose a folder outside it, so that a copy of the data does not open itself.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_opens_only_under_its_key_and_for_its_place() {
        let (a, b) = ([1u8; 32], [2u8; 32]);
        let wrapped = wrap(&a, &[7u8; 32], "here").expect("wraps");
        assert_eq!(*unwrap(&a, &wrapped, "here").expect("opens"), [7u8; 32]);
        assert!(unwrap(&b, &wrapped, "here").is_err());
        assert!(unwrap(&a, &wrapped, "there").is_err());
        assert!(unwrap(&a, &wrapped[..20], "here").is_err());
        assert_ne!(wrapped, wrap(&a, &[7u8; 32], "here").expect("wraps"), "a fresh nonce each time");
    }

    #[test]
    fn keys_inside_the_data_folder_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(refuse_inside(&dir.path().join("keys"), dir.path()).is_err());
        refuse_inside(&dir.path().join("keys"), &dir.path().join("data")).expect("beside it is fine");
    }
}
