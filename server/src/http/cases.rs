//! Listing cases, opening a new one, and the whole log for the archivist's bundle.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body as HttpBody, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lotse_protocol::{
    chain::sign_head,
    command::CaseSummary,
    id::CaseId,
    policy::{Role, Verb, allowed},
};
use serde::{Deserialize, Serialize};

use super::{At, Body};
use crate::{
    app::App,
    caller::Caller,
    error::Error,
    refusal::{Code, Refusal},
    store::{now_ms, reader, registers::Place},
};

/// Cases in one answer, at most.
const PAGE: u32 = 100;
/// Events read at once for a bundle.
const BUNDLE_PAGE: u32 = 200;

#[derive(Deserialize)]
pub struct ListQuery {
    #[serde(default)]
    after: Option<u32>,
    #[serde(default)]
    limit: Option<u32>,
}

#[derive(Serialize)]
pub struct List {
    cases: Vec<CaseSummary>,
    /// Say this as `after` for the next page; absent on the last one.
    next: Option<u32>,
}

/// `GET /api/v1/cases`
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<List>, Error> {
    let Query(query) = query.map_err(|e| Refusal::with(Code::Malformed, e.body_text()))?;
    let role = caller.role();
    // A technician sees the cases they stand in; who only administers sees no words.
    let of = (role == Role::Technician).then_some(caller.account.id);
    let with_keys = role != Role::Administrator;
    let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(PAGE).clamp(1, PAGE));
    let mut cases = reader::cases(&app.store.pool, &app.keys, of, with_keys, after, limit + 1).await?;
    let more = cases.len() > limit as usize;
    cases.truncate(limit as usize);
    Ok(Json(List { cases, next: more.then(|| after + limit) }))
}

#[derive(Deserialize)]
pub struct NewCase {
    #[serde(default)]
    asset: Option<String>,
    #[serde(default)]
    customer: Option<String>,
    #[serde(default)]
    site: Option<String>,
    language: String,
}

/// `POST /api/v1/cases`
pub async fn open(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewCase>,
) -> Result<(StatusCode, Json<CaseSummary>), Error> {
    if !["de", "en"].contains(&new.language.as_str()) {
        return Err(Refusal::with(Code::Malformed, "language is \"de\" or \"en\"").into());
    }
    // An empty id is none.
    let given = |id: Option<String>| id.filter(|id| !id.is_empty());
    let place = Place { asset: given(new.asset), customer: given(new.customer), site: given(new.site) };
    let summary = app.log.new_case(caller.account.id, place, new.language).await?;
    Ok((StatusCode::CREATED, Json(summary)))
}

/// `GET /api/v1/cases/{case}/bundle-log`
pub async fn bundle_log(State(app): State<Arc<App>>, caller: Caller, At(case): At<CaseId>) -> Result<Response, Error> {
    let standing = app.log.standing(caller.account.id, caller.role(), case).await?;
    if caller.role() != Role::Archivist || !allowed(caller.role(), Verb::Read, standing.relation) {
        return Err(Code::Forbidden.into());
    }
    let end = standing.head;
    let lines = futures_util::stream::try_unfold(Some(0u64), move |after| {
        let app = app.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            if after >= end.seq {
                let head = sign_head(&app.keys.signing, end, now_ms());
                let line = serde_json::json!({ "head": head, "checkpoint_key": app.keys.public() });
                return Ok(Some((Bytes::from(format!("{line}\n")), None)));
            }
            let mut db = app.store.pool.acquire().await?;
            let limit = BUNDLE_PAGE.min(u32::try_from(end.seq - after).unwrap_or(BUNDLE_PAGE));
            let events = reader::events(&mut db, &app.keys, case, after, limit, false).await?;
            let at = events.last().map(|e| e.head.seq).ok_or_else(|| Error::Us("a log ends before its head".into()))?;
            let mut text = String::new();
            for event in events {
                text += &serde_json::to_string(&event.sent).unwrap_or_default();
                text.push('\n');
            }
            Ok::<_, Error>(Some((Bytes::from(text), Some(at))))
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], HttpBody::from_stream(lines)).into_response())
}
