//! Beyond loopback: the server speaks TLS itself, devices believe whom they were paired with, and media find a way where no
//! datagram does. Elsewhere: certificates by ACME (`acme`), real networks (`tests/browser/beyond.sh`).
//!
//! UDP is blocked by binding the media sockets to another address than the offers name: each datagram is refused by the kernel.

use std::time::{Duration, SystemTime};

use lotse_protocol::kind;
use lotse_tests::{
    Draft, World, eventually,
    person::{self, client_with},
    secs,
};
use lotse_trust::{Authority, Fault, Pin, look_at};
use lotse_verify::report::Verdict;
use serde_json::Value;

/// A world whose server speaks TLS by its own authority, with pairing codes that carry the pin.
async fn world_with_own_ca(seed: u64) -> (World, Pin) {
    let mut world = World::planned(seed);
    world.url = world.url.replace("http://", "https://");
    let url = world.url.clone();
    world.archivist.set("LOTSE_SERVER_URL", &url);
    let made: Value = serde_json::from_str(&world.admin(&["make-ca"]).await).expect("one line");
    let pin = made["pin"].as_str().expect("a pin").parse().expect("a pin");
    world.server.set("LOTSE_TLS_FROM", "own-ca");
    world.seed_demo().await;
    let code = world.codes["archivist"].clone();
    assert!(code.ends_with(&format!(".{pin}")), "{code}");
    world.archivist.set("LOTSE_SERVER_PAIRING_CODE", &code);
    (world, pin)
}

