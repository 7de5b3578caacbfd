//! Golden files of a whole small case and of the picture geometry. Rust makes them, Rust and the page's tests read them.
//!
//! `LOTSE_WRITE_FIXTURES=1 cargo test -p lotse-payload --test fixtures` writes them anew; without it the test compares.
#![allow(clippy::unwrap_used)]

mod case;

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use lotse_payload::{
    Instruction,
    case_card::{JoinedPayload, binding_text},
    geometry::{PictureCoord, length_to_pixels},
};
use lotse_protocol::{
    chain::{self, Chain},
    envelope::{self, Joined, StoredEvent},
    id::{Digest, ItemKey},
    item, kind,
    session::Sessions,
};
use serde_json::{Value, json};

#[test]
fn the_case_is_as_the_golden_file_says() {
    compare("case.json", &case::story());
}

#[test]
fn the_geometry_is_as_the_golden_file_says() {
    compare("geometry.json", &geometry());
}

/// Reads the golden case as any participant would: chain, head, items, vouchings, fold.
#[test]
fn the_golden_case_proves_itself() {
    let golden: Value = serde_json::from_str(&read("case.json")).unwrap();
    let mut chain = Chain::new(get(&golden, "case"));
    let mut sessions = Sessions::default();
    let mut hashes = Vec::new();
    for entry in golden["events"].as_array().unwrap() {
        let event: StoredEvent = get(entry, "event");
        let (_, author) = chain.push(&event).unwrap();
        hashes.push(event.hash());
        sessions.apply(&author);
        for s in entry["after"]["sessions"].as_array().unwrap() {
            let session: lotse_protocol::session::Session = get(s, "session");
            assert_eq!(sessions.get(session.id), Some(&session));
        }
        let items = entry["items"].as_array().unwrap();
        let named: Vec<_> = author.items().copied().collect();
        assert_eq!(named, items.iter().map(|i| get::<Digest>(i, "digest")).collect::<Vec<_>>());
        for (i, item) in items.iter().enumerate() {
            let sealed = STANDARD.decode(item["bytes"].as_str().unwrap()).unwrap();
            let key: ItemKey = get(item, "key");
            let plain = item::open_as(&named[i], &key, &sealed).unwrap();
            if i == 0 && author.item.is_some() {
                assert_eq!(serde_json::from_slice::<Value>(&plain).unwrap(), item["payload"]);
            }
            if i == 0 && author.kind == kind::INSTRUCTION {
                assert!(serde_json::from_slice::<Instruction>(&plain).unwrap().is_sane());
            }
            if i == 0 && author.kind == kind::JOINED {
                let payload: JoinedPayload = serde_json::from_slice(&plain).unwrap();
                let joined: Joined = author.clear().unwrap();
                let text = binding_text(author.case, author.author, &joined.case_key);
                envelope::verify(&payload.device_key, &text, &payload.device_sig).unwrap();
            }
        }
    }
    let server_key = chain.server_key().unwrap();
    let head = chain::read_head(&get(&golden, "signed_head"), &server_key).unwrap().head;
    chain::check_head(get(&golden, "case"), &hashes, &head).unwrap();
    assert_eq!(head, chain.head());
}

fn geometry() -> Value {
    let sizes = [(1280.0, 720.0), (854.0, 480.0), (320.0, 180.0), (1920.0, 1080.0), (720.0, 1280.0), (1.0, 1.0)];
    let coords = [(0, 0), (65_535, 65_535), (32_768, 32_767), (1, 65_534), (12_345, 54_321)];
    let to_pixels: Vec<Value> = sizes
        .iter()
        .flat_map(|&(w, h)| {
            coords.iter().map(move |&(x, y)| {
                let coord = PictureCoord { x, y };
                let (px, py) = coord.to_pixels(w, h);
                json!({ "coord": coord, "width": w, "height": h, "px": px, "py": py })
            })
        })
        .collect();
    // Far from a rounding border, so that 32 and 64 bit arithmetic agree.
    let pixels = [(0.0, 0.0), (640.5, 360.25), (-5.0, 2.0), (99_999.0, 719.9), (100.0, 1e9)];
    let from_pixels: Vec<Value> = pixels
        .iter()
        .map(|&(px, py)| {
            let coord = PictureCoord::from_pixels(px, py, 1280.0, 720.0);
            json!({ "px": px, "py": py, "width": 1280.0, "height": 720.0, "coord": coord })
        })
        .collect();
    let lengths: Vec<Value> = [0u16, 1, 400, 32_768, 65_535]
        .iter()
        .map(|&l| json!({ "length": l, "height": 720.0, "pixels": length_to_pixels(l, 720.0) }))
        .collect();
    json!({
        "about": "Compare pixels within 0.001, coordinates exactly.",
        "to_pixels": to_pixels, "from_pixels": from_pixels, "lengths": lengths,
    })
}

fn get<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> T {
    serde_json::from_value(value[name].clone()).unwrap()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
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
