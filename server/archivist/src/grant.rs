//! May this request see a recording? The grant a server signed says so, for one case, one verb and five minutes.
//!
//! Never: asks the server; a grant stands alone. Elsewhere: who gets one (`lotse-server`).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lotse_protocol::{
    envelope,
    id::{CaseId, EventId, PublicKey, Signature},
};
use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Replay,
    Export,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Grant {
    pub v: u64,
    pub case: CaseId,
    pub verb: Verb,
    /// The `viewed` or `exported` event with the reason.
    pub event: EventId,
    pub expires_ms: i64,
}

/// Why a request is refused. All of them are 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    Invalid,
    Expired,
    OtherCase,
}

/// Checks a grant for a case and verb at a time.
pub fn check(text: Option<&str>, key: &PublicKey, case: CaseId, verb: Verb, now_ms: i64) -> Result<Grant, Refusal> {
    let text = text.filter(|t| !t.is_empty()).ok_or(Refusal::Missing)?;
    let read = || {
        let (body, sig) = text.split_once('.')?;
        let body = String::from_utf8(URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
        let sig = Signature::from_slice(&URL_SAFE_NO_PAD.decode(sig).ok()?).ok()?;
        envelope::verify(key, &body, &sig).ok()?;
        serde_json::from_str::<Grant>(&body).ok()
    };
    let grant = read().filter(|g| g.v == 1).ok_or(Refusal::Invalid)?;
    if grant.expires_ms <= now_ms {
        return Err(Refusal::Expired);
    }
    if grant.case != case || grant.verb != verb {
        return Err(Refusal::OtherCase);
    }
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use uuid::Uuid;

    use super::*;

    fn grant(key: &SigningKey, case: CaseId, verb: &str, expires_ms: i64) -> String {
        let text = serde_json::json!({
            "v": 1, "case": case, "verb": verb, "event": Uuid::now_v7(), "expires_ms": expires_ms,
        })
        .to_string();
        let sig = envelope::sign(key, &text);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(sig.0))
    }

    #[test]
    fn only_the_servers_grant_for_this_case_verb_and_time_opens() {
        let (server, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let key = envelope::public_key(&server);
        let (case, else_where) = (CaseId(Uuid::now_v7()), CaseId(Uuid::now_v7()));
        let good = grant(&server, case, "replay", 1_000);
        assert!(check(Some(&good), &key, case, Verb::Replay, 999).is_ok());
        assert_eq!(check(Some(&good), &key, case, Verb::Replay, 1_000), Err(Refusal::Expired));
        assert_eq!(check(Some(&good), &key, case, Verb::Export, 999), Err(Refusal::OtherCase));
        assert_eq!(check(Some(&good), &key, else_where, Verb::Replay, 999), Err(Refusal::OtherCase));
        assert_eq!(check(None, &key, case, Verb::Replay, 999), Err(Refusal::Missing));
        let forged = grant(&other, case, "replay", 1_000);
        assert_eq!(check(Some(&forged), &key, case, Verb::Replay, 999), Err(Refusal::Invalid));
        // Any changed character of a good grant.
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(check(Some(&changed), &key, case, Verb::Replay, 999).is_err(), "changed at {at}");
        }
        for bad in ["", ".", "..", "a", "a.b", "ä.ö"] {
            assert!(check(Some(bad), &key, case, Verb::Replay, 999).is_err());
        }
    }
}
