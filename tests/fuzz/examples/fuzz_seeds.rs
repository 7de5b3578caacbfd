//! Writes the seeds of the corpora anew: the golden fixtures, frames and packets of our own programs, real offers and answers.
//!
//! `cargo build --locked --workspace --example fuzz_seeds && target/debug/examples/fuzz_seeds`; what fuzzing found is left alone.

use std::{fs, io::Cursor, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use lotse_glass::packet::{Negotiated, Packetizer, Unit};
use lotse_protocol::{
    chain::SignedHead,
    envelope::StoredEvent,
    id::{Digest, ItemKey, Signature},
    item,
    signal::Codec,
};
use lotse_verify::{Draft, ItemKind};
use serde_json::{Value, json};

fn keep(target: &str, name: &str, data: &[u8]) {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(target);
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(dir.join(format!("seed-{name}")), data).expect("written");
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/../../server/protocol/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).expect("a fixture")).expect("JSON")
}

/// As `Script::bytes` reads it.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).expect("short").to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn main() {
    stun();
    sdp();
    media();
    archive();
    glass();
    json_messages();
    proof();
}

fn stun() {
    // RFC 5769, 2.1: the sample request, with its software, priority, controlled, username, integrity and fingerprint.
    let sample = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b15126\
                  3b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
    let hex: Vec<u8> = sample.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    let sample: Vec<u8> = hex.chunks(2).map(byte).collect();
    keep("stun", "rfc5769-request", &sample);
    let mut response = sample.clone();
    response[..2].copy_from_slice(&[1, 1]);
    keep("stun", "response", &response);
}

/// Offers of the SFU, answers of the archivist's core (which is the glasses') and of a client that agrees to everything.
fn sdp() {
    let offer = lotse_sfu::fuzz::offer().expect("an offer");
    let agreed = lotse_sfu::fuzz::agree(&offer.sdp, 1_000);
    keep("sfu_answer", "agrees", agreed.as_bytes());
    keep(
        "sfu_answer",
        "refuses-all",
        agreed.replace("a=sendonly", "a=inactive").replace("m=video 9", "m=video 0").as_bytes(),
    );
    let answer = lotse_archivist::leg::fuzz(offer.clone()).expect("an answer");
    keep("sfu_answer", "archivist", answer.as_bytes());
    let lines =
        serde_json::to_vec(&lotse_protocol::signal::Offer { sdp: String::new(), ..offer.clone() }).expect("JSON");
    for target in ["offer", "glass_offer"] {
        let mut data = sized(&lines);
        data.extend_from_slice(offer.sdp.as_bytes());
        keep(target, "first", &data);
        // The same as one who receives gets it.
        let down = offer.sdp.replace("a=recvonly", "a=sendonly\r\na=ssrc:77 cname:x\r\na=msid:a b");
        let mut down_lines = offer.clone();
        (down_lines.downlink, down_lines.uplink, down_lines.sdp) = (offer.uplink.clone(), vec![], String::new());
        let mut data = sized(&serde_json::to_vec(&down_lines).expect("JSON"));
        data.extend_from_slice(down.as_bytes());
        keep(target, "receives", &data);
        keep(target, "not-sdp", &sized(b"bytes=10-20"));
    }
    forward(&agreed);
}

fn frames(codec: Codec) -> Vec<Bytes> {
    let key = match codec {
        // RFC 6386: a key frame of 16x16 pixels, then a delta frame.
        Codec::Vp8 => [&[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x10, 0x00, 0x10, 0x00][..], &[0x47; 2_500]].concat(),
        Codec::H264 => {
            let sps = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0xc8];
            let pps = [0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
            [&sps[..], &pps, &[0, 0, 1, 0x65], &[0x88; 2_500]].concat()
        }
        // 20 ms of silence, as libopus writes it.
        Codec::Opus => vec![0xf8, 0xff, 0xfe],
    };
    let delta = match codec {
        Codec::Vp8 => vec![0x31, 0x02, 0x00, 0x47, 0x11],
        Codec::H264 => vec![0, 0, 1, 0x41, 0x9a, 0x21],
        Codec::Opus => vec![0x78, 0x07, 0xc9, 0x79, 0xc8],
    };
    vec![key.into(), delta.clone().into(), delta.into()]
}

