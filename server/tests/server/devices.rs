//! Pairing, challenge, token, and what a device must sign.

use lotse_protocol::{
    command::ClientMessage,
    envelope,
    id::SessionId,
    kind,
    signal::{RtcAnswer, fingerprint_text},
};
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::kit::{Proof, World, error_of, fresh_key, json_of};

#[tokio::test]
async fn a_pairing_code_works_once() {
    let world = World::start().await;
    let code = world.code("helmet-1");
    let pair = || json!({ "code": code.to_lowercase(), "public_key": envelope::public_key(&fresh_key()), "name": "x" });
    let first = world.post("/api/v1/devices/pair", pair()).await;
    assert_eq!(first.status(), StatusCode::OK);
    let reply = json_of(first).await;
    assert_eq!(reply["role"], "technician");
    assert!(reply["server_key"].is_string());
    // With another key it is somebody else.
    let (status, error) = error_of(world.post("/api/v1/devices/pair", pair()).await).await;
    assert_eq!((status, error.code.as_str()), (403, "bad_pairing_code"));
}

#[tokio::test]
async fn a_device_whose_answer_was_lost_asks_again_and_is_the_same() {
    let mut world = World::start().await;
    let body = json!({ "code": world.code("helmet-1"), "public_key": envelope::public_key(&fresh_key()), "name": "x" });
    let first = json_of(world.post("/api/v1/devices/pair", body.clone()).await).await;
    world.kill();
    world.serve();
    let again = json_of(world.post("/api/v1/devices/pair", body.clone()).await).await;
    assert_eq!((&again["device"], &again["role"]), (&first["device"], &first["role"]));
    // Revoked, it needs a new code.
    assert!(world.program(&["admin", "revoke-device", "helmet-1"]).status().expect("runs").success());
    assert_eq!(error_of(world.post("/api/v1/devices/pair", body).await).await.1.code, "bad_pairing_code");
}

#[tokio::test]
async fn a_code_of_the_administrator_dies_after_fifteen_minutes() {
    let mut world = World::start().await;
    let made = world.program(&["admin", "pairing-code", "technician", "--device", "helmet-9"]).output().expect("runs");
    let code = crate::kit::lines(&made.stdout)[0]["code"].as_str().expect("a code").to_owned();
    world.kill();
    let file = world.data().join("lotse.sqlite");
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.expect("the database");
    let aged = sqlx::query("update pairing_codes set expires_ms = expires_ms - 900000 where name = 'helmet-9'");
    assert_eq!(aged.execute(&pool).await.expect("aged").rows_affected(), 1);
    pool.close().await;
    world.serve();
    let body = json!({ "code": code, "public_key": envelope::public_key(&fresh_key()), "name": "x" });
    assert_eq!(error_of(world.post("/api/v1/devices/pair", body).await).await.1.code, "bad_pairing_code");
}

#[tokio::test]
async fn keys_that_bind_nothing_are_refused() {
    let world = World::start().await;
    // The neutral point: every signature under it can be forged.
    let mut weak = [0u8; 32];
    weak[0] = 1;
    let weak = lotse_protocol::id::PublicKey(weak);
    let body = json!({ "code": world.code("helmet-1"), "public_key": weak, "name": "x" });
    assert_eq!(error_of(world.post("/api/v1/devices/pair", body).await).await.1.code, "malformed");
    world.pair("helmet-1").await;
}

#[tokio::test]
async fn a_token_needs_the_devices_own_signature_over_a_fresh_nonce() {
    let world = World::start().await;
    let device = world.pair("helmet-1").await;
    let (id, key) = device.key.as_ref().expect("a device");
    let nonce = json_of(world.post("/api/v1/devices/challenge", json!({ "device": id })).await).await["nonce"].clone();
    let nonce = nonce.as_str().expect("text");
    let text = format!("lotse-token-v1 {id} {nonce}");
    let ask = |sig| world.post("/api/v1/devices/token", json!({ "device": id, "nonce": nonce, "sig": sig }));
    let wrong = error_of(ask(envelope::sign(&fresh_key(), &text)).await).await;
    assert_eq!((wrong.0, wrong.1.code.as_str()), (401, "stale_token"));
    let used_up = error_of(ask(envelope::sign(key, &text)).await).await;
    assert_eq!(used_up.1.code, "stale_token", "the wrong try used the nonce up");
    world.token(id, key).await;
}

#[tokio::test]
async fn a_made_up_token_opens_nothing() {
    let world = World::start().await;
    let mut device = world.pair("helmet-1").await;
    device.proof = Proof::Token("made-up".into());
    assert_eq!(error_of(device.get("/api/v1/cases").await).await.1.code, "stale_token");
    assert_eq!(device.try_connect(None).await.err(), Some(401));
}

#[tokio::test]
async fn a_revoked_device_is_out_at_once_and_its_socket_within_seconds() {
    let world = World::start().await;
    let device = world.pair("helmet-2").await;
    let mut live = device.connect().await;
    live.settled().await;
    let revoked = world.program(&["admin", "revoke-device", "helmet-2"]).output().expect("runs");
    assert!(revoked.status.success());
    assert_eq!(error_of(device.get("/api/v1/cases").await).await.1.code, "stale_token");
    assert_eq!(live.close_reason().await, "revoked");
}

#[tokio::test]
async fn a_devices_answer_must_carry_its_signature_over_the_dtls_fingerprint() {
    let world = World::start().await;
    let device = world.pair("helmet-1").await;
    let (_, key) = device.key.as_ref().expect("a device");
    let case = world.case(&device).await;
    let mut live = device.connect().await;
    let mut me = live.enter(case).await;
    let session = SessionId(Uuid::new_v4());
    let called = me.bare(kind::SESSION_CALLED, Some(session));
    live.commit(&called).await.expect("called");
    let print = "sha-256 AB:CD:EF";
    let sdp = format!("v=0\r\na=fingerprint:{print}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n");
    let answer = |sdp: &str, fingerprint_sig| ClientMessage::RtcAnswer {
        session,
        answer: RtcAnswer { leg: 1, rev: 1, sdp: sdp.into(), fingerprint_sig },
    };
    let good = envelope::sign(key, &fingerprint_text(session, print));
    let other_session = envelope::sign(key, &fingerprint_text(SessionId(Uuid::new_v4()), print));
    let two = format!("{sdp}a=fingerprint:sha-256 00:11\r\n");
    for (sdp, sig) in [
        (sdp.as_str(), None),
        (sdp.as_str(), Some(other_session)),
        (sdp.as_str(), Some(envelope::sign(&fresh_key(), &fingerprint_text(session, print)))),
        (two.as_str(), Some(good)),
        ("v=0\r\n", Some(good)),
    ] {
        live.say(&answer(sdp, sig)).await;
        assert_eq!(live.refused().await.code, "bad_fingerprint");
    }
    // Signed rightly it reaches the SFU, which knows of no offer.
    live.say(&answer(&sdp, Some(good))).await;
    assert_eq!(live.refused().await.code, "media_refused");
}
