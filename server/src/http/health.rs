//! Is the program alive, and can it do its work?
//!
//! Never: tells a figure, a path or a name to whoever asks; anybody may. The answer is looked for at most once a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, extract::State, http::StatusCode};
use lotse_operations::disk;
use serde::Serialize;
use tokio::{sync::Mutex, task::JoinHandle};

use crate::{app::App, error::Error};

/// What does not answer within this is said not to answer.
const WITHIN: Duration = Duration::from_secs(1);
/// Looking takes the database's one write lock for a moment: not more often than this, however many ask.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The last answer and when it was found.
#[derive(Default)]
pub struct Readiness(Mutex<Last>);

#[derive(Default)]
struct Last {
    found: Option<(Instant, Report)>,
    /// Asks the database, and may be at it for as long as that waits for a lock. One at a time: each holds a connection.
    writing: Option<JoinHandle<bool>>,
}

/// Each is `ok` or what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Report {
    ready: bool,
    /// Takes a write transaction.
    database: &'static str,
    /// Of the data folder: more than 256 MiB are free.
    disk: &'static str,
    /// The threads that carry media.
    workers: &'static str,
    /// Told only: without it calls go on, and nothing is recorded.
    archivist: &'static str,
}

/// `GET /healthz`
pub async fn alive() -> &'static str {
    "alive"
}

/// `GET /readyz`
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Report>) {
    let mut last = app.readiness.0.lock().await;
    let report = match last.found {
        Some((at, report)) if at.elapsed() < LOOK_EVERY => report,
        _ => {
            let report = look(&app, &mut last.writing).await;
            last.found = Some((Instant::now(), report));
            report
        }
    };
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

async fn look(app: &Arc<App>, writing: &mut Option<JoinHandle<bool>>) -> Report {
    let begin = || {
        let app = app.clone();
        tokio::spawn(async move { can_write(&app).await.is_ok() })
    };
    let mut asking = writing.take().unwrap_or_else(begin);
    let url = format!("{}/archive/healthz", app.config.archive.url);
    let asked = async { app.archive.get(url).send().await.map(|r| r.status().is_success()) };
    let (database, workers, archivist) = tokio::join!(
        tokio::time::timeout(WITHIN, &mut asking),
        app.sfu.answers(WITHIN),
        tokio::time::timeout(WITHIN, asked),
    );
    let database = match database {
        Ok(Ok(true)) => "ok",
        Ok(_) => "refuses to write",
        Err(_) => {
            *writing = Some(asking);
            "does not answer"
        }
    };
    let disk = match disk::space(&app.config.data.dir) {
        Ok(space) if space.free >= disk::LITTLE => "ok",
        Ok(_) => "nearly full",
        Err(_) => "cannot be read",
    };
    let workers = if workers { "ok" } else { "do not answer" };
    let archivist = match archivist {
        Ok(Ok(true)) => "ok",
        Ok(Ok(false)) => "in trouble",
        Ok(Err(_)) | Err(_) => "does not answer",
    };
    let ready = [database, disk, workers].iter().all(|said| *said == "ok");
    Report { ready, database, disk, workers, archivist }
}

/// Takes the write lock and gives it back; nothing is written.
async fn can_write(app: &App) -> Result<(), Error> {
    let tx = app.store.pool.begin_with("begin immediate").await?;
    Ok(tx.rollback().await?)
}
