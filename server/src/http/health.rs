//! Is the program alive, and can it do its work?

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode};

use crate::app::App;

/// `GET /healthz`
pub async fn alive() -> &'static str {
    "alive"
}

/// `GET /readyz`: the database answers within a second.
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    let asked = sqlx::query("select 1").execute(&app.store.pool);
    match tokio::time::timeout(Duration::from_secs(1), asked).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer"),
    }
}
