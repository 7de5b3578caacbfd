//! The targets, by what reads the bytes.

pub(crate) mod archive;
pub(crate) mod glass;
pub(crate) mod json;
pub(crate) mod media;
pub(crate) mod proof;
pub(crate) mod sfu;
