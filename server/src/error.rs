//! What can go wrong in the server, grouped by who must act: the caller, the operator, us.
//!
//! Owns: the one error type of this crate and how it becomes an HTTP answer.
//! Elsewhere: the sentences for callers (`refusal`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use lotse_protocol::{ProtocolError, chain::ChainError, error::ErrorBody};

use crate::refusal::{Code, Language, Refusal, request_id};

/// A full disk and a locked database fail every write; the one remedy is not said more often.
const TELL_AGAIN: Duration = Duration::from_secs(10);
static TOLD: Mutex<Option<Instant>> = Mutex::new(None);

/// Anything that ends a request, a command or a start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The caller must act; the sentence says how.
    #[error("{}", .0.sentence(Language::En))]
    Refused(Refusal),
    /// The operator must act: settings, folders, ports, keys.
    #[error("{what}. {remedy}")]
    Operator { what: String, remedy: String },
    /// We must act. Logged once, where it is turned into an answer.
    #[error("{0}")]
    Us(String),
}

impl Error {
    pub fn operator(what: impl ToString, remedy: impl ToString) -> Self {
        Self::Operator { what: what.to_string(), remedy: remedy.to_string() }
    }

    /// What the caller may read: our own trouble becomes `broken`, logged with the id they are shown.
    pub fn api_error(&self, language: Language) -> lotse_protocol::error::ApiError {
        let code = self.refusal().map_or(Code::Broken, |r| r.code);
        metrics::counter!("lotse_refusals_total", "code" => code.word()).increment(1);
        match self {
            Self::Refused(refusal) => refusal.api_error(language),
            other => {
                let request_id = request_id();
                tracing::error!(request_id, "{other}");
                let mut error = Refusal::from(Code::Broken).api_error(language);
                error.message = format!("{} ({request_id})", error.message);
                error.request_id = request_id;
                error
            }
        }
    }

    /// Is the trouble on our side, so that nothing of what was begun may stay?
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Us(_)) || self.refusal().is_some_and(|r| r.code == Code::Storage)
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.code.status(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::Refused(code.into())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<sqlx::Error> for Error {
    fn from(e: sqlx::Error) -> Self {
        let code = e.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
        match code.as_str() {
            // SQLITE_FULL, and SQLITE_IOERR_SHMSIZE: the file shared by its connections could not grow.
            "13" | "4874" => disk_full(&e),
            // SQLITE_BUSY, SQLITE_LOCKED: we waited as long as `busy_timeout` says.
            "5" | "6" => cannot_store(
                &format!("another program keeps the database locked: {e}"),
                "End the program that has lotse.sqlite open, a copy or an SQLite shell",
            ),
            _ => Self::Us(format!("database: {e}")),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(e.kind(), StorageFull | QuotaExceeded) { disk_full(&e) } else { Self::Us(format!("file: {e}")) }
    }
}

fn disk_full(e: &dyn std::fmt::Display) -> Error {
    cannot_store(&format!("the disk is full: {e}"), "Free space where [data] dir lies")
}

/// The caller may try again; the operator has to make that worth while, and is told at most once in [`TELL_AGAIN`].
fn cannot_store(what: &str, remedy: &str) -> Error {
    tracing::debug!("{what}");
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.is_none_or(|at| at.elapsed() > TELL_AGAIN) {
        *told = Some(Instant::now());
        tracing::error!("{what}. {remedy}; it goes on by itself, without a restart.");
    }
    Code::Storage.into()
}

impl From<lotse_operations::Error> for Error {
    fn from(e: lotse_operations::Error) -> Self {
        Self::operator(e.what, e.remedy)
    }
}

impl From<ProtocolError> for Error {
    fn from(e: ProtocolError) -> Self {
        Self::Refused(match e {
            ProtocolError::BadSignature => Code::BadSignature.into(),
            ProtocolError::TooLarge { limit, .. } => Refusal::with(Code::TooLarge, limit),
            ProtocolError::Malformed { what, why } => Refusal::with(Code::Malformed, format!("{what}: {why}")),
            other => Refusal::with(Code::Malformed, other),
        })
    }
}

impl From<ChainError> for Error {
    fn from(e: ChainError) -> Self {
        match e {
            ChainError::Event { source, .. } => source.into(),
            ChainError::Replayed { last, .. } => {
                let mut refusal = Refusal::with(Code::StaleDeviceSeq, last);
                refusal.last_device_seq = Some(last);
                Self::Refused(refusal)
            }
            ChainError::UnknownAuthor { .. } => Code::UnknownAuthor.into(),
            ChainError::IdReused { .. } => Code::IdReused.into(),
            other => Refusal::with(Code::Malformed, other).into(),
        }
    }
}

impl IntoResponse for Error {
    /// The status only; [`render`] writes the body, because it knows the caller's language.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Middleware: writes the body of a failed answer in the language the request asked for.
pub async fn render(request: Request, next: Next) -> Response {
    let language = request
        .headers()
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|v| v.to_str().ok())
        .map(Language::of)
        .unwrap_or_default();
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<Arc<Error>>() else { return response };
    let body = ErrorBody { error: error.api_error(language) };
    let mut rendered = (error.status(), axum::Json(body)).into_response();
    if let Error::Refused(r) = &*error
        && r.code == Code::TooManyTries
        && let Ok(value) = r.detail.parse()
    {
        rendered.headers_mut().insert(header::RETRY_AFTER, value);
    }
    for (name, value) in response.headers() {
        if name == header::SET_COOKIE {
            rendered.headers_mut().append(name, value.clone());
        }
    }
    rendered
}
