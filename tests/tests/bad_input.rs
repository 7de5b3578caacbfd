//! Bad input of every kind: a clear refusal with its remedy, no panic, and the call goes on where it can.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lotse_protocol::{
    command::{ClientMessage, ItemRef, MAX_ITEM_BYTES, MAX_MESSAGE_BYTES, ServerMessage},
    envelope::AuthorFields,
    id::{CaseId, DeviceId, Digest, EventId, ItemKey, SessionId},
    item, kind,
    signal::{RtcAnswer, TrackSource},
};
use lotse_tests::{
    Draft, Person, World,
    live::{Live, Proof},
    person::{self, fine},
    secs,
    world::PASSWORD,
};
use serde_json::json;
use uuid::Uuid;

/// The refusal of one live message, as `(code, message)`.
async fn refused(person: &Person, message: &ClientMessage) -> (String, String) {
    let mark = person.live.mark();
    person.live.say(message);
    person
        .live
        .until("a refusal", mark, |m| match m {
            ServerMessage::Refused { error, .. } => Some((error.code.clone(), error.message.clone())),
            _ => None,
        })
        .await
}

fn is_a_sentence_with_a_remedy(text: &str) -> bool {
    text.len() > 30 && text.ends_with('.') && text.matches('.').count() >= 2
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_in_both_languages_and_then_slowed_down() {
    let world = World::with_server(41).await;
    let http = person::client();
    let login = async |user: &str, password: &str, language: &str| {
        let body = json!({ "user": user, "password": password });
        let reply = http.post(format!("{}/api/v1/login", world.url)).header("accept-language", language);
        fine(reply.json(&body).send().await.unwrap()).await
    };
    let wrong = login("expert", "wrong", "en").await.unwrap_err();
    assert_eq!((wrong.status, wrong.code.as_str()), (401, "wrong_login"));
    assert!(is_a_sentence_with_a_remedy(&wrong.message), "{}", wrong.message);
    // Nobody learns whether an account exists; a technician's has no password at all.
    for user in ["nobody", "technician1", ""] {
        let other = login(user, PASSWORD, "de-AT").await.unwrap_err();
        assert_eq!(other.code, "wrong_login", "{user}");
        assert!(other.message.contains("passen nicht zusammen"), "{}", other.message);
    }
    let mut codes = vec![];
    for _ in 0..8 {
        codes.push(login("expert", "wrong", "en").await.unwrap_err().code);
    }
    assert_eq!(codes.last().map(String::as_str), Some("too_many_tries"), "{codes:?}");
    // Even the right one has to wait now; another person is not locked out by it.
    assert_eq!(login("expert", PASSWORD, "en").await.unwrap_err().code, "too_many_tries");
    login("manager", PASSWORD, "en").await.unwrap();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_valid_proof() {
    let world = World::with_server(42).await;
    let technician = world.technician("helmet-1").await;
    let http = person::client();
    // A code works once.
    let again = json!({ "code": world.codes["helmet-1"], "public_key": technician.device_key.verifying_key().to_bytes().to_vec(), "name": "x" });
    let reply = http.post(format!("{}/api/v1/devices/pair", world.url)).json(&again).send().await.unwrap();
    assert_eq!(fine(reply).await.unwrap_err().code, "malformed");
    let key = lotse_protocol::envelope::public_key(&person::new_key());
    for code in [world.codes["helmet-1"].as_str(), "", "AAAA-BBBB", "🙂"] {
        let body = json!({ "code": code, "public_key": key, "name": "x" });
        let reply = http.post(format!("{}/api/v1/devices/pair", world.url)).json(&body).send().await.unwrap();
        let refusal = fine(reply).await.unwrap_err();
        assert_eq!(refusal.code, "bad_pairing_code", "{code}");
    }
    // A token of nobody, a token made with another key, no token, another site's page.
    let device = technician.device_name.clone().unwrap();
    let wrong = person::token(&http, &world.url, &device, &person::new_key()).await.unwrap_err();
    assert!(wrong.status == 401 || wrong.status == 403, "{wrong:?}");
    for proof in [Proof::Token("stale".into()), Proof::Cookie("lotse_session=stale".into()), Proof::Nothing] {
        let refused = Live::connect(&world.url, &proof).await.err().expect("no live socket without a proof");
        assert!(refused.contains("401") || refused.contains("403"), "{refused}");
    }
    let reply = http.get(format!("{}/api/v1/cases", world.url)).bearer_auth("stale").send().await.unwrap();
    assert_eq!(fine(reply).await.unwrap_err().code, "stale_token");
    let expert = world.person("expert").await;
    let Proof::Cookie(cookie) = &expert.proof else { unreachable!() };
    let post = http.post(format!("{}/api/v1/cases", world.url)).header("cookie", cookie);
    let reply = post.header("origin", "http://evil.example").json(&json!({ "language": "de" })).send().await.unwrap();
    assert_eq!(fine(reply).await.unwrap_err().code, "wrong_origin");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_roles_unknown_cases_and_strangers_are_refused() {
    let world = World::with_server(43).await;
    let technician = world.technician("helmet-1").await;
    let other = world.technician("helmet-2").await;
    let expert = world.person("expert").await;
    let admin = world.person("admin").await;
    let case = technician.new_case("p-204").await;

    assert_eq!(admin.open(case, 0).await.unwrap_err().code, "forbidden");
    let nowhere = CaseId(Uuid::now_v7());
    for who in [&expert, &technician] {
        assert_eq!(who.open(nowhere, 0).await.unwrap_err().code, "no_such_case");
    }
    for path in [format!("/api/v1/cases/{case}/bundle-log"), format!("/api/v1/cases/{case}/items/{}", "0".repeat(64))] {
        let refusal = expert.get(&path).await.unwrap_err();
        assert!(["forbidden", "no_such_case", "no_such_item"].contains(&refusal.code.as_str()), "{path}: {refusal:?}");
    }
    // Joined, but not in the session: no marks, no consent, no recording facts, no replay of one's own role.
    let session = technician.call(case).await;
    expert.enter(case).await;
    for (who, kind, allowed) in [
        (&expert, kind::RECEIPT, "forbidden"),
        (&expert, kind::RECORDING_STARTED, "forbidden"),
        (&technician, kind::INSTRUCTION, "forbidden"),
        (&technician, kind::SEGMENT, "forbidden"),
        (&technician, kind::SESSION_LEFT, "forbidden"),
        (&technician, kind::OPENED, "forbidden"),
    ] {
        let refusal = who.commit(case, Draft::of(kind).session(session)).await.unwrap_err();
        assert_eq!(refusal.code, allowed, "{kind}: {refusal:?}");
        assert!(is_a_sentence_with_a_remedy(&refusal.message), "{}", refusal.message);
    }
    // A grant needs one's own reason in the log.
    let body = json!({ "event": EventId(Uuid::now_v7()), "verb": "export" });
    assert_eq!(expert.post(&format!("/api/v1/cases/{case}/grants"), &body).await.unwrap_err().code, "forbidden");
    // Another technician does not see the case.
    let list: serde_json::Value = other.get("/api/v1/cases").await.unwrap().json().await.unwrap();
    assert_eq!(list["cases"].as_array().unwrap().len(), 0);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_and_forged_commands_change_nothing() {
    let world = World::with_server(44).await;
    let technician = world.technician("helmet-1").await;
    let case = technician.new_case("p-204").await;
    technician.call(case).await;
    let message = || Draft::of(kind::MESSAGE).payload(&json!({ "text": "once" }));
    let (fields, items) = technician.prepare(case, message()).await.unwrap();
    let (author, sig) = technician.sign(case, &fields);
    let commit = async |author: &str, sig, items: &[ItemRef]| {
        let id = AuthorFields::read(author).unwrap().id;
        technician.commit_raw(case, id, author.to_owned(), sig, items.to_vec()).await
    };
    // The very same again is harmless and counts once.
    commit(&author, sig, &items).await.unwrap();
    commit(&author, sig, &items).await.unwrap();
    let mut changed = fields.clone();
    let signed = |fields: &AuthorFields| technician.sign(case, fields);

    // The same number with another id; the same id with other content.
    changed.id = EventId(Uuid::now_v7());
    let (text, s) = signed(&changed);
    let stale = commit(&text, s, &items).await.unwrap_err();
    assert_eq!((stale.code.as_str(), stale.last_device_seq), ("stale_device_seq", Some(fields.device_seq)));
    changed.id = fields.id;
    changed.device_seq += 50;
    let (text, s) = signed(&changed);
    assert_eq!(commit(&text, s, &items).await.unwrap_err().code, "id_reused");

    let (mut fields, items) = technician.prepare(case, message()).await.unwrap();
    let (text, _) = signed(&fields);
    assert_eq!(commit(&text, sig, &items).await.unwrap_err().code, "bad_signature");
    let forged = text.replace("\"message\"", "\"card\"");
    let (_, s) = signed(&fields);
    assert_eq!(commit(&forged, s, &items).await.unwrap_err().code, "bad_signature");
    // Somebody else's case, somebody else's device.
    fields.device = DeviceId(Uuid::now_v7());
    let (text, s) = signed(&fields);
    assert_eq!(commit(&text, s, &items).await.unwrap_err().code, "unknown_author");
    // Items that were never sent, or do not fit; a key that opens nothing is the readers' loss and refused where it can be seen.
    let (mut fields, items) = technician.prepare(case, message()).await.unwrap();
    fields.item = Some(Digest::of(b"nowhere"));
    let (text, s) = signed(&fields);
    let lonely = [ItemRef { digest: Digest::of(b"nowhere"), key: Some(ItemKey([1; 32])), bytes: None }];
    assert_eq!(commit(&text, s, &lonely).await.unwrap_err().code, "missing_item");
    let (keyless, mut without) = technician.prepare(case, message()).await.unwrap();
    without[0].key = None;
    let (unopened, of_it) = signed(&keyless);
    assert_eq!(commit(&unopened, of_it, &without).await.unwrap_err().code, "missing_key");
    let mut lie = items.clone();
    lie[0].digest = Digest::of(b"nowhere");
    assert_eq!(commit(&text, s, &lie).await.unwrap_err().code, "digest_mismatch");

    let log = technician.log(case);
    assert_eq!(log.iter().filter(|(f, _)| f.kind == kind::MESSAGE).count(), 1);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_oversized_messages_are_answered_and_the_server_lives() {
    let world = World::with_server(45).await;
    let bad = [
        "",
        "{",
        "null",
        "[]",
        "42",
        "\u{0}",
        "{\"type\":\"nonsense\"}",
        "{\"type\":\"commit\"}",
        "{\"type\":\"open_case\",\"case\":\"x\",\"after_seq\":-1}",
        "{\"type\":\"ping\",\"t0_us\":1e400}",
        "{\"type\":\"hello\",\"language\":{\"a\":[[[[[[]]]]]]}}",
    ];
    for text in bad {
        let person = world.person("expert2").await;
        let mark = person.live.mark();
        person.live.say_text(text.into());
        let code = person.live.until("a refusal", mark, |m| match m {
            ServerMessage::Refused { error, .. } => Some(error.code.clone()),
            _ => None,
        });
        assert_eq!(code.await, "malformed", "{text}");
        assert_eq!(person.live.until_closed().await, "malformed", "{text}");
    }
    let deep = world.person("expert2").await;
    deep.live.say_text(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert_eq!(deep.live.until_closed().await, "malformed");
    let binary = world.person("expert2").await;
    binary.live.say_frame(tokio_tungstenite::tungstenite::Message::Binary(vec![0xff; 100].into()));
    assert_eq!(binary.live.until_closed().await, "malformed");
    let long = world.person("expert2").await;
    let language = "x".repeat(MAX_MESSAGE_BYTES);
    long.live.say_text(serde_json::to_string(&ClientMessage::Hello { language }).unwrap());
    assert_eq!(long.live.until_closed().await, "too_large");

    // Over HTTP: bodies that are no JSON, paths that are no ids, files that are too large or not what they claim.
    let technician = world.technician("helmet-1").await;
    let case = technician.new_case("p-204").await;
    let post =
        technician.request(reqwest::Method::POST, "/api/v1/cases").body("{").header("content-type", "application/json");
    assert_eq!(fine(post.send().await.unwrap()).await.unwrap_err().code, "malformed");
    for path in [
        "/api/v1/cases/x/items/y",
        "/api/v1/cases/../../etc/passwd/items/0",
        "/api/v1/nothing",
        "/api/v1/cases?limit=-1",
    ] {
        let refusal = technician.get(path).await.unwrap_err();
        assert!((400..500).contains(&refusal.status), "{path}: {refusal:?}");
    }
    let sealed = item::seal(ItemKey([3; 32]), b"a file");
    assert_eq!(
        technician.put_item(case, Digest::of(b"other"), sealed.bytes.clone()).await.unwrap_err().code,
        "digest_mismatch"
    );
    assert_eq!(technician.put_item(case, sealed.digest, sealed.bytes.clone()).await.unwrap(), 201);
    assert_eq!(technician.put_item(case, sealed.digest, sealed.bytes).await.unwrap(), 200);
    let huge = vec![7u8; MAX_ITEM_BYTES + 1];
    let digest = Digest::of(&huge);
    let path = format!("/api/v1/cases/{case}/items/{digest}");
    let put = technician.request(reqwest::Method::PUT, &path).body(huge).send().await;
    // The server may answer and close before everything was sent; then the client only sees the closed socket.
    if let Ok(reply) = put {
        assert_eq!(fine(reply).await.unwrap_err().code, "too_large");
    }
    assert_eq!(technician.get(&path).await.unwrap_err().code, "no_such_item");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_sdp_stun_and_rtp_do_not_disturb_a_running_call() {
    let world = World::with_server(46).await;
    let technician = world.technician("helmet-1").await;
    let expert = world.person("expert").await;
    let case = technician.new_case("p-204").await;
    let session = technician.call(case).await;
    expert.take(case, session).await;
    for (who, answer) in [(&technician, kind::CONSENT_CALL_ONLY), (&expert, kind::CONSENT_CALL_ONLY)] {
        who.answer(case, session, answer).await;
    }
    let t = technician.connect_media(case, session, true).await;
    let e = expert.connect_media(case, session, true).await;
    t.connected().await;
    e.connected().await;

    // Nonsense from a third person who is present, and from somebody who is not.
    let third = world.person("expert2").await;
    let stranger = refused(&third, &ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    assert_eq!(stranger.0, "case_not_open");
    third.enter(case).await;
    let watching = refused(&third, &ClientMessage::RtcJoin { case, session, publish: vec![] }).await;
    assert_eq!(watching.0, "not_present");
    third.commit(case, Draft::of(kind::SESSION_JOINED).session(session)).await.unwrap();
    for (rev, sdp) in [
        (0, String::new()),
        (1, "v=0".into()),
        (1, "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".into()),
        (u32::MAX, "\u{0}\u{0}".into()),
        (1, "v=0\r\n".to_owned() + &"a=x\r\n".repeat(30_000)),
    ] {
        let mark = third.live.mark();
        third.live.say(&ClientMessage::RtcJoin { case, session, publish: vec![] });
        let offered =
            |m: &ServerMessage| if let ServerMessage::RtcOffer { offer, .. } = m { Some(offer.leg) } else { None };
        let leg = third.live.until("an offer", mark, offered).await;
        let answer = RtcAnswer { leg, rev, sdp, fingerprint_sig: None };
        let (code, message) = refused(&third, &ClientMessage::RtcAnswer { session, answer }).await;
        assert_eq!(code, "media_refused", "{message}");
    }
    let unknown = SessionId(Uuid::now_v7());
    let nobody = refused(&third, &ClientMessage::RtcJoin { case, session: unknown, publish: vec![] }).await;
    assert!(["no_such_session", "not_present"].contains(&nobody.0.as_str()), "{}", nobody.0);

    // A storm of datagrams at the media port: noise, cut STUN, STUN with lies, RTP and RTCP without a key.
    let port = world.server.ready["udp"][0].as_u64().unwrap() as u16;
    let storm = async {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut chance: rand::rngs::StdRng = rand::SeedableRng::seed_from_u64(world.seed);
        for n in 0..20_000u32 {
            let datagram = datagram(n, &mut chance);
            let _ = socket.send_to(&datagram, ("127.0.0.1", port)).await;
            if n.is_multiple_of(100) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let (_, _, ()) = tokio::join!(t.speak(440.0, secs(6)), e.speak(1_000.0, secs(6)), storm);
    let heard = e.packets(technician.me(case), TrackSource::Voice).len();
    assert!(heard > 200, "the call goes on: {heard} of 300 packets");
    assert_eq!(t.seen.lock().unwrap().strangers + e.seen.lock().unwrap().strangers, 0);
    world.assert_no_panic();
}

fn datagram(n: u32, chance: &mut rand::rngs::StdRng) -> Vec<u8> {
    use rand::{Rng as _, RngExt as _};
    let mut bytes = vec![0u8; chance.random_range(0..1_400)];
    chance.fill_bytes(&mut bytes);
    let start: &[u8] = match n % 6 {
        0 => &[],
        // STUN binding requests with a length that lies, and with attributes that run out.
        1 => &[0, 1, 0xff, 0xff, 0x21, 0x12, 0xa4, 0x42],
        2 => &[0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 6, 0xff, 0xff],
        // DTLS client hello, RTP, RTCP.
        3 => &[22, 254, 253, 0, 0],
        4 => &[0x80, 96],
        _ => &[0x81, 201, 0, 7],
    };
    let n = start.len().min(bytes.len());
    bytes[..n].copy_from_slice(&start[..n]);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_archivist_down_the_call_works_and_the_archive_says_so() {
    let world = World::with_server(47).await;
    let expert = world.person("expert").await;
    let told = expert.live.until("the archivist's absence", 0, |m| match m {
        ServerMessage::Archivist { present } => Some(*present),
        _ => None,
    });
    assert!(!told.await);
    let case = expert.new_case("p-204").await;
    let grant = expert.grant(case, "export", "check").await.unwrap();
    let refusal = expert.get(&format!("/archive/cases/{case}/bundle?grant={grant}")).await.unwrap_err();
    assert_eq!((refusal.status, refusal.code.as_str()), (503, "archive_down"));
    assert!(refusal.message.contains("lotse-archivist"), "{}", refusal.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_archive_opens_for_nobody_without_a_fitting_grant() {
    let world = World::seeded(48).await;
    let expert = world.person("expert").await;
    let (case, other) = (expert.new_case("p-204").await, expert.new_case("p-205").await);
    let export = expert.grant(case, "export", "check").await.unwrap();
    let replay = expert.grant(case, "replay", "check").await.unwrap();
    let mut forged = export.clone().into_bytes();
    forged[10] ^= 1;
    let forged = String::from_utf8_lossy(&forged).into_owned();
    for (case, grant) in
        [(other, export.as_str()), (case, replay.as_str()), (case, forged.as_str()), (case, ""), (case, "a.b")]
    {
        let refusal = expert.get(&format!("/archive/cases/{case}/bundle?grant={grant}")).await.unwrap_err();
        assert!((400..500).contains(&refusal.status), "{refusal:?}");
        assert!(refusal.message.len() > 20, "{refusal:?}");
    }
    let digest = "0".repeat(64);
    for path in
        [format!("cases/{case}/media/{digest}?grant={replay}"), format!("cases/{case}/media/../../keys?grant={replay}")]
    {
        let refusal = expert.get(&format!("/archive/{path}")).await.unwrap_err();
        assert!((400..500).contains(&refusal.status), "{path}: {refusal:?}");
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_cannot_start_say_what_to_do() {
    let mut world = World::with_server(49).await;
    let says = |name: &str, out: &(Option<i32>, String, String), words: &[&str]| {
        let (code, _, err) = out;
        assert!(code.is_some_and(|c| c != 0), "{name} ended with {code:?}: {err}");
        for word in words {
            assert!(err.contains(word), "{name}: '{word}' is missing in: {err}");
        }
        assert!(!err.contains("panicked"), "{name}: {err}");
    };
    // The port of the running server.
    let listen = world.url.strip_prefix("http://").unwrap().to_owned();
    let mut second = World::planned(50);
    second.seed_demo().await;
    second.server.set("LOTSE_HTTP_LISTEN", &listen);
    says("server", &second.server.run_to_end().await, &["http.listen", &listen, "another port"]);
    // The same for the archivist, and for the page of the glasses.
    let mut archivist = World::planned(54);
    archivist.archivist.set("LOTSE_HTTP_LISTEN", &listen);
    says("archivist", &archivist.archivist.run_to_end().await, &[&listen, "LOTSE_HTTP_LISTEN", "free port"]);
    let wear = format!("web:{listen}");
    let glasses = world.glasses("helmet-2").with("LOTSE_HUD_DISPLAYS", &wear).refused().await;
    says("glasses", &glasses, &[&wear, "another address", "[hud] displays"]);
    // A media port that is taken.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut third = World::planned(51);
    third.seed_demo().await;
    third.server.set("LOTSE_MEDIA_UDP_PORT", &port);
    third.server.set("LOTSE_MEDIA_WORKERS", "1");
    says("server", &third.server.run_to_end().await, &["media.udp_port", &port]);
    // Folders that cannot be written: a file stands in the way (root may write anywhere else).
    let file = world.path("a-file");
    std::fs::write(&file, "").unwrap();
    let inside = file.join("data").display().to_string();
    for (key, program) in [("LOTSE_DATA_DIR", "server"), ("LOTSE_DATA_KEYS", "server"), ("LOTSE_DATA_DIR", "archivist")]
    {
        let mut fourth = World::planned(52);
        let program = if program == "server" { &mut fourth.server } else { &mut fourth.archivist };
        program.set(key, &inside);
        program.set("LOTSE_SERVER_PAIRING_CODE", "x");
        says(&program.name.clone(), &program.run_to_end().await, &[&inside]);
    }
    // Settings that make no sense.
    let mut fifth = World::planned(53);
    fifth.server.set("LOTSE_MEDIA_PUBLIC_IP", "here");
    says("server", &fifth.server.run_to_end().await, &["LOTSE_MEDIA_PUBLIC_IP", "here"]);
    // An archivist with a used or wrong code.
    world.archivist.set("LOTSE_SERVER_PAIRING_CODE", "NO-SUCH-CODE");
    says("archivist", &world.archivist.run_to_end().await, &["pairing"]);
}
