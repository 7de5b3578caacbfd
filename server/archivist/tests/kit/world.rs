//! The real server and archivist of an integration test, in a folder and on ports of their own.

#![allow(dead_code)]

use std::process::Command;

use lotse_archivist::fragment;
use lotse_protocol::{
    id::{CaseId, Digest, SessionId},
    kind,
    policy::Role,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::live::{Peer, Program, program};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: Program,
    pub(crate) server_env: Vec<(&'static str, String)>,
    pub(crate) archivist: Program,
    pub(crate) archivist_env: Vec<(&'static str, String)>,
    pub(crate) codes: Vec<(String, String)>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (archive, http) = (free(), free());
        let path = |name: &str| dir.path().join(name).display().to_string();
        let env = vec![
            ("LOTSE_DATA_DIR", path("server")),
            ("LOTSE_DATA_KEYS", path("server-keys")),
            ("LOTSE_HTTP_LISTEN", http),
            ("LOTSE_MEDIA_UDP_PORT", "0".to_owned()),
            ("LOTSE_ARCHIVE_URL", format!("http://{archive}")),
        ];
        let seeded = Command::new(program("lotse-server"))
            .args(["admin", "seed-demo"])
            .envs(env.iter().map(|(k, v)| (*k, v)))
            .output()
            .expect("build it first: cargo build -p lotse-server");
        assert!(seeded.status.success(), "{}", String::from_utf8_lossy(&seeded.stderr));
        let codes: Vec<(String, String)> = String::from_utf8(seeded.stdout)
            .unwrap()
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok())
            .filter(|l| l["kind"] == "pairing")
            .map(|l| (l["name"].as_str().unwrap().to_owned(), l["code"].as_str().unwrap().to_owned()))
            .collect();
        let server = Program::start("lotse-server", &["serve"], &env);
        let code = |name: &str| codes.iter().find(|c| c.0 == name).unwrap().1.clone();
        let archivist_env = vec![
            ("LOTSE_SERVER_URL", server.url.clone()),
            ("LOTSE_SERVER_PAIRING_CODE", code("archivist")),
            ("LOTSE_HTTP_LISTEN", archive),
            ("LOTSE_DATA_DIR", path("archive")),
            ("LOTSE_DATA_KEYS", path("archivist-keys")),
        ];
        let archivist = Program::start("lotse-archivist", &["serve"], &archivist_env);
        Self { dir, server, server_env: env, archivist, archivist_env, codes }
    }

    /// Glasses that opened a case and called.
    pub(crate) async fn caller(&self) -> (Peer, SessionId) {
        let code = &self.codes.iter().find(|c| c.0.starts_with("helmet")).unwrap().1;
        let mut glasses = Peer::device(&self.server.url, code).await;
        let made = glasses.request(reqwest::Method::POST, "/api/v1/cases", Some(json!({ "language": "en" }))).await;
        assert!(made.status().is_success());
        let case: CaseId = made.json::<Value>().await.unwrap()["case"].as_str().unwrap().parse().unwrap();
        glasses.join(case, Role::Technician, "Mara Krüger").await;
        let session = SessionId(Uuid::now_v7());
        glasses.commit(kind::SESSION_CALLED, Some(session), None, None).await;
        (glasses, session)
    }

    pub(crate) fn restart_archivist(&mut self) {
        self.archivist = Program::start("lotse-archivist", &["serve"], &self.archivist_env);
    }

    pub(crate) fn fragment(&self, case: CaseId, media: &Digest) -> Vec<u8> {
        let folder = lotse_archivist::journal::fragments_dir(&self.dir.path().join("archive"), case);
        std::fs::read(fragment::path(&folder, media)).unwrap()
    }
}
