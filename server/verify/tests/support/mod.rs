//! Bundles for tests, made from the golden case of `server/protocol/fixtures`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{collections::BTreeMap, io::Cursor};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::SigningKey;
use lotse_protocol::{
    chain::{Chain, SignedHead, sign_head, verify_log},
    envelope::{self, AuthorFields, StoredEvent},
    id::{CaseId, DeviceId, Digest, EventId, ItemKey, Pseudonym},
    item, kind,
};
use lotse_verify::{
    Bundle, Draft, ItemKind, Options, Report,
    bundle::{self, FileEntry, Manifest},
    check, ustar,
};
use serde_json::Value;

pub struct Item {
    pub kind: ItemKind,
    pub key: ItemKey,
    pub sealed: Vec<u8>,
}

/// A log with its items.
pub struct Case {
    pub id: CaseId,
    pub events: Vec<StoredEvent>,
    pub items: BTreeMap<Digest, Item>,
    pub server_fingerprint: Digest,
    archivist: (Pseudonym, DeviceId),
}

/// The server's key and the archivist's case key and device key, as the golden case says.
pub fn server_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}
pub fn archivist_case_key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}
pub fn archivist_key() -> SigningKey {
    SigningKey::from_bytes(&[103; 32])
}

impl Case {
    /// The golden case, or its first `events`.
    pub fn golden(events: usize) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/fixtures/case.json");
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let get = |v: &Value| v.clone();
        let archivist = golden["people"].as_array().unwrap().iter().find(|p| p["role"] == "archivist").unwrap();
        let mut case = Self {
            id: serde_json::from_value(get(&golden["case"])).unwrap(),
            events: vec![],
            items: BTreeMap::new(),
            server_fingerprint: serde_json::from_value(get(&golden["server_fingerprint"])).unwrap(),
            archivist: (
                serde_json::from_value(get(&archivist["author"])).unwrap(),
                serde_json::from_value(get(&archivist["device"])).unwrap(),
            ),
        };
        for entry in golden["events"].as_array().unwrap().iter().take(events) {
            let event: StoredEvent = serde_json::from_value(get(&entry["event"])).unwrap();
            let author = AuthorFields::read(&event.author).unwrap();
            for item in entry["items"].as_array().unwrap() {
                let digest: Digest = serde_json::from_value(get(&item["digest"])).unwrap();
                let kind = match () {
                    () if author.item == Some(digest) => ItemKind::Payload,
                    () if kind::attachments_are_media(&author.kind) => ItemKind::Media,
                    () => ItemKind::Attachment,
                };
                let key = serde_json::from_value(get(&item["key"])).unwrap();
                let sealed = STANDARD.decode(item["bytes"].as_str().unwrap()).unwrap();
                case.items.insert(digest, Item { kind, key, sealed });
            }
            case.events.push(event);
        }
        case
    }

    pub fn whole() -> Self {
        Self::golden(usize::MAX)
    }

    pub fn chain(&self) -> Chain {
        verify_log(self.id, &self.events).unwrap()
    }

    pub fn head(&self) -> SignedHead {
        sign_head(&server_key(), self.chain().head(), 1_772_442_900_000)
    }

    /// One more event of the archivist, with these media fragments.
    pub fn record(&mut self, fragments: Vec<(Digest, ItemKey)>) {
        let chain = self.chain();
        let (author, device) = self.archivist;
        let n = self.events.len() as u64;
        let fields = AuthorFields {
            v: 1,
            case: self.id,
            id: EventId(uuid_of(n)),
            kind: kind::SEGMENT.into(),
            session: None,
            author,
            device,
            device_seq: chain.binding(&device).unwrap().device_seq + 1,
            captured_at_ms: 1_772_442_800_000,
            item: None,
            attachments: fragments.iter().map(|(d, _)| *d).collect(),
            clear: None,
        };
        let text = fields.to_bytes();
        let sig = envelope::sign(&archivist_case_key(), &text);
        let server = chain.extend(&fields, 1_772_442_800_100).to_bytes();
        self.events.push(StoredEvent { server, author: text, sig });
    }

    pub fn draft(&self) -> Bundle {
        let mut draft = Draft::new("2026-0001", self.head()).unwrap();
        for event in &self.events {
            draft.event(event).unwrap();
        }
        for (digest, i) in &self.items {
            let ext = match i.kind {
                ItemKind::Payload => "json",
                ItemKind::Media => "webm",
                ItemKind::Attachment => "bin",
            };
            draft.item(*digest, i.kind, i.key, &i.sealed, ext).unwrap();
        }
        draft.finish(&archivist_key()).unwrap()
    }

    pub fn bundle(&self) -> Vec<u8> {
        let bundle = self.draft();
        let mut out = Vec::new();
        bundle.write(&mut out, |digest| Ok(self.items[digest].sealed.clone())).unwrap();
        assert_eq!(out.len() as u64, bundle.size());
        out
    }
}