fn packets(codec: Codec) -> Vec<rtc::rtp::Packet> {
    let to = Negotiated {
        ssrc: 1_001,
        payload_type: 96,
        mid: "0".into(),
        mid_id: Some(1),
        abs_capture_time_id: Some(3),
        audio_level_id: Some(4),
        playout_delay_id: None,
    };
    let mut packetizer = Packetizer::new(codec, 65_533, 7);
    let mut out = Vec::new();
    for (n, data) in frames(codec).iter().enumerate() {
        let unit = Unit { data, rtp: 3_000 * n as u32, utc_us: 1_772_442_000_000_000, level: Some(20), patient: false };
        out.extend(packetizer.packetize(&unit, &to));
    }
    out
}

fn rtcp() -> Vec<u8> {
    let mut compound = vec![0x81, 200, 0, 12];
    compound.extend([0, 0, 3, 0xe9, 0xe6, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0x0b, 0xb8, 0, 0, 0, 9, 0, 0, 4, 0]);
    compound.extend([0, 0, 3, 0xe9, 12, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 1, 0xe6, 0, 0, 0, 0, 0, 0x80, 0]);
    // Picture loss, full intra request, NACK.
    compound.extend([0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 3, 0xe9]);
    compound.extend([0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0xe9, 1, 0, 0, 0]);
    compound.extend([0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 3, 0xe9, 0, 9, 0, 3]);
    compound
}

fn marshalled(packet: &rtc::rtp::Packet) -> Vec<u8> {
    use rtc::shared::marshal::Marshal as _;
    packet.marshal().expect("a packet").to_vec()
}

