//! The wear page: what the glasses show and offer, in a browser, for whoever plays the technician.
//!
//! Use: `let wear = Wear::start("127.0.0.1:8090", words)?` inside the async runtime; then `wear.present(png)` when the display has
//! changed, `wear.set_state(&report)` as often as it likes, `wear.camera(jpeg)` 5 to 10 times a second while `wear.wants_camera()`.
//! `wear.url()` for the ready line. Cheap to clone; the page ends with the last handle.
//! With a simulated link (`[server] simulated_link`) the page offers to change its kind.
//! The page reads of the state: `language`, `name`, `screen`, `case_number`, `link`, `recording`, `recording_since_ms`, `at_ms`, `watchers`,
//! `private`, `media`, `microphone_level`, `speaker_level`, `speaker_trouble`, `offered: [{word, label, focus, on_hud}]`; what is missing is not shown.
//!
//! Owns: the address, the files of the page, who is looking. Never: decides what is offered, keeps a picture longer than the next one.
//! Elsewhere: drawing (`hud`), what a word does (`core`). Only this page itself may speak to it: see `guard`.

mod guard;
mod live;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use tokio::{sync::watch, task::JoinHandle};

use crate::{error::GlassError, input::Words};

const PAGE: &str = include_str!("wear.html");
const LOOK: &str = include_str!("wear.css");
const SCRIPT: &str = include_str!("wear.js");
const TEXTS: &str = include_str!("texts.js");
const MEDIUM: &[u8] = include_bytes!("../../fonts/Inter-Medium.otf");
const BOLD: &[u8] = include_bytes!("../../fonts/Inter-Bold.otf");

/// A running wear page.
#[derive(Clone)]
pub struct Wear {
    shared: Arc<Shared>,
    address: SocketAddr,
    _server: Arc<Server>,
}

/// What everybody looking gets; each the newest, older ones are skipped.
struct Shared {
    hud: watch::Sender<Bytes>,
    camera: watch::Sender<Bytes>,
    /// JSON text.
    state: watch::Sender<Arc<str>>,
    words: Words,
    simulated_link: Option<PathBuf>,
    looking: AtomicUsize,
    wanting_camera: AtomicUsize,
}

struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wear {
    /// `address` as in `[hud] displays`, without `web:`; port 0 takes any. `simulated_link`: the file of its kind, or empty.
    /// Must be called inside the async runtime.
    pub fn start(address: &str, words: Words, simulated_link: &str) -> Result<Self, GlassError> {
        let broken = |e: std::io::Error| GlassError::Display { what: format!("web:{address}"), why: e.to_string() };
        let listener = TcpListener::bind(address).map_err(broken)?;
        listener.set_nonblocking(true).map_err(broken)?;
        let bound = listener.local_addr().map_err(broken)?;
        if !bound.ip().is_loopback() {
            tracing::warn!(
                "the wear page on {bound} shows and steers these glasses to everybody who reaches it; 127.0.0.1 keeps it here"
            );
        }
        let listener = tokio::net::TcpListener::from_std(listener).map_err(broken)?;
        let shared = Arc::new(Shared {
            hud: watch::Sender::default(),
            camera: watch::Sender::default(),
            state: watch::Sender::new("{}".into()),
            words,
            simulated_link: (!simulated_link.is_empty()).then(|| simulated_link.into()),
            looking: AtomicUsize::new(0),
            wanting_camera: AtomicUsize::new(0),
        });
        let router = router(shared.clone());
        let server = tokio::spawn(async move {
            if let Err(e) = axum::serve(listener, router).await {
                tracing::warn!("the wear page has ended: {e}");
            }
        });
        Ok(Self { shared, address: bound, _server: Arc::new(Server(server)) })
    }

    /// "http://127.0.0.1:8090"
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The display now, PNG.
    pub fn present(&self, png: Bytes) {
        self.shared.hud.send_replace(png);
    }

    /// What the camera sees, JPEG.
    pub fn camera(&self, jpeg: Bytes) {
        self.shared.camera.send_replace(jpeg);
    }

    /// Somebody looks at the camera's picture.
    pub fn wants_camera(&self) -> bool {
        self.shared.wanting_camera.load(Ordering::Relaxed) > 0
    }

    /// What is going on, as `GET /state` shows it.
    pub fn set_state(&self, state: &impl serde::Serialize) {
        match serde_json::to_string(state) {
            Ok(text) => {
                self.shared.state.send_replace(text.into());
            }
            Err(e) => tracing::warn!("the state cannot be written: {e}"),
        }
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(|| async { file("text/html; charset=utf-8", PAGE) }))
        .route("/wear.css", get(|| async { file("text/css; charset=utf-8", LOOK) }))
        .route("/wear.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/texts.js", get(|| async { file("text/javascript; charset=utf-8", TEXTS) }))
        .route("/medium.otf", get(|| async { file("font/otf", MEDIUM) }))
        .route("/bold.otf", get(|| async { file("font/otf", BOLD) }))
        .route("/state", get(state))
        .route("/hud.png", get(|State(s): State<Arc<Shared>>| async move { picture("image/png", &s.hud) }))
        .route("/camera.jpg", get(|State(s): State<Arc<Shared>>| async move { picture("image/jpeg", &s.camera) }))
        .route("/say/{word}", post(say))
        .route("/link", get(link))
        .route("/link/{kind}", post(set_link))
        .route("/live", get(live::open))
        .layer(middleware::from_fn(guard::check))
        .with_state(shared)
}

fn file(kind: &'static str, content: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, kind)], content.into()).into_response()
}

fn picture(kind: &'static str, from: &watch::Sender<Bytes>) -> Response {
    let bytes = from.borrow().clone();
    if bytes.is_empty() {
        return (StatusCode::NOT_FOUND, "There is no picture yet. Try again in a moment.").into_response();
    }
    file(kind, bytes)
}

async fn state(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.state.borrow().to_string();
    file("application/json", text)
}

async fn say(State(shared): State<Arc<Shared>>, Path(word): Path<String>) -> Response {
    match shared.words.say(&word).await {
        Ok(()) => (StatusCode::OK, "ok").into_response(),
        Err(why) => (StatusCode::CONFLICT, why).into_response(),
    }
}

async fn link(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.simulated_link {
        // The page asks always: a real link is no fault.
        None => StatusCode::NO_CONTENT.into_response(),
        Some(file) => match tokio::fs::read_to_string(file).await {
            Ok(kind) => (StatusCode::OK, kind.trim().to_owned()).into_response(),
            Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {e}", file.display())).into_response(),
        },
    }
}

async fn set_link(State(shared): State<Arc<Shared>>, Path(kind): Path<String>) -> Response {
    let Some(file) = &shared.simulated_link else {
        return (StatusCode::NOT_FOUND, "The link of these glasses is real.").into_response();
    };
    if kind.is_empty() || kind.len() > 16 || !kind.bytes().all(|b| b.is_ascii_lowercase()) {
        return (StatusCode::BAD_REQUEST, "A kind of link is one word, like cellar.").into_response();
    }
    match tokio::fs::write(file, kind).await {
        Ok(()) => (StatusCode::OK, "ok").into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {e}", file.display())).into_response(),
    }
}

#[cfg(test)]
mod tests;
