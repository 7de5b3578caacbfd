//! Who is asking: a browser with its cookie, or a device with its token. And whether the request may come from there at all.
//!
//! Owns: reading the cookie and the bearer token, turning the cookie daily, the Origin and Host checks.
//! Never: decides what a caller may do (`policy`).

use std::{net::IpAddr, sync::Arc, time::Instant};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use lotse_protocol::{id::PublicKey, policy::Role};
use uuid::Uuid;

use crate::{
    app::App,
    config::Config,
    error::Error,
    front::Came,
    refusal::Code,
    store::{accounts::Account, devices, gateways, logins, now_ms},
};

pub const COOKIE: &str = "lotse_session";
/// The same over HTTPS: browsers take this name only with Secure, for this host alone and for every path, so that no neighbour
/// under the same domain can plant one.
pub const HOST_COOKIE: &str = "__Host-lotse_session";

/// Somebody who proved who they are.
#[derive(Debug, Clone)]
pub struct Caller {
    pub account: Account,
    pub by: By,
}

/// How they proved it.
#[derive(Debug, Clone)]
pub enum By {
    Browser { cookie: String, device_key: Option<PublicKey> },
    Device { id: Uuid, key: PublicKey },
}

impl Caller {
    pub fn role(&self) -> Role {
        self.account.role
    }

    /// Is the proof still good? Asked again for long-lived sockets.
    pub async fn still_valid(&self, app: &App) -> Result<bool, Error> {
        Ok(match &self.by {
            By::Browser { cookie, .. } => logins::of_account(&app.store.pool, cookie, self.account.id).await?,
            By::Device { id, .. } => devices::by_id(&app.store.pool, *id).await?.is_some(),
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| Code::NotLoggedIn.into())
    }
}

/// Middleware: refuses foreign hosts and origins, then finds out who is asking. Handlers that need somebody take a [`Caller`].
pub async fn identify(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let checked = check_place(&app, request.method(), request.headers());
    let identified = match checked {
        Ok(()) => find(&app, request.headers()).await,
        Err(e) => Err(e),
    };
    let (caller, turned) = match identified {
        Ok(found) => found,
        Err(e) => return e.into_response(),
    };
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    // It is nobody with an account: only the addresses for gateways take it.
    if let Some(token) = gateway_token(request.headers()) {
        match gateways::of_token(&app.store.pool, token).await {
            Ok(Some(gateway)) => _ = request.extensions_mut().insert(gateway),
            Ok(None) => return Error::from(Code::BadGatewayToken).into_response(),
            Err(e) => return e.into_response(),
        }
    }
    let mut response = next.run(request).await;
    // An answer that sets the cookie itself (login, logout) has the last word.
    if let Some(cookie) = turned
        && !response.headers().contains_key(header::SET_COOKIE)
    {
        set_cookie(&app, response.headers_mut(), &cookie);
    }
    response
}

/// The token of a foreign client, if one came.
fn gateway_token(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).filter(|token| token.starts_with(gateways::PREFIX))
}

async fn find(app: &App, headers: &HeaderMap) -> Result<(Option<Caller>, Option<String>), Error> {
    if gateway_token(headers).is_some() {
        return Ok((None, None));
    }
    if let Some(token) = bearer(headers) {
        let id = app.tokens.device(token, Instant::now()).ok_or(Code::StaleToken)?;
        let device = devices::by_id(&app.store.pool, id).await?.ok_or(Code::StaleToken)?;
        let by = By::Device { id: device.id, key: device.public_key };
        return Ok((Some(Caller { account: device.account, by }), None));
    }
    let Some(cookie) = cookie(headers, is_https(app)) else { return Ok((None, None)) };
    let Some(login) = logins::of_cookie(&app.store.pool, cookie, now_ms()).await? else { return Ok((None, None)) };
    let current = login.turned.clone().unwrap_or_else(|| cookie.to_owned());
    let by = By::Browser { cookie: current, device_key: login.device_key };
    Ok((Some(Caller { account: login.account, by }), login.turned))
}

