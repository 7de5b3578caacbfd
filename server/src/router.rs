//! Every address the server answers under, and what all answers share: limits, security headers, errors with words.
//!
//! Elsewhere: one file per route in `http/`, the live socket in `live/`.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, header},
    middleware,
    routing::{any, get, post, put},
};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    app::App,
    caller,
    error::{self, Error},
    front,
    http::{archive, cases, devices, grants, health, items, login, pages, registers},
    live::socket,
    refusal::Code,
};

/// JSON bodies are small.
const MAX_JSON_BYTES: usize = 64 * 1024;

/// `script-src 'wasm-unsafe-eval'` is not granted; workers and media come from blobs the page itself makes.
const CONTENT_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' blob: data:; media-src 'self' blob:; font-src 'self'; connect-src 'self'; worker-src 'self' blob:; \
    object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub fn routes(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/login", post(login::login))
        .route("/logout", post(login::logout))
        .route("/me", get(login::me))
        .route("/cases", get(cases::list).post(cases::open))
        .route("/cases/{case}/items/{digest}", put(items::put).layer(DefaultBodyLimit::disable()))
        .route("/cases/{case}/items/{digest}", get(items::get))
        .route("/cases/{case}/bundle-log", get(cases::bundle_log))
        .route("/cases/{case}/grants", post(grants::grant))
        .route("/registers", get(registers::all))
        .route("/devices/pair", post(devices::pair))
        .route("/devices/challenge", post(devices::challenge))
        .route("/devices/token", post(devices::token))
        .route("/live", get(socket::live))
        .fallback(no_such_path);
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    let https = app.config.is_https();
    let routes = Router::new()
        .nest("/api/v1", api)
        .route("/api/{*rest}", any(no_such_path))
        .route("/archive/{*rest}", any(archive::pass_on))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(pages::page)
        .layer(middleware::from_fn_with_state(app.clone(), caller::identify))
        .layer(middleware::from_fn_with_state(app.clone(), front::demand_tls))
        .layer(middleware::from_fn(error::render))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .layer(header(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(header(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(header(
            HeaderName::from_static("permissions-policy"),
            "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()",
        ));
    // Browsers heed it only where it came by TLS they trust (RFC 6797 8.1).
    let routes = match https {
        true => routes.layer(header(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000")),
        false => routes,
    };
    routes.with_state(app)
}

async fn no_such_path() -> Error {
    Code::NoSuchPath.into()
}
