//! `lotse-server backup` and `restore`: the whole data folder at one moment, checked before anybody relies on it.
//!
//! Owns: what a backup of the server holds and in which order it is taken: the database first, then the files it names, which
//! never change. Never: stops the server, takes the keys along unless told to, writes into a folder that has something in it.
//! Elsewhere: the form of a backup (`lotse_operations::backup`), what is checked (`store::examine`).

use std::path::Path;

use lotse_operations::backup::{self, Reader, Writer};
use lotse_protocol::id::{CaseId, Digest};
use serde_json::json;
use sqlx::{
    Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::{
    admin::print,
    config::Config,
    error::Error,
    store::{
        Store, examine,
        keys::{KEY_FILES, ServerKeys},
        now_ms, organisation,
        schema::{self, DATABASE, MIGRATIONS, RESTORING},
        stored,
    },
};

const PROGRAM: &str = "lotse-server";
/// Folders in a backup.
const DATA: &str = "data";
const KEYS: &str = "keys";

/// Makes a backup in `place`. Works beside a running server: what was acknowledged before it began is in it.
pub async fn make(config: &Config, place: &Path, with_keys: bool) -> Result<(), Error> {
    let begun_ms = now_ms();
    let source = source(config).await?;
    let keys = ServerKeys::open(config, &source).await?;
    let mut writer = Writer::begin(place, PROGRAM, env!("CARGO_PKG_VERSION"), with_keys, begun_ms)?;
    let data = writer.folder().join(DATA);
    std::fs::create_dir_all(&data).map_err(|e| lotse_operations::Error::file(&data, &e))?;
    schema::copy_database(&source, &data.join(DATABASE)).await?;
    writer.adopt(&format!("{DATA}/{DATABASE}"))?;

    let copy = read_only(&data.join(DATABASE)).await?;
    for row in sqlx::query("select case_id, digest from blobs").fetch_all(&copy).await? {
        let case: CaseId = stored("case id", row.try_get::<String, _>(0)?.parse())?;
        let digest = stored("digest", Digest::from_slice(&row.try_get::<Vec<u8>, _>(1)?))?;
        let name = format!("blobs/{case}/{digest}");
        let from = config.data.dir.join(&name);
        if tokio::task::block_in_place(|| writer.copy(&from, &format!("{DATA}/{name}")))? != digest.0 {
            return Err(Error::operator(
                format!("{}: its bytes have another digest; nothing was backed up", from.display()),
                "Keep this folder as it is, and take that file from an earlier backup.",
            ));
        }
    }
    if with_keys {
        for name in KEY_FILES {
            writer.copy(&config.data.keys.join(name), &format!("{KEYS}/{name}"))?;
        }
    }
    let sound = examine::all(&copy, &keys, &data.join("blobs")).await?;
    copy.close().await;
    let facts = json!({ "schema": schema::known(&MIGRATIONS), "server_key": keys.public(), "sound": sound });
    let manifest = tokio::task::block_in_place(|| writer.finish(facts))?;
    let bytes: u64 = manifest.files.values().map(|f| f.bytes).sum();
    note(&source, &keys, "backup.made", json!({ "begun_ms": begun_ms, "with_keys": with_keys })).await?;
    let about_keys = if with_keys {
        "The keys are in it: whoever has this folder can read everything. Keep it like the keys.".to_owned()
    } else {
        format!(
            "The keys are not in it: keep a copy of {} in another place. Without them nothing opens.",
            config.data.keys.display()
        )
    };
    print(&json!({
        "kind": "backup", "folder": place, "files": manifest.files.len(), "bytes": bytes,
        "with_keys": with_keys, "keys": about_keys, "sound": sound,
    }))
}

/// Puts a backup into the empty data folder of these settings.
pub async fn restore(config: &Config, from: &Path) -> Result<(), Error> {
    let reader = Reader::open(from, PROGRAM)?;
    let dir = &config.data.dir;
    backup::refuse_filled(
        dir,
        "Restore into an empty folder: set data.dir (LOTSE_DATA_DIR) to one, or move this one away.",
    )?;
    tokio::task::block_in_place(|| reader.check())?;
    let own = read_only(&reader.path(&format!("{DATA}/{DATABASE}"))).await?;
    schema::refuse_newer(&own, from, &MIGRATIONS).await?;
    let has_keys = KEY_FILES.iter().any(|name| config.data.keys.join(name).exists());
    if reader.manifest.with_keys && !has_keys {
        reader.unpack(&format!("{KEYS}/"), &config.data.keys)?;
    }
    // Keys that are missing or another folder's end it here, before anything is copied.
    ServerKeys::open(config, &own).await?;
    own.close().await;

    let half = dir.join(RESTORING);
    tokio::task::block_in_place(|| reader.unpack(&format!("{DATA}/"), &half))?;
    let mut inside = config.clone();
    inside.data.dir = half.clone();
    let store = Store::open(&inside).await?;
    let keys = ServerKeys::open(config, &store.pool).await?;
    let sound = examine::all(&store.pool, &keys, &half.join("blobs")).await?;
    // Cookies and codes that ended after the backup was made must not count again.
    for table in ["delete from logins", "delete from pairing_codes"] {
        sqlx::query(table).execute(&store.pool).await?;
    }
    note(&store.pool, &keys, "backup.restored", json!({ "begun_ms": reader.manifest.begun_ms })).await?;
    store.pool.close().await;
    let moved = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(&half)? {
            let entry = entry?;
            std::fs::rename(entry.path(), dir.join(entry.file_name()))?;
        }
        lotse_operations::disk::sync_folder(dir)?;
        // Its end says that everything is in place.
        std::fs::remove_dir(&half)?;
        lotse_operations::disk::sync_folder(dir)
    };
    moved().map_err(|e| lotse_operations::Error::file(dir, &e))?;
    print(&json!({
        "kind": "restored", "folder": dir, "begun_ms": reader.manifest.begun_ms, "sound": sound,
        "then": "Everybody logs in again. Revoke once more the devices that were revoked after this backup was made, and restore the archivist's backup of the same time or later.",
    }))
}

