//! The marked picture: marks on the frame they were drawn on.
//!
//! Owns: drawing each mark with a dark casing, and the worker that decodes the frame or takes the Snapshot instead.
//! Never: shows a mark on another frame than its own without saying so.

pub mod marks;
pub mod prepare;
