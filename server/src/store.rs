//! Everything durable: the database, the files beside it, and the keys outside.
//!
//! Owns: opening the data folder, and the clock everybody stamps with. One SQLite file in WAL mode, every commit synced.
//! Never: knows what an item contains; all item bytes are ciphertext.
//! Elsewhere: one module per subject below.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sqlx::{
    Connection as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Semaphore;

use crate::{config::Config, error::Error};

pub mod accounts;
pub mod blobs;
pub mod case;
pub mod devices;
pub mod examine;
pub mod gateways;
pub mod intake;
pub mod keys;
pub mod log;
pub mod logins;
pub mod organisation;
pub mod reader;
pub mod registers;
pub mod schema;

/// How long a write waits while another program has the database locked: twice what a sync of a slow disk takes, and little enough
/// that whoever waits for an answer still sits before the screen. Then it is refused in words, and said again by whoever asked.
pub const LOCK_WAIT: Duration = Duration::from_secs(4);

/// One writer and a handful of readers; SQLite has one writer anyway.
const CONNECTIONS: u32 = 8;

/// The data folder, open.
#[derive(Clone)]
pub struct Store {
    pub pool: SqlitePool,
    pub dir: PathBuf,
    /// Half of the connections: uploads that wait for a locked database leave the others to the log and its readers.
    uploads: Arc<Semaphore>,
}

impl Store {
    /// Creates what is missing and brings the tables up to date.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let dir = config.data.dir.clone();
        let unusable = |e: &dyn std::fmt::Display| {
            Error::operator(
                format!("data.dir = {}: cannot be written: {e}", dir.display()),
                "Give this user the right to write there, or set another folder in data.dir (LOTSE_DATA_DIR).",
            )
        };
        schema::refuse_half_restored(&dir)?;
        std::fs::create_dir_all(dir.join("blobs")).map_err(|e| unusable(&e))?;
        // A folder that exists may still be read-only: try.
        let probe = dir.join(".writable");
        std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(|e| unusable(&e))?;
        let file = dir.join(schema::DATABASE);
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(LOCK_WAIT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            // A full disk makes SQLite roll back by itself. sqlx then goes on counting a transaction that is over, and such a
            // connection would refuse every later one. The ping comes after the rollback that sqlx may have queued.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await
            .map_err(|e| unusable(&e))?;
        schema::bring_forward(&pool, &dir, &schema::MIGRATIONS).await?;
        Ok(Self { pool, dir, uploads: Arc::new(Semaphore::new(CONNECTIONS as usize / 2)) })
    }
}

/// Server time, ms since 1970.
pub fn now_ms() -> i64 {
    now_us() / 1000
}

/// Server time, µs since 1970.
pub fn now_us() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// Reads a value that this program wrote; anything else is a damaged database.
pub(crate) fn stored<T, E: std::fmt::Display>(what: &str, value: Result<T, E>) -> Result<T, Error> {
    value.map_err(|e| Error::Us(format!("database: a stored {what} is damaged: {e}")))
}

/// Random bytes for keys, cookies and codes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::Us(format!("no randomness: {e}")))?;
    Ok(bytes)
}
