//! What must be true of an event's items before it is stored, and storing them.
//!
//! Owns: "a key for every digest, and the sealed bytes of each in the message or here already". Checks first, then writes, so
//! that a refused event leaves nothing behind. Never: opens an item.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lotse_protocol::{
    command::{ItemRef, MAX_INLINE_ITEM_BYTES},
    envelope::AuthorFields,
    id::{CaseId, Digest, ItemKey},
    item, kind,
};
use sqlx::{Row as _, SqliteConnection};

use super::keys::CaseKey;
use crate::{
    error::Error,
    refusal::{Code, Refusal},
};

/// One item of an event, checked.
pub struct CheckedItem {
    digest: Digest,
    /// `None`: its wrap is here already.
    new_key: Option<ItemKey>,
    /// Sealed bytes that came with the event.
    bytes: Option<Vec<u8>>,
    /// As it goes out to readers.
    pub sent: ItemRef,
}

/// Checks the items of an event against what it names and what is stored.
pub async fn check(
    db: &mut SqliteConnection,
    case: CaseId,
    case_key: Option<&CaseKey>,
    fields: &AuthorFields,
    given: Vec<ItemRef>,
) -> Result<Vec<CheckedItem>, Error> {
    if let Some(stray) = given.iter().find(|g| !fields.items().any(|d| *d == g.digest)) {
        let why = format!("items: {} is not named by the event", stray.digest);
        return Err(Refusal::with(Code::Malformed, why).into());
    }
    let mut checked: Vec<CheckedItem> = Vec::new();
    for digest in fields.items() {
        if checked.iter().any(|c| c.digest == *digest) {
            continue;
        }
        let given = given.iter().find(|g| g.digest == *digest);
        let is_media = kind::attachments_are_media(&fields.kind) && fields.item.as_ref() != Some(digest);
        let bytes = given.and_then(|g| g.bytes.as_deref()).map(|text| decode(digest, text)).transpose()?;
        if bytes.is_none() && !is_media && !is_stored(db, case, digest).await? {
            return Err(Refusal::with(Code::MissingItem, digest).into());
        }
        let wrapped = sqlx::query("select wrap from wraps where case_id = ? and digest = ?")
            .bind(case.to_string())
            .bind(&digest.0[..])
            .fetch_optional(&mut *db)
            .await?;
        // The header of sealed bytes names their key without opening them.
        if let (Some(bytes), Some(key)) = (&bytes, given.and_then(|g| g.key))
            && !bytes.starts_with(&item::commitment(&key))
        {
            return Err(Refusal::with(Code::WrongKey, digest).into());
        }
        let (new_key, key) = match (wrapped, given.and_then(|g| g.key)) {
            (Some(row), _) => {
                let wrap: Option<Vec<u8>> = row.try_get(0)?;
                let opened = wrap.zip(case_key).map(|(w, k)| k.item_key(digest, &w)).transpose()?;
                (None, opened)
            }
            (None, Some(key)) => (Some(key), Some(key)),
            (None, None) => return Err(Refusal::with(Code::MissingKey, digest).into()),
        };
        let inline = bytes.as_ref().and_then(|_| given.and_then(|g| g.bytes.clone()));
        checked.push(CheckedItem {
            digest: *digest,
            new_key,
            bytes,
            sent: ItemRef { digest: *digest, key, bytes: inline },
        });
    }
    Ok(checked)
}

/// Stores what [`check`] found new.
pub async fn store(
    tx: &mut SqliteConnection,
    case: CaseId,
    case_key: Option<&CaseKey>,
    items: &[CheckedItem],
) -> Result<(), Error> {
    for item in items {
        if let Some(bytes) = &item.bytes {
            sqlx::query("insert or ignore into items (case_id, digest, bytes) values (?, ?, ?)")
                .bind(case.to_string())
                .bind(&item.digest.0[..])
                .bind(bytes)
                .execute(&mut *tx)
                .await?;
        }
        if let (Some(key), Some(case_key)) = (&item.new_key, case_key) {
            case_key.keep(tx, &item.digest, key).await?;
        }
    }
    Ok(())
}

/// Are the sealed bytes here, in the database or as a file?
pub async fn is_stored(db: &mut SqliteConnection, case: CaseId, digest: &Digest) -> Result<bool, Error> {
    let row = sqlx::query(
        "select 1 from items where case_id = ?1 and digest = ?2
         union all select 1 from blobs where case_id = ?1 and digest = ?2",
    )
    .bind(case.to_string())
    .bind(&digest.0[..])
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

fn decode(digest: &Digest, text: &str) -> Result<Vec<u8>, Error> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|e| Refusal::with(Code::Malformed, format!("item {digest}: is not base64: {e}")))?;
    if bytes.len() > MAX_INLINE_ITEM_BYTES {
        return Err(Refusal::with(Code::TooLarge, MAX_INLINE_ITEM_BYTES).into());
    }
    if Digest::of(&bytes) != *digest {
        return Err(Code::DigestMismatch.into());
    }
    Ok(bytes)
}
