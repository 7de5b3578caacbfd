//! Words about the case, its people and its end.

use lotse_protocol::id::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What a list shows of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct CaseCard {
    /// "Centrifugal pump P-204 · mechanical seal leaks"
    pub title: String,
    pub asset: String,
    pub customer: String,
    pub site: String,
}

/// Payload of `joined`: who stands behind the pseudonym.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct JoinedPayload {
    /// "Mara Krüger"
    pub name: String,
    /// "Smart glasses helmet-1", "Browser"
    pub device: String,
    /// The device's long-term key, and its signature over [`binding_text`].
    pub device_key: PublicKey,
    pub device_sig: Signature,
}

/// The words a device key signs to vouch for a case key.
pub fn binding_text(
    case: lotse_protocol::id::CaseId,
    author: lotse_protocol::id::Pseudonym,
    case_key: &PublicKey,
) -> String {
    format!("lotse-case-key-v1 {case} {author} {case_key}")
}

/// Payload of `session.ended` by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct Outcome {
    pub result: OutcomeResult,
    pub note: String,
}

/// How a session ended for the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(export, export_to = "payload.ts")]
pub enum OutcomeResult {
    Solved,
    SecondVisit,
    WaitingForPart,
    Open,
}

/// Payload of `viewed` and `exported`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(export, export_to = "payload.ts")]
pub struct ViewedPayload {
    /// Never empty.
    pub reason: String,
}
