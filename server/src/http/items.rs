//! Sealed items up and down. Members only; to everybody else neither case nor item exists.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lotse_protocol::{
    command::MAX_ITEM_BYTES,
    id::{CaseId, Digest},
    policy::{Verb, allowed},
};

use super::At;
use crate::{
    app::App,
    caller::Caller,
    error::Error,
    refusal::{Code, Refusal},
    store::blobs::{self, Found},
};

/// `PUT /api/v1/cases/{case}/items/{digest}`
pub async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((case, digest)): At<(CaseId, Digest)>,
    request: Request,
) -> Result<StatusCode, Error> {
    may(&app, &caller, case, Verb::Write).await?;
    let said = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|n| n > MAX_ITEM_BYTES) {
        return Err(Refusal::with(Code::TooLarge, MAX_ITEM_BYTES).into());
    }
    let is_new = blobs::put(&app.store, case, digest, request.into_body().into_data_stream()).await?;
    Ok(if is_new { StatusCode::CREATED } else { StatusCode::OK })
}

/// `GET /api/v1/cases/{case}/items/{digest}`
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    At((case, digest)): At<(CaseId, Digest)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    may(&app, &caller, case, Verb::Read).await?;
    let found = blobs::get(&app.store, case, digest).await?;
    let size = match &found {
        Found::Small(bytes) => bytes.len() as u64,
        Found::Large { size, .. } => *size,
    };
    let asked = headers.get(header::RANGE).and_then(|v| v.to_str().ok()).and_then(|r| range(r, size));
    let (start, end) = match asked {
        Some(Ok(range)) => range,
        Some(Err(())) => {
            let total = HeaderValue::from_str(&format!("bytes */{size}")).map_err(|e| Error::Us(e.to_string()))?;
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, total)]).into_response());
        }
        None => (0, size),
    };
    let body = match found {
        // Within the bytes: `range` checked both ends.
        Found::Small(bytes) => Body::from(bytes.get(start as usize..end as usize).unwrap_or_default().to_vec()),
        Found::Large { file, .. } => Body::from_stream(blobs::stream(file, start, end - start).await?),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    // Named by its digest: it never changes. Private: it belongs to who asked.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    if asked.is_some() {
        let text = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&text).map_err(|e| Error::Us(e.to_string()))?);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

async fn may(app: &App, caller: &Caller, case: CaseId, verb: Verb) -> Result<(), Error> {
    let standing = app.log.standing(caller.account.id, caller.role(), case).await?;
    if allowed(caller.role(), verb, standing.relation) { Ok(()) } else { Err(Code::Forbidden.into()) }
}

/// One byte range as start and end (exclusive). `None`: to be ignored (RFC 9110, 14.2), `Err`: beyond the end.
pub fn range(text: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let tail: u64 = last.parse().ok()?;
        return Some(if tail == 0 { Err(()) } else { Ok((size.saturating_sub(tail), size)) });
    }
    let first: u64 = first.parse().ok()?;
    let end = if last.is_empty() { size } else { last.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    Some(if first < end { Ok((first, end)) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn one_range_is_understood_and_the_rest_is_ignored_or_refused() {
        assert_eq!(range("bytes=0-3", 10), Some(Ok((0, 4))));
        assert_eq!(range("bytes=4-", 10), Some(Ok((4, 10))));
        assert_eq!(range("bytes=-3", 10), Some(Ok((7, 10))));
        assert_eq!(range("bytes=8-99", 10), Some(Ok((8, 10))));
        assert_eq!(range("bytes=10-", 10), Some(Err(())));
        assert_eq!(range("bytes=5-2", 10), Some(Err(())));
        assert_eq!(range("bytes=0-1,4-5", 10), None);
        assert_eq!(range("lines=0-1", 10), None);
        assert_eq!(range("bytes=0-18446744073709551615", 10), None);
    }
}
