//! Messages of the live socket, and bodies and headers of HTTP requests.

use std::sync::OnceLock;

use axum::http::{HeaderMap, HeaderValue, header};
use lotse_protocol::{
    command::{ClientMessage, ServerMessage},
    envelope::AuthorFields,
};
use lotse_server::{
    caller,
    config::Config,
    http::{cases::NewCase, devices, grants::Wanted, items, login::LoginBody},
};
use serde::{Serialize, de::DeserializeOwned};

/// What can be read is read the same when it is written again.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    let read: T = serde_json::from_str(text).ok()?;
    let again = serde_json::to_string(&read).expect("written");
    assert_eq!(serde_json::from_str::<T>(&again).expect("read again"), read);
    Some(read)
}

pub(crate) fn live(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    round_trip::<ServerMessage>(text);
    if let Some(ClientMessage::Commit { author, .. }) = round_trip(text) {
        let _ = AuthorFields::read(&author);
    }
}

/// The first line is a header's value, the rest a body.
pub(crate) fn http(data: &[u8]) {
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (line, body) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    if let Ok(value) = HeaderValue::from_bytes(line) {
        let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
        let _ = (caller::cookie(&headers, false), caller::cookie(&headers, true));
    }
    if let Ok(text) = std::str::from_utf8(line) {
        // A foreign page never passes as ours, whatever it calls itself.
        let own = ["http://127.0.0.1:8080", "https://127.0.0.1:8080"];
        assert_eq!(caller::is_own_origin(text, "127.0.0.1:8080"), own.contains(&text));
        static CONFIG: OnceLock<Option<Config>> = OnceLock::new();
        let https = |key: &str| (key == "LOTSE_HTTP_PUBLIC_URL").then(|| "https://lotse.example.com".to_owned());
        let config = CONFIG.get_or_init(|| Config::load(None, https).ok());
        if config.as_ref().is_some_and(|config| caller::is_own_host(text, config)) {
            assert!(!text.contains(['/', '@', ' ']), "{text}");
        }
    }
    if let Ok(text) = std::str::from_utf8(line)
        && let Some(Ok((from, to))) = items::range(text, 1_000)
    {
        assert!(from < to && to <= 1_000);
    }
    let _ = serde_json::from_slice::<LoginBody>(body);
    let _ = serde_json::from_slice::<NewCase>(body);
    let _ = serde_json::from_slice::<Wanted>(body);
    let _ = serde_json::from_slice::<devices::PairBody>(body);
    let _ = serde_json::from_slice::<devices::ChallengeBody>(body);
    let _ = serde_json::from_slice::<devices::TokenBody>(body);
}
