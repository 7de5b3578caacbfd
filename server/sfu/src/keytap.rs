//! Learns a leg's sending key from the WebRTC core, so that forwarded packets can be sealed without passing through it.
//!
//! The core keeps what its DTLS handshake yields to itself, but does all cryptography through a provider that we hand it.
//! When a handshake is done it derives the keys of both directions (RFC 3711, 4.3), ours first, and each derivation
//! begins with label 0, whose input block is the master salt itself. So the first block encryption of a connection shows
//! the master key and salt that we send with. `srtp` is held to the core's own result by the tests of this crate:
//! a core that did this in another order would make every packet unreadable.
//!
//! Owns: the key until it is taken. Never: does cryptography of its own.
//! Elsewhere: sealing (`srtp`).

use std::sync::{Arc, Mutex, PoisonError};

use rtc::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher, CryptoAlgorithm,
    CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey, RTCCrypto, RTCCryptoProvider,
    RTCRandom, SecretVec, SignatureScheme, SigningKey, StreamCipher, StreamCipherAlgorithm,
};

use crate::srtp::SALT;

/// What RFC 5764 exports for one direction.
pub(crate) struct MasterKey {
    pub(crate) key: SecretVec,
    pub(crate) salt: SecretVec,
}

enum Seen {
    Nothing,
    Key(MasterKey),
    Taken,
}

/// The provider of one connection; see the module.
pub(crate) struct KeyTap {
    provider: Arc<dyn RTCCryptoProvider>,
    seen: Mutex<Seen>,
}

impl KeyTap {
    pub(crate) fn new(provider: Arc<dyn RTCCryptoProvider>) -> Self {
        Self { provider, seen: Mutex::new(Seen::Nothing) }
    }

    /// The sending key, once; `None` before the handshake is done.
    pub(crate) fn take(&self) -> Option<MasterKey> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *seen, Seen::Taken) {
            Seen::Key(key) => Some(key),
            other => {
                *seen = other;
                None
            }
        }
    }
}

impl RTCCryptoProvider for KeyTap {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.provider.random()
    }
}

impl RTCCrypto for KeyTap {
    fn block_encrypt(&self, algorithm: BlockCipherAlgorithm, key: &[u8], block: &mut [u8]) -> Result<(), CryptoError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Seen::Nothing, Some(salt)) = (&*seen, block.get(..SALT)) {
            // A salt of 12 bytes is followed by zeros here, one of 14 is whole.
            let (key, salt) = (SecretVec::new(key.to_vec()), SecretVec::new(salt.to_vec()));
            *seen = Seen::Key(MasterKey { key, salt });
        }
        drop(seen);
        self.provider.crypto().block_encrypt(algorithm, key, block)
    }

    // The rest goes through as it is.

    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.provider.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.provider.crypto().hash(algorithm, data)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.provider.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.provider.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.provider.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.provider.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(&self, algorithm: KeyExchangeAlgorithm) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.provider.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.provider.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.provider.crypto().import_signing_key(scheme, pkcs8_der)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.provider.crypto().verify_signature(scheme, public_key, message, signature)
    }
}
