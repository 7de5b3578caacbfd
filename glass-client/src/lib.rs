//! The smart glasses of a technician: camera and voice out, marks and voices in, hands free.
//!
//! Owns: capture, encoding, the link, the display, the words one can say. Never: a desktop, a keyboard, root.
//! Elsewhere: forwarding and the log (`lotse-server`), what is kept (`lotse-archivist`).

pub mod app;
pub mod capture;
pub mod clock;
pub mod config;
pub mod core;
pub mod doctor;
pub mod error;
pub mod feed;
pub mod hud;
pub mod input;
pub mod link;
pub mod overlay;
pub mod packet;
pub mod profile;
pub mod ring;
pub mod voice;
pub mod wear;
