//! Certificates by a real exchange with somebody else's ACME server: pebble, which Let's Encrypt gives to those who test clients.
//!
//! Everything is on loopback: pebble asks its own small name server, which finds every name at 127.0.0.1, and looks at our port
//! where it would look at 443. Elsewhere: the exchange (`server/src/acme.rs`), other certificates (`beyond_loopback`).
#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::SystemTime,
};

use lotse_tests::{World, eventually, person::client_with, secs, world::free_port};
use lotse_trust::{Authority, Facts};
use serde_json::{Value, json};

const NAME: &str = "lotse.example.org";

/// A process of others, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A world whose server asks pebble, and all that pebble needs.
struct Asked {
    world: World,
    port: u16,
    acme: u16,
    management: u16,
    /// Whose certificate pebble itself has.
    authority: Authority,
}

impl Asked {
    fn new(seed: u64) -> Self {
        let mut world = World::planned(seed);
        let port: u16 = world.url.rsplit(':').next().unwrap().parse().unwrap();
        let (acme, management) = (free_port(), free_port());
        let authority = Authority::make(&["127.0.0.1".to_owned()], SystemTime::now()).unwrap();
        let asked = |file: &str| world.path(file).display().to_string();
        let leaf = authority.leaf(&["127.0.0.1".to_owned()], SystemTime::now()).unwrap();
        std::fs::write(world.path("pebble.pem"), leaf.chain_pem()).unwrap();
        std::fs::write(world.path("pebble.key"), leaf.key_pem()).unwrap();
        std::fs::write(world.path("roots.pem"), authority.pem()).unwrap();
        std::fs::write(world.path("hosts"), format!("127.0.0.1 localhost {NAME}\n")).unwrap();
        let roots = asked("roots.pem");
        world.url = format!("https://{NAME}:{port}");
        let url = world.url.clone();
        world.server.set("LOTSE_TLS_FROM", "acme");
        world.server.set("LOTSE_TLS_ACME_DIRECTORY", &format!("https://127.0.0.1:{acme}/dir"));
        world.server.set("LOTSE_TLS_ACME_EMAIL", "admin@example.org");
        world.server.set("LOTSE_HTTP_PUBLIC_URL", &url);
        world.server.set("SSL_CERT_FILE", &roots);
        Self { world, port, acme, management, authority }
    }

