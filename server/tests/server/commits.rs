//! Events in, events out: order, resumption, repetition, and everything that must be refused.

use futures_util::SinkExt as _;
use lotse_protocol::{
    chain::{self, read_head},
    command::{ClientMessage, MAX_MESSAGE_BYTES, ServerMessage},
    envelope::{AuthorFields, Joined, Opened, StoredEvent},
    kind,
    policy::Role,
};
use tokio_tungstenite::tungstenite::Message;

use crate::kit::{Scene, World, fresh_item_key, inline};

#[tokio::test]
async fn a_commit_reaches_everybody_and_who_comes_back_misses_nothing() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let (live, author) = &mut scene.technician;
    let first = author.say(kind::MESSAGE, None, b"one");
    let seq = live.commit(&first).await.expect("stored");
    scene.expert.0.event(kind::MESSAGE).await;

    // The expert goes; two more come; the expert is back and says how far it was.
    drop(scene.expert.0);
    for word in [b"two".as_slice(), b"three"] {
        let event = author.say(kind::MESSAGE, None, word);
        live.commit(&event).await.expect("stored");
    }
    let mut back = world.login("expert").await.connect().await;
    back.open_after(scene.case, seq).await;
    back.caught_up().await;
    let seqs: Vec<u64> = back.seen.iter().filter_map(event_seq).collect();
    assert_eq!(seqs, [seq + 1, seq + 2]);
    let next = author.say(kind::MESSAGE, None, b"four");
    live.commit(&next).await.expect("stored");
    back.event(kind::MESSAGE).await;
    let seqs: Vec<u64> = back.seen.iter().filter_map(event_seq).collect();
    assert_eq!(seqs, [seq + 1, seq + 2, seq + 3], "each once and in order");
}

#[tokio::test]
async fn what_a_reader_gets_is_a_chain_that_verifies_up_to_the_signed_head() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let (live, author) = &mut scene.technician;
    for n in 0..120 {
        let event = author.say(kind::MESSAGE, None, format!("message {n}").as_bytes());
        live.say(&event.message()).await;
    }
    let last = author.say(kind::MESSAGE, None, b"last");
    let seq = live.commit(&last).await.expect("stored");

    let mut reader = world.login("expert").await.connect().await;
    reader.say(&ClientMessage::OpenCase { case: scene.case, after_seq: 0, lean: false }).await;
    let head =
        reader.until(|m| if let ServerMessage::CaseOpened { head, .. } = m { Some(head.clone()) } else { None }).await;
    assert_eq!(reader.caught_up().await, seq);
    let events: Vec<StoredEvent> = reader.seen.iter().filter_map(stored).collect();
    assert_eq!(events.len() as u64, seq);
    let chain = chain::verify_log(scene.case, &events).expect("the log verifies");
    let opened: Opened = AuthorFields::read(&events[0].author).expect("author bytes").clear().expect("opened");
    let signed = read_head(&head, &opened.server_key).expect("the head is the server's");
    assert_eq!(signed.head, chain.head());
}

#[tokio::test]
async fn sending_the_same_again_is_harmless_and_other_bytes_under_its_id_are_refused() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let (live, author) = &mut scene.technician;
    let event = author.say(kind::MESSAGE, None, b"once");
    let seq = live.commit(&event).await.expect("stored");
    assert_eq!(live.commit(&event).await.expect("known"), seq);

    let mut other = AuthorFields::read(&event.author).expect("author bytes");
    author.seq += 1;
    (other.device_seq, other.captured_at_ms) = (author.seq, other.captured_at_ms + 1);
    let other = author.sign(other, event.items.clone());
    assert_eq!(live.commit(&other).await.expect_err("another content").code, "id_reused");

    let after = author.say(kind::MESSAGE, None, b"twice");
    assert_eq!(live.commit(&after).await.expect("stored"), seq + 1, "nothing was stored in between");
}

#[tokio::test]
async fn a_device_that_lost_its_counter_is_told_where_it_stood() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let (live, author) = &mut scene.technician;
    let stood = author.seq;
    author.seq = 0;
    let stale = author.say(kind::MESSAGE, None, b"again from one");
    live.say(&stale.message()).await;
    let (code, last) = live
        .until(|m| match m {
            ServerMessage::Refused { error, last_device_seq, .. } => Some((error.code.clone(), *last_device_seq)),
            _ => None,
        })
        .await;
    assert_eq!((code.as_str(), last), ("stale_device_seq", Some(stood)));
    author.seq = stood;
    let fresh = author.say(kind::MESSAGE, None, b"above it");
    live.commit(&fresh).await.expect("stored");
}

#[tokio::test]
async fn forged_and_foreign_events_are_refused() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let (live, author) = &mut scene.technician;
    // Another's key.
    let mut forged = author.say(kind::MESSAGE, None, b"x");
    forged.sig = crate::kit::Author::new(scene.case, author.me, author.role)
        .sign(AuthorFields::read(&forged.author).expect("bytes"), vec![])
        .sig;
    assert_eq!(live.commit(&forged).await.expect_err("forged").code, "bad_signature");
    // Another's pseudonym.
    let mut stolen = author.fields(kind::MESSAGE, None, None, &[], None);
    stolen.author = scene.expert.1.me;
    let stolen = author.sign(stolen, vec![]);
    assert_eq!(live.commit(&stolen).await.expect_err("stolen").code, "forbidden");
    // A device nobody bound.
    let mut unbound = author.fields(kind::MESSAGE, None, None, &[], None);
    unbound.device = lotse_protocol::id::DeviceId(uuid::Uuid::new_v4());
    let unbound = author.sign(unbound, vec![]);
    assert_eq!(live.commit(&unbound).await.expect_err("unbound").code, "unknown_author");
    // Another role than one's own.
    let clear = Joined { role: Role::Expert, case_key: lotse_protocol::envelope::public_key(&author.key) };
    let promoted = author.make(kind::JOINED, None, None, &[], serde_json::to_value(clear).ok());
    assert_eq!(live.commit(&promoted).await.expect_err("promoted").code, "forbidden");
    // What only the server writes.
    for kind in [kind::OPENED, kind::SESSION_LEFT] {
        let event = author.bare(kind, Some(scene.session));
        assert_eq!(live.commit(&event).await.expect_err("the server's").code, "forbidden");
    }
}

