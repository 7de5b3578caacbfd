//! A grant: five minutes at the archivist for somebody who gave a reason that stands in the log.

use std::sync::Arc;

use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lotse_protocol::{
    envelope::{self, AuthorFields, ServerFields},
    id::{CaseId, EventId},
    kind,
    policy::{Verb, allowed},
};
use serde::{Deserialize, Serialize};

use super::{At, Body};
use crate::{
    app::App,
    caller::Caller,
    error::Error,
    refusal::{Code, Refusal},
    store::{now_ms, reader},
};

/// A grant is good this long, ms.
const LIFE_MS: i64 = 5 * 60 * 1000;
/// A reason is good this long, ms: a working day.
const REASON_MS: i64 = 8 * 3600 * 1000;

#[derive(Deserialize)]
pub struct Wanted {
    /// The caller's own `viewed` or `exported` event.
    event: EventId,
    verb: String,
}

#[derive(Serialize)]
pub struct Grant {
    grant: String,
    expires_ms: i64,
}

/// `POST /api/v1/cases/{case}/grants`
pub async fn grant(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(case): At<CaseId>,
    Body(wanted): Body<Wanted>,
) -> Result<Json<Grant>, Error> {
    let standing = app.log.standing(caller.account.id, caller.role(), case).await?;
    let (kind, verb) = match wanted.verb.as_str() {
        "replay" => (kind::VIEWED, Verb::Replay),
        "export" => (kind::EXPORTED, Verb::Export),
        _ => return Err(Refusal::with(Code::Malformed, "verb is \"replay\" or \"export\"").into()),
    };
    if !allowed(caller.role(), verb, standing.relation) {
        return Err(Code::Forbidden.into());
    }
    let mut db = app.store.pool.acquire().await?;
    let found = reader::by_id(&mut db, case, wanted.event).await?;
    let (_, reason) = found.ok_or(Code::Forbidden)?;
    let (fields, server) = (AuthorFields::read(&reason.author)?, ServerFields::read(&reason.server)?);
    let now = now_ms();
    if fields.kind != kind || fields.author != standing.me || server.received_at_ms < now - REASON_MS {
        return Err(Code::Forbidden.into());
    }
    let expires_ms = now + LIFE_MS;
    let text = serde_json::json!({
        "v": 1, "case": case, "verb": wanted.verb, "event": wanted.event, "expires_ms": expires_ms,
    })
    .to_string();
    let sig = envelope::sign(&app.keys.signing, &text);
    let grant = format!("{}.{}", URL_SAFE_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(sig.0));
    Ok(Json(Grant { grant, expires_ms }))
}
