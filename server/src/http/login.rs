//! Logging in and out, and who one is.
//!
//! Never: says whether a user exists. Unknown user, wrong password, blocked account, demo password from afar: one answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use lotse_protocol::id::PublicKey;
use serde::{Deserialize, Serialize};

use super::Body;
use crate::{
    app::App,
    caller::{By, Caller, Peer, cookie, is_https, set_cookie},
    error::Error,
    limits::Who,
    refusal::{Code, Refusal},
    store::{
        accounts::{self, Me},
        logins,
    },
};

/// Longer ones are not user names or passwords of ours.
const MAX_WORD: usize = 256;

#[derive(Deserialize)]
pub struct LoginBody {
    user: String,
    password: String,
    /// The browser's long-term key, non-extractable.
    #[serde(default)]
    device_key: Option<PublicKey>,
}

/// `POST /api/v1/login`
pub async fn login(
    State(app): State<Arc<App>>,
    Peer(peer): Peer,
    headers: HeaderMap,
    Body(body): Body<LoginBody>,
) -> Result<Response, Error> {
    if body.user.len() > MAX_WORD || body.password.len() > MAX_WORD {
        return Err(Code::WrongLogin.into());
    }
    let now = Instant::now();
    let (user, address) = (Who::User(body.user.to_lowercase()), Who::Address(peer));
    if let Some(wait) = app.limits.wait(&user, now).max(app.limits.wait(&address, now)) {
        metrics::counter!("lotse_logins_refused_total", "why" => "too_many_tries").increment(1);
        return Err(Refusal::with(Code::TooManyTries, wait).into());
    }
    let _one_at_a_time = app.password_checks.acquire().await.map_err(|_| Code::Busy)?;
    let loopback = app.on_loopback && peer.is_loopback();
    let pool = &app.store.pool;
    let Some(account) = accounts::check_password(pool, &body.user, body.password, loopback).await? else {
        metrics::counter!("lotse_logins_refused_total", "why" => "wrong").increment(1);
        app.limits.failed(user, now);
        app.limits.failed(address, now);
        return Err(Code::WrongLogin.into());
    };
    app.limits.succeeded(&user);
    // A new login is a new cookie; what was there before ends.
    if let Some(old) = cookie(&headers, is_https(&app)) {
        logins::end(pool, old).await?;
    }
    let value = logins::start(pool, account.id, body.device_key).await?;
    let mut response = Json(Me::from(&account)).into_response();
    set_cookie(&app, response.headers_mut(), &value);
    Ok(response)
}

/// `POST /api/v1/logout`
pub async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Error> {
    if let Some(cookie) = cookie(&headers, is_https(&app)) {
        logins::end(&app.store.pool, cookie).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&app, response.headers_mut(), "");
    Ok(response)
}

#[derive(Serialize)]
pub struct MeReply {
    #[serde(flatten)]
    me: Me,
    /// Did this browser register its key when it logged in?
    device_key_known: bool,
}

/// `GET /api/v1/me`
pub async fn me(caller: Caller) -> Json<MeReply> {
    let device_key_known = match &caller.by {
        By::Browser { device_key, .. } => device_key.is_some(),
        By::Device { .. } => true,
    };
    Json(MeReply { me: Me::from(&caller.account), device_key_known })
}