fn port(world: &World) -> u16 {
    world.url.rsplit(':').next().expect("a port").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn glasses_and_archivist_meet_over_tls_and_without_udp() {
    let (mut world, pin) = world_with_own_ca(31).await;
    world.server.set("LOTSE_MEDIA_BIND", "127.0.0.2");
    world.server.set("LOTSE_LOG", "info,lotse_server=debug");
    world.server.start().await;
    assert_eq!(world.server.ready["http"], world.url);
    // The archivist says that it is ready when the server took its pairing code.
    world.archivist.start().await;
    let http = client_with(Some(pin));
    let body = serde_json::json!({ "user": "expert", "password": lotse_tests::world::PASSWORD });
    let login = http.post(format!("{}/api/v1/login", world.url)).header("origin", &world.url).json(&body);
    let login = login.send().await.expect("over TLS");
    let cookie = login.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(cookie.contains("; Secure") && cookie.contains("HttpOnly"), "{cookie}");
    assert_eq!(login.headers()["strict-transport-security"], "max-age=31536000");

    let glasses = world.started_glasses("helmet-1").await;
    glasses.shows("calling").await;
    // The archivist comes as soon as somebody calls: two legs.
    let connected = async || (world.server.log().matches("media connected").count() >= 2).then_some(());
    eventually("media over TCP", secs(60), connected).await;
    assert!(world.archivist.log().contains("trying media over TCP as well"));
    assert!(glasses.program.log().contains("trying media over TCP as well"));
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archivist_records_where_no_datagram_passes_and_says_by_which_way() {
    let mut world = World::planned(38);
    world.seed_demo().await;
    world.server.set("LOTSE_MEDIA_BIND", "127.0.0.2");
    world.server.start().await;
    let code = world.codes["archivist"].clone();
    world.archivist.set("LOTSE_SERVER_PAIRING_CODE", &code);
    world.archivist.start().await;
    assert!(way_of(&world).await.contains("no way is known yet"));

    let glasses = world.started_glasses("helmet-1").await;
    let expert = world.person("expert").await;
    let waiting = expert.call_waiting(|_| true).await;
    let (case, session) = (waiting.summary.case, waiting.session);
    expert.take(case, session).await;
    glasses.shows("consent").await;
    glasses.say("YES_RECORD").await;
    expert.answer(case, session, kind::CONSENT_RECORD).await;
    // Picture and voice, for some fragments.
    eventually("recorded fragments", secs(90), async || {
        (expert.log(case).iter().filter(|(f, _)| f.kind == kind::SEGMENT).count() >= 6).then_some(())
    })
    .await;
    assert!(way_of(&world).await.contains("came over TCP in the newest session"));

    let end = Draft::of(kind::SESSION_ENDED).session(session);
    expert.commit(case, end).await.expect("ended");
    expert.event_within(case, kind::RECORDING_STOPPED, secs(60), |_| true).await;
    let bundle = world.person("manager").await.bundle(case).await;
    let fingerprint = world.server.ready["fingerprint"].as_str().expect("told").parse().expect("a fingerprint");
    let report = person::verify(&bundle, fingerprint);
    assert_eq!(report.verdict(), Verdict::Authentic, "{}", report.to_text(lotse_verify::Language::En));
    glasses.program.assert_no_panic();
    world.assert_no_panic();
}

/// What the archivist's doctor says of media.
async fn way_of(world: &World) -> String {
    let (_, out, _) = world.archivist.beside("archivist-doctor", &["doctor", "--json"]).run_to_end().await;
    let lines = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said = lines.filter(|f| f["what"] == "media").map(|f| f["found"].as_str().expect("text").to_owned()).next();
    said.unwrap_or_else(|| panic!("nothing about media: {out}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_paired_server_is_not_believed_and_the_device_says_so() {
    let (mut world, pin) = world_with_own_ca(32).await;
    world.server.start().await;
    let glasses = world.glasses("helmet-1").with("LOTSE_HUD_LANGUAGE", "de").with("LOTSE_CALL_ON_START", "false");
    let mut glasses = glasses.start().await;
    glasses.shows("home").await;
    glasses.program.stop().await;
    world.server.stop().await;
    // Somebody else with an authority of their own takes the address over.
    world.admin(&["make-ca", "--replace"]).await;
    world.server.start().await;
    let seen = look_at("127.0.0.1", port(&world), Some(pin)).await.expect("it answers");
    assert!(matches!(seen.fault, Some(Fault::OtherAuthority { .. })), "{seen:?}");
    glasses.program.start().await;
    let state = glasses.shows("not-paired").await;
    let log = glasses.program.log();
    assert!(log.contains("dies ist nicht der Server, mit dem gekoppelt wurde"), "{state} {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_files_are_taken_and_what_is_wrong_with_them_is_seen() {
    let mut world = World::planned(33);
    let (cert, key) = (world.path("cert.pem"), world.path("key.pem"));
    let name = "lotse.example.org".to_owned();
    let authority = Authority::make(std::slice::from_ref(&name), SystemTime::now()).expect("made");
    let write = |age: Duration| {
        let leaf = authority.leaf(&[name.clone(), "127.0.0.1".into()], SystemTime::now() - age).expect("a leaf");
        std::fs::write(&cert, leaf.chain_pem()).expect("written");
        std::fs::write(&key, leaf.key_pem()).expect("written");
    };
    write(Duration::ZERO);
    world.server.set("LOTSE_TLS_FROM", "files");
    world.server.set("LOTSE_TLS_CERT", &cert.display().to_string());
    world.server.set("LOTSE_TLS_KEY", &key.display().to_string());
    world.server.start().await;
    let pin = authority.pin().expect("a pin");
    let port = port(&world);
    let good = look_at("127.0.0.1", port, Some(pin)).await.expect("it answers");
    assert_eq!(good.fault, None);
    let stranger = look_at("127.0.0.1", port, None).await.expect("it answers");
    assert_eq!(stranger.fault, Some(Fault::UnknownAuthority));
    let named = look_at("localhost", port, Some(pin)).await.expect("it answers");
    assert_eq!(named.fault, Some(Fault::OtherName));
    // Replaced while it runs by one that has run out: taken within seconds, and seen for what it is.
    write(secs(40 * 24 * 3600));
    eventually("the replaced certificate", secs(60), async || {
        let seen = look_at("127.0.0.1", port, Some(pin)).await.expect("it answers");
        (seen.fault == Some(Fault::Expired)).then_some(())
    })
    .await;
    assert!(world.server.log().contains("the certificate runs out"), "{}", world.server.log());
    // Plain HTTP on the same port is shown the way.
    let plain =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let reply = plain.get(format!("http://127.0.0.1:{port}/cases?open=1")).send().await.expect("an answer");
    assert_eq!(reply.status(), 308);
    assert_eq!(reply.headers()["location"], format!("https://127.0.0.1:{port}/cases?open=1"));
    let foreign = plain.get(format!("http://127.0.0.1:{port}/")).header("host", "evil.example").send().await;
    assert_eq!(foreign.expect("an answer").status(), 421);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_authority_is_handed_out_by_plain_path_and_tls_settings_without_it_are_refused() {
    let (mut world, _) = world_with_own_ca(34).await;
    world.server.start().await;
    let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
    let reply = plain.get(format!("{}/ca.crt", world.url.replace("https", "http"))).send().await.expect("an answer");
    assert_eq!(reply.headers()["content-type"], "application/x-x509-ca-cert");
    let text = reply.text().await.expect("text");
    let file = std::fs::read_to_string(world.path("server-keys").join("tls-ca.crt")).expect("there");
    assert_eq!(text, file);
    // The page a phone scans its way to, before it trusts anything: in its language, leading to the https it was asked under.
    let host = world.url.trim_start_matches("https://");
    for (language, word) in [("de-AT", "ZERTIFIKAT LADEN"), ("en", "DOWNLOAD CERTIFICATE")] {
        let asked = plain.get(format!("http://{host}/trust")).header("accept-language", language);
        let reply = asked.send().await.expect("an answer");
        assert_eq!(reply.status(), 200);
        let page = reply.text().await.expect("text");
        assert!(page.contains(word) && page.contains(&format!("https://{host}/field")), "{page}");
    }
    // An address that somebody typed leads there too.
    let typed = plain.get(format!("http://{host}/")).send().await.expect("an answer");
    assert!(typed.text().await.expect("text").contains("https://{host}/cases".replace("{host}", host).as_str()));
    let style = plain.get(format!("http://{host}/trust.css")).send().await.expect("an answer");
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
    let foreign = plain.get(format!("http://{host}/trust")).header("host", "evil.example").send().await;
    assert_eq!(foreign.expect("an answer").status(), 421);
    let mut other = World::planned(35);
    other.server.set("LOTSE_TLS_FROM", "own-ca");
    let (code, _, said) = other.server.run_to_end().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("lotse-server admin make-ca"), "{said}");
    let mut other = World::planned(36);
    other.server.set("LOTSE_TLS_FROM", "acme");
    let (code, _, said) = other.server.run_to_end().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("names no domain"), "{said}");
}

/// What `doctor` of the server says, beside the running server or without it.
async fn doctor(world: &World, more: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
    let mut doctor =
        lotse_tests::program::Program::new("doctor", "lotse-server", &["doctor", "--json"], &[], world.folder.path());
    for (key, value) in world.server.settings_of(["HTTP", "TLS", "TURN", "MEDIA", "DATA"]) {
        doctor.set(&key, &value);
    }
    for (key, value) in more {
        doctor.set(key, value);
    }
    let (code, out, _) = doctor.run_to_end().await;
    (code, out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The findings that are not well.
fn wrong(found: &[Value]) -> Vec<&str> {
    found.iter().filter(|f| f["ok"] == false).filter_map(|f| f["what"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_must_be_mended_and_only_that() {
    let (mut world, _) = world_with_own_ca(37).await;
    let media = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound").port();
    world.server.set("LOTSE_MEDIA_UDP_PORT", &media.to_string());
    world.server.set("LOTSE_MEDIA_WORKERS", "1");
    world.server.start().await;
    let (code, found) = doctor(&world, &[]).await;
    assert_eq!((code, wrong(&found)), (Some(0), vec![]), "{found:#?}");
    assert!(
        found.iter().any(|f| f["what"] == "certificate") && found.iter().any(|f| f["what"] == "media"),
        "{found:#?}"
    );
    // The port that was named is not the one the server has.
    let other =
        std::net::UdpSocket::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound").port().to_string();
    let (code, found) = doctor(&world, &[("LOTSE_MEDIA_UDP_PORT", &other)]).await;
    assert_eq!((code, wrong(&found)), (Some(1), vec!["media"]), "{found:#?}");
    // A public address under which nobody answers.
    let port = port(&world).to_string();
    let nowhere = format!("https://127.0.0.3:{port}");
    let (code, found) = doctor(&world, &[("LOTSE_HTTP_PUBLIC_URL", &nowhere)]).await;
    assert_eq!((code, wrong(&found)), (Some(1), vec!["certificate"]), "{found:#?}");
    // No coturn there.
    let (code, found) = doctor(&world, &[("LOTSE_TURN_URLS", &format!("turn:127.0.0.1:{other}"))]).await;
    assert_eq!((code, wrong(&found)), (Some(1), vec!["turn"]), "{found:#?}");
    world.server.stop().await;
    // A folder that cannot be written, whoever asks: its parent is a file.
    let file = world.path("file");
    std::fs::write(&file, "x").expect("written");
    let below = file.join("data").display().to_string();
    let (code, found) = doctor(&world, &[("LOTSE_DATA_DIR", &below)]).await;
    assert_eq!((code, wrong(&found)), (Some(1), vec!["disk", "data"]), "{found:#?}");
    // A certificate file that has run out.
    let authority = Authority::make(&["127.0.0.1".to_owned()], SystemTime::now()).expect("made");
    let leaf = authority.leaf(&["127.0.0.1".to_owned()], SystemTime::now() - secs(40 * 24 * 3600)).expect("a leaf");
    let (cert, key) = (world.path("old.pem"), world.path("old.key"));
    std::fs::write(&cert, leaf.chain_pem()).expect("written");
    std::fs::write(&key, leaf.key_pem()).expect("written");
    let files = [
        ("LOTSE_TLS_FROM", "files".to_owned()),
        ("LOTSE_TLS_CERT", cert.display().to_string()),
        ("LOTSE_TLS_KEY", key.display().to_string()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let (code, found) = doctor(&world, &files).await;
    assert_eq!((code, wrong(&found)), (Some(1), vec!["certificate"]), "{found:#?}");
}
