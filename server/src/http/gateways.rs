//! WHIP in and WHEP out: foreign clients that publish into a session or watch it, each with a token of its own (RFC 9725).
//!
//! Owns: the addresses `/whip` and `/whep` of a case, and what stands in their answers. The client offers, the answer is whole:
//! nothing is trickled, and ICE is not restarted (PATCH: 501). Never: lets media flow; the session's fold decides that (`Session::may_call`).
//! Elsewhere: tokens (`store::gateways`), the leg (`lotse-sfu`), presence (`live::media`).

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use lotse_protocol::{envelope::GatewayWay, id::CaseId, signal::IceServer};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{At, Text};
use crate::{
    app::App,
    error::Error,
    live::{
        hub::ToHub,
        media::{Come, GatewayAsk, Go},
    },
    refusal::{Code, Refusal},
    store::gateways::{self, Gateway},
};

const SDP: &str = "application/sdp";
/// How often a live gateway's token is looked at: revoking ends it within this, as with devices.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A gateway whose token was found good by `caller::identify`, and whose way `router::admit` has checked.
impl<S: Sync> FromRequestParts<S> for Gateway {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get::<Gateway>().cloned().ok_or_else(|| Code::NotLoggedIn.into())
    }
}

/// `POST /api/v1/cases/{case}/whip` and `/whep`: SDP offer → 201 with the answer.
pub async fn come(
    State(app): State<Arc<App>>,
    gateway: Gateway,
    At(case): At<CaseId>,
    headers: HeaderMap,
    Text(sdp): Text,
) -> Result<Response, Error> {
    own(&gateway, case)?;
    let is = |name: HeaderName, fits: fn(&str) -> bool| headers.get(name).is_none_or(|v| v.to_str().is_ok_and(fits));
    let media_type = |v: &str| v.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !headers.get(header::CONTENT_TYPE).is_some_and(|v| v.to_str().is_ok_and(|v| media_type(v) == SDP)) {
        return Err(Code::NotSdp.into());
    }
    if !is(header::ACCEPT, |v| ["application/sdp", "application/*", "*/*"].iter().any(|kind| v.contains(kind))) {
        return Err(Refusal::with(Code::OfferRefused, "it does not accept application/sdp. Leave Accept out.").into());
    }
    // Nothing is written into the log for an offer that cannot be taken.
    lotse_sfu::check_offer(&sdp, gateway.way == GatewayWay::Publish).map_err(refused)?;
    let session = app.log.gateway(&gateway).await?;
    let resource = Uuid::new_v4();
    let (answer, answered) = oneshot::channel();
    let way = match gateway.way {
        GatewayWay::Publish => lotse_sfu::Way::Publish,
        GatewayWay::Watch => lotse_sfu::Way::Watch { first: session.caller },
    };
    let theirs = lotse_sfu::Gateway { who: gateway.who, way, sdp };
    let come = Come { session: session.id, resource, gateway: theirs, answer };
    app.hub.tell(ToHub::Gateway(GatewayAsk::Come(come))).await;
    let (sdp, relays) = answered.await.map_err(|_| Code::Busy)??;
    tokio::spawn(look_after(app.clone(), gateway.clone(), resource));
    let path = format!("/api/v1/cases/{case}/{}/{resource}", address(gateway.way));
    let mut response = (StatusCode::CREATED, sdp).into_response();
    let said =
        [(header::CONTENT_TYPE, SDP.to_owned()), (header::LOCATION, path), (header::ETAG, format!("\"{resource}\""))];
    for (name, value) in said.into_iter().chain(relays.iter().flat_map(links).map(|link| (header::LINK, link))) {
        let value = HeaderValue::from_str(&value).map_err(|e| Error::Us(format!("{name}: {e}")))?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// `DELETE /api/v1/cases/{case}/whip/{resource}` and `/whep/{resource}`: the client goes.
pub async fn go(
    State(app): State<Arc<App>>,
    gateway: Gateway,
    At((case, resource)): At<(CaseId, Uuid)>,
) -> Result<StatusCode, Error> {
    own(&gateway, case)?;
    if tell(&app, &gateway, resource, true).await { Ok(StatusCode::OK) } else { Err(Code::NoSuchResource.into()) }
}

/// `PATCH` of the same: neither trickle ICE nor restarts (RFC 9725, 4.3.1).
pub async fn patch() -> Error {
    Code::NoTrickle.into()
}

/// `OPTIONS`: pages of other sites may ask, because a token is no cookie: no browser adds it by itself.
pub async fn options() -> Response {
    let headers = [
        (HeaderName::from_static("accept-post"), SDP),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, DELETE, PATCH, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::OK, headers).into_response()
}

/// Is this one of the addresses above?
pub fn is_address(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/api/v1/cases/") else { return false };
    matches!(rest.split('/').nth(1), Some("whip" | "whep"))
}

/// Middleware: what pages of other sites may read of the answers above, errors included.
pub async fn open_to_pages(request: Request, next: Next) -> Response {
    let ours = is_address(request.uri().path());
    let mut response = next.run(request).await;
    if ours {
        let any = HeaderValue::from_static("*");
        let exposed = HeaderValue::from_static("Location, ETag, Link");
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
        response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

fn address(way: GatewayWay) -> &'static str {
    match way {
        GatewayWay::Publish => "whip",
        GatewayWay::Watch => "whep",
    }
}

/// A token is for one case; another one is as unknown as one that does not exist.
fn own(gateway: &Gateway, case: CaseId) -> Result<(), Error> {
    if gateway.case == case { Ok(()) } else { Err(Code::NoSuchCase.into()) }
}

/// RFC 9725, 4.6: one link for each address of a relay.
fn links(server: &IceServer) -> Vec<String> {
    let IceServer { urls, username, credential } = server;
    let link = |url: &String| {
        format!(
            "<{url}>; rel=\"ice-server\"; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
        )
    };
    urls.iter().map(link).collect()
}

/// Ends a live gateway when its token does.
async fn look_after(app: Arc<App>, gateway: Gateway, resource: Uuid) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        if !tell(&app, &gateway, resource, false).await {
            return;
        }
        // A database that does not answer now is asked again.
        if let Ok(false) = gateways::is_good(&app.store.pool, gateway.id).await {
            tell(&app, &gateway, resource, true).await;
            return;
        }
    }
}

/// Asks the media glue whether this resource lives, and to end it if so wished.
async fn tell(app: &App, gateway: &Gateway, resource: Uuid, end: bool) -> bool {
    let (answer, answered) = oneshot::channel();
    let go = Go { who: gateway.who, resource, end, answer };
    app.hub.tell(ToHub::Gateway(GatewayAsk::Go(go))).await;
    answered.await.unwrap_or(false)
}

/// What the SFU says about an offer, as HTTP says it.
pub fn refused(e: lotse_sfu::SfuError) -> Error {
    let code = match &e {
        lotse_sfu::SfuError::BadOffer { .. } => Code::BadOffer,
        lotse_sfu::SfuError::OfferRefused { .. } => Code::OfferRefused,
        _ => Code::MediaRefused,
    };
    let why = match e {
        lotse_sfu::SfuError::BadOffer { why } | lotse_sfu::SfuError::OfferRefused { why } => why,
        other => other.to_string(),
    };
    Refusal::with(code, why).into()
}
