//! What stands inside the payloads: JSON objects, sealed as items by their authors.
//!
//! Owns: the shapes of marks, messages, receipts, links, case cards and recording facts. Participants read and write them.
//! Never: inside `lotse-server`, which carries payloads as bytes (`make check` looks at its dependency tree).
//! Elsewhere: sealing and the envelope (`lotse-protocol`).

pub mod annotation;
pub mod case_card;
pub mod consent;
pub mod geometry;
pub mod link;
pub mod message;
pub mod pointer;
pub mod receipt;
pub mod recording;

pub use annotation::{Annotation, Instruction, Mark};
pub use case_card::{CaseCard, JoinedPayload, Outcome, ViewedPayload};
pub use link::{LinkState, LinkStatePayload, LinkTrouble};
pub use message::Message;
pub use receipt::{ReceiptPayload, ReceiptState};
