//! The words every part of Lotse speaks: envelope, items, chain, commands, policy, signalling.
//!
//! Owns: the bytes that are signed, hashed and sealed, and the types that cross a wire.
//! Never: reads a socket, a disk or a clock; everything here is a plain function of its arguments.
//! Elsewhere: what stands inside a payload (`lotse-payload`), who stores it (`lotse-server`).

pub mod chain;
pub mod command;
pub mod envelope;
pub mod error;
pub mod id;
pub mod item;
pub mod kind;
pub mod policy;
pub mod session;
pub mod signal;

pub use error::ProtocolError;
