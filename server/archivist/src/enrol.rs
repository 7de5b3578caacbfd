//! Becoming and staying known to the server: pairing once, then a token for each connection.
//!
//! Owns: the three HTTP calls of a device. Never: keeps a token on disk. Elsewhere: keys (`keys`), the socket (`link`).

use ed25519_dalek::SigningKey;
use lotse_protocol::{
    envelope::{public_key, sign},
    id::{PublicKey, Signature},
};
use lotse_trust::{Fault, Pin, TrustError, client_config, split_code};
use reqwest::Client;
use rustls::ClientConfig;
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

/// Between two attempts to keep an enrolment.
const SAVE_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// TLS with the trust this archivist was paired with; before that, with what its pairing code says.
pub fn tls(config: &Config, keys: &Keys) -> Result<ClientConfig> {
    client_config(pin(config, keys)?)
        .map_err(|e| ArchivistError::Server { url: config.server_url.clone(), why: e.to_string() })
}

/// The pin this archivist was paired with; before that, the one in the pairing code.
pub fn pin(config: &Config, keys: &Keys) -> Result<Option<Pin>> {
    match keys.enrolment()? {
        Some(known) => known.pin.map(|pin| pin.parse()).transpose().map_err(bad_code),
        None => Ok(split_code(&config.pairing_code).map_err(bad_code)?.1),
    }
}

/// HTTP with that trust.
pub fn client(tls: ClientConfig, config: &Config) -> Result<Client> {
    Client::builder()
        .connect_timeout(std::time::Duration::from_secs(5))
        .tls_backend_preconfigured(tls)
        .build()
        .map_err(|e| ArchivistError::Server { url: config.server_url.clone(), why: e.to_string() })
}

fn bad_code(e: TrustError) -> ArchivistError {
    ArchivistError::NotEnrolled(format!(
        "[server] pairing_code: {e}. Copy the whole code, with what stands behind the dot; an administrator can make a new one."
    ))
}

/// Trouble on the way to the server: that with its certificate in words of its own.
pub fn trouble(config: &Config, e: &(dyn std::error::Error + 'static)) -> ArchivistError {
    let url = config.server_url.clone();
    match Fault::find(e) {
        Some(fault) => ArchivistError::Distrusted { url, why: fault.sentence(false) },
        None => ArchivistError::Server { url, why: e.to_string() },
    }
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
    let (code, pin) = split_code(&config.pairing_code).map_err(bad_code)?;
    let ask = Pair { code, public_key: public_key(&keys.device_key()), name: &config.name };
    let paired: Paired = post(http, config, "/api/v1/devices/pair", &ask).await?;
    if paired.role != lotse_protocol::policy::Role::Archivist {
        return Err(ArchivistError::NotEnrolled(
            "The pairing code is for another kind of device. Ask for a code for an archivist.".into(),
        ));
    }
    let pin = pin.map(|pin| pin.to_string());
    let enrolment = Enrolment { device: paired.device, server_key: paired.server_key, pin };
    // The code is spent: what it gave is held until the disk takes it.
    while let Err(e) = keys.save_enrolment(&enrolment) {
        tracing::error!("{e}. It is tried again; if this program ended now, it would need a new pairing code.");
        tokio::time::sleep(SAVE_AGAIN).await;
    }
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
    let reply = http.post(url).json(body).send().await.map_err(|e| trouble(config, &e))?;
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
