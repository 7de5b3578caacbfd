//! A small whole case with fixed keys and ids: everything that can happen, once.
#![allow(clippy::unwrap_used)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use lotse_payload::{
    annotation::{Annotation, Colour, FrameConfidence, Instruction, Mark, SnapshotPayload, StrokePoint},
    case_card::{CaseCard, JoinedPayload, Outcome, OutcomeResult, ViewedPayload, binding_text},
    consent::NoticeShown,
    geometry::PictureCoord,
    message::{FileInfo, Message},
    receipt::{PictureOrigin, ReceiptPayload, ReceiptState},
    recording::{GapPayload, GapWhy, RecordingStarted, RecordingStopped, SegmentPayload, StopWhy},
};
use lotse_protocol::{
    chain::{Chain, sign_head},
    envelope::{self, AuthorFields, GatewayJoined, GatewayWay, Joined, Left, LeftWhy, Opened, StoredEvent},
    id::{CaseId, DeviceId, Digest, EventId, FrameId, ItemKey, Pseudonym, SessionId, TrackId},
    item, kind,
    policy::Role,
    session::Sessions,
    signal::{Codec, TrackInfo, TrackSource},
};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// 2026-03-02 09:00:00.000 UTC.
const START_MS: i64 = 1_772_442_000_000;

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(0x019c_ad00_0000_7000_8000_0000_0000_0000 + n)
}

/// The bytes of every attachment: byte i is (i * 31 + 7) mod 251.
fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i * 31 + 7) % 251) as u8).collect()
}

struct Person {
    author: Pseudonym,
    device: DeviceId,
    key: SigningKey,
    device_key: SigningKey,
    role: Role,
    name: &'static str,
    seq: u64,
}

impl Person {
    fn new(n: u8, role: Role, name: &'static str) -> Self {
        Self {
            author: Pseudonym(uuid(0x100 + u128::from(n))),
            device: DeviceId(uuid(0x200 + u128::from(n))),
            key: SigningKey::from_bytes(&[n; 32]),
            device_key: SigningKey::from_bytes(&[n + 100; 32]),
            role,
            name,
            seq: 0,
        }
    }
}

/// A file or fragment of the usual bytes, in chunks of these lengths.
struct Attachment(Vec<usize>);

struct Story {
    case: CaseId,
    chain: Chain,
    sessions: Sessions,
    now_ms: i64,
    keys: u32,
    events: Vec<Value>,
}

impl Story {
    fn seal(&mut self, plain: &[u8], chunks: &[usize]) -> (Digest, Value) {
        self.keys += 1;
        let key = ItemKey(Digest::of(format!("lotse case key {}", self.keys).as_bytes()).0);
        let bytes = item::seal_chunks(key, plain, chunks).unwrap();
        let digest = Digest::of(&bytes);
        let mut item = json!({ "digest": digest, "key": key, "bytes": STANDARD.encode(&bytes), "chunks": chunks });
        if let Ok(Value::Object(payload)) = serde_json::from_slice::<Value>(plain) {
            item["payload"] = payload.into();
        }
        (digest, item)
    }

    fn add(
        &mut self,
        who: &mut Person,
        kind: &str,
        session: Option<SessionId>,
        clear: Option<Value>,
        payload: Option<Value>,
        attachments: &[Attachment],
    ) -> EventId {
        self.now_ms += 1_500;
        who.seq += 1;
        let mut items = Vec::new();
        let attachments = attachments
            .iter()
            .map(|Attachment(chunks)| {
                let (digest, item) = self.seal(&plain(chunks.iter().sum()), chunks);
                items.push(item);
                digest
            })
            .collect();
        let item = payload.map(|p| {
            let plain = serde_json::to_vec(&p).unwrap();
            let (digest, item) = self.seal(&plain, &[plain.len()]);
            items.insert(0, item);
            digest
        });
        let n = self.events.len() as u128;
        let coarse = kind::has_coarse_time(kind);
        let fields = AuthorFields {
            v: envelope::VERSION,
            case: self.case,
            id: EventId(if coarse {
                Uuid::from_u128(0x4a5b_6c7d_0000_4000_8000_0000_0000_0000 + n)
            } else {
                uuid(0x300 + n)
            }),
            kind: kind.into(),
            session,
            author: who.author,
            device: who.device,
            device_seq: who.seq,
            captured_at_ms: if coarse { envelope::coarse(self.now_ms) } else { self.now_ms },
            item,
            attachments,
            clear,
        };
        let author = fields.to_bytes();
        let sig = envelope::sign(&who.key, &author);
        self.chain.check_author(&author, &sig).unwrap();
        let server = self.chain.extend(&fields, self.now_ms + 40).to_bytes();
        let event = StoredEvent { server, author, sig };
        self.chain.push(&event).unwrap();
        self.sessions.apply(&fields);
        self.events.push(json!({ "event": event, "items": items, "hash": event.hash(), "after": self.state() }));
        fields.id
    }

