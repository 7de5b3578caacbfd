//! Backup and restore: whole or not there, checked byte by byte, never over something, with the keys only when asked.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use lotse_protocol::{item, kind};
use reqwest::Method;
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::kit::{Scene, World, fresh_item_key, lines};

/// A server with a recorded case, a few items in the database and large ones in files.
async fn filled(blobs: usize, bytes: usize) -> (World, Scene) {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let expert = world.login("expert").await;
    for n in 0..blobs {
        let sealed = item::seal(fresh_item_key(), &vec![n as u8; bytes]);
        let path = format!("/api/v1/cases/{}/items/{}", scene.case, sealed.digest);
        let put = expert.request(Method::PUT, &path).body(sealed.bytes.clone()).send().await.expect("an answer");
        assert_eq!(put.status(), 201);
        let (live, author) = &mut scene.expert;
        let snapshot = author.make(kind::SNAPSHOT, Some(scene.session), Some(b"{}"), &[&sealed], None);
        live.commit(&snapshot).await.expect("stored");
    }
    (world, scene)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn backup(world: &World, place: &Path, more: &[&str]) -> Command {
    let mut command = world.program(&["backup"]);
    command.arg(place).args(more);
    command
}

/// Into `name` beside the data, with the keys of the same name or the world's own.
fn restore(world: &World, place: &Path, name: &str, own_keys: bool) -> Command {
    let mut command = world.program(&["restore"]);
    command.arg(place).env("LOTSE_DATA_DIR", world.dir.path().join(name));
    if own_keys {
        command.env("LOTSE_DATA_KEYS", world.dir.path().join(format!("{name}-keys")));
    }
    command
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

async fn database(dir: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(dir.join("lotse.sqlite"));
    SqliteConnection::connect_with(&options).await.expect("a database")
}

#[tokio::test]
async fn the_keys_travel_only_when_asked_and_a_restore_opens_nothing_without_them() {
    let (world, _scene) = filled(2, 100_000).await;
    let plain = world.dir.path().join("plain");
    let made = backup(&world, &plain, &[]).output().expect("runs");
    assert!(made.status.success(), "{}", said(&made));
    let told = &lines(&made.stdout)[0];
    assert!(told["keys"].as_str().is_some_and(|k| k.contains("not in it")), "{told}");
    assert_eq!((&told["sound"]["cases"], &told["sound"]["blobs"]), (&1.into(), &2.into()), "{told}");
    assert!(files(&plain).iter().all(|f| !f.to_string_lossy().contains("organisation.aes")));

    let no_keys = restore(&world, &plain, "bare", true).output().expect("runs");
    assert!(
        !no_keys.status.success() && said(&no_keys).contains("without it nothing stored can be opened"),
        "{}",
        said(&no_keys)
    );
    assert!(files(&world.dir.path().join("bare")).is_empty(), "nothing was begun");
    let done = restore(&world, &plain, "again", false).output().expect("runs");
    assert!(done.status.success(), "{}", said(&done));
    let over = restore(&world, &plain, "again", false).output().expect("runs");
    assert!(!over.status.success() && said(&over).contains("is not empty"), "{}", said(&over));
    let twice = backup(&world, &plain, &[]).output().expect("runs");
    assert!(!twice.status.success() && said(&twice).contains("is not empty"), "{}", said(&twice));

    let full = world.dir.path().join("full");
    let made = backup(&world, &full, &["--with-keys"]).output().expect("runs");
    assert!(made.status.success() && lines(&made.stdout)[0]["keys"].as_str().is_some_and(|k| k.contains("are in it")));
    let done = restore(&world, &full, "elsewhere", true).output().expect("runs");
    assert!(done.status.success(), "{}", said(&done));
    let doctor = |name: &str| {
        let keys = world.dir.path().join(format!("{name}-keys"));
        world
            .program(&["doctor"])
            .env("LOTSE_DATA_DIR", world.dir.path().join(name))
            .env("LOTSE_DATA_KEYS", keys)
            .output()
    };
    let looked = doctor("elsewhere").expect("runs");
    assert!(looked.status.success(), "{}", said(&looked));
    let mut db = database(&world.dir.path().join("elsewhere")).await;
    for table in ["logins", "pairing_codes"] {
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(format!("select 1 from {table}"))).fetch_all(&mut db).await.expect("rows");
        assert!(rows.is_empty(), "{table} of before must not count again");
    }
}

#[tokio::test]
async fn a_flipped_byte_in_any_file_is_found_and_named() {
    let (world, _scene) = filled(1, 100_000).await;
    let place = world.dir.path().join("monday");
    let made = backup(&world, &place, &["--with-keys"]).output().expect("runs");
    assert!(made.status.success(), "{}", said(&made));
    let all = files(&place);
    assert!(all.len() >= 6, "database, item, two keys, list and its sum: {all:?}");
    for (n, file) in all.iter().enumerate() {
        let good = std::fs::read(file).expect("read");
        let mut bad = good.clone();
        let at = bad.len() * 2 / 3;
        bad[at] ^= 1;
        std::fs::write(file, &bad).expect("written");
        let tried = restore(&world, &place, &format!("no-{n}"), true).output().expect("runs");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!tried.status.success() && said(&tried).contains(&name), "{name}: {}", said(&tried));
        assert!(files(&world.dir.path().join(format!("no-{n}"))).is_empty());
        std::fs::write(file, &good).expect("written");
    }
    let done = restore(&world, &place, "yes", true).output().expect("runs");
    assert!(done.status.success(), "{}", said(&done));
}

