//! A case bundle: what stands in it, and how it is written.
//!
//! Owns: names, order and the JSON files of a bundle. [`Draft`] is told everything once (items one by one, so that only one
//! is in memory), [`Bundle::write`] asks for the items a second time and writes the tar.
//! Never: decides who may have it. Elsewhere: checking (`check`), bytes of the tar (`ustar`).

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use ed25519_dalek::SigningKey;
use lotse_protocol::{
    ProtocolError,
    chain::{Head, HeadFields, SignedHead},
    envelope::{self, StoredEvent},
    id::{CaseId, Digest, ItemKey, PublicKey},
    item,
};
use serde::{Deserialize, Serialize};

use crate::ustar;

/// The files of a bundle that are not items.
pub const MANIFEST: &str = "lotse-bundle.json";
pub const LOG: &str = "log.jsonl";
pub const HEAD: &str = "head.json";
pub const KEYS: &str = "keys.json";
pub const SIGNATURE: &str = "signature";
/// Items stand below this folder.
pub const ITEMS: &str = "items/";
/// The bundle version this code writes and reads.
pub const VERSION: u64 = 1;
/// A signature as it stands in its file: 64 bytes in base64.
pub const SIGNATURE_SIZE: u64 = 88;

/// `lotse-bundle.json`: what the archivist signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub v: u64,
    pub case: CaseId,
    /// As people know the case, e.g. "2026-0007".
    pub number: String,
    /// The head the log ends with.
    pub head: Head,
    /// The device key of the archivist that made the bundle; its `joined` event vouches for it.
    pub archivist: PublicKey,
    /// Every other file except the signature, in their order.
    pub files: Vec<FileEntry>,
}

/// One file of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: String,
    pub size: u64,
    pub sha256: Digest,
}

/// `keys.json`: by digest of the sealed item.
pub type Keys = BTreeMap<Digest, ItemEntry>;

/// What opens an item and repeats its sealing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemEntry {
    pub kind: ItemKind,
    /// Absent, like `file`, for an item that is not in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ItemKey>,
    /// Plain length of each sealed chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<u32>,
    /// Name of the file in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// The JSON of an event.
    Payload,
    /// A file or picture attached to an event.
    Attachment,
    /// A fragment of the recording.
    Media,
}

/// Why a bundle cannot be made. All of them are ours to repair, not the reader's.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("item {digest}: {source}")]
    Item { digest: Digest, source: ProtocolError },
    #[error("item {digest}: other bytes came the second time than the first. Make the bundle again.")]
    Changed { digest: Digest },
    #[error("'{ext}' is not the ending of a file name: one to five small letters or digits.")]
    Ending { ext: String },
    #[error("the signed head does not belong to this log: {why}. Fetch log and head together.")]
    Head { why: String },
    #[error("'{name}' does not fit into a bundle: a file in it is at most 8 GiB.")]
    TooLarge { name: String },
    #[error("the bundle could not be written: {0}. Try again.")]
    Io(#[from] io::Error),
}

/// Collects what a bundle holds.
pub struct Draft {
    number: String,
    signed_head: SignedHead,
    head: HeadFields,
    log: Vec<u8>,
    events: u64,
    keys: Keys,
    /// Size and hash of each item in clear.
    files: BTreeMap<Digest, FileEntry>,
}

impl Draft {
    /// `number`: the case's, as in its `opened`. `head`: the server's, over the whole log that follows.
    pub fn new(number: &str, head: SignedHead) -> Result<Self, BundleError> {
        let fields: HeadFields =
            serde_json::from_str(&head.head).map_err(|e| BundleError::Head { why: e.to_string() })?;
        Ok(Self {
            number: number.into(),
            signed_head: head,
            head: fields,
            log: Vec::new(),
            events: 0,
            keys: Keys::new(),
            files: BTreeMap::new(),
        })
    }

    /// The next event of the log.
    pub fn event(&mut self, event: &StoredEvent) -> Result<(), BundleError> {
        serde_json::to_writer(&mut self.log, event).map_err(io::Error::from)?;
        self.log.push(b'\n');
        self.events += 1;
        Ok(())
    }

    /// An item that goes in, in clear. `sealed`: its bytes; they are opened, measured and forgotten. `ext`: the ending of
    /// its file, e.g. "json", "webm". Naming an item twice is harmless.
    pub fn item(
        &mut self,
        digest: Digest,
        kind: ItemKind,
        key: ItemKey,
        sealed: &[u8],
        ext: &str,
    ) -> Result<(), BundleError> {
        let at = |source| BundleError::Item { digest, source };
        if !is_ending(ext) {
            return Err(BundleError::Ending { ext: ext.into() });
        }
        if Digest::of(sealed) != digest {
            return Err(at(ProtocolError::OtherDigest));
        }
        let (plain, chunks) = item::open(&key, sealed).map_err(at)?;
        let name = format!("{ITEMS}{digest}.{ext}");
        let size = plain.len() as u64;
        if size > ustar::MAX_SIZE {
            return Err(BundleError::TooLarge { name });
        }
        self.files.insert(digest, FileEntry { name: name.clone(), size, sha256: Digest::of(&plain) });
        let chunks = chunks.into_iter().map(|n| n as u32).collect();
        self.keys.insert(digest, ItemEntry { kind, key: Some(key), chunks, file: Some(name) });
        Ok(())
    }

