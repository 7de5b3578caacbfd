//! Whom a program believes to be the server: pins, the own certificate authority, and what is wrong with a certificate, in words.
//!
//! Owns: [`Pin`] and the pairing code it travels in, [`Authority`] (the own CA and its leaves), the TLS settings of clients.
//! Never: opens a port, keeps a connection, decides who may enter. Elsewhere: the server's own port (`lotse-server`).

mod authority;
mod client;
mod facts;
mod fault;
mod pin;

pub use authority::{Authority, Leaf};
pub use client::client_config;
pub use facts::{Facts, Seen, first_facts, look_at, sound_facts};
pub use fault::Fault;
pub use pin::{Pin, split_code};

use std::sync::Arc;

/// What is wrong with a key, certificate or pin, and who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{0} is not a certificate in PEM form")]
    NotACertificate(String),
    #[error("{path}: {why}")]
    File { path: String, why: String },
    #[error("{0}")]
    Tls(String),
    #[error("the part of the pairing code after the dot is damaged")]
    BadPin,
}

/// The one crypto provider.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Names the provider for the whole process: `reqwest` asks for it even where it speaks no TLS. Again does no harm.
pub fn use_ring() {
    // An error says that one is named already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
