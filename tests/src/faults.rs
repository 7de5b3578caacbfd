//! Makes files and clocks of a running program fail: the test's end of the layer in `tests/faults`.
//!
//! Owns: the file that both share, and how a program is started with the layer. Never: knows what the program does.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::program::{Program, binary};

/// Bytes of the shared file; the layer's `Shared`.
const SIZE: u64 = 512;
const COUNTED: u64 = 0;
const FAILS_AT: u64 = 8;
const ERRNO: u64 = 16;
const FAILED: u64 = 24;
const SYNC_DELAY_US: u64 = 32;
const CLOCK_SHIFT_US: u64 = 40;
const CLOCKED: u64 = 48;
const WHAT: u64 = 56;

/// Takes the database's write lock for itself, as a copy or an SQLite shell of somebody else would; dropping it gives it back.
pub struct Lock(#[allow(dead_code)] SqliteConnection);

impl Lock {
    pub async fn of(database: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(database).busy_timeout(Duration::from_secs(20));
        let mut connection = options.connect().await.unwrap();
        sqlx::query("begin exclusive").execute(&mut connection).await.unwrap();
        Self(connection)
    }
}

/// The layer under one program. It outlives restarts of the program: counts go on.
pub struct Faults(File);

impl Faults {
    /// From its next start on, the program's changes of files below `folders` pass through the layer, and so does its clock.
    pub fn under(program: &mut Program, control: &Path, folders: &[PathBuf]) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(control).unwrap();
        file.set_len(SIZE).unwrap();
        let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        program.set("LD_PRELOAD", &binary("liblotse_faults.so").display().to_string());
        program.set("LOTSE_FAULTS", &control.display().to_string());
        program.set("LOTSE_FAULTS_UNDER", &folders.join(":"));
        Self(file)
    }

    /// Changes of files so far.
    pub fn counted(&self) -> u64 {
        self.read(COUNTED)
    }

    /// How many failed so far.
    pub fn failed(&self) -> u64 {
        self.read(FAILED)
    }

    /// The `n`-th change from now on fails once, with this error.
    pub fn fail(&self, n: u64, errno: i32) {
        self.write(ERRNO, errno as u64);
        self.write(FAILS_AT, self.counted() + n);
    }

    /// What failed last: the call and the file.
    pub fn what(&self) -> String {
        let mut bytes = [0; (SIZE - WHAT) as usize];
        self.0.read_exact_at(&mut bytes, WHAT).unwrap();
        let mut words = bytes.split(|b| *b == 0).map(String::from_utf8_lossy);
        format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// Every wait for the disk takes this much longer.
    pub fn slow(&self, delay: Duration) {
        self.write(SYNC_DELAY_US, delay.as_micros() as u64);
    }

    /// The time of day is this far from the true one.
    pub fn shift_clock(&self, seconds: i64) {
        self.write(CLOCK_SHIFT_US, (seconds * 1_000_000) as u64);
    }

    /// How often the program was told a wrong time.
    pub fn clocked(&self) -> u64 {
        self.read(CLOCKED)
    }

    fn read(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn write(&self, at: u64, value: u64) {
        self.0.write_all_at(&value.to_le_bytes(), at).unwrap();
    }
}
