//! How glasses and the archivist come in: a pairing code once, then a challenge signed with their own key.

use std::{sync::Arc, time::Instant};

use axum::{Json, extract::State};
use ed25519_dalek::VerifyingKey;
use lotse_protocol::{
    envelope,
    id::{PublicKey, Signature},
    policy::Role,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Body;
use crate::{
    app::App,
    caller::Peer,
    error::Error,
    limits::Who,
    refusal::{Code, Refusal},
    store::{devices, now_ms},
    tokens::TOKEN_LIFE,
};

/// Longest name a device may give itself.
const MAX_NAME: usize = 100;

#[derive(Deserialize)]
pub struct PairBody {
    code: String,
    public_key: PublicKey,
    name: String,
}

#[derive(Serialize)]
pub struct Paired {
    device: Uuid,
    role: Role,
    server_key: PublicKey,
}

/// `POST /api/v1/devices/pair`
pub async fn pair(
    State(app): State<Arc<App>>,
    Peer(peer): Peer,
    Body(body): Body<PairBody>,
) -> Result<Json<Paired>, Error> {
    let address = check_wait(&app, peer)?;
    if body.name.chars().count() > MAX_NAME {
        return Err(Refusal::with(Code::Malformed, format!("name: longer than {MAX_NAME} letters")).into());
    }
    // A key that is no point, or one under which anybody can sign, binds nothing.
    if VerifyingKey::from_bytes(&body.public_key.0).map_or(true, |k| k.is_weak()) {
        return Err(Refusal::with(Code::Malformed, "public_key: is not a usable Ed25519 key").into());
    }
    let paired = devices::pair(&app.store.pool, &app.keys, &body.code, body.public_key, &body.name).await;
    if paired.as_ref().is_err_and(|e| e.refusal().is_some()) {
        app.limits.failed(address, Instant::now());
    }
    let (device, role) = paired?;
    Ok(Json(Paired { device, role, server_key: app.keys.public() }))
}

#[derive(Deserialize)]
pub struct ChallengeBody {
    device: Uuid,
}

#[derive(Serialize)]
pub struct Challenge {
    nonce: String,
}

/// `POST /api/v1/devices/challenge`
pub async fn challenge(State(app): State<Arc<App>>, Body(body): Body<ChallengeBody>) -> Result<Json<Challenge>, Error> {
    Ok(Json(Challenge { nonce: app.tokens.challenge(body.device, Instant::now())? }))
}

#[derive(Deserialize)]
pub struct TokenBody {
    device: Uuid,
    nonce: String,
    sig: Signature,
}

#[derive(Serialize)]
pub struct Token {
    token: String,
    expires_ms: i64,
}

/// `POST /api/v1/devices/token`
pub async fn token(
    State(app): State<Arc<App>>,
    Peer(peer): Peer,
    Body(body): Body<TokenBody>,
) -> Result<Json<Token>, Error> {
    let address = check_wait(&app, peer)?;
    let now = Instant::now();
    let fresh = app.tokens.take_challenge(body.device, &body.nonce, now);
    let device = devices::by_id(&app.store.pool, body.device).await?;
    let text = format!("lotse-token-v1 {} {}", body.device, body.nonce);
    let proven = device.filter(|d| fresh && envelope::verify(&d.public_key, &text, &body.sig).is_ok());
    let Some(device) = proven else {
        app.limits.failed(address, now);
        return Err(Code::StaleToken.into());
    };
    let token = app.tokens.make(device.id, now)?;
    Ok(Json(Token { token, expires_ms: now_ms() + TOKEN_LIFE.as_millis() as i64 }))
}

fn check_wait(app: &App, peer: std::net::IpAddr) -> Result<Who, Error> {
    let address = Who::Address(peer);
    match app.limits.wait(&address, Instant::now()) {
        Some(wait) => Err(Refusal::with(Code::TooManyTries, wait).into()),
        None => Ok(address),
    }
}
