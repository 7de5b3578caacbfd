//! The live socket and what stands behind it: who is connected, who hears what, whose media leg is whose.
//!
//! Read `socket` (one connection), `hub` (all connections, presence, queue) and `media` (the glue to the SFU).

pub mod commands;
pub mod hub;
pub mod media;
pub mod push;
pub mod socket;
