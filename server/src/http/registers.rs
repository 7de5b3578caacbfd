//! Customers, sites and assets, for everybody of the organisation.

use std::sync::Arc;

use axum::{Json, extract::State};

use crate::{
    app::App,
    caller::Caller,
    error::Error,
    store::registers::{self, Registers},
};

/// `GET /api/v1/registers`
pub async fn all(State(app): State<Arc<App>>, _: Caller) -> Result<Json<Registers>, Error> {
    Ok(Json(registers::all(&app.store.pool).await?))
}
