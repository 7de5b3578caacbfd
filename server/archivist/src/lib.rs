//! The archivist: a named participant that records what everybody present allowed, and gives it back.
//!
//! Owns: the recording of media (fragments, journal, index), replay, and the case bundle. It opens the items of the
//! cases it records. Never: decides who may join a case, and never records without everybody's yes.
//! Elsewhere: carrying and ordering (`lotse-server`), checking a bundle (`lotse-verify`).
//!
//! A packet's way: `way` (sockets) → `leg` (SRTP) → `recorder` (its thread) → `track` (`depacketize`, `clock`) → `fragment`
//! (`webm`/`mp4`, sealed chunks) and `index` → `case` (signed `segment` event) → `link` (live socket).

// In a test an unwrap that fails is a failed test.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod archivist;
pub mod backup;
pub mod bundle;
pub mod case;
pub mod clock;
pub mod config;
pub mod depacketize;
pub mod doctor;
pub mod enrol;
pub mod error;
pub mod fragment;
pub mod grant;
pub mod http;
pub mod index;
pub mod journal;
pub mod keys;
pub mod leg;
pub mod link;
pub mod metrics;
pub mod mp4;
pub mod pace;
pub mod recorder;
pub mod recording;
pub mod replay;
pub mod sps;
pub mod track;
pub mod way;
pub mod webm;
