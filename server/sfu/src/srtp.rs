//! Writes and seals RTP packets of one leg, straight into the buffer that goes to the kernel.
//!
//! One header written, one copy of the payload, one pass of AES-GCM in place (RFC 7714, AEAD_AES_128_GCM). Gateways get AES-CM
//! with HMAC-SHA1 (RFC 3711): the one profile that every WebRTC program has to know (RFC 8827, 6.5), and all that many do.
//!
//! Owns: the session key, and the packet index of each stream it numbers (`Rollover`).
//! Never: seals two different packets under one SSRC and index; touches a timestamp.
//! Elsewhere: where the key comes from (`keytap`), what is sent (`forward`), RTCP and receiving (the WebRTC core).

use bytes::Bytes;
use rtc::crypto::{
    AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoError, HmacAlgorithm, Mac, RTCCrypto, StreamCipher,
    StreamCipherAlgorithm,
};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use crate::{answer::ExtensionIds, engine::FORWARDED, keytap::MasterKey};

/// Bytes of the longer of the two master salts, AES-CM's; AES-GCM uses the first 12.
pub(crate) const SALT: usize = 14;
const GCM_SALT: usize = 12;
/// Bytes of an authentication tag.
const GCM_TAG: usize = 16;
const CM_TAG: usize = 10;
/// Marks header extensions in the one-byte form (RFC 8285, 4.2).
const ONE_BYTE_FORM: [u8; 2] = [0xBE, 0xDE];
/// Key derivation labels (RFC 3711, 4.3.1).
const ENCRYPTION: u8 = 0;
const AUTHENTICATION: u8 = 1;
const SESSION_SALT: u8 = 2;

/// Values of the forwarded header extensions, in the order of `engine::FORWARDED`.
pub(crate) type Carried = [Option<Bytes>; FORWARDED.len()];

/// The fields of a header that are not the same for every packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) ssrc: u32,
    pub(crate) timestamp: u32,
    /// The packet's place in its stream: rollovers × 65,536 + sequence number.
    pub(crate) index: u64,
}

/// How a leg's packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Gcm,
    Cm,
}

impl Profile {
    /// As the handshake names it.
    pub(crate) fn negotiated(self) -> SrtpProtectionProfile {
        match self {
            Profile::Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Profile::Cm => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }
    }

    fn salt(self) -> usize {
        match self {
            Profile::Gcm => GCM_SALT,
            Profile::Cm => SALT,
        }
    }
}

enum Cipher {
    Gcm(Box<dyn AeadCipher>),
    Cm { stream: Box<dyn StreamCipher>, mac: Box<dyn Mac> },
}

/// Seals for one leg.
pub(crate) struct Sealer {
    cipher: Cipher,
    /// The session salt, zeros behind it.
    salt: [u8; 16],
}

