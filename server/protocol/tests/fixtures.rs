//! Golden vectors for items and envelopes. Rust makes them, Rust and the page's tests read them.
//!
//! `LOTSE_WRITE_FIXTURES=1 cargo test -p lotse-protocol --test fixtures` writes them anew; without it the test compares.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use lotse_protocol::{
    chain::{Head, sign_head},
    envelope::{self, AuthorFields, Joined, ServerFields, StoredEvent, genesis},
    id::{Digest, ItemKey},
    item::{self, CHUNK},
    kind,
    policy::Role,
    signal::fingerprint_text,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// The plain bytes of every vector follow one rule, so that large ones need not be written down.
fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i * 31 + 7) % 251) as u8).collect()
}

fn item_key(n: u32) -> ItemKey {
    ItemKey(Digest::of(format!("lotse fixture key {n}").as_bytes()).0)
}

fn items() -> Value {
    let whole = |length: usize| match length {
        0 => vec![0],
        n => (0..n.div_ceil(CHUNK)).map(|i| (n - i * CHUNK).min(CHUNK)).collect::<Vec<_>>(),
    };
    let cases: Vec<(&str, Vec<usize>)> = vec![
        ("empty", whole(0)),
        ("one byte", whole(1)),
        ("a payload", whole(317)),
        ("a media fragment in three chunks of its own size", vec![700, 300, 20]),
        ("a fragment with an empty chunk in its middle", vec![10, 0, 10]),
        ("one byte below a chunk", whole(CHUNK - 1)),
        ("exactly a chunk", whole(CHUNK)),
        ("one byte above a chunk", whole(CHUNK + 1)),
        ("three chunks and a rest", whole(3 * CHUNK + 1234)),
    ];
    let good: Vec<Value> = cases
        .iter()
        .enumerate()
        .map(|(n, (name, chunks))| {
            let key = item_key(n as u32);
            let plain = plain(chunks.iter().sum());
            let sealed = item::seal_chunks(key, &plain, chunks).unwrap();
            let mut vector = json!({
                "name": name,
                "key": key,
                "plain_length": plain.len(),
                "plain_sha256": Digest::of(&plain),
                "chunks": chunks,
                "sealed_length": sealed.len(),
                "digest": Digest::of(&sealed),
            });
            if sealed.len() <= 2048 {
                vector["sealed"] = STANDARD.encode(&sealed).into();
            }
            vector
        })
        .collect();

    let key = item_key(100);
    let sealed = item::seal_chunks(key, &plain(60), &[20, 20, 20]).unwrap();
    let row = 20 + item::CHUNK_OVERHEAD;
    let swapped =
        [&sealed[..32], &sealed[32 + row..32 + 2 * row], &sealed[32..32 + row], &sealed[32 + 2 * row..]].concat();
    let mut flipped = sealed.clone();
    flipped[32 + row + 4] ^= 1;
    let mut header = sealed.clone();
    header[5] ^= 0x80;
    let bad = [
        ("a flipped byte in the second chunk", flipped, "does_not_open", 1),
        ("first and second chunk swapped", swapped, "does_not_open", 0),
        ("cut inside the third chunk", sealed[..sealed.len() - 1].to_vec(), "truncated", 2),
        ("cut inside the length of the second chunk", sealed[..32 + row + 2].to_vec(), "truncated", 1),
        ("only the header", sealed[..32].to_vec(), "truncated", 0),
        ("less than the header", sealed[..31].to_vec(), "truncated", 0),
        ("no bytes at all", Vec::new(), "truncated", 0),
        ("a flipped byte in the header", header, "wrong_key", 0),
        ("another item's key", item::seal_chunks(item_key(101), &plain(60), &[20, 20, 20]).unwrap(), "wrong_key", 0),
    ]
    .map(|(name, bytes, error, chunk)| {
        let code = match item::open(&key, &bytes).unwrap_err() {
            lotse_protocol::ProtocolError::DoesNotOpen { chunk } => ("does_not_open", chunk),
            lotse_protocol::ProtocolError::Truncated { chunk } => ("truncated", chunk),
            lotse_protocol::ProtocolError::WrongKey => ("wrong_key", 0),
            other => panic!("{name}: {other}"),
        };
        assert_eq!(code, (error, chunk), "{name}");
        let (whole_bytes, whole_chunks) = item::whole_chunks(&bytes);
        json!({
            "name": name, "key": key, "sealed": STANDARD.encode(&bytes), "error": error, "chunk": chunk,
            "whole_bytes": whole_bytes, "whole_chunks": whole_chunks,
        })
    });
    json!({
        "about": "Plain byte i of every good vector is (i * 31 + 7) mod 251. `sealed` stands where it is short.",
        "header_text": "lotse-item-v1 ",
        "good": good,
        "bad": bad,
    })
}

