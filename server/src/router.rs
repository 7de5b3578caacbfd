//! Every address the server answers under, and what all answers share: limits, security headers, errors with words.
//!
//! Owns: the one table of routes with who may call each. The router is made from it and from nothing else, so a test that walks the
//! table walks everything (`server/tests`). Never: lets a request to a handler whose caller the table does not name.
//! Elsewhere: one file per route in `http/`, the live socket in `live/`, rights within a case (each handler asks the policy).

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    handler::Handler as _,
    http::{HeaderName, HeaderValue, Method, Uri, header},
    middleware::{self, Next},
    response::Response,
    routing::{MethodFilter, MethodRouter, any, on},
};
use lotse_protocol::{
    envelope::GatewayWay,
    policy::{Relation, Role, Verb, allowed},
};
use tower_http::{compression::CompressionLayer, set_header::SetResponseHeaderLayer};

use crate::{
    app::App,
    caller::{self, Caller},
    error::{self, Error},
    front,
    http::{self, archive, cases, devices, gateways, grants, health, items, login, pages, registers},
    live::socket,
    refusal::Code,
    store::gateways::Gateway,
};

/// Nothing is inline: not a script, not a style (Svelte sets styles as properties, which needs no leave). `script-src
/// 'wasm-unsafe-eval'` is not granted; workers and media come from blobs the page itself makes.
pub const CONTENT_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob: data:; media-src 'self' blob:; font-src 'self'; connect-src 'self'; worker-src 'self' blob:; \
    object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What every answer carries, errors and files included.
pub const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()"),
];

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Who has proven nothing yet, or proves it in this very request.
    Anybody,
    /// Who is logged in or paired, whatever their role.
    Known,
    /// Whose role may do this where no case is concerned.
    May(Verb),
    /// Whose relation to `{case}` lets them do one of these.
    InCase(&'static [Verb]),
    /// The same, and of this role only.
    InCaseAs(Role, Verb),
    /// Who is logged in; the archivist checks their grant.
    Granted,
    /// A foreign client with a token for this way, and for `{case}`. Nobody with an account.
    Gateway(GatewayWay),
}

/// One address with one method.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub who: Who,
    made: fn(MethodFilter) -> MethodRouter<Arc<App>>,
}

const fn route(
    method: Method,
    path: &'static str,
    who: Who,
    made: fn(MethodFilter) -> MethodRouter<Arc<App>>,
) -> Route {
    Route { method, path, who, made }
}

const WHIP: &str = "/api/v1/cases/{case}/whip";
const WHEP: &str = "/api/v1/cases/{case}/whep";
const WHIP_RESOURCE: &str = "/api/v1/cases/{case}/whip/{resource}";
const WHEP_RESOURCE: &str = "/api/v1/cases/{case}/whep/{resource}";

/// All of them. What is not listed is a page of the web app, or does not exist.
pub static ROUTES: [Route; 28] = [
    route(Method::POST, "/api/v1/login", Who::Anybody, |m| on(m, login::login)),
    route(Method::POST, "/api/v1/logout", Who::Anybody, |m| on(m, login::logout)),
    route(Method::GET, "/api/v1/me", Who::Known, |m| on(m, login::me)),
    route(Method::GET, "/api/v1/cases", Who::May(Verb::ListCases), |m| on(m, cases::list)),
    route(Method::POST, "/api/v1/cases", Who::May(Verb::OpenCase), |m| on(m, cases::open)),
    route(Method::PUT, "/api/v1/cases/{case}/items/{digest}", Who::InCase(&[Verb::Write]), |m| {
        on(m, items::put).layer(DefaultBodyLimit::disable())
    }),
    route(Method::GET, "/api/v1/cases/{case}/items/{digest}", Who::InCase(&[Verb::Read]), |m| on(m, items::get)),
    route(Method::GET, "/api/v1/cases/{case}/bundle-log", Who::InCaseAs(Role::Archivist, Verb::Read), |m| {
        on(m, cases::bundle_log)
    }),
    route(Method::POST, "/api/v1/cases/{case}/grants", Who::InCase(&[Verb::Replay, Verb::Export]), |m| {
        on(m, grants::grant)
    }),
    route(Method::GET, "/api/v1/registers", Who::Known, |m| on(m, registers::all)),
    route(Method::POST, "/api/v1/devices/pair", Who::Anybody, |m| on(m, devices::pair)),
    route(Method::POST, "/api/v1/devices/challenge", Who::Anybody, |m| on(m, devices::challenge)),
    route(Method::POST, "/api/v1/devices/token", Who::Anybody, |m| on(m, devices::token)),
    route(Method::POST, WHIP, Who::Gateway(GatewayWay::Publish), |m| on(m, gateways::come)),
    route(Method::POST, WHEP, Who::Gateway(GatewayWay::Watch), |m| on(m, gateways::come)),
    route(Method::DELETE, WHIP_RESOURCE, Who::Gateway(GatewayWay::Publish), |m| on(m, gateways::go)),
    route(Method::DELETE, WHEP_RESOURCE, Who::Gateway(GatewayWay::Watch), |m| on(m, gateways::go)),
    route(Method::PATCH, WHIP_RESOURCE, Who::Gateway(GatewayWay::Publish), |m| on(m, gateways::patch)),
    route(Method::PATCH, WHEP_RESOURCE, Who::Gateway(GatewayWay::Watch), |m| on(m, gateways::patch)),
    // A browser's question before it sends a token.
    route(Method::OPTIONS, WHIP, Who::Anybody, |m| on(m, gateways::options)),
    route(Method::OPTIONS, WHEP, Who::Anybody, |m| on(m, gateways::options)),
    route(Method::OPTIONS, WHIP_RESOURCE, Who::Anybody, |m| on(m, gateways::options)),
    route(Method::OPTIONS, WHEP_RESOURCE, Who::Anybody, |m| on(m, gateways::options)),
    route(Method::GET, "/api/v1/live", Who::Known, |m| on(m, socket::live)),
    route(Method::GET, "/archive/{*rest}", Who::Granted, |m| on(m, archive::pass_on)),
    // Is the archivist there? Asked by whoever looks after the machine.
    route(Method::GET, "/archive/healthz", Who::Anybody, |m| on(m, archive::pass_on)),
    route(Method::GET, "/healthz", Who::Anybody, |m| on(m, health::alive)),
    route(Method::GET, "/readyz", Who::Anybody, |m| on(m, health::ready)),
];

