//! What the archivist answers over HTTP, behind the server's `/archive/`.
//!
//! Owns: the routes, and refusals in German and English. Never: answers without a grant, except about its health.
//! Elsewhere: fragments (`replay`), bundles (`bundle`).

use std::sync::{Arc, PoisonError, atomic::Ordering};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use lotse_operations::disk;
use lotse_protocol::{
    error::{ApiError, ErrorBody},
    id::{CaseId, Digest},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{
    archivist::{Linked, MediaWay, Trouble},
    bundle::Maker,
    grant::{self, Refusal, Verb},
    link::ServerClock,
    replay,
};

/// Bundles made at once: each reads a whole case. A further one waits.
const BUNDLES: usize = 2;

pub struct Service {
    pub maker: Arc<Maker>,
    pub clock: Arc<ServerClock>,
    pub trouble: Trouble,
    pub linked: Linked,
    pub media_way: MediaWay,
    bundles: Semaphore,
}

#[derive(Deserialize)]
struct Granted {
    grant: Option<String>,
}

pub fn router(
    maker: Arc<Maker>,
    clock: Arc<ServerClock>,
    trouble: Trouble,
    linked: Linked,
    media_way: MediaWay,
) -> Router {
    let service = Service { maker, clock, trouble, linked, media_way, bundles: Semaphore::new(BUNDLES) };
    Router::new()
        .route("/healthz", get(|| async { "alive" }))
        .route("/readyz", get(ready))
        .route("/archive/healthz", get(health))
        .route("/archive/cases/{case}/media/{digest}", get(media))
        .route("/archive/cases/{case}/bundle", get(bundle))
        .fallback(|headers: HeaderMap| async move { refuse(&headers, StatusCode::NOT_FOUND, "no_such_path") })
        .with_state(Arc::new(service))
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    let trouble = service.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if trouble.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("disk: {trouble}\n")).into_response()
    }
}

/// What a recording needs, each `ok` or what is wrong. Never a figure, a path or a name.
#[derive(Serialize)]
struct Report {
    ready: bool,
    /// What is recorded can be written.
    recording: &'static str,
    /// Of the data folder: more than 256 MiB are free.
    disk: &'static str,
    server: &'static str,
    /// Told only: by which way they came last.
    media: &'static str,
}

async fn ready(State(service): State<Arc<Service>>) -> Response {
    let well = service.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    let recording = if well { "ok" } else { "the disk refuses" };
    let disk = match disk::space(&service.maker.config.data) {
        Ok(space) if space.free >= disk::LITTLE => "ok",
        Ok(_) => "nearly full",
        Err(_) => "cannot be read",
    };
    let server = if service.linked.load(Ordering::Relaxed) { "ok" } else { "no link" };
    let media = service.media_way.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or("none yet");
    let ready = [recording, disk, server].iter().all(|said| *said == "ok");
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Report { ready, recording, disk, server, media })).into_response()
}

async fn media(
    State(service): State<Arc<Service>>,
    Path((case, digest)): Path<(String, String)>,
    Query(granted): Query<Granted>,
    headers: HeaderMap,
) -> Response {
    let (Ok(case), Ok(digest)) = (case.parse::<CaseId>(), digest.parse::<Digest>()) else {
        return refuse(&headers, StatusCode::NOT_FOUND, "no_such_item");
    };
    if let Err(e) = service.check(&granted, case, Verb::Replay) {
        return refused(&headers, e);
    }
    let asked = headers.get(header::RANGE).and_then(|r| r.to_str().ok());
    match replay::media(&service.maker.config.data, case, &digest, asked).await {
        Some(response) => response,
        None => refuse(&headers, StatusCode::NOT_FOUND, "no_such_item"),
    }
}

async fn bundle(
    State(service): State<Arc<Service>>,
    Path(case): Path<String>,
    Query(granted): Query<Granted>,
    headers: HeaderMap,
) -> Response {
    let Ok(case) = case.parse::<CaseId>() else {
        return refuse(&headers, StatusCode::NOT_FOUND, "no_such_item");
    };
    if let Err(e) = service.check(&granted, case, Verb::Export) {
        return refused(&headers, e);
    }
    let _place = service.bundles.acquire().await;
    let made = service.maker.clone().make(case).await;
    let (spool, number) = match made {
        Ok(made) => made,
        Err(e) => {
            tracing::error!(%case, "{e}");
            return refuse(&headers, StatusCode::BAD_GATEWAY, "bundle_failed");
        }
    };
    // An open file stays readable after its folder was removed with the spool.
    let opened = async {
        let file = tokio::fs::File::open(spool.tar()).await?;
        let len = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, len))
    };
    let (file, len) = match opened.await {
        Ok(opened) => opened,
        Err(e) => {
            tracing::error!(%case, "the finished bundle cannot be read: {e}");
            return refuse(&headers, StatusCode::BAD_GATEWAY, "bundle_failed");
        }
    };
    let name: String = number.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let mut response = Response::new(replay::stream(file, len));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    out.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"lotse-{name}.tar\"")) {
        out.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

impl Service {
    fn check(&self, granted: &Granted, case: CaseId, verb: Verb) -> Result<(), Refusal> {
        let key = &self.maker.enrolment.server_key;
        grant::check(granted.grant.as_deref(), key, case, verb, self.clock.now_ms()).map(|_| ())
    }
}

fn refused(headers: &HeaderMap, why: Refusal) -> Response {
    let code = match why {
        Refusal::Missing | Refusal::Invalid | Refusal::OtherCase => "bad_grant",
        Refusal::Expired => "expired_grant",
    };
    refuse(headers, StatusCode::FORBIDDEN, code)
}

/// Code, German, English.
const WORDS: [(&str, &str, &str); 5] = [
    (
        "no_such_path",
        "Diese Adresse gibt es nicht. Öffnen Sie den Fall neu.",
        "There is no such address. Open the case again.",
    ),
    (
        "no_such_item",
        "Dieses Stück der Aufzeichnung liegt hier nicht. Laden Sie den Fall neu; fehlt es weiter, stellen Sie das Archiv aus der Sicherung wieder her.",
        "This piece of the recording is not here. Load the case again; if it stays missing, restore the archive from its backup.",
    ),
    (
        "bad_grant",
        "Diese Freigabe gilt hier nicht. Öffnen Sie den Fall mit einem Grund, dann bekommen Sie eine neue.",
        "This grant does not open this. Open the case with a reason to get a new one.",
    ),
    (
        "expired_grant",
        "Die Freigabe ist abgelaufen (fünf Minuten). Die Seite holt eine neue, wenn Sie es noch einmal versuchen.",
        "The grant has expired (five minutes). Try again: the page fetches a new one.",
    ),
    (
        "bundle_failed",
        "Das Fallpaket konnte nicht erstellt werden. Versuchen Sie es noch einmal; bleibt es dabei, hilft das Protokoll des Archivars weiter.",
        "The case bundle could not be made. Try again; if it stays, the archivist's log says why.",
    ),
];

fn refuse(headers: &HeaderMap, status: StatusCode, code: &str) -> Response {
    let german = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|l| l.to_str().ok())
        .is_some_and(|l| l.trim_start().to_ascii_lowercase().starts_with("de"));
    let message = WORDS.iter().find(|w| w.0 == code).map_or(code, |w| if german { w.1 } else { w.2 });
    let number = uuid::Uuid::new_v4().as_u128() as u16;
    let error = ApiError { code: code.into(), message: message.into(), request_id: format!("{number:04x}") };
    (status, Json(ErrorBody { error })).into_response()
}