fn forward(agreed: &str) {
    let mut all = Vec::new();
    for (at, codec) in [Codec::Vp8, Codec::H264, Codec::Opus].into_iter().enumerate() {
        let mut data = Vec::new();
        for packet in packets(codec) {
            data.extend([0, 0, at as u8]);
            data.extend(sized(&marshalled(&packet)));
        }
        data.extend([2, 0]);
        data.extend(sized(&rtcp()));
        data.extend([2, 1]);
        data.extend(sized(&rtcp()));
        data.extend([9, 0, 1, 0x90]);
        keep("sfu_forward", &format!("{codec:?}").to_lowercase(), &data);
        all.extend(data);
    }
    // Gates, watching, the pointer, an address that is taken over, and a DTLS hello from it.
    let mut life = vec![6, 0, 1, 6, 0, 0, 7, 1, 1, 8, 1, 0, 0, 7, 1, 0x81, 5, 1];
    life.extend(sized(br#"{"t":"at","x":1000,"y":2000}"#));
    life.extend([4, 0, 3, 3, 3]);
    life.extend(sized(&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    life.extend([3, 3]);
    life.extend(sized(&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0xe9, 1, 2, 3, 4]));
    life.extend([8, 0]);
    life.extend(sized(agreed.as_bytes()));
    life.extend([9, 0, 0x7f, 0xff, 9, 0, 0x7f, 0xff]);
    keep("sfu_forward", "life", &life);
    let mut row = Vec::new();
    for packet in packets(Codec::Vp8) {
        row.push(0);
        row.extend(sized(&marshalled(&packet)));
        row.push(2);
        row.extend(sized(&marshalled(&packet)));
    }
    row.push(1);
    row.extend(sized(&rtcp()));
    keep("interceptors", "vp8", &row);
}

fn media() {
    for (choice, codec) in [Codec::Vp8, Codec::H264, Codec::Opus].into_iter().enumerate() {
        let (choice, name) = (choice as u8, format!("{codec:?}").to_lowercase());
        for (n, frame) in frames(codec).iter().take(2).enumerate() {
            keep("packetize", &format!("{name}-{n}"), &[&[choice, 0xff, 0xff, 0, 1], &frame[..]].concat());
        }
        let mut row = vec![choice];
        let mut recording = vec![0x0b | choice << 4, 0, 0, 0, 0, 0, 6, 0x4c, 4, 0xe7, 0x84, 0xa0, 0, 5, 0, 2, 0xd0];
        for packet in packets(codec) {
            let header = &packet.header;
            let mut one = header.sequence_number.to_be_bytes().to_vec();
            one.extend(header.timestamp.to_be_bytes());
            one.push(u8::from(!header.marker));
            one.extend(sized(&packet.payload));
            row.push(0x20);
            row.extend(&one);
            recording.push(0x08);
            recording.extend(&one);
        }
        row.extend([0x3e, 7]);
        keep("depacketize", &name, &row);
        recording.extend([4, 0, 0, 0x17, 0x70, 0, 6, 0x4c, 4, 0xe7, 0x84, 0xa0, 0, 0xf6, 0xf5, 0x0f]);
        keep("record", &name, &recording);
    }
    let mut heard = Vec::new();
    for n in 0..12u16 {
        // The fifth is missing, two are swapped.
        let seq = [0, 1, 2, 3, 5, 6, 8, 7, 9, 10, 11, 12][usize::from(n)];
        heard.push(20);
        heard.extend(u16::to_be_bytes(seq));
        heard.extend(u32::to_be_bytes(u32::from(seq) * 960));
        heard.extend(sized(&frames(Codec::Opus)[usize::from(n % 2)]));
    }
    keep("voice", "twelve", &heard);
}

fn archive() {
    let fragment = uuid::Uuid::from_u128(7);
    let id = uuid::Uuid::from_u128(9);
    let info = json!({ "track": id, "source": "main", "codec": "vp8", "rtp_base": 0, "start_us": 0, "clock_offset_us": 0, "width": 16, "height": 16 });
    let opened = json!({
        "is": "opened", "fragment": fragment, "session": id, "owner": id, "info": info, "mime": "video/webm; codecs=\"vp8\"",
        "init_len": 4, "rtp_start": 0, "media_start_ms": 0, "origin": 0, "wrapped": "",
    });
    let flushed = |n: u32| {
        json!({ "is": "flushed", "fragment": fragment, "chunks": [n], "frames": 1, "missing": 0, "rtp_end": 3000, "start_us": 0,
            "end_us": 33_333, "arrival_us": 33_400, "ticks": [0], "clock": [[0, 0, 0]], "levels": [3] })
    };
    let sealed = item::seal_chunks(ItemKey([3; 32]), b"some media bytes", &[5, 11]).expect("sealed");
    let lines = format!("{opened}\n{}\n{}\n", flushed(5), flushed(11));
    keep("journal", "open-fragment", &[sized(lines.as_bytes()), sealed.clone()].concat());
    let media = Digest::of(&sealed);
    let lines = format!(
        "{lines}{}\n{}\n",
        json!({ "is": "closed", "fragment": fragment, "media": media }),
        json!({ "is": "committed", "media": media })
    );
    keep("journal", "closed-and-committed", &[sized(lines.as_bytes()), sealed.clone()].concat());
    keep("journal", "cut", &[sized(&lines.as_bytes()[..lines.len() - 40]), sealed[..60].to_vec()].concat());
}

fn glass() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    for (name, file) in [
        ("settings", "glass-client/glass.toml"),
        ("profile-h264", "hardware/profiles/software-h264.toml"),
        ("profile-pi", "hardware/profiles/raspberry-pi.toml"),
    ] {
        keep("glass_words", name, &fs::read(format!("{root}/{file}")).expect("a file"));
    }
    keep("glass_words", "words", b"CALL\nYES_RECORD\nDONE\n\nDANCE\nREFUSE\nHOLD\n");
    let mut kept = std::collections::BTreeSet::new();
    let mut pictures = ["png", "jpg", "webp"].into_iter().cycle().map(picture);
    for (event, plain) in golden_items() {
        let kind = json_kind(&event);
        if plain.starts_with(b"{") && kept.insert(kind.clone()) {
            keep("glass_marks", &kind, &[sized(&plain), pictures.next().unwrap_or_default()].concat());
        }
    }
    let author = uuid::Uuid::from_u128(1);
    let mark = |mark: Value| json!({ "id": author, "author": author, "colour": "red", "width": 200, "mark": mark });
    keep("glass_marks", "one-mark", &sized(mark(json!({ "type": "arrow" })).to_string().as_bytes()));
}

fn picture(kind: &str) -> Vec<u8> {
    let format = match kind {
        "png" => image::ImageFormat::Png,
        "jpg" => image::ImageFormat::Jpeg,
        _ => image::ImageFormat::WebP,
    };
    let mut out = Cursor::new(Vec::new());
    let drawn = image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 15, 77]));
    drawn.write_to(&mut out, format).expect("a picture");
    out.into_inner()
}