#[tokio::test]
async fn damage_in_the_data_itself_is_not_backed_up_as_if_it_were_sound() {
    let (world, _scene) = filled(1, 100_000).await;
    let refused = |word: &str| {
        let place = world.dir.path().join("no");
        let tried = backup(&world, &place, &[]).output().expect("runs");
        assert!(!tried.status.success() && said(&tried).contains(word), "{word}: {}", said(&tried));
        assert!(!place.exists());
    };
    let blob = files(&world.data().join("blobs")).pop().expect("a file");
    let good = std::fs::read(&blob).expect("read");
    let mut bad = good.clone();
    bad[50_000] ^= 1;
    std::fs::write(&blob, &bad).expect("written");
    refused("another digest");
    std::fs::write(&blob, &good).expect("written");

    let mut db = database(&world.data()).await;
    for (change, back, word) in [
        (
            "update events set author = author || ' ' where seq = 3",
            "update events set author = trim(author) where seq = 3",
            "is damaged",
        ),
        ("update items set digest = zeroblob(32) where rowid = (select min(rowid) from items)", "", "has other bytes"),
    ] {
        sqlx::query(change).execute(&mut db).await.expect("changed");
        refused(word);
        if !back.is_empty() {
            sqlx::query(back).execute(&mut db).await.expect("changed back");
        }
    }
}

#[tokio::test]
async fn what_was_destroyed_stays_destroyed_after_a_restore() {
    let (world, scene) = filled(1, 100_000).await;
    let mut db = database(&world.data()).await;
    sqlx::query("update wraps set wrap = null, destroyed_ms = 7 where digest in (select digest from blobs)")
        .execute(&mut db)
        .await
        .expect("destroyed");
    let place = world.dir.path().join("monday");
    let made = backup(&world, &place, &[]).output().expect("runs");
    assert!(made.status.success(), "{}", said(&made));
    assert_eq!(lines(&made.stdout)[0]["sound"]["destroyed"], 1);
    let done = restore(&world, &place, "again", false).output().expect("runs");
    assert!(done.status.success(), "{}", said(&done));
    let mut restored = database(&world.dir.path().join("again")).await;
    let row = sqlx::query("select wrap, destroyed_ms from wraps where case_id = ? and destroyed_ms is not null")
        .bind(scene.case.to_string())
        .fetch_one(&mut restored)
        .await
        .expect("a row");
    assert_eq!((row.get::<Option<Vec<u8>>, _>(0), row.get::<i64, _>(1)), (None, 7));
}

#[tokio::test]
async fn a_backup_killed_at_any_moment_leaves_nothing_that_looks_whole() {
    let (world, _scene) = filled(40, 1_000_000).await;
    let mut cut_off = 0;
    for n in 0..12u64 {
        let place = world.dir.path().join(format!("cut-{n}"));
        let mut running = backup(&world, &place, &[]).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(15 * (n + 1)));
        let done = running.try_wait().expect("asked");
        running.kill().expect("killed");
        running.wait().expect("ends");
        if place.exists() {
            let back = restore(&world, &place, &format!("whole-{n}"), false).output().expect("runs");
            assert!(back.status.success(), "it has its name, so it must be whole: {}", said(&back));
        } else {
            assert!(done.is_none_or(|s| !s.success()));
            cut_off += 1;
            let part = world.dir.path().join(format!("cut-{n}.partial"));
            for folder in [&place, &part] {
                let tried = restore(&world, folder, &format!("cut-{n}-restored"), false).output().expect("runs");
                assert!(!tried.status.success(), "restored from {}", folder.display());
            }
        }
    }
    assert!(cut_off > 0, "none was cut off: make it larger");
    // The next one of that name clears the rest away.
    let place = world.dir.path().join("cut-0");
    assert!(backup(&world, &place, &[]).output().expect("runs").status.success());
    assert!(!world.dir.path().join("cut-0.partial").exists());
}

#[tokio::test]
async fn a_half_restored_folder_is_not_served() {
    let (world, _scene) = filled(0, 0).await;
    let half = world.dir.path().join("half");
    std::fs::create_dir_all(half.join(".restoring")).expect("made");
    let tried = world.program(&["serve"]).env("LOTSE_DATA_DIR", &half).output().expect("ends");
    assert!(!tried.status.success() && said(&tried).contains("was not finished"), "{}", said(&tried));
}