    /// Starts pebble, which looks at this port and gives certificates for so many seconds.
    async fn pebble(&self, looks_at: u16, seconds: u32) -> [Running; 2] {
        let (names, questions) = (free_port(), free_port());
        let path = |file: &str| self.world.path(file);
        let settings = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.acme),
            "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": path("pebble.pem"), "privateKey": path("pebble.key"),
            "httpPort": 1, "tlsPort": looks_at, "certificateValidityPeriod": seconds,
            "domainBlocklist": ["blocked.example.org"],
        }});
        std::fs::write(path("pebble.json"), settings.to_string()).unwrap();
        let run = |program: &str, args: &[&str]| {
            let log = File::create(path(&format!("{program}.log"))).unwrap();
            let mut command = Command::new(program);
            // Refused nonces and reused proofs are for those who test a client's inside.
            command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0").env("PEBBLE_AUTHZREUSE", "0");
            command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            Running(command.spawn().unwrap_or_else(|e| panic!("{program}: {e}. Run `make setup`")))
        };
        let names_at = format!("127.0.0.1:{names}");
        let own_questions = format!("127.0.0.1:{questions}");
        let names = ["-dns01", &names_at, "-management", &own_questions, "-defaultIPv6", ""];
        let names =
            run("pebble-challtestsrv", &[&names[..], &["-http01", "", "-https01", "", "-tlsalpn01", ""]].concat());
        let settings = path("pebble.json").display().to_string();
        let pebble = run("pebble", &["-config", &settings, "-dnsserver", &names_at, "-strict"]);
        let http = client_with(Some(self.authority.pin().unwrap()));
        eventually("pebble", secs(60), async || http.get(self.directory()).send().await.ok()).await;
        [names, pebble]
    }

    fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.acme)
    }

    /// The certificate with which our page comes, in DER; absent where none does.
    async fn shown(&self) -> Option<Vec<u8>> {
        let at = SocketAddr::from(([127, 0, 0, 1], self.port));
        // Whether it is to be believed, `doctor` is asked.
        let client = reqwest::Client::builder()
            .no_proxy()
            .resolve(NAME, at)
            .tls_info(true)
            .tls_danger_accept_invalid_certs(true);
        let reply = client.build().unwrap().get(format!("{}/healthz", self.world.url)).send().await.ok()?;
        assert_eq!(reply.status(), 200);
        let info = reply.extensions().get::<reqwest::tls::TlsInfo>()?;
        info.peer_certificate().map(<[u8]>::to_vec)
    }

    async fn shown_within(&self, seconds: u64) -> Vec<u8> {
        let shown = eventually("a page with a certificate", secs(seconds), async || self.shown().await).await;
        assert_eq!(Facts::of(&shown).unwrap().names, [NAME]);
        shown
    }

    fn log(&self) -> String {
        self.world.server.log()
    }

    /// How often an exchange has failed so far.
    fn failures(&self) -> usize {
        self.log().lines().filter(|line| line.contains("ACME: no certificate")).count()
    }

    /// What `doctor` says, on a machine that believes pebble's certificates where they are told.
    async fn doctor(&self, roots: Option<&str>) -> (Option<i32>, Vec<Value>) {
        let mut doctor = self.world.server.beside("doctor", &["doctor", "--json"]);
        doctor.with_hosts(&self.world.path("hosts"));
        let file = self.world.path("doctor-roots.pem");
        std::fs::write(&file, format!("{}{}", self.authority.pem(), roots.unwrap_or_default())).unwrap();
        doctor.set("SSL_CERT_FILE", &file.display().to_string());
        let (code, out, _) = doctor.run_to_end().await;
        (code, out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The root of what pebble gives.
    async fn roots(&self) -> String {
        let http = client_with(Some(self.authority.pin().unwrap()));
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        http.get(url).send().await.unwrap().text().await.unwrap()
    }
}

fn found<'a>(all: &'a [Value], what: &str) -> &'a Value {
    all.iter().find(|f| f["what"] == what).unwrap_or_else(|| panic!("nothing about {what}: {all:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_had_kept_for_the_next_start_and_believed() {
    let mut asked = Asked::new(51);
    let pebble = asked.pebble(asked.port, 90 * 24 * 3600).await;
    asked.world.server.start().await;
    let first = asked.shown_within(60).await;
    assert_eq!(asked.failures(), 0, "{}", asked.log());
    eventually("it is told", secs(20), async || {
        asked.log().contains("certificate for lotse.example.org, 89 days left").then_some(())
    })
    .await;
    let roots = asked.roots().await;
    let (code, all) = asked.doctor(Some(&roots)).await;
    assert_eq!(code, Some(0), "{all:#?}");
    assert!(
        found(&all, "certificate")["found"].as_str().unwrap().contains("for lotse.example.org, 89 days left"),
        "{all:#?}"
    );
    assert!(found(&all, "acme")["found"].as_str().unwrap().contains("answers"), "{all:#?}");
    // Who does not believe the authority is told so.
    let (code, all) = asked.doctor(None).await;
    assert_eq!((code, &found(&all, "certificate")["ok"]), (Some(1), &json!(false)), "{all:#?}");
    // Keys are in there.
    let kept: PathBuf = asked.world.path("server-keys").join("acme");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);

    // A second start: the authority is not there to be asked, and is not missed.
    asked.world.server.stop().await;
    drop(pebble);
    let (code, all) = asked.doctor(Some(&roots)).await;
    assert_eq!((code, &found(&all, "certificate")["ok"]), (Some(1), &json!(true)), "what is kept counts: {all:#?}");
    assert_eq!(found(&all, "acme")["ok"], false, "{all:#?}");
    asked.world.server.start().await;
    assert_eq!(asked.shown_within(20).await, first);
    assert_eq!(asked.failures(), 0, "it asked: {}", asked.log());
    asked.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_renewed_while_people_use_it() {
    let mut asked = Asked::new(52);
    let _pebble = asked.pebble(asked.port, 30).await;
    asked.world.server.start().await;
    let first = asked.shown_within(60).await;
    // After two thirds of its life.
    eventually("another certificate", secs(60), async || {
        let now = asked.shown().await.expect("some certificate at any time");
        (now != first).then_some(())
    })
    .await;
    assert_eq!(asked.failures(), 0, "{}", asked.log());
    asked.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_away_is_named_and_asked_again_with_patience() {
    let mut asked = Asked::new(53);
    asked.world.server.start().await;
    eventually("the trouble", secs(30), async || (asked.failures() > 0).then_some(())).await;
    let log = asked.log();
    for words in
        [&asked.directory()[..], "does not answer", "Connection refused", "tls.acme_directory", "Asked again in 15 s"]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
    let (code, all) = asked.doctor(None).await;
    assert_eq!(code, Some(1));
    let certificate = found(&all, "certificate")["found"].as_str().unwrap();
    assert!(certificate.contains("has given none yet"), "{certificate}");
    assert!(found(&all, "acme")["found"].as_str().unwrap().contains("does not answer"), "{all:#?}");
    assert!(asked.shown().await.is_none(), "a page without a certificate");
    let _pebble = asked.pebble(asked.port, 90 * 24 * 3600).await;
    asked.shown_within(90).await;
    assert!((1..=3).contains(&asked.failures()), "{}", asked.log());
    asked.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_refuses_is_quoted_with_what_to_do() {
    let mut asked = Asked::new(54);
    // It looks for us where nobody is.
    let _pebble = asked.pebble(free_port(), 90 * 24 * 3600).await;
    asked.world.server.start().await;
    eventually("no proof", secs(60), async || (asked.failures() > 0).then_some(())).await;
    let log = asked.log();
    for words in
        [&format!("did not find this server under {NAME}")[..], "failed to connect", "port 443 there to http.listen"]
    {
        assert!(log.to_lowercase().contains(&words.to_lowercase()), "{words}: {log}");
    }
    asked.world.server.stop().await;

    // A name that it gives to nobody.
    asked.world.server.set("LOTSE_HTTP_PUBLIC_URL", "https://blocked.example.org");
    let mut server = asked.world.server.beside("blocked", &["serve"]);
    server.start().await;
    eventually("the refusal", secs(60), async || server.log().contains("the authority refuses").then_some(())).await;
    assert!(server.log().contains("blocked.example.org"), "{}", server.log());
    server.stop().await;

    // Nobody whom this machine knows.
    std::fs::write(asked.world.path("empty.pem"), Authority::make(&["other".into()], SystemTime::now()).unwrap().pem())
        .unwrap();
    let empty = asked.world.path("empty.pem").display().to_string();
    asked.world.server.set("SSL_CERT_FILE", &empty);
    let mut server = asked.world.server.beside("stranger", &["serve"]);
    server.start().await;
    eventually("the doubt", secs(60), async || server.log().contains("does not trust the authority").then_some(()))
        .await;
    server.stop().await;
    asked.world.assert_no_panic();
}