fn uuid_of(n: u64) -> uuid::Uuid {
    uuid::Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + u128::from(n))
}

pub fn seal(n: u32, plain: &[u8]) -> (Digest, Item) {
    let key = ItemKey(Digest::of(format!("verify test {n}").as_bytes()).0);
    let sealed = item::seal(key, plain);
    (sealed.digest, Item { kind: ItemKind::Media, key, sealed: sealed.bytes })
}

pub fn verify(bytes: &[u8]) -> Report {
    check(&mut Cursor::new(bytes), &Options::default()).unwrap()
}

/// A part of a bundle's bytes: whose, and from where to where.
pub struct Region {
    pub file: String,
    pub part: &'static str,
    pub from: usize,
    pub to: usize,
}

/// Every byte of a good bundle, by file.
pub fn regions(bytes: &[u8]) -> Vec<Region> {
    let mut out = Vec::new();
    let mut at = 0;
    let end = bytes.len() - ustar::END as usize;
    while at < end {
        let header: &[u8; 512] = bytes[at..at + 512].try_into().unwrap();
        let size = ustar::size_of(header).unwrap();
        let name = header[..100].iter().take_while(|b| **b != 0).map(|b| *b as char).collect::<String>();
        let (content, padding) = (at + 512, at + 512 + size as usize);
        let next = at + ustar::footprint(size) as usize;
        for (part, from, to) in [("header", at, content), ("content", content, padding), ("padding", padding, next)] {
            out.push(Region { file: name.clone(), part, from, to });
        }
        at = next;
    }
    out.push(Region { file: String::new(), part: "end", from: end, to: bytes.len() });
    out
}

/// Files of a bundle, to be changed and put together again by somebody who has the archivist's key.
pub fn take_apart(bytes: &[u8]) -> (Manifest, Vec<(String, Vec<u8>)>) {
    let mut files: Vec<(String, Vec<u8>)> = regions(bytes)
        .into_iter()
        .filter(|r| r.part == "content")
        .map(|r| (r.file, bytes[r.from..r.to].to_vec()))
        .collect();
    let manifest = serde_json::from_slice(&files.remove(0).1).unwrap();
    assert_eq!(files.pop().unwrap().0, bundle::SIGNATURE);
    (manifest, files)
}

pub fn put_together(mut manifest: Manifest, files: &[(String, Vec<u8>)], key: &SigningKey) -> Vec<u8> {
    manifest.archivist = envelope::public_key(key);
    manifest.files = files
        .iter()
        .map(|(name, bytes)| FileEntry { name: name.clone(), size: bytes.len() as u64, sha256: Digest::of(bytes) })
        .collect();
    let text = serde_json::to_string(&manifest).unwrap();
    let sig = envelope::sign(key, &text).to_string();
    let mut out = Vec::new();
    let first = (bundle::MANIFEST.to_string(), text.into_bytes());
    let last = (bundle::SIGNATURE.to_string(), sig.into_bytes());
    for (name, bytes) in [&first].into_iter().chain(files).chain([&last]) {
        out.extend_from_slice(&ustar::header(name, bytes.len() as u64).unwrap());
        out.extend_from_slice(bytes);
        out.resize(out.len() + ustar::padding(bytes.len() as u64) as usize, 0);
    }
    out.resize(out.len() + ustar::END as usize, 0);
    out
}
