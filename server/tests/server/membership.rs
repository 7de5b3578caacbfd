//! Who gets to read what, and when item keys leave the server.

use lotse_protocol::{command::ServerMessage, id::SessionId, item, kind};
use reqwest::Method;
use uuid::Uuid;

use crate::kit::{Scene, World, error_of, files, fresh_item_key, now_ms};

#[tokio::test]
async fn before_membership_nothing_is_read_and_afterwards_everything() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let mut live = world.login("manager").await.connect().await;
    let mut me = live.enter(scene.case).await;
    assert!(live.seen.iter().any(|m| matches!(m, ServerMessage::CaughtUp { .. })), "there is nothing to wait for");
    let (technician, author) = &mut scene.technician;
    let said = author.say(kind::MESSAGE, None, b"not for managers yet");
    technician.commit(&said).await.expect("stored");
    live.settled().await;
    assert!(!live.seen.iter().any(is_event), "joined alone reads nothing");

    let viewed = me.say(kind::VIEWED, None, b"warranty");
    let seq = live.commit(&viewed).await.expect("a reason");
    assert_eq!(live.caught_up().await, seq);
    let got: Vec<_> = live.seen.iter().filter(|m| is_event(m)).collect();
    assert_eq!(got.len() as u64, seq, "the whole log, the reason included");
    let keyed = live.seen.iter().filter_map(|m| match m {
        ServerMessage::Event { event, .. } => Some(&event.items),
        _ => None,
    });
    assert!(keyed.flatten().all(|i| i.key.is_some()), "with the key of every item");
}

#[tokio::test]
async fn who_opened_the_case_is_a_member_by_joining() {
    let world = World::start().await;
    let glasses = world.pair("helmet-1").await;
    let case = world.case(&glasses).await;
    let mut live = glasses.connect().await;
    let mut me = live.open(case).await;
    live.caught_up().await;
    let joined = me.joined();
    live.commit(&joined).await.expect("joined");
    live.event(kind::OPENED).await;
    assert_eq!(live.caught_up().await, 2);
}

#[tokio::test]
async fn another_technician_who_joins_reads_and_writes_nothing() {
    let world = World::start().await;
    let scene = Scene::called(&world).await;
    let jonas = world.pair("helmet-2").await;
    let mut live = jonas.connect().await;
    let mut me = live.enter(scene.case).await;
    let said = me.say(kind::MESSAGE, None, b"hello");
    assert_eq!(live.commit(&said).await.expect_err("not a member").code, "forbidden");
    // Calling would make a member; but this case's session is somebody else's.
    for session in [scene.session, SessionId(Uuid::new_v4())] {
        let call = me.bare(kind::SESSION_CALLED, Some(session));
        assert_eq!(live.commit(&call).await.expect_err("not his").code, "session_open");
    }
    live.settled().await;
    assert!(!live.seen.iter().any(is_event));
    let sealed = item::seal(fresh_item_key(), b"file");
    let path = format!("/api/v1/cases/{}/items/{}", scene.case, sealed.digest);
    let put = jonas.request(Method::PUT, &path).body(sealed.bytes).send().await.expect("an answer");
    assert_eq!(error_of(put).await.1.code, "forbidden");
}

#[tokio::test]
async fn administrators_cannot_enter_a_case() {
    let world = World::start().await;
    let scene = Scene::called(&world).await;
    let mut live = world.login("admin").await.connect().await;
    live.say(&lotse_protocol::command::ClientMessage::OpenCase { case: scene.case, after_seq: 0, lean: false }).await;
    assert_eq!(live.refused().await.code, "forbidden");
}

#[tokio::test]
async fn a_destroyed_wrap_stays_destroyed_and_the_log_still_verifies() {
    let mut world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let (live, author) = &mut scene.technician;
    let said = author.say(kind::MESSAGE, None, b"to be erased");
    live.commit(&said).await.expect("stored");
    let digest = said.items[0].digest;
    world.kill();
    let pool = database(&world).await;
    let erased = sqlx::query("update wraps set wrap = null, destroyed_ms = ? where digest = ?")
        .bind(now_ms())
        .bind(&digest.0[..])
        .execute(&pool)
        .await
        .expect("erased");
    assert_eq!(erased.rows_affected(), 1);
    pool.close().await;
    world.serve();
    let mut reader = world.login("expert").await.connect().await;
    let mut me = reader.open(scene.case).await;
    let (_, sent) = reader.event(kind::MESSAGE).await;
    assert_eq!(sent.items[0].key, None);
    // Bringing the key again, in an event that names the same item, does not bring it back.
    me.seq = 100;
    let joined = me.joined();
    reader.commit(&joined).await.expect("a new device of the expert");
    let fields = me.fields(kind::MESSAGE, None, None, &[], None);
    let again = lotse_protocol::envelope::AuthorFields { item: Some(digest), ..fields };
    let again = me.sign(again, said.items.clone());
    reader.commit(&again).await.expect("the item is known");
    let mut third = world.login("expert").await.connect().await;
    third.open_after(scene.case, 0).await;
    third.caught_up().await;
    let keys = third.seen.iter().filter_map(|m| match m {
        ServerMessage::Event { event, .. } => event.items.iter().find(|i| i.digest == digest),
        _ => None,
    });
    assert_eq!(keys.filter(|i| i.key.is_none()).count(), 2);
    let checked = world.program(&["doctor"]).output().expect("runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn the_data_folder_holds_no_payload_and_no_key_in_clear() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let secret = "the seal of pump P-204 weeps at flange seven";
    let (live, author) = &mut scene.technician;
    let said = author.say(kind::MESSAGE, None, secret.as_bytes());
    live.commit(&said).await.expect("stored");
    let large: Vec<u8> = secret.bytes().cycle().take(200_000).collect();
    let file = item::seal(fresh_item_key(), &large);
    let (expert_live, expert) = &mut scene.expert;
    let path = format!("/api/v1/cases/{}/items/{}", scene.case, file.digest);
    let person = world.login("expert").await;
    let put = person.request(Method::PUT, &path).body(file.bytes.clone()).send().await.expect("an answer");
    assert_eq!(put.status(), 201);
    let with_file = expert.make(kind::MESSAGE, None, Some(secret.as_bytes()), &[&file], None);
    expert_live.commit(&with_file).await.expect("stored");

    let mut needles = vec![secret.as_bytes().to_vec(), crate::kit::DEMO_PASSWORD.as_bytes().to_vec()];
    for item in said.items.iter().chain(&with_file.items) {
        let key = item.key.expect("a key");
        needles.push(key.0.to_vec());
        needles.push(key.to_string().into_bytes());
    }
    if let crate::kit::Proof::Cookie(cookie) = &person.proof {
        needles.push(cookie.clone().into_bytes());
    }
    let mut read = 0;
    for path in files(&world.data()) {
        let bytes = std::fs::read(&path).expect("readable");
        read += bytes.len();
        for needle in &needles {
            let found = bytes.windows(needle.len()).any(|w| w == needle.as_slice());
            assert!(!found, "{} holds {:?}", path.display(), String::from_utf8_lossy(needle));
        }
    }
    assert!(read > 200_000, "the scan read what was stored");
}

async fn database(world: &World) -> sqlx::SqlitePool {
    let file = world.data().join("lotse.sqlite");
    sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.expect("the database")
}

fn is_event(message: &ServerMessage) -> bool {
    matches!(message, ServerMessage::Event { .. })
}