impl Sealer {
    pub(crate) fn new(crypto: &dyn RTCCrypto, profile: Profile, master: &MasterKey) -> Result<Self, CryptoError> {
        // AES in counter mode over its first blocks: 16 bytes each.
        let derive = |label: u8, counter: u8| {
            let mut block = [0; 16];
            block[..profile.salt()].copy_from_slice(&master.salt.as_ref()[..profile.salt()]);
            block[7] ^= label;
            block[15] = counter;
            crypto.block_encrypt(BlockCipherAlgorithm::Aes128, master.key.as_ref(), &mut block)?;
            Ok::<_, CryptoError>(block)
        };
        let key = derive(ENCRYPTION, 0)?;
        let cipher = match profile {
            Profile::Gcm => Cipher::Gcm(crypto.new_aead(AeadAlgorithm::Aes128Gcm, &key)?),
            Profile::Cm => {
                let [first, second] = [derive(AUTHENTICATION, 0)?, derive(AUTHENTICATION, 1)?];
                let key_of_tags = [&first[..], &second[..4]].concat();
                Cipher::Cm {
                    stream: crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, &key)?,
                    mac: crypto.new_hmac(HmacAlgorithm::Sha1, &key_of_tags)?,
                }
            }
        };
        let mut salt = derive(SESSION_SALT, 0)?;
        salt[profile.salt()..].fill(0);
        Ok(Self { cipher, salt })
    }

    /// Appends one sealed packet; its length. `before` goes in front of the payload (RFC 4588: the original number).
    pub(crate) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        head: Head,
        extensions: Option<(&Carried, &ExtensionIds)>,
        before: &[u8],
        payload: &[u8],
    ) -> Result<usize, CryptoError> {
        let start = out.len();
        out.extend_from_slice(&[0x80, u8::from(head.marker) << 7 | head.payload_type]);
        out.extend_from_slice(&(head.index as u16).to_be_bytes());
        out.extend_from_slice(&head.timestamp.to_be_bytes());
        out.extend_from_slice(&head.ssrc.to_be_bytes());
        if let Some((carried, ids)) = extensions
            && write_extensions(out, carried, ids)
        {
            out[start] |= 0x10;
        }
        let body = out.len();
        out.extend_from_slice(before);
        out.extend_from_slice(payload);
        self.protect(out, (start, body), head).inspect_err(|_| out.truncate(start))?;
        Ok(out.len() - start)
    }

    /// Encrypts what stands from `body` on and appends the tag over everything from `start` on.
    fn protect(&mut self, out: &mut Vec<u8>, (start, body): (usize, usize), head: Head) -> Result<(), CryptoError> {
        let end = out.len();
        match &mut self.cipher {
            Cipher::Gcm(cipher) => {
                // RFC 7714, 8.1: two zero bytes, SSRC, rollover counter and number, over the salt.
                let nonce = over_salt(&self.salt, 2, head);
                out.resize(end + GCM_TAG, 0);
                let (aad, rest) = out[start..].split_at_mut(body - start);
                let (plain, tag) = rest.split_at_mut(end - body);
                cipher.seal_in_place(&nonce[..GCM_SALT], aad, plain, tag)
            }
            Cipher::Cm { stream, mac } => {
                // RFC 3711, 4.1.1: four zero bytes, SSRC, rollover counter and number, then the block counter.
                let counter = over_salt(&self.salt, 4, head);
                stream.apply_keystream(&counter, &mut out[body..])?;
                let rollovers = ((head.index >> 16) as u32).to_be_bytes();
                let mut tag = [0; 20];
                mac.sign(&[&out[start..], &rollovers], &mut tag)?;
                out.extend_from_slice(&tag[..CM_TAG]);
                Ok(())
            }
        }
    }
}

/// SSRC (4 bytes) and packet index (6), `zeros` bytes from the front, over the salt.
fn over_salt(salt: &[u8; 16], zeros: usize, head: Head) -> [u8; 16] {
    let mut block = *salt;
    let what = head.ssrc.to_be_bytes().into_iter().chain(head.index.to_be_bytes().into_iter().skip(2));
    for (byte, value) in block[zeros..].iter_mut().zip(what) {
        *byte ^= value;
    }
    block
}

/// Appends the extension block. False: there was nothing to write. Values that do not fit the form are left out.
fn write_extensions(out: &mut Vec<u8>, carried: &Carried, ids: &ExtensionIds) -> bool {
    let fits = |value: &&Bytes, id: u8| (1..=16).contains(&value.len()) && (1..=14).contains(&id);
    let mut words = carried.iter().zip(ids).filter_map(|(v, id)| v.as_ref().filter(|v| fits(v, *id)).map(|v| (v, *id)));
    let Some(first) = words.next() else { return false };
    out.extend_from_slice(&ONE_BYTE_FORM);
    let length = out.len();
    out.extend_from_slice(&[0, 0]);
    for (value, id) in std::iter::once(first).chain(words) {
        out.push(id << 4 | (value.len() - 1) as u8);
        out.extend_from_slice(value);
    }
    let bytes = (out.len() - length - 2).next_multiple_of(4);
    out.resize(length + 2 + bytes, 0);
    // At most four values of 17 bytes: far below 65,536 words.
    out[length..length + 2].copy_from_slice(&((bytes / 4) as u16).to_be_bytes());
    true
}

/// Counts how often a stream's 16-bit numbers have gone round (RFC 3711, 3.3.1).
#[derive(Debug, Default)]
pub(crate) struct Rollover {
    highest: Option<u64>,
}

