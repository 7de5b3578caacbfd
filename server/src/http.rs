//! HTTP handlers; the file is the route. And how a JSON body and a path are read, so that their errors have words too.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::JsonRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::{
    error::Error,
    refusal::{Code, Refusal},
};

pub mod archive;
pub mod cases;
pub mod devices;
pub mod gateways;
pub mod grants;
pub mod health;
pub mod items;
pub mod login;
pub mod pages;
pub mod registers;

/// A body that is read into memory, at most; items go to disk as they come.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// A JSON body, or `malformed` / `too_large` in words.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;
    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(JsonRejection::BytesRejection(e)) if e.status() == 413 => {
                Err(Refusal::with(Code::TooLarge, MAX_BODY_BYTES).into())
            }
            Err(e) => Err(Refusal::with(Code::Malformed, e.body_text()).into()),
        }
    }
}

/// A body as text, with the same limit and the same words.
pub struct Text(pub String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Error;
    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = Bytes::from_request(request, state).await.map_err(|e| match e.status().as_u16() {
            413 => Refusal::with(Code::TooLarge, MAX_BODY_BYTES),
            _ => Refusal::with(Code::Malformed, e.body_text()),
        })?;
        let text = String::from_utf8(bytes.into());
        text.map(Self).map_err(|_| Refusal::with(Code::Malformed, "it is not UTF-8").into())
    }
}

/// Path parts. What cannot be an id names nothing: 404, as for an unknown one.
pub struct At<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let Path(value) = Path::<T>::from_request_parts(parts, state).await.map_err(|_| Code::NoSuchPath)?;
        Ok(Self(value))
    }
}
