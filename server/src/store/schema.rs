//! Which form the database has, and bringing an older one forward.
//!
//! Owns: the numbered migrations, the copy that is made before one changes anything, and the refusal of newer forms.
//! Never: changes a database that a newer program wrote, or goes backwards: the way back is that copy.

use std::path::{Path, PathBuf};

use sqlx::{Row as _, SqlitePool, migrate::Migrator};

use crate::error::Error;

pub const DATABASE: &str = "lotse.sqlite";
/// There while a restore has not finished.
pub const RESTORING: &str = ".restoring";

pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The newest form a program with these migrations knows.
pub fn known(migrations: &Migrator) -> i64 {
    migrations.iter().map(|m| m.version).max().unwrap_or(0)
}

/// The form of a database; 0 when it is empty.
pub async fn stored_version(pool: &SqlitePool) -> Result<i64, Error> {
    let table = "select 1 from sqlite_master where type = 'table' and name = '_sqlx_migrations'";
    if sqlx::query(table).fetch_optional(pool).await?.is_none() {
        return Ok(0);
    }
    let row = sqlx::query("select coalesce(max(version), 0) from _sqlx_migrations").fetch_one(pool).await?;
    Ok(row.try_get(0)?)
}

/// A newer form than this program knows is refused before anything is changed.
pub async fn refuse_newer(pool: &SqlitePool, place: &Path, migrations: &Migrator) -> Result<i64, Error> {
    let (stored, known) = (stored_version(pool).await?, known(migrations));
    if stored <= known {
        return Ok(stored);
    }
    Err(Error::operator(
        format!(
            "{}: was written by a newer lotse-server (form {stored}; this one knows up to {known}) and was not touched",
            place.display()
        ),
        "Start the newer lotse-server again, or restore a backup made by this version.",
    ))
}

/// Runs what is missing. Data that an older program wrote is copied first, and the operator is told where.
pub async fn bring_forward(pool: &SqlitePool, dir: &Path, migrations: &Migrator) -> Result<(), Error> {
    let file = dir.join(DATABASE);
    let stored = refuse_newer(pool, &file, migrations).await?;
    let known = known(migrations);
    if stored > 0 && stored < known {
        let copy = before(dir, stored);
        copy_database(pool, &copy).await?;
        tracing::info!(
            "the database goes from form {stored} to {known}; as it was before it lies in {}. To go back: stop, put that file in place of {}, start the earlier version",
            copy.display(),
            file.display(),
        );
    }
    migrations.run(pool).await.map_err(|e| {
        Error::operator(
            format!("{}: its tables cannot be brought up to date: {e}", file.display()),
            "Start the version of lotse-server that wrote it, or restore a backup.",
        )
    })
}

/// The copy that is kept from before a migration.
pub fn before(dir: &Path, version: i64) -> PathBuf {
    dir.join(format!("lotse-before-upgrade-from-{version}.sqlite"))
}

/// Writes the database as it is at one moment into a new file, also while others write. It appears whole or not at all.
pub async fn copy_database(pool: &SqlitePool, to: &Path) -> Result<(), Error> {
    let part = to.with_extension("part");
    for old in [&part, to] {
        match std::fs::remove_file(old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(lotse_operations::Error::file(old, &e).into());
            }
            _ => {}
        }
    }
    let name = part.to_str().ok_or_else(|| {
        Error::operator(format!("{}: is not UTF-8", part.display()), "Choose a folder whose name is.")
    })?;
    sqlx::query("vacuum into ?").bind(name).execute(pool).await?;
    let synced = || -> std::io::Result<()> {
        std::fs::File::open(&part)?.sync_all()?;
        std::fs::rename(&part, to)?;
        lotse_operations::disk::sync_folder(to.parent().unwrap_or(Path::new(".")))
    };
    synced().map_err(|e| lotse_operations::Error::file(to, &e).into())
}

/// A restore that was cut off leaves a folder that is not to be served.
pub fn refuse_half_restored(dir: &Path) -> Result<(), Error> {
    if !dir.join(RESTORING).exists() {
        return Ok(());
    }
    Err(Error::operator(
        format!("data.dir = {}: a restore into this folder was not finished", dir.display()),
        "Empty the folder and run `lotse-server restore` again.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, store::Store};

    async fn with_one_more() -> (tempfile::TempDir, Migrator) {
        let dir = tempfile::tempdir().expect("a folder");
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).expect("a folder") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), dir.path().join(file.file_name())).expect("copied");
        }
        std::fs::write(dir.path().join("0900_next.sql"), "alter table cases add column mood text;").expect("written");
        let migrator = Migrator::new(dir.path()).await.expect("migrations");
        (dir, migrator)
    }

    async fn store(dir: &Path) -> Store {
        let data = dir.display().to_string();
        let config = Config::load(None, |k| (k == "LOTSE_DATA_DIR").then(|| data.clone())).expect("settings");
        Store::open(&config).await.expect("opens")
    }

    #[tokio::test]
    async fn older_data_is_copied_before_it_is_changed_and_newer_data_is_refused_untouched() {
        let dir = tempfile::tempdir().expect("a folder");
        let (_folder, next) = with_one_more().await;
        let pool = store(dir.path()).await.pool;
        sqlx::query("insert into meta (name, value) values ('was', 'here')").execute(&pool).await.expect("written");
        bring_forward(&pool, dir.path(), &MIGRATIONS).await.expect("nothing to do");
        let from = known(&MIGRATIONS);
        assert!(!before(dir.path(), from).exists(), "no copy where nothing changes");

        bring_forward(&pool, dir.path(), &next).await.expect("brought forward");
        assert_eq!(stored_version(&pool).await.expect("a version"), 900);
        pool.close().await;
        let said = Store::open(
            &Config::load(None, |k| (k == "LOTSE_DATA_DIR").then(|| dir.path().display().to_string()))
                .expect("settings"),
        )
        .await
        .err()
        .expect("refused")
        .to_string();
        assert!(said.contains("newer lotse-server (form 900") && said.contains("restore a backup"), "{said}");

        // The way back: the copy in place of the database.
        std::fs::rename(before(dir.path(), from), dir.path().join(DATABASE)).expect("put back");
        let pool = store(dir.path()).await.pool;
        let was: String =
            sqlx::query("select value from meta where name = 'was'").fetch_one(&pool).await.expect("a row").get(0);
        assert_eq!((was.as_str(), stored_version(&pool).await.expect("a version")), ("here", from));
    }
}
