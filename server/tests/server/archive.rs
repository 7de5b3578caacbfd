//! Grants, the way to the archivist, and the log it bundles.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lotse_protocol::{
    chain::{self, SignedHead, read_head},
    command::SentEvent,
    envelope,
    id::{PublicKey, Signature},
    kind,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::kit::{Scene, World, error_of, http, json_of};

#[tokio::test]
async fn a_grant_follows_a_reason_and_is_signed_by_the_server() {
    let world = World::start().await;
    let scene = Scene::recorded(&world).await;
    let manager = world.login("manager").await;
    let path = format!("/api/v1/cases/{}/grants", scene.case);
    let mut live = manager.connect().await;
    let mut me = live.enter(scene.case).await;
    let viewed = me.say(kind::VIEWED, None, b"warranty decision");
    live.commit(&viewed).await.expect("a reason");
    let reply = json_of(manager.post(&path, json!({ "event": viewed.id, "verb": "replay" })).await).await;
    let (text, sig) = reply["grant"].as_str().expect("a grant").split_once('.').expect("two parts");
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("text");
    let sig = Signature::from_slice(&URL_SAFE_NO_PAD.decode(sig).expect("base64")).expect("64 bytes");
    let server_key = server_key(&mut live).await;
    envelope::verify(&server_key, &text, &sig).expect("by the server");
    let said: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((said["case"].as_str(), said["verb"].as_str()), (Some(scene.case.to_string().as_str()), Some("replay")));
    let left = said["expires_ms"].as_i64().expect("a time") - crate::kit::now_ms();
    assert!((290_000..=300_000).contains(&left), "{left}");

    // Another verb, another's reason, something that is no reason.
    let expert = world.login("expert").await;
    for (who, body) in [
        (&manager, json!({ "event": viewed.id, "verb": "export" })),
        (&expert, json!({ "event": viewed.id, "verb": "replay" })),
        (&manager, json!({ "event": uuid::Uuid::now_v7(), "verb": "replay" })),
    ] {
        assert_eq!(error_of(who.post(&path, body).await).await.1.code, "forbidden");
    }
    let odd = manager.post(&path, json!({ "event": viewed.id, "verb": "sell" })).await;
    assert_eq!(error_of(odd).await.1.code, "malformed");
}

#[tokio::test]
async fn requests_go_through_to_the_archivist_with_their_range_and_come_back_as_they_are() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a request");
        let mut request = vec![];
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a byte"));
        }
        let answer = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 2-5/10\r\ncontent-length: 4\r\n\
                      set-cookie: lotse_session=stolen\r\ncontent-type: application/octet-stream\r\n\r\n2345";
        stream.write_all(answer.as_bytes()).await.expect("sent");
        String::from_utf8(request).expect("text").to_lowercase()
    });
    let world = World::with(&[("LOTSE_ARCHIVE_URL", &address)]).await;
    let manager = world.login("manager").await;
    let response = manager
        .request(reqwest::Method::GET, "/archive/cases/1/media/ab?grant=x.y")
        .header("range", "bytes=2-5")
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(response.headers()["content-range"], "bytes 2-5/10");
    assert!(!response.headers().contains_key("set-cookie"), "the archivist sets nobody's cookie");
    assert_eq!(response.bytes().await.expect("bytes"), "2345");
    let asked = seen.await.expect("it was asked");
    assert!(asked.starts_with("get /archive/cases/1/media/ab?grant=x.y http/1.1"), "{asked}");
    assert!(asked.contains("range: bytes=2-5"), "{asked}");
    assert!(!asked.contains("cookie"), "the login stays here: {asked}");
}

#[tokio::test]
async fn without_an_archivist_the_answer_says_what_to_do() {
    let world = World::with(&[("LOTSE_ARCHIVE_URL", "http://127.0.0.1:9")]).await;
    let (status, error) = error_of(world.login("manager").await.get("/archive/cases/1/bundle?grant=x").await).await;
    assert_eq!((status, error.code.as_str()), (503, "archive_down"));
    assert!(error.message.contains("lotse-archivist"), "{}", error.message);
    let health = http().get(format!("{}/archive/healthz", world.url)).send().await.expect("an answer");
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_bundle_log_is_the_archivists_and_verifies() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let (live, author) = &mut scene.technician;
    for n in 0..250 {
        let event = author.say(kind::MESSAGE, None, format!("{n}").as_bytes());
        live.say(&event.message()).await;
    }
    let last = author.say(kind::MESSAGE, None, b"last");
    let seq = live.commit(&last).await.expect("stored");
    let path = format!("/api/v1/cases/{}/bundle-log", scene.case);
    assert_eq!(error_of(world.login("expert").await.get(&path).await).await.1.code, "forbidden");
    let archivist = scene.archivist_person.get(&path).await;
    assert_eq!(archivist.status(), StatusCode::OK);
    let text = archivist.text().await.expect("lines");
    let mut lines: Vec<&str> = text.lines().collect();
    let end: Value = serde_json::from_str(lines.pop().expect("a last line")).expect("JSON");
    let events: Vec<SentEvent> = lines.iter().map(|l| serde_json::from_str(l).expect("an event")).collect();
    assert_eq!(events.len() as u64, seq);
    assert!(events.iter().flat_map(|e| &e.items).all(|i| i.key.is_some()));
    let chain = chain::verify_log(scene.case, events.iter().map(|e| &e.event)).expect("verifies");
    let key: PublicKey = serde_json::from_value(end["checkpoint_key"].clone()).expect("a key");
    let head: SignedHead = serde_json::from_value(end["head"].clone()).expect("a head");
    assert_eq!(read_head(&head, &key).expect("signed").head, chain.head());
}

async fn server_key(live: &mut crate::kit::Live) -> PublicKey {
    let (opened, _) = live.event(kind::OPENED).await;
    opened.clear::<envelope::Opened>().expect("clear fields").server_key
}
