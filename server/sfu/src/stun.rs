//! Reads just enough of a STUN message (RFC 8489) to know whose it is and whether it is genuine.
//!
//! Owns: nothing; plain functions. Never: trusts a length found in a datagram.
//! Elsewhere: ICE itself (the WebRTC core), the address table (`worker`).

use rtc::crypto::{HmacAlgorithm, RTCCrypto};

const HEADER: usize = 20;
const MAGIC: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const ATTR_USERNAME: u16 = 0x0006;
const ATTR_INTEGRITY: u16 = 0x0008;
const ATTR_USE_CANDIDATE: u16 = 0x0025;
const INTEGRITY_BYTES: usize = 20;

/// What kind of binding message this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    Response,
    /// Keeps a path open and asks for nothing (RFC 8445, 11).
    Indication,
}

/// A binding message with its fields in place.
#[derive(Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) class: Class,
    /// The receiver's part of USERNAME: our ufrag.
    pub(crate) ufrag: Option<&'a str>,
    /// The client names this path as the one to use (RFC 8445, 7.1.2).
    pub(crate) nominates: bool,
    pub(crate) transaction: [u8; 12],
    /// Where the MESSAGE-INTEGRITY attribute starts.
    integrity_at: Option<usize>,
    bytes: &'a [u8],
}

/// Reads a STUN binding message; `None` for everything else, however broken.
pub(crate) fn parse(bytes: &[u8]) -> Option<Binding<'_>> {
    if bytes.len() < HEADER || bytes[4..8] != MAGIC {
        return None;
    }
    let class = match u16::from_be_bytes([bytes[0], bytes[1]]) {
        0x0001 => Class::Request,
        0x0101 => Class::Response,
        0x0011 => Class::Indication,
        _ => return None,
    };
    if usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) != bytes.len() - HEADER {
        return None;
    }
    let (mut at, mut ufrag, mut nominates, mut integrity_at) = (HEADER, None, false, None);
    let transaction = bytes[8..HEADER].try_into().ok()?;
    while at + 4 <= bytes.len() {
        let kind = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let len = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        let value = bytes.get(at + 4..at + 4 + len)?;
        match kind {
            // Attributes after MESSAGE-INTEGRITY are not protected by it and do not count.
            ATTR_USERNAME if ufrag.is_none() && integrity_at.is_none() => {
                ufrag = Some(std::str::from_utf8(value).ok()?.split(':').next()?);
            }
            ATTR_USE_CANDIDATE if integrity_at.is_none() => nominates = true,
            ATTR_INTEGRITY if integrity_at.is_none() => {
                if len != INTEGRITY_BYTES {
                    return None;
                }
                integrity_at = Some(at);
            }
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    (at == bytes.len()).then_some(Binding { class, ufrag, nominates, transaction, integrity_at, bytes })
}

impl Binding<'_> {
    /// A question of no leg: neither a name nor a proof.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.ufrag.is_none() && self.integrity_at.is_none()
    }

    /// Whether MESSAGE-INTEGRITY was made with this password.
    pub(crate) fn is_genuine(&self, password: &str, crypto: &dyn RTCCrypto) -> bool {
        let Some(at) = self.integrity_at else { return false };
        // The length field covers the message up to and including MESSAGE-INTEGRITY when it is computed.
        let covered = (at + 4 + INTEGRITY_BYTES - HEADER) as u16;
        let length = covered.to_be_bytes();
        let input: [&[u8]; 3] = [&self.bytes[..2], &length, &self.bytes[4..at]];
        crypto
            .new_hmac(HmacAlgorithm::Sha1, password.as_bytes())
            .and_then(|mut mac| mac.verify(&input, &self.bytes[at + 4..at + 4 + INTEGRITY_BYTES]))
            .is_ok()
    }
}

/// A binding request as a client sends it, for tests and `fuzz`. `None`: this cryptography has no SHA-1.
pub(crate) fn request(
    username: &str,
    password: &str,
    transaction: [u8; 12],
    crypto: &dyn RTCCrypto,
) -> Option<Vec<u8>> {
    let mut bytes = vec![0x00, 0x01, 0, 0];
    bytes.extend(MAGIC);
    bytes.extend(transaction);
    bytes.extend(ATTR_USERNAME.to_be_bytes());
    bytes.extend((username.len() as u16).to_be_bytes());
    bytes.extend(username.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let covered = (bytes.len() + 4 + INTEGRITY_BYTES - HEADER) as u16;
    bytes[2..4].copy_from_slice(&covered.to_be_bytes());
    let mut tag = vec![0; INTEGRITY_BYTES];
    crypto.new_hmac(HmacAlgorithm::Sha1, password.as_bytes()).ok()?.sign(&[&bytes], &mut tag).ok()?;
    bytes.extend(ATTR_INTEGRITY.to_be_bytes());
    bytes.extend((INTEGRITY_BYTES as u16).to_be_bytes());
    bytes.extend(tag);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    #[test]
    fn own_password_is_genuine_and_any_other_is_not() {
        let provider = rtc::crypto::default_provider().expect("a provider is built in");
        let bytes = request("ours:theirs", "secret", [7; 12], provider.crypto()).expect("SHA-1 is known");
        let binding = parse(&bytes).expect("a request");
        assert_eq!((binding.class, binding.ufrag), (Class::Request, Some("ours")));
        assert!(binding.is_genuine("secret", provider.crypto()));
        assert!(!binding.is_genuine("Secret", provider.crypto()));
    }

    #[test]
    fn mutated_messages_never_panic_and_never_pass() {
        let provider = rtc::crypto::default_provider().expect("a provider is built in");
        let whole = request("ours:theirs", "secret", [7; 12], provider.crypto()).expect("SHA-1 is known");
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            match rng.random_range(0..3) {
                0 => bytes.truncate(rng.random_range(0..whole.len())),
                1 => {
                    for _ in 0..rng.random_range(1..4) {
                        let at = rng.random_range(0..whole.len());
                        bytes[at] ^= rng.random_range(1..=255u8);
                    }
                }
                _ => bytes.extend((0..rng.random_range(1..9)).map(|_| rng.random::<u8>())),
            }
            if bytes != whole
                && let Some(binding) = parse(&bytes)
            {
                assert!(!binding.is_genuine("secret", provider.crypto()), "accepted {bytes:02x?}");
            }
        }
    }
}