pub fn routes(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        // Only methods of our own table, all of them known to the filter.
        let Ok(method) = MethodFilter::try_from(route.method.clone()) else { continue };
        let who = route.who;
        let guarded =
            (route.made)(method).route_layer(middleware::from_fn(move |request, next| admit(who, request, next)));
        router = router.route(route.path, guarded);
    }
    let https = app.config.is_https();
    router = router
        .route("/api/{*rest}", any(no_such_path))
        .method_not_allowed_fallback(wrong_method)
        // Pages only: what a case says is sealed, and secrets are not packed beside what a stranger may choose.
        .fallback(pages::page.layer(CompressionLayer::new()))
        .layer(middleware::from_fn_with_state(app.clone(), caller::identify))
        .layer(middleware::from_fn_with_state(app.clone(), refuse_at_the_end))
        .layer(middleware::from_fn_with_state(app.clone(), front::demand_tls))
        .layer(middleware::from_fn(error::render))
        .layer(middleware::from_fn(gateways::open_to_pages))
        .layer(DefaultBodyLimit::max(http::MAX_BODY_BYTES));
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
    };
    for (name, value) in HEADERS {
        router = router.layer(header(HeaderName::from_static(name), value));
    }
    // Browsers heed it only where it came by TLS they trust (RFC 6797 8.1).
    if https {
        router = router.layer(header(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    }
    router.with_state(app)
}

/// Lets a request through to its handler, when the table says so.
async fn admit(who: Who, request: Request, next: Next) -> Result<Response, Error> {
    let caller = request.extensions().get::<Caller>();
    match (who, caller) {
        (Who::Anybody, _) => {}
        (Who::Gateway(way), _) => match request.extensions().get::<Gateway>() {
            Some(gateway) if gateway.way == way => {}
            None if caller.is_none() => return Err(Code::NotLoggedIn.into()),
            _ => return Err(Code::OtherWay.into()),
        },
        (_, None) => return Err(Code::NotLoggedIn.into()),
        (Who::May(verb), Some(caller)) if !allowed(caller.role(), verb, Relation::Outsider) => {
            return Err(Code::Forbidden.into());
        }
        // Where somebody stands in a case is asked by the handler, with its one answer for foreign and unknown cases.
        _ => {}
    }
    Ok(next.run(request).await)
}

/// A server that stops begins nothing new.
async fn refuse_at_the_end(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Error> {
    if *app.stop.borrow() { Err(Code::ServerStops.into()) } else { Ok(next.run(request).await) }
}

/// RFC 9725 wants methods told from addresses; everywhere else neither is told.
async fn wrong_method(uri: Uri) -> Error {
    if gateways::is_address(uri.path()) { Code::WrongMethod.into() } else { Code::NoSuchPath.into() }
}

async fn no_such_path() -> Error {
    Code::NoSuchPath.into()
}