    fn state(&self) -> Value {
        let states: Vec<Value> = self
            .sessions
            .list
            .iter()
            .map(|s| {
                let may_call: serde_json::Map<String, Value> =
                    s.participants.keys().map(|who| (who.to_string(), s.may_call(*who).into())).collect();
                json!({ "session": s, "is_waiting": s.is_waiting(), "may_record": s.may_record(), "may_call": may_call })
            })
            .collect();
        json!({ "open": self.sessions.open().map(|s| s.id), "sessions": states, "roles": self.sessions.roles })
    }

    fn join(&mut self, who: &mut Person) {
        let case_key = envelope::public_key(&who.key);
        let clear = value(&Joined { role: who.role, case_key });
        let payload = value(&JoinedPayload {
            name: who.name.into(),
            device: "A device".into(),
            device_key: envelope::public_key(&who.device_key),
            device_sig: envelope::sign(&who.device_key, &binding_text(self.case, who.author, &case_key)),
        });
        self.add(who, kind::JOINED, None, Some(clear), Some(payload), &[]);
    }
}

fn value<T: Serialize>(t: &T) -> Value {
    serde_json::to_value(t).unwrap()
}

/// The case as its golden file holds it.
pub(crate) fn story() -> Value {
    let case = CaseId(uuid(1));
    let mut s = Story {
        case,
        chain: Chain::new(case),
        sessions: Sessions::default(),
        now_ms: START_MS,
        keys: 0,
        events: vec![],
    };
    let mut server = Person::new(1, Role::Server, "");
    let mut tech = Person::new(2, Role::Technician, "Mara Krüger");
    let mut archivist = Person::new(3, Role::Archivist, "Archivist");
    let mut expert = Person::new(4, Role::Expert, "Jonas Weber");
    let mut manager = Person::new(5, Role::Manager, "Sabine Roth");
    let server_key = envelope::public_key(&server.key);

    let opened = Opened {
        number: "2026-0001".into(),
        asset: Some("P-204".into()),
        customer: None,
        site: Some("site-1".into()),
        language: "de".into(),
        server_key,
    };
    s.add(&mut server, kind::OPENED, None, Some(value(&opened)), None, &[]);
    s.join(&mut tech);
    let card = CaseCard {
        title: "Kreiselpumpe P-204 · Gleitringdichtung tropft".into(),
        asset: "P-204".into(),
        customer: "Stadtwerke".into(),
        site: "Pumpenhaus 2".into(),
    };
    s.add(&mut tech, kind::CARD, None, None, Some(value(&card)), &[]);

    // A session with everything.
    let one = SessionId(uuid(0x10));
    let in_one = Some(one);
    s.add(&mut tech, kind::SESSION_CALLED, in_one, None, None, &[]);
    s.join(&mut archivist);
    s.add(&mut archivist, kind::SESSION_JOINED, in_one, None, None, &[]);
    s.join(&mut expert);
    s.add(&mut expert, kind::SESSION_JOINED, in_one, None, None, &[]);
    let notice = |watcher: &Person, archivist: &Person| {
        value(&NoticeShown {
            language: "de".into(),
            text_version: "recording-1".into(),
            text: "Dieses Gespräch kann aufgezeichnet werden.".into(),
            watchers: vec![watcher.author],
            archivist: Some(archivist.author),
        })
    };
    let text = notice(&expert, &archivist);
    s.add(&mut tech, kind::NOTICE_SHOWN, in_one, None, Some(text), &[]);
    s.add(&mut tech, kind::CONSENT_RECORD, in_one, None, None, &[]);
    let text = notice(&tech, &archivist);
    s.add(&mut expert, kind::NOTICE_SHOWN, in_one, None, Some(text), &[]);
    s.add(&mut expert, kind::CONSENT_RECORD, in_one, None, None, &[]);
    let started = RecordingStarted { at_ms: s.now_ms, consented: vec![tech.author, expert.author] };
    s.add(&mut archivist, kind::RECORDING_STARTED, in_one, None, Some(value(&started)), &[]);

    let track = TrackId(uuid(0x20));
    let chunks = vec![700, 300, 24];
    let (media, _) = s.seal(&plain(1024), &chunks);
    s.keys -= 1; // `add` seals the same bytes under the same key again: the payload must name that digest.
    let segment = SegmentPayload {
        owner: tech.author,
        info: TrackInfo {
            track,
            source: TrackSource::Main,
            codec: Codec::Vp8,
            rtp_base: Some(1_000_000),
            start_us: Some(s.now_ms * 1000),
            clock_offset_us: -350,
            width: 1280,
            height: 720,
        },
        media,
        mime: r#"video/webm; codecs="vp8""#.into(),
        init_len: 100,
        size: (item::HEADER + 1024 + 3 * item::CHUNK_OVERHEAD) as u64,
        chunks: vec![700, 300, 24],
        rtp_start: 1_000_000,
        rtp_end: 1_180_000,
        start_us: s.now_ms * 1000,
        end_us: s.now_ms * 1000 + 2_000_000,
        media_start_ms: 0,
        frames: 3,
        missing: 0,
        frame_ticks: vec![0, 90_000, 177_000],
        clock: vec![(1_000_000, s.now_ms * 1000, s.now_ms * 1000 + 12_000)],
        levels: vec![],
    };
    s.add(&mut archivist, kind::SEGMENT, in_one, None, Some(value(&segment)), &[Attachment(chunks)]);

    let frame = FrameId { track, rtp: 1_090_000 };
    let snapshot = SnapshotPayload {
        frame,
        confidence: FrameConfidence::Exact,
        width: 1280,
        height: 720,
        mime: "image/webp".into(),
    };
    s.add(&mut expert, kind::SNAPSHOT, in_one, None, Some(value(&snapshot)), &[Attachment(vec![900])]);
    let at = |x, y| PictureCoord { x, y };
    let mark = |mark, colour| Annotation { mark, colour, width: 400 };
    let points = vec![StrokePoint { at: at(10, 20), p: 128 }, StrokePoint { at: at(30_000, 40_000), p: 200 }];
    let instruction = Instruction {
        frame,
        confidence: FrameConfidence::Exact,
        width: 1280,
        height: 720,
        at_ms: s.now_ms,
        text: "Diese Schraube zuerst lösen".into(),
        marks: vec![
            mark(Mark::Arrow { tail: at(100, 200), tip: at(32_768, 32_768) }, Colour::Yellow),
            mark(Mark::Stroke { points }, Colour::Pink),
            mark(Mark::Rectangle { a: at(0, 0), b: at(65_535, 65_535) }, Colour::Blue),
            mark(Mark::Ellipse { a: at(1, 2), b: at(3, 4) }, Colour::Green),
            mark(Mark::Text { at: at(500, 500), text: "M16".into() }, Colour::White),
            mark(Mark::Step { at: at(600, 600), n: 1 }, Colour::Yellow),
        ],
        replaces: None,
    };
    assert!(instruction.is_sane());
    let asked =
        s.add(&mut expert, kind::INSTRUCTION, in_one, None, Some(value(&instruction)), &[Attachment(vec![800, 100])]);
    for state in [ReceiptState::Shown, ReceiptState::Seen, ReceiptState::Done] {
        let picture = (state == ReceiptState::Shown).then_some(PictureOrigin::Ring);
        let receipt = ReceiptPayload { instruction: asked, state, at_ms: s.now_ms + 1_500, picture };
        s.add(&mut tech, kind::RECEIPT, in_one, None, Some(value(&receipt)), &[]);
    }
    let file = FileInfo { name: "Seite 14.pdf".into(), mime: "application/pdf".into(), size: 70_000 };
    let message = Message { text: "Seite 14, Anzugsmoment 35 Nm".into(), file: Some(file) };
    s.add(&mut expert, kind::MESSAGE, None, None, Some(value(&message)), &[Attachment(vec![65_536, 4_464])]);

    // A hall camera brings its picture. A display watches: nothing reaches it before everybody has been shown so.
    let gateway =
        |n: u128, way, name: &str| value(&GatewayJoined { who: Pseudonym(uuid(0x110 + n)), way, name: name.into() });
    let camera = gateway(0, GatewayWay::Publish, "Hallenkamera 3");
    s.add(&mut server, kind::GATEWAY_JOINED, in_one, Some(camera), None, &[]);
    let display = gateway(1, GatewayWay::Watch, "Anzeige Leitstand");
    s.add(&mut server, kind::GATEWAY_JOINED, in_one, Some(display), None, &[]);
    let text = notice(&expert, &archivist);
    s.add(&mut tech, kind::NOTICE_SHOWN, in_one, None, Some(text), &[]);
    let text = notice(&tech, &archivist);
    s.add(&mut expert, kind::NOTICE_SHOWN, in_one, None, Some(text), &[]);
    let left = value(&Left { who: Pseudonym(uuid(0x110)), why: LeftWhy::Left });
    s.add(&mut server, kind::SESSION_LEFT, in_one, Some(left), None, &[]);

    // The link of the expert breaks; she comes back; the technician withdraws.
    let lost = value(&Left { who: expert.author, why: LeftWhy::Lost });
    s.add(&mut server, kind::SESSION_LEFT, in_one, Some(lost), None, &[]);
    let us = s.now_ms * 1000;
    let gap =
        GapPayload { owner: expert.author, track: None, from_us: us - 20_000_000, to_us: us, why: GapWhy::LinkLost };
    s.add(&mut archivist, kind::GAP, in_one, None, Some(value(&gap)), &[]);
    s.add(&mut expert, kind::SESSION_JOINED, in_one, None, None, &[]);
    s.add(&mut tech, kind::CONSENT_CALL_ONLY, in_one, None, None, &[]);
    let stopped = RecordingStopped { at_ms: s.now_ms, why: StopWhy::NotAllowed };
    s.add(&mut archivist, kind::RECORDING_STOPPED, in_one, None, Some(value(&stopped)), &[]);
    s.add(&mut expert, "torch.asked", in_one, Some(json!({ "on": true })), None, &[]);
    let outcome = Outcome { result: OutcomeResult::Solved, note: "Dichtung getauscht".into() };
    s.add(&mut expert, kind::SESSION_ENDED, in_one, None, Some(value(&outcome)), &[]);
    s.add(&mut tech, kind::CONSENT_RECORD, in_one, None, None, &[]);
    s.add(&mut tech, kind::SESSION_CALLED, in_one, None, None, &[]);

    // A second one: nobody comes in time, the technician refuses and goes.
    let two = Some(SessionId(uuid(0x11)));
    s.add(&mut tech, kind::SESSION_CALLED, two, None, None, &[]);
    let display = gateway(1, GatewayWay::Watch, "Anzeige Leitstand");
    s.add(&mut server, kind::GATEWAY_JOINED, two, Some(display), None, &[]);
    s.add(&mut expert, kind::CONSENT_RECORD, two, None, None, &[]);
    s.add(&mut tech, kind::CONSENT_REFUSED, two, None, None, &[]);
    s.add(&mut expert, kind::SESSION_JOINED, two, None, None, &[]);
    s.add(&mut expert, kind::CONSENT_CALL_ONLY, two, None, None, &[]);
    for who in [tech.author, expert.author] {
        let left = value(&Left { who, why: LeftWhy::Left });
        s.add(&mut server, kind::SESSION_LEFT, two, Some(left), None, &[]);
    }
    s.add(&mut server, kind::SESSION_ENDED, two, None, None, &[]);

    s.join(&mut manager);
    let viewed = ViewedPayload { reason: "Gewährleistung prüfen".into() };
    s.add(&mut manager, kind::VIEWED, None, None, Some(value(&viewed)), &[]);

    let head = s.chain.head();
    json!({
        "about": "Ed25519 seeds are 32 equal bytes: case keys as in `people`, device keys 100 above. Attachments hold byte i = (i * 31 + 7) mod 251.",
        "case": case,
        "server_key": server_key,
        "server_fingerprint": envelope::fingerprint(&server_key),
        "people": [server_of(&server), server_of(&tech), server_of(&archivist), server_of(&expert), server_of(&manager)],
        "head": head,
        "signed_head": sign_head(&server.key, head, s.now_ms + 1_000),
        "events": s.events,
    })
}

fn server_of(p: &Person) -> Value {
    json!({
        "author": p.author, "device": p.device, "role": p.role, "name": p.name, "seed_byte": p.key.to_bytes()[0],
        "case_key": envelope::public_key(&p.key), "device_key": envelope::public_key(&p.device_key),
    })
}