impl Rollover {
    /// The index of a packet; `None` for one from before the stream's beginning.
    pub(crate) fn index(&mut self, number: u16) -> Option<u64> {
        let Some(highest) = self.highest else {
            self.highest = Some(u64::from(number));
            return self.highest;
        };
        let step = number.wrapping_sub(highest as u16) as i16;
        let index = highest.checked_add_signed(i64::from(step))?;
        self.highest = Some(highest.max(index));
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::crypto::{SecretVec, default_provider};
    use rtc::rtp::Packet;
    use rtc::shared::marshal::Unmarshal as _;
    use rtc::srtp::{context::Context, protection_profile::ProtectionProfile};

    use super::*;

    fn pair(profile: Profile) -> (Sealer, Context) {
        let provider = default_provider().expect("a provider");
        let (key, salt) = ([7; 16], [9; SALT]);
        let master = MasterKey { key: SecretVec::new(key.to_vec()), salt: SecretVec::new(salt.to_vec()) };
        let sealer = Sealer::new(provider.crypto(), profile, &master).expect("a sealer");
        let theirs = match profile {
            Profile::Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::Cm => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let opener =
            Context::new(&key, &salt[..profile.salt()], theirs, None, None, provider.crypto()).expect("an opener");
        (sealer, opener)
    }

    proptest! {
        /// Another implementation opens every packet, across rollovers, and reads back what was put in.
        #[test]
        fn the_core_opens_what_we_seal(
            first in 0u16..0x8000,
            steps in proptest::collection::vec(1u16..20_000, 1..40),
            payload in proptest::collection::vec(any::<u8>(), 0..1_300),
            lens in proptest::array::uniform3(0usize..20),
            ids in proptest::array::uniform3(0u8..16),
            marker: bool,
            old: bool,
        ) {
            let (mut sealer, mut opener) = pair(if old { Profile::Cm } else { Profile::Gcm });
            let mut rollover = Rollover::default();
            let carried: Carried = lens.map(|len| (len > 0).then(|| Bytes::from(vec![3; len])));
            let mut distinct = ids;
            distinct.sort_unstable();
            prop_assume!(distinct.windows(2).all(|w| w[0] != w[1]));
            let mut number = first;
            for step in steps {
                let index = rollover.index(number).expect("in order");
                let head = Head { marker, payload_type: 96, ssrc: 4_711, timestamp: 12_345, index };
                let mut out = vec![1, 2, 3];
                let len = sealer.seal(&mut out, head, Some((&carried, &ids)), &[], &payload).expect("sealed");
                prop_assert_eq!(out.len(), len + 3);
                let mut opened = opener.decrypt_rtp(&out[3..]).expect("opened");
                let packet = Packet::unmarshal(&mut opened).expect("a packet");
                let header = &packet.header;
                prop_assert_eq!((header.sequence_number, header.marker, header.timestamp), (number, marker, 12_345));
                prop_assert_eq!((header.payload_type, header.ssrc), (96, 4_711));
                prop_assert_eq!(&packet.payload[..], &payload[..]);
                for (value, id) in carried.iter().zip(ids) {
                    let fits = value.as_ref().filter(|v| v.len() <= 16 && (1..=14).contains(&id));
                    prop_assert_eq!(if id == 0 { None } else { header.get_extension(id) }, fits.cloned());
                }
                number = number.wrapping_add(step);
            }
        }

        /// A late packet gets the index it would have had in time; no two numbers near each other share one.
        #[test]
        fn late_packets_keep_their_place(start in 0u16..0x8000, late in 1u16..5_000) {
            let mut rollover = Rollover::default();
            let mut index = u64::from(start);
            for n in 0..80_000u32 {
                index = rollover.index(start.wrapping_add(n as u16)).expect("in order");
            }
            prop_assert_eq!(index, u64::from(start) + 79_999);
            prop_assert_eq!(rollover.index((index as u16).wrapping_sub(late)), Some(index - u64::from(late)));
            prop_assert_eq!(rollover.index((index as u16).wrapping_add(1)), Some(index + 1));
        }
    }

    #[test]
    fn nothing_comes_before_the_beginning() {
        let mut rollover = Rollover::default();
        assert_eq!(rollover.index(5), Some(5));
        assert_eq!(rollover.index(0xFFFF), None);
        assert_eq!(rollover.index(4), Some(4));
    }
}
