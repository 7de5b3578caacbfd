//! Starting and stopping: what an operator is told when something is in the way.

use std::{net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

use lotse_protocol::command::ServerMessage;
use serde_json::Value;

use crate::kit::{World, http, lines};

#[tokio::test]
async fn a_taken_port_a_file_for_a_folder_and_a_wrong_key_are_named_with_their_remedy() {
    let world = World::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").to_string();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let udp_port = udp.local_addr().expect("an address").port().to_string();
    let file = world.dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let file = file.display().to_string();
    let inside = world.data().join("keys").display().to_string();
    let others = world.dir.path().join("other-keys").display().to_string();
    for (key, value, words) in [
        ("LOTSE_HTTP_LISTEN", port.as_str(), ["http.listen", "another port"]),
        ("LOTSE_MEDIA_UDP_PORT", udp_port.as_str(), ["media.udp_port", "free UDP port"]),
        ("LOTSE_DATA_DIR", file.as_str(), ["data.dir", "another folder"]),
        ("LOTSE_DATA_KEYS", inside.as_str(), ["data.keys", "inside the data folder"]),
        ("LOTSE_DATA_KEYS", others.as_str(), ["cannot be read", "backup"]),
        ("LOTSE_HTTP_LISTEN", "0.0.0.0:0", ["TLS", "public_url"]),
        ("LOTSE_MEDIA_WORKERS", "many", ["LOTSE_MEDIA_WORKERS = many", "number of workers"]),
    ] {
        let tried = world.program(&["serve"]).env(key, value).output().expect("it ends");
        let said = String::from_utf8_lossy(&tried.stderr).into_owned();
        assert!(!tried.status.success(), "{key} = {value}");
        for word in words {
            assert!(said.contains(word), "{key} = {value}: {word} missing in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() {
    let mut world = World::start().await;
    world.kill();
    let key = world.dir.path().join("keys/organisation.aes");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let tried = world.program(&["serve"]).output().expect("it ends");
    let said = String::from_utf8_lossy(&tried.stderr).into_owned();
    assert!(!tried.status.success() && said.contains("chmod 600"), "{said}");
}

#[tokio::test]
async fn sigterm_tells_sockets_and_ends_well() {
    let mut world = World::start().await;
    let mut live = world.login("expert").await.connect().await;
    live.until(|m| matches!(m, ServerMessage::Archivist { .. }).then_some(())).await;
    let term = Command::new("kill").args(["-TERM", &world.pid().to_string()]).status().expect("sent");
    assert!(term.success());
    assert_eq!(live.close_reason().await, "server_stops");
    assert!(world.wait().success());
}

#[tokio::test]
async fn seeding_again_keeps_people_and_paired_devices_and_renews_unused_codes() {
    let world = World::start().await;
    world.pair("helmet-1").await;
    let again = lines(&world.program(&["admin", "seed-demo"]).output().expect("runs").stdout);
    let of = |kind: &str, name: &str| again.iter().find(|l| l["kind"] == kind && l["name"] == name).cloned();
    assert!(of("paired", "helmet-1").is_some());
    let code = of("pairing", "helmet-2").expect("unused")["code"].clone();
    assert_ne!(code, Value::from(world.code("helmet-2")));
    assert!(of("account", "Anton Weber").is_some_and(|l| l["user"] == "expert"));
    world.login("expert").await;
}

#[tokio::test]
async fn an_administrator_makes_accounts_from_the_shell() {
    let world = World::start().await;
    let add = |password: &str| {
        let arguments = ["admin", "add-user", "karl", "--name", "Karl Moser", "--role", "manager"];
        world.program(&arguments).env("LOTSE_NEW_PASSWORD", password).output().expect("runs")
    };
    let short = add("short");
    assert!(!short.status.success() && String::from_utf8_lossy(&short.stderr).contains("fewer than 10"));
    assert!(add("a long enough one").status.success());
    let body = serde_json::json!({ "user": "karl", "password": "a long enough one" });
    assert_eq!(world.post("/api/v1/login", body).await.status(), 200);
}

async fn database(world: &World) -> sqlx::SqlitePool {
    let file = world.data().join("lotse.sqlite");
    sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.expect("the database")
}

#[tokio::test]
async fn a_changed_byte_in_a_stored_log_is_found_by_the_doctor() {
    let mut world = World::start().await;
    let manager = world.login("manager").await;
    world.case(&manager).await;
    world.kill();
    assert!(world.program(&["doctor"]).output().expect("runs").status.success());
    let pool = database(&world).await;
    sqlx::query("update events set author = replace(author, '\"de\"', '\"en\"')")
        .execute(&pool)
        .await
        .expect("changed");
    pool.close().await;
    let said = world.program(&["doctor"]).output().expect("runs");
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stdout).contains("does not verify"));
}

#[tokio::test]
async fn pages_come_from_their_folder_with_a_way_home_for_every_path() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("assets")).expect("made");
    std::fs::write(dir.path().join("index.html"), "<title>app</title>").expect("written");
    std::fs::write(dir.path().join("assets/app-1a2b.js"), "1").expect("written");
    std::fs::write(dir.path().join("assets/long-3c4d.js"), "say();".repeat(2_000).get(..10_000).expect("ASCII"))
        .expect("written");
    std::fs::write(dir.path().parent().expect("a parent").join("secret.txt"), "").expect("written");
    let world = World::with(&[("LOTSE_PAGES_DIR", &dir.path().display().to_string())]).await;
    let get = |path: &'static str| {
        let url = format!("{}{path}", world.url);
        async move { http().get(url).send().await.expect("an answer") }
    };
    for path in ["/", "/cases/5/replay", "/%2e%2e/secret.txt", "/.hidden"] {
        let page = get(path).await;
        assert_eq!(page.headers()["cache-control"], "no-cache");
        assert!(page.text().await.expect("text").contains("app"), "{path}");
    }
    let script = get("/assets/app-1a2b.js").await;
    assert!(script.headers()["cache-control"].to_str().expect("text").contains("immutable"));
    assert!(script.headers()["content-type"].to_str().expect("text").contains("javascript"));
    let packed = http().get(format!("{}/assets/long-3c4d.js", world.url)).header("accept-encoding", "gzip");
    let packed = packed.send().await.expect("an answer");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let bytes = packed.bytes().await.expect("bytes");
    assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < 500, "{} bytes", bytes.len());
    let plain = get("/assets/long-3c4d.js").await;
    assert_eq!(plain.headers().get("content-encoding"), None);
    assert_eq!(plain.bytes().await.expect("bytes").len(), 10_000, "for who cannot unpack");
    assert_eq!(get("/assets/gone.js").await.status(), 404);
    assert_eq!(get("/healthz").await.text().await.expect("text"), "alive");
    // No archivist runs: told, and no reason not to be ready.
    let ready: Value = get("/readyz").await.json().await.expect("JSON");
    let expected = serde_json::json!({
        "ready": true, "database": "ok", "disk": "ok", "workers": "ok", "archivist": "does not answer",
    });
    assert_eq!(ready, expected);
}
