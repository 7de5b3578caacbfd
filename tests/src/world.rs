//! A world: one server, one archivist, some glasses, in a folder of its own and on ports of its own.
//!
//! Owns: folders, ports, settings and pairing codes; the seed of everything random in its networks.
//! Never: shares anything with another world, so tests run beside each other. Dropping it ends what it started.

use std::{collections::HashMap, net::TcpListener, path::PathBuf};

use lotse_protocol::id::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    disk,
    faults::Faults,
    glasses::{Glasses, GlassesSettings},
    network::Link,
    person::Person,
    program::Program,
};

/// The demo accounts' password; it counts on loopback only.
pub const PASSWORD: &str = "lotse-demo";

pub struct World {
    pub seed: u64,
    pub url: String,
    pub server: Program,
    pub archivist: Program,
    /// Pairing codes by device name.
    pub codes: HashMap<String, String>,
    /// Last: a program that ends with a failed test shows the end of its log, which lies here.
    pub folder: TempDir,
}

impl World {
    /// Server and archivist, running.
    pub async fn seeded(seed: u64) -> Self {
        let mut world = Self::planned(seed);
        world.start().await;
        world
    }

    /// Only the server runs; `archivist` can be started.
    pub async fn with_server(seed: u64) -> Self {
        let mut world = Self::planned(seed);
        world.start_server().await;
        world
    }

    /// Starts server and archivist for the first time, as they were planned.
    pub async fn start(&mut self) {
        self.start_server().await;
        self.archivist.start().await;
    }

    /// Starts the server for the first time; what is left of a start is the archivist.
    pub async fn start_server(&mut self) {
        self.seed_demo().await;
        self.server.start().await;
        assert_eq!(self.server.ready["http"], self.url);
        let code = self.codes["archivist"].clone();
        self.archivist.set("LOTSE_SERVER_PAIRING_CODE", &code);
    }

    /// Nothing runs yet.
    pub fn planned(seed: u64) -> Self {
        lotse_trust::use_ring();
        let folder = tempfile::Builder::new().prefix("lotse-world-").tempdir().unwrap();
        let (http, archive) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{http}");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let server = Program::new(
            "server",
            "lotse-server",
            &["serve"],
            &[
                ("LOTSE_HTTP_LISTEN", format!("127.0.0.1:{http}")),
                ("LOTSE_DATA_DIR", path("server")),
                ("LOTSE_DATA_KEYS", path("server-keys")),
                ("LOTSE_MEDIA_UDP_PORT", "0".into()),
                ("LOTSE_ARCHIVE_URL", format!("http://127.0.0.1:{archive}")),
            ],
            folder.path(),
        );
        let archivist = Program::new(
            "archivist",
            "lotse-archivist",
            &["serve"],
            &[
                ("LOTSE_SERVER_URL", url.clone()),
                ("LOTSE_HTTP_LISTEN", format!("127.0.0.1:{archive}")),
                ("LOTSE_DATA_DIR", path("archivist")),
                ("LOTSE_DATA_KEYS", path("archivist-keys")),
            ],
            folder.path(),
        );
        Self { seed, url, server, archivist, codes: HashMap::new(), folder }
    }

    /// Server and archivist, running, with the layer that fails under both: in this order.
    pub async fn with_faults(seed: u64) -> (Self, Faults, Faults) {
        let mut world = Self::planned(seed);
        let (server, archivist) = world.lay_faults();
        world.start().await;
        (world, server, archivist)
    }

    /// Before their start: below data and keys of server and archivist lies the layer that fails.
    pub fn lay_faults(&mut self) -> (Faults, Faults) {
        let paths = |program: &str| [self.path(program), self.path(&format!("{program}-keys"))];
        let (server, archivist) = (paths("server"), paths("archivist"));
        let controls = ["server", "archivist"].map(|program| self.path(&format!("{program}.faults")));
        (
            Faults::under(&mut self.server, &controls[0], &server),
            Faults::under(&mut self.archivist, &controls[1], &archivist),
        )
    }

    /// Makes the demo's accounts, registers and pairing codes.
    pub async fn seed_demo(&mut self) {
        let out = self.admin(&["seed-demo"]).await;
        for line in out.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
            if line["kind"] == "pairing" {
                let text = |key: &str| line[key].as_str().unwrap().to_owned();
                self.codes.insert(text("name"), text("code"));
            }
        }
    }

    /// One more expert, who logs in like the others.
    pub async fn add_expert(&self, user: &str) {
        self.admin(&["add-user", user, "--name", user, "--role", "expert", "--language", "en"]).await;
    }

    /// What an administrator types beside the running server; what it prints.
    pub async fn admin(&self, words: &[&str]) -> String {
        let words: Vec<&str> = std::iter::once("admin").chain(words.iter().copied()).collect();
        let mut admin = Program::new("admin", "lotse-server", &words, &[], self.folder.path());
        admin.set("LOTSE_DATA_DIR", &self.path("server").display().to_string());
        admin.set("LOTSE_DATA_KEYS", &self.path("server-keys").display().to_string());
        admin.set("LOTSE_NEW_PASSWORD", PASSWORD);
        for (key, value) in self.server.settings_of(["TLS", "TURN", "MEDIA"]) {
            admin.set(&key, &value);
        }
        let (code, out, err) = admin.run_to_end().await;
        assert_eq!(code, Some(0), "{words:?}: {err}");
        out
    }

    /// A code for one more pair of glasses.
    pub async fn pairing_code(&self, device: &str) -> String {
        let out = self.admin(&["pairing-code", "technician", "--device", device]).await;
        let said: Value = out.lines().find_map(|l| serde_json::from_str(l).ok()).expect("a code");
        said["code"].as_str().unwrap().to_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Somebody at a desk: `expert`, `expert2`, `manager` or `admin`.
    pub async fn person(&self, user: &str) -> Person {
        Person::log_in(&self.url, user, PASSWORD).await.unwrap()
    }

    /// A technician with a device of our own in place of glasses: speaks the same protocol, sends no picture by itself.
    pub async fn technician(&self, device: &str) -> Person {
        Person::pair(&self.url, &self.codes[device], device).await
    }

    /// A pair of glasses that sees a clip; it is not started yet.
    pub fn glasses(&self, name: &str) -> GlassesSettings {
        GlassesSettings::new(self, name)
    }

    /// Glasses with the workshop clip, running.
    pub async fn started_glasses(&self, name: &str) -> Glasses {
        self.glasses(name).start().await
    }

    /// A link of its own to the server, at first without any fault.
    pub async fn link(&self) -> Link {
        Link::to(&self.url, self.seed).await
    }

    /// The server's fingerprint, from a source beside the bundle: the key that the pairing answered with.
    pub fn fingerprint(&self, person: &Person) -> Digest {
        lotse_protocol::envelope::fingerprint(&person.server_key.expect("a paired device knows the server's key"))
    }

    /// Sound or picture stored anywhere by the archivist, bytes.
    pub fn media_bytes(&self) -> u64 {
        disk::files(&self.path("archivist")).iter().filter(|f| disk::is_media(f)).map(|f| disk::size(f)).sum()
    }

    pub fn assert_no_panic(&self) {
        self.server.assert_no_panic();
        self.archivist.assert_no_panic();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