/// The database as it is, for reading and for one entry; its form is not changed by making a backup.
async fn source(config: &Config) -> Result<SqlitePool, Error> {
    schema::refuse_half_restored(&config.data.dir)?;
    let file = config.data.dir.join(DATABASE);
    let missing = |e: &dyn std::fmt::Display| {
        Error::operator(
            format!("{}: cannot be opened: {e}", file.display()),
            "Name the server's data folder in data.dir (LOTSE_DATA_DIR).",
        )
    };
    if !file.exists() {
        return Err(missing(&"there is no such file"));
    }
    let options = SqliteConnectOptions::new().filename(&file).busy_timeout(std::time::Duration::from_secs(10));
    let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await.map_err(|e| missing(&e))?;
    let stored = schema::refuse_newer(&pool, &file, &MIGRATIONS).await?;
    if stored != schema::known(&MIGRATIONS) {
        return Err(Error::operator(
            format!("{}: was written by an earlier lotse-server (form {stored})", file.display()),
            "Make the backup with that version; or start this one once, which keeps a copy of the database by itself.",
        ));
    }
    Ok(pool)
}

async fn read_only(file: &Path) -> Result<SqlitePool, Error> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true).immutable(true);
    SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|e| Error::operator(format!("{}: cannot be read: {e}", file.display()), "Choose another backup."))
}

async fn note(pool: &SqlitePool, keys: &ServerKeys, kind: &str, fact: serde_json::Value) -> Result<(), Error> {
    let mut tx = pool.begin_with("begin immediate").await?;
    organisation::append(&mut tx, keys, kind, fact).await?;
    Ok(tx.commit().await?)
}
