//! Sealing of items: a payload, a blob or a media fragment under a key of its own.
//!
//! A sealed item is a [`commitment`] to its key, then a row of chunks: `u32 BE length | AES-256-GCM ciphertext and tag`.
//! The nonce is four zero bytes and the chunk's index (u64 BE): fixed, because a key seals one item once. No associated
//! data. The item's digest is over all sealed bytes, so a cut, a swap and a flip are all found by it; the tag finds the
//! chunk. The commitment is there because GCM alone lets an author craft bytes that open to one thing under one key and
//! to another under a second; with it a digest names exactly one content.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Nonce},
};

use crate::{
    ProtocolError,
    id::{Digest, ItemKey},
};

/// Plain bytes per chunk of payloads and blobs; media fragments may use smaller ones. Also the largest chunk.
pub const CHUNK: usize = 64 * 1024;
/// Bytes before the first chunk: the commitment to the key.
pub const HEADER: usize = 32;
/// Length prefix and tag.
pub const CHUNK_OVERHEAD: usize = 4 + 16;

/// A sealed item with what opens it.
#[derive(Clone)]
pub struct Sealed {
    pub key: ItemKey,
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

/// Seals chunk after chunk under one fresh key; for items that grow while they are written.
pub struct Sealer {
    key: ItemKey,
    cipher: Aes256Gcm,
    next: u64,
}

impl Sealer {
    /// `key` must be fresh: never used for another item.
    pub fn new(key: ItemKey) -> Self {
        Self { cipher: cipher(&key), key, next: 0 }
    }

    /// The next chunk, with its length prefix; the first one also brings the item's header. At most [`CHUNK`] bytes.
    pub fn chunk(&mut self, plain: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        if plain.len() > CHUNK {
            return Err(ProtocolError::TooLarge { what: "chunk", size: plain.len(), limit: CHUNK });
        }
        let sealed = self
            .cipher
            .encrypt(&nonce(self.next), plain)
            .map_err(|_| ProtocolError::DoesNotOpen { chunk: self.next })?;
        let mut out = Vec::with_capacity(HEADER + 4 + sealed.len());
        if self.next == 0 {
            out.extend_from_slice(&commitment(&self.key));
        }
        self.next += 1;
        out.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    pub fn key(&self) -> ItemKey {
        self.key
    }

    /// Number of chunks sealed so far.
    pub fn chunks(&self) -> u64 {
        self.next
    }
}

/// Seals a whole item in chunks of [`CHUNK`]. An empty item is one empty chunk.
pub fn seal(key: ItemKey, plain: &[u8]) -> Sealed {
    let lengths: Vec<usize> = match plain.len() {
        0 => vec![0],
        n => (0..n.div_ceil(CHUNK)).map(|i| (n - i * CHUNK).min(CHUNK)).collect(),
    };
    // Every length is at most CHUNK and they sum up to the item: sealing cannot fail.
    let bytes = seal_chunks(key, plain, &lengths).unwrap_or_default();
    Sealed { key, digest: Digest::of(&bytes), bytes }
}

/// Seals with given chunk lengths (plain bytes), as the verifier does to repeat a media fragment.
pub fn seal_chunks(key: ItemKey, plain: &[u8], lengths: &[usize]) -> Result<Vec<u8>, ProtocolError> {
    let mut sealer = Sealer::new(key);
    let mut out = Vec::with_capacity(HEADER + plain.len() + lengths.len() * CHUNK_OVERHEAD);
    let mut rest = plain;
    for &n in lengths {
        let Some((head, tail)) = rest.split_at_checked(n) else {
            return Err(ProtocolError::Truncated { chunk: sealer.chunks() });
        };
        out.extend_from_slice(&sealer.chunk(head)?);
        rest = tail;
    }
    if rest.is_empty() { Ok(out) } else { Err(ProtocolError::Truncated { chunk: sealer.chunks() }) }
}

/// The first [`HEADER`] bytes of an item under this key: SHA-256 of "lotse-item-v1 " and the key's bytes.
pub fn commitment(key: &ItemKey) -> [u8; HEADER] {
    let mut text = b"lotse-item-v1 ".to_vec();
    text.extend_from_slice(&key.0);
    Digest::of(&text).0
}

/// Opens a whole item. Returns the plain bytes and the plain length of each chunk. Bytes that were cut at the border of
/// two chunks open too: compare the digest first, or use [`open_as`].
pub fn open(key: &ItemKey, sealed: &[u8]) -> Result<(Vec<u8>, Vec<usize>), ProtocolError> {
    let (header, rows) = sealed.split_first_chunk::<HEADER>().ok_or(ProtocolError::Truncated { chunk: 0 })?;
    if *header != commitment(key) {
        return Err(ProtocolError::WrongKey);
    }
    if rows.is_empty() {
        return Err(ProtocolError::Truncated { chunk: 0 });
    }
    let cipher = cipher(key);
    let mut plain = Vec::with_capacity(sealed.len());
    let mut lengths = Vec::new();
    for (index, chunk) in chunks(rows).enumerate() {
        let index = index as u64;
        let opened = cipher.decrypt(&nonce(index), chunk?).map_err(|_| ProtocolError::DoesNotOpen { chunk: index })?;
        lengths.push(opened.len());
        plain.extend_from_slice(&opened);
    }
    Ok((plain, lengths))
}

/// Opens an item that must have this digest.
pub fn open_as(digest: &Digest, key: &ItemKey, sealed: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    if Digest::of(sealed) != *digest {
        return Err(ProtocolError::OtherDigest);
    }
    open(key, sealed).map(|(plain, _)| plain)
}

/// How many bytes at the front are header and whole chunks, and how many chunks they are. What a crash leaves behind is
/// cut to this; (0, 0) when not even one chunk is whole.
pub fn whole_chunks(sealed: &[u8]) -> (usize, u64) {
    let Some(rows) = sealed.get(HEADER..) else {
        return (0, 0);
    };
    match chunks(rows).map_while(Result::ok).fold((HEADER, 0), |(len, n), c| (len + 4 + c.len(), n + 1)) {
        (_, 0) => (0, 0),
        whole => whole,
    }
}

/// The sealed chunks without their length prefix.
fn chunks(sealed: &[u8]) -> impl Iterator<Item = Result<&[u8], ProtocolError>> {
    let mut rest = sealed;
    let mut index = 0u64;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let chunk = rest.split_first_chunk::<4>().and_then(|(len, tail)| {
            let len = u32::from_be_bytes(*len) as usize;
            if !(16..=CHUNK + 16).contains(&len) { None } else { tail.split_at_checked(len) }
        });
        let result = match chunk {
            Some((chunk, tail)) => {
                rest = tail;
                Ok(chunk)
            }
            None => {
                rest = &[];
                Err(ProtocolError::Truncated { chunk: index })
            }
        };
        index += 1;
        Some(result)
    })
}

fn cipher(key: &ItemKey) -> Aes256Gcm {
    Aes256Gcm::new(&key.0.into())
}

fn nonce(index: u64) -> Nonce<Aes256Gcm> {
    let mut n = [0u8; 12];
    n[4..].copy_from_slice(&index.to_be_bytes());
    n.into()
}
