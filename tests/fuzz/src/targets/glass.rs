//! What the glasses read: the server's offers, words, settings, and what an expert draws and sends.

use lotse_glass::{
    clock::Clock,
    config::Config,
    core::Word,
    link::{media::Media, publish::Publisher},
    overlay::{marks, prepare},
    profile::Profile,
};
use lotse_payload::{
    Annotation, CaseCard, Instruction, JoinedPayload, Message, ReceiptPayload, annotation::SnapshotPayload,
    pointer::PointerMessage, recording::SegmentPayload,
};
use lotse_protocol::{
    id::SessionId,
    signal::{Codec, Offer},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::script::Script;

/// An offer, answered by a connection of its own on loopback that nobody ever reaches.
pub(crate) fn offer(data: &[u8]) {
    let mut script = Script::new(data);
    let (first, rest) = (script.bytes(), script.rest());
    let sdp = String::from_utf8_lossy(rest).into_owned();
    let offer = serde_json::from_slice::<Offer>(first)
        .map(|lines| Offer { sdp: sdp.clone(), ..lines })
        .unwrap_or(Offer { leg: 1, rev: 1, sdp, uplink: vec![], downlink: vec![], ice_servers: vec![] });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (events, _told) = mpsc::channel(64);
        let publisher = Publisher::start(Clock::start(), Codec::Vp8);
        let voices = std::sync::Arc::new(|_: &str, _| {});
        let session = SessionId(Uuid::from_u128(2));
        let media = Media::new(session, "http://127.0.0.1:1", 0, Some(1_750_000.0), events, voices).await;
        let mut media = media.expect("a connection");
        let key = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
        let _ = media.answer(&offer, &publisher, &key).await;
        media.close().await;
    });
}

/// Words of the socket and of the wear page, settings and device profiles.
pub(crate) fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.lines() {
        if let Some(word) = Word::parse(line.trim()) {
            assert_eq!(word.text(), line.trim());
        }
    }
    let _ = lotse_glass::config::read(&text, "settings", |_| None);
    let _ = toml::from_str::<Config>(&text);
    let _ = toml::from_str::<Profile>(&text);
}

/// What stands in payloads, marks drawn on a picture, and the picture itself as an expert's program made it.
pub(crate) fn marks(data: &[u8]) {
    let mut script = Script::new(data);
    let json = script.bytes();
    let picture = prepare::open(script.rest());
    if let Ok(mark) = serde_json::from_slice::<Annotation>(json) {
        let again = serde_json::to_vec(&mark).expect("JSON");
        assert_eq!(serde_json::from_slice::<Annotation>(&again).expect("read again"), mark);
    }
    if let Ok(instruction) = serde_json::from_slice::<Instruction>(json) {
        let drawn = marks::draw(picture.as_ref(), &instruction, 64, 36);
        assert_eq!((drawn.width, drawn.height), (64, 36));
    }
    let _ = serde_json::from_slice::<PointerMessage>(json);
    let _ = serde_json::from_slice::<SnapshotPayload>(json);
    let _ = serde_json::from_slice::<Message>(json);
    let _ = serde_json::from_slice::<CaseCard>(json);
    let _ = serde_json::from_slice::<JoinedPayload>(json);
    let _ = serde_json::from_slice::<ReceiptPayload>(json);
    let _ = serde_json::from_slice::<SegmentPayload>(json);
}
