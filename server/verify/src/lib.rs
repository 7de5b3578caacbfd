//! The container of a case bundle, and the check that it says what the case's log says.
//!
//! Owns: the one valid form of a bundle (`bundle`, `ustar`), what can be wrong with one (`trouble`), and the check (`check`).
//! Never: opens a socket, asks a clock, or holds a whole bundle in memory.
//! Elsewhere: chain and sealing (`lotse-protocol`), who collects a bundle's items (`lotse-archivist`).

pub mod bundle;
pub mod check;
mod log;
pub mod report;
pub mod trouble;
pub mod ustar;

pub use bundle::{Bundle, BundleError, Draft, ItemKind};
pub use check::{Options, check};
pub use report::{Language, Report};