    /// An item that the log names and nobody can open any more.
    pub fn absent(&mut self, digest: Digest, kind: ItemKind) {
        self.keys.entry(digest).or_insert(ItemEntry { kind, key: None, chunks: vec![], file: None });
    }

    /// Nothing more comes: signs the manifest. `key`: the archivist's device key.
    pub fn finish(self, key: &SigningKey) -> Result<Bundle, BundleError> {
        if self.events != self.head.head.seq {
            let why = format!("it proves {} events and {} were given", self.head.head.seq, self.events);
            return Err(BundleError::Head { why });
        }
        let head = serde_json::to_vec(&self.signed_head).map_err(io::Error::from)?;
        let keys = serde_json::to_vec(&self.keys).map_err(io::Error::from)?;
        let entry = |name: &str, bytes: &[u8]| FileEntry {
            name: name.into(),
            size: bytes.len() as u64,
            sha256: Digest::of(bytes),
        };
        let mut files = vec![entry(LOG, &self.log), entry(HEAD, &head), entry(KEYS, &keys)];
        files.extend(self.files.values().cloned());
        let manifest = Manifest {
            v: VERSION,
            case: self.head.head.case,
            number: self.number,
            head: self.head.head,
            archivist: envelope::public_key(key),
            files,
        };
        let text = serde_json::to_string(&manifest).map_err(io::Error::from)?;
        let signature = envelope::sign(key, &text).to_string();
        Ok(Bundle { manifest: text, log: self.log, head, keys, entries: self.keys, files: self.files, signature })
    }
}

/// A bundle ready to be written, as often as wanted.
pub struct Bundle {
    manifest: String,
    log: Vec<u8>,
    head: Vec<u8>,
    keys: Vec<u8>,
    entries: Keys,
    files: BTreeMap<Digest, FileEntry>,
    signature: String,
}

impl Bundle {
    /// The length of the file, bytes.
    pub fn size(&self) -> u64 {
        let whole = [self.manifest.len(), self.log.len(), self.head.len(), self.keys.len(), self.signature.len()];
        let items = self.files.values().map(|f| f.size);
        whole.iter().map(|n| *n as u64).chain(items).map(ustar::footprint).sum::<u64>() + ustar::END
    }

    /// The items in the order they are written.
    pub fn items(&self) -> impl Iterator<Item = &Digest> {
        self.files.keys()
    }

    /// Writes the tar. `fetch` gives the sealed bytes of an item again.
    pub fn write(
        &self,
        out: &mut impl Write,
        mut fetch: impl FnMut(&Digest) -> io::Result<Vec<u8>>,
    ) -> Result<(), BundleError> {
        put(out, MANIFEST, self.manifest.as_bytes())?;
        put(out, LOG, &self.log)?;
        put(out, HEAD, &self.head)?;
        put(out, KEYS, &self.keys)?;
        for (digest, file) in &self.files {
            let key = self.entries.get(digest).and_then(|e| e.key).ok_or(BundleError::Changed { digest: *digest })?;
            let plain = item::open_as(digest, &key, &fetch(digest)?)
                .map_err(|source| BundleError::Item { digest: *digest, source })?;
            put(out, &file.name, &plain)?;
        }
        put(out, SIGNATURE, self.signature.as_bytes())?;
        out.write_all(&[0; ustar::END as usize])?;
        Ok(out.flush()?)
    }
}

/// May this stand after the dot of an item's file?
pub fn is_ending(ext: &str) -> bool {
    (1..=5).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The ending for a media type; "bin" for those not listed.
pub fn ending_of(mime: &str) -> &'static str {
    match mime.split(';').next().unwrap_or_default().trim() {
        "application/json" => "json",
        "application/pdf" => "pdf",
        "audio/mp4" | "video/mp4" => "mp4",
        "audio/webm" | "video/webm" => "webm",
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/webp" => "webp",
        "text/plain" => "txt",
        _ => "bin",
    }
}

fn put(out: &mut impl Write, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
    let size = bytes.len() as u64;
    let header = ustar::header(name, size).ok_or_else(|| BundleError::TooLarge { name: name.into() })?;
    out.write_all(&header)?;
    out.write_all(bytes)?;
    out.write_all(&[0; ustar::BLOCK as usize][..ustar::padding(size) as usize])?;
    Ok(())
}