fn json_kind(event: &StoredEvent) -> String {
    let fields: Value = serde_json::from_str(&event.author).expect("JSON");
    fields["kind"].as_str().expect("a kind").replace('.', "-")
}

/// The payloads of the golden case, in clear, with the event that carries each.
fn golden_items() -> Vec<(StoredEvent, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in fixture("case")["events"].as_array().expect("events") {
        let event: StoredEvent = serde_json::from_value(entry["event"].clone()).expect("an event");
        for given in entry["items"].as_array().expect("items") {
            let key: ItemKey = serde_json::from_value(given["key"].clone()).expect("a key");
            let sealed = STANDARD.decode(given["bytes"].as_str().expect("text")).expect("base64");
            out.push((event.clone(), item::open(&key, &sealed).expect("opens").0));
        }
    }
    out
}

fn json_messages() {
    let id = uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);
    let golden = fixture("case");
    let entry = &golden["events"][5];
    let track = json!({ "track": id, "source": "voice", "codec": "opus", "rtp_base": 5, "start_us": 9, "clock_offset_us": -4, "width": 0, "height": 0 });
    let offer = lotse_sfu::fuzz::offer().expect("an offer");
    let head = &golden["head"];
    for (name, message) in [
        ("hello", json!({ "type": "hello", "language": "de" })),
        ("ping", json!({ "type": "ping", "t0_us": 5 })),
        ("open-case", json!({ "type": "open_case", "case": id, "after_seq": 3 })),
        ("close-case", json!({ "type": "close_case", "case": id })),
        (
            "commit",
            json!({ "type": "commit", "case": id, "author": entry["event"]["author"], "sig": entry["event"]["sig"], "items": entry["items"] }),
        ),
        (
            "relay",
            json!({ "type": "relay", "case": id, "session": id, "to": id, "item": { "digest": Digest([7; 32]) } }),
        ),
        ("rtc-join", json!({ "type": "rtc_join", "case": id, "session": id, "publish": [track] })),
        (
            "rtc-answer",
            json!({ "type": "rtc_answer", "session": id, "answer": { "rev": 1, "sdp": "v=0", "fingerprint_sig": Signature([1; 64]) } }),
        ),
        ("rtc-watch", json!({ "type": "rtc_watch", "session": id, "track": id, "on": true })),
        ("rtc-leave", json!({ "type": "rtc_leave", "session": id })),
        (
            "event",
            json!({ "type": "event", "case": id, "event": { "event": entry["event"], "items": entry["items"] } }),
        ),
        ("caught-up", json!({ "type": "caught_up", "case": id, "head": head })),
        (
            "case-opened",
            json!({ "type": "case_opened", "case": id, "me": id, "role": "expert", "head": golden["signed_head"] }),
        ),
        ("rtc-offer", json!({ "type": "rtc_offer", "session": id, "offer": offer })),
        (
            "legs",
            json!({ "type": "rtc_legs", "session": id, "legs": [{ "who": id, "connected": true, "rtt_ms": 1.5, "loss_up_pct": 0.0, "loss_down_pct": 2.0, "up_kbps": 3, "down_kbps": 4 }] }),
        ),
        (
            "refused",
            json!({ "type": "refused", "last_device_seq": 4, "error": { "code": "x", "message": "y", "request_id": "z" } }),
        ),
    ] {
        keep("live_json", name, message.to_string().as_bytes());
    }
    let key = STANDARD.encode([5; 32]);
    for (name, line, body) in [
        ("login", "lotse_session=abc; other=1", json!({ "user": "expert", "password": "x", "device_key": key })),
        ("pair", "bytes=5-9", json!({ "code": "ABCD-EFGH", "public_key": key, "name": "helmet-1" })),
        ("token", "http://127.0.0.1:8080", json!({ "device": id, "nonce": "n", "sig": STANDARD.encode([1; 64]) })),
        ("case", "[::1]:8080", json!({ "asset": "p-204", "language": "de" })),
        ("grant", "bytes=-7", json!({ "event": id, "verb": "replay" })),
    ] {
        keep("http", name, format!("{line}\n{body}").as_bytes());
    }
}

