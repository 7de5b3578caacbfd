//! The page on which a device comes to trust this server's own authority; the QR code of `admin how-to-reach` leads here.
//!
//! Owns: `/trust` and its style, German and English, small enough to stand without scripts. Served by plain HTTP too: whoever
//! reads it does not trust our certificate yet. Never: shows the fingerprint. It came by a line that nobody vouches for; the
//! one to compare with is printed where the server runs (`reach`). Elsewhere: `/ca.crt` and the way to https (`front`).

use axum::{
    http::{HeaderMap, header},
    response::{Html, IntoResponse as _, Response},
};

use crate::refusal::Language;

/// Where the page stands.
pub const PATH: &str = "/trust";
const STYLE_PATH: &str = "/trust.css";

/// The page or its style, for a host that was found to be ours; `None` for any other path.
pub fn answer(path: &str, query: Option<&str>, headers: &HeaderMap, host: &str) -> Option<Response> {
    let fresh = [(header::CACHE_CONTROL, "no-store")];
    match path {
        PATH => {
            let asked = query.and_then(|q| q.strip_prefix("lang="));
            let spoken = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
            let language = asked.or(spoken).map(Language::of).unwrap_or_default();
            Some((fresh, Html(page(language).replace("{host}", host))).into_response())
        }
        STYLE_PATH => {
            let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
            Some((fresh, kind, include_str!("welcome.css")).into_response())
        }
        _ => None,
    }
}

fn page(language: Language) -> &'static str {
    match language {
        Language::De => include_str!("welcome.de.html"),
        Language::En => include_str!("welcome.en.html"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_lead_to_the_certificate_the_other_language_and_the_page() {
        for (language, other) in [(Language::De, "?lang=en"), (Language::En, "?lang=de")] {
            let text = page(language);
            for word in [
                "href=\"/ca.crt\"",
                "href=\"https://{host}/field\"",
                "href=\"https://{host}/cases\"",
                other,
                STYLE_PATH,
                "Android",
                "iPhone",
                "SHA-256",
            ] {
                assert!(text.contains(word), "{word} missing in: {text}");
            }
        }
    }
}
