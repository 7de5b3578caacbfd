//! Becoming and staying known to the server: pairing once, then a token for each connection.
//!
//! Owns: the three HTTP calls of a device. Never: keeps a token on disk. Elsewhere: keys (`keys`), the socket (`link`).

use ed25519_dalek::SigningKey;
use lotse_protocol::{
    envelope::{public_key, sign},
    id::{PublicKey, Signature},
};
use reqwest::Client;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    config::Config,
    error::{ArchivistError, Result},
    keys::{Enrolment, Keys},
};

#[derive(Serialize)]
struct Pair<'a> {
    code: &'a str,
    public_key: PublicKey,
    name: &'a str,
}

#[derive(Deserialize)]
struct Paired {
    device: String,
    role: lotse_protocol::policy::Role,
    server_key: PublicKey,
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

#[derive(Serialize)]
struct Proof<'a> {
    device: &'a str,
    nonce: &'a str,
    sig: Signature,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// The enrolment on disk, or a new one by pairing code.
pub async fn enrolment(http: &Client, config: &Config, keys: &Keys) -> Result<Enrolment> {
    if let Some(known) = keys.enrolment()? {
        return Ok(known);
    }
    if config.pairing_code.is_empty() {
        return Err(ArchivistError::NotEnrolled(
            "This archivist is not paired with a server yet. Ask an administrator for a pairing code and set it as [server] pairing_code (LOTSE_SERVER_PAIRING_CODE) for one start.".into(),
        ));
    }
    let ask = Pair { code: &config.pairing_code, public_key: public_key(&keys.device_key()), name: &config.name };
    let paired: Paired = post(http, config, "/api/v1/devices/pair", &ask).await?;
    if paired.role != lotse_protocol::policy::Role::Archivist {
        return Err(ArchivistError::NotEnrolled(
            "The pairing code is for another kind of device. Ask for a code for an archivist.".into(),
        ));
    }
    let enrolment = Enrolment { device: paired.device, server_key: paired.server_key };
    keys.save_enrolment(&enrolment)?;
    Ok(enrolment)
}

/// A token for the next 15 minutes.
pub async fn token(http: &Client, config: &Config, key: &SigningKey, device: &str) -> Result<String> {
    let Nonce { nonce } =
        post(http, config, "/api/v1/devices/challenge", &serde_json::json!({ "device": device })).await?;
    let sig = sign(key, &format!("lotse-token-v1 {device} {nonce}"));
    let Token { token } = post(http, config, "/api/v1/devices/token", &Proof { device, nonce: &nonce, sig }).await?;
    Ok(token)
}

async fn post<T: DeserializeOwned>(http: &Client, config: &Config, path: &str, body: &impl Serialize) -> Result<T> {
    let fail = |why: String| ArchivistError::Server { url: config.server_url.clone(), why };
    let url = format!("{}{path}", config.server_url);
    let reply = http.post(url).json(body).send().await.map_err(|e| fail(e.to_string()))?;
    let status = reply.status();
    let text = reply.text().await.map_err(|e| fail(e.to_string()))?;
    if !status.is_success() {
        let said = serde_json::from_str::<lotse_protocol::error::ErrorBody>(&text);
        let why =
            said.map_or_else(|_| format!("{path}: {status}"), |e| format!("{}: {}", e.error.code, e.error.message));
        // Too many tries (429) and the server's own trouble pass; anything else needs a person.
        return Err(if matches!(status.as_u16(), 400..=428) { ArchivistError::NotEnrolled(why) } else { fail(why) });
    }
    serde_json::from_str(&text).map_err(|e| fail(format!("{path}: {e}")))
}