fn envelopes() -> Value {
    let key = SigningKey::from_bytes(&[7; 32]);
    let server = SigningKey::from_bytes(&[1; 32]);
    let id = |n: u128| Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + n);
    let case = lotse_protocol::id::CaseId(id(1));
    let session = lotse_protocol::id::SessionId(id(9));
    let author = lotse_protocol::id::Pseudonym(id(2));
    let fields = AuthorFields {
        v: envelope::VERSION,
        case,
        id: lotse_protocol::id::EventId(id(4)),
        kind: kind::JOINED.into(),
        session: None,
        author,
        device: lotse_protocol::id::DeviceId(id(3)),
        device_seq: 1,
        captured_at_ms: 1_760_000_000_123,
        item: Some(Digest::of(b"a sealed payload")),
        attachments: vec![],
        clear: Some(serde_json::to_value(Joined { role: Role::Expert, case_key: envelope::public_key(&key) }).unwrap()),
    };
    let mut full = fields.clone();
    full.kind = kind::SNAPSHOT.into();
    full.session = Some(session);
    full.device_seq = 2;
    full.clear = None;
    full.attachments = vec![Digest::of(b"one"), Digest::of(b"two")];
    let events: Vec<Value> = [fields, full]
        .iter()
        .enumerate()
        .map(|(n, fields)| {
            let author = fields.to_bytes();
            let sig = envelope::sign(&key, &author);
            let server = ServerFields {
                v: envelope::VERSION,
                case,
                seq: n as u64 + 1,
                prev: genesis(case),
                received_at_ms: 1_760_000_000_200,
            };
            let event = StoredEvent { server: server.to_bytes(), author, sig };
            json!({ "fields": fields, "stored": event, "hash": event.hash() })
        })
        .collect();
    // Legal JSON that this code would not write: spaces, another order, an escape, an unknown field.
    let foreign = format!(
        r#"{{ "kind": "message", "v": 1, "case": "{case}", "id": "{}", "author": "{author}", "device": "{}", "device_seq": 3, "captured_at_ms": 1760000000123, "later": "\u00fc" }}"#,
        id(5),
        id(3)
    );
    AuthorFields::read(&foreign).unwrap();
    let fingerprint = "sha-256 00:11:22:33";
    let sign = |text: String| json!({ "text": text, "sig": envelope::sign(&key, &text) });
    let head = sign_head(&server, Head { case, seq: 1, hash: Digest::of(b"an event") }, 1_760_000_001_000);
    json!({
        "about": "Ed25519 seeds are 32 equal bytes. Texts are signed and hashed as they stand.",
        "seed_byte": 7,
        "public_key": envelope::public_key(&key),
        "server_seed_byte": 1,
        "server_key": envelope::public_key(&server),
        "server_fingerprint": envelope::fingerprint(&envelope::public_key(&server)),
        "case": case,
        "genesis": genesis(case),
        "events": events,
        "foreign": sign(foreign),
        "head": head,
        "token": sign(format!("lotse-token-v1 {} {}", id(3), "bm9uY2U=")),
        "dtls": sign(fingerprint_text(session, fingerprint)),
    })
}

#[test]
fn items_are_as_the_golden_file_says() {
    compare("items.json", &items());
}

#[test]
fn envelopes_are_as_the_golden_file_says() {
    compare("envelope.json", &envelopes());
}

/// The golden file is read by itself too: what it holds opens, with no help from the code that made it.
#[test]
fn golden_items_open() {
    let golden: Value = serde_json::from_str(&read("items.json")).unwrap();
    for vector in golden["good"].as_array().unwrap() {
        let key: ItemKey = serde_json::from_value(vector["key"].clone()).unwrap();
        let Some(sealed) = vector["sealed"].as_str() else {
            continue;
        };
        let sealed = STANDARD.decode(sealed).unwrap();
        let (opened, chunks) = item::open(&key, &sealed).unwrap();
        assert_eq!(opened, plain(opened.len()), "{}", vector["name"]);
        assert_eq!(json!(chunks), vector["chunks"], "{}", vector["name"]);
        assert_eq!(json!(Digest::of(&sealed)), vector["digest"], "{}", vector["name"]);
    }
}

#[test]
fn golden_signatures_hold() {
    let golden: Value = serde_json::from_str(&read("envelope.json")).unwrap();
    let key = serde_json::from_value(golden["public_key"].clone()).unwrap();
    for part in ["foreign", "token", "dtls"] {
        let sig = serde_json::from_value(golden[part]["sig"].clone()).unwrap();
        envelope::verify(&key, golden[part]["text"].as_str().unwrap(), &sig).unwrap();
    }
    for event in golden["events"].as_array().unwrap() {
        let stored: StoredEvent = serde_json::from_value(event["stored"].clone()).unwrap();
        envelope::verify(&key, &stored.author, &stored.sig).unwrap();
        assert_eq!(json!(stored.hash()), event["hash"]);
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_default()
}

fn compare(name: &str, value: &Value) {
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("LOTSE_WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(path("")).unwrap();
        std::fs::write(path(name), &text).unwrap();
    }
    assert!(
        read(name) == text,
        "fixtures/{name} is not what the code makes: a change of the format, or LOTSE_WRITE_FIXTURES=1"
    );
}