fn proof() {
    let golden = fixture("case");
    let events: Vec<StoredEvent> = golden["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| serde_json::from_value(e["event"].clone()).expect("an event"))
        .collect();
    let mut lines = Vec::new();
    for event in &events {
        serde_json::to_writer(&mut lines, event).expect("JSON");
        lines.push(b'\n');
    }
    let sealed = item::seal_chunks(ItemKey([3; 32]), b"some words", &[4, 6]).expect("sealed");
    let head = golden["signed_head"].to_string();
    keep("log", "golden-case", &[sized(&lines), sized(&sealed[item::HEADER..]), head.clone().into_bytes()].concat());
    let authors: Vec<&str> = events.iter().map(|e| e.author.as_str()).collect();
    keep("log", "authors-alone", &sized(authors.join("\n").as_bytes()));
    keep("bundle", "golden-three-events", &bundle(&events[..3], &golden));
    keep("bundle", "empty-tar", &[0; 1024]);
}

/// The first events of the golden case as a bundle, small enough to be turned over byte by byte.
fn bundle(events: &[StoredEvent], golden: &Value) -> Vec<u8> {
    use ed25519_dalek::SigningKey;
    let case = serde_json::from_value(golden["case"].clone()).expect("an id");
    let chain = lotse_protocol::chain::verify_log(case, events).expect("valid");
    let head: SignedHead =
        lotse_protocol::chain::sign_head(&SigningKey::from_bytes(&[1; 32]), chain.head(), 1_772_442_900_000);
    let mut draft = Draft::new("2026-0001", head).expect("a draft");
    let mut sealed = std::collections::BTreeMap::new();
    for (n, event) in events.iter().enumerate() {
        draft.event(event).expect("an event");
        for given in golden["events"][n]["items"].as_array().expect("items") {
            let digest: Digest = serde_json::from_value(given["digest"].clone()).expect("a digest");
            let key: ItemKey = serde_json::from_value(given["key"].clone()).expect("a key");
            let bytes = STANDARD.decode(given["bytes"].as_str().expect("text")).expect("base64");
            draft.item(digest, ItemKind::Payload, key, &bytes, "json").expect("an item");
            sealed.insert(digest, bytes);
        }
    }
    let mut out = Vec::new();
    let bundle = draft.finish(&SigningKey::from_bytes(&[103; 32])).expect("signed");
    bundle.write(&mut out, |digest| Ok(sealed[digest].clone())).expect("written");
    out
}
