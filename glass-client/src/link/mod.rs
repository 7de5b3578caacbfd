//! The way to the server: enrolment, the live socket, the media connection.
//!
//! Owns: keys of this device, tokens, reconnecting, clock measurement, what was committed and what not.
//! Never: decides what to say. Elsewhere: `core` decides, `app` carries it out.

pub mod author;
pub mod http;
pub mod identity;
pub mod ladder;
pub mod live;
pub mod media;
pub mod patience;
pub mod policy;
pub mod publish;
