//! Who may speak to the wear page: itself, by an address that no other site can borrow.
//!
//! Owns: the checks of Host and Origin, the headers of every answer. Never: knows a person; whoever reaches the address may press.
//! A Host that is a name could be anybody's name pointing here (DNS rebinding), so only IP addresses and `localhost` are answered.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Refuses strangers, and dresses what goes out.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let host = one(request.headers(), header::HOST.as_str()).map(str::to_owned);
    let changes = request.method() != Method::GET || request.headers().contains_key(header::UPGRADE);
    let mut response = match decide(host.as_deref(), one(request.headers(), header::ORIGIN.as_str()), changes) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    dress(response.headers_mut(), host.as_deref().unwrap_or_default());
    response
}

fn decide(host: Option<&str>, origin: Option<&str>, changes: bool) -> Result<(), (StatusCode, &'static str)> {
    let Some(host) = host.filter(|h| is_address(h)) else {
        return Err((StatusCode::MISDIRECTED_REQUEST, "Open this page by its address, like http://127.0.0.1:8090."));
    };
    let own = origin.and_then(|o| o.strip_prefix("http://")) == Some(host);
    if (changes || origin.is_some()) && !own {
        return Err((StatusCode::FORBIDDEN, "Only the wear page itself may do this. Open it and press there."));
    }
    Ok(())
}

/// The header's only value.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(value)
}

fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<IpAddr>().is_ok()
}

fn dress(headers: &mut HeaderMap, host: &str) {
    // Safari does not count WebSockets as 'self'.
    let socket = if is_address(host) { format!(" ws://{host}") } else { String::new() };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' blob: data:; \
         connect-src 'self'{socket}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_itself_may_press() {
        let host = Some("127.0.0.1:8090");
        assert!(decide(host, Some("http://127.0.0.1:8090"), true).is_ok());
        assert!(decide(host, None, false).is_ok());
        for origin in [
            None,
            Some("http://127.0.0.1:8091"),
            Some("https://127.0.0.1:8090"),
            Some("null"),
            Some("http://evil.example"),
        ] {
            assert_eq!(decide(host, origin, true).map_err(|e| e.0), Err(StatusCode::FORBIDDEN), "{origin:?}");
        }
        assert_eq!(decide(host, Some("http://evil.example"), false).map_err(|e| e.0), Err(StatusCode::FORBIDDEN));
    }

    #[test]
    fn a_borrowed_name_is_not_answered() {
        for host in ["localhost", "localhost:8090", "192.168.1.4:8090", "[::1]:8090", "10.0.0.1"] {
            assert!(decide(Some(host), None, false).is_ok(), "{host}");
        }
        for host in [
            None,
            Some("evil.example"),
            Some("evil.example:8090"),
            Some("127.0.0.1.evil.example"),
            Some(""),
            Some("127.0.0.1:x"),
        ] {
            assert_eq!(decide(host, None, false).map_err(|e| e.0), Err(StatusCode::MISDIRECTED_REQUEST), "{host:?}");
        }
    }
}