#[tokio::test]
async fn every_digest_needs_its_bytes_and_its_key() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let (live, author) = &mut scene.technician;
    let (one, two) = (seal(b"one"), seal(b"two"));
    let try_items = |author: &mut crate::kit::Author, items: Vec<lotse_protocol::command::ItemRef>| {
        let fields = author.fields(kind::MESSAGE, None, Some(&one), &[], None);
        author.sign(fields, items)
    };
    let mut no_key = inline(&one);
    no_key.key = None;
    let mut no_bytes = inline(&one);
    no_bytes.bytes = None;
    let mut other_bytes = inline(&one);
    other_bytes.bytes = inline(&two).bytes;
    let mut other_key = inline(&one);
    other_key.key = Some(two.key);
    let mut not_base64 = inline(&one);
    not_base64.bytes = Some("%%%".into());
    for (items, code) in [
        (vec![], "missing_item"),
        (vec![no_key], "missing_key"),
        (vec![no_bytes], "missing_item"),
        (vec![other_bytes], "digest_mismatch"),
        (vec![other_key], "wrong_key"),
        (vec![not_base64], "malformed"),
        (vec![inline(&one), inline(&two)], "malformed"),
    ] {
        let event = try_items(author, items);
        assert_eq!(live.commit(&event).await.expect_err(code).code, code);
    }
    let event = try_items(author, vec![inline(&one)]);
    live.commit(&event).await.expect("complete");
}

#[tokio::test]
async fn receipts_keep_their_exact_time_inside() {
    let world = World::start().await;
    let mut scene = Scene::recorded(&world).await;
    let (live, author) = &mut scene.technician;
    let exact =
        AuthorFields { captured_at_ms: 1_700_000_000_123, ..author.fields(kind::RECEIPT, None, None, &[], None) };
    let exact = author.sign(exact, vec![]);
    assert_eq!(live.commit(&exact).await.expect_err("exact").code, "coarse_time");
    let receipt = author.bare(kind::RECEIPT, Some(scene.session));
    live.commit(&receipt).await.expect("whole minutes");
    let (_, sent) = scene.expert.0.event(kind::RECEIPT).await;
    let server = lotse_protocol::envelope::ServerFields::read(&sent.event.server).expect("server bytes");
    assert_eq!(server.received_at_ms % 60_000, 0);
}

#[tokio::test]
async fn unreadable_and_oversized_messages_end_the_socket_with_a_reason() {
    let world = World::start().await;
    let person = world.login("expert").await;
    for (text, code) in [
        ("{".to_owned(), "malformed"),
        (r#"{"type":"fly"}"#.to_owned(), "malformed"),
        (r#"{"type":"ping"}"#.to_owned(), "malformed"),
        (format!(r#"{{"type":"hello","language":"{}"}}"#, "x".repeat(MAX_MESSAGE_BYTES)), "too_large"),
        (" ".repeat(3 * MAX_MESSAGE_BYTES), "too_large"),
    ] {
        let mut live = person.connect().await;
        live.ws.send(Message::text(text)).await.expect("sent");
        assert_eq!(live.refused().await.code, code);
        assert_eq!(live.close_reason().await, code);
    }
    let mut live = person.try_connect(Some(&world.url)).await.expect("opens");
    live.say(&ClientMessage::Ping { t0_us: 1 }).await;
    assert_eq!(live.refused().await.code, "hello_first");
    live.say(&ClientMessage::Hello { language: "de".into() }).await;
    live.settled().await;
}

#[tokio::test]
async fn a_commit_needs_its_case_open_and_readable_author_bytes() {
    let world = World::start().await;
    let mut scene = Scene::called(&world).await;
    let (live, author) = &mut scene.technician;
    let mut long = author.fields(kind::MESSAGE, None, None, &[], None);
    long.kind = "x".repeat(20_000);
    let long = author.sign(long, vec![]);
    live.say(&long.message()).await;
    assert_eq!(live.refused().await.code, "too_large");
    live.say(&ClientMessage::CloseCase { case: scene.case }).await;
    let event = author.say(kind::MESSAGE, None, b"late");
    assert_eq!(live.commit(&event).await.expect_err("closed").code, "case_not_open");
}

fn seal(bytes: &[u8]) -> lotse_protocol::item::Sealed {
    lotse_protocol::item::seal(fresh_item_key(), bytes)
}

fn stored(message: &ServerMessage) -> Option<StoredEvent> {
    if let ServerMessage::Event { event, .. } = message { Some(event.event.clone()) } else { None }
}

fn event_seq(message: &ServerMessage) -> Option<u64> {
    let event = stored(message)?;
    lotse_protocol::envelope::ServerFields::read(&event.server).ok().map(|s| s.seq)
}