/// Pages of other sites must neither act here nor reach us under a name of theirs.
fn check_place(app: &App, method: &Method, headers: &HeaderMap) -> Result<(), Error> {
    let Some(host) = text(headers, header::HOST) else { return Err(Code::WrongHost.into()) };
    if !is_own_host(host, &app.config) {
        return Err(Code::WrongHost.into());
    }
    let is_socket = headers.contains_key(header::SEC_WEBSOCKET_KEY);
    if method.is_safe() && !is_socket {
        return Ok(());
    }
    // A browser sends such a token only when a page hands it over, never by itself: whose page that is makes no difference.
    if gateway_token(headers).is_some() && !is_socket {
        return Ok(());
    }
    match text(headers, header::ORIGIN) {
        Some(origin) if is_own_origin(origin, host) => Ok(()),
        Some(_) => Err(Code::WrongOrigin.into()),
        // A program, not a browser. Who comes with a cookie, or to the live socket without a token, must say from where.
        None if bearer(headers).is_none() && (is_socket || headers.contains_key(header::COOKIE)) => {
            Err(Code::WrongOrigin.into())
        }
        None => Ok(()),
    }
}

/// An address, `localhost`, or a name of our settings. Any other name may be a foreign site's, pointed at us.
pub fn is_own_host(host: &str, config: &Config) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || [config.public_host()]
            .into_iter()
            .chain(config.tls.names.iter().map(String::as_str))
            .any(|own| !own.is_empty() && name.eq_ignore_ascii_case(own))
}

/// An origin is ours when its host is the one that was asked.
pub fn is_own_origin(origin: &str, host: &str) -> bool {
    let bare = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    bare.is_some_and(|o| o.eq_ignore_ascii_case(host))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::AUTHORIZATION)?.strip_prefix("Bearer ").map(str::trim)
}

/// Do browsers reach this server by HTTPS?
pub fn is_https(app: &App) -> bool {
    app.config.is_https()
}

fn cookie_name(https: bool) -> &'static str {
    if https { HOST_COOKIE } else { COOKIE }
}

/// The login cookie of a request.
pub fn cookie(headers: &HeaderMap, https: bool) -> Option<&str> {
    let ours = cookie_name(https);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .find_map(|pair| pair.trim().split_once('=').filter(|(name, _)| *name == ours).map(|(_, value)| value))
}

/// Sets the login cookie; an empty one removes it.
pub fn set_cookie(app: &App, headers: &mut HeaderMap, value: &str) {
    let https = app.config.is_https();
    let (name, secure) = (cookie_name(https), if https { "; Secure" } else { "" });
    let age = if value.is_empty() { 0 } else { 7 * 24 * 3600 };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// The peer's address.
pub struct Peer(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let info = parts.extensions.get::<ConnectInfo<Came>>();
        info.map(|i| Self(i.0.from.ip())).ok_or_else(|| Error::Us("a request without a peer address".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_the_public_name_are_our_host() {
        let with = |url: &str| {
            let env = |k: &str| match k {
                "LOTSE_HTTP_PUBLIC_URL" => Some(url.to_owned()),
                "LOTSE_TLS_NAMES" => Some("pumpe.local".into()),
                _ => None,
            };
            Config::load(None, env).expect("valid")
        };
        let (plain, public) = (with(""), with("https://lotse.example.com:8443"));
        for host in ["127.0.0.1:8080", "[::1]:8080", "localhost:5173", "LOCALHOST", "192.0.2.4", "Pumpe.local:8443"] {
            assert!(is_own_host(host, &plain), "{host}");
        }
        assert!(is_own_host("lotse.example.com", &public));
        assert!(is_own_host("lotse.example.com:8443", &public));
        for host in ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.example:80", "lotse.example.com.evil"] {
            assert!(!is_own_host(host, &public), "{host}");
        }
    }

    #[test]
    fn an_origin_is_ours_when_it_is_the_host_asked() {
        assert!(is_own_origin("http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(is_own_origin("https://lotse.example.com", "lotse.example.com"));
        assert!(!is_own_origin("http://127.0.0.1:9999", "127.0.0.1:8080"));
        assert!(!is_own_origin("null", "127.0.0.1:8080"));
    }
}
