//! Hands requests under `/archive/` through to the archivist, as a stream, and says so when it is down.
//!
//! Never: reads what passes (it is sealed), or decides about it: the grant is checked by the archivist.
//! Elsewhere: that the caller is logged in (`router`); a grant in somebody else's hands opens nothing.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, header},
    response::Response,
};

use crate::{app::App, error::Error, refusal::Code};

/// What of a request concerns the archivist.
const UP: [HeaderName; 4] = [header::RANGE, header::IF_RANGE, header::ACCEPT, header::ACCEPT_LANGUAGE];
/// What of its answer concerns the caller.
const DOWN: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_DISPOSITION,
    header::ACCEPT_RANGES,
    header::CACHE_CONTROL,
    header::ETAG,
];

/// `GET /archive/…`
pub async fn pass_on(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let url = format!("{}{path}", app.config.archive.url);
    let mut onward = app.archive.request(request.method().clone(), url);
    for (name, value) in chosen(request.headers(), &UP) {
        onward = onward.header(name, value);
    }
    let answer = onward.send().await.map_err(|e| {
        tracing::warn!("the archivist does not answer: {}", e.without_url());
        Code::ArchiveDown
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status();
    for (name, value) in chosen(answer.headers(), &DOWN) {
        response.headers_mut().append(name, value.clone());
    }
    *response.body_mut() = Body::from_stream(answer.bytes_stream());
    Ok(response)
}

fn chosen<'a>(
    headers: &'a HeaderMap,
    names: &'a [HeaderName],
) -> impl Iterator<Item = (&'a HeaderName, &'a header::HeaderValue)> {
    headers.iter().filter(|(name, _)| names.contains(name))
}
