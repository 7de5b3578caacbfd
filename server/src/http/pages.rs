//! The web app: built into the program, or from a folder.
//!
//! Every path that is no file of it is the app's own (`index.html`). Files with a hash in their name are kept by browsers for a year.

use std::{borrow::Cow, path::Path, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, header},
    response::{Html, IntoResponse as _, Response},
};
use rust_embed::RustEmbed;

use crate::{app::App, error::Error, refusal::Code};

#[derive(RustEmbed)]
#[folder = "../web-expert/dist"]
#[allow_missing = true]
struct Built;

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Lotse</title>\
<p>This server runs, but its pages were not built in. Build <code>web-expert</code>, \
or name a folder with built pages in <code>pages.dir</code> (<code>LOTSE_PAGES_DIR</code>).\
<p lang=\"de\">Dieser Server läuft, aber die Seiten fehlen. Bitte <code>web-expert</code> bauen \
oder mit <code>pages.dir</code> (<code>LOTSE_PAGES_DIR</code>) einen Ordner mit gebauten Seiten nennen.</html>";

/// Every path that is not `/api/` or `/archive/`.
pub async fn page(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Code::NoSuchPath.into());
    }
    let path = request.uri().path().trim_start_matches('/');
    // No dot files, no way up; a name with a strange sign in it is nobody's file.
    let strange = path.split('/').any(|part| part.starts_with('.') || part.contains(['\\', '%', '\0']));
    let file = if path.is_empty() || strange { None } else { read(&app, path).await };
    if let Some(bytes) = file {
        return Ok(answer(path, bytes));
    }
    // A missing script must not be answered with a page.
    if path.starts_with("assets/") {
        return Err(Code::NoSuchPath.into());
    }
    Ok(match read(&app, "index.html").await {
        Some(bytes) => answer("index.html", bytes),
        None => Html(NOT_BUILT).into_response(),
    })
}

async fn read(app: &App, path: &str) -> Option<Cow<'static, [u8]>> {
    let dir = &app.config.pages.dir;
    if *dir == Path::new("") {
        return Built::get(path).map(|f| f.data);
    }
    tokio::fs::read(dir.join(path)).await.ok().map(Cow::Owned)
}

fn answer(path: &str, bytes: Cow<'static, [u8]>) -> Response {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let text =
        matches!(kind.type_(), mime_guess::mime::TEXT) || kind.subtype() == "javascript" || kind.subtype() == "json";
    let kind =
        if text && kind.get_param("charset").is_none() { format!("{kind}; charset=utf-8") } else { kind.to_string() };
    // Vite puts a hash into every name under assets/.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = bytes.into_owned().into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&kind) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}
